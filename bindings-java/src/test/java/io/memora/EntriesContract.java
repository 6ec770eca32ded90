package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** What caches and stores promise alike. */
abstract class EntriesContract extends WithFabric {
    /** Larger than what crosses through the scratch memory. */
    private static final int LARGE = 20_000;

    abstract Entries entries();

    /** Bytes of the longest key. */
    abstract int longestKey();

    static byte[] pattern(int len) {
        byte[] value = new byte[len];
        for (int i = 0; i < len; i++) {
            value[i] = (byte) (i * 31 + len);
        }
        return value;
    }

    @Test
    void valueOfEachSizeComesBack() {
        Entries entries = entries();
        for (int len : new int[] {0, 1, 7, 8, 9, 100, 1000, 4095, 16 * 1024, 16 * 1024 + 1, LARGE}) {
            byte[] key = bytes("size " + len);
            assertTrue(entries.set(key, pattern(len)) > 0);
            assertArrayEquals(pattern(len), entries.get(key));
            assertArrayEquals(pattern(len), entries.getEntry(key).value());
        }
        assertEquals(11, entries.size());
    }

    @Test
    void buffersOfAllKindsCarryKeysAndValues() {
        Entries entries = entries();
        for (int len : new int[] {0, 10, LARGE}) {
            byte[] value = pattern(len);
            ByteBuffer direct = ByteBuffer.allocateDirect(len + 6).position(3);
            direct.put(3, value).limit(3 + len);
            for (ByteBuffer source : new ByteBuffer[] {
                direct, direct.asReadOnlyBuffer(), ByteBuffer.wrap(value), ByteBuffer.wrap(value).asReadOnlyBuffer()}) {
                int position = source.position();
                ByteBuffer key = ByteBuffer.wrap(bytes("__key__"), 2, 3);
                entries.set(key, source);
                assertEquals(position, source.position());
                assertEquals(2, key.position());
                assertArrayEquals(value, entries.get(bytes("key")));
                ByteBuffer directOut = ByteBuffer.allocateDirect(LARGE + 10).position(5);
                ByteBuffer heapOut = ByteBuffer.allocate(LARGE + 10).position(5);
                for (ByteBuffer out : new ByteBuffer[] {directOut, heapOut}) {
                    assertEquals(len, entries.get(ByteBuffer.wrap(bytes("key")), out));
                    assertEquals(5, out.position());
                    byte[] read = new byte[len];
                    out.get(5, read);
                    assertArrayEquals(value, read);
                }
            }
        }
    }

    @Test
    void bufferThatIsTooSmallIsLeftAloneAndToldHowMuchIsNeeded() {
        Entries entries = entries();
        for (int len : new int[] {100, LARGE}) {
            entries.set(bytes("a"), pattern(len));
            for (int room : new int[] {0, 99, len - 1}) {
                for (ByteBuffer out : new ByteBuffer[] {ByteBuffer.allocate(room), ByteBuffer.allocateDirect(room)}) {
                    MemoraException error =
                            fails(ErrorCode.BUFFER_TOO_SMALL, () -> entries.get(ByteBuffer.wrap(bytes("a")), out));
                    assertEquals(len, error.amount());
                }
            }
        }
        assertEquals(Entries.MISS, entries.get(ByteBuffer.wrap(bytes("b")), ByteBuffer.allocateDirect(LARGE)));
        assertEquals(Entries.MISS, entries.get(ByteBuffer.wrap(bytes("b")), ByteBuffer.allocate(0)));
        fails(ErrorCode.INVALID_ARGUMENT,
                () -> entries.get(ByteBuffer.wrap(bytes("a")), ByteBuffer.allocate(LARGE).asReadOnlyBuffer()));
    }

    @Test
    void addAndReplaceLookWhetherThereIsAnEntry() {
        Entries entries = entries();
        assertEquals(Entries.NOT_STORED, entries.replace(bytes("a"), bytes("1"), SetOptions.NONE));
        assertTrue(entries.add(bytes("a"), bytes("2"), SetOptions.NONE) > 0);
        assertEquals(Entries.NOT_STORED, entries.add(bytes("a"), bytes("3"), SetOptions.NONE));
        assertTrue(entries.replace(bytes("a"), bytes("4"), SetOptions.NONE.withFlags(-1)) > 0);
        assertEquals("4", string(entries.get(bytes("a"))));
        assertEquals(-1, entries.getEntry(bytes("a")).flags());
    }

    @Test
    void compareAndSwapStoresForTheNewestVersionOnly() {
        Entries entries = entries();
        assertEquals(new CasResult(CasResult.Outcome.NOT_FOUND, -1),
                entries.compareAndSwap(bytes("a"), bytes("1"), 1));
        long first = entries.set(bytes("a"), bytes("1"));
        assertEquals(first, entries.getEntry(bytes("a")).version());
        CasResult second = entries.compareAndSwap(bytes("a"), bytes("2"), first);
        assertTrue(second.stored());
        CasResult stale = entries.compareAndSwap(bytes("a"), bytes("3"), first);
        assertEquals(new CasResult(CasResult.Outcome.STALE, second.version()), stale);
        assertEquals("2", string(entries.get(bytes("a"))));
    }

