/* sw_consolidate(): the steps in their order. Each is collective, or is done by rank 0 and agreed upon. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "api/job.h"
#include "base/clock.h"
#include "base/num.h"
#include "base/path.h"
#include "par/gather.h"
#include "par/io.h"
#include "par/weld.h"

/* Rounds that stay in the processor's cache win on a local file system; a parallel one wants stripes. */
#define BUFFER_LOCAL ((UINT64_C(4) << 20) + SCRATCH_MAX)
#define BUFFER_SHARED (UINT64_C(64) << 20)
#define BLOCK (UINT64_C(1) << 20)
#define SCRATCH_MAX (UINT64_C(256) << 10)
#define BAND_MAX (UINT64_C(512) << 20) /* below what MPI-IO components can take in one call */

/* More opens than this at once are a storm for a metadata server: the ranks read their own files and exchange. */
#define OPENS_MAX 32768

/* ---- words for the user ------------------------------------------------------------------------- */

/* Hand all lines of warnings to the caller and empty it. They are the same on every rank; rank 0 speaks. */
static void tell_warnings(sw_job *r)
{
    char *line = r->warnings.data;

    if (sw_job_is_root(r) && r->opt->warn && r->warnings.len) {
        r->warnings.data[r->warnings.len - 1] = '\0';
        for (char *end; line; line = end) {
            end = strchr(line, '\n');
            if (end)
                *end++ = '\0';
            r->opt->warn(r->opt->user, line);
        }
    }
    r->warnings.len = 0;
}

/* ---- options ------------------------------------------------------------------------------------ */

static sw_code check_options(const sw_job *r, sw_status *st)
{
    const sw_options *o = r->opt;
    MPI_Comm mpi;

    if ((o->fqn_map != NULL) + (o->like != NULL) + (o->max_shard_size != 0) + o->single_file > 1)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "only one of fqn-map, like, max-shard-size and single-file can lay the files out");
    if (o->buffer_size && o->buffer_size < SW_BUFFER_SIZE_MIN)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small, the least is %u", o->buffer_size,
                       SW_BUFFER_SIZE_MIN);
    for (const char *const *h = o->hints; h && *h; h++)
        if (!sw_hint_is_valid(*h))
            return sw_fail(st, SW_EUSAGE, NULL, NULL, "not an MPI-IO hint, KEY=VALUE: '%s'", *h);
    if (o->node_local && o->assign == SW_ASSIGN_BAND)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "node-local shards can only be assigned by owner");
    if (r->comm->size > 1 && !sw_comm_mpi(r->comm, &mpi))
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "several processes can write together only over MPI");
    if ((o->node_local || o->assign == SW_ASSIGN_OWNER) && !sw_comm_mpi(r->comm, &mpi))
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "node-local shards and the assignment by owner need MPI");
    return SW_OK;
}

/* ---- the plan ----------------------------------------------------------------------------------- */

/* How much memory, cut where, filled how: from the options and the file system, which rank 0 looks at. */
static sw_code schedule(sw_job *r, sw_status *st)
{
    uint64_t sizes[2] = { 0 }, buffer, band; /* default buffer, block */
    uint64_t nranks = (uint64_t)r->comm->size;
    sw_fs fs = { 0 };

    if (sw_job_is_root(r)) {
        sw_path_fs_near(r->out, &fs, st);
        sizes[0] = fs.shared ? BUFFER_SHARED : BUFFER_LOCAL;
        sizes[1] = fs.shared ? sw_max(BLOCK, fs.block) : BLOCK;
    }
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, sizes, sizeof sizes, 0, st))
        return st->code;
    r->by_owner = r->opt->node_local || r->opt->assign == SW_ASSIGN_OWNER ||
                  (r->opt->assign == SW_ASSIGN_AUTO && nranks > 1 && nranks * r->c.nfiles > OPENS_MAX);
    buffer = r->opt->buffer_size ? r->opt->buffer_size : sizes[0];
    r->scratch = sw_min(buffer / 4, SCRATCH_MAX);
    band = sw_min((buffer - r->scratch) / (r->by_owner ? 2 : 1), BAND_MAX);
    if (r->by_owner && band / 2 < nranks)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small for %" PRIu64 " ranks that exchange",
                       buffer, nranks);
    if (sw_schedule_build(&r->layout, (uint32_t)nranks, band, sizes[1], r->by_owner, &r->sched, st))
        return st->code;
    r->result->buffer_size = buffer;
    r->result->band_size = r->sched.band;
    r->result->assign = r->by_owner ? SW_ASSIGN_OWNER : SW_ASSIGN_BAND;
    for (uint32_t f = 0; f < r->layout.nfiles; f++)
        r->result->rounds = sw_max(r->result->rounds, sw_schedule_rounds(&r->sched, &r->layout, f));
    return SW_OK;
}

