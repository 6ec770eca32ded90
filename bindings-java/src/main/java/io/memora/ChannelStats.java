package io.memora;

import java.util.List;

/**
 * Figures of a channel.
 *
 * @param publishers rings that a publisher holds now
 * @param lanes rings, with those of publishers that are gone
 * @param publishedBytes bytes ever published, with headers and padding
 * @param subscriptions all subscriptions, named ones that nobody holds included
 */
public record ChannelStats(long publishers, long lanes, long publishedBytes, List<Subscription> subscriptions) {
    /**
     * A subscription of a channel.
     *
     * @param name its name; empty for an anonymous one
     * @param held whether somebody holds it now
     * @param lagBytes bytes that were published and not yet handled by it
     */
    public record Subscription(String name, boolean held, long lagBytes) {}

    static ChannelStats read(List<Figures> lines) {
        Figures first = lines.get(0);
        List<Subscription> subscriptions = lines.stream().skip(1).map(line -> {
            boolean held = line.next() != 0;
            long lag = line.next();
            return new Subscription(line.text(), held, lag);
        }).toList();
        return new ChannelStats(first.next(), first.next(), first.next(), subscriptions);
    }
}
