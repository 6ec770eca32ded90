package io.memora;

/**
 * A message that arrived.
 *
 * @param lane the ring of the publisher that sent it
 * @param position where it stands in that ring; lane and position together name a message of a channel
 * @param payload what was sent; the array belongs to the receiver
 * @param sentNanos when it was sent, as {@link System#nanoTime()} tells it to all processes of a host; 0 on a channel without
 *     {@linkplain ChannelOptions#timestamps() timestamps}
 */
public record Message(int lane, long position, byte[] payload, long sentNanos) {}
