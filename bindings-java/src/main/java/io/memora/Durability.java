package io.memora;

/** What an acknowledged write to a {@link Store} survives. */
public enum Durability {
    /** The death of any process, but not the loss of the shared memory (a restart of the host). */
    PROCESS,
    /** That too, except for the last moments before it: written and synced every 100 ms. */
    ASYNC,
    /** That too, without exception: the call returns when the write is on disk. */
    SYNC
}
