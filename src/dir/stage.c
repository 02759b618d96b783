/* The life of a staging directory: taken, filled, removed; see publish.h.
 *
 * Who is in and who is out is decided by the lock alone; the directory may be made by one run and
 * locked by another one, or be left by a killed one. Between any two steps of ours a finishing run
 * may remove the directory, or the OUTPUT_DIR that it had made: then we begin again.
 *
 * Whoever may write into OUTPUT_DIR, and whoever made what is unpacked there, can put anything
 * under the name of the staging directory. So it counts only if it is a directory and belongs to
 * who we are there; anything else is refused, and stays as it is. */
#include "dir/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "dir/journal.h"
#include "format/maps.h"

#define TRIES 100

/* How long a directory that another rank made may stay invisible (lookup caches of network file
 * systems). */
#define SEE_TRIES 20
#define SEE_WAIT_NS 100000000L

/* Nobody else has any business in it. */
#define STAGING_MODE 0700

/* ---- what is ours ---------------------------------------------------------------------------- */

/* Who we are there: the owner of a file that is made now. On a network file system root may be
 * somebody else. */
static sw_code ask_owner(const sw_below *dir, uid_t *uid, sw_status *st)
{
    sw_code code = SW_OK;
    struct stat s;
    int fd = openat(dir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0) {
        if ((code = sw_below_unlink(dir, SW_TRIAL_NAME, st)) ||
            (code = sw_below_create(dir, SW_TRIAL_NAME, 0600, &fd, st)))
            return code;
        code = sw_below_unlink(dir, SW_TRIAL_NAME, st);
    }
    if (!code && fstat(fd, &s) != 0)
        code = sw_fail_errno(st, dir->path, errno, "cannot look at a file made in it");
    else if (!code)
        *uid = s.st_uid;
    close(fd);
    return code;
}

/* Is an open directory ours? parent: what it is in. */
static sw_code check_owner(const sw_below *parent, const sw_below *dir, sw_status *st)
{
    uid_t me = geteuid();
    struct stat s;

    if (fstat(dir->fd, &s) != 0)
        return sw_fail_errno(st, dir->path, errno, "cannot look at it");
    if (s.st_uid != me) {
        sw_code code = ask_owner(parent, &me, st);

        if (code)
            return code;
    }
    if (s.st_uid != me)
        return sw_fail(
            st, SW_EIO, dir->path, NULL,
            "belongs to user %lu, and we are user %lu there: what it holds is neither believed nor removed; "
            "look at it, then have it removed or choose another directory",
            (unsigned long)s.st_uid, (unsigned long)me);
    if (s.st_mode & 077)
        /* if it can be; what is in it is looked at for itself */
        fchmod(dir->fd, s.st_mode & 07700);
    return SW_OK;
}

/* Make a directory of ours, or find it, and open it. gone: it, or what it is in, vanished
 * meanwhile. */
static sw_code enter_ours(const sw_below *parent, const char *name, bool *made, sw_below *out, bool *gone,
                          sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    sw_path_kind kind = SW_PATH_MISSING;
    sw_code code;

    if (sw_below_mkdir(parent, name, STAGING_MODE, made, &own)) {
        struct stat s;

        *gone = errno == ENOENT || errno == ESTALE || (fstat(parent->fd, &s) == 0 && s.st_nlink == 0);
        return *gone ? SW_OK : sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    }
    if ((code = sw_below_stat(parent, name, &kind, NULL, st)))
        return code;
    if (kind == SW_PATH_FILE || kind == SW_PATH_OTHER)
        return sw_below_refuse(parent, name, kind == SW_PATH_FILE ? "it is a file" : "it is a link or a pipe",
                               st);
    if ((code = sw_below_enter(parent, name, out, gone, st)) || *gone)
        return code;
    return check_owner(parent, out, st);
}

/* ---- entering -------------------------------------------------------------------------------- */

/* Where the last part of a path begins, and a copy of what is before it: "." where it has none. */
static char *split(const char *path, const char **name, sw_status *st)
{
    *name = sw_path_name(path);
    return sw_path_dir(path, st);
}

/* OUTPUT_DIR is the user's word: made with its parents, links followed. */
static sw_code enter_named(sw_stage *s, const char *output_dir, bool *gone, sw_status *st)
{
    size_t kept;
    sw_code code = sw_path_mkdirs(output_dir, &kept, st);

    s->kept = (size_t)sw_min(s->kept, kept);
    return code ? code : sw_below_open(output_dir, &s->out, gone, st);
}

