package io.memora;

import io.memora.internal.Memory;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Messages that were taken and not yet handed over. In memory each is a header, whose length belongs to the kind of channel and which has
 * the length of the payload at 12, and its payload; each begins at a multiple of 8.
 */
final class Batch {
    private static final int CAPACITY = 64 * 1024;
    private static final int LEN = 12;

    /** Where batches come from. */
    interface Source {
        /** Fills memory: the number of messages, and in the upper half the bytes that did not fit. */
        long poll(long address, int capacity, int limit);

        /** The bytes that did not fit. */
        byte[] rest();
    }

    private final int header;
    private final Source source;
    private Memory memory;
    private ByteBuffer view;
    private ByteBuffer littleEndian;
    private int next;
    private int count;

    Batch(int header, Source source) {
        this.header = header;
        this.source = source;
    }

    /** Messages that wait to be handed over. */
    int count() {
        return count;
    }

    /** Takes up to {@code limit} messages; nothing may wait. */
    void take(int limit) {
        if (memory == null) {
            use(new Memory(CAPACITY));
        }
        Memory used = memory;
        long answer = source.poll(used.address(), used.capacity(), limit);
        int taken = (int) answer;
        if (answer >>> 32 != 0) {
            used = larger(used, taken, source.rest());
        }
        next = 0;
        count = taken;
        Reference.reachabilityFence(used);
    }

    /** The messages that fitted the memory, followed by the rest of the batch. */
    private Memory larger(Memory fitting, int taken, byte[] rest) {
        int restCount = 0;
        ByteBuffer lens = ByteBuffer.wrap(rest).order(ByteOrder.nativeOrder());
        for (int at = 0; at < rest.length; at = behind(at, lens)) {
            restCount++;
        }
        int used = 0;
        for (int i = restCount; i < taken; i++) {
            used = behind(used, fitting.buffer());
        }
        Memory grown = fitting.grown(Math.max(2 * fitting.capacity(), used + rest.length), used);
        grown.buffer().put(used, rest);
        use(grown);
        return grown;
    }

    private void use(Memory newMemory) {
        memory = newMemory;
        view = newMemory.buffer().asReadOnlyBuffer();
        littleEndian = newMemory.buffer().duplicate().order(ByteOrder.LITTLE_ENDIAN);
    }

    private int behind(int at, ByteBuffer bytes) {
        return at + (header + bytes.getInt(at + LEN) + 7 & ~7);
    }

    /** Where the header of the next message stands in {@link #bytes}. */
    int next() {
        return next;
    }

    /** Goes on to the next message: where the header of this one stands. */
    int advance() {
        int at = next;
        next = behind(at, memory.buffer());
        count--;
        return at;
    }

    /** All bytes, in the order of this machine. */
    ByteBuffer bytes() {
        return memory.buffer();
    }

    /** The same, little-endian. */
    ByteBuffer littleEndian() {
        return littleEndian;
    }

    /** Bytes of the payload of the message whose header stands there. */
    int payloadLen(int at) {
        return memory.buffer().getInt(at + LEN);
    }

    /** A read-only view whose remaining bytes are the payload of the message whose header stands there. */
    ByteBuffer payload(int at) {
        int start = at + header;
        return view.limit(start + payloadLen(at)).position(start);
    }
}
