package io.memora;

import static io.memora.Testing.bytes;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.internal.Native;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/**
 * The classic crash of a JVM with native libraries: one thread closes what another is using. Here every call either does its work or
 * throws {@link MemoraException.Closed}.
 */
class CloseRaceTest extends WithFabric {
    private static final int ROUNDS = 60 * Testing.LENGTH;

    /** What a thread does until the object is closed. */
    private interface Use {
        void once();
    }

    private static void race(List<Use> uses, AutoCloseable closes) throws Exception {
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        List<Thread> threads = new ArrayList<>();
        for (Use use : uses) {
            Thread thread = new Thread(() -> {
                try {
                    while (true) {
                        use.once();
                    }
                } catch (MemoraException.Closed expected) {
                    // The end that is meant.
                } catch (Throwable error) {
                    wrong.set(error);
                }
            });
            thread.start();
            threads.add(thread);
        }
        Thread.sleep(1);
        closes.close();
        for (Thread thread : threads) {
            thread.join(30_000);
            assertTrue(!thread.isAlive(), "a call goes on after the close");
        }
        assertNull(wrong.get(), () -> "a thread ended with " + wrong.get());
    }

    @Test
    void closingACacheUnderItsUsers() throws Exception {
        for (int round = 0; round < ROUNDS; round++) {
            Cache cache = fabric.cache("cache");
            cache.set(bytes("a"), new byte[100]);
            race(List.of(
                    () -> assertEquals(100, cache.get(bytes("a")).length),
                    () -> cache.set(bytes("a"), new byte[100]),
                    () -> cache.increment(bytes("n"), 1, 1)), cache);
        }
    }

    @Test
    void closingAFabricUnderItsUsers() throws Exception {
        for (int round = 0; round < ROUNDS; round++) {
            Fabric other = Fabric.builder("test").home(home).open();
            Cache cache = other.cache("cache");
            Channel channel = other.channel("news", ChannelOptions.broadcast());
            Subscriber subscriber = channel.subscriber();
            Publisher publisher = channel.publisher();
            race(List.of(
                    () -> cache.set(bytes("a"), new byte[100]),
                    () -> subscriber.recv(Duration.ofSeconds(1)),
                    () -> publisher.send(bytes("a"), Duration.ofMillis(1)),
                    () -> other.cache("cache").close()), other);
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void closingASubscriberThatWaits() throws Exception {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast())) {
            for (int round = 0; round < 5; round++) {
                Subscriber subscriber = channel.subscriber();
                race(List.of(() -> subscriber.recv(Duration.ofHours(1))), subscriber);
            }
        }
    }

    @Test
    void handlesAreNotLeaked() throws Exception {
        int before = Testing.openHandles();
        for (int i = 0; i < 20_000; i++) {
            // More than the handles that may be open at once.
            fabric.cache("cache").close();
        }
        assertEquals(before, Native.openHandles());
    }

    @Test
    void forgottenHandleIsClosedByTheCleaner() throws Exception {
        int before = Testing.openHandles();
        for (int i = 0; i < 50; i++) {
            fabric.cache("cache");
        }
        long start = System.nanoTime();
        while (Native.openHandles() > before && System.nanoTime() - start < 30_000_000_000L) {
            System.gc();
            Thread.sleep(20);
        }
        assertEquals(before, Native.openHandles());
    }

    @Test
    void inventedHandlesAreClosed() {
        for (long handle : new long[] {0, 1, -1, 1L << 32, 16L * 1024, Long.MAX_VALUE, Long.MIN_VALUE, 3L << 32 | 5}) {
            org.junit.jupiter.api.Assertions.assertThrows(MemoraException.Closed.class, () -> Native.size(handle | 1L << 62));
            Native.close(handle | 1L << 62);
        }
    }
}
