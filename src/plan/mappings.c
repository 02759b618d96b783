/* Mappings for other shards; see mappings.h. */
#include "plan/mappings.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "plan/shardlayout.h"

/* One more member of the object; value NULL: the number. */
static sw_code add_member(sw_buf *out, bool *first, const char *key, const char *value, uint64_t number,
                          sw_status *st)
{
    const char *between = *first ? "{\n  " : ",\n  ";

    *first = false;
    if (sw_buf_add(out, between, strlen(between), st) || sw_json_add_python(out, key, strlen(key), st) ||
        sw_buf_add(out, ": ", 2, st))
        return st->code;
    return value ? sw_json_add_python(out, value, strlen(value), st)
                 : sw_buf_addf(out, st, "%" PRIu64, number);
}

static sw_code finish(sw_buf *out, bool empty, sw_status *st)
{
    return empty ? sw_buf_addf(out, st, "{}\n") : sw_buf_addf(out, st, "\n}\n");
}

static bool is_unused(const sw_outputs *o, const sw_map_item *item)
{
    return !sw_catalog_find_tensor(o->c, item->key) && !sw_catalog_find_tensor(&o->view, item->key);
}

/* Tensors that no shard holds keep their entries. */
static sw_code add_unused(const sw_outputs *o, const sw_map *was, sw_buf *out, bool *first, sw_status *st)
{
    for (size_t i = 0; i < was->n && !st->code; i++)
        if (is_unused(o, &was->items[i]))
            add_member(out, first, was->items[i].key, was->items[i].text, was->items[i].number, st);
    return st->code;
}

/* The model of each output, newly allocated; NULL on failure. */
static uint64_t *models_of_outputs(const sw_outputs *o, const sw_layout *whole, uint64_t *of, sw_status *st)
{
    uint64_t *models = sw_shard_models(whole, of, st);
    uint64_t *out = models ? sw_calloc(o->view.ntensors, sizeof *out, st) : NULL;

    for (uint32_t f = 0; out && f < whole->nfiles; f++)
        for (uint32_t i = 0; i < whole->files[f].count; i++)
            out[whole->order[whole->files[f].first + i].tensor] = models[f];
    free(models);
    return out;
}

/* Whoever reads the mapping takes the largest number for n. */
static bool tells_n(const sw_outputs *o, const uint64_t *models, uint64_t of, const sw_map *unused)
{
    for (uint32_t i = 0; i < o->view.ntensors; i++)
        if (models[i] == of)
            return true;
    for (size_t i = 0; i < unused->n; i++)
        if (unused->items[i].number == of && is_unused(o, &unused->items[i]))
            return true;
    return false;
}

sw_code sw_mapping_of_files(const sw_outputs *o, const sw_layout *whole, const sw_map *was, bool unused,
                            sw_buf *out, sw_status *st)
{
    uint64_t of, *models = models_of_outputs(o, whole, &of, st);
    sw_map none = SW_MAP_INIT;
    bool first = true;

    if (!unused)
        was = &none;
    if (!models || !tells_n(o, models, of, was))
        goto out;
    for (uint32_t i = 0; i < o->view.ntensors && !st->code; i++)
        add_member(out, &first, o->view.tensors[i].name, NULL, models[i], st);
    if (!st->code && !add_unused(o, was, out, &first, st))
        finish(out, first, st);
out:
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
    bool first = true;

    for (uint32_t i = 0; i < o->view.ntensors && !st->code; i++) {
        const sw_tensor *t = &o->view.tensors[i];
        const sw_map_item *item = sw_map_find(was, o->c->tensors[o->how[i].source].name);

        if (!item && o->how[i].op == SW_OP_MXFP4)
            item = sw_map_find(was, t->name);
        if (item)
            add_member(out, &first, t->name, word_of(o, i, item->text, cast), 0, st);
    }
    if (!st->code && !add_unused(o, was, out, &first, st))
        finish(out, first, st);
    return st->code;
}
