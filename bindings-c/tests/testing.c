#define _XOPEN_SOURCE 700
#define _DEFAULT_SOURCE 1

#include "testing.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *test_name;
static const char *test_form = "";
static char home[256];
static char path[512];
static int checks, failed;
static int tests, tests_failed, failed_in_tests;

void checked(int holds, const char *what, const char *file, int line) {
    checks++;
    if (holds) return;
    failed++;
    fprintf(stderr, "%s:%d: %s does not hold (last error: %s: %s)\n", file, line, what,
            memora_error_name(memora_last_error_code()), memora_last_error_message());
}

void checked_code(int found, int expected, const char *what, const char *file, int line) {
    checks++;
    if (found == expected) return;
    failed++;
    fprintf(stderr, "%s:%d: %s gave %s instead of %s (last message: %s)\n", file, line, what, memora_error_name(found),
            memora_error_name(expected), memora_last_error_message());
}

void begin(const char *name, int argc, char **argv) {
    test_name = name;
    if (argc > 1) test_form = argv[1];
    snprintf(home, sizeof home, "%s/memora-c-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(home)) {
        perror(home);
        exit(2);
    }
    setenv("MEMORA_HOME", home, 1);
}

void tested(void (*test)(void)) {
    int before = failed;
    test();
    tests++;
    tests_failed += failed > before;
    failed_in_tests += failed - before;
}

static int removed(const char *place, const struct stat *about, int kind, struct FTW *walk) {
    (void)about;
    (void)kind;
    (void)walk;
    return remove(place);
}

int finish(void) {
    nftw(home, removed, 16, FTW_DEPTH | FTW_PHYS);
    /* What fails around the tests is a failed test of its own. */
    if (failed > failed_in_tests) {
        tests++;
        tests_failed++;
    }
    printf("c %s %s (%d checks): %d passed, %d failed\n", test_name, test_form, checks, tests - tests_failed, tests_failed);
    return failed != 0;
}

const char *in_home(const char *name) {
    snprintf(path, sizeof path, "%s/%s", home, name);
    return path;
}

pid_t start(int (*body)(void)) {
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        int before = failed;
        int result = body();
        fflush(NULL);
        _exit(failed > before ? 99 : result);
    }
    return child;
}

int wait_for(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) return -1000;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void sleep_ms(unsigned milliseconds) {
    struct timespec time;
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = (long)(milliseconds % 1000) * 1000000L;
    nanosleep(&time, NULL);
}

volatile int *shared_int(void) {
    void *place = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return place;
}

int wait_until(volatile int *place, int value) {
    int turn;
    for (turn = 0; turn < 20000; turn++) {
        if (*place == value) return 1;
        sleep_ms(1);
    }
    return 0;
}
