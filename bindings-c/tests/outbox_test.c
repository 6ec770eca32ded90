/* Messages of transactions: they come with the commit, or not at all. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_store_t *store;

static memora_channel_t *channel_in(memora_fabric_t *in, const char *name, unsigned kind, unsigned lane_bytes) {
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.kind = kind;
    options.lane_bytes = lane_bytes;
    OK(memora_channel_open(in, name, &options, &made));
    return made;
}

static memora_channel_t *channel(const char *name, unsigned kind, unsigned lane_bytes) {
    return channel_in(fabric, name, kind, lane_bytes);
}

static memora_outbox_t *outbox_of(memora_channel_t *of) {
    memora_outbox_t *made = NULL;
    OK(memora_channel_outbox(of, &made));
    CHECK(made != NULL);
    return made;
}

static memora_transaction_t *begun(void) {
    memora_transaction_t *made = NULL;
    OK(memora_transaction_begin(store, &made));
    return made;
}

static int put(memora_transaction_t *transaction, const char *key, const char *value) {
    return memora_transaction_put(transaction, key, strlen(key), value, strlen(value), NULL);
}

static int publish(memora_transaction_t *transaction, memora_outbox_t *outbox, const char *message) {
    return memora_transaction_publish(transaction, outbox, message, strlen(message));
}

static int has(const char *key, const char *value) {
    char buffer[64];
    size_t len = 0;
    int result = memora_store_get(store, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static int receives(memora_subscriber_t *subscriber, const char *expected) {
    char buffer[64];
    memora_message_t message;
    int result = memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, &message);
    if (!expected) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && message.len == strlen(expected) && memcmp(buffer, expected, message.len) == 0;
}

static int takes(memora_consumer_t *consumer, const char *expected) {
    char buffer[64];
    memora_delivery_t delivery;
    int result = memora_consumer_try_recv(consumer, buffer, sizeof buffer, &delivery);
    if (!expected) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && delivery.len == strlen(expected) && memcmp(buffer, expected, delivery.len) == 0;
}

static void messages_come_with_the_commit_and_not_before_and_never_without(void) {
    memora_channel_t *broadcast = channel("broadcast", MEMORA_CHANNEL_BROADCAST, 0), *queue = channel("queue", MEMORA_CHANNEL_QUEUE, 0);
    memora_outbox_t *told = outbox_of(broadcast), *work = outbox_of(queue);
    memora_subscriber_t *subscriber = NULL;
    memora_consumer_t *consumer = NULL;
    memora_transaction_t *transaction, *other;
    OK(memora_subscriber_open(broadcast, NULL, &subscriber));
    OK(memora_consumer_open(queue, &consumer));

    transaction = begun();
    OK(put(transaction, "k", "1"));
    OK(publish(transaction, told, "one"));
    OK(publish(transaction, work, "do one"));
    OK(publish(transaction, told, ""));
    OK(publish(transaction, told, "two"));
    CHECK(receives(subscriber, NULL) && takes(consumer, NULL) && has("k", NULL));
    OK(memora_transaction_commit(transaction));
    CHECK(has("k", "1") && receives(subscriber, "one") && receives(subscriber, "") && receives(subscriber, "two"));
    CHECK(receives(subscriber, NULL) && takes(consumer, "do one") && takes(consumer, NULL));
    CODE(publish(transaction, told, "late"), MEMORA_CLOSED);

    transaction = begun();
    OK(publish(transaction, told, "aborted"));
    OK(publish(transaction, work, "aborted"));
    OK(memora_transaction_abort(transaction));
    /* One that is in the way of another. */
    transaction = begun();
    other = begun();
    OK(memora_transaction_expect(transaction, "new", 3, NULL));
    OK(publish(transaction, told, "never"));
    OK(publish(transaction, work, "never"));
    OK(put(transaction, "k", "2"));
    OK(put(other, "new", "x"));
    OK(publish(other, told, "other"));
    OK(memora_transaction_commit(other));
    CODE(memora_transaction_commit(transaction), MEMORA_CONFLICT);
    CHECK(has("k", "1") && receives(subscriber, "other") && receives(subscriber, NULL) && takes(consumer, NULL));

    /* Nothing but messages. The handle may go before the commit. */
    transaction = begun();
    OK(publish(transaction, told, "last"));
    OK(publish(transaction, work, "last"));
    OK(memora_outbox_close(told));
    CODE(publish(transaction, told, "x"), MEMORA_CLOSED);
    CODE(memora_outbox_close(told), MEMORA_CLOSED);
    OK(memora_channel_close(broadcast));
    OK(memora_transaction_commit(transaction));
    CHECK(receives(subscriber, "last") && takes(consumer, "last"));
    OK(memora_outbox_close(work));
    OK(memora_outbox_close(NULL));
    OK(memora_subscriber_close(subscriber));
    OK(memora_consumer_close(consumer));
    OK(memora_channel_close(queue));
}

