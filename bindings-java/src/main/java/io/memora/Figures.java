package io.memora;

import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** Fields of a line of figures, as the library gives them: numbers without a sign between tabs. */
final class Figures {
    private final String[] fields;
    private int at;

    private Figures(String line) {
        fields = line.split("\t", -1);
    }

    static Figures of(String line) {
        return new Figures(line);
    }

    static List<Figures> lines(String text) {
        return text.lines().map(Figures::of).toList();
    }

    boolean more() {
        return at < fields.length;
    }

    long next() {
        return Long.parseUnsignedLong(fields[at++]);
    }

    Optional<Duration> nextMillis() {
        String field = fields[at++];
        return field.equals("-") ? Optional.empty() : Optional.of(Duration.ofMillis(Long.parseUnsignedLong(field)));
    }

    double real() {
        return Double.parseDouble(fields[at++]);
    }

    String text() {
        return fields[at++];
    }
}
