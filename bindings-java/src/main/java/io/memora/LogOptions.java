package io.memora;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;

/** How a log is made. Immutable: each method gives a changed copy. */
public final class LogOptions {
    private static final int INTERVAL_MILLIS = 100;

    long bytes;
    long ageMillis;
    boolean keepsForReaders;
    /** Null: in memory only. */
    Path directory;
    Durability durability = Durability.ASYNC;
    int intervalMillis = INTERVAL_MILLIS;
    long fileBytesMax;
    long fileBytes;

    private LogOptions() {}

    /** 16 MiB, whatever the age; what is in the way is trimmed. */
    public static LogOptions defaults() {
        return new LogOptions();
    }

    private LogOptions copy() {
        LogOptions copy = new LogOptions();
        copy.bytes = bytes;
        copy.ageMillis = ageMillis;
        copy.keepsForReaders = keepsForReaders;
        copy.directory = directory;
        copy.durability = durability;
        copy.intervalMillis = intervalMillis;
        copy.fileBytesMax = fileBytesMax;
        copy.fileBytes = fileBytes;
        return copy;
    }

    private static MemoraException invalid(String text) {
        return new MemoraException(ErrorCode.INVALID_ARGUMENT, text, 0, null);
    }

    private static long positive(String name, long value) {
        if (value <= 0) {
            throw invalid(name + " is " + value + ": it must be positive.");
        }
        return value;
    }

    /**
     * Bytes that the log takes at most: a power of two from 256 KiB to 1 GiB. Longer messages than a 128th part take chunks of the fabric besides: as many
     * bytes again are kept of them, or one.
     */
    public LogOptions bytes(long newBytes) {
        LogOptions copy = copy();
        copy.bytes = positive("bytes", newBytes);
        return copy;
    }

    /** Messages older than this are trimmed, even if there is room: whole milliseconds. */
    public LogOptions age(Duration newAge) {
        Objects.requireNonNull(newAge, "newAge");
        if (newAge.isNegative() || newAge.isZero() || newAge.getNano() % 1_000_000 != 0) {
            throw invalid("age is " + newAge + ": it must be whole milliseconds.");
        }
        LogOptions copy = copy();
        copy.ageMillis = newAge.toMillis();
        return copy;
    }

    /** Nothing is trimmed that a named reader has still to read: appending gets {@link ErrorCode#LOG_FULL} instead. */
    public LogOptions keepsForReaders() {
        LogOptions copy = copy();
        copy.keepsForReaders = true;
        return copy;
    }

    /**
     * The messages also stand in files of this directory, which belongs to this log alone and is made if it is missing: after the loss of
     * the shared memory the log goes on where they end. Readers that are far behind read the files.
     */
    public LogOptions in(Path newDirectory) {
        LogOptions copy = copy();
        copy.directory = Objects.requireNonNull(newDirectory, "newDirectory");
        return copy;
    }

    /** What messages survive that are appended through this handle, on a log with files: {@link Durability#ASYNC} unless this is called. */
    public LogOptions durability(Durability newDurability) {
        LogOptions copy = copy();
        copy.durability = Objects.requireNonNull(newDurability, "newDurability");
        return copy;
    }

    /** How often {@link Durability#ASYNC} syncs: 100 ms unless this is called. */
    public LogOptions interval(Duration interval) {
        long millis = interval.toMillis();
        if (millis < 1 || millis > 60_000) {
            throw invalid("The interval is " + interval + ": it must be from 1 ms to 60 s.");
        }
        LogOptions copy = copy();
        copy.intervalMillis = (int) millis;
        return copy;
    }

    /** Bytes that the files may take, at least four times {@link #fileBytes}: then the oldest one is removed. */
    public LogOptions fileBytesMax(long newFileBytesMax) {
        LogOptions copy = copy();
        copy.fileBytesMax = positive("fileBytesMax", newFileBytesMax);
        return copy;
    }

    /** Bytes of each file, a multiple of 4096 up to 64 MiB; 16 MiB unless this is called. */
    public LogOptions fileBytes(long newFileBytes) {
        LogOptions copy = copy();
        copy.fileBytes = positive("fileBytes", newFileBytes);
        return copy;
    }
}
