package io.memora;

import java.nio.ByteBuffer;

/** Takes the messages of a poll of a {@link Consumer}. */
@FunctionalInterface
public interface DeliveryHandler {
    /** What came with a message. <b>It may be asked only until {@link #onDelivery} returns</b>: it is used again. */
    interface About {
        /** The ring of the publisher that sent it. */
        int lane();

        /** Where it stands in that ring; lane and position together name a message for ever. */
        long position();

        /** How often it was delivered, this time included. */
        int deliveries();

        /** Whether somebody may have had it before. */
        boolean redelivered();

        /** What it is acknowledged with, after the poll; this may be kept. Each call makes one. */
        Receipt receipt();
    }

    /**
     * One message. <b>The payload may be read only until this returns</b>: its memory is used again.
     *
     * @param about what came with it
     * @param payload a read-only view whose remaining bytes are the message
     */
    void onDelivery(About about, ByteBuffer payload);
}
