package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class CacheTest extends EntriesContract {
    @Override
    Entries entries() {
        return fabric.cache("cache");
    }

    @Override
    int longestKey() {
        return 65_536;
    }

    @Test
    void longValuesComeBackWhole() {
        try (Cache cache = fabric.cache("long")) {
            for (int len : new int[] {32 << 10, 64 << 10, (64 << 10) + 1, 1 << 20, 3 << 20}) {
                byte[] value = pattern(len);
                cache.set(bytes("k"), value);
                assertArrayEquals(value, cache.get(bytes("k")), len + " bytes");
            }
        }
    }

    @Test
    void twoHandlesNameOneCache() {
        try (Cache one = fabric.cache("shared"); Cache two = fabric.cache("shared")) {
            one.set(bytes("a"), bytes("1"));
            assertEquals("1", string(two.get(bytes("a"))));
            assertEquals("shared", two.name());
            assertSame(fabric, two.fabric());
        }
    }

    @Test
    void counterIsExactWhenThreadsCountAtOnce() throws InterruptedException {
        int threads = 4;
        int times = 5_000 * Testing.LENGTH;
        try (Cache cache = fabric.cache("counters")) {
            cache.set(bytes("n"), bytes("0"));
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                Thread thread = new Thread(() -> {
                    for (int j = 0; j < times; j++) {
                        cache.increment(bytes("n"), 1);
                    }
                });
                thread.start();
                all.add(thread);
            }
            for (Thread thread : all) {
                thread.join();
            }
            assertEquals(Integer.toString(threads * times), string(cache.get(bytes("n"))));
        }
    }

    @Test
    void fullCacheSaysSoAndKeepsWhatItHas() {
        try (Cache cache = fabric.cache("full", CacheOptions.rejecting())) {
            cache.set(bytes("first"), bytes("1"));
            MemoraException error = fails(ErrorCode.FULL, () -> {
                for (int i = 0; i < 1_000_000; i++) {
                    cache.set(bytes("key " + i), new byte[10_000]);
                }
            });
            assertEquals(true, error.getMessage().contains(ErrorCode.FULL.remedy()));
            assertEquals("1", string(cache.get(bytes("first"))));
            cache.set(bytes("first"), bytes("2"));
            assertEquals("2", string(cache.get(bytes("first"))));
        }
    }

    @Test
    void valuesGrowAtBothEnds() {
        try (Cache cache = fabric.cache("grow")) {
            assertEquals(Entries.NOT_STORED, cache.append(bytes("k"), bytes("x")));
            assertEquals(Entries.NOT_STORED, cache.prepend(bytes("k"), bytes("x")));
            long first = cache.set(bytes("k"), bytes("b"), SetOptions.ttl(Duration.ofHours(1)).withFlags(7));
            long second = cache.append(bytes("k"), bytes("c"));
            assertTrue(second > 0 && second != first);
            cache.prepend(bytes("k"), bytes("a"));
            Entry entry = cache.getEntry(bytes("k"));
            assertEquals("abc", string(entry.value()));
            assertEquals(7, entry.flags());
            assertTrue(entry.ttlMillis() > 0);
            cache.append(bytes("k"), pattern(20_000));
            assertEquals(20_003, cache.get(bytes("k")).length);
            assertThrows(NullPointerException.class, () -> cache.append(bytes("k"), null));
        }
    }

    @Test
    void deletionMayAskForAVersion() {
        try (Cache cache = fabric.cache("gone")) {
            long first = cache.set(bytes("k"), bytes("1"));
            long second = cache.set(bytes("k"), bytes("2"));
            assertEquals(new DeleteResult(DeleteResult.Outcome.STALE, second), cache.deleteIf(bytes("k"), first));
            assertEquals("2", string(cache.get(bytes("k"))));
            assertTrue(cache.deleteIf(bytes("k"), second).deleted());
            assertEquals(DeleteResult.Outcome.NOT_FOUND, cache.deleteIf(bytes("k"), second).outcome());
        }
    }

    @Test
    void touchingChangesTheTimeToLiveAndNothingElse() {
        try (Cache cache = fabric.cache("touched")) {
            assertFalse(cache.touch(bytes("k"), null));
            assertNull(cache.getAndTouch(bytes("k"), Duration.ofSeconds(1)));
            long version = cache.set(bytes("k"), bytes("1"), SetOptions.NONE.withFlags(3));
            assertTrue(cache.touch(bytes("k"), Duration.ofHours(1)));
            Entry entry = cache.getEntry(bytes("k"));
            assertEquals(version, entry.version());
            assertTrue(entry.ttlMillis() > 3_000_000 && entry.ttlMillis() <= 3_600_000, "" + entry.ttlMillis());
            Entry touched = cache.getAndTouch(bytes("k"), null);
            assertEquals("1", string(touched.value()));
            assertEquals(-1, touched.ttlMillis());
            assertEquals(-1, cache.getEntry(bytes("k")).ttlMillis());
            assertEquals(3, touched.flags());
            fails(ErrorCode.INVALID_ARGUMENT, () -> cache.touch(bytes("k"), Duration.ZERO));
        }
    }

    @Test
    void whatWasThereCanBeTakenOut() {
        try (Cache cache = fabric.cache("taken")) {
            assertNull(cache.getAndSet(bytes("k"), pattern(30_000)));
            Entry first = cache.getAndSet(bytes("k"), bytes("2"), SetOptions.NONE.withFlags(1));
            assertArrayEquals(pattern(30_000), first.value());
            Entry second = cache.getAndDelete(bytes("k"));
            assertEquals("2", string(second.value()));
            assertEquals(1, second.flags());
            assertTrue(second.version() != first.version());
            assertNull(cache.getAndDelete(bytes("k")));
            assertNull(cache.get(bytes("k")));
            assertThrows(NullPointerException.class, () -> cache.getAndSet(bytes("k"), null));
        }
    }

    @Test
    void countersHaveTheRulesOfThePeers() {
        try (Cache cache = fabric.cache("peers")) {
            byte[] key = bytes("n");
            assertTrue(cache.count(key, 1, CounterOptions.unsigned()).isEmpty());
            CounterOptions timed = CounterOptions.unsigned().initial(5).ttl(Duration.ofHours(1));
            assertEquals(5, cache.count(key, 1, timed).getAsLong());
            assertEquals(6, cache.count(key, 1, CounterOptions.unsigned()).getAsLong());
            assertTrue(cache.getEntry(key).ttlMillis() > 0);
            assertEquals(4, cache.count(key, -2, CounterOptions.unsigned().renewTtl()).getAsLong());
            assertEquals(-1, cache.getEntry(key).ttlMillis());
            assertEquals(0, cache.count(key, -9, CounterOptions.wrapping()).getAsLong());
            cache.set(key, bytes("18446744073709551615"));
            assertEquals(1, cache.count(key, 2, CounterOptions.wrapping()).getAsLong());
            assertEquals(-4, cache.count(key, -5, CounterOptions.signed()).getAsLong());
            assertEquals("-4", string(cache.get(key)));
            MemoraException error = fails(ErrorCode.NOT_A_NUMBER, () -> cache.count(key, 1, CounterOptions.unsigned()));
            assertTrue(error.getMessage().endsWith(ErrorCode.NOT_A_NUMBER.remedy()), error.getMessage());
            cache.set(key, bytes("" + Long.MAX_VALUE));
            error = fails(ErrorCode.COUNTER_OVERFLOW, () -> cache.count(key, 1, CounterOptions.signed()));
            assertTrue(error.getMessage().endsWith(ErrorCode.COUNTER_OVERFLOW.remedy()), error.getMessage());
            assertEquals("" + Long.MAX_VALUE, string(cache.get(key)));
        }
    }

    @Test
    void cacheIsOpenedAsItWasMade() {
        CacheOptions options = CacheOptions.rejecting().limit(2 << 20);
        fabric.cache("made", options).close();
        fabric.cache("made", options).close();
        fabric.cache("made").close();
        for (CacheOptions other : List.of(
                CacheOptions.evicting().limit(2 << 20), CacheOptions.rejecting(), options.limit(3 << 20), options.entries(5),
                options.withEvents())) {
            MemoraException error = fails(ErrorCode.WRONG_OPTIONS, () -> fabric.cache("made", other));
            assertTrue(error.getMessage().endsWith(ErrorCode.WRONG_OPTIONS.remedy()), error.getMessage());
        }
        fails(ErrorCode.INVALID_ARGUMENT, () -> CacheOptions.evicting().limit(0));
        fails(ErrorCode.INVALID_ARGUMENT, () -> CacheOptions.evicting().entries(-1));
    }

    @Test
    void cacheThatRejectsKeepsWhatItHas() {
        try (Cache cache = fabric.cache("full", CacheOptions.rejecting().limit(2 << 20))) {
            int[] stored = {0};
            MemoraException error = fails(ErrorCode.FULL, () -> {
                while (stored[0] < 10_000) {
                    cache.set(bytes("key " + stored[0]), new byte[10_000]);
                    stored[0]++;
                }
            });
            assertTrue(error.getMessage().endsWith(ErrorCode.FULL.remedy()), error.getMessage());
            assertTrue(stored[0] > 50, "only " + stored[0]);
            for (int i = 0; i < stored[0]; i++) {
                assertEquals(10_000, cache.get(bytes("key " + i)).length);
            }
        }
    }

    @Test
    void whatIsDoneIsCounted() {
        try (Cache cache = fabric.cache("counted")) {
            cache.set(bytes("k"), bytes("v"));
            for (int i = 0; i < 30; i++) {
                cache.get(bytes("k"));
            }
            for (int i = 0; i < 10; i++) {
                cache.get(bytes("missing"));
            }
            cache.delete(bytes("k"));
            CacheStats stats = cache.stats();
            assertEquals(new CacheCounts(30, 10, 1, 1, 0, 0, 0, 0), stats.counts());
            assertEquals(0.75, stats.counts().hitRatio());
            assertEquals(0, stats.counts().evictions());
            assertEquals(0, stats.entries());
            assertTrue(stats.capacityBytes() > 0 && stats.recordChunks() > 0 && stats.indexChunks() > 0, stats.toString());
            assertTrue(stats.evictedSmallAge().isEmpty() && stats.evictedMainAge().isEmpty());
            ProcessCounts mine = cache.processCounts().stream()
                    .filter(it -> it.pid() == ProcessHandle.current().pid()).findFirst().orElseThrow();
            assertEquals(stats.counts(), mine.counts());
            assertTrue(mine.threads() > 0 && !mine.command().isEmpty(), mine.toString());
            assertEquals(0, fabric.cache("empty").stats().counts().hitRatio());
        }
        assertThrows(MemoraException.Closed.class, () -> {
            Cache cache = fabric.cache("counted");
            cache.close();
            cache.stats();
        });
    }

    @Test
    void closedCacheRefusesEveryCallThatOnlyCachesHave() {
        Cache cache = fabric.cache("closed");
        cache.close();
        List<org.junit.jupiter.api.function.Executable> calls = List.of(
                () -> cache.append(bytes("k"), bytes("v")),
                () -> cache.prepend(bytes("k"), bytes("v")),
                () -> cache.deleteIf(bytes("k"), 1),
                () -> cache.touch(bytes("k"), null),
                () -> cache.getAndTouch(bytes("k"), null),
                () -> cache.getAndSet(bytes("k"), bytes("v")),
                () -> cache.getAndDelete(bytes("k")),
                () -> cache.count(bytes("k"), 1, CounterOptions.signed()),
                () -> cache.view(bytes("k")),
                () -> cache.lease(bytes("k"), Duration.ZERO),
                () -> cache.invalidate(bytes("k"), null),
                () -> cache.getMeta(bytes("k"), null),
                cache::flush,
                cache::advice,
                cache::events,
                cache::stats,
                cache::processCounts);
        calls.forEach(call -> assertThrows(MemoraException.Closed.class, call));
    }
}
