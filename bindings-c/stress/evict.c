/* The worker on three caches that evict. The first letter of a key says in which cache it is. A value tells its key, its writer
 * and its number, and the bytes that follow are computed from that: so whoever reads it sees at once whether it is whole. */
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CACHES = 3, HOT = 16, KEYS_MAX = 50000, TEXT_LEN_MAX = 400, BODY_LEN_MAX = 1 << 20 };

static struct {
    char letter;
    const char *name;
    uint64_t limit, entries, keys;
    memora_cache_t *cache;
} caches[CACHES] = {
    {'b', "stress-bytes", 1 << 20, 0, 2000, NULL},
    {'e', "stress-entries", 0, 500, 2000, NULL},
    {'a', "stress-rest", 0, 0, KEYS_MAX, NULL},
};

/* The version that the latest gets of a key saw. */
static uint64_t versions[CACHES][KEYS_MAX];
static uint64_t number;
static char value[TEXT_LEN_MAX + 1 + BODY_LEN_MAX];
static unsigned char body[BODY_LEN_MAX];

/* The text of a value, which ends with the number of bytes that follow it: that number, or -1. */
static long body_len(const char *text, size_t len) {
    size_t at = len;
    long result = 0;
    while (at > 0 && text[at - 1] != ':') at--;
    if (at == 0 || at == len || len - at > 7) return -1;
    for (; at < len; at++) {
        if (text[at] < '0' || text[at] > '9') return -1;
        result = result * 10 + (text[at] - '0');
    }
    return result < BODY_LEN_MAX ? result : -1;
}

/* Makes a value and adds its text to the line: how long it is. */
static size_t make_value(const char *key) {
    uint64_t len;
    size_t text_len;
    if (draw(200) == 0) {
        len = draw(150000);
    } else if (draw(8) == 0) {
        len = draw(4000);
    } else {
        len = draw(500);
    }
    text_len = (size_t)snprintf(value, TEXT_LEN_MAX, "%s:%s:%" PRIu64 ":%" PRIu64, key, client, number, len);
    add_text(&line, "v", value, text_len);
    value[text_len] = '\n';
    derive(value, text_len, (unsigned char *)value + text_len + 1, (size_t)len);
    return text_len + 1 + (size_t)len;
}

/* Adds what was read: its text if it is whole. */
static void add_out(size_t len) {
    const char *feed = memchr(value, '\n', len);
    size_t text_len = feed ? (size_t)(feed - value) : len;
    long rest = feed ? body_len(value, text_len) : -1;
    char torn[200];
    if (rest >= 0 && len == text_len + 1 + (size_t)rest) {
        derive(value, text_len, body, (size_t)rest);
        if (memcmp(body, feed + 1, (size_t)rest) == 0) {
            add_text(&line, "out", value, text_len);
            return;
        }
    }
    rest = snprintf(torn, sizeof torn, "torn, of %lu bytes: %.*s", (unsigned long)len,
                    (int)(text_len < 100 ? text_len : 100), value);
    add_text(&line, "out", torn, (size_t)rest);
}

static void get(memora_cache_t *cache, const char *key, uint64_t *version) {
    size_t len = 0;
    memora_entry_t entry;
    int result;
    ask(version ? "gets" : "get", key);
    question();
    result = version ? memora_cache_get_entry(cache, key, strlen(key), value, sizeof value, &len, &entry)
                     : memora_cache_get(cache, key, strlen(key), value, sizeof value, &len);
    answered();
    if (result == MEMORA_OK) {
        add_out(len);
        if (version) {
            add_number(&line, "tok", entry.version);
            *version = entry.version;
        }
    } else if (result != MEMORA_NOT_FOUND) {
        write_error("get", result);
        return;
    }
    write_line(&line);
}

static void step(void) {
    unsigned at = (unsigned)draw(CACHES);
    memora_cache_t *cache = caches[at].cache;
    uint64_t index = draw(4) == 0 ? draw(HOT) : draw(caches[at].keys), r = draw(100), *version = &versions[at][index];
    char key[16];
    size_t len, key_len = (size_t)snprintf(key, sizeof key, "%c%u", caches[at].letter, (unsigned)index);
    number++;
    if (r < 30) {
        get(cache, key, NULL);
    } else if (r < 40 || (r >= 94 && *version == 0)) {
        get(cache, key, version);
    } else if (r < 75) {
        ask("set", key);
        len = make_value(key);
        question();
        wrote("set", memora_cache_set(cache, key, key_len, value, len, NULL, NULL), MEMORA_OK);
    } else if (r < 82) {
        ask("add", key);
        len = make_value(key);
        question();
        wrote("add", memora_cache_add(cache, key, key_len, value, len, NULL, NULL), MEMORA_ALREADY_EXISTS);
    } else if (r < 88) {
        ask("replace", key);
        len = make_value(key);
        question();
        wrote("replace", memora_cache_replace(cache, key, key_len, value, len, NULL, NULL), MEMORA_NOT_FOUND);
    } else if (r < 94) {
        ask("del", key);
        question();
        wrote("del", memora_cache_delete(cache, key, key_len), MEMORA_NOT_FOUND);
    } else {
        int result;
        ask("casv", key);
        add_number(&line, "tok", *version);
        len = make_value(key);
        question();
        result = memora_cache_compare_and_swap(cache, key, key_len, value, len, *version, NULL, NULL);
        wrote("casv", result == MEMORA_STALE ? MEMORA_NOT_FOUND : result, MEMORA_NOT_FOUND);
    }
}

void run_evict(memora_fabric_t *fabric, uint64_t started) {
    unsigned at;
    for (at = 0; at < CACHES; at++) {
        memora_cache_options_t options;
        if (memora_cache_options_init(&options, sizeof options) < 0) fail("options");
        options.limit = caches[at].limit;
        options.entries = caches[at].entries;
        if (memora_cache_open(fabric, caches[at].name, &options, &caches[at].cache) < 0) fail(caches[at].name);
    }
    while (more(number, started)) step();
    for (at = 0; at < CACHES; at++) memora_cache_close(caches[at].cache);
}
