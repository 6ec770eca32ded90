package io.memora;

/** How a cache is made. Immutable: each method gives a changed copy. */
public final class CacheOptions {
    final long limit;
    final long entries;
    final boolean rejects;
    final boolean events;
    final boolean transactions;

    private CacheOptions(long limit, long entries, boolean rejects, boolean events, boolean transactions) {
        this.limit = limit;
        this.entries = entries;
        this.rejects = rejects;
        this.events = events;
        this.transactions = transactions;
    }

    /** A full cache takes new entries and gives up what is least likely to be asked for again. */
    public static CacheOptions evicting() {
        return new CacheOptions(0, 0, false, false, false);
    }

    /** A full cache answers {@link ErrorCode#FULL}: nothing is lost that was not deleted and has not expired. */
    public static CacheOptions rejecting() {
        return new CacheOptions(0, 0, true, false, false);
    }

    /** Bytes that the cache may use at most, its index included; otherwise what the fabric has and nobody else needs. */
    public CacheOptions limit(long bytes) {
        return new CacheOptions(positive("limit", bytes), entries, rejects, events, transactions);
    }

    /** The most entries; otherwise any number. */
    public CacheOptions entries(long most) {
        return new CacheOptions(limit, positive("entries", most), rejects, events, transactions);
    }

    /** What happens to entries is told to those who listen: {@link Cache#events}. */
    public CacheOptions withEvents() {
        return new CacheOptions(limit, entries, rejects, true, transactions);
    }

    /** Transactions of stores may change it. Each entry takes 24 bytes more. */
    public CacheOptions withTransactions() {
        return new CacheOptions(limit, entries, rejects, events, true);
    }

    private static long positive(String name, long number) {
        if (number <= 0) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "`" + name + "` is " + number
                    + ": give at least 1, or leave it out. " + ErrorCode.INVALID_ARGUMENT.remedy(), 0, null);
        }
        return number;
    }
}
