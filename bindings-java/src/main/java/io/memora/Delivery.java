package io.memora;

/**
 * A message that a {@link Consumer} was given.
 *
 * @param lane the ring of the publisher that sent it
 * @param position where it stands in that ring; lane and position together name a message for ever, also when it is seen again
 * @param deliveries how often it was delivered, this time included
 * @param redelivered whether somebody may have had it before
 * @param receipt what it is acknowledged with; means nothing on a queue without acknowledgement
 * @param payload what was sent; the array belongs to the receiver
 */
public record Delivery(
        int lane, long position, int deliveries, boolean redelivered, Receipt receipt, byte[] payload) {}
