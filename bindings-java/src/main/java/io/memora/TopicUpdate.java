package io.memora;

/**
 * The newest value of a key.
 *
 * @param key the key
 * @param value its value; null if it was retracted
 * @param number how often the key was published
 * @param conflated updates of this key that were skipped because newer ones came, since the last one that was handed out
 */
public record TopicUpdate(byte[] key, byte[] value, long number, long conflated) {}
