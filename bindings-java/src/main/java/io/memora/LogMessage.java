package io.memora;

/**
 * A message of a log.
 *
 * @param position its position: the first message of a log has 0, each next one has one more
 * @param timeMillis when it was published, in milliseconds since the host started; 0 on a log without an age
 * @param payload what was appended; the array belongs to the receiver
 */
public record LogMessage(long position, long timeMillis, byte[] payload) {}
