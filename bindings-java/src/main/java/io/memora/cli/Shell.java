package io.memora.cli;

import io.memora.Cache;
import io.memora.CacheCounts;
import io.memora.CacheStats;
import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.Entries;
import io.memora.Entry;
import io.memora.ErrorCode;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.Message;
import io.memora.ObjectInfo;
import io.memora.Publisher;
import io.memora.SetOptions;
import io.memora.StoreOptions;
import io.memora.Subscriber;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;

/** Commands over a fabric, typed line by line. The names of cache and store are those of the {@code memora} command. */
final class Shell implements AutoCloseable {
    private static final String CACHE = "cache";
    private static final String STORE = "store";
    private static final Duration SEND_TIMEOUT = Duration.ofSeconds(5);
    private static final Duration TAIL_SLICE = Duration.ofMillis(100);
    private static final String HELP = """
              get KEY              set KEY VALUE [SECONDS]     del KEY     incr KEY [NUMBER]     keys
                    on the cache `cache`; with `store` in front on the store `store`: store set KEY VALUE
              append KEY TEXT      touch KEY [SECONDS]         flush       stats
                    on the cache alone: flush empties it; stats tells hits, evictions, and what more memory would give
              send CHANNEL TEXT    send a message to all who read the channel now
              tail CHANNEL [COUNT] print the messages of a channel, until Enter or so many
              stat   check         what is in the fabric; whether all of it is sound
              help   quit
            """;

    private final Fabric fabric;
    private final StoreOptions storeOptions;
    private final PrintStream out;
    private final BufferedReader in;
    private final Map<String, Publisher> publishers = new HashMap<>();

    Shell(Fabric fabric, StoreOptions storeOptions, BufferedReader in, PrintStream out) {
        this.fabric = fabric;
        this.storeOptions = storeOptions;
        this.in = in;
        this.out = out;
    }