    @Test
    void countersCountAndRefuseWhatIsNoNumber() {
        Entries entries = entries();
        assertTrue(entries.increment(bytes("n"), 1).isEmpty());
        assertEquals(10, entries.increment(bytes("n"), 1, 10));
        assertEquals(15, entries.increment(bytes("n"), 5, 10));
        assertEquals(12, entries.decrement(bytes("n"), 3).getAsLong());
        assertEquals(0, entries.decrement(bytes("n"), 100, 1));
        entries.set(bytes("n"), bytes("18446744073709551614"));
        assertEquals(-1L, entries.increment(bytes("n"), 1).getAsLong());
        fails(ErrorCode.COUNTER_OVERFLOW, () -> entries.increment(bytes("n"), 1));
        entries.set(bytes("n"), bytes("seven"));
        fails(ErrorCode.NOT_A_NUMBER, () -> entries.increment(bytes("n"), 1));
        assertEquals("seven", string(entries.get(bytes("n"))));
    }

    @Test
    void expiredEntryIsAMiss() throws InterruptedException {
        Entries entries = entries();
        entries.set(bytes("short"), bytes("1"), SetOptions.ttl(Duration.ofMillis(30)));
        entries.set(bytes("long"), bytes("1"), SetOptions.ttl(Duration.ofHours(1)));
        long left = entries.getEntry(bytes("long")).ttlMillis();
        assertTrue(left > 3_000_000 && left <= 3_600_000, "left " + left);
        assertEquals(-1, ttlOfOneThatStays(entries));
        Thread.sleep(100);
        assertNull(entries.get(bytes("short")));
        assertEquals("1", string(entries.get(bytes("long"))));
        fails(ErrorCode.INVALID_ARGUMENT, () -> SetOptions.ttl(Duration.ZERO));
    }

    private static long ttlOfOneThatStays(Entries entries) {
        entries.set(bytes("stays"), bytes("1"));
        return entries.getEntry(bytes("stays")).ttlMillis();
    }

    @Test
    void getManyAnswersInTheOrderOfTheKeys() {
        Entries entries = entries();
        entries.set(bytes("a"), bytes("1"));
        entries.set(bytes("empty"), new byte[0]);
        entries.set(bytes("large"), pattern(LARGE));
        byte[][] values = entries.getMany(bytes("large"), bytes("none"), bytes("a"), bytes("empty"), bytes("a"));
        assertArrayEquals(new byte[][] {pattern(LARGE), null, bytes("1"), new byte[0], bytes("1")}, values);
        assertEquals(0, entries.getMany().length);
    }

    @Test
    void getManyTakesAnyNumberOfKeysOfAnyLength() {
        Entries entries = entries();
        byte[][] keys = new byte[500][];
        for (int i = 0; i < keys.length; i++) {
            keys[i] = new byte[i % 50 == 0 ? 4096 : 1 + i % 200];
            Arrays.fill(keys[i], (byte) i);
            keys[i][0] = (byte) (i >> 8);
            if (i % 3 != 0 && keys[i].length > 1) {
                // Some of a thousand bytes: more than cross at once, together.
                entries.set(keys[i], pattern(i % 2 == 0 ? 1000 : i));
            }
        }
        byte[][] values = entries.getMany(keys);
        for (int i = 0; i < keys.length; i++) {
            assertArrayEquals(entries.get(keys[i]), values[i], "key " + i);
        }
        entries.set(bytes("a"), bytes("1"));
        // No entry can have such a key: a miss, until it is too long even to be asked for.
        values = entries.getMany(new byte[8192], bytes("a"), new byte[0], new byte[8189]);
        assertArrayEquals(new byte[][] {null, bytes("1"), null, null}, values);
        fails(ErrorCode.KEY_TOO_LONG, () -> entries.getMany(bytes("a"), new byte[80_000]));
        assertEquals("1", string(entries.get(bytes("a"))));
    }

    @Test
    void scanSeesEveryEntry() {
        Entries entries = entries();
        Map<String, String> expected = new HashMap<>();
        for (int i = 0; i < 1000; i++) {
            expected.put("key " + i, "value " + i);
            entries.set(bytes("key " + i), bytes("value " + i), SetOptions.NONE.withFlags(i));
        }
        Map<String, String> seen = new HashMap<>();
        entries.forEach((key, entry) -> {
            seen.put(string(key), string(entry.value()));
            assertEquals("key " + entry.flags(), string(key));
        });
        assertEquals(expected, seen);
        assertEquals(1000, entries.size());
        assertThrows(IllegalStateException.class, () -> entries.forEach((key, entry) -> {
            throw new IllegalStateException("of the consumer");
        }));
    }

