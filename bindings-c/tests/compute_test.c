/* One makes a value, the others wait for it; what is out of date is served meanwhile. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_cache_t *cache;

static int is(const char *key, const char *value) {
    char buffer[64];
    size_t len = 0;
    int result = memora_cache_get(cache, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

/* Whether a view shows this text, with these marks; it is released. */
static int shows(memora_view_t *view, const char *text, uint32_t marks) {
    const void *data = NULL;
    size_t len = 0;
    memora_entry_t entry;
    int same;
    if (memora_view_bytes(view, &data, &len, &entry) != MEMORA_OK) return 0;
    same = len == strlen(text) && memcmp(data, text, len) == 0 && entry.marks == marks;
    OK(memora_view_release(view));
    return same;
}

static void who_asks_first_makes_the_value(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    uint64_t version = 0;
    OK(memora_cache_lease(cache, "k", 1, 0, &view, &token));
    CHECK(token != NULL && view == NULL);
    OK(memora_token_fill(token, "made", 4, NULL, &version));
    CHECK(version != 0 && is("k", "made"));
    CODE(memora_token_fill(token, "again", 5, NULL, NULL), MEMORA_CLOSED);
    CODE(memora_token_abandon(token), MEMORA_CLOSED);
    OK(memora_cache_lease(cache, "k", 1, 0, &view, &token));
    CHECK(token == NULL && shows(view, "made", 0));
}

static void who_waits_for_itself_is_told(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL, *second = NULL;
    OK(memora_cache_lease(cache, "self", 4, 0, &view, &token));
    CODE(memora_cache_lease(cache, "self", 4, MEMORA_FOREVER, &view, &second), MEMORA_BUSY);
    CHECK(view == NULL && second == NULL);
    OK(memora_token_abandon(token));
    OK(memora_cache_lease(cache, "self", 4, 0, &view, &second));
    CHECK(second != NULL);
    /* The key is set by somebody else: the right is lost. */
    OK(memora_cache_set(cache, "self", 4, "theirs", 6, NULL, NULL));
    CODE(memora_token_fill(second, "ours", 4, NULL, NULL), MEMORA_STALE);
    CODE(memora_token_abandon(second), MEMORA_CLOSED);
    CHECK(is("self", "theirs"));
    OK(memora_token_abandon(NULL));
}

static void *waits_for_the_value(void *key) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    OK(memora_cache_lease(cache, key, strlen(key), 20000, &view, &token));
    CHECK(token == NULL && shows(view, "made", 0));
    return NULL;
}

static void the_others_wait_for_it(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    pthread_t waiters[3];
    int i;
    OK(memora_cache_lease(cache, "slow", 4, 0, &view, &token));
    for (i = 0; i < 3; i++) CHECK(pthread_create(&waiters[i], NULL, waits_for_the_value, (void *)"slow") == 0);
    sleep_ms(60);
    OK(memora_token_fill(token, "made", 4, NULL, NULL));
    for (i = 0; i < 3; i++) CHECK(pthread_join(waiters[i], NULL) == 0);
}

static volatile int *computing;

static int compute_for_ever(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *same = NULL;
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    OK(memora_fabric_open("test", &own));
    OK(memora_cache_open(own, "tested", NULL, &same));
    OK(memora_cache_lease(same, "dies", 4, 0, &view, &token));
    CHECK(token != NULL);
    *computing = 1;
    for (;;) sleep_ms(1000);
    return 0;
}

static void the_next_makes_it_when_the_first_was_killed(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    pid_t child;
    computing = shared_int();
    child = start(compute_for_ever);
    CHECK(wait_until(computing, 1));
    CODE(memora_cache_lease(cache, "dies", 4, 0, &view, &token), MEMORA_TIMED_OUT);
    CODE(memora_cache_lease(cache, "dies", 4, 120, &view, &token), MEMORA_TIMED_OUT);
    CHECK(view == NULL && token == NULL && strlen(memora_last_error_message()) > 30);
    CHECK(kill(child, SIGKILL) == 0 && wait_for(child) == -SIGKILL);
    OK(memora_cache_lease(cache, "dies", 4, 20000, &view, &token));
    CHECK(token != NULL);
    OK(memora_token_fill(token, "made", 4, NULL, NULL));
    CHECK(is("dies", "made"));
}

static memora_cache_t *closing;

static void *waits_in_vain(void *nothing) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    CODE(memora_cache_lease(closing, "held", 4, MEMORA_FOREVER, &view, &token), MEMORA_CLOSED);
    return nothing;
}

