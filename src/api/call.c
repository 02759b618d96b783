/* The same call on every rank; see call.h. */
#include "api/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static uint64_t hash_text(uint64_t h, const char *text)
{
    return text ? sw_hash(h, text, strlen(text) + 1) : sw_hash_word(h, 0);
}

static uint64_t hash_texts(uint64_t h, const char *const *texts)
{
    for (; texts && *texts; texts++)
        h = hash_text(h, *texts);
    return sw_hash_word(h, 1);
}

uint64_t sw_call_hash(const char *call, const char *output_dir, const sw_options *o)
{
    const uint64_t numbers[] = { o->max_shard_size,  o->single_file, o->diffusers,      o->overwrite,
                                 o->diffusers_index, o->no_sync,     o->dry_run,        o->verify,
                                 o->buffer_size,     o->nname_rules, o->node_local,     o->assign,
                                 o->expect_shards,   o->no_assets,   o->no_config_check };
    const char *const texts[] = { call,         output_dir,      o->fqn_map,
                                  o->like,      o->cast_dtype,   o->dequantize,
                                  o->assets,    o->fqn_map_text, o->dtype_map_text,
                                  o->block_size };
    uint64_t h = sw_hash(0, numbers, sizeof numbers);

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        h = hash_text(h, texts[i]);
    h = hash_texts(hash_texts(h, o->include), o->exclude);
    for (size_t i = 0; i < o->nname_rules; i++)
        h = hash_text(hash_text(sw_hash_word(h, o->name_rules[i].kind), o->name_rules[i].from),
                      o->name_rules[i].to);
    return h;
}

sw_code sw_call_begin(const sw_comm *comm, uint64_t hash, const sw_given *g, sw_status *st)
{
    int other;

    sw_status_clear(st);
    if (!sw_comm_compare(comm, hash, &other, st) && other)
        sw_fail(st, SW_EUSAGE, NULL, NULL,
                "ranks 0 and %d were called with different functions, output directories or options", other);
    if (st->code)
        return st->code;
    if (g->st.code)
        *st = g->st;
    return sw_agree(comm, st);
}

/* ---- operands -------------------------------------------------------------------------------- */

static sw_code take_path(const char **path, char **owned, sw_status *st)
{
    if (!*path || !strstr(*path, "://"))
        return SW_OK;
    if ((*owned = sw_strdup(*path, st)) && !sw_local_path(*path, *owned, st))
        *path = *owned;
    return st->code;
}

void sw_given_take(sw_given *g, const char *in, const char *out, const sw_options *opt)
{
    static const sw_options defaults = SW_OPTIONS_INIT;
    const char **paths[] = { &g->in, &g->out, &g->opt.fqn_map, &g->opt.like, &g->opt.assets };

    *g = (sw_given){ .in = in, .out = out, .opt = opt ? *opt : defaults };
    for (size_t i = 0; i < sizeof paths / sizeof *paths && !g->st.code; i++)
        take_path(paths[i], &g->owned[i], &g->st);
}

void sw_given_release(sw_given *g)
{
    for (size_t i = 0; i < sizeof g->owned / sizeof *g->owned; i++)
        free(g->owned[i]);
    *g = (sw_given){ .in = NULL };
}
