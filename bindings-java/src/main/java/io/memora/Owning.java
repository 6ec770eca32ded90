package io.memora;

import io.memora.internal.Scratch;
import java.time.Duration;

/** Waiting for what a thread will own. An attempt answers 1 if an owner died before, 0 if not, {@link Waiting#NONE} for nothing yet. */
final class Owning {
    private Owning() {}

    /** Virtual threads change the thread that the library knows as the owner. */
    static void requirePlatformThread() {
        if (Scratch.virtual()) {
            throw MemoraException.of(ErrorCode.UNSUPPORTED,
                    "A virtual thread cannot own a lock or permits, which belong to a thread of the operating system: do it in a "
                            + "platform thread.", 0);
        }
    }

    /** Waits without end, also when the thread is interrupted, whose mark stays. Whether an owner died. */
    static boolean uninterrupted(Waiting.Attempt attempt) {
        requirePlatformThread();
        boolean interrupted = false;
        try {
            while (true) {
                long answer = Waiting.until(Publisher.forEver(), attempt);
                if (answer != Waiting.NONE) {
                    return answer != 0;
                }
                interrupted |= Thread.interrupted();
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** Waits for so long. Whether an owner died. */
    static boolean within(Duration timeout, Waiting.Attempt attempt, String why) throws InterruptedException {
        requirePlatformThread();
        if (Thread.interrupted()) {
            throw new InterruptedException();
        }
        long answer = Waiting.until(timeout, attempt);
        if (answer != Waiting.NONE) {
            return answer != 0;
        }
        if (Thread.interrupted()) {
            throw new InterruptedException();
        }
        throw MemoraException.of(ErrorCode.TIMED_OUT,
                why + " for " + timeout.toMillis() + " ms. " + ErrorCode.TIMED_OUT.remedy(), 0);
    }
}
