/* sw_consolidate(): the steps in their order. Each is collective, or is done by rank 0 and agreed
 * upon. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "dir/existing.h"
#include "par/gather.h"
#include "par/io.h"
#include "par/weld.h"

#define BLOCK (UINT64_C(1) << 20) /* of a local file system */

/* More opens than this at once are a storm for a metadata server: the ranks read their own files
 * and exchange. */
#define OPENS_MAX 32768

/* ---- words for the user ---------------------------------------------------------------------- */

/* They are the same on every rank; rank 0 speaks. */
void sw_job_tell_warnings(sw_job *r)
{
    sw_buf_tell_lines(&r->warnings, sw_job_is_root(r) ? r->opt->warn : NULL, r->opt->user);
}

void sw_job_tell_plan(sw_job *r)
{
    r->result->seconds_plan = sw_now() - r->started;
    sw_job_tell_warnings(r);
    if (sw_job_is_root(r) && r->opt->planned)
        r->opt->planned(r->opt->user, r->result);
}

/* ---- the plan -------------------------------------------------------------------------------- */

void sw_job_assign(sw_job *r)
{
    uint64_t nranks = (uint64_t)r->comm->size;

    /* One rank owns all. What another rank holds in memory nobody can read. */
    r->by_owner = nranks > 1 && sw_comm_layer(r->comm) &&
                  (r->held || r->opt->node_local || r->opt->assign == SW_ASSIGN_OWNER ||
                   (r->opt->assign == SW_ASSIGN_AUTO && nranks * r->c.nfiles > OPENS_MAX));
}

bool sw_job_converts(const sw_job *r)
{
    const sw_outputs *o = &r->outputs;

    for (uint32_t i = 0; i < o->view.ntensors; i++)
        if (o->how[i].op != SW_OP_COPY)
            return true;
    return false;
}

sw_code sw_job_take_memory(const sw_job *r, const sw_memory_rule *rule, uint64_t buffer, sw_memory *out,
                           sw_status *st)
{
    const sw_memory_need need = { r->opt->buffer_size ? r->opt->buffer_size : buffer, (uint32_t)r->comm->size,
                                  r->by_owner, sw_job_converts(r) };

    return sw_memory_share(rule, &need, out, st);
}

/* How much memory, cut where, filled how: from the options and the file system, which rank 0 looks
 * at. */
static sw_code schedule(sw_job *r, sw_status *st)
{
    uint64_t sizes[2] = { 0 }; /* default buffer, block */
    sw_memory ignored;
    sw_fs fs = { 0 };

    if (sw_job_is_root(r)) {
        sw_path_fs_near(r->out, &fs, st);
        sizes[0] = sw_memory_buffer(&sw_memory_of_weld, fs.shared, sw_job_converts(r));
        sizes[1] = fs.shared ? sw_max(BLOCK, fs.block) : BLOCK;
    }
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, sizes, sizeof sizes, 0, st))
        return st->code;
    sw_job_assign(r);
    if (sw_job_take_memory(r, &sw_memory_of_weld, sizes[0], &r->memory, st))
        return st->code;
    /* Would the buffer do for that, too? */
    if (r->opt->verify &&
        sw_job_take_memory(r, &sw_memory_of_compare, sw_memory_of_compare.local, &ignored, st))
        return st->code;
    if (sw_schedule_build(
            &r->layout, &(sw_schedule_rule){ (uint32_t)r->comm->size, r->memory.band, sizes[1], r->by_owner },
            &r->sched, st))
        return st->code;
    r->result->buffer_size = r->memory.buffer;
    r->result->band_size = r->sched.band;
    r->result->assign = r->by_owner ? SW_ASSIGN_OWNER : SW_ASSIGN_BAND;
    for (uint32_t f = 0; f < r->layout.nfiles; f++)
        r->result->rounds = sw_max(r->result->rounds, sw_schedule_rounds(&r->sched, &r->layout, f));
    return SW_OK;
}

/* Every rank has come to the same plan, or something is very wrong. */
static sw_code compare_plans(sw_job *r, sw_status *st)
{
    int other;

    r->plan_hash = sw_plan_hash(&r->outputs, &r->layout, &r->sched);
    if (!sw_comm_compare(r->comm, r->plan_hash, &other, st) && other)
        sw_fail(st, SW_EINTERNAL, NULL, NULL, "ranks 0 and %d have made different plans", other);
    return st->code;
}

sw_code sw_job_schedule(sw_job *r, sw_status *st)
{
    schedule(r, st);
    return sw_agree(r->comm, st) ? st->code : compare_plans(r, st);
}

