/* Which source bytes make up a range of a whole tensor; see pieces.h. */
#include "plan/pieces.h"

#include <string.h>

#include "base/num.h"

/* A tensor as its boxes are cut: the dimensions beyond split_dims are joined to the last one that is cut,
 * which is then counted in bytes. */
typedef struct geometry {
    const sw_catalog *c;
    const sw_tensor *t;
    unsigned n;          /* dimensions, at least 1 */
    uint64_t inner_bits; /* bits of one step along the last dimension */
    uint64_t shape[SW_MAX_DIMS];
    uint64_t stride[SW_MAX_DIMS]; /* bytes */
    uint64_t max_rows;            /* along dimension 0 */
} geometry;

/* A length along dimension d in the units of the geometry. Whole bytes: sw_catalog_check() has seen to it. */
static uint64_t scale(const geometry *g, unsigned d, uint64_t elements)
{
    if (d + 1 < g->n)
        return elements;
    if (g->inner_bits % 8 == 0)
        return elements * (g->inner_bits / 8);
    return elements * g->inner_bits / 8;
}

static void make_geometry(geometry *g, const sw_catalog *c, const sw_tensor *t)
{
    const uint64_t *shape = sw_tensor_shape(c, t);

    g->c = c;
    g->t = t;
    g->n = t->split_dims;
    g->inner_bits = sw_dtype_bits((sw_dtype)t->dtype);
    for (unsigned d = t->split_dims; d < t->ndim; d++)
        g->inner_bits *= shape[d];
    for (unsigned d = 0; d < g->n; d++)
        g->shape[d] = scale(g, d, shape[d]);
    g->stride[g->n - 1] = 1;
    for (unsigned d = g->n - 1; d > 0; d--)
        g->stride[d - 1] = g->stride[d] * g->shape[d];
    g->max_rows = scale(g, 0, t->max_rows);
}

/* The largest box that begins at byte `from` of the tensor and has at most n bytes when it takes a range along one
 * dimension (returned) and whole inner ones. */
static unsigned first_box(const geometry *g, uint64_t from, uint64_t n, uint64_t *lo, uint64_t *len)
{
    unsigned along = g->n - 1;

    for (unsigned d = 0; d < g->n; d++) {
        lo[d] = from / g->stride[d] % g->shape[d];
        len[d] = 1;
    }
    while (along > 0 && from % g->stride[along - 1] == 0 && n >= g->stride[along - 1])
        along--;
    len[along] = sw_min(n / g->stride[along], g->shape[along] - lo[along]);
    for (unsigned d = along + 1; d < g->n; d++)
        len[d] = g->shape[d];
    return along;
}

/* The first box that may reach past offset lo along dimension 0: boxes are sorted by their offsets and none
 * is longer than max_rows. */
static uint64_t first_candidate(const geometry *g, uint64_t lo)
{
    uint64_t a = 0, b = g->t->nboxes;

    while (a < b) {
        uint64_t mid = a + (b - a) / 2;

        if (scale(g, 0, sw_box_offsets(g->c, g->t, mid)[0]) + g->max_rows <= lo)
            a = mid + 1;
        else
            b = mid;
    }
    return a;
}

/* What the box [lo, lo + len) shares with source box k; false when nothing. base is where the asked range begins
 * in the tensor. */
static bool intersect(const geometry *g, uint64_t k, const uint64_t *lo, const uint64_t *len, uint64_t base,
                      sw_piece *p)
{
    const uint64_t *offsets = sw_box_offsets(g->c, g->t, k), *extents = sw_box_shape(g->c, g->t, k);
    const sw_box *box = &g->c->boxes[g->t->box0 + k];
    uint64_t at = 0, to = 0, source_stride = 1;
    unsigned d = g->n;

    p->row = 1;
    p->nloops = 0;
    p->n = 1;
    while (d-- > 0) {
        uint64_t off = scale(g, d, offsets[d]), ext = scale(g, d, extents[d]);
        uint64_t from = sw_max(off, lo[d]), end = sw_min(off + ext, lo[d] + len[d]);

        if (from >= end)
            return false;
        at += (from - off) * source_stride;
        to += from * g->stride[d];
        source_stride *= ext;
        p->n *= end - from;
        if (p->nloops == 0 && p->row == g->stride[d])
            p->row *= end - from;
        else if (end - from > 1) {
            /* Innermost loops are found first; they are turned round below. */
            p->count[p->nloops] = end - from;
            p->stride[p->nloops++] = g->stride[d];
        }
    }
    for (unsigned i = 0; i < p->nloops / 2; i++) {
        unsigned j = p->nloops - 1 - i;
        uint64_t count = p->count[i], stride = p->stride[i];

        p->count[i] = p->count[j];
        p->stride[i] = p->stride[j];
        p->count[j] = count;
        p->stride[j] = stride;
    }
    p->file = box->file;
    p->at = box->at + at;
    p->to = to - base;
    return true;
}

/* A tensor that is in one piece, or a range within one row: no geometry is needed. */
static bool whole(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_piece_fn fn,
                  void *ctx)
{
    const sw_box *box = &c->boxes[t->box0];
    sw_piece p;

    p.file = box->file;
    p.at = box->at + from;
    p.n = p.row = n;
    p.to = 0;
    p.nloops = 0;
    return fn(ctx, &p);
}

bool sw_pieces_each(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_piece_fn fn,
                    void *ctx)
{
    uint64_t base = from, lo[SW_MAX_DIMS], len[SW_MAX_DIMS];
    sw_piece p;
    geometry g;

    if (n == 0)
        return true;
    if (t->split_dims == 0)
        return whole(c, t, from, n, fn, ctx);
    make_geometry(&g, c, t);
    while (n > 0) {
        unsigned along = first_box(&g, from, n, lo, len);
        uint64_t bytes = len[along] * g.stride[along];

        for (uint64_t k = first_candidate(&g, lo[0]); k < t->nboxes; k++) {
            if (scale(&g, 0, sw_box_offsets(c, t, k)[0]) >= lo[0] + len[0])
                break;
            if (intersect(&g, k, lo, len, base, &p) && !fn(ctx, &p))
                return false;
        }
        from += bytes;
        n -= bytes;
    }
    return true;
}

void sw_rows_begin(sw_row_walk *w, const sw_piece *p)
{
    memset(w->index, 0, p->nloops * sizeof *w->index);
    w->to = p->to;
    w->done = false;
}
