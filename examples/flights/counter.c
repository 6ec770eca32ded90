/* The C program of the flights example: counter FABRIC
 *
 * Takes every flight from the broadcast channel `flights` by the named subscription `counter` and keeps, for each airport of
 * origin, the number of flights and the sum of their delays in the cache `airports`. Ends after the message `end`.
 *
 * A message is a line of flights.csv: date,origin,destination,distance_mi,delay_min. An entry of the cache has the airport's
 * code as its key, and as its value the text "count delay_sum last_position". The position is that of the last message that
 * was counted: the place of a subscription moves only after a message was handled, so who is killed and started again sees
 * the last one once more, and skips it if its position is not beyond that of the entry. Count, sum and position stand in one
 * value, which is written in one step: a message is counted with its position or not at all. */
#include <inttypes.h>
#include <memora.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_LEN_MAX = 256, VALUE_LEN_MAX = 80 };

static int fail(const char *what) {
    fprintf(stderr, "counter: %s: %s\n", what, memora_last_error_message());
    return 1;
}

/* Finds the origin (between the first and the second comma) and the delay (after the last). */
static int parse(char *line, char **origin, size_t *origin_len, long long *delay) {
    char *first = strchr(line, ',');
    char *second = first ? strchr(first + 1, ',') : NULL;
    char *last = strrchr(line, ','), *end = NULL;
    if (!second || second == first + 1 || last == second) return 0;
    *origin = first + 1;
    *origin_len = (size_t)(second - first - 1);
    *delay = strtoll(last + 1, &end, 10);
    return end != last + 1 && (*end == '\0' || *end == '\r' || *end == '\n');
}

/* Counts one flight, unless it was counted before. */
static int count(memora_cache_t *airports, const char *origin, size_t origin_len, long long delay, uint64_t position) {
    char value[VALUE_LEN_MAX + 1];
    long long flights = 0, delay_sum = 0;
    uint64_t last_position = 0;
    size_t len = 0;
    int written;
    int result = memora_cache_get(airports, origin, origin_len, value, VALUE_LEN_MAX, &len);
    if (result == MEMORA_OK) {
        value[len] = '\0';
        if (sscanf(value, "%lld %lld %" SCNu64, &flights, &delay_sum, &last_position) != 3) {
            fprintf(stderr, "counter: the entry of %.*s is not ours: %s\n", (int)origin_len, origin, value);
            return 1;
        }
        if (position <= last_position) return 0;
    } else if (result != MEMORA_NOT_FOUND) {
        return fail("reading an airport");
    }
    written = snprintf(value, sizeof value, "%lld %lld %" PRIu64, flights + 1, delay_sum + delay, position);
    result = memora_cache_set(airports, origin, origin_len, value, (size_t)written, NULL, NULL);
    return result < 0 ? fail("writing an airport") : 0;
}

/* Takes flights until the end marker. */
static int run(memora_subscriber_t *subscriber, memora_cache_t *airports) {
    char line[MESSAGE_LEN_MAX + 1];
    memora_message_t message;
    for (;;) {
        char *origin = NULL;
        size_t origin_len = 0;
        long long delay = 0;
        if (memora_subscriber_recv(subscriber, line, MESSAGE_LEN_MAX, MEMORA_FOREVER, &message) < 0) {
            return fail("receiving a flight");
        }
        line[message.len] = '\0';
        if (strcmp(line, "end") == 0) return 0;
        if (!parse(line, &origin, &origin_len, &delay)) {
            fprintf(stderr, "counter: this is not a flight: %s\n", line);
            return 1;
        }
        if (count(airports, origin, origin_len, delay, message.position) != 0) return 1;
    }
}

int main(int argc, char **argv) {
    memora_fabric_t *fabric = NULL;
    memora_channel_t *flights = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_cache_t *airports = NULL;
    int status = 1;
    if (argc != 2) {
        fprintf(stderr, "usage: counter FABRIC\n");
        return 2;
    }
    if (memora_fabric_open(argv[1], &fabric) < 0) {
        fail(argv[1]);
    } else if (memora_channel_open(fabric, "flights", NULL, &flights) < 0) {
        fail("channel flights");
    } else if (memora_subscriber_open(flights, "counter", &subscriber) < 0) {
        fail("subscription counter");
    } else if (memora_cache_open(fabric, "airports", NULL, &airports) < 0) {
        fail("cache airports");
    } else {
        status = run(subscriber, airports);
    }
    memora_cache_close(airports);
    /* Closing says that the last message was handled. */
    memora_subscriber_close(subscriber);
    memora_channel_close(flights);
    memora_fabric_close(fabric);
    return status;
}
