package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class ConsumerTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final ChannelOptions ONCE = ChannelOptions.queue().laneBytes(256 * 1024);
    private static final ChannelOptions LEAST = ONCE.acknowledged();

    @Test
    void eachMessageGoesToOneConsumer() {
        try (Channel queue = fabric.channel("jobs", ONCE);
                Consumer one = queue.consumer();
                Consumer two = queue.consumer();
                Publisher publisher = queue.publisher()) {
            assertNull(one.tryRecv());
            assertNull(one.recv(Duration.ofMillis(5)));
            long position = publisher.send(bytes("a"));
            publisher.send(bytes("b"));
            assertTrue(queue.stats().queue().orElseThrow().waitingBytes() > 0);
            Delivery first = one.recv(LONG);
            assertEquals("a", string(first.payload()));
            assertEquals(position, first.position());
            assertEquals(1, first.deliveries());
            assertFalse(first.redelivered());
            assertEquals("b", string(two.recv(LONG).payload()));
            assertNull(one.tryRecv());
            fails(ErrorCode.INVALID_ARGUMENT, () -> one.ack(first));
            assertEquals(0, one.ackAll());
            fails(ErrorCode.WRONG_KIND, queue::subscriber);
            assertEquals(new ChannelStats.Queue(0, 0, 0, List.of()), queue.stats().queue().orElseThrow());
        }
        try (Channel news = fabric.channel("news", ChannelOptions.broadcast())) {
            fails(ErrorCode.WRONG_KIND, news::consumer);
            assertTrue(news.stats().queue().isEmpty());
        }
    }

    @Test
    void messageIsAcknowledgedGivenBackOrHeldLonger() {
        try (Channel queue = fabric.channel("jobs", LEAST);
                Consumer one = queue.consumer();
                Consumer two = queue.consumer();
                Publisher publisher = queue.publisher()) {
            publisher.send(bytes("a"));
            Delivery first = one.recv(LONG);
            one.ack(first);
            fails(ErrorCode.NOT_HELD, () -> one.ack(first));
            fails(ErrorCode.NOT_HELD, () -> two.ack(first.receipt()));
            publisher.send(bytes("b"));
            Delivery second = one.recv(LONG);
            Receipt extended = one.extend(second.receipt(), Duration.ofHours(1));
            fails(ErrorCode.NOT_HELD, () -> one.nack(second, Duration.ZERO));
            ChannelStats.Queue held = queue.stats().queue().orElseThrow();
            assertEquals(1, held.consumers().stream().mapToLong(ChannelStats.Consumer::unacknowledged).sum());
            assertEquals(2, held.consumers().stream().filter(ChannelStats.Consumer::held).count());
            one.nack(extended, Duration.ofNanos(1));
            Delivery again = two.recv(LONG);
            assertEquals("b", string(again.payload()));
            assertEquals(2, again.deliveries());
            assertTrue(again.redelivered());
            assertEquals(second.position(), again.position());
            assertEquals(1, two.ackAll());
            assertEquals(1, queue.stats().queue().orElseThrow().redelivered());
            fails(ErrorCode.INVALID_ARGUMENT, () -> one.nack(again, Duration.ofMillis(-1)));
            fails(ErrorCode.NOT_HELD, () -> one.ack(new Receipt(-1, -1, -1)));
        }
    }

    @Test
    void whatWasHeldTooLongOrByAClosedConsumerGoesToOthers() {
        try (Channel queue = fabric.channel("jobs", ONCE.visibility(Duration.ofMillis(1)));
                Consumer slow = queue.consumer();
                Publisher publisher = queue.publisher()) {
            publisher.send(bytes("slow"));
            Delivery first = slow.recv(LONG);
            try (Consumer other = queue.consumer()) {
                Delivery second = other.recv(LONG);
                assertEquals(2, second.deliveries());
                fails(ErrorCode.NOT_HELD, () -> slow.ack(first));
                other.extend(second.receipt(), LONG);
            }
            Delivery third = slow.recv(LONG);
            assertEquals(3, third.deliveries());
            slow.ack(slow.extend(third.receipt(), LONG));
        }
    }

    @Test
    void messageLongerThanALaneGoesToOneConsumerUntilItIsAcknowledged() {
        byte[] sent = new byte[600_000];
        for (int at = 0; at < sent.length; at++) {
            sent[at] = (byte) (at / 8 * 31 + at);
        }
        for (ChannelOptions options : List.of(ONCE, LEAST)) {
            try (Channel queue = fabric.channel(options == ONCE ? "once" : "least", options);
                    Consumer consumer = queue.consumer();
                    Publisher publisher = queue.publisher()) {
                publisher.send(sent);
                publisher.send(bytes("behind it"));
                Delivery delivery = consumer.recv(LONG);
                assertArrayEquals(sent, delivery.payload());
                if (options == LEAST) {
                    consumer.nack(delivery, Duration.ZERO);
                    Delivery again = consumer.recv(LONG);
                    assertEquals(2, again.deliveries());
                    assertArrayEquals(sent, again.payload());
                    consumer.ack(again);
                }
                assertEquals("behind it", string(consumer.recv(LONG).payload()));
            }
        }
    }

    @Test
    void whatNobodyAcknowledgesBecomesADeadLetter() {
        try (Channel queue = fabric.channel("jobs", ONCE.deadLetters(2, "letters"));
                Consumer consumer = queue.consumer();
                Publisher publisher = queue.publisher()) {
            publisher.send(bytes("poison"));
            consumer.nack(consumer.recv(LONG), Duration.ZERO);
            consumer.nack(consumer.recv(LONG), Duration.ZERO);
            assertNull(consumer.recv(Duration.ofMillis(50)));
            assertEquals(1, queue.stats().queue().orElseThrow().deadLetters());
            try (Channel letters = fabric.openChannel("letters"); Consumer reader = letters.consumer()) {
                Delivery letter = reader.recv(LONG);
                assertEquals("poison", string(letter.payload()));
                reader.ack(letter);
            }
        }
    }

    @Test
    void optionsThatCannotBeAreRefused() {
        fails(ErrorCode.INVALID_ARGUMENT, () -> ONCE.visibility(Duration.ZERO));
        fails(ErrorCode.INVALID_ARGUMENT, () -> ONCE.visibility(Duration.ofNanos(1_500_000)));
        fails(ErrorCode.INVALID_ARGUMENT, () -> ONCE.deadLetters(0, "letters"));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.channel("jobs", ONCE.deadLetters(1001, "letters")));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.channel("jobs", ONCE.deadLetters(2, "jobs")));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.channel("jobs", ChannelOptions.stream().acknowledged()));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.channel("jobs", ONCE.overrun(ChannelOptions.Overrun.OVERRUN)));
        fabric.channel("jobs", LEAST).close();
        fails(ErrorCode.WRONG_OPTIONS, () -> fabric.channel("jobs", ONCE));
    }

    @Test
    void pollHandsOverUpToTheLimitAndWhatAFailedHandlerLeftComesNext() {
        try (Channel queue = fabric.channel("jobs", LEAST);
                Consumer consumer = queue.consumer();
                Publisher publisher = queue.publisher()) {
            for (int i = 0; i < 10; i++) {
                publisher.send(bytes("message " + i));
            }
            List<String> seen = new ArrayList<>();
            List<Receipt> receipts = new ArrayList<>();
            DeliveryHandler handler = (about, payload) -> {
                byte[] copy = new byte[payload.remaining()];
                payload.get(copy);
                seen.add(string(copy));
                receipts.add(about.receipt());
                assertTrue(payload.isReadOnly() && about.position() > 0 && about.deliveries() == 1 && !about.redelivered());
                fails(ErrorCode.BUSY, () -> consumer.ack(about.receipt()));
            };
            assertEquals(0, consumer.poll(handler, 0));
            assertEquals(4, consumer.poll(handler, 4));
            assertThrows(IllegalStateException.class, () -> consumer.poll((about, payload) -> {
                throw new IllegalStateException("of the handler");
            }, 3));
            fails(ErrorCode.BUSY, consumer::ackAll);
            consumer.ack(consumer.tryRecv());
            assertEquals(1, consumer.poll(handler, 100));
            assertEquals(3, consumer.poll(handler, 100));
            assertEquals(0, consumer.poll(handler, 100));
            assertEquals(List.of("message 0", "message 1", "message 2", "message 3", "message 6", "message 7", "message 8",
                    "message 9"), seen);
            receipts.forEach(consumer::ack);
            assertEquals(1, consumer.ackAll());
        }
    }

    @Test
    void batchLargerThanTheMemoryOfAPollArrivesWhole() {
        try (Channel queue = fabric.channel("jobs", LEAST);
                Consumer consumer = queue.consumer();
                Publisher publisher = queue.publisher()) {
            int messages = 60;
            for (int round = 0; round < 3; round++) {
                for (int i = 0; i < messages; i++) {
                    byte[] payload = new byte[i % 20 == 19 ? 20_000 : i * 7];
                    java.util.Arrays.fill(payload, (byte) i);
                    publisher.send(payload);
                }
                int[] seen = {0};
                while (seen[0] < messages) {
                    assertTrue(consumer.poll((about, payload) -> {
                        int i = seen[0]++;
                        assertEquals(i % 20 == 19 ? 20_000 : i * 7, payload.remaining());
                        while (payload.hasRemaining()) {
                            assertEquals((byte) i, payload.get());
                        }
                    }, messages) > 0);
                    consumer.ackAll();
                }
            }
            // One that does not fit the memory of a recv either.
            publisher.send(new byte[30_000]);
            assertEquals(30_000, consumer.recv(LONG).payload().length);
        }
    }

    @Test
    void closeEndsAWaitAndASecondThreadIsTold() throws InterruptedException {
        try (Channel queue = fabric.channel("jobs", LEAST)) {
            Consumer consumer = queue.consumer();
            MemoraException[] ended = new MemoraException[1];
            Thread waiter = new Thread(() -> ended[0] = assertThrows(MemoraException.class, () -> consumer.recv(LONG)));
            waiter.start();
            while (waiter.getState() == Thread.State.NEW || queue.stats().queue().orElseThrow().consumers().isEmpty()) {
                Thread.onSpinWait();
            }
            consumer.close();
            waiter.join();
            assertTrue(ended[0] instanceof MemoraException.Closed);
            assertThrows(MemoraException.Closed.class, consumer::tryRecv);
            Consumer last = queue.consumer();
            queue.close();
            assertThrows(MemoraException.Closed.class, last::ackAll);
        }
    }

    @Test
    void interruptEndsAWait() {
        try (Channel queue = fabric.channel("jobs", ONCE); Consumer consumer = queue.consumer()) {
            Thread.currentThread().interrupt();
            assertNull(consumer.recv(LONG));
            assertTrue(Thread.interrupted());
            try (Publisher publisher = queue.publisher()) {
                publisher.send(bytes("a"));
            }
            assertNotNull(consumer.recv(LONG));
        }
    }

    @Test
    void whoWaitsForSeveralLearnsWhichHasSomething() throws Exception {
        try (Channel queue = fabric.channel("work", ChannelOptions.queue().acknowledged());
                Channel news = fabric.channel("news", ChannelOptions.broadcast());
                Consumer consumer = queue.consumer();
                Subscriber subscriber = news.subscriber();
                Publisher work = queue.publisher();
                Publisher told = news.publisher()) {
            assertEquals(Source.NONE, Source.waitAny(Duration.ofMillis(5), subscriber));
            for (int round = 0; round < 6; round++) {
                Publisher publisher = round % 2 == 0 ? told : work;
                Thread sender = new Thread(() -> {
                    try {
                        Thread.sleep(20);
                    } catch (InterruptedException error) {
                        throw new IllegalStateException(error);
                    }
                    publisher.send(new byte[] {7});
                });
                sender.start();
                // A consumer may have had to look after what others hold.
                while (true) {
                    int ready = Source.waitAny(Duration.ofSeconds(20), subscriber, consumer);
                    if (ready == 0) {
                        assertEquals(0, round % 2);
                        assertEquals(1, subscriber.tryRecv().payload().length);
                        break;
                    }
                    assertEquals(1, ready);
                    Delivery delivery = consumer.tryRecv();
                    if (delivery != null) {
                        assertEquals(1, round % 2);
                        consumer.ack(delivery);
                        break;
                    }
                }
                sender.join();
            }
            // What a handler left behind is there.
            told.send(new byte[] {1});
            told.send(new byte[] {2});
            assertThrows(IllegalStateException.class, () -> subscriber.poll((lane, position, payload) -> {
                throw new IllegalStateException();
            }, 10));
            assertEquals(0, Source.waitAny(Duration.ofSeconds(20), subscriber, consumer));
            fails(ErrorCode.INVALID_ARGUMENT, () -> Source.waitAny(Duration.ZERO));
            consumer.close();
            assertThrows(MemoraException.Closed.class, () -> Source.waitAny(Duration.ofSeconds(20), consumer));
        }
    }
}
