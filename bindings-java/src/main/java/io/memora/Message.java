package io.memora;

/**
 * A message that arrived.
 *
 * @param lane the ring of the publisher that sent it
 * @param position where it stands in that ring; lane and position together name a message of a channel
 * @param payload what was sent; the array belongs to the receiver
 */
public record Message(int lane, long position, byte[] payload) {}
