package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;

/**
 * Messages from publishers to subscribers, or to the consumers of a queue, between all processes of a fabric.
 *
 * <p><b>Any thread may call any method.</b> Closing a channel closes what was made from it.
 */
public final class Channel implements AutoCloseable {
    private final Handle handle;
    private final Fabric fabric;
    private final String name;

    Channel(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** The name of this channel in its fabric. */
    public String name() {
        return name;
    }

    /** The fabric that this channel is in. */
    public Fabric fabric() {
        return fabric;
    }

    /** A publisher with a ring of its own. Make one for each thread that sends, and keep it. */
    public Publisher publisher() {
        long number = Native.publisher(handle.number());
        Reference.reachabilityFence(this);
        return new Publisher(this, number);
    }

    /**
     * A channel for the messages of transactions, with a ring of its own: {@link Transaction#publish(Outbox, byte[])}.
     *
     * @throws MemoraException {@link ErrorCode#WRONG_KIND} on a log
     */
    public Outbox outbox() {
        long number = Native.outbox(handle.number());
        Reference.reachabilityFence(this);
        return new Outbox(this, number);
    }

    /** A subscriber that gets what is sent from now on, and leaves no trace when it ends. */
    public Subscriber subscriber() {
        return newSubscriber(null);
    }

    /**
     * The subscriber of a name: it goes on where the last holder of the name stood, also when that one was killed. It sees
     * again what its predecessor took but did not confirm.
     *
     * @throws MemoraException {@link ErrorCode#SUBSCRIPTION_IN_USE} while another subscriber that lives has the name
     */
    public Subscriber subscriber(String subscription) {
        Objects.requireNonNull(subscription, "subscription");
        return newSubscriber(subscription);
    }

    private Subscriber newSubscriber(String subscription) {
        long number = Native.subscriber(handle.number(), subscription);
        Reference.reachabilityFence(this);
        return new Subscriber(this, number);
    }

    /**
     * A consumer of a queue.
     *
     * @throws MemoraException {@link ErrorCode#WRONG_KIND} on a channel of another kind
     */
    public Consumer consumer() {
        long number = Native.consumer(handle.number());
        Reference.reachabilityFence(this);
        return new Consumer(this, number);
    }

    /**
     * This queue as a {@link BlockingQueue}, with one publisher and one consumer that any number of threads may use; they are made when they
     * are first needed.
     *
     * <p>A queue with acknowledgement delivers a message at most once through this view: it is acknowledged before it is given out. Use a
     * {@link Consumer} to acknowledge what was handled.
     *
     * <p>How many messages are in a channel nobody counts, and what is in it can only be taken: {@code size}, {@code iterator},
     * {@code contains} and {@code remove(Object)} throw {@link UnsupportedOperationException}. Too long a message throws
     * {@link MemoraException}, as everywhere.
     *
     * @throws MemoraException {@link ErrorCode#WRONG_KIND} when this is no queue
     */
    public ChannelQueue blockingQueue() {
        if (!isQueue()) {
            throw MemoraException.of(ErrorCode.WRONG_KIND, "Channel `" + name + "` is no queue: to read it as one, name a subscription. "
                    + ErrorCode.WRONG_KIND.remedy(), 0);
        }
        return new ChannelQueue(this, null);
    }

    /**
     * The same for a stream or a broadcast: what is taken is what the {@linkplain #subscriber(String) subscriber of this name} receives,
     * which is made now. It confirms a message before it is given out.
     */
    public ChannelQueue blockingQueue(String subscription) {
        Objects.requireNonNull(subscription, "subscription");
        subscriber(subscription).close();
        return new ChannelQueue(this, subscription);
    }

    /**
     * This channel as a publisher of reactive streams. Each subscription is one task of the executor, until it is cancelled: give it threads
     * enough, or virtual ones. The task makes a consumer of a queue, or else an anonymous {@linkplain #subscriber() subscriber}, before it
     * calls {@code onSubscribe}, and takes a message only when there is demand.
     *
     * <p>A message of a queue with acknowledgement is acknowledged when {@code onNext} has returned. A loss ({@link ChannelOptions.Overrun})
     * and every other error ends the stream with {@code onError}; closing the channel with {@code onComplete}.
     */
    public Flow.Publisher<Message> flow(Executor executor) {
        Objects.requireNonNull(executor, "executor");
        return subscriber -> ChannelFlow.subscribe(this, null, executor, subscriber);
    }

    /** The same with the {@linkplain #subscriber(String) subscriber of a name}, which one flow at a time can have. */
    public Flow.Publisher<Message> flow(Executor executor, String subscription) {
        Objects.requireNonNull(executor, "executor");
        Objects.requireNonNull(subscription, "subscription");
        return subscriber -> ChannelFlow.subscribe(this, subscription, executor, subscriber);
    }

    boolean isQueue() {
        return stats().queue().isPresent();
    }

    /** Figures of this channel and its subscriptions. */
    public ChannelStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        return ChannelStats.read(Figures.lines(text));
    }

    /** Closes this handle with its publishers and subscribers; the channel stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
