package io.memora;

import io.memora.internal.Scratch;
import java.time.Duration;
import java.util.concurrent.locks.LockSupport;

/**
 * Waiting in slices: the library never sleeps longer than 50 ms, so that a close or an interrupt is soon noticed. A virtual thread
 * does not sleep in the library at all, which would hold its carrier, but parks between attempts.
 */
final class Waiting {
    private static final long SLICE_NANOS = 50_000_000;
    private static final long PARK_NANOS_MAX = 1_000_000;

    /** One attempt that waits for so many microseconds at most; {@link #NONE} for nothing yet. */
    @FunctionalInterface
    interface Attempt {
        long after(int waitMicros);
    }

    /** Nothing came in time. */
    static final long NONE = -1;

    private Waiting() {}

    /** Attempts until there is an answer, or the time is over, or the thread is interrupted. */
    static long until(Duration timeout, Attempt attempt) {
        long answer = attempt.after(0);
        if (answer != NONE) {
            return answer;
        }
        long nanos = nanos(timeout);
        long start = System.nanoTime();
        boolean virtual = Scratch.virtual();
        long park = 10_000;
        while (true) {
            long left = nanos - (System.nanoTime() - start);
            if (left <= 0 || Thread.currentThread().isInterrupted()) {
                return NONE;
            }
            if (virtual) {
                LockSupport.parkNanos(Math.min(left, park));
                park = Math.min(park * 2, PARK_NANOS_MAX);
            }
            int micros = virtual ? 0 : (int) (Math.min(left, SLICE_NANOS) / 1000 + 1);
            answer = attempt.after(micros);
            if (answer != NONE) {
                return answer;
            }
        }
    }

    private static long nanos(Duration timeout) {
        try {
            return timeout.toNanos();
        } catch (ArithmeticException error) {
            return timeout.isNegative() ? 0 : Long.MAX_VALUE;
        }
    }
}
