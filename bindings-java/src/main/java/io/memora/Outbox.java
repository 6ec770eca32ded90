package io.memora;

import io.memora.internal.Handle;

/**
 * A channel as transactions send to it: {@link Transaction#publish(Outbox, byte[])}. All messages that went through it arrive in the order
 * of their commits.
 *
 * <p><b>Any thread may use it.</b> While one commits, others that commit with the same outbox wait for it; threads that shall not have an
 * outbox each. Any thread may close it at any time: transactions that have published through it can still commit.
 */
public final class Outbox implements AutoCloseable {
    private final Handle handle;
    /** Holds the channel open for as long as this is in use. */
    private final Channel channel;

    Outbox(Channel channel, long number) {
        this.channel = channel;
        this.handle = new Handle(this, number);
    }

    /** The channel that this outbox sends into. */
    public Channel channel() {
        return channel;
    }

    /** Who calls the library with this keeps the outbox reachable until that has returned. */
    long number() {
        return handle.number();
    }

    /** Closes this outbox; what was sent through it stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
