/* Prove that the boxes of every tensor cover it, each element once; see sw_catalog_check().
 *
 * Boxes that repeat a region (replicas) are set apart first. Overlaps are looked for by cutting:
 * along some dimension the boxes fall into groups that do not touch, and each group is cut again
 * along the others; a grid is done after one pass a dimension. Only a group that nothing cuts (a
 * pinwheel, or a real overlap) is compared pair by pair. Without overlaps, the volumes tell of a
 * gap, and a sweep finds its first element. Who looks for all that is wrong is told of several
 * overlaps, and of gaps beside them (cover.h). No element is ever marked. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "plan/catalog.h"
#include "plan/cover.h"
#include "plan/dims.h"
#include "plan/numbers.h"
#include "plan/quantized.h"

/* Deeper cutting than this is no grid of anybody's; the pairs are compared instead. */
#define MAX_CUTS 64

/* So many pairs of a tensor's boxes that overlap are told of, one by one. */
#define PAIRS_MAX 8

/* The usual causes, for those who look for all that is wrong. */
static const char hint_gap[] =
    "a shard file was lost in copying, or the job was killed before its last rank had written: copy the "
    "missing file, or save again; --expect-shards N finds those that are missing at the end";
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
    const uint64_t *dims; /* of its boxes: offsets, shape */
    unsigned ndim;
    uint32_t *ids; /* boxes in some order */
    uint32_t *active;
    size_t cap_ids, cap_active;
    sw_box *boxes; /* for sorting */
    uint64_t *box_dims;
    size_t cap_boxes, cap_dims;
    bool lost_files; /* some file is known, but cannot be read */
    gap *gaps;       /* with a list of findings */
    size_t ngaps, cap_gaps;
} lens;

static uint64_t low(const lens *l, uint32_t box, unsigned dim)
{
    return l->dims[(uint64_t)box * 2 * l->ndim + dim];
}

static uint64_t extent(const lens *l, uint32_t box, unsigned dim)
{
    return l->dims[(uint64_t)box * 2 * l->ndim + l->ndim + dim];
}

static uint64_t high(const lens *l, uint32_t box, unsigned dim)
{
    return low(l, box, dim) + extent(l, box, dim);
}

/* ---- order ----------------------------------------------------------------------------------- */

static int compare_regions(const lens *l, uint32_t a, uint32_t b)
{
    for (unsigned i = 0; i < 2 * l->ndim; i++) {
        uint64_t x = l->dims[(uint64_t)a * 2 * l->ndim + i], y = l->dims[(uint64_t)b * 2 * l->ndim + i];

        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

static bool is_empty(const lens *l, uint32_t box)
{
    for (unsigned d = 0; d < l->ndim; d++)
        if (extent(l, box, d) == 0)
            return true;
    return false;
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
        const sw_box *bx = &l->c->boxes[l->t->box0];

        cmp = (bx[x].file > bx[y].file) - (bx[x].file < bx[y].file);
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
    sw_box *boxes = l->c->boxes + t->box0;
    uint64_t *dims = l->c->box_dims + t->box_dims0, at = 0;
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
    if (sw_grow(&l->ids, &l->cap_ids, n, sizeof *l->ids, st) ||
        sw_grow(&l->active, &l->cap_active, n, sizeof *l->active, st) ||
        sw_grow(&l->boxes, &l->cap_boxes, n, sizeof *l->boxes, st) ||
        sw_grow(&l->box_dims, &l->cap_dims, n * 2 * l->ndim + 1, sizeof *l->box_dims, st))
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

typedef struct by_low_ctx {
    const lens *l;
    unsigned dim;
} by_low_ctx;

static int by_low(const void *a, const void *b, void *ctx)
{
    const by_low_ctx *k = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    uint64_t x = low(k->l, i, k->dim), y = low(k->l, j, k->dim);

    return x != y ? (x < y ? -1 : 1) : (i > j) - (i < j);
}

static void sort_ids(const lens *l, uint32_t *ids, size_t n, unsigned dim)
{
    by_low_ctx k = { l, dim };
    size_t i = 1;

    while (i < n && low(l, ids[i - 1], dim) <= low(l, ids[i], dim))
        i++;
    if (i < n)
        qsort_r(ids, n, sizeof *ids, by_low, &k);
}

static bool overlap(const lens *l, uint32_t a, uint32_t b)
{
    for (unsigned d = 0; d < l->ndim; d++)
        if (high(l, a, d) <= low(l, b, d) || high(l, b, d) <= low(l, a, d))
            return false;
    return true;
}

/* Pairs of boxes that overlap. */
typedef struct pair_list {
    uint32_t pairs[PAIRS_MAX + 1][2];
    size_t n, max; /* one more than are told of, to know that there are more */
} pair_list;

/* Sorted along dim: compare each box with those that begin before it ends. True: the list is
 * full. */
static bool overlap_in_pairs(const lens *l, const uint32_t *ids, size_t n, unsigned dim, pair_list *found)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n && low(l, ids[j], dim) < high(l, ids[i], dim); j++) {
            if (!overlap(l, ids[i], ids[j]))
                continue;
            found->pairs[found->n][0] = ids[i];
            found->pairs[found->n++][1] = ids[j];
            if (found->n == found->max)
                return true;
        }
    }
    return false;
}

