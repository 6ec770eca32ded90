/* The stress worker in C: random operations on one fabric, and a history of what was asked and answered.
 *
 *   stress kv|evict|queue --fabric NAME --seed TEXT --history FILE [--ops N | --seconds S]
 *          [--burst N] [--role both|produce|consume] [--subscription TEXT]
 *
 * docs/stress.md says what it does, to the letter. */
#define _XOPEN_SOURCE 700

#include "worker.h"

#include <inttypes.h>
#include <memora.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CACHE "stress"
#define CHANNEL "stress-queue"

enum { TEXT_KEYS = 8, NUMBER_KEYS = 4, PAYLOAD_LEN_MAX = 8192, VALUE_LEN_MAX = 65536 };
enum role { BOTH, PRODUCE, CONSUME };

static struct {
    int queue, evict;
    const char *fabric, *seed, *history, *subscription;
    uint64_t ops, burst;
    double seconds;
    int bounded_ops, bounded_seconds;
    enum role role;
} arguments;

char client[256];
struct line line;

static void usage(const char *what) {
    fprintf(stderr,
            "stress: %s\nusage: stress kv|evict|queue --fabric NAME --seed TEXT --history FILE [--ops N | --seconds S]\n"
            "              [--burst N] [--role both|produce|consume] [--subscription TEXT]\n",
            what);
    exit(2);
}

static int plain(const char *text) {
    for (; *text; text++) {
        if (*text < 0x21 || *text > 0x7e || *text == '"' || *text == '\\') return 0;
    }
    return 1;
}

static void parse(int argc, char **argv) {
    int i;
    if (argc < 2) usage("kv, evict or queue is missing");
    if (strcmp(argv[1], "queue") == 0) {
        arguments.queue = 1;
    } else if (strcmp(argv[1], "evict") == 0) {
        arguments.evict = 1;
    } else if (strcmp(argv[1], "kv") != 0) {
        usage("neither kv nor evict nor queue");
    }
    for (i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        if (!value) usage("an option has no value");
        if (strcmp(name, "--fabric") == 0) {
            arguments.fabric = value;
        } else if (strcmp(name, "--seed") == 0) {
            arguments.seed = value;
        } else if (strcmp(name, "--history") == 0) {
            arguments.history = value;
        } else if (strcmp(name, "--ops") == 0) {
            arguments.ops = strtoull(value, &end, 10);
            arguments.bounded_ops = 1;
            if (end == value || *end) usage("--ops is no number");
        } else if (strcmp(name, "--seconds") == 0) {
            arguments.seconds = strtod(value, &end);
            arguments.bounded_seconds = 1;
            if (end == value || *end) usage("--seconds is no number");
        } else if (strcmp(name, "--burst") == 0) {
            arguments.burst = strtoull(value, &end, 10);
            if (end == value || *end || arguments.burst == 0) usage("--burst is no number above 0");
        } else if (arguments.queue && strcmp(name, "--subscription") == 0) {
            arguments.subscription = value;
        } else if (arguments.queue && strcmp(name, "--role") == 0) {
            if (strcmp(value, "produce") == 0) {
                arguments.role = PRODUCE;
            } else if (strcmp(value, "consume") == 0) {
                arguments.role = CONSUME;
            } else if (strcmp(value, "both") != 0) {
                usage("--role is both, produce or consume");
            }
        } else {
            usage(name);
        }
    }
    if (!arguments.fabric || !arguments.seed || !arguments.history) usage("--fabric, --seed and --history are needed");
    if (!plain(arguments.seed) || strlen(arguments.seed) > 128) usage("--seed is too long, or not plain text");
    if (arguments.bounded_ops && arguments.bounded_seconds) usage("--ops and --seconds exclude each other");
}

void fail(const char *what) {
    fprintf(stderr, "stress: %s: %s\n", what, memora_last_error_message());
    exit(1);
}

/* The stable name of an error, without the MEMORA_ of C. */
static const char *error_name(int result) { return memora_error_name(result) + strlen("MEMORA_"); }

/* Errors that are answers: none where what is there gives way. */
static int allowed(int result) {
    if (arguments.evict) return 0;
    return result == MEMORA_FULL || result == MEMORA_NO_SPACE || result == MEMORA_BUSY || result == MEMORA_BACK_PRESSURE;
}

void write_error(const char *what, int result) {
    add_bool(&line, "ok", 0);
    add_text(&line, "err", error_name(result), strlen(error_name(result)));
    write_line(&line);
    if (!allowed(result)) fail(what);
}

