package io.memora;

/**
 * The answer of {@link Cache#deleteIf}.
 *
 * @param outcome what happened
 * @param version the version that stands there if another one was asked for, or -1
 */
public record DeleteResult(Outcome outcome, long version) {
    /** What a deletion of a version did. */
    public enum Outcome {
        /** The entry is gone. */
        DELETED,
        /** The entry has another version. */
        STALE,
        /** There is no such entry. */
        NOT_FOUND
    }

    /** Whether the entry was deleted. */
    public boolean deleted() {
        return outcome == Outcome.DELETED;
    }
}
