/* The boxes of a sharded checkpoint, found tensor by tensor; see layout_cut.h. */
#include "plan/layout_cut.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/filenames.h"
#include "plan/numbers.h"

/* ---- rules ----------------------------------------------------------------------------------- */

/* GLOB=PLACEMENTS; a glob may have a '=' of its own. */
static sw_code parse_rule(const char *text, const sw_mesh *mesh, sw_shard_rule *rule, sw_status *st)
{
    const char *equals = strrchr(text, '=');

    if (!equals || equals == text)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "sw_sharding.rules '%s' is not of the form GLOB=P1,P2",
                       text);
    if (sw_placements_parse(equals + 1, mesh, "rules", &rule->placements, st) ||
        !(rule->glob = sw_strdup(text, st)))
        return st->code;
    rule->glob[equals - text] = '\0';
    rule->text = text;
    return SW_OK;
}

sw_code sw_shard_rules_parse(const char *mesh, const char *placements, const char *const *rules,
                             sw_shard_rules *out, sw_status *st)
{
    size_t n = 0;

    *out = (sw_shard_rules){ .n = 0 };
    if (!mesh)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no mesh was given: sw_sharding.mesh tells it");
    if (sw_mesh_parse(mesh, &out->mesh, st) ||
        sw_placements_parse(placements, &out->mesh, "placements", &out->usual, st))
        return st->code;
    while (rules && rules[n])
        n++;
    out->items = sw_calloc(n, sizeof *out->items, st);
    for (size_t i = 0; out->items && i < n && !parse_rule(rules[i], &out->mesh, &out->items[i], st); i++)
        out->n++;
    return st->code;
}

void sw_shard_rules_release(sw_shard_rules *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->items[i].glob);
    free(r->items);
    *r = (sw_shard_rules){ .n = 0 };
}

/* ---- models ---------------------------------------------------------------------------------- */

/* Names of one set: numbers of their own, and the same n. */
static bool take_numbers(const sw_layout *whole, uint64_t *models, uint64_t *of)
{
    sw_shard_name name;

    for (uint32_t f = 0; f < whole->nfiles; f++) {
        if (!sw_model_name_parse(whole->files[f].name, &name) || (f > 0 && name.of != *of) ||
            (f > 0 && name.model <= models[f - 1]))
            return false;
        models[f] = name.model;
        *of = name.of;
    }
    return true;
}

