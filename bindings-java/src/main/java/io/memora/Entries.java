package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Objects;
import java.util.OptionalLong;

/**
 * What a {@link Cache} and a {@link Store} have in common: entries, found by key.
 *
 * <p><b>Any thread may call any method at any time</b>, also {@link #close}. Each call takes effect at one moment between its
 * beginning and its end, for all processes alike. Readers take no lock and wait for nobody.
 *
 * <p>Buffers are read and written from their position on, and their position and limit stay as they are. A buffer must not be
 * written by anyone else, and its memory (if it is that of an arena) not be closed, while a call uses it.
 */
public abstract sealed class Entries implements AutoCloseable permits Cache, Store {
    /** Answer of {@link #get(ByteBuffer, ByteBuffer)}: there is no such entry. */
    public static final int MISS = -1;
    /** Answer of {@link #add} and {@link #replace}: nothing was stored. */
    public static final long NOT_STORED = -1;

    private static final int SET = 0;
    private static final int ADD = 1;
    private static final int REPLACE = 2;
    static final int ENTRY_HEADER = 24;
    /** Keys that cross at once. */
    private static final int MANY_MAX = 64;

    final Handle handle;
    /** Holds the fabric open for as long as this is in use. */
    private final Fabric fabric;
    private final String name;

    Entries(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** The name of this object in its fabric. */
    public final String name() {
        return name;
    }

    /** The fabric that this object is in. */
    public final Fabric fabric() {
        return fabric;
    }

    /** A copy of the value of a key, or null when there is none. */
    public final byte[] get(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int len = Native.get(
                    handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress(), Scratch.VALUE_CAPACITY);
            if (len >= 0) {
                return scratch.value(0, len);
            }
            return len == MISS ? null : Native.getArray(handle.number(), scratch.keyAddress(), keyLen);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Copies the value of a key to where {@code out} stands.
     *
     * @return the length of the value, or {@link #MISS}
     * @throws MemoraException {@link ErrorCode#BUFFER_TOO_SMALL} when it does not fit: {@link MemoraException#amount} is its
     *     length, and nothing was written
     */
    public final int get(ByteBuffer key, ByteBuffer out) {
        requireWritable(out);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int room = out.remaining();
            // What fits the scratch crosses faster through it; a large direct buffer is written in place.
            if (out.isDirect() && room > Scratch.VALUE_CAPACITY) {
                // A buffer of an arena that was closed throws here, before its address is used.
                out.get(out.position());
                int len = Native.getBuffer(handle.number(), scratch.keyAddress(), keyLen, out, out.position(), room);
                return checkRoom(len, room);
            }
            int len = Native.get(
                    handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress(),
                    Math.min(room, Scratch.VALUE_CAPACITY));
            if (len >= 0) {
                scratch.valueTo(0, len, out);
                return len;
            }
            if (len == MISS || -2 - len > room) {
                return checkRoom(len, room);
            }
            byte[] value = Native.getArray(handle.number(), scratch.keyAddress(), keyLen);
            if (value == null) {
                return MISS;
            }
            // It may have grown since.
            requireRoom(value.length, room);
            out.put(out.position(), value);
            return value.length;
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    static void requireWritable(ByteBuffer out) {
        if (out.isReadOnly()) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "The buffer for the value is read-only.", 0, null);
        }
    }

    private static int checkRoom(int len, int room) {
        if (len < MISS) {
            requireRoom(-2 - len, room);
        }
        return len;
    }

    static void requireRoom(int len, int room) {
        if (len > room) {
            throw new MemoraException(ErrorCode.BUFFER_TOO_SMALL, "The value has " + len + " bytes, the buffer has room for " + room
                    + ". " + ErrorCode.BUFFER_TOO_SMALL.remedy(), len, null);
        }
    }

    /** The entry of a key with its version, flags and remaining time, or null when there is none. */
    public final Entry getEntry(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int len = Native.getEntry(
                    handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress(), Scratch.VALUE_CAPACITY);
            if (len >= 0) {
                return entry(scratch, len);
            }
            byte[] bytes = len == MISS ? null : Native.getEntryArray(handle.number(), scratch.keyAddress(), keyLen);
            return bytes == null ? null : entry(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** An entry of so many bytes, which stands in the scratch. */
    static Entry entry(Scratch scratch, int len) {
        byte[] value = scratch.value(ENTRY_HEADER, len - ENTRY_HEADER);
        return new Entry(value, scratch.valueLong(0), scratch.valueInt(16), scratch.valueLong(8));
    }

    static Entry entry(ByteBuffer bytes) {
        long version = bytes.getLong();
        long ttl = bytes.getLong();
        int flags = bytes.getInt();
        byte[] value = new byte[bytes.getInt()];
        bytes.get(value);
        return new Entry(value, version, flags, ttl);
    }

    /**
     * Copies of the values of many keys, in their order, with null for a miss. Faster than asking one by one: the library
     * crosses once and lets the memory accesses of all keys overlap. Each value is one that its key had at some moment of
     * the call; there is no one moment for all.
     */
    public final byte[][] getMany(byte[]... keys) {
        byte[][] values = new byte[keys.length][];
        for (byte[] key : keys) {
            Objects.requireNonNull(key, "key");
        }
        Scratch scratch = Scratch.take();
        try {
            int done = 0;
            while (done < keys.length) {
                done = getSome(scratch, keys, done, values);
            }
            return values;
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** The values of as many keys as cross at once, from {@code start} on: where the next ones begin. */
    private int getSome(Scratch scratch, byte[][] keys, int start, byte[][] values) {
        int end = start;
        int len = 0;
        while (end < keys.length && end - start < MANY_MAX && keys[end].length <= Scratch.PACKED_CAPACITY - 4 - len) {
            len = scratch.packedKey(len, keys[end++]);
        }
        if (end == start) {
            throw tooLong(keys[start].length);
        }
        int answered = Native.getManyAddress(
                handle.number(), scratch.keyAddress(), len, scratch.valueAddress(), Scratch.VALUE_CAPACITY);
        if (answered >= 0) {
            int at = 0;
            for (int i = start; i < end; i++) {
                int valueLen = scratch.valueInt(at);
                at += 4;
                if (valueLen >= 0) {
                    values[i] = scratch.value(at, valueLen);
                    at += valueLen;
                }
            }
            return end;
        }
        // Together they are longer than the scratch memory.
        ByteBuffer packed = ByteBuffer.allocate(len).order(ByteOrder.nativeOrder());
        for (int i = start; i < end; i++) {
            packed.putInt(keys[i].length).put(keys[i]);
        }
        ByteBuffer in = ByteBuffer.wrap(Native.getMany(handle.number(), packed.array(), len)).order(ByteOrder.nativeOrder());
        for (int i = start; i < end; i++) {
            int valueLen = in.getInt();
            if (valueLen >= 0) {
                values[i] = new byte[valueLen];
                in.get(values[i]);
            }
        }
        return end;
    }

    /** Stores a value for ever, whether there was one or not, and gives its version. */
    public final long set(byte[] key, byte[] value) {
        return put(SET, key, value, SetOptions.NONE);
    }

    /** Stores a value, whether there was one or not, and gives its version. */
    public final long set(byte[] key, byte[] value, SetOptions options) {
        return put(SET, key, value, options);
    }

    /** Stores a value for ever, whether there was one or not, and gives its version. */
    public final long set(ByteBuffer key, ByteBuffer value) {
        return set(key, value, SetOptions.NONE);
    }

    /** Stores a value, whether there was one or not, and gives its version. A large direct buffer is read in place. */
    public final long set(ByteBuffer key, ByteBuffer value, SetOptions options) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int len = value.remaining();
            if (len <= Scratch.VALUE_CAPACITY) {
                scratch.value(value);
                return Native.putAddress(
                        handle.number(), SET, scratch.keyAddress(), keyLen, scratch.valueAddress(), len,
                        options.ttlMillis, options.flags);
            }
            if (value.isDirect()) {
                // A buffer of an arena that was closed throws here, before its address is used.
                value.get(value.position());
                return Native.putBuffer(
                        handle.number(), SET, scratch.keyAddress(), keyLen, value, value.position(), len,
                        options.ttlMillis, options.flags);
            }
            byte[] bytes = new byte[len];
            value.get(value.position(), bytes);
            return Native.putArray(
                    handle.number(), SET, scratch.keyAddress(), keyLen, bytes, 0, len, options.ttlMillis, options.flags);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Stores a value only if there is none yet: its version, or {@link #NOT_STORED}. */
    public final long add(byte[] key, byte[] value, SetOptions options) {
        return put(ADD, key, value, options);
    }

    /** Stores a value only if there is one already: its version, or {@link #NOT_STORED}. */
    public final long replace(byte[] key, byte[] value, SetOptions options) {
        return put(REPLACE, key, value, options);
    }

    final long put(int how, byte[] key, byte[] value, SetOptions options) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            if (value.length <= Scratch.VALUE_CAPACITY) {
                scratch.value(value, 0, value.length);
                return Native.putAddress(
                        handle.number(), how, scratch.keyAddress(), keyLen, scratch.valueAddress(), value.length,
                        options.ttlMillis, options.flags);
            }
            return Native.putArray(
                    handle.number(), how, scratch.keyAddress(), keyLen, value, 0, value.length,
                    options.ttlMillis, options.flags);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Replaces a value if it is still the one of this version, which {@link #getEntry} or a write gave. */
    public final CasResult compareAndSwap(byte[] key, byte[] value, long version) {
        return compareAndSwap(key, value, version, SetOptions.NONE);
    }

    /** Replaces a value if it is still the one of this version, which {@link #getEntry} or a write gave. */
    public final CasResult compareAndSwap(byte[] key, byte[] value, long version, SetOptions options) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            long answer = Native.compareAndSwap(
                    handle.number(), scratch.keyAddress(), keyLen, value, 0, value.length, version,
                    options.ttlMillis, options.flags, scratch.valueAddress());
            if (answer == -1) {
                return new CasResult(CasResult.Outcome.NOT_FOUND, -1);
            }
            return answer == -2
                    ? new CasResult(CasResult.Outcome.STALE, scratch.valueLong(0))
                    : new CasResult(CasResult.Outcome.STORED, answer);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Removes an entry: whether there was one. */
    public final boolean delete(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return Native.delete(handle.number(), scratch.keyAddress(), keyLen) != 0;
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Adds to an entry that is a decimal number, and gives the new one; empty when there is no entry. Numbers have 64 bits
     * without a sign: print them with {@link Long#toUnsignedString(long)} if they may be that large.
     */
    public final OptionalLong increment(byte[] key, long by) {
        return count(key, false, by, false, 0);
    }

    /** The same, but an entry that is missing begins with {@code initial}, to which nothing is added. */
    public final long increment(byte[] key, long by, long initial) {
        return count(key, false, by, true, initial).orElseThrow();
    }

    /** Takes away from an entry that is a decimal number, down to 0, and gives the new one; empty when there is no entry. */
    public final OptionalLong decrement(byte[] key, long by) {
        return count(key, true, by, false, 0);
    }

    /** The same, but an entry that is missing begins with {@code initial}, from which nothing is taken away. */
    public final long decrement(byte[] key, long by, long initial) {
        return count(key, true, by, true, initial).orElseThrow();
    }

    private OptionalLong count(byte[] key, boolean down, long by, boolean hasInitial, long initial) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int found = Native.count(
                    handle.number(), scratch.keyAddress(), keyLen, down, by, hasInitial, initial, scratch.valueAddress());
            return found == 0 ? OptionalLong.empty() : OptionalLong.of(scratch.valueLong(0));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** How many entries there are. */
    public final long size() {
        long size = Native.size(handle.number());
        Reference.reachabilityFence(this);
        return size;
    }

    /**
     * Goes over about {@code limit} entries from a cursor on (0 is the beginning) and gives the next cursor, 0 at the end. An
     * entry that stays during a whole scan is seen at least once, perhaps twice; one that comes or goes may be seen or not.
     */
    public final long scan(long cursor, int limit, EntryConsumer consumer) {
        long next = Scans.over(cursor, limit, consumer, (from, most) -> Native.scan(handle.number(), from, most));
        Reference.reachabilityFence(this);
        return next;
    }

    /** Goes over all entries, as {@link #scan} does. */
    public final void forEach(EntryConsumer consumer) {
        long cursor = 0;
        do {
            cursor = scan(cursor, Scans.BATCH, consumer);
        } while (cursor != 0);
    }

    static int key(Scratch scratch, byte[] key) {
        if (!scratch.key(key)) {
            throw tooLong(key.length);
        }
        return key.length;
    }

    static int key(Scratch scratch, ByteBuffer key) {
        if (!scratch.key(key)) {
            throw tooLong(key.remaining());
        }
        return key.remaining();
    }

    private static MemoraException tooLong(int len) {
        return new MemoraException(ErrorCode.KEY_TOO_LONG, "The key has " + len + " bytes; no object takes more than "
                + Native.keyLengthMax() + ". " + ErrorCode.KEY_TOO_LONG.remedy(), 0, null);
    }

    /** Closes this handle, not the object: others go on using it. The second time does nothing. */
    @Override
    public final void close() {
        handle.close();
    }
}
