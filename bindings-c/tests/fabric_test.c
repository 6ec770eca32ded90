/* Opening, creating, refusing, checking and removing fabrics. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static memora_fabric_options_t options(unsigned create) {
    memora_fabric_options_t made;
    OK(memora_fabric_options_init(&made, sizeof made));
    CHECK(made.struct_size == sizeof made);
    made.limit = 8u << 20;
    made.create = create;
    return made;
}

static void count_problem(void *context, const char *layer, const char *what, const char *place) {
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
    ++*(int *)context;
}

struct found {
    int fabrics, objects;
};

static void take_fabric(void *context, const char *name, uint64_t limit, uint32_t processes, const char *problem) {
    struct found *found = context;
    if (strcmp(name, "one") != 0) return;
    CHECK(problem == NULL && limit == 8u << 20 && processes == 1);
    found->fabrics++;
}

static void take_object(void *context, const char *name, const char *kind, uint64_t bytes) {
    struct found *found = context;
    CHECK(strcmp(name, "c") == 0 && strcmp(kind, "cache") == 0 && bytes > 0);
    found->objects++;
}

/* The figures, the list and the objects of a fabric with the one cache `c`. */
static void look_at(memora_fabric_t *fabric) {
    memora_fabric_stat_t stat;
    struct found found = {0, 0};
    uint64_t threads = 99;
    unsigned char small[2 * sizeof(uint64_t) + 1];
    OK(memora_fabric_stat(fabric, &stat, sizeof stat));
    CHECK(stat.limit == 8u << 20 && stat.taken > 0 && stat.chunks > stat.free_chunks && stat.processes == 1);
    CHECK(stat.chunk_bytes >= 4096 && stat.created_ms > 0);
    /* A program that knows fewer figures gets those. */
    memset(small, 0xAA, sizeof small);
    OK(memora_fabric_stat(fabric, (memora_fabric_stat_t *)(void *)small, sizeof small - 1));
    CHECK(memcmp(small, &stat.limit, sizeof stat.limit) == 0 && small[sizeof small - 1] == 0xAA);
    CODE(memora_fabric_stat(fabric, NULL, sizeof stat), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_stat(fabric, &stat, 1), MEMORA_INVALID_ARGUMENT);
    OK(memora_fabric_objects(fabric, take_object, &found));
    OK(memora_fabric_list(NULL, take_fabric, &found));
    CHECK(found.objects == 1 && found.fabrics == 1);
    CODE(memora_fabric_list(NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_fabric_reap(fabric, &threads));
    CHECK(threads == 0);
}

static void a_fabric_is_created_opened_checked_and_removed(void) {
    memora_fabric_options_t made = options(MEMORA_OPEN_ONLY);
    memora_fabric_t *fabric = NULL, *again = NULL;
    memora_cache_t *cache = NULL;
    size_t count = 99, len = 0;
    int problems = 0;
    char value[8];
    CODE(memora_fabric_open_with("one", &made, &fabric), MEMORA_NOT_FOUND);
    CHECK(fabric == NULL);
    made.create = MEMORA_CREATE_NEW;
    OK(memora_fabric_open_with("one", &made, &fabric));
    CODE(memora_fabric_open_with("one", &made, &again), MEMORA_ALREADY_EXISTS);
    CHECK(again == NULL);
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_fabric_check(fabric, count_problem, &problems, &count));
    CHECK(problems == 0 && count == 0);
    look_at(fabric);
    OK(memora_fabric_open("one", &again));
    CHECK(again != fabric);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    CODE(memora_fabric_close(fabric), MEMORA_CLOSED);
    OK(memora_cache_open(again, "c", NULL, &cache));
    OK(memora_cache_get(cache, "k", 1, value, sizeof value, &len));
    CHECK(len == 1 && value[0] == 'v');
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(again));
    OK(memora_fabric_remove(NULL, "one"));
    CODE(memora_fabric_remove(NULL, "one"), MEMORA_NOT_FOUND);
}

