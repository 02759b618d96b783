/* OUTPUT_DIR: taken, looked at, prepared and published, by rank 0; see job.h. What is the input's
 * is never lost. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/existing.h"
#include "dir/place.h"
#include "par/gather.h"
#include "par/samedir.h"
#include "plan/outmaps.h"

/* ---- taking OUTPUT_DIR ----------------------------------------------------------------------- */

/* Is there a staging directory of a run that was killed? */
static sw_code has_staging(const sw_job *r, bool *there, sw_status *st)
{
    char *path = sw_path_join(r->out, SW_STAGING_NAME, st);
    sw_path_kind kind = SW_PATH_MISSING;

    if (path)
        sw_path_stat(path, &kind, NULL, st);
    *there = kind == SW_PATH_DIR;
    free(path);
    return st->code;
}

sw_code sw_job_check_input(const sw_job *r, sw_path_kind kind, sw_status *st)
{
    if (kind == SW_PATH_DIR)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, r->in, NULL, "%s",
                   kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
}

/* Rank 0. Take the directory; what a dead run left is recovered before anything else is looked at.
 * Otherwise an INPUT_DIR that is not there must not become an OUTPUT_DIR. */
static sw_code take_output(sw_job *r, sw_status *st)
{
    sw_path_kind in_kind, out_kind;
    const sw_place_rule rule = { r->out, false, !r->opt->no_sync, r->opt->cancel };
    struct stat in, out;
    bool staging;

    if (!r->in)
        return r->opt->dry_run ? SW_OK : sw_place_open(&rule, &r->stage, &r->recovered, st);
    if (sw_path_stat(r->in, &in_kind, &in, st) || has_staging(r, &staging, st))
        return st->code;
    if (!r->opt->dry_run && (in_kind == SW_PATH_DIR || staging) &&
        sw_place_open(&rule, &r->stage, &r->recovered, st))
        return st->code;
    if (sw_job_check_input(r, in_kind, st))
        return st->code;
    if (sw_path_stat(r->out, &out_kind, &out, st))
        return st->code;
    r->same_dir = out_kind == SW_PATH_DIR && sw_path_same(&in, &out);
    return SW_OK;
}

sw_code sw_job_open_output(sw_job *r, sw_status *st)
{
    char *staged = sw_job_staged_dir(r, st);
    uint64_t seen[2];

    /* Node-local ranks have INPUT_DIRs of their own; rank 0's stands for all. */
    if (sw_job_is_root(r) && !st->code)
        take_output(r, st);
    seen[0] = r->recovered;
    seen[1] = r->same_dir;
    sw_check_same_dir(r->comm, sw_job_is_root(r) && !r->stage ? NULL : staged, r->out, seen, sizeof seen, st);
    r->recovered = seen[0];
    r->same_dir = seen[1] != 0;
    free(staged);
    return st->code;
}

/* INPUT_DIR as seen from OUTPUT_DIR: "" when they are one, "sharded/" when it lies inside, NULL
 * elsewhere. */
static sw_code input_prefix(const sw_job *r, char **prefix, sw_status *st)
{
    char *out = realpath(r->out, NULL);
    int out_errno = errno;
    char *in = realpath(r->in, NULL);
    size_t n = out ? strlen(out) : 0;

    *prefix = NULL;
    /* Without knowing where they lie, the input cannot be protected; a dry run's OUTPUT_DIR need
     * not be there. */
    if (!in)
        sw_fail_errno(st, r->in, errno, "cannot resolve");
    else if (!out && out_errno != ENOENT)
        sw_fail_errno(st, r->out, out_errno, "cannot resolve");
    if (in && out && strncmp(in, out, n) == 0 && (in[n] == '/' || in[n] == '\0' || strcmp(out, "/") == 0)) {
        const char *rest = in + n + (in[n] == '/');

        *prefix = *rest ? sw_path_join(rest, "", st) : sw_strdup("", st);
    }
    free(in);
    free(out);
    return st->code;
}

/* What of OUTPUT_DIR belongs to this rank's input, as names with NULs: all below INPUT_DIR where
 * that lies inside, the files where it is the same. */
static sw_code list_own_keep(const sw_job *r, sw_buf *names, sw_status *st)
{
    char *prefix = NULL;

    if (input_prefix(r, &prefix, st) || !prefix)
        return st->code;
    if (*prefix)
        sw_buf_add(names, prefix, strlen(prefix) + 1, st);
    for (uint32_t i = 0; !*prefix && i < r->c.nfiles && !st->code; i++)
        sw_buf_add(names, r->c.files[i].name, strlen(r->c.files[i].name) + 1, st);
    free(prefix);
    return st->code;
}