    static int main(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--fabric", "--home", "--limit", "--store-dir", "-c"), 0);
        String command = arguments.option("-c");
        String files = arguments.option("--store-dir");
        StoreOptions storeOptions = files == null ? StoreOptions.inMemory() : StoreOptions.in(Path.of(files));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Fabric fabric = arguments.open(); Shell shell = new Shell(fabric, storeOptions, in, out)) {
            if (command != null) {
                return shell.execute(command) ? 0 : 1;
            }
            shell.greet();
            shell.loop(System.console() != null);
            return 0;
        } catch (IOException error) {
            System.err.println("memora: standard input: " + error.getMessage());
            return 1;
        }
    }

    private void greet() {
        String name = fabric.name().equals(Fabric.DEFAULT_NAME) ? "" : " --fabric " + fabric.name();
        out.printf("""
                Fabric %s is open: %s
                Type `set a 1` and `tail news` here, and in a second terminal one of
                  java -jar memora.jar shell%s -c "get a"
                  java -jar memora.jar shell%s -c "send news hello"
                  memora%s get a
                `help` lists the commands, `quit` ends.
                """, fabric.name(), fabric.path(), name, name, name);
    }

    /** Executes lines until the end of the input or `quit`. */
    void loop(boolean prompt) throws IOException {
        while (true) {
            if (prompt) {
                out.print("memora> ");
                out.flush();
            }
            String line = in.readLine();
            if (line == null || line.strip().equals("quit") || line.strip().equals("exit")) {
                return;
            }
            execute(line);
        }
    }

    /** Executes one line; false when the answer is no or an error. */
    boolean execute(String line) {
        String[] words = line.strip().split("\\s+");
        try {
            return execute(words, line);
        } catch (Arguments.Wrong error) {
            out.println(error.getMessage() + "; `help` lists the commands");
        } catch (MemoraException error) {
            out.println(error.getMessage());
        }
        return false;
    }

    private boolean execute(String[] words, String line) {
        switch (words[0]) {
            case "":
                return true;
            case "help":
                out.print(HELP);
                return true;
            case "stat":
                return stat();
            case "check":
                return check();
            case "send":
                return send(word(words, 1, "the channel"), text(line, 2, "the message"));
            case "tail":
                return tail(word(words, 1, "the channel"), words.length > 2 ? number(words[2]) : Long.MAX_VALUE);
            case "append", "touch", "flush", "stats":
                try (Cache cache = fabric.cache(CACHE)) {
                    return onCache(cache, words, line);
                }
            case "cache", "store":
                String[] rest = Arrays.copyOfRange(words, 1, words.length);
                try (Entries entries = words[0].equals("store") ? fabric.store(STORE, storeOptions) : fabric.cache(CACHE)) {
                    return entries(entries, rest, line, 1);
                }
            default:
                try (Entries entries = fabric.cache(CACHE)) {
                    return entries(entries, words, line, 0);
                }
        }
    }

    private boolean entries(Entries entries, String[] words, String line, int before) {
        switch (word(words, 0, "the command")) {
            case "get":
                byte[] value = entries.get(bytes(word(words, 1, "the key")));
                return answer(value == null ? null : string(value));
            case "set":
                String key = word(words, 1, "the key");
                boolean timed = words.length == 4 && words[3].matches("\\d{1,9}");
                String text = timed ? words[2] : text(line, before + 2, "the value");
                SetOptions options = timed ? SetOptions.ttl(Duration.ofSeconds(number(words[3]))) : SetOptions.NONE;
                entries.set(bytes(key), bytes(text), options);
                return answer("ok");
            case "del":
                return answer(entries.delete(bytes(word(words, 1, "the key"))) ? "ok" : null);
            case "incr":
                long by = words.length > 2 ? number(words[2]) : 1;
                byte[] counter = bytes(word(words, 1, "the key"));
                OptionalLong known = entries.increment(counter, by);
                long count = known.isPresent() ? known.getAsLong() : begin(entries, counter, by);
                return answer(Long.toUnsignedString(count));
            case "keys":
                entries.forEach((name, entry) -> out.println(string(name) + " = " + string(entry.value()) + ttl(entry)));
                return answer(entries.size() + " entries");
            default:
                throw new Arguments.Wrong("there is no command `" + words[0] + "`");
        }
    }

    private boolean onCache(Cache cache, String[] words, String line) {
        switch (words[0]) {
            case "append":
                String key = word(words, 1, "the key");
                long version = cache.append(bytes(key), bytes(text(line, 2, "the text")));
                return answer(version == Entries.NOT_STORED ? null : "ok");
            case "touch":
                Duration ttl = words.length > 2 ? Duration.ofSeconds(number(words[2])) : null;
                return answer(cache.touch(bytes(word(words, 1, "the key")), ttl) ? "ok" : null);
            case "flush":
                cache.flush();
                return answer("ok");
            default:
                stats(cache);
                return true;
        }
    }

    private void stats(Cache cache) {
        CacheStats stats = cache.stats();
        CacheCounts counts = stats.counts();
        out.printf(Locale.ROOT, "%,d entries, %,d of %,d bytes%n", stats.entries(), stats.liveBytes(), stats.capacityBytes());
        out.printf(Locale.ROOT, "%,d hits, %,d misses: %.2f %%%n", counts.hits(), counts.misses(), 100 * counts.hitRatio());
        out.printf(Locale.ROOT, "%,d sets, %,d deletes, %,d evicted, %,d expired, %,d flushed%n",
                counts.sets(), counts.deletes(), counts.evictions(), counts.expired(), counts.flushed());
        cache.advice().ifPresent(advice -> advice.points().forEach(point -> out.printf(
                Locale.ROOT, "with %4s of the memory: %.2f %%%n", times(point.factor()), 100 * point.hitRatio())));
    }

    private static String times(double factor) {
        return factor < 1 ? "1/" + Math.round(1 / factor) : "x" + Math.round(factor);
    }

    /** A counter that is missing begins at 0; somebody else may begin it at the same time. */
    private static long begin(Entries entries, byte[] counter, long by) {
        entries.add(counter, bytes("0"), SetOptions.NONE);
        return entries.increment(counter, by).orElseThrow(
                () -> MemoraException.of(ErrorCode.BUSY, "The counter is deleted as fast as it is made. Try again.", 0));
    }

    private static String ttl(Entry entry) {
        return entry.ttlMillis() < 0 ? "" : " (for " + (entry.ttlMillis() + 999) / 1000 + " s)";
    }

    private boolean answer(String text) {
        out.println(text == null ? "no such key" : text);
        return text != null;
    }

    private boolean stat() {
        out.println(fabric.info().strip());
        for (ObjectInfo object : fabric.objects()) {
            out.printf("%-8s %-20s %,d bytes in %,d chunks%n", object.kind(), object.name(), object.bytes(), object.chunks());
        }
        return true;
    }

    private boolean check() {
        List<String> problems = fabric.check();
        problems.forEach(out::println);
        return answer(problems.isEmpty() ? "all is sound" : problems.size() + " problems") && problems.isEmpty();
    }

    private Channel channel(String name) {
        try {
            return fabric.openChannel(name);
        } catch (MemoraException error) {
            if (error.code() != ErrorCode.NOT_FOUND) {
                throw error;
            }
            return fabric.channel(name, ChannelOptions.broadcast());
        }
    }

    private boolean send(String name, String text) {
        Publisher publisher = publishers.computeIfAbsent(name, missing -> channel(missing).publisher());
        boolean sent = publisher.send(bytes(text), SEND_TIMEOUT) != Publisher.BACK_PRESSURE;
        out.println(sent ? "sent" : ErrorCode.BACK_PRESSURE.text() + " " + ErrorCode.BACK_PRESSURE.remedy());
        return sent;
    }

    private boolean tail(String name, long count) {
        try (Channel channel = channel(name); Subscriber subscriber = channel.subscriber()) {
            if (count == Long.MAX_VALUE) {
                out.println("(Enter ends)");
            }
            for (long seen = 0; seen < count;) {
                Message message = subscriber.recv(TAIL_SLICE);
                if (message != null) {
                    out.println(string(message.payload()));
                    seen++;
                } else if (count == Long.MAX_VALUE && in.ready()) {
                    in.readLine();
                    return true;
                }
            }
            return true;
        } catch (IOException error) {
            out.println("standard input: " + error.getMessage());
            return false;
        }
    }

    private static String word(String[] words, int at, String what) {
        if (words.length <= at) {
            throw new Arguments.Wrong(what + " is missing");
        }
        return words[at];
    }

    /** What follows so many words of a line, as it was typed. */
    private static String text(String line, int words, String what) {
        String[] parts = line.strip().split("\\s+", words + 1);
        return word(parts, words, what);
    }

    private static long number(String word) {
        try {
            return Long.parseUnsignedLong(word);
        } catch (NumberFormatException error) {
            throw new Arguments.Wrong("`" + word + "` is not a number");
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String string(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        publishers.values().forEach(publisher -> {
            publisher.close();
            publisher.channel().close();
        });
    }
}
