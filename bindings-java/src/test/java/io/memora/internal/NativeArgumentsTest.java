package io.memora.internal;

import static io.memora.Testing.fails;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.memora.ErrorCode;
import io.memora.MemoraException;
import io.memora.Testing;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/**
 * What the library itself refuses, should the Java above it ever pass it: arrays, buffers and bounds that do not fit, objects of another
 * kind, null. Addresses are the one thing that it has to believe.
 */
class NativeArgumentsTest {
    private Path directory;
    private long fabric;
    private long cache;
    private long channel;
    private long publisher;
    private long subscriber;
    private long consumer;
    private final Memory memory = memory();

    private static Memory memory() {
        Native.require();
        return new Memory(1024);
    }

    @BeforeEach
    void open() throws IOException {
        directory = Testing.newHome();
        fabric = Native.fabricOpen("native", directory.resolve("home").toString(), 16 << 20, -1, -1, 0, false, 0);
        cache = Native.fabricCache(fabric, "cache", 0, 0, -1, false, false);
        channel = Native.fabricChannel(fabric, "channel", 1, 0, 0, false, 0, 0, null, false, 0);
        publisher = Native.publisher(channel);
        subscriber = Native.subscriber(channel, null);
        long queue = Native.fabricChannel(fabric, "queue", 2, 0, 0, true, 0, 0, null, false, 0);
        consumer = Native.consumer(queue);
    }

    @AfterEach
    void close() throws IOException {
        Native.close(fabric);
        Testing.remove(directory);
    }

    private static void refused(org.junit.jupiter.api.function.Executable call) {
        fails(ErrorCode.INVALID_ARGUMENT, call);
    }

    @Test
    void arraysAndTheirBoundsAreChecked() {
        long key = memory.address();
        for (int[] bounds : new int[][] {{-1, 2}, {0, -1}, {0, 5}, {5, 1}, {3, 2}, {Integer.MAX_VALUE, 1}, {1, Integer.MAX_VALUE}}) {
            byte[] array = new byte[4];
            // The JVM itself refuses what goes beyond the array.
            assertThrows(RuntimeException.class, () -> Native.sendArray(publisher, array, bounds[0], bounds[1], 0));
            assertThrows(RuntimeException.class,
                    () -> Native.putArray(cache, 0, key, 1, array, bounds[0], bounds[1], -1, 0));
            assertThrows(RuntimeException.class,
                    () -> Native.compareAndSwap(cache, key, 1, array, bounds[0], bounds[1], 1, -1, 0, key));
        }
        refused(() -> Native.sendArray(publisher, null, 0, 1, 0));
        refused(() -> Native.putArray(cache, 0, key, 1, null, 0, 1, -1, 0));
        refused(() -> Native.getMany(cache, null, 4));
        refused(() -> Native.getMany(cache, new byte[] {1, 2, 3, 127, 5}, 5));
        memory.buffer().putInt(0, -1).putInt(4, 0);
        refused(() -> Native.getManyAddress(cache, memory.address(), 8, memory.address() + 512, 512));
        memory.buffer().put(0, new byte[4 * 65]);
        refused(() -> Native.getManyAddress(cache, memory.address(), 4 * 65, memory.address() + 512, 512));
        assertEquals(0, Native.size(cache));
    }

