#define _XOPEN_SOURCE 700

#include "history.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int file = -1;
static uint64_t state;

uint64_t now_ns(void) {
    struct timespec time;
    /* What the call before stored may still be on its way out of this core: the time must not be earlier than that. */
    __sync_synchronize();
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t fnv1a(const void *bytes, size_t len) {
    const unsigned char *byte = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    size_t i;
    for (i = 0; i < len; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

void seed_random(const char *seed) { state = fnv1a(seed, strlen(seed)); }

/* splitmix64 */
static uint64_t next(uint64_t *from) {
    uint64_t z = *from += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t draw(uint64_t bound) { return next(&state) % bound; }

void derive(const char *text, size_t text_len, unsigned char *bytes, size_t len) {
    uint64_t from = fnv1a(text, text_len), number = 0;
    size_t i;
    for (i = 0; i < len; i++) {
        if (i % 8 == 0) number = next(&from);
        bytes[i] = (unsigned char)(number >> 8 * (i % 8));
    }
}

void open_history(const char *path) {
    file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0) {
        perror(path);
        exit(1);
    }
}

static void add(struct line *line, const char *text, size_t len) {
    if (len > sizeof line->text - line->len - 2) {
        fprintf(stderr, "stress: a line of the history is longer than %zu bytes\n", sizeof line->text);
        exit(1);
    }
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void add_name(struct line *line, const char *name) {
    add(line, ",\"", 2);
    add(line, name, strlen(name));
    add(line, "\":", 2);
}

void begin_line(struct line *line, const char *client, const char *op) {
    line->len = 0;
    add(line, "{\"c\":\"", 6);
    add(line, client, strlen(client));
    add(line, "\",\"op\":\"", 8);
    add(line, op, strlen(op));
    add(line, "\"", 1);
}

void add_text(struct line *line, const char *name, const void *text, size_t len) {
    const unsigned char *byte = text;
    size_t i, start;
    add_name(line, name);
    add(line, "\"", 1);
    start = line->len;
    if (len > 0) add(line, text, len);
    for (i = 0; i < len; i++) {
        if (byte[i] < 0x20 || byte[i] > 0x7e || byte[i] == '"' || byte[i] == '\\') line->text[start + i] = '?';
    }
    add(line, "\"", 1);
}

void add_number(struct line *line, const char *name, uint64_t number) {
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRIu64, number);
    add_name(line, name);
    add(line, text, (size_t)len);
}

void add_bool(struct line *line, const char *name, int value) {
    add_name(line, name);
    add(line, value ? "true" : "false", value ? 4 : 5);
}

void write_line(struct line *line) {
    ssize_t written;
    line->text[line->len] = '}';
    line->text[line->len + 1] = '\n';
    written = write(file, line->text, line->len + 2);
    if (written != (ssize_t)line->len + 2) {
        perror("stress: writing the history");
        exit(1);
    }
}
