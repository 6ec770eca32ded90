/* Requests and replies, between handles, threads and processes; peers that are killed and stopped. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;
static memora_service_t *service;
static volatile int *taken;

static memora_service_t *open_service(memora_fabric_t *on) {
    memora_service_options_t options;
    memora_service_t *opened = NULL;
    OK(memora_service_options_init(&options, sizeof options));
    CHECK(options.message_bytes == 0 && options.calls == 0);
    options.message_bytes = 200;
    options.calls = 4;
    OK(memora_service_open(on, "work", &options, &opened));
    return opened;
}

#define TOO_LONG ((size_t)128 << 20)

/* --- calls and their ends --- */

static void calls_end_once_in_any_order(void) {
    memora_client_t *client = NULL;
    memora_server_t *server = NULL;
    memora_request_t request[4];
    uint64_t call[4], id = 9;
    char text[200], reply[200];
    size_t len = 99;
    int i, told = 9;
    char *many;
    OK(memora_client_open(service, &client));
    OK(memora_server_open(service, &server));
    CODE(memora_server_take(server, 0, text, sizeof text, &request[0]), MEMORA_NOT_FOUND);
    CODE(memora_server_take(server, 20, text, sizeof text, &request[0]), MEMORA_TIMED_OUT);
    CODE(memora_client_wait_any(client, 20, &id, reply, sizeof reply, &len), MEMORA_NOT_FOUND);
    CHECK(id == 0);
    for (i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "request %d", i);
        OK(memora_client_send(client, text, strlen(text), &call[i]));
    }
    CODE(memora_client_send(client, "x", 1, &id), MEMORA_TOO_MANY_CALLS);
    CODE(memora_client_wait(client, call[0], 0, reply, sizeof reply, &len), MEMORA_NOT_FOUND);
    CODE(memora_server_take(server, 0, text, 3, &request[0]), MEMORA_BUFFER_TOO_SMALL);
    CHECK(memora_last_error_amount() == 9);
    for (i = 0; i < 4; i++) {
        OK(memora_server_take(server, 0, text, sizeof text, &request[i]));
        CHECK(request[i].len == 9 && text[8] == (char)('0' + i) && request[i].reserved == 0);
        CHECK(i == 0 || request[i].number > request[i - 1].number);
    }
    OK(memora_server_reply(server, &request[2], "two", 3, &told));
    CHECK(told == 1);
    CODE(memora_server_reply(server, &request[2], "two", 3, &told), MEMORA_INVALID_ARGUMENT);
    /* The reply stays until it fits. */
    CODE(memora_client_wait(client, call[2], 20000, reply, 2, &len), MEMORA_BUFFER_TOO_SMALL);
    CHECK(memora_last_error_amount() == 3);
    OK(memora_client_wait(client, call[2], 20000, reply, sizeof reply, &len));
    CHECK(len == 3 && memcmp(reply, "two", 3) == 0);
    CODE(memora_client_wait(client, call[2], 0, reply, sizeof reply, &len), MEMORA_INVALID_ARGUMENT);
    OK(memora_server_refuse(server, &request[1]));
    CODE(memora_client_wait_any(client, 20000, &id, reply, sizeof reply, &len), MEMORA_UNANSWERED);
    CHECK(id == call[1]);
    CODE(memora_client_wait(client, call[0], 20, reply, sizeof reply, &len), MEMORA_TIMED_OUT);
    OK(memora_server_reply(server, &request[0], "late", 4, &told));
    CHECK(told == 0);
    OK(memora_client_cancel(client, call[3]));
    CODE(memora_client_cancel(client, call[3]), MEMORA_INVALID_ARGUMENT);
    /* Longer than any message may be. */
    many = calloc(1, TOO_LONG);
    CHECK(many != NULL);
    CODE(memora_server_reply(server, &request[3], many, TOO_LONG, &told), MEMORA_VALUE_TOO_LONG);
    OK(memora_server_reply(server, &request[3], text, 200, NULL));
    CODE(memora_client_send(client, many, TOO_LONG, &id), MEMORA_VALUE_TOO_LONG);
    free(many);
    CODE(memora_client_call(client, "q", 1, 20, reply, sizeof reply, &len), MEMORA_TIMED_OUT);
    CODE(memora_server_take(server, 0, text, sizeof text, &request[0]), MEMORA_NOT_FOUND);
    /* What is not answered when its server closes. */
    OK(memora_client_send(client, "q", 1, &call[0]));
    OK(memora_server_take(server, 0, text, sizeof text, &request[0]));
    OK(memora_server_close(server));
    CODE(memora_server_reply(server, &request[0], "x", 1, NULL), MEMORA_CLOSED);
    CODE(memora_client_wait(client, call[0], 20000, reply, sizeof reply, &len), MEMORA_UNANSWERED);
    OK(memora_client_close(client));
    CODE(memora_client_send(client, "q", 1, &id), MEMORA_CLOSED);
}

