/* Snapshots of stores: each call and each error. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_store_t *store;
static char found[4096];

static memora_store_t *opened(const char *name, int ordered) {
    memora_store_options_t made;
    memora_store_t *result = NULL;
    OK(memora_store_options_init(&made, sizeof made));
    made.durability = MEMORA_DURABILITY_PROCESS;
    made.ordered = ordered;
    OK(memora_store_open(fabric, name, &made, &result));
    return result;
}

static void set(memora_store_t *of, const char *key, const char *value) {
    OK(memora_store_set(of, key, strlen(key), value, strlen(value), NULL, NULL));
}

static memora_snapshot_t *taken(void) {
    memora_snapshot_t *made = NULL;
    OK(memora_store_snapshot(store, &made));
    CHECK(made != NULL);
    return made;
}

static int shows(memora_snapshot_t *snapshot, const char *key, const char *value) {
    char buffer[256];
    size_t len = 0;
    int result = memora_snapshot_get(snapshot, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static void add_key(void *context, const void *key, size_t key_len, const void *value, size_t value_len, const memora_entry_t *entry) {
    size_t at = strlen(found);
    (void)context;
    (void)value;
    (void)value_len;
    (void)entry;
    memcpy(found + at, key, key_len);
    memcpy(found + at + key_len, " ", 2);
}

static const char *range(memora_snapshot_t *of, const char *from, const char *to, uint32_t flags, size_t limit, int *more) {
    found[0] = 0;
    OK(memora_snapshot_range(of, from, from ? strlen(from) : 0, to, to ? strlen(to) : 0, flags, limit, add_key, NULL, more));
    return found;
}

/* Every call gives this code. */
static void every_call_gives(memora_snapshot_t *snapshot, int expected) {
    char buffer[16];
    size_t len = 7;
    uint64_t cursor = 0;
    CODE(memora_snapshot_get(snapshot, "a", 1, buffer, sizeof buffer, &len), expected);
    CODE(memora_snapshot_get_entry(snapshot, "a", 1, buffer, sizeof buffer, &len, NULL), expected);
    CODE(memora_snapshot_scan(snapshot, &cursor, 10, add_key, NULL), expected);
    CODE(memora_snapshot_range(snapshot, NULL, 0, NULL, 0, 0, 10, add_key, NULL, NULL), expected);
    CODE(memora_snapshot_prefix(snapshot, "a", 1, 0, 10, add_key, NULL, NULL), expected);
    CHECK(len == 7);
}

static void a_snapshot_stays_as_it_was(void) {
    memora_snapshot_t *snapshot;
    memora_set_options_t options;
    memora_entry_t entry;
    char buffer[8];
    size_t len = 0;
    uint64_t cursor = 0;
    int more = 7, keys = 0;
    set(store, "a", "1");
    set(store, "b", "2");
    OK(memora_set_options_init(&options, sizeof options));
    options.flags = 9;
    OK(memora_store_set(store, "c", 1, "333", 3, &options, NULL));
    snapshot = taken();
    set(store, "a", "other");
    set(store, "d", "new");
    OK(memora_store_delete(store, "b", 1));
    CHECK(shows(snapshot, "a", "1") && shows(snapshot, "b", "2") && shows(snapshot, "d", NULL));
    OK(memora_snapshot_get_entry(snapshot, "c", 1, buffer, sizeof buffer, &len, &entry));
    CHECK(len == 3 && entry.flags == 9 && entry.version != 0 && entry.ttl_ms == UINT64_MAX);
    CODE(memora_snapshot_get(snapshot, "c", 1, NULL, 0, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 3 && memora_last_error_amount() == 3);
    CHECK(strcmp(range(snapshot, NULL, NULL, 0, 100, &more), "a b c ") == 0 && more == 0);
    CHECK(strcmp(range(snapshot, NULL, NULL, MEMORA_RANGE_BACKWARD, 2, &more), "c b ") == 0 && more == 1);
    found[0] = 0;
    OK(memora_snapshot_prefix(snapshot, "b", 1, 0, 100, add_key, NULL, NULL));
    CHECK(strcmp(found, "b ") == 0);
    found[0] = 0;
    do {
        OK(memora_snapshot_scan(snapshot, &cursor, 1, add_key, NULL));
    } while (cursor != 0);
    CHECK(strlen(found) == 6);
    for (keys = 0; keys < 6; keys += 2) CHECK(strchr("abc", found[keys]) != NULL);
    OK(memora_snapshot_close(snapshot));
    every_call_gives(snapshot, MEMORA_CLOSED);
    CODE(memora_snapshot_close(snapshot), MEMORA_CLOSED);
    OK(memora_snapshot_close(NULL));
    snapshot = taken();
    CHECK(shows(snapshot, "a", "other") && shows(snapshot, "b", NULL) && shows(snapshot, "d", "new"));
    OK(memora_snapshot_close(snapshot));
}

static void what_is_too_old_or_too_much_is_refused(void) {
    memora_snapshot_t *snapshot = taken(), *all[65] = {NULL};
    memora_store_t *unordered = opened("unordered", 0);
    memora_store_stats_t stats;
    char *value = calloc(1, 4000);
    int i;
    OK(memora_store_limit_snapshots(store, 1, 25));
    sleep_ms(3);
    for (i = 0; i < 200; i++) OK(memora_store_set(store, "pad", 3, value, 4000, NULL, NULL));
    every_call_gives(snapshot, MEMORA_SNAPSHOT_TOO_OLD);
    OK(memora_snapshot_close(snapshot));
    CODE(memora_store_limit_snapshots(store, 0, 25), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_limit_snapshots(store, 60000, 101), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_limit_snapshots(store, 60000, 25));
    for (i = 0; i < 64; i++) OK(memora_store_snapshot(store, &all[i]));
    CODE(memora_store_snapshot(store, &all[64]), MEMORA_TOO_MANY_SNAPSHOTS);
    CHECK(all[64] == NULL);
    sleep_ms(3);
    OK(memora_store_stats(store, &stats, sizeof stats));
    CHECK(stats.snapshots == 64 && stats.snapshots_cancelled == 1 && stats.snapshot_oldest_ms >= 3);
    for (i = 0; i < 5000 && stats.snapshot_bytes == 0; i++) {
        OK(memora_store_set(store, "pad", 3, value, 4000, NULL, NULL));
        OK(memora_store_stats(store, &stats, sizeof stats));
    }
    CHECK(stats.snapshot_bytes > 0);
    for (i = 0; i < 64; i++) OK(memora_snapshot_close(all[i]));
    OK(memora_store_snapshot(unordered, &snapshot));
    CODE(memora_snapshot_range(snapshot, NULL, 0, NULL, 0, 0, 1, add_key, NULL, NULL), MEMORA_NOT_ORDERED);
    CODE(memora_snapshot_range(snapshot, NULL, 0, NULL, 0, 99, 1, add_key, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_snapshot_scan(snapshot, NULL, 1, add_key, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_close(unordered));
    every_call_gives(snapshot, MEMORA_CLOSED);
    OK(memora_snapshot_close(snapshot));
    CODE(memora_store_snapshot(store, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_snapshot(NULL, &snapshot), MEMORA_INVALID_ARGUMENT);
    every_call_gives(NULL, MEMORA_INVALID_ARGUMENT);
    every_call_gives((memora_snapshot_t *)(void *)store, MEMORA_INVALID_ARGUMENT);
    free(value);
}

int main(int argc, char **argv) {
    begin("snapshot", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    store = opened("store", 1);
    TEST(a_snapshot_stays_as_it_was);
    TEST(what_is_too_old_or_too_much_is_refused);
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    return finish();
}
