/* Files and directories; see path.h. What all functions share: a call that a signal interrupted is
 * made again, an error names the path and the reason of the system, and nothing is ever followed
 * out of a tree. */
#include "base/path.h"
#include "base/sort.h"
#include "base/step.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"

/* The kernel moves at most 2 GiB - 4 KiB in one call; half of it keeps pages aligned. */
#define CALL_MAX ((uint64_t)1 << 30)

/* What messages call a path. */
static const char *shown(const char *show, const char *path)
{
    return show ? show : path;
}

char *sw_path_join(const char *dir, const char *name, sw_status *st)
{
    size_t d = strlen(dir), n = strlen(name), slash = d > 0 && dir[d - 1] == '/' ? 0 : 1;
    char *path = sw_calloc(d + slash + n + 1, 1, st);

    if (!path)
        return NULL;
    memcpy(path, dir, d);
    if (slash)
        path[d] = '/';
    memcpy(path + d + slash, name, n);
    return path;
}

char *sw_path_named(const char *dir, const char *name, sw_status *st)
{
    return name[0] == '/' ? sw_strdup(name, st) : sw_path_join(dir, name, st);
}

bool sw_path_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* ---- open files ------------------------------------------------------------------------------ */

/* open(2), close-on-exec. */
static int open_retry(const char *path, int flags)
{
    return (int)TEMP_FAILURE_RETRY(SW_FAULT("open") ? -1 : open(path, flags | O_CLOEXEC));
}

/* The one way to open what is there for reading. What has become a pipe since it was looked at must
 * not make anybody wait. */
