/* Who fills which bytes in how much memory, and the writing of them; see job.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/num.h"
#include "base/path.h"
#include "par/copy.h"
#include "par/weld.h"

#define BLOCK (UINT64_C(1) << 20) /* of a local file system */
#define BUFFER_HELD (UINT64_C(8) << 20)

/* ---- the schedule ---------------------------------------------------------------------------- */

uint64_t sw_job_buffer(const sw_job *j, const sw_memory_rule *rule, const sw_memory_need *need)
{
    return j->opt->buffer_size ? j->opt->buffer_size : sw_memory_buffer(rule, j->output.told.shared, need);
}

bool sw_job_is_storm(const sw_job *j, const sw_catalog *c)
{
    const sw_memory_need need = { .nranks = (uint32_t)j->comm->size, .fuse = j->output.told.fuse };
    uint64_t buffer = sw_job_buffer(j, &sw_memory_of_weld, &need);
    sw_opens opens = { need.nranks, c->nfiles, j->input.nodes, 0, sw_opens_again(c, buffer) };

    for (uint32_t i = 0; i < c->nfiles; i++)
        opens.bytes += c->files[i].size;
    return j->comm->size > 1 && sw_comm_layer(j->comm) && sw_opens_storm(&opens);
}

/* One rank owns all. What another rank holds in memory nobody can read. */
bool sw_job_by_owner(const sw_job *j)
{
    uint64_t nranks = (uint64_t)j->comm->size;

    return nranks > 1 && sw_comm_layer(j->comm) &&
           (j->held || j->opt->node_local || j->opt->assign == SW_ASSIGN_OWNER ||
            (j->opt->assign == SW_ASSIGN_AUTO && sw_job_is_storm(j, &j->input.c)));
}

/* Is any output no plain copy? */
static bool converts(const sw_outputs *o)
{
    for (uint32_t i = 0; i < o->view.ntensors; i++)
        if (o->how[i].op != SW_OP_COPY)
            return true;
    return false;
}

/* Is there a thread that writes? A process that is alone would leave the other cores idle. */
static bool writes_behind(const sw_job *j)
{
    return sw_job_streams(j) || j->comm->size == 1;
}

sw_code sw_job_share_memory(const sw_job *j, const sw_memory_rule *rule, sw_memory *out, sw_status *st)
{
    sw_memory_need need = { .nranks = (uint32_t)j->comm->size,
                            .by_owner = sw_job_by_owner(j),
                            .converts = converts(&j->values.outputs),
                            .fuse = j->output.told.fuse,
                            .stream = rule == &sw_memory_of_weld && sw_job_streams(j),
                            .behind = rule == &sw_memory_of_weld && writes_behind(j) };

    need.buffer = sw_job_buffer(j, rule, &need);
    return sw_memory_share(rule, &need, out, st);
}

/* Boxes that several ranks hold, without MPI between them, go to their places in any order. */
static sw_code check_stream(const sw_job *j, sw_status *st)
{
    bool apart = j->by_orders || (j->comm->size > 1 && !sw_comm_layer(j->comm));

    if (!j->held || !apart || !sw_job_streams(j))
        return SW_OK;
    return sw_fail(
        st, SW_EUSAGE, j->out, NULL,
        "takes files only from front to back, and ranks without MPI between them write to the middle "
        "of whole tensors' files: save shards, or set sw_options.staging_dir");
}

/* Local. */
static sw_code make_schedule(sw_job *j, sw_status *st)
{
    const sw_job_told *told = &j->output.told;
    sw_job_work *w = &j->work;
    sw_result *res = j->result;
    sw_schedule_rule rule;
    sw_memory ignored;

    w->by_owner = sw_job_by_owner(j);
    if (check_stream(j, st))
        return st->code;
    if (sw_job_share_memory(j, &sw_memory_of_weld, &w->memory, st))
        return st->code;
    /* Would the buffer do for that, too? */
    if (j->opt->verify && sw_job_share_memory(j, &sw_memory_of_compare, &ignored, st))
        return st->code;
    rule = (sw_schedule_rule){ .nranks = (uint32_t)j->comm->size,
                               .band = w->memory.band,
                               .block = told->shared ? sw_max(BLOCK, told->block) : BLOCK,
                               .shared = w->by_owner,
                               .whole = sw_job_streams(j) };
    if (sw_schedule_build(&j->laid.layout, &rule, &w->sched, st))
        return st->code;
    res->buffer_size = w->memory.buffer;
    res->band_size = w->sched.band;
    res->assign = w->by_owner ? SW_ASSIGN_OWNER : SW_ASSIGN_BAND;
    for (uint32_t f = 0; f < j->laid.layout.nfiles; f++)
        res->rounds = sw_max(res->rounds, sw_schedule_rounds(&w->sched, &j->laid.layout, f));
    return SW_OK;
}

/* Every rank has come to the same plan, or something is very wrong. */
sw_code sw_job_schedule(sw_job *j, sw_status *st)
{
    uint64_t hash = 0;
    int other;

    if (j->files == SW_FILES_HELD) {
        j->result->buffer_size = j->opt->buffer_size ? j->opt->buffer_size : BUFFER_HELD;
        return st->code;
    }
    if (!st->code && !make_schedule(j, st))
        hash = sw_plan_hash(&j->values.outputs, &j->laid.layout, &j->work.sched);
    if (!sw_comm_compare(j->comm, hash, &other, st) && other)
        sw_fail(st, SW_EINTERNAL, NULL, NULL, "ranks 0 and %d have made different plans", other);
    return st->code;
}

