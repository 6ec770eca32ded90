package io.memora;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Iterator;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Calls of a service as futures, from any threads, virtual ones included: nobody waits. A daemon thread of its own sends the requests and
 * completes the futures; what depends on them runs on that thread unless it is handed to an executor ({@code thenApplyAsync}), and must
 * not block there.
 *
 * <p>More calls than the service allows at the same time wait here for their turn. While calls are under way the thread looks each
 * millisecond whether others came; while none is, it sleeps.
 *
 * <p>A future ends with the reply, or exceptionally with a {@link MemoraException}: {@link ErrorCode#PEER_DIED},
 * {@link ErrorCode#UNANSWERED}, {@link ErrorCode#TIMED_OUT}, {@link ErrorCode#VALUE_TOO_LONG}, {@link ErrorCode#FULL} (no memory for a long
 * request, also when no other call is under way), or {@link ErrorCode#CLOSED}. Cancelling one gives the call up.
 */
public final class AsyncClient implements AutoCloseable {
    private static final Duration LOOK = Duration.ofMillis(1);
    /** How long close waits for the thread, which never blocks for longer than this. */
    private static final long PATIENCE_MILLIS = 5_000;

    private final Client client;
    private final Thread worker;
    private final ReentrantLock lock = new ReentrantLock();
    private final Condition changed = lock.newCondition();
    /** Guarded by the lock. */
    private final Queue<Pending> waiting = new ArrayDeque<>();
    private boolean closed;

    /** A call with what becomes of it. */
    private record Pending(byte[] request, long start, long nanos, CompletableFuture<byte[]> future) {
        long left() {
            return nanos - (System.nanoTime() - start);
        }
    }

    AsyncClient(Client client) {
        this.client = client;
        worker = new Thread(this::work, "memora-calls-" + client.service().name());
        worker.setDaemon(true);
        worker.start();
    }

    /** The service that this client calls. */
    public Service service() {
        return client.service();
    }

    /**
     * Sends a request, whose bytes are copied; the future ends as the call does. The time begins now.
     *
     * @throws MemoraException.Closed if this was closed
     */
    public CompletableFuture<byte[]> callAsync(byte[] request, Duration timeout) {
        long nanos;
        try {
            nanos = Objects.requireNonNull(timeout, "timeout").toNanos();
        } catch (ArithmeticException error) {
            nanos = timeout.isNegative() ? 0 : Long.MAX_VALUE;
        }
        Pending pending = new Pending(request.clone(), System.nanoTime(), nanos, new CompletableFuture<>());
        lock.lock();
        try {
            if (closed) {
                throw new MemoraException.Closed("These calls were closed.");
            }
            waiting.add(pending);
            changed.signal();
        } finally {
            lock.unlock();
        }
        return pending.future;
    }

    private void work() {
        Map<Call, Pending> open = new HashMap<>();
        MemoraException reason = new MemoraException.Closed("These calls were closed.");
        try {
            while (next(open)) {
                CallEnd end = open.isEmpty() ? null : client.awaitAny(LOOK);
                while (end != null) {
                    Pending ended = open.remove(end.call());
                    if (ended != null) {
                        complete(ended, end);
                    }
                    end = open.isEmpty() ? null : client.awaitAny(Duration.ZERO);
                }
                giveUp(open);
            }
        } catch (MemoraException error) {
            // Its service or fabric was closed, or is damaged: all calls end with that.
            reason = error;
        } finally {
            end(open, reason);
        }
    }

    /** Sends what waits, as long as there is room; sleeps while there is nothing to do. False: closed. */
    private boolean next(Map<Call, Pending> open) {
        while (true) {
            Pending first;
            lock.lock();
            try {
                while (!closed && waiting.isEmpty() && open.isEmpty()) {
                    changed.awaitUninterruptibly();
                }
                if (closed) {
                    return false;
                }
                first = waiting.peek();
            } finally {
                lock.unlock();
            }
            if (first == null || !send(first, open)) {
                return true;
            }
            lock.lock();
            try {
                waiting.remove(first);
            } finally {
                lock.unlock();
            }
        }
    }

    /** False: there is no room for it yet. */
    private boolean send(Pending pending, Map<Call, Pending> open) {
        if (pending.future.isDone()) {
            return true;
        }
        if (pending.left() <= 0) {
            timeOut(pending);
            return true;
        }
        try {
            open.put(client.send(pending.request), pending);
        } catch (MemoraException error) {
            boolean full = error.code() == ErrorCode.FULL;
            if (error.code() == ErrorCode.TOO_MANY_CALLS || full && !open.isEmpty()) {
                return false;
            }
            if (error.code() != ErrorCode.VALUE_TOO_LONG && !full) {
                throw error;
            }
            pending.future.completeExceptionally(error);
        }
        return true;
    }

    private static void complete(Pending pending, CallEnd end) {
        if (end.isReply()) {
            pending.future.complete(end.reply());
        } else {
            pending.future.completeExceptionally(
                    MemoraException.of(end.code(), "The call ended: " + end.code() + ". " + end.code().remedy(), 0));
        }
    }

    private static void timeOut(Pending pending) {
        String text = "No server answered the call in time. " + ErrorCode.TIMED_OUT.remedy();
        pending.future.completeExceptionally(MemoraException.of(ErrorCode.TIMED_OUT, text, 0));
    }

    /** Ends calls whose time is over, or whose futures were cancelled; also of those that wait for their turn. */
    private void giveUp(Map<Call, Pending> open) {
        for (Iterator<Map.Entry<Call, Pending>> all = open.entrySet().iterator(); all.hasNext();) {
            Map.Entry<Call, Pending> entry = all.next();
            Pending pending = entry.getValue();
            if (pending.future.isDone() || pending.left() <= 0) {
                client.cancel(entry.getKey());
                all.remove();
                timeOut(pending);
            }
        }
        Queue<Pending> late = new ArrayDeque<>();
        lock.lock();
        try {
            waiting.removeIf(pending -> (pending.future.isDone() || pending.left() <= 0) && late.add(pending));
        } finally {
            lock.unlock();
        }
        late.forEach(AsyncClient::timeOut);
    }

    private void end(Map<Call, Pending> open, MemoraException reason) {
        Queue<Pending> rest = new ArrayDeque<>(open.values());
        lock.lock();
        try {
            closed = true;
            rest.addAll(waiting);
            waiting.clear();
        } finally {
            lock.unlock();
        }
        client.close();
        rest.forEach(pending -> pending.future.completeExceptionally(reason));
    }

    /** Closes: calls that are under way are given up, and their futures end with {@link ErrorCode#CLOSED}. The second time does nothing. */
    @Override
    public void close() {
        lock.lock();
        try {
            closed = true;
            changed.signal();
        } finally {
            lock.unlock();
        }
        if (Thread.currentThread() == worker) {
            return;
        }
        try {
            worker.join(PATIENCE_MILLIS);
        } catch (InterruptedException interrupted) {
            // The thread ends by itself.
            Thread.currentThread().interrupt();
        }
    }
}
