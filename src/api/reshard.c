/* sw_reshard(): the input is found, and the bytes move, as in sw_consolidate(); the layout is one
 * of shard files, published as a set. */
#include <stdlib.h>
#include <string.h>

#include "api/beside.h"
#include "api/call.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/existing.h"
#include "dir/place.h"
#include "par/gather.h"
#include "par/samedir.h"
#include "plan/layout_cut.h"

/* All that one call holds; born empty. */
typedef struct reshard {
    sw_job job;
    const sw_sharding *sharding;
    sw_shard_rules rules;
    sw_layout whole; /* what a consolidated checkpoint would look like */
    /* of the outputs, which have others while that is decided; NULL = they have not */
    uint8_t *dtypes;
    sw_place *set; /* rank 0 */
    /* rank 0: what is published, the lowest shard last; names are the job's */
    sw_publication *files;
    size_t nfiles;
    sw_beside beside;
} reshard;

/* ---- options --------------------------------------------------------------------------------- */

/* Collective. Node-local ranks may have INPUT_DIRs of their own; all else must be the same. */
static sw_code compare_calls(const reshard *s, const sw_given *g, sw_status *st)
{
    const char *const words[] = { s->sharding->mesh, s->sharding->placements };
    const char *const *rules = s->sharding->rules;
    uint64_t h = 0;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = words[i] ? sw_hash(h, words[i], strlen(words[i]) + 1) : sw_hash_word(h, 0);
    for (; rules && *rules; rules++)
        h = sw_hash(h, *rules, strlen(*rules) + 1);
    return sw_call_begin(s->job.comm, g, h, st);
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------ */

/* Rank 0. The input must be there before an OUTPUT_DIR is made; its own files are never
 * replaced. */
static sw_code check_dirs(const sw_job *r, sw_status *st)
{
    sw_path_kind in_kind, out_kind;
    struct stat in, out;

    if (sw_path_stat(r->in, &in_kind, &in, st) || sw_job_check_input(r, in_kind, st) ||
        sw_path_stat(r->out, &out_kind, &out, st))
        return st->code;
    if (out_kind == SW_PATH_DIR && sw_path_same(&in, &out))
        return sw_fail(st, SW_EUSAGE, r->out, NULL,
                       "is INPUT_DIR: a checkpoint cannot be sharded anew in its own directory");
    return SW_OK;
}

/* Rank 0. Shard files that are there may not be replaced, unless they turn out to be what this run
 * asks for. */
static sw_code look_at_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (r->nold == 0 || r->opt->overwrite)
        return SW_OK;
    if (r->opt->dry_run)
        return sw_buf_add_line(&r->warnings, st, "%s holds shard files already: --overwrite will be needed",
                               r->out);
    return sw_fail(
        st, SW_EUSAGE, r->out, NULL,
        "holds shard files already (%s); --overwrite replaces them, unless INPUT_DIR and OUTPUT_DIR were "
        "swapped",
        r->old[0]);
}

/* Rank 0. */
static sw_code open_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;
    const sw_place_rule rule = { r->out, true, !r->opt->no_sync, r->opt->cancel };

    if (check_dirs(r, st) || (!r->opt->dry_run && sw_place_open(&rule, &s->set, &r->recovered, st)) ||
        sw_existing_shards(r->out, &r->old, &r->nold, st) ||
        sw_warn_of_consolidated(r->out, &r->warnings, st))
        return st->code;
    return r->recovered ? SW_OK : look_at_output(s, st);
}