/* Its parents are the user's word, the hidden directory is not. */
static sw_code enter_hidden(sw_stage *s, const char *dir, bool *gone, sw_status *st)
{
    const char *name;
    char *above = split(dir, &name, st);
    sw_below parent = SW_BELOW_INIT;
    size_t kept = 0;
    bool made = false;
    sw_code code = above ? sw_path_mkdirs(above, &kept, st) : st->code;

    if (above && kept < strlen(above))
        s->kept = (size_t)sw_min(s->kept, kept);
    if (!code && !(code = sw_below_open(above, &parent, gone, st)) && !*gone)
        code = enter_ours(&parent, name, &made, &s->out, gone, st);
    if (made)
        s->kept = (size_t)sw_min(s->kept, (size_t)(name - dir));
    /* In messages, and for other ranks, it is what it was called. */
    if (!code && !*gone && s->out.path) {
        free(s->out.path);
        if (!(s->out.path = sw_strdup(dir, st)))
            code = st->code;
    }
    sw_below_close(&parent);
    free(above);
    return code;
}

static sw_code enter_once(sw_stage *s, const char *dir, const volatile int *cancel, bool *gone, sw_status *st)
{
    bool made;
    sw_code code;

    sw_below_close(&s->dir);
    sw_below_close(&s->out);
    code = s->hidden ? enter_hidden(s, dir, gone, st) : enter_named(s, dir, gone, st);
    if (!code && !*gone)
        code = enter_ours(&s->out, SW_STAGING_NAME, &made, &s->dir, gone, st);
    if (code || *gone)
        return code;
    code = sw_lock_take(&s->dir, s->out.path, cancel, &s->lock, gone, st);
    if (code && made)
        unlinkat(s->out.fd, SW_STAGING_NAME, AT_REMOVEDIR); /* we could not lock what we made */
    return code;
}

static sw_code enter(sw_stage *s, const char *dir, const volatile int *cancel, sw_status *st)
{
    sw_status last = SW_STATUS_INIT;
    bool gone = true;

    for (int i = 0; i < TRIES && gone; i++) {
        sw_status_clear(&last);
        gone = false;
        enter_once(s, dir, cancel, &gone, &last);
    }
    if (gone && !last.code)
        sw_fail(&last, SW_EIO, dir, NULL, "other runs made and removed the directory too often");
    if (last.code)
        *st = last;
    return last.code;
}

/* ---- cleaning -------------------------------------------------------------------------------- */

/* All that is staged, but for the lock and a journal's word about it: the journal must be gone
 * before. */
static sw_code empty_staging(const sw_stage *s, sw_status *st)
{
    sw_dir items;
    sw_code code = sw_below_list(&s->dir, &items, st), one;

    for (size_t i = 0; i < items.n; i++) {
        if (strcmp(items.names[i], SW_LOCK_NAME) == 0)
            continue;
        one = sw_below_remove_tree(&s->dir, items.names[i], st);
        code = code ? code : one;
    }
    sw_dir_release(&items);
    return code;
}

/* A file of ours can move from staging into OUTPUT_DIR: so can those of hours of work. */
static sw_code try_rename(const sw_stage *s, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    sw_code code = sw_below_write(&s->fresh, SW_TRIAL_NAME, NULL, 0, false, st);

    if (!code)
        code = sw_below_rename(&s->fresh, SW_TRIAL_NAME, &s->out, SW_TRIAL_NAME, st);
    if (!code && (code = sw_below_unlink(&s->out, SW_TRIAL_NAME, st)))
        sw_below_unlink(&s->out, SW_TRIAL_NAME,
                        &ignored); /* the staging directory will go; this would stay */
    return code;
}

/* A run that was killed in its trial left that file in OUTPUT_DIR. */
static sw_code prepare(sw_stage *s, sw_status *st)
{
    bool made;

    sw_below_close(&s->fresh);
    sw_below_close(&s->aside);
    if (empty_staging(s, st) || sw_below_unlink(&s->out, SW_TRIAL_NAME, st) ||
        sw_below_mkdir(&s->dir, "new", 0777, &made, st) ||
        sw_below_enter(&s->dir, "new", &s->fresh, NULL, st))
        return st->code;
    return try_rename(s, st);
}

/* ---- the interface --------------------------------------------------------------------------- */

