/* Join what the ranks found in their headers into one catalogue; see catalog.h. */
#include "plan/catalog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "plan/entries.h"

/* A name record of some rank, and the tensor it turns out to be. */
typedef struct name_ref {
    const sw_name_record *record;
    const char *name;
    const uint64_t *global_shape; /* NULL = none */
    uint64_t order;               /* position among all records: by rank, then as met */
} name_ref;

#define NO_TENSOR UINT32_MAX

static const char hint_other[] =
    "files of two saves, or of two training jobs, in one directory: remove those that do not belong";

/* In the order of the files, whoever read them. */
static int by_name(const void *a, const void *b)
{
    const name_ref *x = a, *y = b;
    uint32_t i = x->record->first_file, j = y->record->first_file;
    int cmp = strcmp(x->name, y->name);

    return cmp ? cmp : (i > j) - (i < j);
}

/* All name records of all ranks, in stream order. rank_refs[r]: where those of rank r begin. */
static sw_code list_names(const sw_buf *names, const uint64_t *starts, int nranks, name_ref **out,
                          uint64_t *nout, uint64_t *rank_refs, sw_status *st)
{
    name_ref *refs = NULL;
    size_t cap = 0;
    uint64_t n = 0;

    for (int r = 0; r < nranks; r++) {
        rank_refs[r] = n;
        for (uint64_t at = starts[r]; at < starts[r + 1]; n++) {
            const sw_name_record *rec = (const void *)(names->data + at);
            const uint64_t *global = rec->has_global ? (const void *)(rec + 1) : NULL;

            if (sw_grow(&refs, &cap, n + 1, sizeof *refs, st)) {
                free(refs);
                return st->code;
            }
            at += sizeof *rec + (global ? rec->ndim * sizeof *global : 0);
            refs[n] = (name_ref){ rec, names->data + at, global, n };
            at += sw_name_room(rec->name_len);
        }
    }
    *out = refs;
    *nout = n;
    return SW_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static sw_code other_kind(const sw_catalog *c, const name_ref *first, const name_ref *ref, sw_status *st)
{
    const sw_name_record *a = first->record, *b = ref->record;
    const char *file = c->files[b->first_file].name, *first_file = c->files[a->first_file].name;

    if (a->dtype != b->dtype)
        return sw_fail(st, SW_EINPUT, file, ref->name, "dtype is %s here but %s in %s",
                       sw_dtype_name((sw_dtype)b->dtype), sw_dtype_name((sw_dtype)a->dtype), first_file);
    return sw_fail(st, SW_EINPUT, file, ref->name, "%u dimensions here but %u in %s", b->ndim, a->ndim,
                   first_file);
}

/* The arrays that grow while tensors are made. */
typedef struct room {
    size_t cap_tensors, cap_shapes, cap_names;
    uint64_t nshapes, nnames;
} room;

static sw_code add_tensor(sw_catalog *c, room *at, const name_ref *ref, sw_status *st)
{
    const sw_name_record *r = ref->record;

    if (c->ntensors == UINT32_MAX - 1)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "more than %" PRIu32 " tensors", UINT32_MAX - 1);
    if (sw_grow(&c->tensors, &at->cap_tensors, c->ntensors + UINT64_C(1), sizeof *c->tensors, st) ||
        sw_grow(&c->shapes, &at->cap_shapes, at->nshapes + r->ndim + 1, sizeof *c->shapes, st) ||
        sw_grow(&c->names, &at->cap_names, at->nnames + r->name_len + 1, 1, st))
        return st->code;
    /* The pool of names may still move: the place for now, the pointer at the end. */
    c->tensors[c->ntensors++] = (sw_tensor){ .dtype = r->dtype,
                                             .out_dtype = r->dtype,
                                             .ndim = r->ndim,
                                             .dims0 = at->nshapes,
                                             .box_dims0 = at->nnames };
    memcpy(c->names + at->nnames, ref->name, (size_t)r->name_len + 1);
    at->nnames += r->name_len + UINT64_C(1);
    at->nshapes += r->ndim;
    return SW_OK;
}

/* A global_shape that was given is put in its place; the other shapes are found by
 * sw_catalog_check(). */
static sw_code take_global(sw_catalog *c, const name_ref *given, const name_ref *ref, sw_status *st)
{
    sw_tensor *t = &c->tensors[c->ntensors - 1];
    size_t size = t->ndim * sizeof *c->shapes;

    if (!t->has_global) {
        t->has_global = true;
        memcpy(c->shapes + t->dims0, ref->global_shape, size);
    } else if (memcmp(c->shapes + t->dims0, ref->global_shape, size) != 0) {
        return sw_fail(st, SW_EINPUT, c->files[ref->record->first_file].name, ref->name,
                       "global_shape is not that of %s", c->files[given->record->first_file].name);
    }
    return SW_OK;
}

/* All records of one name: one tensor. What is not of the first one's kind is told of, once for
 * each kind; boxes of another number of dimensions are left out. */
static sw_code make_tensor(sw_catalog *c, room *at, const name_ref *refs, uint64_t n, uint32_t *tensor_of,
                           sw_findings *findings, sw_status *st)
{
    uint64_t told[SW_NDTYPES] = { 0 }; /* numbers of dimensions, a bit each */
    const name_ref *given = NULL;
    bool global_told = false;
    sw_tensor *t;

    if (add_tensor(c, at, &refs[0], st))
        return st->code;
    t = &c->tensors[c->ntensors - 1];
    told[t->dtype] = UINT64_C(1) << t->ndim;
    for (uint64_t i = 0; i < n; i++) {
        const sw_name_record *r = refs[i].record;
        bool fits = r->ndim == t->ndim;

        if (!(told[r->dtype] >> r->ndim & 1)) {
            told[r->dtype] |= UINT64_C(1) << r->ndim;
            other_kind(c, &refs[0], &refs[i], st);
        } else if (fits && refs[i].global_shape && !global_told) {
            if (!take_global(c, given, &refs[i], st))
                given = given ? given : &refs[i];
            global_told = st->code != SW_OK;
        }
        t->broken = t->broken || st->code;
        if (sw_findings_take_hint(findings, hint_other, st))
            return st->code;
        t->nboxes += fits ? r->count : 0;
        tensor_of[refs[i].order] = fits ? c->ntensors - 1 : NO_TENSOR;
    }
    return SW_OK;
}

