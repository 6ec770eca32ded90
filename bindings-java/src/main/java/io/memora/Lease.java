package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * The answer of {@link Cache#lease}: an entry, or the right to make it.
 *
 * <p>The right belongs to the thread that asked: when that thread or its process ends, the next who asks makes the value. Closing this
 * without a {@link #fill} gives the right to the next at once.
 */
public final class Lease implements AutoCloseable {
    private final Cache cache;
    private final Entry entry;
    /** Only with the right. */
    private final Handle handle;

    Lease(Cache cache, Entry entry) {
        this.cache = cache;
        this.entry = entry;
        this.handle = null;
    }

    Lease(Cache cache, long number) {
        this.cache = cache;
        this.entry = null;
        this.handle = new Handle(this, number);
    }

    /** The entry that is there; null when the caller is the one who makes it. */
    public Entry entry() {
        return entry;
    }

    /** The cache that was asked. */
    public Cache cache() {
        return cache;
    }

    /** Stores the value for ever; see {@link #fill(byte[], SetOptions)}. */
    public long fill(byte[] value) {
        return fill(value, SetOptions.NONE);
    }

    /**
     * Stores the value, and uses the right up.
     *
     * @return its version, or {@link Entries#NOT_STORED} when the right was lost: the key was set, deleted or flushed meanwhile, or the
     *     thread that asked ended and another one took over
     */
    public long fill(byte[] value, SetOptions options) {
        Objects.requireNonNull(value, "value");
        if (handle == null) {
            throw new IllegalStateException("The entry is there: nobody is to make it.");
        }
        try {
            return Native.fill(handle.number(), value, options.ttlMillis, options.flags);
        } finally {
            handle.close();
            Reference.reachabilityFence(this);
        }
    }

    /** Gives the right up, if there is one. The second time does nothing. */
    @Override
    public void close() {
        if (handle != null) {
            handle.close();
        }
    }
}
