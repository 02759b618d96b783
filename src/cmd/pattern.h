/* Names that repeat, told once: model.layers.{0-59}.mlp.experts.{0-255}.w1.weight. A name is split
 * where it has numbers; those that differ in nothing else, and are of one kind, become as few
 * patterns as tell exactly which of them there are. Of a model with 100,000 tensors that is a few
 * dozen. All local. */
#ifndef SW_CMD_PATTERN_H
#define SW_CMD_PATTERN_H

#include "shardweld.h"

typedef struct sw_pattern {
    char *name;      /* owned */
    uint64_t first;  /* the lowest of the names that it stands for */
    uint64_t count;  /* so many they are */
    uint64_t amount; /* for who counts something of them; zero at first */
} sw_pattern;

typedef struct sw_patterns {
    sw_pattern *items; /* by first */
    size_t n, cap;
    size_t *of; /* the pattern of each name */
} sw_patterns;

#define SW_PATTERNS_INIT                                                                                     \
    {                                                                                                        \
        NULL, 0, 0, NULL                                                                                     \
    }

/* What is asked about names: index i runs below n.
 *   name   of i
 *   order  of two: 0 = they are of one kind, else which comes first; NULL = all are
 *   about  for both
 *   each   nobody asks for patterns: each name stands by itself
 *   files  numbers are those of files: any digits, filled up to one width; else whole words between
 *          dots or slashes */
typedef struct sw_named {
    size_t n;
    const char *(*name)(const void *about, uint64_t i);
    int (*order)(const void *about, uint64_t a, uint64_t b);
    const void *about;
    bool files, each;
} sw_named;

/* Find the patterns. O(n log n).
 *   out  SW_PATTERNS_INIT; release with sw_patterns_release(), after an error too
 * Errors: SW_ENOMEM. */
sw_code sw_patterns_find(const sw_named *names, sw_patterns *out, sw_status *st);

/* The largest amount first; of equal ones the first name. `of` holds no more. */
void sw_patterns_by_amount(sw_patterns *p);

void sw_patterns_release(sw_patterns *p);

#endif