/* Longer than a cell: in memory of the fabric for as long as they are under way. */
static void long_requests_and_replies_arrive_whole(void) {
    enum { LONG = 300000 };
    memora_client_t *client = NULL;
    memora_server_t *server = NULL;
    memora_request_t request;
    uint64_t call;
    char *sent = malloc(LONG), *got = malloc(LONG);
    size_t len = 0;
    int i, round, told = 9;
    CHECK(sent != NULL && got != NULL);
    OK(memora_client_open(service, &client));
    OK(memora_server_open(service, &server));
    for (round = 0; round < 50; round++) {
        for (i = 0; i < LONG; i++) sent[i] = (char)(i * 7 + i / 251 + round);
        OK(memora_client_send(client, sent, LONG - (size_t)round, &call));
        CODE(memora_server_take(server, 0, got, 200, &request), MEMORA_BUFFER_TOO_SMALL);
        CHECK(memora_last_error_amount() == LONG - (uint64_t)round);
        OK(memora_server_take(server, 0, got, LONG, &request));
        CHECK(request.len == LONG - (size_t)round && memcmp(got, sent, request.len) == 0);
        sent[0]++;
        OK(memora_server_reply(server, &request, sent, 201 + (size_t)round, &told));
        CHECK(told == 1);
        OK(memora_client_wait(client, call, 20000, got, LONG, &len));
        CHECK(len == 201 + (size_t)round && memcmp(got, sent, len) == 0);
    }
    OK(memora_server_close(server));
    OK(memora_client_close(client));
    free(sent);
    free(got);
}

/* --- threads --- */

static void *serve(void *context) {
    memora_server_t *server = context;
    memora_request_t request;
    char text[200];
    int result;
    while ((result = memora_server_take(server, MEMORA_FOREVER, text, sizeof text, &request)) == MEMORA_OK) {
        text[0]++;
        if (memora_server_reply(server, &request, text, request.len, NULL) != MEMORA_OK) return context;
    }
    return result == MEMORA_CLOSED ? NULL : context;
}

static void a_server_waits_in_a_thread_until_it_is_closed(void) {
    memora_client_t *client = NULL;
    memora_server_t *server = NULL;
    pthread_t thread;
    void *failed = NULL;
    char reply[200];
    size_t len = 0;
    int i, right = 0;
    OK(memora_client_open(service, &client));
    OK(memora_server_open(service, &server));
    CHECK(pthread_create(&thread, NULL, serve, server) == 0);
    for (i = 0; i < 2000; i++) {
        int result = memora_client_call(client, "a", 1, 20000, reply, sizeof reply, &len);
        right += result == MEMORA_OK && len == 1 && reply[0] == 'b';
        if (i % 500 == 0) sleep_ms(60);
    }
    CHECK(right == 2000);
    OK(memora_server_close(server));
    CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
    OK(memora_client_close(client));
}

/* --- processes --- */

static void print_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context;
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
}

