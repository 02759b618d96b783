/* The one geometry: from a box of a tensor that somebody wants to the bytes of the source boxes
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

/* A tensor as runs see it: element by element; or with the inner dimensions along which nothing is
 * cut joined to the last one that is, which then counts elements or bytes. Where boxes have strides
 * of their own nothing is joined. Offsets and shapes of what is wanted are in steps of its view. */
typedef struct sw_view {
    const sw_catalog *c;
    const sw_tensor *t;
    unsigned n;    /* dimensions */
    unsigned bits; /* of one step along the last one */
    uint64_t unit; /* bits that an element stands for along the last one */
    bool flat;     /* nothing is cut: one dimension, of all bits */
    bool split;    /* behind the tensor's dimensions one of the bytes of an element */
} sw_view;

/* Local. Element by element. */
sw_view sw_view_elements(const sw_catalog *c, const sw_tensor *t);

/* Local. Joined. What is wanted is whole along dimension cut and the inner ones, as its source
 * boxes are from t->split_dims on; and its rows are whole bytes. bits: of a step: an element's, or
 * 8. */
sw_view sw_view_joined(const sw_catalog *c, const sw_tensor *t, unsigned cut, unsigned bits);

/* Local. Elements along dimension d in steps of the view. */
uint64_t sw_view_steps(const sw_view *v, unsigned d, uint64_t elements);

/* Local. A box of the tensor in steps of the view: of offsets and shape, those along dimension
 * d. */
void sw_view_range(const sw_view *v, unsigned d, const uint64_t *offsets, const uint64_t *shape,
                   uint64_t *first, uint64_t *extent);

/* What is wanted of a tensor, and where its elements go. Borrowed, one number a dimension. */
typedef struct sw_run_target {
    const uint64_t *offsets, *shape; /* steps of the view */
    /* bits of memory from one step to the next; may be negative; NULL = packed */
    const int64_t *strides;
} sw_run_target;

typedef struct sw_run_loop {
    uint64_t count;
    uint64_t from; /* bytes from one to the next in the file */
    int64_t to;    /* the same in memory */
} sw_run_loop;

/* Loops run outermost first; a run without loops is one row. That is the order of the file too, but
 * for boxes with strides of their own: there rows may come in any order, and overlap. */
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

/* Local. What the target shares with source box k (below nboxes). The target lies in
 * the tensor, and its strides reach less than 2^62 bits. O(ndim). */
sw_run_kind sw_run_make(const sw_view *v, uint64_t k, const sw_run_target *target, sw_run *out);

/* Local. Only source boxes [*first, *end) can share anything with the target. O(log boxes). */
void sw_run_range(const sw_view *v, const sw_run_target *target, uint64_t *first, uint64_t *end);

/* Called for each run; false stops. */
typedef bool (*sw_run_fn)(void *ctx, const sw_run *run);

/* Local. Visit what makes up the target: every byte of it is in one run; where nothing is UNEVEN.
 * False when fn did. O(log boxes + boxes that may share anything). */
bool sw_runs_each(const sw_view *v, const sw_run_target *target, sw_run_fn fn, void *ctx);

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

/* Local. Bytes of memory from one place to another that lies `to - from` steps further, by such
 * strides. */
int64_t sw_strides_between(unsigned ndim, const uint64_t *from, const uint64_t *to, const int64_t *strides);

/* Local. The innermost loop; one round of it where there is none. */
const sw_run_loop *sw_run_innermost(const sw_run *s);

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

/* Local. Do the rows lie one after the other in the file? */
bool sw_run_is_together(const sw_run *s);

/* Local. The same rows, one after the other in memory, the first one at 0. */
sw_run sw_run_packed(const sw_run *s);

/* Local. The largest box inside a box that begins at its element x, has at most n elements (at
 * least 1), and takes a range along one dimension and whole inner ones. Returns its elements. One
 * after the other these cut a box, or a range of it, in the order of its elements. */
uint64_t sw_first_box(const sw_run_target *box, unsigned ndim, uint64_t x, uint64_t n, uint64_t *offsets,
                      uint64_t *shape);

#endif
