/* Prove that the boxes of every tensor cover it, each element once; see sw_catalog_check().
 *
 * Boxes that repeat a region (replicas) are set apart first. Then overlaps are looked for
 * (cover.h); without them, the volumes tell of a gap. Who looks for all that is wrong is told of
 * several overlaps, and of gaps beside them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "plan/catalog.h"
#include "plan/cover.h"
#include "plan/dims.h"
#include "plan/numbers.h"
#include "plan/quantized.h"

/* The usual causes, for those who look for all that is wrong. */
static const char hint_gap[] =
    "a shard file was lost in copying, or the job was killed before its last rank had written: copy the "
    "missing file, or save again; sw_options.expect_shards finds those that are missing at the end";
static const char hint_gap_broken[] =
    "it may have been in one of the files that cannot be read: look at those first";
static const char hint_overlap[] =
    "strided placements (_StridedShard: FSDP2 over tensor parallelism) leave boxes that do not say where "
    "they belong, or files of two saves lie together: save again from a state dict with plain placements, or "
    "remove the files of the other save";
static const char hint_plain[] =
    "two saves in one directory, or shard files that lost their metadata: remove the files that do not "
    "belong, or write an index that names the right ones";
static const char hint_mixed[] =
    "files of two checkpoints in one directory, or a shard rewritten by a tool that drops its metadata: "
    "remove or replace the file";
static const char hint_global[] = "files of two saves in one directory: remove those of the other save";

/* Gaps in tensors of one model file, which one lost shard makes in most of them: the first is told
 * of, the others are counted. */
typedef struct gap {
    uint32_t model;
    uint64_t count;
    sw_status first;
} gap;

/* One tensor under the lens, and room to work in. */
typedef struct lens {
    sw_catalog *c;
    sw_tensor *t;
    sw_box *own; /* its boxes, one by one, in the order of their files at first */
    uint64_t *own_dims;
    sw_boxes b; /* likewise */
    unsigned ndim;
    uint32_t *ids; /* boxes in some order, and room behind them for as many */
    size_t cap_ids;
    sw_box *boxes; /* for sorting */
    uint64_t *box_dims;
    size_t cap_boxes, cap_dims;
    sw_box *spread; /* what rules stand for */
    uint64_t *spread_dims;
    size_t cap_spread, cap_spread_dims;
    bool one_model;  /* all files are of the same */
    bool lost_files; /* some file is known, but cannot be read */
    gap *gaps;       /* with a list of findings */
    size_t ngaps, cap_gaps;
} lens;

/* The file that a box is in. */
static const char *file_of(const lens *l, uint32_t box)
{
    return sw_file_name(&l->c->files[l->own[box].file]);
}

/* Room to sort n boxes in. */
static sw_code make_room(lens *l, uint64_t n, sw_status *st)
{
    if (sw_grow(&l->ids, &l->cap_ids, 2 * n, sizeof *l->ids, st) ||
        sw_grow(&l->boxes, &l->cap_boxes, n, sizeof *l->boxes, st))
        return st->code;
    return sw_grow(&l->box_dims, &l->cap_dims, n * 2 * l->t->ndim + 1, sizeof *l->box_dims, st);
}

/* ---- order ----------------------------------------------------------------------------------- */

/* By offsets, then shape. */
static int compare_regions(const lens *l, uint32_t a, uint32_t b)
{
    const uint64_t *dims = l->b.dims, width = 2u * l->ndim;

    return sw_by_all(dims + a * width, dims + b * width, width);
}

/* Does the box hold no element? */
static bool is_empty(const lens *l, uint32_t box)
{
    return sw_dims_empty(l->b.dims + ((uint64_t)box * 2 + 1) * l->ndim, l->ndim);
}

/* Empty boxes last; else by offsets, shape, file (files are in the order of their names). */
static int by_region(const void *a, const void *b, void *ctx)
{
    const lens *l = ctx;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int cmp = is_empty(l, x) - is_empty(l, y);

    if (cmp == 0)
        cmp = compare_regions(l, x, y);
    if (cmp == 0) {
        const uint32_t i = l->own[x].file, j = l->own[y].file;

        cmp = (i > j) - (i < j);
    }
    return cmp;
}

static bool is_replica(const lens *l, const uint32_t *ids, uint64_t i)
{
    return i > 0 && compare_regions(l, ids[i - 1], ids[i]) == 0;
}

