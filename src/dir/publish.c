/* Publication: the renames that make a checkpoint visible, their undoing, and what a killed run
 * left; see publish.h.
 *
 * Nothing here remembers how far it got. Every step looks where a file is, and rename moves it from
 * exactly one place to another, so each step can be repeated, and completing or undoing may itself
 * be killed anywhere:
 *   new/NAME there         NAME is not published yet
 *   old/NAME there         the old NAME was moved aside (or, an index that is replaced by rename,
 *                          is kept as a link)
 * Old files leave index first, new files come index last: an index that can be read names whole
 * files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "dir/journal.h"
#include "dir/stage.h"
#include "format/filenames.h"

typedef struct work {
    const sw_stage *s;
    const sw_journal *j;
} work;

/* ---- single files ---------------------------------------------------------------------------- */

/* What the server says of a file's size and number: opening a file makes a network file system ask,
 * looking at its name may not, and other ranks wrote to it. One that we may not open has the size
 * that it seems to have. */
static sw_code ask(const sw_below *dir, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    sw_code code = sw_below_stat(dir, name, kind, s, st);
    struct stat open;
    int fd = -1;

    if (!code && *kind == SW_PATH_FILE && (fd = sw_below_fd(dir, name, O_RDONLY)) >= 0) {
        if (fstat(fd, &open) == 0 && S_ISREG(open.st_mode))
            *s = open;
        close(fd);
    }
    return code;
}

/* Is the very file there that was staged? */
static sw_code is_file(const sw_below *dir, const sw_journal_file *f, bool *is, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;
    sw_code code = ask(dir, f->name, &kind, &s, st);

    *is = !code && kind == SW_PATH_FILE && (uint64_t)s.st_size == f->size && (uint64_t)s.st_ino == f->ino;
    return code;
}

static sw_code is_there(const sw_below *dir, const char *name, bool *there, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    sw_code code = sw_below_stat(dir, name, &kind, NULL, st);

    *there = !code && kind != SW_PATH_MISSING;
    return code;
}

static sw_code move(const sw_below *from, const sw_below *to, const char *name, sw_status *st)
{
    sw_code code = sw_below_mkdirs_for(to, name, st);

    return code ? code : sw_below_rename(from, name, to, name, st);
}

/* Move it if it is there. */
static sw_code move_if(const sw_below *from, const sw_below *to, const char *name, sw_status *st)
{
    bool there;
    sw_code code = is_there(from, name, &there, st);

    return code || !there ? code : move(from, to, name, st);
}

/* Move an old file aside, unless that is done, or what has its name is already the new one. */
static sw_code put_aside(const work *w, const char *name, sw_status *st)
{
    bool waiting = true, aside;
    sw_code code = is_there(&w->s->aside, name, &aside, st);

    if (!code && sw_journal_is_new(w->j, name))
        code = is_there(&w->s->fresh, name, &waiting, st);
    return code || aside || !waiting ? code : move_if(&w->s->out, &w->s->aside, name, st);
}

/* ---- directories ----------------------------------------------------------------------------- */

/* fsync the parents of a name, the innermost first. */
static sw_code sync_parents(const sw_below *root, const char *name, sw_status *st)
{
    char *part = sw_strdup(name, st);
    sw_code code = part ? SW_OK : st->code;
    sw_path_kind kind;

    for (char *end = part ? strrchr(part, '/') : NULL; end && !code; end = strrchr(part, '/')) {
        *end = '\0';
        if (!(code = sw_below_stat(root, part, &kind, NULL, st)) && kind == SW_PATH_DIR)
            code = sw_below_sync(root, part, st);
    }
    free(part);
    return code;
}

/* fsync each directory below root that holds one of the names: sorted, so that neighbours share
 * it. */
static sw_code sync_below(const sw_below *root, char *const *names, size_t n, sw_status *st)
{
    sw_code code = SW_OK;
    size_t last = 0;

    for (size_t i = 0; i < n && !code; i++) {
        const char *slash = strrchr(names[i], '/');
        size_t len = slash ? (size_t)(slash - names[i]) : 0;

        if (len == 0 || (i > 0 && len == last && strncmp(names[i - 1], names[i], len + 1) == 0))
            continue;
        last = len;
        code = sync_parents(root, names[i], st);
    }
    return code;
}

