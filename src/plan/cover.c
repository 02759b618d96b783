/* Boxes against one another; see cover.h.
 *
 * Overlaps are looked for by cutting: along some dimension the boxes fall into groups that do not
 * touch, and each group is cut again along the others; a grid is done after one pass a dimension.
 * Only a group that nothing cuts (a pinwheel, or a real overlap) is compared pair by pair. What is
 * open is found by sweeping: along a dimension the set of boxes changes at few places only, and
 * between two of them the same is asked of the boxes that are there, along the next dimension. */
#include "plan/cover.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"

/* Deeper cutting than this is no grid of anybody's; the pairs are compared instead. */
#define CUTS_MAX 64

/* Boxes that are looked at, again and again. Some hundredths of a second. */
#define STEPS_MAX (UINT64_C(1) << 22)

/* ---- order ----------------------------------------------------------------------------------- */

typedef struct by_low_ctx {
    const sw_boxes *b;
    unsigned dim;
} by_low_ctx;

/* For qsort_r; by number where both begin at one place. */
static int by_low(const void *a, const void *b, void *ctx)
{
    const by_low_ctx *k = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    uint64_t x = sw_boxes_low(k->b, i, k->dim), y = sw_boxes_low(k->b, j, k->dim);

    return x != y ? (x < y ? -1 : 1) : (i > j) - (i < j);
}

/* By where they begin along a dimension: mostly they are in that order. */
static void sort_ids(const sw_boxes *b, uint32_t *ids, size_t n, unsigned dim)
{
    by_low_ctx k = { b, dim };
    size_t i = 1;

    while (i < n && sw_boxes_low(b, ids[i - 1], dim) <= sw_boxes_low(b, ids[i], dim))
        i++;
    if (i < n)
        qsort_r(ids, n, sizeof *ids, by_low, &k);
}

static void number_ids(uint32_t *ids, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        ids[i] = (uint32_t)i;
}

/* ---- overlaps -------------------------------------------------------------------------------- */

/* Do two boxes share an element? */
static bool overlap(const sw_boxes *b, uint32_t i, uint32_t j)
{
    for (unsigned d = 0; d < b->ndim; d++)
        if (sw_boxes_high(b, i, d) <= sw_boxes_low(b, j, d) ||
            sw_boxes_high(b, j, d) <= sw_boxes_low(b, i, d))
            return false;
    return true;
}

/* Sorted along dim: compare each box with those that begin before it ends. True: the list is
 * full. */
static bool overlap_in_pairs(const sw_boxes *b, const uint32_t *ids, size_t n, unsigned dim, sw_pairs *out)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n && sw_boxes_low(b, ids[j], dim) < sw_boxes_high(b, ids[i], dim); j++) {
            if (!overlap(b, ids[i], ids[j]))
                continue;
            out->pairs[out->n][0] = (uint32_t)sw_min(ids[i], ids[j]);
            out->pairs[out->n++][1] = (uint32_t)sw_max(ids[i], ids[j]);
            if (out->n == out->max)
                return true;
        }
    }
    return false;
}

/* How many of the boxes, sorted along dim, lie in the first group that nothing behind it
 * touches. */
static size_t first_group(const sw_boxes *b, const uint32_t *ids, size_t n, unsigned dim)
{
    uint64_t end = sw_boxes_high(b, ids[0], dim);
    size_t i = 1;

    for (; i < n && sw_boxes_low(b, ids[i], dim) < end; i++)
        end = sw_max(end, sw_boxes_high(b, ids[i], dim));
    return i;
}

/* Of n boxes, cut along dim first. True: the list is full. */
static bool find_overlaps(const sw_boxes *b, uint32_t *ids, size_t n, unsigned dim, unsigned depth,
                          sw_pairs *out)
{
    unsigned tries = 0;
    size_t group;

    if (n < 2)
        return false;
    for (; tries < b->ndim && depth < CUTS_MAX; tries++, dim = (dim + 1) % b->ndim) {
        sort_ids(b, ids, n, dim);
        if (first_group(b, ids, n, dim) < n)
            break;
    }
    if (tries == b->ndim || depth == CUTS_MAX) {
        sort_ids(b, ids, n, dim);
        return overlap_in_pairs(b, ids, n, dim, out);
    }
    for (; n; ids += group, n -= group) {
        group = first_group(b, ids, n, dim);
        if (find_overlaps(b, ids, group, (dim + 1) % b->ndim, depth + 1, out))
            return true;
    }
    return false;
}

