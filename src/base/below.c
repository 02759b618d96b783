/* What lies below an open directory; see below.h. */
#include "base/below.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(SYS_openat2) && __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#define HAS_OPENAT2
#endif

#include "base/fault.h"
#include "base/step.h"

/* ---- the way there --------------------------------------------------------------------------- */

bool sw_below_is_name(const char *name)
{
    for (;; name++) {
        size_t n = strcspn(name, "/");

        if (n == 0 || (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.'))))
            return false;
        name += n;
        if (!*name)
            return true;
    }
}

/* openat(2) that follows no link, waits for nobody and is gone after exec. */
static int open_mode(int at, const char *name, int flags, mode_t mode)
{
    return (int)TEMP_FAILURE_RETRY(
        openat(at, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, mode));
}

/* The same, whose mode is the umask's. */
static int open_part(int at, const char *name, int flags)
{
    return open_mode(at, name, flags, 0666);
}

/* The first n characters of name, one part after the other. */
static int walk(int at, const char *name, size_t n)
{
    char part[256];
    int fd = -1, next = at;

    for (size_t len; n > 0 && next >= 0; name += len, n -= len) {
        len = strcspn(name, "/");
        len = len < n ? len : n;
        next = -1;
        errno = ENAMETOOLONG;
        if (len < sizeof part) {
            memcpy(part, name, len);
            part[len] = '\0';
            next = open_part(fd < 0 ? at : fd, part, O_PATH | O_DIRECTORY);
        }
        if (fd >= 0) {
            int err = errno;

            close(fd);
            errno = err;
        }
        fd = next;
        len += len < n;
    }
    return fd;
}

/* All of it in one call, where the kernel can; a sandbox may forbid what it does not know. */
static int open_parents(int at, const char *name, size_t n)
{
#ifdef HAS_OPENAT2
    struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    char *path = strndup(name, n);
    int fd = path ? (int)syscall(SYS_openat2, at, path, &how, sizeof how) : -1, err = errno;

    free(path);
    errno = err;
    if (fd >= 0 || (err != ENOSYS && err != EPERM && err != EAGAIN && err != EINTR))
        return fd;
#endif
    return walk(at, name, n);
}

int sw_below_parent(const sw_below *b, const char *name, const char **last)
{
    const char *slash = strrchr(name, '/');

    *last = slash ? slash + 1 : name;
    if (!sw_below_is_name(name)) {
        errno = EXDEV;
        return -1;
    }
    return slash ? open_parents(b->fd, name, (size_t)(slash - name))
                 : open_part(b->fd, ".", O_PATH | O_DIRECTORY);
}

/* The same, but of a name without parents it is b's own. */
static int parent_of(const sw_below *b, const char *name, const char **last, const char *doing)
{
    sw_step(doing, name);
    *last = name;
    return strchr(name, '/') || !sw_below_is_name(name) ? sw_below_parent(b, name, last) : b->fd;
}

/* Keeps errno. */
static void leave(const sw_below *b, int parent)
{
    int err = errno;

    if (parent >= 0 && parent != b->fd)
        close(parent);
    errno = err;
}

/* The error that errno tells of, and goes on telling of. */
static sw_code fail_at(const sw_below *b, const char *name, const char *what, sw_status *st)
{
    int err = errno;
    char *path = name ? sw_path_join(b->path, name, st) : NULL;
    sw_code code = sw_fail_errno(st, path ? path : b->path, err, what);

    free(path);
    errno = err;
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Takes over path, which may be NULL after an error. */
static sw_code take(sw_below *out, int fd, char *path, bool *missing, sw_status *st)
{
    *out = (sw_below){ fd, path };
    if (missing)
        *missing = path && fd < 0 && (errno == ENOENT || errno == ESTALE);
    if (!path)
        return st->code;
    return fd >= 0 || (missing && *missing) ? SW_OK
                                            : sw_fail_errno(st, path, errno, "cannot open the directory");
}

sw_code sw_below_open(const char *path, sw_below *out, bool *missing, sw_status *st)
{
    char *own = sw_strdup(path, st);
    int fd;

    sw_step("opening", path);
    fd = !own || SW_FAULT("open") ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return take(out, fd, own, missing, st);
}

sw_code sw_below_enter(const sw_below *in, const char *name, sw_below *out, bool *missing, sw_status *st)
{
    char *path = sw_path_join(in->path, name, st);
    int fd = path ? sw_below_fd(in, name, O_RDONLY | O_DIRECTORY) : -1;

    return take(out, fd, path, missing, st);
}

void sw_below_close(sw_below *b)
{
    if (b->fd >= 0)
        close(b->fd);
    free(b->path);
    *b = (sw_below)SW_BELOW_INIT;
}

int sw_below_fd(const sw_below *b, const char *name, int flags)
{
    const char *last;
    int parent = parent_of(b, name, &last, "opening"), fd = -1;

    if (parent >= 0 && !SW_FAULT("open"))
        fd = open_part(parent, last, flags);
    leave(b, parent);
    return fd;
}

/* Why an open file is not ours alone; NULL = it is. -1: why it could not be opened, NULL for a
 * failure of the system. */
static const char *not_ours(int fd, const struct stat *s, const struct stat *dir)
{
    if (fd < 0)
        return errno == ELOOP                      ? "it is a link"
               : errno == EISDIR || errno == ENXIO ? "it is no regular file"
                                                   : NULL;
    return !S_ISREG(s->st_mode)       ? "it is no regular file"
           : s->st_nlink > 1          ? "it has other names too (hard links)"
           : s->st_uid != dir->st_uid ? "it belongs to somebody else"
                                      : NULL;
}

sw_code sw_below_open_own(const sw_below *b, const char *name, int flags, int *fd, bool *missing,
                          sw_status *st)
{
    struct stat s, dir;
    const char *why;
    sw_code code = SW_OK;
    int got = sw_below_fd(b, name, flags);

    *fd = -1;
    *missing = got < 0 && (errno == ENOENT || errno == ESTALE);
    if (*missing)
        return SW_OK;
    if (got >= 0 && (fstat(got, &s) != 0 || fstat(b->fd, &dir) != 0))
        code = fail_at(b, name, "cannot look at it", st);
    else if ((why = not_ours(got, &s, &dir)))
        code = sw_below_refuse(b, name, why, st);
    else if (got < 0)
        code = fail_at(b, name, "cannot open", st);
    else
        *fd = got;
    if (code && got >= 0)
        close(got);
    return code;
}

sw_code sw_below_refuse(const sw_below *b, const char *name, const char *why, sw_status *st)
{
    char *path = sw_path_join(b->path, name, st);
    sw_code code =
        sw_fail(st, SW_EIO, path, NULL,
                "%s, so no run of ours made it: it is neither believed nor removed; look at it, then "
                "move or remove it",
                why);

    free(path);
    return code;
}

sw_code sw_below_stat(const sw_below *b, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st)
{
    const char *last;
    struct stat own;
    int parent = parent_of(b, name, &last, "looking at"), r = -1;

    if (!s)
        s = &own;
    if (parent >= 0 && !SW_FAULT("stat"))
        r = fstatat(parent, last, s, AT_SYMLINK_NOFOLLOW);
    leave(b, parent);
    if (r == 0)
        *kind = sw_path_kind_of(s);
    else if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        *kind = SW_PATH_MISSING; /* a link on the way: nothing lies below it for us */
    else
        return fail_at(b, name, "cannot look at it", st);
    return SW_OK;
}

/* ---- making ---------------------------------------------------------------------------------- */

sw_code sw_below_create(const sw_below *b, const char *name, mode_t mode, int *fd, sw_status *st)
{
    const char *last;
    int parent = parent_of(b, name, &last, "making");

    *fd = -1;
    if (parent >= 0 && !SW_FAULT("open"))
        *fd = open_mode(parent, last, O_WRONLY | O_CREAT | O_EXCL, mode);
    leave(b, parent);
    return *fd < 0 ? fail_at(b, name, "cannot create", st) : SW_OK;
}

sw_code sw_below_write(const sw_below *b, const char *name, const void *data, uint64_t n, bool sync,
                       sw_status *st)
{
    char *path = sw_path_join(b->path, name, st);
    sw_code code = path ? SW_OK : st->code, closed;
    int fd = -1;

    if (!code && !(code = sw_below_create(b, name, 0666, &fd, st)))
        code = sw_fd_write_at(fd, path, data, n, 0, st);
    if (!code && sync)
        code = sw_fd_sync(fd, path, st);
    closed = sw_fd_close(fd, path, st);
    free(path);
    return code ? code : closed;
}

sw_code sw_below_mkdir(const sw_below *b, const char *name, mode_t mode, bool *made, sw_status *st)
{
    const char *last;
    int parent = parent_of(b, name, &last, "making"), r = -1;

    if (parent >= 0 && !SW_FAULT("mkdir"))
        r = mkdirat(parent, last, mode);
    leave(b, parent);
    *made = r == 0;
    return r == 0 || errno == EEXIST ? SW_OK : fail_at(b, name, "cannot make the directory", st);
}

sw_code sw_below_mkdirs_for(const sw_below *b, const char *name, sw_status *st)
{
    char *part = strchr(name, '/') ? sw_strdup(name, st) : NULL;
    sw_code code = part || !strchr(name, '/') ? SW_OK : st->code;
    bool made;

    for (char *slash = part ? strchr(part, '/') : NULL; slash && !code; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        code = sw_below_mkdir(b, part, 0777, &made, st);
        *slash = '/';
    }
    free(part);
    return code;
}

void sw_below_rmdirs_for(const sw_below *b, const char *name)
{
    char *part = strdup(name), *slash;
    bool gone = true;

    while (part && gone && (slash = strrchr(part, '/'))) {
        const char *last;
        int parent;

        *slash = '\0';
        parent = parent_of(b, part, &last, "removing");
        gone = (parent >= 0 && !SW_FAULT("rmdir") && unlinkat(parent, last, AT_REMOVEDIR) == 0) ||
               errno == ENOENT;
        leave(b, parent);
    }
    free(part);
}

/* A rename did not happen: names both ends. */
static sw_code fail_rename(const sw_below *from, const char *from_name, const sw_below *to,
                           const char *to_name, int err, sw_status *st)
{
    char *path = sw_path_join(to->path, to_name, st);
    sw_code code = sw_fail(st, err == ENOMEM ? SW_ENOMEM : SW_EIO, path, NULL,
                           "cannot rename %s/%s to it: %s", from->path, from_name, strerror(err));

    free(path);
    return code;
}

sw_code sw_below_rename(const sw_below *from, const char *from_name, const sw_below *to, const char *to_name,
                        sw_status *st)
{
    const char *a, *b;
    int source = parent_of(from, from_name, &a, "renaming"),
        target = source < 0 ? -1 : parent_of(to, to_name, &b, "renaming");
    int r = -1, err = errno;
    struct stat was, is;

    if (target >= 0) {
        bool known = fstatat(source, a, &was, AT_SYMLINK_NOFOLLOW) == 0;

        r = SW_FAULT("rename") ? -1 : renameat(source, a, target, b);
        err = errno;
        if (r != 0 && err == ENOENT && known && fstatat(target, b, &is, AT_SYMLINK_NOFOLLOW) == 0 &&
            is.st_ino == was.st_ino)
            r = 0;
    }
    leave(from, source);
    leave(to, target);
    return r == 0 ? SW_OK : fail_rename(from, from_name, to, to_name, err, st);
}

int sw_below_try_rename(const sw_below *b, const char *from, const char *to)
{
    return renameat(b->fd, from, b->fd, to);
}

int sw_below_link(const sw_below *from, const sw_below *to, const char *name)
{
    const char *last;
    int source = parent_of(from, name, &last, "linking"),
        target = source < 0 ? -1 : parent_of(to, name, &last, "linking");
    int r = target < 0 || SW_FAULT("link") ? -1 : linkat(source, last, target, last, 0);

    leave(from, source);
    leave(to, target);
    return r;
}

/* ---- removing -------------------------------------------------------------------------------- */

sw_code sw_below_unlink(const sw_below *b, const char *name, sw_status *st)
{
    const char *last;
    int parent = parent_of(b, name, &last, "removing"), r = -1;

    if (parent >= 0 && !SW_FAULT("unlink"))
        r = unlinkat(parent, last, 0);
    leave(b, parent);
    return r != 0 && errno != ENOENT && errno != ENOTDIR ? fail_at(b, name, "cannot remove", st) : SW_OK;
}

/* Goes on after errors, and returns the first. */
static sw_code remove_items(const sw_below *dir, sw_status *st)
{
    sw_dir items;
    sw_code code = sw_below_list(dir, &items, st), one;

    for (size_t i = 0; i < items.n; i++) {
        one = sw_below_remove_tree(dir, items.names[i], st);
        code = code ? code : one;
    }
    sw_dir_release(&items);
    return code;
}

/* A directory, and all below it. */
static sw_code remove_dir(const sw_below *b, const char *name, int parent, const char *last, int fd,
                          sw_status *st)
{
    sw_below dir = { fd, sw_path_join(b->path, name, st) };
    sw_code code = dir.path ? remove_items(&dir, st) : st->code;

    sw_below_close(&dir);
    if (!code && (SW_FAULT("rmdir") ? -1 : unlinkat(parent, last, AT_REMOVEDIR)) != 0 && errno != ENOENT)
        code = fail_at(b, name, "cannot remove", st);
    return code;
}

/* One level at a time, so that nobody who puts a link in a directory's place can lead us
 * elsewhere. */
sw_code sw_below_remove_tree(const sw_below *b, const char *name, sw_status *st)
{
    const char *last;
    int parent = parent_of(b, name, &last, "removing"), fd = -1;
    sw_code code = SW_OK;

    if (parent >= 0 && !SW_FAULT("open"))
        fd = open_part(parent, last, O_RDONLY | O_DIRECTORY);
    if (fd >= 0)
        code = remove_dir(b, name, parent, last, fd, st);
    else if (parent >= 0 && (errno == ENOTDIR || errno == ELOOP))
        code = sw_below_unlink(b, name, st);
    else if (errno != ENOENT)
        code = fail_at(b, name, "cannot open", st);
    leave(b, parent);
    return code;
}

/* ---- the directory itself -------------------------------------------------------------------- */

sw_code sw_below_list(const sw_below *b, sw_dir *out, sw_status *st)
{
    int fd;

    sw_step("listing", b->path);
    fd = SW_FAULT("opendir") ? -1 : open_part(b->fd, ".", O_RDONLY | O_DIRECTORY);
    return sw_fd_list(fd, b->path, out, st);
}

sw_code sw_below_sync(const sw_below *b, const char *name, sw_status *st)
{
    int fd = name ? sw_below_fd(b, name, O_RDONLY | O_DIRECTORY) : b->fd;
    sw_code code;
    char *path;

    if (fd < 0)
        return fail_at(b, name, "cannot open", st);
    path = name ? sw_path_join(b->path, name, st) : b->path;
    code = path ? sw_fd_sync_dir(fd, path, st) : st->code;
    if (name) {
        close(fd);
        free(path);
    }
    return code;
}
