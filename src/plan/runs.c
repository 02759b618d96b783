/* What is wanted of a tensor and what source boxes have of it, as rows in loops; see runs.h. */
#include "plan/runs.h"

#include <string.h>

#include "base/num.h"

void sw_strides_packed(unsigned ndim, const uint64_t *shape, unsigned bits, int64_t *strides)
{
    uint64_t step = bits;

    for (unsigned d = ndim; d-- > 0;) {
        strides[d] = (int64_t)step;
        step *= shape[d];
    }
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

/* A tensor as runs see its boxes: element by element; or, for ranges of bytes, with the inner
 * dimensions along which no box is cut joined to the last one that is, which then counts bytes. */
typedef struct view {
    const sw_catalog *c;
    const sw_tensor *t;
    unsigned n;    /* dimensions */
    unsigned bits; /* of one step along the last one */
    uint64_t unit; /* bits that an element stands for along the last one */
} view;

static view view_elements(const sw_catalog *c, const sw_tensor *t)
{
    unsigned bits = sw_dtype_bits((sw_dtype)t->dtype);

    return (view){ c, t, t->ndim, bits, bits };
}

/* For tensors of which some dimension is cut. */
static view view_bytes(const sw_catalog *c, const sw_tensor *t)
{
    const uint64_t *shape = sw_tensor_shape(c, t);
    view v = { c, t, t->split_dims, 8, sw_dtype_bits((sw_dtype)t->dtype) };

    for (unsigned d = v.n; d < t->ndim; d++)
        v.unit *= shape[d];
    return v;
}

/* Elements along dimension d in steps of the view. Whole bytes: sw_catalog_check() has seen to
 * it. */
static uint64_t steps(const view *v, unsigned d, uint64_t elements)
{
    if (d + 1 < v->n || v->unit == v->bits)
        return elements;
    return v->unit % 8 ? elements * v->unit / 8 : elements * (v->unit / 8);
}

static sw_run_kind make(const view *v, uint64_t k, const sw_run_target *target, sw_run *out)
{
    const uint64_t *offsets = sw_box_offsets(v->c, v->t, k), *extents = sw_box_shape(v->c, v->t, k);
    const sw_box *box = &v->c->boxes[v->t->box0 + k];
    uint64_t from = v->bits;
    int64_t packed = (int64_t)v->bits;
    sw_run_kind kind;

    begin(out, v->bits);
    for (unsigned d = v->n; d-- > 0;) {
        uint64_t first = steps(v, d, offsets[d]), extent = steps(v, d, extents[d]);
        uint64_t lo = sw_max(first, target->offsets[d]);
        uint64_t hi = sw_min(first + extent, target->offsets[d] + target->shape[d]);
        int64_t to = target->strides ? target->strides[d] : packed;

        if (lo >= hi)
            return SW_RUN_NONE;
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

sw_run_kind sw_run_make(const sw_catalog *c, const sw_tensor *t, uint64_t k, const sw_run_target *target,
                        sw_run *out)
{
    view v = view_elements(c, t);

    return make(&v, k, target, out);
}

/* ---- which boxes ----------------------------------------------------------------------------- */

/* The first box of which beginning, with so many rows behind it, lies past x along dimension 0. */
static uint64_t first_past(const view *v, uint64_t rows, uint64_t x)
{
    uint64_t a = 0, b = v->t->nboxes, reach = steps(v, 0, rows);

    while (a < b) {
        uint64_t mid = a + (b - a) / 2;

        if (steps(v, 0, sw_box_offsets(v->c, v->t, mid)[0]) + reach <= x)
            a = mid + 1;
        else
            b = mid;
    }
    return a;
}

/* Boxes are sorted by their offsets, and none is longer than max_rows. */
static void range(const view *v, const sw_run_target *wanted, uint64_t *first, uint64_t *end)
{
    *first = 0;
    *end = v->t->nboxes;
    if (v->n == 0)
        return;
    *first = first_past(v, v->t->max_rows, wanted->offsets[0]);
    *end = wanted->shape[0] ? first_past(v, 0, wanted->offsets[0] + wanted->shape[0] - 1) : *first;
}

void sw_run_range(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets, const uint64_t *shape,
                  uint64_t *first, uint64_t *end)
{
    view v = view_elements(c, t);
    sw_run_target wanted = { offsets, shape, NULL };

    range(&v, &wanted, first, end);
}

/* ---- ranges ---------------------------------------------------------------------------------- */

/* A tensor that is in one piece. */
static bool visit_whole(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_run_fn fn,
                        void *ctx)
{
    const sw_box *box = &c->boxes[t->box0];
    sw_run s;

    begin(&s, 0);
    s.file = box->file;
    s.at = box->at + from;
    s.row = s.n = n;
    return fn(ctx, &s);
}

bool sw_runs_each(const sw_catalog *c, const sw_tensor *t, uint64_t from, uint64_t n, sw_run_fn fn, void *ctx)
{
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS], whole[SW_MAX_DIMS], k, end;
    sw_run_target wanted = { offsets, shape, NULL };
    sw_run s;
    view v;

    if (t->split_dims == 0)
        return n == 0 || visit_whole(c, t, from, n, fn, ctx);
    v = view_bytes(c, t);
    for (unsigned d = 0; d < v.n; d++)
        whole[d] = steps(&v, d, sw_tensor_shape(c, t)[d]);
    for (uint64_t done = 0; done < n;) {
        uint64_t now = sw_first_box(v.n, whole, from + done, n - done, offsets, shape);

        for (range(&v, &wanted, &k, &end); k < end; k++) {
            if (make(&v, k, &wanted, &s) == SW_RUN_NONE)
                continue;
            s.to += (int64_t)done;
            if (!fn(ctx, &s))
                return false;
        }
        done += now;
    }
    return true;
}

/* ---- walking --------------------------------------------------------------------------------- */

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

/* ---- parts of boxes -------------------------------------------------------------------------- */

uint64_t sw_first_box(unsigned ndim, const uint64_t *whole, uint64_t x, uint64_t n, uint64_t *offsets,
                      uint64_t *shape)
{
    uint64_t inner = 1;
    unsigned d = ndim;

    while (d > 1 && x % (inner * whole[d - 1]) == 0 && n >= inner * whole[d - 1]) {
        inner *= whole[--d];
        offsets[d] = 0;
        shape[d] = whole[d];
    }
    x /= inner;
    if (d == 0)
        return 1;
    d--;
    offsets[d] = x % whole[d];
    shape[d] = sw_min(n / inner, whole[d] - offsets[d]);
    for (unsigned i = d; i-- > 0;) {
        x /= whole[i + 1];
        offsets[i] = x % whole[i];
        shape[i] = 1;
    }
    return shape[d] * inner;
}

void sw_chunks_init(sw_chunks *w, unsigned ndim, const uint64_t *offsets, const uint64_t *shape,
                    uint64_t limit)
{
    uint64_t inner = 1;
    unsigned d = ndim;

    /* As many whole inner dimensions as there is room for. */
    while (d > 0 && shape[d - 1] <= limit / inner)
        inner *= shape[--d];
    *w = (sw_chunks){ .offsets = offsets, .shape = shape, .ndim = ndim, .ranges = 1, .n = 1 };
    if (d == 0) {
        w->step = ndim ? shape[0] : 1;
        return;
    }
    w->along = d - 1;
    w->step = limit / inner;
    w->ranges = w->n = (shape[w->along] - 1) / w->step + 1;
    for (d = 0; d < w->along; d++)
        w->n *= shape[d];
}

void sw_chunks_get(const sw_chunks *w, uint64_t i, uint64_t *offsets, uint64_t *shape)
{
    uint64_t from = i % w->ranges * w->step;

    memcpy(offsets, w->offsets, w->ndim * sizeof *offsets);
    memcpy(shape, w->shape, w->ndim * sizeof *shape);
    if (w->ndim == 0)
        return;
    offsets[w->along] += from;
    shape[w->along] = sw_min(w->step, shape[w->along] - from);
    i /= w->ranges;
    for (unsigned d = w->along; d-- > 0; i /= w->shape[d]) {
        offsets[d] += i % w->shape[d];
        shape[d] = 1;
    }
}
