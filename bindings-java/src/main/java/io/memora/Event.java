package io.memora;

/**
 * A change of an entry.
 *
 * @param kind what happened
 * @param key the key; empty for a flush; only the first bytes of a key that is longer than an eighth of a ring
 * @param keyLength how many bytes the whole key has
 * @param version of a set: the version from then on; of an expiry and an eviction: that of the entry that is gone; of a flush: how
 *     many there were; otherwise 0
 */
public record Event(Kind kind, byte[] key, int keyLength, long version) {
    /** What happened to an entry. The order is that of the library's numbers, which begin with 1. */
    public enum Kind {
        /** It was stored, or got another time to live. */
        SET,
        /** It was deleted. */
        DELETE,
        /** It had expired and was removed. */
        EXPIRE,
        /** It was evicted for want of room. */
        EVICT,
        /** All entries were flushed. */
        FLUSH
    }
}
