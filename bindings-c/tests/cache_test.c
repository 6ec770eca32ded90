/* Every call on a cache. */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;
static memora_cache_t *cache;

static int is(const char *key, const char *value) {
    char buffer[256];
    size_t len = 0;
    int result = memora_cache_get(cache, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static int set(const char *key, const char *value) {
    return memora_cache_set(cache, key, strlen(key), value, strlen(value), NULL, NULL);
}

static void values_come_back_as_they_were_set(void) {
    static const char binary[] = {'a', 0, 'b', (char)0xff};
    char buffer[16];
    size_t len = 99;
    uint64_t number = 0;
    CHECK(is("missing", NULL));
    OK(set("one", "first"));
    CHECK(is("one", "first"));
    OK(set("one", "second"));
    CHECK(is("one", "second"));
    OK(memora_cache_set(cache, binary, sizeof binary, binary, sizeof binary, NULL, NULL));
    OK(memora_cache_get(cache, binary, sizeof binary, buffer, sizeof buffer, &len));
    CHECK(len == sizeof binary && memcmp(buffer, binary, len) == 0);
    OK(memora_cache_set(cache, "empty", 5, NULL, 0, NULL, NULL));
    OK(memora_cache_get(cache, "empty", 5, NULL, 0, &len));
    CHECK(len == 0);
    OK(memora_cache_len(cache, &number));
    CHECK(number == 3);
    OK(memora_cache_delete(cache, "empty", 5));
    CODE(memora_cache_delete(cache, "empty", 5), MEMORA_NOT_FOUND);
    CHECK(is("empty", NULL));
}

static void a_buffer_that_is_too_small_tells_the_length(void) {
    char buffer[8] = "0123456";
    size_t len = 0;
    OK(set("long", "0123456789"));
    CODE(memora_cache_get(cache, "long", 4, NULL, 0, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 10 && memora_last_error_amount() == 10);
    len = 0;
    CODE(memora_cache_get(cache, "long", 4, buffer, 4, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 10 && memcmp(buffer + 4, "456", 4) == 0);
    len = 0;
    CODE(memora_cache_get_entry(cache, "long", 4, buffer, 4, &len, NULL), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 10);
    CODE(memora_cache_get(cache, "long", 4, buffer, 4, NULL), MEMORA_BUFFER_TOO_SMALL);
}

static void add_and_replace_look_at_what_is_there(void) {
    uint64_t version = 0;
    OK(memora_cache_add(cache, "n", 1, "1", 1, NULL, &version));
    CHECK(version != 0);
    CODE(memora_cache_add(cache, "n", 1, "2", 1, NULL, NULL), MEMORA_ALREADY_EXISTS);
    CHECK(is("n", "1"));
    OK(memora_cache_replace(cache, "n", 1, "3", 1, NULL, NULL));
    CHECK(is("n", "3"));
    CODE(memora_cache_replace(cache, "nobody", 6, "3", 1, NULL, NULL), MEMORA_NOT_FOUND);
}

static void a_swap_succeeds_with_the_newest_version_only(void) {
    memora_entry_t entry;
    char buffer[8];
    size_t len = 0;
    uint64_t first = 0, second = 0, seen = 0;
    OK(memora_cache_set(cache, "cas", 3, "a", 1, NULL, &first));
    OK(memora_cache_compare_and_swap(cache, "cas", 3, "b", 1, first, NULL, &second));
    CHECK(second != first && second != 0);
    CODE(memora_cache_compare_and_swap(cache, "cas", 3, "c", 1, first, NULL, &seen), MEMORA_STALE);
    CHECK(seen == second && memora_last_error_amount() == second);
    CHECK(is("cas", "b"));
    OK(memora_cache_get_entry(cache, "cas", 3, buffer, sizeof buffer, &len, &entry));
    CHECK(entry.version == second && entry.ttl_ms == UINT64_MAX && entry.flags == 0 && len == 1);
    CODE(memora_cache_compare_and_swap(cache, "nobody", 6, "c", 1, first, NULL, NULL), MEMORA_NOT_FOUND);
}

static void flags_stay_and_time_to_live_ends(void) {
    memora_set_options_t options;
    memora_entry_t entry;
    char buffer[8];
    size_t len = 0;
    int turn;
    OK(memora_set_options_init(&options, sizeof options));
    options.flags = 0xdeadbeef;
    options.ttl_ms = 60000;
    OK(memora_cache_set(cache, "ttl", 3, "v", 1, &options, NULL));
    OK(memora_cache_get_entry(cache, "ttl", 3, buffer, sizeof buffer, &len, &entry));
    CHECK(entry.flags == 0xdeadbeef && entry.ttl_ms > 0 && entry.ttl_ms <= 60000);
    options.ttl_ms = 20;
    OK(memora_cache_set(cache, "ttl", 3, "v", 1, &options, NULL));
    for (turn = 0; turn < 500 && !is("ttl", NULL); turn++) sleep_ms(10);
    CHECK(is("ttl", NULL));
    options.struct_size = 3;
    CODE(memora_cache_set(cache, "ttl", 3, "v", 1, &options, NULL), MEMORA_INVALID_ARGUMENT);
}

static void counters_count(void) {
    uint64_t number = 0, initial = 10;
    CODE(memora_cache_increment(cache, "count", 5, 1, NULL, &number), MEMORA_NOT_FOUND);
    OK(memora_cache_increment(cache, "count", 5, 1, &initial, &number));
    CHECK(number == 10);
    OK(memora_cache_increment(cache, "count", 5, 5, &initial, &number));
    CHECK(number == 15);
    OK(memora_cache_decrement(cache, "count", 5, 20, NULL, &number));
    CHECK(number == 0);
    CHECK(is("count", "0"));
    OK(set("count", "18446744073709551615"));
    CODE(memora_cache_increment(cache, "count", 5, 1, NULL, &number), MEMORA_COUNTER_OVERFLOW);
    OK(set("count", "ten"));
    CODE(memora_cache_increment(cache, "count", 5, 1, NULL, NULL), MEMORA_NOT_A_NUMBER);
}

struct many {
    int hits, misses;
};

static void take_value(void *context, size_t index, const void *value, size_t value_len) {
    struct many *many = context;
    char expected[32];
    if (!value) {
        many->misses++;
        CHECK(index % 2 == 1 && value_len == 0);
        return;
    }
    snprintf(expected, sizeof expected, "value %d", (int)index);
    CHECK(value_len == strlen(expected) && memcmp(value, expected, value_len) == 0);
    /* The library may be used from a callback, also this cache. */
    if (index == 0) CHECK(is("many 0", "value 0"));
    many->hits++;
}

static void many_are_got_at_once(void) {
    enum { COUNT = 100 };
    char names[COUNT][24], value[32];
    memora_bytes_t keys[COUNT];
    struct many many = {0, 0};
    int i;
    for (i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "many %d", i);
        snprintf(value, sizeof value, "value %d", i);
        keys[i].data = names[i];
        keys[i].len = strlen(names[i]);
        if (i % 2 == 0) OK(set(names[i], value));
    }
    OK(memora_cache_get_many(cache, keys, COUNT, take_value, &many));
    CHECK(many.hits == COUNT / 2 && many.misses == COUNT / 2);
    OK(memora_cache_get_many(cache, NULL, 0, take_value, &many));
    CODE(memora_cache_get_many(cache, NULL, 1, take_value, &many), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_get_many(cache, keys, COUNT, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_get_many(cache, keys, SIZE_MAX, take_value, &many), MEMORA_INVALID_ARGUMENT);
}

static void take_entry(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                       const memora_entry_t *entry) {
    int *seen = context;
    int number;
    char text[16];
    CHECK(entry->version != 0 && key_len < sizeof text && value_len == 1 && *(const char *)value == 's');
    memcpy(text, key, key_len);
    text[key_len] = '\0';
    number = atoi(text + 1);
    CHECK(number >= 0 && number < 500);
    seen[number]++;
}

static void a_scan_meets_every_entry(void) {
    static int seen[500];
    memora_cache_t *other = NULL;
    uint64_t cursor = 0, len = 0;
    char key[16];
    int i, rounds = 0;
    OK(memora_cache_open(fabric, "scanned", NULL, &other));
    for (i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "s%d", i);
        OK(memora_cache_set(other, key, strlen(key), "s", 1, NULL, NULL));
    }
    OK(memora_cache_len(other, &len));
    CHECK(len == 500);
    do {
        if (memora_cache_scan(other, &cursor, 50, take_entry, seen) != MEMORA_OK) break;
        rounds++;
    } while (cursor != 0 && rounds < 10000);
    CHECK(cursor == 0);
    for (i = 0; i < 500; i++) CHECK(seen[i] >= 1);
    CODE(memora_cache_scan(other, NULL, 50, take_entry, seen), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_scan(other, &cursor, 50, NULL, seen), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_close(other));
}

static void bad_keys_and_values_are_refused_and_nothing_is_lost(void) {
    size_t big = (128u << 20) + 1, len = 0;
    char *bytes = calloc(1, big);
    memora_channel_t *channel = NULL;
    CHECK(bytes != NULL);
    OK(set("kept", "kept"));
    CODE(memora_cache_set(cache, bytes, 100000, "v", 1, NULL, NULL), MEMORA_KEY_TOO_LONG);
    /* No such key can be there. */
    CODE(memora_cache_get(cache, bytes, 100000, NULL, 0, &len), MEMORA_NOT_FOUND);
    CODE(memora_cache_set(cache, "", 0, "v", 1, NULL, NULL), MEMORA_KEY_TOO_LONG);
    CODE(memora_cache_set(cache, "kept", 4, bytes, big, NULL, NULL), MEMORA_VALUE_TOO_LONG);
    CHECK(strlen(memora_last_error_message()) > 20);
    CODE(memora_cache_set(cache, NULL, 4, "v", 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_set(cache, "kept", 4, NULL, 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_set(cache, "kept", SIZE_MAX, "v", 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_get(cache, "kept", 4, NULL, 10, &len), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_len(cache, NULL), MEMORA_INVALID_ARGUMENT);
    CHECK(is("kept", "kept"));
    /* The name belongs to a cache. */
    CODE(memora_channel_open(fabric, "tested", NULL, &channel), MEMORA_WRONG_KIND);
    CHECK(channel == NULL);
    free(bytes);
}

static void long_keys_and_values_come_back(void) {
    size_t key_len = 65536, value_len = 5u << 20, len = 0, i;
    char *key = malloc(key_len + 1), *value = malloc(value_len), *back = malloc(value_len);
    CHECK(key != NULL && value != NULL && back != NULL);
    for (i = 0; i <= key_len; i++) key[i] = (char)(i * 7);
    for (i = 0; i < value_len; i++) value[i] = (char)(i * 13 + i / 251);
    OK(memora_cache_set(cache, key, key_len, value, value_len, NULL, NULL));
    OK(memora_cache_get(cache, key, key_len, back, value_len, &len));
    CHECK(len == value_len && memcmp(value, back, len) == 0);
    CODE(memora_cache_set(cache, key, key_len + 1, "v", 1, NULL, NULL), MEMORA_KEY_TOO_LONG);
    CHECK(strstr(memora_last_error_message(), "65536") != NULL);
    CODE(memora_cache_get(cache, key, key_len - 1, back, value_len, &len), MEMORA_NOT_FOUND);
    OK(memora_cache_delete(cache, key, key_len));
    free(key), free(value), free(back);
}

static void take_nothing(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                         const memora_entry_t *entry) {
    (void)key, (void)key_len, (void)value, (void)value_len, (void)entry;
    ++*(int *)context;
}

static void figures_and_extreme_limits(void) {
    memora_cache_t *own = NULL;
    memora_cache_stats_t stats;
    uint64_t cursor = 0;
    int seen = 0, i;
    char name[16];
    OK(memora_cache_open(fabric, "figures", NULL, &own));
    for (i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "key %d", i);
        OK(memora_cache_set(own, name, strlen(name), "value", 5, NULL, NULL));
    }
    OK(memora_cache_delete(own, "key 7", 5));
    OK(memora_cache_stats(own, &stats, sizeof stats));
    CHECK(stats.entries == 99 && stats.live_bytes >= 99 * 10 && stats.dead_bytes > 0);
    CHECK(stats.capacity_bytes >= stats.live_bytes && stats.record_chunks >= 1 && stats.index_chunks >= 1);
    CODE(memora_cache_stats(own, NULL, sizeof stats), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_stats(own, &stats, 3), MEMORA_INVALID_ARGUMENT);
    /* Everything at once, nothing at all, and cursors that nobody gave out. */
    OK(memora_cache_scan(own, &cursor, SIZE_MAX, take_nothing, &seen));
    CHECK(seen >= 99 && cursor == 0);
    (void)memora_cache_scan(own, &cursor, 0, take_nothing, &seen);
    for (i = 0; i < 64; i++) {
        int result;
        cursor = (UINT64_C(1) << i) + (i % 3 ? 0 : 5);
        result = memora_cache_scan(own, &cursor, 10, take_nothing, &seen);
        CHECK(result == MEMORA_OK || result == MEMORA_INVALID_ARGUMENT);
    }
    OK(memora_cache_close(own));
}

int main(int argc, char **argv) {
    begin("cache", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    OK(memora_cache_open(fabric, "tested", NULL, &cache));
    TEST(values_come_back_as_they_were_set);
    TEST(a_buffer_that_is_too_small_tells_the_length);
    TEST(add_and_replace_look_at_what_is_there);
    TEST(a_swap_succeeds_with_the_newest_version_only);
    TEST(flags_stay_and_time_to_live_ends);
    TEST(counters_count);
    TEST(many_are_got_at_once);
    TEST(a_scan_meets_every_entry);
    TEST(bad_keys_and_values_are_refused_and_nothing_is_lost);
    TEST(long_keys_and_values_come_back);
    TEST(figures_and_extreme_limits);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return finish();
}
