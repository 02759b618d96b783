/* Keys of maps from the input's names to the output's; see remap.h. */
#include "plan/remap.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "format/filenames.h"

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

static void mark(const work *w, const sw_map_item *item)
{
    if (item)
        w->known[item - w->map->items] = true;
}

/* ---- what goes in ---------------------------------------------------------------------------- */

/* File names of the usual form take the other stem. */
static char *file_text(const sw_remap *r, const char *text, sw_status *st)
{
    sw_buf renamed = SW_BUF_INIT;
    sw_shard_name number;
    bool usual = strncmp(text, "model", 5) == 0 &&
                 (strcmp(text, SW_SINGLE_NAME) == 0 || sw_model_name_parse(text, &number));

    if (!r->diffusers || !usual)
        return sw_strdup(text, st);
    if (sw_buf_addf(&renamed, st, SW_DIFFUSERS_STEM "%s", text))
        sw_buf_release(&renamed);
    return renamed.data;
}

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

/* ---- what goes out --------------------------------------------------------------------------- */

/* The shards hold these, whether they are written or not. */
static void mark_held(const work *w)
{
    const sw_catalog *c = w->r->o->c;

    for (uint32_t i = 0; i < c->ntensors; i++) {
        bool own = w->r->by_input || !w->r->names[i];

        mark(w, sw_map_find(w->map, own ? c->tensors[i].name : w->r->names[i]));
    }
}

static sw_code add_unheld(work *w, sw_status *st)
{
    for (size_t m = 0; m < w->map->n && !st->code; m++)
        if (!w->known[m] && !sw_catalog_find_tensor(&w->r->o->view, w->map->items[m].key))
            add(w, w->map->items[m].key, &w->map->items[m], st);
    return st->code;
}

static int by_key(const void *a, const void *b)
{
    const sw_map_item *x = a, *y = b;

    return strcmp(x->key, y->key);
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
    if (out->n > 1)
        qsort(out->items, out->n, sizeof *out->items, by_key);
    for (size_t m = 0; m < map->n; m++)
        *largest = sw_max(*largest, map->items[m].number);
out:
    free(w.known);
    if (st->code)
        sw_map_release(out);
    return st->code;
}