static sw_code open_to_read(const char *path, const char *show, bool any, bool *missing, int *fd,
                            sw_status *st)
{
    sw_code code = SW_OK;
    struct stat s;

    sw_step("opening", show);
    *fd = open_retry(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (missing)
        *missing = *fd < 0 && (errno == ENOENT || errno == ENOTDIR);
    if (*fd < 0)
        return missing && *missing ? SW_OK : sw_fail_errno(st, show, errno, "cannot open");
    if (fstat(*fd, &s) != 0)
        code = sw_fail_errno(st, show, errno, "cannot stat");
    else if (!S_ISREG(s.st_mode) && (!any || S_ISDIR(s.st_mode)))
        code = sw_fail(st, SW_EINPUT, show, NULL, "is no regular file");
    if (code) {
        close(*fd);
        *fd = -1;
    }
    return code;
}

sw_code sw_fd_open(const char *path, const char *show, int *fd, sw_status *st)
{
    return open_to_read(path, shown(show, path), false, NULL, fd, st);
}

sw_code sw_fd_read_at(int fd, const char *show, void *to, uint64_t n, uint64_t at, sw_status *st)
{
    uint64_t done = 0;
    ssize_t got;

    sw_step("reading", show);
    while (done < n) {
        got = TEMP_FAILURE_RETRY(
            SW_FAULT("read")
                ? -1
                : pread(fd, (char *)to + done, (size_t)sw_min(n - done, CALL_MAX), (off_t)(at + done)));
        if (got < 0)
            return sw_fail_errno(st, show, errno, "cannot read");
        if (got == 0)
            return sw_fail(st, SW_EINPUT, show, NULL,
                           "the file is shorter than expected: it ends at byte %" PRIu64 ", %" PRIu64
                           " bytes from %" PRIu64 " on were expected",
                           at + done, n, at);
        done += (uint64_t)got;
    }
    return SW_OK;
}

sw_code sw_fd_write_at(int fd, const char *show, const void *from, uint64_t n, uint64_t at, sw_status *st)
{
    uint64_t done = 0;
    ssize_t put;

    sw_step("writing", show);
    while (done < n) {
        put = TEMP_FAILURE_RETRY(SW_FAULT("write")
                                     ? -1
                                     : pwrite(fd, (const char *)from + done,
                                              (size_t)sw_min(n - done, CALL_MAX), (off_t)(at + done)));
        if (put == 0)
            errno = ENOSPC;
        if (put <= 0)
            return sw_fail_errno(st, show, errno, "cannot write");
        done += (uint64_t)put;
    }
    return SW_OK;
}

bool sw_fs_reserves(uint32_t magic)
{
    return magic != 0x9123683E && magic != 0x01021994;
}

/* On a file system that does not say what it is, the call itself will tell. */
static bool may_reserve(int fd)
{
    struct statfs f;

    return fstatfs(fd, &f) != 0 || sw_fs_reserves((uint32_t)f.f_type);
}

sw_code sw_path_reserve(int fd, const char *show, uint64_t size, sw_status *st)
{
    int r, err;

    if (size > INT64_MAX)
        return sw_fail(st, SW_EIO, show, NULL, "%" PRIu64 " bytes are more than a file can hold", size);
    if (size == 0 || sw_fault_no_reserve() || !may_reserve(fd))
        return SW_OK;
    sw_step("reserving room for", show);
    r = (int)TEMP_FAILURE_RETRY(SW_FAULT("fallocate") ? -1 : fallocate(fd, 0, 0, (off_t)size));
    err = errno;
    if (r == 0 || err == EOPNOTSUPP || err == EINVAL || err == ENOSYS)
        return SW_OK;
    return sw_fail(st, SW_EIO, show, NULL, "cannot reserve %" PRIu64 " bytes: %s", size, strerror(err));
}

/* fsync(2). */
static int fsync_retry(int fd)
{
    return (int)TEMP_FAILURE_RETRY(SW_FAULT("fsync") ? -1 : fsync(fd));
}

sw_code sw_fd_sync(int fd, const char *show, sw_status *st)
{
    sw_step("syncing", show);
    return fsync_retry(fd) ? sw_fail_errno(st, show, errno, "cannot sync") : SW_OK;
}

sw_code sw_fd_sync_dir(int fd, const char *show, sw_status *st)
{
    sw_step("syncing", show);
    return fsync_retry(fd) && errno != EINVAL && errno != ENOTSUP
               ? sw_fail_errno(st, show, errno, "cannot sync")
               : SW_OK;
}

/* The descriptor is gone whatever close says, so it is never called twice; EINTR tells of no lost
 * data. */
sw_code sw_fd_close(int fd, const char *show, sw_status *st)
{
    int r;

    if (fd < 0)
        return SW_OK;
    sw_step("closing", show);
    r = close(fd);
    if (SW_FAULT("close"))
        r = -1;
    return r != 0 && errno != EINTR ? sw_fail_errno(st, show, errno, "cannot close") : SW_OK;
}

/* ---- whole files ----------------------------------------------------------------------------- */

/* A writer may still come to a pipe that nobody has written to: not for ever. */
#define WRITER_SECONDS 10
#define WAIT_MS 100

/* A pipe had nothing to give: wait for it, a little. False: it is at its end. */
static bool wait_for_pipe(int fd, const char *show, bool eof, uint64_t *waited, const volatile int *cancel,
                          sw_status *st)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    if (poll(&p, 1, WAIT_MS) > 0 && eof)
        return false; /* whoever wrote is gone */
    *waited += eof;
    if (cancel && *cancel)
        sw_fail(st, SW_ECANCEL, NULL, NULL, "interrupted by a signal");
    else if (*waited * WAIT_MS > WRITER_SECONDS * 1000)
        sw_fail(st, SW_EINPUT, show, NULL, "nobody writes into this pipe");
    return true;
}

/* To the end by read(2), so that pipes (a shell's <(...)) work too; the descriptor does not
 * block. */
static sw_code read_all(int fd, const char *show, uint64_t max, const volatile int *cancel, sw_buf *b,
                        sw_status *st)
{
    struct stat s = { 0 };
    uint64_t waited = 0;
    sw_code code = SW_OK;
    ssize_t got;

    sw_step("reading", show);
    while (!code && !(code = sw_buf_reserve(b, 65536, st))) {
        got = SW_FAULT("read") ? -1 : read(fd, b->data + b->len, (size_t)sw_min(b->cap - b->len, CALL_MAX));
        if (got > 0 && (b->len += (size_t)got) > max)
            return sw_fail(st, SW_EINPUT, show, NULL, "the file is larger than %" PRIu64 " bytes", max);
        if (got > 0 || (got < 0 && errno == EINTR))
            continue;
        if (got < 0 && errno != EAGAIN)
            return sw_fail_errno(st, show, errno, "cannot read");
        if (got == 0 && (b->len > 0 || fstat(fd, &s) != 0 || !S_ISFIFO(s.st_mode)))
            break;
        if (!wait_for_pipe(fd, show, got == 0, &waited, cancel, st))
            break;
        code = st->code;
    }
    return code;
}

