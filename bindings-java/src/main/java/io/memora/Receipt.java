package io.memora;

/**
 * What a message of a queue with acknowledgement is acknowledged with, by the {@link Consumer} that it was handed to. What stands in it is
 * the library's business.
 *
 * @param owner a word of the library
 * @param number a word of the library
 * @param word a word of the library
 */
public record Receipt(long owner, long number, long word) {
    /** Whether it is of a queue with acknowledgement. */
    boolean isHeld() {
        return owner != 0;
    }
}
