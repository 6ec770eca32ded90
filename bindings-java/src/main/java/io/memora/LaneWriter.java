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
 * <p>The memory stays mapped for as long as this can be reached. A message is visible by one store, as one that the library sends. Whatever is
 * thrown in the middle of one, the library then looks at the ring itself for the place where it goes on.
 */
final class LaneWriter {
    /** The library must be asked. */
    static final long ASK = Long.MIN_VALUE;

    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    private static final VarHandle INTS = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    // In the door, and what its last two words say: who wants the publisher shuts the one and then looks at the other.
    private static final int HEAD = 0;
    private static final int LIMIT = 8;
    private static final int OPEN = 16;
    private static final int INSIDE = 24;
    private static final long IS_OPEN = 1;
    private static final long IS_OUTSIDE = 0;
    private static final long IS_INSIDE = 1;
    private static final long IS_BROKEN = 2;
    // In the lane's entry.
    private static final int STATE = 0;
    private static final int TAIL = 64;
    /** Somebody sleeps, or may. */
    private static final int SLEEPERS = 3;
    private static final int WORD = 8;

    private final Thread writer = Thread.currentThread();
    private final Handle lane;
    private final ByteBuffer ring;
    private final ByteBuffer entry;
    private final ByteBuffer sleepers;
    private final ByteBuffer door;
    private final long state;
    private final long frame;
    private final int most;
    private final int mask;

    private LaneWriter(Handle lane) {
        this.lane = lane;
        ring = part(lane, 0);
        entry = part(lane, 1);
        sleepers = part(lane, 2);
        door = part(lane, 3);
        state = Native.laneFigure(lane.number(), 0);
        most = (int) Native.laneFigure(lane.number(), 1);
        frame = Native.laneFigure(lane.number(), 2);
        mask = ring.capacity() - 1;
    }

    /** For this thread, which must be a platform thread; null when the library must be asked for each message. */
    static LaneWriter of(long publisher) {
        try {
            long lane = Native.shareLane(publisher);
            return lane == 0 ? null : new LaneWriter(Handle.shared(lane));
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
        long head = room(len);
        if (head == ASK) {
            return ASK;
        }
        try {
            if (!enter(head, len)) {
                return ASK;
            }
            ring.put(((int) head & mask) + WORD, payload, start, len);
            return commit(head, len);
        } catch (Throwable thrown) {
            leave(IS_BROKEN);
            throw thrown;
        }
    }

    /** Sends a part of an array: its position, or {@link #ASK}. */
    long send(byte[] payload, int start, int len) {
        long head = room(len);
        if (head == ASK) {
            return ASK;
        }
        try {
            if (!enter(head, len)) {
                return ASK;
            }
            ring.put(((int) head & mask) + WORD, payload, start, len);
            return commit(head, len);
        } catch (Throwable thrown) {
            leave(IS_BROKEN);
            throw thrown;
        }
    }

    /** Bytes of a frame, whole words. */
    private static int frameBytes(int len) {
        return WORD + len + 7 & ~7;
    }

    /** Where a message goes, if there is room for it in front of the ring's end. */
    private long room(int len) {
        if (Thread.currentThread() != writer || len > most || door.getLong(INSIDE) != IS_OUTSIDE) {
            return ASK;
        }
        long head = door.getLong(HEAD);
        int need = frameBytes(len);
        return need > ring.capacity() - ((int) head & mask) || head + need + WORD > door.getLong(LIMIT) ? ASK : head;
    }

    /** Whether this thread is inside and the lane its own. */
    private boolean enter(long head, int len) {
        LONGS.setOpaque(door, INSIDE, IS_INSIDE);
        inOrder();
        if ((long) LONGS.getOpaque(door, OPEN) != IS_OPEN || (long) LONGS.getOpaque(entry, STATE) != state) {
            leave(IS_OUTSIDE);
            return false;
        }
        Moments.reached("entered");
        ring.putLong((int) head + frameBytes(len) & mask, 0);
        Moments.reached("cleared");
        return true;
    }

    private long commit(long head, int len) {
        long behind = head + frameBytes(len);
        Moments.reached("copied");
        LONGS.setRelease(ring, (int) head & mask, frame | WORD + len | head >>> 3 << 48);
        Moments.reached("committed");
        LONGS.setRelease(entry, TAIL, behind);
        Moments.reached("moved");
        door.putLong(HEAD, behind);
        leave(IS_OUTSIDE);
        Moments.reached("left");
        inOrder();
        if (((int) INTS.getOpaque(sleepers, 0) & SLEEPERS) != 0) {
            Moments.reached("waking");
            Native.wakeSubscribers(lane.number());
        }
        return behind;
    }

    private void leave(long how) {
        LONGS.setRelease(door, INSIDE, how);
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
