/* Change feeds of stores. */
#include "testing.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;
static memora_store_t *store;
static char dir[512];

static memora_store_options_t options(void) {
    memora_store_options_t made;
    OK(memora_store_options_init(&made, sizeof made));
    CHECK(made.feed_bytes == 0);
    made.dir = dir;
    made.feed_bytes = 64u << 20;
    return made;
}

static void set(const char *key, const char *value) {
    OK(memora_store_set(store, key, strlen(key), value, strlen(value), NULL, NULL));
}

static memora_feed_t *feed_from(uint32_t from, const memora_feed_position_t *position, const char *prefix) {
    memora_feed_t *made = NULL;
    OK(memora_store_feed(store, from, position, prefix, prefix ? strlen(prefix) : 0, &made));
    return made;
}

/* Whether the next change is this; a value of NULL stands for a deletion. */
static int gives(memora_feed_t *feed, const char *key, const char *value, memora_change_t *change) {
    char found_key[64], found_value[64];
    memora_change_t own;
    if (!change) change = &own;
    if (memora_feed_next(feed, found_key, sizeof found_key, found_value, sizeof found_value, 5000, change) != MEMORA_OK) return 0;
    return change->key_len == strlen(key) && memcmp(found_key, key, change->key_len) == 0
        && change->deleted == (value == NULL) && change->value_len == (value ? strlen(value) : 0)
        && memcmp(found_value, value ? value : "", change->value_len) == 0;
}

static int nothing(memora_feed_t *feed) {
    char byte;
    return memora_feed_next(feed, &byte, 1, &byte, 1, 0, NULL) == MEMORA_NOT_FOUND;
}

static void every_change_comes_once_and_a_reader_goes_on(void) {
    memora_feed_t *feed = feed_from(MEMORA_FROM_OLDEST, NULL, NULL), *later, *newest;
    memora_set_options_t with;
    memora_change_t first, change;
    memora_feed_position_t position, end;
    int i;
    CHECK(nothing(feed));
    CODE(memora_feed_next(feed, NULL, 0, NULL, 0, 5, NULL), MEMORA_TIMED_OUT);
    for (i = 0; i < 3; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        set("a", text);
    }
    OK(memora_store_delete(store, "a", 1));
    OK(memora_store_flush(store));
    OK(memora_set_options_init(&with, sizeof with));
    with.flags = 7;
    with.ttl_ms = 60000;
    OK(memora_store_set(store, "b", 1, "with", 4, &with, NULL));
    OK(memora_store_flush(store));
    CHECK(gives(feed, "a", "0", &first));
    CHECK(first.flags == 0 && first.expires_ms == 0);
    CHECK(gives(feed, "a", "1", NULL) && gives(feed, "a", "2", &change) && change.order > first.order);
    position = change.position;
    CHECK(gives(feed, "a", NULL, NULL) && gives(feed, "b", "with", &change));
    CHECK(change.flags == 7 && change.expires_ms != 0 && nothing(feed));
    OK(memora_feed_position(feed, &end));
    CHECK(end.flush == change.position.flush && end.index == change.position.index);

    later = feed_from(MEMORA_FROM_POSITION, &position, NULL);
    CHECK(gives(later, "a", NULL, NULL) && gives(later, "b", "with", NULL) && nothing(later));
    OK(memora_feed_close(later));
    later = feed_from(MEMORA_FROM_OLDEST, NULL, "b");
    CHECK(gives(later, "b", "with", NULL) && nothing(later));
    OK(memora_feed_close(later));
    newest = feed_from(MEMORA_FROM_NEWEST, NULL, NULL);
    set("c", "");
    OK(memora_store_flush(store));
    CHECK(gives(newest, "c", "", NULL) && nothing(newest) && gives(feed, "c", "", NULL));
    OK(memora_feed_close(newest));
    OK(memora_feed_close(feed));
    CODE(memora_feed_close(feed), MEMORA_CLOSED);
    CODE(memora_feed_next(feed, NULL, 0, NULL, 0, 0, NULL), MEMORA_CLOSED);
    OK(memora_feed_close(NULL));
}

