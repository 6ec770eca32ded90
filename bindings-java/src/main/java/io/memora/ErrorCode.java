package io.memora;

/**
 * What went wrong, as a stable number and name that all languages share. A test compares this list with the one table of the
 * native library.
 */
public enum ErrorCode {
    /** An argument is not acceptable. */
    INVALID_ARGUMENT(1,
            "An argument is not acceptable.",
            "Read the message: it names the argument, its value and what is allowed."),
    /** The name of a fabric or object is not acceptable. */
    INVALID_NAME(2,
            "The name of a fabric or object is not acceptable.",
            "Use 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'."),
    /** There is no such fabric, object or entry. */
    NOT_FOUND(3,
            "There is no such fabric, object or entry.",
            "Check the name with `memora ls`, or open with `Create::OpenOrCreate`."),
    /** It exists already. */
    ALREADY_EXISTS(4,
            "It exists already.",
            "Open it instead of creating it, or remove it first with `memora rm`."),
    /** The operating system refuses access. */
    PERMISSION_DENIED(5,
            "The operating system refuses access.",
            "Ask the owner for a group and mode or mount it writable, or use a place of your own (MEMORA_HOME for fabrics, `dir` for stores)."),
    /** The file or directory is not a safe place for a fabric. */
    NOT_OURS(6,
            "The file or directory is not a safe place for a fabric.",
            "Use a directory that you own with mode 0700, without symbolic links."),
    /** The file is not a Memora fabric, or it was truncated or overwritten. */
    NOT_A_FABRIC(7,
            "The file is not a Memora fabric, or it was truncated or overwritten.",
            "Remove it with `memora rm` and let the next opener create it anew."),
    /** The fabric was made with another layout. */
    LAYOUT_MISMATCH(8,
            "The fabric was made with another layout.",
            "Use the same version of Memora in all processes, or remove the fabric and create it anew."),
    /** The limit is too small. */
    LIMIT_TOO_SMALL(9,
            "The limit is too small.",
            "Give at least the limit that the message names."),
    /** The file system or memory of the host has no room for more pages. */
    NO_SPACE(10,
            "The file system or memory of the host has no room for more pages.",
            "Enlarge the tmpfs (--shm-size, sizeLimit, mount -o remount,size=...), free space there, or open with a smaller limit."),
    /** The fabric or object has no room for more data. */
    FULL(11,
            "The fabric or object has no room for more data.",
            "Create it with a larger limit, delete entries, or enable eviction."),
    /** All process entries of the fabric are taken by live processes. */
    TOO_MANY_PROCESSES(12,
            "All process entries of the fabric are taken by live processes.",
            "Close attachments that are not needed, or create the fabric with a larger limit."),
    /** All thread entries of the fabric are taken by live threads. */
    TOO_MANY_THREADS(13,
            "All thread entries of the fabric are taken by live threads.",
            "Use fewer threads on the fabric, or create it with a larger limit."),
    /** The object directory of the fabric is full. */
    TOO_MANY_OBJECTS(14,
            "The object directory of the fabric is full.",
            "Use fewer objects, or create the fabric with a larger limit."),
    /** The object exists as another kind. */
    WRONG_KIND(15,
            "The object exists as another kind.",
            "Use another name, or open it as the kind that the message names."),
    /** The object or fabric exists with other options. */
    WRONG_OPTIONS(16,
            "The object or fabric exists with other options.",
            "Open it with the options that it was made with, which the message names, or without any."),
    /** The key is longer than the limit, or empty. */
    KEY_TOO_LONG(17,
            "The key is longer than the limit, or empty.",
            "Use keys of 1 byte to the limit that the message names; hash longer ones."),
    /** The value or message is longer than the limit. */
    VALUE_TOO_LONG(18,
            "The value or message is longer than the limit.",
            "Split it, or create the fabric or channel with larger chunks or lanes, as the message says."),
    /** The caller's buffer is too small; nothing was taken. */
    BUFFER_TOO_SMALL(19,
            "The caller's buffer is too small; nothing was taken.",
            "Call again with a buffer of at least the length that the message names."),
    /** The entry is not a decimal number of 64 bits. */
    NOT_A_NUMBER(20,
            "The entry is not a decimal number of 64 bits.",
            "Increment only entries that were set as decimal text, or delete the entry first."),
    /** The counter would leave 64 bits; it is unchanged. */
    COUNTER_OVERFLOW(21,
            "The counter would leave 64 bits; it is unchanged.",
            "Reset the counter, or count in smaller units."),
    /** The handle was closed. */
    CLOSED(22,
            "The handle was closed.",
            "Open it again; do not use a handle after closing it."),
    /** The handle belongs to the parent process of a fork. */
    FORKED(23,
            "The handle belongs to the parent process of a fork.",
            "Open the fabric anew in the child process."),
    /** The attachment is read-only. */
    READ_ONLY(24,
            "The attachment is read-only.",
            "Open without `read_only`."),
    /** The content of the fabric breaks its own rules. */
    CORRUPT(25,
            "The content of the fabric breaks its own rules.",
            "Run `memora check NAME`; remove the fabric and let a store recover from its files."),
    /** The time given for waiting is over. */
    TIMED_OUT(26,
            "The time given for waiting is over.",
            "Wait longer, or look with `memora stat` at who is slow."),
    /** The ring is full: a subscriber is behind. */
    BACK_PRESSURE(27,
            "The ring is full: a subscriber is behind.",
            "Try again later, wait with `send`, use larger lanes, or the overrun policy."),
    /** The subscriber was too slow and messages were overwritten. */
    OVERRUN(28,
            "The subscriber was too slow and messages were overwritten.",
            "Poll more often, use larger lanes, or the blocking policy."),
    /** A live process holds the subscription of that name. */
    SUBSCRIPTION_IN_USE(29,
            "A live process holds the subscription of that name.",
            "Use another name, or close the other subscriber."),
    /** All subscriber entries of the channel are taken. */
    TOO_MANY_SUBSCRIBERS(30,
            "All subscriber entries of the channel are taken.",
            "Close subscribers that are not needed."),
    /** All lanes of the channel are taken by live producers. */
    TOO_MANY_PUBLISHERS(31,
            "All lanes of the channel are taken by live producers.",
            "Publish from fewer threads."),
    /** Another process is doing this just now. */
    BUSY(32,
            "Another process is doing this just now.",
            "Try again."),
    /** The directory holds something else, another store or another version. */
    NOT_A_STORE(33,
            "The directory holds something else, another store or another version.",
            "Give the directory of this store, or an empty one."),
    /** A journal or checkpoint file has a bad record that is not its torn end. */
    JOURNAL_CORRUPT(34,
            "A journal or checkpoint file has a bad record that is not its torn end.",
            "Restore from a backup; `memora repair DIR` says what would be lost without, and saves the rest."),
    /** A sync of the store failed: it is read-only, because what reached the disk is not known. */
    POISONED(35,
            "A sync of the store failed: it is read-only, because what reached the disk is not known.",
            "Mend the disk, then remove the fabric and reopen the store: it recovers from its files."),
    /** The operating system reports an error. */
    IO(36,
            "The operating system reports an error.",
            "Read the message: it names the call, the path and the system's reason."),
    /** This kernel, backend or build cannot do that. */
    UNSUPPORTED(37,
            "This kernel, backend or build cannot do that.",
            "Run `memora doctor`: it says what is missing."),
    /** The native library could not be loaded. */
    LIBRARY_MISSING(38,
            "The native library could not be loaded.",
            "Set the property memora.library.path to the library, or java.io.tmpdir to a directory without noexec."),
    /** A bug in Memora was stopped at the border. */
    INTERNAL(39,
            "A bug in Memora was stopped at the border.",
            "Please report it with the message."),
    /** The entry has another version by now; nothing was stored. */
    STALE(40,
            "The entry has another version by now; nothing was stored.",
            "Read the entry again and decide anew."),
    /** The consumer does not hold the message any more: its time was over and another has it, or it was acknowledged or given back. */
    NOT_HELD(41,
            "The consumer does not hold the message any more: its time was over and another has it, or it was acknowledged or given back.",
            "Acknowledge in time, extend the time of long work, or make the queue with a longer visibility."),
    /** The consumer holds as many messages as it can without acknowledging. */
    TOO_MANY_HELD(42,
            "The consumer holds as many messages as it can without acknowledging.",
            "Acknowledge or give back messages before taking more, or make the queue with larger lanes."),
    /** The calling thread would wait for itself: it holds the lock already, or permits without which there are never enough. */
    WOULD_DEADLOCK(43,
            "The calling thread would wait for itself: it holds the lock already, or permits without which there are never enough.",
            "Let go first, or hand the guard on to the code that needs it: named locks are not recursive."),
    /** The calling thread does not hold the lock, or not so many permits. */
    NOT_OWNER(44,
            "The calling thread does not hold the lock, or not so many permits.",
            "Let go once, in the thread that took it."),
    /** What stands at the position was removed. */
    POSITION_TRIMMED(47,
            "What stands at the position was removed.",
            "Read from the oldest position, or a store as it is and then its newest changes; keep more bytes, or a longer age."),
    /** The log is full of messages that a named reader has still to read. */
    LOG_FULL(48,
            "The log is full of messages that a named reader has still to read.",
            "Let the reader that the message names read on, end it with `unsubscribe` or `eject`, or make the log with more bytes or the overrun policy."),
    /** The position lies behind the end. */
    POSITION_AHEAD(49,
            "The position lies behind the end.",
            "Read from the newest position or from the oldest: the log or store may have been made anew."),
    /** The server that took the call died. */
    PEER_DIED(51,
            "The server that took the call died.",
            "Ask again if the request may be executed twice: it is not known how far the server came."),
    /** All calls of the client are under way. */
    TOO_MANY_CALLS(52,
            "All calls of the client are under way.",
            "Collect replies before sending more, or make the service with more calls for each client."),
    /** The server let the call go without a reply. */
    UNANSWERED(53,
            "The server let the call go without a reply.",
            "Look at the server: it refused the request, or an error or panic kept it from answering."),
    /** All client or server entries of the service are taken. */
    TOO_MANY_CLIENTS(54,
            "All client or server entries of the service are taken.",
            "Close clients or servers that are not needed, or share one among threads."),
    /** The subscription was taken away: it stood still for too long, somebody ended it, or the thread that used it last has ended. */
    EJECTED(56,
            "The subscription was taken away: it stood still for too long, somebody ended it, or the thread that used it last has ended.",
            "Subscribe again; read more often, or make the channel with larger lanes or a longer time."),
    /** The files were written by another version of Memora. */
    OTHER_VERSION(59,
            "The files were written by another version of Memora.",
            "Use the version that wrote them; to change versions, export with the one and import with the other."),
    /** A checkpoint or backup ends before its end. */
    TRUNCATED(60,
            "A checkpoint or backup ends before its end.",
            "Take another copy of it or another backup; `memora repair DIR` says what can be saved of a store."),
    /** The manifest that makes the store's checkpoint count is gone. */
    MANIFEST_MISSING(61,
            "The manifest that makes the store's checkpoint count is gone.",
            "Put the file MANIFEST back or restore from a backup; `memora repair DIR` says what can be saved without it."),
    /** That is no backup of a store, or one that was not finished. */
    NOT_A_BACKUP(62,
            "That is no backup of a store, or one that was not finished.",
            "Give the directory or the stream that `memora backup` wrote; make the backup again if it was interrupted."),
    /** The store does not keep its keys in order. */
    NOT_ORDERED(63,
            "The store does not keep its keys in order.",
            "Make it with `ordered`, or read it with `scan`."),
    /** The transaction read what another has changed meanwhile, or was in its way: nothing of it was done. */
    CONFLICT(65,
            "The transaction read what another has changed meanwhile, or was in its way: nothing of it was done.",
            "Do it again from the start with what is there now; the form with a function does so by itself."),
    /** The transaction reads or writes more than one may. */
    TRANSACTION_TOO_LARGE(66,
            "The transaction reads or writes more than one may.",
            "Divide it into smaller ones; the message names the limit."),
    /** The snapshot was cancelled: it was open for too long, or the store needed the memory that was kept for it. */
    SNAPSHOT_TOO_OLD(67,
            "The snapshot was cancelled: it was open for too long, or the store needed the memory that was kept for it.",
            "Take a new snapshot and begin again; read in smaller parts, or give the store more memory or its snapshots a longer time."),
    /** All snapshot entries of the store are taken. */
    TOO_MANY_SNAPSHOTS(68,
            "All snapshot entries of the store are taken.",
            "Close snapshots that are not needed, or share one among threads."),
    /** The position is one of another store, which may have had the same name. */
    POSITION_FOREIGN(70,
            "The position is one of another store, which may have had the same name.",
            "Begin anew: read the store as it is and then its newest changes; keep positions with the store that gave them."),
    /** Journal files that are kept for the change feed only are damaged; the data of the store is whole. */
    FEED_DAMAGED(74,
            "Journal files that are kept for the change feed only are damaged; the data of the store is whole.",
            "Remove the file that the message names and the older ones: readers of the feed that need them are told POSITION_TRIMMED, others go on.");

    private static final ErrorCode[] BY_NUMBER = new ErrorCode[128];

    static {
        for (ErrorCode code : values()) {
            BY_NUMBER[code.number] = code;
        }
    }

    private final int number;
    private final String text;
    private final String remedy;

    ErrorCode(int number, String text, String remedy) {
        this.number = number;
        this.text = text;
        this.remedy = remedy;
    }

    /** The stable number, as documented in docs/errors.md. */
    public int number() {
        return number;
    }

    /** One sentence: what happened. */
    public String text() {
        return text;
    }

    /** One sentence: what to do about it. */
    public String remedy() {
        return remedy;
    }

    /** The code of a number; {@link #INTERNAL} for one that this version does not know. */
    public static ErrorCode of(int number) {
        ErrorCode code = number > 0 && number < BY_NUMBER.length ? BY_NUMBER[number] : null;
        return code == null ? INTERNAL : code;
    }
}
