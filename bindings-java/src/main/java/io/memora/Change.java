package io.memora;

/**
 * A committed change of a key of a store.
 *
 * @param key its key; the array belongs to the receiver
 * @param value the value that it has then, an array of the receiver; null if it was deleted, or its time was over
 * @param flags the 32 bits that were given with the value
 * @param expiresMillis wall clock in milliseconds from which the entry is gone, or -1 when it does not expire
 * @param order grows from change to change of this key; unsigned
 * @param position where one goes on who has handled this change
 */
public record Change(byte[] key, byte[] value, int flags, long expiresMillis, long order, FeedPosition position) {
    /** Whether the key has no value any more. */
    public boolean isDeletion() {
        return value == null;
    }
}
