package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class PublisherTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final ChannelOptions SMALL = ChannelOptions.broadcast().laneBytes(64 * 1024);

    @Test
    void payloadsOfEachSizeAndKindArrive() {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast().laneBytes(256 * 1024));
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int len : new int[] {0, 1, 56, 1000, 16 * 1024, 17 * 1024, 30_000}) {
                byte[] payload = new byte[len];
                java.util.Arrays.fill(payload, (byte) len);
                ByteBuffer direct = ByteBuffer.allocateDirect(len + 2).put(1, payload).position(1).limit(1 + len);
                publisher.send(payload);
                publisher.send(direct);
                publisher.send(ByteBuffer.wrap(payload).asReadOnlyBuffer());
                assertEquals(1, direct.position());
                for (int i = 0; i < 3; i++) {
                    assertArrayEquals(payload, subscriber.recv(LONG).payload());
                }
            }
            assertTrue(publisher.trySend(bytes("_part_"), 1, 4) >= 0);
            assertEquals("part", string(subscriber.recv(LONG).payload()));
            assertThrows(IndexOutOfBoundsException.class, () -> publisher.trySend(new byte[3], 2, 2));
        }
    }

    @Test
    void messagesSentTogetherComeTogetherWithTheirTime() {
        try (Channel channel = fabric.channel("stamped", ChannelOptions.broadcast().laneBytes(4096).timestamps());
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            long before = System.nanoTime();
            List<byte[]> batch = List.of(bytes("one"), new byte[0], bytes("three"));
            long last = publisher.sendAll(batch, Duration.ZERO);
            for (byte[] payload : batch) {
                Message message = subscriber.tryRecv();
                assertArrayEquals(payload, message.payload());
                assertTrue(message.sentNanos() - before >= 0 && System.nanoTime() - message.sentNanos() >= 0);
                assertTrue(message.position() <= last);
            }
            fails(ErrorCode.VALUE_TOO_LONG, () -> publisher.sendAll(List.of(new byte[1500], new byte[1500]), LONG));
            int sent = 0;
            while (publisher.sendAll(batch, Duration.ZERO) != Publisher.BACK_PRESSURE) {
                sent++;
            }
            assertEquals(Publisher.BACK_PRESSURE, publisher.sendAll(batch, Duration.ofMillis(20)));
            int seen = 0;
            while (subscriber.tryRecv() != null) {
                seen++;
            }
            assertEquals(3 * sent, seen);
        }
    }

    @Test
    void aSubscriptionThatStandsStillIsTakenAway() {
        ChannelOptions strict = ChannelOptions.broadcast().laneBytes(4096).ejectAfter(Duration.ofMillis(50));
        try (Channel channel = fabric.channel("strict", strict);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int i = 0; i < 300; i++) {
                assertTrue(publisher.send(new byte[16], LONG) >= 0);
            }
            fails(ErrorCode.EJECTED, subscriber::tryRecv);
        }
        fails(ErrorCode.INVALID_ARGUMENT, () -> strict.ejectAfter(Duration.ofNanos(5)));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.channel("lossy", strict.overrun(ChannelOptions.Overrun.OVERRUN)));
    }

    @Test
    void fullRingIsAnAnswerAndLosesNothing() {
        try (Channel channel = fabric.channel("news", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int sent = 0;
            while (publisher.trySend(new byte[1000]) != Publisher.BACK_PRESSURE) {
                sent++;
                assertTrue(sent < 10_000, "the ring never fills");
            }
            assertEquals(Publisher.BACK_PRESSURE, publisher.send(new byte[1000], Duration.ofMillis(20)));
            int seen = 0;
            while (subscriber.tryRecv() != null) {
                seen++;
            }
            assertEquals(sent, seen);
            assertTrue(publisher.trySend(new byte[1000]) >= 0);
        }
    }

    @Test
    void sendWaitsUntilASubscriberMovedOn() throws InterruptedException {
        try (Channel channel = fabric.channel("news", SMALL); Subscriber subscriber = channel.subscriber()) {
            int messages = 1000;
            Thread sender = new Thread(() -> {
                try (Publisher publisher = channel.publisher()) {
                    for (int i = 0; i < messages; i++) {
                        publisher.send(ByteBuffer.allocate(500).putInt(0, i));
                    }
                }
            });
            sender.start();
            for (int i = 0; i < messages; i++) {
                assertEquals(i, ByteBuffer.wrap(subscriber.recv(LONG).payload()).getInt());
            }
            sender.join();
        }
    }

    @Test
    void interruptEndsAWait() throws InterruptedException {
        try (Channel channel = fabric.channel("news", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            while (publisher.trySend(new byte[1000]) != Publisher.BACK_PRESSURE) {
                assertTrue(subscriber.channel() == channel);
            }
            long[] answer = new long[1];
            Thread waiter = new Thread(() -> answer[0] = publisher.send(new byte[1000]));
            waiter.start();
            waiter.interrupt();
            waiter.join();
            assertEquals(Publisher.BACK_PRESSURE, answer[0]);
        }
    }

    @Test
    void messageThatIsTooLongIsRefused() {
        try (Channel channel = fabric.channel("news", SMALL); Publisher publisher = channel.publisher()) {
            int tooLong = (int) LIMIT;
            MemoraException error = fails(ErrorCode.VALUE_TOO_LONG, () -> publisher.trySend(new byte[tooLong]));
            assertTrue(error.getMessage().contains(error.remedy()), error.getMessage());
            fails(ErrorCode.VALUE_TOO_LONG, () -> publisher.send(ByteBuffer.allocateDirect(tooLong)));
            assertTrue(publisher.trySend(bytes("a")) >= 0);
        }
    }

    @Test
    void claimIsSentOnCommitOnly() {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast().laneBytes(256 * 1024));
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            try (Claim aborted = publisher.claim(100)) {
                aborted.buffer().putInt(0, 1);
                fails(ErrorCode.BUSY, () -> publisher.claim(1));
            }
            Claim claim = publisher.claim(10_000);
            claim.buffer().putInt(9_996, 2);
            assertThrows(IndexOutOfBoundsException.class, () -> claim.buffer().putInt(9_997, 3));
            assertTrue(claim.commit(LONG) >= 0);
            assertThrows(MemoraException.Closed.class, claim::commit);
            assertThrows(MemoraException.Closed.class, claim::buffer);
            claim.close();
            Message message = subscriber.recv(LONG);
            assertEquals(10_000, message.payload().length);
            assertEquals(2, ByteBuffer.wrap(message.payload()).getInt(9_996));
            assertEquals(null, subscriber.tryRecv());
            fails(ErrorCode.INVALID_ARGUMENT, () -> publisher.claim(-1));
        }
    }

    @Test
    void messagesThatAreLongerThanTheRingArriveWholeAndHoldTheirPublisherBack() {
        try (Channel channel = fabric.channel("news", SMALL);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            byte[] longOne = new byte[1 << 20];
            for (int i = 0; i < longOne.length; i++) {
                longOne[i] = (byte) (i * 31 + i / 251);
            }
            for (int round = 0; round < 20; round++) {
                assertTrue(publisher.trySend(longOne) >= 0);
                assertTrue(publisher.trySend(ByteBuffer.wrap(longOne, round, 500_000)) >= 0);
                assertEquals(Publisher.BACK_PRESSURE, publisher.trySend(longOne));
                assertEquals(Publisher.BACK_PRESSURE, publisher.send(longOne, Duration.ofMillis(2)));
                assertTrue(publisher.trySend(bytes("short")) >= 0);
                assertArrayEquals(longOne, subscriber.recv(LONG).payload());
                byte[] part = subscriber.tryRecv().payload();
                assertArrayEquals(Arrays.copyOfRange(longOne, round, round + 500_000), part);
                assertEquals("short", string(subscriber.tryRecv().payload()));
                assertEquals(null, subscriber.tryRecv());
            }
            try (Claim claim = publisher.claim(300_000)) {
                claim.buffer().put(0, longOne, 0, 300_000);
                assertTrue(claim.commit(LONG) >= 0);
            }
            assertArrayEquals(Arrays.copyOf(longOne, 300_000), subscriber.recv(LONG).payload());
            assertEquals(List.of(), fabric.check());
        }
    }
}
