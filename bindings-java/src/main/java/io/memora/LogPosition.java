package io.memora;

/** Where a reader of a log begins. */
public final class LogPosition {
    /** The oldest message that is kept. */
    public static final LogPosition OLDEST = new LogPosition(0, 0);
    /** What is published from now on. */
    public static final LogPosition NEWEST = new LogPosition(1, 0);

    final int from;
    final long position;

    private LogPosition(int from, long position) {
        this.from = from;
        this.position = position;
    }

    /** The message at this position. */
    public static LogPosition at(long position) {
        return new LogPosition(2, position);
    }
}
