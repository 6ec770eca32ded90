package io.memora;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;

/** How a store is opened. Immutable: each method gives a changed copy. */
public final class StoreOptions {
    private static final int INTERVAL_MILLIS = 100;
    /** Whether keys are kept in order: as it was made; a new store does not. */
    private static final int AS_MADE = -1;
    /** How much is kept for the feed: as the directory says; a new one keeps none. */
    private static final long AS_SAID = -1;

    final Path directory;
    final Durability durability;
    final int intervalMillis;
    final long checkpointBytes;
    final int ordered;
    final long feedBytes;
    final int shards;

    private StoreOptions(
            Path directory, Durability durability, int intervalMillis, long checkpointBytes, int ordered, long feedBytes,
            int shards) {
        this.directory = directory;
        this.durability = durability;
        this.intervalMillis = intervalMillis;
        this.checkpointBytes = checkpointBytes;
        this.ordered = ordered;
        this.feedBytes = feedBytes;
        this.shards = shards;
    }

    /** A store without files: it survives the death of all processes, but not the loss of the shared memory. */
    public static StoreOptions inMemory() {
        return new StoreOptions(null, Durability.PROCESS, INTERVAL_MILLIS, 0, AS_MADE, AS_SAID, 0);
    }

    /** A store whose files are in this directory, with durability {@link Durability#ASYNC}. */
    public static StoreOptions in(Path directory) {
        Objects.requireNonNull(directory, "directory");
        return new StoreOptions(directory, Durability.ASYNC, INTERVAL_MILLIS, 0, AS_MADE, AS_SAID, 0);
    }

    /** What an acknowledged write survives. */
    public StoreOptions durability(Durability newDurability) {
        Objects.requireNonNull(newDurability, "newDurability");
        return new StoreOptions(directory, newDurability, intervalMillis, checkpointBytes, ordered, feedBytes, shards);
    }

    /** How often {@link Durability#ASYNC} syncs. */
    public StoreOptions interval(Duration interval) {
        long millis = interval.toMillis();
        if (millis < 1 || millis > 60_000) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "The interval is " + interval + ": it must be from 1 ms to 60 s.", 0, null);
        }
        return new StoreOptions(directory, durability, (int) millis, checkpointBytes, ordered, feedBytes, shards);
    }

    /** How long the journal grows before a checkpoint lets it go. */
    public StoreOptions checkpointBytes(long newCheckpointBytes) {
        if (newCheckpointBytes < 1) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "checkpointBytes is " + newCheckpointBytes + ": it must be at least 1.", 0, null);
        }
        return new StoreOptions(directory, durability, intervalMillis, newCheckpointBytes, ordered, feedBytes, shards);
    }

    /**
     * Whether the store keeps its keys in order, for {@link Store#range} and {@link Store#prefix}; it costs each new key some time and
     * memory. It is decided when the store is made: opening it otherwise throws {@link ErrorCode#WRONG_OPTIONS}. Unless this is called, a
     * store is opened as it was made, and a new one does not.
     */
    public StoreOptions ordered(boolean newOrdered) {
        return new StoreOptions(directory, durability, intervalMillis, checkpointBytes, newOrdered ? 1 : 0, feedBytes, shards);
    }

    /**
     * How many bytes of old journal are kept for {@link Store#feed}, which then has every committed change; 0: none, and of each key only
     * the last state of a flush is written. The directory remembers it; unless this is called, it stays as it is, and a new one keeps none.
     */
    public StoreOptions feedBytes(long newFeedBytes) {
        if (newFeedBytes < 0) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "feedBytes is " + newFeedBytes + ": it must not be negative.", 0, null);
        }
        return new StoreOptions(directory, durability, intervalMillis, checkpointBytes, ordered, newFeedBytes, shards);
    }

    /**
     * How many shards the files of a new store are divided into, 1 to 64; unless this is called, 4. A store whose files say how many there
     * are keeps that number: {@link Store#setShards} changes it.
     */
    public StoreOptions shards(int newShards) {
        if (newShards < 1 || newShards > 64) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "shards is " + newShards + ": it must be from 1 to 64.", 0, null);
        }
        return new StoreOptions(directory, durability, intervalMillis, checkpointBytes, ordered, feedBytes, newShards);
    }
}
