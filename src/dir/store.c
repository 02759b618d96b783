/* Trying a store; see store.h. */
#include "dir/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fault.h"

#define NAME_SIZE 48
#define TRIES 5
#define FAR 8192 /* beyond the end of what is there, and in another page */

/* Stores of objects, as mountinfo calls what is mounted: its kind (behind "fuse."), or its
 * source. */
static const char *const object_mounts[] = { "s3fs",   "rclone",  "gcsfuse",  "mountpoint-s3",
                                             "goofys", "geesefs", "blobfuse", "blobfuse2",
                                             "ossfs",  "cosfs",   "fuse_dfs", "hadoop-fuse-dfs",
                                             "riofs",  "yas3fs",  NULL };

/* ---- by name --------------------------------------------------------------------------------- */

/* Is it a mount of an object store, by the word that the kernel has for its kind? */
static bool is_object_mount(const char *word)
{
    for (const char *const *name = object_mounts; *name; name++)
        if (strcmp(word, *name) == 0)
            return true;
    return false;
}

/* Of a line of mountinfo whose device it is: its kind, and whether that or its source is a store of
 * objects. */
static bool take_line(const char *line, dev_t dev, sw_store *out)
{
    const char *rest = strstr(line, " - ");
    char kind[sizeof out->type], source[64] = "";
    unsigned a, b;

    if (!rest || sscanf(line, "%*d %*d %u:%u", &a, &b) != 2 || makedev(a, b) != dev ||
        sscanf(rest, " - %31s %63s", kind, source) < 1)
        return false;
    snprintf(out->type, sizeof out->type, "%s", kind);
    out->objects =
        is_object_mount(strncmp(kind, "fuse.", 5) == 0 ? kind + 5 : kind) || is_object_mount(source);
    return true;
}

/* The last that is mounted counts. Where there is no /proc it has no name. */
static void find_type(const sw_below *dir, sw_store *out)
{
    struct stat s;
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    while (f && fstat(dir->fd, &s) == 0 && getline(&line, &size, f) > 0)
        take_line(line, s.st_dev, out);
    free(line);
    if (f)
        fclose(f);
}

/* ---- by trial -------------------------------------------------------------------------------- */

/* Is this how a store says that it cannot do something? Whatever is mounted by FUSE may also say
 * EIO; elsewhere that is a failing disk, and what has no room is no answer either. */
static bool is_refusal(int err, const sw_store *store)
{
    static const int refusals[] = { EPERM, EACCES,  EINVAL, EOPNOTSUPP, ENOSYS,
                                    EBUSY, ETXTBSY, EBADF,  ESPIPE,     EXDEV };

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (err == refusals[i])
            return true;
    return err == EIO && strncmp(store->type, "fuse", 4) == 0;
}

/* What may be refused is asked for by plain calls: only the answer counts. */
static int reopen(const sw_below *dir, const char *name, int flags)
{
    return SW_FAULT("trial") ? -1 : openat(dir->fd, name, flags | O_CLOEXEC | O_NOFOLLOW);
}

/* 0, or the first errno of some steps. */
static void note(bool done, int *err)
{
    if (!done && !*err)
        *err = errno ? errno : EIO;
}

/* Two that hold the file open at once, as several ranks would, write behind its end, and into its
 * middle. 0, or errno. */
static int write_twice(const sw_below *dir, const char *name)
{
    int a = reopen(dir, name, O_RDWR), b = a < 0 ? -1 : reopen(dir, name, O_RDWR), err = 0;

    note(b >= 0 && pwrite(b, "far", 3, FAR) == 3 && pwrite(a, "mid", 3, 2) == 3, &err);
    if (a >= 0)
        note(close(a) == 0, &err);
    if (b >= 0)
        note(close(b) == 0, &err);
    return err;
}

/* And it is there: what is not was taken without a word, which is a refusal too. 0, or errno. */
static int read_back(const sw_below *dir, const char *name)
{
    char at[5] = "", end[3] = "";
    int fd = reopen(dir, name, O_RDONLY), err = 0;

    note(fd >= 0 && pread(fd, at, 5, 0) >= 0 && pread(fd, end, 3, FAR) >= 0, &err);
    if (fd >= 0)
        close(fd);
    return err || (memcmp(at, "shmid", 5) == 0 && memcmp(end, "far", 3) == 0) ? err : EOPNOTSUPP;
}

