package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;

/**
 * Hears what happens to the entries of a cache that was made {@linkplain CacheOptions#withEvents with events}, from when this was made.
 *
 * <p>Nobody waits for it: when it is too slow, events are lost, and it is told how many. Two things are not events: what a process
 * that was killed between a change and its event did last, and an expired entry that nobody has removed yet.
 *
 * <p><b>One thread at a time</b>; a second one gets {@link ErrorCode#BUSY}. Any thread may close: who waits then throws
 * {@link MemoraException.Closed} within 50 ms. A waiting virtual thread does not hold its carrier.
 */
public final class EventSubscriber implements AutoCloseable {
    private static final int HEADER = 16;
    private static final Event.Kind[] KINDS = Event.Kind.values();

    private final Handle handle;
    /** Holds the cache open for as long as this is in use. */
    private final Cache cache;

    EventSubscriber(Cache cache, long number) {
        this.cache = cache;
        this.handle = new Handle(this, number);
    }

    /** The cache whose events these are. */
    public Cache cache() {
        return cache;
    }

    /**
     * The next event if there is one, else null.
     *
     * @throws MemoraException.Overrun once for each time that events were lost, with their number; call again to go on
     */
    public Event tryNext() {
        return next(Duration.ZERO);
    }

    /**
     * The next event; waits for so long until there is one. Null when none came, or when the thread was interrupted, whose mark stays.
     *
     * @throws MemoraException.Overrun once for each time that events were lost, with their number; call again to go on
     */
    public Event next(Duration timeout) {
        Event[] found = new Event[1];
        Waiting.until(timeout, wait -> {
            byte[] bytes = Native.nextEvent(handle.number(), wait);
            Reference.reachabilityFence(this);
            if (bytes == null) {
                return Waiting.NONE;
            }
            found[0] = event(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
            return 0;
        });
        return found[0];
    }

    private static Event event(ByteBuffer bytes) {
        byte[] key = new byte[bytes.remaining() - HEADER];
        bytes.get(HEADER, key);
        return new Event(KINDS[bytes.getInt(0) - 1], key, bytes.getInt(4), bytes.getLong(8));
    }

    /** Listens no more. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
