/* Publication: the renames that make a checkpoint visible, their undoing, and what a killed run
 * left; see place.h.
 *
 * Nothing here remembers how far it got. Every step looks where a file is, and rename moves it from
 * exactly one place to another, so each step can be repeated, and completing or undoing may itself
 * be killed anywhere:
 *   new/NAME there         NAME is not published yet
 *   old/NAME there         the old NAME was moved aside (or, an index that is replaced by rename,
 *                          is kept as a link)
 * Old files leave index first, new files come index last: an index that can be read names whole
 * files. */
#include "dir/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dir/existing.h"
#include "dir/journal.h"
#include "format/filenames.h"
#include "format/manifest.h"

typedef struct work {
    const sw_place *p;
    const sw_journal *j;
} work;

/* ---- single files ---------------------------------------------------------------------------- */

/* What the server says of a file's size and number: opening a file makes a network file system ask,
 * looking at its name may not, and other ranks wrote to it. One that we may not open has the size
 * that it seems to have. */
static sw_code ask(const sw_below *dir, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    struct stat open;
    int fd;

    *kind = SW_PATH_MISSING;
    if (sw_below_stat(dir, name, kind, s, st) || *kind != SW_PATH_FILE)
        return st->code;
    if ((fd = sw_below_fd(dir, name, O_RDONLY)) >= 0) {
        if (fstat(fd, &open) == 0 && S_ISREG(open.st_mode))
            *s = open;
        close(fd);
    }
    return st->code;
}

/* Is the very file there that was staged? whole: with its size; else whatever became of it since.
 * False on an error. */
static bool is_staged(const sw_below *dir, const sw_journal_file *f, bool whole, sw_status *st)
{
    sw_path_kind kind;
    struct stat s;

    return !ask(dir, f->name, &kind, &s, st) && kind == SW_PATH_FILE && (uint64_t)s.st_ino == f->ino &&
           (!whole || (uint64_t)s.st_size == f->size);
}

/* False on an error. */
static bool is_there(const sw_below *dir, const char *name, sw_status *st)
{
    sw_path_kind kind;

    return !sw_below_stat(dir, name, &kind, NULL, st) && kind != SW_PATH_MISSING;
}

/* One staged file to its name. */
static sw_code move(const sw_below *from, const sw_below *to, const char *name, sw_status *st)
{
    return sw_below_mkdirs_for(to, name, st) ? st->code : sw_below_rename(from, name, to, name, st);
}

/* Move it if it is there. */
static sw_code move_if(const sw_below *from, const sw_below *to, const char *name, sw_status *st)
{
    return is_there(from, name, st) ? move(from, to, name, st) : st->code;
}

/* Move an old file aside, unless that is done, or what has its name is already the new one. */
static sw_code put_aside(const work *w, const char *name, sw_status *st)
{
    if (is_there(&w->p->aside, name, st) || st->code)
        return st->code;
    if (sw_journal_is_new(w->j, name) && !is_there(&w->p->fresh, name, st))
        return st->code;
    return move_if(&w->p->out, &w->p->aside, name, st);
}

/* ---- directories ----------------------------------------------------------------------------- */

/* fsync the parents of a name, the innermost first. */
static sw_code sync_parents(const sw_below *root, const char *name, sw_status *st)
{
    char *part = sw_strdup(name, st);
    sw_path_kind kind;

    for (char *end = part ? strrchr(part, '/') : NULL; end && !st->code; end = strrchr(part, '/')) {
        *end = '\0';
        if (!sw_below_stat(root, part, &kind, NULL, st) && kind == SW_PATH_DIR)
            sw_below_sync(root, part, st);
    }
    free(part);
    return st->code;
}

/* fsync each directory below root that holds one of the names: sorted, so that neighbours share
 * it. */
