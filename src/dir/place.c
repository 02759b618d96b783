/* The life of a staging directory: taken, filled, removed; see place.h.
 *
 * Who is in and who is out is decided by the lock alone; the directory may be made by one run and
 * locked by another one, or be left by a killed one. Between any two steps of ours a finishing run
 * may remove the directory, or the OUTPUT_DIR that it had made: then we begin again.
 *
 * Whoever may write into OUTPUT_DIR, and whoever made what is unpacked there, can put anything
 * under the name of the staging directory. So it counts only if it is a directory and belongs to
 * who we are there; anything else is refused, and stays as it is. */
#include "dir/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/num.h"
#include "dir/publish.h"
#include "dir/store.h"
#include "format/filenames.h"
#include "format/maps.h"

#define TRIES 100

/* ".NAME" with this stands beside NAME: it is the OUTPUT_DIR of a place whose files never get
 * there. */
#define HIDDEN_SUFFIX ".shardweld-new"

/* A stream's last file, before it has its name. */
#define KEY_DRAFT "key"

/* Nobody else has any business in it. */
#define STAGING_MODE 0700

/* ---- what is ours ---------------------------------------------------------------------------- */

/* Who we are there: the owner of a file that is made now. On a network file system root may be
 * somebody else. */
static sw_code ask_owner(const sw_below *dir, uid_t *uid, sw_status *st)
{
    struct stat s;
    int fd = openat(dir->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 &&
        (sw_below_unlink(dir, SW_TRIAL_NAME, st) || sw_below_create(dir, SW_TRIAL_NAME, 0600, &fd, st) ||
         sw_below_unlink(dir, SW_TRIAL_NAME, st)))
        goto out;
    if (fstat(fd, &s) != 0)
        sw_fail_errno(st, dir->path, errno, "cannot look at a file made in it");
    else
        *uid = s.st_uid;
out:
    if (fd >= 0)
        close(fd);
    return st->code;
}

/* Is an open directory ours? parent: what it is in. */
static sw_code check_owner(const sw_below *parent, const sw_below *dir, sw_status *st)
{
    uid_t me = geteuid();
    struct stat s;

    if (fstat(dir->fd, &s) != 0)
        return sw_fail_errno(st, dir->path, errno, "cannot look at it");
    if (s.st_uid != me && ask_owner(parent, &me, st))
        return st->code;
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
    struct stat s;

    if (sw_below_mkdir(parent, name, STAGING_MODE, made, &own)) {
        *gone = errno == ENOENT || errno == ESTALE || (fstat(parent->fd, &s) == 0 && s.st_nlink == 0);
        return *gone ? SW_OK : sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    }
    if (sw_below_stat(parent, name, &kind, NULL, st))
        return st->code;
    if (kind == SW_PATH_FILE || kind == SW_PATH_OTHER)
        return sw_below_refuse(parent, name, kind == SW_PATH_FILE ? "it is a file" : "it is a link or a pipe",
                               st);
    if (sw_below_enter(parent, name, out, gone, st) || *gone)
        return st->code;
    return check_owner(parent, out, st);
}

/* ---- entering -------------------------------------------------------------------------------- */

/* OUTPUT_DIR is the user's word: made with its parents, links followed. */
static sw_code enter_named(sw_place *p, const char *dir, bool *gone, sw_status *st)
{
    size_t kept;

    sw_path_mkdirs(dir, &kept, st);
    p->kept = (size_t)sw_min(p->kept, kept);
    return st->code ? st->code : sw_below_open(dir, &p->out, gone, st);
}

/* Its parents are the user's word, the hidden directory is not: it must be ours, and no link. It is
 * not kept, whoever made it. */
static sw_code enter_hidden(sw_place *p, const char *dir, bool *gone, sw_status *st)
{
    const char *name = sw_path_name(dir);
    char *above = sw_path_dir(dir, st);
    sw_below parent = SW_BELOW_INIT;
    size_t kept = 0;
    bool made;

    p->kept = (size_t)sw_min(p->kept, (size_t)(name - dir));
    if (above && (sw_path_mkdirs(above, &kept, st) || kept < strlen(above)))
        p->kept = (size_t)sw_min(p->kept, kept);
    if (!st->code && !sw_below_open(above, &parent, gone, st) && !*gone)
        enter_ours(&parent, name, &made, &p->out, gone, st);
    /* In messages, and for other ranks, it is what it was called. */
    if (!st->code && !*gone) {
        free(p->out.path);
        p->out.path = sw_strdup(dir, st);
    }
    sw_below_close(&parent);
    free(above);
    return st->code;
}