/* How many of the boxes, sorted along dim, lie in the first group that nothing behind it
 * touches. */
static size_t first_group(const lens *l, const uint32_t *ids, size_t n, unsigned dim)
{
    uint64_t end = high(l, ids[0], dim);
    size_t i = 1;

    for (; i < n && low(l, ids[i], dim) < end; i++)
        end = sw_max(end, high(l, ids[i], dim));
    return i;
}

/* True: the list is full. */
static bool find_overlaps(const lens *l, uint32_t *ids, size_t n, unsigned dim, unsigned depth,
                          pair_list *found)
{
    unsigned tries = 0;
    size_t group;

    if (n < 2)
        return false;
    for (; tries < l->ndim && depth < MAX_CUTS; tries++, dim = (dim + 1) % l->ndim) {
        sort_ids(l, ids, n, dim);
        if (first_group(l, ids, n, dim) < n)
            break;
    }
    if (tries == l->ndim || depth == MAX_CUTS) {
        sort_ids(l, ids, n, dim);
        return overlap_in_pairs(l, ids, n, dim, found);
    }
    for (; n; ids += group, n -= group) {
        group = first_group(l, ids, n, dim);
        if (find_overlaps(l, ids, group, (dim + 1) % l->ndim, depth + 1, found))
            return true;
    }
    return false;
}

static sw_code fail_overlap(const lens *l, const uint32_t pair[2], sw_status *st)
{
    uint32_t a = pair[0] < pair[1] ? pair[0] : pair[1], b = pair[0] < pair[1] ? pair[1] : pair[0];
    const sw_box *boxes = l->c->boxes + l->t->box0;
    const uint64_t *da = l->dims + (uint64_t)a * 2 * l->ndim, *db = l->dims + (uint64_t)b * 2 * l->ndim;
    char t[4][SW_DIMS_TEXT];

    return sw_fail(
        st, SW_EINPUT, l->c->files[boxes[b].file].name, l->t->name,
        "box of shape %s at %s overlaps, but does not repeat, the box of shape %s at %s in %s; strided "
        "placements (_StridedShard) are saved like this and cannot be told apart afterwards",
        sw_dims_text(db + l->ndim, l->ndim, t[0], sizeof t[0]), sw_dims_text(db, l->ndim, t[1], sizeof t[1]),
        sw_dims_text(da + l->ndim, l->ndim, t[2], sizeof t[2]), sw_dims_text(da, l->ndim, t[3], sizeof t[3]),
        l->c->files[boxes[a].file].name);
}

/* ---- gaps ------------------------------------------------------------------------------------ */

static uint64_t inner_volume(const lens *l, uint32_t box, unsigned dim)
{
    uint64_t v = 1;

    for (unsigned d = dim + 1; d < l->ndim; d++)
        v *= extent(l, box, d);
    return v;
}