char *sw_path_dir(const char *path, sw_status *st)
{
    const char *slash = strrchr(path, '/');
    char *dir = sw_strdup(slash ? path : ".", st);

    if (dir && slash)
        dir[slash == path ? 1 : slash - path] = '\0';
    return dir;
}

const char *sw_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

sw_code sw_fd_read_all(int fd, const char *show, uint64_t max, sw_buf *b, sw_status *st)
{
    b->len = 0;
    return read_all(fd, show, max, NULL, b, st);
}

/* The rest of an open file, which is closed; fd < 0: there is none. */
static sw_code read_and_close(int fd, const char *show, uint64_t max, const volatile int *cancel, sw_buf *b,
                              sw_status *st)
{
    sw_code code;

    b->len = 0;
    if (fd < 0)
        return SW_OK;
    code = read_all(fd, show, max, cancel, b, st);
    close(fd); /* nothing was written: what it says does not matter */
    return code;
}

sw_code sw_path_read(const char *path, const char *show, uint64_t max, sw_buf *b, bool *missing,
                     sw_status *st)
{
    int fd;
    sw_code code = open_to_read(path, shown(show, path), false, missing, &fd, st),
            read = read_and_close(fd, shown(show, path), max, NULL, b, st);

    return code ? code : read;
}

sw_code sw_path_read_any(const char *path, uint64_t max, const volatile int *cancel, sw_buf *b, sw_status *st)
{
    int fd;
    sw_code code = open_to_read(path, path, true, NULL, &fd, st),
            read = read_and_close(fd, path, max, cancel, b, st);

    return code ? code : read;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* Does the error say that there is nothing of that name? */
static bool is_absence(int err)
{
    return err == ENOENT || err == ENOTDIR;
}

sw_code sw_path_stat_in(const char *dir, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_code code;

    *kind = SW_PATH_MISSING;
    code = path ? sw_path_stat(path, kind, s, st) : st->code;
    free(path);
    return code;
}

sw_code sw_path_lstat(const char *path, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    struct stat own;

    if (!s)
        s = &own;
    sw_step("looking at", path);
    if ((SW_FAULT("stat") ? -1 : lstat(path, s)) == 0)
        *kind = sw_path_kind_of(s);
    else if (is_absence(errno))
        *kind = SW_PATH_MISSING;
    else
        return sw_fail_errno(st, path, errno, "cannot look at it");
    return SW_OK;
}

sw_code sw_path_stat(const char *path, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    struct stat own;

    if (!s)
        s = &own;
    sw_step("looking at", path);
    if ((SW_FAULT("stat") ? -1 : stat(path, s)) == 0) {
        *kind = sw_path_kind_of(s);
        return SW_OK;
    }
    if (!is_absence(errno) && errno != ELOOP)
        return sw_fail_errno(st, path, errno, "cannot look at it");
    if (sw_path_lstat(path, kind, s, st))
        return st->code;
    if (*kind != SW_PATH_MISSING)
        *kind = SW_PATH_DANGLING;
    return SW_OK;
}

bool sw_path_wait(int tries, int seconds)
{
    const struct timespec moment = { 0, 100000000 };

    if (tries >= seconds * 10)
        return false;
    if (tries > 0)
        nanosleep(&moment, NULL);
    return true;
}

sw_code sw_path_gone(const char *path, const char *name, sw_status *st)
{
    sw_status ignored = SW_STATUS_INIT;
    sw_path_kind kind;

    if (st->code == SW_EIO && !sw_path_stat(path, &kind, NULL, &ignored) && kind == SW_PATH_MISSING) {
        sw_status_clear(st);
        sw_fail(st, SW_EINPUT, name, NULL, "was removed meanwhile, or this machine does not see it");
    }
    return st->code;
}

int sw_path_open_named(const char *dir, const char *name, sw_status *st)
{
    char *path = sw_path_named(dir, name, st);
    int fd = -1;

    if (path && sw_fd_open(path, name, &fd, st))
        sw_path_gone(path, name, st);
    free(path);
    return fd;
}

sw_code sw_dir_add(sw_dir *d, const char *name, sw_status *st)
{
    if (sw_grow(&d->names, &d->cap, (uint64_t)d->n + 1, sizeof *d->names, st) ||
        !(d->names[d->n] = sw_strdup(name, st)))
        return st->code;
    d->n++;
    return SW_OK;
}

sw_code sw_fd_list(int fd, const char *show, sw_dir *out, sw_status *st)
{
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    sw_code code = SW_OK;

    memset(out, 0, sizeof *out);
    if (!dir)
        code = sw_fail_errno(st, show, errno, "cannot list");
    if (!dir && fd >= 0)
        close(fd);

    while (!code) {
        errno = 0;
        e = SW_FAULT("readdir") ? NULL : readdir(dir);
        if (!e)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            code = sw_dir_add(out, e->d_name, st);
    }
    if (!code && errno)
        code = sw_fail_errno(st, show, errno, "cannot list");
    if (dir)
        closedir(dir);
    if (code)
        sw_dir_release(out);
    else
        sw_sort(out->names, out->n, sizeof *out->names, sw_by_bytes);
    return code;
}

sw_code sw_dir_list(const char *path, sw_dir *out, sw_status *st)
{
    int fd;

    sw_step("listing", path);
    fd = SW_FAULT("opendir") ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return sw_fd_list(fd, path, out, st);
}

void sw_dir_release(sw_dir *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->names[i]);
    free(d->names);
    memset(d, 0, sizeof *d);
}

