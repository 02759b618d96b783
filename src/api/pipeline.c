/* The calls that plan what comes of an input, as lists of steps: sw_consolidate(), sw_reshard(),
 * sw_save_consolidated(), sw_save_shards() fill in one job and run the same list; sw_verify() and
 * sw_diff() compare where they write. See job.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"
#include "base/clock.h"
#include "base/grown.h"
#include "base/hash.h"
#include "dir/existing.h"
#include "par/gather.h"

/* ---- the steps ------------------------------------------------------------------------------- */

sw_code sw_job_plan(sw_job *j, sw_status *st)
{
    if (sw_job_open(j, st) || sw_job_scan(j, st))
        return st->code;
    sw_job_look(j, st); /* agreed upon by the next step */
    if (sw_job_read(j, &j->result->seconds_parse, st) || sw_job_decide(j, st))
        return st->code;
    sw_job_lay_out(j, st); /* agreed upon by the next step */
    if (sw_job_schedule(j, st) || (j->opt->if_needed && sw_job_hash_headers(j, st)) || sw_job_judge(j, st))
        return st->code;
    if (!j->output.done && sw_job_is_root(j))
        sw_job_prepare(j, st); /* agreed upon by the next step */
    return st->code;
}

/* Seconds since the last call of it. */
static double lap(const sw_job *j)
{
    const sw_result *res = j->result;

    return sw_now() - j->started - res->seconds_plan - res->seconds_write - res->seconds_copy -
           res->seconds_verify;
}

/* Collective. Plan, move, compare, publish. */
static sw_code run_steps(sw_job *j, sw_status *st)
{
    sw_job_enter(j, SW_PHASE_PLANNING);
    sw_job_plan(j, st);
    if (!j->output.done && !st->code)
        sw_job_enter(j, SW_PHASE_WRITING);
    if (j->output.done || sw_job_move(j, st) || sw_job_prove(j, st))
        return st->code;
    j->result->seconds_write = lap(j);
    if (j->opt->staging_dir) {
        sw_job_enter(j, SW_PHASE_COPYING);
        sw_job_copy(j, st);
        j->result->seconds_copy = lap(j);
    }
    if (!st->code && j->opt->verify) {
        sw_job_enter(j, SW_PHASE_VERIFYING);
        sw_job_compare_staged(j, st);
        j->result->seconds_verify = lap(j);
    }
    if (!st->code && sw_job_is_root(j)) {
        sw_job_enter(j, SW_PHASE_PUBLISHING);
        sw_job_publish(j, st);
    }
    return sw_agree(j->comm, st);
}

/* What is compared with is planned as for writing; without an option for the layout the files may
 * be laid out in any way. */
