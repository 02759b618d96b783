/* OUTPUT_DIR: taken, looked at, prepared and published, by rank 0; see job.h. What is the input's is never lost. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"
#include "par/gather.h"
#include "par/publish.h"

/* ---- taking OUTPUT_DIR -------------------------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

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

/* Rank 0. Take the directory; what a dead run left is recovered before anything else is looked at. Otherwise an INPUT_DIR that
 * is not there must not become an OUTPUT_DIR. */
static sw_code take_output(sw_job *r, sw_status *st)
{
    sw_path_kind in_kind, out_kind;
    struct stat in, out;
    bool staging;

    if (sw_path_stat(r->in, &in_kind, &in, st) || has_staging(r, &staging, st))
        return st->code;
    if (!r->opt->dry_run && (in_kind == SW_PATH_DIR || staging) &&
        sw_stage_open(r->out, !r->opt->no_sync, &r->stage, &r->recovered, st))
        return st->code;
    if (in_kind != SW_PATH_DIR)
        return sw_fail(st, SW_EINPUT, r->in, NULL, "%s",
                       in_kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
    if (sw_path_stat(r->out, &out_kind, &out, st))
        return st->code;
    r->same_dir = out_kind == SW_PATH_DIR && same_file(&in, &out);
    return SW_OK;
}

sw_code sw_job_open_output(sw_job *r, sw_status *st)
{
    /* Node-local ranks have INPUT_DIRs of their own; rank 0's stands for all. */
    if (sw_job_is_root(r))
        take_output(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    if (sw_comm_bcast(r->comm, &r->recovered, sizeof r->recovered, 0, st))
        return st->code;
    return sw_comm_bcast(r->comm, &r->same_dir, sizeof r->same_dir, 0, st);
}

/* INPUT_DIR as seen from OUTPUT_DIR: "" when they are one, "sharded/" when it lies inside, NULL elsewhere. */
static sw_code input_prefix(const sw_job *r, char **prefix, sw_status *st)
{
    char *out = realpath(r->out, NULL);
    int out_errno = errno;
    char *in = realpath(r->in, NULL);
    size_t n = out ? strlen(out) : 0;

    *prefix = NULL;
    /* Without knowing where they lie, the input cannot be protected; a dry run's OUTPUT_DIR need not be there. */
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

/* What of OUTPUT_DIR belongs to this rank's input, as names with NULs: all below INPUT_DIR where that lies inside, the files
 * where it is the same. */
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
    uint64_t *starts = sw_calloc((uint64_t)r->comm->size + 1, sizeof *starts, st);
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;
    size_t cap = 0;

    if (!st->code && (sw_job_is_root(r) || r->opt->node_local))
        list_own_keep(r, &mine, st);
    if (!sw_agree(r->comm, st) && !sw_comm_gather(r->comm, &mine, &all, starts, st)) {
        for (size_t at = 0; at < all.len && !st->code; at += strlen(all.data + at) + 1)
            if (!sw_grow(&r->keep, &cap, r->nkeep + 1, sizeof *r->keep, st) &&
                (r->keep[r->nkeep] = sw_strdup(all.data + at, st)))
                r->nkeep++;
    }
    sw_agree(r->comm, st);
    sw_buf_release(&all);
    sw_buf_release(&mine);
    free(starts);
    return st->code;
}

/* Is the file of this name in OUTPUT_DIR one of the input's, by whatever way it got there? A link to one is not: it may go.
 * Files of another rank's own INPUT_DIR are numbered by another machine. */
static sw_code is_input(const sw_job *r, const char *name, bool *is, sw_status *st)
{
    char *path = sw_path_join(r->out, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (path)
        sw_path_lstat(path, &kind, &s, st);
    free(path);
    *is = false;
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
            is_input(r, r->old[i], &is, st);
        if (!st->code && is)
            free(r->old[i]);
        else
            r->old[n++] = r->old[i];
    }
    r->nold = n;
    return st->code;
}

/* Rank 0. What is in OUTPUT_DIR already, and may this run replace it? Looked at before the work, and again when the name of the index
 * is known (*index), which may be one of its own. */
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
    return sw_fail(st, SW_EUSAGE, r->out, NULL, "holds a checkpoint already (%s); --overwrite replaces it",
                   r->old[0]);
}

/* ---- before the first byte ---------------------------------------------------------------------- */

/* Would a final name hit a file of the input? Shards are never modified. */
static sw_code check_inputs_safe(const sw_job *r, sw_status *st)
{
    bool is = false;

    for (uint32_t f = 0; f < r->layout.nfiles; f++) {
        if (is_input(r, r->layout.files[f].name, &is, st))
            return st->code;
        if (is)
            return sw_fail(st, SW_EUSAGE, r->layout.files[f].name, NULL,
                           "is a file of the input, which must not be replaced");
    }
    return SW_OK;
}

sw_code sw_job_check_same_dir(sw_job *r, sw_status *st)
{
    if (!r->same_dir)
        return SW_OK;
    if (!r->c.sharded)
        return sw_fail(st, SW_EUSAGE, r->out, NULL,
                       "a plain checkpoint cannot be repacked into its own directory");
    return sw_buf_addf(
        &r->warnings, st,
        "INPUT_DIR is OUTPUT_DIR: transformers 5 goes on loading the shards until they are removed\n");
}

static sw_code check_space(const sw_job *r, sw_status *st)
{
    uint64_t need = r->index.len, free_bytes;

    for (uint32_t f = 0; f < r->layout.nfiles; f++)
        if (!sw_add(need, r->layout.files[f].size, &need))
            need = UINT64_MAX;
    if (sw_fault_no_reserve() || sw_path_space(r->out, &free_bytes, st))
        return st->code;
    if (need > free_bytes)
        return sw_fail(st, SW_EIO, r->out, NULL,
                       "no space: %" PRIu64 " bytes are needed, %" PRIu64 " are free", need, free_bytes);
    return SW_OK;
}

/* The files in the order of publication: the index, or the lone file, last. */
static sw_publication *list_publications(const sw_job *r, size_t *n, sw_status *st)
{
    sw_publication *p = sw_calloc(r->layout.nfiles + UINT64_C(1), sizeof *p, st);

    *n = 0;
    for (uint32_t f = 0; p && f < r->layout.nfiles; f++)
        p[(*n)++] = (sw_publication){ r->layout.files[f].name, r->layout.files[f].size };
    if (p && r->layout.index_name)
        p[(*n)++] = (sw_publication){ r->layout.index_name, r->index.len };
    return p;
}

/* Rank 0. All that can be known to fail, fails now. */
sw_code sw_job_prepare_output(sw_job *r, sw_status *st)
{
    sw_publication *p = NULL;
    size_t n;

    if (r->layout.index_name && sw_layout_index(&r->c, &r->layout, &r->index, st))
        return st->code;
    if (check_inputs_safe(r, st) || check_space(r, st))
        return st->code;
    p = list_publications(r, &n, st);
    if (p)
        sw_publication_check(r->out, p, n, r->old, r->nold, st);
    for (uint32_t f = 0; f < r->layout.nfiles && !st->code; f++)
        free(sw_stage_path(r->stage, r->layout.files[f].name, st)); /* makes its parents */
    free(p);
    return st->code;
}

/* ---- publishing ----------------------------------------------------------------------------------- */

/* Rank 0. */
sw_code sw_job_publish(sw_job *r, sw_status *st)
{
    sw_publication *p = NULL;
    char *path = NULL;
    size_t n;

    if (r->layout.index_name) {
        path = sw_stage_path(r->stage, r->layout.index_name, st);
        if (!path || sw_path_write(path, r->index.data, r->index.len, !r->opt->no_sync, st))
            goto out;
    }
    p = list_publications(r, &n, st);
    if (p && !sw_check_cancel(r->opt->cancel, st))
        sw_stage_publish(r->stage, p, n, r->old, r->nold, r->fingerprint, st);
out:
    free(p);
    free(path);
    return st->code;
}
