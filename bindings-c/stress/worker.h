/* What the workers have in common. */
#ifndef WORKER_H
#define WORKER_H

#include "history.h"

#include <memora.h>

/* The name of this worker, and the line of its open operation. */
extern char client[256];
extern struct line line;

/* Ends the worker with what the library says. */
void fail(const char *what);
/* Whether another step is to be done. */
int more(uint64_t done, uint64_t started);
/* Begins the line of an operation; the arguments follow. */
void ask(const char *op, const char *key);
/* Writes the question. The call comes next. */
void question(void);
/* The call returned; the answer follows. */
void answered(void);
/* Writes the answer of an operation that failed, and ends if it must not have. */
void write_error(const char *what, int result);
/* Writes the answer of a write: `refused` is the code that says it did not store. */
void wrote(const char *what, int result, int refused);

/* The worker on caches that evict. */
void run_evict(memora_fabric_t *fabric, uint64_t started);

#endif
