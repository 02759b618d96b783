/* Publication of shard sets; see shardset.h. */
#include "dir/shardset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "dir/stage.h"
#include "format/filenames.h"

/* ".NAME" SUFFIX stands beside NAME. It is the OUTPUT_DIR of a stage whose files never get
 * there. */
#define BESIDE_SUFFIX ".shardweld-new"

struct sw_shardset {
    sw_stage *stage;
    char *out;     /* OUTPUT_DIR without slashes at its end */
    char *beside;  /* NULL = none can be: it is "." or "/" */
    size_t parent; /* bytes of out that name the directory it is in, with the slash */
    bool made;     /* OUTPUT_DIR is missing and will be made by a rename */
};

/* ---- taking ---------------------------------------------------------------------------------- */

static sw_code name_parts(sw_shardset *s, const char *output_dir, sw_status *st)
{
    size_t n = strlen(output_dir);
    const char *slash, *name;

    while (n > 1 && output_dir[n - 1] == '/')
        n--;
    if (!(s->out = sw_strdup(output_dir, st)))
        return st->code;
    s->out[n] = '\0';
    slash = strrchr(s->out, '/');
    name = slash ? slash + 1 : s->out;
    s->parent = (size_t)(name - s->out);
    if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
        asprintf(&s->beside, "%.*s.%s" BESIDE_SUFFIX, (int)s->parent, s->out, name) < 0) {
        s->beside = NULL;
        return sw_fail_nomem(st, n);
    }
    return SW_OK;
}

char *sw_staging_path(const char *output_dir, bool shards)
{
    sw_shardset s = { .stage = NULL };
    sw_status ignored = SW_STATUS_INIT;
    sw_path_kind kind = SW_PATH_DIR;
    char *path = NULL;

    if (!name_parts(&s, output_dir, &ignored)) {
        if (shards)
            sw_path_lstat(s.out, &kind, NULL, &ignored);
        path = kind == SW_PATH_MISSING && s.beside ? sw_strdup(s.beside, &ignored)
                                                   : sw_path_join(s.out, SW_STAGING_NAME, &ignored);
    }
    free(s.beside);
    free(s.out);
    return path;
}

/* What a run left beside an OUTPUT_DIR that is there now. */
static sw_code tidy_beside(const sw_shardset *s, bool sync, const volatile int *cancel, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    sw_stage *stage = NULL;
    uint64_t ignored;

    if (!s->beside || sw_path_lstat(s->beside, &kind, NULL, st) || kind != SW_PATH_DIR)
        return st->code;
    if (!sw_stage_open_hidden(s->beside, sync, cancel, &stage, &ignored, st))
        sw_stage_close(stage, NULL, st);
    if (!st->code)
        sw_path_rmdirs(s->beside, s->parent);
    return st->code;
}

static sw_code open_either(sw_shardset *s, const char *output_dir, bool sync, const volatile int *cancel,
                           uint64_t *recovered, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;

    if (name_parts(s, output_dir, st) || sw_path_lstat(s->out, &kind, NULL, st))
        return st->code;
    s->made = kind == SW_PATH_MISSING && s->beside;
    if (s->made)
        return sw_stage_open_hidden(s->beside, sync, cancel, &s->stage, recovered, st);
    if (tidy_beside(s, sync, cancel, st))
        return st->code;
    return sw_stage_open(s->out, sync, cancel, &s->stage, recovered, st);
}

sw_code sw_shardset_open(const char *output_dir, bool sync, const volatile int *cancel, sw_shardset **out,
                         uint64_t *recovered, sw_status *st)
{
    sw_shardset *s = sw_calloc(1, sizeof *s, st);

    *out = NULL;
    *recovered = 0;
    if (!s)
        return st->code;
    if (open_either(s, output_dir, sync, cancel, recovered, st))
        sw_shardset_close(s, NULL, st);
    else
        *out = s;
    return st->code;
}

sw_stage *sw_shardset_stage(const sw_shardset *s)
{
    return s->stage;
}

const char *sw_shardset_dir(const sw_shardset *s)
{
    return s->stage->fresh.path;
}

