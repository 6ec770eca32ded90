package io.memora;

import io.memora.internal.Scratch;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Reads one entry, through the scratch if it fits. */
final class Lookups {
    /** The entry of a key, as the library packs it. */
    interface Source {
        /** Into memory: its length, or {@link Entries#MISS}, or less when the memory is too small. */
        int into(long key, int keyLen, long out, int capacity);

        /** As a new array; null for a miss. */
        byte[] array(long key, int keyLen);
    }

    private Lookups() {}

    /** The entry of a key, or null when there is none. */
    static Entry entry(byte[] key, Source source) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            int len = source.into(scratch.keyAddress(), keyLen, scratch.valueAddress(), Scratch.VALUE_CAPACITY);
            return len >= 0 ? Entries.entry(scratch, len) : longEntry(scratch, keyLen, len, source);
        } finally {
            scratch.give();
        }
    }

    /** An entry that does not fit the scratch, or null. */
    private static Entry longEntry(Scratch scratch, int keyLen, int len, Source source) {
        byte[] bytes = len == Entries.MISS ? null : source.array(scratch.keyAddress(), keyLen);
        return bytes == null ? null : Entries.entry(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
    }

    /** Copies the value of a key to where {@code out} stands: its length, or {@link Entries#MISS}. */
    static int copy(ByteBuffer key, ByteBuffer out, Source source) {
        Entries.requireWritable(out);
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            int len = source.into(scratch.keyAddress(), keyLen, scratch.valueAddress(), Scratch.VALUE_CAPACITY);
            if (len >= 0) {
                int valueLen = len - Entries.ENTRY_HEADER;
                Entries.requireRoom(valueLen, out.remaining());
                scratch.valueTo(Entries.ENTRY_HEADER, valueLen, out);
                return valueLen;
            }
            Entry entry = longEntry(scratch, keyLen, len, source);
            if (entry == null) {
                return Entries.MISS;
            }
            Entries.requireRoom(entry.value().length, out.remaining());
            out.put(out.position(), entry.value());
            return entry.value().length;
        } finally {
            scratch.give();
        }
    }
}