/* Rank 0. Shard files that are replaced may be the input's own, under whatever name. */
static sw_code check_old(const sw_job *r, sw_status *st)
{
    bool is = false;

    for (size_t i = 0; i < r->nold; i++) {
        if (sw_job_is_input(r, r->old[i], &is, st))
            return st->code;
        if (is)
            return sw_fail(st, SW_EUSAGE, r->old[i], NULL,
                           "is a file of the input, which must not be replaced");
    }
    return SW_OK;
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Collective. */
static sw_code find_input(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (sw_scan_dir(r->comm, &(sw_where){ r->in, r->opt->node_local }, &r->c, &r->scan, NULL, st) ||
        sw_job_list_keep(r, st))
        return st->code;
    return sw_job_read_headers(r, &r->result->seconds_parse, st);
}

/* Models that are split by size are as large as they will be when they are welded: with the dtypes
 * that .hf_metadata names. */
static sw_code expect_dtypes(reshard *s, sw_status *st)
{
    sw_outputs *o = &s->job.outputs;
    const sw_map *map = &s->job.scan.dtype_map;

    if (!s->job.as_saved || !s->job.scan.has_dtype_map ||
        !(s->dtypes = sw_calloc(o->view.ntensors, sizeof *s->dtypes, st)))
        return st->code;
    for (uint32_t i = 0; i < o->view.ntensors; i++) {
        sw_tensor *t = &o->view.tensors[i];
        const sw_map_item *item = sw_map_find(map, o->c->tensors[o->how[i].source].name);
        sw_dtype said;

        s->dtypes[i] = t->out_dtype;
        if (item && o->how[i].op == SW_OP_COPY && sw_dtype_is_floating((sw_dtype)t->out_dtype) &&
            sw_dtype_parse_any(item->text, strlen(item->text), &said) && sw_dtype_is_floating(said))
            t->out_dtype = (uint8_t)said;
    }
    return SW_OK;
}

/* The outputs are what they are again. */
static void forget_dtypes(reshard *s)
{
    sw_catalog *view = &s->job.outputs.view;

    if (!s->dtypes)
        return;
    s->whole.bytes = 0;
    for (uint32_t i = 0; i < view->ntensors; i++) {
        view->tensors[i].out_dtype = s->dtypes[i];
        if (!sw_add(s->whole.bytes, view->tensors[i].bytes, &s->whole.bytes))
            s->whole.bytes = UINT64_MAX;
    }
}

/* Collective. Models as sw_consolidate() would lay them out, each cut into shards. */
static sw_code lay_out(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    sw_job_lay_out(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    s->whole = r->layout;
    r->layout = (sw_layout){ 0 };
    forget_dtypes(s);
    sw_shard_layout_build(&r->outputs, &s->whole, &s->rules, &r->warnings, &r->layout, st);
    return sw_agree(r->comm, st);
}

/* Rank 0. A recovery may have completed a publication: if it is what this run asks for, all is
 * done. Else what is there is an existing checkpoint. */
static sw_code judge_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    r->fingerprint = sw_job_fingerprint(r, st);
    r->fingerprint = sw_hash(r->fingerprint, s->beside.file_map.data, s->beside.file_map.len);
    r->fingerprint = sw_hash(r->fingerprint, s->beside.dtype_map.data, s->beside.dtype_map.len) | 1;
    r->done = r->recovered == r->fingerprint;
    return r->done || !r->recovered ? SW_OK : look_at_output(s, st);
}

/* Collective. */
static sw_code plan(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (find_input(s, st))
        return st->code;
    if (!sw_job_decide(r, st))
        expect_dtypes(s, st);
    if (sw_agree(r->comm, st) || lay_out(s, st))
        return st->code;
    if (sw_job_schedule(r, st))
        return st->code;
    if (sw_job_is_root(r) && !sw_beside_list(&s->beside, st))
        judge_output(s, st);
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, &r->done, sizeof r->done, 0, st))
        return st->code;
    r->result->recovered = r->done;
    return sw_job_fill_result(r, st);
}

/* ---- publishing ------------------------------------------------------------------------------ */

static sw_code check_space(const reshard *s, sw_status *st)
{
    uint64_t need = 0;

    for (size_t i = 0; i < s->nfiles; i++)
        if (!sw_add(need, s->files[i].size, &need))
            need = UINT64_MAX;
    return sw_path_check_space(sw_place_fresh(s->set)->path, s->job.out, need, st);
}

/* Side files, then the shards from the highest number down. */
static sw_code list_publications(reshard *s, sw_status *st)
{
    const sw_job *r = &s->job;

    free(s->files);
    s->nfiles = 0;
    s->files = sw_calloc((uint64_t)r->assets.n + r->layout.nfiles, sizeof *s->files, st);
    for (size_t i = 0; s->files && i < r->assets.n; i++)
        s->files[s->nfiles++] = (sw_publication){ r->assets.items[i].name, r->assets.items[i].size };
    for (uint32_t f = r->layout.nfiles; s->files && f-- > 0;)
        s->files[s->nfiles++] = (sw_publication){ r->layout.files[f].name, r->layout.files[f].size };
    return st->code;
}

