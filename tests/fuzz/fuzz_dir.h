/* What the directory fuzzer makes of its bytes; see fuzz_dir.c. */
#ifndef TESTS_FUZZ_DIR_H
#define TESTS_FUZZ_DIR_H

#include "base/buf.h"

/* Decisions, one byte each; 0, the tame choice, once they are used up. */
typedef struct bytes {
    const uint8_t *at;
    size_t n;
} bytes;

/* One directory holds all of it, and is the working directory:
 *   in        the input
 *   out       the output, with what was there before
 *   canary    what links lead to: nobody may change it */
#define IN "in"
#define OUT "out"
#define CANARY "canary"

unsigned take(bytes *b);
/* Below n. */
unsigned pick(bytes *b, unsigned n);

/* What one case is about, and what is known of it. */
typedef struct scene {
    sw_options opt;
    sw_sharding sharding;
    const char *include[2], *exclude[2], *rules[2];
    sw_name_rule rename[2];
    bool
        /* a journal that is bound to its directory stands in OUT: its publication may be completed
         * or undone */
        bound;
} scene;

void must(bool holds, const char *what);

/* Make in, out and what else the bytes say. */
void make_input(bytes *b);
void make_output(bytes *b, scene *s);
void choose_options(bytes *b, scene *s);

/* A directory with files that links and names may lead to. */
void make_canary(void);

/* Remove what is there, of any kind, and make the directories above. False, with nothing done,
 * where one of those is something else. */
bool clear_path(const char *path);

/* Write a file there. */
void put(const char *path, const void *data, size_t n);

#endif
