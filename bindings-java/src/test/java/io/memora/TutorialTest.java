package io.memora;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Documentation that runs: read it from top to bottom. */
class TutorialTest {
    private Path directory;
    private Path home;

    @BeforeEach
    void makeHome() throws IOException {
        directory = Testing.newHome();
        home = directory.resolve("home");
    }

    @AfterEach
    void removeHome() throws IOException {
        Testing.remove(directory);
    }

    /** A fabric is shared memory with a name. The first who opens it makes it; all processes that open it see the same. */
    @Test
    void openAFabric() {
        // `Fabric.open("orders")` is all that most programs need. This test wants a place and a size of its own.
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open()) {
            assertEquals("orders", fabric.name());
            assertEquals(List.of("orders"), Fabric.list(home));
        }
        // Closed is not removed: whoever opens it again finds what was there.
        Fabric.remove(home, "orders");
        assertEquals(List.of(), Fabric.list(home));
    }

    /** A cache holds entries: bytes under a key. */
    @Test
    void keepEntriesInACache() {
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Cache prices = fabric.cache("prices")) {
            byte[] key = "EURUSD".getBytes(UTF_8);

            prices.set(key, "1.0842".getBytes(UTF_8));
            assertArrayEquals("1.0842".getBytes(UTF_8), prices.get(key));
            // A miss is null, not an exception.
            assertNull(prices.get("GBPUSD".getBytes(UTF_8)));

            // An entry may have a time to live, and 32 bits of your own.
            prices.set(key, "1.0843".getBytes(UTF_8), SetOptions.ttl(Duration.ofMinutes(5)).withFlags(7));
            Entry entry = prices.getEntry(key);
            assertEquals(7, entry.flags());
            assertTrue(entry.ttlMillis() > 0);

            // Change it only if nobody else did since: its version says.
            assertTrue(prices.compareAndSwap(key, "1.0844".getBytes(UTF_8), entry.version()).stored());
            assertEquals(CasResult.Outcome.STALE,
                    prices.compareAndSwap(key, "1.0845".getBytes(UTF_8), entry.version()).outcome());

            // Counters are entries too. They are exact, however many processes count.
            byte[] counter = "quotes".getBytes(UTF_8);
            assertEquals(1, prices.increment(counter, 1, 1));
            assertEquals(4, prices.increment(counter, 3).getAsLong());
            assertArrayEquals("4".getBytes(UTF_8), prices.get(counter));

            assertTrue(prices.delete(key));
            assertFalse(prices.delete(key));
        }
    }

    /** Buffers save garbage: nothing is allocated on the way. */
    @Test
    void readIntoABuffer() {
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Cache cache = fabric.cache("prices")) {
            ByteBuffer key = ByteBuffer.allocateDirect(8).putLong(0, 42);
            ByteBuffer value = ByteBuffer.allocateDirect(8).putLong(0, 4711);
            cache.set(key, value);

            ByteBuffer out = ByteBuffer.allocateDirect(64);
            assertEquals(8, cache.get(key, out));
            // Positions stay where they were: what was read begins at the buffer's position.
            assertEquals(4711, out.getLong(0));
        }
    }

    /** A channel carries messages. Each subscriber of a broadcast gets each message, in the order of its publisher. */
    @Test
    void sendAndReceive() {
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Channel news = fabric.channel("news", ChannelOptions.broadcast());
                Subscriber subscriber = news.subscriber();
                Publisher publisher = news.publisher()) {
            publisher.send("first".getBytes(UTF_8));
            // Write a message in place: claim, fill, commit.
            try (Claim claim = publisher.claim(8)) {
                claim.buffer().putLong(0, 2);
                claim.commit();
            }

            Message first = subscriber.recv(Duration.ofSeconds(10));
            assertEquals("first", new String(first.payload(), UTF_8));
            // Or take many at once: the fastest way.
            List<Long> numbers = new ArrayList<>();
            assertEquals(1, subscriber.poll((lane, position, payload) -> numbers.add(payload.getLong(payload.position())), 100));
            assertEquals(List.of(2L), numbers);
            // Nothing left: null, at once or after some time.
            assertNull(subscriber.tryRecv());
        }
    }

    /** A named subscription keeps its place while nobody holds it, also when its holder was killed. */
    @Test
    void goOnWhereAnotherStopped() {
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Channel orders = fabric.channel("orders", ChannelOptions.broadcast());
                Publisher publisher = orders.publisher()) {
            try (Subscriber billing = orders.subscriber("billing")) {
                publisher.send("order 1".getBytes(UTF_8));
                assertNotNull(billing.recv(Duration.ofSeconds(10)));
                billing.commit();
            }
            publisher.send("order 2".getBytes(UTF_8));
            try (Subscriber billing = orders.subscriber("billing")) {
                assertEquals("order 2", new String(billing.recv(Duration.ofSeconds(10)).payload(), UTF_8));
            }
        }
    }

    /** A store is a cache that is kept in files: it survives a restart of the host. */
    @Test
    void keepEntriesInAStore() {
        StoreOptions options = StoreOptions.in(directory.resolve("files")).durability(Durability.ASYNC);
        byte[] key = "balance".getBytes(UTF_8);
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Store accounts = fabric.store("accounts", options)) {
            accounts.set(key, "100".getBytes(UTF_8));
            // This one is on disk when the call returns.
            accounts.set(key, "90".getBytes(UTF_8), Durability.SYNC);
            accounts.flush();
        }
        // The shared memory is gone, as after a restart of the host; the files bring the store back.
        Fabric.remove(home, "orders");
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open();
                Store accounts = fabric.store("accounts", options)) {
            assertArrayEquals("90".getBytes(UTF_8), accounts.get(key));
        }
    }

    /** Failures are exceptions with a code for programs and a message for people, which names the remedy. */
    @Test
    void understandAFailure() {
        try (Fabric fabric = Fabric.builder("orders").home(home).limit(16 << 20).open()) {
            Cache cache = fabric.cache("prices");
            cache.close();
            MemoraException error = assertThrows(MemoraException.Closed.class, () -> cache.get(new byte[] {1}));
            assertEquals(ErrorCode.CLOSED, error.code());
            assertTrue(error.getMessage().contains(error.remedy()));
        }
    }
}
