package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Memory;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Takes messages out of a channel.
 *
 * <p>A named subscriber has a place that outlives it. The place moves over what was taken when the next {@code poll}, {@code recv},
 * {@code commit} or {@code close} is called, which means: after it was handled. Whoever is killed while it handles a message
 * sees that message again; lane and position tell which one it is.
 *
 * <p><b>One thread at a time</b> may take; a second one at the same moment, and a handler that calls the subscriber it was called
 * from, gets {@link ErrorCode#BUSY}. Any thread may close at any time: who waits then throws {@link MemoraException.Closed} within
 * 50 ms.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier.
 */
public final class Subscriber implements AutoCloseable {
    private static final int BATCH_CAPACITY = 64 * 1024;
    private static final int HEADER = 16;

    private final Handle handle;
    /** Holds the channel open for as long as this is in use. */
    private final Channel channel;
    /** While a thread is inside: the batch below belongs to that call. */
    private final AtomicBoolean inside = new AtomicBoolean();

    // A batch that was taken and not yet handed over, from `next` to `end`: it stays when a handler throws.
    private Memory batch;
    private ByteBuffer view;
    private int next;
    private int count;

    Subscriber(Channel channel, long number) {
        this.channel = channel;
        this.handle = new Handle(this, number);
    }

    /** The channel that this subscriber takes from. */
    public Channel channel() {
        return channel;
    }

    /**
     * Hands over up to {@code limit} messages that are there now, without waiting. When the handler throws, the messages after
     * that one are handed over by the next call.
     *
     * @return how many messages were handed over
     * @throws MemoraException.Overrun once for each time that messages were lost; call again to go on
     */
    public int poll(MessageHandler handler, int limit) {
        Objects.requireNonNull(handler, "handler");
        enter();
        try {
            int handed = handOver(handler, limit);
            if (handed > 0 || limit <= 0) {
                return handed;
            }
            take(limit);
            return handOver(handler, limit);
        } finally {
            inside.set(false);
        }
    }

    private void enter() {
        if (!inside.compareAndSet(false, true)) {
            throw MemoraException.of(ErrorCode.BUSY, "Another thread, or a handler further up, is inside this subscriber: give each"
                    + " thread its own. " + ErrorCode.BUSY.remedy(), 0);
        }
    }

    private int handOver(MessageHandler handler, int limit) {
        int handed = 0;
        while (count > 0 && handed < limit) {
            int at = next;
            ByteBuffer bytes = batch.buffer();
            int len = bytes.getInt(at + 12);
            next = at + (HEADER + len + 7 & ~7);
            count--;
            handed++;
            view.limit(at + HEADER + len).position(at + HEADER);
            handler.onMessage(bytes.getInt(at + 8), bytes.getLong(at), view);
        }
        return handed;
    }

    /** Fills the batch, which is empty. */
    private void take(int limit) {
        if (batch == null) {
            use(new Memory(BATCH_CAPACITY));
        }
        Memory memory = batch;
        long answer = Native.poll(handle.number(), memory.address(), memory.capacity(), limit);
        int taken = (int) answer;
        if (answer >>> 32 != 0) {
            memory = larger(memory, taken, Native.rest(handle.number()));
        }
        next = 0;
        count = taken;
        Reference.reachabilityFence(memory);
        Reference.reachabilityFence(this);
    }

    /** The messages that fitted the memory, followed by the rest of the batch. */
    private Memory larger(Memory memory, int taken, byte[] rest) {
        int restCount = 0;
        ByteBuffer lens = ByteBuffer.wrap(rest).order(java.nio.ByteOrder.nativeOrder());
        for (int at = 0; at < rest.length; at += HEADER + lens.getInt(at + 12) + 7 & ~7) {
            restCount++;
        }
        int used = 0;
        for (int i = restCount; i < taken; i++) {
            used += HEADER + memory.buffer().getInt(used + 12) + 7 & ~7;
        }
        Memory grown = memory.grown(Math.max(2 * memory.capacity(), used + rest.length), used);
        grown.buffer().put(used, rest);
        use(grown);
        return grown;
    }

    private void use(Memory memory) {
        batch = memory;
        view = memory.buffer().asReadOnlyBuffer();
    }

    /** Takes a message if there is one now, else gives null. */
    public Message tryRecv() {
        return recv(Duration.ZERO);
    }

    /**
     * Takes a message, and waits for so long until there is one; null when none came, or when the thread was interrupted, whose
     * interrupt status stays set.
     *
     * @throws MemoraException.Overrun once for each time that messages were lost; call again to go on
     */
    public Message recv(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        enter();
        try {
            return receive(timeout);
        } finally {
            inside.set(false);
        }
    }

    private Message receive(Duration timeout) {
        Message[] out = new Message[1];
        if (handOver((lane, position, payload) -> {
            byte[] bytes = new byte[payload.remaining()];
            payload.get(bytes);
            out[0] = new Message(lane, position, bytes);
        }, 1) == 1) {
            return out[0];
        }
        Waiting.until(timeout, wait -> {
            out[0] = attempt(wait);
            return out[0] == null ? Waiting.NONE : 0;
        });
        return out[0];
    }

    private Message attempt(int waitMicros) {
        Scratch scratch = Scratch.take();
        try {
            int len = Native.recv(
                    handle.number(), scratch.valueAddress(), Scratch.VALUE_CAPACITY, waitMicros);
            if (len == Waiting.NONE) {
                return null;
            }
            byte[] payload = len >= 0 ? scratch.value(HEADER, len) : Native.held(handle.number());
            return new Message(scratch.valueInt(8), scratch.valueLong(0), payload);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Confirms all that was taken, without taking more. When a handler threw and messages of its batch wait to be handed over, they
     * would be confirmed too, so this is refused then: poll again first.
     */
    public void commit() {
        enter();
        try {
            if (count > 0) {
                throw new MemoraException(ErrorCode.BUSY,
                        count + " messages were taken and not yet handed over: poll again first.", 0, null);
            }
            Native.commit(handle.number());
        } finally {
            inside.set(false);
            Reference.reachabilityFence(this);
        }
    }

    /** Bytes that were sent and that this subscriber has not taken yet, with the headers of the messages. */
    public long lag() {
        enter();
        try {
            return Native.lag(handle.number());
        } finally {
            inside.set(false);
            Reference.reachabilityFence(this);
        }
    }

    /** Closes this subscriber. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
