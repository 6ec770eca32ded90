package io.memora.cli;

import io.memora.Cache;
import io.memora.CacheOptions;
import io.memora.Entries;
import io.memora.Entry;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.SetOptions;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToLongFunction;

/**
 * The worker on three caches that evict. The first letter of a key says in which cache it is. A value tells its key, its writer and
 * its number, and the bytes that follow are computed from that: so whoever reads it sees at once whether it is whole.
 */
final class StressEvict implements Stress.Worker, AutoCloseable {
    private static final int HOT = 16;
    private static final int BODY_LEN_MAX = 1 << 20;

    private record Place(char letter, Cache cache, int keys) {}

    private final List<Place> places;
    private final History history;
    private final Random random;
    private final String client;
    private final Map<String, Long> versions = new HashMap<>();
    private long number;

    StressEvict(Fabric fabric, History history, Random random, String client) {
        this.history = history;
        this.random = random;
        this.client = client;
        CacheOptions all = CacheOptions.evicting();
        places = List.of(
                new Place('b', fabric.cache("stress-bytes", all.limit(1 << 20)), 2_000),
                new Place('e', fabric.cache("stress-entries", all.entries(500)), 2_000),
                new Place('a', fabric.cache("stress-rest", all), 50_000));
    }

    @Override
    public void step() {
        number++;
        Place place = places.get(random.draw(places.size()));
        String name = place.letter + Integer.toString(random.draw(4) == 0 ? random.draw(HOT) : random.draw(place.keys));
        byte[] key = name.getBytes(StandardCharsets.US_ASCII);
        int r = random.draw(100);
        Cache cache = place.cache;
        if (r < 30) {
            get(cache, name, key);
        } else if (r < 40 || r >= 94 && !versions.containsKey(name)) {
            gets(cache, name, key);
        } else if (r < 75) {
            store(history.operation("set").text("k", name), name, value -> cache.set(key, value));
        } else if (r < 82) {
            store(history.operation("add").text("k", name), name, value -> cache.add(key, value, SetOptions.NONE));
        } else if (r < 88) {
            store(history.operation("replace").text("k", name), name,
                    value -> cache.replace(key, value, SetOptions.NONE));
        } else if (r < 94) {
            delete(cache, name, key);
        } else {
            long version = versions.get(name);
            store(history.operation("casv").text("k", name).number("tok", version), name,
                    value -> cache.compareAndSwap(key, value, version).stored() ? 1 : Entries.NOT_STORED);
        }
    }

    private void get(Cache cache, String name, byte[] key) {
        History.Operation operation = history.operation("get").text("k", name).ask();
        try {
            byte[] value = cache.get(key);
            operation.answered();
            if (value != null) {
                operation.text("out", text(value));
            }
            operation.done();
        } catch (MemoraException error) {
            throw failed(operation, error);
        }
    }

    private void gets(Cache cache, String name, byte[] key) {
        History.Operation operation = history.operation("gets").text("k", name).ask();
        try {
            Entry entry = cache.getEntry(key);
            operation.answered();
            if (entry != null) {
                versions.put(name, entry.version());
                operation.text("out", text(entry.value())).number("tok", entry.version());
            }
            operation.done();
        } catch (MemoraException error) {
            throw failed(operation, error);
        }
    }

    private void store(History.Operation operation, String name, ToLongFunction<byte[]> how) {
        int len = random.draw(200) == 0 ? random.draw(150_000) : random.draw(8) == 0 ? random.draw(4_000) : random.draw(500);
        String text = name + ":" + client + ":" + number + ":" + len;
        operation.text("v", text).ask();
        try {
            long version = how.applyAsLong(value(text, len));
            operation.answered().truth("ok", version != Entries.NOT_STORED).done();
        } catch (MemoraException error) {
            throw failed(operation, error);
        }
    }

    private void delete(Cache cache, String name, byte[] key) {
        History.Operation operation = history.operation("del").text("k", name).ask();
        try {
            boolean deleted = cache.delete(key);
            operation.answered().truth("ok", deleted).done();
        } catch (MemoraException error) {
            throw failed(operation, error);
        }
    }

    /** No error is an answer here: what evicts is never full. */
    private static MemoraException failed(History.Operation operation, MemoraException error) {
        operation.answered().truth("ok", false).text("err", error.code().name()).done();
        return error;
    }

    private static byte[] value(String text, int len) {
        ByteBuffer value = ByteBuffer.allocate(text.length() + 1 + len);
        value.put(text.getBytes(StandardCharsets.US_ASCII)).put((byte) '\n');
        Random.derive(text, value);
        return value.array();
    }

    /** The text of a value that is whole, or one that nobody wrote. */
    private static String text(byte[] value) {
        int end = 0;
        while (end < value.length && value[end] != '\n') {
            end++;
        }
        String text = new String(value, 0, end, StandardCharsets.ISO_8859_1);
        String len = text.substring(text.lastIndexOf(':') + 1);
        if (len.matches("\\d{1,7}") && Integer.parseInt(len) < BODY_LEN_MAX
                && Arrays.equals(value, value(text, Integer.parseInt(len)))) {
            return text;
        }
        return "torn, of " + value.length + " bytes: " + text.substring(0, Math.min(100, text.length()));
    }

    @Override
    public void close() {
        places.forEach(place -> place.cache.close());
    }
}
