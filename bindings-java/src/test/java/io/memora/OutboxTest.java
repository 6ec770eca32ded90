package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.internal.Native;
import java.nio.ByteBuffer;
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

class OutboxTest extends WithFabric {
    private static final byte[] K = bytes("k");
    private static final int LANE = 16 << 10;

    private Store store;
    private Channel broadcast;
    private Channel queue;
    private Outbox told;
    private Outbox work;
    private Subscriber subscriber;
    private Consumer consumer;
    private boolean closed;

    @BeforeEach
    void openAll() {
        store = fabric.store("store", StoreOptions.inMemory());
        broadcast = fabric.channel("broadcast", ChannelOptions.broadcast().laneBytes(LANE));
        queue = fabric.channel("queue", ChannelOptions.queue().laneBytes(LANE));
        told = broadcast.outbox();
        work = queue.outbox();
        subscriber = broadcast.subscriber("ours");
        consumer = queue.consumer();
    }

    @AfterEach
    void nothingIsLeftAndTheFabricIsSound() {
        if (!closed) {
            assertNull(subscriber.tryRecv());
            assertNull(consumer.tryRecv());
            assertEquals(List.of(), fabric.check());
        }
    }

    private String received() {
        return string(subscriber.tryRecv().payload());
    }

    private String taken() {
        return string(consumer.tryRecv().payload());
    }

    @Test
    void messagesComeWithTheCommitAndNotBefore() {
        assertSame(broadcast, told.channel());
        Transaction transaction = store.transaction();
        transaction.put(K, bytes("1"));
        transaction.publish(told, bytes("one"));
        transaction.publish(work, ByteBuffer.wrap(bytes("do one")));
        transaction.publish(told, new byte[0]);
        transaction.publish(told, bytes("two"));
        assertNull(subscriber.tryRecv());
        assertNull(consumer.tryRecv());
        transaction.commit();
        assertEquals("one", received());
        assertEquals("", received());
        assertEquals("two", received());
        assertEquals("do one", taken());
        assertThrows(MemoraException.Closed.class, () -> transaction.publish(told, K));
        assertThrows(MemoraException.Closed.class, () -> transaction.publish(told, ByteBuffer.wrap(K)));
    }

    @Test
    void messagesOfWhatDoesNotCommitNeverCome() {
        try (Transaction left = store.transaction()) {
            left.publish(told, bytes("left"));
            left.publish(work, bytes("left"));
        }
        Transaction late = store.transaction();
        late.get(K);
        late.publish(told, bytes("late"));
        late.publish(work, bytes("late"));
        store.set(K, bytes("between"));
        assertThrows(MemoraException.Conflict.class, late::commit);
        assertThrows(IllegalStateException.class, () -> store.transact(transaction -> {
            transaction.publish(told, bytes("thrown"));
            throw new IllegalStateException("the body's own");
        }));
        AtomicInteger runs = new AtomicInteger();
        store.transact(transaction -> {
            transaction.get(K);
            transaction.publish(told, bytes("run " + runs.incrementAndGet()));
            if (runs.get() < 4) {
                store.set(K, bytes("between " + runs));
            }
            return null;
        });
        assertEquals("run 4", received());
    }

    @Test
    void withoutRoomNothingIsDone() {
        byte[] message = new byte[1000];
        AtomicInteger sent = new AtomicInteger();
        fails(ErrorCode.BACK_PRESSURE, () -> {
            while (sent.get() < 100) {
                store.transact(transaction -> {
                    transaction.put(K, bytes("" + (sent.get() + 1)));
                    transaction.publish(work, bytes("work"));
                    transaction.publish(told, message);
                    return null;
                });
                sent.incrementAndGet();
            }
        });
        assertTrue(sent.get() > 1);
        assertEquals("" + sent.get(), string(store.get(K)));
        for (int i = 0; i < sent.get(); i++) {
            assertArrayEquals(message, subscriber.tryRecv().payload());
            assertEquals("work", taken());
        }
        assertNull(subscriber.tryRecv());
        assertNull(consumer.tryRecv());
        store.transact(transaction -> {
            transaction.publish(told, bytes("room again"));
            return null;
        });
        assertEquals("room again", received());
    }

    @Test
    void messagesOfAnyLengthGoThroughArraysAndBuffers() {
        Random random = new Random(1);
        try (Channel large = fabric.channel("large", ChannelOptions.queue().laneBytes(1 << 20));
                Outbox outbox = large.outbox(); Consumer taker = large.consumer()) {
            for (int len : new int[] {0, 1, 16_384, 16_385, 40_000}) {
                byte[] message = new byte[len];
                random.nextBytes(message);
                ByteBuffer direct = ByteBuffer.allocateDirect(len + 7).position(7);
                direct.put(message).position(7);
                ByteBuffer heap = ByteBuffer.wrap(message).asReadOnlyBuffer();
                store.transact(transaction -> {
                    transaction.publish(outbox, message);
                    transaction.publish(outbox, direct);
                    transaction.publish(outbox, heap);
                    return null;
                });
                assertEquals(7, direct.position());
                assertEquals(len, heap.remaining());
                for (int i = 0; i < 3; i++) {
                    assertArrayEquals(message, taker.tryRecv().payload());
                }
            }
        }
    }