/* Sweep along dim through slabs in which the set of boxes does not change; the boxes are disjoint,
 * so a slab whose cross-section is smaller than that of the tensor has a gap. Returns where that
 * slab begins, with its boxes as the first *n of ids. Disjoint boxes that do not fill the region
 * must have been given. */
static uint64_t first_open_slab(lens *l, uint32_t *ids, size_t *n, unsigned dim, const uint64_t *shape)
{
    uint64_t full = 1, pos = 0;
    size_t next = 0, nactive = 0;

    for (unsigned d = dim + 1; d < l->ndim; d++)
        full *= shape[d];
    sort_ids(l, ids, *n, dim);
    while (pos < shape[dim]) {
        uint64_t filled = 0, end = shape[dim];
        size_t kept = 0;

        while (next < *n && low(l, ids[next], dim) <= pos)
            l->active[nactive++] = ids[next++];
        for (size_t i = 0; i < nactive; i++) {
            if (high(l, l->active[i], dim) <= pos)
                continue;
            end = sw_min(end, high(l, l->active[i], dim));
            filled += inner_volume(l, l->active[i], dim);
            l->active[kept++] = l->active[i];
        }
        nactive = kept;
        if (filled < full)
            break;
        if (next < *n)
            end = sw_min(end, low(l, ids[next], dim));
        pos = end;
    }
    memcpy(ids, l->active, nactive * sizeof *ids);
    *n = nactive;
    return pos;
}

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
            l->c->in_memory ? "rank" : "shard file", sw_dims_text(first, l->ndim, text[0], sizeof text[0]),
            sw_dims_text(sw_tensor_shape(l->c, l->t), l->ndim, text[1], sizeof text[1]), count,
            (int)cause.len, cause.len ? cause.data : "");
    sw_buf_release(&cause);
    return st->code;
}

/* The first element that no box holds, of boxes that do not overlap. */
static void find_gap(lens *l, uint64_t *first)
{
    size_t n = (size_t)l->t->nboxes;

    for (size_t i = 0; i < n; i++)
        l->ids[i] = (uint32_t)i;
    for (unsigned d = 0; d < l->ndim; d++)
        first[d] = first_open_slab(l, l->ids, &n, d, sw_tensor_shape(l->c, l->t));
}

/* ---- a tensor -------------------------------------------------------------------------------- */

/* The largest end along each dimension, of the boxes that are not empty (of all when all are). */
static void find_shape(lens *l, uint64_t *shape)
{
    bool all = true;

    for (uint32_t i = 0; all && i < l->t->nboxes; i++)
        all = is_empty(l, i);
    memset(shape, 0, l->ndim * sizeof *shape);
    for (uint32_t i = 0; i < l->t->nboxes; i++)
        for (unsigned d = 0; (all || !is_empty(l, i)) && d < l->ndim; d++)
            shape[d] = sw_max(shape[d], high(l, i, d));
}

/* A global_shape is believed: every box must lie in it, and what is missing is a gap. */
static sw_code check_global(const lens *l, const uint64_t *shape, sw_status *st)
{
    for (uint32_t i = 0; i < l->t->nboxes; i++) {
        for (unsigned d = 0; d < l->ndim; d++) {
            if (high(l, i, d) > shape[d])
                return sw_fail(st, SW_EINPUT, l->c->files[l->c->boxes[l->t->box0 + i].file].name, l->t->name,
                               "the box ends at %" PRIu64 " in dimension %u, past global_shape %" PRIu64,
                               high(l, i, d), d, shape[d]);
        }
    }
    return SW_OK;
}