static sw_code sync_below(const sw_below *root, char *const *names, size_t n, sw_status *st)
{
    size_t last = 0;

    for (size_t i = 0; i < n && !st->code; i++) {
        const char *slash = strrchr(names[i], '/');
        size_t len = slash ? (size_t)(slash - names[i]) : 0;

        if (len == 0 || (i > 0 && len == last && strncmp(names[i - 1], names[i], len + 1) == 0))
            continue;
        last = len;
        sync_parents(root, names[i], st);
    }
    return st->code;
}

static sw_code sync_tree(const sw_below *root, char *const *names, size_t n, sw_status *st)
{
    return sync_below(root, names, n, st) ? st->code : sw_below_sync(root, NULL, st);
}

/* All that this publication changes in OUTPUT_DIR. */
static sw_code sync_out(const work *w, sw_status *st)
{
    if (!w->p->sync || sync_below(&w->p->out, w->j->old, w->j->nold, st))
        return st->code;
    return sync_tree(&w->p->out, w->j->sorted, w->j->nfiles, st);
}

/* The directories that hold what this run has made: a path may be new, and so may its parents. */
static sw_code sync_made(const sw_place *p, const char *made, sw_status *st)
{
    char *path = p->sync ? sw_strdup(made, st) : NULL;
    size_t n = path ? strlen(path) : 0;

    while (!st->code && n > p->kept) {
        while (n > p->kept && path[n - 1] != '/')
            n--;
        path[n] = '\0';
        sw_path_sync_dir(n > 0 ? path : ".", st);
        while (n > p->kept && path[n - 1] == '/')
            n--;
    }
    free(path);
    return st->code;
}

/* ---- completing ------------------------------------------------------------------------------ */

static const char *key_name(const sw_journal *j)
{
    return j->files[j->nfiles - 1].name;
}

/* Files of the higher rank go first, and come back last. A manifest speaks of all others; without
 * the index, which may name the lone file, and without that, or of a shard set its shards, what is
 * left is no checkpoint that anybody could take for whole. */
enum { BESIDE, LONE, LEADING, TELLING, NRANKS };

/* When the name comes in the order of a publication. */
static int rank_of(const work *w, const char *name)
{
    bool shards = sw_journal_is_shards(w->j);

    if (strcmp(name, SW_MANIFEST_NAME) == 0)
        return TELLING;
    if (shards ? sw_shard_name_parse(name, NULL) : sw_name_is_index(name))
        return LEADING;
    return !shards && sw_name_is_lone(name) ? LONE : BESIDE;
}

/* A clash: the old index, or lone file, goes, durably, before any file that it names. Of a shard
 * set all goes, the lowest shard first: what is left has a gap where every tensor begins; what
 * stands beside the shards goes after them. What was moved aside must be found there after a
 * crash. */
static sw_code clear_way(const work *w, sw_status *st)
{
    const sw_journal *j = w->j;

    for (int rank = TELLING; rank > BESIDE && !st->code; rank--) {
        for (size_t i = 0; i < j->nold && !st->code; i++)
            if (rank_of(w, j->old[i]) == rank)
                put_aside(w, j->old[i], st);
        if (!st->code)
            sync_out(w, st);
    }
    for (size_t i = 0; i < j->nold && !st->code; i++)
        if (sw_journal_is_new(j, j->old[i]) || sw_journal_is_shards(j))
            put_aside(w, j->old[i], st);
    if (!st->code && sw_journal_is_shards(j))
        sync_out(w, st);
    return st->code || !w->p->sync ? st->code : sync_tree(&w->p->aside, j->old, j->nold, st);
}

/* The old key file is about to be replaced by rename. A link keeps it for an undoing; file systems
 * without links have to do without. */
static sw_code keep_key(const work *w, sw_status *st)
{
    const char *key = key_name(w->j);

    if (!sw_names_have(w->j->old, w->j->nold, key) || !is_there(&w->p->fresh, key, st) ||
        sw_below_mkdirs_for(&w->p->aside, key, st))
        return st->code;
    if (sw_below_link(&w->p->out, &w->p->aside, key) != 0 && errno == EIO)
        return sw_fail_errno(st, key, errno, "cannot link");
    return SW_OK;
}