/* Put the boxes in the order of ids: used ones, then replicas; the empty ones behind are given
 * up. */
static void reorder(lens *l, uint64_t n)
{
    sw_tensor *t = l->t;
    sw_box *boxes = l->own;
    uint64_t *dims = l->own_dims, at = 0;
    size_t width = 2u * l->ndim;

    for (int replicas = 0; replicas < 2; replicas++) {
        for (uint64_t i = 0; i < n; i++) {
            if (is_replica(l, l->ids, i) != (replicas == 1))
                continue;
            l->boxes[at] = boxes[l->ids[i]];
            memcpy(l->box_dims + at * width, dims + l->ids[i] * width, width * sizeof *dims);
            at++;
        }
        if (replicas == 0)
            t->nboxes = at;
    }
    t->nreplicas = n - t->nboxes;
    memcpy(boxes, l->boxes, n * sizeof *boxes);
    memcpy(dims, l->box_dims, n * width * sizeof *dims);
}

/* Sort, set replicas and empty boxes apart. */
static sw_code sort_boxes(lens *l, sw_status *st)
{
    uint64_t n = l->t->nboxes, used = 0;
    bool sorted = true;

    if (n > UINT32_MAX - 1)
        return sw_fail(st, SW_EINPUT, NULL, l->t->name, "in more than %" PRIu32 " boxes", UINT32_MAX - 1);
    if (make_room(l, n, st))
        return st->code;
    for (uint32_t i = 0; i < n; i++) {
        l->ids[i] = i;
        used += !is_empty(l, i);
        sorted =
            sorted && (i == 0 || (by_region(&l->ids[i - 1], &l->ids[i], l) < 0 && !is_replica(l, l->ids, i)));
    }
    if (sorted) {
        l->t->nboxes = used;
        return SW_OK;
    }
    qsort_r(l->ids, n, sizeof *l->ids, by_region, l);
    reorder(l, used);
    return SW_OK;
}

/* ---- overlaps -------------------------------------------------------------------------------- */

/* a, b: the boxes in their order */
static sw_code fail_overlap(const lens *l, uint32_t a, uint32_t b, sw_status *st)
{
    const uint64_t *da = l->b.dims + (uint64_t)a * 2 * l->ndim, *db = l->b.dims + (uint64_t)b * 2 * l->ndim;
    char t[4][SW_DIMS_TEXT];

    return sw_fail(
        st, SW_EINPUT, file_of(l, b), l->t->name,
        "box of shape %s at %s overlaps, but does not repeat, the box of shape %s at %s in %s; strided "
        "placements (_StridedShard) are saved like this and cannot be told apart afterwards",
        sw_dims_text(db + l->ndim, l->ndim, t[0]), sw_dims_text(db, l->ndim, t[1]),
        sw_dims_text(da + l->ndim, l->ndim, t[2]), sw_dims_text(da, l->ndim, t[3]), file_of(l, a));
}

/* ---- gaps ------------------------------------------------------------------------------------ */

/* What was found of the model file that the tensor is in; NULL = nothing yet. */
static gap *find_gap_of_model(const lens *l)
{
    for (size_t i = 0; i < l->ngaps; i++)
        if (l->gaps[i].model == l->t->model)
            return &l->gaps[i];
    return NULL;
}

/* first: where the first missing element is; missing: how many are, 0 = not to be told. */
static sw_code fail_gap(const lens *l, const uint64_t *first, uint64_t missing, sw_status *st)
{
    char text[2][SW_DIMS_TEXT], count[64] = "";
    sw_buf cause = SW_BUF_INIT;

    if (missing)
        snprintf(count, sizeof count, ", %" PRIu64 " element%s missing in all", missing,
                 missing == 1 ? " is" : "s are");
    if (!l->c->in_memory && !find_gap_of_model(l) && !sw_buf_addf(&cause, st, ": ") &&
        !sw_numbers_missing(l->c, l->t->model, &cause, st) && cause.len == strlen(": "))
        sw_buf_addf(&cause, st, "a shard file is missing or was not written to its end");
    sw_fail(st, SW_EINPUT, NULL, l->t->name, "no %s holds the elements from offsets %s on (shape %s)%s%.*s",
            l->c->in_memory ? "rank" : "shard file", sw_dims_text(first, l->ndim, text[0]),
            sw_dims_text(sw_tensor_shape(l->c, l->t), l->ndim, text[1]), count, (int)cause.len,
            cause.len ? cause.data : "");
    sw_buf_release(&cause);
    return st->code;
}