static int fill(memora_outbox_t *outbox, const char *number) {
    char message[1000];
    memora_transaction_t *transaction = begun();
    memset(message, 'm', sizeof message);
    OK(put(transaction, "filled", number));
    OK(memora_transaction_publish(transaction, outbox, message, sizeof message));
    return memora_transaction_commit(transaction);
}

static void without_room_nothing_is_done(void) {
    memora_channel_t *made = channel("small", MEMORA_CHANNEL_BROADCAST, 16 << 10);
    memora_outbox_t *outbox = outbox_of(made);
    memora_subscriber_t *slow = NULL;
    char number[16], before[16], buffer[1000];
    int sent = 0, taken = 0, result;
    OK(memora_subscriber_open(made, "slow", &slow));
    do {
        snprintf(before, sizeof before, "%d", sent);
        snprintf(number, sizeof number, "%d", ++sent);
        result = fill(outbox, number);
    } while (result == MEMORA_OK && sent < 100);
    CODE(result, MEMORA_BACK_PRESSURE);
    CHECK(sent > 1 && has("filled", before));
    while (memora_subscriber_try_recv(slow, buffer, sizeof buffer, NULL) == MEMORA_OK) taken++;
    CHECK(taken == sent - 1);
    OK(memora_subscriber_commit(slow));
    OK(fill(outbox, "again"));
    CHECK(has("filled", "again"));
    OK(memora_subscriber_try_recv(slow, buffer, sizeof buffer, NULL));
    OK(memora_subscriber_close(slow));
    OK(memora_outbox_close(outbox));
    OK(memora_channel_close(made));
}

