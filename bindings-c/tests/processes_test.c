/* Two processes on one fabric, and peers that are killed at any moment. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static memora_channel_t *open_channel(memora_fabric_t *fabric, const char *name) {
    memora_channel_options_t options;
    memora_channel_t *channel = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.lane_bytes = 65536;
    OK(memora_channel_open(fabric, name, &options, &channel));
    return channel;
}

static void print_problem(void *context, const char *layer, const char *what, const char *place) {
    (void)context;
    fprintf(stderr, "check: %s: %s at %s\n", layer, what, place);
}

static void nothing_is_wrong(memora_fabric_t *fabric) {
    size_t count = 0;
    OK(memora_fabric_check(fabric, print_problem, NULL, &count));
    CHECK(count == 0);
}

/* --- what one process sets, the other gets --- */

static int answer(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    memora_channel_t *questions, *answers;
    memora_subscriber_t *subscriber = NULL;
    memora_publisher_t *publisher = NULL;
    char text[64], value[64];
    memora_message_t message;
    size_t len = 0;
    OK(memora_fabric_open("pair", &fabric));
    OK(memora_cache_open(fabric, "shared", NULL, &cache));
    questions = open_channel(fabric, "questions");
    answers = open_channel(fabric, "answers");
    OK(memora_subscriber_open(questions, "answerer", &subscriber));
    OK(memora_publisher_open(answers, &publisher));
    for (;;) {
        OK(memora_subscriber_recv(subscriber, text, sizeof text, 20000, &message));
        if (message.len == 3 && memcmp(text, "end", 3) == 0) break;
        if (memora_cache_get(cache, text, message.len, value, sizeof value, &len) != MEMORA_OK) return 1;
        OK(memora_publisher_send(publisher, value, len, NULL));
    }
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(questions));
    OK(memora_channel_close(answers));
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
    return 0;
}

static void children_answer(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    memora_channel_t *questions, *answers;
    memora_subscriber_t *subscriber = NULL, *first = NULL;
    memora_publisher_t *publisher = NULL;
    memora_message_t message;
    char key[16], value[32], text[64];
    pid_t peer;
    int i;
    OK(memora_fabric_open("pair", &fabric));
    OK(memora_cache_open(fabric, "shared", NULL, &cache));
    questions = open_channel(fabric, "questions");
    answers = open_channel(fabric, "answers");
    /* Makes the subscription, so that nothing is lost before the peer is there. */
    OK(memora_subscriber_open(questions, "answerer", &first));
    OK(memora_subscriber_close(first));
    OK(memora_subscriber_open(answers, NULL, &subscriber));
    OK(memora_publisher_open(questions, &publisher));
    peer = start(answer);
    for (i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        snprintf(value, sizeof value, "value of %d", i);
        OK(memora_cache_set(cache, key, strlen(key), value, strlen(value), NULL, NULL));
        OK(memora_publisher_send(publisher, key, strlen(key), NULL));
        OK(memora_subscriber_recv(subscriber, text, sizeof text, 20000, &message));
        CHECK(message.len == strlen(value) && memcmp(text, value, message.len) == 0);
    }
    OK(memora_publisher_send(publisher, "end", 3, NULL));
    CHECK(wait_for(peer) == 0);
    nothing_is_wrong(fabric);
    OK(memora_fabric_close(fabric));
}

/* --- writers that are killed --- */

static volatile int *progress;

