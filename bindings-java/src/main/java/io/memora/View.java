package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;

/**
 * A value of a cache, looked at where it stands: no copy is made, however long it is.
 *
 * <p>The bytes stay as they are until this is closed, whatever becomes of the entry, and nobody is blocked: others overwrite, delete
 * and evict the entry meanwhile. But the room is not used again before, so keep views for moments, and close them: {@code try (View
 * view = cache.view(key))}. Views hold at most a quarter of a fabric; beyond that one holds a copy ({@link #isCopy}).
 *
 * <p><b>Any thread may call any method.</b> Closing the cache or the fabric does not end a view; the end of the process does.
 */
public final class View implements AutoCloseable {
    private final Handle handle;
    private final ByteBuffer bytes;
    private final long version;
    private final long ttlMillis;
    private final int flags;
    private final boolean copy;

    View(long number, ByteBuffer bytes, long version, long ttlMillis, int flags, boolean copy) {
        this.bytes = bytes;
        this.version = version;
        this.ttlMillis = ttlMillis;
        this.flags = flags;
        this.copy = copy;
        this.handle = new Handle(this, number);
    }

    /**
     * The bytes, read-only and direct, from position 0 on; a buffer of its own for each call. Do not use it after this view is closed:
     * reading it then does no harm, but what it shows is anybody's.
     *
     * @throws MemoraException.Closed after {@link #close}
     */
    public ByteBuffer bytes() {
        ByteBuffer buffer = bytes.duplicate();
        check();
        return buffer;
    }

    /**
     * A copy of the bytes.
     *
     * @throws MemoraException.Closed after {@link #close}
     */
    public byte[] toArray() {
        byte[] array = new byte[bytes.capacity()];
        bytes.get(0, array);
        // Not closed now, so not closed while they were read.
        check();
        return array;
    }

    private void check() {
        Native.viewOpen(handle.number());
        Reference.reachabilityFence(this);
    }

    /** How many bytes there are. */
    public int length() {
        return bytes.capacity();
    }

    /** The version of the entry that is looked at; what {@link Entries#compareAndSwap} takes. */
    public long version() {
        return version;
    }

    /** The 32 bits that were given with the value. */
    public int flags() {
        return flags;
    }

    /** Milliseconds that the entry had to live when this was made, or -1 when it does not expire. */
    public long ttlMillis() {
        return ttlMillis;
    }

    /** Whether the bytes are a copy after all. */
    public boolean isCopy() {
        return copy;
    }

    /** Lets the bytes go. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
