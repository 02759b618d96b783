/* sw_consolidate(): the steps in their order. Each is collective, or is done by rank 0 and agreed upon. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"
#include "format/maps.h"
#include "par/gather.h"
#include "par/io.h"
#include "par/like.h"
#include "par/publish.h"
#include "par/scan.h"
#include "par/weld.h"
#include "plan/values.h"

/* Rounds that stay in the processor's cache win on a local file system; a parallel one wants stripes. */
#define BUFFER_LOCAL ((UINT64_C(4) << 20) + SCRATCH_MAX)
#define BUFFER_SHARED (UINT64_C(64) << 20)
#define BLOCK (UINT64_C(1) << 20)
#define SCRATCH_MAX (UINT64_C(256) << 10)
#define BAND_MAX (UINT64_C(512) << 20) /* below what MPI-IO components can take in one call */

/* More opens than this at once are a storm for a metadata server: the ranks read their own files and exchange. */
#define OPENS_MAX 32768

#define SIZE_DEFAULT UINT64_C(5000000000)

/* All that one call holds; born empty. */
typedef struct run {
    const sw_comm *comm;
    const char *in, *out;
    const sw_options *opt;
    sw_result *result;
    double started;

    sw_stage *stage;    /* rank 0 */
    uint64_t recovered; /* fingerprint of a publication that was completed, 0 = none */
    bool same_dir;      /* INPUT_DIR is OUTPUT_DIR */
    char **old;         /* rank 0: the checkpoint that is replaced */
    size_t nold;
    char **keep; /* rank 0: the input's names as seen from OUTPUT_DIR */
    size_t nkeep;

    sw_catalog c;
    sw_scan scan;
    sw_map map; /* of --fqn-map, --like or .hf_metadata */
    sw_layout layout;
    sw_schedule sched;
    uint64_t plan_hash, fingerprint;
    uint64_t scratch, written;
    bool by_owner, done; /* done: a recovery had done all that was asked for */
    sw_buf warnings;     /* lines */
    sw_buf index;        /* rank 0: text of the index */
} run;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_root(const run *r)
{
    return r->comm->rank == 0;
}

/* ---- words for the user ------------------------------------------------------------------------- */

