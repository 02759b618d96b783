/* sw_save_consolidated(): what the ranks hold in memory takes the place of shard files; the rest is sw_consolidate()'s. */
#include "api/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/hash.h"

/* ---- the same call on every rank ------------------------------------------------------------------- */

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
    const uint64_t numbers[] = { o->max_shard_size,  o->single_file, o->diffusers,  o->overwrite,
                                 o->diffusers_index, o->no_sync,     o->dry_run,    o->verify,
                                 o->buffer_size,     o->nname_rules, o->node_local, o->assign,
                                 o->expect_shards,   o->no_assets };
    const char *const texts[] = { call,          output_dir, o->fqn_map,      o->like,          o->cast_dtype,
                                  o->dequantize, o->assets,  o->fqn_map_text, o->dtype_map_text };
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

sw_code sw_writer_begin(const sw_comm *comm, const char *call, const char *output_dir, const sw_item *items,
                        size_t n, const sw_options *opt, sw_held *out, sw_status *st)
{
    char who[SW_RANK_NAME_SIZE];

    *out = (sw_held)SW_HELD_INIT;
    if (sw_call_compare(comm, sw_call_hash(call, output_dir, opt), st))
        return st->code;
    if (!output_dir)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no output directory is given");
    snprintf(who, sizeof who, SW_RANK_NAME, (unsigned)comm->rank);
    sw_held_init(items, n, who, out, st);
    if (sw_agree(comm, st))
        sw_held_release(out);
    return st->code;
}

/* ---- consolidated ----------------------------------------------------------------------------------- */

/* Options that speak of shard files. */
static sw_code check_options(const sw_comm *comm, const sw_options *o, sw_status *st)
{
    MPI_Comm mpi;

    if (o->verify || o->node_local || o->expect_shards)
        return sw_fail(
            st, SW_EUSAGE, NULL, NULL,
            "verify, node-local and expect-shards speak of shard files: there are none when tensors are "
            "saved from memory");
    if (o->dequantize && comm->size > 1 && !sw_comm_mpi(comm, &mpi))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "to dequantize what several ranks hold in memory they need MPI between them");
    return SW_OK;
}

sw_code sw_save_consolidated(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                             const sw_options *opt, sw_result *result, sw_status *st)
{
    static const sw_options defaults = SW_OPTIONS_INIT;
    sw_held held = SW_HELD_INIT;
    sw_job r = { .comm = comm, .held = &held, .out = output_dir, .opt = opt ? opt : &defaults };

    if (result)
        *result = (sw_result){ 0 };
    sw_status_clear(st);
    if (!sw_writer_begin(comm, "sw_save_consolidated", output_dir, items, n, r.opt, &held, st) &&
        !check_options(comm, r.opt, st))
        sw_job_run(&r, result, st);
    sw_held_release(&held);
    return st->code;
}
