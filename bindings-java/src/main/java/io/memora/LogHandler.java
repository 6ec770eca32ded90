package io.memora;

import java.nio.ByteBuffer;

/** Takes the messages of a poll of a log. */
@FunctionalInterface
public interface LogHandler {
    /**
     * One message. <b>The payload may be read only until this returns</b>.
     *
     * @param position its position in the log
     * @param payload a read-only view whose remaining bytes are the message
     */
    void onMessage(long position, ByteBuffer payload);
}
