/* Events, counters, locks and semaphores: between threads and processes, with killed and stopped owners. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static volatile int *told;

static void events_are_heard_by_all_or_by_one(void) {
    memora_named_event_t *event = NULL;
    uint64_t sequence = 9;
    int one = 9;
    OK(memora_named_event_open(fabric, "event", &event));
    OK(memora_named_event_sequence(event, &sequence));
    CHECK(sequence == 0);
    CODE(memora_named_event_wait(event, 0, 0, NULL, NULL), MEMORA_TIMED_OUT);
    CODE(memora_named_event_wait(event, 0, 20, NULL, NULL), MEMORA_TIMED_OUT);
    OK(memora_named_event_notify_all(event, &sequence));
    CHECK(sequence == 1);
    OK(memora_named_event_wait(event, 0, MEMORA_FOREVER, &sequence, &one));
    CHECK(sequence == 1 && one == 0);
    OK(memora_named_event_notify_one(event));
    OK(memora_named_event_wait(event, 1, MEMORA_FOREVER, &sequence, &one));
    CHECK(sequence == 1 && one == 1);
    CODE(memora_named_event_wait(event, 1, 0, NULL, NULL), MEMORA_TIMED_OUT);
    OK(memora_named_event_close(event));
    CODE(memora_named_event_notify_one(event), MEMORA_CLOSED);
}

static void *waits_until_closed(void *event) {
    CODE(memora_named_event_wait(event, 0, MEMORA_FOREVER, NULL, NULL), MEMORA_CLOSED);
    return NULL;
}

static void a_close_ends_a_wait(void) {
    memora_named_event_t *event = NULL;
    pthread_t thread;
    OK(memora_named_event_open(fabric, "closed", &event));
    CHECK(pthread_create(&thread, NULL, waits_until_closed, event) == 0);
    sleep_ms(20);
    OK(memora_named_event_close(event));
    CHECK(pthread_join(thread, NULL) == 0);
}

static void counters_count(void) {
    memora_named_counter_t *counter = NULL;
    int64_t value = 9;
    OK(memora_named_counter_open(fabric, "counter", &counter));
    OK(memora_named_counter_add(counter, 5, &value));
    CHECK(value == 5);
    OK(memora_named_counter_add(counter, -7, NULL));
    OK(memora_named_counter_get(counter, &value));
    CHECK(value == -2);
    OK(memora_named_counter_set(counter, 10, &value));
    CHECK(value == -2);
    OK(memora_named_counter_compare_and_swap(counter, 9, 1, &value));
    CHECK(value == 10);
    OK(memora_named_counter_compare_and_swap(counter, 10, 1, &value));
    CHECK(value == 10);
    CODE(memora_named_counter_wait_at_least(counter, 2, 10, &value), MEMORA_TIMED_OUT);
    OK(memora_named_counter_wait_at_least(counter, 1, MEMORA_FOREVER, &value));
    CHECK(value == 1);
    CODE(memora_named_counter_wait_changed(counter, 1, 0, NULL), MEMORA_TIMED_OUT);
    OK(memora_named_counter_wait_changed(counter, 0, 0, &value));
    CHECK(value == 1);
    OK(memora_named_counter_close(counter));
}

static void *another_thread(void *lock) {
    int died = 9;
    CODE(memora_named_lock_lock(lock, 10, NULL), MEMORA_TIMED_OUT);
    CODE(memora_named_lock_unlock(lock), MEMORA_NOT_OWNER);
    CODE(memora_named_lock_mark_consistent(lock), MEMORA_NOT_OWNER);
    *told = 1;
    OK(memora_named_lock_lock(lock, 20000, &died));
    CHECK(died == 0);
    /* It ends without letting go. */
    return NULL;
}

static void locks_have_one_owner(void) {
    memora_named_lock_t *lock = NULL;
    pthread_t thread;
    int died = 9;
    *told = 0;
    OK(memora_named_lock_open(fabric, "lock", &lock));
    OK(memora_named_lock_lock(lock, 0, &died));
    CHECK(died == 0);
    CODE(memora_named_lock_lock(lock, MEMORA_FOREVER, NULL), MEMORA_WOULD_DEADLOCK);
    CHECK(pthread_create(&thread, NULL, another_thread, lock) == 0);
    CHECK(wait_until(told, 1));
    OK(memora_named_lock_unlock(lock));
    CODE(memora_named_lock_unlock(lock), MEMORA_NOT_OWNER);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(memora_named_lock_lock(lock, 20000, &died));
    CHECK(died == 1);
    OK(memora_named_lock_unlock(lock));
    OK(memora_named_lock_lock(lock, 0, &died));
    CHECK(died == 1);
    OK(memora_named_lock_mark_consistent(lock));
    OK(memora_named_lock_unlock(lock));
    OK(memora_named_lock_lock(lock, 0, &died));
    CHECK(died == 0);
    OK(memora_named_lock_unlock(lock));
    OK(memora_named_lock_close(lock));
}

