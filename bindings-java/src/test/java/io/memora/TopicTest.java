package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import org.junit.jupiter.api.Test;

class TopicTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);

    private static void assertUpdate(String key, String value, long number, long conflated, TopicUpdate update) {
        assertNotNull(update);
        assertEquals(key, string(update.key()));
        assertEquals(value, update.value() == null ? null : string(update.value()));
        assertEquals(number, update.number());
        assertEquals(conflated, update.conflated());
    }

    @Test
    void newestComesWithTheNumberOfThoseThatWereSkipped() throws Exception {
        try (Topic topic = fabric.topic("prices", 0)) {
            topic.publish(bytes("apples"), bytes("1"));
            try (TopicSubscriber subscriber = topic.subscriber()) {
                assertUpdate("apples", "1", 1, 0, subscriber.tryNext());
                assertNull(subscriber.tryNext());
                assertNull(subscriber.next(Duration.ofMillis(20)));
                for (int price = 2; price <= 5; price++) {
                    assertEquals(price, topic.publish(bytes("apples"), bytes("" + price)));
                }
                assertUpdate("apples", "5", 5, 3, subscriber.next(LONG));
                topic.retract(bytes("apples"));
                assertUpdate("apples", null, 6, 0, subscriber.next(LONG));
                topic.publish(bytes("apples"), new byte[0]);
                assertUpdate("apples", "", 7, 0, subscriber.next(LONG));
                assertEquals(new TopicStats(1, topic.stats().bytes(), 7), topic.stats());
                TopicUpdate[] heard = new TopicUpdate[1];
                Thread waiter = new Thread(() -> heard[0] = subscriber.next(LONG));
                waiter.start();
                topic.publish(bytes("pears"), bytes("1"));
                waiter.join();
                assertUpdate("pears", "1", 1, 0, heard[0]);
            }
        }
    }

    @Test
    void whatIsWrongIsTold() {
        fails(ErrorCode.NOT_FOUND, () -> fabric.openTopic("none"));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.topic("prices", -1));
        try (Topic topic = fabric.topic("prices", 0)) {
            fails(ErrorCode.WRONG_OPTIONS, () -> fabric.topic("prices", 1 << 20));
            fails(ErrorCode.KEY_TOO_LONG, () -> topic.publish(new byte[0], bytes("x")));
            TopicSubscriber subscriber = topic.subscriber();
            subscriber.close();
            fails(ErrorCode.CLOSED, subscriber::tryNext);
            assertTrue(fabric.openTopic("prices").name().equals("prices"));
        }
    }
}
