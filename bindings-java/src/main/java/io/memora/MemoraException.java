package io.memora;

/**
 * Every failure of Memora: a code for programs, and a message for people that says what happened, with the values, and what to
 * do about it. Expected outcomes (a miss, a full ring, nothing in time) are return values, not exceptions.
 */
public class MemoraException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final ErrorCode code;
    private final long amount;

    /** An exception with the number that belongs to its code (see {@link #amount}), or 0. */
    public MemoraException(ErrorCode code, String message, long amount, Throwable cause) {
        super(message, cause);
        this.code = code;
        this.amount = amount;
    }

    /** The exception of a code: one of the subclasses where there is one. */
    public static MemoraException of(ErrorCode code, String message, long amount) {
        return switch (code) {
            case CLOSED -> new Closed(message);
            case OVERRUN -> new Overrun(message, amount);
            case CONFLICT -> new Conflict(message);
            default -> new MemoraException(code, message, amount, null);
        };
    }

    /** What went wrong, for programs. */
    public ErrorCode code() {
        return code;
    }

    /** What to do about it; the message ends with it. */
    public String remedy() {
        return code.remedy();
    }

    /** Bytes needed for {@link ErrorCode#BUFFER_TOO_SMALL}, messages lost for {@link ErrorCode#OVERRUN}, otherwise 0. */
    public long amount() {
        return amount;
    }

    /** The object was closed, here or by another thread, or its fabric was. */
    public static final class Closed extends MemoraException {
        private static final long serialVersionUID = 1;

        Closed(String message) {
            super(ErrorCode.CLOSED, message, 0, null);
        }
    }

    /** The subscriber was too slow: messages were overwritten before it took them. It goes on with the oldest that is left. */
    public static final class Overrun extends MemoraException {
        private static final long serialVersionUID = 1;

        Overrun(String message, long lost) {
            super(ErrorCode.OVERRUN, message, lost, null);
        }

        /** How many messages were lost. */
        public long lost() {
            return amount();
        }
    }

    /**
     * A transaction read what another has changed meanwhile, or was in its way: nothing of it was done. {@link Store#transact} does it
     * again by itself.
     */
    public static final class Conflict extends MemoraException {
        private static final long serialVersionUID = 1;

        Conflict(String message) {
            super(ErrorCode.CONFLICT, message, 0, null);
        }
    }
}