/* Tensors from the sorted records: one for each name. tensor_of[order of record] = tensor. */
static sw_code make_tensors(sw_catalog *c, const name_ref *refs, uint64_t nrefs, uint32_t *tensor_of,
                            sw_findings *findings, sw_status *st)
{
    room at = { 0 };

    for (uint64_t i = 0, n; i < nrefs; i += n) {
        for (n = 1; i + n < nrefs && strcmp(refs[i].name, refs[i + n].name) == 0;)
            n++;
        if (make_tensor(c, &at, refs + i, n, tensor_of, findings, st))
            return st->code;
    }
    for (uint32_t i = 0; i < c->ntensors; i++)
        c->tensors[i].name = c->names + c->tensors[i].box_dims0;
    return SW_OK;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* Where each tensor's boxes and their dimensions go. */
static sw_code place_boxes(sw_catalog *c, sw_status *st)
{
    uint64_t dims = 0, n = 0;

    for (uint32_t i = 0; i < c->ntensors; i++) {
        sw_tensor *t = &c->tensors[i];

        t->box0 = n;
        t->box_dims0 = dims;
        n += t->nboxes;
        dims += t->nboxes * 2u * t->ndim;
    }
    c->nboxes = n;
    c->boxes = sw_calloc(n, sizeof *c->boxes, st);
    if (c->boxes)
        c->box_dims = sw_calloc(dims, sizeof *c->box_dims, st);
    return st->code;
}

/* Box records of all ranks, in rank order, into their tensors: within one tensor they stay in that
 * order. */
static void scatter_boxes(sw_catalog *c, const sw_buf *boxes, const uint64_t *starts, int nranks,
                          const uint64_t *rank_refs, const uint32_t *tensor_of, const uint8_t *ndims,
                          uint64_t *filled)
{
    for (int r = 0; r < nranks; r++) {
        for (uint64_t at = starts[r]; at < starts[r + 1];) {
            const sw_box_record *rec = (const void *)(boxes->data + at);
            uint64_t ref = rank_refs[r] + rec->name, dims = 2u * ndims[ref];
            uint32_t id = tensor_of[ref];

            if (id != NO_TENSOR) {
                const sw_tensor *t = &c->tensors[id];
                uint64_t k = filled[id]++;

                c->boxes[t->box0 + k] = (sw_box){ rec->at, rec->file };
                memcpy(c->box_dims + t->box_dims0 + k * dims, rec + 1, dims * sizeof *c->box_dims);
            }
            at += sizeof *rec + dims * sizeof *c->box_dims;
        }
    }
}

sw_code sw_catalog_merge(sw_catalog *c, const sw_buf *names, const uint64_t *name_starts, sw_buf *boxes,
                         const uint64_t *box_starts, int nranks, sw_findings *findings, sw_status *st)
{
    uint64_t *rank_refs = sw_calloc((uint64_t)nranks, sizeof *rank_refs, st), *filled = NULL, nrefs = 0;
    uint32_t *tensor_of = NULL;
    uint8_t *ndims = NULL;
    name_ref *refs = NULL;

    if (!rank_refs || list_names(names, name_starts, nranks, &refs, &nrefs, rank_refs, st))
        goto out;
    if (nrefs > 1)
        qsort(refs, nrefs, sizeof *refs, by_name);
    tensor_of = sw_calloc(nrefs, sizeof *tensor_of, st);
    ndims = tensor_of ? sw_calloc(nrefs, sizeof *ndims, st) : NULL;
    if (!ndims || make_tensors(c, refs, nrefs, tensor_of, findings, st) || place_boxes(c, st))
        goto out;
    for (uint64_t i = 0; i < nrefs; i++)
        ndims[refs[i].order] = refs[i].record->ndim;
    filled = sw_calloc(c->ntensors, sizeof *filled, st);
    if (filled)
        scatter_boxes(c, boxes, box_starts, nranks, rank_refs, tensor_of, ndims, filled);
out:
    sw_buf_release(boxes);
    free(filled);
    free(ndims);
    free(tensor_of);
    free(refs);
    free(rank_refs);
    return st->code;
}

static int compare_tensor(const void *name, const void *tensor)
{
    return strcmp(name, ((const sw_tensor *)tensor)->name);
}

const sw_tensor *sw_catalog_find_tensor(const sw_catalog *c, const char *name)
{
    return c->ntensors ? bsearch(name, c->tensors, c->ntensors, sizeof *c->tensors, compare_tensor) : NULL;
}

static int compare_file(const void *name, const void *file)
{
    return strcmp(name, ((const sw_file *)file)->name);
}

const sw_file *sw_catalog_find_file(const sw_catalog *c, const char *name)
{
    return c->nfiles ? bsearch(name, c->files, c->nfiles, sizeof *c->files, compare_file) : NULL;
}

void sw_catalog_release(sw_catalog *c)
{
    free(c->files);
    free(c->file_names);
    free(c->tensors);
    free(c->shapes);
    free(c->boxes);
    free(c->box_dims);
    free(c->listed);
    free(c->names);
    *c = (sw_catalog){ 0 };
}
