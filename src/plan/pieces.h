/* From a range of bytes of a whole tensor to the bytes of source boxes that make it up. Pure.
 *
 * A byte range of a tensor is at most 2n - 1 boxes (a head, a middle, a tail along each dimension), each of
 * which fixes the outer dimensions, takes a range along one, and is whole along the inner ones. What such a
 * box shares with a source box is therefore one contiguous run of the source's data: a piece is one read,
 * scattered into rows. Dimensions along which no box is cut are joined, so that rows are as long as they can be. */
#ifndef SW_PLAN_PIECES_H
#define SW_PLAN_PIECES_H

#include "plan/catalog.h"

/* Rows of equal length, one after the other in the source; in the band they stand at strides. Loops run
 * outermost first; a piece without loops is one row. */
typedef struct sw_piece {
    uint32_t file; /* source: index into catalog->files */
    uint64_t at;   /* absolute position of its first byte in the file */
    uint64_t n;    /* bytes: row times all counts */
    uint64_t to;   /* where its first row goes, bytes from the beginning of the asked range */
    uint64_t row;  /* bytes of one row */
    unsigned nloops;
    uint64_t count[SW_MAX_DIMS];
    uint64_t stride[SW_MAX_DIMS]; /* bytes in the band */
} sw_piece;

/* Called for each piece, in the order of the box in the tensor, then of the source boxes; false stops. */
typedef bool (*sw_piece_fn)(void *ctx, const sw_piece *piece);

/* Local. Visit the pieces of bytes [from, from + n) of tensor t as saved; from + n <= t->bytes.
 * Returns false when fn did. Every byte of the range is in exactly one piece.
 * Cost: O(log boxes + boxes that are met) for each of the at most 2 * ndim - 1 boxes. */
bool sw_pieces_each(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_piece_fn fn,
                    void *ctx);

/* Local. Rows of a piece, walked in the order of the source: to is set to where the next row goes.
 *     sw_row_walk w; uint64_t to;
 *     for (sw_rows_begin(&w, piece); sw_rows_next(&w, piece, &to);) ... */
typedef struct sw_row_walk {
    uint64_t index[SW_MAX_DIMS];
    uint64_t to;
    bool done;
} sw_row_walk;

void sw_rows_begin(sw_row_walk *w, const sw_piece *p);

static inline bool sw_rows_next(sw_row_walk *w, const sw_piece *p, uint64_t *to)
{
    unsigned d = p->nloops;

    if (w->done)
        return false;
    *to = w->to;
    while (d > 0) {
        d--;
        w->to += p->stride[d];
        if (++w->index[d] < p->count[d])
            return true;
        w->to -= p->stride[d] * p->count[d];
        w->index[d] = 0;
    }
    w->done = true;
    return true;
}

#endif