uint64_t *sw_shard_models(const sw_layout *whole, uint64_t *of, sw_status *st)
{
    uint64_t *models = sw_calloc(whole->nfiles, sizeof *models, st);

    *of = 1;
    if (!models || take_numbers(whole, models, of))
        return models;
    for (uint32_t f = 0; f < whole->nfiles; f++)
        models[f] = f + UINT64_C(1);
    *of = sw_max(whole->nfiles, 1);
    return models;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

typedef struct work {
    const sw_catalog *view;
    const sw_shard_rules *rules;
    bool *hit; /* of each rule */
    sw_layout *l;
    size_t cap_slots, cap_dims;
    uint32_t model;     /* index of the file that is being cut */
    const sw_tensor *t; /* whose boxes are being visited */
    sw_status *st;
} work;

/* A file of the layout has the boxes of one shard and one model. */
static uint64_t key_of(uint64_t shard, uint32_t model)
{
    return shard << 32 | model;
}

/* Elements of less than a byte: the reader of torch counts their offsets in bytes, and rows must be
 * whole bytes. */
static bool is_uneven(const work *w, const uint64_t *shape)
{
    const uint64_t *whole = sw_tensor_shape(w->view, w->t);
    uint64_t bits = sw_dtype_bits((sw_dtype)w->t->out_dtype);

    if (bits % 8 == 0)
        return false;
    for (unsigned d = w->t->ndim; d-- > 0;) {
        if (shape[d] != whole[d])
            return d + 1 == w->t->ndim || bits % 8 != 0;
        bits = bits % 8 * (whole[d] % 8);
    }
    return false;
}

/* Where a box lies, unless it is all of its tensor: sw_slot.box. */
static sw_code add_dims(work *w, const uint64_t *offsets, const uint64_t *shape, uint64_t *box)
{
    size_t n = w->t->ndim, size = n * sizeof *shape;
    sw_layout *l = w->l;

    *box = 0;
    if (memcmp(shape, sw_tensor_shape(w->view, w->t), size) == 0)
        return SW_OK;
    if (sw_grow(&l->box_dims, &w->cap_dims, l->nbox_dims + 2 * n, sizeof *l->box_dims, w->st))
        return w->st->code;
    memcpy(l->box_dims + l->nbox_dims, offsets, size);
    memcpy(l->box_dims + l->nbox_dims + n, shape, size);
    *box = l->nbox_dims + 1;
    l->nbox_dims += 2 * n;
    return SW_OK;
}

/* One more slot: a box that a rank of the mesh holds. */
static bool add_box(void *ctx, uint64_t rank, const uint64_t *offsets, const uint64_t *shape)
{
    work *w = ctx;
    sw_layout *l = w->l;
    sw_slot slot = { .tensor = (uint32_t)(w->t - w->view->tensors), .begin = key_of(rank + 1, w->model) };

    if (is_uneven(w, shape)) {
        sw_fail(w->st, SW_EUSAGE, NULL, w->t->name,
                "%s cannot be cut along its last dimension, or within a byte: one of sw_sharding.rules can "
                "replicate it",
                sw_dtype_name((sw_dtype)w->t->out_dtype));
        return false;
    }
    if (l->nslots == UINT32_MAX) {
        sw_fail(w->st, SW_EUSAGE, NULL, NULL, "the mesh would cut the checkpoint into too many boxes");
        return false;
    }
    if (sw_grow(&l->order, &w->cap_slots, l->nslots + UINT64_C(1), sizeof *l->order, w->st) ||
        add_dims(w, offsets, shape, &slot.box))
        return false;
    l->order[l->nslots++] = slot;
    return true;
}

/* By the name that the tensor has in the input. */
static const sw_placements *placements_of(work *w, const char *name)
{
    for (size_t i = 0; i < w->rules->n; i++) {
        if (fnmatch(w->rules->items[i].glob, name, 0) == 0) {
            w->hit[i] = true;
            return &w->rules->items[i].placements;
        }
    }
    return &w->rules->usual;
}

/* All boxes of all outputs. */
static sw_code find_boxes(work *w, const sw_outputs *o, const sw_layout *whole)
{
    for (uint32_t f = 0; f < whole->nfiles; f++) {
        w->model = f;
        for (uint32_t i = 0; i < whole->files[f].count; i++) {
            uint32_t tensor = whole->order[whole->files[f].first + i].tensor;

            w->t = &w->view->tensors[tensor];
            if (!sw_mesh_boxes_each(&w->rules->mesh,
                                    placements_of(w, o->c->tensors[o->how[tensor].source].name), w->t->ndim,
                                    sw_tensor_shape(w->view, w->t), add_box, w))
                return w->st->code;
        }
    }
    return SW_OK;
}

/* Rules that are of no use. */
static sw_code tell_unmatched(const work *w, const sw_catalog *c, sw_buf *warnings, sw_status *st)
{
    char said[SW_NEAREST_TEXT];

    for (size_t i = 0; i < w->rules->n && !st->code; i++)
        if (!w->hit[i])
            sw_buf_add_line(warnings, st, "sw_sharding.rules '%s' matches no tensor that is left to it%s",
                            w->rules->items[i].text, sw_catalog_nearest(c, w->rules->items[i].glob, said));
    return st->code;
}

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct numbering {
    const uint64_t *models;
    uint64_t of;
} numbering;

/* What the file of a key is called. */
static char *file_name(void *ctx, uint64_t key, sw_status *st)
{
    const numbering *n = ctx;
    char text[SW_SHARD_NAME_SIZE];

    return sw_strdup(
        sw_shard_name_text(&(sw_shard_name){ key >> 32, n->models[key & UINT32_MAX], n->of }, text), st);
}

/* What each file says of all of them. */
static sw_code list_set(sw_layout *l, sw_status *st)
{
    sw_shard_name *names = sw_calloc(l->nfiles, sizeof *names, st);
    sw_buf text = SW_BUF_INIT;

    for (uint32_t f = 0; names && f < l->nfiles; f++)
        sw_shard_name_parse(l->files[f].name, &names[f]);
    if (names && !sw_numbers_list(names, l->nfiles, &text, st)) {
        l->set = text.data;
        text = (sw_buf)SW_BUF_INIT;
    }
    sw_buf_release(&text);
    free(names);
    return st->code;
}

sw_code sw_shard_layout_build(const sw_outputs *o, const sw_layout *whole, const sw_shard_rules *rules,
                              sw_buf *warnings, sw_layout *out, sw_status *st)
{
    sw_layout l = { .shards = true, .parameters = whole->parameters, .bytes = whole->bytes };
    work w = { .view = &o->view, .rules = rules, .l = &l, .st = st };
    uint64_t of, *models = sw_shard_models(whole, &of, st);
    numbering n = { models, of };

    *out = (sw_layout){ 0 };
    w.hit = sw_calloc(rules->n, sizeof *w.hit, st);
    if (st->code || find_boxes(&w, o, whole) || tell_unmatched(&w, o->c, warnings, st) ||
        sw_layout_arrange(w.view, &l, file_name, &n, st) || list_set(&l, st) ||
        sw_layout_measure(w.view, &l, st))
        goto out;
    *out = l;
    l = (sw_layout){ 0 };
out:
    sw_layout_release(&l);
    free(models);
    free(w.hit);
    return st->code;
}