uint64_t sw_job_fingerprint(const sw_job *r, sw_status *st)
{
    uint64_t h = sw_plan_hash(&r->outputs, &r->layout, NULL);
    sw_dtype cast, dequantize;

    for (size_t i = 0; i < r->assets.n; i++) {
        const sw_asset *a = &r->assets.items[i];

        h = sw_hash(h, a->name, strlen(a->name));
        h = sw_hash_word(sw_hash_word(h, a->size), a->ino);
        h = sw_hash_word(sw_hash_word(h, (uint64_t)a->mtime_ns), (uint64_t)a->ctime_ns);
    }
    /* config.json is edited by these; and what was published without being verified was not all
     * that is asked for. */
    sw_value_dtypes(r->opt, &cast, &dequantize, st);
    h = sw_hash_word(h, (uint64_t)cast << 32 | (uint64_t)dequantize << 1 | (uint64_t)r->opt->verify);
    return h ? h : 1;
}

/* What this run was asked for: the plan, and the files that come along. */
static sw_code take_fingerprint(sw_job *r, sw_status *st)
{
    if (sw_job_is_root(r) && !sw_job_list_assets(r, st))
        r->fingerprint = sw_job_fingerprint(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    return sw_comm_bcast(r->comm, &r->fingerprint, sizeof r->fingerprint, 0, st);
}

sw_code sw_job_fill_result(sw_job *r, sw_status *st)
{
    sw_result *res = r->result;

    res->shard_files = r->held ? 0 : r->c.nfiles;
    res->boxes = r->c.nboxes;
    res->tensors = r->outputs.view.ntensors;
    res->parameters = r->layout.parameters;
    res->bytes = r->layout.bytes;
    res->files = sw_calloc(r->layout.nfiles, sizeof *res->files, st);
    for (uint32_t f = 0; f < r->layout.nfiles && !st->code; f++) {
        const sw_layout_file *file = &r->layout.files[f];

        res->files[f] = (sw_result_file){ sw_strdup(file->name, st), file->count, file->size };
        res->nfiles++;
    }
    if (r->layout.index_name && !st->code)
        res->index = sw_strdup(r->layout.index_name, st);
    res->assets = sw_calloc(r->assets.n, sizeof *res->assets, st);
    for (size_t i = 0; i < r->assets.n && !st->code; i++)
        if ((res->assets[i] = sw_strdup(r->assets.items[i].name, st)))
            res->nassets++;
    return sw_agree(r->comm, st);
}

/* Collective. Fill the catalogue: from files, or from what the ranks hold. */
static sw_code find_input(sw_job *r, sw_status *st)
{
    if (!r->held &&
        (sw_scan_dir(r->comm, &(sw_where){ r->in, r->opt->node_local }, &r->c, &r->scan, NULL, st) ||
         sw_job_list_keep(r, st)))
        return st->code;
    /* An existing output is refused before the work, unless it may turn out to be what this run
     * asks for. */
    if (sw_job_is_root(r) && !r->recovered)
        sw_job_look_at_output(r, NULL, st);
    if (sw_agree(r->comm, st))
        return st->code;
    if (r->described)
        return sw_join_described(r->held, r->described, &r->c, st);
    if (r->held)
        return sw_join_held(r->comm, r->held, &r->c, st);
    return sw_job_read_headers(r, &r->result->seconds_parse, st);
}

static sw_code plan(sw_job *r, sw_status *st)
{
    if (find_input(r, st))
        return st->code;
    sw_job_decide(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    sw_job_lay_out(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    if (sw_job_schedule(r, st) || take_fingerprint(r, st))
        return st->code;
    return sw_job_fill_result(r, st);
}

/* ---- writing and publishing ------------------------------------------------------------------ */

sw_code sw_job_sync(const sw_job *r, const char *staged_dir, bool *sync, sw_status *st)
{
    sw_fs fs = { 0 };

    /* On network file systems close would flush anyway, and only a sync tells of lost bytes. */
    sw_path_fs(staged_dir, &fs, st);
    *sync = !r->opt->no_sync || fs.shared;
    return st->code;
}

/* Before the work where that can be known. */
static void tell_aggregation(sw_job *r, const sw_transport *how, sw_status *st)
{
    if (!how->aggregates[0])
        return;
    sw_buf_add_line(&r->warnings, st,
                    "%s asks MPI-IO to aggregate, which can lose data and hang on a full disk: each rank "
                    "writes its own part by pwrite instead",
                    how->aggregates);
    sw_job_tell_warnings(r);
}

sw_work sw_job_work(const sw_job *r)
{
    return (sw_work){ .world = r->comm,
                      .o = &r->outputs,
                      .l = &r->layout,
                      .sched = &r->sched,
                      .input_dir = r->in,
                      .held = r->held,
                      .memory = r->memory,
                      .cancel = r->opt->cancel,
                      .progress = r->opt->progress,
                      .user = r->opt->user };
}

sw_code sw_job_write_files(sw_job *r, const char *staged_dir, sw_status *st)
{
    sw_weld w = { .work = sw_job_work(r), .staged_dir = staged_dir };
    bool known;

    if (sw_job_is_root(r))
        sw_job_sync(r, staged_dir, &w.sync, st);
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, &w.sync, sizeof w.sync, 0, st))
        return st->code;
    if (sw_transport_choose(r->comm, r->opt->hints, &w.how, st))
        return st->code;
    tell_aggregation(r, &w.how, st);
    known = w.how.aggregates[0] != '\0';
    sw_weld_files(&w, st);
    if (!known)
        tell_aggregation(r, &w.how, st);
    r->written = w.written;
    snprintf(r->result->io, sizeof r->result->io, "%s", w.how.mpi ? w.how.io : "posix");
    snprintf(r->result->transport, sizeof r->result->transport, "%s", w.how.words);
    return st->code;
}

char *sw_job_staged_dir(const sw_job *r, sw_status *st)
{
    return sw_path_join(r->out, SW_STAGING_NAME "/new", st);
}

static sw_code write_files(sw_job *r, sw_status *st)
{
    char *staged = sw_job_staged_dir(r, st);

    if (!sw_agree(r->comm, st))
        sw_job_write_files(r, staged, st);
    free(staged);
    return st->code;
}

/* A recovery may have completed a publication: if it is what this run asks for, all is done. Else
 * what is there is an existing checkpoint. */
static sw_code judge_output(sw_job *r, sw_status *st)
{
    /* What is in memory may have other values by now. */
    r->done = r->recovered && r->recovered == r->fingerprint && !r->held;
    r->result->recovered = r->done;
    if (!r->done && sw_job_is_root(r)) {
        sw_job_look_at_output(r, r->layout.index_name, st);
        if (r->nold && r->opt->dry_run && !r->opt->overwrite)
            sw_buf_add_line(&r->warnings, st, "%s holds a checkpoint already: --overwrite will be needed",
                            r->out);
    }
    return sw_agree(r->comm, st);
}

sw_code sw_job_prepare(sw_job *r, sw_status *st)
{
    if (sw_job_open_output(r, st) || plan(r, st) || judge_output(r, st))
        return st->code;
    sw_job_check_same_dir(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    sw_job_tell_plan(r);
    r->done = r->done || r->opt->dry_run;
    if (!r->done && sw_job_is_root(r))
        sw_job_prepare_output(r, st);
    return sw_agree(r->comm, st);
}

static sw_code steps(sw_job *r, sw_status *st)
{
    if (sw_job_prepare(r, st) || r->done || write_files(r, st))
        return st->code;
    r->result->seconds_write = sw_now() - r->started - r->result->seconds_plan;
    if (r->opt->verify) {
        sw_job_verify(r, st);
        r->result->seconds_verify =
            sw_now() - r->started - r->result->seconds_plan - r->result->seconds_write;
    }
    if (st->code)
        return st->code;
    if (sw_job_is_root(r))
        sw_job_publish(r, st);
    return sw_agree(r->comm, st);
}

/* ---- the end --------------------------------------------------------------------------------- */

void sw_job_release(sw_job *r)
{
    sw_outputs_release(&r->outputs);
    sw_naming_release(&r->naming);
    sw_assets_release(&r->assets);
    sw_catalog_release(&r->c);
    sw_find_release(&r->scan);
    sw_map_release(&r->map);
    sw_layout_release(&r->layout);
    sw_schedule_release(&r->sched);
    sw_buf_release(&r->warnings);
    sw_buf_release(&r->index);
    sw_names_free(r->old, r->nold);
    sw_names_free(r->keep, r->nkeep);
}

void sw_job_begin(sw_job *r, sw_result *result, sw_status *st)
{
    r->result = result;
    *result = (sw_result){ .ranks = r->comm->size };
    sw_status_clear(st);
    r->started = sw_now();
}

void sw_job_end(sw_job *r, sw_status *st)
{
    if (st->code != SW_ECOMM) {
        sw_agree(r->comm, st);
        r->result->bytes_written = r->written;
        sw_comm_totals(r->comm, &r->result->bytes_written, &r->result->peak_memory);
    }
    if (r->result->seconds_write > 0)
        r->result->seconds_publish = sw_now() - r->started - r->result->seconds_plan -
                                     r->result->seconds_write - r->result->seconds_verify;
    sw_job_tell_warnings(r);
    sw_job_release(r);
}

sw_code sw_job_run(sw_job *r, sw_result *result, sw_status *st)
{
    sw_result unwanted;

    sw_job_begin(r, result ? result : &unwanted, st);
    steps(r, st);
    if (sw_job_is_root(r))
        sw_place_close(r->stage, &r->result->staging, st);
    sw_tell_staging(r->opt, r->result);
    sw_job_end(r, st);
    if (!result)
        sw_result_release(&unwanted);
    return st->code;
}

sw_code sw_consolidate(const sw_comm *comm, const char *input_dir, const char *output_dir,
                       const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_given g;
    sw_job r = { .comm = comm };

    if (result)
        *result = (sw_result){ 0 };
    sw_given_take(&g, SW_CALL_CONSOLIDATE, comm, input_dir, output_dir, opt);
    r.in = g.in;
    r.out = g.out;
    r.opt = &g.opt;
    if (!sw_call_begin(comm, &g, 0, st))
        sw_job_run(&r, result, st);
    sw_given_release(&g);
    return st->code;
}

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
    *result = (sw_result){ 0 };
}
