/* Join what the ranks found in their headers into one catalogue; see merge.h. */
#include "plan/merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"

/* A name record of some rank, and the tensor it turns out to be. */
typedef struct name_ref {
    sw_taken_name is;
    uint64_t order; /* position among all records: by rank, then as met */
} name_ref;

#define NO_TENSOR UINT32_MAX

/* The box records of a tensor: the first in a list; how many are there, or boxes that have their
 * place. */
typedef struct place {
    uint64_t first, n;
    bool plain; /* rules do not pay, as a rank has found */
} place;

/* The merging of what all ranks found. Records are numbered by rank, then as met. */
typedef struct merging {
    sw_catalog *c;
    const sw_gathered *from;
    sw_findings *findings;
    name_ref *refs; /* by name */
    uint64_t nrefs;
    size_t cap_refs;
    uint64_t *rank_refs;           /* the first record of each rank */
    uint32_t *tensor_of;           /* of each record; NO_TENSOR = its boxes are left out */
    uint8_t *ndims;                /* of each record */
    place *places;                 /* one a tensor */
    const sw_box_record **records; /* of the tensors that may have rules */
    /* the arrays that grow while tensors are made */
    size_t cap_tensors, cap_shapes, cap_names;
    uint64_t nshapes, nnames;
} merging;

static const char hint_other[] =
    "files of two saves, or of two training jobs, in one directory: remove those that do not belong";

/* In the order of the files, whoever read them. */
static int by_name(const void *a, const void *b)
{
    const name_ref *x = a, *y = b;
    uint32_t i = x->is.record->first_file, j = y->is.record->first_file;
    int cmp = strcmp(x->is.name, y->is.name);

    return cmp ? cmp : (i > j) - (i < j);
}

/* All name records of all ranks, sorted by name. */
static sw_code list_names(merging *m, sw_status *st)
{
    const sw_gathered *from = m->from;

    m->rank_refs = sw_calloc((uint64_t)from->nranks, sizeof *m->rank_refs, st);
    for (int r = 0; m->rank_refs && r < from->nranks; r++) {
        m->rank_refs[r] = m->nrefs;
        for (uint64_t at = from->name_starts[r]; at < from->name_starts[r + 1]; m->nrefs++) {
            if (sw_grow(&m->refs, &m->cap_refs, m->nrefs + 1, sizeof *m->refs, st))
                return st->code;
            m->refs[m->nrefs] = (name_ref){ sw_name_record_take(from->names, &at), m->nrefs };
        }
    }
    sw_sort(m->refs, m->nrefs, sizeof *m->refs, by_name);
    return st->code;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* A record that is not of the kind of the first one of its name. */
static sw_code other_kind(const sw_catalog *c, const name_ref *first, const name_ref *ref, sw_status *st)
{
    const sw_name_record *a = first->is.record, *b = ref->is.record;
    const char *file = sw_file_name(&c->files[b->first_file]),
               *first_file = sw_file_name(&c->files[a->first_file]);

    if (a->dtype != b->dtype)
        return sw_fail(st, SW_EINPUT, file, ref->is.name, "dtype is %s here but %s in %s",
                       sw_dtype_name((sw_dtype)b->dtype), sw_dtype_name((sw_dtype)a->dtype), first_file);
    return sw_fail(st, SW_EINPUT, file, ref->is.name, "%u dimensions here but %u in %s", b->ndim, a->ndim,
                   first_file);
}

/* A tensor of the name, dtype and number of dimensions of a record. */
static sw_code add_tensor(merging *m, const name_ref *ref, sw_status *st)
{
    const sw_name_record *r = ref->is.record;
    sw_catalog *c = m->c;

    if (c->ntensors == UINT32_MAX - 1)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "more than %" PRIu32 " tensors", UINT32_MAX - 1);
    if (sw_grow(&c->tensors, &m->cap_tensors, c->ntensors + UINT64_C(1), sizeof *c->tensors, st) ||
        sw_grow(&c->shapes, &m->cap_shapes, m->nshapes + r->ndim + 1, sizeof *c->shapes, st) ||
        sw_grow(&c->names, &m->cap_names, m->nnames + r->name_len + 1, 1, st))
        return st->code;
    /* The pool of names may still move: the place for now, the pointer at the end. */
    c->tensors[c->ntensors++] = (sw_tensor){
        .dtype = r->dtype, .out_dtype = r->dtype, .ndim = r->ndim, .dims0 = m->nshapes, .box_dims0 = m->nnames
    };
    memcpy(c->names + m->nnames, ref->is.name, (size_t)r->name_len + 1);
    m->nnames += r->name_len + UINT64_C(1);
    m->nshapes += r->ndim;
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
        memcpy(c->shapes + t->dims0, ref->is.global_shape, size);
    } else if (memcmp(c->shapes + t->dims0, ref->is.global_shape, size) != 0) {
        return sw_fail(st, SW_EINPUT, sw_file_name(&c->files[ref->is.record->first_file]), ref->is.name,
                       "global_shape is not that of %s",
                       sw_file_name(&c->files[given->is.record->first_file]));
    }
    return SW_OK;
}

