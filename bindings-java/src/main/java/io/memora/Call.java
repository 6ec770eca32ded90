package io.memora;

/**
 * A call that is under way.
 *
 * @param id its number: unique among the calls of its client
 */
public record Call(long id) {}
