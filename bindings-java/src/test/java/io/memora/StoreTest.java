package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
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
}