/* Every rank has come to the same plan, or something is very wrong. */
static sw_code compare_plans(sw_job *r, sw_status *st)
{
    uint64_t *all = sw_calloc((uint64_t)r->comm->size, sizeof *all, st);

    r->plan_hash = sw_plan_hash(&r->c, &r->layout, &r->sched);
    r->fingerprint = sw_plan_hash(&r->c, &r->layout, NULL);
    if (!sw_agree(r->comm, st) && !sw_comm_allgather(r->comm, &r->plan_hash, sizeof r->plan_hash, all, st))
        for (int i = 1; i < r->comm->size; i++)
            if (all[i] != all[0])
                sw_fail(st, SW_EINTERNAL, NULL, NULL, "ranks 0 and %d have made different plans", i);
    free(all);
    return st->code;
}

/* What the plan says, for the caller. */
static sw_code fill_result(sw_job *r, sw_status *st)
{
    sw_result *res = r->result;

    res->shard_files = r->c.nfiles;
    res->boxes = r->c.nboxes;
    res->tensors = r->layout.ntensors;
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
    return sw_agree(r->comm, st);
}

static sw_code plan(sw_job *r, sw_status *st)
{
    if (sw_scan_dir(r->comm, r->in, r->opt->node_local, &r->c, &r->scan, st))
        return st->code;
    if (sw_job_list_keep(r, st))
        return st->code;
    /* An existing output is refused before the work, unless it may turn out to be what this run asks for. */
    if (sw_job_is_root(r) && !r->recovered)
        sw_job_look_at_output(r, NULL, st);
    sw_check_expected(&r->c, r->opt->expect_shards, &r->warnings, st);
    if (sw_agree(r->comm, st) ||
        sw_gather_catalog(r->comm, r->in, r->opt->cancel, &r->c, &r->result->seconds_parse, st))
        return st->code;
    sw_job_lay_out(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    schedule(r, st);
    if (sw_agree(r->comm, st) || compare_plans(r, st))
        return st->code;
    return fill_result(r, st);
}

/* ---- writing and publishing --------------------------------------------------------------------- */

static sw_code write_files(sw_job *r, sw_status *st)
{
    sw_fs fs = { 0 };
    char *staged = NULL;
    sw_weld w = { .world = r->comm,
                  .c = &r->c,
                  .l = &r->layout,
                  .sched = &r->sched,
                  .input_dir = r->in,
                  .scratch = r->scratch,
                  .hints = r->opt->hints,
                  .cancel = r->opt->cancel,
                  .progress = r->opt->progress,
                  .user = r->opt->user };

    /* On network file systems close would flush anyway, and only a sync tells of lost bytes. */
    if (sw_job_is_root(r))
        sw_path_fs(r->out, &fs, st);
    w.sync = !r->opt->no_sync || fs.shared;
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, &w.sync, sizeof w.sync, 0, st))
        return st->code;
    staged = sw_path_join(r->out, SW_STAGING_NAME "/new", st);
    w.staged_dir = staged;
    if (!sw_agree(r->comm, st))
        sw_weld_files(&w, st);
    r->written = w.written;
    free(staged);
    return st->code;
}

