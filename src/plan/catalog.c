/* Join what the ranks found in their headers into one catalogue; see catalog.h. */
#include "plan/catalog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "plan/found.h"

/* A name record of some rank, and the tensor it turns out to be. */
typedef struct name_ref {
    const sw_name_record *record;
    const char *name;
    const uint64_t *global_shape; /* NULL = none */
    uint64_t order;               /* position among all records: by rank, then as met */
} name_ref;

static int by_name(const void *a, const void *b)
{
    const name_ref *x = a, *y = b;
    int cmp = strcmp(x->name, y->name);

    return cmp ? cmp : (x->order > y->order) - (x->order < y->order);
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

static sw_code same_kind(const sw_catalog *c, const name_ref *first, const name_ref *ref, sw_status *st)
{
    const sw_name_record *a = first->record, *b = ref->record;

    if (a->dtype != b->dtype || a->ndim != b->ndim)
        return sw_other_kind(ref->name, b->dtype, b->ndim, c->files[b->first_file].name, a->dtype, a->ndim,
                             c->files[a->first_file].name, st);
    return SW_OK;
}

/* Tensors from the sorted records: one for each name. tensor_of[order of record] = tensor. A global_shape
 * that was given is put in its place; the other shapes are found by sw_catalog_check(). */
static sw_code make_tensors(sw_catalog *c, const name_ref *refs, uint64_t nrefs, uint32_t *tensor_of,
                            sw_status *st)
{
    size_t cap_tensors = 0, cap_shapes = 0, cap_names = 0;
    uint64_t nshapes = 0, nnames = 0, given = 0, first = 0;

    for (uint64_t i = 0; i < nrefs; i++) {
        const sw_name_record *r = refs[i].record;
        bool is_new = i == 0 || strcmp(refs[i].name, refs[first].name) != 0;
        sw_tensor *t;

        if (is_new) {
            first = given = i;
            if (c->ntensors == UINT32_MAX - 1)
                return sw_fail(st, SW_EINPUT, NULL, NULL, "more than %" PRIu32 " tensors", UINT32_MAX - 1);
            if (sw_grow(&c->tensors, &cap_tensors, c->ntensors + UINT64_C(1), sizeof *c->tensors, st) ||
                sw_grow(&c->shapes, &cap_shapes, nshapes + r->ndim + 1, sizeof *c->shapes, st) ||
                sw_grow(&c->names, &cap_names, nnames + r->name_len + 1, 1, st))
                return st->code;
            t = &c->tensors[c->ntensors++];
            *t = (sw_tensor){ .dtype = r->dtype, .out_dtype = r->dtype, .ndim = r->ndim, .dims0 = nshapes };
            /* The pool may still move: the place for now, the pointer at the end. */
            t->box_dims0 = nnames;
            memcpy(c->names + nnames, refs[i].name, (size_t)r->name_len + 1);
            nnames += r->name_len + 1;
            nshapes += r->ndim;
        } else if (same_kind(c, &refs[first], &refs[i], st)) {
            return st->code;
        }
        t = &c->tensors[c->ntensors - 1];
        t->nboxes += r->count;
        tensor_of[refs[i].order] = c->ntensors - 1;
        if (!refs[i].global_shape)
            continue;
        if (!t->has_global) {
            t->has_global = true;
            given = i;
            memcpy(c->shapes + t->dims0, refs[i].global_shape, r->ndim * sizeof *c->shapes);
        } else if (memcmp(c->shapes + t->dims0, refs[i].global_shape, r->ndim * sizeof *c->shapes) != 0) {
            return sw_other_global(refs[i].name, c->files[r->global_file].name,
                                   c->files[refs[given].record->global_file].name, st);
        }
    }
    for (uint32_t i = 0; i < c->ntensors; i++)
        c->tensors[i].name = c->names + c->tensors[i].box_dims0;
    return SW_OK;
}

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

/* Box records of all ranks, in rank order, into their tensors: within one tensor they stay in that order. */
static void scatter_boxes(sw_catalog *c, const sw_buf *boxes, const uint64_t *starts, int nranks,
                          const uint64_t *rank_refs, const uint32_t *tensor_of, uint64_t *filled)
{
    for (int r = 0; r < nranks; r++) {
        for (uint64_t at = starts[r]; at < starts[r + 1];) {
            const sw_box_record *rec = (const void *)(boxes->data + at);
            uint32_t id = tensor_of[rank_refs[r] + rec->name];
            const sw_tensor *t = &c->tensors[id];
            uint64_t k = filled[id]++;

            c->boxes[t->box0 + k] = (sw_box){ rec->at, rec->file };
            memcpy(c->box_dims + t->box_dims0 + k * 2u * t->ndim, rec + 1,
                   2u * t->ndim * sizeof *c->box_dims);
            at += sizeof *rec + 2u * t->ndim * sizeof *c->box_dims;
        }
    }
}

sw_code sw_catalog_merge(sw_catalog *c, const sw_buf *names, const uint64_t *name_starts, sw_buf *boxes,
                         const uint64_t *box_starts, int nranks, sw_status *st)
{
    uint64_t *rank_refs = sw_calloc((uint64_t)nranks, sizeof *rank_refs, st), *filled = NULL, nrefs = 0;
    uint32_t *tensor_of = NULL;
    name_ref *refs = NULL;

    if (!rank_refs || list_names(names, name_starts, nranks, &refs, &nrefs, rank_refs, st))
        goto out;
    if (nrefs > 1)
        qsort(refs, nrefs, sizeof *refs, by_name);
    tensor_of = sw_calloc(nrefs, sizeof *tensor_of, st);
    if (!tensor_of || make_tensors(c, refs, nrefs, tensor_of, st) || place_boxes(c, st))
        goto out;
    filled = sw_calloc(c->ntensors, sizeof *filled, st);
    if (filled)
        scatter_boxes(c, boxes, box_starts, nranks, rank_refs, tensor_of, filled);
out:
    sw_buf_release(boxes);
    free(filled);
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
    free(c->names);
    *c = (sw_catalog){ 0 };
}