    @Test
    void buffersAndTheirBoundsAreChecked() {
        long key = memory.address();
        ByteBuffer direct = ByteBuffer.allocateDirect(8);
        for (int[] bounds : new int[][] {{-1, 2}, {0, -1}, {0, 9}, {9, 0}, {7, 2}, {Integer.MAX_VALUE, Integer.MAX_VALUE}}) {
            refused(() -> Native.sendBuffer(publisher, direct, bounds[0], bounds[1], 0));
            refused(() -> Native.putBuffer(cache, 0, key, 1, direct, bounds[0], bounds[1], -1, 0));
            refused(() -> Native.getBuffer(cache, key, 1, direct, bounds[0], bounds[1]));
        }
        // No memory that native code may touch stands behind these.
        for (ByteBuffer none : new ByteBuffer[] {ByteBuffer.allocate(8), null}) {
            assertThrows(MemoraException.class, () -> Native.sendBuffer(publisher, none, 0, 1, 0));
            assertThrows(MemoraException.class, () -> Native.putBuffer(cache, 0, key, 1, none, 0, 1, -1, 0));
            assertThrows(MemoraException.class, () -> Native.getBuffer(cache, key, 1, none, 0, 1));
            assertThrows(MemoraException.class, () -> Native.address(none));
        }
        assertEquals(0, Native.size(cache));
    }

    @Test
    void addressesAndLengthsThatCannotBeAreRefused() {
        for (long address : new long[] {0, -1, Long.MIN_VALUE}) {
            refused(() -> Native.get(cache, address, 1, memory.address(), 8));
            refused(() -> Native.get(cache, memory.address(), 1, address, 8));
            refused(() -> Native.send(publisher, address, 1, 0));
            refused(() -> Native.poll(subscriber, address, 8, 1));
            refused(() -> Native.recv(subscriber, address, 8, 0));
            refused(() -> Native.consumerPoll(consumer, address, 8, 1));
            refused(() -> Native.consumerRecv(consumer, address, 64, 0));
            refused(() -> Native.consumerExtend(consumer, 1, 1, 1, 1, address));
        }
        refused(() -> Native.get(cache, memory.address(), -1, memory.address(), 8));
        refused(() -> Native.putAddress(cache, 0, memory.address(), 1, memory.address(), -1, -1, 0));
        refused(() -> Native.putAddress(cache, 5, memory.address(), 1, memory.address(), 1, -1, 0));
        refused(() -> Native.putAddress(cache, -1, memory.address(), 1, memory.address(), 1, -1, 0));
        refused(() -> Native.consumerRecv(consumer, memory.address(), 47, 0));
        refused(() -> Native.fabricChannel(fabric, "other", 3, 0, 0, false, 0, 0, null, false, 0));
        refused(() -> Native.fabricChannel(fabric, "other", 2, 0, 0, true, 0, -1, "letters", false, 0));
        refused(() -> Native.waitAny(null, 0));
        refused(() -> Native.waitAny(new long[0], 0));
        refused(() -> Native.sendAll(publisher, null, new int[] {1}, 0));
        refused(() -> Native.sendAll(publisher, new byte[1], null, 0));
        refused(() -> Native.sendAll(publisher, new byte[1], new int[] {2}, 0));
        refused(() -> Native.sendAll(publisher, new byte[1], new int[] {-1}, 0));
        refused(() -> Native.fabricCache(fabric, "other", 0, 0, 2, false, false));
        refused(() -> Native.countWith(cache, memory.address(), 1, 3, false, 1, false, 0, -1, false, memory.address()));
        refused(() -> Native.deleteIf(cache, memory.address(), 1, 1, 0));
        refused(() -> Native.view(cache, memory.address(), 1, 0));
        refused(() -> Native.getAndSet(cache, memory.address(), 1, null, -1, 0));
        refused(() -> Native.fabricOpen("x", directory.toString(), 0, -1, -1, 5, false, 0));
        refused(() -> Native.fabricOpen("x", directory.toString(), 0, -1, -1, 0, false, 3));
        refused(() -> Native.fabricStore(fabric, "store", null, 3, 0, 0, -1, -1, 0));
        refused(() -> Native.fabricStore(fabric, "store", null, 0, 0, 0, 2, -1, 0));
        refused(() -> Native.fabricStore(fabric, "store", directory.resolve("files").toString(), 0, 0, 0, 1, -1, -1));
    }