static sw_code sync_tree(const sw_below *root, char *const *names, size_t n, sw_status *st)
{
    sw_code code = sync_below(root, names, n, st);

    return code ? code : sw_below_sync(root, NULL, st);
}

static sw_code sync_out(const work *w, sw_status *st)
{
    sw_code code = SW_OK;

    if (!w->s->sync)
        return SW_OK;
    code = sync_below(&w->s->out, w->j->old, w->j->nold, st);
    return code ? code : sync_tree(&w->s->out, w->j->sorted, w->j->nfiles, st);
}

/* OUTPUT_DIR itself may be new, and so may its parents. */
static sw_code sync_made(const sw_stage *s, sw_status *st)
{
    char *path = s->sync ? sw_strdup(s->out.path, st) : NULL;
    sw_code code = s->sync && !path ? st->code : SW_OK;
    size_t n = path ? strlen(path) : 0;

    while (!code && n > s->kept) {
        while (n > s->kept && path[n - 1] != '/')
            n--;
        path[n] = '\0';
        code = sw_path_sync_dir(n > 0 ? path : ".", st);
        while (n > s->kept && path[n - 1] == '/')
            n--;
    }
    free(path);
    return code;
}

/* ---- completing ------------------------------------------------------------------------------ */

static const char *key_name(const sw_journal *j)
{
    return j->files[j->nfiles - 1].name;
}

/* What was moved aside must be found there after a crash. */
static sw_code sync_aside(const work *w, sw_status *st)
{
    return w->s->sync ? sync_tree(&w->s->aside, w->j->old, w->j->nold, st) : SW_OK;
}

/* Without these what is left is no checkpoint that anybody could take for whole: the index, or of a
 * shard set its shards. */
static bool is_leading(const work *w, const char *name)
{
    sw_shard_name ignored;

    return sw_journal_is_shards(w->j) ? sw_shard_name_parse(name, &ignored) : sw_journal_is_index(name);
}

/* A clash: the old index goes, durably, before any file that it names. Of a shard set all goes, the
 * lowest shard first: what is left has a gap where every tensor begins; what stands beside the
 * shards goes after them. */
static sw_code clear_way(const work *w, sw_status *st)
{
    sw_code code = SW_OK;

    for (size_t i = 0; i < w->j->nold && !code; i++)
        if (is_leading(w, w->j->old[i]))
            code = put_aside(w, w->j->old[i], st);
    if (!code)
        code = sync_out(w, st);
    for (size_t i = 0; i < w->j->nold && !code; i++)
        if (sw_journal_is_new(w->j, w->j->old[i]) || sw_journal_is_shards(w->j))
            code = put_aside(w, w->j->old[i], st);
    if (!code && sw_journal_is_shards(w->j))
        code = sync_out(w, st);
    return code ? code : sync_aside(w, st);
}

/* The old key file is about to be replaced by rename. A link keeps it for an undoing; file systems
 * without links have to do without. */
static sw_code keep_key(const work *w, sw_status *st)
{
    const char *key = key_name(w->j);
    sw_code code;
    bool waiting;

    if (!sw_journal_is_old(w->j, key))
        return SW_OK;
    if ((code = is_there(&w->s->fresh, key, &waiting, st)) || !waiting ||
        (code = sw_below_mkdirs_for(&w->s->aside, key, st)))
        return code;
    if (sw_below_link(&w->s->out, &w->s->aside, key) != 0 && errno == EIO)
        return sw_fail_errno(st, key, errno, "cannot link");
    return SW_OK;
}

/* Up to, and without, the key file: until then an undoing gives the old checkpoint back. */
static sw_code bring_data(const work *w, sw_status *st)
{
    sw_code code = w->j->clash ? clear_way(w, st) : keep_key(w, st);

    for (size_t i = 0; i + 1 < w->j->nfiles && !code; i++)
        code = move_if(&w->s->fresh, &w->s->out, w->j->files[i].name, st);
    return code ? code : sync_out(w, st);
}