/* ---- a tensor -------------------------------------------------------------------------------- */

/* A shape that holds all boxes, or those that are not empty, and what it held before. */
static void widen_shape(const lens *l, bool all, uint64_t *shape)
{
    for (uint32_t i = 0; i < l->t->nboxes; i++)
        for (unsigned d = 0; (all || !is_empty(l, i)) && d < l->ndim; d++)
            shape[d] = sw_max(shape[d], sw_boxes_high(&l->b, i, d));
}

/* The largest end along each dimension, of the boxes that are not empty (of all when all are). */
static void find_shape(const lens *l, uint64_t *shape)
{
    bool all = true;

    for (uint32_t i = 0; all && i < l->t->nboxes; i++)
        all = is_empty(l, i);
    memset(shape, 0, l->ndim * sizeof *shape);
    widen_shape(l, all, shape);
}

/* A global_shape is believed: every box must lie in it, and what is missing is a gap. */
static sw_code check_global(const lens *l, const uint64_t *shape, sw_status *st)
{
    for (uint32_t i = 0; i < l->t->nboxes; i++) {
        for (unsigned d = 0; d < l->ndim; d++) {
            if (sw_boxes_high(&l->b, i, d) > shape[d])
                return sw_fail(st, SW_EINPUT, file_of(l, i), l->t->name,
                               "the box ends at %" PRIu64 " in dimension %u, past global_shape %" PRIu64,
                               sw_boxes_high(&l->b, i, d), d, shape[d]);
        }
    }
    return SW_OK;
}

/* Beyond which leading dimension no box is cut, and the largest extent along the first: of boxes
 * with these dimensions. */
static void find_split(sw_tensor *t, const uint64_t *dims, uint64_t nboxes, const uint64_t *shape)
{
    t->split_dims = 0;
    t->max_rows = 0;
    for (uint64_t i = 0; i < nboxes; i++) {
        const uint64_t *extent = dims + (2 * i + 1) * t->ndim;

        for (unsigned d = t->ndim; d > t->split_dims; d--)
            if (extent[d - 1] != shape[d - 1])
                t->split_dims = (uint8_t)d;
        if (t->ndim)
            t->max_rows = sw_max(t->max_rows, extent[0]);
    }
}

/* Elements of less than a byte: a cut must fall between bytes. */
static sw_code check_bits(const lens *l, const uint64_t *shape, sw_status *st)
{
    const sw_tensor *t = l->t;
    uint64_t inner = sw_dtype_bits(t->dtype);
    const char *dtype = sw_dtype_name(t->dtype);

    if (inner % 8 == 0 || t->split_dims == 0)
        return SW_OK;
    if (t->split_dims == t->ndim)
        return sw_fail(st, SW_EINPUT, NULL, t->name,
                       "%s sharded along its last dimension: torch counts these offsets in bytes, so they "
                       "cannot be trusted",
                       dtype);
    for (unsigned d = t->split_dims; d < t->ndim; d++)
        inner *= shape[d];
    for (uint32_t i = 0; i < t->nboxes; i++) {
        unsigned d = t->split_dims - 1u;

        if ((sw_boxes_low(&l->b, i, d) * (inner % 8)) % 8 ||
            (sw_boxes_extent(&l->b, i, d) * (inner % 8)) % 8 ||
            (t->split_dims > 1 && (shape[d] * (inner % 8)) % 8))
            return sw_fail(st, SW_EINPUT, file_of(l, i), t->name,
                           "a box of %s that does not begin and end on a byte", dtype);
    }
    return SW_OK;
}

/* The file that makes a shape too large: the first whose box ends where the longest dimension does;
 * of a global_shape the first file. */
static uint32_t farthest(const lens *l, const uint64_t *shape)
{
    unsigned longest = 0;

    for (unsigned d = 1; d < l->ndim; d++)
        longest = shape[d] > shape[longest] ? d : longest;
    for (uint32_t i = 0; i < l->t->nboxes; i++)
        if (sw_boxes_high(&l->b, i, longest) == shape[longest])
            return l->own[i].file;
    return l->t->file;
}