static int take_and_stay(void) {
    memora_fabric_t *own = NULL;
    memora_service_t *same;
    memora_server_t *server = NULL;
    memora_request_t request;
    char text[200];
    OK(memora_fabric_open("test", &own));
    same = open_service(own);
    OK(memora_server_open(same, &server));
    OK(memora_server_take(server, 20000, text, sizeof text, &request));
    *taken += 1;
    sleep_ms(60000);
    return 1;
}

static void a_dead_server_is_told_at_once_and_the_next_takes_the_rest(void) {
    memora_client_t *client = NULL;
    memora_server_t *server = NULL;
    memora_request_t request;
    memora_service_stats_t stats;
    uint64_t first, second;
    char text[200];
    size_t len = 0, count = 0;
    pid_t victim;
    *taken = 0;
    OK(memora_client_open(service, &client));
    OK(memora_client_send(client, "first", 5, &first));
    OK(memora_client_send(client, "second", 6, &second));
    victim = start(take_and_stay);
    CHECK(wait_until(taken, 1));
    CODE(memora_client_wait(client, first, 0, text, sizeof text, &len), MEMORA_NOT_FOUND);
    CHECK(kill(victim, SIGKILL) == 0 && wait_for(victim) == -SIGKILL);
    CODE(memora_client_wait(client, first, MEMORA_FOREVER, text, sizeof text, &len), MEMORA_PEER_DIED);
    OK(memora_server_open(service, &server));
    OK(memora_server_take(server, 20000, text, sizeof text, &request));
    CHECK(request.len == 6 && memcmp(text, "second", 6) == 0);
    OK(memora_server_reply(server, &request, "done", 4, NULL));
    OK(memora_client_wait(client, second, 20000, text, sizeof text, &len));
    CHECK(len == 4 && memcmp(text, "done", 4) == 0);
    OK(memora_service_stats(service, &stats, sizeof stats));
    CHECK(stats.clients == 1 && stats.servers >= 1 && stats.died == 1 && stats.asked + stats.taken + stats.left == 0);
    OK(memora_server_close(server));
    OK(memora_client_close(client));
    OK(memora_fabric_check(fabric, print_problem, NULL, &count));
    CHECK(count == 0);
}

/* --- what is wrong --- */

static void bad_input_is_told(void) {
    memora_service_options_t options;
    memora_service_t *none = NULL;
    memora_client_t *client = NULL;
    memora_request_t request;
    memset(&request, 0, sizeof request);
    OK(memora_service_options_init(&options, sizeof options));
    options.calls = 3;
    CODE(memora_service_open(fabric, "wrong", &options, &none), MEMORA_INVALID_ARGUMENT);
    options.calls = 2;
    CODE(memora_service_open(fabric, "work", &options, &none), MEMORA_WRONG_OPTIONS);
    CODE(memora_service_open(fabric, "none", NULL, &none), MEMORA_NOT_FOUND);
    CHECK(none == NULL);
    OK(memora_service_open(fabric, "work", NULL, &none));
    OK(memora_client_open(none, &client));
    CODE(memora_client_wait(client, 12345, 0, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_client_send(client, NULL, 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_client_call(client, NULL, 1, 0, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_server_take(NULL, 0, NULL, 0, &request), MEMORA_INVALID_ARGUMENT);
    CODE(memora_server_reply((memora_server_t *)client, &request, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_client_close(client));
    OK(memora_service_close(none));
    OK(memora_service_close(NULL));
}

int main(int argc, char **argv) {
    begin("service", argc, argv);
    taken = shared_int();
    OK(memora_fabric_open("test", &fabric));
    service = open_service(fabric);
    TEST(calls_end_once_in_any_order);
    TEST(long_requests_and_replies_arrive_whole);
    TEST(a_server_waits_in_a_thread_until_it_is_closed);
    TEST(a_dead_server_is_told_at_once_and_the_next_takes_the_rest);
    TEST(bad_input_is_told);
    OK(memora_service_close(service));
    OK(memora_fabric_close(fabric));
    return finish();
}
