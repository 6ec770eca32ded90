package io.memora;

/**
 * What was done to a cache. Reading by processes that opened the fabric for reading only is not counted.
 *
 * @param hits keys read that were there
 * @param misses keys read that were not there, or had expired
 * @param sets entries stored, by whatever call
 * @param deletes entries deleted
 * @param evictedSmall entries evicted from among the young, which were not read often enough
 * @param evictedMain entries evicted from among the old, which were not read any more
 * @param expired expired entries that were removed to make room
 * @param flushed flushed entries that were removed to make room
 */
public record CacheCounts(
        long hits, long misses, long sets, long deletes, long evictedSmall, long evictedMain, long expired, long flushed) {
    /** The part of all reads that found their key; 0 before the first. */
    public double hitRatio() {
        return hits + misses == 0 ? 0 : (double) hits / (hits + misses);
    }

    /** All entries evicted for want of room. */
    public long evictions() {
        return evictedSmall + evictedMain;
    }

    static CacheCounts read(Figures figures) {
        return new CacheCounts(
                figures.next(), figures.next(), figures.next(), figures.next(), figures.next(), figures.next(),
                figures.next(), figures.next());
    }
}
