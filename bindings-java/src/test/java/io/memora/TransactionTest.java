package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.internal.Native;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class TransactionTest extends WithFabric {
    static final int ACCOUNTS = 8;
    static final long START = 1000;
    private static final byte[] K = bytes("k");

    private Store store;

    @BeforeEach
    void openStore() {
        store = openStore(fabric, directory.resolve("files"));
    }

    @AfterEach
    void closeStore() {
        store.close();
    }

    static Store openStore(Fabric fabric, Path files) {
        return fabric.store("store", StoreOptions.in(files).durability(Durability.PROCESS));
    }

    private String get(String key) {
        return string(store.get(bytes(key)));
    }

    private static void everyCallIsRefusedAsClosed(Transaction transaction) {
        ByteBuffer direct = ByteBuffer.allocateDirect(100_000);
        assertThrows(MemoraException.Closed.class, () -> transaction.get(K));
        assertThrows(MemoraException.Closed.class, () -> transaction.getEntry(K));
        assertThrows(MemoraException.Closed.class, () -> transaction.get(ByteBuffer.wrap(K), ByteBuffer.allocate(9)));
        assertThrows(MemoraException.Closed.class, () -> transaction.put(K, K));
        assertThrows(MemoraException.Closed.class, () -> transaction.put(K, new byte[100_000]));
        assertThrows(MemoraException.Closed.class, () -> transaction.put(ByteBuffer.wrap(K), direct));
        assertThrows(MemoraException.Closed.class, () -> transaction.delete(K));
        assertThrows(MemoraException.Closed.class, () -> transaction.expect(K, 1));
        assertThrows(MemoraException.Closed.class, () -> transaction.expectAbsent(K));
        assertThrows(MemoraException.Closed.class, () -> transaction.setDurability(Durability.SYNC));
        assertThrows(MemoraException.Closed.class, transaction::commit);
        transaction.close();
    }

    @Test
    void seesItsOwnChangesAndOthersSeeAllOrNothing() {
        store.set(bytes("there"), bytes("old"));
        store.set(bytes("gone"), bytes("x"));
        Transaction transaction = store.transaction();
        assertSame(store, transaction.store());
        assertEquals("old", string(transaction.get(bytes("there"))));
        assertNull(transaction.get(bytes("fresh")));
        assertNull(transaction.getEntry(bytes("fresh")));
        transaction.put(bytes("there"), bytes("new"));
        transaction.put(bytes("fresh"), bytes("value"), SetOptions.ttl(Duration.ofHours(1)).withFlags(9));
        assertTrue(transaction.delete(bytes("gone")));
        assertFalse(transaction.delete(bytes("gone")));
        assertFalse(transaction.delete(bytes("never")));
        Entry entry = transaction.getEntry(bytes("fresh"));
        assertEquals("value", string(entry.value()));
        assertEquals(0, entry.version());
        assertEquals(9, entry.flags());
        assertEquals(3_600_000, entry.ttlMillis());
        assertEquals("old", get("there"));
        assertEquals("x", get("gone"));
        assertNull(get("fresh"));
        transaction.commit();
        assertEquals("new", get("there"));
        assertNull(get("gone"));
        assertEquals(9, store.getEntry(bytes("fresh")).flags());
        assertTrue(store.getEntry(bytes("fresh")).ttlMillis() > 3_500_000);
        everyCallIsRefusedAsClosed(transaction);
    }

    @Test
    void closeWithoutCommitGivesUp() {
        store.set(K, bytes("1"));
        Transaction left;
        try (Transaction transaction = store.transaction()) {
            left = transaction;
            transaction.put(K, bytes("2"));
            transaction.put(bytes("other"), bytes("2"));
        }
        assertEquals("1", get("k"));
        assertNull(get("other"));
        everyCallIsRefusedAsClosed(left);
    }

    @Test
    void valuesOfAnyLengthGoThroughArraysAndBuffers() {
        Random random = new Random(1);
        for (int len : new int[] {0, 1, 16_360, 16_361, 16_384, 16_385, 60_000}) {
            byte[] value = new byte[len];
            random.nextBytes(value);
            ByteBuffer direct = ByteBuffer.allocateDirect(len + 7).position(7);
            direct.put(value).position(7);
            ByteBuffer heap = ByteBuffer.wrap(value).asReadOnlyBuffer();
            store.transact(transaction -> {
                transaction.put(bytes("array"), value);
                transaction.put(ByteBuffer.wrap(bytes("direct")), direct);
                transaction.put(ByteBuffer.wrap(bytes("heap")), heap, SetOptions.NONE.withFlags(5));
                assertArrayEquals(value, transaction.get(bytes("direct")));
                return null;
            });
            assertEquals(7, direct.position());
            assertEquals(len, heap.remaining());
            try (Transaction transaction = store.transaction()) {
                for (String key : List.of("array", "direct", "heap")) {
                    assertArrayEquals(value, store.get(bytes(key)), key);
                    assertArrayEquals(value, transaction.get(bytes(key)), key);
                    for (ByteBuffer out : List.of(ByteBuffer.allocate(len + 3), ByteBuffer.allocateDirect(len + 3))) {
                        out.position(2);
                        assertEquals(len, transaction.get(ByteBuffer.wrap(bytes(key)), out));
                        assertEquals(2, out.position());
                        byte[] copy = new byte[len];
                        out.get(copy);
                        assertArrayEquals(value, copy);
                    }
                }
                if (len > 0) {
                    MemoraException error = fails(ErrorCode.BUFFER_TOO_SMALL,
                            () -> transaction.get(ByteBuffer.wrap(bytes("heap")), ByteBuffer.allocate(len - 1)));
                    assertEquals(len, error.amount());
                }
                assertEquals(5, transaction.getEntry(bytes("heap")).flags());
                assertEquals(Transaction.MISS, transaction.get(ByteBuffer.wrap(bytes("none")), ByteBuffer.allocate(1)));
                fails(ErrorCode.INVALID_ARGUMENT,
                        () -> transaction.get(ByteBuffer.wrap(K), ByteBuffer.allocate(1).asReadOnlyBuffer()));
            }
        }
    }

    @Test
    void whatWasReadMustStillBeSo() {
        store.set(bytes("read"), bytes("1"));
        Transaction first = store.transaction();
        first.get(bytes("read"));
        first.put(bytes("written"), bytes("mine"));
        store.set(bytes("read"), bytes("2"));
        MemoraException.Conflict conflict = assertThrows(MemoraException.Conflict.class, first::commit);
        assertEquals(ErrorCode.CONFLICT, conflict.code());
        assertTrue(conflict.getMessage().contains(ErrorCode.CONFLICT.remedy()), conflict.getMessage());
        assertNull(get("written"));
        everyCallIsRefusedAsClosed(first);

        try (Transaction second = store.transaction()) {
            second.get(bytes("read"));
            store.set(bytes("read"), bytes("3"));
            assertThrows(MemoraException.Conflict.class, () -> second.get(bytes("read")));
        }
        // Each writes what the other has read.
        try (Transaction one = store.transaction(); Transaction other = store.transaction()) {
            one.get(bytes("x"));
            other.get(bytes("y"));
            one.put(bytes("y"), bytes("1"));
            other.put(bytes("x"), bytes("1"));
            one.commit();
            assertThrows(MemoraException.Conflict.class, other::commit);
        }
        assertNull(get("x"));
        assertEquals("1", get("y"));
    }

    @Test
    void versionsThatAreExpected() {
        long version = store.set(K, bytes("1"));
        try (Transaction transaction = store.transaction()) {
            transaction.expect(K, version);
            transaction.expectAbsent(bytes("none"));
            assertThrows(MemoraException.Conflict.class, () -> transaction.expect(K, version + 1));
            assertThrows(MemoraException.Conflict.class, () -> transaction.expectAbsent(K));
            assertThrows(MemoraException.Conflict.class, () -> transaction.expect(bytes("none"), version));
            transaction.put(K, bytes("2"));
            transaction.commit();
        }
        assertEquals("2", get("k"));
        try (Transaction transaction = store.transaction()) {
            transaction.expectAbsent(bytes("none"));
            store.set(bytes("none"), bytes("some"));
            transaction.put(K, bytes("3"));
            assertThrows(MemoraException.Conflict.class, transaction::commit);
        }
        assertEquals("2", get("k"));
    }

    @Test
    void rangesAreThoseOfTheTransactionAndProvedAtTheCommit() {
        try (Store ordered = fabric.store("ordered", StoreOptions.inMemory().ordered(true))) {
            List<String> all = new ArrayList<>();
            for (int i = 0; i < 600; i++) {
                all.add(String.format("key %03d", i));
                ordered.set(bytes(all.get(i)), bytes("old"));
            }
            ordered.transact(transaction -> {
                transaction.put(bytes("key 300 own"), bytes("own"));
                transaction.delete(bytes(all.get(301)));
                List<String> seen = new ArrayList<>();
                assertNull(transaction.range(null, null, Direction.FORWARD, 1000, (key, entry) -> {
                    seen.add(string(key));
                    assertEquals(string(key).endsWith("own") ? "own" : "old", string(entry.value()));
                    transaction.put(key, bytes("new"));
                }));
                List<String> expected = new ArrayList<>(all);
                expected.set(301, "key 300 own");
                assertEquals(expected, seen);
                seen.clear();
                byte[] next = transaction.range(bytes("key 299"), bytes("key 303"), Direction.BACKWARD, 2,
                        (key, entry) -> seen.add(string(key) + string(entry.value())));
                assertEquals(List.of("key 302new", "key 300 ownnew"), seen);
                assertEquals("key 300 own", string(next));
                return null;
            });
            assertEquals("new", string(ordered.get(bytes("key 300 own"))));
            assertNull(ordered.get(bytes(all.get(301))));
            try (Transaction fine = ordered.transaction(); Transaction late = ordered.transaction()) {
                for (Transaction one : List.of(fine, late)) {
                    one.range(bytes("m"), null, Direction.FORWARD, 10, (key, entry) -> assertNull(key));
                    one.put(bytes(one == fine ? "fine" : "late"), K);
                }
                ordered.set(bytes("before"), K);
                fine.commit();
                ordered.set(bytes("moved in"), K);
                assertThrows(MemoraException.Conflict.class, late::commit);
            }
            assertNull(ordered.get(bytes("late")));
        }
        try (Transaction transaction = store.transaction()) {
            fails(ErrorCode.NOT_ORDERED, () -> transaction.range(null, null, Direction.FORWARD, 1, (key, entry) -> {}));
            transaction.close();
            fails(ErrorCode.CLOSED, () -> transaction.range(null, null, Direction.FORWARD, 1, (key, entry) -> {}));
        }
    }

    @Test
    void whatIsRefusedLeavesTheTransactionAsItWas() {
        try (Transaction transaction = store.transaction()) {
            fails(ErrorCode.KEY_TOO_LONG, () -> transaction.put(new byte[100_000], K));
            fails(ErrorCode.KEY_TOO_LONG, () -> transaction.put(new byte[0], K));
            fails(ErrorCode.KEY_TOO_LONG, () -> transaction.get(new byte[100_000]));
            fails(ErrorCode.VALUE_TOO_LONG, () -> transaction.put(K, new byte[8 << 20]));
            fails(ErrorCode.VALUE_TOO_LONG, () -> transaction.put(ByteBuffer.wrap(K), ByteBuffer.allocateDirect(8 << 20)));
            assertThrows(NullPointerException.class, () -> transaction.put(K, null));
            assertThrows(NullPointerException.class, () -> transaction.get((byte[]) null));
            assertThrows(NullPointerException.class, () -> transaction.setDurability(null));
            transaction.put(K, bytes("after"));
            transaction.commit();
        }
        assertEquals("after", get("k"));
        assertThrows(NullPointerException.class, () -> store.transact(null));
        try (Transaction transaction = store.transaction()) {
            MemoraException error = fails(ErrorCode.TRANSACTION_TOO_LARGE, () -> {
                for (int i = 0; i < 100_000; i++) {
                    transaction.put(bytes("key " + i), K);
                }
            });
            assertTrue(error.getMessage().contains("65536"), error.getMessage());
        }
    }

    @Test
    void closedStoreOrFabricEndsItsTransactions() {
        Transaction ofStore = store.transaction();
        ofStore.put(K, bytes("1"));
        store.close();
        everyCallIsRefusedAsClosed(ofStore);
        assertThrows(MemoraException.Closed.class, store::transaction);
        assertThrows(MemoraException.Closed.class, () -> store.transact(transaction -> 1));
        store = openStore(fabric, directory.resolve("files"));
        assertNull(get("k"));
        Transaction ofFabric = store.transaction();
        ofFabric.put(K, bytes("1"));
        fabric.close();
        everyCallIsRefusedAsClosed(ofFabric);
    }

    @Test
    void transactionsLeaveNoHandles() throws InterruptedException {
        store.set(K, bytes("1"));
        int before = Testing.openHandles();
        for (int i = 0; i < 100; i++) {
            store.transact(transaction -> transaction.get(K));
            store.transaction().commit();
            Transaction conflicting = store.transaction();
            conflicting.get(K);
            conflicting.put(bytes("other"), K);
            store.set(K, bytes("2"));
            assertThrows(MemoraException.Conflict.class, conflicting::commit);
            store.transaction().close();
        }
        assertEquals(before, Native.openHandles());
    }

    @Test
    void bodyIsRunAgainUntilItCommits() {
        store.set(K, bytes("0"));
        AtomicInteger runs = new AtomicInteger();
        String seen = store.transact(transaction -> {
            String now = string(transaction.get(K));
            if (runs.incrementAndGet() <= 5) {
                store.set(K, bytes("between " + runs));
            }
            transaction.put(K, bytes("done"));
            return now;
        });
        assertEquals("between 5", seen);
        assertEquals(6, runs.get());
        assertEquals("done", get("k"));

        IOException thrown = new IOException("the body's own");
        IOException caught = assertThrows(IOException.class, () -> store.transact(transaction -> {
            transaction.put(K, bytes("never"));
            throw thrown;
        }));
        assertSame(thrown, caught);
        assertEquals("done", get("k"));
        fails(ErrorCode.VALUE_TOO_LONG, () -> store.transact(transaction -> {
            transaction.put(K, new byte[8 << 20]);
            return null;
        }));

        runs.set(0);
        MemoraException.Conflict conflict = assertThrows(MemoraException.Conflict.class, () -> store.transact(transaction -> {
            runs.incrementAndGet();
            transaction.expectAbsent(K);
            return null;
        }));
        assertEquals(1000, runs.get());
        assertTrue(conflict.getMessage().contains("1000"), conflict.getMessage());
        assertThrows(MemoraException.Closed.class, () -> store.transact(transaction -> {
            transaction.close();
            return null;
        }));
    }

    @Test
    void durabilityOfACommit() {
        store.transact(transaction -> {
            transaction.setDurability(Durability.SYNC);
            transaction.put(K, bytes("synced"));
            return null;
        });
        fabric.close();
        Fabric.remove(home, "test");
        fabric = Fabric.builder("test").home(home).limit(LIMIT).open();
        store = openStore(fabric, directory.resolve("files"));
        assertEquals("synced", get("k"));
    }

    @Test
    void storeWithoutFilesHasTransactionsThatAreNotDurable() {
        try (Store memory = fabric.store("memory", StoreOptions.inMemory())) {
            memory.set(K, bytes("1"));
            memory.transact(transaction -> {
                fails(ErrorCode.INVALID_ARGUMENT, () -> transaction.setDurability(Durability.SYNC));
                fails(ErrorCode.INVALID_ARGUMENT, () -> transaction.setDurability(Durability.ASYNC));
                transaction.setDurability(Durability.PROCESS);
                assertEquals("1", string(transaction.get(K)));
                assertTrue(transaction.delete(K));
                transaction.put(bytes("other"), bytes("2"));
                return null;
            });
            assertNull(memory.get(K));
            assertEquals("2", string(memory.get(bytes("other"))));
            Transaction late = memory.transaction();
            late.get(bytes("other"));
            memory.set(bytes("other"), bytes("3"));
            late.put(K, bytes("late"));
            assertThrows(MemoraException.Conflict.class, late::commit);
            assertNull(memory.get(K));
        }
    }

    @Test
    void anotherThreadMayHaveItButNotTwoAtOnce() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(2);
        try {
            Transaction passed = store.transaction();
            passed.put(K, bytes("1"));
            threads.submit(passed::commit).get();
            assertEquals("1", get("k"));
            for (int round = 0; round < 50; round++) {
                Transaction transaction = store.transaction();
                List<Future<?>> users = new ArrayList<>();
                for (int i = 0; i < 2; i++) {
                    users.add(threads.submit(() -> {
                        while (true) {
                            try {
                                transaction.put(K, bytes("race"));
                                transaction.get(K);
                            } catch (MemoraException.Closed closed) {
                                return;
                            } catch (MemoraException error) {
                                assertEquals(ErrorCode.BUSY, error.code());
                            }
                        }
                    }));
                }
                while (round % 2 == 0) {
                    try {
                        transaction.commit();
                        break;
                    } catch (MemoraException error) {
                        assertEquals(ErrorCode.BUSY, error.code());
                    }
                }
                transaction.close();
                for (Future<?> user : users) {
                    user.get();
                }
            }
        } finally {
            threads.shutdownNow();
        }
    }

    static byte[] account(int number) {
        return bytes("account " + number);
    }

    private static long balance(Transaction transaction, int account) {
        return Long.parseLong(string(transaction.get(account(account))));
    }

    static long sum(Store store) {
        return store.transact(transaction -> {
            long sum = 0;
            for (int i = 0; i < ACCOUNTS; i++) {
                sum += balance(transaction, i);
            }
            return sum;
        });
    }

    /** Moves money about at random; looks now and then whether all of it is there. */
    static void moveMoney(Store store, int transfers, long seed) {
        Random random = new Random(seed);
        for (int i = 0; i < transfers; i++) {
            int from = random.nextInt(ACCOUNTS);
            int to = (from + 1 + random.nextInt(ACCOUNTS - 1)) % ACCOUNTS;
            store.transact(transaction -> {
                long taken = balance(transaction, from) / 10;
                transaction.put(account(from), bytes(Long.toString(balance(transaction, from) - taken)));
                transaction.put(account(to), bytes(Long.toString(balance(transaction, to) + taken)));
                return null;
            });
            if (i % 50 == 0 && sum(store) != ACCOUNTS * START) {
                throw new AssertionError("the sum is " + sum(store));
            }
        }
    }

    @Test
    void moneyIsNeitherMadeNorLostByThreadsAndAnotherJvm() throws Exception {
        store.transact(transaction -> {
            for (int i = 0; i < ACCOUNTS; i++) {
                transaction.put(account(i), bytes(Long.toString(START)));
            }
            return null;
        });
        int transfers = 1000 * Testing.LENGTH;
        ProcessBuilder other = Testing.child(Testing.thisJava(), List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1"),
                ChildJvm.class, "transfer", home.toString(), directory.resolve("files").toString(), "" + transfers);
        ExecutorService threads = Executors.newFixedThreadPool(3);
        try {
            Future<Testing.Ended> child = threads.submit(() -> Testing.run(other, ""));
            List<Future<?>> ours = new ArrayList<>();
            for (int i = 0; i < 2; i++) {
                long seed = i;
                ours.add(threads.submit(() -> moveMoney(store, transfers, seed)));
            }
            for (Future<?> one : ours) {
                one.get();
            }
            Testing.Ended ended = child.get();
            assertEquals("moved\n", ended.out(), ended.err());
        } finally {
            threads.shutdownNow();
        }
        assertEquals(ACCOUNTS * START, sum(store));
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void virtualThreadsOnJava25MoveMoney() throws Exception {
        store.transact(transaction -> {
            for (int i = 0; i < ACCOUNTS; i++) {
                transaction.put(account(i), bytes(Long.toString(START)));
            }
            return null;
        });
        Testing.Ended child = Testing.run(Testing.child(Testing.java25(), List.of("--enable-native-access=ALL-UNNAMED"),
                ChildJvm.class, "virtual-transfer", home.toString(), directory.resolve("files").toString()), "");
        assertEquals("200 moved\n", child.out(), child.err());
        assertEquals(ACCOUNTS * START, sum(store));
    }
}
