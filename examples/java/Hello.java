import static java.nio.charset.StandardCharsets.UTF_8;

import io.memora.Cache;
import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.Fabric;
import io.memora.Message;
import io.memora.Publisher;
import io.memora.Subscriber;
import java.time.Duration;

/** The smallest example: a cache and a channel of the fabric {@code hello}, which every process of this host can share. */
public final class Hello {
    private Hello() {}

    /** Prints what stands in expected.txt. */
    public static void main(String[] arguments) {
        try (Fabric fabric = Fabric.open("hello");
                Cache prices = fabric.cache("prices");
                Channel news = fabric.channel("news", ChannelOptions.stream());
                Subscriber subscriber = news.subscriber();
                Publisher publisher = news.publisher()) {
            prices.set("EURUSD".getBytes(UTF_8), "1.0871".getBytes(UTF_8));
            System.out.println("EURUSD " + new String(prices.get("EURUSD".getBytes(UTF_8)), UTF_8));

            publisher.send("markets are open".getBytes(UTF_8));
            Message message = subscriber.recv(Duration.ofSeconds(1));
            System.out.println("news: " + new String(message.payload(), UTF_8));
        }
    }
}