/* Collective. Node-local, each rank's INPUT_DIR may lie in OUTPUT_DIR. */
sw_code sw_job_list_keep(sw_job *r, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;
    size_t cap = 0;

    if (!st->code && (sw_job_is_root(r) || r->opt->node_local))
        list_own_keep(r, &mine, st);
    if (!sw_comm_gather(r->comm, &mine, &all, st)) {
        for (size_t at = 0; at < all.len && !st->code; at += strlen(all.data + at) + 1)
            if (!sw_grow(&r->keep, &cap, r->nkeep + 1, sizeof *r->keep, st) &&
                (r->keep[r->nkeep] = sw_strdup(all.data + at, st)))
                r->nkeep++;
    }
    sw_agree(r->comm, st);
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

/* Is it one of the names in keep? What lies below INPUT_DIR is is_in_input()'s. */
static bool is_kept(const sw_job *r, const char *name)
{
    for (size_t i = 0; i < r->nkeep; i++)
        if (strcmp(r->keep[i], name) == 0)
            return true;
    return false;
}

/* Is the file of this name in OUTPUT_DIR one of the input's, by whatever way it got there? A link
 * to one is not: it may go. Files of another rank's own INPUT_DIR are numbered by another machine:
 * these are known by their names. */
sw_code sw_job_is_input(const sw_job *r, const char *name, bool *is, sw_status *st)
{
    char *path = sw_path_join(r->out, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (path)
        sw_path_lstat(path, &kind, &s, st);
    free(path);
    *is = is_kept(r, name);
    for (uint32_t i = 0; kind == SW_PATH_FILE && i < r->c.nfiles && !*is; i++)
        *is = (!r->opt->node_local || r->c.files[i].owner == 0) && r->c.files[i].dev == (uint64_t)s.st_dev &&
              r->c.files[i].ino == (uint64_t)s.st_ino;
    return st->code;
}

/* Files of the input are no part of what is replaced. */
static sw_code spare_inputs(sw_job *r, sw_status *st)
{
    size_t n = 0;
    bool is = false;

    for (size_t i = 0; i < r->nold; i++) {
        if (!st->code)
            sw_job_is_input(r, r->old[i], &is, st);
        if (!st->code && is)
            free(r->old[i]);
        else
            r->old[n++] = r->old[i];
    }
    r->nold = n;
    return st->code;
}

/* Rank 0. What is in OUTPUT_DIR already, and may this run replace it? Looked at before the work,
 * and again when the name of the index is known (*index), which may be one of its own. */
sw_code sw_job_look_at_output(sw_job *r, const char *index, sw_status *st)
{
    sw_path_kind kind;

    sw_names_free(r->old, r->nold);
    r->old = NULL;
    r->nold = 0;
    if (sw_path_stat(r->out, &kind, NULL, st) || kind != SW_PATH_DIR)
        return st->code;
    if (sw_existing_checkpoint(r->out, index, (const char *const *)r->keep, r->nkeep, &r->old, &r->nold,
                               st) ||
        spare_inputs(r, st))
        return st->code;
    if (r->nold == 0 || r->opt->overwrite || r->opt->dry_run)
        return SW_OK;
    if (r->same_dir && !r->scan.by_shards)
        return sw_fail(st, SW_EUSAGE, r->out, NULL,
                       "is INPUT_DIR, and holds a consolidated checkpoint (%s): choose another OUTPUT_DIR",
                       r->old[0]);
    return sw_fail(st, SW_EUSAGE, r->out, NULL, "holds a checkpoint already (%s); --overwrite replaces it",
                   r->old[0]);
}

sw_code sw_warn_of_consolidated(const char *output_dir, sw_buf *warnings, sw_status *st)
{
    char **names = NULL;
    size_t n = 0;

    if (!sw_existing_checkpoint(output_dir, NULL, NULL, 0, &names, &n, st) && n > 0)
        sw_buf_add_line(warnings, st,
                        "%s: %s is there too, and stays as it is: some programs that load the directory will "
                        "take that checkpoint, others the shards",
                        output_dir, names[n - 1]);
    sw_names_free(names, n);
    return st->code;
}

/* ---- before the first byte ------------------------------------------------------------------- */

/* Does a name of OUTPUT_DIR lie in the input's own directory? */
static bool is_in_input(const sw_job *r, const char *name)
{
    for (size_t i = 0; i < r->nkeep; i++) {
        size_t len = strlen(r->keep[i]);

        if (len && r->keep[i][len - 1] == '/' && strncmp(name, r->keep[i], len) == 0)
            return true;
    }
    return false;
}

/* Would a final name hit a file of the input? Shards are never modified. */
static sw_code check_inputs_safe(const sw_job *r, const sw_publication *p, size_t n, sw_status *st)
{
    bool is = false;

    for (size_t i = 0; i < n; i++) {
        if (is_in_input(r, p[i].name))
            return sw_fail(st, SW_EUSAGE, p[i].name, NULL, "would be written into the input's directory");
        if (sw_job_is_input(r, p[i].name, &is, st))
            return st->code;
        if (is)
            return sw_fail(st, SW_EUSAGE, p[i].name, NULL,
                           "is a file of the input, which must not be replaced");
    }
    return SW_OK;
}

/* No name may be that of a file and of a directory at once, or of two files. */
static sw_code check_names_apart(const sw_publication *p, size_t n, sw_status *st)
{
    const char **names = sw_calloc(n, sizeof *names, st);
    sw_buf parent = SW_BUF_INIT;

    for (size_t i = 0; names && i < n; i++)
        names[i] = p[i].name;
    if (names && n > 1)
        qsort(names, n, sizeof *names, sw_by_bytes);
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

/* Rank 0. What OUTPUT_DIR holds, by its names. */
static sw_code look_for_shards(const sw_job *r, bool *shards, bool *whole, sw_status *st)
{
    sw_path_kind kind;
    sw_dir all = { NULL, 0, 0 };
    sw_shard_name ignored;

    *shards = *whole = false;
    if (sw_path_stat(r->out, &kind, NULL, st) || kind != SW_PATH_DIR || sw_dir_list(r->out, &all, st))
        return st->code;
    for (size_t i = 0; i < all.n; i++) {
        *shards = *shards || sw_shard_name_parse(all.names[i], &ignored);
        *whole = *whole || sw_name_is_consolidated(all.names[i]);
    }
    sw_dir_release(&all);
    return SW_OK;
}

static bool is_plain(const sw_job *r)
{
    return r->in && !r->c.sharded && !r->scan.by_shards;
}

static sw_code fail_swapped(const sw_job *r, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, r->out, NULL,
                   "holds shard files, and %s has none: did you swap INPUT_DIR and OUTPUT_DIR?", r->in);
}

sw_code sw_job_check_swapped(const sw_job *r, sw_status *st)
{
    bool shards, whole;

    if (!is_plain(r) || look_for_shards(r, &shards, &whole, st))
        return st->code;
    return shards && !whole ? fail_swapped(r, st) : SW_OK;
}

/* Shards that are none of the input's. Beside those of a plain checkpoint nothing is ever
 * welded. */
static sw_code judge_shards(sw_job *r, sw_status *st)
{
    bool shards, whole;

    if (look_for_shards(r, &shards, &whole, st) || !shards)
        return st->code;
    if (is_plain(r))
        return fail_swapped(r, st);
    return sw_buf_add_line(&r->warnings, st,
                           "%s holds shard files: transformers 5 goes on loading them until they are removed",
                           r->out);
}

sw_code sw_job_check_same_dir(sw_job *r, sw_status *st)
{
    if (!r->same_dir)
        return sw_job_is_root(r) ? judge_shards(r, st) : SW_OK;
    if (!r->c.sharded)
        return sw_fail(st, SW_EUSAGE, r->out, NULL,
                       "a plain checkpoint cannot be repacked into its own directory");
    return sw_buf_addf(
        &r->warnings, st,
        "INPUT_DIR is OUTPUT_DIR: transformers 5 goes on loading the shards until they are removed\n");
}

static sw_code check_space(const sw_job *r, sw_status *st)
{
    uint64_t need = r->index.len;

    for (size_t i = 0; i < r->assets.n; i++)
        if (!sw_add(need, r->assets.items[i].size, &need))
            need = UINT64_MAX;
    for (uint32_t f = 0; f < r->layout.nfiles; f++)
        if (!sw_add(need, r->layout.files[f].size, &need))
            need = UINT64_MAX;
    return sw_path_check_space(r->out, r->out, need, st);
}

/* The files in the order of publication: the index, or the lone file, last. */
static sw_publication *list_publications(const sw_job *r, size_t *n, sw_status *st)
{
    sw_publication *p = sw_calloc(r->assets.n + r->layout.nfiles + UINT64_C(1), sizeof *p, st);

    *n = 0;
    for (size_t i = 0; p && i < r->assets.n; i++)
        p[(*n)++] = (sw_publication){ r->assets.items[i].name, r->assets.items[i].size };
    for (uint32_t f = 0; p && f < r->layout.nfiles; f++)
        p[(*n)++] = (sw_publication){ r->layout.files[f].name, r->layout.files[f].size };
    if (p && r->layout.index_name)
        p[(*n)++] = (sw_publication){ r->layout.index_name, r->index.len };
    return p;
}

/* The model's other files replace what OUTPUT_DIR has of their names: it is one more part of what
 * goes. */
sw_code sw_job_add_replaced_assets(sw_job *r, sw_status *st)
{
    size_t cap = r->nold;

    for (size_t i = 0; i < r->assets.n; i++) {
        if (!r->assets.items[i].exists)
            continue;
        if (sw_grow(&r->old, &cap, r->nold + 1, sizeof *r->old, st) ||
            !(r->old[r->nold] = sw_strdup(r->assets.items[i].name, st)))
            return st->code;
        r->nold++;
    }
    if (r->nold > 1)
        qsort(r->old, r->nold, sizeof *r->old, sw_by_bytes);
    return SW_OK;
}

sw_code sw_job_list_assets(sw_job *r, sw_status *st)
{
    if (r->opt->no_assets || (!r->in && !r->opt->assets))
        return SW_OK;
    return sw_assets_list(&(sw_assets_rule){ r->in, r->opt->assets, r->out, r->layout.index_name },
                          &r->warnings, &r->assets, st);
}

/* config.json tells the dtype that the tensors have now, and no quantization that is gone. */
sw_code sw_config_rule_of(const sw_options *opt, sw_config_rule *rule, sw_status *st)
{
    sw_dtype cast, dequantize;

    *rule = (sw_config_rule){ .dtype = SW_NDTYPES };
    if (sw_value_dtypes(opt, &cast, &dequantize, st))
        return st->code;
    rule->dtype = cast != SW_NDTYPES ? cast : dequantize;
    rule->no_quantization = dequantize != SW_NDTYPES;
    return SW_OK;
}

sw_code sw_job_config_rule(sw_job *r, sw_config_rule *rule, sw_status *st)
{
    if (sw_config_rule_of(r->opt, rule, st))
        return st->code;
    if (r->assets.config_stays && rule->dtype != SW_NDTYPES)
        sw_buf_add_line(
            &r->warnings, st,
            "config.json is in the output directory already and stays as it is: its dtype is not edited");
    return st->code;
}

sw_code sw_job_stage_assets(sw_job *r, const sw_place *stage, sw_status *st)
{
    sw_config_rule rule;
    sw_asset_copy how = { NULL, r->result->band_size, !r->opt->no_sync, &r->warnings };

    if (sw_job_config_rule(r, &rule, st))
        return st->code;
    how.rule = rule.dtype == SW_NDTYPES ? NULL : &rule;
    for (size_t i = 0; i < r->assets.n && !st->code; i++) {
        sw_asset *a = &r->assets.items[i];

        if (!sw_place_make_room(stage, a->name, st) && !sw_check_cancel(r->opt->cancel, st))
            sw_asset_stage(a, sw_place_fresh(stage), &how, st);
    }
    return st->code;
}

void sw_tell_staging(const sw_options *opt, const sw_result *result)
{
    char *text;

    if (!result->staging || !opt->warn ||
        asprintf(&text, "the staging directory %s stays", result->staging) < 0)
        return;
    opt->warn(opt->user, text);
    free(text);
}

/* Rank 0. All that can be known to fail, fails now. */
sw_code sw_job_prepare_output(sw_job *r, sw_status *st)
{
    sw_publication *p = NULL;
    size_t n;

    if (r->layout.index_name && sw_layout_index(&r->outputs.view, &r->layout, &r->index, st))
        return st->code;
    if (check_space(r, st) || sw_job_add_replaced_assets(r, st))
        return st->code;
    p = list_publications(r, &n, st);
    if (p && !check_names_apart(p, n, st) && !check_inputs_safe(r, p, n, st))
        sw_change_check(r->out, &(sw_change){ p, n, r->old, r->nold, 0 }, st);
    for (uint32_t f = 0; f < r->layout.nfiles && !st->code; f++)
        sw_place_make_room(r->stage, r->layout.files[f].name, st);
    free(p);
    if (!st->code)
        sw_job_stage_assets(r, r->stage, st);
    return st->code;
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* Rank 0. */
sw_code sw_job_publish(sw_job *r, sw_status *st)
{
    const char *index = r->layout.index_name;
    sw_publication *p;
    size_t n;

    if (index &&
        (sw_place_make_room(r->stage, index, st) ||
         sw_below_write(sw_place_fresh(r->stage), index, r->index.data, r->index.len, !r->opt->no_sync, st)))
        return st->code;
    p = list_publications(r, &n, st);
    if (p && !sw_check_cancel(r->opt->cancel, st))
        sw_place_publish(r->stage, &(sw_change){ p, n, r->old, r->nold, r->fingerprint }, st);
    free(p);
    return st->code;
}
