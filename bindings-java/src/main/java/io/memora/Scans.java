package io.memora;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Objects;

/** Goes over entries in the order of their places, some at a time. */
final class Scans {
    /** Entries that lie in memory at once. */
    static final int BATCH = 256;

    /** A part of the entries from a cursor on, as the library packs them. */
    interface Part {
        byte[] fetch(long cursor, int limit);
    }

    private Scans() {}

    /** Goes over about {@code limit} entries and gives the next cursor, 0 at the end. */
    static long over(long cursor, int limit, EntryConsumer consumer, Part part) {
        Objects.requireNonNull(consumer, "consumer");
        long next = cursor;
        int left = limit;
        do {
            ByteBuffer in = ByteBuffer.wrap(part.fetch(next, Math.min(left, BATCH))).order(ByteOrder.nativeOrder());
            next = in.getLong();
            while (in.hasRemaining()) {
                byte[] key = new byte[in.getInt()];
                in.get(key);
                consumer.accept(key, Entries.entry(in));
                left--;
            }
        } while (next != 0 && left > 0);
        return next;
    }
}
