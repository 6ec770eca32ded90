package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Memory;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Objects;

/**
 * Appends messages to a log. It never waits for readers: what is in the way is trimmed. On a log with files it waits for the disk as
 * the {@link Durability} says.
 *
 * <p><b>One thread at a time</b> may append; a second one at the same moment gets {@link ErrorCode#BUSY}. Any thread may close at
 * any time.
 */
public final class Appender implements AutoCloseable {
    private final Handle handle;
    private final ClaimRoom claims = new ClaimRoom();
    /** Holds the log open for as long as this is in use. */
    private final Log log;

    Appender(Log log, long number) {
        this.log = log;
        this.handle = new Handle(this, number);
    }

    /** The log that this appender appends to. */
    public Log log() {
        return log;
    }

    /**
     * Appends a message and gives its position.
     *
     * @throws MemoraException {@link ErrorCode#LOG_FULL} if a named reader has still to read what is in the way, on a log that keeps it;
     *     {@link ErrorCode#VALUE_TOO_LONG}
     */
    public long append(byte[] payload) {
        return append(payload, 0, payload.length);
    }

    /** The same with a part of an array. */
    public long append(byte[] payload, int start, int len) {
        Objects.checkFromIndexSize(start, len, payload.length);
        if (len > Scratch.VALUE_CAPACITY) {
            long position = Native.appendArray(handle.number(), payload, start, len);
            Reference.reachabilityFence(this);
            return position;
        }
        Scratch scratch = Scratch.take();
        try {
            scratch.value(payload, start, len);
            return Native.append(handle.number(), scratch.valueAddress(), len);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * The same with a durability of its own: with {@link Durability#SYNC} the message is on the disk when the call returns. An error
     * of the flush says that it is visible and not known to be durable.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} for anything but {@link Durability#PROCESS} on a log without files
     */
    public long append(byte[] payload, Durability durability) {
        Objects.requireNonNull(payload, "payload");
        long position = Native.appendDurable(handle.number(), payload, durability.ordinal());
        Reference.reachabilityFence(this);
        return position;
    }

    /** Appends the remaining bytes of a buffer, whose position stays. */
    public long append(ByteBuffer payload) {
        int len = payload.remaining();
        if (len > Scratch.VALUE_CAPACITY) {
            byte[] bytes = new byte[len];
            payload.get(payload.position(), bytes);
            return append(bytes);
        }
        Scratch scratch = Scratch.take();
        try {
            scratch.value(payload);
            return Native.append(handle.number(), scratch.valueAddress(), len);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Memory for a message of this length, to be written in place and then committed, which gives its position in the log, or aborted. It
     * is used again for the next claim: one at a time.
     */
    public Claim claim(int len) {
        return claims.claim(this::commit, len);
    }

    private long commit(Memory memory, int len, Duration timeout) {
        long position = Native.append(handle.number(), memory.address(), len);
        Reference.reachabilityFence(memory);
        Reference.reachabilityFence(this);
        return position;
    }

    /** Closes this appender; what it appended stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
