/* Maps for what is written; see outmaps.h. */
#include "plan/outmaps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/filenames.h"
#include "format/maps.h"
#include "plan/layout_cut.h"

/* ---- maps of the input, in the outputs' names ------------------------------------------------ */

typedef struct work {
    const sw_remap *r;
    const sw_map *map;
    bool *known; /* items of map whose tensor the shards hold */
    sw_map *out;
    size_t cap;
} work;

/* The item of name without its last `cut` bytes and with `end` behind it. */
static const sw_map_item *find_as(const work *w, const char *name, size_t cut, const char *end, sw_status *st)
{
    sw_buf key = SW_BUF_INIT;
    const sw_map_item *item = NULL;

    if (!sw_buf_addf(&key, st, "%.*s%s", (int)(strlen(name) - cut), name, end))
        item = sw_map_find(w->map, key.data);
    sw_buf_release(&key);
    return item;
}

/* The shards hold the tensor of this item. */
static void mark(const work *w, const sw_map_item *item)
{
    if (item)
        w->known[item - w->map->items] = true;
}

/* File names of the usual form take the other stem. */
static char *file_text(const sw_remap *r, const char *text, sw_status *st)
{
    sw_buf renamed = SW_BUF_INIT;
    bool usual = strncmp(text, "model", 5) == 0 &&
                 (strcmp(text, SW_SINGLE_NAME) == 0 || sw_model_name_parse(text, NULL));

    if (!r->diffusers || !usual)
        return sw_strdup(text, st);
    if (sw_buf_addf(&renamed, st, SW_DIFFUSERS_STEM "%s", text))
        sw_buf_release(&renamed);
    return renamed.data;
}

/* One more item of the map that is made. */
static sw_code add(work *w, const char *key, const sw_map_item *from, sw_status *st)
{
    sw_map_item item = { NULL, NULL, from->number };

    if (sw_grow(&w->out->items, &w->cap, w->out->n + 1, sizeof item, st))
        return st->code;
    item.key = sw_strdup(key, st);
    if (from->text)
        item.text = file_text(w->r, from->text, st);
    w->out->items[w->out->n++] = item;
    return st->code;
}

/* The item that speaks of an output. */
static const sw_map_item *item_of(const work *w, uint32_t i, sw_status *st)
{
    const sw_outputs *o = w->r->o;
    const char *source = o->c->tensors[o->how[i].source].name;
    const char *name = w->r->by_input ? source : o->view.tensors[i].name;
    const sw_map_item *item = sw_map_find(w->map, name);

    if (item || o->how[i].op != SW_OP_MXFP4)
        return item;
    return w->r->by_input ? find_as(w, name, strlen(SW_END_BLOCKS), "", st)
                          : find_as(w, name, 0, SW_END_BLOCKS, st);
}

/* Items that speak of outputs, under their names. */
static sw_code add_outputs(work *w, sw_status *st)
{
    const sw_catalog *view = &w->r->o->view;

    for (uint32_t i = 0; i < view->ntensors && !st->code; i++) {
        const sw_map_item *item = item_of(w, i, st);

        mark(w, item);
        if (item && !st->code)
            add(w, view->tensors[i].name, item, st);
    }
    return st->code;
}

/* The shards hold these, whether they are written or not. */
static void mark_held(const work *w)
{
    const sw_catalog *c = w->r->o->c;

    for (uint32_t i = 0; i < c->ntensors; i++) {
        bool own = w->r->by_input || !w->r->names[i];

        mark(w, sw_map_find(w->map, own ? c->tensors[i].name : w->r->names[i]));
    }
}

/* Items of tensors that nobody holds stay. */
static sw_code add_unheld(work *w, sw_status *st)
{
    for (size_t m = 0; m < w->map->n && !st->code; m++)
        if (!w->known[m] && !sw_catalog_find_tensor(&w->r->o->view, w->map->items[m].key))
            add(w, w->map->items[m].key, &w->map->items[m], st);
    return st->code;
}

sw_code sw_map_for_outputs(const sw_remap *r, const sw_map *map, sw_map *out, uint64_t *largest,
                           sw_status *st)
{
    work w = { .r = r, .map = map, .out = out };

    *out = (sw_map)SW_MAP_INIT;
    *largest = 0;
    w.known = sw_calloc(map->n, sizeof *w.known, st);
    if (!w.known || add_outputs(&w, st))
        goto out;
    mark_held(&w);
    if (add_unheld(&w, st))
        goto out;
    sw_map_sort(out);
    *largest = sw_map_largest(map);
out:
    free(w.known);
    if (st->code)
        sw_map_release(out);
    return st->code;
}

/* ---- the index ------------------------------------------------------------------------------- */

