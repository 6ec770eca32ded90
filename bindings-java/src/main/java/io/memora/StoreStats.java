package io.memora;

/**
 * Figures of a store.
 *
 * @param entries entries
 * @param liveBytes bytes of live records in memory
 * @param flushes flushes that wrote something, by all processes
 * @param flushedRecords records written by flushes
 * @param flushedBytes bytes written by flushes
 * @param journalBytes bytes of journal since the last checkpoint of a shard
 * @param checkpointBytes bytes of the checkpoints that count, one of each shard
 * @param checkpoints checkpoints of single shards so far, over the life of the files
 * @param poisoned whether a failed sync made the store read-only
 * @param snapshots snapshots that are open
 * @param snapshotsCancelled snapshots that were cancelled, over the life of the store in memory
 * @param snapshotOldestMillis for how long the oldest snapshot has been open; 0 without any
 * @param snapshotBytes bytes of memory that would be free without snapshots
 * @param shards shards that the files are divided into; 0 without files
 */
public record StoreStats(
        long entries, long liveBytes, long flushes, long flushedRecords, long flushedBytes, long journalBytes,
        long checkpointBytes, long checkpoints, boolean poisoned, long snapshots, long snapshotsCancelled,
        long snapshotOldestMillis, long snapshotBytes, int shards) {
    static StoreStats read(Figures figures) {
        return new StoreStats(
                figures.next(), figures.next(), figures.next(), figures.next(), figures.next(), figures.next(),
                figures.next(), figures.next(), figures.next() != 0, figures.next(), figures.next(),
                figures.next(), figures.next(), (int) figures.next());
    }
}
