/* Looking things up in a catalogue; see catalog.h. */
#include "plan/catalog.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"
#include "plan/dims.h"

const sw_tensor *sw_catalog_find_tensor(const sw_catalog *c, const char *name)
{
    return c->ntensors ? bsearch(&name, c->tensors, c->ntensors, sizeof *c->tensors, sw_by_bytes) : NULL;
}

static int compare_file(const void *name, const void *file)
{
    return strcmp(name, sw_file_name(file));
}

const sw_file *sw_catalog_find_file(const sw_catalog *c, const char *name)
{
    return c->nfiles ? bsearch(name, c->files, c->nfiles, sizeof *c->files, compare_file) : NULL;
}

sw_box sw_box_of_rule(const sw_file *files, const sw_rule *rule, const uint64_t *from, unsigned ndim,
                      uint64_t k, uint64_t *dims)
{
    uint32_t file = sw_rule_box(rule, from, ndim, k, dims);

    if (ndim)
        memcpy(dims + ndim, from + ndim, ndim * sizeof *from);
    return (sw_box){ files[file].data_start + rule->at, file, 0 };
}

void sw_box_by_rule(const sw_catalog *c, const sw_tensor *t, uint64_t k, sw_placed *out)
{
    const sw_rule *rules = c->rules + t->box0;
    sw_search s = { .end = t->nrules };
    size_t a;

    while (sw_search_on(&s))
        sw_search_tell(&s, rules[s.mid].first <= k);
    a = sw_search_last(&s);
    out->box = sw_box_of_rule(c->files, &rules[a], c->rule_dims + t->box_dims0 + a * 2 * t->ndim, t->ndim,
                              k - rules[a].first, out->room);
    out->offsets = out->room;
    out->shape = out->room + t->ndim;
}

sw_code sw_catalog_take_rules(sw_catalog *c, sw_tensor *t, const sw_rules *rules, sw_status *st)
{
    size_t ndims = rules->n * 2 * rules->ndim;
    bool fits = rules->n <= t->nrules;

    if (!fits &&
        (sw_grow(&c->rules, &c->cap_rules, c->nrules + rules->n, sizeof *c->rules, st) ||
         sw_grow(&c->rule_dims, &c->cap_rule_dims, c->nrule_dims + ndims + 1, sizeof *c->rule_dims, st)))
        return st->code;
    t->nrules = rules->n;
    if (!fits) {
        t->box0 = c->nrules;
        t->box_dims0 = c->nrule_dims;
        c->nrules += rules->n;
        c->nrule_dims += ndims;
    }
    if (rules->n)
        memcpy(c->rules + t->box0, rules->items, rules->n * sizeof *rules->items);
    if (ndims)
        memcpy(c->rule_dims + t->box_dims0, rules->dims, ndims * sizeof *rules->dims);
    return SW_OK;
}

sw_code sw_catalog_take_boxes(sw_catalog *c, sw_tensor *t, const sw_box *boxes, const uint64_t *dims,
                              uint64_t n, sw_status *st)
{
    size_t ndims = n * 2 * t->ndim;

    if (sw_grow(&c->boxes, &c->cap_boxes, c->nplain + n, sizeof *c->boxes, st) ||
        sw_grow(&c->box_dims, &c->cap_box_dims, c->nbox_dims + ndims + 1, sizeof *c->box_dims, st))
        return st->code;
    t->nrules = 0;
    t->box0 = c->nplain;
    t->box_dims0 = c->nbox_dims;
    if (n)
        memcpy(c->boxes + t->box0, boxes, n * sizeof *boxes);
    if (ndims)
        memcpy(c->box_dims + t->box_dims0, dims, ndims * sizeof *dims);
    c->nplain += n;
    c->nbox_dims += ndims;
    return SW_OK;
}

uint64_t sw_box_find(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets)
{
    sw_search s = { .end = t->nboxes };
    sw_placed box;

    while (sw_search_on(&s))
        sw_search_tell(&s, sw_by_all(sw_box_get(c, t, s.mid, &box)->offsets, offsets, t->ndim) <= 0);
    return sw_search_last(&s);
}

char *sw_tensor_text(const sw_catalog *c, const sw_tensor *t, char text[SW_KIND_TEXT])
{
    char dims[SW_DIMS_TEXT];

    snprintf(text, SW_KIND_TEXT, "%s of shape %s", sw_dtype_name((sw_dtype)t->dtype),
             sw_dims_text(sw_tensor_shape(c, t), t->ndim, dims));
    return text;
}

const char *sw_catalog_nearest(const sw_catalog *c, const char *name, char said[SW_NEAREST_TEXT])
{
    sw_status ignored = SW_STATUS_INIT;
    const char **names = sw_calloc(c->ntensors, sizeof *names, &ignored), *near = NULL;
    bool matched = false;

    for (uint32_t i = 0; names && i < c->ntensors && !matched; i++) {
        names[i] = c->tensors[i].name;
        matched = fnmatch(name, names[i], 0) == 0;
    }
    if (names && !matched)
        near = sw_text_nearest(name, names, c->ntensors);
    snprintf(said, SW_NEAREST_TEXT, "%s%s%s", near ? "; the nearest name is '" : "", near ? near : "",
             near ? "'" : "");
    free(names);
    return said;
}

