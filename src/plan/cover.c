/* A sweep over boxes that may overlap; see cover.h. Along the first dimension the set of boxes
 * changes at few places only; between two of them the same is asked of the boxes that are there,
 * along the next dimension. */
#include "plan/cover.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/num.h"

/* Boxes that are looked at, again and again. Some hundredths of a second. */
#define STEPS_MAX (UINT64_C(1) << 22)

typedef struct sweep {
    const uint64_t *dims, *shape;
    unsigned ndim;
    /* 2 * n for each dimension: the boxes by where they begin, and those that are over a place */
    uint32_t *ids;
    uint64_t n, steps;
    bool given_up;
} sweep;

static uint64_t low(const sweep *s, uint32_t box, unsigned dim)
{
    return s->dims[(uint64_t)box * 2 * s->ndim + dim];
}

static uint64_t high(const sweep *s, uint32_t box, unsigned dim)
{
    return low(s, box, dim) + s->dims[(uint64_t)box * 2 * s->ndim + s->ndim + dim];
}

typedef struct by_low_ctx {
    const sweep *s;
    unsigned dim;
} by_low_ctx;

static int by_low(const void *a, const void *b, void *ctx)
{
    const by_low_ctx *k = ctx;
    uint64_t x = low(k->s, *(const uint32_t *)a, k->dim), y = low(k->s, *(const uint32_t *)b, k->dim);

    return (x > y) - (x < y);
}

/* Drop from the active boxes those that end at pos or before it. Returns where the first of the
 * others ends, at most end. */
static uint64_t drop_ended(const sweep *s, uint32_t *active, size_t *n, unsigned dim, uint64_t pos,
                           uint64_t end)
{
    size_t kept = 0;

    for (size_t i = 0; i < *n; i++) {
        uint64_t last = high(s, active[i], dim);

        if (last <= pos)
            continue;
        end = sw_min(end, last);
        active[kept++] = active[i];
    }
    *n = kept;
    return end;
}

/* Elements that these boxes hold, in the dimensions from dim on. *open: is any held by none? first
 * (NULL = not wanted) is where. */
static uint64_t count(sweep *s, const uint32_t *ids, size_t n, unsigned dim, uint64_t *first, bool *open)
{
    uint32_t *sorted = s->ids + 2 * s->n * dim, *active = sorted + s->n;
    uint64_t held = 0, pos = 0;
    size_t next = 0, nactive = 0;

    *open = false;
    if (dim == s->ndim) {
        *open = n == 0;
        return n > 0;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = ids[i];
    if (n > 1)
        qsort_r(sorted, n, sizeof *sorted, by_low, &(by_low_ctx){ s, dim });
    while (pos < s->shape[dim] && !s->given_up) {
        uint64_t end = s->shape[dim];
        bool inner;

        while (next < n && low(s, sorted[next], dim) <= pos)
            active[nactive++] = sorted[next++];
        end = drop_ended(s, active, &nactive, dim, pos, end);
        if (next < n)
            end = sw_min(end, low(s, sorted[next], dim));
        s->steps += nactive + 1;
        s->given_up = s->steps > STEPS_MAX;
        held += (end - pos) * count(s, active, nactive, dim + 1, *open ? NULL : first, &inner);
        if (inner && !*open && first)
            first[dim] = pos;
        *open = *open || inner;
        pos = end;
    }
    return held;
}

sw_code sw_cover_count(const uint64_t *dims, uint64_t n, unsigned ndim, const uint64_t *shape, sw_cover *out,
                       sw_status *st)
{
    sweep s = { .dims = dims, .shape = shape, .ndim = ndim, .n = n };
    uint32_t *all;

    s.ids = sw_calloc(2 * n * ndim + n, sizeof *s.ids, st);
    if (!s.ids)
        return st->code;
    all = s.ids + 2 * n * ndim;
    for (uint64_t i = 0; i < n; i++)
        all[i] = (uint32_t)i;
    out->held = count(&s, all, (size_t)n, 0, out->first, &out->open);
    out->counted = !s.given_up;
    free(s.ids);
    return SW_OK;
}
