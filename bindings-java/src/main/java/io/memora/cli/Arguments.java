package io.memora.cli;

import io.memora.Fabric;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** The arguments of a command: options with a value each, and words. All is checked before anything is opened. */
final class Arguments {
    /** What was typed cannot be meant; the message says why. */
    static final class Wrong extends RuntimeException {
        private static final long serialVersionUID = 1;

        Wrong(String message) {
            super(message);
        }
    }

    private final Map<String, String> options = new HashMap<>();
    private final Deque<String> words;

    /** Takes the arguments apart; only the named options are allowed, and no more words than this. */
    Arguments(List<String> arguments, Set<String> allowed, int wordsMax) {
        List<String> found = new ArrayList<>();
        for (int i = 0; i < arguments.size(); i++) {
            String argument = arguments.get(i);
            if (!argument.startsWith("-") || argument.equals("-")) {
                found.add(argument);
                continue;
            }
            int equals = argument.indexOf('=');
            String name = equals > 0 ? argument.substring(0, equals) : argument;
            if (!allowed.contains(name)) {
                throw new Wrong("there is no option " + name + " here; there are " + String.join(", ", new java.util.TreeSet<>(allowed)));
            }
            if (equals < 0 && i + 1 == arguments.size()) {
                throw new Wrong("the option " + name + " needs a value");
            }
            options.put(name, equals > 0 ? argument.substring(equals + 1) : arguments.get(++i));
        }
        if (found.size() > wordsMax) {
            throw new Wrong("`" + found.get(wordsMax) + "` is one word too many");
        }
        words = new ArrayDeque<>(found);
    }

    /** The next word. */
    String word(String what) {
        String word = words.poll();
        if (word == null) {
            throw new Wrong(what + " is missing");
        }
        return word;
    }

    /** The value of an option, or null. */
    String option(String name) {
        return options.get(name);
    }

    /** The value of an option that must be there. */
    String required(String name) {
        String value = options.get(name);
        if (value == null) {
            throw new Wrong("the option " + name + " is missing");
        }
        return value;
    }

    /** A number from an option, or {@code otherwise}. */
    long number(String name, long otherwise) {
        String value = options.get(name);
        if (value == null) {
            return otherwise;
        }
        try {
            long number = Long.parseLong(value);
            if (number > 0) {
                return number;
            }
        } catch (NumberFormatException error) {
            // Answered below.
        }
        throw new Wrong("the option " + name + " needs a number above 0, not `" + value + "`");
    }

    /** Opens the fabric of {@code --fabric} and {@code --home}. */
    Fabric open() {
        Fabric.Builder builder = Fabric.builder(options.getOrDefault("--fabric", Fabric.DEFAULT_NAME));
        if (options.containsKey("--home")) {
            builder.home(Path.of(options.get("--home")));
        }
        if (options.containsKey("--limit")) {
            builder.limit(number("--limit", 0));
        }
        return builder.open();
    }
}
