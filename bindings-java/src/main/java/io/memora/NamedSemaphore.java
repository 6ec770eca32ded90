package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.time.Duration;

/**
 * A named semaphore of a fabric: a number of permits, each held by nobody or by one thread of all processes. Permits of a thread that
 * dies come back, and the next who takes some is told; a stopped one keeps its own.
 *
 * <p>The holder is a thread of the operating system, whose death the kernel proves, so virtual threads, which change theirs, get
 * {@link ErrorCode#UNSUPPORTED}: acquire in a platform thread. There is no queue: who asks for few permits may be served before who
 * asks for many and came first. Any thread may close this: who waits then throws {@link MemoraException.Closed} within 50 ms. Give
 * permits back first.
 */
public final class NamedSemaphore implements AutoCloseable {
    private final Handle handle;
    /** Holds the fabric open for as long as this is in use. */
    private final Fabric fabric;
    private final String name;

    NamedSemaphore(Fabric fabric, String name, long number) {
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

    /** All permits: what it was made with. */
    public int permits() {
        return (int) (count() >>> 32);
    }

    /** Permits that nobody holds now. */
    public int free() {
        return (int) count();
    }

    private long count() {
        long count = Native.permitsCount(handle.number());
        Reference.reachabilityFence(this);
        return count;
    }

    /** Takes permits at once, waiting as long as it takes, also when the thread is interrupted, whose mark stays. */
    public Held acquire(int count) {
        return new Held(this, count, Owning.uninterrupted(wait -> attempt(count, wait)));
    }

    /**
     * Takes permits at once, waiting so long at most.
     *
     * @throws MemoraException with {@link ErrorCode#TIMED_OUT} when the time is over
     * @throws InterruptedException when the thread is interrupted; it has none of them then
     */
    public Held acquire(int count, Duration timeout) throws InterruptedException {
        return new Held(this, count, Owning.within(
                timeout, wait -> attempt(count, wait), "The semaphore `" + name + "` had too few permits"));
    }

    /** Takes permits if there are so many now; null if others, alive or stopped, hold too many. */
    public Held tryAcquire(int count) {
        Owning.requirePlatformThread();
        long taken = attempt(count, 0);
        return taken == Waiting.NONE ? null : new Held(this, count, taken != 0);
    }

    private long attempt(int count, int waitMicros) {
        int taken = Native.permitsTake(handle.number(), count, waitMicros);
        Reference.reachabilityFence(this);
        return taken;
    }

    /** The calling thread holds permits until it closes this. Only for that thread: others get {@link ErrorCode#NOT_OWNER}. */
    public static final class Held implements AutoCloseable {
        private final NamedSemaphore semaphore;
        private final int count;
        private final boolean ownerDied;
        private boolean closed;

        private Held(NamedSemaphore semaphore, int count, boolean ownerDied) {
            this.semaphore = semaphore;
            this.count = count;
            this.ownerDied = ownerDied;
        }

        /** How many. */
        public int count() {
            return count;
        }

        /**
         * Whether permits of a thread that died came back, and this is the first to take permits since: what it did under them may be
         * half done. Nobody else is told.
         */
        public boolean ownerDied() {
            return ownerDied;
        }

        /** Gives them back. The second time does nothing. */
        @Override
        public void close() {
            if (!closed) {
                Native.permitsGive(semaphore.handle.number(), count);
                closed = true;
                Reference.reachabilityFence(semaphore);
            }
        }
    }

    /** Closes it in this process. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
