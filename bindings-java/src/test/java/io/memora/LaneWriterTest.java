package io.memora;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** A publisher whose thread writes its ring itself sends what the library would have sent, and hands over to it at any moment. */
class LaneWriterTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final ChannelOptions SMALL = ChannelOptions.stream().laneBytes(4096);

    private static byte[] payload(int number) {
        byte[] payload = new byte[number % 700];
        for (int at = 0; at < payload.length; at++) {
            payload[at] = (byte) (number * 31 + at);
        }
        return payload;
    }

    @Test
    void whatItSendsByEveryMethodArrivesInOrder() throws Exception {
        int count = 20_000 * Testing.LENGTH;
        try (Channel channel = fabric.channel("all", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            AtomicReference<Throwable> wrong = new AtomicReference<>();
            Thread reader = new Thread(() -> {
                try {
                    long last = 0;
                    for (int number = 0; number < count; number++) {
                        // Asleep again and again, so that it must be woken.
                        Message message = subscriber.recv(LONG);
                        assertArrayEquals(number % 1000 == 999 ? new byte[9000] : payload(number), message.payload(), "message " + number);
                        assertTrue(message.position() > last);
                        last = message.position();
                        if (number % 500 == 0) {
                            Thread.sleep(1);
                        }
                    }
                } catch (Throwable error) {
                    wrong.set(error);
                }
            });
            reader.start();
            long last = 0;
            for (int number = 0; number < count; number++) {
                byte[] payload = payload(number);
                ByteBuffer direct = ByteBuffer.allocateDirect(payload.length + 3).put(3, payload).position(3);
                long position;
                switch (number % 1000 == 999 ? 8 : number % 7) {
                    case 0 -> position = publisher.send(payload);
                    case 1 -> position = publisher.send(direct, LONG);
                    case 2 -> position = publisher.send(ByteBuffer.wrap(payload).asReadOnlyBuffer());
                    case 3 -> position = publisher.sendAll(List.of(payload), LONG);
                    case 4 -> {
                        Claim claim = publisher.claim(payload.length);
                        claim.buffer().put(payload);
                        position = claim.commit();
                    }
                    case 5 -> {
                        do {
                            position = publisher.trySend(direct);
                        } while (position == Publisher.BACK_PRESSURE);
                    }
                    // Longer than the ring takes.
                    case 8 -> position = publisher.send(new byte[9000], LONG);
                    default -> {
                        do {
                            position = publisher.trySend(payload, 0, payload.length);
                        } while (position == Publisher.BACK_PRESSURE);
                    }
                }
                assertTrue(position > last, number + ": " + position);
                last = position;
                assertNull(wrong.get(), () -> "reader: " + wrong.get());
                if (number % 400 == 0) {
                    // The reader falls asleep.
                    Thread.sleep(1);
                }
            }
            reader.join(60_000);
            assertNull(wrong.get(), () -> "reader: " + wrong.get());
            assertTrue(!reader.isAlive());
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void aRingIsFullForTheThreadThatWritesItAsForAnyOther() {
        try (Channel channel = fabric.channel("full", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int round = 0; round < 200; round++) {
                int sent = 0;
                while (publisher.trySend(payload(56)) != Publisher.BACK_PRESSURE) {
                    sent++;
                }
                assertTrue(round == 0 || sent == 63 || sent == 64, round + ": " + sent);
                assertEquals(Publisher.BACK_PRESSURE, publisher.send(payload(56), Duration.ofNanos(1)));
                int[] taken = {0};
                while (subscriber.poll((lane, position, bytes) -> {
                    byte[] found = new byte[bytes.remaining()];
                    bytes.get(found);
                    assertArrayEquals(payload(56), found);
                    taken[0]++;
                }, 1000) > 0) {}
                assertEquals(sent, taken[0]);
            }
        }
    }

    @Test
    void aPayloadThatCannotBeReadSendsNothing() {
        try (Channel channel = fabric.channel("bad", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int number = 0; number < 60; number++) {
                publisher.send(new byte[] {1});
                assertEquals(1, subscriber.recv(LONG).payload().length);
            }
            assertThrows(NullPointerException.class, () -> publisher.send((byte[]) null));
            assertThrows(NullPointerException.class, () -> publisher.send((ByteBuffer) null));
            assertThrows(IndexOutOfBoundsException.class, () -> publisher.trySend(new byte[3], 2, 2));
            assertNull(subscriber.tryRecv());
            publisher.send(new byte[] {2});
            assertArrayEquals(new byte[] {2}, subscriber.recv(LONG).payload());
        }
    }

    /** Sends numbers by a publisher until it is closed or refuses; how many were sent. */
    private static Thread sender(Publisher publisher, int name, AtomicLong sent, AtomicReference<Throwable> wrong) {
        return new Thread(() -> {
            ByteBuffer message = ByteBuffer.allocateDirect(40).order(ByteOrder.nativeOrder());
            try {
                for (long number = 0;; number++) {
                    message.putLong(0, name).putLong(8, number).putLong(32, number);
                    try {
                        if (publisher.send(message, LONG) > 0) {
                            sent.incrementAndGet();
                        }
                    } catch (MemoraException busy) {
                        if (busy.code() != ErrorCode.BUSY) {
                            throw busy;
                        }
                        number--;
                    }
                    if (Thread.currentThread().isInterrupted()) {
                        return;
                    }
                }
            } catch (MemoraException.Closed expected) {
                // The end that is meant.
            } catch (Throwable error) {
                wrong.set(error);
            }
        });
    }

    /** Checks that numbers come in order from each sender; how many came. */
    private static final class Counter implements MessageHandler {
        private final long[] next = new long[64];
        private long count;

        @Override
        public void onMessage(int lane, long position, ByteBuffer bytes) {
            ByteBuffer payload = bytes.duplicate().order(ByteOrder.nativeOrder());
            int start = payload.position();
            int name = (int) payload.getLong(start);
            long number = payload.getLong(start + 8);
            assertEquals(40, payload.remaining());
            assertEquals(number, payload.getLong(start + 32), "torn");
            assertEquals(next[name], number, "of sender " + name);
            next[name]++;
            count++;
        }
    }

    @Test
    void twoThreadsAtOnePublisherNeverMixTheirMessages() throws Exception {
        for (int round = 0; round < 10 * Testing.LENGTH; round++) {
            AtomicLong sent = new AtomicLong();
            AtomicReference<Throwable> wrong = new AtomicReference<>();
            Counter counter = new Counter();
            try (Channel channel = fabric.channel("two", SMALL);
                    Subscriber subscriber = channel.subscriber();
                    Publisher publisher = channel.publisher()) {
                Thread first = sender(publisher, 1, sent, wrong);
                Thread second = sender(publisher, 2, sent, wrong);
                first.start();
                while (counter.count < 500) {
                    subscriber.poll(counter, 100);
                    assertNull(wrong.get(), () -> "" + wrong.get());
                }
                // While the first is writing.
                second.start();
                long end = counter.count + 2000;
                while (counter.count < end) {
                    subscriber.poll(counter, 100);
                    assertNull(wrong.get(), () -> "" + wrong.get());
                }
                first.interrupt();
                second.interrupt();
                while (first.isAlive() || second.isAlive() || subscriber.lag() > 0) {
                    subscriber.poll(counter, 100);
                }
                while (subscriber.poll(counter, 100) > 0) {}
                assertNull(wrong.get(), () -> "" + wrong.get());
                assertEquals(sent.get(), counter.count);
            }
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void whoTakesTheLaneOfAClosedPublisherHasItAlone() throws Exception {
        int rounds = 60 * Testing.LENGTH;
        AtomicLong sent = new AtomicLong();
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        Counter counter = new Counter();
        try (Channel channel = fabric.channel("closed", SMALL); Subscriber subscriber = channel.subscriber()) {
            List<Thread> threads = new ArrayList<>();
            for (int round = 0; round < rounds; round++) {
                int name = round % 64;
                counter.next[name] = 0;
                Publisher publisher = channel.publisher();
                Thread thread = sender(publisher, name, sent, wrong);
                threads.add(thread);
                thread.start();
                long end = counter.count + 300;
                while (counter.count < end) {
                    subscriber.poll(counter, 100);
                    assertNull(wrong.get(), () -> "" + wrong.get());
                }
                // In the midst of a message, often.
                publisher.close();
                thread.join(30_000);
                assertTrue(!thread.isAlive());
            }
            while (subscriber.poll(counter, 100) > 0) {}
            assertNull(wrong.get(), () -> "" + wrong.get());
            assertEquals(sent.get(), counter.count);
            assertTrue(channel.stats().lanes() < 4, "later publishers went on with the lane of earlier ones");
        }
        assertEquals(List.of(), fabric.check());
    }
}
