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
import java.util.Optional;
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
    private static final long HELD = -1;
    private static final long HELD_BY_THIS_THREAD = -2;

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

    /**
     * The value of a key; when it is not there, what {@code compute} makes, which is stored. Of all threads of all processes that ask at
     * once one computes, and the others wait up to {@code wait} for its value. When {@code compute} throws, or its process is killed, the
     * next one computes. Of an entry that was {@linkplain #invalidate invalidated}, the first who asks computes, and the others get what
     * is out of date without waiting.
     *
     * @throws MemoraException {@link ErrorCode#TIMED_OUT} when who computes lives and was not ready in time, or when the waiting thread was
     *     interrupted, whose mark stays; {@link ErrorCode#BUSY} when {@code compute} asks for its own key
     * @throws X what {@code compute} throws
     */
    public <X extends Exception> byte[] getOrCompute(byte[] key, SetOptions options, Duration wait, Compute<X> compute) throws X {
        Objects.requireNonNull(options, "options");
        Objects.requireNonNull(compute, "compute");
        try (Lease lease = lease(key, wait)) {
            if (lease.entry() != null) {
                return lease.entry().value();
            }
            byte[] value = Objects.requireNonNull(compute.compute(key), "compute gave null");
            lease.fill(value, options);
            return value;
        }
    }

    /**
     * The entry of a key, or the right to make it: what {@link #getOrCompute} is made of. Close the lease.
     *
     * @throws MemoraException {@link ErrorCode#TIMED_OUT} when somebody who lives is making it and was not ready in time, or when the
     *     thread was interrupted, whose mark stays; {@link ErrorCode#BUSY} when that is this very thread
     */
    public Lease lease(byte[] key, Duration wait) {
        Lease[] found = new Lease[1];
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            Waiting.until(wait, micros -> {
                found[0] = attempt(scratch, keyLen, micros);
                return found[0] == null ? Waiting.NONE : 0;
            });
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
        if (found[0] == null) {
            throw MemoraException.of(ErrorCode.TIMED_OUT, "Another thread makes the value and lives; it was not ready in " + wait + ". "
                    + ErrorCode.TIMED_OUT.remedy(), 0);
        }
        return found[0];
    }

    private Lease attempt(Scratch scratch, int keyLen, int micros) {
        byte[] entry = Native.lease(handle.number(), scratch.keyAddress(), keyLen, micros, scratch.valueAddress());
        if (entry != null) {
            return new Lease(this, entry(entry));
        }
        long token = scratch.valueLong(0);
        if (token == HELD_BY_THIS_THREAD && !Scratch.virtual()) {
            throw MemoraException.of(ErrorCode.BUSY, "This very thread makes the value: it would wait for itself. "
                    + ErrorCode.BUSY.remedy(), 0);
        }
        // Another virtual thread may have the right on the same carrier: that one is waited for as for any other.
        return token == HELD || token == HELD_BY_THIS_THREAD ? null : new Lease(this, token);
    }

    /**
     * Marks an entry as out of date: it may be shown for so long (null: as long as it would have lived), and the first who asks by
     * {@link #getMeta}, {@link #lease} or {@link #getOrCompute} is the one who makes it anew. It gets a new version, so that what was made
     * from the old one cannot be stored by {@link #compareAndSwap}. The version, or {@link #NOT_STORED} when there is no such entry.
     */
    public long invalidate(byte[] key, Duration staleFor) {
        long staleMillis = ttlMillis(staleFor);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return Native.invalidate(handle.number(), scratch.keyAddress(), keyLen, staleMillis);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * The entry of a key, and whether the caller is to make it anew: the first who sees it when it is out of date, or when it has less than
     * {@code recacheBelow} to live (null: that does not count). Everybody gets the value; null when there is none. Who makes it anew sets
     * it, best by {@link #compareAndSwap} with the version of this entry.
     */
    public MetaEntry getMeta(byte[] key, Duration recacheBelow) {
        long recacheMillis = ttlMillis(recacheBelow);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            Entry found = entry(Native.getMeta(
                    handle.number(), scratch.keyAddress(), keyLen, recacheMillis, scratch.valueAddress()));
            int marks = scratch.valueInt(0);
            return found == null ? null : new MetaEntry(found, (marks & 1) != 0, (marks & 2) != 0, (marks & 4) != 0);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Empties the cache at one moment, however many entries there are. */
    public void flush() {
        Native.cacheFlush(handle.number());
        Reference.reachabilityFence(this);
    }

    /** What more or less memory would give; empty while not enough was read. */
    public Optional<Advice> advice() {
        String text = Native.advice(handle.number());
        Reference.reachabilityFence(this);
        return text.isEmpty() ? Optional.empty() : Optional.of(Advice.read(Figures.lines(text)));
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
