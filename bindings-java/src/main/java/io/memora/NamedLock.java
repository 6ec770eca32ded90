package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.time.Duration;

/**
 * A named lock of a fabric: one thread of all processes owns it. When its owner dies, however that happens, the next one gets it and
 * is told; a stopped owner keeps it.
 *
 * <pre>{@code
 * try (NamedLock.Held held = lock.lock()) {
 *     if (held.ownerDied()) {
 *         repair();
 *         held.markConsistent();
 *     }
 *     change();
 * }
 * }</pre>
 *
 * <p>It is not recursive: a thread that owns it gets {@link ErrorCode#WOULD_DEADLOCK}. The owner is a thread of the operating system,
 * whose death the kernel proves, so virtual threads, which change theirs, get {@link ErrorCode#UNSUPPORTED}: lock in a platform thread.
 * Any thread may close this: who waits then throws {@link MemoraException.Closed} within 50 ms. Let go of the lock first.
 */
public final class NamedLock implements AutoCloseable {
    private final Handle handle;
    /** Holds the fabric open for as long as this is in use. */
    private final Fabric fabric;
    private final String name;

    NamedLock(Fabric fabric, String name, long number) {
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

    /** Locks it, waiting as long as it takes, also when the thread is interrupted, whose mark stays. */
    public Held lock() {
        return new Held(this, Owning.uninterrupted(this::attempt));
    }

    /**
     * Locks it, waiting so long at most.
     *
     * @throws MemoraException with {@link ErrorCode#TIMED_OUT} when the time is over
     * @throws InterruptedException when the thread is interrupted; it does not own the lock then
     */
    public Held lock(Duration timeout) throws InterruptedException {
        return new Held(this, Owning.within(timeout, this::attempt, "The lock `" + name + "` was held by others"));
    }

    /** Locks it if it is free, or its owner dead; null if somebody alive, or stopped, owns it. */
    public Held tryLock() {
        Owning.requirePlatformThread();
        long taken = attempt(0);
        return taken == Waiting.NONE ? null : new Held(this, taken != 0);
    }

    private long attempt(int waitMicros) {
        int taken = Native.lockTake(handle.number(), waitMicros);
        Reference.reachabilityFence(this);
        return taken;
    }

    /** The calling thread owns the lock until it closes this. Only for that thread: others get {@link ErrorCode#NOT_OWNER}. */
    public static final class Held implements AutoCloseable {
        private final NamedLock lock;
        private final boolean ownerDied;
        private boolean closed;

        private Held(NamedLock lock, boolean ownerDied) {
            this.lock = lock;
            this.ownerDied = ownerDied;
        }

        /**
         * Whether, when this thread got the lock, an owner had died while it held it, and nobody had called {@link #markConsistent}
         * since: what the lock guards may be half done. The next owners are told, too, until somebody says that it is whole.
         */
        public boolean ownerDied() {
            return ownerDied;
        }

        /** Says that what the lock guards is whole again. */
        public void markConsistent() {
            if (closed) {
                throw MemoraException.of(ErrorCode.NOT_OWNER, ErrorCode.NOT_OWNER.text() + " " + ErrorCode.NOT_OWNER.remedy(), 0);
            }
            Native.lockMarkConsistent(lock.handle.number());
            Reference.reachabilityFence(lock);
        }

        /** Lets go of the lock. The second time does nothing. */
        @Override
        public void close() {
            if (!closed) {
                Native.lockFree(lock.handle.number());
                closed = true;
                Reference.reachabilityFence(lock);
            }
        }
    }

    /** Closes it in this process. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
