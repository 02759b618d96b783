/* Boxes by rule; see rules.h.
 *
 * Boxes come in the order of their files. The last rule takes a box that goes on as it does, and
 * two rules that are alike but for where they begin become one with a loop more: so a row of a grid
 * grows box by box, and the grid row by row. A new loop goes along one dimension, forwards, or
 * along none: any two boxes that are alike would make a loop otherwise, and the wrong ones would
 * find together. What alternates (the last column of a grid is narrower) is not adjacent: now and
 * then all are sorted by what must be alike, and joined in that order. */
#include "plan/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "format/header.h"
#include "plan/dims.h"

#define TIDY_LEAST 16

uint64_t sw_rule_boxes(const sw_rule *r)
{
    uint64_t n = 1;

    for (unsigned i = 0; i < r->nloops; i++)
        n *= r->loops[i].count;
    return n;
}

uint32_t sw_rule_box(const sw_rule *r, const uint64_t *from, unsigned ndim, uint64_t k, uint64_t *offsets)
{
    uint32_t file = r->file;

    if (ndim)
        memcpy(offsets, from, ndim * sizeof *offsets);
    for (unsigned i = 0; i < r->nloops; i++) {
        const sw_rule_loop *l = &r->loops[i];
        uint64_t at = i + 1u < r->nloops ? k % l->count : k;

        k /= l->count;
        file += (uint32_t)at * l->files;
        if (r->dims[i] != SW_RULE_COPIES)
            offsets[r->dims[i]] += at * l->step;
    }
    return file;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Are the loops below n alike? */
static bool same_loops(const sw_rule *a, const sw_rule *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (a->dims[i] != b->dims[i] || a->loops[i].count != b->loops[i].count ||
            a->loops[i].step != b->loops[i].step || a->loops[i].files != b->loops[i].files)
            return false;
    return true;
}

/* From where a begins to where b does: a loop of two, if there can be one. Seven parameters: two
 * rules with the offsets of their first boxes, and the two halves of a loop as a rule has them. */
static bool find_loop(const sw_rule *a, const uint64_t *x, const sw_rule *b, const uint64_t *y, unsigned ndim,
                      uint8_t *dim, sw_rule_loop *out)
{
    *dim = SW_RULE_COPIES;
    *out = (sw_rule_loop){ 0, 2, b->file - a->file };
    if (b->file <= a->file)
        return false;
    for (unsigned d = 0; d < ndim; d++) {
        if (x[d] == y[d])
            continue;
        if (y[d] < x[d] || out->step)
            return false;
        *dim = (uint8_t)d;
        out->step = y[d] - x[d];
    }
    return true;
}

/* Does a go on, by its outermost loop, with what stands where b does? */
static bool goes_on(const sw_rule *a, uint8_t dim, const sw_rule_loop *way)
{
    const sw_rule_loop *l = &a->loops[a->nloops - 1];

    return a->dims[a->nloops - 1] == dim && way->step == l->step * l->count &&
           way->files == (uint64_t)l->files * l->count;
}

/* Make a stand for the boxes of b too, if that is a rule. x, y: their dims. */
static bool join(sw_rule *a, const uint64_t *x, const sw_rule *b, const uint64_t *y, unsigned ndim)
{
    unsigned inner = a->nloops ? a->nloops - 1u : 0;
    sw_rule_loop way, *last = &a->loops[inner];
    uint8_t dim;

    if (a->at != b->at || (ndim && memcmp(x + ndim, y + ndim, ndim * sizeof *x) != 0) ||
        !find_loop(a, x, b, y, ndim, &dim, &way))
        return false;
    /* one more of what its outermost loop repeats */
    if (a->nloops && b->nloops == inner && same_loops(a, b, inner) && goes_on(a, dim, &way) &&
        last->count < UINT32_MAX) {
        last->count++;
        return true;
    }
    if (a->nloops != b->nloops || !same_loops(a, b, inner))
        return false;
    /* several more of them */
    if (a->nloops && a->dims[inner] == b->dims[inner] && last->step == b->loops[inner].step &&
        last->files == b->loops[inner].files && goes_on(a, dim, &way) &&
        b->loops[inner].count <= UINT32_MAX - last->count) {
        last->count += b->loops[inner].count;
        return true;
    }
    /* all of it once more, elsewhere */
    if (a->nloops == SW_RULE_LOOPS || !same_loops(a, b, a->nloops))
        return false;
    a->dims[a->nloops] = dim;
    a->loops[a->nloops++] = way;
    return true;
}

/* The last rule may be what the one before it waits for. */
static void join_last(sw_rules *r)
{
    while (r->n > 1 && join(&r->items[r->n - 2], sw_rule_dims(r, r->n - 2), &r->items[r->n - 1],
                            sw_rule_dims(r, r->n - 1), r->ndim))
        r->n--;
}

/* Room for one more. Most tensors have one rule, and there are as many as tensors: the first takes
 * what it needs. */
static sw_code grow(sw_rules *r, sw_status *st)
{
    size_t width = 2u * r->ndim;

    if (r->cap == 0) {
        r->items = sw_calloc(1, sizeof *r->items, st);
        r->dims = r->items ? sw_calloc(width, sizeof *r->dims, st) : NULL;
        r->cap = r->items ? 1 : 0;
        r->cap_dims = r->dims ? width : 0;
        return st->code;
    }
    return sw_grow(&r->items, &r->cap, r->n + UINT64_C(1), sizeof *r->items, st)
               ? st->code
               : sw_grow(&r->dims, &r->cap_dims, (r->n + UINT64_C(1)) * width, sizeof *r->dims, st);
}

/* As the last one, as it is. */
static sw_code append(sw_rules *r, const sw_rule *rule, const uint64_t *dims, sw_status *st)
{
    size_t width = 2u * r->ndim;

    if (grow(r, st))
        return st->code;
    r->items[r->n] = *rule;
    if (width)
        memcpy(r->dims + r->n * width, dims, width * sizeof *dims);
    r->n++;
    return SW_OK;
}

sw_code sw_rules_add(sw_rules *r, const sw_rule *rule, const uint64_t *dims, sw_status *st)
{
    if (r->n >= sw_max(r->tidy, TIDY_LEAST) && sw_rules_tidy(r, st))
        return st->code;
    r->nboxes += sw_rule_boxes(rule);
    if (r->n == 0 || !join(&r->items[r->n - 1], sw_rule_dims(r, r->n - 1), rule, dims, r->ndim))
        return append(r, rule, dims, st);
    join_last(r);
    return SW_OK;
}

/* ---- tidying --------------------------------------------------------------------------------- */

/* What must be alike, then where they begin. */
static int by_kind(const void *a, const void *b, void *ctx)
{
    const sw_rules *r = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const sw_rule *x = &r->items[i], *y = &r->items[j];
    int cmp = (x->at > y->at) - (x->at < y->at);

    if (cmp == 0)
        cmp = x->nloops - y->nloops;
    if (cmp == 0 && r->ndim)
        cmp = memcmp(sw_rule_dims(r, i) + r->ndim, sw_rule_dims(r, j) + r->ndim, r->ndim * sizeof *r->dims);
    if (cmp == 0)
        cmp = memcmp(x->dims, y->dims, x->nloops);
    if (cmp == 0)
        cmp = memcmp(x->loops, y->loops, x->nloops * sizeof *x->loops);
    if (cmp == 0)
        cmp = (x->file > y->file) - (x->file < y->file);
    return cmp ? cmp : (i > j) - (i < j);
}

sw_code sw_rules_tidy(sw_rules *r, sw_status *st)
{
    sw_rules out = SW_RULES_INIT(r->ndim);
    uint32_t *ids;

    if (r->n < 2)
        return SW_OK;
    ids = sw_sorted_numbers(r->n, by_kind, r, st);
    for (size_t i = 0; ids && i < r->n && !append(&out, &r->items[ids[i]], sw_rule_dims(r, ids[i]), st); i++)
        join_last(&out);
    free(ids);
    if (st->code) {
        sw_rules_release(&out);
        return st->code;
    }
    out.nboxes = r->nboxes;
    out.tidy = 2 * out.n;
    sw_rules_release(r);
    *r = out;
    return SW_OK;
}

void sw_rules_release(sw_rules *r)
{
    free(r->items);
    free(r->dims);
    *r = (sw_rules)SW_RULES_INIT(r->ndim);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Loops in the order of the offsets that they make; each goes past all that the inner ones along
 * its dimension reach. */
static bool sort_loops(sw_rule *r, const uint64_t *shape)
{
    for (unsigned i = 1; i < r->nloops; i++) {
        const sw_rule_loop l = r->loops[i];
        const uint8_t dim = r->dims[i];
        unsigned k = i;

        for (; k > 0 && (r->dims[k - 1] < dim || (r->dims[k - 1] == dim && r->loops[k - 1].step > l.step));
             k--) {
            r->loops[k] = r->loops[k - 1];
            r->dims[k] = r->dims[k - 1];
        }
        r->loops[k] = l;
        r->dims[k] = dim;
    }
    for (unsigned i = 0; i < r->nloops; i++) {
        const bool more = i > 0 && r->dims[i - 1] == r->dims[i];
        uint64_t reach = shape[r->dims[i]];

        for (unsigned k = i; more && k-- > 0 && r->dims[k] == r->dims[i];)
            reach += r->loops[k].step * (r->loops[k].count - UINT64_C(1));
        if (r->loops[i].step < reach)
            return false;
    }
    return true;
}

/* A rule without its copies to used, those to copies. False: this is no order. */
static bool part(const sw_rule *rule, const uint64_t *dims, sw_rules *used, sw_rules *copies, sw_status *st)
{
    sw_rule region = *rule, again;
    sw_rule_loop times = { 0, 0, 0 };

    region.nloops = 0;
    for (unsigned i = 0; i < rule->nloops; i++) {
        if (rule->dims[i] == SW_RULE_COPIES) {
            if (times.count)
                return false;
            times = rule->loops[i];
        } else {
            region.dims[region.nloops] = rule->dims[i];
            region.loops[region.nloops++] = rule->loops[i];
        }
    }
    if (!sort_loops(&region, dims + used->ndim))
        return false;
    append(used, &region, dims, st);
    if (times.count == 0)
        return true;
    again = region;
    again.file += times.files;
    if (--times.count > 1) {
        memmove(again.loops + 1, again.loops, region.nloops * sizeof *again.loops);
        memmove(again.dims + 1, again.dims, region.nloops);
        again.loops[0] = times;
        again.dims[0] = SW_RULE_COPIES;
        again.nloops++;
    }
    append(copies, &again, dims, st);
    return true;
}

/* Boxes by their offsets, then as they stand. */
static int by_offsets(const void *a, const void *b, void *ctx)
{
    const sw_rules *r = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int cmp = sw_by_all(sw_rule_dims(r, i), sw_rule_dims(r, j), r->ndim);

    return cmp ? cmp : (i > j) - (i < j);
}

/* Does each end before the next one begins? */
static bool is_apart(const sw_rules *r, const uint32_t *ids)
{
    uint64_t last[SW_MAX_DIMS];

    for (size_t i = 0; i + 1 < r->n; i++) {
        const sw_rule *rule = &r->items[ids[i]];

        sw_rule_box(rule, sw_rule_dims(r, ids[i]), r->ndim, sw_rule_boxes(rule) - 1, last);
        if (sw_by_all(last, sw_rule_dims(r, ids[i + 1]), r->ndim) >= 0)
            return false;
    }
    return true;
}

/* In the order of ids; or with the outermost loop of each undone, unless that makes too many. */
static sw_code take(const sw_rules *r, const uint32_t *ids, bool undo, sw_rules *out, sw_status *st)
{
    for (size_t i = 0; i < r->n && !st->code; i++) {
        sw_rule rule = r->items[ids[i]];
        uint64_t dims[2 * SW_MAX_DIMS];
        sw_rule_loop l = { 0, 1, 0 };
        uint8_t dim = SW_RULE_COPIES;

        memcpy(dims, sw_rule_dims(r, ids[i]), 2u * r->ndim * sizeof *dims);
        if (undo && rule.nloops && rule.dims[rule.nloops - 1] != SW_RULE_COPIES) {
            l = rule.loops[--rule.nloops];
            dim = rule.dims[rule.nloops];
        }
        for (uint32_t k = 0; k < l.count && !append(out, &rule, dims, st); k++) {
            rule.file += l.files;
            if (dim != SW_RULE_COPIES)
                dims[dim] += l.step;
            if (sw_rules_bytes(out->n, r->ndim) > SW_RULES_BYTES * r->nboxes)
                return SW_OK;
        }
    }
    return st->code;
}

/* Sort; where rules lie between one another their outermost loops are undone, one after the
 * other. */
static bool sort_rules(sw_rules *r, sw_status *st)
{
    bool apart = r->n < 2;

    for (unsigned round = 0; !apart && round <= SW_RULE_LOOPS && !st->code; round++) {
        sw_rules next = SW_RULES_INIT(r->ndim);
        uint32_t *ids = sw_sorted_numbers(r->n, by_offsets, r, st);

        if (!ids)
            return false;
        apart = is_apart(r, ids);
        take(r, ids, !apart, &next, st);
        next.nboxes = r->nboxes;
        free(ids);
        sw_rules_release(r);
        *r = next;
        if (!apart && sw_rules_bytes(r->n, r->ndim) > SW_RULES_BYTES * r->nboxes)
            return false;
    }
    return apart && !st->code;
}

sw_code sw_rules_order(const sw_rules *r, sw_rules *out, uint64_t *nboxes, bool *ordered, sw_status *st)
{
    sw_rules copies = SW_RULES_INIT(r->ndim);
    uint64_t first = 0;

    *ordered = true;
    *nboxes = 0;
    out->nboxes = copies.nboxes = r->nboxes;
    for (size_t i = 0; *ordered && i < r->n && !st->code; i++)
        if (!sw_dims_empty(sw_rule_dims(r, i) + r->ndim, r->ndim))
            *ordered = part(&r->items[i], sw_rule_dims(r, i), out, &copies, st);
    *ordered = *ordered && sort_rules(out, st) && sort_rules(&copies, st);
    for (size_t i = 0; *ordered && i < out->n; i++)
        *nboxes += sw_rule_boxes(&out->items[i]);
    for (size_t i = 0; *ordered && i < copies.n && !st->code; i++)
        append(out, &copies.items[i], sw_rule_dims(&copies, i), st);
    for (size_t i = 0; *ordered && i < out->n; i++) {
        out->items[i].first = first;
        first += sw_rule_boxes(&out->items[i]);
    }
    out->nboxes = first;
    sw_rules_release(&copies);
    return st->code;
}