static void permits_are_taken_and_given_back(void) {
    memora_named_semaphore_t *semaphore = NULL;
    uint32_t permits = 9, free_now = 9;
    int died = 9;
    CODE(memora_named_semaphore_open(fabric, "permits", 0, &semaphore), MEMORA_NOT_FOUND);
    OK(memora_named_semaphore_open(fabric, "permits", 3, &semaphore));
    OK(memora_named_semaphore_acquire(semaphore, 2, 0, &died));
    CHECK(died == 0);
    OK(memora_named_semaphore_count(semaphore, &permits, &free_now));
    CHECK(permits == 3 && free_now == 1);
    CODE(memora_named_semaphore_acquire(semaphore, 2, 10, NULL), MEMORA_WOULD_DEADLOCK);
    CODE(memora_named_semaphore_acquire(semaphore, 4, 10, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_named_semaphore_release(semaphore, 3), MEMORA_NOT_OWNER);
    OK(memora_named_semaphore_release(semaphore, 1));
    OK(memora_named_semaphore_release(semaphore, 1));
    CODE(memora_named_semaphore_release(semaphore, 1), MEMORA_NOT_OWNER);
    OK(memora_named_semaphore_close(semaphore));
    CODE(memora_named_semaphore_open(fabric, "permits", 4, &semaphore), MEMORA_WRONG_OPTIONS);
    CHECK(semaphore == NULL);
}

/* Takes the lock and two permits, and keeps them until it is killed. */
static int keeps_all(void) {
    memora_fabric_t *own = NULL;
    memora_named_lock_t *lock = NULL;
    memora_named_semaphore_t *semaphore = NULL;
    OK(memora_fabric_open("test", &own));
    OK(memora_named_lock_open(own, "lock", &lock));
    OK(memora_named_semaphore_open(own, "permits", 0, &semaphore));
    OK(memora_named_lock_lock(lock, 20000, NULL));
    OK(memora_named_semaphore_acquire(semaphore, 2, 20000, NULL));
    *told = 2;
    while (pause() == -1) {
    }
    return 1;
}

static void what_a_killed_process_held_passes_on_and_a_stopped_one_keeps_it(void) {
    memora_named_lock_t *lock = NULL;
    memora_named_semaphore_t *semaphore = NULL;
    int died = 9, status = 0;
    pid_t child;
    OK(memora_named_lock_open(fabric, "lock", &lock));
    OK(memora_named_semaphore_open(fabric, "permits", 0, &semaphore));
    child = start(keeps_all);
    CHECK(wait_until(told, 2));
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
    CODE(memora_named_lock_lock(lock, 20, NULL), MEMORA_TIMED_OUT);
    CODE(memora_named_semaphore_acquire(semaphore, 2, 20, NULL), MEMORA_TIMED_OUT);
    CHECK(kill(child, SIGKILL) == 0 && wait_for(child) == -SIGKILL);
    OK(memora_named_lock_lock(lock, 20000, &died));
    CHECK(died == 1);
    OK(memora_named_lock_mark_consistent(lock));
    OK(memora_named_lock_unlock(lock));
    OK(memora_named_semaphore_acquire(semaphore, 3, 20000, &died));
    CHECK(died == 1);
    OK(memora_named_semaphore_release(semaphore, 3));
    OK(memora_named_lock_close(lock));
    OK(memora_named_semaphore_close(semaphore));
}

static memora_named_lock_t *of_parent;

static int in_a_forked_child(void) {
    CODE(memora_named_lock_unlock(of_parent), MEMORA_FORKED);
    CODE(memora_named_lock_lock(of_parent, 0, NULL), MEMORA_FORKED);
    return 0;
}

static void wrong_uses_are_told(void) {
    memora_named_lock_t *lock = NULL;
    memora_named_event_t *event = NULL;
    CODE(memora_named_lock_open(fabric, "event", &lock), MEMORA_WRONG_KIND);
    CHECK(strstr(memora_last_error_message(), "an event, not as a lock") != NULL);
    CODE(memora_named_lock_open(fabric, ".", &lock), MEMORA_INVALID_NAME);
    CODE(memora_named_lock_open(NULL, "lock", &lock), MEMORA_INVALID_ARGUMENT);
    OK(memora_named_event_open(fabric, "event", &event));
    CODE(memora_named_lock_lock((memora_named_lock_t *)(void *)event, 0, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_named_event_close(event));
    OK(memora_named_event_close(NULL));
    OK(memora_named_lock_open(fabric, "lock", &of_parent));
    OK(memora_named_lock_lock(of_parent, 0, NULL));
    CHECK(wait_for(start(in_a_forked_child)) == 0);
    OK(memora_named_lock_unlock(of_parent));
    OK(memora_named_lock_close(of_parent));
}

int main(int argc, char **argv) {
    begin("signal_test", argc, argv);
    told = shared_int();
    OK(memora_fabric_open("test", &fabric));
    TEST(events_are_heard_by_all_or_by_one);
    TEST(a_close_ends_a_wait);
    TEST(counters_count);
    TEST(locks_have_one_owner);
    TEST(permits_are_taken_and_given_back);
    TEST(what_a_killed_process_held_passes_on_and_a_stopped_one_keeps_it);
    TEST(wrong_uses_are_told);
    OK(memora_fabric_close(fabric));
    return finish();
}
