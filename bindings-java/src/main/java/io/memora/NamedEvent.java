package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.time.Duration;

/**
 * A named event of a fabric: notifications for all who wait in any process, or for one of them.
 *
 * <p>It remembers how often all were notified (its <i>sequence</i>), and the notifications for one that nobody took yet. Whoever
 * looks at the sequence, then at its own condition, and then waits with the sequence that it saw, misses nothing that came in between.
 *
 * <p>Any number of threads may use it; a waiting virtual thread parks between looks and does not hold its carrier. Any thread may
 * close: who waits then throws {@link MemoraException.Closed} within 50 ms.
 */
public final class NamedEvent implements AutoCloseable {
    private static final long ONE = -2;

    private final Handle handle;
    /** Holds the fabric open for as long as this is in use. */
    private final Fabric fabric;
    private final String name;

    NamedEvent(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /**
     * Why a wait ended.
     *
     * @param sequence what to wait with next
     * @param one whether the notification was for one, and this wait took it
     */
    public record Notification(long sequence, boolean one) {}

    /** Its name. */
    public String name() {
        return name;
    }

    /** The fabric that it is in. */
    public Fabric fabric() {
        return fabric;
    }

    /** How often all were notified: what to give to the next {@link #await}. */
    public long sequence() {
        long sequence = Native.eventSequence(handle.number());
        Reference.reachabilityFence(this);
        return sequence;
    }

    /** Notifies all: every wait that knows an older sequence ends, those that begin later included. Returns the new sequence. */
    public long signalAll() {
        return signal(false);
    }

    /** Notifies one: exactly one wait ends by this, one that lasts or else the next that begins. */
    public void signalOne() {
        signal(true);
    }

    private long signal(boolean one) {
        long sequence = Native.eventNotify(handle.number(), one);
        Reference.reachabilityFence(this);
        return sequence;
    }

    /**
     * Waits until the sequence is greater than {@code seen}, or there is a notification for one, which this wait then has taken. Null
     * when none came in time, or when the thread was interrupted, whose mark stays; a time of zero only looks.
     */
    public Notification await(long seen, Duration timeout) {
        long answer = Waiting.until(timeout, wait -> {
            long sequence = Native.eventWait(handle.number(), seen, wait);
            Reference.reachabilityFence(this);
            return sequence;
        });
        if (answer == Waiting.NONE) {
            return null;
        }
        return answer == ONE ? new Notification(seen, true) : new Notification(answer, false);
    }

    /** Closes it in this process. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