/* What the old checkpoint has besides: nobody needs it now. */
static sw_code sweep_old(const work *w, bool indices, sw_status *st)
{
    sw_code code = SW_OK;

    for (size_t i = 0; i < w->j->nold && !code; i++)
        if (!sw_journal_is_new(w->j, w->j->old[i]) && sw_journal_is_index(w->j->old[i]) == indices)
            code = put_aside(w, w->j->old[i], st);
    return code;
}

static sw_code remove_journal(const sw_stage *s, sw_status *st)
{
    sw_code code = sw_below_unlink(&s->dir, SW_JOURNAL_NAME, st);

    return code || !s->sync ? code : sw_below_sync(&s->dir, NULL, st);
}

/* When even this cannot be told, all is left as it is. */
static bool journal_stands(const sw_stage *s)
{
    sw_status ignored = SW_STATUS_INIT;
    bool there = true;

    return is_there(&s->dir, SW_JOURNAL_NAME, &there, &ignored) != SW_OK || there;
}

/* The key file is in place. */
static sw_code finish(const work *w, sw_status *st)
{
    sw_code code = sync_out(w, st);

    if (!code)
        code = sync_made(w->s, st);
    if (!code)
        code = sweep_old(w, true, st);
    if (!code)
        code = sweep_old(w, false, st);
    if (!code)
        code = sync_out(w, st);
    for (size_t i = 0; i < w->j->nold && !code; i++)
        sw_below_rmdirs_for(&w->s->out, w->j->old[i]);
    return code ? code : remove_journal(w->s, st);
}

/* ---- undoing --------------------------------------------------------------------------------- */

/* Is what OUTPUT_DIR has under the name of a new file the one that was staged, whatever became of
 * it since? */
static sw_code is_published(const work *w, const sw_journal_file *f, bool *is, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;
    sw_code code = ask(&w->s->out, f->name, &kind, &s, st);

    *is = !code && kind == SW_PATH_FILE && (uint64_t)s.st_ino == f->ino;
    return code;
}

/* New files go back, the key first; old files return, their index, or the lowest shard, last. */
static sw_code undo(const work *w, sw_status *st)
{
    sw_code code = SW_OK;
    bool is;

    for (size_t i = w->j->nfiles; i-- > 0 && !code;)
        if (!(code = is_published(w, &w->j->files[i], &is, st)) && is)
            code = move(&w->s->out, &w->s->fresh, w->j->files[i].name, st);
    for (int leading = 0; leading < 2; leading++) {
        for (size_t i = w->j->nold; i-- > 0 && !code;)
            if (is_leading(w, w->j->old[i]) == (leading == 1))
                code = move_if(&w->s->aside, &w->s->out, w->j->old[i], st);
        if (!code)
            code = sync_out(w, st);
    }
    for (size_t i = 0; i < w->j->nfiles && !code; i++)
        sw_below_rmdirs_for(&w->s->out, w->j->files[i].name);
    return code ? code : remove_journal(w->s, st);
}

/* ---- recovering ------------------------------------------------------------------------------ */

