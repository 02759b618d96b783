/* The input of a call: what its names and headers tell, and what is missed in them; see job.h. */
#include "api/job.h"
#include "par/gather.h"
#include "plan/numbers.h"

/* A rank that shows too little would make a smaller checkpoint, without an error, where nothing
 * tells where each tensor ends. */
static sw_code check_node_local(const sw_job *j, sw_status *st)
{
    bool all = j->input.c.sharded;

    for (uint32_t i = 0; i < j->input.c.ntensors; i++)
        all = all && j->input.c.tensors[i].has_global;
    if (!j->opt->node_local || all || j->opt->expect_shards || j->opt->like || j->input.found.by_index)
        return SW_OK;
    return sw_fail(
        st, SW_EUSAGE, NULL, NULL,
        "node-local shards that do not tell the full shapes: a forgotten node could not be missed: give "
        "sw_options.expect_shards, the number of ranks that saved, or sw_options.like");
}

/* What the names of the shards tell, also when there is nothing good to be told of what is in
 * them. */
static sw_code tell_numbers(sw_job *j, sw_status *st)
{
    sw_ranges there = SW_RANGES_INIT;

    if (!j->input.c.in_memory && !sw_numbers_text(&j->input.c, &j->result->shards, st) &&
        !sw_numbers_there(&j->input.c, 0, &there, st))
        j->result->last_shard = sw_ranges_last(&there);
    sw_ranges_release(&there);
    return st->code;
}

sw_code sw_job_scan(sw_job *j, sw_status *st)
{
    const sw_where where = { .dir = j->in,
                             .node_local = j->opt->node_local,
                             .boxes = j->opt->boxes,
                             .anywhere = j->opt->boxes_anywhere,
                             /* who names tensors means those that were saved */
                             .everything = sw_options_given(j->opt, SW_CHANGES_NAMES) > 0,
                             .cancel = j->opt->cancel,
                             .shares = &j->input.shares };

    if (j->input.name)
        return sw_scan_file(j->comm, j->in, j->input.name, &j->input.c, st);
    return j->in ? sw_scan_dir(j->comm, &where, &j->input.c, &j->input.found, NULL, st) : st->code;
}

sw_code sw_job_scan_any(sw_job *j, sw_status *st)
{
    if (sw_scan_operand(j->comm, j->in, &j->input.dir, &j->input.name, st))
        return st->code;
    j->in = j->input.dir;
    return sw_job_scan(j, st);
}

sw_code sw_job_read(sw_job *j, double *seconds, sw_status *st)
{
    sw_headers headers = { .dir = j->in, .cancel = j->opt->cancel, .shares = &j->input.shares };
    sw_job_input *in = &j->input;

    if (j->held)
        return sw_join_held(j->comm, j->held, &in->c, st);
    tell_numbers(j, st);
    sw_buf_add(&j->warnings, in->found.warnings.data, in->found.warnings.len, st);
    sw_numbers_expect(&in->c, j->opt->expect_shards, &j->warnings, NULL, st);
    if (sw_gather_catalog(j->comm, &headers, &in->c, NULL, st))
        return st->code;
    *seconds = headers.seconds;
    in->nodes = headers.nodes;
    j->result->shards_listed = in->c.nlisted > 0;
    if (!check_node_local(j, st) && j->opt->expect_shards == 0 && !in->name)
        sw_numbers_warn_holes(&in->c, &j->warnings, st);
    /* config.json is asked */
    if (!st->code && sw_job_is_root(j) && !j->opt->no_config_check && !in->name)
        sw_assets_check_sizes(j->in, j->opt->assets, &in->c, NULL, st);
    return sw_agree(j->comm, st);
}
