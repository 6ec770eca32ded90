package io.memora;

import java.util.List;
import java.util.Optional;

/**
 * Figures of a channel.
 *
 * @param publishers rings that a publisher holds now
 * @param lanes rings, with those of publishers that are gone
 * @param publishedBytes bytes ever published, with headers and padding
 * @param subscriptions all subscriptions, named ones that nobody holds included
 * @param queue what a queue counts beside
 */
public record ChannelStats(
        long publishers, long lanes, long publishedBytes, List<Subscription> subscriptions, Optional<Queue> queue) {
    /**
     * A subscription of a channel.
     *
     * @param name its name; empty for an anonymous one
     * @param held whether somebody holds it now
     * @param lagBytes bytes that were published and not yet handled by it
     */
    public record Subscription(String name, boolean held, long lagBytes) {}

    /**
     * Figures of a queue.
     *
     * @param waitingBytes bytes that were published and not yet taken by anybody, with headers and padding
     * @param redelivered messages that were delivered again
     * @param deadLetters messages that became dead letters
     * @param consumers consumers of a queue with acknowledgement; those of others leave no trace
     */
    public record Queue(long waitingBytes, long redelivered, long deadLetters, List<Consumer> consumers) {}

    /**
     * A consumer of a queue with acknowledgement.
     *
     * @param number its number in the queue
     * @param held whether a thread holds it now; who left may have left messages
     * @param unacknowledged messages in its hand
     */
    public record Consumer(long number, boolean held, long unacknowledged) {}

    static ChannelStats read(List<Figures> lines) {
        Figures first = lines.get(0);
        long publishers = first.next();
        long lanes = first.next();
        long publishedBytes = first.next();
        if (first.more()) {
            Queue queue = new Queue(first.next(), first.next(), first.next(), lines.stream().skip(1)
                    .map(line -> new Consumer(line.next(), line.next() != 0, line.next())).toList());
            return new ChannelStats(publishers, lanes, publishedBytes, List.of(), Optional.of(queue));
        }
        List<Subscription> subscriptions = lines.stream().skip(1).map(line -> {
            boolean held = line.next() != 0;
            long lag = line.next();
            return new Subscription(line.text(), held, lag);
        }).toList();
        return new ChannelStats(publishers, lanes, publishedBytes, subscriptions, Optional.empty());
    }
}
