package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.time.Duration;
import java.util.OptionalLong;

/**
 * A named 64-bit number of a fabric, which wraps as a long does. Every change took place as a whole or not at all, whoever dies.
 *
 * <p>Any number of threads may use it; a waiting virtual thread parks between looks and does not hold its carrier. Any thread may
 * close: who waits then throws {@link MemoraException.Closed} within 50 ms.
 */
public final class NamedCounter implements AutoCloseable {
    private final Handle handle;
    /** Holds the fabric open for as long as this is in use. */
    private final Fabric fabric;
    private final String name;

    NamedCounter(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** Its name. */
    public String name() {
        return name;
    }

    /** The fabric that it is in. */
    public Fabric fabric() {
        return fabric;
    }

    /** The value. */
    public long get() {
        long value = Native.counterGet(handle.number());
        Reference.reachabilityFence(this);
        return value;
    }

    /** Adds, or subtracts if {@code delta} is negative. Returns the new value. */
    public long add(long delta) {
        long value = Native.counterAdd(handle.number(), delta);
        Reference.reachabilityFence(this);
        return value;
    }

    /** Sets the value. Returns the one before. */
    public long set(long value) {
        long before = Native.counterSet(handle.number(), value);
        Reference.reachabilityFence(this);
        return before;
    }

    /** Sets the value to {@code value} if it is {@code expected}. Returns what it was: it was set if and only if that is {@code expected}. */
    public long compareAndSwap(long expected, long value) {
        long before = Native.counterCompareAndSwap(handle.number(), expected, value);
        Reference.reachabilityFence(this);
        return before;
    }

    /**
     * Waits until the value is {@code least} or more, and returns it. Empty when it did not come so far in time, or when the thread was
     * interrupted, whose mark stays. A value that came and went between two looks may be missed.
     */
    public OptionalLong awaitAtLeast(long least, Duration timeout) {
        return await(least, false, timeout);
    }

    /** Waits until the value is another than {@code seen}; as {@link #awaitAtLeast} otherwise. */
    public OptionalLong awaitChange(long seen, Duration timeout) {
        return await(seen, true, timeout);
    }

    private OptionalLong await(long value, boolean changed, Duration timeout) {
        long[] found = new long[1];
        long answer = Waiting.until(timeout, wait -> {
            Scratch scratch = Scratch.take();
            try {
                int came = Native.counterWait(handle.number(), value, changed, wait, scratch.valueAddress());
                found[0] = scratch.valueLong(0);
                return came;
            } finally {
                scratch.give();
                Reference.reachabilityFence(this);
            }
        });
        return answer == Waiting.NONE ? OptionalLong.empty() : OptionalLong.of(found[0]);
    }

    /** Closes it in this process. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