    @Test
    void scanTakesAnyLimitAndCursor() {
        Entries entries = entries();
        for (int i = 0; i < 700; i++) {
            entries.set(bytes("key " + i), bytes("value"));
        }
        java.util.Set<String> seen = new java.util.HashSet<>();
        assertEquals(0, entries.scan(0, Integer.MAX_VALUE, (key, entry) -> seen.add(string(key))));
        assertEquals(700, seen.size());
        int[] count = {0};
        long next = entries.scan(0, 300, (key, entry) -> {
            // A consumer may use what it is called from.
            assertEquals("value", string(entries.get(key)));
            count[0]++;
        });
        assertTrue(next != 0 && count[0] >= 300 && count[0] < 700, "next " + next + " after " + count[0]);
        fails(ErrorCode.INVALID_ARGUMENT, () -> entries.scan(0, -1, (key, entry) -> {}));
        for (int bit = 0; bit < 64; bit++) {
            // A cursor that nobody gave out is refused, or names some place: it does no harm.
            long cursor = 1L << bit;
            try {
                entries.scan(cursor, 10, (key, entry) -> assertEquals("value", string(entry.value())));
            } catch (MemoraException error) {
                assertEquals(ErrorCode.INVALID_ARGUMENT, error.code());
            }
        }
    }

    @Test
    void deleteSaysWhetherThereWasOne() {
        Entries entries = entries();
        entries.set(bytes("a"), bytes("1"));
        assertTrue(entries.delete(bytes("a")));
        assertFalse(entries.delete(bytes("a")));
        assertNull(entries.getEntry(bytes("a")));
        assertEquals(0, entries.size());
    }

    @Test
    void keysAndValuesThatAreTooLongAreRefusedAndNothingIsLost() {
        Entries entries = entries();
        entries.set(bytes("a"), bytes("1"));
        String most = "" + longestKey();
        for (int len : new int[] {0, longestKey() + 1, 65_537, 73_728, 73_729, 100_000}) {
            MemoraException error = fails(ErrorCode.KEY_TOO_LONG, () -> entries.set(new byte[len], bytes("1")));
            // What is too long for any object is refused before this one is asked.
            String limit = len > 73_728 ? "65536" : most;
            assertTrue(error.getMessage().contains(limit) && error.getMessage().contains("" + len), error.getMessage());
        }
        // No entry can have such a key: a miss, until it is too long even to be asked for.
        assertNull(entries.get(new byte[0]));
        assertNull(entries.get(new byte[73_728]));
        fails(ErrorCode.KEY_TOO_LONG, () -> entries.get(new byte[73_729]));
        fails(ErrorCode.KEY_TOO_LONG, () -> entries.get(ByteBuffer.allocateDirect(73_729), ByteBuffer.allocate(1)));
        fails(ErrorCode.VALUE_TOO_LONG, () -> entries.set(bytes("a"), new byte[12 << 20]));
        fails(ErrorCode.VALUE_TOO_LONG, () -> entries.set(ByteBuffer.wrap(bytes("a")), ByteBuffer.allocateDirect(12 << 20)));
        byte[] longest = new byte[longestKey()];
        Arrays.fill(longest, (byte) 'k');
        entries.set(longest, bytes("2"));
        assertEquals("2", string(entries.get(longest)));
        assertEquals("1", string(entries.get(bytes("a"))));
    }

    @Test
    void nullIsAnExceptionAndHarmless() {
        Entries entries = entries();
        assertThrows(NullPointerException.class, () -> entries.get(null));
        assertThrows(NullPointerException.class, () -> entries.set(bytes("a"), null));
        assertThrows(NullPointerException.class, () -> entries.set(bytes("a"), bytes("1"), null));
        assertThrows(NullPointerException.class, () -> entries.compareAndSwap(bytes("a"), null, 1));
        assertThrows(NullPointerException.class, () -> entries.getMany(bytes("a"), null));
        assertNull(entries.get(bytes("a")));
    }

    @Test
    void closedHandleIsRefusedByEveryCallAndTheObjectStays() {
        Entries entries = entries();
        entries.set(bytes("a"), bytes("1"));
        entries.close();
        entries.close();
        assertThrows(MemoraException.Closed.class, () -> entries.get(bytes("a")));
        assertThrows(MemoraException.Closed.class,
                () -> entries.get(ByteBuffer.wrap(bytes("a")), ByteBuffer.allocateDirect(LARGE)));
        assertThrows(MemoraException.Closed.class, () -> entries.getEntry(bytes("a")));
        assertThrows(MemoraException.Closed.class, () -> entries.getMany(bytes("a")));
        assertThrows(MemoraException.Closed.class, () -> entries.set(bytes("a"), bytes("1")));
        assertThrows(MemoraException.Closed.class, () -> entries.set(bytes("a"), new byte[LARGE]));
        assertThrows(MemoraException.Closed.class, () -> entries.compareAndSwap(bytes("a"), bytes("1"), 1));
        assertThrows(MemoraException.Closed.class, () -> entries.delete(bytes("a")));
        assertThrows(MemoraException.Closed.class, () -> entries.increment(bytes("a"), 1));
        assertThrows(MemoraException.Closed.class, entries::size);
        assertThrows(MemoraException.Closed.class, () -> entries.scan(0, 1, (key, entry) -> {}));
        assertEquals("1", string(entries().get(bytes("a"))));
    }
}
