/* sw_reshard(): the input is found, and the bytes move, as in sw_consolidate(); the layout is one of shard files, published as a set. */
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "api/writer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "par/gather.h"
#include "par/shardset.h"
#include "plan/mappings.h"
#include "plan/shardlayout.h"

/* All that one call holds; born empty. */
typedef struct reshard {
    sw_job job;
    const sw_sharding *sharding;
    sw_shard_rules rules;
    sw_layout whole;  /* what a consolidated checkpoint would look like */
    uint8_t *dtypes;  /* of the outputs, which have others while that is decided; NULL = they have not */
    sw_shardset *set; /* rank 0 */
    /* rank 0: what is published, the lowest shard last; names are the job's */
    sw_publication *files;
    size_t nfiles;
    /* rank 0: what the mappings of .hf_metadata are to say; empty = what they say */
    sw_buf file_map, dtype_map;
} reshard;

/* ---- options -------------------------------------------------------------------------------------- */

static sw_code check_options(reshard *s, sw_status *st)
{
    const sw_options *o = s->job.opt;
    const char *refused = o->verify                            ? "verify"
                          : o->diffusers || o->diffusers_index ? "diffusers"
                          : o->assets                          ? "assets"
                          : o->dtype_map_text                  ? "dtype_map_text"
                                                               : NULL;

    if (!s->job.in || !s->job.out)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no %s directory is given", s->job.in ? "output" : "input");
    if (refused)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%s does not go with shard files", refused);
    if (sw_job_check_options(&s->job, st))
        return st->code;
    return sw_shard_rules_parse(s->sharding->mesh, s->sharding->placements, s->sharding->rules, &s->rules,
                                st);
}

/* Collective. Node-local ranks may have INPUT_DIRs of their own; all else must be the same. */
static sw_code compare_calls(const reshard *s, sw_status *st)
{
    const char *const words[] = { s->sharding->mesh, s->sharding->placements };
    const char *const *rules = s->sharding->rules;
    uint64_t h = sw_call_hash("sw_reshard", s->job.out, s->job.opt);

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        h = words[i] ? sw_hash(h, words[i], strlen(words[i]) + 1) : sw_hash_word(h, 0);
    for (; rules && *rules; rules++)
        h = sw_hash(h, *rules, strlen(*rules) + 1);
    return sw_call_compare(s->job.comm, h, st);
}

/* Is anything asked for that gives tensors other files, so that the numbers of .hf_metadata are wrong? */
static bool changes_layout(const sw_options *o)
{
    return o->fqn_map || o->fqn_map_text || o->like || o->max_shard_size || o->single_file;
}

