/* Transactions of stores: each call, each error, and money that two processes move about. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_store_t *store;
static char dir[512];

static memora_store_t *open_kept(memora_fabric_t *in) {
    memora_store_options_t made;
    memora_store_t *opened = NULL;
    OK(memora_store_options_init(&made, sizeof made));
    made.dir = dir;
    OK(memora_store_open(in, "kept", &made, &opened));
    return opened;
}

static int set(const char *key, const char *value) {
    return memora_store_set(store, key, strlen(key), value, strlen(value), NULL, NULL);
}

static int is(const char *key, const char *value) {
    char buffer[256];
    size_t len = 0;
    int result = memora_store_get(store, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static memora_transaction_t *begun(void) {
    memora_transaction_t *made = NULL;
    OK(memora_transaction_begin(store, &made));
    CHECK(made != NULL);
    return made;
}

static int put(memora_transaction_t *transaction, const char *key, const char *value) {
    return memora_transaction_put(transaction, key, strlen(key), value, strlen(value), NULL);
}

static int sees(memora_transaction_t *transaction, const char *key, const char *value) {
    char buffer[256];
    size_t len = 0;
    int result = memora_transaction_get(transaction, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static int drop(memora_transaction_t *transaction, const char *key) {
    return memora_transaction_delete(transaction, key, strlen(key));
}

/* Every call but begin gives this code. */
static void every_call_gives(memora_transaction_t *transaction, int expected) {
    char buffer[16];
    size_t len = 7;
    uint64_t version = 1;
    CODE(memora_transaction_get(transaction, "k", 1, buffer, sizeof buffer, &len), expected);
    CODE(memora_transaction_get_entry(transaction, "k", 1, buffer, sizeof buffer, &len, NULL), expected);
    CODE(put(transaction, "k", "v"), expected);
    CODE(drop(transaction, "k"), expected);
    CODE(memora_transaction_expect(transaction, "k", 1, &version), expected);
    CODE(memora_transaction_set_durability(transaction, MEMORA_DURABILITY_ASYNC), expected);
    CODE(memora_transaction_commit(transaction), expected);
    CHECK(len == 7);
}

static void a_transaction_sees_its_own_changes_and_others_all_or_nothing(void) {
    memora_transaction_t *transaction;
    memora_set_options_t options;
    memora_entry_t entry;
    char buffer[8];
    size_t len = 0;
    OK(set("there", "old"));
    OK(set("gone", "x"));
    transaction = begun();
    CHECK(sees(transaction, "there", "old") && sees(transaction, "fresh", NULL));
    OK(put(transaction, "there", "new"));
    OK(memora_set_options_init(&options, sizeof options));
    options.ttl_ms = 3600000;
    options.flags = 9;
    OK(memora_transaction_put(transaction, "fresh", 5, "value", 5, &options));
    OK(drop(transaction, "gone"));
    CODE(drop(transaction, "gone"), MEMORA_NOT_FOUND);
    CODE(drop(transaction, "never"), MEMORA_NOT_FOUND);
    CHECK(sees(transaction, "there", "new") && sees(transaction, "fresh", "value") && sees(transaction, "gone", NULL));
    OK(memora_transaction_get_entry(transaction, "fresh", 5, buffer, sizeof buffer, &len, &entry));
    CHECK(len == 5 && entry.version == 0 && entry.flags == 9 && entry.ttl_ms == 3600000);
    CHECK(is("there", "old") && is("fresh", NULL) && is("gone", "x"));
    OK(memora_transaction_commit(transaction));
    CHECK(is("there", "new") && is("fresh", "value") && is("gone", NULL));
    OK(memora_store_get_entry(store, "fresh", 5, buffer, sizeof buffer, &len, &entry));
    CHECK(entry.flags == 9 && entry.ttl_ms <= 3600000 && entry.ttl_ms > 3500000);
    every_call_gives(transaction, MEMORA_CLOSED);
    CODE(memora_transaction_abort(transaction), MEMORA_CLOSED);

    transaction = begun();
    OK(put(transaction, "there", "never"));
    OK(drop(transaction, "fresh"));
    OK(memora_transaction_abort(transaction));
    CHECK(is("there", "new") && is("fresh", "value"));
    every_call_gives(transaction, MEMORA_CLOSED);
    CODE(memora_transaction_abort(transaction), MEMORA_CLOSED);
    OK(memora_transaction_abort(NULL));
}