/* Of a stream only readers hold one. */
static bool can_lock(const sw_below *dir, const char *name, bool random)
{
    struct flock whole = { .l_type = random ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
    int fd = reopen(dir, name, random ? O_RDWR : O_RDONLY);
    bool can = fd >= 0 && fcntl(fd, F_OFD_SETLK, &whole) == 0;

    if (fd >= 0)
        close(fd);
    return can;
}

/* Can room be taken before it is written? */
static bool can_reserve(const sw_below *dir, const char *name)
{
    int fd = reopen(dir, name, O_RDWR);
    bool can = fd >= 0 && fallocate(fd, 0, 0, 2 * FAR) == 0;

    if (fd >= 0)
        close(fd);
    return can;
}

/* A few bytes, written once: this must work anywhere. */
static sw_code make(const sw_below *dir, const char *name, sw_status *st)
{
    char *path = sw_path_join(dir->path, name, st);
    int fd = path ? sw_below_fd(dir, name, O_WRONLY | O_CREAT | O_EXCL) : -1;

    if (path && fd < 0)
        sw_fail_errno(st, path, errno, "cannot create");
    if (!st->code)
        sw_fd_write_at(fd, path, "shard", 5, 0, st);
    sw_fd_close(fd, path, st);
    free(path);
    return st->code;
}

/* A name that no other run has. */
static void draw_name(const char *base, char name[NAME_SIZE])
{
    uint64_t n = 0;

    if (getrandom(&n, sizeof n, GRND_NONBLOCK) != (ssize_t)sizeof n)
        n = (uint64_t)getpid();
    snprintf(name, NAME_SIZE, "%s.%016" PRIx64, base, n);
}

/* Remove it under whichever name it has. *lost: it has none, somebody has emptied the directory. */
static sw_code remove_both(const sw_below *dir, const char *name, const char *other, bool *lost,
                           sw_status *st)
{
    struct stat s;

    *lost = fstatat(dir->fd, name, &s, AT_SYMLINK_NOFOLLOW) != 0 &&
            fstatat(dir->fd, other, &s, AT_SYMLINK_NOFOLLOW) != 0;
    return sw_below_unlink(dir, name, st) ? st->code : sw_below_unlink(dir, other, st);
}

/* Can it, or does it say that it cannot? */
static bool judge(const sw_below *dir, int err, const char *what, const sw_store *store, sw_status *st)
{
    if (err && !is_refusal(err, store))
        sw_fail_errno(st, dir->path, err, what);
    return err == 0;
}

/* Do to files of our own what a publication does. *lost: the directory went away meanwhile. */
static sw_code try_once(const sw_below *dir, sw_store *out, bool *lost, sw_status *st)
{
    sw_status left = SW_STATUS_INIT;
    char name[NAME_SIZE], other[NAME_SIZE];
    int err;

    draw_name("trial", name);
    draw_name("moved", other);
    *lost = false;
    if (make(dir, name, st)) {
        sw_below_unlink(dir, name, &left);
        return st->code;
    }
    err = write_twice(dir, name);
    out->rewrites = judge(dir, err ? err : read_back(dir, name), "cannot write to a file again", out, st);
    out->reserves = out->rewrites && can_reserve(dir, name);
    out->locks = can_lock(dir, name, out->rewrites);
    err = SW_FAULT("trial") || sw_below_try_rename(dir, name, other) != 0 ? errno : 0;
    out->renames = judge(dir, err, "cannot rename in it", out, st);
    remove_both(dir, name, other, lost, &left);
    /* What went wrong with a file that somebody took away is tried again. */
    if (*lost && !left.code)
        sw_status_clear(st);
    if (left.code && !st->code)
        *st = left;
    return st->code;
}

sw_code sw_store_try(const sw_below *dir, sw_store *out, sw_status *st)
{
    bool lost = true;

    *out = (sw_store){ 0 };
    find_type(dir, out);
    /* A run that ends in this directory removes what it finds there. */
    for (int i = 0; i < TRIES && lost && !st->code; i++)
        try_once(dir, out, &lost, st);
    if (lost && !st->code)
        sw_fail(st, SW_EIO, dir->path, NULL, "other runs came and went too often");
    return st->code;
}

sw_store_kind sw_store_choose(sw_store_kind wanted, const sw_store *store)
{
    if (wanted != SW_STORE_AUTO)
        return wanted;
    return store->rewrites && !store->objects ? SW_STORE_RANDOM : SW_STORE_STREAM;
}