static void a_change_that_does_not_fit_is_not_lost(void) {
    memora_feed_t *feed = feed_from(MEMORA_FROM_NEWEST, NULL, "a l"), *later;
    memora_feed_position_t before, at;
    memora_change_t change;
    char key[64], value[64];
    set("a longer key", "a longer value");
    OK(memora_store_flush(store));
    set("a later key", "1");
    OK(memora_store_flush(store));
    OK(memora_feed_position(feed, &before));
    CODE(memora_feed_next(feed, key, 3, value, sizeof value, 0, &change), MEMORA_BUFFER_TOO_SMALL);
    CHECK(change.key_len == 12 && change.value_len == 14 && memora_last_error_amount() == 12);
    CODE(memora_feed_next(feed, key, sizeof key, value, 13, 0, NULL), MEMORA_BUFFER_TOO_SMALL);
    CHECK(memora_last_error_amount() == 14);
    /* It was not given, so whoever goes on there gets it. */
    OK(memora_feed_position(feed, &at));
    CHECK(at.flush == before.flush && at.index == before.index);
    later = feed_from(MEMORA_FROM_POSITION, &at, "a l");
    CHECK(gives(later, "a longer key", "a longer value", NULL));
    OK(memora_feed_close(later));
    OK(memora_feed_next(feed, key, 12, value, 14, 0, &change));
    CHECK(memcmp(key, "a longer key", 12) == 0 && memcmp(value, "a longer value", 14) == 0);
    OK(memora_feed_position(feed, &at));
    CHECK(at.flush == change.position.flush && at.index == change.position.index);
    CHECK(gives(feed, "a later key", "1", NULL) && nothing(feed));
    OK(memora_feed_close(feed));
}

static void *close_soon(void *feed) {
    sleep_ms(20);
    OK(memora_feed_close(feed));
    return NULL;
}

static void *write_soon(void *unused) {
    sleep_ms(20);
    OK(memora_store_set_durable(store, "woken", 5, "1", 1, MEMORA_DURABILITY_SYNC, NULL));
    return unused;
}

static void who_waits_is_woken_by_a_flush_and_by_a_close(void) {
    memora_feed_t *feed = feed_from(MEMORA_FROM_NEWEST, NULL, NULL);
    char key[16], value[16];
    pthread_t other;
    CHECK(pthread_create(&other, NULL, write_soon, NULL) == 0);
    OK(memora_feed_next(feed, key, sizeof key, value, sizeof value, MEMORA_FOREVER, NULL));
    CHECK(pthread_join(other, NULL) == 0);
    CHECK(memcmp(key, "woken", 5) == 0);
    CHECK(pthread_create(&other, NULL, close_soon, feed) == 0);
    CODE(memora_feed_next(feed, key, sizeof key, value, sizeof value, MEMORA_FOREVER, NULL), MEMORA_CLOSED);
    CHECK(pthread_join(other, NULL) == 0);
}

static void a_place_holds_when_the_fabric_is_gone(void) {
    memora_store_options_t made = options();
    memora_feed_t *feed = feed_from(MEMORA_FROM_NEWEST, NULL, "life");
    memora_change_t change;
    set("life", "first");
    OK(memora_store_flush(store));
    CHECK(gives(feed, "life", "first", &change));
    set("life", "second");
    OK(memora_store_close(store));
    CODE(memora_feed_next(feed, NULL, 0, NULL, 0, MEMORA_FOREVER, NULL), MEMORA_CLOSED);
    OK(memora_feed_close(feed));
    OK(memora_fabric_close(fabric));
    OK(memora_fabric_remove(NULL, "test"));
    OK(memora_fabric_open("test", &fabric));
    /* The directory remembers that it keeps a feed. */
    made.feed_bytes = 0;
    OK(memora_store_open(fabric, "fed", &made, &store));
    set("life", "third");
    OK(memora_store_flush(store));
    feed = feed_from(MEMORA_FROM_POSITION, &change.position, "life");
    CHECK(gives(feed, "life", "second", NULL) && gives(feed, "life", "third", NULL) && nothing(feed));
    OK(memora_feed_close(feed));
}