static void find_split(lens *l, const uint64_t *shape)
{
    sw_tensor *t = l->t;

    t->split_dims = 0;
    t->max_rows = 0;
    for (uint32_t i = 0; i < t->nboxes; i++) {
        for (unsigned d = l->ndim; d > t->split_dims; d--)
            if (extent(l, i, d - 1) != shape[d - 1])
                t->split_dims = (uint8_t)d;
        if (l->ndim)
            t->max_rows = sw_max(t->max_rows, extent(l, i, 0));
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

        if ((low(l, i, d) * (inner % 8)) % 8 || (extent(l, i, d) * (inner % 8)) % 8 ||
            (t->split_dims > 1 && (shape[d] * (inner % 8)) % 8))
            return sw_fail(st, SW_EINPUT, l->c->files[l->c->boxes[t->box0 + i].file].name, t->name,
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
        if (high(l, i, longest) == shape[longest])
            return l->c->boxes[l->t->box0 + i].file;
    return l->t->file;
}

static sw_code check_size(lens *l, const uint64_t *shape, sw_status *st)
{
    sw_tensor *t = l->t;
    char text[SW_DIMS_TEXT];
    uint64_t bits;

    if (!sw_dims_product(shape, l->ndim, &t->elements) ||
        !sw_mul(t->elements, sw_dtype_bits(t->dtype), &bits) || bits / 8 > INT64_MAX) {
        t->elements = 0;
        return sw_fail(st, SW_EINPUT, l->c->files[farthest(l, shape)].name, t->name,
                       "shape %s of %s overflows", sw_dims_text(shape, l->ndim, text, sizeof text),
                       sw_dtype_name(t->dtype));
    }
    t->bytes = bits / 8;
    return SW_OK;
}

/* Without overlaps the volumes tell of gaps. all: how many elements are missing is told as well. */
static sw_code check_volume(lens *l, bool all, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t filled = 0, first[SW_MAX_DIMS] = { 0 };

    for (uint32_t i = 0; i < t->nboxes; i++)
        filled += l->ndim ? extent(l, i, 0) * inner_volume(l, i, 0) : 1;
    if (filled >= t->elements)
        return SW_OK;
    t->holes = true;
    find_gap(l, first);
    return fail_gap(l, first, all ? t->elements - filled : 0, st);
}

/* With overlaps what is held must be counted. */
static sw_code check_cover(const lens *l, sw_status *st)
{
    uint64_t first[SW_MAX_DIMS] = { 0 };
    sw_cover cover = { .first = first };
    sw_tensor *t = l->t;

    if (sw_cover_count(l->dims, t->nboxes, l->ndim, sw_tensor_shape(l->c, t), &cover, st))
        return st->code;
    if (!cover.counted)
        return sw_fail(st, SW_EINPUT, NULL, t->name,
                       "so many of its boxes overlap that missing elements were not looked for");
    t->holes = cover.open;
    return cover.open ? fail_gap(l, first, t->elements - cover.held, st) : SW_OK;
}

/* Whole tensors have one place. */
static sw_code check_plain(const lens *l, sw_status *st)
{
    const sw_box *boxes = l->c->boxes + l->t->box0;

    if (l->c->sharded || l->t->nboxes < 2)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, l->c->files[boxes[1].file].name, l->t->name,
                   "also in %s, and neither file has sharding info", l->c->files[boxes[0].file].name);
}

/* A shape to show that holds all boxes, whatever was said. */
static void widen_shape(const lens *l, uint64_t *shape)
{
    for (uint32_t i = 0; i < l->t->nboxes; i++)
        for (unsigned d = 0; !is_empty(l, i) && d < l->ndim; d++)
            shape[d] = sw_max(shape[d], high(l, i, d));
}

/* Let the list take what was found; the tensor is broken then. False: this is the end. */
static bool goes_on(lens *l, sw_findings *findings, const char *hint, sw_status *st)
{
    l->t->broken = l->t->broken || st->code;
    return sw_findings_take_hint(findings, hint, st) == SW_OK;
}

/* The first pair, or with a list several. */
static sw_code check_overlaps(lens *l, sw_findings *findings, sw_status *st)
{
    pair_list found = { .max = findings ? PAIRS_MAX + 1 : 1 };

    for (uint32_t i = 0; i < l->t->nboxes; i++)
        l->ids[i] = i;
    find_overlaps(l, l->ids, (size_t)l->t->nboxes, 0, 0, &found);
    l->t->overlaps = found.n > 0;
    for (size_t i = 0; i < found.n && i < PAIRS_MAX; i++) {
        fail_overlap(l, found.pairs[i], st);
        if (!goes_on(l, findings, hint_overlap, st))
            return st->code;
    }
    if (found.n > PAIRS_MAX)
        sw_fail(st, SW_EINPUT, NULL, l->t->name,
                "more of its boxes overlap than the %d pairs that are listed", PAIRS_MAX);
    goes_on(l, findings, hint_overlap, st);
    return st->code;
}

/* A gap with a cause that others have, too: shards whose numbers are missed, or a file that cannot
 * be read. */
static bool is_shared_gap(const lens *l)
{
    return l->t->holes && !l->t->overlaps &&
           (l->lost_files || l->c->files[l->c->boxes[l->t->box0].file].number.shard);
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
        sw_findings_take_hint(findings, l->lost_files ? hint_gap_broken : hint_gap, st);
    }
    return st->code;
}