/* Rank 0. All that can be known to fail fails now. */
static sw_code prepare_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (r->layout.nfiles == 0)
        return sw_fail(st, SW_EUSAGE, r->in, NULL, "there are no tensors to shard");
    if (list_publications(s, st) || check_space(s, st) || check_old(r, st) ||
        sw_job_add_replaced_assets(r, st) ||
        sw_change_check(r->out, &(sw_change){ s->files, s->nfiles, r->old, r->nold, 0 }, st) ||
        sw_beside_stage(&s->beside, s->set, st))
        return st->code;
    return list_publications(s, st); /* sizes of what was edited */
}

/* Collective. */
static sw_code write_files(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;
    sw_buf dir = SW_BUF_INIT;

    if (sw_job_is_root(r))
        sw_buf_add(&dir, sw_place_fresh(s->set)->path, strlen(sw_place_fresh(s->set)->path) + 1, st);
    if (!sw_comm_bcast_buf(r->comm, &dir, 0, st))
        sw_job_write_files(r, dir.data, st);
    sw_buf_release(&dir);
    return st->code;
}

static sw_code steps(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    sw_shard_rules_parse(s->sharding->mesh, s->sharding->placements, s->sharding->rules, &s->rules, st);
    if (!st->code && sw_job_is_root(r))
        open_output(s, st);
    if (sw_check_same_dir(r->comm, s->set ? sw_place_fresh(s->set)->path : NULL, r->out, NULL, 0, st) ||
        plan(s, st))
        return st->code;
    sw_job_tell_plan(r);
    if (r->done || r->opt->dry_run)
        return SW_OK;
    if (sw_job_is_root(r))
        prepare_output(s, st);
    if (sw_agree(r->comm, st) || write_files(s, st))
        return st->code;
    r->result->seconds_write = sw_now() - r->started - r->result->seconds_plan;
    if (sw_job_is_root(r) && !sw_check_cancel(r->opt->cancel, st))
        sw_place_publish(s->set, &(sw_change){ s->files, s->nfiles, r->old, r->nold, r->fingerprint }, st);
    return sw_agree(r->comm, st);
}

/* Collective. Ranks that came with different calls have nothing to do together. */
static void run(reshard *s, const sw_given *g, sw_status *st)
{
    if (compare_calls(s, g, st))
        return;
    steps(s, st);
    if (sw_job_is_root(&s->job))
        sw_place_close(s->set, &s->job.result->staging, st);
    sw_tell_staging(s->job.opt, s->job.result);
    sw_job_end(&s->job, st);
}

sw_code sw_reshard(const sw_comm *comm, const char *input_dir, const char *output_dir,
                   const sw_sharding *sharding, const sw_options *opt, sw_result *result, sw_status *st)
{
    static const sw_sharding none = { NULL, NULL, NULL };
    sw_result unwanted = { 0 };
    reshard s = { .sharding = sharding ? sharding : &none };
    sw_job *r = &s.job;
    sw_given g;

    sw_given_take(&g, SW_CALL_RESHARD, comm, input_dir, output_dir, opt);
    *r = (sw_job){ .comm = comm, .in = g.in, .out = g.out, .opt = &g.opt };
    s.beside = (sw_beside){ .job = r, .whole = &s.whole };
    sw_job_begin(r, result ? result : &unwanted, st);
    /* What .hf_metadata says of dtypes is for whoever welds the new shards. */
    r->as_saved = !r->opt->cast_dtype || strcmp(r->opt->cast_dtype, "none") == 0;
    run(&s, &g, st);
    sw_given_release(&g);
    sw_layout_release(&s.whole);
    sw_shard_rules_release(&s.rules);
    sw_beside_release(&s.beside);
    free(s.dtypes);
    free(s.files);
    if (!result)
        sw_result_release(&unwanted);
    return st->code;
}
