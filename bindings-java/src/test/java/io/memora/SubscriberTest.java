package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ReadOnlyBufferException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class SubscriberTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final ChannelOptions BROADCAST = ChannelOptions.broadcast().laneBytes(256 * 1024);

    private static String text(ByteBuffer payload) {
        byte[] bytes = new byte[payload.remaining()];
        payload.get(bytes);
        return string(bytes);
    }

    @Test
    void pollHandsOverUpToTheLimitInOrder() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            List<String> seen = new ArrayList<>();
            List<Long> positions = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                publisher.send(bytes("message " + i));
            }
            MessageHandler handler = (lane, position, payload) -> {
                seen.add(text(payload));
                positions.add(position);
                assertTrue(payload.isReadOnly());
            };
            assertEquals(4, subscriber.poll(handler, 4));
            assertEquals(0, subscriber.poll(handler, 0));
            assertEquals(6, subscriber.poll(handler, 100));
            assertEquals(0, subscriber.poll(handler, 100));
            for (int i = 0; i < 10; i++) {
                assertEquals("message " + i, seen.get(i));
            }
            assertEquals(positions.stream().sorted().distinct().toList(), positions);
        }
    }

    @Test
    void batchLargerThanTheMemoryOfAPollArrivesWhole() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            // Together more than the 64 KiB that a poll begins with, and of uneven lengths.
            int messages = 150;
            for (int round = 0; round < 3; round++) {
                for (int i = 0; i < messages; i++) {
                    byte[] payload = new byte[i % 50 == 49 ? 20_000 : i * 7];
                    java.util.Arrays.fill(payload, (byte) i);
                    publisher.send(payload);
                }
                int[] seen = {0};
                while (seen[0] < messages) {
                    assertTrue(subscriber.poll((lane, position, payload) -> {
                        int i = seen[0]++;
                        assertEquals(i % 50 == 49 ? 20_000 : i * 7, payload.remaining());
                        while (payload.hasRemaining()) {
                            assertEquals((byte) i, payload.get());
                        }
                    }, messages) > 0);
                }
                // The place moves over the last batch, or the ring would fill.
                subscriber.commit();
            }
        }
    }

    @Test
    void messagesAfterTheOneThatFailedAreHandedOverNext() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber("billing");
                Publisher publisher = channel.publisher()) {
            for (int i = 0; i < 5; i++) {
                publisher.send(bytes("message " + i));
            }
            List<String> seen = new ArrayList<>();
            assertThrows(IllegalStateException.class, () -> subscriber.poll((lane, position, payload) -> {
                seen.add(text(payload));
                if (seen.size() == 2) {
                    throw new IllegalStateException("of the handler");
                }
            }, 5));
            fails(ErrorCode.BUSY, subscriber::commit);
            assertEquals("message 2", string(subscriber.tryRecv().payload()));
            assertEquals(2, subscriber.poll((lane, position, payload) -> seen.add(text(payload)), 5));
            assertEquals(List.of("message 0", "message 1", "message 3", "message 4"), seen);
            subscriber.commit();
        }
    }

    @Test
    void batchWhoseHandlerFailedComesAgainToWhoGoesOnWithTheName() {
        try (Channel channel = fabric.channel("news", BROADCAST)) {
            channel.subscriber("billing").close();
            List<String> all = new ArrayList<>();
            try (Publisher publisher = channel.publisher()) {
                for (int i = 0; i < 5; i++) {
                    publisher.send(bytes("message " + i));
                    all.add("message " + i);
                }
            }
            List<String> seen = new ArrayList<>();
            assertThrows(IllegalStateException.class, () -> {
                try (Subscriber subscriber = channel.subscriber("billing")) {
                    subscriber.poll((lane, position, payload) -> {
                        seen.add(text(payload));
                        if (seen.size() == 2) {
                            throw new IllegalStateException("of the handler");
                        }
                    }, 10);
                }
            });
            assertEquals(all.subList(0, 2), seen);
            seen.clear();
            try (Subscriber subscriber = channel.subscriber("billing")) {
                assertEquals(5, subscriber.poll((lane, position, payload) -> seen.add(text(payload)), 10));
            }
            assertEquals(all, seen);
            // What was handled to its end does not.
            try (Subscriber subscriber = channel.subscriber("billing")) {
                assertNull(subscriber.tryRecv());
            }
        }
    }

    @Test
    void payloadCannotBeChanged() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            publisher.send(bytes("a"));
            assertThrows(ReadOnlyBufferException.class,
                    () -> subscriber.poll((lane, position, payload) -> payload.put(0, (byte) 1), 1));
        }
    }

    @Test
    void recvWaitsAndAnswersNullWhenNothingCame() throws InterruptedException {
        try (Channel channel = fabric.channel("news", BROADCAST); Subscriber subscriber = channel.subscriber()) {
            assertNull(subscriber.tryRecv());
            assertNull(subscriber.recv(Duration.ofMillis(5)));
            Thread sender = new Thread(() -> {
                try (Publisher publisher = channel.publisher()) {
                    publisher.send(bytes("late"));
                }
            });
            sender.start();
            assertEquals("late", string(subscriber.recv(LONG).payload()));
            sender.join();
            Thread.currentThread().interrupt();
            assertNull(subscriber.recv(LONG));
            assertTrue(Thread.interrupted());
        }
    }

    @Test
    void whatWasNotConfirmedIsSeenAgainByTheNextHolderOfTheName() {
        try (Channel channel = fabric.channel("news", BROADCAST); Publisher publisher = channel.publisher()) {
            channel.subscriber("billing").close();
            for (int i = 0; i < 4; i++) {
                publisher.send(bytes("message " + i));
            }
            try (Subscriber first = channel.subscriber("billing")) {
                assertEquals("message 0", string(first.recv(LONG).payload()));
                assertEquals("message 1", string(first.recv(LONG).payload()));
                first.commit();
            }
            try (Subscriber second = channel.subscriber("billing")) {
                assertEquals("message 2", string(second.recv(LONG).payload()));
            }
        }
    }

    @Test
    void slowSubscriberIsToldOnceHowMuchItLost() {
        ChannelOptions options =
                ChannelOptions.broadcast().overrun(ChannelOptions.Overrun.OVERRUN).laneBytes(64 * 1024);
        try (Channel channel = fabric.channel("ticks", options);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int messages = 5_000;
            for (int i = 0; i < messages; i++) {
                assertTrue(publisher.trySend(ByteBuffer.allocate(100).putInt(0, i)) >= 0);
            }
            long lost = 0;
            int next = 0;
            while (next < messages) {
                try {
                    Message message = subscriber.recv(LONG);
                    int number = ByteBuffer.wrap(message.payload()).getInt();
                    assertEquals(next, number);
                    next++;
                } catch (MemoraException.Overrun error) {
                    assertTrue(error.lost() > 0);
                    lost += error.lost();
                    next += (int) error.lost();
                }
            }
            assertTrue(lost > 0 && lost < messages, "lost " + lost);
        }
    }

    @Test
    void longMessageThatWasPushedOutIsCountedAsLost() {
        ChannelOptions options =
                ChannelOptions.broadcast().overrun(ChannelOptions.Overrun.OVERRUN).laneBytes(4096);
        try (Channel channel = fabric.channel("long", options);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int i = 0; i < 10; i++) {
                byte[] sent = new byte[100_000];
                java.util.Arrays.fill(sent, (byte) i);
                assertTrue(publisher.trySend(sent) >= 0);
            }
            long lost = 0;
            List<byte[]> received = new ArrayList<>();
            while (lost + received.size() < 10) {
                try {
                    received.add(subscriber.recv(LONG).payload());
                } catch (MemoraException.Overrun error) {
                    lost += error.lost();
                }
            }
            assertEquals(8, lost);
            assertEquals(100_000, received.get(1).length);
            assertEquals(9, received.get(1)[99_999]);
        }
    }

    @Test
    void secondThreadInsideIsTold() throws InterruptedException {
        try (Channel channel = fabric.channel("news", BROADCAST); Subscriber subscriber = channel.subscriber()) {
            Thread waiter = new Thread(() -> {
                while (!Thread.currentThread().isInterrupted()) {
                    try {
                        subscriber.recv(LONG);
                    } catch (MemoraException busy) {
                        // Of the two the other was inside: once more.
                    }
                }
            });
            waiter.start();
            MemoraException error = null;
            long start = System.nanoTime();
            while (error == null && System.nanoTime() - start < LONG.toNanos()) {
                try {
                    subscriber.tryRecv();
                } catch (MemoraException busy) {
                    error = busy;
                }
            }
            waiter.interrupt();
            waiter.join();
            assertEquals(ErrorCode.BUSY, error.code());
        }
    }

    @Test
    void handlerIsRefusedTheSubscriberItWasCalledFrom() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            publisher.send(bytes("first"));
            publisher.send(bytes("second"));
            List<String> seen = new ArrayList<>();
            MessageHandler handler = (lane, position, payload) -> {
                // The payload lies in memory that another poll would fill.
                assertEquals(ErrorCode.BUSY, fails(ErrorCode.BUSY, () -> subscriber.poll((l, p, b) -> {}, 1)).code());
                fails(ErrorCode.BUSY, subscriber::tryRecv);
                fails(ErrorCode.BUSY, subscriber::commit);
                fails(ErrorCode.BUSY, subscriber::lag);
                seen.add(text(payload));
            };
            assertEquals(2, subscriber.poll(handler, 10));
            assertEquals(List.of("first", "second"), seen);
            // A handler may send, and may close what it was called from.
            publisher.send(bytes("third"));
            assertEquals(1, subscriber.poll((lane, position, payload) -> {
                publisher.send(bytes("fourth"));
                subscriber.close();
                seen.add(text(payload));
            }, 1));
            assertEquals("third", seen.get(2));
            assertThrows(MemoraException.Closed.class, () -> subscriber.poll(handler, 1));
            // The refusal must not stay when the call before ended by an exception.
            assertThrows(MemoraException.Closed.class, subscriber::tryRecv);
        }
    }

    @Test
    void nullAndExtremeArgumentsAreHarmless() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            assertThrows(NullPointerException.class, () -> subscriber.poll(null, 1));
            assertThrows(NullPointerException.class, () -> subscriber.recv(null));
            assertThrows(NullPointerException.class, () -> publisher.send((byte[]) null));
            assertThrows(NullPointerException.class, () -> publisher.send((ByteBuffer) null));
            assertThrows(IndexOutOfBoundsException.class, () -> publisher.trySend(new byte[4], 2, 3));
            assertThrows(IndexOutOfBoundsException.class, () -> publisher.trySend(new byte[4], -1, 3));
            assertThrows(IndexOutOfBoundsException.class, () -> publisher.trySend(new byte[4], 1, Integer.MAX_VALUE));
            publisher.send(bytes("a"), Duration.ofSeconds(Long.MAX_VALUE));
            publisher.send(bytes("b"), Duration.ofSeconds(Long.MIN_VALUE));
            assertEquals("a", string(subscriber.recv(Duration.ofSeconds(Long.MIN_VALUE)).payload()));
            assertEquals(0, subscriber.poll((lane, position, payload) -> {}, Integer.MIN_VALUE));
            assertEquals(1, subscriber.poll((lane, position, payload) -> {}, Integer.MAX_VALUE));
            assertNull(subscriber.recv(Duration.ofSeconds(Long.MIN_VALUE)));
        }
    }

    @Test
    void figuresTellWhatWaits() {
        try (Channel channel = fabric.channel("news", BROADCAST);
                Subscriber subscriber = channel.subscriber("billing");
                Publisher publisher = channel.publisher()) {
            assertEquals(0, subscriber.lag());
            publisher.send(new byte[1000]);
            assertTrue(subscriber.lag() >= 1000);
            ChannelStats stats = channel.stats();
            assertEquals(List.of(new ChannelStats.Subscription("billing", true, subscriber.lag())), stats.subscriptions());
            assertTrue(stats.publishedBytes() >= 1000 && stats.publishers() == 1 && stats.lanes() == 1, stats.toString());
            subscriber.tryRecv();
            subscriber.commit();
            assertEquals(0, subscriber.lag());
        }
    }
}
