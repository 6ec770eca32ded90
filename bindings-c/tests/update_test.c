/* The calls on a cache that look at what is there and change it at one moment. */
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

static uint64_t set_for(const char *key, const char *value, uint64_t ttl_ms, uint32_t flags) {
    memora_set_options_t options;
    uint64_t version = 0;
    OK(memora_set_options_init(&options, sizeof options));
    options.ttl_ms = ttl_ms;
    options.flags = flags;
    OK(memora_cache_set(cache, key, strlen(key), value, strlen(value), &options, &version));
    return version;
}

static memora_entry_t entry_of(const char *key) {
    memora_entry_t entry = {0, 0, 0, 0};
    char buffer[256];
    OK(memora_cache_get_entry(cache, key, strlen(key), buffer, sizeof buffer, NULL, &entry));
    return entry;
}

/* Whether a view that was given shows this text; it is released. */
static int shows(memora_view_t *view, const char *text) {
    const void *data = NULL;
    size_t len = 0;
    int copy = 0, same;
    OK(memora_view_bytes(view, &data, &len, NULL));
    OK(memora_view_is_copy(view, &copy));
    same = copy == 1 && len == strlen(text) && memcmp(data, text, len) == 0;
    OK(memora_view_release(view));
    return same;
}

static void values_grow_at_both_ends(void) {
    uint64_t first = set_for("grow", "b", 60000, 7), second = 0;
    memora_entry_t entry;
    OK(memora_cache_append(cache, "grow", 4, "cd", 2, &second));
    CHECK(second != first && is("grow", "bcd"));
    OK(memora_cache_prepend(cache, "grow", 4, "a", 1, NULL));
    CHECK(is("grow", "abcd"));
    OK(memora_cache_append(cache, "grow", 4, NULL, 0, NULL));
    entry = entry_of("grow");
    CHECK(entry.flags == 7 && entry.ttl_ms > 0 && entry.ttl_ms <= 60000 && entry.marks == 0);
    CODE(memora_cache_append(cache, "nobody", 6, "x", 1, NULL), MEMORA_NOT_FOUND);
    CODE(memora_cache_prepend(cache, "nobody", 6, "x", 1, NULL), MEMORA_NOT_FOUND);
    CODE(memora_cache_append(cache, "grow", 4, NULL, 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_append(cache, "grow", 4, "x", SIZE_MAX, NULL), MEMORA_INVALID_ARGUMENT);
    CHECK(is("grow", "abcd") && is("nobody", NULL));
}

static void a_deletion_may_ask_for_a_version(void) {
    uint64_t first = set_for("gone", "1", 0, 0), second = set_for("gone", "2", 0, 0), found = 0;
    CODE(memora_cache_delete_if(cache, "gone", 4, first, &found), MEMORA_STALE);
    CHECK(found == second && memora_last_error_amount() == second && is("gone", "2"));
    CODE(memora_cache_delete_if(cache, "gone", 4, first, NULL), MEMORA_STALE);
    OK(memora_cache_delete_if(cache, "gone", 4, second, NULL));
    CHECK(is("gone", NULL));
    CODE(memora_cache_delete_if(cache, "gone", 4, second, NULL), MEMORA_NOT_FOUND);
}

static void touching_changes_the_time_to_live_and_nothing_else(void) {
    uint64_t version = set_for("touched", "1", 0, 5);
    char buffer[8];
    size_t len = 0;
    memora_entry_t entry;
    OK(memora_cache_touch(cache, "touched", 7, 60000));
    entry = entry_of("touched");
    CHECK(entry.version == version && entry.flags == 5 && entry.ttl_ms > 0 && entry.ttl_ms <= 60000);
    OK(memora_cache_get_and_touch(cache, "touched", 7, 0, buffer, sizeof buffer, &len, &entry));
    CHECK(len == 1 && buffer[0] == '1' && entry.ttl_ms == UINT64_MAX && entry.version == version);
    CHECK(entry_of("touched").ttl_ms == UINT64_MAX);
    /* The time is new although the value did not fit. */
    CODE(memora_cache_get_and_touch(cache, "touched", 7, 5000, NULL, 0, &len, NULL), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 1 && entry_of("touched").ttl_ms <= 5000);
    CODE(memora_cache_touch(cache, "nobody", 6, 1), MEMORA_NOT_FOUND);
    CODE(memora_cache_get_and_touch(cache, "nobody", 6, 1, buffer, sizeof buffer, &len, NULL), MEMORA_NOT_FOUND);
}

static void what_was_there_can_be_taken_out(void) {
    memora_view_t *old = (memora_view_t *)&fabric;
    uint64_t version;
    memora_entry_t entry;
    OK(memora_cache_get_and_set(cache, "taken", 5, "1", 1, NULL, &old));
    CHECK(old == NULL);
    version = set_for("taken", "first", 0, 9);
    OK(memora_cache_get_and_set(cache, "taken", 5, "second", 6, NULL, &old));
    OK(memora_view_bytes(old, NULL, NULL, &entry));
    CHECK(entry.version == version && entry.flags == 9 && entry.ttl_ms == UINT64_MAX);
    CHECK(shows(old, "first") && is("taken", "second"));
    OK(memora_cache_get_and_delete(cache, "taken", 5, &old));
    CHECK(shows(old, "second") && is("taken", NULL));
    CODE(memora_cache_get_and_delete(cache, "taken", 5, &old), MEMORA_NOT_FOUND);
    CHECK(old == NULL);
    set_for("taken", "third", 0, 0);
    CODE(memora_cache_get_and_delete(cache, "taken", 5, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_get_and_set(cache, "taken", 5, "x", 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CHECK(is("taken", "third"));
}

static void counters_have_the_rules_of_the_peers(void) {
    memora_counter_options_t options;
    uint64_t number = 0;
    CODE(memora_cache_count(cache, "c", 1, 1, NULL, &number), MEMORA_NOT_FOUND);
    OK(memora_counter_options_init(&options, sizeof options));
    options.create = 1;
    options.initial = 5;
    options.ttl_ms = 60000;
    OK(memora_cache_count(cache, "c", 1, 1, &options, &number));
    CHECK(number == 5 && entry_of("c").ttl_ms <= 60000);
    options.ttl_ms = 0;
    OK(memora_cache_count(cache, "c", 1, 1, &options, &number));
    CHECK(number == 6 && entry_of("c").ttl_ms <= 60000);
    options.renew_ttl = 1;
    OK(memora_cache_count(cache, "c", 1, 1, &options, NULL));
    CHECK(is("c", "7") && entry_of("c").ttl_ms == UINT64_MAX);
    /* memcached's incr begins again at 0, its decr stops there. */
    options.kind = MEMORA_COUNTER_WRAPPING;
    set_for("c", "18446744073709551615", 0, 0);
    OK(memora_cache_count(cache, "c", 1, 3, &options, &number));
    CHECK(number == 2);
    options.down = 1;
    OK(memora_cache_count(cache, "c", 1, 3, &options, &number));
    CHECK(number == 0);
    /* Redis counts below. */
    options.kind = MEMORA_COUNTER_SIGNED;
    OK(memora_cache_count(cache, "c", 1, 3, &options, &number));
    CHECK((int64_t)number == -3 && is("c", "-3"));
    OK(memora_cache_count(cache, "c", 1, (uint64_t)-5, &options, &number));
    CHECK(number == 2);
    set_for("c", "-9223372036854775808", 0, 0);
    CODE(memora_cache_count(cache, "c", 1, 1, &options, &number), MEMORA_COUNTER_OVERFLOW);
    CHECK(strstr(memora_last_error_message(), memora_error_remedy(MEMORA_COUNTER_OVERFLOW)) != NULL);
    CHECK(is("c", "-9223372036854775808"));
    options.kind = MEMORA_COUNTER_UNSIGNED;
    CODE(memora_cache_count(cache, "c", 1, 1, &options, &number), MEMORA_NOT_A_NUMBER);
    options.kind = 3;
    CODE(memora_cache_count(cache, "c", 1, 1, &options, &number), MEMORA_INVALID_ARGUMENT);
    CHECK(is("c", "-9223372036854775808"));
}

static int opened(const char *name, const memora_cache_options_t *options) {
    memora_cache_t *made = NULL;
    int result = memora_cache_open(fabric, name, options, &made);
    CHECK((made != NULL) == (result == MEMORA_OK));
    if (made) OK(memora_cache_close(made));
    return result;
}

static void a_cache_is_opened_as_it_was_made(void) {
    memora_cache_options_t options;
    memora_cache_t *full = NULL;
    static char value[10000];
    char key[16];
    int i, result = MEMORA_OK;
    OK(memora_cache_options_init(&options, sizeof options));
    CHECK(options.when_full == MEMORA_WHEN_FULL_EVICT && options.entries == 0 && options.events == 0);
    OK(opened("default", NULL));
    OK(opened("default", &options));
    options.when_full = MEMORA_WHEN_FULL_REJECT;
    CODE(opened("default", &options), MEMORA_WRONG_OPTIONS);
    CHECK(strlen(memora_last_error_message()) > 40);
    options.limit = 2 << 20;
    OK(opened("rejecting", &options));
    OK(opened("rejecting", NULL));
    options.limit = 3 << 20;
    CODE(opened("rejecting", &options), MEMORA_WRONG_OPTIONS);
    options.when_full = 2;
    CODE(opened("other", &options), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_open(fabric, "rejecting", NULL, &full));
    for (i = 0; i < 1000 && result == MEMORA_OK; i++) {
        snprintf(key, sizeof key, "key %d", i);
        result = memora_cache_set(full, key, strlen(key), value, sizeof value, NULL, NULL);
    }
    CODE(result, MEMORA_FULL);
    CHECK(strstr(memora_last_error_message(), memora_error_remedy(MEMORA_FULL)) != NULL);
    /* What is there stays. */
    for (i -= 2; i >= 0; i--) {
        snprintf(key, sizeof key, "key %d", i);
        CODE(memora_cache_get(full, key, strlen(key), NULL, 0, NULL), MEMORA_BUFFER_TOO_SMALL);
    }
    OK(memora_cache_close(full));
}

/* The code that was answered has the value in its message, and the remedy. */
static void says(int code, const char *value) {
    const char *message = memora_last_error_message();
    CHECK(memora_last_error_code() == code && strstr(message, value) != NULL && strstr(message, memora_error_remedy(code)) != NULL);
}

static void bad_input_has_errors_of_its_own_and_changes_nothing(void) {
    static char large[65537];
    char *huge = calloc(1, (size_t)129 << 20);
    memora_fabric_options_t small;
    memora_cache_options_t options;
    memora_fabric_t *none = NULL;
    uint64_t version = set_for("text", "old", 0, 0);
    set_for("most", "18446744073709551615", 0, 0);
    CODE(memora_cache_set(cache, large, sizeof large, "new", 3, NULL, NULL), MEMORA_KEY_TOO_LONG);
    says(MEMORA_KEY_TOO_LONG, "65537");
    CODE(memora_cache_set(cache, "text", 4, huge, (size_t)129 << 20, NULL, NULL), MEMORA_VALUE_TOO_LONG);
    free(huge);
    says(MEMORA_VALUE_TOO_LONG, "135266304");
    CODE(memora_cache_increment(cache, "text", 4, 1, NULL, NULL), MEMORA_NOT_A_NUMBER);
    says(MEMORA_NOT_A_NUMBER, "old");
    CODE(memora_cache_increment(cache, "most", 4, 1, NULL, NULL), MEMORA_COUNTER_OVERFLOW);
    says(MEMORA_COUNTER_OVERFLOW, "18446744073709551615");
    CODE(memora_cache_compare_and_swap(cache, "text", 4, "new", 3, version + 1, NULL, NULL), MEMORA_STALE);
    says(MEMORA_STALE, "");
    OK(memora_fabric_options_init(&small, sizeof small));
    small.limit = 1000;
    CODE(memora_fabric_open_with("small", &small, &none), MEMORA_LIMIT_TOO_SMALL);
    says(MEMORA_LIMIT_TOO_SMALL, "1048576");
    OK(memora_cache_options_init(&options, sizeof options));
    options.when_full = MEMORA_WHEN_FULL_REJECT;
    CODE(opened("tested", &options), MEMORA_WRONG_OPTIONS);
    says(MEMORA_WRONG_OPTIONS, "Evict");
    CHECK(is("text", "old") && entry_of("text").version == version && is("most", "18446744073709551615"));
}

int main(int argc, char **argv) {
    begin("update", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    OK(memora_cache_open(fabric, "tested", NULL, &cache));
    TEST(values_grow_at_both_ends);
    TEST(a_deletion_may_ask_for_a_version);
    TEST(touching_changes_the_time_to_live_and_nothing_else);
    TEST(what_was_there_can_be_taken_out);
    TEST(counters_have_the_rules_of_the_peers);
    TEST(a_cache_is_opened_as_it_was_made);
    TEST(bad_input_has_errors_of_its_own_and_changes_nothing);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return finish();
}
