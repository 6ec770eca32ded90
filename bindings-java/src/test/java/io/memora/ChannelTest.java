package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
import org.junit.jupiter.api.Test;

class ChannelTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);

    @Test
    void eachSubscriberOfABroadcastGetsEachMessage() {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast());
                Subscriber one = channel.subscriber();
                Subscriber two = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int i = 0; i < 100; i++) {
                publisher.send(bytes("message " + i));
            }
            for (Subscriber subscriber : new Subscriber[] {one, two}) {
                for (int i = 0; i < 100; i++) {
                    assertEquals("message " + i, string(subscriber.recv(LONG).payload()));
                }
                assertNull(subscriber.tryRecv());
            }
        }
    }

    @Test
    void anonymousSubscriberSeesWhatIsSentFromThenOn() {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast()); Publisher publisher = channel.publisher()) {
            publisher.send(bytes("before"));
            try (Subscriber subscriber = channel.subscriber()) {
                publisher.send(bytes("after"));
                assertEquals("after", string(subscriber.recv(LONG).payload()));
            }
        }
    }

    @Test
    void nameOfALiveSubscriptionIsRefused() {
        try (Channel channel = fabric.channel("news", ChannelOptions.broadcast());
                Subscriber first = channel.subscriber("billing")) {
            fails(ErrorCode.SUBSCRIPTION_IN_USE, () -> channel.subscriber("billing"));
            first.close();
            channel.subscriber("billing").close();
            assertThrows(NullPointerException.class, () -> channel.subscriber(null));
        }
    }

    @Test
    void channelWithOtherOptionsIsRefusedAndOpenedWithoutAny() {
        fabric.channel("news", ChannelOptions.broadcast()).close();
        fails(ErrorCode.WRONG_KIND, () -> fabric.channel("news", ChannelOptions.stream()));
        fails(ErrorCode.WRONG_OPTIONS, () -> fabric.channel("news", ChannelOptions.broadcast().laneBytes(8192)));
        fabric.openChannel("news").close();
        fails(ErrorCode.NOT_FOUND, () -> fabric.openChannel("none"));
        fails(ErrorCode.INVALID_ARGUMENT, () -> ChannelOptions.stream().laneBytes(-1));
    }

    @Test
    void closingAChannelClosesItsPublishersAndSubscribers() {
        Channel channel = fabric.channel("news", ChannelOptions.broadcast());
        Publisher publisher = channel.publisher();
        Subscriber subscriber = channel.subscriber();
        channel.close();
        assertThrows(MemoraException.Closed.class, () -> publisher.send(bytes("a")));
        assertThrows(MemoraException.Closed.class, () -> subscriber.recv(LONG));
        assertThrows(MemoraException.Closed.class, () -> subscriber.poll((lane, position, payload) -> {}, 1));
        assertThrows(MemoraException.Closed.class, subscriber::commit);
        assertThrows(MemoraException.Closed.class, channel::subscriber);
    }
}
