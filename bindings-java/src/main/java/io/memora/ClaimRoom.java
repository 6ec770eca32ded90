package io.memora;

import io.memora.internal.Memory;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicBoolean;

/** The memory for claims of one publisher or appender, used again and again: one at a time. */
final class ClaimRoom {
    /** Sends what was written. */
    interface Sink {
        /** The position, or {@link Publisher#BACK_PRESSURE}: then the claim is open still. */
        long commit(Memory memory, int len, Duration timeout);
    }

    private final AtomicBoolean taken = new AtomicBoolean();
    private Memory memory;

    /** A claim of this length. */
    Claim claim(Sink sink, int len) {
        if (len < 0) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "The length of a message is " + len + ".", 0, null);
        }
        if (!taken.compareAndSet(false, true)) {
            throw new MemoraException(ErrorCode.BUSY,
                    "There is an open claim: commit or abort it before the next one.", 0, null);
        }
        try {
            if (memory == null || memory.capacity() < len) {
                memory = new Memory(Math.max(4096, len));
            }
            return new Claim(this, sink, memory, len);
        } catch (OutOfMemoryError error) {
            taken.set(false);
            throw error;
        }
    }

    void ended() {
        taken.set(false);
    }
}
