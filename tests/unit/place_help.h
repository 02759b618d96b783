/* A directory in which outputs are made, for tests: the system calls that change something are
 * defined here and reach the kernel by syscall(2), so that they can be counted, and struck, in any
 * build. */
#ifndef PLACE_HELP_H
#define PLACE_HELP_H

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include "dir/existing.h"
#include "dir/place.h"
#include "top_help.h"

/* ---- system calls ---------------------------------------------------------------------------- */

#define KILL (-1)

static struct hook {
    long calls, at;        /* strike at this call; 0 = never */
    int err;               /* fail with it, or KILL */
    bool onwards;          /* and at all later calls */
    bool no_locks;         /* fcntl locks: ENOLCK */
    bool nfs;              /* statfs says so */
    long sleeps, touch_at; /* nanosleep returns at once; at this call the lock file is touched */
    const char *touch;
} hook;

static inline bool strikes(void)
{
    hook.calls++;
    if (hook.at == 0 || !(hook.calls == hook.at || (hook.onwards && hook.calls > hook.at)))
        return false;
    if (hook.err == KILL)
        kill(getpid(), SIGKILL);
    errno = hook.err;
    return true;
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    if (flags & O_CREAT) {
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if ((flags & O_CREAT) && strikes())
        return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

/* One that may be struck. */
#define CALL(type, name, parameters, ...)                                                                    \
    type name parameters                                                                                     \
    {                                                                                                        \
        return strikes() ? -1 : (type)syscall(__VA_ARGS__);                                                  \
    }

CALL(int, mkdir, (const char *path, mode_t mode), SYS_mkdirat, AT_FDCWD, path, mode)
CALL(int, mkdirat, (int dir, const char *path, mode_t mode), SYS_mkdirat, dir, path, mode)
CALL(int, renameat, (int from_dir, const char *from, int to_dir, const char *to), SYS_renameat2, from_dir,
     from, to_dir, to, 0)
CALL(int, linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags), SYS_linkat,
     from_dir, from, to_dir, to, flags)
CALL(int, rmdir, (const char *path), SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
CALL(int, unlinkat, (int dir, const char *path, int flags), SYS_unlinkat, dir, path, flags)
CALL(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), SYS_pwrite64, fd, data, n, at)
CALL(int, ftruncate, (int fd, off_t n), SYS_ftruncate, fd, n)

/* Counted, but nothing here needs to survive the machine. */
int fsync(int fd)
{
    (void)fd;
    return strikes() ? -1 : 0;
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (cmd == F_OFD_SETLK && hook.no_locks) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

int statfs(const char *path, struct statfs *out)
{
    int r = (int)syscall(SYS_statfs, path, out);

    if (r == 0 && hook.nfs)
        out->f_type = 0x6969;
    return r;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
    (void)want;
    (void)left;
    if (++hook.sleeps == hook.touch_at)
        utimensat(AT_FDCWD, hook.touch, NULL, 0);
    return 0;
}

/* ---- a directory and what is in it ----------------------------------------------------------- */

static char out_dir[80]; /* OUTPUT_DIR in the directory of the test */

static inline void remove_all(const char *path)
{
    OK(remove_tree(path, st));
}

static inline int place_make(void **state)
{
    memset(&hook, 0, sizeof hook);
    if (top_make(state))
        return -1;
    snprintf(out_dir, sizeof out_dir, "%s/out", top);
    return 0;
}

static inline int place_remove(void **state)
{
    memset(&hook, 0, sizeof hook);
    return top_remove(state);
}

#define TEST_IN_PLACE(name) TEST_WITH(name, place_make, place_remove)

static inline bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* The text of a file; empty when it is not there. */
static inline const char *get(const char *path, char *text, size_t n)
{
    FILE *f = fopen(path, "r");
    size_t got = f ? fread(text, 1, n - 1, f) : 0;

    text[got] = '\0';
    if (f)
        fclose(f);
    return text;
}

/* In the staging directory. */
static inline char *in_staging(const char *name)
{
    return path_at(path_at(out_dir, SW_STAGING_NAME), name);
}

/* ---- a place --------------------------------------------------------------------------------- */

static inline sw_code open_place(const char *dir, bool sync, sw_place **s, uint64_t *recovered, sw_status *st)
{
    return sw_place_open(&(sw_place_rule){ .dir = dir, .sync = sync }, s, recovered, st);
}

static inline sw_place *must_open(void)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;

    if (open_place(out_dir, false, &s, &recovered, &st))
        fail_msg("%s: %s", st.file, st.reason);
    return s;
}

static inline void must_refuse(const char *says)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;

    assert_int_equal(open_place(out_dir, false, &s, &recovered, &st), SW_EUSAGE);
    assert_null(s);
    assert_string_equal(st.file, out_dir);
    if (!strstr(st.reason, says))
        fail_msg("'%s' does not say '%s'", st.reason, says);
}

static inline void must_close(sw_place *s)
{
    sw_status st = SW_STATUS_INIT;

    sw_place_close(s, NULL, &st);
    assert_string_equal(st.reason, "");
}

#endif
