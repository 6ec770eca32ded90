package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

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
        try (Cache cache = fabric.cache("full")) {
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
}