static void sleep_ms(long milliseconds) {
    struct timespec time = {0, 0};
    time.tv_nsec = milliseconds * 1000000L;
    nanosleep(&time, NULL);
}

int more(uint64_t done, uint64_t started) {
    if (arguments.burst && done % arguments.burst == 0) sleep_ms(1);
    if (arguments.bounded_ops) return done < arguments.ops;
    if (arguments.bounded_seconds) return (double)(now_ns() - started) < arguments.seconds * 1e9;
    return 1;
}

/* --- kv --- */

static memora_cache_t *cache;
static uint64_t versions[TEXT_KEYS];
static uint64_t operation;
/* The value that the latest read of a key saw. */
static struct {
    int known;
    size_t len;
    char bytes[VALUE_LEN_MAX];
} values[TEXT_KEYS];

/* A value for a text key, unlike any other in all histories. */
static size_t make_value(char *value, size_t capacity) {
    int head = snprintf(value, capacity, "%s:%" PRIu64 ":", client, operation);
    size_t fill = (size_t)(draw(10) == 0 ? draw(2000) : draw(60));
    memset(value + head, 'x', fill);
    return (size_t)head + fill;
}

void ask(const char *op, const char *key) {
    begin_line(&line, client, op);
    add_text(&line, "k", key, strlen(key));
}

void question(void) {
    add_number(&line, "t0", now_ns());
    write_line(&line);
}

void answered(void) { add_number(&line, "t1", now_ns()); }

/* `index`: that of a text key, or -1. */
static void get(const char *key, int with_version, int index) {
    static char value[VALUE_LEN_MAX];
    size_t len = 0;
    memora_entry_t entry;
    int result;
    ask(with_version ? "gets" : "get", key);
    question();
    result = with_version ? memora_cache_get_entry(cache, key, strlen(key), value, sizeof value, &len, &entry)
                          : memora_cache_get(cache, key, strlen(key), value, sizeof value, &len);
    answered();
    if (result == MEMORA_OK) {
        add_text(&line, "out", value, len);
        if (with_version) add_number(&line, "tok", entry.version);
        if (index >= 0) {
            if (with_version) versions[index] = entry.version;
            values[index].known = 1;
            values[index].len = len;
            memcpy(values[index].bytes, value, len);
        }
    } else if (result != MEMORA_NOT_FOUND) {
        write_error("get", result);
        return;
    }
    write_line(&line);
}

void wrote(const char *what, int result, int refused) {
    answered();
    if (result != MEMORA_OK && result != refused) {
        write_error(what, result);
        return;
    }
    add_bool(&line, "ok", result == MEMORA_OK);
    write_line(&line);
}

static void put(const char *op, const char *key, int is_number) {
    char value[PAYLOAD_LEN_MAX];
    size_t len, key_len = strlen(key);
    if (is_number) {
        len = (size_t)snprintf(value, sizeof value, "%" PRIu64, draw(1000));
    } else {
        len = make_value(value, sizeof value);
    }
    ask(op, key);
    add_text(&line, "v", value, len);
    question();
    if (strcmp(op, "set") == 0) {
        wrote(op, memora_cache_set(cache, key, key_len, value, len, NULL, NULL), MEMORA_OK);
    } else if (strcmp(op, "add") == 0) {
        wrote(op, memora_cache_add(cache, key, key_len, value, len, NULL, NULL), MEMORA_ALREADY_EXISTS);
    } else if (strcmp(op, "replace") == 0) {
        wrote(op, memora_cache_replace(cache, key, key_len, value, len, NULL, NULL), MEMORA_NOT_FOUND);
    } else if (strcmp(op, "append") == 0) {
        wrote(op, memora_cache_append(cache, key, key_len, value, len, NULL), MEMORA_NOT_FOUND);
    } else {
        wrote(op, memora_cache_prepend(cache, key, key_len, value, len, NULL), MEMORA_NOT_FOUND);
    }
}

static void del(const char *key) {
    ask("del", key);
    question();
    wrote("del", memora_cache_delete(cache, key, strlen(key)), MEMORA_NOT_FOUND);
}

static void casv(const char *key, uint64_t version) {
    char value[PAYLOAD_LEN_MAX];
    size_t len = make_value(value, sizeof value);
    int result;
    ask("casv", key);
    add_number(&line, "tok", version);
    add_text(&line, "v", value, len);
    question();
    result = memora_cache_compare_and_swap(cache, key, strlen(key), value, len, version, NULL, NULL);
    wrote("casv", result == MEMORA_STALE ? MEMORA_NOT_FOUND : result, MEMORA_NOT_FOUND);
}

