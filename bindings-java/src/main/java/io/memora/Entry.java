package io.memora;

/** A value with what stands beside it. */
public final class Entry {
    private final byte[] value;
    private final long version;
    private final int flags;
    private final long ttlMillis;

    Entry(byte[] value, long version, int flags, long ttlMillis) {
        this.value = value;
        this.version = version;
        this.flags = flags;
        this.ttlMillis = ttlMillis;
    }

    /** The value: this array belongs to the caller. */
    public byte[] value() {
        return value;
    }

    /** Names this value of this entry for ever; what {@link Entries#compareAndSwap} takes. */
    public long version() {
        return version;
    }

    /** The 32 bits that were given with the value. */
    public int flags() {
        return flags;
    }

    /** Milliseconds until the entry expires, or -1 when it does not. */
    public long ttlMillis() {
        return ttlMillis;
    }
}
