/* What is wanted of a tensor and what source boxes have of it, as rows in loops; see runs.h. */
#include "plan/runs.h"

#include <string.h>

#include "base/num.h"
#include "base/sort.h"

void sw_strides_packed(unsigned ndim, const uint64_t *shape, unsigned bits, int64_t *strides)
{
    uint64_t step = bits;

    for (unsigned d = ndim; d-- > 0;) {
        strides[d] = (int64_t)step;
        step *= shape[d];
    }
}

int64_t sw_strides_between(unsigned ndim, const uint64_t *from, const uint64_t *to, const int64_t *strides)
{
    int64_t bits = 0;

    for (unsigned d = 0; d < ndim; d++)
        bits += (int64_t)(to[d] - from[d]) * strides[d];
    return bits / 8;
}

/* ---- joining dimensions ---------------------------------------------------------------------- */

/* Take the next outer dimension: count of something that stands at these strides (bits). Loops are
 * innermost first here. */
static void add_dimension(sw_run *s, uint64_t count, uint64_t from, int64_t to)
{
    sw_run_loop *last = s->nloops ? &s->loops[s->nloops - 1] : NULL;

    if (count == 1)
        return;
    if (!last && from == s->row && to == (int64_t)s->row)
        s->row *= count;
    else if (last && from == last->from * last->count && to == last->to * (int64_t)last->count)
        last->count *= count;
    else
        s->loops[s->nloops++] = (sw_run_loop){ count, from, to };
    s->n *= count;
}

/* From bits to bytes, and loops outermost first. */
static sw_run_kind finish(sw_run *s)
{
    uint64_t odd = (s->at | s->row | (uint64_t)s->to) % 8;

    for (unsigned i = 0; i < s->nloops; i++) {
        sw_run_loop *l = &s->loops[i];

        odd |= (l->from | (uint64_t)l->to) % 8;
        l->from /= 8;
        l->to /= 8;
    }
    for (unsigned i = 0; i < s->nloops / 2; i++) {
        sw_run_loop other = s->loops[i];

        s->loops[i] = s->loops[s->nloops - 1 - i];
        s->loops[s->nloops - 1 - i] = other;
    }
    s->at /= 8;
    s->to /= 8;
    s->row /= 8;
    s->n /= 8;
    return odd ? SW_RUN_UNEVEN : SW_RUN_SHARED;
}

/* One step, of so many bits. */
static void begin(sw_run *s, unsigned bits)
{
    s->file = 0;
    s->at = 0;
    s->to = 0;
    s->row = s->n = bits;
    s->nloops = 0;
}

sw_run_kind sw_run_scatter(unsigned ndim, const uint64_t *shape, unsigned bits, const int64_t *strides,
                           sw_run *out)
{
    uint64_t from = bits;

    begin(out, bits);
    for (unsigned d = ndim; d-- > 0;) {
        add_dimension(out, shape[d], from, strides[d]);
        from *= shape[d];
    }
    return finish(out);
}

void sw_run_place(unsigned ndim, const uint64_t *whole, const uint64_t *offsets, const uint64_t *shape,
                  unsigned bits, sw_run *out)
{
    int64_t strides[SW_MAX_DIMS];
    uint64_t first = 0;

    sw_strides_packed(ndim, whole, bits, strides);
    sw_run_scatter(ndim, shape, bits, strides, out);
    for (unsigned d = 0; d < ndim; d++)
        first += offsets[d] * (uint64_t)strides[d];
    out->to = (int64_t)(first / 8);
}

/* ---- views ----------------------------------------------------------------------------------- */

sw_view sw_view_elements(const sw_catalog *c, const sw_tensor *t)
{
    unsigned bits = sw_dtype_bits((sw_dtype)t->dtype);

    return (sw_view){ c, t, t->ndim, bits, bits, false, false };
}

/* Of a tensor with strides: a range of bytes may begin inside of an element, which lies
 * together. */