/* The file of each tensor, newly allocated; NULL on failure. */
static uint32_t *files_by_tensor(const sw_layout *l, sw_status *st)
{
    uint32_t *file_of = sw_calloc(l->nslots, sizeof *file_of, st);

    for (uint32_t f = 0; file_of && f < l->nfiles; f++)
        for (uint32_t i = 0; i < l->files[f].count; i++)
            file_of[l->order[l->files[f].first + i].tensor] = f;
    return file_of;
}

sw_code sw_layout_index(const sw_catalog *c, const sw_layout *l, sw_buf *out, sw_status *st)
{
    uint32_t *file_of = files_by_tensor(l, st);
    sw_map_text w = { .out = out, .depth = 1 };

    if (file_of)
        sw_buf_addf(out, st,
                    "{\n  \"metadata\": {\n    \"total_parameters\": %" PRIu64
                    ",\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": ",
                    l->parameters, l->bytes);
    /* By code points, as Python sorts: that is the order of the UTF-8 bytes, which c has. */
    for (uint32_t t = 0; t < l->nslots && !st->code; t++)
        sw_map_text_add(&w, c->tensors[t].name, l->files[file_of[t]].name, 0, st);
    if (!st->code && !sw_map_text_end(&w, st))
        sw_buf_addf(out, st, "\n}\n");
    free(file_of);
    return st->code;
}

/* ---- mappings of .hf_metadata ---------------------------------------------------------------- */

/* No shard holds it, under its old name or its new one. */
static bool is_unused(const sw_outputs *o, const sw_map_item *item)
{
    return !sw_catalog_find_tensor(o->c, item->key) && !sw_catalog_find_tensor(&o->view, item->key);
}

/* Tensors that no shard holds keep their entries. */
static sw_code end_with_unused(const sw_outputs *o, const sw_map *was, sw_map_text *w, sw_status *st)
{
    for (size_t i = 0; i < was->n && !st->code; i++)
        if (is_unused(o, &was->items[i]))
            sw_map_text_add(w, was->items[i].key, was->items[i].text, was->items[i].number, st);
    return sw_map_text_end(w, st) ? st->code : sw_buf_add(w->out, "\n", 1, st);
}

/* Whoever reads the mapping takes the largest number for n. */
static bool tells_n(const sw_outputs *o, const sw_layout *whole, const uint64_t *models, uint64_t of,
                    const sw_map *unused)
{
    for (uint32_t f = 0; f < whole->nfiles; f++)
        if (models[f] == of && whole->files[f].count)
            return true;
    for (size_t i = 0; i < unused->n; i++)
        if (unused->items[i].number == of && is_unused(o, &unused->items[i]))
            return true;
    return false;
}

sw_code sw_mapping_of_files(const sw_outputs *o, const sw_layout *whole, const sw_map *was, bool unused,
                            sw_buf *out, sw_status *st)
{
    uint64_t of, *models = sw_shard_models(whole, &of, st);
    uint32_t *file_of = files_by_tensor(whole, st);
    sw_map none = SW_MAP_INIT;
    sw_map_text w = { .out = out };

    if (!unused)
        was = &none;
    if (st->code || !tells_n(o, whole, models, of, was))
        goto out;
    for (uint32_t i = 0; i < o->view.ntensors && !st->code; i++)
        sw_map_text_add(&w, o->view.tensors[i].name, NULL, models[file_of[i]], st);
    if (!st->code)
        end_with_unused(o, was, &w, st);
out:
    free(file_of);
    free(models);
    return st->code;
}

/* What the mapping says of an output: its word goes on being true, or the dtype it has now is. */
static const char *word_of(const sw_outputs *o, uint32_t i, const char *was, bool cast)
{
    sw_dtype now = (sw_dtype)o->view.tensors[i].out_dtype, said;
    bool same = sw_dtype_parse_any(was, strlen(was), &said) && said == now;

    return same || (o->how[i].op == SW_OP_COPY && !(cast && sw_dtype_is_floating(now))) ? was
                                                                                        : sw_dtype_name(now);
}

sw_code sw_mapping_of_dtypes(const sw_outputs *o, const sw_map *was, bool cast, sw_buf *out, sw_status *st)
{
    sw_map_text w = { .out = out };

    for (uint32_t i = 0; i < o->view.ntensors && !st->code; i++) {
        const sw_tensor *t = &o->view.tensors[i];
        const sw_map_item *item = sw_map_find(was, o->c->tensors[o->how[i].source].name);

        if (!item && o->how[i].op == SW_OP_MXFP4)
            item = sw_map_find(was, t->name);
        if (item)
            sw_map_text_add(&w, t->name, word_of(o, i, item->text, cast), 0, st);
    }
    return st->code ? st->code : end_with_unused(o, was, &w, st);
}