static void what_is_refused_leaves_the_transaction_as_it_was(void) {
    memora_channel_t *made = channel("refusing", MEMORA_CHANNEL_BROADCAST, 16 << 10), *log = NULL, *foreign = NULL;
    memora_log_options_t log_options;
    memora_outbox_t *outbox = outbox_of(made), *none = (memora_outbox_t *)&log_options;
    memora_subscriber_t *subscriber = NULL;
    memora_fabric_t *other = NULL;
    memora_transaction_t *transaction = begun();
    char *big = calloc(1, 64u << 20);
    OK(memora_subscriber_open(made, NULL, &subscriber));

    OK(memora_log_options_init(&log_options, sizeof log_options));
    log_options.bytes = 256 << 10;
    OK(memora_log_open(fabric, "log", &log_options, &log));
    CODE(memora_channel_outbox(log, &none), MEMORA_WRONG_KIND);
    CHECK(none == NULL);
    CODE(memora_channel_outbox(made, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_channel_outbox(NULL, &none), MEMORA_INVALID_ARGUMENT);

    OK(memora_fabric_open("other", &other));
    foreign = channel_in(other, "refusing", MEMORA_CHANNEL_BROADCAST, 16 << 10);
    OK(put(transaction, "refused", "kept"));
    OK(publish(transaction, outbox, "kept"));
    none = outbox_of(foreign);
    CODE(publish(transaction, none, "x"), MEMORA_INVALID_ARGUMENT);
    OK(memora_outbox_close(none));
    CODE(publish(transaction, none, "x"), MEMORA_CLOSED);
    CODE(publish(transaction, NULL, "x"), MEMORA_INVALID_ARGUMENT);
    CODE(publish(transaction, (memora_outbox_t *)made, "x"), MEMORA_INVALID_ARGUMENT);
    CODE(publish(NULL, outbox, "x"), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_publish(transaction, outbox, NULL, 1), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_publish(transaction, outbox, big, 16 << 10), MEMORA_VALUE_TOO_LONG);
    CODE(memora_transaction_publish(transaction, outbox, big, 64u << 20), MEMORA_TRANSACTION_TOO_LARGE);
    /* Together they may take what one may. */
    OK(memora_transaction_publish(transaction, outbox, big, 4000));
    CODE(memora_transaction_publish(transaction, outbox, big, 5000), MEMORA_VALUE_TOO_LONG);
    OK(memora_transaction_commit(transaction));
    CHECK(has("refused", "kept") && receives(subscriber, "kept"));
    OK(memora_subscriber_try_recv(subscriber, big, 4000, NULL));
    CHECK(receives(subscriber, NULL));

    free(big);
    OK(memora_channel_close(foreign));
    OK(memora_fabric_close(other));
    OK(memora_channel_close(log));
    OK(memora_subscriber_close(subscriber));
    OK(memora_outbox_close(outbox));
    OK(memora_channel_close(made));
}

enum { THREADS = 4, TURNS = 200 };

struct counter {
    memora_outbox_t *outbox;
    int done;
};

/* Counts on, and says the new number. */
static int count(void *context, memora_transaction_t *transaction) {
    char value[32];
    size_t len = 0;
    long number = 0;
    int result = memora_transaction_get(transaction, "count", 5, value, sizeof value - 1, &len);
    if (result == MEMORA_OK) {
        value[len] = 0;
        number = atol(value);
    } else if (result != MEMORA_NOT_FOUND) {
        return result;
    }
    snprintf(value, sizeof value, "%ld", number + 1);
    result = put(transaction, "count", value);
    return result != MEMORA_OK ? result : publish(transaction, context, value);
}

static void *counts(void *context) {
    struct counter *counter = context;
    int i;
    for (i = 0; i < TURNS; i++) counter->done += memora_store_transact(store, count, counter->outbox) == MEMORA_OK;
    return NULL;
}

static void threads_share_an_outbox_and_messages_come_in_the_order_of_commits(void) {
    memora_channel_t *made = channel("shared", MEMORA_CHANNEL_BROADCAST, 1 << 20);
    memora_subscriber_t *subscriber = NULL;
    pthread_t threads[THREADS];
    struct counter counters[THREADS];
    memora_outbox_t *outbox = outbox_of(made);
    int i, all = 0, in_order = 1;
    char expected[32];
    OK(memora_subscriber_open(made, NULL, &subscriber));
    for (i = 0; i < THREADS; i++) {
        counters[i].outbox = outbox;
        counters[i].done = 0;
        CHECK(pthread_create(&threads[i], NULL, counts, &counters[i]) == 0);
    }
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    for (i = 0; i < THREADS; i++) all += counters[i].done;
    CHECK(all == THREADS * TURNS);
    for (i = 1; i <= all; i++) {
        snprintf(expected, sizeof expected, "%d", i);
        in_order = in_order && receives(subscriber, expected);
    }
    CHECK(in_order && receives(subscriber, NULL));
    OK(memora_outbox_close(outbox));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_forked_child_is_refused(void) {
    memora_channel_t *made = channel("forked", MEMORA_CHANNEL_QUEUE, 0);
    memora_outbox_t *outbox = outbox_of(made), *other = NULL;
    memora_transaction_t *transaction = begun();
    memora_consumer_t *consumer = NULL;
    pid_t child;
    OK(memora_consumer_open(made, &consumer));
    OK(publish(transaction, outbox, "of the parent"));
    child = fork();
    if (child == 0) {
        _exit(publish(transaction, outbox, "x") == MEMORA_FORKED && memora_channel_outbox(made, &other) == MEMORA_FORKED &&
                      memora_outbox_close(outbox) == MEMORA_FORKED && memora_transaction_commit(transaction) == MEMORA_FORKED
                  ? 0 : 1);
    }
    CHECK(wait_for(child) == 0);
    CHECK(takes(consumer, NULL));
    OK(memora_transaction_commit(transaction));
    CHECK(takes(consumer, "of the parent") && takes(consumer, NULL));
    OK(memora_consumer_close(consumer));
    OK(memora_outbox_close(outbox));
    OK(memora_channel_close(made));
}

static int holds(memora_cache_t *cache, const char *key, const char *expected) {
    char buffer[32];
    size_t len = 0;
    int result = memora_cache_get(cache, key, strlen(key), buffer, sizeof buffer, &len);
    if (expected == NULL) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(expected) && memcmp(buffer, expected, len) == 0;
}

static void entries_of_caches_change_with_the_commit(void) {
    memora_cache_options_t options;
    memora_cache_t *cache = NULL, *plain = NULL;
    memora_transaction_t *transaction = NULL;
    int commits;
    OK(memora_cache_options_init(&options, sizeof options));
    options.transactions = 1;
    OK(memora_cache_open(fabric, "with", &options, &cache));
    OK(memora_cache_open(fabric, "without", NULL, &plain));
    OK(memora_cache_set(cache, "gone", 4, "there", 5, NULL, NULL));
    for (commits = 0; commits < 2; commits++) {
        transaction = begun();
        OK(memora_transaction_cache_set(transaction, cache, "k", 1, "value", 5, NULL));
        OK(memora_transaction_cache_delete(transaction, cache, "gone", 4));
        OK(memora_transaction_cache_delete(transaction, cache, "never there", 11));
        CODE(memora_transaction_cache_set(transaction, plain, "k", 1, "value", 5, NULL), MEMORA_INVALID_ARGUMENT);
        CODE(memora_transaction_cache_set(transaction, cache, NULL, 1, "value", 5, NULL), MEMORA_INVALID_ARGUMENT);
        CODE(memora_transaction_cache_delete(transaction, NULL, "k", 1), MEMORA_INVALID_ARGUMENT);
        CHECK(holds(cache, "k", NULL) && holds(cache, "gone", "there"));
        OK(commits ? memora_transaction_commit(transaction) : memora_transaction_abort(transaction));
    }
    CHECK(holds(cache, "k", "value") && holds(cache, "gone", NULL) && holds(plain, "k", NULL));
    CODE(memora_transaction_cache_delete(transaction, cache, "k", 1), MEMORA_CLOSED);
    OK(memora_cache_close(cache));
    OK(memora_cache_close(plain));
}

static void print_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context;
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
}

static void the_fabric_is_sound(void) {
    size_t problems = 1;
    OK(memora_fabric_check(fabric, print_problem, NULL, &problems));
    CHECK(problems == 0);
}

int main(int argc, char **argv) {
    memora_store_options_t options;
    begin("outbox", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    OK(memora_store_options_init(&options, sizeof options));
    options.durability = MEMORA_DURABILITY_PROCESS;
    OK(memora_store_open(fabric, "store", &options, &store));
    TEST(messages_come_with_the_commit_and_not_before_and_never_without);
    TEST(without_room_nothing_is_done);
    TEST(what_is_refused_leaves_the_transaction_as_it_was);
    TEST(threads_share_an_outbox_and_messages_come_in_the_order_of_commits);
    TEST(entries_of_caches_change_with_the_commit);
    TEST(a_forked_child_is_refused);
    TEST(the_fabric_is_sound);
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    return finish();
}