static sw_view view_split(const sw_catalog *c, const sw_tensor *t)
{
    return (sw_view){ c, t, t->ndim + 1u, 8, 8, false, true };
}

sw_view sw_view_joined(const sw_catalog *c, const sw_tensor *t, unsigned cut, unsigned bits)
{
    const uint64_t *shape = sw_tensor_shape(c, t);
    unsigned element = sw_dtype_bits((sw_dtype)t->dtype);
    sw_view v = { c, t, cut > t->split_dims ? cut : t->split_dims, bits, element, false, false };

    if (t->strided)
        return bits == element ? sw_view_elements(c, t) : view_split(c, t);
    for (unsigned d = v.n; d < t->ndim; d++)
        v.unit *= shape[d];
    if (v.n == 0) {
        v.n = 1;
        v.flat = true;
    }
    return v;
}

/* Whole ones: sw_catalog_check() and sw_shard_layout_build() have seen to it. */
uint64_t sw_view_steps(const sw_view *v, unsigned d, uint64_t elements)
{
    if (v->flat)
        return v->unit / v->bits;
    if (d + 1 < v->n || v->unit == v->bits)
        return elements;
    return v->unit % v->bits ? elements * v->unit / v->bits : elements * (v->unit / v->bits);
}

void sw_view_range(const sw_view *v, unsigned d, const uint64_t *offsets, const uint64_t *shape,
                   uint64_t *first, uint64_t *extent)
{
    bool bytes = v->split && d == v->t->ndim;

    *first = v->flat || bytes ? 0 : sw_view_steps(v, d, offsets[d]);
    *extent = bytes ? sw_dtype_bits((sw_dtype)v->t->dtype) / 8 : sw_view_steps(v, d, v->flat ? 0 : shape[d]);
}

/* ---- what a source box has ------------------------------------------------------------------- */

sw_run_kind sw_run_make(const sw_view *v, uint64_t k, const sw_run_target *target, sw_run *out)
{
    sw_placed b;
    const sw_box *box = &sw_box_get(v->c, v->t, k, &b)->box;
    const uint64_t *strides = box->strides ? v->c->strides + (box->strides - 1) : NULL;
    uint64_t from = v->bits, bits = sw_dtype_bits((sw_dtype)v->t->dtype);
    int64_t packed = (int64_t)v->bits;
    sw_run_kind kind;

    begin(out, v->bits);
    for (unsigned d = v->n; d-- > 0;) {
        uint64_t first, extent, lo, hi;
        int64_t to = target->strides ? target->strides[d] : packed;

        sw_view_range(v, d, b.offsets, b.shape, &first, &extent);
        lo = sw_max(first, target->offsets[d]);
        hi = sw_min(first + extent, target->offsets[d] + target->shape[d]);
        if (lo >= hi)
            return SW_RUN_NONE;
        if (strides && d < v->t->ndim)
            from = strides[d] * bits;
        add_dimension(out, hi - lo, from, to);
        out->at += (lo - first) * from;
        out->to += (int64_t)(lo - target->offsets[d]) * to;
        from *= extent;
        packed *= (int64_t)target->shape[d];
    }
    kind = finish(out);
    out->file = box->file;
    out->at += box->at;
    return kind;
}

/* The first box of which beginning, with so many rows behind it, lies past x along dimension 0. */
static uint64_t first_past(const sw_view *v, uint64_t rows, uint64_t x)
{
    const uint64_t reach = sw_view_steps(v, 0, rows);
    sw_search s = { .end = v->t->nboxes };
    sw_placed box;

    while (sw_search_on(&s))
        sw_search_tell(&s, sw_view_steps(v, 0, sw_box_get(v->c, v->t, s.mid, &box)->offsets[0]) + reach <= x);
    return s.at;
}

