package io.memora;

/** Takes the entries of a scan. */
@FunctionalInterface
public interface EntryConsumer {
    /** One entry; both arguments belong to the consumer. */
    void accept(byte[] key, Entry entry);
}
