/* What a cache tells of itself: events, and figures. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_cache_t *cache;

/* The next event is of this kind and key; its version. */
static uint64_t next_is(memora_events_t *events, uint32_t kind, const char *key) {
    memora_event_t event = {0, 0, 0, 9};
    char found[64];
    size_t len = 99;
    OK(memora_events_next(events, 20000, found, sizeof found, &len, &event));
    CHECK(event.kind == kind && len == strlen(key) && memcmp(found, key, len) == 0);
    CHECK(event.whole_key_len == len && event.reserved == 0);
    return event.version;
}

static int another_process_sets(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *same = NULL;
    OK(memora_fabric_open("test", &own));
    OK(memora_cache_open(own, "told", NULL, &same));
    OK(memora_cache_set(same, "theirs", 6, "v", 1, NULL, NULL));
    OK(memora_cache_close(same));
    OK(memora_fabric_close(own));
    return 0;
}

static void changes_are_told_in_their_order(void) {
    memora_events_t *events = NULL;
    memora_event_t event;
    uint64_t version = 0;
    size_t len = 0;
    char key[4];
    OK(memora_events_open(cache, &events));
    CODE(memora_events_next(events, 0, NULL, 0, NULL, NULL), MEMORA_NOT_FOUND);
    CODE(memora_events_next(events, 20, NULL, 0, NULL, NULL), MEMORA_TIMED_OUT);
    OK(memora_cache_set(cache, "one", 3, "1", 1, NULL, &version));
    OK(memora_cache_delete(cache, "one", 3));
    CODE(memora_cache_delete(cache, "one", 3), MEMORA_NOT_FOUND);
    OK(memora_cache_set(cache, "two", 3, "1", 1, NULL, NULL));
    CHECK(next_is(events, MEMORA_EVENT_SET, "one") == version);
    next_is(events, MEMORA_EVENT_DELETE, "one");
    /* It stays until it fits. */
    CODE(memora_events_next(events, 20000, key, 2, &len, &event), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 3 && event.kind == MEMORA_EVENT_SET);
    OK(memora_events_next(events, 0, key, sizeof key, &len, NULL));
    CHECK(len == 3 && memcmp(key, "two", 3) == 0);
    CODE(memora_events_next(events, 0, key, sizeof key, &len, NULL), MEMORA_NOT_FOUND);
    CHECK(wait_for(start(another_process_sets)) == 0);
    next_is(events, MEMORA_EVENT_SET, "theirs");
    OK(memora_events_close(events));
    CODE(memora_events_next(events, 0, key, sizeof key, &len, NULL), MEMORA_CLOSED);
}

static void a_loss_is_counted_exactly(void) {
    enum { SETS = 200000 };
    memora_events_t *events = NULL;
    char key[16];
    uint64_t heard = 0, lost = 0;
    int i, result = MEMORA_OK;
    OK(memora_events_open(cache, &events));
    for (i = 0; i < SETS; i++) {
        snprintf(key, sizeof key, "k%d", i % 100);
        if (memora_cache_set(cache, key, strlen(key), "v", 1, NULL, NULL) != MEMORA_OK) break;
    }
    CHECK(i == SETS);
    while (result == MEMORA_OK || result == MEMORA_OVERRUN) {
        result = memora_events_next(events, 0, key, sizeof key, NULL, NULL);
        if (result == MEMORA_OK) heard++;
        if (result == MEMORA_OVERRUN) lost += memora_last_error_amount();
    }
    CODE(result, MEMORA_NOT_FOUND);
    CHECK(heard > 0 && lost > 0 && heard + lost == SETS);
    OK(memora_events_close(events));
}

static void *wait_for_ever(void *events) {
    CODE(memora_events_next(events, MEMORA_FOREVER, NULL, 0, NULL, NULL), MEMORA_CLOSED);
    return NULL;
}

static void closing_ends_a_wait(void) {
    memora_events_t *events = NULL;
    pthread_t waiter;
    OK(memora_events_open(cache, &events));
    CHECK(pthread_create(&waiter, NULL, wait_for_ever, events) == 0);
    sleep_ms(30);
    OK(memora_events_close(events));
    CHECK(pthread_join(waiter, NULL) == 0);
}