void sw_catalog_release(sw_catalog *c)
{
    if (!c->files_lent)
        free(c->files);
    free(c->tensors);
    free(c->shapes);
    if (!c->lent) {
        free(c->boxes);
        free(c->box_dims);
    }
    free(c->rules);
    free(c->rule_dims);
    free(c->strides);
    free(c->listed);
    free(c->names);
    sw_buf_release(&c->list);
    sw_buf_release(&c->values);
    *c = (sw_catalog){ 0 };
}

/* ---- sending --------------------------------------------------------------------------------- */

/* What is sent first; the arrays follow, names and their NULs last. */
typedef struct packed_head {
    uint64_t ntensors, nshapes, nplain, nbox_dims, nrules, nrule_dims, nstrides, nboxes, nnames;
    uint64_t block[2];
    uint64_t sharded, boxes;
} packed_head;

/* An array of it: where it stands in a catalogue, and its bytes. */
typedef struct packed_array {
    void *at;
    uint64_t n;
} packed_array;

#define NARRAYS 8

/* The arrays of a packed catalogue, in their order. */
static void list_arrays(const packed_head *h, sw_catalog *c, packed_array *out)
{
    const packed_array all[NARRAYS] = {
        { &c->tensors, h->ntensors * sizeof *c->tensors },
        { &c->shapes, h->nshapes * sizeof *c->shapes },
        { &c->boxes, h->boxes ? h->nplain * sizeof *c->boxes : 0 },
        { &c->box_dims, h->boxes ? h->nbox_dims * sizeof *c->box_dims : 0 },
        { &c->rules, h->nrules * sizeof *c->rules },
        { &c->rule_dims, h->nrule_dims * sizeof *c->rule_dims },
        { &c->strides, h->nstrides * sizeof *c->strides },
        { &c->names, h->nnames },
    };

    memcpy(out, all, sizeof all);
}

sw_code sw_catalog_pack(const sw_catalog *c, bool boxes, sw_buf *out, sw_status *st)
{
    packed_head h = { .ntensors = c->ntensors,
                      .nplain = c->nplain,
                      .nbox_dims = c->nbox_dims,
                      .nrules = c->nrules,
                      .nrule_dims = c->nrule_dims,
                      .nstrides = c->nstrides,
                      .nboxes = c->nboxes,
                      .block = { c->block[0], c->block[1] },
                      .sharded = c->sharded,
                      .boxes = boxes };
    sw_catalog copy = *c;
    packed_array arrays[NARRAYS];

    if (c->ntensors) {
        const sw_tensor *last = &c->tensors[c->ntensors - 1];

        h.nshapes = last->dims0 + last->ndim;
        h.nnames = (uint64_t)(last->name - c->names) + strlen(last->name) + 1;
    }
    list_arrays(&h, &copy, arrays);
    sw_buf_add(out, &h, sizeof h, st);
    for (int i = 0; i < NARRAYS && !st->code; i++) {
        void *from;

        memcpy(&from, arrays[i].at, sizeof from);
        sw_buf_add(out, from, arrays[i].n, st);
    }
    return st->code;
}

sw_code sw_catalog_unpack(sw_catalog *c, const char *from, sw_status *st)
{
    packed_head h;
    packed_array arrays[NARRAYS];
    const char *at = from + sizeof h, *name;

    memcpy(&h, from, sizeof h);
    list_arrays(&h, c, arrays);
    for (int i = 0; i < NARRAYS; i++) {
        void *to = sw_calloc(arrays[i].n, 1, st);

        if (!to)
            return st->code;
        if (arrays[i].n)
            memcpy(to, at, arrays[i].n);
        memcpy(arrays[i].at, &to, sizeof to);
        at += arrays[i].n;
    }
    c->ntensors = (uint32_t)h.ntensors;
    c->nplain = c->cap_boxes = h.nplain;
    c->nbox_dims = c->cap_box_dims = h.nbox_dims;
    c->nrules = c->cap_rules = h.nrules;
    c->nrule_dims = c->cap_rule_dims = h.nrule_dims;
    c->nstrides = c->cap_strides = h.nstrides;
    c->nboxes = h.nboxes;
    memcpy(c->block, h.block, sizeof c->block);
    c->sharded = h.sharded != 0;
    name = c->names;
    for (uint32_t i = 0; i < c->ntensors; i++, name += strlen(name) + 1)
        c->tensors[i].name = name;
    return st->code;
}

uint64_t sw_catalog_box_bytes(const sw_catalog *c)
{
    return c->nplain * sizeof *c->boxes + c->nbox_dims * sizeof *c->box_dims;
}

void sw_catalog_lend(sw_catalog *c, void *to, bool copy)
{
    sw_box *boxes = to;
    uint64_t *dims = (void *)(boxes + c->nplain);

    if (copy) {
        memcpy(boxes, c->boxes, c->nplain * sizeof *boxes);
        memcpy(dims, c->box_dims, c->nbox_dims * sizeof *dims);
    }
    if (!c->lent) {
        free(c->boxes);
        free(c->box_dims);
    }
    c->boxes = boxes;
    c->box_dims = dims;
    c->lent = true;
}
