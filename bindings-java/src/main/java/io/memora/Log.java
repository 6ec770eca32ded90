package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.util.Objects;

/**
 * Messages of all processes of a fabric in one order, kept to be read again.
 *
 * <p><b>Any thread may call any method.</b> Closing a log closes the appenders and readers that were made from it.
 */
public final class Log implements AutoCloseable {
    private final Handle handle;
    private final Fabric fabric;
    private final String name;

    Log(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** The name of this log in its fabric. */
    public String name() {
        return name;
    }

    /** The fabric that this log is in. */
    public Fabric fabric() {
        return fabric;
    }

    /** An appender. Make one for each thread that appends, and keep it. */
    public Appender appender() {
        long number = Native.appender(handle.number());
        Reference.reachabilityFence(this);
        return new Appender(this, number);
    }

    /**
     * A reader that others do not know of.
     *
     * @throws MemoraException {@link ErrorCode#POSITION_TRIMMED} or {@link ErrorCode#POSITION_AHEAD} when there is no such position
     */
    public LogReader reader(LogPosition from) {
        return newReader(null, from);
    }

    /**
     * The reader of a name: it goes on where the last holder of the name stood, also when that one was killed, and begins at
     * {@code from} if there was none.
     *
     * @throws MemoraException {@link ErrorCode#SUBSCRIPTION_IN_USE} while another reader that lives has the name
     */
    public LogReader reader(String readerName, LogPosition from) {
        Objects.requireNonNull(readerName, "readerName");
        return newReader(readerName, from);
    }

    private LogReader newReader(String readerName, LogPosition from) {
        long number = Native.logReader(handle.number(), readerName, from.from, from.position);
        Reference.reachabilityFence(this);
        return new LogReader(this, number);
    }

    /** Ends a named reader whose holder is away: it keeps nothing any more. False if there is none of that name. */
    public boolean forget(String readerName) {
        boolean ended = Native.logForget(handle.number(), Objects.requireNonNull(readerName, "readerName"));
        Reference.reachabilityFence(this);
        return ended;
    }

    /**
     * Waits until everything that anybody appended before, and where the named readers stand, is in files that are synced.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} if the log has no files; {@link ErrorCode#POISONED} if a sync failed
     */
    public void flush() {
        Native.logFlush(handle.number());
        Reference.reachabilityFence(this);
    }

    /** Figures of this log and its named readers. */
    public LogStats stats() {
        String text = Native.logStats(handle.number());
        Reference.reachabilityFence(this);
        return LogStats.read(Figures.lines(text));
    }

    /** Closes this handle with its appenders and readers; the log stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
