package io.memora;

import java.time.Duration;
import java.util.Objects;

/** How a value is stored: how long it lives, and 32 bits of the user's own beside it. Immutable. */
public final class SetOptions {
    /** For ever, flags 0. */
    public static final SetOptions NONE = new SetOptions(-1, 0);

    final long ttlMillis;
    final int flags;

    private SetOptions(long ttlMillis, int flags) {
        this.ttlMillis = ttlMillis;
        this.flags = flags;
    }

    /** An entry that expires after this time, in milliseconds rounded up. */
    public static SetOptions ttl(Duration ttl) {
        return NONE.withTtl(ttl);
    }

    /** The same with another time to live. */
    public SetOptions withTtl(Duration ttl) {
        Objects.requireNonNull(ttl, "ttl");
        if (ttl.isNegative() || ttl.isZero()) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "The time to live is " + ttl
                    + ": it must be longer than nothing. To remove an entry, delete it.", 0, null);
        }
        return new SetOptions(Math.max(1, ttl.plusNanos(999_999).toMillis()), flags);
    }

    /** The same with other flags. */
    public SetOptions withFlags(int newFlags) {
        return new SetOptions(ttlMillis, newFlags);
    }
}
