package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Memory;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * Sends messages into a channel. What one publisher sends arrives in that order.
 *
 * <p><b>One thread at a time</b> may send; a second one at the same moment gets {@link ErrorCode#BUSY}. Any thread may close at
 * any time: who waits then throws {@link MemoraException.Closed} within 50 ms.
 *
 * <p>The thread that sends first writes short messages without a native call, as long as no other thread uses this: keep one
 * publisher for each thread that sends much.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier.
 */
public final class Publisher implements AutoCloseable {
    /** Answer of the methods that send: the ring is full, because a subscriber is behind. Nothing was sent. */
    public static final long BACK_PRESSURE = -1;

    private static final int CALLS_BEFORE = 32;
    private static final Duration FOR_EVER = Duration.ofSeconds(Long.MAX_VALUE);

    private final Handle handle;
    /** Holds the channel open for as long as this is in use. */
    private final Channel channel;
    private final ClaimRoom claims = new ClaimRoom();
    /** Messages that the library sent before its thread may write itself: what that takes to begin with must pay. */
    private int before = CALLS_BEFORE;
    private LaneWriter writer;

    Publisher(Channel channel, long number) {
        this.channel = channel;
        this.handle = new Handle(this, number);
    }

    /** The channel that this publisher sends into. */
    public Channel channel() {
        return channel;
    }

    /**
     * Sends a message, and waits while the ring is full.
     *
     * @return the position of the message, or {@link #BACK_PRESSURE} when the thread was interrupted while it waited, whose
     *     interrupt status stays set
     */
    public long send(byte[] payload) {
        return send(payload, FOR_EVER);
    }

    /** Sends a message, and waits for so long while the ring is full: its position, or {@link #BACK_PRESSURE}. */
    public long send(byte[] payload, Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        long position = write(payload, 0, payload.length);
        return position != LaneWriter.ASK ? position : Waiting.until(timeout, wait -> attempt(payload, 0, payload.length, wait));
    }

    /** Sends a message if there is room now: its position, or {@link #BACK_PRESSURE}. */
    public long trySend(byte[] payload) {
        return trySend(payload, 0, payload.length);
    }

    /** The same with a part of an array. */
    public long trySend(byte[] payload, int start, int len) {
        Objects.checkFromIndexSize(start, len, payload.length);
        long position = write(payload, start, len);
        return position != LaneWriter.ASK ? position : attempt(payload, start, len, 0);
    }

    /**
     * Sends messages that subscribers get all or none of, in this order, also if this process dies meanwhile; waits for so long while the
     * ring is full. Together they may take what one message may.
     *
     * @return the position of the last message, or {@link #BACK_PRESSURE}
     */
    public long sendAll(List<byte[]> payloads, Duration timeout) {
        int[] lengths = payloads.stream().mapToInt(payload -> payload.length).toArray();
        long total = Arrays.stream(lengths).asLongStream().sum();
        if (total > Integer.MAX_VALUE - 16) {
            throw MemoraException.of(ErrorCode.VALUE_TOO_LONG, "Messages of " + total + " bytes are too much at once. "
                    + ErrorCode.VALUE_TOO_LONG.remedy(), 0);
        }
        ByteBuffer all = ByteBuffer.allocate((int) total);
        payloads.forEach(all::put);
        long position =
                Waiting.until(timeout, wait -> Native.sendAll(handle.number(), all.array(), lengths, wait));
        Reference.reachabilityFence(this);
        return position;
    }

    /** Sends the remaining bytes of a buffer, whose position stays, as {@link #send(byte[])} does. */
    public long send(ByteBuffer payload) {
        return send(payload, FOR_EVER);
    }

    /** Sends the remaining bytes of a buffer, whose position stays, as {@link #send(byte[], Duration)} does. */
    public long send(ByteBuffer payload, Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        long position = write(payload);
        return position != LaneWriter.ASK ? position : Waiting.until(timeout, wait -> attempt(payload, wait));
    }

    /** Sends the remaining bytes of a buffer, whose position stays, as {@link #trySend(byte[])} does. */
    public long trySend(ByteBuffer payload) {
        long position = write(payload);
        return position != LaneWriter.ASK ? position : attempt(payload, 0);
    }

    private long write(ByteBuffer payload) {
        LaneWriter mine = writer;
        if (mine == null) {
            return LaneWriter.ASK;
        }
        long position = mine.send(payload, payload.position(), payload.remaining());
        Reference.reachabilityFence(this);
        return position;
    }

    private long write(byte[] payload, int start, int len) {
        LaneWriter mine = writer;
        if (mine == null) {
            return LaneWriter.ASK;
        }
        long position = mine.send(payload, start, len);
        Reference.reachabilityFence(this);
        return position;
    }

    /** A message was sent by the library. */
    private long sent(long position) {
        if (before > 0 && --before == 0 && !Scratch.virtual()) {
            try {
                writer = LaneWriter.of(handle.number());
            } catch (VirtualMachineError | LinkageError tight) {
                // No room on the stack, or in memory: the message was sent all the same, and the library goes on sending.
                return position;
            }
        }
        return position;
    }

    private long attempt(byte[] payload, int start, int len, int waitMicros) {
        if (len > Scratch.VALUE_CAPACITY) {
            long position = sent(Native.sendArray(handle.number(), payload, start, len, waitMicros));
            Reference.reachabilityFence(this);
            return position;
        }
        Scratch scratch = Scratch.take();
        try {
            scratch.value(payload, start, len);
            return sent(Native.send(handle.number(), scratch.valueAddress(), len, waitMicros));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    private long attempt(ByteBuffer payload, int waitMicros) {
        int len = payload.remaining();
        if (len > Scratch.VALUE_CAPACITY) {
            long position;
            if (payload.isDirect()) {
                // A buffer of an arena that was closed throws here, before its address is used.
                payload.get(payload.position());
                position = sent(Native.sendBuffer(handle.number(), payload, payload.position(), len, waitMicros));
            } else {
                byte[] bytes = new byte[len];
                payload.get(payload.position(), bytes);
                position = sent(Native.sendArray(handle.number(), bytes, 0, len, waitMicros));
            }
            Reference.reachabilityFence(this);
            return position;
        }
        Scratch scratch = Scratch.take();
        try {
            scratch.value(payload);
            return sent(Native.send(handle.number(), scratch.valueAddress(), len, waitMicros));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Memory for a message of this length, to be written in place and then committed or aborted. It is used again for the
     * next claim: one at a time.
     */
    public Claim claim(int len) {
        return claims.claim(this::commit, len);
    }

    private long commit(Memory memory, int len, Duration timeout) {
        long position = Waiting.until(timeout, wait -> Native.send(handle.number(), memory.address(), len, wait));
        Reference.reachabilityFence(memory);
        Reference.reachabilityFence(this);
        return position;
    }

    static Duration forEver() {
        return FOR_EVER;
    }

    /** Closes this publisher; what it sent stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
