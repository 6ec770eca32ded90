package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Reads the lanes of a subscriber without a call of the library, which would cost more than that. Only the thread that made this does so, as
 * long as no other thread uses the subscriber and nobody closes it; for all else, and for all but messages and padding, the library is asked.
 *
 * <p>The memory stays mapped for as long as this can be reached. What is read of a lane is read once and checked before it is used.
 */
final class LaneReader {
    /** The library must be asked. */
    static final int ASK = -1;

    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    private static final VarHandle INTS = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    // On the desk, first the door, and what its two words say: who wants the subscriber shuts the one and then looks at the other.
    private static final int OPEN = 0;
    private static final int INSIDE = 8;
    private static final long IS_OPEN = 1;
    private static final long IS_OUTSIDE = 0;
    private static final long IS_INSIDE = 1;
    private static final long IS_BROKEN = 2;
    private static final int READY = 32;
    private static final int EPOCH = 40;
    private static final int LANES = 48;
    private static final int PLACES = 64;
    private static final int PLACE_BYTES = 16;
    // In the control area.
    private static final int LANE_EPOCH = 64;
    private static final int SPACE = 192;
    /** Somebody sleeps, or may. */
    private static final int SLEEPERS = 3;
    private static final int WORD = 8;
    // Bits 32 to 47 of a frame's word.
    private static final int MESSAGE = 0x301;
    private static final int MESSAGE_AGAIN = 0x701;
    private static final int PADDING = 0x302;
    /** Frames that follow each other without a message at most. */
    private static final int BARE_MAX = 4;
    /** Messages taken from one lane before the next lane has its turn. */
    private static final int TURN = 16;

    /** Messages that are found before the first of them is handed over, and after which a poll ends that has taken a quarter of a ring. */
    private static final int AHEAD = 32;

    private static final class Lane {
        final ByteBuffer ring;
        /** The same bytes, little-endian. */
        final ByteBuffer bytes;
        final ByteBuffer place;
        final int size;
        final int index;
        /** Where its words stand on the desk. */
        final int shown;
        final int position;

        private Lane(long subscriber, Handle reading, int number) {
            ring = kept(Native.readingLane(subscriber, number, 0), reading);
            place = kept(Native.readingLane(subscriber, number, 1), reading);
            bytes = ring.duplicate().order(ByteOrder.LITTLE_ENDIAN);
            index = Native.readingLaneIndex(subscriber, number);
            size = ring.capacity();
            shown = PLACES + number * PLACE_BYTES;
            position = shown + 8;
        }
    }

    private final Thread reader = Thread.currentThread();
    private final long subscriber;
    private final Handle reading;
    private final ByteBuffer control;
    private final ByteBuffer entry;
    private final ByteBuffer desk;
    private final long state;
    private final int stamp;
    private final MessageView view;
    private Lane[] lanes = {};
    private int turn;
    // The messages that were found: where in the ring the payload begins, its length with the time, and the position behind it.
    private final int[] ats = new int[AHEAD];
    private final int[] lens = new int[AHEAD];
    private final long[] behinds = new long[AHEAD];

    private LaneReader(long subscriber, Handle reading, MessageView view) {
        this.subscriber = subscriber;
        this.reading = reading;
        this.view = view;
        control = kept(Native.readingPart(reading.number(), 0), reading);
        entry = kept(Native.readingPart(reading.number(), 1), reading);
        desk = kept(Native.readingPart(reading.number(), 2), reading);
        state = Native.readingFigure(reading.number(), 0);
        stamp = (int) Native.readingFigure(reading.number(), 1);
    }

    /** For this thread, which must be a platform thread; null when the library must be asked for each batch. */
    static LaneReader of(long subscriber, MessageView view) {
        long reading = Native.shareReading(subscriber);
        return reading == 0 ? null : new LaneReader(subscriber, Handle.shared(reading), view);
    }

    private static ByteBuffer kept(ByteBuffer buffer, Handle reading) {
        Handle.outlive(buffer, reading);
        return buffer.order(ByteOrder.nativeOrder());
    }

    /** Whether this thread may read. */
    boolean isMine() {
        return Thread.currentThread() == reader && (long) LONGS.getOpaque(desk, OPEN) == IS_OPEN;
    }

    /** Hands over what is there, up to {@code limit} messages: how many, or {@link #ASK} when the library must be asked before the first. */
    int poll(ViewHandler handler, int limit) {
        if (Thread.currentThread() != reader || desk.getLong(INSIDE) != IS_OUTSIDE) {
            return ASK;
        }
        if ((long) LONGS.getOpaque(desk, READY) != 0 && desk.getLong(LANES) != lanes.length && !learn()) {
            return ASK;
        }
        try {
            int taken = enter() ? showAndTake(handler, limit) : ASK;
            leave(IS_OUTSIDE);
            return taken;
        } catch (Throwable thrown) {
            // By a handler, which is outside; or in the middle, by a stack without room.
            if ((long) LONGS.getOpaque(desk, INSIDE) == IS_INSIDE) {
                leave(IS_BROKEN);
            }
            throw thrown;
        }
    }

    private int showAndTake(ViewHandler handler, int limit) {
        Moments.reached("looking");
        if (desk.getLong(READY) == 0 || (int) INTS.getAcquire(control, LANE_EPOCH) != (int) desk.getLong(EPOCH)) {
            return ASK;
        }
        boolean moved = false;
        for (Lane lane : lanes) {
            moved |= show(lane);
        }
        if (moved) {
            inOrder();
            if (((int) INTS.getOpaque(control, SPACE) & SLEEPERS) != 0) {
                Native.wakePublishers(reading.number());
            }
        }
        view.beginInPlace(entry, state);
        return take(handler, limit);
    }

