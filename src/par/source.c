/* Reading from shard files; see source.h. */
#include "par/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"
#include "base/step.h"

/* Rows at least as long as this are read straight into their places, many in one call; shorter ones would
 * cost more in the kernel than a second copy costs here. */
#define ROW_DIRECT 512
#define ROWS_AT_ONCE 1024 /* IOV_MAX of Linux */

/* Leave descriptors for MPI, its sockets and the outputs. */
static uint32_t open_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
        return 256;
    return r.rlim_cur > 1024 ? 512 : r.rlim_cur > 64 ? (uint32_t)r.rlim_cur / 4 : 8;
}

sw_code sw_source_init(sw_source *s, const sw_catalog *c, const char *dir, uint64_t scratch_size,
                       sw_status *st)
{
    *s = (sw_source){ .c = c, .dir = dir, .max_open = open_limit(), .scratch_size = scratch_size };
    s->fds = sw_calloc(c->nfiles, sizeof *s->fds, st);
    s->changed = sw_calloc(c->nfiles, sizeof *s->changed, st);
    s->open = sw_calloc(s->max_open, sizeof *s->open, st);
    s->scratch = sw_calloc(scratch_size, 1, st);
    for (uint32_t i = 0; s->fds && i < c->nfiles; i++)
        s->fds[i] = -1;
    return st->code;
}

sw_code sw_source_init_held(sw_source *s, const sw_catalog *c, const sw_held *held, uint64_t scratch_size,
                            sw_status *st)
{
    *s = (sw_source){ .c = c, .held = held, .scratch_size = scratch_size };
    s->scratch = sw_calloc(scratch_size, 1, st);
    return st->code;
}

/* A shard that was replaced since its header was read would give a mixture. */
static sw_code check_same(const sw_file *f, int fd, sw_status *st)
{
    struct stat s;

    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, f->name, errno, "cannot stat");
    if ((uint64_t)s.st_size != f->size)
        return sw_fail(st, SW_EINPUT, f->name, NULL,
                       "is %" PRIu64 " bytes now, but was %" PRIu64 " when its header was read",
                       (uint64_t)s.st_size, f->size);
    if (sw_path_ns(&s.st_mtim) != f->mtime_ns)
        return sw_fail(st, SW_EINPUT, f->name, NULL, "was changed since its header was read");
    return SW_OK;
}

static void close_oldest(sw_source *s)
{
    uint32_t file = s->open[s->first];

    close(s->fds[file]); /* only read from: nothing can be lost */
    s->fds[file] = -1;
    s->first = (s->first + 1) % s->max_open;
    s->nopen--;
}

/* Nobody looks at it any more when all has been read: so now. */
static void make_room(sw_source *s)
{
    uint32_t file = s->open[s->first];
    sw_status st = SW_STATUS_INIT;

    s->changed[file] = check_same(&s->c->files[file], s->fds[file], &st) || s->changed[file];
    close_oldest(s);
}

sw_code sw_source_gone(const char *path, const char *name, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    sw_path_kind kind;

    if (st->code == SW_EIO && !sw_path_stat(path, &kind, NULL, &ignored) && kind == SW_PATH_MISSING) {
        sw_status_clear(st);
        sw_fail(st, SW_EINPUT, name, NULL, "was removed meanwhile, or this machine does not see it");
    }
    return st->code;
}

sw_code sw_source_fd(sw_source *s, uint32_t file, int *fd, sw_status *st)
{
    const sw_file *f = &s->c->files[file];
    char *path = NULL;

    *fd = s->fds[file];
    if (*fd >= 0)
        return SW_OK;
    if (s->nopen == s->max_open)
        make_room(s);
    path = sw_path_join(s->dir, f->name, st);
    if (!path)
        return st->code;
    sw_step("opening", f->name);
    *fd = SW_FAULT("open_shard") ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) {
        sw_fail_errno(st, f->name, errno, "cannot open");
        sw_source_gone(path, f->name, st);
    } else if (check_same(f, *fd, st)) {
        close(*fd);
    } else {
        s->fds[file] = *fd;
        s->open[(s->first + s->nopen++) % s->max_open] = file;
    }
    free(path);
    return st->code;
}