/* All records of one name: one tensor. What is not of the first one's kind is told of, once for
 * each kind; boxes of another number of dimensions are left out. */
static sw_code make_tensor(merging *m, const name_ref *refs, uint64_t n, sw_status *st)
{
    sw_catalog *c = m->c;
    uint64_t told[SW_NDTYPES] = { 0 }; /* numbers of dimensions, a bit each */
    const name_ref *given = NULL;
    bool global_told = false;
    sw_tensor *t;

    if (add_tensor(m, &refs[0], st))
        return st->code;
    t = &c->tensors[c->ntensors - 1];
    told[t->dtype] = UINT64_C(1) << t->ndim;
    for (uint64_t i = 0; i < n; i++) {
        const sw_name_record *r = refs[i].is.record;
        bool fits = r->ndim == t->ndim;

        if (!(told[r->dtype] >> r->ndim & 1)) {
            told[r->dtype] |= UINT64_C(1) << r->ndim;
            other_kind(c, &refs[0], &refs[i], st);
        } else if (fits && refs[i].is.global_shape && !global_told) {
            if (!take_global(c, given, &refs[i], st))
                given = given ? given : &refs[i];
            global_told = st->code != SW_OK;
        }
        t->broken = t->broken || st->code;
        if (sw_findings_take(m->findings, hint_other, st))
            return st->code;
        t->nboxes += fits ? r->count : 0;
        m->places[c->ntensors - 1].plain |= r->plain != 0;
        m->tensor_of[refs[i].order] = fits ? c->ntensors - 1 : NO_TENSOR;
    }
    return SW_OK;
}

