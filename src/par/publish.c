/* Publication: the renames that make a checkpoint visible, their undoing, and what a killed run left; see publish.h.
 *
 * Nothing here remembers how far it got. Every step looks where a file is, and rename moves it from exactly one
 * place to another, so each step can be repeated, and completing or undoing may itself be killed anywhere:
 *   new/NAME there         NAME is not published yet
 *   old/NAME there         the old NAME was moved aside (or, an index that is replaced by rename, is kept as a link)
 * Old files leave index first, new files come index last: an index that can be read names whole files. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/path.h"
#include "format/names.h"
#include "par/journal.h"
#include "par/stage.h"

typedef struct work {
    const sw_stage *s;
    const sw_journal *j;
} work;

/* ---- single files ------------------------------------------------------------------------------- */

static sw_code look(const char *dir, const char *name, sw_path_kind *kind, uint64_t *size, sw_status *st)
{
    struct stat s = { 0 };
    char *path = sw_path_join(dir, name, st);
    sw_code code = path ? sw_path_lstat(path, kind, &s, st) : st->code;

    if (!code && size)
        *size = (uint64_t)s.st_size;
    free(path);
    return code;
}

/* What the server says of its size: opening a file makes a network file system ask, looking at its name may not, and
 * other ranks wrote to it. One that we may not open has the size that it seems to have. */
static sw_code ask(const char *dir, const char *name, sw_path_kind *kind, uint64_t *size, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    char *path = sw_path_join(dir, name, st);
    struct stat s;
    int fd = -1;
    sw_code code = path ? look(dir, name, kind, size, st) : st->code;

    if (!code && *kind == SW_PATH_FILE && !sw_fd_open(path, NULL, &fd, &ignored)) {
        if (fstat(fd, &s) == 0)
            *size = (uint64_t)s.st_size;
        sw_fd_close(fd, path, &ignored);
    }
    free(path);
    return code;
}

static sw_code is_there(const char *dir, const char *name, bool *there, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    sw_code code = look(dir, name, &kind, NULL, st);

    *there = !code && kind != SW_PATH_MISSING;
    return code;
}

static sw_code move(const char *from_dir, const char *to_dir, const char *name, sw_status *st)
{
    char *from = sw_path_join(from_dir, name, st);
    char *to = sw_path_join(to_dir, name, st);
    sw_code code = from && to ? sw_path_mkdirs_for(to, st) : st->code;

    if (!code)
        code = sw_path_rename(from, to, st);
    free(to);
    free(from);
    return code;
}

/* Move it if it is there. */
static sw_code move_if(const char *from_dir, const char *to_dir, const char *name, sw_status *st)
{
    bool there;
    sw_code code = is_there(from_dir, name, &there, st);

    return code || !there ? code : move(from_dir, to_dir, name, st);
}

/* Move an old file aside, unless that is done, or what has its name is already the new one. */
static sw_code put_aside(const work *w, const char *name, sw_status *st)
{
    bool waiting = true, aside;
    sw_code code = is_there(w->s->aside, name, &aside, st);

    if (!code && sw_journal_is_new(w->j, name))
        code = is_there(w->s->fresh, name, &waiting, st);
    return code || aside || !waiting ? code : move_if(w->s->out, w->s->aside, name, st);
}

/* ---- directories -------------------------------------------------------------------------------- */

/* fsync each directory below root that holds one of the names: sorted, so that neighbours share it. */
static sw_code sync_below(const char *root, char *const *names, size_t n, sw_status *st)
{
    sw_code code = SW_OK;
    size_t last = 0;
    sw_path_kind kind;

    for (size_t i = 0; i < n && !code; i++) {
        const char *slash = strrchr(names[i], '/');
        size_t len = slash ? (size_t)(slash - names[i]) : 0;
        char *path;

        if (len == 0 || (i > 0 && len == last && strncmp(names[i - 1], names[i], len + 1) == 0))
            continue;
        last = len;
        if (!(path = sw_path_join(root, names[i], st)))
            return st->code;
        for (char *end = strrchr(path, '/'); !code && (size_t)(end - path) > strlen(root);
             end = strrchr(path, '/')) {
            *end = '\0';
            if (!(code = sw_path_lstat(path, &kind, NULL, st)) && kind == SW_PATH_DIR)
                code = sw_path_sync_dir(path, st);
        }
        free(path);
    }
    return code;
}

static sw_code sync_tree(const char *root, char *const *names, size_t n, sw_status *st)
{
    sw_code code = sync_below(root, names, n, st);

    return code ? code : sw_path_sync_dir(root, st);
}

static sw_code sync_out(const work *w, sw_status *st)
{
    sw_code code = SW_OK;

    if (!w->s->sync)
        return SW_OK;
    code = sync_below(w->s->out, w->j->old, w->j->nold, st);
    return code ? code : sync_tree(w->s->out, w->j->sorted, w->j->nfiles, st);
}