static void what_cannot_be_read_is_refused(void) {
    memora_feed_position_t ahead, foreign, old;
    memora_store_options_t made = options();
    memora_verify_report_t report;
    memora_feed_t *feed = NULL;
    memora_store_t *memory = NULL, *small = NULL;
    memora_change_t change;
    char *large = calloc(1, 50000);
    char key[64];
    int i;
    feed = feed_from(MEMORA_FROM_NEWEST, NULL, NULL);
    OK(memora_feed_position(feed, &ahead));
    OK(memora_feed_close(feed));
    foreign = ahead;
    ahead.flush = UINT64_MAX;
    CODE(memora_store_feed(store, MEMORA_FROM_POSITION, &ahead, NULL, 0, &feed), MEMORA_POSITION_AHEAD);
    foreign.store ^= 1;
    CODE(memora_store_feed(store, MEMORA_FROM_POSITION, &foreign, NULL, 0, &feed), MEMORA_POSITION_FOREIGN);
    CODE(memora_store_feed(store, MEMORA_FROM_POSITION, NULL, NULL, 0, &feed), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_feed(store, 77, NULL, NULL, 0, &feed), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_feed(store, MEMORA_FROM_OLDEST, NULL, NULL, 3, &feed), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_feed(NULL, MEMORA_FROM_OLDEST, NULL, NULL, 0, &feed), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_feed(store, MEMORA_FROM_OLDEST, NULL, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    CHECK(feed == NULL);
    made.dir = NULL;
    made.durability = MEMORA_DURABILITY_PROCESS;
    CODE(memora_store_open(fabric, "memory", &made, &memory), MEMORA_INVALID_ARGUMENT);

    /* Old files go when there are too many. */
    made = options();
    made.dir = in_home("small");
    made.feed_bytes = 2u << 20;
    made.checkpoint_bytes = 64u << 10;
    OK(memora_store_open(fabric, "small", &made, &small));
    OK(memora_store_feed(small, MEMORA_FROM_OLDEST, NULL, NULL, 0, &feed));
    OK(memora_store_set(small, "first", 5, "1", 1, NULL, NULL));
    OK(memora_store_flush(small));
    CHECK(gives(feed, "first", "1", &change));
    old = change.position;
    for (i = 0; i < 80; i++) {
        OK(memora_store_set(small, "large", 5, large, 50000, NULL, NULL));
        OK(memora_store_checkpoint(small));
    }
    CODE(memora_feed_next(feed, key, sizeof key, large, 50000, 0, NULL), MEMORA_POSITION_TRIMMED);
    OK(memora_feed_close(feed));
    feed = NULL;
    CODE(memora_store_feed(small, MEMORA_FROM_POSITION, &old, NULL, 0, &feed), MEMORA_POSITION_TRIMMED);
    OK(memora_store_close(small));
    OK(memora_verify(made.dir, NULL, NULL, &report, sizeof report));
    CHECK(report.backup == 0 && report.feed_files > 0 && report.records > 0);
    /* None any more. */
    made.feed_bytes = MEMORA_NO_FEED;
    OK(memora_store_open(fabric, "small", &made, &small));
    CODE(memora_store_feed(small, MEMORA_FROM_NEWEST, NULL, NULL, 0, &feed), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_close(small));
    free(large);
}

int main(int argc, char **argv) {
    memora_store_options_t made;
    begin("feed", argc, argv);
    snprintf(dir, sizeof dir, "%s", in_home("files"));
    made = options();
    OK(memora_fabric_open("test", &fabric));
    OK(memora_store_open(fabric, "fed", &made, &store));
    TEST(every_change_comes_once_and_a_reader_goes_on);
    TEST(a_change_that_does_not_fit_is_not_lost);
    TEST(who_waits_is_woken_by_a_flush_and_by_a_close);
    TEST(a_place_holds_when_the_fabric_is_gone);
    TEST(what_cannot_be_read_is_refused);
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    return finish();
}
