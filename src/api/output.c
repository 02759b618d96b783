/* OUTPUT_DIR: taken, looked at, judged, prepared and published, by rank 0; see job.h. What is the
 * input's is never lost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/existing.h"
#include "format/manifest.h"
#include "par/samedir.h"
#include "plan/outmaps.h"

/* ---- what belongs to the input --------------------------------------------------------------- */

/* What is the input's as seen from OUTPUT_DIR: "" when they are one, its name when it lies inside,
 * NULL elsewhere. */
static sw_code as_seen_from_output(const sw_job *j, const char *path, char **name, sw_status *st)
{
    char *out = realpath(j->out, NULL);
    int out_errno = errno;
    char *in = realpath(path, NULL);
    size_t n = out ? strlen(out) : 0;

    *name = NULL;
    /* Without knowing where they lie, the input cannot be protected; a dry run's OUTPUT_DIR need
     * not be there. */
    if (!in)
        sw_fail_errno(st, path, errno, "cannot resolve");
    else if (!out && out_errno != ENOENT)
        sw_fail_errno(st, j->out, out_errno, "cannot resolve");
    if (in && out && strncmp(in, out, n) == 0 && (in[n] == '/' || in[n] == '\0' || strcmp(out, "/") == 0))
        *name = sw_strdup(in + n + (in[n] == '/'), st);
    free(in);
    free(out);
    return st->code;
}

/* Files that lie anywhere, as a list of boxes names them. */
static sw_code list_anywhere(const sw_job *j, sw_buf *names, sw_status *st)
{
    for (uint32_t i = 0; i < j->input.c.nfiles && !st->code; i++) {
        char *path = sw_path_named(j->in, sw_file_name(&j->input.c.files[i]), st), *name = NULL;

        if (path && !as_seen_from_output(j, path, &name, st) && name)
            sw_buf_add(names, name, strlen(name) + 1, st);
        free(name);
        free(path);
    }
    return st->code;
}

/* What of OUTPUT_DIR belongs to this rank's input, as names with NULs: all below INPUT_DIR where
 * that lies inside, the files where it is the same. */
static sw_code list_own_keep(const sw_job *j, sw_buf *names, sw_status *st)
{
    char *in = NULL;

    if (j->opt->boxes_anywhere && list_anywhere(j, names, st))
        return st->code;
    if (as_seen_from_output(j, j->in, &in, st) || !in)
        return st->code;
    if (*in && !sw_buf_addf(names, st, "%s/", in))
        sw_buf_add(names, "", 1, st);
    for (uint32_t i = 0; !*in && i < j->input.c.nfiles && !st->code; i++) {
        const char *name = sw_file_name(&j->input.c.files[i]);

        sw_buf_add(names, name, strlen(name) + 1, st);
    }
    free(in);
    return st->code;
}

/* Collective where ranks are node-local: each rank's INPUT_DIR may lie in OUTPUT_DIR. Else it is
 * rank 0's own matter. */