/* Hand all lines of warnings to the caller and empty it. They are the same on every rank; rank 0 speaks. */
static void tell_warnings(run *r)
{
    char *line = r->warnings.data;

    if (is_root(r) && r->opt->warn && r->warnings.len) {
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

static sw_code check_options(const run *r, sw_status *st)
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

/* ---- taking OUTPUT_DIR -------------------------------------------------------------------------- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Is there a staging directory of a run that was killed? */
static sw_code has_staging(const run *r, bool *there, sw_status *st)
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
static sw_code take_output(run *r, sw_status *st)
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

static sw_code open_output(run *r, sw_status *st)
{
    /* Node-local ranks have INPUT_DIRs of their own; rank 0's stands for all. */
    if (is_root(r))
        take_output(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    if (sw_comm_bcast(r->comm, &r->recovered, sizeof r->recovered, 0, st))
        return st->code;
    return sw_comm_bcast(r->comm, &r->same_dir, sizeof r->same_dir, 0, st);
}

/* INPUT_DIR as seen from OUTPUT_DIR: "" when they are one, "sharded/" when it lies inside, NULL elsewhere. */
static sw_code input_prefix(const run *r, char **prefix, sw_status *st)
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
static sw_code list_own_keep(const run *r, sw_buf *names, sw_status *st)
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
static sw_code list_keep(run *r, sw_status *st)
{
    uint64_t *starts = sw_calloc((uint64_t)r->comm->size + 1, sizeof *starts, st);
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;
    size_t cap = 0;

    if (!st->code && (is_root(r) || r->opt->node_local))
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
static sw_code is_input(const run *r, const char *name, bool *is, sw_status *st)
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
static sw_code spare_inputs(run *r, sw_status *st)
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
static sw_code look_at_output(run *r, const char *index, sw_status *st)
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

/* ---- the plan ----------------------------------------------------------------------------------- */

/* A file that an option names: missing is wrong usage. */
static sw_code read_option_file(run *r, const char *path, sw_side *side, sw_status *st)
{
    if (!sw_scan_side(r->comm, path, path, true, side, st) && !side->there)
        sw_fail(st, SW_EUSAGE, path, NULL, "no such file");
    return st->code;
}

static sw_code decide_values(run *r, sw_status *st)
{
    sw_map map = SW_MAP_INIT;
    uint64_t kept = 0;

    if (r->scan.dtype_map.there && sw_map_parse_texts(r->scan.dtype_map.text.data, r->scan.dtype_map.text.len,
                                                      SW_DTYPE_MAP_NAME, &map, st))
        return st->code;
    sw_values_decide(&r->c, r->scan.dtype_map.there ? &map : NULL, SW_DTYPE_MAP_NAME, &kept, st);
    if (kept && !st->code)
        sw_buf_add_line(&r->warnings, st,
                        "%" PRIu64
                        " tensors are saved in another dtype than %s names (quantized or integer): "
                        "they stay as they are",
                        kept, SW_DTYPE_MAP_NAME);
    sw_map_release(&map);
    return st->code;
}

/* The directory that a file is in; NULL on failure. */
static char *dir_of(const char *path, sw_status *st)
{
    const char *slash = strrchr(path, '/');
    char *dir = sw_strdup(slash ? path : ".", st);

    if (dir && slash)
        dir[slash == path ? 1 : slash - path] = '\0';
    return dir;
}

static sw_code rule_from_like(run *r, sw_layout_rule *rule, sw_status *st)
{
    const char *like = r->opt->like, *slash = strrchr(like, '/');
    char *dir = dir_of(like, st);
    sw_side side = { 0 };

    if (sw_agree(r->comm, st) || read_option_file(r, like, &side, st))
        goto out;
    if (!sw_index_parse(side.text.data, side.text.len, like, &r->map, st) && r->map.n == 0)
        sw_fail(st, SW_EINPUT, like, NULL, "no weight_map");
    if (sw_agree(r->comm, st))
        goto out;
    *rule = (sw_layout_rule){ SW_LAYOUT_NAMES, &r->map, like, slash ? slash + 1 : like, 0 };
    sw_like_compare(r->comm, &r->c, dir, &r->map, r->opt->node_local, &r->warnings, st);
out:
    free(dir);
    sw_buf_release(&side.text);
    return st->code;
}

static sw_code rule_from_fqn_map(run *r, sw_layout_rule *rule, sw_status *st)
{
    sw_side side = { 0 };

    if (!read_option_file(r, r->opt->fqn_map, &side, st))
        sw_map_parse_numbers(side.text.data, side.text.len, r->opt->fqn_map, &r->map, st);
    sw_buf_release(&side.text);
    *rule = (sw_layout_rule){ SW_LAYOUT_NUMBERS, &r->map, r->opt->fqn_map, NULL, 0 };
    return st->code;
}

/* No tensor stands under several model numbers, and all have one. */
static bool has_models(const sw_catalog *c)
{
    for (uint32_t i = 0; i < c->ntensors; i++)
        if (c->tensors[i].model == 0)
            return false;
    return c->ntensors > 0;
}

/* SPEC 4: the first of the options, .hf_metadata, the input's own layout, the size. */
static sw_code choose_rule(run *r, sw_layout_rule *rule, sw_status *st)
{
    if (r->opt->fqn_map)
        return rule_from_fqn_map(r, rule, st);
    if (r->opt->like)
        return rule_from_like(r, rule, st);
    if (r->opt->max_shard_size)
        *rule = (sw_layout_rule){ SW_LAYOUT_SIZE, NULL, NULL, NULL, r->opt->max_shard_size };
    else if (r->opt->single_file)
        *rule = (sw_layout_rule){ SW_LAYOUT_SINGLE, NULL, NULL, NULL, 0 };
    else if (r->scan.file_map.there) {
        sw_map_parse_numbers(r->scan.file_map.text.data, r->scan.file_map.text.len, SW_FILE_MAP_NAME, &r->map,
                             st);
        *rule = (sw_layout_rule){ SW_LAYOUT_NUMBERS, &r->map, SW_FILE_MAP_NAME, NULL, 0 };
    } else if (r->scan.by_index)
        *rule = (sw_layout_rule){ SW_LAYOUT_NAMES, &r->scan.weight_map, r->scan.index_name,
                                  r->scan.index_name, 0 };
    else if (has_models(&r->c))
        *rule = (sw_layout_rule){ SW_LAYOUT_MODELS, NULL, NULL, NULL, 0 };
    else
        *rule = (sw_layout_rule){ SW_LAYOUT_SIZE, NULL, NULL, NULL, SIZE_DEFAULT };
    return st->code;
}

static sw_code lay_out(run *r, sw_status *st)
{
    sw_layout_rule rule;

    decide_values(r, st);
    if (sw_agree(r->comm, st) || choose_rule(r, &rule, st) || sw_layout_build(&r->c, &rule, &r->layout, st))
        return st->code;
    if (r->layout.unused)
        sw_buf_add_line(&r->warnings, st,
                        "%" PRIu64
                        " tensors of %s are in no shard file and are left out (tied weights?): %.*s%s",
                        r->layout.unused, rule.map_file, (int)r->layout.unused_names.len,
                        r->layout.unused_names.data, r->layout.unused > 10 ? ", ..." : "");
    return st->code;
}

/* How much memory, cut where, filled how: from the options and the file system, which rank 0 looks at. */
static sw_code schedule(run *r, sw_status *st)
{
    uint64_t sizes[2] = { 0 }, buffer, band; /* default buffer, block */
    uint64_t nranks = (uint64_t)r->comm->size;
    sw_fs fs = { 0 };

    if (is_root(r)) {
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
static sw_code compare_plans(run *r, sw_status *st)
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
static sw_code fill_result(run *r, sw_status *st)
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

static sw_code plan(run *r, sw_status *st)
{
    if (sw_scan_dir(r->comm, r->in, r->opt->node_local, &r->c, &r->scan, st))
        return st->code;
    if (list_keep(r, st))
        return st->code;
    /* An existing output is refused before the work, unless it may turn out to be what this run asks for. */
    if (is_root(r) && !r->recovered)
        look_at_output(r, NULL, st);
    sw_check_expected(&r->c, r->opt->expect_shards, &r->warnings, st);
    if (sw_agree(r->comm, st) ||
        sw_gather_catalog(r->comm, r->in, r->opt->cancel, &r->c, &r->result->seconds_parse, st))
        return st->code;
    lay_out(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    schedule(r, st);
    if (sw_agree(r->comm, st) || compare_plans(r, st))
        return st->code;
    return fill_result(r, st);
}

/* ---- before the first byte ---------------------------------------------------------------------- */

/* Would a final name hit a file of the input? Shards are never modified. */
static sw_code check_inputs_safe(const run *r, sw_status *st)
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

static sw_code check_same_dir(run *r, sw_status *st)
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

static sw_code check_space(const run *r, sw_status *st)
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
static sw_publication *list_publications(const run *r, size_t *n, sw_status *st)
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
static sw_code prepare_output(run *r, sw_status *st)
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

/* ---- writing and publishing --------------------------------------------------------------------- */

static sw_code write_files(run *r, sw_status *st)
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
    if (is_root(r))
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

/* Rank 0. */
static sw_code publish(run *r, sw_status *st)
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

/* A recovery may have completed a publication: if it is what this run asks for, all is done. Else what is there is an existing
 * checkpoint. */
static sw_code judge_output(run *r, sw_status *st)
{
    r->done = r->recovered && r->recovered == r->fingerprint;
    r->result->recovered = r->done;
    if (!r->done && is_root(r)) {
        look_at_output(r, r->layout.index_name, st);
        if (r->nold && r->opt->dry_run && !r->opt->overwrite)
            sw_buf_add_line(&r->warnings, st, "%s holds a checkpoint already: --overwrite will be needed",
                            r->out);
    }
    return sw_agree(r->comm, st);
}

static sw_code steps(run *r, sw_status *st)
{
    check_options(r, st);
    if (sw_agree(r->comm, st) || open_output(r, st) || plan(r, st) || judge_output(r, st))
        return st->code;
    check_same_dir(r, st);
    if (sw_agree(r->comm, st))
        return st->code;
    r->result->seconds_plan = now() - r->started;
    tell_warnings(r);
    if (r->done || r->opt->dry_run)
        return SW_OK;
    if (is_root(r))
        prepare_output(r, st);
    if (sw_agree(r->comm, st) || write_files(r, st))
        return st->code;
    r->result->seconds_write = now() - r->started - r->result->seconds_plan;
    if (is_root(r))
        publish(r, st);
    return sw_agree(r->comm, st);
}

/* ---- the end ------------------------------------------------------------------------------------ */

/* Sums and maxima over the ranks; of no consequence when it fails, so that the status stays. */
static void finish_result(run *r)
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

static void release(run *r)
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
    run r = { .comm = comm, .in = input_dir, .out = output_dir, .opt = opt ? opt : &defaults };

    r.result = result ? result : &unwanted;
    *r.result = (sw_result){ 0 };
    sw_status_clear(st);
    r.started = now();
    r.result->ranks = comm->size;
    steps(&r, st);
    if (is_root(&r))
        sw_stage_close(r.stage, st);
    if (st->code != SW_ECOMM) {
        sw_agree(comm, st);
        finish_result(&r);
    }
    if (r.result->seconds_write > 0)
        r.result->seconds_publish = now() - r.started - r.result->seconds_plan - r.result->seconds_write;
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