    @Test
    void argumentsOfTransactionsAreChecked() {
        long key = memory.address();
        long store = Native.fabricStore(fabric, "store", directory.resolve("files").toString(), 0, 0, 1 << 20, 1, 1 << 20, 4);
        refused(() -> Native.storeRange(store, null, null, false, -1));
        refused(() -> Native.feed(store, 3, 0, 0, 0, new byte[0]));
        refused(() -> Native.feed(store, 0, 0, 0, 0, null));
        long transaction = Native.transaction(store);
        long outbox = Native.outbox(channel);
        for (long address : new long[] {0, -1, Long.MIN_VALUE}) {
            refused(() -> Native.transactionGet(transaction, address, 1, key, 64));
            refused(() -> Native.transactionGet(transaction, key, 1, address, 64));
            refused(() -> Native.transactionGetArray(transaction, address, 1));
            refused(() -> Native.transactionPut(transaction, address, 1, key, 1, -1, 0));
            refused(() -> Native.transactionPut(transaction, key, 1, address, 1, -1, 0));
            refused(() -> Native.transactionDelete(transaction, address, 1));
            refused(() -> Native.transactionExpect(transaction, address, 1, false, 0));
            refused(() -> Native.transactionPublish(transaction, outbox, address, 1));
        }
        ByteBuffer direct = ByteBuffer.allocateDirect(8);
        for (int[] bounds : new int[][] {{-1, 2}, {0, -1}, {0, 9}, {9, 0}, {7, 2}, {Integer.MAX_VALUE, Integer.MAX_VALUE}}) {
            refused(() -> Native.transactionPutBuffer(transaction, key, 1, direct, bounds[0], bounds[1], -1, 0));
            refused(() -> Native.transactionPublishBuffer(transaction, outbox, direct, bounds[0], bounds[1]));
        }
        assertThrows(MemoraException.class,
                () -> Native.transactionPutBuffer(transaction, key, 1, ByteBuffer.allocate(8), 0, 1, -1, 0));
        refused(() -> Native.transactionPutArray(transaction, key, 1, null, -1, 0));
        refused(() -> Native.transactionSetDurability(transaction, 3));
        refused(() -> Native.transactionRange(transaction, null, null, false, -1));
        refused(() -> Native.transactionPublish(transaction, outbox, key, -1));
        refused(() -> Native.transactionPublishArray(transaction, outbox, null));
        fails(ErrorCode.INTERNAL, () -> Native.transactionCacheDelete(transaction, outbox, new byte[1]));
        fails(ErrorCode.INTERNAL, () -> Native.transactionCacheSet(outbox, outbox, new byte[1], new byte[1], -1, 0));
        fails(ErrorCode.INTERNAL, () -> Native.transactionPublish(transaction, store, key, 1));
        fails(ErrorCode.INTERNAL, () -> Native.transactionPublish(outbox, outbox, key, 1));
        fails(ErrorCode.INTERNAL, () -> Native.outbox(store));
        Native.transactionCommit(transaction);
        fails(ErrorCode.CLOSED, () -> Native.transactionCommit(transaction));
        assertEquals(0, Native.size(store));
    }

