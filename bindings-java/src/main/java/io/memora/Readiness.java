package io.memora;

import io.memora.internal.Native;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.channels.Pipe;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Waiting for channels in a loop around a {@link java.nio.channels.Selector}: a channel that is readable when one of several sources has
 * something.
 *
 * <pre>{@code
 * try (Readiness readiness = Readiness.open()) {
 *     readiness.channel().register(selector, SelectionKey.OP_READ, readiness);
 *     readiness.arm(subscriber, consumer);
 *     // When the selector says that it is readable: take what is there until there is nothing, then arm it again.
 * }
 * }</pre>
 *
 * <p>It may become readable although nothing is there: others may have taken the message of a queue. A daemon thread sleeps in place of
 * the loop, only while this is armed, and never uses the sources themselves. <b>One thread at a time</b> arms; any thread may close.
 */
public final class Readiness implements AutoCloseable {
    private static final int SLICE_MICROS = 50_000;
    /** No set. */
    private static final long NONE = 0;

    private final Pipe pipe;
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    /** What is waited for; guarded by the lock, as all below. */
    private long set = NONE;
    private boolean closed;

    private Readiness(Pipe pipe) {
        this.pipe = pipe;
    }

    /** One that is not readable. */
    public static Readiness open() {
        try {
            Pipe pipe = Pipe.open();
            pipe.source().configureBlocking(false);
            pipe.sink().configureBlocking(false);
            Readiness readiness = new Readiness(pipe);
            Thread sleeper = new Thread(readiness::sleep, "memora-readiness");
            sleeper.setDaemon(true);
            sleeper.start();
            return readiness;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** What a selector waits for. Reading from it is not needed: {@link #arm} does that. */
    public Pipe.SourceChannel channel() {
        return pipe.source();
    }

    /**
     * From now on the channel is not readable until one of the sources (1 to 127, of any fabrics) has a message, or an error to tell; it is
     * at once if one has already. What was armed before counts no more. What the sources handed out last counts as handled. Using a
     * source ends what it is waited for with: arm again after that.
     */
    public void arm(Source... sources) {
        long[] handles = new long[sources.length];
        boolean ready = false;
        for (int i = 0; i < sources.length; i++) {
            ready |= sources[i] instanceof Subscriber subscriber ? subscriber.hasBatch() : ((Consumer) sources[i]).hasBatch();
            handles[i] = sources[i] instanceof Subscriber subscriber ? subscriber.number() : ((Consumer) sources[i]).number();
        }
        // 0: one of them has something that is in no ring.
        long next = ready ? NONE : Native.waitSet(handles);
        for (Source source : sources) {
            Reference.reachabilityFence(source);
        }
        lock.lock();
        try {
            if (closed) {
                closeSet(next);
                throw new MemoraException.Closed("This was closed.");
            }
            closeSet(set);
            set = next;
            drain();
            if (next == NONE) {
                ring();
            } else {
                changed.signal();
            }
        } finally {
            lock.unlock();
        }
    }

    private static void closeSet(long set) {
        if (set != NONE) {
            Native.close(set);
        }
    }

    private void drain() {
        try {
            ByteBuffer rest = ByteBuffer.allocate(64);
            while (pipe.source().read(rest) > 0) {
                rest.clear();
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void ring() {
        try {
            pipe.sink().write(ByteBuffer.allocate(1));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** The life of the thread that sleeps for others. */
    private void sleep() {
        while (true) {
            long waited;
            lock.lock();
            try {
                while (set == NONE && !closed) {
                    changed.awaitUninterruptibly();
                }
                if (closed) {
                    return;
                }
                waited = set;
            } finally {
                lock.unlock();
            }
            boolean ready;
            try {
                ready = Native.waitSetWait(waited, SLICE_MICROS) >= 0;
            } catch (MemoraException error) {
                // The set was replaced, or its fabric closed: then the source tells that.
                ready = true;
            }
            if (ready) {
                lock.lock();
                try {
                    if (set == waited && !closed) {
                        closeSet(set);
                        set = NONE;
                        ring();
                    }
                } finally {
                    lock.unlock();
                }
            }
        }
    }

    /** Closes the channel, too. The second time does nothing. */
    @Override
    public void close() {
        lock.lock();
        try {
            if (closed) {
                return;
            }
            closed = true;
            closeSet(set);
            set = NONE;
            changed.signal();
            pipe.sink().close();
            pipe.source().close();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } finally {
            lock.unlock();
        }
    }
}