static sw_code list_keep(sw_job *j, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (!j->in || (!sw_job_is_root(j) && !j->opt->node_local))
        return st->code;
    list_own_keep(j, &mine, st);
    if (j->opt->node_local) {
        sw_comm_gather(j->comm, &mine, &all, st);
    } else {
        all = mine;
        mine = (sw_buf)SW_BUF_INIT;
    }
    for (size_t at = 0; at < all.len && !st->code; at += strlen(all.data + at) + 1)
        sw_dir_add(&j->output.keep, all.data + at, st);
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

/* Is the file of this name in OUTPUT_DIR one of the input's, by whatever way it got there? A link
 * to one is not: it may go. Files of another rank's own INPUT_DIR are numbered by another machine:
 * these are known by their names. */
static sw_code is_input(const sw_job *j, const char *name, bool *is, sw_status *st)
{
    char *path = sw_path_join(j->out, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (path)
        sw_path_lstat(path, &kind, &s, st);
    free(path);
    *is = sw_name_is_kept(&j->output.keep, name);
    for (uint32_t i = 0; kind == SW_PATH_FILE && i < j->input.c.nfiles && !*is; i++)
        *is = (!j->opt->node_local || j->input.c.files[i].owner == 0) &&
              j->input.c.files[i].dev == (uint64_t)s.st_dev && j->input.c.files[i].ino == (uint64_t)s.st_ino;
    return st->code;
}

/* Files of the input are no part of what is replaced. */
static sw_code spare_inputs(sw_job *j, sw_status *st)
{
    sw_dir *old = &j->output.old;
    size_t n = 0;
    bool is = false;

    for (size_t i = 0; i < old->n; i++) {
        if (!st->code)
            is_input(j, old->names[i], &is, st);
        if (!st->code && is)
            free(old->names[i]);
        else
            old->names[n++] = old->names[i];
    }
    old->n = n;
    return st->code;
}

/* ---- what is there --------------------------------------------------------------------------- */

/* A consolidated checkpoint beside shards stays: which of the two a loader takes differs. */
static sw_code warn_of_consolidated(sw_job *j, sw_status *st)
{
    sw_dir whole;

    if (!sw_existing_checkpoint(j->out, NULL, NULL, &whole, st) && whole.n > 0)
        sw_buf_add_line(&j->warnings, st,
                        "%s: %s is there too, and stays as it is: some programs that load the directory will "
                        "take that checkpoint, others the shards",
                        j->out, whole.names[whole.n - 1]);
    sw_dir_release(&whole);
    return st->code;
}

/* May what is there be replaced? */
static sw_code may_replace(sw_job *j, sw_status *st)
{
    const sw_job_output *o = &j->output;
    bool whole = j->files == SW_FILES_WHOLE;

    if (o->old.n == 0 || j->opt->overwrite)
        return SW_OK;
    if (j->opt->dry_run)
        return sw_buf_add_line(&j->warnings, st, "%s holds %s already: sw_options.overwrite will be needed",
                               j->out, whole ? "a checkpoint" : "shard files");
    if (whole && o->told.same_dir && !j->input.found.by_shards)
        return sw_fail(st, SW_EUSAGE, j->out, NULL,
                       "is INPUT_DIR, and holds a consolidated checkpoint (%s): choose another OUTPUT_DIR",
                       o->old.names[0]);
    return sw_fail(st, SW_EUSAGE, j->out, NULL, "holds %s already (%s); sw_options.overwrite replaces %s%s",
                   whole ? "a checkpoint" : "shard files", o->old.names[0], whole ? "it" : "them",
                   j->files == SW_FILES_CUT ? ", unless INPUT_DIR and OUTPUT_DIR were swapped" : "");
}

/* Rank 0. The consolidated checkpoint. Looked for before the work, and again when the name of the
 * index is known, which may be one of its own. */
static sw_code look_for_whole(sw_job *j, const char *index, sw_status *st)
{
    sw_job_output *o = &j->output;
    sw_path_kind kind;

    sw_dir_release(&o->old);
    if (sw_path_stat(j->out, &kind, NULL, st) || kind != SW_PATH_DIR ||
        sw_existing_checkpoint(j->out, index, &o->keep, &o->old, st))
        return st->code;
    return spare_inputs(j, st);
}

sw_code sw_job_look(sw_job *j, sw_status *st)
{
    list_keep(j, st);
    /* An existing output is refused before the work, unless it may turn out to be what this run
     * asks for; of a dry run that is told once. */
    if (st->code || j->files != SW_FILES_WHOLE || !sw_job_is_root(j) || j->output.told.recovered ||
        look_for_whole(j, NULL, st) || j->opt->dry_run || j->opt->if_needed)
        return st->code;
    return may_replace(j, st);
}

/* ---- taking it ------------------------------------------------------------------------------- */

/* INPUT_DIR must be a directory. */
static sw_code check_input(const sw_job *j, sw_path_kind kind, sw_status *st)
{
    if (kind == SW_PATH_DIR)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, j->in, NULL, "%s",
                   kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
}

/* Is INPUT_DIR, which is there, also OUTPUT_DIR? */
static sw_code compare_dirs(sw_job *j, const struct stat *in, sw_status *st)
{
    sw_path_kind kind;
    struct stat out;

    if (!sw_path_stat(j->out, &kind, &out, st))
        j->output.told.same_dir = kind == SW_PATH_DIR && sw_path_same(in, &out);
    if (j->output.told.same_dir && j->files == SW_FILES_CUT)
        sw_fail(st, SW_EUSAGE, j->out, NULL,
                "is INPUT_DIR: a checkpoint cannot be sharded anew in its own directory");
    return st->code;
}

/* Rank 0. Take the directory; what a dead run left is recovered before anything else is looked at.
 * Otherwise an INPUT_DIR that is not there must not become an OUTPUT_DIR. */
static sw_code take_output(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;
    const sw_place_rule rule = { .dir = j->out,
                                 .whole = j->files != SW_FILES_WHOLE,
                                 .sync = !j->opt->no_sync,
                                 .store = j->opt->store,
                                 .by_copies = j->opt->staging_dir != NULL,
                                 .stripe = j->opt->stripe,
                                 .cancel = j->opt->cancel };
    bool cut = j->files == SW_FILES_CUT;
    sw_path_kind kind = SW_PATH_DIR, left = SW_PATH_MISSING; /* by a run that was killed */
    struct stat in;

    if (j->in && (sw_path_stat(j->in, &kind, &in, st) ||
                  (cut ? check_input(j, kind, st) || compare_dirs(j, &in, st)
                       : sw_path_stat_in(j->out, SW_STAGING_NAME, &left, NULL, st))))
        return st->code;
    if (!j->opt->dry_run && (kind == SW_PATH_DIR || left == SW_PATH_DIR) &&
        sw_place_open(&rule, &o->place, &o->told.recovered, st))
        return st->code;
    if (j->held)
        o->told.recovered = 0; /* what is in memory may have other values by now */
    if (j->in && (check_input(j, kind, st) || compare_dirs(j, &in, st)))
        return st->code;
    /* A shard set, and what will stand beside it. */
    if (j->files == SW_FILES_WHOLE || sw_existing_shards(j->out, &o->old, st) ||
        warn_of_consolidated(j, st) || o->told.recovered || j->opt->if_needed)
        return st->code;
    return may_replace(j, st);
}

/* Rank 0. What the others need to know of it: of what is written to while the bands are filled. */
static sw_code look_at_place(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;
    /* A directory to make all files in before they are copied; nothing in it is ever what a run
     * asked for, and stripes are asked for of what stays. */
    const sw_place_rule depot = { .dir = j->opt->staging_dir, .copied_to = j->out, .cancel = j->opt->cancel };
    uint64_t ignored;
    sw_fs fs = { 0 };

    if (take_output(j, st) || (o->place && depot.dir && sw_place_open(&depot, &o->depot, &ignored, st)) ||
        sw_path_fs_near(j->opt->staging_dir ? j->opt->staging_dir : j->out, &fs, st))
        return st->code;
    if (o->place) {
        o->told.store = *sw_place_store(o->place);
        o->told.stripes = *sw_place_stripes(o->place);
    }
    if (o->depot)
        o->told.depot_stripes = *sw_place_stripes(o->depot);
    o->told.shared = fs.shared;
    o->told.fuse = fs.fuse;
    o->told.block = sw_max(fs.block, sw_stripes_block(sw_job_stripes(j)));
    return st->code;
}

sw_code sw_job_open(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;
    const sw_sharding *s = j->sharding;
    char *staging = NULL;

    if (j->files == SW_FILES_CUT)
        sw_shard_rules_parse(s->mesh, s->placements, s->rules, &j->laid.rules, st);
    /* Node-local ranks have INPUT_DIRs of their own; rank 0's stands for all. */
    if (sw_job_is_root(j) && !st->code)
        look_at_place(j, st);
    if (o->place)
        staging = sw_strdup(sw_place_staging(o->place), st);
    else if (!sw_job_is_root(j) && j->files == SW_FILES_WHOLE)
        staging = sw_path_join(j->out, SW_STAGING_NAME, st);
    sw_check_same_dir(j->comm, staging, j->out, &o->told, sizeof o->told, st);
    free(staging);
    if (!st->code && j->opt->staging_dir)
        sw_check_same_dir(j->comm, o->depot ? sw_place_staging(o->depot) : NULL, j->opt->staging_dir,
                          &o->told, sizeof o->told, st);
    j->result->store = o->told.store;
    /* Each rank has its own name for it, or learns rank 0's. */
    if (!st->code && j->files == SW_FILES_WHOLE && !sw_job_streams(j) && !j->opt->staging_dir)
        o->staged = sw_path_join(j->out, SW_STAGING_NAME "/new", st);
    return st->code;
}

/* ---- judging it ------------------------------------------------------------------------------ */

/* Rank 0. What OUTPUT_DIR holds, by its names. */
static sw_code look_for_shards(const sw_job *j, bool *shards, bool *whole, sw_status *st)
{
    sw_path_kind kind;
    sw_dir all = { NULL, 0, 0 };

    *shards = *whole = false;
    if (sw_path_stat(j->out, &kind, NULL, st) || kind != SW_PATH_DIR || sw_dir_list(j->out, &all, st))
        return st->code;
    for (size_t i = 0; i < all.n; i++) {
        *shards = *shards || sw_shard_name_parse(all.names[i], NULL);
        *whole = *whole || sw_name_is_consolidated(all.names[i]);
    }
    sw_dir_release(&all);
    return SW_OK;
}

/* Is the input a consolidated checkpoint? */
static bool is_plain(const sw_job *j)
{
    return j->in && !j->input.c.sharded && !j->input.found.by_shards;
}

/* Shards there and none here: nobody welds so. */
static sw_code fail_swapped(const sw_job *j, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, j->out, NULL,
                   "holds shard files, and %s has none: did you swap INPUT_DIR and OUTPUT_DIR?", j->in);
}

sw_code sw_job_check_swapped(const sw_job *j, sw_status *st)
{
    bool shards, whole;

    if (!is_plain(j) || look_for_shards(j, &shards, &whole, st))
        return st->code;
    return shards && !whole ? fail_swapped(j, st) : SW_OK;
}

/* Shards that are none of the input's. Beside those of a plain checkpoint nothing is ever
 * welded. */
static sw_code judge_shards(sw_job *j, sw_status *st)
{
    bool shards, whole;

    if (look_for_shards(j, &shards, &whole, st) || !shards)
        return st->code;
    if (is_plain(j))
        return fail_swapped(j, st);
    return sw_buf_add_line(&j->warnings, st,
                           "%s holds shard files: transformers 5 goes on loading them until they are removed",
                           j->out);
}

/* Rank 0. May the input's own directory be the output's, and is it no directory of shards that a
 * plain checkpoint would be welded into? A line in warnings where shards stay beside what is
 * welded. */
static sw_code check_same_dir(sw_job *j, sw_status *st)
{
    if (!j->output.told.same_dir)
        return judge_shards(j, st);
    if (!j->input.c.sharded)
        return sw_fail(st, SW_EUSAGE, j->out, NULL,
                       "a plain checkpoint cannot be repacked into its own directory");
    return sw_buf_addf(
        &j->warnings, st,
        "INPUT_DIR is OUTPUT_DIR: transformers 5 goes on loading the shards until they are removed\n");
}

/* Of all that decides what will be in OUTPUT_DIR: the plan, and the files that come along. Never
 * 0. */
static uint64_t fingerprint(const sw_job *j, sw_status *st)
{
    const sw_job_output *o = &j->output;
    uint64_t h;
    sw_dtype cast, dequantize;

    if (j->files == SW_FILES_HELD)
        return 1;
    h = sw_plan_hash(&j->values.outputs, &j->laid.layout, NULL);
    for (size_t i = 0; i < o->assets.n; i++) {
        const sw_asset *a = &o->assets.items[i];

        h = sw_hash(h, a->name, strlen(a->name));
        h = sw_hash_word(sw_hash_word(h, a->size), a->ino);
        h = sw_hash_word(sw_hash_word(h, (uint64_t)a->mtime_ns), (uint64_t)a->ctime_ns);
    }
    /* config.json is edited by these; and what was published without being verified was not all
     * that is asked for. */
    sw_value_dtypes(j->opt, &cast, &dequantize, st);
    h = sw_hash_word(h, (uint64_t)cast << 32 | (uint64_t)dequantize << 1 | (uint64_t)j->opt->verify);
    if (sw_job_makes_manifest(j) || j->opt->refuse_nan)
        h = sw_hash_word(h, (uint64_t)sw_job_makes_manifest(j) << 1 | (uint64_t)j->opt->refuse_nan);
    if (j->files == SW_FILES_CUT) {
        h = sw_hash(h, o->file_map.data, o->file_map.len);
        h = sw_hash(h, o->dtype_map.data, o->dtype_map.len) | 1;
    }
    return h ? h : 1;
}

/* Local. The files of the result: of a layout, or of the set upwards. */
static sw_code fill_files(sw_job *j, sw_status *st)
{
    const sw_shard_set *set = &j->laid.set;
    const sw_layout *l = &j->laid.layout;
    sw_result *res = j->result;
    uint64_t n = j->files == SW_FILES_HELD ? set->nfiles : l->nfiles;

    res->files = sw_calloc(n, sizeof *res->files, st);
    for (uint64_t i = 0; i < n && !st->code; i++) {
        char name[SW_SHARD_NAME_SIZE];

        if (j->files == SW_FILES_HELD) {
            const sw_shard_record *r = &set->files[n - 1 - i];

            sw_shard_name_text(&(sw_shard_name){ r->shard, r->model, set->of }, name);
            res->files[i] = (sw_result_file){ sw_strdup(name, st), r->tensors, r->size };
        } else {
            res->files[i] =
                (sw_result_file){ sw_strdup(l->files[i].name, st), l->files[i].count, l->files[i].size };
        }
        res->nfiles++;
    }
    return st->code;
}

/* Local. What the plan says, for the caller: all of the result but times. */
static sw_code fill_result(sw_job *j, sw_status *st)
{
    const sw_catalog *c = j->files == SW_FILES_HELD ? &j->input.c : &j->values.outputs.view;
    const sw_assets *a = &j->output.assets;
    sw_result *res = j->result;

    res->shard_files = j->held ? 0 : j->input.c.nfiles;
    res->boxes = j->input.c.nboxes;
    res->tensors = c->ntensors;
    res->parameters = j->laid.layout.parameters;
    res->bytes = j->laid.layout.bytes;
    for (uint32_t i = 0; j->files == SW_FILES_HELD && i < c->ntensors; i++) {
        res->parameters += c->tensors[i].elements;
        res->bytes += c->tensors[i].bytes;
    }
    if (fill_files(j, st))
        return st->code;
    if (j->laid.layout.index_name)
        res->index = sw_strdup(j->laid.layout.index_name, st);
    res->assets = sw_calloc(a->n, sizeof *res->assets, st);
    for (size_t i = 0; i < a->n && !st->code; i++)
        if ((res->assets[i] = sw_strdup(a->items[i].name, st)))
            res->nassets++;
    return st->code;
}

/* Rank 0. A recovery may have completed a publication: if it is what this run asks for, all is
 * done. Else what is there is an existing checkpoint. */
static sw_code judge(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;

    o->fingerprint = fingerprint(j, st);
    sw_job_note_plan(j);
    o->done = o->told.recovered && o->told.recovered == o->fingerprint;
    if (!o->done && j->opt->if_needed && sw_job_is_made(j, &o->done, st))
        return st->code;
    if (j->files != SW_FILES_WHOLE)
        return o->done || !(o->told.recovered || j->opt->if_needed) ? st->code : may_replace(j, st);
    if (!o->done && (look_for_whole(j, j->laid.layout.index_name, st) || may_replace(j, st)))
        return st->code;
    return check_same_dir(j, st);
}

sw_code sw_job_judge(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;

    if (sw_job_is_root(j))
        sw_job_list_sidefiles(j, st);
    if (!st->code && !fill_result(j, st) && sw_job_is_root(j))
        judge(j, st);
    if (j->files == SW_FILES_HELD && j->result->nfiles == 0)
        sw_fail(st, SW_EUSAGE, j->out, NULL, "no rank has anything to save");
    if (sw_agree_share(j->comm, &o->done, sizeof o->done, st))
        return st->code;
    j->result->recovered = o->done && o->told.recovered;
    j->result->unneeded = o->done && !o->told.recovered;
    j->result->seconds_plan = sw_now() - j->started;
    sw_job_tell_warnings(j);
    if (sw_job_is_root(j) && j->opt->planned)
        j->opt->planned(j->opt->user, j->result);
    o->done = o->done || j->opt->dry_run;
    return SW_OK;
}

/* ---- before the first byte ------------------------------------------------------------------- */

/* Does a name of OUTPUT_DIR lie in the input's own directory? */
static bool is_in_input(const sw_job *j, const char *name)
{
    for (size_t i = 0; i < j->output.keep.n; i++) {
        const char *keep = j->output.keep.names[i];
        size_t len = strlen(keep);

        if (len && keep[len - 1] == '/' && strncmp(name, keep, len) == 0)
            return true;
    }
    return false;
}

/* It would be lost. */
static sw_code fail_input_file(const char *name, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, name, NULL, "is a file of the input, which must not be replaced");
}

