package io.memora.internal;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A direct buffer with its address. Whoever passes the address to the library holds on to this until the call returns. */
public final class Memory {
    private final ByteBuffer buffer;
    private final long address;

    /** Zeroed memory of so many bytes. */
    public Memory(int capacity) {
        buffer = ByteBuffer.allocateDirect(capacity).order(ByteOrder.nativeOrder());
        address = Native.address(buffer);
    }

    /** The bytes; its position and limit belong to the owner of this memory. */
    public ByteBuffer buffer() {
        return buffer;
    }

    /** Where the bytes are. */
    public long address() {
        return address;
    }

    /** How many bytes there are. */
    public int capacity() {
        return buffer.capacity();
    }

    /** Larger memory that begins with the first {@code len} bytes of this one. */
    public Memory grown(int capacity, int len) {
        Memory grown = new Memory(capacity);
        grown.buffer.put(0, buffer, 0, len);
        return grown;
    }
}