static int write_for_ever(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    char key[16], value[2000];
    uint64_t initial = 0;
    unsigned turn = 0;
    OK(memora_fabric_open("killed", &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    for (;; turn++) {
        size_t len = 1 + (turn * 7919u) % (sizeof value - 1);
        snprintf(key, sizeof key, "k%u", turn % 50);
        memset(value, 'a' + (int)(turn % 26), sizeof value);
        if (memora_cache_set(cache, key, strlen(key), value, len, NULL, NULL) != MEMORA_OK) return 1;
        if (memora_cache_increment(cache, "n", 1, 1, &initial, NULL) != MEMORA_OK) return 2;
        if (turn % 5 == 0) (void)memora_cache_delete(cache, key, strlen(key));
        ++*progress;
    }
}

static void killed_writers_leave_whole_values(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *cache = NULL;
    char key[16], value[2000];
    size_t len, at;
    int round, rounds = getenv("MEMORA_TORTURE") ? 300 : 25, i, result;
    uint64_t before = 0, now = 0;
    OK(memora_fabric_open("killed", &fabric));
    OK(memora_cache_open(fabric, "c", NULL, &cache));
    for (round = 0; round < rounds; round++) {
        pid_t writer;
        *progress = 0;
        writer = start(write_for_ever);
        for (i = 0; i < 20000 && *progress < 50 + round; i++) sleep_ms(1);
        CHECK(kill(writer, SIGKILL) == 0);
        CHECK(wait_for(writer) == -SIGKILL);
        for (i = 0; i < 50; i++) {
            snprintf(key, sizeof key, "k%d", i);
            result = memora_cache_get(cache, key, strlen(key), value, sizeof value, &len);
            CHECK(result == MEMORA_OK || result == MEMORA_NOT_FOUND);
            if (result != MEMORA_OK) continue;
            /* Whole: all bytes of one value. */
            for (at = 1; at < len && value[at] == value[0]; at++) {
            }
            CHECK(at == len);
            OK(memora_cache_set(cache, key, strlen(key), "z", 1, NULL, NULL));
        }
        /* What was counted stays counted. */
        OK(memora_cache_increment(cache, "n", 1, 1, &now, &now));
        CHECK(now > before);
        before = now;
        nothing_is_wrong(fabric);
    }
    OK(memora_cache_close(cache));
    OK(memora_fabric_close(fabric));
}

/* --- a named subscriber that is killed sees the last messages again, and misses none --- */

enum { MESSAGES = 3000 };

static int consume(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *seen = NULL;
    memora_channel_t *channel;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char text[16];
    uint64_t initial = 1;
    OK(memora_fabric_open("consumed", &fabric));
    OK(memora_cache_open(fabric, "seen", NULL, &seen));
    channel = open_channel(fabric, "work");
    /* The place of a killed holder is free at once. */
    OK(memora_subscriber_open(channel, "worker", &subscriber));
    for (;;) {
        OK(memora_subscriber_recv(subscriber, text, sizeof text, 20000, &message));
        if (message.len == 3 && memcmp(text, "end", 3) == 0) break;
        OK(memora_cache_increment(seen, text, message.len, 1, &initial, NULL));
        ++*progress;
    }
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(channel));
    OK(memora_cache_close(seen));
    OK(memora_fabric_close(fabric));
    return 0;
}

static void killed_consumers_see_the_last_messages_again(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *seen = NULL;
    memora_channel_t *channel;
    memora_subscriber_t *subscriber = NULL;
    memora_publisher_t *publisher = NULL;
    char text[16], value[16];
    size_t len = 0;
    int i, kills = 0, twice = 0;
    pid_t worker;
    OK(memora_fabric_open("consumed", &fabric));
    OK(memora_cache_open(fabric, "seen", NULL, &seen));
    channel = open_channel(fabric, "work");
    OK(memora_subscriber_open(channel, "worker", &subscriber));
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_open(channel, &publisher));
    *progress = 0;
    worker = start(consume);
    for (i = 0; i < MESSAGES; i++) {
        snprintf(text, sizeof text, "m%d", i);
        OK(memora_publisher_send_timeout(publisher, text, strlen(text), 20000, NULL));
        if (i % 300 == 299) {
            CHECK(kill(worker, SIGKILL) == 0);
            CHECK(wait_for(worker) == -SIGKILL);
            kills++;
            worker = start(consume);
        }
    }
    OK(memora_publisher_send(publisher, "end", 3, NULL));
    CHECK(wait_for(worker) == 0);
    for (i = 0; i < MESSAGES; i++) {
        snprintf(text, sizeof text, "m%d", i);
        memset(value, 0, sizeof value);
        OK(memora_cache_get(seen, text, strlen(text), value, sizeof value, &len));
        CHECK(atoi(value) >= 1);
        if (atoi(value) > 1) twice++;
    }
    /* Each kill can show the one message again that was being handled. */
    CHECK(kills == MESSAGES / 300 && twice <= kills);
    nothing_is_wrong(fabric);
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(channel));
    OK(memora_cache_close(seen));
    OK(memora_fabric_close(fabric));
}

/* --- publishers that are killed block nobody --- */

static int publish_for_ever(void) {
    memora_fabric_t *fabric = NULL;
    memora_channel_t *channel;
    memora_publisher_t *publisher = NULL;
    char text[300];
    OK(memora_fabric_open("published", &fabric));
    channel = open_channel(fabric, "news");
    OK(memora_publisher_open(channel, &publisher));
    while (memora_publisher_abort(publisher) != MEMORA_CLOSED) {
        memset(text, 'a' + *progress % 26, sizeof text);
        (void)memora_publisher_send_timeout(publisher, text, 1 + (size_t)(*progress % 299), 20, NULL);
        ++*progress;
    }
    return 1;
}

static void killed_publishers_hold_nobody_back(void) {
    memora_fabric_t *fabric = NULL;
    memora_channel_t *channel;
    memora_subscriber_t *subscriber = NULL;
    memora_publisher_t *publisher = NULL;
    memora_message_t message;
    char text[512];
    int round, i, result;
    OK(memora_fabric_open("published", &fabric));
    channel = open_channel(fabric, "news");
    OK(memora_subscriber_open(channel, NULL, &subscriber));
    for (round = 0; round < 20; round++) {
        pid_t writer;
        size_t at;
        *progress = 0;
        writer = start(publish_for_ever);
        for (i = 0; i < 20000 && *progress < 100; i++) sleep_ms(1);
        CHECK(kill(writer, SIGKILL) == 0);
        CHECK(wait_for(writer) == -SIGKILL);
        while ((result = memora_subscriber_try_recv(subscriber, text, sizeof text, &message)) == MEMORA_OK) {
            for (at = 1; at < message.len && text[at] == text[0]; at++) {
            }
            CHECK(at == message.len);
        }
        CHECK(result == MEMORA_NOT_FOUND);
    }
    OK(memora_publisher_open(channel, &publisher));
    OK(memora_publisher_send(publisher, "alive", 5, NULL));
    OK(memora_subscriber_recv(subscriber, text, sizeof text, 20000, &message));
    CHECK(message.len == 5 && memcmp(text, "alive", 5) == 0);
    nothing_is_wrong(fabric);
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(channel));
    OK(memora_fabric_close(fabric));
}

int main(int argc, char **argv) {
    begin("processes", argc, argv);
    progress = shared_int();
    /* The children are forked from a process that uses the library: they open everything anew. */
    TEST(children_answer);
    TEST(killed_writers_leave_whole_values);
    TEST(killed_consumers_see_the_last_messages_again);
    TEST(killed_publishers_hold_nobody_back);
    return finish();
}
