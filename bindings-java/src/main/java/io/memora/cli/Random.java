package io.memora.cli;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** SplitMix64 (Steele, Lea and Flood 2014), the generator of the stress workers and benches in all languages. */
final class Random {
    private long state;

    Random(long seed) {
        state = seed;
    }

    long next() {
        state += 0x9e3779b97f4a7c15L;
        long z = state;
        z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
        z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
        return z ^ z >>> 31;
    }

    /** A number below {@code bound}. */
    int draw(int bound) {
        return (int) Long.remainderUnsigned(next(), bound);
    }

    /** Bytes computed from a text: the numbers of a generator that is started from it, little endian. */
    static void derive(String text, ByteBuffer bytes) {
        Random random = new Random(hash(text.getBytes(StandardCharsets.US_ASCII)));
        long number = 0;
        for (int i = 0; bytes.hasRemaining(); i++) {
            number = i % 8 == 0 ? random.next() : number >>> 8;
            bytes.put((byte) number);
        }
    }

    /** The 64-bit FNV-1a hash of bytes. */
    static long hash(byte[] bytes) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : bytes) {
            hash = (hash ^ b & 0xff) * 0x100000001b3L;
        }
        return hash;
    }
}