/* Are elements missing? */
static sw_code check_holes(lens *l, sw_findings *findings, sw_status *st)
{
    if (l->c->part)
        return SW_OK;
    return l->t->overlaps ? check_cover(l, st) : check_volume(l, findings != NULL, st);
}

static sw_code check_tensor(lens *l, sw_findings *findings, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t *shape = l->c->shapes + t->dims0;

    l->ndim = t->ndim;
    l->dims = l->c->box_dims + t->box_dims0;
    check_plain(l, st);
    if (!goes_on(l, findings, hint_plain, st))
        return st->code;
    if (!t->has_global)
        find_shape(l, shape);
    else if (check_global(l, shape, st))
        widen_shape(l, shape);
    if (!goes_on(l, findings, hint_global, st) || sort_boxes(l, st))
        return st->code;
    if (check_overlaps(l, findings, st))
        return st->code;
    if (!check_size(l, shape, st))
        check_holes(l, findings, st);
    if (findings && st->code == SW_EINPUT && is_shared_gap(l)) {
        t->broken = true;
        count_gap(l, st);
    }
    if (!goes_on(l, findings, l->lost_files ? hint_gap_broken : t->overlaps ? hint_overlap : hint_gap, st))
        return st->code;
    find_split(l, shape);
    check_bits(l, shape, st);
    goes_on(l, findings, NULL, st);
    return st->code;
}

/* The first of the files that hold a tensor: for one without elements nothing else tells where it
 * is. */
static void find_file(const sw_catalog *c, sw_tensor *t)
{
    t->file = c->boxes[t->box0].file;
    for (uint64_t i = 1; i < t->nboxes + t->nreplicas; i++)
        t->file = (uint32_t)sw_min(t->file, c->boxes[t->box0 + i].file);
}

/* j of the files that hold a tensor, 0 where they differ. */
static void find_model(sw_catalog *c, sw_tensor *t)
{
    for (uint64_t i = 0; i < t->nboxes + t->nreplicas; i++) {
        uint64_t model = c->files[c->boxes[t->box0 + i].file].number.model;

        if (model > UINT32_MAX || (i > 0 && model != t->model)) {
            t->model = 0;
            return;
        }
        t->model = (uint32_t)model;
    }
}

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
        sw_fail(st, SW_EINPUT, f->name, NULL, "has no DCP_SHARDING_INFO, but %s has", with->name);
        sw_findings_take_hint(findings, hint_mixed, st);
    }
    return st->code;
}

sw_code sw_catalog_check(sw_catalog *c, sw_findings *findings, sw_status *st)
{
    lens l = { .c = c };

    if (check_files(c, findings, st))
        return st->code;
    for (uint32_t i = 0; i < c->nfiles; i++)
        l.lost_files = l.lost_files || c->files[i].broken;
    for (uint32_t i = 0; i < c->ntensors; i++) {
        l.t = &c->tensors[i];
        find_file(c, l.t);
        find_model(c, l.t);
        if (check_tensor(&l, findings, st))
            break;
    }
    tell_gaps(&l, findings, st);
    free(l.gaps);
    free(l.ids);
    free(l.active);
    free(l.boxes);
    free(l.box_dims);
    c->block[0] = c->block[1] = SW_SCALED_BLOCK;
    return st->code ? st->code : sw_find_scales(c, st);
}
