package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * The newest value of each key, for subscribers of any speed in all processes of a fabric. Publishers wait for nobody.
 *
 * <p><b>Any thread may call any method.</b> Closing a topic closes the subscribers that were made from it.
 */
public final class Topic implements AutoCloseable {
    private final Handle handle;
    private final Fabric fabric;
    private final String name;

    Topic(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** The name of this topic in its fabric. */
    public String name() {
        return name;
    }

    /** The fabric that this topic is in. */
    public Fabric fabric() {
        return fabric;
    }

    /**
     * Gives a key a new value.
     *
     * @return how often the key was published
     * @throws MemoraException {@link ErrorCode#FULL} if there is no room for a new key or a longer value
     */
    public long publish(byte[] key, byte[] value) {
        Objects.requireNonNull(value, "value");
        long number = Native.topicPublish(handle.number(), key, value);
        Reference.reachabilityFence(this);
        return number;
    }

    /**
     * Publishes that a key has no value any more.
     *
     * @return how often the key was published
     */
    public long retract(byte[] key) {
        long number = Native.topicPublish(handle.number(), key, null);
        Reference.reachabilityFence(this);
        return number;
    }

    /** A subscriber: it gets the newest value of each key first, then those that are published. */
    public TopicSubscriber subscriber() {
        long number = Native.topicSubscribe(handle.number());
        Reference.reachabilityFence(this);
        return new TopicSubscriber(this, number);
    }

    /** Figures. */
    public TopicStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        Figures line = Figures.lines(text).get(0);
        return new TopicStats(line.next(), line.next(), line.next());
    }

    /** Closes this handle with its subscribers; the topic stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