/* Tensors from the sorted records: one for each name. */
static sw_code make_tensors(merging *m, sw_status *st)
{
    const name_ref *refs = m->refs;
    sw_catalog *c = m->c;

    m->places = sw_calloc(m->nrefs, sizeof *m->places, st);
    m->tensor_of = sw_calloc(m->nrefs, sizeof *m->tensor_of, st);
    m->ndims = sw_calloc(m->nrefs, sizeof *m->ndims, st);
    for (uint64_t i = 0, n; i < m->nrefs && !st->code; i += n) {
        for (n = 1; i + n < m->nrefs && strcmp(refs[i].is.name, refs[i + n].is.name) == 0;)
            n++;
        make_tensor(m, refs + i, n, st);
    }
    for (uint64_t i = 0; i < m->nrefs && !st->code; i++)
        m->ndims[refs[i].order] = refs[i].is.record->ndim;
    for (uint32_t i = 0; i < c->ntensors; i++)
        c->tensors[i].name = c->names + c->tensors[i].box_dims0;
    return st->code;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* Tensors of fewer boxes go without rules. */
#define LEAST 16

/* Rules that so many records have made must be few by then. */
#define TRIAL 64

/* What is done with a box record of a tensor. */
typedef sw_code (*record_fn)(merging *m, uint32_t tensor, const sw_taken *box, sw_status *st);

/* All box records of all ranks, in rank order, but for those that are left out. */
static sw_code each_record(merging *m, record_fn fn, sw_status *st)
{
    const sw_gathered *from = m->from;

    for (int r = 0; r < from->nranks; r++) {
        for (uint64_t at = from->box_starts[r]; at < from->box_starts[r + 1] && !st->code;) {
            const sw_box_record *rec = (const void *)(from->boxes->data + at);
            uint64_t ref = m->rank_refs[r] + rec->name;
            sw_taken box;

            sw_box_record_take(rec, m->ndims[ref], m->c->files, &box);
            at += box.size;
            if (m->tensor_of[ref] != NO_TENSOR)
                fn(m, m->tensor_of[ref], &box, st);
        }
    }
    return st->code;
}

/* How many records each tensor has, and whether it has boxes that are not packed. */
static sw_code count_record(merging *m, uint32_t tensor, const sw_taken *box, sw_status *st)
{
    m->places[tensor].n++;
    m->c->tensors[tensor].strided |= box->strides != NULL;
    return st->code;
}

/* Elements that are no whole bytes may be cut within one, and each box is looked at for it. */
static bool may_have_rules(const merging *m, uint32_t tensor)
{
    const sw_tensor *t = &m->c->tensors[tensor];

    return !m->from->plain && !m->places[tensor].plain && t->nboxes >= LEAST && t->nboxes < UINT32_MAX &&
           !t->strided && !t->broken && sw_dtype_bits((sw_dtype)t->dtype) % 8 == 0;
}

/* A record of a tensor that may follow a rule is kept to be looked at with the others. */
static sw_code list_record(merging *m, uint32_t tensor, const sw_taken *box, sw_status *st)
{
    place *p = &m->places[tensor];

    if (may_have_rules(m, tensor))
        m->records[p->first + p->n++] = box->record;
    return st->code;
}

/* Where the records are of tensors that may have rules, tensor by tensor. */
static sw_code list_records(merging *m, sw_status *st)
{
    uint64_t n = 0;
    bool any = false;

    for (uint32_t i = 0; i < m->c->ntensors && !any; i++)
        any = may_have_rules(m, i);
    if (!any || each_record(m, count_record, st))
        return st->code;
    for (uint32_t i = 0; i < m->c->ntensors; i++) {
        m->places[i].first = n;
        n += may_have_rules(m, i) ? m->places[i].n : 0;
        m->places[i].n = 0;
    }
    m->records = n ? sw_calloc(n, sizeof *m->records, st) : NULL;
    return n && m->records ? each_record(m, list_record, st) : st->code;
}

/* Try whether rules pay, and keep them. */
static sw_code make_rules(merging *m, uint32_t tensor, sw_status *st)
{
    const place *p = &m->places[tensor];
    sw_catalog *c = m->c;
    sw_tensor *t = &c->tensors[tensor];
    sw_rules rules = SW_RULES_INIT(t->ndim);
    sw_taken box;

    for (uint64_t i = 0;
         i < p->n && !st->code && !sw_rules_fail(&rules) && (rules.n < TRIAL || sw_rules_pay(&rules)); i++) {
        sw_box_record_take(m->records[p->first + i], t->ndim, c->files, &box);
        sw_rules_add(&rules, &box.rule, box.dims, st);
    }
    if (!st->code && rules.nboxes == t->nboxes && !sw_rules_tidy(&rules, st) && sw_rules_pay(&rules))
        sw_catalog_take_rules(c, t, &rules, st);
    sw_rules_release(&rules);
    return st->code;
}

/* Where each tensor's boxes and their dimensions go. */
static sw_code place_boxes(merging *m, sw_status *st)
{
    sw_catalog *c = m->c;

    if (list_records(m, st))
        return st->code;
    for (uint32_t i = 0; i < c->ntensors && !st->code; i++) {
        sw_tensor *t = &c->tensors[i];

        c->nboxes += t->nboxes;
        if (m->places[i].n && make_rules(m, i, st))
            return st->code;
        m->places[i].n = 0;
        if (t->nrules)
            continue;
        t->box0 = c->nplain;
        t->box_dims0 = c->nbox_dims;
        c->nplain += t->nboxes;
        c->nbox_dims += t->nboxes * 2u * t->ndim;
    }
    free(m->records);
    m->records = NULL;
    c->boxes = sw_calloc(c->nplain, sizeof *c->boxes, st);
    if (c->boxes)
        c->box_dims = sw_calloc(c->nbox_dims, sizeof *c->box_dims, st);
    c->cap_boxes = c->nplain;
    c->cap_box_dims = c->nbox_dims;
    return st->code;
}

/* Strides of a box that is not packed; *at: 1 + where they stand. */
static sw_code take_strides(sw_catalog *c, const uint64_t *strides, unsigned ndim, uint32_t *at,
                            sw_status *st)
{
    if (c->nstrides > UINT32_MAX - SW_MAX_DIMS - 1)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "too many boxes whose elements do not lie together");
    if (sw_grow(&c->strides, &c->cap_strides, c->nstrides + ndim, sizeof *c->strides, st))
        return st->code;
    memcpy(c->strides + c->nstrides, strides, ndim * sizeof *strides);
    *at = 1 + (uint32_t)c->nstrides;
    c->nstrides += ndim;
    return SW_OK;
}

/* Boxes of tensors without rules: within one they stay in the order of the records. */
static sw_code scatter_record(merging *m, uint32_t tensor, const sw_taken *taken, sw_status *st)
{
    sw_catalog *c = m->c;
    const sw_tensor *t = &c->tensors[tensor];
    uint64_t n = sw_rule_boxes(&taken->rule);
    size_t width = 2u * t->ndim;

    if (t->nrules)
        return SW_OK;
    for (uint64_t i = 0; i < n && !st->code; i++) {
        uint64_t k = m->places[tensor].n++, *dims = c->box_dims + t->box_dims0 + k * width;
        sw_box *box = &c->boxes[t->box0 + k];

        *box = sw_box_of_rule(c->files, &taken->rule, taken->dims, t->ndim, i, dims);
        if (taken->strides) {
            c->tensors[tensor].strided = true;
            take_strides(c, taken->strides, t->ndim, &box->strides, st);
        }
    }
    return st->code;
}

sw_code sw_catalog_merge(sw_catalog *c, const sw_gathered *from, sw_findings *findings, sw_status *st)
{
    merging m = { .c = c, .from = from, .findings = findings };

    if (!list_names(&m, st) && !make_tensors(&m, st) && !place_boxes(&m, st) && m.c->nplain)
        each_record(&m, scatter_record, st);
    sw_buf_release(from->boxes);
    free(m.places);
    free(m.records);
    free(m.ndims);
    free(m.tensor_of);
    free(m.refs);
    free(m.rank_refs);
    return st->code;
}
