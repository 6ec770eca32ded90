package io.memora;

import java.time.Duration;
import java.util.Objects;

/** How a channel is made. Immutable: each method gives a changed copy. */
public final class ChannelOptions {
    /** Who gets a message. */
    public enum Kind {
        /** Many publishers, one subscriber. */
        STREAM,
        /** Each subscriber gets each message. */
        BROADCAST,
        /** Each message goes to one of many consumers. */
        QUEUE
    }

    /** What happens when a subscriber is slower than a publisher. */
    public enum Overrun {
        /** The publisher has to wait: nothing is lost. */
        BLOCK,
        /** The publisher goes on; the slow subscriber loses messages and is told how many. */
        OVERRUN
    }

    final Kind kind;
    Overrun overrun = Overrun.BLOCK;
    int laneBytes;
    boolean acknowledge;
    long visibilityMillis;
    int deliveriesMax;
    String deadLetters;
    boolean timestamps;
    long ejectAfterMillis;

    private ChannelOptions(Kind kind) {
        this.kind = kind;
    }

    private ChannelOptions copy() {
        ChannelOptions copy = new ChannelOptions(kind);
        copy.overrun = overrun;
        copy.laneBytes = laneBytes;
        copy.acknowledge = acknowledge;
        copy.visibilityMillis = visibilityMillis;
        copy.deliveriesMax = deliveriesMax;
        copy.deadLetters = deadLetters;
        copy.timestamps = timestamps;
        copy.ejectAfterMillis = ejectAfterMillis;
        return copy;
    }

    /** Many publishers, one subscriber, nothing lost. */
    public static ChannelOptions stream() {
        return new ChannelOptions(Kind.STREAM);
    }

    /** Each subscriber gets each message, nothing lost. */
    public static ChannelOptions broadcast() {
        return new ChannelOptions(Kind.BROADCAST);
    }

    /** Each message goes to one of many {@linkplain Consumer consumers}, at most once: see {@link #acknowledged()}. */
    public static ChannelOptions queue() {
        return new ChannelOptions(Kind.QUEUE);
    }

    /** What happens when a subscriber is slower than a publisher. */
    public ChannelOptions overrun(Overrun newOverrun) {
        ChannelOptions copy = copy();
        copy.overrun = Objects.requireNonNull(newOverrun, "newOverrun");
        return copy;
    }

    /** Bytes of each publisher's ring; 0 leaves it to the library. */
    public ChannelOptions laneBytes(int newLaneBytes) {
        if (newLaneBytes < 0) {
            throw invalid("laneBytes is " + newLaneBytes + ": it must not be negative.");
        }
        ChannelOptions copy = copy();
        copy.laneBytes = newLaneBytes;
        return copy;
    }

    /**
     * A queue whose messages are acknowledged: each is delivered at least once. A consumer holds what it took until it acknowledges it,
     * gives it back, closes or dies.
     */
    public ChannelOptions acknowledged() {
        ChannelOptions copy = copy();
        copy.acknowledge = true;
        return copy;
    }

    /** As {@link #acknowledged()}, and others get a message too that a consumer has held for so long, in whole milliseconds. */
    public ChannelOptions visibility(Duration time) {
        if (time.isNegative() || time.isZero() || time.getNano() % 1_000_000 != 0) {
            throw invalid("The visibility time is " + time + ": it must be whole milliseconds, at least one.");
        }
        ChannelOptions copy = acknowledged();
        copy.visibilityMillis = time.toMillis();
        return copy;
    }

    /**
     * As {@link #acknowledged()}, and a message that was delivered {@code after} times (1 to 1000) and not acknowledged is not delivered
     * again, but sent to another channel, which is made as a queue with acknowledgement if there is none.
     */
    public ChannelOptions deadLetters(int after, String channel) {
        if (after < 1) {
            throw invalid("`after` is " + after + ": it must be 1 to 1000.");
        }
        ChannelOptions copy = acknowledged();
        copy.deliveriesMax = after;
        copy.deadLetters = Objects.requireNonNull(channel, "channel");
        return copy;
    }

    /** Each message bears the time at which it was sent, {@link Message#sentNanos()}: 8 more bytes, and the reading of a clock. */
    public ChannelOptions timestamps() {
        ChannelOptions copy = copy();
        copy.timestamps = true;
        return copy;
    }

    /**
     * How long a subscription of a stream or broadcast that blocks may stand still while a publisher waits for it, in whole milliseconds:
     * then it is taken away, and its holder's next call throws {@link ErrorCode#EJECTED}.
     */
    public ChannelOptions ejectAfter(Duration time) {
        if (time.isNegative() || time.isZero() || time.getNano() % 1_000_000 != 0) {
            throw invalid("The time for ejecting is " + time + ": it must be whole milliseconds, at least one.");
        }
        ChannelOptions copy = copy();
        copy.ejectAfterMillis = time.toMillis();
        return copy;
    }

    private static MemoraException invalid(String what) {
        return MemoraException.of(ErrorCode.INVALID_ARGUMENT, what + " " + ErrorCode.INVALID_ARGUMENT.remedy(), 0);
    }
}
