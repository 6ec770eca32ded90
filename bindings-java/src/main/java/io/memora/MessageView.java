package io.memora;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Objects;

/**
 * A message where it stands in its publisher's ring, as {@link Subscriber#pollInPlace} hands it out: nothing is copied but what is asked for.
 *
 * <p><b>It can be used until the handler returns, by the thread that runs the handler</b>; afterwards, and in other threads, every method
 * throws {@link IllegalStateException}. The same object shows each message of a subscriber in turn.
 *
 * <p>Numbers are little-endian, as views in the other languages give them; {@link Long#reverseBytes} and the like turn those that a
 * {@link ByteBuffer} wrote in its first order. What lies outside of the message throws {@link IndexOutOfBoundsException}.
 */
public final class MessageView {
    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());

    /** The thread whose handler looks at it, now if it is shown. */
    private Thread user;
    private boolean shown;
    private ByteBuffer bytes;
    private int start;
    private int length;
    private int lane;
    private long position;
    private long sentNanos;
    /** The entry of the subscription, which begins with its state; null for a copy. */
    private ByteBuffer entry;
    private long state;
    /** The handler has closed the subscriber. */
    private boolean last;

    MessageView() {}

    /** From here on messages are shown to this thread that stand in memory of the subscriber's own. */
    void beginCopies() {
        user = Thread.currentThread();
        entry = null;
    }

    /** From here on messages are shown to this thread that stand in rings, for as long as the state of the subscription stays. */
    void beginInPlace(ByteBuffer newEntry, long newState) {
        user = Thread.currentThread();
        entry = newEntry;
        state = newState;
    }

    /** Shows a part of little-endian memory. */
    void show(ByteBuffer memory, int newStart, int newLength, int newLane, long newPosition, long newSentNanos) {
        // Storing a reference costs more than looking at it.
        if (bytes != memory) {
            bytes = memory;
        }
        start = newStart;
        length = newLength;
        lane = newLane;
        position = newPosition;
        sentNanos = newSentNanos;
        shown = true;
    }

    /** The handler has returned. */
    void end() {
        shown = false;
    }

    /** Whether this thread is in the handler. */
    boolean isShown() {
        return shown && Thread.currentThread() == user;
    }

    /** No message comes after this one. */
    void makeLast() {
        last = true;
    }

    boolean isLast() {
        return last;
    }

    private void check() {
        if (!isShown()) {
            throw ended();
        }
    }

    private static IllegalStateException ended() {
        return new IllegalStateException("A message is looked at in its handler, by the thread that runs it: copy what is wanted later or"
                + " elsewhere.");
    }

    /** Where {@code size} bytes at {@code offset} stand. */
    private int at(int offset, int size) {
        check();
        return start + Objects.checkFromIndexSize(offset, size, length);
    }

    /** Bytes of the message. */
    public int length() {
        check();
        return length;
    }

    /** The ring of the publisher that sent it. */
    public int lane() {
        check();
        return lane;
    }

    /** Where it stands in that ring; lane and position together name a message of a channel. */
    public long position() {
        check();
        return position;
    }

    /**
     * When it was sent, as {@link System#nanoTime()} tells it to all processes of a host; 0 on a channel without
     * {@linkplain ChannelOptions#timestamps() timestamps}.
     */
    public long sentNanos() {
        check();
        return sentNanos;
    }

    /** The byte there. */
    public byte getByte(int offset) {
        return bytes.get(at(offset, Byte.BYTES));
    }

    /** The two bytes there. */
    public short getShort(int offset) {
        return bytes.getShort(at(offset, Short.BYTES));
    }

    /** The four bytes there. */
    public int getInt(int offset) {
        return bytes.getInt(at(offset, Integer.BYTES));
    }

    /** The eight bytes there. */
    public long getLong(int offset) {
        return bytes.getLong(at(offset, Long.BYTES));
    }

    /** Fills an array with the bytes from {@code offset} on. */
    public void copyTo(int offset, byte[] into) {
        copyTo(offset, into, 0, into.length);
    }

    /** Copies {@code len} bytes from {@code offset} on to a part of an array. */
    public void copyTo(int offset, byte[] into, int intoStart, int len) {
        bytes.get(at(offset, len), into, intoStart, len);
    }

    /**
     * Copies the whole message to where a buffer stands, which goes on behind it.
     *
     * @throws java.nio.BufferOverflowException when there is no room for it; nothing is copied then
     */
    public void copyTo(ByteBuffer into) {
        check();
        if (into.remaining() < length) {
            throw new java.nio.BufferOverflowException();
        }
        into.put(into.position(), bytes, start, length);
        into.position(into.position() + length);
    }

    /** A copy of all bytes. */
    public byte[] toByteArray() {
        check();
        byte[] array = new byte[length];
        bytes.get(start, array);
        return array;
    }

    /** A copy of the message with all that came with it. */
    public Message toMessage() {
        return new Message(lane, position, toByteArray(), sentNanos);
    }

    /**
     * Whether all that was read so far are bytes of the message: false only if the subscription was ejected or closed meanwhile, so that its
     * publisher may have gone on. Ask before what cannot be undone, on channels whose subscriptions may be ejected.
     */
    public boolean isWhole() {
        check();
        if (entry == null) {
            return true;
        }
        // What was read before this comes before the look at the state; the publisher that goes on has seen the state first.
        VarHandle.acquireFence();
        return (long) LONGS.getOpaque(entry, 0) == state;
    }

    /** Whether the bytes are a copy after all: on channels that overrun, and of messages that stand in no piece or in somebody's way. */
    public boolean isCopy() {
        check();
        return entry == null;
    }
}