/* Would a final name hit a file of the input? Shards are never modified. */
static sw_code check_inputs_safe(const sw_job *j, const sw_publication *p, size_t n, sw_status *st)
{
    bool is = false;

    for (size_t i = 0; i < n; i++) {
        if (is_in_input(j, p[i].name))
            return sw_fail(st, SW_EUSAGE, p[i].name, NULL, "would be written into the input's directory");
        if (is_input(j, p[i].name, &is, st))
            return st->code;
        if (is)
            return fail_input_file(p[i].name, st);
    }
    return SW_OK;
}

/* What is replaced must be none of the input's. */
static sw_code check_old(const sw_job *j, sw_status *st)
{
    bool is = false;

    for (size_t i = 0; i < j->output.old.n && !is; i++)
        if (is_input(j, j->output.old.names[i], &is, st))
            return st->code;
        else if (is)
            return fail_input_file(j->output.old.names[i], st);
    return SW_OK;
}

/* No name may be that of a file and of a directory at once, or of two files. */
static sw_code check_names_apart(const sw_publication *p, size_t n, sw_status *st)
{
    const char **names = sw_calloc(n, sizeof *names, st);
    sw_buf parent = SW_BUF_INIT;

    for (size_t i = 0; names && i < n; i++)
        names[i] = p[i].name;
    sw_sort(names, n, sizeof *names, sw_by_bytes);
    for (size_t i = 0; names && i < n && !st->code; i++) {
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            sw_fail(st, SW_EUSAGE, names[i], NULL, "is the name of two files of the output");
        for (const char *cut = strchr(names[i], '/'); cut && !st->code; cut = strchr(cut + 1, '/')) {
            parent.len = 0;
            if (!sw_buf_addf(&parent, st, "%.*s", (int)(cut - names[i]), names[i]) &&
                bsearch(&parent.data, names, n, sizeof *names, sw_by_bytes))
                sw_fail(st, SW_EUSAGE, names[i], NULL, "%s is the name of another file of the output",
                        parent.data);
        }
    }
    sw_buf_release(&parent);
    free(names);
    return st->code;
}