/* Which directories these are. */
static sw_code find_home(const sw_stage *s, sw_journal_home *home, sw_status *st)
{
    struct stat out, dir;
    struct statx x;

    if (fstat(s->out.fd, &out) != 0 || fstat(s->dir.fd, &dir) != 0)
        return sw_fail_errno(st, s->dir.path, errno, "cannot look at it");
    *home = (sw_journal_home){ (uint64_t)out.st_ino, (uint64_t)dir.st_ino, 0, sw_lock_number(s->lock) };
    if (statx(s->dir.fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0 && (x.stx_mask & STATX_BTIME))
        home->born = (uint64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    return SW_OK;
}

/* new/ and old/, whatever there is of them. */
static sw_code open_parts(sw_stage *s, sw_status *st)
{
    static const char *const names[] = { "new", "old" };
    sw_below *parts[] = { &s->fresh, &s->aside };
    sw_code code = SW_OK;
    bool made;

    for (int i = 0; i < 2 && !code; i++)
        if (parts[i]->fd < 0 && !(code = sw_below_mkdir(&s->dir, names[i], 0777, &made, st)))
            code = sw_below_enter(&s->dir, names[i], parts[i], NULL, st);
    return code;
}

/* Each new file, waiting or published, with its size: then the publication can be completed. */
static sw_code all_there(const work *w, bool *all, sw_status *st)
{
    sw_code code = SW_OK;

    *all = true;
    for (size_t i = 0; i < w->j->nfiles && *all && !code; i++) {
        bool waiting;

        code = is_there(&w->s->fresh, w->j->files[i].name, &waiting, st);
        if (!code)
            code = is_file(waiting ? &w->s->fresh : &w->s->out, &w->j->files[i], all, st);
    }
    return code;
}

static sw_code complete(const work *w, sw_status *st)
{
    sw_code code = bring_data(w, st);

    if (!code)
        code = move_if(&w->s->fresh, &w->s->out, key_name(w->j), st);
    return code ? code : finish(w, st);
}

sw_code sw_publication_recover(sw_stage *s, uint64_t *recovered, sw_status *st)
{
    sw_journal j = SW_JOURNAL_INIT;
    work w = { s, &j };
    bool missing = false, all = false;
    sw_journal_home home;
    sw_code code = find_home(s, &home, st);

    if (!code)
        code = sw_journal_read(&j, &s->dir, &home, &missing, st);
    if (!code && !missing && !(code = open_parts(s, st)) && !(code = all_there(&w, &all, st)))
        code = all ? complete(&w, st) : undo(&w, st);
    if (!code && all)
        *recovered = j.fingerprint;
    s->half = code != SW_OK && journal_stands(s);
    sw_journal_release(&j);
    return code;
}

/* ---- publishing ------------------------------------------------------------------------------ */

static bool is_in(char *const *names, size_t n, const char *name)
{
    size_t from = 0, to = n;

    while (from < to) {
        size_t mid = from + (to - from) / 2;
        int order = strcmp(names[mid], name);

        if (order == 0)
            return true;
        if (order < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return false;
}

/* The parents of a name may be missing, or be directories of their own. */
static sw_code check_parents(const sw_below *out, const char *name, sw_status *st)
{
    char *part = sw_strdup(name, st);
    sw_path_kind kind = SW_PATH_DIR;
    sw_code code = part ? SW_OK : st->code;

    for (char *slash = part ? strchr(part, '/') : NULL; slash && !code && kind == SW_PATH_DIR;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        code = sw_below_stat(out, part, &kind, NULL, st);
        if (!code && kind != SW_PATH_DIR && kind != SW_PATH_MISSING)
            code = sw_fail(st, SW_EUSAGE, part, NULL, "found a file or a link, expected a directory for %s",
                           name);
        *slash = '/';
    }
    free(part);
    return code;
}

static sw_code check_one(const sw_below *out, const char *name, char *const *old, size_t nold, sw_status *st)
{
    sw_path_kind kind;
    sw_code code;

    if (!sw_journal_may_be_new(name))
        return sw_fail(
            st, SW_EUSAGE, name, NULL,
            "is no name for an output file: weights are called *.safetensors, and nothing is hidden");
    if ((code = check_parents(out, name, st)) || (code = sw_below_stat(out, name, &kind, NULL, st)))
        return code;
    if (kind == SW_PATH_DIR)
        return sw_fail(st, SW_EUSAGE, name, NULL, "a directory has the name of an output file");
    if (kind != SW_PATH_MISSING && !is_in(old, nold, name))
        return sw_fail(st, SW_EUSAGE, name, NULL,
                       "it is in the output directory and is no part of a checkpoint that may be replaced");
    return SW_OK;
}

static sw_code check_all(const sw_below *out, const sw_publication *files, size_t nfiles, char *const *old,
                         size_t nold, sw_status *st)
{
    sw_code code = SW_OK;

    for (size_t i = 0; i < nfiles && !code; i++)
        code = check_one(out, files[i].name, old, nold, st);
    return code;
}

sw_code sw_publication_check(const char *output_dir, const sw_publication *files, size_t nfiles,
                             char *const *old, size_t nold, sw_status *st)
{
    sw_below out = SW_BELOW_INIT;
    bool missing;
    sw_code code = sw_below_open(output_dir, &out, &missing, st);

    if (!code && !missing)
        code = check_all(&out, files, nfiles, old, nold, st);
    sw_below_close(&out);
    return code;
}

static sw_code check_staged(const sw_stage *s, const sw_publication *f, struct stat *found, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    sw_code code = ask(&s->fresh, f->name, &kind, found, st);

    if (!code && (kind != SW_PATH_FILE || (uint64_t)found->st_size != f->size))
        code = sw_fail(st, SW_EINTERNAL, f->name, NULL,
                       "the staged file has %" PRIu64 " bytes, expected %" PRIu64,
                       kind == SW_PATH_FILE ? (uint64_t)found->st_size : 0, f->size);
    return code;
}

sw_code sw_stage_check(const sw_stage *s, const sw_publication *files, size_t nfiles, sw_status *st)
{
    struct stat ignored;
    sw_code code =
        nfiles ? SW_OK : sw_fail(st, SW_EINTERNAL, s->out.path, NULL, "there is nothing to publish");

    for (size_t i = 0; i < nfiles && !code; i++)
        code = check_staged(s, &files[i], &ignored, st);
    return code;
}

/* The numbers of the staged files, which tell a recovery whether they are still the same. */
static sw_code number_files(const sw_stage *s, sw_journal *j, sw_status *st)
{
    sw_code code = SW_OK;
    struct stat found;

    for (size_t i = 0; i < j->nfiles && !code; i++) {
        code = check_staged(s, &(sw_publication){ j->files[i].name, j->files[i].size }, &found, st);
        j->files[i].ino = code ? 0 : (uint64_t)found.st_ino;
    }
    return code;
}

static void add_remark(sw_status *st, const char *remark)
{
    size_t n = strlen(st->reason);

    snprintf(st->reason + n, sizeof st->reason - n, "; %s", remark);
}

/* The journal is written. */
static sw_code carry_out(sw_stage *s, const work *w, sw_status *st)
{
    sw_status undone = SW_STATUS_INIT;
    bool waiting = true;

    if (!bring_data(w, st) && !move_if(&s->fresh, &s->out, key_name(w->j), st)) {
        s->published = true;
        s->half = finish(w, st) != SW_OK && journal_stands(s);
        if (st->code)
            add_remark(st, s->half ? "the new checkpoint is in place, and the next run on this directory "
                                     "removes what is left of the old one"
                                   : "the new checkpoint is in place");
        return st->code;
    }
    s->half = undo(w, &undone) != SW_OK && journal_stands(s);
    if (s->half && !is_there(&s->fresh, key_name(w->j), &waiting, &undone))
        s->published = !waiting;
    if (s->half)
        add_remark(st, "the output directory stands between two checkpoints: the next run on it completes or "
                       "undoes this publication");
    return st->code;
}

/* An error may leave a draft or, where only its last fsync failed, the journal itself. */
static sw_code write_journal(const sw_stage *s, const sw_journal *j, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    sw_code code = sw_journal_write(j, &s->dir, s->sync, st);

    if (code)
        remove_journal(s, &ignored);
    return code;
}

sw_code sw_stage_publish(sw_stage *s, const sw_publication *files, size_t nfiles, char *const *old,
                         size_t nold, uint64_t fingerprint, sw_status *st)
{
    sw_journal j = SW_JOURNAL_INIT;
    work w = { s, &j };
    sw_code code = sw_lock_check(s->lock, st);

    if (!code)
        code = sw_stage_check(s, files, nfiles, st);
    if (!code)
        code = sw_journal_fill(&j, files, nfiles, old, nold, fingerprint, st);
    if (!code)
        code = check_all(&s->out, files, nfiles, j.old, j.nold, st);
    if (!code)
        code = find_home(s, &j.home, st);
    if (!code)
        code = number_files(s, &j, st);
    if (!code)
        code = open_parts(s, st);
    if (!code && s->sync)
        code = sync_tree(&s->fresh, j.sorted, j.nfiles, st);
    if (!code)
        code = write_journal(s, &j, st);
    if (!code)
        code = carry_out(s, &w, st);
    sw_journal_release(&j);
    return code;
}