/* Elements and bytes of the tensor; false where they cannot be counted. */
static bool measure(sw_tensor *t, const uint64_t *shape)
{
    uint64_t bits = 0;
    bool fits = sw_dims_product(shape, t->ndim, &t->elements) &&
                sw_mul(t->elements, sw_dtype_bits(t->dtype), &bits) && bits / 8 <= INT64_MAX;

    t->elements = fits ? t->elements : 0;
    t->bytes = fits ? bits / 8 : 0;
    return fits;
}

/* They can be counted. */
static sw_code check_size(lens *l, const uint64_t *shape, sw_status *st)
{
    char text[SW_DIMS_TEXT];

    if (measure(l->t, shape))
        return SW_OK;
    return sw_fail(st, SW_EINPUT, sw_file_name(&l->c->files[farthest(l, shape)]), l->t->name,
                   "shape %s of %s overflows", sw_dims_text(shape, l->ndim, text),
                   sw_dtype_name(l->t->dtype));
}

/* What the boxes hold, where they do not overlap. */
static uint64_t volume_of(const lens *l)
{
    uint64_t filled = 0, volume;

    for (uint64_t i = 0; i < l->b.n; i++)
        filled += sw_dims_product(l->b.dims + (2 * i + 1) * l->ndim, l->ndim, &volume) ? volume : 0;
    return filled;
}

/* Are elements missing? Without overlaps the volumes tell. all: how many are is told as well. */
static sw_code check_holes(const lens *l, bool all, sw_status *st)
{
    uint64_t first[SW_MAX_DIMS] = { 0 };
    sw_tensor *t = l->t;
    sw_cover cover = { .disjoint = !t->overlaps, .first = first };
    uint64_t held = cover.disjoint ? volume_of(l) : 0;

    if (l->c->part || held >= t->elements)
        return SW_OK;
    if (sw_boxes_count(&l->b, sw_tensor_shape(l->c, t), &cover, st))
        return st->code;
    if (!cover.counted)
        return sw_fail(st, SW_EINPUT, NULL, t->name,
                       "so many of its boxes overlap that missing elements were not looked for");
    t->holes = cover.open;
    held = cover.disjoint ? held : cover.held;
    return cover.open ? fail_gap(l, first, all || t->overlaps ? t->elements - held : 0, st) : SW_OK;
}

/* Whole tensors have one place. */
static sw_code check_plain(const lens *l, sw_status *st)
{
    if (l->c->sharded || l->t->nboxes < 2)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, file_of(l, 1), l->t->name, "also in %s, and neither file has sharding info",
                   file_of(l, 0));
}

/* Let the list take what was found; the tensor is broken then. False: this is the end. */
static bool goes_on(lens *l, sw_findings *findings, const char *hint, sw_status *st)
{
    l->t->broken = l->t->broken || st->code;
    return sw_findings_take(findings, hint, st) == SW_OK;
}

/* The first pair, or with a list several. */
static sw_code check_overlaps(lens *l, sw_findings *findings, sw_status *st)
{
    sw_pairs found = { .max = findings ? SW_PAIRS_MAX + 1 : 1 };

    sw_boxes_overlaps(&l->b, l->ids, &found);
    l->t->overlaps = found.n > 0;
    for (size_t i = 0; i < found.n && i < SW_PAIRS_MAX; i++) {
        fail_overlap(l, found.pairs[i][0], found.pairs[i][1], st);
        if (!goes_on(l, findings, hint_overlap, st))
            return st->code;
    }
    if (found.n > SW_PAIRS_MAX)
        sw_fail(st, SW_EINPUT, NULL, l->t->name,
                "more of its boxes overlap than the %d pairs that are listed", SW_PAIRS_MAX);
    goes_on(l, findings, hint_overlap, st);
    return st->code;
}

/* A gap with a cause that others have, too: a file that is missing, or cannot be read. */
static bool is_shared_gap(const lens *l)
{
    return l->t->holes && !l->t->overlaps;
}

/* Keep the first gap of each model file, and count the others. */
static sw_code count_gap(lens *l, sw_status *st)
{
    gap *known = find_gap_of_model(l), found = { l->t->model, 1, *st };

    sw_status_clear(st);
    if (known)
        known->count++;
    else if (!sw_grow(&l->gaps, &l->cap_gaps, (uint64_t)l->ngaps + 1, sizeof *l->gaps, st))
        l->gaps[l->ngaps++] = found;
    return st->code;
}