/* Is the staging directory that is open the one of that name? The next run may have made
 * another. */
static bool is_there(const sw_place *p)
{
    struct stat ours, named;

    return fstat(p->dir.fd, &ours) == 0 &&
           fstatat(p->out.fd, SW_STAGING_NAME, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           sw_path_same(&ours, &named);
}

/* What can the store do? A run that ends may take the directory away under our hands. */
static sw_code try_store(sw_place *p, const sw_place_rule *rule, bool *gone, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;

    if (!sw_store_try(&p->dir, &p->store, &own)) {
        p->store.kind = sw_store_choose(rule->store, &p->store);
        return SW_OK;
    }
    *gone = !is_there(p);
    return *gone ? SW_OK : sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
}

/* Enter the directories, take the lock and look at the store. *gone: another run removed one of
 * them meanwhile. */
static sw_code enter_once(sw_place *p, const char *dir, const sw_place_rule *rule, bool *gone, sw_status *st)
{
    sw_lock_rule how;
    bool made;

    sw_below_close(&p->dir);
    sw_below_close(&p->out);
    if ((p->missing ? enter_hidden : enter_named)(p, dir, gone, st) || *gone ||
        enter_ours(&p->out, SW_STAGING_NAME, &made, &p->dir, gone, st) || *gone)
        return st->code;
    try_store(p, rule, gone, st);
    how = (sw_lock_rule){ p->out.path, rule->cancel, sw_place_streams(p) };
    /* Where nobody is in it goes: we made it, or kept the one who left from removing it. */
    if (st->code || (!*gone && sw_lock_take(&p->dir, &how, &p->lock, gone, st)))
        unlinkat(p->out.fd, SW_STAGING_NAME, AT_REMOVEDIR);
    return st->code;
}

/* Until no other run comes between. */
static sw_code enter(sw_place *p, const char *dir, const sw_place_rule *rule, sw_status *st)
{
    sw_status last = SW_STATUS_INIT;
    bool gone = true;

    for (int i = 0; i < TRIES && gone; i++) {
        sw_status_clear(&last);
        gone = false;
        enter_once(p, dir, rule, &gone, &last);
    }
    if (gone && !last.code)
        sw_fail(&last, SW_EIO, dir, NULL, "other runs made and removed the directory too often");
    if (last.code)
        *st = last;
    return last.code;
}

/* ---- cleaning -------------------------------------------------------------------------------- */

/* All that is staged, but for the lock and a journal's word about it: the journal must be gone
 * before. Goes on after errors; the first one counts. */
static sw_code empty_staging(const sw_place *p, sw_status *st)
{
    sw_dir items;

    sw_below_list(&p->dir, &items, st);
    for (size_t i = 0; i < items.n; i++)
        if (strcmp(items.names[i], SW_LOCK_NAME) != 0)
            sw_below_remove_tree(&p->dir, items.names[i], st);
    sw_dir_release(&items);
    return st->code;
}

/* The directory in which a missing OUTPUT_DIR is made. */
static sw_code enter_new(sw_place *p, sw_status *st)
{
    bool made;

    return sw_below_mkdir(&p->dir, "new", 0777, &made, st)
               ? st->code
               : sw_below_enter(&p->dir, "new", &p->fresh, NULL, st);
}

/* A file of ours can move from staging into OUTPUT_DIR: so can those of hours of work. */
static sw_code try_rename(const sw_place *p, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;

    if (sw_below_write(&p->fresh, SW_TRIAL_NAME, NULL, 0, false, st) ||
        sw_below_rename(&p->fresh, SW_TRIAL_NAME, &p->out, SW_TRIAL_NAME, st))
        return st->code;
    /* the staging directory will go; this would stay */
    if (sw_below_unlink(&p->out, SW_TRIAL_NAME, st))
        sw_below_unlink(&p->out, SW_TRIAL_NAME, &ignored);
    return st->code;
}

/* A run that was killed in its trial left that file in OUTPUT_DIR. */
static sw_code prepare(sw_place *p, sw_status *st)
{
    sw_below_close(&p->fresh);
    sw_below_close(&p->aside);
    if (empty_staging(p, st) || sw_below_unlink(&p->out, SW_TRIAL_NAME, st) || sw_place_streams(p))
        return st->code;
    return enter_new(p, st) ? st->code : try_rename(p, st);
}

/* The lock goes after all else, so that nobody enters while we remove; the directory goes last,
 * unless the next run is in it already. */
static void leave(sw_place *p, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    bool lost = sw_lock_check(p->lock, &own) != SW_OK;
    uint64_t completed = 0;

    if (p->begun && !p->published && !lost) {
        sw_publication_recover(p, &completed, &own);
        p->published = completed != 0;
    }
    p->half = p->half || lost; /* it is not ours any more */
    p->stays = p->half ? !lost : empty_staging(p, &own) != SW_OK;
    if (own.code)
        sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    sw_lock_drop(p->lock, p->half, st);
    if (p->half)
        return;
    if ((SW_FAULT("rmdir") ? -1 : unlinkat(p->out.fd, SW_STAGING_NAME, AT_REMOVEDIR)) == 0 ||
        errno == ENOENT) {
        p->stays = false;
    } else if (errno != ENOTEMPTY && errno != EEXIST) {
        p->stays = true;
        sw_fail_errno(st, p->dir.path, errno, "cannot remove");
    }
}

/* ---- the two places -------------------------------------------------------------------------- */

/* Take a directory: OUTPUT_DIR; or a hidden one, which missing is to come out of, newly allocated
 * and taken over. */
static sw_code open_dir(const sw_place_rule *rule, const char *dir, char *missing, sw_place **out,
                        uint64_t *recovered, sw_status *st)
{
    sw_place *p = sw_calloc(1, sizeof *p, st);

    *out = NULL;
    *recovered = 0;
    if (!p) {
        free(missing);
        return st->code;
    }
    p->out = p->dir = p->fresh = p->aside = (sw_below)SW_BELOW_INIT;
    p->missing = missing;
    p->kept = strlen(dir);
    p->sync = rule->sync;
    p->by_copies = rule->by_copies;
    if (!enter(p, dir, rule, st) && !sw_publication_recover(p, recovered, st) && !prepare(p, st) &&
        !sw_stripes_look(&p->out, rule->stripe, &p->stripes, st)) {
        p->store.targets = p->stripes.targets;
        *out = p;
        return SW_OK;
    }
    *recovered = 0;
    sw_place_close(p, NULL, st);
    return st->code;
}

/* ".NAME" SUFFIX, which stands beside NAME: the path of the hidden directory, newly allocated. NULL
 * = none can be, path is "." or "/"; or an error. */
static char *name_hidden(const char *path, sw_status *st)
{
    const char *name = sw_path_name(path);
    char *hidden = NULL;

    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return NULL;
    if (asprintf(&hidden, "%.*s.%s" HIDDEN_SUFFIX, (int)(name - path), path, name) >= 0)
        return hidden;
    sw_fail_nomem(st, strlen(path));
    return NULL;
}

/* What a run left in a hidden directory beside an OUTPUT_DIR that is there now. */
static sw_code tidy_hidden(const sw_place_rule *rule, const char *hidden, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    char *missing;
    sw_place *p;
    uint64_t ignored;

    if (sw_path_lstat(hidden, &kind, NULL, st) || kind != SW_PATH_DIR || !(missing = sw_strdup("", st)))
        return st->code;
    if (!open_dir(rule, hidden, missing, &p, &ignored, st))
        sw_place_close(p, NULL, st);
    return st->code;
}

/* OUTPUT_DIR without slashes at its end, and what can stand beside it; *missing: it is to be made.
 * All newly allocated, also on an error. */
static sw_code look_at(const char *dir, char **path, char **hidden, bool *missing, sw_status *st)
{
    sw_path_kind kind = SW_PATH_DIR;

    *path = sw_strdup(dir, st);
    for (size_t n = *path ? strlen(dir) : 0; n > 1 && dir[n - 1] == '/'; n--)
        (*path)[n - 1] = '\0';
    *hidden = *path ? name_hidden(*path, st) : NULL;
    if (!st->code)
        sw_path_lstat(*path, &kind, NULL, st);
    *missing = kind == SW_PATH_MISSING && *hidden;
    return st->code;
}

char *sw_staging_path(const char *output_dir, bool shards)
{
    sw_status ignored = SW_STATUS_INIT;
    char *path, *hidden, *staging = NULL;
    bool missing;

    if (!look_at(output_dir, &path, &hidden, &missing, &ignored) || ignored.code == SW_EIO)
        staging =
            shards && missing ? sw_strdup(hidden, &ignored) : sw_path_join(path, SW_STAGING_NAME, &ignored);
    free(hidden);
    free(path);
    return staging;
}

/* OUTPUT_DIR, or where that is missing the hidden directory beside it. */
static sw_code open_whole(const sw_place_rule *rule, sw_place **out, uint64_t *recovered, sw_status *st)
{
    char *path, *hidden;
    bool missing;

    if (look_at(rule->dir, &path, &hidden, &missing, st))
        goto out;
    if (missing && rule->store != SW_STORE_STREAM) {
        open_dir(rule, hidden, path, out, recovered, st);
        path = NULL;
    } else if (missing) {
        open_dir(rule, path, NULL, out, recovered, st);
    } else if (!hidden || !tidy_hidden(rule, hidden, st)) {
        open_dir(rule, path, NULL, out, recovered, st);
    }
out:
    free(hidden);
    free(path);
    return st->code;
}

/* Where a directory cannot appear by a rename, its files do one by one. */
static sw_code open_whole_or_not(const sw_place_rule *rule, sw_place **out, uint64_t *recovered,
                                 sw_status *st)
{
    sw_place_rule streamed = *rule;

    if (open_whole(rule, out, recovered, st) || !(*out)->missing || !sw_place_streams(*out))
        return st->code;
    streamed.store = SW_STORE_STREAM;
    sw_place_close(*out, NULL, st);
    *out = NULL;
    return st->code ? st->code : open_whole(&streamed, out, recovered, st);
}

/* DIR/.shardweld-HASH: what goes to one OUTPUT_DIR has one of its own. NULL on failure. */
static char *name_depot(const sw_place_rule *rule, sw_status *st)
{
    char *real = realpath(rule->copied_to, NULL), *path = NULL;
    const char *target = real ? real : rule->copied_to;

    if (asprintf(&path, "%s/.shardweld-%016" PRIx64, rule->dir, sw_hash(0, target, strlen(target))) < 0)
        sw_fail_nomem(st, strlen(rule->dir));
    free(real);
    return st->code ? NULL : path;
}

/* It is hidden, as that of an OUTPUT_DIR that is missing, and nothing comes out of it. */
static sw_code open_depot(const sw_place_rule *rule, sw_place **out, uint64_t *recovered, sw_status *st)
{
    char *hidden = name_depot(rule, st), *missing = hidden ? sw_strdup("", st) : NULL;

    if (missing)
        open_dir(rule, hidden, missing, out, recovered, st);
    free(hidden);
    if (*out && sw_place_streams(*out)) {
        sw_fail(st, SW_EUSAGE, rule->dir, NULL,
                "is no place to stage files: they cannot be opened again there, and written in the middle");
        sw_place_close(*out, NULL, st);
        *out = NULL;
    }
    return st->code;
}

sw_code sw_place_open(const sw_place_rule *rule, sw_place **out, uint64_t *recovered, sw_status *st)
{
    *out = NULL;
    *recovered = 0;
    return rule->copied_to ? open_depot(rule, out, recovered, st)
           : rule->whole   ? open_whole_or_not(rule, out, recovered, st)
                           : open_dir(rule, rule->dir, NULL, out, recovered, st);
}

const sw_store *sw_place_store(const sw_place *p)
{
    return &p->store;
}

const sw_stripes *sw_place_stripes(const sw_place *p)
{
    return &p->stripes;
}

sw_code sw_place_check_space(const sw_place *p, const char *show, const sw_publication *files, size_t n,
                             sw_status *st)
{
    uint64_t need = 0, *sizes = sw_calloc(n, sizeof *sizes, st);

    for (size_t i = 0; sizes && i < n; i++) {
        sizes[i] = files[i].size;
        if (!sw_add(need, files[i].size, &need))
            need = UINT64_MAX;
    }
    if (sizes && !sw_path_check_space(p->dir.path, show, need, st))
        sw_stripes_check_space(&p->stripes, &p->out, show, sizes, n, st);
    free(sizes);
    return st->code;
}

const char *sw_place_staging(const sw_place *p)
{
    return p->dir.path;
}

const sw_below *sw_place_fresh(const sw_place *p)
{
    return &p->fresh;
}

sw_code sw_place_begin(sw_place *p, const sw_change *change, sw_status *st)
{
    const char *key = change->nfiles ? change->files[change->nfiles - 1].name : NULL;

    if (!sw_place_streams(p) || !key)
        return st->code;
    /* Loaders take a lone file as soon as it has its name. */
    if (sw_name_is_index(key) || sw_shard_name_parse(key, NULL) || (p->by_copies && !p->store.renames)) {
        p->fresh = (sw_below){ fcntl(p->out.fd, F_DUPFD_CLOEXEC, 0), sw_strdup(p->out.path, st) };
        if (p->fresh.fd < 0)
            return sw_fail_errno(st, p->out.path, errno, "cannot open the directory");
        return st->code ? st->code : sw_publication_begin(p, change, st);
    }
    if (!p->store.renames)
        return sw_fail(
            st, SW_EUSAGE, p->out.path, NULL,
            "takes files only from front to back, and cannot rename: a single file would be loaded "
            "before it is whole; split it (sw_options.max_shard_size), or set sw_options.staging_dir");
    return enter_new(p, st);
}

sw_code sw_place_make_room(const sw_place *p, const char *name, sw_status *st)
{
    if (!sw_name_is_below(name))
        return sw_fail(st, SW_EINPUT, name, NULL,
                       "this name of an output file would lead out of the output directory");
    return sw_below_mkdirs_for(&p->fresh, name, st);
}

sw_code sw_place_write_key(const sw_place *p, const char *name, const void *data, uint64_t n, sw_status *st)
{
    if (!p->begun || !p->store.renames)
        return sw_below_write(&p->fresh, name, data, n, p->sync, st);
    return sw_below_write(&p->dir, KEY_DRAFT, data, n, p->sync, st)
               ? st->code
               : sw_below_rename(&p->dir, KEY_DRAFT, &p->fresh, name, st);
}

sw_code sw_staged_open(const char *dir, sw_below *out, sw_status *st)
{
    static const char end[] = "/" SW_STAGING_NAME "/new";
    size_t n = strlen(dir), k = sizeof end - 1;
    bool staged = n >= k && strcmp(dir + n - k, end) == 0;
    char *above = sw_strdup(dir, st);
    sw_below base = SW_BELOW_INIT;
    bool missing = true;

    *out = (sw_below)SW_BELOW_INIT;
    if (above && staged)
        above[n - k + (n == k)] = '\0';
    for (int i = 0; above && missing && !st->code && sw_path_wait(i, SW_PATH_SECONDS); i++) {
        sw_below_close(out);
        sw_below_close(&base);
        if (!sw_below_open(above, staged ? &base : out, &missing, st) && !missing && staged)
            sw_below_enter(&base, end + 1, out, &missing, st);
    }
    if (missing && !st->code)
        sw_fail(st, SW_EIO, dir, NULL, "the directory that another rank made cannot be seen here");
    sw_below_close(&base);
    free(above);
    return st->code;
}

void sw_place_close(sw_place *p, char **left, sw_status *st)
{
    if (left)
        *left = NULL;
    if (!p)
        return;
    if (p->lock)
        leave(p, st);
    if (left && p->stays)
        *left = strdup(p->dir.path);
    if (p->out.path && !p->published && !p->half)
        sw_path_rmdirs(p->out.path, p->kept);
    sw_below_close(&p->aside);
    sw_below_close(&p->fresh);
    sw_below_close(&p->dir);
    sw_below_close(&p->out);
    free(p->missing);
    free(p);
}