static void a_buffer_that_is_too_small_is_told_the_length(void) {
    memora_transaction_t *transaction = begun();
    char buffer[8] = "untouch";
    size_t len = 0;
    OK(set("sized", "123456"));
    CODE(memora_transaction_get(transaction, "sized", 5, NULL, 0, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(len == 6 && memora_last_error_amount() == 6);
    CODE(memora_transaction_get(transaction, "sized", 5, buffer, 5, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(strcmp(buffer, "untouch") == 0);
    OK(memora_transaction_get(transaction, "sized", 5, buffer, 6, &len));
    CHECK(memcmp(buffer, "123456", 6) == 0);
    OK(memora_transaction_commit(transaction));
}

static void what_was_read_must_still_be_so(void) {
    memora_transaction_t *transaction = begun(), *other;
    uint64_t version = 0, older;
    OK(set("read", "1"));
    CHECK(sees(transaction, "read", "1"));
    OK(put(transaction, "written", "mine"));
    OK(set("read", "2"));
    CODE(memora_transaction_commit(transaction), MEMORA_CONFLICT);
    CHECK(is("written", NULL));
    CODE(memora_transaction_abort(transaction), MEMORA_CLOSED);

    /* Seen at the second read already. */
    transaction = begun();
    CHECK(sees(transaction, "read", "2"));
    OK(set("read", "3"));
    CODE(memora_transaction_get(transaction, "read", 4, NULL, 0, NULL), MEMORA_CONFLICT);
    OK(memora_transaction_abort(transaction));

    /* Write skew: each writes what the other has read. */
    transaction = begun();
    other = begun();
    CHECK(sees(transaction, "read", "3") && sees(other, "there", "new"));
    OK(put(transaction, "there", "a"));
    OK(put(other, "read", "b"));
    OK(memora_transaction_commit(transaction));
    CODE(memora_transaction_commit(other), MEMORA_CONFLICT);
    CHECK(is("there", "a") && is("read", "3"));

    OK(memora_store_set(store, "versioned", 9, "v", 1, NULL, &version));
    older = version - 1;
    transaction = begun();
    OK(memora_transaction_expect(transaction, "versioned", 9, &version));
    OK(memora_transaction_expect(transaction, "absent", 6, NULL));
    CODE(memora_transaction_expect(transaction, "versioned", 9, &older), MEMORA_CONFLICT);
    CODE(memora_transaction_expect(transaction, "versioned", 9, NULL), MEMORA_CONFLICT);
    CODE(memora_transaction_expect(transaction, "absent", 6, &version), MEMORA_CONFLICT);
    OK(put(transaction, "versioned", "w"));
    OK(memora_transaction_commit(transaction));
    CHECK(is("versioned", "w"));
    transaction = begun();
    OK(memora_transaction_expect(transaction, "absent", 6, NULL));
    OK(set("absent", "not any more"));
    OK(put(transaction, "versioned", "x"));
    CODE(memora_transaction_commit(transaction), MEMORA_CONFLICT);
    CHECK(is("versioned", "w"));
}

static void what_is_refused_leaves_the_transaction_as_it_was(void) {
    memora_transaction_t *transaction = begun(), *none = NULL;
    memora_store_t *closed = NULL;
    memora_set_options_t options;
    char *big = calloc(1, 64u << 20);
    size_t len = 0;
    uint32_t number;
    int result = MEMORA_OK;
    CODE(memora_transaction_put(transaction, big, 100000, "v", 1, NULL), MEMORA_KEY_TOO_LONG);
    CODE(memora_transaction_put(transaction, "", 0, "v", 1, NULL), MEMORA_KEY_TOO_LONG);
    CODE(memora_transaction_put(transaction, "k", 1, big, 64u << 20, NULL), MEMORA_VALUE_TOO_LONG);
    CODE(memora_transaction_put(transaction, NULL, 1, "v", 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_put(transaction, "k", 1, NULL, 1, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_set_options_init(&options, sizeof options));
    options.struct_size = 3;
    CODE(memora_transaction_put(transaction, "k", 1, "v", 1, &options), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_get(transaction, NULL, 1, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_get(transaction, "k", 1, NULL, 9, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_get(transaction, big, 100000, big, 10, &len), MEMORA_NOT_FOUND);
    CODE(memora_transaction_delete(transaction, NULL, 1), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_expect(transaction, NULL, 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_set_durability(transaction, 99), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_begin(store, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_begin(NULL, &none), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_begin((memora_store_t *)(void *)transaction, &none), MEMORA_INVALID_ARGUMENT);
    every_call_gives((memora_transaction_t *)(void *)store, MEMORA_INVALID_ARGUMENT);
    every_call_gives(NULL, MEMORA_INVALID_ARGUMENT);
    every_call_gives((memora_transaction_t *)(void *)big, MEMORA_CLOSED);
    closed = open_kept(fabric);
    OK(memora_store_close(closed));
    CODE(memora_transaction_begin(closed, &none), MEMORA_CLOSED);
    CHECK(none == NULL);

    for (number = 0; result == MEMORA_OK && number < 100000; number++) {
        result = memora_transaction_put(transaction, &number, sizeof number, NULL, 0, NULL);
    }
    CODE(result, MEMORA_TRANSACTION_TOO_LARGE);
    CHECK(number == 65537 && strstr(memora_last_error_message(), "65536") != NULL);
    OK(memora_transaction_abort(transaction));
    transaction = begun();
    OK(put(transaction, "after", "1"));
    CODE(memora_transaction_put(transaction, "", 0, "v", 1, NULL), MEMORA_KEY_TOO_LONG);
    OK(memora_transaction_commit(transaction));
    CHECK(is("after", "1"));
    free(big);
}

static void a_closed_store_ends_its_transactions(void) {
    memora_store_t *first = store;
    memora_transaction_t *transaction = begun();
    memora_fabric_t *own = NULL;
    OK(put(transaction, "k", "v"));
    OK(memora_store_close(store));
    every_call_gives(transaction, MEMORA_CLOSED);
    CODE(memora_transaction_abort(transaction), MEMORA_CLOSED);
    CODE(memora_transaction_begin(first, &transaction), MEMORA_CLOSED);
    store = open_kept(fabric);
    transaction = begun();
    OK(memora_store_close(store));
    OK(memora_transaction_abort(transaction));
    store = open_kept(fabric);
    CHECK(is("k", NULL));

    /* As all that was opened through a fabric, it stays when only the handle of that is closed. */
    OK(memora_store_close(store));
    OK(memora_fabric_open("test", &own));
    store = open_kept(own);
    transaction = begun();
    OK(put(transaction, "k", "v"));
    OK(memora_fabric_close(own));
    OK(memora_transaction_commit(transaction));
    CHECK(is("k", "v"));
    OK(memora_store_close(store));
    store = open_kept(fabric);
}

static void *commit_it(void *transaction) {
    OK(put(transaction, "elsewhere", "done"));
    OK(memora_transaction_commit(transaction));
    return NULL;
}

struct race {
    memora_transaction_t *transaction;
    int puts, others;
};

static void *put_until_closed(void *context) {
    struct race *race = context;
    int result;
    do {
        result = put(race->transaction, "race", "x");
        race->puts += result == MEMORA_OK;
        if (result != MEMORA_OK && result != MEMORA_BUSY && result != MEMORA_CLOSED) race->others++;
    } while (result != MEMORA_CLOSED);
    return NULL;
}

static void another_thread_may_have_it_but_not_two_at_once(void) {
    pthread_t threads[2];
    struct race races[2];
    memora_transaction_t *transaction = begun();
    int round, result, i;
    CHECK(pthread_create(&threads[0], NULL, commit_it, transaction) == 0 && pthread_join(threads[0], NULL) == 0);
    CHECK(is("elsewhere", "done"));
    for (round = 0; round < 50; round++) {
        transaction = begun();
        for (i = 0; i < 2; i++) {
            races[i].transaction = transaction;
            races[i].puts = races[i].others = 0;
            CHECK(pthread_create(&threads[i], NULL, put_until_closed, &races[i]) == 0);
        }
        sleep_ms(1);
        /* One half is committed under the threads, the other given up. */
        do {
            result = round % 2 ? memora_transaction_commit(transaction) : memora_transaction_abort(transaction);
        } while (result == MEMORA_BUSY);
        CHECK(result == MEMORA_OK);
        for (i = 0; i < 2; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0);
            CHECK(races[i].others == 0);
        }
    }
}

static memora_transaction_t *parents;

static int in_a_child(void) {
    memora_transaction_t *none = NULL;
    every_call_gives(parents, MEMORA_FORKED);
    CODE(memora_transaction_abort(parents), MEMORA_FORKED);
    CODE(memora_transaction_begin(store, &none), MEMORA_FORKED);
    CHECK(none == NULL);
    return 0;
}

static void a_forked_child_is_refused(void) {
    parents = begun();
    OK(put(parents, "forked", "by the parent"));
    CHECK(wait_for(start(in_a_child)) == 0);
    OK(memora_transaction_commit(parents));
    CHECK(is("forked", "by the parent"));
}

static void durability_of_a_commit(void) {
    memora_transaction_t *transaction = begun();
    memora_store_stats_t before, after;
    memora_store_options_t made;
    memora_store_t *kept = store, *none = NULL;
    OK(memora_transaction_set_durability(transaction, MEMORA_DURABILITY_SYNC));
    OK(put(transaction, "synced", "1"));
    OK(memora_store_stats(store, &before, sizeof before));
    OK(memora_transaction_commit(transaction));
    OK(memora_store_stats(store, &after, sizeof after));
    CHECK(after.flushes > before.flushes);

    /* Without files. */
    OK(memora_store_options_init(&made, sizeof made));
    made.durability = MEMORA_DURABILITY_PROCESS;
    OK(memora_store_open(fabric, "memory", &made, &store));
    OK(set("one", "1"));
    transaction = begun();
    CODE(memora_transaction_set_durability(transaction, MEMORA_DURABILITY_SYNC), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_set_durability(transaction, MEMORA_DURABILITY_ASYNC), MEMORA_INVALID_ARGUMENT);
    OK(memora_transaction_set_durability(transaction, MEMORA_DURABILITY_PROCESS));
    CHECK(sees(transaction, "one", "1"));
    OK(drop(transaction, "one"));
    OK(put(transaction, "two", "2"));
    OK(memora_transaction_commit(transaction));
    CHECK(is("one", NULL) && is("two", "2"));
    transaction = begun();
    CHECK(sees(transaction, "two", "2"));
    OK(put(transaction, "three", "3"));
    OK(set("two", "changed"));
    CODE(memora_transaction_commit(transaction), MEMORA_CONFLICT);
    CHECK(is("three", NULL));
    none = store;
    store = kept;
    OK(memora_store_close(none));
}

struct body {
    int calls, conflicts, gives;
    memora_transaction_t *last;
};

static int run(void *context, memora_transaction_t *transaction) {
    struct body *body = context;
    body->last = transaction;
    body->calls++;
    if (!sees(transaction, "body", body->calls == 1 ? "0" : "between")) return MEMORA_INTERNAL;
    OK(put(transaction, "body", "done"));
    /* Somebody is in the way of the first. */
    if (body->calls <= body->conflicts) OK(set("body", "between"));
    return body->gives;
}

static int always_in_the_way(void *context, memora_transaction_t *transaction) {
    ++*(int *)context;
    (void)transaction;
    return MEMORA_CONFLICT;
}

static int abort_it(void *context, memora_transaction_t *transaction) {
    (void)context;
    OK(put(transaction, "body", "aborted"));
    OK(memora_transaction_abort(transaction));
    return MEMORA_OK;
}

static int close_the_store(void *context, memora_transaction_t *transaction) {
    memora_store_t **closed = context;
    OK(memora_store_close(*closed));
    return put(transaction, "body", "closed");
}

static void a_function_is_called_again_until_it_commits(void) {
    struct body body = {0, 3, MEMORA_OK, NULL};
    memora_store_t *other = open_kept(fabric);
    int calls = 0;
    OK(set("body", "0"));
    OK(memora_store_transact(store, run, &body));
    CHECK(body.calls == 4 && is("body", "done"));
    every_call_gives(body.last, MEMORA_CLOSED);
    OK(set("body", "0"));
    body.calls = body.conflicts = 0;
    body.gives = 42;
    CODE(memora_store_transact(store, run, &body), 42);
    CHECK(body.calls == 1 && is("body", "0"));
    every_call_gives(body.last, MEMORA_CLOSED);
    CODE(memora_store_transact(store, always_in_the_way, &calls), MEMORA_CONFLICT);
    CHECK(calls == 1000 && strstr(memora_last_error_message(), "1000") != NULL);
    CODE(memora_store_transact(store, abort_it, NULL), MEMORA_CLOSED);
    CHECK(is("body", "0"));
    CODE(memora_store_transact(store, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_transact(NULL, run, &body), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_transact(other, close_the_store, &other), MEMORA_CLOSED);
    CODE(memora_store_transact(other, run, &body), MEMORA_CLOSED);
    CHECK(is("body", "0"));
}

struct left {
    struct race race;
    pthread_t thread;
};

static int leave_a_thread_inside(void *context, memora_transaction_t *transaction) {
    struct left *left = context;
    left->race.transaction = transaction;
    CHECK(pthread_create(&left->thread, NULL, put_until_closed, &left->race) == 0);
    sleep_ms(1);
    return MEMORA_OK;
}

static void a_thread_that_a_function_leaves_inside_finds_the_transaction_closed(void) {
    struct left left;
    int round, result;
    for (round = 0; round < 50; round++) {
        memset(&left, 0, sizeof left);
        result = memora_store_transact(store, leave_a_thread_inside, &left);
        CHECK(result == MEMORA_OK || result == MEMORA_BUSY);
        CHECK(pthread_join(left.thread, NULL) == 0);
        CHECK(left.race.others == 0);
    }
}

enum { ACCOUNTS = 8, START = 1000, TRANSFERS = 2000 };

static long balance(memora_transaction_t *transaction, int account) {
    char key[16], value[32];
    size_t len = 0;
    int result;
    snprintf(key, sizeof key, "account %d", account);
    result = memora_transaction_get(transaction, key, strlen(key), value, sizeof value - 1, &len);
    if (result != MEMORA_OK) return result;
    value[len] = 0;
    return atol(value);
}

static int set_balance(memora_transaction_t *transaction, int account, long amount) {
    char key[16], value[32];
    snprintf(key, sizeof key, "account %d", account);
    snprintf(value, sizeof value, "%ld", amount);
    return put(transaction, key, value);
}

static int transfer(void *context, memora_transaction_t *transaction) {
    const int *pair = context;
    long from = balance(transaction, pair[0]), to = balance(transaction, pair[1]), amount = from / 10;
    int result;
    if (from < 0) return (int)from;
    if (to < 0) return (int)to;
    result = set_balance(transaction, pair[0], from - amount);
    return result != MEMORA_OK ? result : set_balance(transaction, pair[1], to + amount);
}

static int sum(void *context, memora_transaction_t *transaction) {
    long all = 0;
    int i;
    for (i = 0; i < ACCOUNTS; i++) {
        long one = balance(transaction, i);
        if (one < 0) return (int)one;
        all += one;
    }
    *(long *)context = all;
    return MEMORA_OK;
}

static int move_money(void) {
    memora_fabric_t *own = NULL;
    memora_store_t *accounts;
    unsigned seed = (unsigned)getpid();
    long all = 0;
    int i, pair[2];
    OK(memora_fabric_open("test", &own));
    accounts = open_kept(own);
    for (i = 0; i < TRANSFERS; i++) {
        seed = seed * 1103515245u + 12345u;
        pair[0] = (int)(seed >> 16) % ACCOUNTS;
        pair[1] = (pair[0] + 1 + (int)(seed >> 24) % (ACCOUNTS - 1)) % ACCOUNTS;
        OK(memora_store_transact(accounts, transfer, pair));
        if (i % 50 == 0) {
            OK(memora_store_transact(accounts, sum, &all));
            CHECK(all == ACCOUNTS * START);
        }
    }
    OK(memora_store_close(accounts));
    OK(memora_fabric_close(own));
    return 0;
}

static void print_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context;
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
}

static void money_is_neither_made_nor_lost_by_two_processes(void) {
    memora_transaction_t *transaction = begun();
    pid_t children[2];
    size_t problems = 1;
    long all = 0;
    int i;
    for (i = 0; i < ACCOUNTS; i++) OK(set_balance(transaction, i, START));
    OK(memora_transaction_commit(transaction));
    for (i = 0; i < 2; i++) children[i] = start(move_money);
    for (i = 0; i < 2; i++) CHECK(wait_for(children[i]) == 0);
    OK(memora_store_transact(store, sum, &all));
    CHECK(all == ACCOUNTS * START);
    OK(memora_fabric_check(fabric, print_problem, NULL, &problems));
    CHECK(problems == 0);

    /* And what the files have of it. */
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    OK(memora_fabric_remove(NULL, "test"));
    OK(memora_fabric_open("test", &fabric));
    store = open_kept(fabric);
    all = 0;
    OK(memora_store_transact(store, sum, &all));
    CHECK(all == ACCOUNTS * START);
}

int main(int argc, char **argv) {
    begin("transaction", argc, argv);
    snprintf(dir, sizeof dir, "%s", in_home("files"));
    OK(memora_fabric_open("test", &fabric));
    store = open_kept(fabric);
    TEST(a_transaction_sees_its_own_changes_and_others_all_or_nothing);
    TEST(a_buffer_that_is_too_small_is_told_the_length);
    TEST(what_was_read_must_still_be_so);
    TEST(what_is_refused_leaves_the_transaction_as_it_was);
    TEST(a_closed_store_ends_its_transactions);
    TEST(another_thread_may_have_it_but_not_two_at_once);
    TEST(a_forked_child_is_refused);
    TEST(durability_of_a_commit);
    TEST(a_function_is_called_again_until_it_commits);
    TEST(a_thread_that_a_function_leaves_inside_finds_the_transaction_closed);
    TEST(money_is_neither_made_nor_lost_by_two_processes);
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    return finish();
}
