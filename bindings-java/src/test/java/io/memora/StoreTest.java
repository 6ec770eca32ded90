package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class StoreTest extends EntriesContract {
    private StoreOptions options() {
        return StoreOptions.in(directory.resolve("files")).durability(Durability.PROCESS);
    }

    @Override
    Store entries() {
        return fabric.store("store", options());
    }

    /** A record of a store fits a chunk, which has 64 KiB here. */
    @Override
    int longestKey() {
        return (64 << 10) - 512;
    }

    @Test
    void whatWasFlushedSurvivesTheLossOfTheSharedMemory() {
        try (Store store = entries()) {
            store.set(bytes("a"), bytes("1"));
            store.set(bytes("b"), bytes("1"));
            store.delete(bytes("b"));
            store.flush();
        }
        loseTheFabric();
        try (Store store = entries()) {
            assertEquals("1", string(store.get(bytes("a"))));
            assertNull(store.get(bytes("b")));
            assertEquals(1, store.size());
        }
    }

    @Test
    void syncedWriteSurvivesWithoutAFlush() {
        try (Store store = fabric.store("store", options().durability(Durability.SYNC))) {
            store.set(bytes("a"), bytes("1"));
        }
        try (Store store = entries()) {
            store.set(bytes("b"), bytes("2"), Durability.SYNC);
        }
        loseTheFabric();
        try (Store store = entries()) {
            assertEquals("1", string(store.get(bytes("a"))));
            assertEquals("2", string(store.get(bytes("b"))));
        }
    }

    @Test
    void checkpointKeepsEverything() {
        try (Store store = entries()) {
            for (int i = 0; i < 1000; i++) {
                store.set(bytes("key " + i % 100), bytes("value " + i));
            }
            store.checkpoint();
            store.set(bytes("after"), bytes("1"));
            store.flush();
        }
        loseTheFabric();
        try (Store store = entries()) {
            assertEquals(101, store.size());
            assertEquals("value 999", string(store.get(bytes("key 99"))));
            assertEquals("1", string(store.get(bytes("after"))));
        }
    }

    @Test
    void theNumberOfShardsChangesAndStaysInTheFiles() {
        try (Store store = fabric.store("divided", StoreOptions.in(home.resolve("divided")).shards(3))) {
            for (int i = 0; i < 300; i++) {
                store.set(bytes("key " + i), bytes("value " + i));
            }
            assertEquals(3, store.stats().shards());
            store.setShards(7);
            assertEquals(7, store.stats().shards());
            store.delete(bytes("key 7"));
            store.flush();
            fails(ErrorCode.INVALID_ARGUMENT, () -> store.setShards(0));
            fails(ErrorCode.INVALID_ARGUMENT, () -> store.setShards(65));
        }
        loseTheFabric();
        try (Store store = fabric.store("divided", StoreOptions.in(home.resolve("divided")).shards(3))) {
            assertEquals(7, store.stats().shards());
            assertEquals(299, store.size());
            assertEquals("value 299", string(store.get(bytes("key 299"))));
        }
        try (Store store = fabric.store("memory", StoreOptions.inMemory())) {
            assertEquals(0, store.stats().shards());
            fails(ErrorCode.INVALID_ARGUMENT, () -> store.setShards(2));
        }
    }

    @Test
    void closedStoreRefusesFlushAndCheckpoint() {
        Store store = entries();
        store.close();
        assertThrows(MemoraException.Closed.class, store::flush);
        assertThrows(MemoraException.Closed.class, store::checkpoint);
        assertThrows(MemoraException.Closed.class, () -> store.set(bytes("a"), bytes("1"), Durability.SYNC));
    }

    @Test
    void optionsThatCannotBeAreRefused() {
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().interval(Duration.ZERO));
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().interval(Duration.ofMinutes(2)));
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().checkpointBytes(0));
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().shards(0));
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().shards(65));
        assertThrows(NullPointerException.class, () -> StoreOptions.in(null));
    }

    private void loseTheFabric() {
        fabric.close();
        Fabric.remove(home, "test");
        fabric = Fabric.builder("test").home(home).limit(LIMIT).open();
    }

    @Test
    void figuresTellWhatIsWritten() {
        try (Store store = entries()) {
            store.set(bytes("a"), bytes("1"));
            store.flush();
            store.checkpoint();
            StoreStats stats = store.stats();
            assertEquals(1, stats.entries());
            assertTrue(stats.flushes() >= 1 && stats.checkpoints() >= 1 && stats.checkpointBytes() > 0, stats.toString());
            assertEquals(false, stats.poisoned());
        }
    }

    private static List<String> keys(List<String> found, byte[] key, Entry entry) {
        assertEquals("value of " + string(key), string(entry.value()));
        found.add(string(key));
        return found;
    }

    private static List<String> range(Store store, String from, String to, Direction direction, int limit) {
        List<String> found = new ArrayList<>();
        byte[] least = from == null ? null : bytes(from);
        store.range(least, to == null ? null : bytes(to), direction, limit, (key, entry) -> keys(found, key, entry));
        return found;
    }

    @Test
    void rangesGoOverKeysInTheirOrder() {
        try (Store store = fabric.store("ordered", options().ordered(true))) {
            for (String key : List.of("pear", "apple", "plum", "fig", "pea")) {
                store.set(bytes(key), bytes("value of " + key));
            }
            assertEquals(List.of("apple", "fig", "pea", "pear", "plum"), range(store, null, null, Direction.FORWARD, 100));
            assertEquals(List.of("plum", "pear", "pea", "fig", "apple"), range(store, null, null, Direction.BACKWARD, 100));
            assertEquals(List.of("fig", "pea"), range(store, "fig", "pear", Direction.FORWARD, 100));
            assertEquals(List.of("pea", "fig"), range(store, "fig", "pear", Direction.BACKWARD, 100));
            assertEquals(List.of(), range(store, "pear", "fig", Direction.FORWARD, 100));
            assertEquals(List.of(), range(store, null, null, Direction.FORWARD, 0));
            List<String> found = new ArrayList<>();
            assertNull(store.prefix(bytes("pea"), Direction.BACKWARD, 9, (key, entry) -> keys(found, key, entry)));
            assertEquals(List.of("pear", "pea"), found);
            found.clear();
            assertNull(store.prefix(new byte[] {-1, -1}, Direction.FORWARD, 9, (key, entry) -> keys(found, key, entry)));
            assertEquals(List.of(), found);
            fails(ErrorCode.INVALID_ARGUMENT, () -> range(store, null, null, Direction.FORWARD, -1));
            store.delete(bytes("fig"));
            assertEquals(List.of("apple", "pea", "pear", "plum"), range(store, null, null, Direction.FORWARD, 100));
        }
    }

    @Test
    void rangesGoOnWhereTheyWereLeft() {
        try (Store store = fabric.store("ordered", options().ordered(true))) {
            List<String> all = new ArrayList<>();
            for (int i = 0; i < 1000; i++) {
                String key = String.format("key %03d", i);
                store.set(bytes(key), bytes("value of " + key));
                all.add(key);
            }
            assertEquals(all, range(store, null, null, Direction.FORWARD, Integer.MAX_VALUE));
            assertEquals(all.subList(0, 300), range(store, null, null, Direction.FORWARD, 300));
            for (Direction direction : Direction.values()) {
                List<String> found = new ArrayList<>();
                byte[] from = null;
                byte[] to = null;
                byte[] next;
                do {
                    int before = found.size();
                    next = store.range(from, to, direction, 300, (key, entry) -> {
                        keys(found, key, entry);
                        key[0]++;
                    });
                    assertTrue(found.size() <= before + 300, "not more than the limit");
                    if (direction == Direction.FORWARD) {
                        from = next;
                    } else {
                        to = next;
                    }
                } while (next != null);
                assertEquals(all, found);
                Collections.reverse(all);
            }
        }
    }

    @Test
    void onlyStoresThatWereMadeOrderedHaveRanges() {
        try (Store store = entries()) {
            fails(ErrorCode.NOT_ORDERED, () -> range(store, null, null, Direction.FORWARD, 1));
            fails(ErrorCode.WRONG_OPTIONS, () -> fabric.store("store", options().ordered(true)));
            fabric.store("store", options().ordered(false)).close();
        }
        StoreOptions inMemory = StoreOptions.inMemory();
        try (Store store = fabric.store("ordered", inMemory.ordered(true))) {
            fails(ErrorCode.WRONG_OPTIONS, () -> fabric.store("ordered", inMemory.ordered(false)));
            store.set(bytes("a"), bytes("value of a"));
            try (Store again = fabric.store("ordered", inMemory)) {
                assertEquals(List.of("a"), range(again, null, null, Direction.BACKWARD, 1));
            }
        }
        try (Store store = fabric.store("closed", inMemory.ordered(true))) {
            store.close();
            fails(ErrorCode.CLOSED, () -> range(store, null, null, Direction.FORWARD, 1));
        }
    }

    @Test
    void aBackupIsVerifiedRestoredAndRepaired() throws Exception {
        Path backup = directory.resolve("backup");
        Path restored = directory.resolve("restored");
        try (Store store = entries()) {
            store.set(bytes("a"), bytes("1"));
            store.set(bytes("b"), bytes("2"));
            BackupInfo info = store.backup(backup);
            assertEquals(2, info.records());
            fails(ErrorCode.ALREADY_EXISTS, () -> store.backup(backup));
            assertEquals(info, StoreFiles.restore(backup, restored, "copy", false));
        }
        assertTrue(StoreFiles.verify(backup).backup());
        assertEquals(new VerifyReport(false, 2, StoreFiles.verify(restored).bytes(), 0, 0), StoreFiles.verify(restored));
        fails(ErrorCode.ALREADY_EXISTS, () -> StoreFiles.restore(backup, restored));
        fails(ErrorCode.NOT_A_BACKUP, () -> StoreFiles.restore(restored, directory.resolve("x")));
        assertTrue(StoreFiles.examine(restored).sound());
        Path file = restored.resolve("checkpoint.0000001.0000000");
        byte[] content = Files.readAllBytes(file);
        content[4096 + 70] ^= 1;
        Files.write(file, content);
        fails(ErrorCode.JOURNAL_CORRUPT, () -> StoreFiles.verify(restored));
        RepairReport report = StoreFiles.examine(restored);
        assertEquals(new RepairReport.Loss(
                        "checkpoint.0000001.0000000", 4096, content.length, OptionalLong.of(2), report.losses().get(0).what()),
                report.losses().get(0));
        assertEquals(report.losses(), StoreFiles.repair(restored).losses());
        assertTrue(StoreFiles.examine(restored).sound());
        assertTrue(StoreFiles.restore(backup, restored, null, true).records() == 2);
    }
}
