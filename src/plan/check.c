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
#include "plan/catalog.h"
#include "plan/cover.h"
#include "plan/dims.h"
#include "plan/numbers.h"
#include "plan/quantized.h"

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
    sw_boxes b; /* its boxes */
    unsigned ndim;
    uint32_t *ids; /* boxes in some order, and room behind them for as many */
    size_t cap_ids;
    sw_box *boxes; /* for sorting */
    uint64_t *box_dims;
    size_t cap_boxes, cap_dims;
    bool lost_files; /* some file is known, but cannot be read */
    gap *gaps;       /* with a list of findings */
    size_t ngaps, cap_gaps;
} lens;

/* The file that a box is in. */
static const char *file_of(const lens *l, uint32_t box)
{
    return l->c->files[l->c->boxes[l->t->box0 + box].file].name;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* By offsets, then shape. */
static int compare_regions(const lens *l, uint32_t a, uint32_t b)
{
    const uint64_t *x = l->b.dims + (uint64_t)a * 2 * l->ndim, *y = l->b.dims + (uint64_t)b * 2 * l->ndim;

    for (unsigned i = 0; i < 2 * l->ndim; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return 0;
}

/* Does the box hold no element? */
static bool is_empty(const lens *l, uint32_t box)
{
    for (unsigned d = 0; d < l->ndim; d++)
        if (sw_boxes_extent(&l->b, box, d) == 0)
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
    if (sw_grow(&l->ids, &l->cap_ids, 2 * n, sizeof *l->ids, st) ||
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

/* a, b: the boxes in their order */
static sw_code fail_overlap(const lens *l, uint32_t a, uint32_t b, sw_status *st)
{
    const uint64_t *da = l->b.dims + (uint64_t)a * 2 * l->ndim, *db = l->b.dims + (uint64_t)b * 2 * l->ndim;
    char t[4][SW_DIMS_TEXT];

    return sw_fail(
        st, SW_EINPUT, file_of(l, b), l->t->name,
        "box of shape %s at %s overlaps, but does not repeat, the box of shape %s at %s in %s; strided "
        "placements (_StridedShard) are saved like this and cannot be told apart afterwards",
        sw_dims_text(db + l->ndim, l->ndim, t[0], sizeof t[0]), sw_dims_text(db, l->ndim, t[1], sizeof t[1]),
        sw_dims_text(da + l->ndim, l->ndim, t[2], sizeof t[2]), sw_dims_text(da, l->ndim, t[3], sizeof t[3]),
        file_of(l, a));
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
            l->c->in_memory ? "rank" : "shard file", sw_dims_text(first, l->ndim, text[0], sizeof text[0]),
            sw_dims_text(sw_tensor_shape(l->c, l->t), l->ndim, text[1], sizeof text[1]), count,
            (int)cause.len, cause.len ? cause.data : "");
    sw_buf_release(&cause);
    return st->code;
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
            shape[d] = sw_max(shape[d], sw_boxes_high(&l->b, i, d));
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

/* Beyond which leading dimension no box is cut, and the largest extent along the first. */
static void find_split(lens *l, const uint64_t *shape)
{
    sw_tensor *t = l->t;

    t->split_dims = 0;
    t->max_rows = 0;
    for (uint32_t i = 0; i < t->nboxes; i++) {
        for (unsigned d = l->ndim; d > t->split_dims; d--)
            if (sw_boxes_extent(&l->b, i, d - 1) != shape[d - 1])
                t->split_dims = (uint8_t)d;
        if (l->ndim)
            t->max_rows = sw_max(t->max_rows, sw_boxes_extent(&l->b, i, 0));
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
            return l->c->boxes[l->t->box0 + i].file;
    return l->t->file;
}

/* Elements and bytes of the tensor, if they can be counted. */
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
    uint64_t filled = 0, volume, first[SW_MAX_DIMS] = { 0 };

    for (uint32_t i = 0; i < t->nboxes; i++)
        filled += sw_dims_product(l->b.dims + (i * UINT64_C(2) + 1) * l->ndim, l->ndim, &volume) ? volume : 0;
    if (filled >= t->elements)
        return SW_OK;
    t->holes = true;
    sw_boxes_first_gap(&l->b, sw_tensor_shape(l->c, t), l->ids, first);
    return fail_gap(l, first, all ? t->elements - filled : 0, st);
}

/* With overlaps what is held must be counted. */
static sw_code check_cover(const lens *l, sw_status *st)
{
    uint64_t first[SW_MAX_DIMS] = { 0 };
    sw_cover cover = { .first = first };
    sw_tensor *t = l->t;

    if (sw_boxes_count(&l->b, sw_tensor_shape(l->c, t), &cover, st))
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
    if (l->c->sharded || l->t->nboxes < 2)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, file_of(l, 1), l->t->name, "also in %s, and neither file has sharding info",
                   file_of(l, 0));
}

/* A shape to show that holds all boxes, whatever was said. */
static void widen_shape(const lens *l, uint64_t *shape)
{
    for (uint32_t i = 0; i < l->t->nboxes; i++)
        for (unsigned d = 0; !is_empty(l, i) && d < l->ndim; d++)
            shape[d] = sw_max(shape[d], sw_boxes_high(&l->b, i, d));
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
        sw_findings_take(findings, l->lost_files ? hint_gap_broken : hint_gap, st);
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

/* All that can be wrong with the boxes of the tensor under the lens. */
static sw_code check_tensor(lens *l, sw_findings *findings, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t *shape = l->c->shapes + t->dims0;

    l->ndim = t->ndim;
    l->b = (sw_boxes){ l->c->box_dims + t->box_dims0, t->nboxes, t->ndim };
    check_plain(l, st);
    if (!goes_on(l, findings, hint_plain, st))
        return st->code;
    if (!t->has_global)
        find_shape(l, shape);
    else if (check_global(l, shape, st))
        widen_shape(l, shape);
    if (!goes_on(l, findings, hint_global, st) || sort_boxes(l, st))
        return st->code;
    l->b.n = t->nboxes;
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
        sw_fail(st, SW_EINPUT, f->name, NULL, "has no DCP_SHARDING_INFO, but %s has", with->name);
        sw_findings_take(findings, hint_mixed, st);
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
    free(l.boxes);
    free(l.box_dims);
    c->block[0] = c->block[1] = SW_SCALED_BLOCK;
    return st->code ? st->code : sw_find_scales(c, st);
}
