package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * Messages from publishers to subscribers, between all processes of a fabric.
 *
 * <p><b>Any thread may call any method.</b> Closing a channel closes the publishers and subscribers that were made from it.
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