/* Each staged file to its name. Until the key file has its own an undoing gives the old checkpoint
 * back. */
static sw_code bring_all(const work *w, sw_status *st)
{
    w->j->clash ? clear_way(w, st) : keep_key(w, st);
    for (size_t i = 0; i + 1 < w->j->nfiles && !st->code; i++)
        move_if(&w->p->fresh, &w->p->out, w->j->files[i].name, st);
    return st->code || sync_out(w, st) ? st->code : move_if(&w->p->fresh, &w->p->out, key_name(w->j), st);
}

/* What it says is done. */
static sw_code remove_journal(const sw_place *p, sw_status *st)
{
    return sw_below_unlink(&p->dir, SW_JOURNAL_NAME, st) || !p->sync ? st->code
                                                                     : sw_below_sync(&p->dir, NULL, st);
}

/* When even this cannot be told, all is left as it is. */
static bool journal_stands(const sw_place *p)
{
    sw_status own = SW_STATUS_INIT;

    return is_there(&p->dir, SW_JOURNAL_NAME, &own) || own.code;
}

/* The key file is in place. */
static sw_code finish(const work *w, sw_status *st)
{
    if (sync_out(w, st) || sync_made(w->p, w->p->out.path, st))
        return st->code;
    /* What the old checkpoint has besides: nobody needs it now. */
    for (int rank = TELLING; rank >= BESIDE; rank--)
        for (size_t i = 0; i < w->j->nold && !st->code; i++)
            if (!sw_journal_is_new(w->j, w->j->old[i]) && rank_of(w, w->j->old[i]) == rank)
                put_aside(w, w->j->old[i], st);
    if (st->code || sync_out(w, st))
        return st->code;
    for (size_t i = 0; i < w->j->nold; i++)
        sw_below_rmdirs_for(&w->p->out, w->j->old[i]);
    return remove_journal(w->p, st);
}

/* ---- undoing --------------------------------------------------------------------------------- */

/* New files go back, the key first; old files return, their index, or the lowest shard, last, but
 * for their manifest. */
static sw_code undo(const work *w, sw_status *st)
{
    for (size_t i = w->j->nfiles; i-- > 0 && !st->code;)
        if (is_staged(&w->p->out, &w->j->files[i], false, st))
            move(&w->p->out, &w->p->fresh, w->j->files[i].name, st);
    for (int rank = BESIDE; rank < NRANKS; rank++) {
        for (size_t i = w->j->nold; i-- > 0 && !st->code;)
            if (rank_of(w, w->j->old[i]) == rank)
                move_if(&w->p->aside, &w->p->out, w->j->old[i], st);
        if (!st->code)
            sync_out(w, st);
    }
    for (size_t i = 0; i < w->j->nfiles && !st->code; i++)
        sw_below_rmdirs_for(&w->p->out, w->j->files[i].name);
    return st->code ? st->code : remove_journal(w->p, st);
}

/* ---- recovering ------------------------------------------------------------------------------ */

