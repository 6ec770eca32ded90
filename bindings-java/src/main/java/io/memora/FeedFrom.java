package io.memora;

/** Where a feed begins. */
public final class FeedFrom {
    /** With the oldest change that the files hold. */
    public static final FeedFrom OLDEST = new FeedFrom(0, new FeedPosition(0, 0, 0));
    /** With what is flushed from now on. */
    public static final FeedFrom NEWEST = new FeedFrom(1, new FeedPosition(0, 0, 0));

    final int from;
    final FeedPosition position;

    private FeedFrom(int from, FeedPosition position) {
        this.from = from;
        this.position = position;
    }

    /** Behind a change that was handled: {@link Change#position}. */
    public static FeedFrom after(FeedPosition position) {
        return new FeedFrom(2, java.util.Objects.requireNonNull(position, "position"));
    }
}
