package io.memora;

import java.nio.ByteBuffer;

/** Takes the messages of a poll. */
@FunctionalInterface
public interface MessageHandler {
    /**
     * One message. <b>The payload may be read only until this returns</b>: its memory is used again.
     *
     * @param lane the ring of the publisher that sent it
     * @param position where it stands in that ring
     * @param payload a read-only view whose remaining bytes are the message
     */
    void onMessage(int lane, long position, ByteBuffer payload);
}
