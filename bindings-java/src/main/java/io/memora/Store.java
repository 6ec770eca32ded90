package io.memora;

import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;

/**
 * Entries that are kept in files too: a journal of all writes, and checkpoints. They survive the death of all processes and the
 * loss of the shared memory; how soon a write does, its {@link Durability} says.
 */
public final class Store extends Entries {
    Store(Fabric fabric, String name, long number) {
        super(fabric, name, number);
    }

    /** Stores a value with a durability of its own, and gives its version. */
    public long set(byte[] key, byte[] value, Durability durability) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return Native.storeSetDurable(
                    handle.number(), scratch.keyAddress(), keyLen, value, 0, value.length, durability.ordinal());
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Begins a transaction, with the durability of this store. Close it when it is not committed: best in a {@code try}. It is shut with
     * this store.
     */
    public Transaction transaction() {
        long number = Native.transaction(handle.number());
        Reference.reachabilityFence(this);
        return new Transaction(this, number);
    }

    /**
     * Does {@code body} with a transaction and commits it, again from the start as long as others are in the way, to whom it gives some
     * time. What the body throws, other than {@link MemoraException.Conflict}, gives the transaction up and comes out of this call.
     *
     * @return what the body gave
     * @throws MemoraException.Conflict when others were in the way each of 1000 times
     */
    public <T, X extends Exception> T transact(TransactionBody<T, X> body) throws X {
        return Transaction.retried(this, body);
    }

    /**
     * Takes a snapshot: from now on it shows the same, whatever is done to this store. Close it; it is shut with this store.
     *
     * @throws MemoraException {@link ErrorCode#TOO_MANY_SNAPSHOTS} when 64 of this store are open; {@link ErrorCode#READ_ONLY} of a
     *     fabric that was opened for reading only
     */
    public Snapshot snapshot() {
        long number = Native.snapshot(handle.number());
        Reference.reachabilityFence(this);
        return new Snapshot(this, number);
    }

    /**
     * Sets for all processes what snapshots of this store may cost, until it is set anew. Without it: a minute, and 25 percent.
     *
     * @param age an older one is cancelled when a writer takes more memory
     * @param percent of the fabric's memory that may be kept for them; beyond it the oldest are cancelled
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} of no time, or of 0 or more than 100 percent
     */
    public void limitSnapshots(Duration age, int percent) {
        // A part of a millisecond counts as one; what is no time stays none.
        Native.storeLimitSnapshots(handle.number(), age.plusNanos(999_999).toMillis(), percent);
        Reference.reachabilityFence(this);
    }

    /** Returns when every write that was acknowledged before is on disk. */
    public void flush() {
        Native.storeFlush(handle.number());
        Reference.reachabilityFence(this);
    }

    /** Writes a checkpoint, so that the journal before it can go. */
    public void checkpoint() {
        Native.storeCheckpoint(handle.number());
        Reference.reachabilityFence(this);
    }

    /**
     * Changes how many shards the files of the store are divided into, while everybody goes on reading and writing. Returns when they are
     * divided so: a checkpoint of each new shard is written. {@link #stats()} says how many there are.
     *
     * @param shards 1 to 64
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} of another number, or of a store without files
     */
    public void setShards(int shards) {
        Native.storeSetShards(handle.number(), shards);
        Reference.reachabilityFence(this);
    }

    /**
     * Goes over the entries whose keys lie between two bounds, in the order of their bytes, at most {@code limit} of them. Keys come in
     * strict order; an entry that is there during the whole scan comes once, one that comes or goes meanwhile may. The store must have
     * been made {@link StoreOptions#ordered ordered}, else this throws {@link ErrorCode#NOT_ORDERED}.
     *
     * @param from the least key, or null for no bound
     * @param to the key behind the greatest, or null for no bound
     * @return null if there is nothing more; else what to go on with as {@code from}, or backwards as {@code to}
     */
    public byte[] range(byte[] from, byte[] to, Direction direction, int limit, EntryConsumer consumer) {
        byte[] next = Ranges.over(from, to, direction, limit, consumer,
                (least, behind, backward, most) -> Native.storeRange(handle.number(), least, behind, backward, most));
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

    /** The changes of all keys, from a place on, as {@link #feed(FeedFrom, byte[])} does. */
    public Feed feed(FeedFrom from) {
        return feed(from, new byte[0]);
    }

    /**
     * The committed changes of keys that begin with {@code prefix}, from a place on. The store must keep a feed: {@link
     * StoreOptions#feedBytes}.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} if it keeps none; {@link ErrorCode#POSITION_TRIMMED} if the files of the
     *     place were removed: then read the store as it is, and go on with {@link FeedFrom#NEWEST}, opened before; {@link
     *     ErrorCode#POSITION_FOREIGN} if the place is one of another store; {@link ErrorCode#POSITION_AHEAD} if the store has not given it
     */
    public Feed feed(FeedFrom from, byte[] prefix) {
        Objects.requireNonNull(prefix, "prefix");
        FeedPosition position = Objects.requireNonNull(from, "from").position;
        long number = Native.feed(handle.number(), from.from, position.store(), position.flush(), position.index(), prefix);
        Reference.reachabilityFence(this);
        return new Feed(this, number);
    }

    /**
     * Writes a backup into a directory, which must be empty or not there, while everybody goes on writing. It holds everything that
     * was acknowledged before the call, and of each key one whole state. {@link StoreFiles#restore} makes a store of it.
     */
    public BackupInfo backup(Path directory) {
        String text = Native.storeBackup(handle.number(), directory.toString());
        Reference.reachabilityFence(this);
        return BackupInfo.read(Figures.of(text));
    }

    /** Figures of this store. */
    public StoreStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        return StoreStats.read(Figures.of(text));
    }
}