/* ---- changing directories -------------------------------------------------------------------- */

/* One part of a path. What is there already is fine if it is a directory, whatever mkdir says: some
 * file systems complain of missing permission or of being read-only first. */
static sw_code make_part(const char *path, bool *made, sw_status *st)
{
    struct stat s;
    int r = SW_FAULT("mkdir") ? -1 : mkdir(path, 0777), err = errno;

    *made = r == 0;
    if (r == 0 || (stat(path, &s) == 0 && S_ISDIR(s.st_mode)))
        return SW_OK;
    return sw_fail_errno(st, path, err == EEXIST ? ENOTDIR : err, "cannot make the directory");
}

/* The length of path up to the end of the part that begins at or behind from: 0 when there is
 * none. */
static size_t part_end(const char *path, size_t from)
{
    from += strspn(path + from, "/");
    return path[from] ? from + strcspn(path + from, "/") : 0;
}

sw_code sw_path_mkdirs(const char *path, size_t *kept, sw_status *st)
{
    char *part = sw_strdup(path, st);
    sw_code code = part ? SW_OK : st->code;
    size_t own = 0, last = 0;
    bool made, any = false;

    kept = kept ? kept : &own;
    *kept = strlen(path);
    if (part && !*path)
        code = sw_fail_errno(st, path, ENOENT, "cannot make the directory");
    for (size_t end = 0; !code && (end = part_end(path, end)); last = end) {
        part[end] = '\0';
        code = make_part(part, &made, st);
        part[end] = path[end];
        if (made && !any)
            *kept = last;
        any = any || made;
    }
    free(part);
    return code;
}

void sw_path_rmdirs(const char *path, size_t kept)
{
    char *part = strdup(path);
    size_t n = strlen(path);

    while (part && n > kept) {
        while (n > kept && part[n - 1] == '/')
            n--;
        part[n] = '\0';
        if (n > kept && !SW_FAULT("rmdir"))
            rmdir(part);
        while (n > kept && part[n - 1] != '/')
            n--;
    }
    free(part);
}

sw_code sw_path_sync_dir(const char *path, sw_status *st)
{
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY);
    sw_code code;

    if (fd < 0)
        return sw_fail_errno(st, path, errno, "cannot open");
    code = sw_fd_sync_dir(fd, path, st);
    close(fd);
    return code;
}

/* ---- file systems ---------------------------------------------------------------------------- */

/* Bytes that may still be written by this user in the file system of path; UINT64_MAX when it does
 * not tell. */
