package io.memora.internal;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.ConcurrentLinkedQueue;

/**
 * Direct memory through which keys and small values cross into the native library and back. Copying into it costs a few
 * nanoseconds; letting the JVM copy an array for native code costs 15 to 40, and asking for the address of a direct buffer 16.
 *
 * <p>Each platform thread has its own. Virtual threads share a pool, because there may be millions of them.
 */
public final class Scratch {
    /** Bytes for a key: more than the longest that is allowed, so that the library says what is wrong with a longer one. */
    private static final int KEY_CAPACITY = 72 * 1024;
    /** Bytes for keys that are packed behind each other: the longest one with its length at least. A multiple of 8. */
    public static final int PACKED_CAPACITY = KEY_CAPACITY + 8;
    /** Bytes for a value; longer ones cross as arrays or direct buffers. */
    public static final int VALUE_CAPACITY = 16 * 1024;

    private static final ThreadLocal<Scratch> OWN = ThreadLocal.withInitial(() -> new Scratch(true));
    private static final ConcurrentLinkedQueue<Scratch> POOL = new ConcurrentLinkedQueue<>();
    private static final MethodHandle IS_VIRTUAL = isVirtual();

    private final ByteBuffer memory;
    private final long address;
    /** Belongs to one platform thread; others are pooled. */
    private final boolean own;
    private boolean taken;

    private Scratch(boolean own) {
        this.own = own;
        memory = ByteBuffer.allocateDirect(PACKED_CAPACITY + VALUE_CAPACITY).order(ByteOrder.nativeOrder());
        address = Native.address(memory);
    }

    /** A scratch for this thread alone, until {@link #give}. */
    public static Scratch take() {
        if (!virtual()) {
            Scratch own = OWN.get();
            // A second use on one thread must not overwrite the first.
            if (!own.taken) {
                own.taken = true;
                return own;
            }
        }
        Scratch pooled = POOL.poll();
        if (pooled == null) {
            pooled = new Scratch(false);
        }
        pooled.taken = true;
        return pooled;
    }

    /** Gives the scratch back. */
    public void give() {
        taken = false;
        if (!own) {
            POOL.offer(this);
        }
    }

    /** Copies a key in; false when it is too long for any key. */
    public boolean key(byte[] key) {
        if (key.length > KEY_CAPACITY) {
            return false;
        }
        memory.put(0, key, 0, key.length);
        return true;
    }

    /** Copies the remaining bytes of a buffer in as the key, and leaves its position. */
    public boolean key(ByteBuffer key) {
        if (key.remaining() > KEY_CAPACITY) {
            return false;
        }
        memory.put(0, key, key.position(), key.remaining());
        return true;
    }

    /** Copies a key in behind others, from {@code at} on, after its length: where the next one may begin. */
    public int packedKey(int at, byte[] key) {
        memory.putInt(at, key.length);
        memory.put(at + 4, key, 0, key.length);
        return at + 4 + key.length;
    }

    /** Where the key is. */
    public long keyAddress() {
        return address;
    }

    /** Where the value is. */
    public long valueAddress() {
        return address + PACKED_CAPACITY;
    }

    /** Copies a value in; it must not be longer than {@link #VALUE_CAPACITY}, or this throws. */
    public void value(byte[] value, int start, int len) {
        memory.put(PACKED_CAPACITY, value, start, len);
    }

    /** Copies the remaining bytes of a buffer in as the value, and leaves its position. */
    public void value(ByteBuffer value) {
        memory.put(PACKED_CAPACITY, value, value.position(), value.remaining());
    }

    /** The first bytes of the value, from {@code at} on, as a new array. */
    public byte[] value(int at, int len) {
        byte[] value = new byte[len];
        memory.get(PACKED_CAPACITY + at, value, 0, len);
        return value;
    }

    /** Copies the first bytes of the value to where a buffer stands, and leaves its position. */
    public void valueTo(int at, int len, ByteBuffer out) {
        out.put(out.position(), memory, PACKED_CAPACITY + at, len);
    }

    /** Eight bytes of the value as a number. */
    public long valueLong(int at) {
        return memory.getLong(PACKED_CAPACITY + at);
    }

    /** Four bytes of the value as a number. */
    public int valueInt(int at) {
        return memory.getInt(PACKED_CAPACITY + at);
    }

    /** Whether this thread is a virtual one (none is before Java 21). */
    public static boolean virtual() {
        if (IS_VIRTUAL == null) {
            return false;
        }
        try {
            return (boolean) IS_VIRTUAL.invokeExact(Thread.currentThread());
        } catch (Throwable error) {
            throw new AssertionError("Thread.isVirtual throws nothing", error);
        }
    }

    private static MethodHandle isVirtual() {
        try {
            return MethodHandles.publicLookup().findVirtual(Thread.class, "isVirtual", MethodType.methodType(boolean.class));
        } catch (ReflectiveOperationException error) {
            return null;
        }
    }
}