void sw_shardset_close(sw_shardset *s, char **left, sw_status *st)
{
    if (left)
        *left = NULL;
    if (!s)
        return;
    if (s->stage) {
        sw_stage_close(s->stage, left, st);
        if (s->made)
            sw_path_rmdirs(s->beside, s->parent);
    }
    free(s->beside);
    free(s->out);
    free(s);
}

/* ---- what is there --------------------------------------------------------------------------- */

/* A directory of such a name would be lost with all that is in it, and no set can be read beside
 * it. */
static sw_code check_replaceable(const char *dir, const char *name, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (path && !sw_path_lstat(path, &kind, &s, st) && kind != SW_PATH_MISSING && kind != SW_PATH_FILE &&
        !S_ISLNK(s.st_mode))
        sw_fail(st, SW_EUSAGE, path, NULL, "has the name of a shard file, and is neither a file nor a link");
    free(path);
    return st->code;
}

sw_code sw_shardset_existing(const char *output_dir, char ***names, size_t *n, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    sw_dir all = { NULL, 0, 0 };
    sw_shard_name ignored;

    *names = NULL;
    *n = 0;
    if (sw_path_stat(output_dir, &kind, NULL, st) || kind != SW_PATH_DIR || sw_dir_list(output_dir, &all, st))
        return st->code;
    *names = sw_calloc(all.n, sizeof **names, st);
    for (size_t i = 0; *names && i < all.n && !st->code; i++)
        if (sw_shard_name_parse(all.names[i], &ignored) && !check_replaceable(output_dir, all.names[i], st) &&
            ((*names)[*n] = sw_strdup(all.names[i], st)))
            ++*n;
    sw_dir_release(&all);
    return st->code;
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* Directories of the staged files, so that all of it is there when the directory is. */
static sw_code sync_staged(const sw_shardset *s, const sw_publication *files, size_t nfiles, sw_status *st)
{
    const sw_below *fresh = sw_stage_fresh(s->stage);

    for (size_t i = 0; i < nfiles && !st->code; i++) {
        char *path = strchr(files[i].name, '/') ? sw_strdup(files[i].name, st) : NULL;

        if (path) {
            *strrchr(path, '/') = '\0';
            sw_below_sync(fresh, path, st);
        }
        free(path);
    }
    return st->code ? st->code : sw_below_sync(fresh, NULL, st);
}

/* The directories above OUTPUT_DIR that this run has made, and the one above those. */
static sw_code sync_parents(const sw_shardset *s, sw_status *st)
{
    char *path = sw_strdup(s->out, st);
    size_t n = s->parent, kept = s->stage->kept < s->parent ? s->stage->kept : s->parent;

    for (bool more = path != NULL; more && !st->code;) {
        while (n > 1 && path[n - 1] == '/')
            n--;
        path[n] = '\0';
        sw_path_sync_dir(n > 0 ? path : ".", st);
        more = n > kept;
        while (n > 0 && path[n - 1] != '/')
            n--;
    }
    free(path);
    return st->code;
}

/* One rename of the directory of staged files, which nobody but us can reach before. */
static sw_code make_output(sw_shardset *s, const sw_publication *files, size_t nfiles, sw_status *st)
{
    char *above = sw_path_dir(s->out, st);
    sw_below parent = SW_BELOW_INIT;
    sw_path_kind kind = SW_PATH_MISSING;
    const char *name = s->out + s->parent;

    if (!above || sw_lock_check(s->stage->lock, st) || sw_stage_check(s->stage, files, nfiles, st) ||
        (s->stage->sync && sync_staged(s, files, nfiles, st)) || sw_below_open(above, &parent, NULL, st) ||
        sw_below_stat(&parent, name, &kind, NULL, st))
        goto out;
    if (kind != SW_PATH_MISSING)
        sw_fail(st, SW_EIO, s->out, NULL, "somebody has made it since this run began");
    else if (!sw_below_rename(&s->stage->dir, "new", &parent, name, st) && s->stage->sync)
        sync_parents(s, st);
out:
    sw_below_close(&parent);
    free(above);
    return st->code;
}

sw_code sw_shardset_publish(sw_shardset *s, const sw_publication *files, size_t nfiles, char *const *old,
                            size_t nold, uint64_t fingerprint, sw_status *st)
{
    if (s->made)
        return make_output(s, files, nfiles, st);
    return sw_stage_publish(s->stage, files, nfiles, old, nold, fingerprint, st);
}
