package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Objects;

/**
 * Gets for each key of a topic the newest value: those that are there first, then those that are published. Never an older one after a
 * newer; what it was too slow for is skipped and counted.
 *
 * <p><b>One thread at a time</b>; a second one gets {@link ErrorCode#BUSY}. Any thread may close: who waits then throws
 * {@link MemoraException.Closed} within 50 ms. A waiting virtual thread does not hold its carrier.
 */
public final class TopicSubscriber implements AutoCloseable {
    private static final int HEADER = 24;

    private final Handle handle;
    /** Holds the topic open for as long as this is in use. */
    private final Topic topic;

    TopicSubscriber(Topic topic, long number) {
        this.topic = topic;
        this.handle = new Handle(this, number);
    }

    /** The topic whose values these are. */
    public Topic topic() {
        return topic;
    }

    /** The next update if there is one, else null. */
    public TopicUpdate tryNext() {
        return next(Duration.ZERO);
    }

    /** The next update; waits for so long. Null when none came, or when the thread was interrupted, whose mark stays. */
    public TopicUpdate next(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        TopicUpdate[] found = new TopicUpdate[1];
        Waiting.until(timeout, wait -> {
            byte[] bytes = Native.topicNext(handle.number(), wait);
            Reference.reachabilityFence(this);
            if (bytes == null) {
                return Waiting.NONE;
            }
            found[0] = update(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
            return 0;
        });
        return found[0];
    }

    private static TopicUpdate update(ByteBuffer bytes) {
        byte[] key = new byte[bytes.getInt(16)];
        bytes.get(HEADER, key);
        byte[] value = null;
        if (bytes.getInt(20) == 0) {
            value = new byte[bytes.limit() - HEADER - key.length];
            bytes.get(HEADER + key.length, value);
        }
        return new TopicUpdate(key, value, bytes.getLong(0), bytes.getLong(8));
    }

    /** Follows no more. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
