/* Looking things up in a catalogue; see catalog.h. */
#include "plan/catalog.h"

#include <stdlib.h>
#include <string.h>

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

void sw_box_by_rule(const sw_catalog *c, const sw_tensor *t, uint64_t k, sw_placed *out)
{
    const sw_rule *rules = c->rules + t->box0;
    size_t a = 0, b = t->nrules;
    const uint64_t *from;

    while (a + 1 < b) {
        size_t mid = a + (b - a) / 2;

        if (rules[mid].first <= k)
            a = mid;
        else
            b = mid;
    }
    from = c->rule_dims + t->box_dims0 + a * 2 * t->ndim;
    out->box.file = sw_rule_box(&rules[a], from, t->ndim, k - rules[a].first, out->room);
    out->box.at = c->files[out->box.file].data_start + rules[a].at;
    out->box.strides = 0;
    memcpy(out->room + t->ndim, from + t->ndim, t->ndim * sizeof *from);
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
    uint64_t a = 0, b = t->nboxes;

    while (a + 1 < b) {
        uint64_t mid = a + (b - a) / 2;
        unsigned d = 0;
        sw_placed box;

        sw_box_get(c, t, mid, &box);
        while (d < t->ndim && box.offsets[d] == offsets[d])
            d++;
        if (d == t->ndim || box.offsets[d] < offsets[d])
            a = mid;
        else
            b = mid;
    }
    return a;
}

void sw_catalog_release(sw_catalog *c)
{
    free(c->files);
    free(c->file_names);
    free(c->tensors);
    free(c->shapes);
    free(c->boxes);
    free(c->box_dims);
    free(c->rules);
    free(c->rule_dims);
    free(c->strides);
    free(c->listed);
    free(c->names);
    sw_buf_release(&c->list);
    sw_buf_release(&c->values);
    *c = (sw_catalog){ 0 };
}