/* Which directories these are. */
static sw_code find_home(const sw_place *p, sw_journal_home *home, sw_status *st)
{
    struct stat out, dir;
    struct statx x;

    if (fstat(p->out.fd, &out) != 0 || fstat(p->dir.fd, &dir) != 0)
        return sw_fail_errno(st, p->dir.path, errno, "cannot look at it");
    *home = (sw_journal_home){ (uint64_t)out.st_ino, (uint64_t)dir.st_ino, 0, sw_lock_number(p->lock) };
    if (statx(p->dir.fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0 && (x.stx_mask & STATX_BTIME))
        home->born = (uint64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    return SW_OK;
}

/* new/ and old/, whatever there is of them. */
static sw_code open_parts(sw_place *p, sw_status *st)
{
    static const char *const names[] = { "new", "old" };
    sw_below *parts[] = { &p->fresh, &p->aside };
    bool made;

    for (int i = 0; i < 2 && !st->code; i++)
        if (parts[i]->fd < 0 && !sw_below_mkdir(&p->dir, names[i], 0777, &made, st))
            sw_below_enter(&p->dir, names[i], parts[i], NULL, st);
    return st->code;
}

/* Each new file, waiting or published, with its size: then the publication can be completed. False
 * on an error. */
static bool all_there(const work *w, sw_status *st)
{
    bool all = true;

    for (size_t i = 0; i < w->j->nfiles && all; i++) {
        const sw_journal_file *f = &w->j->files[i];
        bool waiting = is_there(&w->p->fresh, f->name, st);

        all = !st->code && is_staged(waiting ? &w->p->fresh : &w->p->out, f, true, st);
    }
    return all;
}

/* An error may leave a draft or, where only its last fsync failed, the journal itself. */
static sw_code write_journal(const sw_place *p, const sw_journal *j, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;

    if (sw_journal_write(j, &p->dir, &p->store, p->sync, st))
        remove_journal(p, &ignored);
    return st->code;
}

/* ---- streams --------------------------------------------------------------------------------- */

/* What a stream has brought under its final name: a file of that size, or of a part of it; a larger
 * one is somebody else's. What is said of side files is said before they are edited. */
static bool is_streamed(const work *w, const sw_journal_file *f, bool whole, sw_status *st)
{
    bool sized = sw_name_ends_with(f->name, ".safetensors") || sw_name_is_index(f->name);
    sw_path_kind kind;
    struct stat s;

    return !ask(&w->p->out, f->name, &kind, &s, st) && kind == SW_PATH_FILE &&
           (!sized || (uint64_t)s.st_size == f->size || (!whole && (uint64_t)s.st_size < f->size));
}

/* The key goes first. */
static sw_code undo_stream(const work *w, sw_status *st)
{
    for (size_t i = w->j->nfiles; i-- > 0 && !st->code;)
        if (is_streamed(w, &w->j->files[i], false, st))
            sw_below_unlink(&w->p->out, w->j->files[i].name, st);
    if (!st->code)
        sync_out(w, st);
    for (size_t i = 0; i < w->j->nfiles && !st->code; i++)
        sw_below_rmdirs_for(&w->p->out, w->j->files[i].name);
    return st->code ? st->code : remove_journal(w->p, st);
}

/* What is replaced goes, what leads to it first. */
static sw_code remove_old(const work *w, sw_status *st)
{
    for (int rank = TELLING; rank >= BESIDE; rank--) {
        for (size_t i = 0; i < w->j->nold && !st->code; i++)
            if (rank_of(w, w->j->old[i]) == rank)
                sw_below_unlink(&w->p->out, w->j->old[i], st);
        if (!st->code)
            sync_out(w, st);
    }
    for (size_t i = 0; i < w->j->nold && !st->code; i++)
        sw_below_rmdirs_for(&w->p->out, w->j->old[i]);
    return st->code;
}

/* Nothing of what it names is there when the journal comes. */
static sw_code begin_stream(sw_place *p, sw_journal *j, sw_status *st)
{
    const work w = { p, j };

    j->stream = true;
    if (find_home(p, &j->home, st) || remove_old(&w, st) || write_journal(p, j, st))
        return st->code;
    p->begun = true;
    return SW_OK;
}

sw_code sw_publication_begin(sw_place *p, const sw_change *change, sw_status *st)
{
    sw_journal j = { 0 };

    if (!sw_lock_check(p->lock, st) && !sw_journal_fill(&j, change, st))
        begin_stream(p, &j, st);
    sw_journal_release(&j);
    return st->code;
}

/* All files are there: those that waited in new/ get their names, the key last. */
static sw_code publish_stream(sw_place *p, sw_journal *j, sw_status *st)
{
    const work w = { p, j };

    if (!p->begun && begin_stream(p, j, st))
        return st->code;
    for (size_t i = 0; i < j->nfiles && p->fresh.fd >= 0 && !st->code; i++)
        if (strcmp(p->fresh.path, p->out.path) != 0)
            move(&p->fresh, &p->out, j->files[i].name, st);
    if (st->code)
        return st->code;
    p->published = true;
    if (!sync_out(&w, st) && !sync_made(p, p->out.path, st))
        remove_journal(p, st);
    p->half = st->code && journal_stands(p);
    return st->code;
}

/* ---- recovering, either way ------------------------------------------------------------------ */

/* The journal tells of renames. *all: it was completed, and not undone. */
static sw_code recover_renames(sw_place *p, const work *w, bool *all, sw_status *st)
{
    if (open_parts(p, st))
        return st->code;
    *all = all_there(w, st);
    if (*all && !bring_all(w, st))
        finish(w, st);
    else if (!*all && !st->code)
        undo(w, st);
    return st->code;
}

/* A run that streamed its files was interrupted: where all are there it had done its work, else
 * what it had made goes. */
static sw_code recover_stream(sw_place *p, const work *w, bool *all, sw_status *st)
{
    *all = true;
    for (size_t i = 0; i < w->j->nfiles && *all; i++)
        *all = is_streamed(w, &w->j->files[i], true, st);
    return st->code ? st->code : *all ? remove_journal(p, st) : undo_stream(w, st);
}

sw_code sw_publication_recover(sw_place *p, uint64_t *recovered, sw_status *st)
{
    sw_journal j = { 0 };
    work w = { p, &j };
    bool missing = false, all = false;
    sw_journal_home home;

    if (!find_home(p, &home, st) && !sw_journal_read(&j, &p->dir, &home, &p->store, &missing, st) && !missing)
        (j.stream ? recover_stream : recover_renames)(p, &w, &all, st);
    if (!st->code && all)
        *recovered = j.fingerprint;
    p->half = st->code && journal_stands(p);
    sw_journal_release(&j);
    return st->code;
}

/* ---- what is in the way ---------------------------------------------------------------------- */

/* The parents of a name may be missing, or be directories of their own. */
static sw_code check_parents(const sw_below *out, const char *name, sw_status *st)
{
    char *part = sw_strdup(name, st);
    sw_path_kind kind = SW_PATH_DIR;

    for (char *slash = part ? strchr(part, '/') : NULL; slash && !st->code && kind == SW_PATH_DIR;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!sw_below_stat(out, part, &kind, NULL, st) && kind != SW_PATH_DIR && kind != SW_PATH_MISSING)
            sw_fail(st, SW_EUSAGE, part, NULL, "found a file or a link, expected a directory for %s", name);
        *slash = '/';
    }
    free(part);
    return st->code;
}

/* May this name be that of a file of the output, and is its place free? */
static sw_code check_one(const sw_below *out, const char *name, const sw_change *c, sw_status *st)
{
    sw_path_kind kind;

    if (!sw_journal_may_be_new(name))
        return sw_fail(
            st, SW_EUSAGE, name, NULL,
            "is no name for an output file: weights are called *.safetensors, and nothing is hidden");
    if (check_parents(out, name, st) || sw_below_stat(out, name, &kind, NULL, st))
        return st->code;
    if (kind == SW_PATH_DIR)
        return sw_fail(st, SW_EUSAGE, name, NULL, "a directory has the name of an output file");
    if (kind != SW_PATH_MISSING && !sw_names_have(c->old, c->nold, name))
        return sw_fail(st, SW_EUSAGE, name, NULL,
                       "it is in the output directory and is no part of a checkpoint that may be replaced");
    return SW_OK;
}

/* The names of all files. */
static sw_code check_all(const sw_below *out, const sw_change *c, sw_status *st)
{
    for (size_t i = 0; i < c->nfiles && !st->code; i++)
        check_one(out, c->files[i].name, c, st);
    return st->code;
}

sw_code sw_change_check(const char *output_dir, const sw_change *change, sw_status *st)
{
    sw_below out = SW_BELOW_INIT;
    bool missing;

    if (!sw_below_open(output_dir, &out, &missing, st) && !missing)
        check_all(&out, change, st);
    sw_below_close(&out);
    return st->code;
}

/* ---- publishing ------------------------------------------------------------------------------ */

/* All files are staged, as regular files of their sizes; their numbers tell a recovery whether they
 * are still the same. */
static sw_code check_staged(const sw_place *p, sw_journal *j, sw_status *st)
{
    if (j->nfiles == 0)
        return sw_fail(st, SW_EINTERNAL, p->out.path, NULL, "there is nothing to publish");
    for (size_t i = 0; i < j->nfiles; i++) {
        sw_journal_file *f = &j->files[i];
        sw_path_kind kind;
        struct stat s;

        if (ask(&p->fresh, f->name, &kind, &s, st))
            return st->code;
        if (kind != SW_PATH_FILE || (uint64_t)s.st_size != f->size)
            return sw_fail(st, SW_EINTERNAL, f->name, NULL,
                           "the staged file has %" PRIu64 " bytes, expected %" PRIu64,
                           kind == SW_PATH_FILE ? (uint64_t)s.st_size : 0, f->size);
        f->ino = (uint64_t)s.st_ino;
    }
    return SW_OK;
}

/* A reason that is told already goes on. */
static void add_remark(sw_status *st, const char *remark)
{
    size_t n = strlen(st->reason);

    snprintf(st->reason + n, sizeof st->reason - n, "; %s", remark);
}

/* The journal is written. */
static sw_code carry_out(sw_place *p, const work *w, sw_status *st)
{
    sw_status undone = SW_STATUS_INIT;
    bool waiting;

    if (!bring_all(w, st)) {
        p->published = true;
        p->half = finish(w, st) != SW_OK && journal_stands(p);
        if (st->code)
            add_remark(st, p->half ? "the new checkpoint is in place, and the next run on this directory "
                                     "removes what is left of the old one"
                                   : "the new checkpoint is in place");
        return st->code;
    }
    p->half = undo(w, &undone) != SW_OK && journal_stands(p);
    if (!p->half)
        return st->code;
    sw_status_clear(&undone);
    waiting = is_there(&p->fresh, key_name(w->j), &undone);
    p->published = !waiting && !undone.code;
    add_remark(st, "the output directory stands between two checkpoints: the next run on it completes or "
                   "undoes this publication");
    return st->code;
}

/* One rename of the directory of staged files, which nobody but us can reach before. */
static sw_code appear(sw_place *p, const sw_journal *j, sw_status *st)
{
    const char *name = sw_path_name(p->missing);
    char *above = sw_path_dir(p->missing, st);
    sw_below parent = SW_BELOW_INIT;

    if (!above || (p->sync && sync_tree(&p->fresh, j->sorted, j->nfiles, st)) ||
        sw_below_open(above, &parent, NULL, st))
        goto out;
    if (is_there(&parent, name, st))
        sw_fail(st, SW_EIO, p->missing, NULL, "somebody has made it since this run began");
    else if (!st->code && !sw_below_rename(&p->dir, "new", &parent, name, st))
        sync_made(p, p->missing, st);
out:
    sw_below_close(&parent);
    free(above);
    return st->code;
}

/* By a journal and renames of files. */
static sw_code replace(sw_place *p, const sw_change *c, sw_journal *j, sw_status *st)
{
    const sw_change sorted = { c->files, c->nfiles, j->old, j->nold, c->fingerprint };
    const work w = { p, j };

    if (check_all(&p->out, &sorted, st) || find_home(p, &j->home, st) || open_parts(p, st) ||
        (p->sync && sync_tree(&p->fresh, j->sorted, j->nfiles, st)) || write_journal(p, j, st))
        return st->code;
    return carry_out(p, &w, st);
}

sw_code sw_place_publish(sw_place *p, const sw_change *change, sw_status *st)
{
    sw_journal j = { 0 };

    if (!sw_lock_check(p->lock, st) && !sw_journal_fill(&j, change, st) && !check_staged(p, &j, st))
        sw_place_streams(p) ? publish_stream(p, &j, st)
        : p->missing        ? appear(p, &j, st)
                            : replace(p, change, &j, st);
    sw_journal_release(&j);
    return st->code;
}