    private int take(ViewHandler handler, int limit) {
        int taken = 0;
        int count = lanes.length;
        int idle = 0;
        while (taken < limit && idle < count) {
            if (turn >= count) {
                turn = 0;
            }
            Lane lane = lanes[turn];
            int before = taken;
            int end = count == 1 ? limit : Math.min(limit, taken + TURN);
            while (taken < end) {
                int found = find(lane, taken, end);
                if (found == 0) {
                    break;
                }
                if (found == ASK) {
                    return taken == 0 ? ASK : taken;
                }
                Moments.reached("found");
                // Others may close the subscriber while the handler is at work.
                leave(IS_OUTSIDE);
                int handled = handOver(handler, lane, found);
                taken += handled;
                if (handled < found || taken == limit || view.isLast() || !enter()) {
                    return taken == 0 ? ASK : taken;
                }
            }
            idle = taken == before ? idle + 1 : 0;
            turn++;
        }
        return taken;
    }

    /** Hands over what was found: how many were handled, fewer if the subscriber was closed or ejected meanwhile. */
    private int handOver(ViewHandler handler, Lane lane, int found) {
        for (int number = 0; number < found; number++) {
            int at = ats[number] + stamp;
            int len = lens[number] - stamp;
            long behind = behinds[number];
            view.show(lane.bytes, at, len, lane.index, behind, stamp == 0 ? 0 : lane.bytes.getLong(at - stamp));
            try {
                handler.onMessage(view);
            } finally {
                view.end();
            }
            // What was read comes before this look; a publisher that goes on has seen first that the subscription is not held any more.
            VarHandle.acquireFence();
            if ((long) LONGS.getOpaque(entry, 0) != state) {
                return number;
            }
            Moments.reached("handled");
            desk.putLong(lane.position, behind);
            Moments.reached("noted");
            // Who closes it has shut the door first: no handler begins behind what counts then.
            if (view.isLast() || (long) LONGS.getOpaque(desk, OPEN) != IS_OPEN) {
                return number + 1;
            }
        }
        return found;
    }

    /**
     * Finds the messages that come next: how many there are, 0 for none yet, or {@link #ASK}. A place goes a ring at most before it is shown, for
     * damaged content may look like frames without end, and of many messages a quarter, so that publishers get room.
     */
    private int find(Lane lane, int taken, int end) {
        ByteBuffer ring = lane.ring;
        int size = lane.size;
        int most = Math.min(end - taken, AHEAD);
        long position = desk.getLong(lane.position);
        long far = desk.getLong(lane.shown) + (taken < AHEAD ? size : size / 4);
        int found = 0;
        int bare = 0;
        while (found < most && position < far) {
            int from = (int) position & size - 1;
            // With acquire: the message comes after it.
            long word = (long) LONGS.getAcquire(ring, from);
            if (word == 0) {
                return found;
            }
            int kind = (int) (word >>> 32) & 0xffff;
            long bytes = word & 0xffff_ffffL;
            int rest = size - from;
            boolean message = (kind == MESSAGE || kind == MESSAGE_AGAIN) && bytes >= WORD + stamp && bytes <= rest;
            boolean padding = kind == PADDING && bytes == rest && bare++ < BARE_MAX;
            if (word >>> 48 != (position >>> 3 & 0xffff) || !message && !padding) {
                return found == 0 ? ASK : found;
            }
            position += bytes + 7 & ~7L;
            if (message) {
                bare = 0;
                ats[found] = from + WORD;
                lens[found] = (int) bytes - WORD;
                behinds[found] = position;
                found++;
            }
        }
        return found;
    }

    /** Shows publishers the place in a lane: everything in front of it was handled. Whether it moved. */
    private boolean show(Lane lane) {
        long position = desk.getLong(lane.position);
        long shown = desk.getLong(lane.shown);
        if (position == shown) {
            return false;
        }
        // With release: what was read comes before it. A failure means that the entry is another's: the next call finds that out.
        LONGS.compareAndExchangeRelease(lane.place, 0, shown, position);
        Moments.reached("shown");
        desk.putLong(lane.shown, position);
        return true;
    }

    /** Goes in: false when this thread may not any more, or the subscription is not held so any more. */
    private boolean enter() {
        LONGS.setOpaque(desk, INSIDE, IS_INSIDE);
        inOrder();
        if ((long) LONGS.getOpaque(desk, OPEN) != IS_OPEN || (long) LONGS.getOpaque(entry, 0) != state) {
            leave(IS_OUTSIDE);
            return false;
        }
        return true;
    }

    private void leave(long how) {
        LONGS.setRelease(desk, INSIDE, how);
    }

    /** Gets the parts of lanes that the library has learnt of. */
    private boolean learn() {
        int count = (int) desk.getLong(LANES);
        Lane[] all = new Lane[count];
        System.arraycopy(lanes, 0, all, 0, Math.min(count, lanes.length));
        try {
            for (int number = lanes.length; number < count; number++) {
                all[number] = new Lane(subscriber, reading, number);
            }
        } catch (MemoraException refused) {
            // The library tells the next call.
            return false;
        }
        lanes = all;
        return true;
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