static void a_cache_without_events_says_so(void) {
    memora_cache_t *silent = NULL;
    memora_events_t *events = NULL;
    OK(memora_cache_open(fabric, "silent", NULL, &silent));
    CODE(memora_events_open(silent, &events), MEMORA_UNSUPPORTED);
    CHECK(events == NULL && strstr(memora_last_error_message(), "events") != NULL);
    CODE(memora_events_open(cache, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_close(silent));
}

static void take_process(void *context, const memora_process_counts_t *counts, const char *command) {
    if (counts->pid != (uint32_t)getpid()) return;
    CHECK(counts->threads >= 1 && command[0] != '\0');
    *(memora_process_counts_t *)context = *counts;
}

static void what_is_done_is_counted(void) {
    memora_cache_t *own = NULL;
    memora_cache_stats_t stats;
    memora_process_counts_t mine = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    char value[8];
    int i;
    OK(memora_cache_open(fabric, "counted", NULL, &own));
    OK(memora_cache_set(own, "k", 1, "v", 1, NULL, NULL));
    for (i = 0; i < 30; i++) OK(memora_cache_get(own, "k", 1, value, sizeof value, NULL));
    for (i = 0; i < 10; i++) CODE(memora_cache_get(own, "missing", 7, value, sizeof value, NULL), MEMORA_NOT_FOUND);
    OK(memora_cache_delete(own, "k", 1));
    OK(memora_cache_stats(own, &stats, sizeof stats));
    CHECK(stats.hits == 30 && stats.misses == 10 && stats.sets == 1 && stats.deletes == 1);
    CHECK(stats.evicted_small == 0 && stats.evicted_main == 0 && stats.expired == 0 && stats.flushed == 0);
    CHECK(stats.evicted_small_age_ms == UINT64_MAX && stats.evicted_main_age_ms == UINT64_MAX);
    CHECK(stats.open_chunks + stats.sealed_chunks + stats.cleaning_chunks + stats.quiet_chunks >= 1);
    OK(memora_cache_process_counts(own, take_process, &mine));
    CHECK(mine.hits == 30 && mine.misses == 10 && mine.sets == 1 && mine.deletes == 1 && mine.evicted == 0);
    CODE(memora_cache_process_counts(own, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_close(own));
}

struct advised {
    int points;
    double last;
};

static void take_advice(void *context, const memora_advice_t *advice) {
    struct advised *advised = context;
    CHECK(advice->hit_ratio >= advised->last && advice->hit_ratio <= 1 && advice->factor > 0);
    advised->last = advice->hit_ratio;
    advised->points++;
}

static void more_memory_gives_no_fewer_hits(void) {
    struct advised advised = {0, 0};
    memora_cache_t *own = NULL;
    uint64_t sampled = 0;
    char key[16], value[16];
    size_t len = 0;
    int i;
    OK(memora_cache_open(fabric, "advised", NULL, &own));
    CODE(memora_cache_advice(own, take_advice, &advised, &sampled), MEMORA_NOT_FOUND);
    for (i = 0; i < 400000; i++) {
        snprintf(key, sizeof key, "k%d", i % 50000);
        if (memora_cache_get(own, key, strlen(key), value, sizeof value, &len) != MEMORA_NOT_FOUND) continue;
        OK(memora_cache_set(own, key, strlen(key), "value", 5, NULL, NULL));
    }
    OK(memora_cache_advice(own, take_advice, &advised, &sampled));
    CHECK(advised.points == 7 && advised.last > 0.5 && sampled > 0);
    CODE(memora_cache_advice(own, NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_close(own));
}

int main(int argc, char **argv) {
    memora_cache_options_t options;
    begin("events", argc, argv);
    OK(memora_cache_options_init(&options, sizeof options));
    options.events = 1;
    OK(memora_fabric_open("test", &fabric));
    OK(memora_cache_open(fabric, "told", &options, &cache));
    TEST(changes_are_told_in_their_order);
    TEST(a_loss_is_counted_exactly);
    TEST(closing_ends_a_wait);
    TEST(a_cache_without_events_says_so);
    TEST(what_is_done_is_counted);
    TEST(more_memory_gives_no_fewer_hits);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return finish();
}
