/* Our channels through C: one of the two processes of a contestant. The protocol is that of src/channels/worker.rs. */
#define _POSIX_C_SOURCE 200809L
#include <memora.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *folder;
static int first;

static char name[32], what[32];
static size_t size;
static unsigned long count, warm, number;

static void must(int result, const char *call) {
    if (result == MEMORA_OK) return;
    fprintf(stderr, "%s: %s\n", call, memora_last_error_message());
    exit(1);
}
#define MUST(call) must((call), #call)

static unsigned long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (unsigned long long)time.tv_sec * 1000000000ull + (unsigned long long)time.tv_nsec;
}

static memora_fabric_t *fabric;

static memora_channel_t *channel(const char *direction) {
    static char full[32];
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    MUST(memora_channel_options_init(&options, sizeof options));
    options.kind = MEMORA_CHANNEL_STREAM;
    if (size > 4096) options.lane_bytes = 1u << 20;
    snprintf(full, sizeof full, "%s%s", direction, size > 4096 ? "-large" : "");
    MUST(memora_channel_open(fabric, full, &options, &made));
    return made;
}

static unsigned long long next, start, counted;

static void check(void *context, const memora_message_t *message, const void *data, size_t len) {
    (void)context;
    (void)message;
    if (len != size || memcmp(data, &next, 8) != 0 || memcmp((const char *)data + size - 8, &next, 8) != 0) {
        fprintf(stderr, "message %llu is not whole or not in its place\n", next);
        exit(1);
    }
    next++;
}

static void rate(void) {
    unsigned long long end = warm + count;
    memora_channel_t *there = channel("there");
    if (first) {
        memora_publisher_t *publisher = NULL;
        char *message = malloc(size);
        unsigned long long i;
        memset(message, 7, size);
        MUST(memora_publisher_open(there, &publisher));
        for (i = 0; i < end; i++) {
            memcpy(message + size - 8, &i, 8);
            memcpy(message, &i, 8);
            MUST(memora_publisher_send(publisher, message, size, NULL));
        }
        MUST(memora_publisher_close(publisher));
        free(message);
        printf("done\n");
    } else {
        memora_subscriber_t *subscriber = NULL;
        MUST(memora_subscriber_open(there, NULL, &subscriber));
        puts("ready");
        fflush(stdout);
        next = start = counted = 0;
        while (next < end) {
            if (strcmp(name, "copied") == 0) {
                MUST(memora_subscriber_poll(subscriber, 256, check, NULL, NULL));
            } else {
                MUST(memora_subscriber_poll_in_place(subscriber, 256, check, NULL, NULL));
            }
            if (start == 0 && next >= warm) {
                start = now();
                counted = end - next;
            }
        }
        printf("done %llu %llu\n", now() - start, counted);
        MUST(memora_subscriber_close(subscriber));
    }
    MUST(memora_channel_close(there));
}

static void take(void *context, const memora_message_t *message, const void *data, size_t len) {
    (void)message;
    (void)data;
    if (len == size) *(int *)context = 1;
}

/* Receives one message into `into`, asleep or polling. */
static void receive(memora_subscriber_t *subscriber, char *into, int blocking) {
    int result;
    if (blocking) {
        MUST(memora_subscriber_recv(subscriber, into, size, MEMORA_FOREVER, NULL));
        return;
    }
    do {
        result = memora_subscriber_try_recv(subscriber, into, size, NULL);
    } while (result == MEMORA_NOT_FOUND);
    must(result, "memora_subscriber_try_recv");
}

static void round_trips(void) {
    unsigned long long end = warm + count, i;
    int blocking = strcmp(what, "block") == 0;
    memora_channel_t *there = channel("there"), *back = channel("back");
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    char *message = malloc(size);
    memset(message, 7, size);
    MUST(memora_subscriber_open(first ? back : there, NULL, &subscriber));
    MUST(memora_publisher_open(first ? there : back, &publisher));
    if (!first) {
        puts("ready");
        fflush(stdout);
        for (i = 0; i < end; i++) {
            receive(subscriber, message, blocking);
            MUST(memora_publisher_send(publisher, message, size, NULL));
        }
        printf("done\n");
    } else {
        char file[512];
        FILE *times;
        uint32_t *all = malloc(count * sizeof *all);
        for (i = 0; i < end; i++) {
            unsigned long long began = now(), gone = 0;
            while (blocking && now() - began < 200000) {}
            began = now();
            MUST(memora_publisher_send(publisher, message, size, NULL));
            if (blocking) {
                receive(subscriber, message, 1);
            } else {
                int taken = 0;
                while (!taken) MUST(memora_subscriber_poll_in_place(subscriber, 1, take, &taken, NULL));
            }
            gone = now() - began;
            if (i >= warm) all[i - warm] = gone > 0xffffffffu ? 0xffffffffu : (uint32_t)gone;
        }
        snprintf(file, sizeof file, "%s/times", folder);
        times = fopen(file, "wb");
        if (times == NULL || fwrite(all, sizeof *all, count, times) != count || fclose(times) != 0) exit(1);
        free(all);
        printf("done %s\n", file);
    }
    free(message);
    MUST(memora_publisher_close(publisher));
    MUST(memora_subscriber_close(subscriber));
    MUST(memora_channel_close(there));
    MUST(memora_channel_close(back));
}

int main(void) {
    char line[256], home[512];
    const char *side = getenv("MEMORA_CHANNELS_SIDE");
    memora_fabric_options_t options;
    folder = getenv("MEMORA_CHANNELS_FOLDER");
    if (folder == NULL || side == NULL) return 2;
    first = side[0] == 'a';
    snprintf(home, sizeof home, "%s/memora", folder);
    MUST(memora_fabric_options_init(&options, sizeof options));
    options.home = home;
    MUST(memora_fabric_open_with("bench-c", &options, &fabric));
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "%31s %31s %zu %lu %lu", name, what, &size, &count, &number) != 5) return 2;
        warm = count / 10 + 1;
        if (strcmp(what, "rate") == 0) {
            rate();
        } else {
            round_trips();
        }
        fflush(stdout);
    }
    return 0;
}