static sw_code verify_steps(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st)
{
    double ignored;

    sw_job_enter(j, SW_PHASE_PLANNING);
    if (sw_job_scan(j, st) || sw_job_read(j, &ignored, st) || sw_job_decide(j, st))
        return st->code;
    if (sw_options_given(j->opt, SW_CHANGES_LAYOUT | SW_CHANGES_STYLE)) {
        sw_job_lay_out(j, st);
        if (sw_agree(j->comm, st))
            return st->code;
    }
    sw_job_enter(j, SW_PHASE_VERIFYING);
    return sw_job_compare(j, findings, result, st);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

void sw_job_begin(sw_job *j, sw_result *result, sw_status *st)
{
    j->result = result;
    *result = (sw_result){ .ranks = j->comm->size };
    sw_status_clear(st);
    j->started = sw_now();
}

/* All that the steps left. broken: messages do not get through. */
static void release(sw_job *j, bool broken)
{
    sw_job_output *o = &j->output;

    sw_outputs_release(&j->values.outputs);
    sw_naming_release(&j->values.naming);
    sw_catalog_release(&j->input.c);
    sw_shares_end(&j->input.shares, broken);
    sw_find_release(&j->input.found);
    free(j->input.dir);
    free(j->input.name);
    sw_map_release(&j->laid.map);
    sw_shard_rules_release(&j->laid.rules);
    sw_layout_release(&j->laid.whole);
    sw_layout_release(&j->laid.layout);
    sw_shard_set_release(&j->laid.set);
    sw_schedule_release(&j->work.sched);
    sw_assets_release(&o->assets);
    sw_buf_release(&o->file_map);
    sw_buf_release(&o->dtype_map);
    sw_buf_release(&o->index);
    sw_buf_release(&o->manifest);
    sw_proof_release(&j->proven.proof);
    sw_plain_release(&j->proven.there);
    free(j->proven.tensors);
    free(j->proven.headers);
    free(o->staged);
    sw_dir_release(&o->old);
    sw_dir_release(&o->keep);
    sw_buf_release(&j->warnings);
}

/* Somebody will want to remove it. */
static void tell_staging(const sw_job *j)
{
    char *text;

    if (!j->result->staging || !j->opt->warn ||
        asprintf(&text, "the staging directory %s stays", j->result->staging) < 0)
        return;
    j->opt->warn(j->opt->user, text);
    free(text);
}

/* Rank 0. One that stays is told of. */
static void close_places(sw_job *j, sw_status *st)
{
    char *depot;

    sw_place_close(j->output.depot, &depot, st);
    sw_place_close(j->output.place, &j->result->staging, st);
    if (j->result->staging)
        free(depot);
    else
        j->result->staging = depot;
}

void sw_job_end(sw_job *j, sw_status *st)
{
    sw_result *res = j->result;

    if (sw_job_is_root(j))
        close_places(j, st);
    tell_staging(j);
    if (st->code != SW_ECOMM) {
        res->bytes_written = j->written;
        if (sw_agree(j->comm, st) != SW_ECOMM)
            sw_comm_totals(j->comm, &res->bytes_written, &res->peak_memory, st);
    }
    if (res->seconds_write > 0)
        res->seconds_publish = lap(j);
    sw_job_tell_warnings(j);
    release(j, st->code == SW_ECOMM);
}

/* ---- the fills ------------------------------------------------------------------------------- */

/* A job that writes, of a call that all ranks have come with. more: as in sw_call_begin(). */
static sw_code run(sw_job *j, sw_given *g, uint64_t more, sw_result *result, sw_status *st)
{
    sw_result own;
    bool wanted = result && !sw_grown_take(&own, sizeof own, result, "sw_result", &g->st);

    j->in = g->in;
    j->out = g->out;
    j->opt = &g->opt;
    sw_job_begin(j, &own, st);
    if (!sw_call_begin(j->comm, g, more, st)) {
        run_steps(j, st);
        sw_job_end(j, st);
    }
    if (wanted)
        sw_grown_give(result, &own, sizeof own, "sw_result");
    else
        sw_result_release(&own);
    return st->code;
}

sw_code sw_consolidate(const sw_comm *comm, const char *input_dir, const char *output_dir,
                       const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_job j = { .comm = comm, .files = SW_FILES_WHOLE };
    sw_given g;

    sw_given_take(&g, SW_CALL_CONSOLIDATE, comm, input_dir, output_dir, opt);
    run(&j, &g, 0, result, st);
    sw_given_release(&g);
    return st->code;
}

/* What ranks must have been given alike. */
static uint64_t hash_sharding(const sw_sharding *s)
{
    uint64_t h = sw_hash_text(sw_hash_text(0, s->mesh), s->placements);

    for (const char *const *rule = s->rules; rule && *rule; rule++)
        h = sw_hash_text(h, *rule);
    return h;
}

sw_code sw_reshard(const sw_comm *comm, const char *input_dir, const char *output_dir,
                   const sw_sharding *sharding, const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_sharding own;
    sw_job j = { .comm = comm, .files = SW_FILES_CUT, .sharding = &own };
    sw_given g;

    sw_given_take(&g, SW_CALL_RESHARD, comm, input_dir, output_dir, opt);
    if (sw_grown_take(&own, sizeof own, sharding, "sw_sharding", &g.st))
        own = (sw_sharding){ .mesh = NULL };
    run(&j, &g, hash_sharding(&own), result, st);
    sw_given_release(&g);
    return st->code;
}

/* Of what this rank holds. The job is new, and this call's own. */
static sw_code save(sw_job j, sw_given *g, const sw_item *items, size_t n, sw_result *result, sw_status *st)
{
    sw_memboxes held = { 0 };
    const sw_holders own = { &held, (uint32_t)j.comm->rank, 1 };
    char who[SW_RANK_NAME_SIZE];

    j.held = &own;
    snprintf(who, sizeof who, SW_RANK_NAME, own.first);
    if (!g->st.code)
        sw_memboxes_init(items, n, who, &held, &g->st);
    run(&j, g, 0, result, st);
    sw_memboxes_release(&held);
    sw_given_release(g);
    return st->code;
}

sw_code sw_save_consolidated(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                             const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_job j = { .comm = comm, .files = SW_FILES_WHOLE };
    sw_given g;

    sw_given_take(&g, SW_CALL_SAVE, comm, NULL, output_dir, opt);
    return save(j, &g, items, n, result, st);
}

sw_code sw_save_shards(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                       const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_job j = { .comm = comm, .files = SW_FILES_HELD };
    sw_given g;

    sw_given_take(&g, SW_CALL_SAVE_SHARDS, comm, NULL, output_dir, opt);
    g.opt.planned = NULL; /* nothing is told of before it is written */
    return save(j, &g, items, n, result, st);
}

/* How two are compared, and what for. */
typedef sw_code (*compare_steps)(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st);

/* A job that compares; more: as in sw_call_begin(). g is released. */
static sw_code compare(sw_job *j, sw_given *g, uint64_t more, compare_steps steps, sw_verification *result,
                       sw_status *st)
{
    sw_verification own;
    bool wanted = result && !sw_grown_take(&own, sizeof own, result, "sw_verification", &g->st);
    sw_findings findings = SW_FINDINGS_INIT;
    sw_result planned;

    j->files = SW_FILES_WHOLE;
    j->in = g->in;
    j->out = g->out;
    j->opt = &g->opt;
    sw_job_begin(j, &planned, st);
    own = (sw_verification){ .ranks = j->comm->size };
    if (!sw_call_begin(j->comm, g, more, st))
        steps(j, &findings, &own, st);
    if (st->code && st->code != SW_ECOMM) {
        /* what was found until then, on every rank; of no consequence when it fails */
        sw_status ignored = SW_STATUS_INIT;

        if (sw_findings_gather(j->comm, &findings, &ignored) == SW_ECOMM)
            *st = ignored;
    }
    if (st->code != SW_ECOMM)
        sw_comm_totals(j->comm, &own.bytes, &own.peak_memory, st);
    sw_job_tell_warnings(j);
    sw_fail_by_findings(&findings, st);
    own.findings = sw_findings_hand_over(&findings, &own.nfindings);
    own.shards = planned.shards;
    planned.shards = NULL;
    if (wanted)
        sw_grown_give(result, &own, sizeof own, "sw_verification");
    else
        sw_verification_release(&own);
    sw_result_release(&planned);
    release(j, st->code == SW_ECOMM);
    sw_given_release(g);
    return st->code;
}

sw_code sw_verify(const sw_comm *comm, const char *input_dir, const char *output_dir, const sw_options *opt,
                  sw_verification *result, sw_status *st)
{
    sw_job j = { .comm = comm };
    sw_given g;

    sw_given_take(&g, SW_CALL_VERIFY, comm, input_dir, output_dir, opt);
    return compare(&j, &g, 0, verify_steps, result, st);
}

/* What is there against what its manifest says. */
static sw_code check_steps(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st)
{
    return sw_job_check(j, j->opt->quick, true, findings, result, st)
               ? st->code
               : sw_findings_gather(j->comm, findings, st);
}

sw_code sw_check(const sw_comm *comm, const char *dir, const sw_options *opt, sw_verification *result,
                 sw_status *st)
{
    sw_job j = { .comm = comm };
    sw_given g;

    sw_given_take(&g, SW_CALL_CHECK, comm, NULL, dir, opt);
    return compare(&j, &g, 0, check_steps, result, st);
}

/* Two files of one name may be meant: the directory stands before it. */
static void name_side(const sw_job *j, sw_status *st)
{
    char file[sizeof st->file];

    if (!st->code || !st->file[0] || st->file[0] == '/' || !j->input.dir)
        return;
    if (snprintf(file, sizeof file, "%s/%s", j->input.dir, st->file) < (int)sizeof file)
        memcpy(st->file, file, sizeof file);
}

/* Find one of two and read its headers. */
static sw_code open_side(sw_job *j, sw_status *st)
{
    double ignored;

    if (!sw_job_scan_any(j, st))
        sw_job_read(j, &ignored, st);
    name_side(j, st);
    return st->code;
}

/* Of the other one names are only chosen. */
static sw_code diff_steps(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st)
{
    sw_job *with = j->with;
    sw_name_options chosen = { j->opt->include, j->opt->exclude, NULL, 0 };
    sw_result planned;

    with->comm = j->comm;
    with->in = j->out;
    with->opt = j->opt;
    with->files = j->files;
    sw_job_begin(with, &planned, st);
    sw_job_enter(j, SW_PHASE_PLANNING);
    if (!open_side(j, st) && !open_side(with, st))
        sw_naming_build(&with->input.c, &chosen, &with->warnings, &with->values.naming, st);
    if (!sw_agree(j->comm, st) && !sw_job_decide(j, st)) {
        sw_job_enter(j, SW_PHASE_VERIFYING);
        sw_job_compare_with(j, findings, result, st);
    }
    sw_job_tell_warnings(with);
    sw_result_release(&planned);
    release(with, st->code == SW_ECOMM);
    return st->code;
}

sw_code sw_diff(const sw_comm *comm, const char *a, const char *b, const sw_options *opt,
                const sw_tolerance *allowed, sw_verification *result, sw_status *st)
{
    const sw_tolerance none = { 0, 0 };
    sw_job with = { .comm = comm }, j = { .comm = comm, .with = &with, .allowed = allowed ? allowed : &none };
    sw_given g;

    sw_given_take(&g, SW_CALL_DIFF, comm, a, b, opt);
    if (!(j.allowed->absolute >= 0 && j.allowed->relative >= 0))
        sw_fail(&g.st, SW_EUSAGE, NULL, NULL, "a tolerance is a number from 0 on");
    return compare(&j, &g, sw_hash(0, j.allowed, sizeof *j.allowed), diff_steps, result, st);
}

/* ---- results --------------------------------------------------------------------------------- */

void sw_result_release(sw_result *result)
{
    for (uint64_t i = 0; i < result->nfiles; i++)
        free(result->files[i].name);
    for (uint64_t i = 0; i < result->nassets; i++)
        free(result->assets[i]);
    free(result->files);
    free(result->shards);
    free(result->assets);
    free(result->index);
    free(result->staging);
    sw_grown_give(result, &(sw_result){ 0 }, sizeof *result, "sw_result");
}

void sw_verification_release(sw_verification *result)
{
    sw_findings_free(result->findings, result->nfindings);
    free(result->shards);
    sw_grown_give(result, &(sw_verification){ 0 }, sizeof *result, "sw_verification");
}
