/* Handles that are closed, NULL, made up, of another kind, or of another process. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;

static void take_entry(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                       const memora_entry_t *entry) {
    (void)context, (void)key, (void)key_len, (void)value, (void)value_len, (void)entry;
}

static void take_value(void *context, size_t index, const void *value, size_t value_len) {
    (void)context, (void)index, (void)value, (void)value_len;
}

static void take_message(void *context, const memora_message_t *message, const void *data, size_t len) {
    (void)context, (void)message, (void)data, (void)len;
}

static void take_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context, (void)layer, (void)what, (void)place;
}

static void take_object(void *context, const char *name, const char *kind, uint64_t bytes) {
    (void)context, (void)name, (void)kind, (void)bytes;
}

static void take_subscription(void *context, const char *name, int held, uint64_t lag_bytes) {
    (void)context, (void)name, (void)held, (void)lag_bytes;
}

static void take_advice(void *context, const memora_advice_t *advice) {
    (void)context, (void)advice;
}

static void take_process(void *context, const memora_process_counts_t *counts, const char *command) {
    (void)context, (void)counts, (void)command;
}

/* Every call that takes a handle gives this code for this number. */
static void every_call_gives(void *handle, int expected) {
    char buffer[16];
    size_t len = 0;
    uint64_t number = 0, cursor = 0;
    memora_bytes_t key = {"k", 1};
    memora_cache_t *cache = NULL;
    memora_channel_t *channel = NULL;
    memora_store_t *store = NULL;
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_view_t *view = NULL;
    memora_events_t *events = NULL;
    memora_token_t *token = NULL;
    memora_fabric_stat_t stat;
    memora_cache_stats_t cache_stats;
    memora_channel_stats_t channel_stats;
    memora_store_stats_t store_stats;
    int fd = 7;
    CODE(memora_fabric_memfd(handle, &fd), expected);
    CHECK(fd == -1);
    CODE(memora_cache_stats(handle, &cache_stats, sizeof cache_stats), expected);
    CODE(memora_channel_stats(handle, &channel_stats, sizeof channel_stats), expected);
    CODE(memora_channel_subscriptions(handle, take_subscription, NULL), expected);
    CODE(memora_store_stats(handle, &store_stats, sizeof store_stats), expected);
    CODE(memora_store_get_many(handle, &key, 1, take_value, NULL), expected);
    CODE(memora_fabric_check(handle, take_problem, NULL, NULL), expected);
    CODE(memora_fabric_objects(handle, take_object, NULL), expected);
    CODE(memora_fabric_stat(handle, &stat, sizeof stat), expected);
    CODE(memora_fabric_reap(handle, NULL), expected);
    CODE(memora_subscriber_lag(handle, &number), expected);
    CODE(memora_cache_open(handle, "c", NULL, &cache), expected);
    CODE(memora_channel_open(handle, "ch", NULL, &channel), expected);
    CODE(memora_store_open(handle, "st", NULL, &store), expected);
    CODE(memora_publisher_open(handle, &publisher), expected);
    CODE(memora_subscriber_open(handle, NULL, &subscriber), expected);
    CHECK(!cache && !channel && !store && !publisher && !subscriber);
    CODE(memora_cache_get(handle, "k", 1, buffer, sizeof buffer, &len), expected);
    CODE(memora_cache_get_entry(handle, "k", 1, buffer, sizeof buffer, &len, NULL), expected);
    CODE(memora_cache_get_many(handle, &key, 1, take_value, NULL), expected);
    CODE(memora_cache_set(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_cache_add(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_cache_replace(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_cache_compare_and_swap(handle, "k", 1, "v", 1, 1, NULL, NULL), expected);
    CODE(memora_cache_delete(handle, "k", 1), expected);
    CODE(memora_cache_increment(handle, "k", 1, 1, NULL, NULL), expected);
    CODE(memora_cache_decrement(handle, "k", 1, 1, NULL, NULL), expected);
    CODE(memora_cache_len(handle, &number), expected);
    CODE(memora_cache_scan(handle, &cursor, 1, take_entry, NULL), expected);
    CODE(memora_cache_append(handle, "k", 1, "v", 1, NULL), expected);
    CODE(memora_cache_prepend(handle, "k", 1, "v", 1, NULL), expected);
    CODE(memora_cache_delete_if(handle, "k", 1, 1, NULL), expected);
    CODE(memora_cache_touch(handle, "k", 1, 1), expected);
    CODE(memora_cache_get_and_touch(handle, "k", 1, 1, buffer, sizeof buffer, &len, NULL), expected);
    CODE(memora_cache_get_and_set(handle, "k", 1, "v", 1, NULL, &view), expected);
    CODE(memora_cache_get_and_delete(handle, "k", 1, &view), expected);
    CODE(memora_cache_count(handle, "k", 1, 1, NULL, NULL), expected);
    CODE(memora_cache_view(handle, "k", 1, &view), expected);
    CODE(memora_view_bytes(handle, NULL, NULL, NULL), expected);
    CODE(memora_view_is_copy(handle, &fd), expected);
    CODE(memora_cache_process_counts(handle, take_process, NULL), expected);
    CODE(memora_cache_advice(handle, take_advice, NULL, NULL), expected);
    CODE(memora_cache_lease(handle, "k", 1, 0, &view, &token), expected);
    CODE(memora_token_fill(handle, "v", 1, NULL, NULL), expected);
    CODE(memora_cache_invalidate(handle, "k", 1, 0, NULL), expected);
    CODE(memora_cache_get_meta(handle, "k", 1, 0, &view), expected);
    CODE(memora_cache_flush(handle), expected);
    CHECK(!token && !view);
    CODE(memora_events_open(handle, &events), expected);
    CODE(memora_events_next(handle, 0, buffer, sizeof buffer, &len, NULL), expected);
    CHECK(!events);
    CHECK(!view);
    CODE(memora_publisher_send(handle, "m", 1, NULL), expected);
    CODE(memora_publisher_try_send(handle, "m", 1, NULL), expected);
    CODE(memora_publisher_send_timeout(handle, "m", 1, 10, NULL), expected);
    CODE(memora_publisher_claim(handle, 8, 1000), expected);
    CODE(memora_publisher_write(handle, 0, "m", 1), expected);
    CODE(memora_publisher_commit(handle, NULL), expected);
    CODE(memora_publisher_abort(handle), expected);
    CODE(memora_subscriber_try_recv(handle, buffer, sizeof buffer, NULL), expected);
    CODE(memora_subscriber_recv(handle, buffer, sizeof buffer, 10, NULL), expected);
    CODE(memora_subscriber_poll(handle, 1, take_message, NULL, NULL), expected);
    CODE(memora_subscriber_poll_in_place(handle, 1, take_message, NULL, NULL), expected);
    CODE(memora_subscriber_commit(handle), expected);
    CODE(memora_store_get(handle, "k", 1, buffer, sizeof buffer, &len), expected);
    CODE(memora_store_get_entry(handle, "k", 1, buffer, sizeof buffer, &len, NULL), expected);
    CODE(memora_store_set(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_store_set_durable(handle, "k", 1, "v", 1, MEMORA_DURABILITY_SYNC, NULL), expected);
    CODE(memora_store_add(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_store_replace(handle, "k", 1, "v", 1, NULL, NULL), expected);
    CODE(memora_store_compare_and_swap(handle, "k", 1, "v", 1, 1, NULL, NULL), expected);
    CODE(memora_store_delete(handle, "k", 1), expected);
    CODE(memora_store_increment(handle, "k", 1, 1, NULL, NULL), expected);
    CODE(memora_store_decrement(handle, "k", 1, 1, NULL, NULL), expected);
    CODE(memora_store_len(handle, &number), expected);
    CODE(memora_store_scan(handle, &cursor, 1, take_entry, NULL), expected);
    CODE(memora_store_flush(handle), expected);
    CODE(memora_store_checkpoint(handle), expected);
    CODE(memora_store_set_shards(handle, 2), expected);
}

static void every_close_gives(void *handle, int expected) {
    CODE(memora_cache_close(handle), expected);
    CODE(memora_view_release(handle), expected);
    CODE(memora_events_close(handle), expected);
    CODE(memora_token_abandon(handle), expected);
    CODE(memora_publisher_close(handle), expected);
    CODE(memora_subscriber_close(handle), expected);
    CODE(memora_channel_close(handle), expected);
    CODE(memora_store_close(handle), expected);
    CODE(memora_fabric_close(handle), expected);
}

static void no_number_is_followed(void) {
    static const size_t numbers[] = {1, 7, 0xffff, 0x10000, 0x12345678, (size_t)-1, (size_t)1 << 63};
    int local = 0;
    void *allocated = malloc(16);
    size_t i;
    every_call_gives(NULL, MEMORA_INVALID_ARGUMENT);
    every_close_gives(NULL, MEMORA_OK);
    for (i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        every_call_gives((void *)numbers[i], MEMORA_CLOSED);
        every_close_gives((void *)numbers[i], MEMORA_CLOSED);
    }
    every_call_gives(&local, MEMORA_CLOSED);
    every_close_gives(allocated, MEMORA_CLOSED);
    free(allocated);
}

static void what_was_opened_through_a_closed_fabric_stays_open(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *cache = NULL;
    char buffer[8];
    size_t len;
    OK(memora_fabric_open("test", &own));
    OK(memora_cache_open(own, "whole", NULL, &cache));
    OK(memora_fabric_close(own));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_cache_get(cache, "k", 1, buffer, sizeof buffer, &len));
    OK(memora_cache_close(cache));
    CODE(memora_cache_get(cache, "k", 1, buffer, sizeof buffer, &len), MEMORA_CLOSED);
}

static void a_handle_of_another_kind_is_refused(void) {
    memora_cache_t *cache = NULL;
    char buffer[8];
    size_t len;
    OK(memora_cache_open(fabric, "kind", NULL, &cache));
    CODE(memora_store_get((memora_store_t *)(void *)cache, "k", 1, buffer, sizeof buffer, &len), MEMORA_INVALID_ARGUMENT);
    CHECK(strstr(memora_last_error_message(), "cache") != NULL);
    CODE(memora_store_close((memora_store_t *)(void *)cache), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_cache_close(cache));
}

static void a_closed_handle_stays_closed_when_its_place_is_used_again(void) {
    memora_cache_t *first = NULL, *cache = NULL;
    int turn;
    OK(memora_cache_open(fabric, "reuse", NULL, &first));
    OK(memora_cache_set(first, "k", 1, "v", 1, NULL, NULL));
    OK(memora_cache_close(first));
    for (turn = 0; turn < 100; turn++) {
        OK(memora_cache_open(fabric, "reuse", NULL, &cache));
        CHECK(cache != first);
        CODE(memora_cache_set(first, "k", 1, "w", 1, NULL, NULL), MEMORA_CLOSED);
        CODE(memora_cache_close(first), MEMORA_CLOSED);
        OK(memora_cache_set(cache, "k", 1, "x", 1, NULL, NULL));
        OK(memora_cache_close(cache));
        CODE(memora_cache_close(cache), MEMORA_CLOSED);
    }
    every_call_gives(first, MEMORA_CLOSED);
}

struct race {
    memora_cache_t *cache;
    int others;
};

static void *use_until_closed(void *context) {
    struct race *race = context;
    char buffer[16];
    size_t len;
    int result;
    do {
        result = memora_cache_get(race->cache, "k", 1, buffer, sizeof buffer, &len);
        if (result == MEMORA_OK && (len != 1 || buffer[0] != 'v')) race->others++;
    } while (result == MEMORA_OK);
    if (result != MEMORA_CLOSED) race->others++;
    return NULL;
}

static void a_handle_may_be_closed_under_the_threads_that_use_it(void) {
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    int round, i;
    for (round = 0; round < 20; round++) {
        struct race race = {NULL, 0};
        OK(memora_cache_open(fabric, "race", NULL, &race.cache));
        OK(memora_cache_set(race.cache, "k", 1, "v", 1, NULL, NULL));
        for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, use_until_closed, &race) == 0);
        sleep_ms(2);
        OK(memora_cache_close(race.cache));
        for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(race.others == 0);
    }
}

/* A callback that closes the cache that calls it, and one that goes deeper and deeper. */
struct within {
    memora_cache_t *cache;
    int calls, depth, deepest;
    int refused;
};

static void close_from_within(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                              const memora_entry_t *entry) {
    struct within *within = context;
    (void)key, (void)key_len, (void)value, (void)entry;
    CHECK(value_len == 1);
    if (within->calls++ == 0) OK(memora_cache_close(within->cache));
    CODE(memora_cache_set(within->cache, "x", 1, "y", 1, NULL, NULL), MEMORA_CLOSED);
}

static void deeper(void *context, size_t index, const void *value, size_t value_len) {
    struct within *within = context;
    memora_bytes_t key = {"k", 1};
    int result;
    (void)index, (void)value, (void)value_len;
    within->depth++;
    if (within->depth > within->deepest) within->deepest = within->depth;
    result = memora_cache_get_many(within->cache, &key, 1, deeper, within);
    if (result == MEMORA_BUSY) within->refused++;
    else CODE(result, MEMORA_OK);
    within->depth--;
}

static void a_callback_may_close_what_calls_it_and_go_only_so_deep(void) {
    struct within within = {NULL, 0, 0, 0, 0};
    memora_bytes_t key = {"k", 1};
    uint64_t cursor = 0;
    char name[16], value[8];
    size_t len = 0;
    int i;
    OK(memora_cache_open(fabric, "within", NULL, &within.cache));
    for (i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "key %d", i);
        OK(memora_cache_set(within.cache, name, strlen(name), "v", 1, NULL, NULL));
    }
    OK(memora_cache_scan(within.cache, &cursor, 1000, close_from_within, &within));
    CHECK(within.calls > 1);
    CODE(memora_cache_len(within.cache, &cursor), MEMORA_CLOSED);
    OK(memora_cache_open(fabric, "within", NULL, &within.cache));
    OK(memora_cache_set(within.cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_cache_get_many(within.cache, &key, 1, deeper, &within));
    CHECK(within.deepest >= 8 && within.refused == 1 && within.depth == 0);
    OK(memora_cache_get(within.cache, "k", 1, value, sizeof value, &len));
    OK(memora_cache_close(within.cache));
}

/* The last call of a thread comes from a destructor of its own, when the library's may have run. */
static pthread_key_t last_words;

static void call_at_the_end(void *context) {
    char value[8];
    size_t len = 0;
    int turn;
    for (turn = 0; turn < 3; turn++) OK(memora_cache_get(context, "k", 1, value, sizeof value, &len));
    /* Once more in the next round of destructors. */
    if (*(char *)value == 'v' && pthread_getspecific(last_words) == NULL && len == 1) {
        static volatile int rounds;
        if (rounds++ < 2) pthread_setspecific(last_words, context);
    }
}

static void *use_and_end(void *context) {
    char value[8];
    size_t len = 0;
    pthread_setspecific(last_words, context);
    OK(memora_cache_get(context, "k", 1, value, sizeof value, &len));
    return NULL;
}

static void a_thread_may_call_while_it_ends(void) {
    memora_cache_t *cache = NULL;
    pthread_t thread;
    int i;
    CHECK(pthread_key_create(&last_words, call_at_the_end) == 0);
    OK(memora_cache_open(fabric, "ending", NULL, &cache));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    for (i = 0; i < 50; i++) {
        CHECK(pthread_create(&thread, NULL, use_and_end, cache) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    OK(memora_cache_close(cache));
    CHECK(pthread_key_delete(last_words) == 0);
}

static void take_process_count(uint64_t expected) {
    memora_fabric_t *own = NULL;
    memora_fabric_stat_t stat;
    OK(memora_fabric_open("test", &own));
    OK(memora_fabric_stat(own, &stat, sizeof stat));
    CHECK(stat.processes == expected);
    OK(memora_fabric_close(own));
}

/* What was closed under a call is dropped when that call ends, not later: an attachment shows it. */
static void *receive_until_closed(void *context) {
    char buffer[8];
    CODE(memora_subscriber_recv(context, buffer, sizeof buffer, MEMORA_FOREVER, NULL), MEMORA_CLOSED);
    return NULL;
}

static void what_is_closed_under_a_call_goes_with_that_call(void) {
    memora_channel_options_t made;
    memora_fabric_t *own = NULL;
    memora_channel_t *channel = NULL;
    memora_subscriber_t *subscriber = NULL;
    pthread_t thread;
    OK(memora_channel_options_init(&made, sizeof made));
    OK(memora_fabric_open("test", &own));
    OK(memora_channel_open(own, "goes", &made, &channel));
    OK(memora_subscriber_open(channel, NULL, &subscriber));
    CHECK(pthread_create(&thread, NULL, receive_until_closed, subscriber) == 0);
    sleep_ms(20);
    OK(memora_channel_close(channel));
    OK(memora_fabric_close(own));
    /* The fabric `test` of this program, `own` held by the subscriber, and the one that counts. */
    take_process_count(3);
    OK(memora_subscriber_close(subscriber));
    CHECK(pthread_join(thread, NULL) == 0);
    take_process_count(2);
}

static void *close_it(void *context) {
    return memora_cache_close(context) == MEMORA_OK ? context : NULL;
}

static void of_two_that_close_one_succeeds(void) {
    int round;
    for (round = 0; round < 200; round++) {
        memora_cache_t *cache = NULL;
        pthread_t thread;
        void *other = NULL;
        int here;
        OK(memora_cache_open(fabric, "twice", NULL, &cache));
        CHECK(pthread_create(&thread, NULL, close_it, cache) == 0);
        here = memora_cache_close(cache) == MEMORA_OK;
        CHECK(pthread_join(thread, &other) == 0);
        CHECK(here + (other != NULL) == 1);
    }
}

static memora_cache_t *parents_cache;

static int in_a_child(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *cache = NULL;
    char buffer[8];
    size_t len = 0;
    CODE(memora_cache_get(parents_cache, "k", 1, buffer, sizeof buffer, &len), MEMORA_FORKED);
    CODE(memora_cache_set(parents_cache, "k", 1, "w", 1, NULL, NULL), MEMORA_FORKED);
    CODE(memora_cache_open(fabric, "fork", NULL, &cache), MEMORA_FORKED);
    CODE(memora_cache_close(parents_cache), MEMORA_FORKED);
    CODE(memora_fabric_close(fabric), MEMORA_FORKED);
    CHECK(strstr(memora_last_error_message(), "child") != NULL);
    OK(memora_fabric_open("test", &own));
    OK(memora_cache_open(own, "fork", NULL, &cache));
    OK(memora_cache_get(cache, "k", 1, buffer, sizeof buffer, &len));
    CHECK(len == 1 && buffer[0] == 'v');
    OK(memora_cache_set(cache, "child", 5, "c", 1, NULL, NULL));
    CODE(memora_cache_set(parents_cache, "k", 1, "w", 1, NULL, NULL), MEMORA_FORKED);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(own));
    return 7;
}

static void a_forked_child_is_told_and_may_open_anew(void) {
    char buffer[8];
    size_t len = 0;
    OK(memora_cache_open(fabric, "fork", NULL, &parents_cache));
    OK(memora_cache_set(parents_cache, "k", 1, "v", 1, NULL, NULL));
    CHECK(wait_for(start(in_a_child)) == 7);
    OK(memora_cache_get(parents_cache, "child", 5, buffer, sizeof buffer, &len));
    OK(memora_cache_set(parents_cache, "k", 1, "w", 1, NULL, NULL));
    OK(memora_cache_close(parents_cache));
}

static int open_and_leave(void) {
    memora_fabric_t *own = NULL;
    return memora_fabric_open("test", &own) == MEMORA_OK ? 7 : 1;
}

static void *open_and_close(void *context) {
    volatile int *stop = context;
    while (!*stop) {
        memora_cache_t *cache = NULL;
        if (memora_cache_open(fabric, "busy", NULL, &cache) == MEMORA_OK) memora_cache_close(cache);
    }
    return NULL;
}

static void a_fork_in_the_middle_of_another_threads_call_does_no_harm(void) {
    static volatile int stop;
    pthread_t thread;
    int round;
    CHECK(pthread_create(&thread, NULL, open_and_close, (void *)(size_t)&stop) == 0);
    for (round = 0; round < 20; round++) CHECK(wait_for(start(open_and_leave)) == 7);
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
}

static void all_handles_may_be_taken(void) {
    enum { COUNT = 70000 };
    memora_fabric_t *own = NULL;
    memora_cache_t **caches = calloc(COUNT, sizeof *caches);
    int opened = 0, result = MEMORA_OK, i;
    OK(memora_fabric_open("test", &own));
    while (opened < COUNT) {
        result = memora_cache_open(own, "many", NULL, &caches[opened]);
        if (result != MEMORA_OK) break;
        opened++;
    }
    CHECK(result == MEMORA_FULL && opened > 60000);
    CHECK(caches[opened] == NULL);
    for (i = 0; i < opened; i++) {
        if (memora_cache_close(caches[i]) != MEMORA_OK) break;
    }
    CHECK(i == opened);
    OK(memora_cache_open(own, "many", NULL, &caches[0]));
    OK(memora_cache_close(caches[0]));
    OK(memora_fabric_close(own));
    free(caches);
}

int main(int argc, char **argv) {
    begin("handles", argc, argv);
    TEST(no_number_is_followed);
    OK(memora_fabric_open("test", &fabric));
    TEST(no_number_is_followed);
    TEST(a_handle_of_another_kind_is_refused);
    TEST(what_was_opened_through_a_closed_fabric_stays_open);
    TEST(a_closed_handle_stays_closed_when_its_place_is_used_again);
    TEST(a_handle_may_be_closed_under_the_threads_that_use_it);
    TEST(of_two_that_close_one_succeeds);
    TEST(a_callback_may_close_what_calls_it_and_go_only_so_deep);
    TEST(a_thread_may_call_while_it_ends);
    TEST(what_is_closed_under_a_call_goes_with_that_call);
    TEST(a_forked_child_is_told_and_may_open_anew);
    TEST(a_fork_in_the_middle_of_another_threads_call_does_no_harm);
    TEST(all_handles_may_be_taken);
    OK(memora_fabric_close(fabric));
    every_call_gives(fabric, MEMORA_CLOSED);
    return finish();
}