/* Each with the number of the others. */
static sw_code tell_gaps(const lens *l, sw_findings *findings, sw_status *st)
{
    for (size_t i = 0; i < l->ngaps && !st->code; i++) {
        const gap *g = &l->gaps[i];
        uint64_t others = g->count - 1;
        char more[64] = "";

        if (others)
            snprintf(more, sizeof more, "; %" PRIu64 " more tensor%s such a gap", others,
                     others == 1 ? " has" : "s have");
        sw_fail(st, SW_EINPUT, NULL, g->first.tensor, "%.900s%s", g->first.reason, more);
        sw_findings_take(findings, l->lost_files ? hint_gap_broken : hint_gap, st);
    }
    return st->code;
}

/* The first of the files that hold a tensor: for one without elements nothing else tells where it
 * is. */
static void find_file(const lens *l)
{
    l->t->file = l->own[0].file;
    for (uint64_t i = 1; i < l->t->nboxes; i++)
        l->t->file = (uint32_t)sw_min(l->t->file, l->own[i].file);
}

/* j of the files that hold a tensor, 0 where they differ. */
static void find_model(const lens *l)
{
    for (uint64_t i = 0; i < l->t->nboxes; i++) {
        uint64_t model = l->c->files[l->own[i].file].number.model;

        if (model > UINT32_MAX || (i > 0 && model != l->t->model)) {
            l->t->model = 0;
            return;
        }
        l->t->model = (uint32_t)model;
    }
}

/* All that can be wrong with the boxes of the tensor under the lens. */
static sw_code check_tensor(lens *l, sw_findings *findings, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t *shape = l->c->shapes + t->dims0;

    l->ndim = t->ndim;
    l->b = (sw_boxes){ l->own_dims, t->nboxes, t->ndim };
    find_file(l);
    find_model(l);
    check_plain(l, st);
    if (!goes_on(l, findings, hint_plain, st))
        return st->code;
    if (!t->has_global)
        find_shape(l, shape);
    else if (check_global(l, shape, st))
        widen_shape(l, false, shape); /* to show what was said otherwise */
    if (!goes_on(l, findings, hint_global, st) || sort_boxes(l, st))
        return st->code;
    l->b.n = t->nboxes;
    if (check_overlaps(l, findings, st))
        return st->code;
    if (!check_size(l, shape, st))
        check_holes(l, findings != NULL, st);
    if (findings && st->code == SW_EINPUT && is_shared_gap(l)) {
        t->broken = true;
        count_gap(l, st);
    }
    if (!goes_on(l, findings, l->lost_files ? hint_gap_broken : t->overlaps ? hint_overlap : hint_gap, st))
        return st->code;
    find_split(t, l->own_dims, t->nboxes, shape);
    check_bits(l, shape, st);
    goes_on(l, findings, NULL, st);
    return st->code;
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* How far a rule goes along each dimension: offsets, then shape. */
static void find_reach(const sw_rules *r, size_t i, uint64_t *out)
{
    const sw_rule *rule = &r->items[i];

    memcpy(out, sw_rule_dims(r, i), 2u * r->ndim * sizeof *out);
    for (unsigned k = 0; k < rule->nloops; k++)
        if (rule->dims[k] != SW_RULE_COPIES)
            out[r->ndim + rule->dims[k]] += rule->loops[k].step * (rule->loops[k].count - UINT64_C(1));
}

/* The largest end along each dimension. */
static void widen(const sw_rules *r, uint64_t *shape)
{
    uint64_t reach[2 * SW_MAX_DIMS];

    for (size_t i = 0; i < r->n; i++) {
        find_reach(r, i, reach);
        for (unsigned d = 0; d < r->ndim; d++)
            shape[d] = sw_max(shape[d], reach[d] + reach[r->ndim + d]);
    }
}

/* The full shape. False: a box lies outside of what was told. */
static bool shape_by_rules(const lens *l, const sw_rules *all, const sw_rules *full, uint64_t *shape)
{
    uint64_t ends[SW_MAX_DIMS] = { 0 };

    widen(l->t->has_global || full->n == 0 ? all : full, ends);
    for (unsigned d = 0; l->t->has_global && d < all->ndim; d++)
        if (ends[d] > shape[d])
            return false;
    if (!l->t->has_global && all->ndim)
        memcpy(shape, ends, all->ndim * sizeof *shape);
    return true;
}

/* How many of them, in order, stand for the boxes that are used. */
static size_t used_rules(const sw_rules *r, uint64_t nboxes)
{
    size_t n = 0;

    while (n < r->n && r->items[n].first < nboxes)
        n++;
    return n;
}

/* Do they hold every element, each once? Of what is in order: a rule's own boxes lie apart. */
static bool covers(lens *l, const sw_rules *r, uint64_t nboxes, sw_status *st)
{
    uint64_t filled = 0, volume;
    sw_pairs found = { .max = 1 };
    size_t n = used_rules(r, nboxes);

    if (sw_grow(&l->ids, &l->cap_ids, 2 * n, sizeof *l->ids, st) ||
        sw_grow(&l->box_dims, &l->cap_dims, n * 2 * r->ndim + 1, sizeof *l->box_dims, st))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!sw_dims_product(sw_rule_dims(r, i) + r->ndim, r->ndim, &volume))
            return false;
        filled += volume * sw_rule_boxes(&r->items[i]);
        find_reach(r, i, l->box_dims + i * 2 * r->ndim);
    }
    if (filled != l->t->elements)
        return false;
    if (n > 1)
        sw_boxes_overlaps(&(sw_boxes){ l->box_dims, n, r->ndim }, l->ids, &found);
    return found.n == 0;
}

