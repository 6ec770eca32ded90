package io.memora;

/**
 * The reads and changes of a transaction.
 *
 * @param <T> what it gives
 * @param <X> what it may throw; {@link Store#transact} gives the transaction up then, and throws it on
 */
@FunctionalInterface
public interface TransactionBody<T, X extends Exception> {
    /**
     * Reads and changes the store through the transaction. It may be called several times, so it does nothing else; the caller commits
     * and closes.
     */
    T run(Transaction transaction) throws X;
}
