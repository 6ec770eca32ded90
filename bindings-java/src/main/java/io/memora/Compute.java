package io.memora;

/**
 * Makes the value of a key that is missing.
 *
 * @param <X> what it may throw; {@link Cache#getOrCompute} throws it on
 */
@FunctionalInterface
public interface Compute<X extends Exception> {
    /** The value of this key; not null. */
    byte[] compute(byte[] key) throws X;
}