/* find_model() of rules: mostly all files are of one model, and none is looked at. */
static void model_by_rules(const lens *l, const sw_rules *r)
{
    uint64_t offsets[SW_MAX_DIMS], model = l->c->files[r->items[0].file].number.model;
    bool same = model <= UINT32_MAX;

    for (size_t i = 0; !l->one_model && same && i < r->n; i++) {
        for (uint64_t k = 0, n = sw_rule_boxes(&r->items[i]); same && k < n; k++) {
            uint32_t file = sw_rule_box(&r->items[i], sw_rule_dims(r, i), r->ndim, k, offsets);

            same = l->c->files[file].number.model == model;
        }
    }
    l->t->model = same ? (uint32_t)model : 0;
}

/* The tensor is whole, as its rules say: it is completed. r: in order. False: something may be
 * wrong with it, and its boxes are to be looked at one by one. */
static bool is_whole(lens *l, const sw_rules *all, const sw_rules *r, uint64_t nboxes, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t *shape = l->c->shapes + t->dims0;

    l->ndim = t->ndim;
    if (!l->c->sharded || l->c->part || !shape_by_rules(l, all, r, shape) || !measure(t, shape) ||
        !covers(l, r, nboxes, st))
        return false;
    model_by_rules(l, all);
    t->file = UINT32_MAX;
    for (size_t i = 0; i < all->n; i++)
        t->file = (uint32_t)sw_min(t->file, all->items[i].file);
    find_split(t, r->dims, used_rules(r, nboxes), shape);
    t->nboxes = nboxes;
    t->nreplicas = r->nboxes - nboxes;
    return true;
}

/* Boxes by their files, then as they stand. */
static int by_file(const void *a, const void *b, void *ctx)
{
    const sw_box *boxes = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    if (boxes[i].file != boxes[j].file)
        return boxes[i].file < boxes[j].file ? -1 : 1;
    return (i > j) - (i < j);
}

/* n boxes from where there is room for sorting to their place. */
static void sort_by_file(lens *l, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        l->ids[i] = (uint32_t)i;
    qsort_r(l->ids, n, sizeof *l->ids, by_file, l->boxes);
    for (size_t i = 0; i < n; i++) {
        l->own[i] = l->boxes[l->ids[i]];
        memcpy(l->own_dims + i * width, l->box_dims + l->ids[i] * width, width * sizeof *l->box_dims);
    }
}