/* Is anything asked for that makes the mappings of .hf_metadata wrong? */
static bool changes_mappings(const sw_job *r)
{
    const sw_options *o = r->opt;

    return changes_layout(o) || (o->include && *o->include) || (o->exclude && *o->exclude) ||
           o->nname_rules || !r->as_saved || o->dequantize;
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------------- */

/* Rank 0. The input must be there before an OUTPUT_DIR is made; its own files are never replaced. */
static sw_code check_dirs(const sw_job *r, sw_status *st)
{
    sw_path_kind in_kind, out_kind;
    struct stat in, out;

    if (sw_path_stat(r->in, &in_kind, &in, st))
        return st->code;
    if (in_kind != SW_PATH_DIR)
        return sw_fail(st, SW_EINPUT, r->in, NULL, "%s",
                       in_kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
    if (sw_path_stat(r->out, &out_kind, &out, st))
        return st->code;
    if (out_kind == SW_PATH_DIR && sw_path_same(&in, &out))
        return sw_fail(st, SW_EUSAGE, r->out, NULL,
                       "is INPUT_DIR: a checkpoint cannot be sharded anew in its own directory");
    return SW_OK;
}

/* Rank 0. Shard files that are there may not be replaced, unless they turn out to be what this run asks for. */
static sw_code look_at_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (r->nold == 0 || r->opt->overwrite)
        return SW_OK;
    if (r->opt->dry_run)
        return sw_buf_add_line(&r->warnings, st, "%s holds shard files already: --overwrite will be needed",
                               r->out);
    return sw_fail(st, SW_EUSAGE, r->out, NULL, "holds shard files already (%s); --overwrite replaces them",
                   r->old[0]);
}

/* Rank 0. */
static sw_code open_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (check_dirs(r, st) ||
        (!r->opt->dry_run && sw_shardset_open(r->out, !r->opt->no_sync, &s->set, &r->recovered, st)) ||
        sw_shardset_existing(r->out, &r->old, &r->nold, st) ||
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

/* ---- side files ------------------------------------------------------------------------------------- */

static size_t find_asset(const sw_assets *a, const char *name)
{
    size_t i = 0;

    while (i < a->n && strcmp(a->items[i].name, name) != 0)
        i++;
    return i;
}

static void drop_asset(sw_assets *a, size_t i)
{
    free(a->items[i].name);
    free(a->items[i].source);
    memmove(&a->items[i], &a->items[i + 1], (--a->n - i) * sizeof *a->items);
}

/* Mappings that cannot stay as they are: file_map and dtype_map. */
static sw_code make_mappings(reshard *s, sw_status *st)
{
    const sw_job *r = &s->job;
    const sw_buf *files = &r->scan.file_map.text, *dtypes = &r->scan.dtype_map.text;
    sw_map was = SW_MAP_INIT;

    if (r->scan.file_map.there && !sw_map_parse_numbers(files->data, files->len, SW_FILE_MAP_NAME, &was, st))
        sw_mapping_of_files(&r->outputs, &s->whole, &was, !changes_layout(r->opt), &s->file_map, st);
    sw_map_release(&was);
    if (!st->code && r->scan.dtype_map.there &&
        !sw_map_parse_texts(dtypes->data, dtypes->len, SW_DTYPE_MAP_NAME, &was, st))
        sw_mapping_of_dtypes(&r->outputs, &was, !r->as_saved, &s->dtype_map, st);
    sw_map_release(&was);
    return st->code;
}

/* What a side file is to hold instead of what it holds; NULL = it is copied. */
static const sw_buf *new_text(const reshard *s, const char *name)
{
    const sw_buf *text = strcmp(name, SW_FILE_MAP_NAME) == 0    ? &s->file_map
                         : strcmp(name, SW_DTYPE_MAP_NAME) == 0 ? &s->dtype_map
                                                                : NULL;

    return text && text->len ? text : NULL;
}

/* How a mapping stands in OUTPUT_DIR. */
typedef struct stale {
    bool there;
    bool own;   /* it is the input's own file */
    bool loose; /* a file in a directory of OUTPUT_DIR's own, so that nobody else misses it */
} stale;

static sw_code look_at_stale(const sw_job *r, const char *name, stale *out, sw_status *st)
{
    char *path = sw_path_join(r->out, name, st), *input = sw_path_join(r->in, name, st),
         *dir = path ? sw_path_dir(path, st) : NULL;
    sw_path_kind kind = SW_PATH_MISSING, of_dir = SW_PATH_MISSING, of_input = SW_PATH_MISSING;
    struct stat a, b;

    *out = (stale){ false };
    if (st->code || sw_path_lstat(path, &kind, &a, st) || sw_path_lstat(dir, &of_dir, NULL, st) ||
        sw_path_stat(input, &of_input, &b, st))
        goto out;
    out->there = kind != SW_PATH_MISSING;
    out->own = kind == SW_PATH_FILE && of_input == SW_PATH_FILE && sw_path_same(&a, &b);
    out->loose = kind == SW_PATH_FILE && of_dir == SW_PATH_DIR && !out->own;
out:
    free(dir);
    free(input);
    free(path);
    return st->code;
}

/* A mapping that OUTPUT_DIR has, and that is not replaced, speaks of other shards: it goes with those. */
static sw_code remove_stale(sw_job *r, const char *name, bool changed, sw_status *st)
{
    size_t cap = r->nold;
    stale s;

    if (find_asset(&r->assets, name) < r->assets.n || look_at_stale(r, name, &s, st) || !s.there ||
        (s.own && !changed))
        return st->code;
    if (r->nold == 0 || !s.loose)
        return sw_buf_add_line(&r->warnings, st,
                               "%s stays in the output directory, and does not speak of these shards", name);
    if (!sw_grow(&r->old, &cap, r->nold + 1, sizeof *r->old, st) && (r->old[r->nold] = sw_strdup(name, st)))
        r->nold++;
    return st->code;
}

/* What comes along, and with which mappings. */
static sw_code choose_assets(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;
    size_t map;

    if (sw_assets_list_beside(r->in, r->out, &r->warnings, &r->assets, st) || !changes_mappings(r) ||
        make_mappings(s, st))
        return st->code;
    map = find_asset(&r->assets, SW_FILE_MAP_NAME);
    if (map < r->assets.n && s->file_map.len == 0)
        drop_asset(&r->assets, map);
    return SW_OK;
}

/* Rank 0. */
static sw_code list_assets(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (!r->opt->no_assets && choose_assets(s, st))
        return st->code;
    if (!remove_stale(r, SW_FILE_MAP_NAME, changes_mappings(r), st))
        remove_stale(r, SW_DTYPE_MAP_NAME, changes_mappings(r), st);
    return st->code;
}

/* ---- the plan --------------------------------------------------------------------------------------- */

/* Collective. */
static sw_code find_input(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    if (sw_scan_dir(r->comm, r->in, r->opt->node_local, &r->c, &r->scan, NULL, st) || sw_job_list_keep(r, st))
        return st->code;
    sw_check_expected(&r->c, r->opt->expect_shards, &r->warnings, NULL, st);
    if (sw_agree(r->comm, st))
        return st->code;
    return sw_gather_catalog(r->comm, r->in, r->opt->cancel, &r->c, &r->result->seconds_parse, NULL, st);
}

/* Models that are split by size are as large as they will be when they are welded: with the dtypes that .hf_metadata names. */
static sw_code expect_dtypes(reshard *s, sw_status *st)
{
    sw_outputs *o = &s->job.outputs;
    const sw_buf *text = &s->job.scan.dtype_map.text;
    sw_map map = SW_MAP_INIT;

    if (!s->job.as_saved || !s->job.scan.dtype_map.there ||
        !(s->dtypes = sw_calloc(o->view.ntensors, sizeof *s->dtypes, st)) ||
        sw_map_parse_texts(text->data, text->len, SW_DTYPE_MAP_NAME, &map, st))
        return st->code;
    for (uint32_t i = 0; i < o->view.ntensors; i++) {
        sw_tensor *t = &o->view.tensors[i];
        const sw_map_item *item = sw_map_find(&map, o->c->tensors[o->how[i].source].name);
        sw_dtype said;

        s->dtypes[i] = t->out_dtype;
        if (item && o->how[i].op == SW_OP_COPY && sw_dtype_is_floating((sw_dtype)t->out_dtype) &&
            sw_dtype_parse_any(item->text, strlen(item->text), &said) && sw_dtype_is_floating(said))
            t->out_dtype = (uint8_t)said;
    }
    sw_map_release(&map);
    return st->code;
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

/* Rank 0. A recovery may have completed a publication: if it is what this run asks for, all is done. Else what is there is an existing
 * checkpoint. */
static sw_code judge_output(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    r->fingerprint = sw_job_fingerprint(r, st);
    r->fingerprint = sw_hash(r->fingerprint, s->file_map.data, s->file_map.len);
    r->fingerprint = sw_hash(r->fingerprint, s->dtype_map.data, s->dtype_map.len) | 1;
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
    if (sw_job_is_root(r) && !list_assets(s, st))
        judge_output(s, st);
    if (sw_agree(r->comm, st) || sw_comm_bcast(r->comm, &r->done, sizeof r->done, 0, st))
        return st->code;
    r->result->recovered = r->done;
    return sw_job_fill_result(r, st);
}

static sw_code stage_asset(reshard *s, sw_asset *a, const sw_config_rule *rule, sw_status *st)
{
    sw_job *r = &s->job;
    char *path = sw_path_join(sw_shardset_dir(s->set), a->name, st);
    const sw_buf *text = new_text(s, a->name);

    if (!path || sw_check_cancel(r->opt->cancel, st) || sw_path_mkdirs_for(path, st))
        goto out;
    if (text) {
        a->size = text->len;
        sw_path_write(path, text->data, text->len, !r->opt->no_sync, st);
    } else {
        sw_asset_stage(a, path, rule, r->result->band_size, !r->opt->no_sync, &r->warnings, st);
    }
out:
    free(path);
    return st->code;
}

/* Rank 0. */
static sw_code stage_assets(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;
    sw_config_rule rule;

    if (sw_job_config_rule(r, &rule, st))
        return st->code;
    for (size_t i = 0; i < r->assets.n && !st->code; i++)
        stage_asset(s, &r->assets.items[i], rule.dtype == SW_NDTYPES ? NULL : &rule, st);
    return st->code;
}

/* ---- publishing ------------------------------------------------------------------------------------- */

static sw_code check_space(const reshard *s, sw_status *st)
{
    uint64_t need = 0;

    for (size_t i = 0; i < s->nfiles; i++)
        if (!sw_add(need, s->files[i].size, &need))
            need = UINT64_MAX;
    return sw_path_check_space(sw_shardset_dir(s->set), s->job.out, need, st);
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
        sw_publication_check(r->out, s->files, s->nfiles, r->old, r->nold, st) || stage_assets(s, st))
        return st->code;
    return list_publications(s, st); /* sizes of what was edited */
}

/* Collective. */
static sw_code write_files(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;
    sw_buf dir = SW_BUF_INIT;

    if (sw_job_is_root(r))
        sw_buf_add(&dir, sw_shardset_dir(s->set), strlen(sw_shardset_dir(s->set)) + 1, st);
    if (!sw_agree(r->comm, st) && !sw_comm_bcast_buf(r->comm, &dir, 0, st))
        sw_job_write_files(r, dir.data, st);
    sw_buf_release(&dir);
    return st->code;
}

static sw_code steps(reshard *s, sw_status *st)
{
    sw_job *r = &s->job;

    check_options(s, st);
    if (!st->code && sw_job_is_root(r))
        open_output(s, st);
    if (sw_agree(r->comm, st) || plan(s, st))
        return st->code;
    r->result->seconds_plan = sw_now() - r->started;
    sw_job_tell_warnings(r);
    if (r->done || r->opt->dry_run)
        return SW_OK;
    if (sw_job_is_root(r))
        prepare_output(s, st);
    if (sw_agree(r->comm, st) || write_files(s, st))
        return st->code;
    r->result->seconds_write = sw_now() - r->started - r->result->seconds_plan;
    if (sw_job_is_root(r) && !sw_check_cancel(r->opt->cancel, st))
        sw_shardset_publish(s->set, s->files, s->nfiles, r->old, r->nold, r->fingerprint, st);
    return sw_agree(r->comm, st);
}

/* Collective. Ranks that came with different calls have nothing to do together. */
static void run(reshard *s, sw_status *st)
{
    if (compare_calls(s, st))
        return;
    steps(s, st);
    if (sw_job_is_root(&s->job))
        sw_shardset_close(s->set, st);
    sw_job_end(&s->job, st);
}

sw_code sw_reshard(const sw_comm *comm, const char *input_dir, const char *output_dir,
                   const sw_sharding *sharding, const sw_options *opt, sw_result *result, sw_status *st)
{
    static const sw_options defaults = SW_OPTIONS_INIT;
    static const sw_sharding none = { NULL, NULL, NULL };
    sw_result unwanted = { 0 };
    reshard s = { .sharding = sharding ? sharding : &none };
    sw_job *r = &s.job;

    *r = (sw_job){ .comm = comm, .in = input_dir, .out = output_dir, .opt = opt ? opt : &defaults };
    sw_job_begin(r, result ? result : &unwanted, st);
    /* What .hf_metadata says of dtypes is for whoever welds the new shards. */
    r->as_saved = !r->opt->cast_dtype || strcmp(r->opt->cast_dtype, "none") == 0;
    run(&s, st);
    sw_layout_release(&s.whole);
    sw_shard_rules_release(&s.rules);
    sw_buf_release(&s.file_map);
    sw_buf_release(&s.dtype_map);
    free(s.dtypes);
    free(s.files);
    if (!result)
        sw_result_release(&unwanted);
    return st->code;
}
