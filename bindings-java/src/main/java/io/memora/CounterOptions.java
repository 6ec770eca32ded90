package io.memora;

import java.time.Duration;

/** How {@link Cache#count} counts. Immutable: each method gives a changed copy. */
public final class CounterOptions {
    private static final int UNSIGNED = 0;
    private static final int WRAPPING = 1;
    private static final int SIGNED = 2;

    final int kind;
    final boolean hasInitial;
    final long initial;
    final long ttlMillis;
    final boolean renewTtl;

    private CounterOptions(int kind, boolean hasInitial, long initial, long ttlMillis, boolean renewTtl) {
        this.kind = kind;
        this.hasInitial = hasInitial;
        this.initial = initial;
        this.ttlMillis = ttlMillis;
        this.renewTtl = renewTtl;
    }

    /**
     * Numbers of 64 bits without a sign: counting beyond is {@link ErrorCode#COUNTER_OVERFLOW}, counting down stops at 0. Print them
     * with {@link Long#toUnsignedString(long)} if they may be that large.
     */
    public static CounterOptions unsigned() {
        return new CounterOptions(UNSIGNED, false, 0, -1, false);
    }

    /** The numbers of memcached: 64 bits without a sign, counting up begins again at 0, counting down stops at 0. */
    public static CounterOptions wrapping() {
        return new CounterOptions(WRAPPING, false, 0, -1, false);
    }

    /** The numbers of Redis: 64 bits with a sign; leaving them is {@link ErrorCode#COUNTER_OVERFLOW}. */
    public static CounterOptions signed() {
        return new CounterOptions(SIGNED, false, 0, -1, false);
    }

    /** What an entry that is missing is set to, and nothing is added to it. */
    public CounterOptions initial(long number) {
        return new CounterOptions(kind, true, number, ttlMillis, renewTtl);
    }

    /** How long an entry lives that is made so. */
    public CounterOptions ttl(Duration ttl) {
        return new CounterOptions(kind, hasInitial, initial, SetOptions.ttl(ttl).ttlMillis, renewTtl);
    }

    /** An entry that is there gets the time to live as well, or none; otherwise it keeps its own. */
    public CounterOptions renewTtl() {
        return new CounterOptions(kind, hasInitial, initial, ttlMillis, true);
    }

    boolean isSigned() {
        return kind == SIGNED;
    }
}