static void a_read_only_fabric_is_read_only(void) {
    memora_fabric_options_t made = options(MEMORA_OPEN_OR_CREATE);
    memora_fabric_t *fabric = NULL, *reader = NULL;
    memora_cache_t *cache = NULL, *seen = NULL;
    char value[8];
    size_t len = 0;
    OK(memora_fabric_open_with("two", &made, &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    made.read_only = 1;
    OK(memora_fabric_open_with("two", &made, &reader));
    OK(memora_cache_open(reader, "c", NULL, &seen));
    OK(memora_cache_get(seen, "k", 1, value, sizeof value, &len));
    CODE(memora_cache_set(seen, "k", 1, "w", 1, NULL, NULL), MEMORA_READ_ONLY);
    OK(memora_cache_close(seen));
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(reader));
    OK(memora_fabric_close(fabric));
}

static void what_is_not_a_fabric_is_refused_and_left_alone(void) {
    static const char text[] = "This is a file of somebody who needs it.\n";
    char found[sizeof text];
    memora_fabric_t *fabric = NULL;
    FILE *file = fopen(in_home("three.fabric"), "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
    CHECK(chmod(in_home("three.fabric"), 0600) == 0);
    CODE(memora_fabric_open("three", &fabric), MEMORA_NOT_A_FABRIC);
    CHECK(fabric == NULL);
    file = fopen(in_home("three.fabric"), "r");
    CHECK(file != NULL && fgets(found, sizeof found, file) != NULL && strcmp(found, text) == 0);
    if (file) fclose(file);
}

static void bad_arguments_are_refused(void) {
    memora_fabric_options_t made;
    memora_fabric_t *fabric = NULL;
    char name[80];
    CODE(memora_fabric_open(NULL, &fabric), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_open("x", NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_open("", &fabric), MEMORA_INVALID_NAME);
    CODE(memora_fabric_open("a/b", &fabric), MEMORA_INVALID_NAME);
    CODE(memora_fabric_open(".hidden", &fabric), MEMORA_INVALID_NAME);
    CODE(memora_fabric_open("\xff\xfe", &fabric), MEMORA_INVALID_ARGUMENT);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    CODE(memora_fabric_open(name, &fabric), MEMORA_INVALID_NAME);
    made = options(MEMORA_CREATE_NEW);
    made.limit = 5000;
    CODE(memora_fabric_open_with("four", &made, &fabric), MEMORA_LIMIT_TOO_SMALL);
    made = options(77);
    CODE(memora_fabric_open_with("four", &made, &fabric), MEMORA_INVALID_ARGUMENT);
    made = options(MEMORA_CREATE_NEW);
    made.backend = 77;
    CODE(memora_fabric_open_with("four", &made, &fabric), MEMORA_INVALID_ARGUMENT);
    made = options(MEMORA_CREATE_NEW);
    made.reserved = 1;
    CODE(memora_fabric_open_with("four", &made, &fabric), MEMORA_INVALID_ARGUMENT);
    memset(&made, 0, sizeof made);
    CODE(memora_fabric_open_with("four", &made, &fabric), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_options_init(NULL, sizeof made), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_check(NULL, count_problem, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CHECK(fabric == NULL);
}

static void a_directory_without_permission_is_refused(void) {
    memora_fabric_options_t made = options(MEMORA_CREATE_NEW);
    memora_fabric_t *fabric = NULL;
    char place[512];
    if (geteuid() == 0) {
        printf("SKIPPED: a directory without permission, because root may write anywhere\n");
        return;
    }
    snprintf(place, sizeof place, "%s", in_home("closed"));
    CHECK(mkdir(place, 0500) == 0);
    made.home = place;
    CODE(memora_fabric_open_with("five", &made, &fabric), MEMORA_PERMISSION_DENIED);
    CHECK(fabric == NULL);
}

static void memory_of_this_process_alone_serves_too(void) {
    memora_fabric_options_t made = options(MEMORA_OPEN_OR_CREATE);
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    made.backend = MEMORA_BACKEND_HEAP;
    OK(memora_fabric_open_with("six", &made, &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
}

static int fd_of_the_parent = -1;

static int in_another_process(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    char value[8];
    size_t len = 0;
    OK(memora_fabric_open_fd(fd_of_the_parent, NULL, &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    OK(memora_cache_get(cache, "k", 1, value, sizeof value, &len));
    CHECK(len == 1 && value[0] == 'v');
    OK(memora_cache_set(cache, "child", 5, "c", 1, NULL, NULL));
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return 7;
}

static void a_memory_file_is_handed_over(void) {
    memora_fabric_options_t made = options(MEMORA_CREATE_NEW);
    memora_fabric_t *fabric = NULL, *again = NULL, *file = NULL;
    memora_cache_t *cache = NULL;
    char value[8];
    size_t len = 0;
    int fd = 99, ends[2];
    made.backend = MEMORA_BACKEND_MEMFD;
    OK(memora_fabric_open_with("anonymous", &made, &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    OK(memora_cache_set(cache, "k", 1, "v", 1, NULL, NULL));
    OK(memora_fabric_memfd(fabric, &fd_of_the_parent));
    CHECK(fd_of_the_parent >= 0);
    CHECK(wait_for(start(in_another_process)) == 7);
    OK(memora_cache_get(cache, "child", 5, value, sizeof value, &len));
    /* Read-only; and the descriptor is still ours. */
    made.read_only = 1;
    OK(memora_fabric_open_fd(fd_of_the_parent, &made, &again));
    OK(memora_cache_close(cache));
    OK(memora_cache_open(again, "c", NULL, &cache));
    OK(memora_cache_get(cache, "k", 1, value, sizeof value, &len));
    CODE(memora_cache_set(cache, "k", 1, "w", 1, NULL, NULL), MEMORA_READ_ONLY);
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(again));
    CHECK(close(fd_of_the_parent) == 0);
    CODE(memora_fabric_memfd(fabric, NULL), MEMORA_INVALID_ARGUMENT);
    /* What is no memory file of a fabric. */
    CODE(memora_fabric_open_fd(-1, NULL, &again), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_open_fd(fd_of_the_parent, NULL, &again), MEMORA_INVALID_ARGUMENT);
    CODE(memora_fabric_open_fd(0x7fffffff, NULL, &again), MEMORA_INVALID_ARGUMENT);
    CHECK(pipe(ends) == 0);
    CHECK(memora_fabric_open_fd(ends[0], NULL, &again) < 0 && again == NULL);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
    made = options(MEMORA_OPEN_OR_CREATE);
    OK(memora_fabric_open_with("in-a-file", &made, &file));
    CODE(memora_fabric_memfd(file, &fd), MEMORA_UNSUPPORTED);
    CHECK(fd == -1);
    OK(memora_fabric_close(file));
    OK(memora_fabric_close(fabric));
}

int main(int argc, char **argv) {
    begin("fabric", argc, argv);
    TEST(a_fabric_is_created_opened_checked_and_removed);
    TEST(a_read_only_fabric_is_read_only);
    TEST(what_is_not_a_fabric_is_refused_and_left_alone);
    TEST(bad_arguments_are_refused);
    TEST(a_directory_without_permission_is_refused);
    TEST(memory_of_this_process_alone_serves_too);
    TEST(a_memory_file_is_handed_over);
    return finish();
}
