package io.memora.cli;

import io.memora.Cache;
import io.memora.Entries;
import io.memora.Entry;
import io.memora.ErrorCode;
import io.memora.MemoraException;
import io.memora.SetOptions;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.OptionalLong;

/** The key-value worker: twelve keys, shared with all workers. */
final class StressKv implements Stress.Worker {
    private final Cache cache;
    private final History history;
    private final Random random;
    private final String client;
    private final Map<String, Long> versions = new HashMap<>();
    private final Map<String, byte[]> values = new HashMap<>();
    private long number;

    StressKv(Cache cache, History history, Random random, String client) {
        this.cache = cache;
        this.history = history;
        this.random = random;
        this.client = client;
    }

    @Override
    public void step() {
        number++;
        boolean text = random.draw(10) < 7;
        String key = text ? "k" + random.draw(8) : "n" + random.draw(4);
        int r = random.draw(100);
        if (text) {
            if (r < 22) {
                get(key);
            } else if (r < 36) {
                gets(key);
            } else if (r < 54) {
                store("set", key, textValue());
            } else if (r < 62) {
                store("add", key, textValue());
            } else if (r < 69) {
                store("replace", key, textValue());
            } else if (r < 78) {
                delete(key);
            } else if (r < 88 ? !versions.containsKey(key) : r < 92 && !values.containsKey(key)) {
                gets(key);
            } else if (r < 88) {
                swap(key, versions.get(key), textValue());
            } else if (r < 92) {
                swapValue(key, values.get(key), textValue());
            } else {
                store(r < 96 ? "append" : "prepend", key, textValue());
            }
        } else if (r < 20) {
            get(key);
        } else if (r < 25) {
            gets(key);
        } else if (r < 35) {
            store("set", key, numberValue());
        } else if (r < 45) {
            store("add", key, numberValue());
        } else if (r < 80) {
            count("incr", key);
        } else if (r < 95) {
            count("decr", key);
        } else {
            delete(key);
        }
    }

    private String textValue() {
        int len = random.draw(10) == 0 ? random.draw(2000) : random.draw(60);
        return client + ":" + number + ":" + "x".repeat(len);
    }

    private String numberValue() {
        return Integer.toString(random.draw(1000));
    }

    private void get(String key) {
        History.Operation operation = history.operation("get").text("k", key).ask();
        try {
            byte[] value = cache.get(bytes(key));
            operation.answered();
            if (value != null) {
                values.put(key, value);
                operation.text("out", text(value));
            }
            operation.done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    private void gets(String key) {
        History.Operation operation = history.operation("gets").text("k", key).ask();
        try {
            Entry entry = cache.getEntry(bytes(key));
            operation.answered();
            if (entry != null) {
                versions.put(key, entry.version());
                values.put(key, entry.value());
                operation.text("out", text(entry.value())).number("tok", entry.version());
            }
            operation.done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    private void store(String how, String key, String value) {
        History.Operation operation = history.operation(how).text("k", key).text("v", value).ask();
        try {
            long version = switch (how) {
                case "set" -> cache.set(bytes(key), bytes(value));
                case "add" -> cache.add(bytes(key), bytes(value), SetOptions.NONE);
                case "append" -> cache.append(bytes(key), bytes(value));
                case "prepend" -> cache.prepend(bytes(key), bytes(value));
                default -> cache.replace(bytes(key), bytes(value), SetOptions.NONE);
            };
            operation.answered().truth("ok", version != Entries.NOT_STORED).done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    private void delete(String key) {
        History.Operation operation = history.operation("del").text("k", key).ask();
        try {
            boolean deleted = cache.delete(bytes(key));
            operation.answered().truth("ok", deleted).done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    private void swap(String key, long version, String value) {
        History.Operation operation =
                history.operation("casv").text("k", key).number("tok", version).text("v", value).ask();
        try {
            boolean stored = cache.compareAndSwap(bytes(key), bytes(value), version).stored();
            operation.answered().truth("ok", stored).done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    /** Stores if the value is the one that was read last: the version that it is seen with is that of this value. */
    private void swapValue(String key, byte[] expected, String value) {
        History.Operation operation =
                history.operation("cas").text("k", key).text("exp", text(expected)).text("v", value).ask();
        try {
            boolean stored = false;
            while (!stored) {
                Entry entry = cache.getEntry(bytes(key));
                if (entry == null || !Arrays.equals(entry.value(), expected)) {
                    break;
                }
                stored = cache.compareAndSwap(bytes(key), bytes(value), entry.version()).stored();
            }
            operation.answered().truth("ok", stored).done();
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
        }
    }

    private void count(String how, String key) {
        long by = 1 + random.draw(9);
        History.Operation operation = history.operation(how).text("k", key).number("by", by).ask();
        try {
            OptionalLong out =
                    how.equals("incr") ? cache.increment(bytes(key), by) : cache.decrement(bytes(key), by);
            operation.answered();
            if (out.isPresent()) {
                operation.number("out", out.getAsLong());
            }
            operation.done();
        } catch (MemoraException error) {
            operation.answered();
            if (error.code() == ErrorCode.NOT_A_NUMBER || error.code() == ErrorCode.COUNTER_OVERFLOW) {
                operation.done();
            } else {
                Stress.refused(operation, error);
            }
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1);
    }
}
