package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** One makes a value, the others wait for it; what is out of date is served meanwhile. */
class ComputeTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);

    @Test
    void valueIsMadeOnceForAllWhoAsk() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try (Cache cache = fabric.cache("cache")) {
            for (int round = 0; round < 20; round++) {
                byte[] key = bytes("key " + round);
                AtomicInteger made = new AtomicInteger();
                CountDownLatch start = new CountDownLatch(1);
                List<Future<String>> answers = java.util.stream.IntStream.range(0, 8).mapToObj(i -> threads.submit(() -> {
                    start.await();
                    return string(cache.getOrCompute(key, SetOptions.NONE, LONG, asked -> {
                        Thread.sleep(5);
                        return bytes(string(asked) + " made " + made.incrementAndGet());
                    }));
                })).toList();
                start.countDown();
                for (Future<String> answer : answers) {
                    assertEquals("key " + round + " made 1", answer.get());
                }
                assertEquals("key " + round + " made 1", string(cache.get(key)));
            }
        } finally {
            threads.shutdownNow();
        }
    }

    @Test
    void whatComputeThrowsComesOutAndTheNextComputes() throws Exception {
        try (Cache cache = fabric.cache("cache")) {
            IOException thrown = new IOException("no");
            assertSame(thrown, assertThrows(IOException.class, () -> cache.getOrCompute(
                    bytes("k"), SetOptions.NONE, Duration.ZERO, key -> {
                        throw thrown;
                    })));
            assertThrows(NullPointerException.class,
                    () -> cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ZERO, key -> null));
            fails(ErrorCode.VALUE_TOO_LONG,
                    () -> cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ZERO, key -> new byte[32 << 20]));
            assertNull(cache.get(bytes("k")));
            byte[] made = cache.getOrCompute(bytes("k"), SetOptions.ttl(Duration.ofHours(1)), Duration.ZERO, key -> bytes("1"));
            assertEquals("1", string(made));
            assertTrue(cache.getEntry(bytes("k")).ttlMillis() > 0);
            assertEquals("1", string(cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ZERO, key -> bytes("2"))));
        }
    }

    @Test
    void whoAsksForItsOwnKeyIsTold() {
        try (Cache cache = fabric.cache("cache")) {
            fails(ErrorCode.BUSY, () -> cache.getOrCompute(bytes("k"), SetOptions.NONE, LONG,
                    key -> cache.getOrCompute(key, SetOptions.NONE, LONG, inner -> bytes("inner"))));
            assertEquals("other", string(cache.getOrCompute(bytes("k"), SetOptions.NONE, LONG,
                    key -> cache.getOrCompute(bytes("other"), SetOptions.NONE, LONG, inner -> bytes("other")))));
        }
    }

    @Test
    void leaseThatIsLostStoresNothing() {
        try (Cache cache = fabric.cache("cache")) {
            try (Lease lease = cache.lease(bytes("k"), Duration.ZERO)) {
                assertNull(lease.entry());
                assertTrue(lease.fill(bytes("1")) > 0);
                assertThrows(MemoraException.Closed.class, () -> lease.fill(bytes("2")));
            }
            try (Lease lease = cache.lease(bytes("k"), Duration.ZERO)) {
                assertEquals("1", string(lease.entry().value()));
                assertThrows(IllegalStateException.class, () -> lease.fill(bytes("2")));
            }
            cache.delete(bytes("k"));
            Lease lost = cache.lease(bytes("k"), Duration.ZERO);
            cache.set(bytes("k"), bytes("theirs"));
            assertEquals(Entries.NOT_STORED, lost.fill(bytes("ours")));
            lost.close();
            lost.close();
            assertEquals("theirs", string(cache.get(bytes("k"))));
        }
    }

    @Test
    void waitEndsByTimeByAnInterruptAndByAClose() throws Exception {
        try (Cache cache = fabric.cache("cache"); Lease held = cache.lease(bytes("k"), Duration.ZERO)) {
            assertNull(held.entry());
            MemoraException[] thrown = new MemoraException[3];
            boolean[] interrupted = new boolean[1];
            Cache other = fabric.cache("cache");
            Thread[] waiters = {
                new Thread(() -> thrown[0] = fails(ErrorCode.TIMED_OUT, () -> cache.lease(bytes("k"), Duration.ofMillis(60)))),
                new Thread(() -> {
                    thrown[1] = fails(ErrorCode.TIMED_OUT, () -> cache.lease(bytes("k"), Duration.ofDays(1)));
                    interrupted[0] = Thread.currentThread().isInterrupted();
                }),
                new Thread(() -> thrown[2] = fails(ErrorCode.CLOSED, () -> other.lease(bytes("k"), Duration.ofDays(1)))),
            };
            for (Thread waiter : waiters) {
                waiter.start();
            }
            Thread.sleep(30);
            waiters[1].interrupt();
            other.close();
            for (Thread waiter : waiters) {
                waiter.join();
            }
            for (MemoraException error : thrown) {
                assertNotNull(error);
            }
            assertTrue(interrupted[0]);
            assertTrue(thrown[0].getMessage().endsWith(ErrorCode.TIMED_OUT.remedy()), thrown[0].getMessage());
        }
    }

    @Test
    void nextComputesWhenTheJvmThatComputesIsKilled() throws Exception {
        try (Cache cache = fabric.cache("cache")) {
            Process child = Testing.child(Testing.thisJava(), List.of("-XX:TieredStopAtLevel=1"), ChildJvm.class,
                    "compute", home.toString()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            assertEquals("computing", child.inputReader().readLine());
            fails(ErrorCode.TIMED_OUT, () -> cache.lease(bytes("k"), Duration.ofMillis(60)));
            String[] made = new String[1];
            Thread waiter = new Thread(() -> made[0] =
                    string(cache.getOrCompute(bytes("k"), SetOptions.NONE, LONG, key -> bytes("by the next"))));
            waiter.start();
            Thread.sleep(20);
            assertFalse(cache.get(bytes("k")) != null);
            child.destroyForcibly();
            assertEquals(137, child.waitFor());
            waiter.join();
            assertEquals("by the next", made[0]);
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void virtualThreadsOnJava25WaitForOneValue() throws Exception {
        Testing.Ended child = Testing.run(Testing.child(Testing.java25(), List.of("--enable-native-access=ALL-UNNAMED"),
                ChildJvm.class, "virtual-compute", home.toString()), "");
        assertEquals("made 1 for 500\n", child.out(), child.err());
    }

    @Test
    void whatIsOutOfDateIsServedWhileOneMakesItAnew() {
        try (Cache cache = fabric.cache("cache")) {
            assertEquals(Entries.NOT_STORED, cache.invalidate(bytes("k"), null));
            assertNull(cache.getMeta(bytes("k"), null));
            long first = cache.set(bytes("k"), bytes("old"));
            MetaEntry fresh = cache.getMeta(bytes("k"), null);
            assertFalse(fresh.stale() || fresh.won() || fresh.taken());
            long marked = cache.invalidate(bytes("k"), Duration.ofMinutes(1));
            assertTrue(marked != first);
            MetaEntry won = cache.getMeta(bytes("k"), null);
            assertTrue(won.stale() && won.won() && !won.taken());
            assertEquals("old", string(won.entry().value()));
            MetaEntry other = cache.getMeta(bytes("k"), null);
            assertTrue(other.stale() && !other.won() && other.taken());
            assertFalse(cache.compareAndSwap(bytes("k"), bytes("older"), first).stored());
            assertTrue(cache.compareAndSwap(bytes("k"), bytes("new"), won.entry().version()).stored());
            assertFalse(cache.getMeta(bytes("k"), null).stale());
            cache.set(bytes("k"), bytes("soon"), SetOptions.ttl(Duration.ofMinutes(1)));
            assertTrue(cache.getMeta(bytes("k"), Duration.ofMinutes(5)).won());
            cache.invalidate(bytes("k"), null);
            assertEquals("anew", string(cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ZERO, key -> bytes("anew"))));
        }
    }

    @Test
    void flushingEmptiesTheCacheAndIsAnEvent() {
        try (Cache cache = fabric.cache("flushed", CacheOptions.evicting().withEvents()); EventSubscriber events = cache.events()) {
            cache.set(bytes("a"), bytes("1"));
            cache.flush();
            assertNull(cache.get(bytes("a")));
            cache.set(bytes("b"), bytes("2"));
            assertEquals("2", string(cache.get(bytes("b"))));
            assertEquals(1, cache.size());
            assertEquals(Event.Kind.SET, events.next(LONG).kind());
            Event flush = events.next(LONG);
            assertEquals(Event.Kind.FLUSH, flush.kind());
            assertEquals(0, flush.key().length);
        }
    }

    @Test
    void moreMemoryGivesNoFewerHits() {
        try (Cache cache = fabric.cache("advised")) {
            assertTrue(cache.advice().isEmpty());
            for (int i = 0; i < 400_000; i++) {
                byte[] key = bytes("key " + i % 50_000);
                if (cache.get(key) == null) {
                    cache.set(key, bytes("value"));
                }
            }
            Advice advice = cache.advice().orElseThrow();
            assertTrue(advice.hitRatio() > 0.5 && advice.sampledReads() > 0, advice.toString());
            assertEquals(7, advice.points().size());
            double last = 0;
            for (Advice.Point point : advice.points()) {
                assertTrue(point.hitRatio() >= last && point.hitRatio() <= 1 && point.factor() > 0, advice.toString());
                last = point.hitRatio();
            }
        }
    }
}
