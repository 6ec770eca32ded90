package io.memora;

/**
 * An object of a fabric.
 *
 * @param id its number in the fabric
 * @param name its name
 * @param kind cache, channel, store, event, counter, lock, semaphore, service or topic
 * @param chunks how many chunks of the fabric it has
 * @param bytes how many bytes those are
 */
public record ObjectInfo(long id, String name, String kind, long chunks, long bytes) {}