/* OUTPUT_DIR itself may be new, and so may its parents. */
static sw_code sync_made(const sw_stage *s, sw_status *st)
{
    char *path = s->sync ? sw_strdup(s->out, st) : NULL;
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

/* Remove sub-directories of OUTPUT_DIR that a file of this name has left empty. */
static void prune(const sw_stage *s, const char *name)
{
    const char *slash = strrchr(name, '/');
    char *dir = NULL;

    if (!slash || asprintf(&dir, "%s/%.*s", s->out, (int)(slash - name), name) < 0)
        return;
    sw_path_rmdirs(dir, strlen(s->out));
    free(dir);
}

/* ---- completing --------------------------------------------------------------------------------- */

static const char *key_name(const sw_journal *j)
{
    return j->files[j->nfiles - 1].name;
}

/* What was moved aside must be found there after a crash. */
static sw_code sync_aside(const work *w, sw_status *st)
{
    return w->s->sync ? sync_tree(w->s->aside, w->j->old, w->j->nold, st) : SW_OK;
}

/* Without these what is left is no checkpoint that anybody could take for whole: the index, or of a shard set its shards. */
static bool is_leading(const work *w, const char *name)
{
    sw_shard_name ignored;

    return sw_journal_is_shards(w->j) ? sw_shard_name_parse(name, &ignored) : sw_journal_is_index(name);
}

/* A clash: the old index goes, durably, before any file that it names. Of a shard set all goes, the lowest shard first: what is left has a
 * gap where every tensor begins; what stands beside the shards goes after them. */
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

/* The old key file is about to be replaced by rename. A link keeps it for an undoing; file systems without links
 * have to do without. */
static sw_code keep_key(const work *w, sw_status *st)
{
    const char *key = key_name(w->j);
    char *from, *to;
    sw_code code;
    bool waiting;

    if (!sw_journal_is_old(w->j, key) || (code = is_there(w->s->fresh, key, &waiting, st)) || !waiting)
        return st->code;
    from = sw_path_join(w->s->out, key, st);
    to = sw_path_join(w->s->aside, key, st);
    code = from && to ? sw_path_mkdirs_for(to, st) : st->code;
    if (!code && (SW_FAULT("link") ? -1 : link(from, to)) != 0)
        code = errno == EIO ? sw_fail_errno(st, to, errno, "cannot link") : SW_OK;
    free(to);
    free(from);
    return code;
}

/* Up to, and without, the key file: until then an undoing gives the old checkpoint back. */
static sw_code bring_data(const work *w, sw_status *st)
{
    sw_code code = w->j->clash ? clear_way(w, st) : keep_key(w, st);

    for (size_t i = 0; i + 1 < w->j->nfiles && !code; i++)
        code = move_if(w->s->fresh, w->s->out, w->j->files[i].name, st);
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
    char *path = sw_path_join(s->dir, SW_JOURNAL_NAME, st);
    sw_code code = path ? sw_path_unlink(path, st) : st->code;

    if (!code && s->sync)
        code = sw_path_sync_dir(s->dir, st);
    free(path);
    return code;
}

/* When even this cannot be told, all is left as it is. */
static bool journal_stands(const sw_stage *s)
{
    sw_status ignored = SW_STATUS_INIT;
    bool there = true;

    return is_there(s->dir, SW_JOURNAL_NAME, &there, &ignored) != SW_OK || there;
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
        prune(w->s, w->j->old[i]);
    return code ? code : remove_journal(w->s, st);
}

/* ---- undoing ------------------------------------------------------------------------------------ */

/* Is what OUTPUT_DIR has under the name of a new file that new one? It is when the new one waits no more and the old one,
 * if there was one, stands aside. An old key without a link is told by its size. */
static sw_code is_published(const work *w, size_t i, bool *is, sw_status *st)
{
    const sw_journal_file *f = &w->j->files[i];
    bool waiting, aside, key = i + 1 == w->j->nfiles;
    sw_path_kind kind = SW_PATH_MISSING;
    uint64_t size = 0;

    *is = false;
    if (is_there(w->s->fresh, f->name, &waiting, st) || is_there(w->s->aside, f->name, &aside, st) ||
        look(w->s->out, f->name, &kind, &size, st))
        return st->code;
    *is = !waiting && kind != SW_PATH_MISSING &&
          (aside || !sw_journal_is_old(w->j, f->name) || (key && !w->j->clash && size == f->size));
    return SW_OK;
}

/* New files go back, the key first; old files return, their index, or the lowest shard, last. */
static sw_code undo(const work *w, sw_status *st)
{
    sw_code code = SW_OK;
    bool is;

    for (size_t i = w->j->nfiles; i-- > 0 && !code;)
        if (!(code = is_published(w, i, &is, st)) && is)
            code = move(w->s->out, w->s->fresh, w->j->files[i].name, st);
    for (int leading = 0; leading < 2; leading++) {
        for (size_t i = w->j->nold; i-- > 0 && !code;)
            if (is_leading(w, w->j->old[i]) == (leading == 1))
                code = move_if(w->s->aside, w->s->out, w->j->old[i], st);
        if (!code)
            code = sync_out(w, st);
    }
    for (size_t i = 0; i < w->j->nfiles && !code; i++)
        prune(w->s, w->j->files[i].name);
    return code ? code : remove_journal(w->s, st);
}

/* ---- recovering --------------------------------------------------------------------------------- */

/* Each new file, waiting or published, with its size: then the publication can be completed. */
static sw_code all_there(const work *w, bool *all, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    uint64_t size = 0;
    sw_code code = SW_OK;

    *all = true;
    for (size_t i = 0; i < w->j->nfiles && *all && !code; i++) {
        code = ask(w->s->fresh, w->j->files[i].name, &kind, &size, st);
        if (!code && kind == SW_PATH_MISSING)
            code = ask(w->s->out, w->j->files[i].name, &kind, &size, st);
        *all = kind == SW_PATH_FILE && size == w->j->files[i].size;
    }
    return code;
}

static sw_code complete(const work *w, sw_status *st)
{
    sw_code code = bring_data(w, st);

    if (!code)
        code = move_if(w->s->fresh, w->s->out, key_name(w->j), st);
    return code ? code : finish(w, st);
}

sw_code sw_publication_recover(sw_stage *s, uint64_t *recovered, sw_status *st)
{
    sw_journal j = SW_JOURNAL_INIT;
    work w = { s, &j };
    bool missing = false, all = false;
    sw_code code = sw_journal_read(&j, s->dir, &missing, st);

    if (!code && !missing && !(code = all_there(&w, &all, st)))
        code = all ? complete(&w, st) : undo(&w, st);
    if (!code && all)
        *recovered = j.fingerprint;
    s->half = code != SW_OK && journal_stands(s);
    sw_journal_release(&j);
    return code;
}

/* ---- publishing --------------------------------------------------------------------------------- */

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

/* The parents of dir/name may be missing, or be directories of their own. */
static sw_code check_parents(const char *dir, const char *name, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_path_kind kind = SW_PATH_DIR;
    sw_code code = path ? SW_OK : st->code;

    for (char *slash = path ? strchr(path + strlen(dir) + 1, '/') : NULL;
         slash && !code && kind == SW_PATH_DIR; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        code = sw_path_lstat(path, &kind, NULL, st);
        if (!code && kind != SW_PATH_DIR && kind != SW_PATH_MISSING)
            code = sw_fail(st, SW_EUSAGE, path, NULL, "found a file or a link, expected a directory for %s",
                           name);
        *slash = '/';
    }
    free(path);
    return code;
}

sw_code sw_publication_check(const char *output_dir, const sw_publication *files, size_t nfiles,
                             char *const *old, size_t nold, sw_status *st)
{
    sw_path_kind kind;
    sw_code code = SW_OK;

    for (size_t i = 0; i < nfiles && !code; i++) {
        if ((code = check_parents(output_dir, files[i].name, st)) ||
            (code = look(output_dir, files[i].name, &kind, NULL, st)))
            break;
        if (kind == SW_PATH_DIR)
            code = sw_fail(st, SW_EUSAGE, files[i].name, NULL, "a directory has the name of an output file");
        else if (kind != SW_PATH_MISSING && !is_in(old, nold, files[i].name))
            code =
                sw_fail(st, SW_EUSAGE, files[i].name, NULL,
                        "it is in the output directory and is no part of a checkpoint that may be replaced");
    }
    return code;
}

static sw_code check_staged(const sw_stage *s, const sw_publication *files, size_t nfiles, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    uint64_t size = 0;
    sw_code code = nfiles ? SW_OK : sw_fail(st, SW_EINTERNAL, s->out, NULL, "there is nothing to publish");

    for (size_t i = 0; i < nfiles && !code; i++) {
        code = ask(s->fresh, files[i].name, &kind, &size, st);
        if (!code && (kind != SW_PATH_FILE || size != files[i].size))
            code = sw_fail(st, SW_EINTERNAL, files[i].name, NULL,
                           "the staged file has %" PRIu64 " bytes, expected %" PRIu64, size, files[i].size);
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

    if (!bring_data(w, st) && !move_if(s->fresh, s->out, key_name(w->j), st)) {
        s->published = true;
        s->half = finish(w, st) != SW_OK && journal_stands(s);
        if (st->code)
            add_remark(st, s->half ? "the new checkpoint is in place, and the next run on this directory "
                                     "removes what is left of the old one"
                                   : "the new checkpoint is in place");
        return st->code;
    }
    s->half = undo(w, &undone) != SW_OK && journal_stands(s);
    if (s->half && !is_there(s->fresh, key_name(w->j), &waiting, &undone))
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
    sw_code code = sw_journal_write(j, s->dir, s->sync, st);

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
    bool made;

    if (!code)
        code = check_staged(s, files, nfiles, st);
    if (!code)
        code = sw_journal_fill(&j, files, nfiles, old, nold, fingerprint, st);
    if (!code)
        code = sw_publication_check(s->out, files, nfiles, j.old, j.nold, st);
    if (!code)
        code = sw_path_mkdir(s->aside, &made, st);
    if (!code && s->sync)
        code = sync_tree(s->fresh, j.sorted, j.nfiles, st);
    if (!code)
        code = write_journal(s, &j, st);
    if (!code)
        code = carry_out(s, &w, st);
    sw_journal_release(&j);
    return code;
}