static sw_code ask_for_space(const char *path, uint64_t *bytes, sw_status *st)
{
    struct statvfs v;
    int r;

    *bytes = UINT64_MAX;
    r = (int)TEMP_FAILURE_RETRY(SW_FAULT("statfs") ? -1 : statvfs(path, &v));
    if (r != 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
        return SW_OK;
    if (r != 0)
        return sw_fail_errno(st, path, errno, "cannot ask for its free space");
    if (v.f_blocks > 0 && !sw_mul(v.f_bavail, v.f_frsize ? v.f_frsize : v.f_bsize, bytes))
        *bytes = UINT64_MAX;
    return SW_OK;
}

sw_code sw_path_check_space(const char *path, const char *show, uint64_t need, sw_status *st)
{
    uint64_t bytes;

    if (sw_fault_no_reserve() || ask_for_space(path, &bytes, st))
        return st->code;
    if (need > bytes)
        return sw_fail(st, SW_EIO, show, NULL, "no space: %" PRIu64 " bytes are needed, %" PRIu64 " are free",
                       need, bytes);
    return SW_OK;
}

/* File systems that other machines may see, by the number that statfs(2) gives. FUSE and 9p may be
 * either; the careful answer is yes. */
static const struct {
    uint32_t magic;
    const char *name;
} shared_fs[] = {
    { 0x6969, "nfs" },      { 0x0BD00BD0, "lustre" }, { 0x47504653, "gpfs" },     { 0x19830326, "beegfs" },
    { 0x00C36400, "ceph" }, { 0x65735546, "fuse" },   { 0xFF534D42, "cifs" },     { 0xFE534D42, "smb2" },
    { 0x517B, "smb" },      { 0xAAD7AAEA, "panfs" },  { 0x01021997, "9p" },       { 0x5346414F, "afs" },
    { 0x6B414653, "afs" },  { 0x73757245, "coda" },   { 0x20030528, "orangefs" }, { 0x7461636F, "ocfs2" },
    { 0x01161970, "gfs2" }, { 0x18031977, "weka" },
};

/* NULL when it is none of them. */
static const char *shared_fs_name(uint32_t magic)
{
    for (size_t i = 0; i < sizeof shared_fs / sizeof *shared_fs; i++)
        if (shared_fs[i].magic == magic)
            return shared_fs[i].name;
    return NULL;
}

/* overlayfs and ecryptfs show files that can be changed behind their back. */
static bool is_stacked(uint32_t magic)
{
    return magic == 0x794C7630 || magic == 0xF15F;
}

bool sw_fd_is_local(int fd)
{
    struct statfs f;
    int r;

    r = (int)TEMP_FAILURE_RETRY(SW_FAULT("statfs") ? -1 : fstatfs(fd, &f));
    return r == 0 && !shared_fs_name((uint32_t)f.f_type) && !is_stacked((uint32_t)f.f_type);
}

sw_code sw_path_fs(const char *path, sw_fs *out, sw_status *st)
{
    const char *name;
    struct statfs f;
    struct stat s;
    int r;

    memset(out, 0, sizeof *out);
    out->name = "local";
    r = (int)TEMP_FAILURE_RETRY(SW_FAULT("statfs") ? -1 : statfs(path, &f));
    if (r != 0 || stat(path, &s) != 0)
        return sw_fail_errno(st, path, errno, "cannot ask for its file system");
    name = shared_fs_name((uint32_t)f.f_type);
    out->block = s.st_blksize > 0 ? (uint64_t)s.st_blksize : 4096;
    out->shared = name != NULL;
    out->name = name ? name : "local";
    out->nfs = strcmp(out->name, "nfs") == 0;
    out->fuse = strcmp(out->name, "fuse") == 0;
    return SW_OK;
}

sw_code sw_path_fs_near(const char *path, sw_fs *out, sw_status *st)
{
    char *near = sw_strdup(path, st);
    sw_code code = near ? SW_EIO : st->code;

    while (near && code) {
        sw_status own = SW_STATUS_INIT;
        char *slash = strrchr(near, '/');

        code = sw_path_fs(near, out, &own);
        if (code && (!slash || slash == near)) {
            code = sw_path_fs(slash ? "/" : ".", out, st);
            break;
        }
        if (code)
            *slash = '\0';
    }
    free(near);
    return code;
}
