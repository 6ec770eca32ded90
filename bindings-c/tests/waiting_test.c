/* Waiting for several sources; batches, times and ejection. */
#define _POSIX_C_SOURCE 200809L
#include "testing.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static memora_fabric_t *fabric;

static memora_channel_t *channel(const char *name, unsigned kind, unsigned eject_after_ms, unsigned timestamps) {
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.kind = kind;
    options.lane_bytes = 4096;
    options.acknowledge = kind == MEMORA_CHANNEL_QUEUE;
    options.eject_after_ms = eject_after_ms;
    options.timestamps = timestamps;
    OK(memora_channel_open(fabric, name, &options, &made));
    return made;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int readable(int fd, int timeout_ms) {
    struct pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, timeout_ms) == 1;
}

/* Sends one byte after a while. */
static void *send_late(void *context) {
    sleep_ms(20);
    OK(memora_publisher_send(context, "x", 1, NULL));
    return NULL;
}

static void who_waits_for_several_learns_which_has_something(void) {
    memora_channel_t *stream = channel("a", MEMORA_CHANNEL_STREAM, 0, 0), *queue = channel("b", MEMORA_CHANNEL_QUEUE, 0, 0);
    memora_source_t sources[2] = {{NULL, NULL}, {NULL, NULL}};
    memora_publisher_t *publishers[2] = {NULL, NULL};
    memora_readiness_t *readiness = NULL;
    memora_delivery_t delivery;
    char byte;
    size_t ready = 9;
    int fd = -1;
    OK(memora_subscriber_open(stream, NULL, &sources[0].subscriber));
    OK(memora_consumer_open(queue, &sources[1].consumer));
    OK(memora_publisher_open(stream, &publishers[0]));
    OK(memora_publisher_open(queue, &publishers[1]));
    OK(memora_readiness_open(&readiness));
    OK(memora_readiness_fd(readiness, &fd));
    CHECK(!readable(fd, 0));
    CODE(memora_wait_any(sources, 1, 0, &ready), MEMORA_TIMED_OUT);
    CODE(memora_wait_any(sources, 1, 5, &ready), MEMORA_TIMED_OUT);
    CODE(memora_wait_any(sources, 0, 5, &ready), MEMORA_INVALID_ARGUMENT);
    CODE(memora_wait_any(NULL, 2, 5, &ready), MEMORA_INVALID_ARGUMENT);
    for (int round = 0; round < 8; round++) {
        const int which = round % 2, by_descriptor = round % 4 / 2;
        pthread_t sender;
        int tries = 0;
        CHECK(pthread_create(&sender, NULL, send_late, publishers[which]) == 0);
        for (;; tries++) {
            if (by_descriptor) {
                OK(memora_readiness_arm(readiness, sources, 2));
                CHECK(readable(fd, 20000));
            } else {
                OK(memora_wait_any(sources, 2, MEMORA_FOREVER, &ready));
            }
            /* A consumer may have had to look after what others hold. */
            if (which == 0 && memora_subscriber_try_recv(sources[0].subscriber, &byte, 1, NULL) == MEMORA_OK) break;
            if (which == 1 && memora_consumer_try_recv(sources[1].consumer, &byte, 1, &delivery) == MEMORA_OK) break;
        }
        CHECK(by_descriptor || tries > 0 || ready == (size_t)which);
        if (which == 1) OK(memora_consumer_ack(sources[1].consumer, &delivery.receipt));
        pthread_join(sender, NULL);
    }
    /* A message that did not fit is there, although it is in no ring any more. */
    OK(memora_publisher_send(publishers[1], "long", 4, NULL));
    CODE(memora_consumer_try_recv(sources[1].consumer, &byte, 1, &delivery), MEMORA_BUFFER_TOO_SMALL);
    OK(memora_wait_any(sources, 2, 5000, &ready));
    CHECK(ready == 1);
    OK(memora_readiness_arm(readiness, sources, 2));
    CHECK(readable(fd, 0));
    /* What cannot be. */
    memora_source_t both = {sources[0].subscriber, sources[1].consumer}, none = {NULL, NULL};
    CODE(memora_wait_any(&both, 1, 5, &ready), MEMORA_INVALID_ARGUMENT);
    CODE(memora_wait_any(&none, 1, 5, &ready), MEMORA_INVALID_ARGUMENT);
    CODE(memora_readiness_fd(readiness, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_close(sources[0].subscriber));
    CODE(memora_wait_any(sources, 2, 5, &ready), MEMORA_CLOSED);
    OK(memora_readiness_close(readiness));
    CODE(memora_readiness_arm(readiness, sources, 2), MEMORA_CLOSED);
    OK(memora_consumer_close(sources[1].consumer));
    OK(memora_publisher_close(publishers[0]));
    OK(memora_publisher_close(publishers[1]));
    OK(memora_channel_close(stream));
    OK(memora_channel_close(queue));
}

static void messages_that_are_sent_together_come_together_with_their_time(void) {
    memora_channel_t *stamped = channel("stamped", MEMORA_CHANNEL_BROADCAST, 0, 1);
    memora_bytes_t batch[3] = {{"one", 3}, {"", 0}, {"three", 5}};
    static char large[4096];
    memora_bytes_t much[2] = {{large, 1500}, {large, 1500}};
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char buffer[64];
    uint64_t position = 0;
    const uint64_t before = now_ns();
    OK(memora_subscriber_open(stamped, NULL, &subscriber));
    OK(memora_publisher_open(stamped, &publisher));
    OK(memora_publisher_send_all(publisher, batch, 3, MEMORA_FOREVER, &position));
    for (int number = 0; number < 3; number++) {
        OK(memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, &message));
        CHECK(message.len == batch[number].len && memcmp(buffer, batch[number].data, message.len) == 0);
        CHECK(message.sent_ns >= before && message.sent_ns <= now_ns());
    }
    CHECK(message.position == position);
    CODE(memora_publisher_send_all(publisher, much, 2, 0, NULL), MEMORA_VALUE_TOO_LONG);
    CODE(memora_publisher_send_all(publisher, NULL, 2, 0, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_publisher_send_all(publisher, NULL, 0, 0, NULL));
    while (memora_publisher_send_all(publisher, batch, 3, 0, NULL) == MEMORA_OK) continue;
    CODE(memora_publisher_send_all(publisher, batch, 3, 0, NULL), MEMORA_BACK_PRESSURE);
    CODE(memora_publisher_send_all(publisher, batch, 3, 5, NULL), MEMORA_TIMED_OUT);
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(stamped));
}

