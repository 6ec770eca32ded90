package io.memora;

import java.time.Duration;
import java.util.Objects;

/** How a log is made. Immutable: each method gives a changed copy. */
public final class LogOptions {
    final long bytes;
    final long ageMillis;
    final boolean keepsForReaders;

    private LogOptions(long bytes, long ageMillis, boolean keepsForReaders) {
        this.bytes = bytes;
        this.ageMillis = ageMillis;
        this.keepsForReaders = keepsForReaders;
    }

    /** 16 MiB, whatever the age; what is in the way is trimmed. */
    public static LogOptions defaults() {
        return new LogOptions(0, 0, false);
    }

    /** Bytes that the log takes at most: a power of two from 256 KiB to 1 GiB. A message takes at most a 128th part. */
    public LogOptions bytes(long newBytes) {
        if (newBytes <= 0) {
            throw new MemoraException(
                    ErrorCode.INVALID_ARGUMENT, "bytes is " + newBytes + ": it must be positive.", 0, null);
        }
        return new LogOptions(newBytes, ageMillis, keepsForReaders);
    }

    /** Messages older than this are trimmed, even if there is room: whole milliseconds. */
    public LogOptions age(Duration newAge) {
        Objects.requireNonNull(newAge, "newAge");
        if (newAge.isNegative() || newAge.isZero() || newAge.getNano() % 1_000_000 != 0) {
            throw new MemoraException(
                    ErrorCode.INVALID_ARGUMENT, "age is " + newAge + ": it must be whole milliseconds.", 0, null);
        }
        return new LogOptions(bytes, newAge.toMillis(), keepsForReaders);
    }

    /** Nothing is trimmed that a named reader has still to read: appending gets {@link ErrorCode#LOG_FULL} instead. */
    public LogOptions keepsForReaders() {
        return new LogOptions(bytes, ageMillis, true);
    }
}
