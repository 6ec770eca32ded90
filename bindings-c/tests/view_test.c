/* Values that are looked at where they stand. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;
static memora_cache_t *cache;

static void set(const char *key, const char *value, size_t len) {
    OK(memora_cache_set(cache, key, strlen(key), value, len, NULL, NULL));
}

static int shows(memora_view_t *view, const char *value, size_t expected) {
    const void *data = NULL;
    size_t len = 0;
    OK(memora_view_bytes(view, &data, &len, NULL));
    return data && len == expected && memcmp(data, value, len) == 0;
}

static void a_view_stays_whatever_becomes_of_the_entry(void) {
    static char first[1000], other[1000];
    memora_view_t *view = NULL;
    memora_entry_t entry;
    memora_set_options_t options;
    const void *data = NULL;
    int copy = 7, i;
    memset(first, 'f', sizeof first);
    memset(other, 'o', sizeof other);
    OK(memora_set_options_init(&options, sizeof options));
    options.flags = 3;
    OK(memora_cache_set(cache, "k", 1, first, sizeof first, &options, NULL));
    OK(memora_cache_view(cache, "k", 1, &view));
    OK(memora_view_is_copy(view, &copy));
    OK(memora_view_bytes(view, &data, NULL, &entry));
    CHECK(copy == 0 && (uintptr_t)data % 8 == 0);
    CHECK(entry.version != 0 && entry.flags == 3 && entry.ttl_ms == UINT64_MAX && entry.marks == 0);
    /* Many times the room of the fabric. */
    for (i = 0; i < 40000; i++) set(i % 100 ? "k" : "l", other, sizeof other);
    OK(memora_cache_delete(cache, "k", 1));
    CHECK(shows(view, first, sizeof first));
    OK(memora_view_release(view));
    CODE(memora_view_bytes(view, &data, NULL, NULL), MEMORA_CLOSED);
    CODE(memora_view_release(view), MEMORA_CLOSED);
    OK(memora_view_release(NULL));
    CODE(memora_cache_view(cache, "k", 1, &view), MEMORA_NOT_FOUND);
    CHECK(view == NULL);
}

static void an_empty_value_is_a_copy_and_not_null(void) {
    memora_view_t *view = NULL;
    const void *data = NULL;
    size_t len = 1;
    int copy = 0;
    set("empty", "", 0);
    OK(memora_cache_view(cache, "empty", 5, &view));
    OK(memora_view_bytes(view, &data, &len, NULL));
    OK(memora_view_is_copy(view, &copy));
    CHECK(data != NULL && len == 0 && copy == 1);
    OK(memora_view_release(view));
}

