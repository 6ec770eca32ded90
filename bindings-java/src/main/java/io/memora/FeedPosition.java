package io.memora;

import java.util.HexFormat;
import java.util.regex.Pattern;

/**
 * A place in the change feed of a store: behind a change. To be kept, as numbers or as text, by whoever goes on there later.
 *
 * @param store of the store whose place it is: another one refuses it, also one that was made later under the same name
 * @param flush where a flush begins in the journal; unsigned
 * @param index how many records are behind one, counted from there; unsigned
 */
public record FeedPosition(long store, long flush, long index) implements Comparable<FeedPosition> {
    private static final Pattern TEXT = Pattern.compile("[0-9a-fA-F]{16}\\.[0-9]+\\.[0-9]+");

    /**
     * What {@link #toString} gave.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} when it is something else
     */
    public static FeedPosition parse(String text) {
        if (!TEXT.matcher(text).matches()) {
            throw refused(text, null);
        }
        String[] parts = text.split("\\.");
        try {
            return new FeedPosition(HexFormat.fromHexDigitsToLong(parts[0]),
                    Long.parseUnsignedLong(parts[1]), Long.parseUnsignedLong(parts[2]));
        } catch (NumberFormatException error) {
            throw refused(text, error);
        }
    }

    private static MemoraException refused(String text, Exception cause) {
        return new MemoraException(ErrorCode.INVALID_ARGUMENT, "`" + text
                + "` is no position of a feed: it is the store's 16 hexadecimal digits and two numbers, with dots between.", 0, cause);
    }

    /** Places of one store come in their order. */
    @Override
    public int compareTo(FeedPosition other) {
        if (store != other.store) {
            return Long.compareUnsigned(store, other.store);
        }
        int flushes = Long.compareUnsigned(flush, other.flush);
        return flushes != 0 ? flushes : Long.compareUnsigned(index, other.index);
    }

    /** The three numbers with dots between, as the command line and other languages have it. */
    @Override
    public String toString() {
        return HexFormat.of().toHexDigits(store) + "." + Long.toUnsignedString(flush) + "." + Long.toUnsignedString(index);
    }
}