    @Test
    void argumentsOfSnapshotsAreChecked() throws InterruptedException {
        long key = memory.address();
        long store = Native.fabricStore(fabric, "store", null, 0, 0, 0, 1, -1, 0);
        for (long[] limits : new long[][] {{0, 25}, {-1, 25}, {Long.MIN_VALUE, 25}, {1, 0}, {1, 101}, {1, -1}, {1, Integer.MIN_VALUE}}) {
            refused(() -> Native.storeLimitSnapshots(store, limits[0], (int) limits[1]));
        }
        Native.storeLimitSnapshots(store, Long.MAX_VALUE, 100);
        long snapshot = Native.snapshot(store);
        for (long address : new long[] {0, -1, Long.MIN_VALUE}) {
            refused(() -> Native.snapshotGet(snapshot, address, 1, key, 64));
            refused(() -> Native.snapshotGet(snapshot, key, 1, address, 64));
            refused(() -> Native.snapshotGetArray(snapshot, address, 1));
        }
        refused(() -> Native.snapshotGet(snapshot, key, -1, key, 64));
        refused(() -> Native.snapshotGet(snapshot, key, 1, key, -1));
        refused(() -> Native.snapshotScan(snapshot, 0, -1));
        refused(() -> Native.snapshotRange(snapshot, null, null, false, -1));
        // No cursor that a scan gave: whatever it finds, it comes to an end.
        for (long cursor : new long[] {1, -1, Long.MIN_VALUE, Long.MAX_VALUE}) {
            assertEquals(8, Native.snapshotScan(snapshot, cursor, Integer.MAX_VALUE).length);
        }
        fails(ErrorCode.INTERNAL, () -> Native.snapshotGet(store, key, 1, key, 64));
        fails(ErrorCode.INTERNAL, () -> Native.transactionGet(snapshot, key, 1, key, 64));
        fails(ErrorCode.INTERNAL, () -> Native.size(snapshot));
        fails(ErrorCode.INTERNAL, () -> Native.snapshot(snapshot));
        int open = Testing.openHandles();
        Native.close(store);
        assertEquals(open - 2, Native.openHandles());
        fails(ErrorCode.CLOSED, () -> Native.snapshotGet(snapshot, key, 1, key, 64));
    }

