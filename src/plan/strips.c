/* What a wanted box shares with source boxes, as rows in loops; see strips.h. */
#include "plan/strips.h"

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

/* ---- joining dimensions --------------------------------------------------------------------------- */

/* Take the next outer dimension: count of something that stands at these strides (bits). Loops are innermost first
 * here. */
static void add_dimension(sw_strip *s, uint64_t count, uint64_t from, int64_t to)
{
    sw_strip_loop *last = s->nloops ? &s->loops[s->nloops - 1] : NULL;

    if (count == 1)
        return;
    if (!last && from == s->row && to == (int64_t)s->row)
        s->row *= count;
    else if (last && from == last->from * last->count && to == last->to * (int64_t)last->count)
        last->count *= count;
    else
        s->loops[s->nloops++] = (sw_strip_loop){ count, from, to };
    s->n *= count;
}

/* From bits to bytes, and loops outermost first. */
static sw_strip_kind finish(sw_strip *s)
{
    uint64_t odd = (s->at | s->row | (uint64_t)s->to) % 8;

    for (unsigned i = 0; i < s->nloops; i++) {
        sw_strip_loop *l = &s->loops[i];

        odd |= (l->from | (uint64_t)l->to) % 8;
        l->from /= 8;
        l->to /= 8;
    }
    for (unsigned i = 0; i < s->nloops / 2; i++) {
        sw_strip_loop other = s->loops[i];

        s->loops[i] = s->loops[s->nloops - 1 - i];
        s->loops[s->nloops - 1 - i] = other;
    }
    s->at /= 8;
    s->to /= 8;
    s->row /= 8;
    s->n /= 8;
    return odd ? SW_STRIP_UNEVEN : SW_STRIP_SHARED;
}

static void begin(sw_strip *s, unsigned bits)
{
    s->file = 0;
    s->at = 0;
    s->to = 0;
    s->row = s->n = bits;
    s->nloops = 0;
}

sw_strip_kind sw_strip_scatter(unsigned ndim, const uint64_t *shape, unsigned bits, const int64_t *strides,
                               sw_strip *out)
{
    uint64_t from = bits;

    begin(out, bits);
    for (unsigned d = ndim; d-- > 0;) {
        add_dimension(out, shape[d], from, strides[d]);
        from *= shape[d];
    }
    return finish(out);
}

sw_strip_kind sw_strip_make(const sw_catalog *c, const sw_tensor *t, uint64_t k,
                            const sw_strip_target *target, sw_strip *out)
{
    const uint64_t *offsets = sw_box_offsets(c, t, k), *extents = sw_box_shape(c, t, k);
    const sw_box *box = &c->boxes[t->box0 + k];
    unsigned bits = sw_dtype_bits((sw_dtype)t->dtype);
    uint64_t from = bits;
    int64_t packed = (int64_t)bits;
    sw_strip_kind kind;

    begin(out, bits);
    for (unsigned d = t->ndim; d-- > 0;) {
        uint64_t lo = sw_max(offsets[d], target->offsets[d]);
        uint64_t hi = sw_min(offsets[d] + extents[d], target->offsets[d] + target->shape[d]);
        int64_t to = target->strides ? target->strides[d] : packed;

        if (lo >= hi)
            return SW_STRIP_NONE;
        add_dimension(out, hi - lo, from, to);
        out->at += (lo - offsets[d]) * from;
        out->to += (int64_t)(lo - target->offsets[d]) * to;
        from *= extents[d];
        packed *= (int64_t)target->shape[d];
    }
    kind = finish(out);
    out->file = box->file;
    out->at += box->at;
    return kind;
}

/* ---- which boxes ------------------------------------------------------------------------------------ */

/* The first box of which end (with max_rows behind its beginning) or beginning lies past x along dimension 0. */
static uint64_t first_past(const sw_catalog *c, const sw_tensor *t, uint64_t reach, uint64_t x)
{
    uint64_t a = 0, b = t->nboxes;

    while (a < b) {
        uint64_t mid = a + (b - a) / 2;

        if (sw_box_offsets(c, t, mid)[0] + reach <= x)
            a = mid + 1;
        else
            b = mid;
    }
    return a;
}

void sw_strip_range(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets, const uint64_t *shape,
                    uint64_t *first, uint64_t *end)
{
    *first = 0;
    *end = t->nboxes;
    if (t->ndim == 0)
        return;
    /* Boxes are sorted by their offsets, and none is longer than max_rows. */
    *first = first_past(c, t, t->max_rows, offsets[0]);
    *end = shape[0] ? first_past(c, t, 0, offsets[0] + shape[0] - 1) : *first;
}

/* ---- walking ---------------------------------------------------------------------------------------- */

void sw_strip_begin(sw_strip_walk *w, const sw_strip *s)
{
    memset(w->index, 0, s->nloops * sizeof *w->index);
    w->at = s->at;
    w->to = s->to;
    w->done = false;
}

bool sw_strip_next(sw_strip_walk *w, const sw_strip *s, uint64_t *at, int64_t *to)
{
    unsigned d = s->nloops ? s->nloops - 1 : 0; /* the innermost loop is the caller's */

    if (w->done)
        return false;
    *at = w->at;
    *to = w->to;
    while (d > 0) {
        const sw_strip_loop *l = &s->loops[--d];

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

/* ---- chunks ----------------------------------------------------------------------------------------- */

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