sw_code sw_source_read_vectors(int fd, const char *name, struct iovec *v, int nv, uint64_t at, sw_status *st)
{
    sw_step("reading", name);
    while (nv > 0) {
        ssize_t got = SW_FAULT("pread") ? -1 : preadv(fd, v, nv, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sw_fail_errno(st, name, errno, "cannot read");
        if (got == 0)
            return sw_fail(st, SW_EINPUT, name, NULL,
                           "ends at %" PRIu64 " bytes: it became shorter while it was read", at);
        at += (uint64_t)got;
        while (nv > 0 && (size_t)got >= v->iov_len) {
            got -= (ssize_t)v->iov_len;
            v++, nv--;
        }
        if (nv > 0) {
            v->iov_base = (char *)v->iov_base + got;
            v->iov_len -= (size_t)got;
        }
    }
    return SW_OK;
}

static sw_code read_rows_direct(int fd, const char *name, const sw_piece *p, char *to, sw_status *st)
{
    struct iovec v[ROWS_AT_ONCE];
    uint64_t at = p->at, where = 0;
    sw_row_walk w;
    bool more;

    sw_rows_begin(&w, p);
    do {
        int nv = 0;

        while ((more = nv < ROWS_AT_ONCE) && sw_rows_next(&w, p, &where))
            v[nv++] = (struct iovec){ to + where, (size_t)p->row };
        more = !more;
        if (nv && sw_source_read_vectors(fd, name, v, nv, at, st))
            return st->code;
        at += (uint64_t)nv * p->row;
    } while (more);
    return SW_OK;
}

/* Rows of a few bytes: a copy of constant length is a move, not a call. */
static void copy_row(char *to, const char *from, uint64_t n)
{
    switch (n) {
    case 1:
        *to = *from;
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    case 16:
        memcpy(to, from, 16);
        break;
    default:
        memcpy(to, from, (size_t)n);
    }
}

/* So many rows, packed at from, to where the walk says. */
static void put_rows(sw_row_walk *w, const sw_piece *p, const char *from, uint64_t rows, char *to)
{
    uint64_t where;

    for (uint64_t i = 0; i < rows && sw_rows_next(w, p, &where); i++)
        copy_row(to + where, from + i * p->row, p->row);
}

static sw_code read_rows_copied(const sw_source *s, int fd, const char *name, const sw_piece *p, char *to,
                                sw_status *st)
{
    uint64_t rows = sw_max(s->scratch_size / p->row, 1), left = p->n / p->row, at = p->at;
    sw_row_walk w;

    sw_rows_begin(&w, p);
    while (left > 0) {
        uint64_t now = sw_min(rows, left);
        struct iovec v = { s->scratch, (size_t)(now * p->row) };

        if (sw_source_read_vectors(fd, name, &v, 1, at, st))
            return st->code;
        put_rows(&w, p, s->scratch, now, to);
        at += now * p->row;
        left -= now;
    }
    return SW_OK;
}

/* ---- memory ------------------------------------------------------------------------------------- */

static const sw_held_box *held_box(const sw_source *s, const sw_piece *p, uint64_t *from)
{
    const sw_held_box *b = sw_held_find(s->held, p->at);

    *from = p->at - b->begin;
    return b;
}

/* What lies together is copied once; what does not, and is in short rows, is put together first. */
static void read_held(const sw_source *s, const sw_piece *p, char *to)
{
    uint64_t from, where, rows = p->n / p->row, at_once = sw_max(s->scratch_size / p->row, 1);
    const sw_held_box *b = held_box(s, p, &from);
    const char *direct = sw_held_direct(b, from);
    sw_row_walk w;

    sw_rows_begin(&w, p);
    if (direct) {
        put_rows(&w, p, direct, rows, to);
    } else if (rows == 1 || p->row > s->scratch_size) {
        for (; sw_rows_next(&w, p, &where); from += p->row)
            sw_held_copy(b, from, p->row, to + where);
    } else {
        for (uint64_t now; rows > 0; rows -= now, from += now * p->row) {
            now = sw_min(at_once, rows);
            sw_held_copy(b, from, now * p->row, s->scratch);
            put_rows(&w, p, s->scratch, now, to);
        }
    }
}

/* ---- either ------------------------------------------------------------------------------------- */

sw_code sw_source_read(sw_source *s, const sw_piece *p, char *to, sw_status *st)
{
    const char *name = s->c->files[p->file].name;
    int fd;

    if (s->held) {
        read_held(s, p, to);
        return SW_OK;
    }
    if (sw_source_fd(s, p->file, &fd, st))
        return st->code;
    if (p->row >= ROW_DIRECT || p->row > s->scratch_size || p->nloops == 0)
        return read_rows_direct(fd, name, p, to, st);
    return read_rows_copied(s, fd, name, p, to, st);
}

sw_code sw_source_read_packed(sw_source *s, const sw_piece *p, char *to, sw_status *st)
{
    struct iovec v = { to, (size_t)p->n };
    const sw_held_box *b;
    uint64_t from;
    int fd;

    if (s->held) {
        b = held_box(s, p, &from);
        sw_held_copy(b, from, p->n, to);
        return SW_OK;
    }
    if (sw_source_fd(s, p->file, &fd, st))
        return st->code;
    return sw_source_read_vectors(fd, s->c->files[p->file].name, &v, 1, p->at, st);
}

sw_code sw_source_check_each(const sw_source *s, bool *changed, sw_status *st)
{
    for (uint32_t i = 0; s->changed && i < s->c->nfiles; i++)
        changed[i] = changed[i] || s->changed[i];
    for (uint32_t i = 0; i < s->nopen && !st->code; i++) {
        uint32_t file = s->open[(s->first + i) % s->max_open];

        if (check_same(&s->c->files[file], s->fds[file], st) != SW_EINPUT)
            continue;
        changed[file] = true;
        sw_status_clear(st);
    }
    return st->code;
}

sw_code sw_source_check(const sw_source *s, sw_status *st)
{
    for (uint32_t i = 0; s->changed && i < s->c->nfiles; i++)
        if (s->changed[i])
            return sw_fail(st, SW_EINPUT, s->c->files[i].name, NULL, "was changed since its header was read");
    for (uint32_t i = 0; i < s->nopen && !st->code; i++) {
        uint32_t file = s->open[(s->first + i) % s->max_open];

        check_same(&s->c->files[file], s->fds[file], st);
    }
    return st->code;
}

void sw_source_advise(sw_source *s, const sw_piece *p)
{
    sw_status ignored = SW_STATUS_INIT;
    int fd;

    /* With more files than may be open, opening one for a hint would close one that is needed now. */
    if (s->held || (s->fds[p->file] < 0 && s->nopen == s->max_open))
        return;
    if (sw_source_fd(s, p->file, &fd, &ignored) == SW_OK)
        posix_fadvise(fd, (off_t)p->at, (off_t)p->n, POSIX_FADV_WILLNEED);
}

void sw_source_release(sw_source *s)
{
    while (s->nopen)
        close_oldest(s);
    free(s->fds);
    free(s->changed);
    free(s->open);
    free(s->scratch);
    *s = (sw_source){ 0 };
}