/* The files in the order of publication, newly allocated: side files; shards from the highest
 * number down, or whole files and the index (or the lone file); right before the last of them the
 * manifest. */
static sw_publication *list_publications(const sw_job *j, size_t *n, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;
    const sw_assets *a = &j->output.assets;
    const sw_result *res = j->result;
    sw_publication *p = sw_calloc(a->n + res->nfiles + 2, sizeof *p, st);
    bool whole = j->files == SW_FILES_WHOLE;

    *n = 0;
    for (size_t i = 0; p && i < a->n; i++)
        p[(*n)++] = (sw_publication){ a->items[i].name, a->items[i].size };
    for (uint64_t i = 0; p && i < res->nfiles; i++) {
        const sw_result_file *f = &res->files[whole ? i : res->nfiles - 1 - i];

        p[(*n)++] = (sw_publication){ f->name, f->size };
    }
    if (p && l->index_name)
        p[(*n)++] = (sw_publication){ l->index_name, j->output.index.len };
    /* the last one is what all hangs on */
    if (p && *n && sw_job_makes_manifest(j)) {
        p[*n] = p[*n - 1];
        p[(*n)++ - 1] = (sw_publication){ SW_MANIFEST_NAME, j->output.manifest.len };
    }
    return p;
}

/* What comes and what goes. */
static sw_code check_change(sw_job *j, sw_status *st)
{
    const sw_job_output *o = &j->output;
    size_t n;
    sw_publication *p = list_publications(j, &n, st);

    /* Is there room, there and where they are staged before? */
    if (p && !(o->depot && sw_place_check_space(o->depot, j->opt->staging_dir, p, n, st)) &&
        !sw_place_check_space(o->place, j->out, p, n, st) && !check_names_apart(p, n, st) &&
        !check_inputs_safe(j, p, n, st))
        sw_change_check(j->out, &(sw_change){ p, n, o->old.names, o->old.n, 0 }, st);
    free(p);
    return st->code;
}

