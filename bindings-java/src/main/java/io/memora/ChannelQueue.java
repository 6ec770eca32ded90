package io.memora;

import java.time.Duration;
import java.util.AbstractQueue;
import java.util.Collection;
import java.util.Iterator;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;

/**
 * A channel as a {@link BlockingQueue}, from {@link Channel#blockingQueue}. Any thread may call any method; those that send take turns, and
 * so do those that take. Closing it closes its publisher and its receiver, not the channel.
 */
public final class ChannelQueue extends AbstractQueue<byte[]> implements BlockingQueue<byte[]>, AutoCloseable {
    private static final Duration FOR_EVER = Duration.ofSeconds(Long.MAX_VALUE);

    private final Channel channel;
    /** Of a queue null. */
    private final String subscription;
    private final ReentrantLock sending = new ReentrantLock();
    private final ReentrantLock taking = new ReentrantLock();
    // Written under their lock; `close` reads them without.
    private volatile Publisher publisher;
    private volatile Receiver receiver;
    private volatile boolean closed;
    /** What `peek` has shown and nobody has taken yet; under `taking`. */
    private Message head;

    ChannelQueue(Channel channel, String subscription) {
        this.channel = channel;
        this.subscription = subscription;
    }

    /** The channel that this is a view of. */
    public Channel channel() {
        return channel;
    }

    private Publisher publisher() {
        if (publisher == null) {
            publisher = channel.publisher();
            check();
        }
        return publisher;
    }

    private Receiver receiver() {
        if (receiver == null) {
            receiver = Receiver.of(channel, subscription);
            check();
        }
        return receiver;
    }

    private void check() {
        if (closed) {
            close();
            throw MemoraException.of(ErrorCode.CLOSED, "The view of the channel is closed. " + ErrorCode.CLOSED.remedy(), 0);
        }
    }

    @Override
    public boolean offer(byte[] message) {
        Objects.requireNonNull(message, "message");
        sending.lock();
        try {
            return publisher().trySend(message) != Publisher.BACK_PRESSURE;
        } finally {
            sending.unlock();
        }
    }

    @Override
    public boolean offer(byte[] message, long timeout, TimeUnit unit) throws InterruptedException {
        return send(message, duration(timeout, unit));
    }

    @Override
    public void put(byte[] message) throws InterruptedException {
        while (!send(message, FOR_EVER)) {
            // For ever is over: once more.
        }
    }

    private boolean send(byte[] message, Duration timeout) throws InterruptedException {
        Objects.requireNonNull(message, "message");
        long start = System.nanoTime();
        if (!lock(sending, timeout)) {
            return false;
        }
        try {
            boolean sent = publisher().send(message, left(timeout, start)) != Publisher.BACK_PRESSURE;
            interrupted(sent);
            return sent;
        } finally {
            sending.unlock();
        }
    }

    @Override
    public byte[] poll() {
        taking.lock();
        try {
            return next(Duration.ZERO);
        } finally {
            taking.unlock();
        }
    }

    @Override
    public byte[] poll(long timeout, TimeUnit unit) throws InterruptedException {
        return receive(duration(timeout, unit));
    }

    @Override
    public byte[] take() throws InterruptedException {
        while (true) {
            byte[] message = receive(FOR_EVER);
            if (message != null) {
                return message;
            }
        }
    }

    private byte[] receive(Duration timeout) throws InterruptedException {
        long start = System.nanoTime();
        if (!lock(taking, timeout)) {
            return null;
        }
        try {
            byte[] message = next(left(timeout, start));
            interrupted(message != null);
            return message;
        } finally {
            taking.unlock();
        }
    }

    /** The next message, acknowledged; under the lock. */
    private byte[] next(Duration timeout) {
        long start = System.nanoTime();
        while (true) {
            Message message = look(left(timeout, start));
            if (message == null) {
                return null;
            }
            head = null;
            if (onReceiver(Receiver::done, false)) {
                return message.payload();
            }
            // Held too long, or by a thread that has ended: it is delivered again.
        }
    }

    /** The message that is shown, or the next one; under the lock. */
    private Message look(Duration timeout) {
        if (head == null) {
            Receiver before = receiver();
            head = onReceiver(from -> from.recv(timeout), null);
            if (receiver != before) {
                head = receiver.recv(timeout);
            }
        }
        return head;
    }

    /**
     * Calls the receiver. What a receiver holds goes to others when the thread ends that used it last, and that receiver is closed then:
     * the next call makes a new one, and this one has the other answer.
     */
    private <T> T onReceiver(Function<Receiver, T> call, T otherwise) {
        Receiver from = receiver();
        try {
            return call.apply(from);
        } catch (MemoraException.Closed error) {
            check();
            head = null;
            receiver = null;
            from.close();
            receiver();
            return otherwise;
        }
    }

    /** The next message if there is one. It stays; its visibility time runs. */
    @Override
    public byte[] peek() {
        taking.lock();
        try {
            Message message = look(Duration.ZERO);
            return message == null ? null : message.payload();
        } finally {
            taking.unlock();
        }
    }

    @Override
    public boolean isEmpty() {
        return peek() == null;
    }

    /** Not known: what has room goes by bytes, and other publishers have rings of their own. */
    @Override
    public int remainingCapacity() {
        return Integer.MAX_VALUE;
    }

    @Override
    public int drainTo(Collection<? super byte[]> to) {
        return drainTo(to, Integer.MAX_VALUE);
    }

    @Override
    public int drainTo(Collection<? super byte[]> to, int most) {
        Objects.requireNonNull(to, "to");
        if (to == this) {
            throw new IllegalArgumentException("A queue cannot be drained to itself.");
        }
        int drained = 0;
        while (drained < most) {
            byte[] message = poll();
            if (message == null) {
                break;
            }
            to.add(message);
            drained++;
        }
        return drained;
    }

    @Override
    public int size() {
        throw new UnsupportedOperationException("Nobody counts the messages of a channel; see Channel.stats().");
    }

    @Override
    public Iterator<byte[]> iterator() {
        throw new UnsupportedOperationException("Messages of a channel can only be taken.");
    }

    @Override
    public String toString() {
        return "ChannelQueue[" + channel.name() + "]";
    }

    /** The lock, within the time. */
    private static boolean lock(ReentrantLock lock, Duration timeout) throws InterruptedException {
        return lock.tryLock(nanos(timeout), TimeUnit.NANOSECONDS);
    }

    private static void interrupted(boolean done) throws InterruptedException {
        if (!done && Thread.interrupted()) {
            throw new InterruptedException();
        }
    }

    private static Duration duration(long timeout, TimeUnit unit) {
        return Duration.ofNanos(Math.max(0, unit.toNanos(timeout)));
    }

    private static long nanos(Duration duration) {
        return duration.getSeconds() >= FOR_EVER.getSeconds() / 1_000_000_000 ? Long.MAX_VALUE : duration.toNanos();
    }

    private static Duration left(Duration timeout, long start) {
        long nanos = nanos(timeout);
        return nanos == Long.MAX_VALUE ? FOR_EVER : Duration.ofNanos(Math.max(0, nanos - (System.nanoTime() - start)));
    }

    /** Closes the publisher and the receiver of this view; who waits throws. The second time does nothing. */
    @Override
    public void close() {
        closed = true;
        if (publisher != null) {
            publisher.close();
        }
        if (receiver != null) {
            receiver.close();
        }
    }
}
