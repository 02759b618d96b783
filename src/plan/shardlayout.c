/* The layout of a sharded checkpoint; see shardlayout.h.
 *
 * Boxes are found tensor by tensor, sorted by file, and cut into files; then each file's header
 * tells where its boxes lie. */
#include "plan/shardlayout.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "plan/numbers.h"
#include "plan/shardfile.h"

/* ---- rules ----------------------------------------------------------------------------------- */

/* GLOB=PLACEMENTS; a glob may have a '=' of its own. */
static sw_code parse_rule(const char *text, const sw_mesh *mesh, sw_shard_rule *rule, sw_status *st)
{
    const char *equals = strrchr(text, '=');

    if (!equals || equals == text)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "--rule '%s' is not of the form GLOB=P1,P2", text);
    if (sw_placements_parse(equals + 1, mesh, "rule", &rule->placements, st) ||
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
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no mesh was given: --mesh or --ranks tells it");
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

/* A box on its way into a file. */
typedef struct placed {
    uint64_t shard, model;
    uint64_t box; /* of its slot */
    uint32_t tensor;
    uint8_t dtype;
} placed;

typedef struct work {
    const sw_catalog *view;
    const sw_shard_rules *rules;
    bool *hit; /* of each rule */
    placed *boxes;
    size_t n, cap;
    uint64_t *dims;
    size_t ndims, cap_dims;
    const sw_tensor *t; /* whose boxes are being visited */
    placed now;
    sw_status *st;
} work;

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

static bool is_all(const work *w, const uint64_t *shape)
{
    return memcmp(shape, sw_tensor_shape(w->view, w->t), w->t->ndim * sizeof *shape) == 0;
}

static bool add_box(void *ctx, uint64_t rank, const uint64_t *offsets, const uint64_t *shape)
{
    work *w = ctx;
    size_t size = w->t->ndim * sizeof *shape;

    w->now.shard = rank + 1;
    w->now.box = 0;
    if (is_uneven(w, shape)) {
        sw_fail(w->st, SW_EUSAGE, NULL, w->t->name,
                "%s cannot be cut along its last dimension, or within a byte: a --rule can replicate it",
                sw_dtype_name((sw_dtype)w->t->out_dtype));
        return false;
    }
    if (w->n == UINT32_MAX) {
        sw_fail(w->st, SW_EUSAGE, NULL, NULL, "the mesh would cut the checkpoint into too many boxes");
        return false;
    }
    if (sw_grow(&w->boxes, &w->cap, w->n + 1, sizeof *w->boxes, w->st))
        return false;
    if (!is_all(w, shape)) {
        if (sw_grow(&w->dims, &w->cap_dims, w->ndims + 2u * w->t->ndim, sizeof *w->dims, w->st))
            return false;
        w->now.box = w->ndims + UINT64_C(1);
        memcpy(w->dims + w->ndims, offsets, size);
        memcpy(w->dims + w->ndims + w->t->ndim, shape, size);
        w->ndims += 2u * w->t->ndim;
    }
    w->boxes[w->n++] = w->now;
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

static sw_code find_boxes(work *w, const sw_outputs *o, const sw_layout *whole, const uint64_t *models)
{
    for (uint32_t f = 0; f < whole->nfiles; f++) {
        for (uint32_t i = 0; i < whole->files[f].count; i++) {
            uint32_t tensor = whole->order[whole->files[f].first + i].tensor;

            w->t = &w->view->tensors[tensor];
            w->now = (placed){ .model = models[f], .tensor = tensor, .dtype = w->t->out_dtype };
            if (!sw_mesh_boxes_each(&w->rules->mesh,
                                    placements_of(w, o->c->tensors[o->how[tensor].source].name), w->t->ndim,
                                    sw_tensor_shape(w->view, w->t), add_box, w))
                return w->st->code;
        }
    }
    return SW_OK;
}

static sw_code tell_unmatched(const work *w, sw_buf *warnings, sw_status *st)
{
    for (size_t i = 0; i < w->rules->n && !st->code; i++)
        if (!w->hit[i])
            sw_buf_add_line(warnings, st, "--rule '%s' matches no tensor that is left to it",
                            w->rules->items[i].text);
    return st->code;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int by_file(const void *a, const void *b)
{
    const placed *x = a, *y = b;

    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->model != y->model)
        return x->model < y->model ? -1 : 1;
    if (x->dtype != y->dtype)
        return x->dtype < y->dtype ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static bool same_file(const placed *x, const placed *y)
{
    return x->shard == y->shard && x->model == y->model;
}

static sw_code cut_into_files(const work *w, uint64_t of, sw_layout *l, sw_status *st)
{
    uint32_t nfiles = 0;

    for (size_t i = 0; i < w->n; i++)
        nfiles += i == 0 || !same_file(&w->boxes[i - 1], &w->boxes[i]);
    l->files = sw_calloc(nfiles, sizeof *l->files, st);
    l->order = sw_calloc(w->n, sizeof *l->order, st);
    if (st->code)
        return st->code;
    for (uint32_t i = 0; i < (uint32_t)w->n; i++) {
        const placed *b = &w->boxes[i];
        char name[SW_SHARD_NAME_SIZE];

        if (i == 0 || !same_file(b - 1, b)) {
            l->files[l->nfiles].first = i;
            l->files[l->nfiles].name =
                sw_strdup(sw_shard_name_text(&(sw_shard_name){ b->shard, b->model, of }, name), st);
            if (!l->files[l->nfiles++].name)
                return st->code;
        }
        l->files[l->nfiles - 1].count++;
        l->order[i] = (sw_slot){ .tensor = b->tensor, .box = b->box };
    }
    l->nslots = (uint32_t)w->n;
    return SW_OK;
}

/* What the header needs to know of the slots of a file. */
typedef struct front {
    sw_shard_box *boxes;
    uint32_t *order;
    uint64_t *zeros; /* offsets of tensors that are not cut */
    sw_buf text;
} front;

static void front_release(front *h)
{
    free(h->boxes);
    free(h->order);
    free(h->zeros);
    sw_buf_release(&h->text);
}

/* The header of a file. Its boxes get their places, and are in their order already. */
static sw_code make_front(const sw_catalog *view, const sw_layout *l, const sw_layout_file *file, front *h,
                          sw_status *st)
{
    h->boxes = sw_calloc(file->count, sizeof *h->boxes, st);
    h->order = sw_calloc(file->count, sizeof *h->order, st);
    h->zeros = sw_calloc(SW_MAX_DIMS, sizeof *h->zeros, st);
    for (uint32_t i = 0; i < file->count && !st->code; i++) {
        const sw_slot *slot = &l->order[file->first + i];
        const sw_tensor *t = &view->tensors[slot->tensor];
        const uint64_t *box = sw_slot_box(l, slot);

        h->boxes[i] = (sw_shard_box){ .name = t->name,
                                      .dtype = (sw_dtype)t->out_dtype,
                                      .ndim = t->ndim,
                                      .offsets = box ? box : h->zeros,
                                      .shape = box ? box + t->ndim : sw_tensor_shape(view, t),
                                      .global_shape = sw_tensor_shape(view, t) };
    }
    return st->code ? st->code : sw_shard_header(h->boxes, file->count, l->set, h->order, &h->text, st);
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

static sw_code measure(const sw_catalog *view, sw_layout *l, sw_status *st)
{
    for (uint32_t f = 0; f < l->nfiles && !st->code; f++) {
        sw_layout_file *file = &l->files[f];
        front h = { NULL, NULL, NULL, SW_BUF_INIT };

        if (!make_front(view, l, file, &h, st)) {
            for (uint32_t i = 0; i < file->count; i++) {
                l->order[file->first + i].begin = h.boxes[i].begin;
                l->order[file->first + i].end = h.boxes[i].end;
            }
            file->header_len = h.text.len - 8;
            if (!sw_add(h.text.len, h.boxes[file->count - 1].end, &file->size) || file->size > INT64_MAX)
                sw_fail(st, SW_EUSAGE, file->name, NULL, "its size overflows");
        }
        front_release(&h);
    }
    return st->code;
}

sw_code sw_shard_layout_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t from, uint64_t n,
                               char *to, sw_status *st)
{
    front h = { NULL, NULL, NULL, SW_BUF_INIT };

    if (!make_front(c, l, &l->files[f], &h, st))
        memcpy(to, h.text.data + from, (size_t)n);
    front_release(&h);
    return st->code;
}

/* ---- all ------------------------------------------------------------------------------------- */

sw_code sw_shard_layout_build(const sw_outputs *o, const sw_layout *whole, const sw_shard_rules *rules,
                              sw_buf *warnings, sw_layout *out, sw_status *st)
{
    work w = { .view = &o->view, .rules = rules, .st = st };
    sw_layout l = { .shards = true, .parameters = whole->parameters, .bytes = whole->bytes };
    uint64_t of, *models = sw_shard_models(whole, &of, st);

    *out = (sw_layout){ 0 };
    w.hit = sw_calloc(rules->n, sizeof *w.hit, st);
    if (st->code || find_boxes(&w, o, whole, models) || tell_unmatched(&w, warnings, st))
        goto out;
    if (w.n > 1)
        qsort(w.boxes, w.n, sizeof *w.boxes, by_file);
    l.box_dims = w.dims;
    l.nbox_dims = w.ndims;
    w.dims = NULL;
    if (cut_into_files(&w, of, &l, st) || list_set(&l, st) || measure(w.view, &l, st))
        goto out;
    *out = l;
    l = (sw_layout){ 0 };
out:
    sw_layout_release(&l);
    free(models);
    free(w.dims);
    free(w.boxes);
    free(w.hit);
    return st->code;
}
