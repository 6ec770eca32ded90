package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;

/**
 * A {@link Store} as it was at one moment, however long one reads in it: {@code try (Snapshot snapshot = store.snapshot())}. Writers and
 * transactions go on meanwhile.
 *
 * <p>Every change that was acknowledged before it was taken is in it, none that was begun afterwards, and of each transaction all or
 * nothing. What had expired then is not in it, what expires later stays.
 *
 * <p>What it needs stays in memory until it is closed, so close it. <b>That is bounded</b>: one that is open for too long, or for which too
 * much is kept ({@link Store#limitSnapshots}), is cancelled when a writer needs the memory. From then on its reads throw {@link
 * ErrorCode#SNAPSHOT_TOO_OLD}; what was read before was right. Take a new one then and begin again.
 *
 * <p><b>Any thread may call any method at any time</b>, also {@link #close}. It ends with the store that it was taken of: when that
 * closes, its methods throw {@link MemoraException.Closed}.
 *
 * <p>Buffers are read and written from their position on, and their position and limit stay as they are.
 */
public final class Snapshot implements AutoCloseable {
    /** Answer of {@link #get(ByteBuffer, ByteBuffer)}: there was no such entry. */
    public static final int MISS = Entries.MISS;

    private final Handle handle;
    /** Holds the store open for as long as this is in use. */
    private final Store store;
    private final Lookups.Source source;

    Snapshot(Store store, long number) {
        this.store = store;
        this.handle = new Handle(this, number);
        this.source = new Reading(number);
    }

    /** Names the snapshot without holding it. */
    private record Reading(long number) implements Lookups.Source {
        @Override
        public int into(long key, int keyLen, long out, int capacity) {
            return Native.snapshotGet(number, key, keyLen, out, capacity);
        }

        @Override
        public byte[] array(long key, int keyLen) {
            return Native.snapshotGetArray(number, key, keyLen);
        }
    }

    /** The store that this is a snapshot of. */
    public Store store() {
        return store;
    }

    /** A copy of the value that a key had, or null when there was none. */
    public byte[] get(byte[] key) {
        Entry entry = getEntry(key);
        return entry == null ? null : entry.value();
    }

    /** The entry that a key had, with the version, flags and remaining time of then, or null when there was none. */
    public Entry getEntry(byte[] key) {
        Entry entry = Lookups.entry(key, source);
        Reference.reachabilityFence(this);
        return entry;
    }

    /**
     * Copies the value that a key had to where {@code out} stands.
     *
     * @return the length of the value, or {@link #MISS}
     * @throws MemoraException {@link ErrorCode#BUFFER_TOO_SMALL} when it does not fit: {@link MemoraException#amount} is its
     *     length, and nothing was written
     */
    public int get(ByteBuffer key, ByteBuffer out) {
        int len = Lookups.copy(key, out, source);
        Reference.reachabilityFence(this);
        return len;
    }

    /**
     * Goes over about {@code limit} entries from a cursor on (0 is the beginning) and gives the next cursor, 0 at the end. Each entry comes
     * exactly once.
     */
    public long scan(long cursor, int limit, EntryConsumer consumer) {
        long next = Scans.over(cursor, limit, consumer, (from, most) -> Native.snapshotScan(handle.number(), from, most));
        Reference.reachabilityFence(this);
        return next;
    }

    /** Goes over all entries, each exactly once. */
    public void forEach(EntryConsumer consumer) {
        long cursor = 0;
        do {
            cursor = scan(cursor, Scans.BATCH, consumer);
        } while (cursor != 0);
    }

    /**
     * Goes over the entries whose keys lie between two bounds, as {@link Store#range} does, but as they were: each comes exactly once. The
     * store must have been made {@link StoreOptions#ordered ordered}, else this throws {@link ErrorCode#NOT_ORDERED}.
     *
     * @param from the least key, or null for no bound
     * @param to the key behind the greatest, or null for no bound
     * @return null if there is nothing more; else what to go on with as {@code from}, or backwards as {@code to}
     */
    public byte[] range(byte[] from, byte[] to, Direction direction, int limit, EntryConsumer consumer) {
        byte[] next = Ranges.over(from, to, direction, limit, consumer,
                (least, behind, backward, most) -> Native.snapshotRange(handle.number(), least, behind, backward, most));
        Reference.reachabilityFence(this);
        return next;
    }

    /**
     * Goes over the entries whose keys begin with {@code prefix}, as {@link #range} does.
     *
     * @return null if there is nothing more; else what to go on with in {@link #range}, as {@code from}, or backwards as {@code to}
     */
    public byte[] prefix(byte[] prefix, Direction direction, int limit, EntryConsumer consumer) {
        return range(prefix, Ranges.endOfPrefix(prefix), direction, limit, consumer);
    }

    /** Ends this and gives back what is kept for it. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
