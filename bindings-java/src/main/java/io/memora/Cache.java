package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.OptionalLong;

/**
 * Entries in the shared memory of a fabric, for all of its processes. What one process stores, all others see at once; a process
 * may be killed at any moment, and what it had stored stays. A cache that is full gives up what is least likely to be asked for
 * again, unless it was made {@linkplain CacheOptions#rejecting to refuse}.
 *
 * <pre>{@code
 * try (Fabric fabric = Fabric.open("orders"); Cache prices = fabric.cache("prices")) {
 *     prices.set("EURUSD".getBytes(UTF_8), quote, SetOptions.ttl(Duration.ofSeconds(5)));
 * }
 * }</pre>
 */
public final class Cache extends Entries {
    private static final int APPEND = 3;
    private static final int PREPEND = 4;

    Cache(Fabric fabric, String name, long number) {
        super(fabric, name, number);
    }

    /** Puts bytes behind the value that is there; its flags and time to live stay. The version, or {@link #NOT_STORED}. */
    public long append(byte[] key, byte[] bytes) {
        return put(APPEND, key, bytes, SetOptions.NONE);
    }

    /** Puts bytes in front of the value that is there; its flags and time to live stay. The version, or {@link #NOT_STORED}. */
    public long prepend(byte[] key, byte[] bytes) {
        return put(PREPEND, key, bytes, SetOptions.NONE);
    }

    /** Removes an entry if it still has this version, which {@link #getEntry} or a write gave. */
    public DeleteResult deleteIf(byte[] key, long version) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int answer = Native.deleteIf(
                    handle.number(), scratch.keyAddress(), keyLen, version, scratch.valueAddress());
            return switch (answer) {
                case 1 -> new DeleteResult(DeleteResult.Outcome.DELETED, -1);
                case -2 -> new DeleteResult(DeleteResult.Outcome.STALE, scratch.valueLong(0));
                default -> new DeleteResult(DeleteResult.Outcome.NOT_FOUND, -1);
            };
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Gives an entry another time to live from now on; null: for ever. Its version stays. Whether there is such an entry. */
    public boolean touch(byte[] key, Duration ttl) {
        long ttlMillis = ttlMillis(ttl);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return Native.touch(handle.number(), scratch.keyAddress(), keyLen, ttlMillis) != 0;
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** As {@link #touch}, and gives the entry with its new time to live, or null when there is none. */
    public Entry getAndTouch(byte[] key, Duration ttl) {
        long ttlMillis = ttlMillis(ttl);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return entry(Native.getAndTouch(handle.number(), scratch.keyAddress(), keyLen, ttlMillis));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Stores a value for ever and gives the entry that was there, or null. */
    public Entry getAndSet(byte[] key, byte[] value) {
        return getAndSet(key, value, SetOptions.NONE);
    }

    /** Stores a value and gives the entry that was there, or null. */
    public Entry getAndSet(byte[] key, byte[] value, SetOptions options) {
        Objects.requireNonNull(value, "value");
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return entry(Native.getAndSet(
                    handle.number(), scratch.keyAddress(), keyLen, value, options.ttlMillis, options.flags));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Removes an entry and gives it, or null when there is none. */
    public Entry getAndDelete(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return entry(Native.getAndDelete(handle.number(), scratch.keyAddress(), keyLen));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Adds to an entry that is a decimal number, by the rules of {@code options}, and gives the new number; empty when there is no
     * entry and no initial number. A negative {@code by} counts down. An error leaves the entry as it was.
     */
    public OptionalLong count(byte[] key, long by, CounterOptions options) {
        boolean down = by < 0 && !options.isSigned();
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            int found = Native.countWith(
                    handle.number(), scratch.keyAddress(), keyLen, options.kind, down, down ? -by : by,
                    options.hasInitial, options.initial, options.ttlMillis, options.renewTtl, scratch.valueAddress());
            return found == 0 ? OptionalLong.empty() : OptionalLong.of(scratch.valueLong(0));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Looks at the value of a key where it stands, without a copy; null when there is none. Close the view. */
    public View view(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            long number = Native.view(handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress());
            if (number == 0) {
                return null;
            }
            boolean copy = scratch.valueInt(28) != 0;
            return new View(number, viewed(number, copy), scratch.valueLong(0), scratch.valueLong(8), scratch.valueInt(24), copy);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** The bytes of a view. What goes wrong here closes it. */
    private ByteBuffer viewed(long number, boolean copy) {
        try {
            if (copy) {
                byte[] bytes = Native.viewBytes(number);
                return ByteBuffer.allocateDirect(bytes.length).put(bytes).flip().asReadOnlyBuffer();
            }
            ByteBuffer buffer = Native.viewBuffer(number);
            // Also of a view that was closed long ago, as long as somebody has the buffer or a slice of it.
            Handle.outlive(buffer, fabric().memory(number));
            return buffer.asReadOnlyBuffer();
        } catch (Throwable error) {
            Native.close(number);
            throw error;
        }
    }

    /**
     * Listens to what happens to the entries from now on.
     *
     * @throws MemoraException {@link ErrorCode#UNSUPPORTED} when the cache was made without {@linkplain CacheOptions#withEvents events}
     */
    public EventSubscriber events() {
        long number = Native.events(handle.number());
        Reference.reachabilityFence(this);
        return new EventSubscriber(this, number);
    }

    /** Figures of this cache. */
    public CacheStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        return CacheStats.read(Figures.of(text));
    }

    /** What each attached process did to this cache. */
    public List<ProcessCounts> processCounts() {
        String text = Native.processCounts(handle.number());
        Reference.reachabilityFence(this);
        return Figures.lines(text).stream().map(ProcessCounts::read).toList();
    }

    private static long ttlMillis(Duration ttl) {
        return ttl == null ? -1 : SetOptions.ttl(ttl).ttlMillis;
    }

    private static Entry entry(byte[] bytes) {
        return bytes == null ? null : entry(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
    }
}
