package io.memora;

import java.util.function.Consumer;

/**
 * Named moments of a message that a thread writes or reads itself, at each of which its process may be killed: tests do so. Compiled code has nothing
 * of them unless the property {@code io.memora.moments} is set.
 */
final class Moments {
    private static final boolean WATCHED = Boolean.getBoolean("io.memora.moments");

    /** Is told of each moment. */
    static Consumer<String> watcher = moment -> {};

    private Moments() {}

    static void reached(String moment) {
        if (WATCHED) {
            watcher.accept(moment);
        }
    }
}
