package io.memora;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Objects;

/** Goes over entries in the order of their keys, some at a time. */
final class Ranges {
    /** Entries that lie in memory at once. */
    private static final int BATCH = 256;

    /** A part of the entries between two keys, as the library packs them. */
    interface Part {
        byte[] fetch(byte[] from, byte[] to, boolean backward, int limit);
    }

    private Ranges() {}

    /** Goes over at most {@code limit} entries: null if there is nothing more, else where to go on. */
    static byte[] over(byte[] from, byte[] to, Direction direction, int limit, EntryConsumer consumer, Part part) {
        Objects.requireNonNull(consumer, "consumer");
        boolean backward = Objects.requireNonNull(direction, "direction") == Direction.BACKWARD;
        byte[] least = from;
        byte[] behind = to;
        int left = limit;
        while (true) {
            byte[] answer = part.fetch(least, behind, backward, Math.min(left, BATCH));
            ByteBuffer in = ByteBuffer.wrap(answer).order(ByteOrder.nativeOrder());
            boolean more = in.get() != 0;
            byte[] next = null;
            while (in.hasRemaining()) {
                byte[] key = new byte[in.getInt()];
                in.get(key);
                // The least key behind this one has a zero more. The consumer may change its key.
                next = Arrays.copyOf(key, backward ? key.length : key.length + 1);
                consumer.accept(key, Entries.entry(in));
                left--;
            }
            if (!more) {
                return null;
            }
            if (left == 0) {
                return next;
            }
            if (backward) {
                behind = next;
            } else {
                least = next;
            }
        }
    }

    /** The least key behind all that begin with a prefix, or null if there is none. */
    static byte[] endOfPrefix(byte[] prefix) {
        int len = prefix.length;
        while (len > 0 && prefix[len - 1] == (byte) 0xff) {
            len--;
        }
        if (len == 0) {
            return null;
        }
        byte[] end = Arrays.copyOf(prefix, len);
        end[len - 1]++;
        return end;
    }
}
