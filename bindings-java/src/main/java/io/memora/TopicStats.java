package io.memora;

/**
 * Figures of a topic.
 *
 * @param keys keys that were ever published, retracted ones included
 * @param bytes bytes of their values with keys and headers
 * @param updates updates ever published
 */
public record TopicStats(long keys, long bytes, long updates) {}