    @Test
    void whatIsRefusedLeavesTheTransactionAsItWas() {
        fabric.log("log", LogOptions.defaults().bytes(256 << 10)).close();
        try (Channel log = fabric.openChannel("log")) {
            fails(ErrorCode.WRONG_KIND, log::outbox);
        }
        try (Fabric other = Fabric.builder("other").home(home).limit(LIMIT).open();
                Channel foreign = other.channel("broadcast", ChannelOptions.broadcast());
                Outbox outbox = foreign.outbox(); Transaction transaction = store.transaction()) {
            transaction.put(K, bytes("kept"));
            transaction.publish(told, bytes("kept"));
            fails(ErrorCode.INVALID_ARGUMENT, () -> transaction.publish(outbox, K));
            outbox.close();
            assertThrows(MemoraException.Closed.class, () -> transaction.publish(outbox, K));
            fails(ErrorCode.VALUE_TOO_LONG, () -> transaction.publish(told, new byte[LANE]));
            fails(ErrorCode.VALUE_TOO_LONG, () -> transaction.publish(told, ByteBuffer.allocateDirect(100_000)));
            fails(ErrorCode.TRANSACTION_TOO_LARGE, () -> transaction.publish(told, new byte[64 << 20]));
            assertThrows(NullPointerException.class, () -> transaction.publish(null, K));
            assertThrows(NullPointerException.class, () -> transaction.publish(told, (byte[]) null));
            assertThrows(NullPointerException.class, () -> transaction.publish(told, (ByteBuffer) null));
            transaction.commit();
        }
        assertEquals("kept", string(store.get(K)));
        assertEquals("kept", received());
    }

    @Test
    void closingAnOutboxOrItsChannelTakesNothingFromTransactions() throws InterruptedException {
        int before = Testing.openHandles();
        Channel again = fabric.openChannel("broadcast");
        Outbox outbox = again.outbox();
        Transaction transaction = store.transaction();
        transaction.publish(outbox, bytes("kept"));
        again.close();
        assertThrows(MemoraException.Closed.class, () -> transaction.publish(outbox, K));
        outbox.close();
        assertThrows(MemoraException.Closed.class, again::outbox);
        transaction.commit();
        assertEquals("kept", received());
        assertEquals(before, Native.openHandles());

        Transaction ofFabric = store.transaction();
        ofFabric.publish(told, bytes("never"));
        fabric.close();
        closed = true;
        assertThrows(MemoraException.Closed.class, () -> ofFabric.publish(told, K));
        assertThrows(MemoraException.Closed.class, ofFabric::commit);
    }

    @Test
    void entriesOfCachesChangeWithTheCommit() {
        try (Cache cache = fabric.cache("with", CacheOptions.evicting().withTransactions()); Cache plain = fabric.cache("without")) {
            cache.set(bytes("gone"), bytes("there"));
            for (boolean commits : new boolean[] {false, true}) {
                try (Transaction transaction = store.transaction()) {
                    transaction.cacheSet(cache, K, bytes("value"));
                    transaction.cacheDelete(cache, bytes("gone"));
                    transaction.cacheDelete(cache, bytes("never there"));
                    fails(ErrorCode.INVALID_ARGUMENT, () -> transaction.cacheSet(plain, K, K));
                    fails(ErrorCode.KEY_TOO_LONG, () -> transaction.cacheDelete(cache, new byte[70_000]));
                    assertNull(cache.get(K));
                    assertEquals("there", string(cache.get(bytes("gone"))));
                    if (commits) {
                        transaction.commit();
                    }
                }
            }
            assertEquals("value", string(cache.get(K)));
            assertNull(cache.get(bytes("gone")));
        }
    }

    @Test
    void threadsShareAnOutboxAndMessagesComeInTheOrderOfCommits() throws Exception {
        int turns = 200;
        ExecutorService threads = Executors.newFixedThreadPool(4);
        try (Channel counted = fabric.channel("counted", ChannelOptions.broadcast().laneBytes(1 << 20));
                Outbox outbox = counted.outbox(); Subscriber all = counted.subscriber()) {
            store.set(K, bytes("0"));
            List<Future<?>> users = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                users.add(threads.submit(() -> {
                    for (int turn = 0; turn < turns; turn++) {
                        store.transact(transaction -> {
                            byte[] next = bytes("" + (Integer.parseInt(string(transaction.get(K))) + 1));
                            transaction.put(K, next);
                            transaction.publish(outbox, next);
                            return null;
                        });
                    }
                }));
            }
            for (Future<?> user : users) {
                user.get();
            }
            for (int i = 1; i <= 4 * turns; i++) {
                assertEquals("" + i, string(all.tryRecv().payload()));
            }
            assertNull(all.tryRecv());
        } finally {
            threads.shutdownNow();
        }
    }
}