/* Stores if the value is the one that was read last: the version that it is seen with is that of this value. */
static void cas(const char *key, unsigned index) {
    static char found[VALUE_LEN_MAX];
    char value[PAYLOAD_LEN_MAX];
    size_t len = make_value(value, sizeof value), found_len;
    memora_entry_t entry;
    int result;
    ask("cas", key);
    add_text(&line, "exp", values[index].bytes, values[index].len);
    add_text(&line, "v", value, len);
    question();
    do {
        result = memora_cache_get_entry(cache, key, strlen(key), found, sizeof found, &found_len, &entry);
        if (result != MEMORA_OK) break;
        if (found_len != values[index].len || memcmp(found, values[index].bytes, found_len) != 0) {
            result = MEMORA_NOT_FOUND;
        } else {
            result = memora_cache_compare_and_swap(cache, key, strlen(key), value, len, entry.version, NULL, NULL);
        }
    } while (result == MEMORA_STALE);
    wrote("cas", result, MEMORA_NOT_FOUND);
}

static void count(const char *op, const char *key) {
    uint64_t by = 1 + draw(9), number = 0;
    int result;
    ask(op, key);
    add_number(&line, "by", by);
    question();
    result = strcmp(op, "incr") == 0 ? memora_cache_increment(cache, key, strlen(key), by, NULL, &number)
                                     : memora_cache_decrement(cache, key, strlen(key), by, NULL, &number);
    answered();
    if (result == MEMORA_OK) {
        add_number(&line, "out", number);
    } else if (result != MEMORA_NOT_FOUND && result != MEMORA_NOT_A_NUMBER && result != MEMORA_COUNTER_OVERFLOW) {
        write_error(op, result);
        return;
    }
    write_line(&line);
}

static void text_operation(uint64_t index) {
    char key[8];
    uint64_t r = draw(100);
    snprintf(key, sizeof key, "k%u", (unsigned)index);
    if (r < 22) {
        get(key, 0, (int)index);
    } else if (r < 36) {
        get(key, 1, (int)index);
    } else if (r < 54) {
        put("set", key, 0);
    } else if (r < 62) {
        put("add", key, 0);
    } else if (r < 69) {
        put("replace", key, 0);
    } else if (r < 78) {
        del(key);
    } else if (r < 88 ? versions[index] == 0 : r < 92 && !values[index].known) {
        get(key, 1, (int)index);
    } else if (r < 88) {
        casv(key, versions[index]);
    } else if (r < 92) {
        cas(key, (unsigned)index);
    } else {
        put(r < 96 ? "append" : "prepend", key, 0);
    }
}

static void number_operation(uint64_t index) {
    char key[8];
    uint64_t r = draw(100);
    snprintf(key, sizeof key, "n%u", (unsigned)index);
    if (r < 20) {
        get(key, 0, -1);
    } else if (r < 25) {
        get(key, 1, -1);
    } else if (r < 35) {
        put("set", key, 1);
    } else if (r < 45) {
        put("add", key, 1);
    } else if (r < 80) {
        count("incr", key);
    } else if (r < 95) {
        count("decr", key);
    } else {
        del(key);
    }
}

static void run_kv(memora_fabric_t *fabric, uint64_t started) {
    memora_cache_options_t options;
    if (memora_cache_options_init(&options, sizeof options) < 0) fail("options");
    /* It evicts nothing: every answer must follow from what was stored. */
    options.when_full = MEMORA_WHEN_FULL_REJECT;
    if (memora_cache_open(fabric, CACHE, &options, &cache) < 0) fail("cache " CACHE);
    for (; more(operation, started); operation++) {
        if (draw(10) < 7) {
            text_operation(draw(TEXT_KEYS));
        } else {
            number_operation(draw(NUMBER_KEYS));
        }
    }
    memora_cache_close(cache);
}

/* --- queue --- */

static memora_publisher_t *publisher;
static memora_subscriber_t *subscriber;
static uint64_t sequence = 1;

static void add_sum(const void *payload, size_t len) {
    char text[24];
    snprintf(text, sizeof text, "%016" PRIx64, fnv1a(payload, len));
    add_text(&line, "sum", text, 16);
}