    @Test
    void partsOfALaneThatAreNoneAreRefused() throws Exception {
        for (long other : new long[] {fabric, cache, channel, subscriber, consumer}) {
            fails(ErrorCode.INTERNAL, () -> Native.shareLane(other));
            fails(ErrorCode.INTERNAL, () -> Native.wakeSubscribers(other));
        }
        fails(ErrorCode.INTERNAL, () -> Native.wakeSubscribers(publisher));
        long lane = Native.shareLane(publisher);
        assertEquals(0, Native.shareLane(publisher));
        for (int part : new int[] {-1, 4, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
            fails(ErrorCode.INTERNAL, () -> Native.lanePart(lane, part));
            fails(ErrorCode.INTERNAL, () -> Native.laneFigure(lane, part));
        }
        fails(ErrorCode.INTERNAL, () -> Native.lanePart(publisher, 0));
        fails(ErrorCode.INTERNAL, () -> Native.laneFigure(publisher, 0));
        fails(ErrorCode.INTERNAL, () -> Native.size(lane));
        // A place that the lane cannot have come to: before where it was, behind what has room, or in the midst of a word.
        ByteBuffer door = Native.lanePart(lane, 3).order(java.nio.ByteOrder.nativeOrder());
        long head = door.getLong(0);
        for (long wrong : new long[] {head - 8, head + 4, door.getLong(8) + 8, Long.MAX_VALUE, Long.MIN_VALUE}) {
            door.putLong(0, wrong);
            fails(ErrorCode.INVALID_ARGUMENT, () -> Native.send(publisher, memory.address(), 8, 0));
        }
        door.putLong(0, head);
        Native.wakeSubscribers(lane);
        // Inside, and thrown out: who is here is not there, so the ring says where the lane goes on.
        for (long thrownOut : new long[] {1, 2, Long.MIN_VALUE}) {
            door.putLong(0, head + 4).putLong(24, thrownOut);
            Native.send(publisher, memory.address(), 8, 0);
            assertEquals(0, door.getLong(24));
            assertEquals(head + 16, door.getLong(0));
            head += 16;
        }
        door.putLong(24, 1);
        AtomicReference<MemoraException> busy = new AtomicReference<>();
        Thread other = new Thread(() -> busy.set(fails(ErrorCode.BUSY, () -> Native.send(publisher, memory.address(), 8, 0))));
        other.start();
        other.join();
        assertEquals(ErrorCode.BUSY, busy.get().code());
        door.putLong(24, 0);
        Native.send(publisher, memory.address(), 8, 0);
        Native.close(publisher);
        Native.wakeSubscribers(lane);
        assertEquals(0, door.getLong(16), "whoever writes is told");
        Native.close(lane);
    }

    @Test
    void partsOfAReadingThatAreNoneAreRefused() throws InterruptedException {
        for (long other : new long[] {fabric, cache, channel, publisher, consumer}) {
            fails(ErrorCode.INTERNAL, () -> Native.shareReading(other));
            fails(ErrorCode.INTERNAL, () -> Native.readingLane(other, 0, 0));
            fails(ErrorCode.INTERNAL, () -> Native.readingLaneIndex(other, 0));
            fails(ErrorCode.INTERNAL, () -> Native.wakePublishers(other));
        }
        fails(ErrorCode.INTERNAL, () -> Native.wakePublishers(subscriber));
        long reading = Native.shareReading(subscriber);
        Native.wakePublishers(reading);
        assertEquals(0, Native.shareReading(subscriber));
        for (int part : new int[] {-1, 3, Integer.MAX_VALUE, Integer.MIN_VALUE}) {
            fails(ErrorCode.INTERNAL, () -> Native.readingPart(reading, part));
            fails(ErrorCode.INTERNAL, () -> Native.readingFigure(reading, part));
            fails(ErrorCode.INTERNAL, () -> Native.readingLane(subscriber, part, 0));
        }
        Native.send(publisher, memory.address(), 8, 0);
        Native.send(publisher, memory.address(), 8, 0);
        assertEquals(8, Native.recv(subscriber, memory.address(), 1024, 0));
        fails(ErrorCode.INTERNAL, () -> Native.readingLane(subscriber, 0, 2));
        fails(ErrorCode.INTERNAL, () -> Native.readingLaneIndex(subscriber, 1));
        assertEquals(0, Native.readingLaneIndex(subscriber, 0));
        assertEquals(64 << 10, Native.readingLane(subscriber, 0, 0).capacity());
        ByteBuffer desk = Native.readingPart(reading, 2).order(java.nio.ByteOrder.nativeOrder());
        assertEquals(1, desk.getLong(0), "it may go in");
        assertEquals(1, desk.getLong(32), "it may read");
        assertEquals(1, desk.getLong(48), "one lane");
        assertEquals(0, desk.getLong(64));
        assertEquals(16, desk.getLong(72));
        // A place that cannot be: before where it was, in the midst of a word, shown before it was handled, farther than a ring.
        for (long[] wrong : new long[][] {{0, 8}, {0, 20}, {24, 16}, {8, 8}, {-8, 16}, {0, 1 << 17}, {0, Long.MAX_VALUE}, {0, Long.MIN_VALUE}}) {
            desk.putLong(64, wrong[0]).putLong(72, wrong[1]);
            fails(ErrorCode.INVALID_ARGUMENT, () -> Native.recv(subscriber, memory.address(), 1024, 0));
        }
        desk.putLong(64, 0).putLong(72, 16);
        // This thread cannot be inside, so it was thrown out; the place that it notes is behind the one that it shows.
        desk.putLong(8, 1);
        Native.commit(subscriber);
        assertEquals(0, desk.getLong(8));
        assertEquals(16, desk.getLong(64));
        desk.putLong(8, 2).putLong(64, 16).putLong(72, 32);
        assertEquals(0, Native.lag(subscriber), "what the thread handled counts");
        assertEquals(0, desk.getLong(8));
        // Another one does not know.
        desk.putLong(8, 1);
        AtomicReference<MemoraException> busy = new AtomicReference<>();
        Thread other = new Thread(() -> busy.set(fails(ErrorCode.BUSY, () -> Native.commit(subscriber))));
        other.start();
        other.join();
        assertEquals(ErrorCode.BUSY, busy.get().code());
        assertEquals(0, desk.getLong(0), "the door is shut");
        desk.putLong(8, 0);
        Native.close(subscriber);
        Native.wakePublishers(reading);
        assertEquals(0, desk.getLong(0), "whoever reads is told");
        Native.close(reading);
    }

    @Test
    void memoryTooSmallForAMessageLosesNone() {
        memory.buffer().putLong(0, 42);
        for (int i = 0; i < 3; i++) {
            Native.send(publisher, memory.address(), 100, 0);
        }
        refused(() -> Native.recv(subscriber, memory.address(), 23, 0));
        assertEquals(-102, Native.recv(subscriber, memory.address(), 24, 0));
        assertEquals(100, Native.held(subscriber).length);
        assertEquals(null, Native.held(subscriber));
        // A poll into no memory at all hands everything over by the other way.
        long answer = Native.poll(subscriber, memory.address(), 0, 10);
        assertEquals(2, (int) answer);
        assertEquals(2 * 128, answer >>> 32);
        assertEquals(2 * 128, Native.rest(subscriber).length);
        assertEquals(0, Native.rest(subscriber).length);
    }

    @Test
    void handlesOfAnotherKindAreRefused() {
        long key = memory.address();
        for (long handle : new long[] {fabric, cache, channel, publisher, subscriber}) {
            if (handle != cache) {
                fails(ErrorCode.INTERNAL, () -> Native.get(handle, key, 1, key, 8));
                fails(ErrorCode.INTERNAL, () -> Native.size(handle));
            }
            fails(ErrorCode.INTERNAL, () -> Native.viewBytes(handle));
            fails(ErrorCode.INTERNAL, () -> Native.viewBuffer(handle));
            fails(ErrorCode.INTERNAL, () -> Native.viewMemory(handle));
            fails(ErrorCode.INTERNAL, () -> Native.nextEvent(handle, 0));
            if (handle != cache) {
                fails(ErrorCode.INTERNAL, () -> Native.view(handle, key, 1, key));
                fails(ErrorCode.INTERNAL, () -> Native.events(handle));
                fails(ErrorCode.INTERNAL, () -> Native.touch(handle, key, 1, -1));
                fails(ErrorCode.INTERNAL, () -> Native.putAddress(handle, 3, key, 1, key, 1, -1, 0));
                fails(ErrorCode.INTERNAL, () -> Native.processCounts(handle));
            }
            if (handle != publisher) {
                fails(ErrorCode.INTERNAL, () -> Native.send(handle, key, 1, 0));
            }
            if (handle != subscriber) {
                fails(ErrorCode.INTERNAL, () -> Native.poll(handle, key, 8, 1));
                fails(ErrorCode.INTERNAL, () -> Native.lag(handle));
            }
            if (handle != fabric) {
                fails(ErrorCode.INTERNAL, () -> Native.fabricCheck(handle));
            }
            fails(ErrorCode.INTERNAL, () -> Native.storeFlush(handle));
            fails(ErrorCode.INTERNAL, () -> Native.transaction(handle));
            fails(ErrorCode.INTERNAL, () -> Native.transactionGet(handle, key, 1, key, 8));
            fails(ErrorCode.INTERNAL, () -> Native.transactionCommit(handle));
            fails(ErrorCode.INTERNAL, () -> Native.transactionRange(handle, null, null, false, 1));
            fails(ErrorCode.INTERNAL, () -> Native.snapshot(handle));
            fails(ErrorCode.INTERNAL, () -> Native.storeLimitSnapshots(handle, 1, 1));
            fails(ErrorCode.INTERNAL, () -> Native.snapshotGetArray(handle, key, 1));
            fails(ErrorCode.INTERNAL, () -> Native.snapshotScan(handle, 0, 1));
            fails(ErrorCode.INTERNAL, () -> Native.snapshotRange(handle, null, null, false, 1));
        }
    }
}
