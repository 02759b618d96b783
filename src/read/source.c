/* Reading from shard files; see source.h. */
#include "read/source.h"

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
#include "base/passed.h"
#include "base/path.h"
#include "base/step.h"
#include "plan/schedule.h"

/* Leave descriptors for MPI, its sockets and the outputs. */
static uint32_t open_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
        return 256;
    return r.rlim_cur > 1024 ? SW_OPEN_MOST : r.rlim_cur > 64 ? (uint32_t)r.rlim_cur / 4 : 8;
}

sw_code sw_source_init(sw_source *s, const sw_catalog *c, const char *dir, uint64_t scratch_size,
                       sw_status *st)
{
    *s = (sw_source){
        .body = &sw_from_files, .c = c, .dir = dir, .max_open = open_limit(), .scratch_size = scratch_size
    };
    s->fds = sw_calloc(c->nfiles, sizeof *s->fds, st);
    s->changed = sw_calloc(c->nfiles, sizeof *s->changed, st);
    s->open = sw_calloc(s->max_open, sizeof *s->open, st);
    s->scratch = sw_calloc(scratch_size, 1, st);
    for (uint32_t i = 0; s->fds && i < c->nfiles; i++)
        s->fds[i] = -1;
    return st->code;
}

/* A shard that was replaced since its header was read would give a mixture. */
static sw_code check_same(const sw_file *f, int fd, sw_status *st)
{
    struct stat s;

    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, sw_file_name(f), errno, "cannot stat");
    if ((uint64_t)s.st_size != f->size)
        return sw_fail(st, SW_EINPUT, sw_file_name(f), NULL,
                       "is %" PRIu64 " bytes now, but was %" PRIu64 " when its header was read",
                       (uint64_t)s.st_size, f->size);
    if (sw_path_ns(&s.st_mtim) != f->mtime_ns)
        return sw_fail(st, SW_EINPUT, sw_file_name(f), NULL, "was changed since its header was read");
    return SW_OK;
}

/* Of the files that are open. */
static void close_oldest(sw_source *s)
{
    uint32_t file = s->open[s->first];

    if (s->drops)
        sw_passed_all(s->fds[file]);
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

sw_code sw_source_fd(sw_source *s, uint32_t file, int *fd, sw_status *st)
{
    const sw_file *f = &s->c->files[file];
    char *path = NULL;

    *fd = s->fds[file];
    if (*fd >= 0)
        return SW_OK;
    if (s->nopen == s->max_open)
        make_room(s);
    path = sw_path_named(s->dir, sw_file_name(f), st);
    if (!path)
        return st->code;
    sw_step("opening", sw_file_name(f));
    *fd = SW_FAULT("open_shard") ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) {
        sw_fail_errno(st, sw_file_name(f), errno, "cannot open");
        sw_path_gone(path, sw_file_name(f), st);
    } else if (check_same(f, *fd, st)) {
        close(*fd);
    } else {
        /* twice as far ahead of us: of many files at once that is much of the page cache */
        if (!s->drops)
            posix_fadvise(*fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        s->local = s->asked ? s->local : sw_fd_is_local(*fd);
        s->asked = true;
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

sw_code sw_source_check(const sw_source *s, bool *changed, sw_status *st)
{
    for (uint32_t i = 0; s->changed && i < s->c->nfiles; i++)
        if (s->changed[i] && !changed)
            return sw_fail(st, SW_EINPUT, sw_file_name(&s->c->files[i]), NULL,
                           "was changed since its header was read");
        else if (s->changed[i])
            changed[i] = true;
    for (uint32_t i = 0; i < s->nopen && !st->code; i++) {
        uint32_t file = s->open[(s->first + i) % s->max_open];

        if (check_same(&s->c->files[file], s->fds[file], st) == SW_EINPUT && changed) {
            changed[file] = true;
            sw_status_clear(st);
        }
    }
    return st->code;
}

void sw_source_advise(sw_source *s, uint32_t file, uint64_t at, uint64_t n)
{
    sw_status ignored = SW_STATUS_INIT;
    int fd;

    /* With more files than may be open, opening one for a hint would close one that is needed
     * now. */
    if (s->fds[file] < 0 && s->nopen == s->max_open)
        return;
    if (sw_source_fd(s, file, &fd, &ignored) == SW_OK)
        posix_fadvise(fd, (off_t)at, (off_t)n, POSIX_FADV_WILLNEED);
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