/* One send: whether it was taken. */
static int send_one(void) {
    char payload[PAYLOAD_LEN_MAX];
    int head = snprintf(payload, sizeof payload, "%s %" PRIu64 " ", client, sequence);
    size_t fill = (size_t)(draw(20) == 0 ? draw(4000) : draw(100));
    size_t len = (size_t)head + fill;
    int result;
    memset(payload + head, 'x', fill);
    begin_line(&line, client, "send");
    add_text(&line, "q", CHANNEL, sizeof CHANNEL - 1);
    add_text(&line, "p", client, strlen(client));
    add_number(&line, "seq", sequence);
    add_sum(payload, len);
    question();
    result = memora_publisher_try_send(publisher, payload, len, NULL);
    answered();
    if (result != MEMORA_OK) {
        write_error("send", result);
        return 0;
    }
    add_bool(&line, "ok", 1);
    write_line(&line);
    sequence++;
    return 1;
}

/* Adds the producer and the number that stand in a payload. */
static void add_origin(const char *payload, size_t len) {
    const char *space = memchr(payload, ' ', len);
    uint64_t number = 0;
    const char *at = space ? space + 1 : payload + len;
    int digits = 0;
    for (; at < payload + len && *at >= '0' && *at <= '9' && digits < 19; at++, digits++) {
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (space && space > payload && digits > 0 && at < payload + len && *at == ' ') {
        add_text(&line, "p", payload, (size_t)(space - payload));
        add_number(&line, "seq", number);
    } else {
        add_text(&line, "p", "?", 1);
        add_number(&line, "seq", 0);
    }
}

/* One recv: whether there was a message. */
static int receive_one(int64_t timeout_ms) {
    char payload[PAYLOAD_LEN_MAX];
    memora_message_t message;
    int result;
    begin_line(&line, client, "recv");
    add_text(&line, "q", CHANNEL, sizeof CHANNEL - 1);
    question();
    result = memora_subscriber_recv(subscriber, payload, sizeof payload, timeout_ms, &message);
    answered();
    if (result == MEMORA_OK) {
        add_origin(payload, message.len);
        add_sum(payload, message.len);
    } else if (result != MEMORA_NOT_FOUND && result != MEMORA_TIMED_OUT) {
        write_error("recv", result);
        return 0;
    }
    write_line(&line);
    return result == MEMORA_OK;
}

static void subscribe(memora_channel_t *channel) {
    begin_line(&line, client, "sub");
    add_text(&line, "q", CHANNEL, sizeof CHANNEL - 1);
    if (arguments.subscription) add_text(&line, "s", arguments.subscription, strlen(arguments.subscription));
    question();
    if (memora_subscriber_open(channel, arguments.subscription, &subscriber) < 0) fail("subscription");
    answered();
    write_line(&line);
}

static void run_queue(memora_fabric_t *fabric, uint64_t started) {
    memora_channel_options_t options;
    memora_channel_t *channel = NULL;
    uint64_t steps;
    int refused = 0;
    memora_channel_options_init(&options, sizeof options);
    options.kind = MEMORA_CHANNEL_BROADCAST;
    options.overrun = MEMORA_OVERRUN_BLOCK;
    options.lane_bytes = 65536;
    if (memora_channel_open(fabric, CHANNEL, &options, &channel) < 0) fail("channel " CHANNEL);
    if (arguments.role != PRODUCE) subscribe(channel);
    if (arguments.role != CONSUME && memora_publisher_open(channel, &publisher) < 0) fail("publisher");
    for (steps = 0; more(steps, started); steps++) {
        if (arguments.role == CONSUME) {
            receive_one(50);
        } else if (arguments.role == PRODUCE) {
            if (refused) sleep_ms(1);
            refused = !send_one();
        } else if (refused) {
            if (!receive_one(0)) sleep_ms(1);
            refused = 0;
        } else if (draw(2) == 0) {
            refused = !send_one();
        } else {
            receive_one(0);
        }
    }
    memora_publisher_close(publisher);
    memora_subscriber_close(subscriber);
    memora_channel_close(channel);
}

int main(int argc, char **argv) {
    memora_fabric_t *fabric = NULL;
    uint64_t started = now_ns();
    parse(argc, argv);
    snprintf(client, sizeof client, "%s-%ld-%" PRIx64, arguments.seed, (long)getpid(), started);
    seed_random(arguments.seed);
    open_history(arguments.history);
    if (memora_fabric_open(arguments.fabric, &fabric) < 0) fail(arguments.fabric);
    if (arguments.queue) {
        run_queue(fabric, started);
    } else if (arguments.evict) {
        run_evict(fabric, started);
    } else {
        run_kv(fabric, started);
    }
    memora_fabric_close(fabric);
    return 0;
}
