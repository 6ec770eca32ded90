/* The history of a stress worker: JSON lines, one write(2) each. See docs/stress.md. */
#ifndef HISTORY_H
#define HISTORY_H

#include <stddef.h>
#include <stdint.h>

/* One line that is being made. Text that does not fit is an error of the program, never cut. */
struct line {
    char text[262144];
    size_t len;
};

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);
/* FNV-1a, 64 bits. */
uint64_t fnv1a(const void *bytes, size_t len);

void seed_random(const char *seed);
/* A number below `bound`. */
uint64_t draw(uint64_t bound);
/* Bytes computed from a text: the numbers of another generator that is started from it, little endian. */
void derive(const char *text, size_t text_len, unsigned char *bytes, size_t len);

/* Opens the file for appending; ends the process if that cannot be. */
void open_history(const char *path);

/* {"c":"<client>","op":"<op>" */
void begin_line(struct line *line, const char *client, const char *op);
/* ,"name":"text": bytes that are not plain ASCII become '?'. */
void add_text(struct line *line, const char *name, const void *text, size_t len);
/* ,"name":number */
void add_number(struct line *line, const char *name, uint64_t number);
/* ,"name":true or false */
void add_bool(struct line *line, const char *name, int value);
/* Closes the line and writes it. The line may be added to again: the closing is taken back. */
void write_line(struct line *line);

#endif