/* The model's other files replace what OUTPUT_DIR has of their names: it is one more part of what
 * goes. */
static sw_code add_replaced_sidefiles(sw_job *j, sw_status *st)
{
    sw_job_output *o = &j->output;

    for (size_t i = 0; i < o->assets.n; i++)
        if (o->assets.items[i].exists && sw_dir_add(&j->output.old, o->assets.items[i].name, st))
            return st->code;
    sw_sort(o->old.names, o->old.n, sizeof *o->old.names, sw_by_bytes);
    return SW_OK;
}

/* The directories of the files, whose name all ranks will learn. */
static sw_code make_rooms(sw_job *j, const sw_place *place, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;

    for (uint32_t f = 0; f < l->nfiles && !st->code; f++)
        sw_place_make_room(place, l->files[f].name, st);
    free(j->output.staged);
    j->output.staged = sw_strdup(sw_place_fresh(place)->path, st);
    return st->code;
}

sw_code sw_job_begin_output(sw_job *j, sw_status *st)
{
    const sw_job_output *o = &j->output;
    size_t n;
    sw_publication *p = list_publications(j, &n, st);

    if (p)
        sw_place_begin(o->place, &(sw_change){ p, n, o->old.names, o->old.n, o->fingerprint }, st);
    free(p);
    return st->code || make_rooms(j, o->place, st) ? st->code : sw_job_stage_sidefiles(j, st);
}

