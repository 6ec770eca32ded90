package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Writes short messages into a publisher's ring without a call of the library, which would cost more than that. Only the thread that made
 * this does so, as long as no other thread uses the publisher and nobody closes it; for all else, and when the ring is full or at its end,
 * the library is asked.
 *
 * <p>The memory stays mapped for as long as this can be reached. A message is visible by one store, as one that the library sends.
 */
final class LaneWriter {
    /** The library must be asked. */
    static final long ASK = Long.MIN_VALUE;

    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    private static final VarHandle INTS = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    // In the gate.
    private static final int HEAD = 0;
    private static final int LIMIT = 8;
    private static final int OPEN = 16;
    private static final int INSIDE = 24;
    // In the lane's entry.
    private static final int STATE = 0;
    private static final int TAIL = 64;
    /** Somebody sleeps, or may. */
    private static final int SLEEPERS = 3;
    private static final int WORD = 8;

    private final Thread writer = Thread.currentThread();
    private final long publisher;
    private final ByteBuffer ring;
    private final ByteBuffer entry;
    private final ByteBuffer sleepers;
    private final ByteBuffer gate;
    private final long state;
    private final long frame;
    private final int most;
    private final int mask;

    private LaneWriter(long publisher, Handle lane) {
        this.publisher = publisher;
        ring = part(lane, 0);
        entry = part(lane, 1);
        sleepers = part(lane, 2);
        gate = part(lane, 3);
        state = Native.laneFigure(lane.number(), 0);
        most = (int) Native.laneFigure(lane.number(), 1);
        frame = Native.laneFigure(lane.number(), 2);
        mask = ring.capacity() - 1;
    }

    /** For this thread, which must be a platform thread; null when the library must be asked for each message. */
    static LaneWriter of(long publisher) {
        try {
            long lane = Native.shareLane(publisher);
            return lane == 0 ? null : new LaneWriter(publisher, Handle.shared(lane));
        } catch (MemoraException closed) {
            // The library tells the next call.
            return null;
        }
    }

    private static ByteBuffer part(Handle lane, int part) {
        ByteBuffer buffer = Native.lanePart(lane.number(), part);
        Handle.outlive(buffer, lane);
        return buffer.order(ByteOrder.nativeOrder());
    }

    /** Sends a part of a buffer: its position, or {@link #ASK}. */
    long send(ByteBuffer payload, int start, int len) {
        long head = enter(len);
        if (head == ASK) {
            return ASK;
        }
        try {
            ring.put(((int) head & mask) + WORD, payload, start, len);
            return commit(head, len);
        } finally {
            leave();
        }
    }

    /** Sends a part of an array: its position, or {@link #ASK}. */
    long send(byte[] payload, int start, int len) {
        long head = enter(len);
        if (head == ASK) {
            return ASK;
        }
        try {
            ring.put(((int) head & mask) + WORD, payload, start, len);
            return commit(head, len);
        } finally {
            leave();
        }
    }

    /** Bytes of a frame, whole words. */
    private static int frameBytes(int len) {
        return WORD + len + 7 & ~7;
    }

    /** Where the message goes; from then on this thread is inside. */
    private long enter(int len) {
        if (Thread.currentThread() != writer || len > most) {
            return ASK;
        }
        long head = gate.getLong(HEAD);
        int need = frameBytes(len);
        if (need > ring.capacity() - ((int) head & mask) || head + need + WORD > gate.getLong(LIMIT)) {
            return ASK;
        }
        LONGS.setOpaque(gate, INSIDE, 1L);
        inOrder();
        if ((long) LONGS.getOpaque(gate, OPEN) == 0 || (long) LONGS.getOpaque(entry, STATE) != state) {
            leave();
            return ASK;
        }
        ring.putLong((int) head + need & mask, 0);
        return head;
    }

    private long commit(long head, int len) {
        long behind = head + frameBytes(len);
        LONGS.setRelease(ring, (int) head & mask, frame | WORD + len | head >>> 3 << 48);
        LONGS.setRelease(entry, TAIL, behind);
        gate.putLong(HEAD, behind);
        inOrder();
        if (((int) INTS.getOpaque(sleepers, 0) & SLEEPERS) != 0) {
            wake();
        }
        return behind;
    }

    private void leave() {
        LONGS.setRelease(gate, INSIDE, 0L);
    }

    private void wake() {
        try {
            Native.wakeSubscribers(publisher);
        } catch (MemoraException refused) {
            // Closed, or another thread is at this publisher. The message was sent; who sleeps looks again within 50 ms.
            return;
        }
    }

    /**
     * The store in front of this comes before the load behind it in the code that runs. Whoever must see the one, or be seen by the other,
     * has the kernel run a full fence on this thread's processor.
     */
    private static void inOrder() {
        VarHandle.releaseFence();
        VarHandle.acquireFence();
    }
}
