package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class SnapshotTest extends WithFabric {
    private static final int ACCOUNTS = 40;
    private static final int BALANCE = 10;

    private Store ordered() {
        return fabric.store("ordered", StoreOptions.inMemory().ordered(true));
    }

    private static String key(int number) {
        return String.format("k%03d", number);
    }

    /** What each way of reading everything gives, which must be the same; each key once. */
    private static SortedMap<String, String> all(Snapshot snapshot) {
        SortedMap<String, String> found = new TreeMap<>();
        snapshot.forEach((key, entry) -> assertNull(found.put(string(key), string(entry.value())), "came twice"));
        SortedMap<String, String> scanned = new TreeMap<>();
        long cursor = 0;
        do {
            cursor = snapshot.scan(cursor, 7, (key, entry) -> assertNull(scanned.put(string(key), string(entry.value()))));
        } while (cursor != 0);
        assertEquals(found, scanned);
        List<String> forward = range(snapshot, null, null, Direction.FORWARD);
        assertEquals(List.copyOf(found.keySet()), forward);
        List<String> backward = range(snapshot, null, null, Direction.BACKWARD);
        assertEquals(forward, backward.stream().sorted().toList());
        assertTrue(backward.isEmpty() || backward.get(0).equals(found.lastKey()));
        found.forEach((key, value) -> assertEquals(value, string(snapshot.get(bytes(key))), key));
        return found;
    }

    /** The keys of a range, in parts of 100. */
    private static List<String> range(Snapshot snapshot, String from, String to, Direction direction) {
        List<String> keys = new ArrayList<>();
        byte[] least = from == null ? null : bytes(from);
        byte[] behind = to == null ? null : bytes(to);
        while (true) {
            byte[] next = snapshot.range(least, behind, direction, 100, (key, entry) -> {
                assertEquals(string(snapshot.get(key)), string(entry.value()));
                keys.add(string(key));
                key[0]++;
            });
            if (next == null) {
                return keys;
            } else if (direction == Direction.FORWARD) {
                least = next;
            } else {
                behind = next;
            }
        }
    }

    @Test
    void staysAsItWasWhateverIsDoneToItsKeys() throws Exception {
        try (Store store = ordered()) {
            for (int i = 0; i < 600; i++) {
                store.set(bytes(key(i)), bytes("value " + i));
            }
            store.delete(bytes(key(7)));
            store.set(bytes("short"), bytes("lived"), SetOptions.ttl(Duration.ofSeconds(1)).withFlags(9));
            try (Snapshot snapshot = store.snapshot()) {
                assertSame(store, snapshot.store());
                assertEquals(1, store.stats().snapshots());
                Entry before = store.getEntry(bytes(key(1)));
                SortedMap<String, String> all = all(snapshot);
                assertEquals(600, all.size());
                for (int i = 0; i < 600; i++) {
                    byte[] key = bytes(key(i));
                    if (i % 3 == 0) {
                        store.delete(key);
                    } else {
                        store.set(key, bytes("changed"));
                    }
                }
                store.set(bytes("k0070"), bytes("new"));
                store.transact(transaction -> {
                    transaction.put(bytes(key(0)), bytes("by a transaction"));
                    transaction.delete(bytes(key(4)));
                    return null;
                });
                Thread.sleep(1010);
                assertNull(store.get(bytes("short")));
                assertEquals(all, all(snapshot));
                assertEquals("value 0", string(snapshot.get(bytes(key(0)))));
                assertNull(snapshot.get(bytes(key(7))));
                assertNull(snapshot.getEntry(bytes("k0070")));
                Entry then = snapshot.getEntry(bytes(key(1)));
                assertEquals(before.version(), then.version());
                assertEquals(-1, then.ttlMillis());
                Entry living = snapshot.getEntry(bytes("short"));
                assertEquals(9, living.flags());
                assertTrue(living.ttlMillis() > 0 && living.ttlMillis() <= 1000, "as it was then");
                assertEquals(List.of("k010", "k011"), range(snapshot, "k010", "k012", Direction.FORWARD));
                assertEquals(List.of("k011", "k010"), range(snapshot, "k010", "k012", Direction.BACKWARD));
                assertEquals(List.of(), range(snapshot, "k012", "k010", Direction.FORWARD));
                try (Snapshot now = store.snapshot()) {
                    assertEquals("by a transaction", string(now.get(bytes(key(0)))));
                    assertNull(now.get(bytes(key(4))));
                    assertEquals("new", string(now.get(bytes("k0070"))));
                    assertEquals(401, all(now).size());
                }
                assertEquals(0, store.stats().snapshotsCancelled());
            }
            assertEquals(0, store.stats().snapshots());
        }
    }

    @Test
    void prefixesGoBothWays() {
        try (Store store = ordered()) {
            for (String key : List.of("pear", "apple", "plum", "fig", "pea")) {
                store.set(bytes(key), bytes("value of " + key));
            }
            store.set(new byte[] {-1, -1, 3}, bytes("last"));
            try (Snapshot snapshot = store.snapshot()) {
                store.delete(bytes("pea"));
                store.set(bytes("peach"), bytes("later"));
                store.delete(new byte[] {-1, -1, 3});
                for (Direction direction : Direction.values()) {
                    List<String> found = new ArrayList<>();
                    assertNull(snapshot.prefix(bytes("pe"), direction, 9, (key, entry) -> found.add(string(key))));
                    assertEquals(direction == Direction.FORWARD ? List.of("pea", "pear") : List.of("pear", "pea"), found);
                    found.clear();
                    assertNull(snapshot.prefix(new byte[] {-1, -1}, direction, 9, (key, entry) -> found.add(string(entry.value()))));
                    assertEquals(List.of("last"), found);
                }
                List<String> found = new ArrayList<>();
                byte[] next = snapshot.prefix(bytes("p"), Direction.FORWARD, 1, (key, entry) -> found.add(string(key)));
                assertNotNull(next);
                assertNull(snapshot.range(next, bytes("q"), Direction.FORWARD, 9, (key, entry) -> found.add(string(key))));
                assertEquals(List.of("pea", "pear", "plum"), found);
                found.clear();
                assertNull(snapshot.range(null, null, Direction.FORWARD, 0, (key, entry) -> found.add(string(key))));
                assertEquals(List.of(), found);
            }
        }
    }

    @Test
    void longValuesAndBuffersAreRead() {
        byte[] large = new byte[60_000];
        ThreadLocalRandom.current().nextBytes(large);
        try (Store store = fabric.store("plain", StoreOptions.in(directory.resolve("files")).durability(Durability.PROCESS))) {
            store.set(bytes("large"), large);
            store.set(bytes("small"), bytes("1"));
            store.set(bytes("empty"), new byte[0]);
            try (Snapshot snapshot = store.snapshot()) {
                store.set(bytes("large"), bytes("short now"));
                store.delete(bytes("small"));
                store.checkpoint();
                assertArrayEquals(large, snapshot.get(bytes("large")));
                assertEquals(0, snapshot.get(bytes("empty")).length);
                for (ByteBuffer out : List.of(ByteBuffer.allocate(70_000), ByteBuffer.allocateDirect(70_000))) {
                    out.position(3);
                    assertEquals(large.length, snapshot.get(ByteBuffer.wrap(bytes("large")), out));
                    byte[] copy = new byte[large.length];
                    out.get(3, copy);
                    assertArrayEquals(large, copy);
                    assertEquals(1, snapshot.get(ByteBuffer.wrap(bytes("small")), out));
                    assertEquals('1', out.get(3));
                    assertEquals(0, snapshot.get(ByteBuffer.wrap(bytes("empty")), out));
                    assertEquals(Snapshot.MISS, snapshot.get(ByteBuffer.wrap(bytes("none")), out));
                    assertEquals(3, out.position());
                    MemoraException small =
                            fails(ErrorCode.BUFFER_TOO_SMALL, () -> snapshot.get(ByteBuffer.wrap(bytes("large")), out.limit(60_002)));
                    assertEquals(large.length, small.amount());
                    fails(ErrorCode.BUFFER_TOO_SMALL, () -> snapshot.get(ByteBuffer.wrap(bytes("small")), out.limit(3)));
                    fails(ErrorCode.INVALID_ARGUMENT, () -> snapshot.get(ByteBuffer.wrap(bytes("small")), out.asReadOnlyBuffer()));
                }
                Map<String, Integer> lengths = new TreeMap<>();
                snapshot.forEach((key, entry) -> lengths.put(string(key), entry.value().length));
                assertEquals(Map.of("large", large.length, "small", 1, "empty", 0), lengths);
                fails(ErrorCode.NOT_ORDERED, () -> snapshot.range(null, null, Direction.FORWARD, 1, (key, entry) -> {}));
                fails(ErrorCode.NOT_ORDERED, () -> snapshot.prefix(bytes("l"), Direction.BACKWARD, 1, (key, entry) -> {}));
            }
        }
    }

    @Test
    void showsOneMomentWhileOthersTransferMoney() throws Exception {
        try (Store store = ordered()) {
            store.transact(transaction -> {
                for (int i = 0; i < ACCOUNTS; i++) {
                    transaction.put(bytes(key(i)), bytes("" + BALANCE));
                }
                return null;
            });
            // So few in a round that no snapshot of it comes to its bounds, however slow the machine is.
            for (int round = 0; round < 20 * Testing.LENGTH; round++) {
                try (Snapshot held = store.snapshot()) {
                    SortedMap<String, String> first = all(held);
                    CompletableFuture<Void> movers = atOnce(2, () -> {
                        for (int i = 0; i < 200; i++) {
                            transfer(store);
                        }
                    });
                    do {
                        try (Snapshot snapshot = store.snapshot()) {
                            assertEquals(ACCOUNTS * BALANCE, sum(all(snapshot)));
                        }
                    } while (!movers.isDone());
                    movers.get(60, TimeUnit.SECONDS);
                    atOnce(4, () -> assertEquals(first, all(held))).get(60, TimeUnit.SECONDS);
                }
            }
            assertEquals(0, store.stats().snapshotsCancelled());
        }
    }

    private static CompletableFuture<Void> atOnce(int threads, Runnable run) {
        return CompletableFuture.allOf(
                Stream.generate(() -> CompletableFuture.runAsync(run)).limit(threads).toArray(CompletableFuture[]::new));
    }

    private static int sum(Map<String, String> accounts) {
        return accounts.values().stream().mapToInt(Integer::parseInt).sum();
    }

    /** An account without money has no entry. */
    private static void transfer(Store store) {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        int of = random.nextInt(ACCOUNTS);
        byte[] from = bytes(key(of));
        byte[] to = bytes(key((of + random.nextInt(1, ACCOUNTS)) % ACCOUNTS));
        store.transact(transaction -> {
            byte[] balance = transaction.get(from);
            byte[] other = transaction.get(to);
            if (balance != null) {
                transaction.delete(from);
                int sum = Integer.parseInt(string(balance)) + (other == null ? 0 : Integer.parseInt(string(other)));
                transaction.put(to, bytes("" + sum));
            }
            return null;
        });
    }

    private static void everyReadFails(ErrorCode code, Snapshot snapshot) {
        byte[] key = bytes(key(0));
        for (Executable read : List.<Executable>of(
                () -> snapshot.get(key),
                () -> snapshot.getEntry(key),
                () -> snapshot.get(ByteBuffer.wrap(key), ByteBuffer.allocate(10)),
                () -> snapshot.scan(0, 10, (at, entry) -> {}),
                () -> snapshot.forEach((at, entry) -> {}),
                () -> snapshot.range(null, null, Direction.BACKWARD, 10, (at, entry) -> {}),
                () -> snapshot.prefix(bytes("k"), Direction.FORWARD, 10, (at, entry) -> {}))) {
            fails(code, read);
        }
    }

    @Test
    void endsWhenItIsClosedOrItsStoreIs() {
        Store store = ordered();
        store.set(bytes(key(0)), bytes("1"));
        Snapshot snapshot = store.snapshot();
        snapshot.close();
        snapshot.close();
        everyReadFails(ErrorCode.CLOSED, snapshot);
        assertEquals(0, store.stats().snapshots());
        Snapshot left = store.snapshot();
        // The consumer may close it: what came before was right.
        fails(ErrorCode.CLOSED, () -> {
            try (Snapshot scanned = store.snapshot()) {
                scanned.forEach((key, entry) -> scanned.close());
                scanned.get(bytes(key(0)));
            }
        });
        store.close();
        everyReadFails(ErrorCode.CLOSED, left);
        left.close();
        assertThrows(MemoraException.Closed.class, store::snapshot);
        assertThrows(MemoraException.Closed.class, () -> store.limitSnapshots(Duration.ofSeconds(1), 1));
        try (Store again = ordered()) {
            assertEquals(0, again.stats().snapshots());
        }
    }

    private static void fill(Store store, int rounds) {
        byte[] value = new byte[1000];
        for (int round = 0; round < rounds; round++) {
            for (int i = 0; i < 400; i++) {
                store.set(bytes(key(i)), value);
            }
        }
    }

    @Test
    void isCancelledWhenItCostsTooMuchOrIsTooOld() throws Exception {
        try (Store store = ordered()) {
            fill(store, 1);
            try (Snapshot costs = store.snapshot()) {
                Thread.sleep(3);
                assertTrue(store.stats().snapshotOldestMillis() >= 2);
                // Twice the fabric.
                fill(store, (int) (2 * LIMIT / 400_000));
                everyReadFails(ErrorCode.SNAPSHOT_TOO_OLD, costs);
                assertEquals(1, store.stats().snapshotsCancelled());
                assertEquals(0, store.stats().snapshots(), "one that was cancelled keeps nothing");
                assertEquals(0, store.stats().snapshotBytes() + store.stats().snapshotOldestMillis());
            }
            store.limitSnapshots(Duration.ofNanos(1), 100);
            try (Snapshot old = store.snapshot()) {
                Thread.sleep(10);
                fill(store, 2);
                everyReadFails(ErrorCode.SNAPSHOT_TOO_OLD, old);
            }
            store.limitSnapshots(Duration.ofHours(1), 1);
            try (Snapshot costs = store.snapshot()) {
                fill(store, 3);
                everyReadFails(ErrorCode.SNAPSHOT_TOO_OLD, costs);
            }
            store.limitSnapshots(Duration.ofHours(1), 50);
            try (Snapshot kept = store.snapshot()) {
                fill(store, 3);
                assertEquals(400, all(kept).size());
            }
            assertEquals(3, store.stats().snapshotsCancelled());
            assertEquals(0, store.stats().snapshots());
        }
    }

    @Test
    void whatCannotBeIsRefused() {
        try (Store store = ordered()) {
            for (Duration age : List.of(Duration.ZERO, Duration.ofNanos(-1), Duration.ofHours(-1))) {
                fails(ErrorCode.INVALID_ARGUMENT, () -> store.limitSnapshots(age, 25));
            }
            for (int percent : new int[] {0, -1, 101, Integer.MAX_VALUE}) {
                fails(ErrorCode.INVALID_ARGUMENT, () -> store.limitSnapshots(Duration.ofSeconds(1), percent));
            }
            assertThrows(NullPointerException.class, () -> store.limitSnapshots(null, 25));
            List<Snapshot> all = Stream.generate(store::snapshot).limit(64).toList();
            fails(ErrorCode.TOO_MANY_SNAPSHOTS, store::snapshot);
            all.get(5).close();
            store.snapshot().close();
            try (Snapshot snapshot = store.snapshot()) {
                fails(ErrorCode.INVALID_ARGUMENT, () -> snapshot.scan(0, -1, (key, entry) -> {}));
                fails(ErrorCode.INVALID_ARGUMENT, () -> snapshot.range(null, null, Direction.FORWARD, -1, (key, entry) -> {}));
                fails(ErrorCode.KEY_TOO_LONG, () -> snapshot.get(new byte[1 << 20]));
                assertThrows(NullPointerException.class, () -> snapshot.get((byte[]) null));
                assertThrows(NullPointerException.class, () -> snapshot.scan(0, 1, null));
                assertThrows(NullPointerException.class, () -> snapshot.range(null, null, null, 1, (key, entry) -> {}));
                assertThrows(NullPointerException.class, () -> snapshot.range(null, null, Direction.FORWARD, 1, null));
                assertThrows(NullPointerException.class, () -> snapshot.prefix(null, Direction.FORWARD, 1, (key, entry) -> {}));
            }
            all.forEach(Snapshot::close);
            assertEquals(0, store.stats().snapshots());
        }
        try (Fabric reading = Fabric.builder("test").home(home).readOnly(true).open();
                Store store = reading.store("ordered", StoreOptions.inMemory())) {
            fails(ErrorCode.READ_ONLY, store::snapshot);
            fails(ErrorCode.READ_ONLY, () -> store.limitSnapshots(Duration.ofSeconds(1), 1));
        }
    }
}