void sw_boxes_overlaps(const sw_boxes *b, uint32_t *room, sw_pairs *out)
{
    number_ids(room, b->n);
    find_overlaps(b, room, (size_t)b->n, 0, 0, out);
}

/* ---- sweeping -------------------------------------------------------------------------------- */

/* On the way along a dimension: from pos to end the same boxes are there. */
typedef struct sweep {
    const sw_boxes *b;
    unsigned dim;
    const uint32_t *sorted; /* n boxes by where they begin */
    size_t n, next;
    uint32_t *active; /* those that are there; room for n */
    size_t nactive;
    uint64_t pos, end;
} sweep;

/* On to the next slab, if there is one before size. */
static bool next_slab(sweep *s, uint64_t size)
{
    size_t kept = 0;

    s->pos = s->end;
    s->end = size;
    if (s->pos >= size)
        return false;
    while (s->next < s->n && sw_boxes_low(s->b, s->sorted[s->next], s->dim) <= s->pos)
        s->active[s->nactive++] = s->sorted[s->next++];
    for (size_t i = 0; i < s->nactive; i++) {
        uint64_t end = sw_boxes_high(s->b, s->active[i], s->dim);

        if (end <= s->pos)
            continue;
        s->end = sw_min(s->end, end);
        s->active[kept++] = s->active[i];
    }
    s->nactive = kept;
    if (s->next < s->n)
        s->end = sw_min(s->end, sw_boxes_low(s->b, s->sorted[s->next], s->dim));
    return true;
}

typedef struct counting {
    const sw_boxes *b;
    const uint64_t *shape;
    uint32_t *ids; /* 2 * n for each dimension: the boxes by where they begin, those of a slab */
    uint64_t steps, most;
    bool first_only; /* of disjoint boxes: it ends at the first gap, and held is not counted */
} counting;

/* The product of the sizes behind dim. */
static uint64_t cross_section(const uint64_t *shape, unsigned ndim, unsigned dim)
{
    uint64_t v = 1;

    for (unsigned d = dim + 1; d < ndim; d++)
        v *= shape[d];
    return v;
}

/* Is a slab of disjoint boxes full, by its cross-section? Then no gap is looked for in it. */
static bool is_full(const counting *c, const sweep *s)
{
    unsigned ndim = c->b->ndim;
    uint64_t filled = 0;

    for (size_t i = 0; i < s->nactive; i++)
        filled += cross_section(c->b->dims + (uint64_t)s->active[i] * 2 * ndim + ndim, ndim, s->dim);
    return filled >= cross_section(c->shape, ndim, s->dim);
}

/* Elements that these boxes hold, in the dimensions from dim on. *open: is any held by none? first
 * (NULL = not wanted) is where. */
static uint64_t count(counting *c, const uint32_t *ids, size_t n, unsigned dim, uint64_t *first, bool *open)
{
    uint32_t *sorted = c->ids + 2 * c->b->n * dim;
    sweep s = { .b = c->b, .dim = dim, .sorted = sorted, .n = n, .active = sorted + c->b->n };
    uint64_t held = 0;

    *open = dim == c->b->ndim && n == 0;
    if (dim == c->b->ndim)
        return n > 0;
    if (n)
        memcpy(sorted, ids, n * sizeof *ids);
    sort_ids(c->b, sorted, n, dim);
    while (c->steps <= c->most && !(c->first_only && *open) && next_slab(&s, c->shape[dim])) {
        bool inner;

        c->steps += s.nactive + 1;
        if (c->first_only && is_full(c, &s))
            continue;
        held += (s.end - s.pos) * count(c, s.active, s.nactive, dim + 1, *open ? NULL : first, &inner);
        if (inner && !*open && first)
            first[dim] = s.pos;
        *open = *open || inner;
    }
    return held;
}

sw_code sw_boxes_count(const sw_boxes *b, const uint64_t *shape, sw_cover *out, sw_status *st)
{
    uint64_t n = b->n;
    counting c = { .b = b,
                   .shape = shape,
                   .ids = sw_calloc(2 * n * b->ndim + n, sizeof *c.ids, st),
                   .most = out->disjoint ? UINT64_MAX : STEPS_MAX,
                   .first_only = out->disjoint };
    uint32_t *all;

    if (!c.ids)
        return st->code;
    all = c.ids + 2 * n * b->ndim;
    number_ids(all, n);
    out->held = count(&c, all, (size_t)n, 0, out->first, &out->open);
    out->counted = c.steps <= c.most;
    free(c.ids);
    return SW_OK;
}
