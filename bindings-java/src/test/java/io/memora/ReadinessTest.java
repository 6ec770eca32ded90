package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class ReadinessTest extends WithFabric {
    @Test
    void aSelectorWaitsForChannelsBesideOthers() throws Exception {
        Channel prices = fabric.channel("prices", ChannelOptions.broadcast());
        Channel jobs = fabric.channel("jobs", ChannelOptions.queue());
        try (Readiness readiness = Readiness.open();
                Selector selector = Selector.open();
                Publisher publisher = prices.publisher();
                Publisher giver = jobs.publisher();
                Subscriber subscriber = prices.subscriber();
                Consumer consumer = jobs.consumer()) {
            SelectionKey key = readiness.channel().register(selector, SelectionKey.OP_READ, readiness);
            assertEquals(0, selector.selectNow(), "nothing is armed");
            readiness.arm(subscriber, consumer);
            assertEquals(0, selector.select(20), "nothing is there");
            List<String> seen = new ArrayList<>();
            Thread sender = new Thread(() -> {
                for (int i = 0; i < 200; i++) {
                    (i % 2 == 0 ? publisher : giver).send(bytes("m" + i));
                }
            });
            sender.start();
            while (seen.size() < 200) {
                selector.select(20_000);
                assertEquals(java.util.Set.of(key), selector.selectedKeys());
                selector.selectedKeys().clear();
                Message message;
                while ((message = subscriber.tryRecv()) != null) {
                    seen.add(string(message.payload()));
                }
                Delivery delivery;
                while ((delivery = consumer.tryRecv()) != null) {
                    seen.add(string(delivery.payload()));
                }
                readiness.arm(subscriber, consumer);
            }
            sender.join();
            assertEquals(200, java.util.Set.copyOf(seen).size());
            assertEquals(0, selector.select(20), "nothing is left");
            // What is there already is seen at once; arming again forgets it.
            publisher.send(bytes("there"));
            readiness.arm(subscriber);
            assertEquals(1, selector.select(20_000));
            selector.selectedKeys().clear();
            assertEquals("there", string(subscriber.tryRecv().payload()));
            assertNull(subscriber.tryRecv());
            readiness.arm(subscriber);
            assertEquals(0, selector.select(20));
            fails(ErrorCode.INVALID_ARGUMENT, () -> readiness.arm());
            // A source that is closed is something to be told.
            subscriber.close();
            fails(ErrorCode.CLOSED, () -> readiness.arm(subscriber));
            readiness.close();
            readiness.close();
            fails(ErrorCode.CLOSED, () -> readiness.arm(consumer));
        }
    }
}
