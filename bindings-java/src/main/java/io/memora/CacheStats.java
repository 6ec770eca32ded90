package io.memora;

import java.time.Duration;
import java.util.Optional;

/**
 * Figures of a cache.
 *
 * @param entries entries, expired ones that were not yet removed included
 * @param liveBytes bytes of the records of these entries, keys and headers included
 * @param deadBytes bytes of replaced and deleted records that were not yet reclaimed
 * @param capacityBytes bytes of records that the cache may hold now
 * @param recordChunks chunks of records
 * @param indexChunks chunks of the index
 * @param counts what was done since the cache was made, by all processes, also those that are gone
 * @param chunks the chunks of records by what is done with them
 * @param evictedSmallAge how long entries evicted from among the young had been there, as a moving mean; empty before the first
 * @param evictedMainAge the same for those evicted from among the old
 */
public record CacheStats(
        long entries, long liveBytes, long deadBytes, long capacityBytes, long recordChunks, long indexChunks,
        CacheCounts counts, ChunkStates chunks, Optional<Duration> evictedSmallAge, Optional<Duration> evictedMainAge) {
    /**
     * Chunks of records by what is done with them.
     *
     * @param open threads append to them
     * @param sealed they are full
     * @param cleaning they are being cleaned, or evicted from
     * @param quiet they hold nothing any more and wait for views to end
     */
    public record ChunkStates(long open, long sealed, long cleaning, long quiet) {}

    static CacheStats read(Figures figures) {
        return new CacheStats(
                figures.next(), figures.next(), figures.next(), figures.next(), figures.next(), figures.next(),
                CacheCounts.read(figures),
                new ChunkStates(figures.next(), figures.next(), figures.next(), figures.next()),
                figures.nextMillis(), figures.nextMillis());
    }
}
