/* Prove that the boxes of every tensor cover it, each element once; see sw_catalog_check().
 *
 * Boxes that repeat a region (replicas) are set apart first. Overlaps are looked for by cutting: along some dimension
 * the boxes fall into groups that do not touch, and each group is cut again along the others; a grid is done
 * after one pass a dimension. Only a group that nothing cuts (a pinwheel, or a real overlap) is compared pair by
 * pair. Without overlaps, the volumes tell of a gap, and a sweep finds its first element. No element is ever marked. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "plan/catalog.h"
#include "plan/dims.h"

/* Deeper cutting than this is no grid of anybody's; the pairs are compared instead. */
#define MAX_CUTS 64

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

/* ---- order -------------------------------------------------------------------------------------- */

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

/* Put the boxes in the order of ids: used ones, then replicas; the empty ones behind are given up. */
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

/* ---- overlaps ----------------------------------------------------------------------------------- */

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

/* Sorted along dim: compare each box with those that begin before it ends. */
static bool overlap_in_pairs(const lens *l, const uint32_t *ids, size_t n, unsigned dim, uint32_t pair[2])
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n && low(l, ids[j], dim) < high(l, ids[i], dim); j++) {
            if (overlap(l, ids[i], ids[j])) {
                pair[0] = ids[i];
                pair[1] = ids[j];
                return true;
            }
        }
    }
    return false;
}

/* How many of the boxes, sorted along dim, lie in the first group that nothing behind it touches. */
static size_t first_group(const lens *l, const uint32_t *ids, size_t n, unsigned dim)
{
    uint64_t end = high(l, ids[0], dim);
    size_t i = 1;

    for (; i < n && low(l, ids[i], dim) < end; i++)
        end = sw_max(end, high(l, ids[i], dim));
    return i;
}

static bool find_overlap(const lens *l, uint32_t *ids, size_t n, unsigned dim, unsigned depth,
                         uint32_t pair[2])
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
        return overlap_in_pairs(l, ids, n, dim, pair);
    }
    for (; n; ids += group, n -= group) {
        group = first_group(l, ids, n, dim);
        if (find_overlap(l, ids, group, (dim + 1) % l->ndim, depth + 1, pair))
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

/* ---- gaps --------------------------------------------------------------------------------------- */

static uint64_t inner_volume(const lens *l, uint32_t box, unsigned dim)
{
    uint64_t v = 1;

    for (unsigned d = dim + 1; d < l->ndim; d++)
        v *= extent(l, box, d);
    return v;
}

/* Sweep along dim through slabs in which the set of boxes does not change; the boxes are disjoint, so a slab
 * whose cross-section is smaller than that of the tensor has a gap. Returns where that slab begins, with its
 * boxes as the first *n of ids. Disjoint boxes that do not fill the region must have been given. */
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

static sw_code fail_gap(lens *l, sw_status *st)
{
    const uint64_t *shape = sw_tensor_shape(l->c, l->t);
    uint64_t missing[SW_MAX_DIMS] = { 0 };
    char text[2][SW_DIMS_TEXT];
    size_t n = (size_t)l->t->nboxes;

    for (size_t i = 0; i < n; i++)
        l->ids[i] = (uint32_t)i;
    for (unsigned d = 0; d < l->ndim; d++)
        missing[d] = first_open_slab(l, l->ids, &n, d, shape);
    return sw_fail(st, SW_EINPUT, NULL, l->t->name,
                   "no shard file holds the elements from offsets %s on (shape %s): a shard file is missing "
                   "or was not written to its end",
                   sw_dims_text(missing, l->ndim, text[0], sizeof text[0]),
                   sw_dims_text(shape, l->ndim, text[1], sizeof text[1]));
}

/* ---- a tensor ----------------------------------------------------------------------------------- */

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

static sw_code check_volume(lens *l, const uint64_t *shape, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t filled = 0, bits;
    char text[SW_DIMS_TEXT];

    if (!sw_dims_product(shape, l->ndim, &t->elements) ||
        !sw_mul(t->elements, sw_dtype_bits(t->dtype), &bits) || bits / 8 > INT64_MAX)
        return sw_fail(st, SW_EINPUT, NULL, t->name, "shape %s of %s overflows",
                       sw_dims_text(shape, l->ndim, text, sizeof text), sw_dtype_name(t->dtype));
    t->bytes = bits / 8;
    for (uint32_t i = 0; i < t->nboxes; i++)
        filled += l->ndim ? extent(l, i, 0) * inner_volume(l, i, 0) : 1;
    if (filled < t->elements)
        return fail_gap(l, st);
    return SW_OK;
}

static sw_code check_tensor(lens *l, sw_status *st)
{
    sw_tensor *t = l->t;
    uint64_t *shape = l->c->shapes + t->dims0;
    const sw_box *boxes = l->c->boxes + t->box0;
    uint32_t pair[2];

    l->ndim = t->ndim;
    l->dims = l->c->box_dims + t->box_dims0;
    if (!l->c->sharded && t->nboxes > 1)
        return sw_fail(st, SW_EINPUT, l->c->files[boxes[1].file].name, t->name,
                       "also in %s, and neither file has sharding info", l->c->files[boxes[0].file].name);
    if (!t->has_global)
        find_shape(l, shape);
    else if (check_global(l, shape, st))
        return st->code;
    if (sort_boxes(l, st))
        return st->code;
    for (uint32_t i = 0; i < t->nboxes; i++)
        l->ids[i] = i;
    if (find_overlap(l, l->ids, (size_t)t->nboxes, 0, 0, pair))
        return fail_overlap(l, pair, st);
    if (check_volume(l, shape, st))
        return st->code;
    find_split(l, shape);
    return check_bits(l, shape, st);
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

static sw_code check_files(sw_catalog *c, sw_status *st)
{
    const sw_file *with = NULL, *without = NULL;

    for (uint32_t i = 0; i < c->nfiles; i++) {
        const sw_file **which = c->files[i].sharded ? &with : &without;

        *which = *which ? *which : &c->files[i];
    }
    if (with && without)
        return sw_fail(st, SW_EINPUT, without->name, NULL, "has no DCP_SHARDING_INFO, but %s has",
                       with->name);
    c->sharded = with != NULL;
    return SW_OK;
}

sw_code sw_catalog_check(sw_catalog *c, sw_status *st)
{
    lens l = { .c = c };

    if (check_files(c, st))
        return st->code;
    for (uint32_t i = 0; i < c->ntensors; i++) {
        l.t = &c->tensors[i];
        find_model(c, l.t);
        if (check_tensor(&l, st))
            break;
    }
    free(l.ids);
    free(l.active);
    free(l.boxes);
    free(l.box_dims);
    return st->code;
}
