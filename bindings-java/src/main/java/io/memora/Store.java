package io.memora;

import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;

/**
 * Entries that are kept in files too: a journal of all writes, and checkpoints. They survive the death of all processes and the
 * loss of the shared memory; how soon a write does, its {@link Durability} says.
 */
public final class Store extends Entries {
    Store(Fabric fabric, String name, long number) {
        super(fabric, name, number);
    }

    /** Stores a value with a durability of its own, and gives its version. */
    public long set(byte[] key, byte[] value, Durability durability) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = key(scratch, key);
            return Native.storeSetDurable(
                    handle.number(), scratch.keyAddress(), keyLen, value, 0, value.length, durability.ordinal());
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Returns when every write that was acknowledged before is on disk. */
    public void flush() {
        Native.storeFlush(handle.number());
        Reference.reachabilityFence(this);
    }

    /** Writes a checkpoint, so that the journal before it can go. */
    public void checkpoint() {
        Native.storeCheckpoint(handle.number());
        Reference.reachabilityFence(this);
    }

    /** Figures of this store. */
    public StoreStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        return StoreStats.read(Figures.of(text));
    }
}
