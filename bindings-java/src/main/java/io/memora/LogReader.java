package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Reads the messages of a log in their one order.
 *
 * <p>A named reader has a position that outlives it. It moves over what was read when the next message is asked for, or with
 * {@code commit} or {@code close}, which means: after it was handled. Whoever is killed while it handles a message sees that
 * message again, at the same position.
 *
 * <p><b>One thread at a time</b> may read; a second one at the same moment, and a handler that calls the reader it was called
 * from, gets {@link ErrorCode#BUSY}. Any thread may close at any time: who waits then throws {@link MemoraException.Closed} within
 * 50 ms.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier.
 */
public final class LogReader implements AutoCloseable {
    private static final int HEADER = 16;

    private final Handle handle;
    /** Holds the log open for as long as this is in use. */
    private final Log log;
    private final AtomicBoolean inside = new AtomicBoolean();

    LogReader(Log log, long number) {
        this.log = log;
        this.handle = new Handle(this, number);
    }

    /** The log that this reader reads. */
    public Log log() {
        return log;
    }

    private void enter() {
        if (!inside.compareAndSet(false, true)) {
            throw MemoraException.of(ErrorCode.BUSY, "Another thread, or a handler further up, is inside this reader: give each"
                    + " thread its own. " + ErrorCode.BUSY.remedy(), 0);
        }
    }

    /**
     * Hands over up to {@code limit} messages that are there now, without waiting.
     *
     * @return how many messages were handed over
     * @throws MemoraException.Overrun when messages were trimmed before they were read; call again to go on with the oldest that is kept
     */
    public int poll(LogHandler handler, int limit) {
        Objects.requireNonNull(handler, "handler");
        enter();
        try {
            for (int handed = 0; handed < limit; handed++) {
                LogMessage message = attempt(0);
                if (message == null) {
                    return handed;
                }
                handler.onMessage(message.position(), ByteBuffer.wrap(message.payload()).asReadOnlyBuffer());
            }
            return Math.max(limit, 0);
        } finally {
            inside.set(false);
        }
    }

    /** Reads a message if there is one now, else gives null. */
    public LogMessage tryRecv() {
        return recv(Duration.ZERO);
    }

    /**
     * Reads a message, and waits for so long until there is one; null when none came, or when the thread was interrupted, whose
     * interrupt status stays set.
     *
     * @throws MemoraException.Overrun when messages were trimmed before they were read; call again to go on with the oldest that is kept
     */
    public LogMessage recv(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        enter();
        try {
            LogMessage[] out = new LogMessage[1];
            Waiting.until(timeout, wait -> {
                out[0] = attempt(wait);
                return out[0] == null ? Waiting.NONE : 0;
            });
            return out[0];
        } finally {
            inside.set(false);
        }
    }

    private LogMessage attempt(int waitMicros) {
        Scratch scratch = Scratch.take();
        try {
            int len = Native.logRecv(
                    handle.number(), scratch.valueAddress(), Scratch.VALUE_CAPACITY, waitMicros);
            if (len == Waiting.NONE) {
                return null;
            }
            byte[] payload = len >= 0 ? scratch.value(HEADER, len) : Native.logHeld(handle.number());
            return new LogMessage(scratch.valueLong(0), scratch.valueLong(8), payload);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Confirms all that was read: whoever goes on with the name does not see it again. */
    public void commit() {
        alone(() -> {
            Native.logCommit(handle.number());
            return 0;
        });
    }

    /**
     * Goes on elsewhere. What was read before is confirmed.
     *
     * @throws MemoraException {@link ErrorCode#POSITION_TRIMMED} or {@link ErrorCode#POSITION_AHEAD} when there is no such position
     */
    public void seek(LogPosition to) {
        alone(() -> {
            Native.logSeek(handle.number(), to.from, to.position);
            return 0;
        });
    }

    /** The position of the message that is read next. */
    public long position() {
        return alone(() -> Native.logPosition(handle.number()));
    }

    /** Messages from there to the end of the log. */
    public long lag() {
        return alone(() -> Native.logLag(handle.number()));
    }

    private long alone(java.util.function.LongSupplier body) {
        enter();
        try {
            return body.getAsLong();
        } finally {
            inside.set(false);
            Reference.reachabilityFence(this);
        }
    }

    /** Closes this reader; a name keeps its position. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