/* ---- writing --------------------------------------------------------------------------------- */

bool sw_job_syncs(const sw_job *j)
{
    return !j->opt->staging_dir && (!j->opt->no_sync || j->output.told.shared);
}

sw_progress sw_job_progress(const sw_job *j)
{
    return sw_job_is_root(j)
               ? (sw_progress){ .fn = j->opt->progress, .phase = j->opt->phase, .user = j->opt->user }
               : (sw_progress){ .fn = NULL };
}

/* How files are written to where they are made. */
static sw_writing writing_of(const sw_job *j)
{
    return (sw_writing){ .dir = j->output.staged,
                         .sync = sw_job_syncs(j),
                         .drops = j->opt->drop_cache,
                         .stream = sw_job_streams(j),
                         .stripes = *sw_job_stripes(j),
                         .cancel = j->opt->cancel,
                         .progress = sw_job_progress(j) };
}

sw_work sw_job_work_of(const sw_job *j)
{
    return (sw_work){ .world = j->comm,
                      .o = &j->values.outputs,
                      .l = &j->laid.layout,
                      .sched = &j->work.sched,
                      .input_dir = j->in,
                      .held = j->held ? j->held->held : NULL,
                      .memory = j->work.memory,
                      .to = writing_of(j) };
}

/* Before the work where that can be known. */
static void tell_aggregation(sw_job *j, const sw_transport *how, sw_status *st)
{
    if (!how->aggregates[0])
        return;
    sw_buf_add_line(&j->warnings, st,
                    "%s asks MPI-IO to aggregate, which can lose data and hang on a full disk: each rank "
                    "writes its own part by pwrite instead",
                    how->aggregates);
    sw_job_tell_warnings(j);
}

/* Collective. What is put together in bands. A job of one rank has no use for MPI-IO. */
static sw_code weld(sw_job *j, sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    sw_weld w = { .work = sw_job_work_of(j), .proof = j->proven.on ? &j->proven.proof : NULL };
    bool known;

    w.work.behind = writes_behind(j);
    if (j->comm->size == 1)
        w.work.world = &alone;
    if (sw_transport_choose(w.work.world, j->opt->hints, &w.how, st))
        return st->code;
    tell_aggregation(j, &w.how, st);
    known = w.how.aggregates[0] != '\0';
    sw_weld_files(&w, st);
    if (!known)
        tell_aggregation(j, &w.how, st);
    j->written = w.written;
    snprintf(j->result->io, sizeof j->result->io, "%s", w.how.mpi ? w.how.io : "posix");
    snprintf(j->result->transport, sizeof j->result->transport, "%s", w.how.words);
    return st->code;
}

/* Each rank its own boxes. */
static sw_code write_held(sw_job *j, sw_status *st)
{
    const sw_shard_set *set = &j->laid.set;
    sw_scatter s = { .rounds = { .comm = j->comm, .to = writing_of(j) },
                     .held = j->held->held,
                     .buffer = j->result->buffer_size };

    s.rounds.to.progress.total = set->bytes;
    sw_shards_write(&set->own, &s, st);
    j->written = s.rounds.written;
    return st->code;
}

/* Files are made where rank 0 says. */
static sw_code learn_staged(sw_job *j, sw_status *st)
{
    sw_buf dir = SW_BUF_INIT;

    if (sw_job_is_root(j) && !st->code)
        sw_buf_add(&dir, j->output.staged, strlen(j->output.staged) + 1, st);
    sw_comm_bcast_buf(j->comm, &dir, 0, st);
    free(j->output.staged);
    j->output.staged = dir.data;
    return st->code;
}

sw_code sw_job_move(sw_job *j, sw_status *st)
{
    bool known = j->files == SW_FILES_WHOLE && !sw_job_streams(j) && !j->opt->staging_dir;

    if (!st->code)
        sw_job_prove_begin(j, st);
    if (known ? sw_agree(j->comm, st) : learn_staged(j, st))
        return st->code;
    return j->files == SW_FILES_HELD ? write_held(j, st) : weld(j, st);
}

/* ---- copying --------------------------------------------------------------------------------- */

sw_code sw_job_copy(sw_job *j, sw_status *st)
{
    sw_publication *files = NULL;
    char *from = j->output.staged;
    sw_copy c = { .world = j->comm,
                  .from = from,
                  .nfiles = j->result->nfiles,
                  .buffer = sw_min(j->result->buffer_size, sw_memory_of_weld.stream),
                  .to = writing_of(j) };

    if (!j->opt->staging_dir)
        return st->code;
    j->output.staged = NULL;
    c.to.sync = !j->opt->no_sync;
    c.to.stripes = j->output.told.stripes;
    /* As they are called here and there; of the model's other ones rank 0 takes care. */
    c.files = files = sw_calloc(c.nfiles, sizeof *files, st);
    for (uint64_t i = 0; files && i < c.nfiles; i++)
        files[i] = (sw_publication){ j->result->files[i].name, j->result->files[i].size };
    if (!st->code && sw_job_is_root(j))
        sw_job_begin_output(j, st);
    if (!learn_staged(j, st)) {
        c.to.dir = j->output.staged;
        sw_copy_files(&c, st);
    }
    free(files);
    free(from);
    return st->code;
}