static void who_stands_still_is_ejected(void) {
    memora_channel_t *strict = channel("strict", MEMORA_CHANNEL_BROADCAST, 50, 0);
    memora_channel_options_t options;
    memora_channel_t *refused = NULL;
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_channel_stats_t stats;
    memora_source_t source;
    char buffer[64];
    OK(memora_subscriber_open(strict, NULL, &subscriber));
    OK(memora_publisher_open(strict, &publisher));
    for (int number = 0; number < 300; number++) OK(memora_publisher_send(publisher, "0123456789abcdef", 16, NULL));
    OK(memora_channel_stats(strict, &stats, sizeof stats));
    CHECK(stats.ejected == 1 && stats.subscriptions == 0);
    CODE(memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, NULL), MEMORA_EJECTED);
    source.subscriber = subscriber;
    source.consumer = NULL;
    CODE(memora_wait_any(&source, 1, 5, NULL), MEMORA_EJECTED);
    OK(memora_channel_options_init(&options, sizeof options));
    options.overrun = MEMORA_OVERRUN_LOSE;
    options.eject_after_ms = 50;
    CODE(memora_channel_open(fabric, "never", &options, &refused), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(strict));
}

int main(int argc, char **argv) {
    begin("waiting", argc, argv);
    OK(memora_fabric_open("waiting", &fabric));
    TEST(who_waits_for_several_learns_which_has_something);
    TEST(messages_that_are_sent_together_come_together_with_their_time);
    TEST(who_stands_still_is_ejected);
    OK(memora_fabric_close(fabric));
    return finish();
}
