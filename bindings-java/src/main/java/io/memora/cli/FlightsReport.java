package io.memora.cli;

import io.memora.Cache;
import io.memora.ErrorCode;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.Store;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * The second JVM of the flights example: the ten airports with the most departures, with name and mean delay, from the cache
 * {@code airports} ("count delay_sum last_position" for each code), and the number of late flights from the store.
 */
final class FlightsReport {
    private static final int BUSIEST = 10;

    private record Airport(String code, long count, long delaySum) {}

    private FlightsReport() {}

    static int main(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--fabric", "--home", "--store-dir", "--airports"), 0);
        Path directory = Path.of(arguments.required("--store-dir"));
        Map<String, String> names = names(Path.of(arguments.required("--airports")));
        try (Fabric fabric = arguments.open();
                Cache cache = fabric.cache("airports");
                Store store = fabric.store(FlightsLate.LATE, FlightsLate.storeOptions(directory))) {
            List<Airport> airports = new ArrayList<>(airports(cache).values());
            airports.sort(Comparator.comparingLong(Airport::count).reversed().thenComparing(Airport::code));
            System.out.printf("%-4s %-45s %8s %11s%n", "code", "airport", "flights", "mean delay");
            for (Airport airport : airports.subList(0, Math.min(BUSIEST, airports.size()))) {
                double mean = (double) airport.delaySum / airport.count;
                String name = names.getOrDefault(airport.code, airport.code);
                System.out.printf(Locale.ROOT, "%-4s %-45s %8d %7.2f min%n", airport.code, name, airport.count, mean);
            }
            System.out.println(store.size() + " flights were more than 60 minutes late");
            return 0;
        }
    }

    /** A scan may meet an airport twice. */
    private static Map<String, Airport> airports(Cache cache) {
        Map<String, Airport> airports = new HashMap<>();
        cache.forEach((key, entry) -> {
            String code = new String(key, StandardCharsets.UTF_8);
            String text = new String(entry.value(), StandardCharsets.UTF_8);
            String[] numbers = text.split(" ");
            if (numbers.length != 3) {
                throw new MemoraException(ErrorCode.INVALID_ARGUMENT,
                        "The cache has for " + code + " not `count delay_sum last_position`: " + text, 0, null);
            }
            airports.put(code, new Airport(code, Long.parseLong(numbers[0]), Long.parseLong(numbers[1])));
        });
        return airports;
    }

    private static Map<String, String> names(Path file) {
        Map<String, String> names = new HashMap<>();
        try {
            for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
                List<String> fields = fields(line);
                if (fields.size() > 1) {
                    names.put(fields.get(0), fields.get(1));
                }
            }
        } catch (IOException error) {
            throw new MemoraException(ErrorCode.IO, "Reading " + file + ": " + error + ".", 0, error);
        }
        return names;
    }

    /** The fields of a line of CSV, where a field with a comma stands in quotes. */
    static List<String> fields(String line) {
        List<String> fields = new ArrayList<>();
        StringBuilder field = new StringBuilder();
        boolean quoted = false;
        for (int i = 0; i < line.length(); i++) {
            char c = line.charAt(i);
            if (c == '"' && quoted && i + 1 < line.length() && line.charAt(i + 1) == '"') {
                field.append(c);
                i++;
            } else if (c == '"') {
                quoted = !quoted;
            } else if (c == ',' && !quoted) {
                fields.add(field.toString());
                field.setLength(0);
            } else {
                field.append(c);
            }
        }
        fields.add(field.toString());
        return fields;
    }
}
