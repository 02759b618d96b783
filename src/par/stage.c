/* The life of a staging directory: taken, filled, removed; see publish.h.
 *
 * Who is in and who is out is decided by the lock alone; the directory may be made by one run and locked by
 * another one, or be left by a killed one. Between any two steps of ours a finishing run may remove the
 * directory, or the OUTPUT_DIR that it had made: then we begin again. */
#include "par/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"
#include "format/maps.h"
#include "par/journal.h"

#define TRIES 100

/* ---- entering ----------------------------------------------------------------------------------- */

/* Make the staging directory or find it. A link in its place would lead our files elsewhere. */
static sw_code make_staging(sw_stage *s, sw_status *st)
{
    sw_path_kind kind;
    bool made;

    if (sw_path_mkdir(s->dir, &made, st) || sw_path_lstat(s->dir, &kind, NULL, st))
        return st->code;
    if (kind != SW_PATH_DIR && kind != SW_PATH_MISSING)
        return sw_fail(st, SW_EIO, s->dir, NULL,
                       "found something that is no directory, expected none or a run's");
    return SW_OK;
}

/* Did OUTPUT_DIR vanish while we made something in it? */
static bool out_is_gone(const sw_stage *s)
{
    sw_status ignored = SW_STATUS_INIT;
    sw_path_kind kind;

    return !sw_path_stat(s->out, &kind, NULL, &ignored) && kind == SW_PATH_MISSING;
}

static sw_code enter_once(sw_stage *s, bool *gone, sw_status *st)
{
    size_t kept;
    sw_code code = sw_path_mkdirs_kept(s->out, &kept, st);

    s->kept = (size_t)sw_min(s->kept, kept);
    if (code)
        return code;
    if (make_staging(s, st)) {
        *gone = out_is_gone(s);
        return st->code;
    }
    return sw_lock_take(s->dir, s->out, &s->lock, gone, st);
}

static sw_code enter(sw_stage *s, sw_status *st)
{
    sw_status last = SW_STATUS_INIT;
    bool gone = true;

    for (int i = 0; i < TRIES && gone; i++) {
        sw_status_clear(&last);
        gone = false;
        enter_once(s, &gone, &last);
    }
    if (gone && !last.code)
        sw_fail(&last, SW_EIO, s->dir, NULL, "other runs made and removed the directory too often");
    if (last.code)
        *st = last;
    return last.code;
}

/* ---- cleaning ----------------------------------------------------------------------------------- */

/* All that is staged, but for the lock and a journal's word about it: the journal must be gone before. */
static sw_code empty_staging(const sw_stage *s, sw_status *st)
{
    sw_dir items;
    sw_code code = sw_dir_list(s->dir, &items, st), one;

    if (code)
        return code;
    for (size_t i = 0; i < items.n; i++) {
        char *path;

        if (strcmp(items.names[i], SW_LOCK_NAME) == 0)
            continue;
        path = sw_path_join(s->dir, items.names[i], st);
        one = path ? sw_path_remove_tree(path, st) : st->code;
        code = code ? code : one;
        free(path);
    }
    sw_dir_release(&items);
    return code;
}

/* A file of ours can move from staging into OUTPUT_DIR: so can those of hours of work. */
static sw_code try_rename(const sw_stage *s, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    char *from = sw_path_join(s->fresh, SW_TRIAL_NAME, st);
    char *to = sw_path_join(s->out, SW_TRIAL_NAME, st);
    sw_code code = from && to ? SW_OK : st->code;

    if (!code)
        code = sw_path_write(from, NULL, 0, false, st);
    if (!code)
        code = sw_path_rename(from, to, st);
    if (!code && (code = sw_path_unlink(to, st)))
        sw_path_unlink(to, &ignored); /* the staging directory will go; this would stay */
    free(to);
    free(from);
    return code;
}

/* A run that was killed in its trial left that file in OUTPUT_DIR. */
static sw_code remove_trial(const sw_stage *s, sw_status *st)
{
    char *path = sw_path_join(s->out, SW_TRIAL_NAME, st);
    sw_code code = path ? sw_path_unlink(path, st) : st->code;

    free(path);
    return code;
}

static sw_code prepare(sw_stage *s, sw_status *st)
{
    bool made;

    if (empty_staging(s, st) || remove_trial(s, st) || sw_path_mkdir(s->fresh, &made, st))
        return st->code;
    return try_rename(s, st);
}

/* ---- the interface ------------------------------------------------------------------------------ */

static sw_code name_parts(sw_stage *s, const char *output_dir, sw_status *st)
{
    if (!(s->out = sw_strdup(output_dir, st)) || !(s->dir = sw_path_join(output_dir, SW_STAGING_NAME, st)) ||
        !(s->fresh = sw_path_join(s->dir, "new", st)) || !(s->aside = sw_path_join(s->dir, "old", st)))
        return st->code;
    s->kept = strlen(output_dir);
    return SW_OK;
}

sw_code sw_stage_open(const char *output_dir, bool sync, sw_stage **out, uint64_t *recovered, sw_status *st)
{
    sw_stage *s = sw_calloc(1, sizeof *s, st);
    sw_code code = s ? SW_OK : st->code;

    *out = NULL;
    *recovered = 0;
    if (!code)
        s->sync = sync;
    if (!code)
        code = name_parts(s, output_dir, st);
    if (!code)
        code = enter(s, st);
    if (!code)
        code = sw_publication_recover(s, recovered, st);
    if (!code)
        code = prepare(s, st);
    if (code) {
        *recovered = 0;
        sw_stage_close(s, st);
        return code;
    }
    *out = s;
    return SW_OK;
}

char *sw_stage_path(sw_stage *s, const char *name, sw_status *st)
{
    char *path;

    if (!sw_name_is_below(name)) {
        sw_fail(st, SW_EINPUT, name, NULL,
                "this name of an output file would lead out of the output directory");
        return NULL;
    }
    path = sw_path_join(s->fresh, name, st);
    if (path && sw_path_mkdirs_for(path, st)) {
        free(path);
        path = NULL;
    }
    return path;
}

/* The lock goes after all else, so that nobody enters while we remove; the directory goes last, unless the next
 * run is in it already. */
static void leave(sw_stage *s, sw_status *st)
{
    sw_status lost = SW_STATUS_INIT;

    if (sw_lock_check(s->lock, &lost)) {
        sw_fail(st, lost.code, lost.file, NULL, "%s", lost.reason);
        s->half = true; /* it is not ours any more */
    }
    if (!s->half)
        empty_staging(s, st);
    sw_lock_drop(s->lock, st);
    if (!s->half && (SW_FAULT("rmdir") ? -1 : rmdir(s->dir)) != 0 && errno != ENOTEMPTY && errno != EEXIST &&
        errno != ENOENT)
        sw_fail_errno(st, s->dir, errno, "cannot remove");
}

void sw_stage_close(sw_stage *s, sw_status *st)
{
    if (!s)
        return;
    if (s->lock)
        leave(s, st);
    else if (s->dir)
        rmdir(s->dir); /* ours if it is empty: we could not lock what we made */
    if (s->out && !s->published && !s->half)
        sw_path_rmdirs(s->out, s->kept);
    free(s->aside);
    free(s->fresh);
    free(s->dir);
    free(s->out);
    free(s);
}
