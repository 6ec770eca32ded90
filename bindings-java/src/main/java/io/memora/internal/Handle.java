package io.memora.internal;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;

/**
 * Owns one native object. Closing is up to the user; a cleaner closes what was forgotten once it cannot be reached any more.
 * The library refuses a closed handle itself, so there is no state to keep here.
 */
public final class Handle implements AutoCloseable {
    private static final Cleaner CLEANER = Cleaner.create();

    private final long number;
    private final Cleaner.Cleanable cleanable;

    private Handle(long number) {
        this.number = number;
        this.cleanable = CLEANER.register(this, new Close(number));
    }

    /** Takes over a handle that lives for as long as anybody has what this gives. */
    public static Handle shared(long number) {
        return new Handle(number);
    }

    /** Keeps {@code needed} for as long as {@code user} can be reached. */
    public static void outlive(Object user, Handle needed) {
        CLEANER.register(user, () -> Reference.reachabilityFence(needed));
    }

    /** Takes over a handle for an object; {@code owner} is what the user holds. */
    public Handle(Object owner, long number) {
        this.number = number;
        this.cleanable = CLEANER.register(owner, new Close(number));
    }

    /** The number to pass to the library. The owner must stay reachable until that call returns. */
    public long number() {
        return number;
    }

    /** Closes the object; the second time does nothing. */
    @Override
    public void close() {
        cleanable.clean();
    }

    /** Holds no reference to the owner, or it would never be unreachable. */
    private record Close(long number) implements Runnable {
        @Override
        public void run() {
            Native.close(number);
        }
    }
}
