package io.memora;

import java.util.Objects;

/** How a channel is made. Immutable: each method gives a changed copy. */
public final class ChannelOptions {
    /** Who gets a message. */
    public enum Kind {
        /** Many publishers, one subscriber. */
        STREAM,
        /** Each subscriber gets each message. */
        BROADCAST
    }

    /** What happens when a subscriber is slower than a publisher. */
    public enum Overrun {
        /** The publisher has to wait: nothing is lost. */
        BLOCK,
        /** The publisher goes on; the slow subscriber loses messages and is told how many. */
        OVERRUN
    }

    final Kind kind;
    final Overrun overrun;
    final int laneBytes;

    private ChannelOptions(Kind kind, Overrun overrun, int laneBytes) {
        this.kind = kind;
        this.overrun = overrun;
        this.laneBytes = laneBytes;
    }

    /** Many publishers, one subscriber, nothing lost. */
    public static ChannelOptions stream() {
        return new ChannelOptions(Kind.STREAM, Overrun.BLOCK, 0);
    }

    /** Each subscriber gets each message, nothing lost. */
    public static ChannelOptions broadcast() {
        return new ChannelOptions(Kind.BROADCAST, Overrun.BLOCK, 0);
    }

    /** What happens when a subscriber is slower than a publisher. */
    public ChannelOptions overrun(Overrun newOverrun) {
        Objects.requireNonNull(newOverrun, "newOverrun");
        return new ChannelOptions(kind, newOverrun, laneBytes);
    }

    /** Bytes of each publisher's ring; 0 leaves it to the library. */
    public ChannelOptions laneBytes(int newLaneBytes) {
        if (newLaneBytes < 0) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                    "laneBytes is " + newLaneBytes + ": it must not be negative.", 0, null);
        }
        return new ChannelOptions(kind, overrun, newLaneBytes);
    }
}
