package io.memora;

/**
 * The answer of {@link Entries#compareAndSwap}.
 *
 * @param outcome what happened
 * @param version the version of the new value if it was stored, of the value that stands there if the version was stale, or -1
 */
public record CasResult(Outcome outcome, long version) {
    /** What a compare-and-swap did. */
    public enum Outcome {
        /** The value was replaced. */
        STORED,
        /** The entry has another version: somebody was faster. */
        STALE,
        /** There is no such entry. */
        NOT_FOUND
    }

    /** Whether the value was replaced. */
    public boolean stored() {
        return outcome == Outcome.STORED;
    }
}
