/* From a box, or a range of bytes, of a tensor that somebody wants to the bytes of the source boxes
 * that make it up. Pure.
 *
 * What a wanted box shares with one source box is a box again. On either side its elements stand at
 * strides: those of the source box in the file, the caller's in memory. A run is that, with all
 * dimensions joined that can be: rows that are contiguous on both sides, in nested loops.
 * Everything is counted in bits until the run is whole, so that dtypes narrower than a byte need
 * no rules of their own. */
#ifndef SW_PLAN_RUNS_H
#define SW_PLAN_RUNS_H

#include "plan/catalog.h"

/* What is wanted of a tensor, and where its elements go. Borrowed, one number a dimension. */
typedef struct sw_run_target {
    const uint64_t *offsets, *shape; /* elements */
    /* bits of memory from one element to the next; may be negative; NULL = packed */
    const int64_t *strides;
} sw_run_target;

typedef struct sw_run_loop {
    uint64_t count;
    uint64_t from; /* bytes from one to the next in the file */
    int64_t to;    /* the same in memory */
} sw_run_loop;

/* Loops run outermost first, which is the order of the file; a run without loops is one row. */
typedef struct sw_run {
    uint32_t file; /* index into catalog->files */
    uint64_t at;   /* absolute position of its first byte in the file */
    int64_t to;    /* where that goes: bytes from the first element of the wanted box */
    uint64_t row;  /* bytes of one row */
    uint64_t n;    /* bytes: row times all counts */
    unsigned nloops;
    sw_run_loop loops[SW_MAX_DIMS];
} sw_run;

typedef enum sw_run_kind {
    SW_RUN_NONE,   /* nothing is shared */
    SW_RUN_SHARED, /* the run is filled */
    SW_RUN_UNEVEN, /* it would begin or end within a byte (F4, F6) */
} sw_run_kind;

/* Local. What the target shares with source box k (below nboxes) of tensor t. The target lies in
 * the tensor, and its strides reach less than 2^62 bits. O(ndim). */
sw_run_kind sw_run_make(const sw_catalog *c, const sw_tensor *t, uint64_t k, const sw_run_target *target,
                        sw_run *out);

/* Local. Only source boxes [*first, *end) can share anything with a box of these offsets and shape.
 * O(log boxes). */
void sw_run_range(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets, const uint64_t *shape,
                  uint64_t *first, uint64_t *end);

/* Called for each run; false stops. */
typedef bool (*sw_run_fn)(void *ctx, const sw_run *run);

/* Local. Visit what makes up bytes [from, from + n) of tensor t as saved; from + n <= t->bytes. A
 * range is at most 2n - 1 boxes (a head, a middle, a tail along each dimension), each of which
 * fixes the outer dimensions, takes a range along one, and is whole along the inner ones: what such
 * a box shares with a source box is one run of the file. to counts from the beginning of the range.
 * False when fn did. Every byte of the range is in exactly one run. O(log boxes + boxes that are
 * met) for each of the boxes. */
bool sw_runs_each(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_run_fn fn,
                  void *ctx);

/* Local. From memory to memory: elements of a box of this shape that lie packed, to where strides
 * (as above) say. file, at and to are 0; loops[].from counts in the packed box. Same kinds, but for
 * NONE: the box is not empty. */
sw_run_kind sw_run_scatter(unsigned ndim, const uint64_t *shape, unsigned bits, const int64_t *strides,
                           sw_run *out);

/* Local. From a packed box to its place in a tensor of shape whole that is packed too. Its rows are
 * whole bytes. */
void sw_run_place(unsigned ndim, const uint64_t *whole, const uint64_t *offsets, const uint64_t *shape,
                  unsigned bits, sw_run *out);

/* Local. Strides, in bits, of a packed box; of an empty one they are 0. */
void sw_strides_packed(unsigned ndim, const uint64_t *shape, unsigned bits, int64_t *strides);

/* Local. Rows in lines: a line is the innermost loop (one row where there is none).
 *     sw_run_walk w; uint64_t at; int64_t to;
 *     for (sw_run_begin(&w, run); sw_run_next(&w, run, &at, &to);) ... */
typedef struct sw_run_walk {
    uint64_t index[SW_MAX_DIMS];
    uint64_t at;
    int64_t to;
    bool done;
} sw_run_walk;

void sw_run_begin(sw_run_walk *w, const sw_run *s);

/* Local. Where the next line begins in the file and in memory; false when there is none. */
bool sw_run_next(sw_run_walk *w, const sw_run *s, uint64_t *at, int64_t *to);

/* Local. Where row i begins in the file and in memory. O(loops). */
void sw_run_row(const sw_run *s, uint64_t i, uint64_t *at, int64_t *to);

/* ---- parts of boxes -------------------------------------------------------------------------- */

/* Local. The largest box that begins at element x of a box of shape whole, has at most n elements
 * (at least 1), and takes a range along one dimension and whole inner ones. offsets: in the whole
 * box. Returns its elements. */
uint64_t sw_first_box(unsigned ndim, const uint64_t *whole, uint64_t x, uint64_t n, uint64_t *offsets,
                      uint64_t *shape);

/* A box cut into boxes of at most so many elements, in the order of its elements: outer dimensions
 * fixed, a range along one, whole inner ones. */
typedef struct sw_chunks {
    const uint64_t *offsets, *shape; /* of the box */
    unsigned ndim, along;            /* along: the dimension that is cut into ranges */
    uint64_t step;                   /* longest range */
    uint64_t ranges;                 /* along it */
    uint64_t n;                      /* chunks */
} sw_chunks;

/* Local. offsets and shape are borrowed; no size is 0. limit: elements, at least 1. */
void sw_chunks_init(sw_chunks *w, unsigned ndim, const uint64_t *offsets, const uint64_t *shape,
                    uint64_t limit);

/* Local. Chunk i (below n). */
void sw_chunks_get(const sw_chunks *w, uint64_t i, uint64_t *offsets, uint64_t *shape);

#endif