sw_code sw_job_prepare(sw_job *j, sw_status *st)
{
    const sw_layout *l = &j->laid.layout;

    if (j->files == SW_FILES_CUT && l->nfiles == 0)
        return sw_fail(st, SW_EUSAGE, j->in, NULL, "there are no tensors to shard");
    if (l->index_name && sw_layout_index(&j->values.outputs.view, l, &j->output.index, st))
        return st->code;
    /* Shard files that are replaced may be the input's own, under whatever name. */
    if (j->files == SW_FILES_CUT && check_old(j, st))
        return st->code;
    if (add_replaced_sidefiles(j, st) || check_change(j, st))
        return st->code;
    return j->output.depot ? make_rooms(j, j->output.depot, st) : sw_job_begin_output(j, st);
}

/* ---- publishing ------------------------------------------------------------------------------ */

sw_code sw_job_publish(sw_job *j, sw_status *st)
{
    const sw_job_output *o = &j->output;
    const char *index = j->laid.layout.index_name;
    sw_publication *p;
    size_t n;

    if (sw_job_write_manifest(j, st))
        return st->code;
    if (index && (sw_place_make_room(o->place, index, st) ||
                  sw_place_write_key(o->place, index, o->index.data, o->index.len, st)))
        return st->code;
    p = list_publications(j, &n, st);
    if (p && !sw_check_cancel(j->opt->cancel, st))
        sw_place_publish(o->place, &(sw_change){ p, n, o->old.names, o->old.n, o->fingerprint }, st);
    free(p);
    return st->code;
}
