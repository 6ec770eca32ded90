package io.memora;

import io.memora.internal.Memory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;

/**
 * Memory for one message, from {@link Publisher#claim} or {@link Appender#claim}. Closing it without a commit aborts it: nothing is
 * sent.
 */
public final class Claim implements AutoCloseable {
    private final ClaimRoom room;
    private final ClaimRoom.Sink sink;
    private final Memory memory;
    private final ByteBuffer buffer;
    private final int len;
    private boolean open = true;

    Claim(ClaimRoom room, ClaimRoom.Sink sink, Memory memory, int len) {
        this.room = room;
        this.sink = sink;
        this.memory = memory;
        this.len = len;
        this.buffer = memory.buffer().slice(0, len).order(ByteOrder.BIG_ENDIAN);
    }

    /** The bytes of the message, all of them: its position and limit do not matter. Not to be used after the claim ended. */
    public ByteBuffer buffer() {
        check();
        return buffer;
    }

    /** Sends the message, and waits while the ring is full: its position, or {@link Publisher#BACK_PRESSURE} on an interrupt. */
    public long commit() {
        return commit(Publisher.forEver());
    }

    /** The same for so long; after {@link Publisher#BACK_PRESSURE} the claim is open still. */
    public long commit(Duration timeout) {
        check();
        long position = sink.commit(memory, len, timeout);
        if (position != Publisher.BACK_PRESSURE) {
            close();
        }
        return position;
    }

    /** Sends nothing. */
    public void abort() {
        close();
    }

    private void check() {
        if (!open) {
            throw MemoraException.of(ErrorCode.CLOSED, "The claim has ended. " + ErrorCode.CLOSED.remedy(), 0);
        }
    }

    /** Aborts, unless the message was sent. */
    @Override
    public void close() {
        if (open) {
            open = false;
            room.ended();
        }
    }
}