static void bad_arguments_are_refused(void) {
    memora_view_t *view = NULL;
    set("k", "v", 1);
    CODE(memora_cache_view(cache, "k", 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_view(cache, NULL, 1, &view), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_view(NULL, "k", 1, &view), MEMORA_INVALID_ARGUMENT);
    CODE(memora_view_bytes((memora_view_t *)cache, NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_view_release((memora_view_t *)cache), MEMORA_INVALID_ARGUMENT);
    CODE(memora_view_bytes(NULL, NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_cache_view(cache, "k", 1, &view));
    CODE(memora_view_is_copy(view, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_delete((memora_cache_t *)view, "k", 1), MEMORA_INVALID_ARGUMENT);
    OK(memora_view_bytes(view, NULL, NULL, NULL));
    OK(memora_view_release(view));
}

static void more_views_than_may_hold_the_memory_are_copies(void) {
    enum { COUNT = 2000 };
    static memora_view_t *views[COUNT];
    static char value[2000];
    char key[16];
    int i, copy, copies = 0;
    for (i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "v%d", i);
        memset(value, 'a' + i % 26, sizeof value);
        set(key, value, sizeof value);
        OK(memora_cache_view(cache, key, strlen(key), &views[i]));
    }
    for (i = 0; i < COUNT; i++) {
        memset(value, 'a' + i % 26, sizeof value);
        CHECK(shows(views[i], value, sizeof value));
        OK(memora_view_is_copy(views[i], &copy));
        copies += copy;
        OK(memora_view_release(views[i]));
    }
    CHECK(copies > 0 && copies < COUNT);
}

static void a_view_outlives_the_cache_and_the_fabric(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *short_lived = NULL;
    memora_view_t *view = NULL;
    OK(memora_fabric_open("short", &own));
    OK(memora_cache_open(own, "c", NULL, &short_lived));
    OK(memora_cache_set(short_lived, "k", 1, "stays", 5, NULL, NULL));
    OK(memora_cache_view(short_lived, "k", 1, &view));
    OK(memora_cache_close(short_lived));
    OK(memora_fabric_close(own));
    CHECK(shows(view, "stays", 5));
    OK(memora_view_release(view));
}

static memora_view_t *parents;

static int use_the_parents_view(void) {
    const void *data = NULL;
    CODE(memora_view_bytes(parents, &data, NULL, NULL), MEMORA_FORKED);
    CODE(memora_view_release(parents), MEMORA_FORKED);
    return 0;
}

static void a_forked_child_has_no_views(void) {
    set("k", "v", 1);
    OK(memora_cache_view(cache, "k", 1, &parents));
    CHECK(wait_for(start(use_the_parents_view)) == 0);
    CHECK(shows(parents, "v", 1));
    OK(memora_view_release(parents));
}

static void print_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context;
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
}

static volatile int *holding;

static int hold_for_ever(void) {
    memora_fabric_t *own = NULL;
    memora_cache_t *held = NULL;
    memora_view_t *view = NULL;
    char key[16];
    int i;
    OK(memora_fabric_open("holders", &own));
    OK(memora_cache_open(own, "c", NULL, &held));
    for (i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        if (memora_cache_view(held, key, strlen(key), &view) != MEMORA_OK) return 1;
    }
    *holding = 1;
    for (;;) sleep_ms(1000);
}

static void views_end_with_their_process(void) {
    static char value[20000];
    memora_fabric_options_t options;
    memora_fabric_t *own = NULL;
    memora_cache_t *held = NULL;
    size_t problems = 0;
    char key[16];
    pid_t child;
    int i, round;
    holding = shared_int();
    OK(memora_fabric_options_init(&options, sizeof options));
    options.limit = 8 << 20;
    OK(memora_fabric_open_with("holders", &options, &own));
    OK(memora_cache_open(own, "c", NULL, &held));
    for (i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        OK(memora_cache_set(held, key, strlen(key), value, 10000, NULL, NULL));
    }
    child = start(hold_for_ever);
    CHECK(wait_until(holding, 1));
    CHECK(kill(child, SIGKILL) == 0 && wait_for(child) == -SIGKILL);
    OK(memora_fabric_reap(own, NULL));
    /* All the room can be used again. */
    for (round = 0; round < 5; round++) {
        for (i = 0; i < 200; i++) {
            snprintf(key, sizeof key, "k%d", i);
            OK(memora_cache_set(held, key, strlen(key), value, 10000 + (size_t)round, NULL, NULL));
        }
    }
    OK(memora_fabric_check(own, print_problem, NULL, &problems));
    CHECK(problems == 0);
    OK(memora_cache_close(held));
    OK(memora_fabric_close(own));
}

int main(int argc, char **argv) {
    memora_fabric_options_t options;
    begin("view", argc, argv);
    OK(memora_fabric_options_init(&options, sizeof options));
    options.limit = 16 << 20;
    OK(memora_fabric_open_with("test", &options, &fabric));
    OK(memora_cache_open(fabric, "tested", NULL, &cache));
    TEST(a_view_stays_whatever_becomes_of_the_entry);
    TEST(an_empty_value_is_a_copy_and_not_null);
    TEST(bad_arguments_are_refused);
    TEST(more_views_than_may_hold_the_memory_are_copies);
    TEST(a_view_outlives_the_cache_and_the_fabric);
    TEST(a_forked_child_has_no_views);
    TEST(views_end_with_their_process);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return finish();
}
