package io.memora;

import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.time.Duration;
import java.util.Objects;

/** What can be waited for together with others: a {@link Subscriber} or a {@link Consumer}. */
public sealed interface Source permits Subscriber, Consumer {
    /** Answer of {@link #waitAny}: nothing came in time, or the thread was interrupted, whose interrupt status stays set. */
    int NONE = -1;

    /**
     * Waits until one of the sources (1 to 127, of any fabrics) has a message, or an error to tell, and gives the place of the first that
     * has. What they handed out last counts as handled. A consumer may find nothing then: others took the message, or it was time to look
     * after what others hold.
     *
     * <p>No source may be used by another thread meanwhile ({@link ErrorCode#BUSY}); any thread may close one: who waits then throws
     * {@link MemoraException.Closed} within 50 ms. A waiting virtual thread parks between looks and does not hold its carrier.
     */
    static int waitAny(Duration timeout, Source... sources) {
        Objects.requireNonNull(timeout, "timeout");
        Source[] all = sources.clone();
        int answer = (int) Waiting.until(timeout, wait -> {
            long[] handles = new long[all.length];
            for (int i = 0; i < all.length; i++) {
                boolean waits = all[i] instanceof Subscriber subscriber
                        ? subscriber.hasBatch()
                        : ((Consumer) all[i]).hasBatch();
                if (waits) {
                    return i;
                }
                handles[i] = all[i] instanceof Subscriber subscriber ? subscriber.number() : ((Consumer) all[i]).number();
            }
            return Native.waitAny(handles, wait);
        });
        for (Source source : all) {
            Reference.reachabilityFence(source);
        }
        return answer;
    }
}