/* The boxes of rules one by one, in the order of their files. */
static sw_code spread(lens *l, const sw_rules *r, sw_status *st)
{
    size_t width = 2u * r->ndim, at = 0;

    if (sw_grow(&l->spread, &l->cap_spread, r->nboxes, sizeof *l->spread, st) ||
        sw_grow(&l->spread_dims, &l->cap_spread_dims, r->nboxes * width + 1, sizeof *l->spread_dims, st) ||
        make_room(l, r->nboxes, st))
        return st->code;
    for (size_t i = 0; i < r->n; i++)
        for (uint64_t k = 0, n = sw_rule_boxes(&r->items[i]); k < n; k++, at++)
            l->boxes[at] = sw_box_of_rule(l->c->files, &r->items[i], sw_rule_dims(r, i), r->ndim, k,
                                          l->box_dims + at * width);
    l->own = l->spread;
    l->own_dims = l->spread_dims;
    sort_by_file(l, at, width);
    return st->code;
}

/* Boxes one by one, in the order of their files: they may have come in another. */
static sw_code take_own(lens *l, sw_status *st)
{
    size_t width = 2u * l->t->ndim, n = l->t->nboxes, i = 1;

    l->own = l->c->boxes + l->t->box0;
    l->own_dims = l->c->box_dims + l->t->box_dims0;
    while (i < n && l->own[i - 1].file <= l->own[i].file)
        i++;
    if (i >= n)
        return SW_OK;
    if (make_room(l, n, st))
        return st->code;
    memcpy(l->boxes, l->own, n * sizeof *l->boxes);
    memcpy(l->box_dims, l->own_dims, n * width * sizeof *l->box_dims);
    sort_by_file(l, n, width);
    return SW_OK;
}

/* A tensor with rules. What is wrong is found, and told, box by box as ever; the rules stay where
 * they can be put in order. */
static sw_code check_ruled(lens *l, sw_findings *findings, sw_status *st)
{
    sw_tensor *t = l->t;
    sw_catalog *c = l->c;
    const sw_rules all = { .items = c->rules + t->box0,
                           .dims = c->rule_dims + t->box_dims0,
                           .n = t->nrules,
                           .ndim = t->ndim,
                           .nboxes = t->nboxes };
    sw_rules r = SW_RULES_INIT(t->ndim);
    uint64_t nboxes;
    bool ordered;

    if (sw_rules_order(&all, &r, &nboxes, &ordered, st))
        goto out;
    if (!ordered || !is_whole(l, &all, &r, nboxes, st)) {
        if (st->code || spread(l, &all, st))
            goto out;
        check_tensor(l, findings, st);
        if (!ordered)
            sw_catalog_take_boxes(c, t, l->own, l->own_dims, t->nboxes + t->nreplicas, st);
    }
    if (ordered && !st->code)
        sw_catalog_take_rules(c, t, &r, st);
out:
    sw_rules_release(&r);
    return st->code;
}

/* Files with sharding info and files without do not go together. */
static sw_code check_files(sw_catalog *c, sw_findings *findings, sw_status *st)
{
    const sw_file *with = NULL;

    for (uint32_t i = 0; i < c->nfiles && !with; i++)
        with = c->files[i].sharded ? &c->files[i] : NULL;
    c->sharded = with != NULL;
    for (uint32_t i = 0; i < c->nfiles && with && !st->code; i++) {
        const sw_file *f = &c->files[i];

        if (f->sharded || f->broken)
            continue;
        sw_fail(st, SW_EINPUT, sw_file_name(f), NULL, "has no DCP_SHARDING_INFO, but %s has",
                sw_file_name(with));
        sw_findings_take(findings, hint_mixed, st);
    }
    return st->code;
}

sw_code sw_catalog_check(sw_catalog *c, sw_findings *findings, sw_status *st)
{
    lens l = { .c = c, .lost_files = sw_catalog_is_broken(c), .one_model = true };

    if (check_files(c, findings, st))
        return st->code;
    for (uint32_t i = 1; i < c->nfiles; i++)
        l.one_model = l.one_model && c->files[i].number.model == c->files[0].number.model;
    for (uint32_t i = 0; i < c->ntensors; i++) {
        l.t = &c->tensors[i];
        if (l.t->nrules)
            check_ruled(&l, findings, st);
        else if (!take_own(&l, st))
            check_tensor(&l, findings, st);
        if (st->code)
            break;
    }
    tell_gaps(&l, findings, st);
    free(l.gaps);
    free(l.ids);
    free(l.boxes);
    free(l.box_dims);
    free(l.spread);
    free(l.spread_dims);
    c->block[0] = c->block[1] = SW_SCALED_BLOCK;
    return st->code ? st->code : sw_find_scales(c, st);
}
