package io.memora;

/**
 * A place in the change feed of a store: behind a change. To be kept, as numbers or as text, by whoever goes on there later.
 *
 * @param flush where a flush begins in the journal; unsigned
 * @param index how many records are behind one, counted from there; unsigned
 */
public record FeedPosition(long flush, long index) implements Comparable<FeedPosition> {
    /**
     * What {@link #toString} gave.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} when it is something else
     */
    public static FeedPosition parse(String text) {
        int dot = text.indexOf('.');
        try {
            return new FeedPosition(
                    Long.parseUnsignedLong(text.substring(0, Math.max(dot, 0))), Long.parseUnsignedLong(text.substring(dot + 1)));
        } catch (NumberFormatException error) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "`" + text + "` is no position of a feed: it is two numbers with a dot between.", 0, error);
        }
    }

    @Override
    public int compareTo(FeedPosition other) {
        int flushes = Long.compareUnsigned(flush, other.flush);
        return flushes != 0 ? flushes : Long.compareUnsigned(index, other.index);
    }

    /** Both numbers with a dot between, as the command line and other languages have it. */
    @Override
    public String toString() {
        return Long.toUnsignedString(flush) + "." + Long.toUnsignedString(index);
    }
}