static void closing_ends_a_wait(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    pthread_t waiter;
    OK(memora_cache_open(fabric, "tested", NULL, &closing));
    OK(memora_cache_lease(cache, "held", 4, 0, &view, &token));
    CHECK(pthread_create(&waiter, NULL, waits_in_vain, NULL) == 0);
    sleep_ms(30);
    OK(memora_cache_close(closing));
    CHECK(pthread_join(waiter, NULL) == 0);
    OK(memora_token_abandon(token));
}

static void what_is_out_of_date_is_served_while_one_makes_it_anew(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    memora_set_options_t options;
    uint64_t first = 0, marked = 0;
    CODE(memora_cache_invalidate(cache, "stale", 5, 0, NULL), MEMORA_NOT_FOUND);
    CODE(memora_cache_get_meta(cache, "stale", 5, 0, &view), MEMORA_NOT_FOUND);
    OK(memora_cache_set(cache, "stale", 5, "old", 3, NULL, &first));
    OK(memora_cache_get_meta(cache, "stale", 5, 0, &view));
    CHECK(shows(view, "old", 0));
    OK(memora_cache_invalidate(cache, "stale", 5, 60000, &marked));
    CHECK(marked != first);
    OK(memora_cache_get_meta(cache, "stale", 5, 0, &view));
    CHECK(shows(view, "old", MEMORA_ENTRY_STALE | MEMORA_ENTRY_WON));
    OK(memora_cache_get_meta(cache, "stale", 5, 0, &view));
    CHECK(shows(view, "old", MEMORA_ENTRY_STALE | MEMORA_ENTRY_TAKEN));
    CODE(memora_cache_compare_and_swap(cache, "stale", 5, "older", 5, first, NULL, NULL), MEMORA_STALE);
    OK(memora_cache_compare_and_swap(cache, "stale", 5, "new", 3, marked, NULL, NULL));
    OK(memora_cache_get_meta(cache, "stale", 5, 0, &view));
    CHECK(shows(view, "new", 0));
    /* What ends soon is made anew before. */
    OK(memora_set_options_init(&options, sizeof options));
    options.ttl_ms = 60000;
    OK(memora_cache_set(cache, "stale", 5, "soon", 4, &options, NULL));
    OK(memora_cache_get_meta(cache, "stale", 5, 120000, &view));
    CHECK(shows(view, "soon", MEMORA_ENTRY_WON));
    /* A lease of what is out of date: one makes it, the other is served. */
    OK(memora_cache_invalidate(cache, "stale", 5, 0, NULL));
    OK(memora_cache_lease(cache, "stale", 5, 0, &view, &token));
    CHECK(token != NULL && view == NULL);
    OK(memora_token_fill(token, "fresh", 5, NULL, NULL));
    CHECK(is("stale", "fresh"));
}

static void flushing_empties_the_cache(void) {
    uint64_t len = 9;
    OK(memora_cache_set(cache, "a", 1, "1", 1, NULL, NULL));
    OK(memora_cache_flush(cache));
    CHECK(is("a", NULL));
    OK(memora_cache_set(cache, "b", 1, "2", 1, NULL, NULL));
    CHECK(is("b", "2"));
    OK(memora_cache_len(cache, &len));
    CHECK(len == 1);
}

static void bad_arguments_are_refused(void) {
    memora_view_t *view = NULL;
    memora_token_t *token = NULL;
    CODE(memora_cache_lease(cache, "x", 1, 0, NULL, &token), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_lease(cache, "x", 1, 0, &view, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_lease(cache, NULL, 1, 0, &view, &token), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_lease(cache, "", 0, 0, &view, &token), MEMORA_KEY_TOO_LONG);
    OK(memora_cache_lease(cache, "x", 1, 0, &view, &token));
    /* A token is used up by a failure, too. */
    CODE(memora_token_fill(token, NULL, 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_token_fill(token, "v", 1, NULL, NULL), MEMORA_CLOSED);
    OK(memora_cache_lease(cache, "x", 1, 0, &view, &token));
    CHECK(token != NULL);
    CODE(memora_view_release((memora_view_t *)token), MEMORA_INVALID_ARGUMENT);
    OK(memora_token_abandon(token));
    CODE(memora_cache_get_meta(cache, "x", 1, 0, NULL), MEMORA_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
    begin("compute", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    OK(memora_cache_open(fabric, "tested", NULL, &cache));
    TEST(who_asks_first_makes_the_value);
    TEST(who_waits_for_itself_is_told);
    TEST(the_others_wait_for_it);
    TEST(the_next_makes_it_when_the_first_was_killed);
    TEST(closing_ends_a_wait);
    TEST(what_is_out_of_date_is_served_while_one_makes_it_anew);
    TEST(flushing_empties_the_cache);
    TEST(bad_arguments_are_refused);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return finish();
}
