/* The same call on every rank; see call.h. */
#include "api/call.h"

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
    const char *const texts[] = { call,          output_dir, o->fqn_map,      o->like,          o->cast_dtype,
                                  o->dequantize, o->assets,  o->fqn_map_text, o->dtype_map_text, o->block_size };
    uint64_t h = sw_hash(0, numbers, sizeof numbers);

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        h = hash_text(h, texts[i]);
    h = hash_texts(hash_texts(h, o->include), o->exclude);
    for (size_t i = 0; i < o->nname_rules; i++)
        h = hash_text(hash_text(sw_hash_word(h, o->name_rules[i].kind), o->name_rules[i].from),
                      o->name_rules[i].to);
    return h;
}

sw_code sw_call_compare(const sw_comm *comm, uint64_t mine, sw_status *st)
{
    int other;

    if (!sw_comm_compare(comm, mine, &other, st) && other)
        sw_fail(st, SW_EUSAGE, NULL, NULL,
                "ranks 0 and %d were called with different functions, output directories or options", other);
    return st->code;
}