/* Boxes are sorted by their offsets, and none is longer than max_rows. */
void sw_run_range(const sw_view *v, const sw_run_target *target, uint64_t *first, uint64_t *end)
{
    *first = 0;
    *end = v->t->nboxes;
    if (v->n == 0 || v->flat)
        return;
    *first = first_past(v, v->t->max_rows, target->offsets[0]);
    *end = target->shape[0] ? first_past(v, 0, target->offsets[0] + target->shape[0] - 1) : *first;
}

bool sw_runs_each(const sw_view *v, const sw_run_target *target, sw_run_fn fn, void *ctx)
{
    uint64_t k, end;
    sw_run run;

    for (sw_run_range(v, target, &k, &end); k < end; k++)
        if (sw_run_make(v, k, target, &run) == SW_RUN_SHARED && !fn(ctx, &run))
            return false;
    return true;
}

/* ---- walking --------------------------------------------------------------------------------- */

const sw_run_loop *sw_run_innermost(const sw_run *s)
{
    static const sw_run_loop one = { 1, 0, 0 };

    return s->nloops ? &s->loops[s->nloops - 1] : &one;
}

void sw_run_begin(sw_run_walk *w, const sw_run *s)
{
    memset(w->index, 0, s->nloops * sizeof *w->index);
    w->at = s->at;
    w->to = s->to;
    w->done = false;
}

bool sw_run_next(sw_run_walk *w, const sw_run *s, uint64_t *at, int64_t *to)
{
    unsigned d = s->nloops ? s->nloops - 1 : 0; /* the innermost loop is the caller's */

    if (w->done)
        return false;
    *at = w->at;
    *to = w->to;
    while (d > 0) {
        const sw_run_loop *l = &s->loops[--d];

        w->at += l->from;
        w->to += l->to;
        if (++w->index[d] < l->count)
            return true;
        w->at -= l->from * l->count;
        w->to -= l->to * (int64_t)l->count;
        w->index[d] = 0;
    }
    w->done = true;
    return true;
}

void sw_run_row(const sw_run *s, uint64_t i, uint64_t *at, int64_t *to)
{
    *at = s->at;
    *to = s->to;
    for (unsigned d = s->nloops; d-- > 0; i /= s->loops[d].count) {
        *at += i % s->loops[d].count * s->loops[d].from;
        *to += (int64_t)(i % s->loops[d].count) * s->loops[d].to;
    }
}

bool sw_run_is_together(const sw_run *s)
{
    uint64_t run = s->row;

    for (unsigned d = s->nloops; d > 0; d--) {
        if (s->loops[d - 1].from != run)
            return false;
        run *= s->loops[d - 1].count;
    }
    return true;
}

sw_run sw_run_packed(const sw_run *s)
{
    sw_run packed = *s;
    uint64_t step = s->row;

    packed.to = 0;
    for (unsigned d = s->nloops; d-- > 0; step *= s->loops[d].count)
        packed.loops[d].to = (int64_t)step;
    return packed;
}

/* ---- parts of boxes -------------------------------------------------------------------------- */

uint64_t sw_first_box(const sw_run_target *box, unsigned ndim, uint64_t x, uint64_t n, uint64_t *offsets,
                      uint64_t *shape)
{
    const uint64_t *whole = box->shape;
    uint64_t inner = 1;
    unsigned d = ndim;

    while (d > 1 && x % (inner * whole[d - 1]) == 0 && n >= inner * whole[d - 1]) {
        inner *= whole[--d];
        offsets[d] = box->offsets[d];
        shape[d] = whole[d];
    }
    x /= inner;
    if (d == 0)
        return 1;
    d--;
    offsets[d] = box->offsets[d] + x % whole[d];
    shape[d] = sw_min(n / inner, whole[d] - x % whole[d]);
    for (unsigned i = d; i-- > 0;) {
        x /= whole[i + 1];
        offsets[i] = box->offsets[i] + x % whole[i];
        shape[i] = 1;
    }
    return shape[d] * inner;
}
