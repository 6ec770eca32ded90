package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Takes messages out of a queue: each goes to one of all consumers, of all processes.
 *
 * <p>On a queue {@linkplain ChannelOptions#acknowledged() with acknowledgement} it holds what it took until that is acknowledged or given
 * back; what it holds when it closes, or its process dies, is delivered again to others. On one without, what was taken is gone.
 *
 * <p><b>One thread at a time</b> may use it; a second one at the same moment, and a handler that calls the consumer it was called from,
 * gets {@link ErrorCode#BUSY}. Any thread may close at any time: who waits then throws {@link MemoraException.Closed} within 50 ms.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier.
 */
public final class Consumer implements AutoCloseable, Source {
    private static final int LANE = 8;
    private static final int DELIVERIES = 16;
    private static final int REDELIVERED = 20;
    private static final int RECEIPT = 24;
    private static final int HEADER = 48;

    private final Handle handle;
    /** Holds the channel open for as long as this is in use. */
    private final Channel channel;
    /** While a thread is inside: the batch below belongs to that call. */
    private final AtomicBoolean inside = new AtomicBoolean();

    /** What was taken and not yet handed over: it stays when a handler throws. */
    private final Batch batch = new Batch(HEADER, new Batch.Source() {
        @Override
        public long poll(long address, int capacity, int limit) {
            return Native.consumerPoll(handle().number(), address, capacity, limit);
        }

        @Override
        public byte[] rest() {
            return Native.consumerRest(handle().number());
        }
    });
    private final Current current = new Current();

    Consumer(Channel channel, long number) {
        this.channel = channel;
        this.handle = new Handle(this, number);
    }

    /** The queue that this consumer takes from. */
    public Channel channel() {
        return channel;
    }

    private Handle handle() {
        return handle;
    }

    /** The handle, for waiting. */
    long number() {
        return handle.number();
    }

    /** Whether messages of the last batch wait to be handed over. */
    boolean hasBatch() {
        return batch.count() > 0;
    }

    private void enter() {
        if (!inside.compareAndSet(false, true)) {
            throw MemoraException.of(ErrorCode.BUSY, "Another thread, or a handler further up, is inside this consumer: give each"
                    + " thread its own. " + ErrorCode.BUSY.remedy(), 0);
        }
    }

    private void leave() {
        inside.set(false);
        Reference.reachabilityFence(this);
    }

    /**
     * Hands over up to {@code limit} messages that are there now, without waiting. When the handler throws, the messages after that one
     * are handed over by the next call. Acknowledge after this returns: with receipts that the handler kept, or {@link #ackAll()}.
     *
     * <p>Messages are taken in batches: on a queue without acknowledgement those that the handler has not seen yet are lost when this
     * process dies.
     *
     * @return how many messages were handed over
     */
    public int poll(DeliveryHandler handler, int limit) {
        Objects.requireNonNull(handler, "handler");
        enter();
        try {
            int handed = handOver(handler, limit);
            if (handed > 0 || limit <= 0) {
                return handed;
            }
            batch.take(limit);
            return handOver(handler, limit);
        } finally {
            leave();
        }
    }

    private int handOver(DeliveryHandler handler, int limit) {
        int handed = 0;
        while (batch.count() > 0 && handed < limit) {
            current.at = batch.advance();
            handed++;
            handler.onDelivery(current, batch.payload(current.at));
        }
        return handed;
    }

    /** The message of the batch that is being handed over. */
    private final class Current implements DeliveryHandler.About {
        private int at;

        @Override
        public int lane() {
            return batch.bytes().getInt(at + LANE);
        }

        @Override
        public long position() {
            return batch.bytes().getLong(at);
        }

        @Override
        public int deliveries() {
            return batch.bytes().getInt(at + DELIVERIES);
        }

        @Override
        public boolean redelivered() {
            return batch.bytes().getInt(at + REDELIVERED) != 0;
        }

        @Override
        public Receipt receipt() {
            return new Receipt(batch.bytes().getLong(at + RECEIPT), batch.bytes().getLong(at + RECEIPT + 8),
                    batch.bytes().getLong(at + RECEIPT + 16));
        }
    }

    /** Takes a message if there is one now, else gives null. */
    public Delivery tryRecv() {
        return recv(Duration.ZERO);
    }

    /**
     * Takes a message, and waits for so long until there is one; null when none came, or when the thread was interrupted, whose
     * interrupt status stays set.
     */
    public Delivery recv(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        enter();
        try {
            return receive(timeout);
        } finally {
            leave();
        }
    }

    private Delivery receive(Duration timeout) {
        Delivery[] out = new Delivery[1];
        if (handOver((about, payload) -> {
            byte[] bytes = new byte[payload.remaining()];
            payload.get(bytes);
            out[0] = new Delivery(
                    about.lane(), about.position(), about.deliveries(), about.redelivered(), about.receipt(), bytes);
        }, 1) == 1) {
            return out[0];
        }
        Waiting.until(timeout, wait -> {
            out[0] = attempt(wait);
            return out[0] == null ? Waiting.NONE : 0;
        });
        return out[0];
    }

    private Delivery attempt(int waitMicros) {
        Scratch scratch = Scratch.take();
        try {
            int len = Native.consumerRecv(handle.number(), scratch.valueAddress(), Scratch.VALUE_CAPACITY, waitMicros);
            if (len == Waiting.NONE) {
                return null;
            }
            byte[] payload = len >= 0 ? scratch.value(HEADER, len) : Native.consumerHeld(handle.number());
            return new Delivery(scratch.valueInt(LANE), scratch.valueLong(0), scratch.valueInt(DELIVERIES),
                    scratch.valueInt(REDELIVERED) != 0, receipt(scratch, RECEIPT), payload);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    private static Receipt receipt(Scratch scratch, int at) {
        return new Receipt(scratch.valueLong(at), scratch.valueLong(at + 8), scratch.valueLong(at + 16));
    }

    /**
     * Says that a message is handled: nobody gets it again.
     *
     * @throws MemoraException {@link ErrorCode#NOT_HELD} when it is not this consumer's any more, because its time was over and another
     *     has it, or because it was acknowledged or given back before
     */
    public void ack(Receipt receipt) {
        enter();
        try {
            Native.consumerAck(handle.number(), receipt.owner(), receipt.number(), receipt.word());
        } finally {
            leave();
        }
    }

    /** The same with a message. */
    public void ack(Delivery delivery) {
        ack(delivery.receipt());
    }

    /**
     * Acknowledges everything that this consumer holds: how many messages that were. When a handler threw and messages of its batch wait
     * to be handed over, they would be acknowledged too, so this is refused then: poll again first.
     */
    public long ackAll() {
        enter();
        try {
            if (batch.count() > 0) {
                throw MemoraException.of(ErrorCode.BUSY,
                        batch.count() + " messages were taken and not yet handed over: poll again first.", 0);
            }
            return Native.consumerAckAll(handle.number());
        } finally {
            leave();
        }
    }

    /**
     * Gives a message back: after a time, which may be zero, it is delivered again, to this consumer or another.
     *
     * @throws MemoraException {@link ErrorCode#NOT_HELD} as for {@link #ack(Receipt)}
     */
    public void nack(Receipt receipt, Duration delay) {
        long millis = millis(delay);
        enter();
        try {
            Native.consumerNack(handle.number(), receipt.owner(), receipt.number(), receipt.word(), millis);
        } finally {
            leave();
        }
    }

    /** The same with a message. */
    public void nack(Delivery delivery, Duration delay) {
        nack(delivery.receipt(), delay);
    }

    /**
     * Holds a message for so long from now on, whatever was said before. The receipt means nothing any more.
     *
     * @return its new receipt
     * @throws MemoraException {@link ErrorCode#NOT_HELD} as for {@link #ack(Receipt)}
     */
    public Receipt extend(Receipt receipt, Duration time) {
        long millis = millis(time);
        enter();
        Scratch scratch = Scratch.take();
        try {
            Native.consumerExtend(
                    handle.number(), receipt.owner(), receipt.number(), receipt.word(), millis, scratch.valueAddress());
            return receipt(scratch, 0);
        } finally {
            scratch.give();
            leave();
        }
    }

    /** A part of a millisecond counts as one. */
    private static long millis(Duration time) {
        if (time.isNegative()) {
            throw MemoraException.of(ErrorCode.INVALID_ARGUMENT, "The time is " + time + ": it must not be negative. "
                    + ErrorCode.INVALID_ARGUMENT.remedy(), 0);
        }
        try {
            return time.plusNanos(999_999).toMillis();
        } catch (ArithmeticException error) {
            return Long.MAX_VALUE;
        }
    }

    /** Closes this consumer; what it holds goes to others. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