static sw_code open_stage(const char *dir, bool hidden, bool sync, const volatile int *cancel, sw_stage **out,
                          uint64_t *recovered, sw_status *st)
{
    sw_stage *s = sw_calloc(1, sizeof *s, st);
    sw_code code;

    *out = NULL;
    *recovered = 0;
    if (!s)
        return st->code;
    s->out = s->dir = s->fresh = s->aside = (sw_below)SW_BELOW_INIT;
    s->kept = strlen(dir);
    s->hidden = hidden;
    s->sync = sync;
    if (!(code = enter(s, dir, cancel, st)) && !(code = sw_publication_recover(s, recovered, st)))
        code = prepare(s, st);
    if (code) {
        *recovered = 0;
        sw_stage_close(s, NULL, st);
        return code;
    }
    *out = s;
    return SW_OK;
}

sw_code sw_stage_open(const char *output_dir, bool sync, const volatile int *cancel, sw_stage **out,
                      uint64_t *recovered, sw_status *st)
{
    return open_stage(output_dir, false, sync, cancel, out, recovered, st);
}

sw_code sw_stage_open_hidden(const char *dir, bool sync, const volatile int *cancel, sw_stage **out,
                             uint64_t *recovered, sw_status *st)
{
    return open_stage(dir, true, sync, cancel, out, recovered, st);
}

const sw_below *sw_stage_fresh(const sw_stage *s)
{
    return &s->fresh;
}

sw_code sw_stage_make_room(const sw_stage *s, const char *name, sw_status *st)
{
    if (!sw_name_is_below(name))
        return sw_fail(st, SW_EINPUT, name, NULL,
                       "this name of an output file would lead out of the output directory");
    return sw_below_mkdirs_for(&s->fresh, name, st);
}

sw_code sw_staged_open(const char *dir, sw_below *out, sw_status *st)
{
    static const char end[] = "/" SW_STAGING_NAME "/new";
    const struct timespec moment = { 0, SEE_WAIT_NS };
    size_t n = strlen(dir), k = sizeof end - 1;
    char *above = n >= k && strcmp(dir + n - k, end) == 0 ? sw_strdup(dir, st) : NULL;
    sw_below base = SW_BELOW_INIT;
    bool missing = true;

    *out = (sw_below)SW_BELOW_INIT;
    if (!above)
        return sw_fail(st, SW_EINTERNAL, dir, NULL, "is no directory of staged files");
    above[n - k + (n == k)] = '\0';
    for (int i = 0; i < SEE_TRIES && missing && !st->code; i++) {
        if (i > 0)
            nanosleep(&moment, NULL);
        sw_below_close(out);
        sw_below_close(&base);
        if (!sw_below_open(above, &base, &missing, st) && !missing)
            sw_below_enter(&base, end + 1, out, &missing, st);
    }
    if (missing && !st->code)
        sw_fail(st, SW_EIO, dir, NULL, "the directory that another rank made cannot be seen here");
    sw_below_close(&base);
    free(above);
    return st->code;
}

/* The lock goes after all else, so that nobody enters while we remove; the directory goes last,
 * unless the next run is in it already. */
static void leave(sw_stage *s, sw_status *st)
{
    sw_status lost = SW_STATUS_INIT;

    if (sw_lock_check(s->lock, &lost)) {
        sw_fail(st, lost.code, lost.file, NULL, "%s", lost.reason);
        s->half = true; /* it is not ours any more */
    }
    s->stays = s->half ? !lost.code : empty_staging(s, st) != SW_OK;
    sw_lock_drop(s->lock, s->half, st);
    if (s->half)
        return;
    if ((SW_FAULT("rmdir") ? -1 : unlinkat(s->out.fd, SW_STAGING_NAME, AT_REMOVEDIR)) == 0 ||
        errno == ENOENT) {
        s->stays = false;
    } else if (errno != ENOTEMPTY && errno != EEXIST) {
        s->stays = true;
        sw_fail_errno(st, s->dir.path, errno, "cannot remove");
    }
}

void sw_stage_close(sw_stage *s, char **left, sw_status *st)
{
    if (left)
        *left = NULL;
    if (!s)
        return;
    if (s->lock)
        leave(s, st);
    if (left && s->stays)
        *left = strdup(s->dir.path);
    if (s->out.path && !s->published && !s->half)
        sw_path_rmdirs(s->out.path, s->kept);
    sw_below_close(&s->aside);
    sw_below_close(&s->fresh);
    sw_below_close(&s->dir);
    sw_below_close(&s->out);
    free(s);
}
