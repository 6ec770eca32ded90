/* What the tests share: checks that count, a home of their own, processes. */
#ifndef TESTING_H
#define TESTING_H

#include <memora.h>
#include <stddef.h>
#include <sys/types.h>

/* Counts a check; a failed one prints where, and the last error of the library. */
void checked(int holds, const char *what, const char *file, int line);
#define CHECK(condition) checked((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
/* A call gives this code. */
void checked_code(int found, int expected, const char *what, const char *file, int line);
#define CODE(call, expected) checked_code((call), (expected), #call, __FILE__, __LINE__)
#define OK(call) CODE(call, MEMORA_OK)

/* Sets a fresh MEMORA_HOME. */
void begin(const char *name, int argc, char **argv);
/* Runs a test: it passes if all of its checks hold. */
void tested(void (*test)(void));
#define TEST(name) tested(name)
/* Removes it, prints "name: N passed, M failed" (tests) and gives the exit code. */
int finish(void);

/* A path inside the home. */
const char *in_home(const char *name);
/* Starts a child that runs `body` in a fresh library state of a fork before any use, and exits with its result. */
pid_t start(int (*body)(void));
/* Waits for a child: its exit code, or -signal. */
int wait_for(pid_t child);
void sleep_ms(unsigned milliseconds);
/* A place in memory that children share, zero at first. */
volatile int *shared_int(void);
/* Waits up to 20 s until *place is value: 1, or 0 when the time is over. */
int wait_until(volatile int *place, int value);

#endif
