/* The input of a call: what its names and headers tell, and what is missed in them; see job.h. */
#include "api/job.h"
#include "par/gather.h"
#include "plan/numbers.h"

/* Does something tell where each tensor ends, so that a rank that shows nothing is missed? */
static bool ends_are_known(const sw_job *r)
{
    bool all = r->c.sharded;

    for (uint32_t i = 0; i < r->c.ntensors; i++)
        all = all && r->c.tensors[i].has_global;
    return all || r->opt->expect_shards || r->opt->like || r->scan.by_index;
}

static sw_code check_node_local(const sw_job *r, sw_status *st)
{
    if (!r->opt->node_local || ends_are_known(r))
        return SW_OK;
    return sw_fail(
        st, SW_EUSAGE, NULL, NULL,
        "node-local shards that do not tell the full shapes: a forgotten node could not be missed: give "
        "--expect-shards N, the number of ranks that saved, or --like INDEX");
}

/* What the names of the shards tell, also when there is nothing good to be told of what is in
 * them. */
static sw_code tell_numbers(sw_job *r, sw_status *st)
{
    sw_ranges there = SW_RANGES_INIT;

    if (!r->c.in_memory && !sw_numbers_text(&r->c, &r->result->shards, st) &&
        !sw_numbers_there(&r->c, 0, &there, st))
        r->result->last_shard = sw_ranges_last(&there);
    sw_ranges_release(&there);
    return st->code;
}

/* Collective. config.json is asked. */
static sw_code check_sizes(const sw_job *r, sw_status *st)
{
    if (sw_job_is_root(r) && !r->opt->no_config_check)
        sw_assets_check_sizes(r->in, r->opt->assets, &r->c, NULL, st);
    return sw_agree(r->comm, st);
}

sw_code sw_job_read_headers(sw_job *r, double *seconds, sw_status *st)
{
    sw_headers headers = { r->in, r->opt->cancel, 0 };

    tell_numbers(r, st);
    sw_buf_add(&r->warnings, r->scan.warnings.data, r->scan.warnings.len, st);
    sw_numbers_expect(&r->c, r->opt->expect_shards, &r->warnings, NULL, st);
    if (sw_agree(r->comm, st) || sw_gather_catalog(r->comm, &headers, &r->c, NULL, st))
        return st->code;
    *seconds = headers.seconds;
    r->result->shards_listed = r->c.nlisted > 0;
    if (!check_node_local(r, st) && r->opt->expect_shards == 0)
        sw_numbers_warn_holes(&r->c, &r->warnings, st);
    return sw_agree(r->comm, st) ? st->code : check_sizes(r, st);
}