/* A recovery may have completed a publication: if it is what this run asks for, all is done. Else what is there is an existing
 * checkpoint. */
static sw_code judge_output(sw_job *r, sw_status *st)
{
    r->done = r->recovered && r->recovered == r->fingerprint;
    r->result->recovered = r->done;
    if (!r->done && sw_job_is_root(r)) {
        sw_job_look_at_output(r, r->layout.index_name, st);
        if (r->nold && r->opt->dry_run && !r->opt->overwrite)
            sw_buf_add_line(&r->warnings, st, "%s holds a checkpoint already: --overwrite will be needed",
                            r->out);
    }
    return sw_agree(r->comm, st);
}

static sw_code steps(sw_job *r, sw_status *st)
{
    check_options(r, st);
    if (sw_agree(r->comm, st) || sw_job_open_output(r, st) || plan(r, st) || judge_output(r, st))
        return st->code;
    sw_job_check_same_dir(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    r->result->seconds_plan = sw_now() - r->started;
    tell_warnings(r);
    if (r->done || r->opt->dry_run)
        return SW_OK;
    if (sw_job_is_root(r))
        sw_job_prepare_output(r, st);
    if (sw_agree(r->comm, st) || write_files(r, st))
        return st->code;
    r->result->seconds_write = sw_now() - r->started - r->result->seconds_plan;
    if (sw_job_is_root(r))
        sw_job_publish(r, st);
    return sw_agree(r->comm, st);
}

/* ---- the end ------------------------------------------------------------------------------------ */

/* Sums and maxima over the ranks; of no consequence when it fails, so that the status stays. */
static void finish_result(sw_job *r)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t mine[2] = { r->written, 0 }, *all = sw_calloc((uint64_t)r->comm->size, sizeof mine, &st);
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) == 0)
        mine[1] = (uint64_t)usage.ru_maxrss * 1024;
    if (!sw_agree(r->comm, &st) && !sw_comm_allgather(r->comm, mine, sizeof mine, all, &st)) {
        for (int i = 0; i < r->comm->size; i++) {
            r->result->bytes_written += all[2 * i];
            r->result->peak_memory = sw_max(r->result->peak_memory, all[2 * i + 1]);
        }
    }
    free(all);
}

static void release(sw_job *r)
{
    sw_catalog_release(&r->c);
    sw_scan_release(&r->scan);
    sw_map_release(&r->map);
    sw_layout_release(&r->layout);
    sw_schedule_release(&r->sched);
    sw_buf_release(&r->warnings);
    sw_buf_release(&r->index);
    sw_names_free(r->old, r->nold);
    sw_names_free(r->keep, r->nkeep);
}

sw_code sw_consolidate(const sw_comm *comm, const char *input_dir, const char *output_dir,
                       const sw_options *opt, sw_result *result, sw_status *st)
{
    static const sw_options defaults = SW_OPTIONS_INIT;
    sw_result unwanted = { 0 };
    sw_job r = { .comm = comm, .in = input_dir, .out = output_dir, .opt = opt ? opt : &defaults };

    r.result = result ? result : &unwanted;
    *r.result = (sw_result){ 0 };
    sw_status_clear(st);
    r.started = sw_now();
    r.result->ranks = comm->size;
    steps(&r, st);
    if (sw_job_is_root(&r))
        sw_stage_close(r.stage, st);
    if (st->code != SW_ECOMM) {
        sw_agree(comm, st);
        finish_result(&r);
    }
    if (r.result->seconds_write > 0)
        r.result->seconds_publish = sw_now() - r.started - r.result->seconds_plan - r.result->seconds_write;
    tell_warnings(&r);
    release(&r);
    if (!result)
        sw_result_release(&unwanted);
    return st->code;
}

void sw_result_release(sw_result *result)
{
    for (uint64_t i = 0; i < result->nfiles; i++)
        free(result->files[i].name);
    free(result->files);
    free(result->index);
    *result = (sw_result){ 0 };
}
