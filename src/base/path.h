/* Files and directories by their paths, links followed; what a run makes it makes below a directory
 * that it holds open (below.h). No other place opens, reads, syncs and lists. All functions are
 * local. Each names the path in its error; code SW_EIO, or SW_ENOMEM. Interrupted calls are
 * repeated. Every system call goes through SW_FAULT (fault.h), so that tests can make each of them
 * fail; the site has the name of the call: open read write close fsync stat mkdir rename unlink
 * rmdir opendir readdir statfs fallocate. show is the name for messages where it is not the path
 * itself. */
#ifndef SW_BASE_PATH_H
#define SW_BASE_PATH_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/buf.h"

/* ---- paths and whole files ------------------------------------------------------------------- */

/* dir + "/" + name, newly allocated; NULL on failure. */
char *sw_path_join(const char *dir, const char *name, sw_status *st);

/* The same, but for an absolute name, which is a path: of a file of the input, which may lie
 * anywhere where that was asked for. */
char *sw_path_named(const char *dir, const char *name, sw_status *st);

/* Local. A time of a file in nanoseconds. */
static inline int64_t sw_path_ns(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

/* Local. Are they of one file? */
bool sw_path_same(const struct stat *a, const struct stat *b);

/* The directory that a path's last part is in ("." where it has none), newly allocated; NULL on
 * failure. And that last part, in path. */
char *sw_path_dir(const char *path, sw_status *st);
const char *sw_path_name(const char *path);

/* A whole regular file into b (emptied first); anything else is SW_EINPUT, and nobody waits for it.
 * At most max bytes, else SW_EINPUT. *missing (may be NULL) is set, with SW_OK, where the file does
 * not exist. show = the name for messages (NULL: path). */
sw_code sw_path_read(const char *path, const char *show, uint64_t max, sw_buf *b, bool *missing,
                     sw_status *st);

/* The same for what a person names, which may be a pipe or a device: waits for whoever writes into
 * it, but not longer than until *cancel (may be NULL) is raised (SW_ECANCEL), and for somebody to
 * begin at most 10 s. */
sw_code sw_path_read_any(const char *path, uint64_t max, const volatile int *cancel, sw_buf *b,
                         sw_status *st);

/* ---- open files ------------------------------------------------------------------------------ */

/* Open a regular file for reading; close-on-exec. *fd is -1 on failure. show = NULL: path. Errors:
 * SW_EIO; SW_EINPUT for what is no regular file. */
sw_code sw_fd_open(const char *path, const char *show, int *fd, sw_status *st);

/* The rest of an open file into b (emptied first), which may be at most max bytes. */
sw_code sw_fd_read_all(int fd, const char *show, uint64_t max, sw_buf *b, sw_status *st);

/* Exactly n bytes at offset from an open file. A file that ends before is SW_EINPUT ("shorter than
 * ..."). */
sw_code sw_fd_read_at(int fd, const char *show, void *to, uint64_t n, uint64_t at, sw_status *st);

/* All n bytes at offset. A short write goes on; a write of 0 is ENOSPC. */
sw_code sw_fd_write_at(int fd, const char *show, const void *from, uint64_t n, uint64_t at, sw_status *st);

/* Make sure that size bytes from the beginning of the file can be written, where the file system
 * can promise it; the file grows to that size. One that cannot is no error; no space, no quota or a
 * limit is: SW_EIO. */
sw_code sw_path_reserve(int fd, const char *show, uint64_t size, sw_status *st);

/* Is it good to reserve on a file system with this number of statfs(2)? On btrfs what is reserved
 * is never compressed: data of zeros took 30 times the space. On tmpfs all pages are made at once,
 * which is half the time of writing them, while nothing else goes on. */
bool sw_fs_reserves(uint32_t magic);

/* fsync an open file. / A directory: EINVAL and ENOTSUP are no error. */
sw_code sw_fd_sync(int fd, const char *show, sw_status *st);
sw_code sw_fd_sync_dir(int fd, const char *show, sw_status *st);

/* Close; an error counts (it can be the only word of a lost write). fd < 0 is fine. */
sw_code sw_fd_close(int fd, const char *show, sw_status *st);

/* ---- changing directories -------------------------------------------------------------------- */

/* mkdir -p with mode 0777 & ~umask.
 *   kept  so many leading characters of path name what was there before (strlen(path): all of it).
 *         Set, as far as it got, also on an error; NULL = not wanted */
sw_code sw_path_mkdirs(const char *path, size_t *kept, sw_status *st);

/* Remove the directories that make up the tail of path, the last one first, down to (and without)
 * the one that the first kept characters name. Those that are not empty, or cannot be removed,
 * stay: there is no error. */
void sw_path_rmdirs(const char *path, size_t kept);

/* The same of a directory by its path. */
sw_code sw_path_sync_dir(const char *path, sw_status *st);

/* ---- looking --------------------------------------------------------------------------------- */

typedef enum sw_path_kind {
    SW_PATH_MISSING,
    SW_PATH_FILE,
    SW_PATH_DIR,
    SW_PATH_OTHER,
    SW_PATH_DANGLING
} sw_path_kind;

/* Local. The kind of what was looked at. */
static inline sw_path_kind sw_path_kind_of(const struct stat *s)
{
    return S_ISREG(s->st_mode) ? SW_PATH_FILE : S_ISDIR(s->st_mode) ? SW_PATH_DIR : SW_PATH_OTHER;
}

/* What is there, links followed; s (may be NULL) is filled for FILE and DIR. */
sw_code sw_path_stat(const char *path, sw_path_kind *kind, struct stat *s, sw_status *st);
/* The same of what has a name in a directory. */
sw_code sw_path_stat_in(const char *dir, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st);

/* The same for the name itself: a link, wherever it leads, is SW_PATH_OTHER. s is filled unless
 * MISSING. */
sw_code sw_path_lstat(const char *path, sw_path_kind *kind, struct stat *s, sw_status *st);

/* After a file that was there could not be opened: when nothing is there any more it has been
 * removed meanwhile, and SW_EIO in st becomes SW_EINPUT. name is for messages. */
sw_code sw_path_gone(const char *path, const char *name, sw_status *st);

/* Open such a file, which was there a moment ago, by its name in a directory (sw_path_named()). The
 * descriptor, or -1. */
int sw_path_open_named(const char *dir, const char *name, sw_status *st);

/* What another machine has made may stay invisible for a moment (lookup caches of network file
 * systems). Is there time for one more try, after so many? Every try but the first is preceded by a
 * tenth of a second. */
#define SW_PATH_SECONDS 2 /* for what is known to be there */
bool sw_path_wait(int tries, int seconds);

/* Names in a directory without "." and "..", sorted by bytes; all NUL-terminated in names, n of
 * them. */
typedef struct sw_dir {
    char **names;
    size_t n, cap;
} sw_dir;
sw_code sw_dir_list(const char *path, sw_dir *out, sw_status *st);

/* One more name, behind the others: a copy. */
sw_code sw_dir_add(sw_dir *d, const char *name, sw_status *st);

/* The same of an open directory, which is closed; fd -1: errno tells why it is not. */
sw_code sw_fd_list(int fd, const char *show, sw_dir *out, sw_status *st);
void sw_dir_release(sw_dir *d);

/* Local. Fail with SW_EIO when so many are not free. show: its name for messages. */
sw_code sw_path_check_space(const char *path, const char *show, uint64_t need, sw_status *st);

/* The kind of file system. */
typedef struct sw_fs {
    /* a network or parallel file system: other machines may see it, large blocks pay */
    bool shared;
    bool nfs;         /* it is NFS */
    bool fuse;        /* a process of this machine moves its bytes, in pieces of 1 MiB at most */
    const char *name; /* "nfs", "lustre", ...; "local" when it is none of those known */
    uint64_t block;   /* bytes that it likes to be written at once (st_blksize) */
} sw_fs;
sw_code sw_path_fs(const char *path, sw_fs *out, sw_status *st);

/* Local. Is the file only seen by this machine, and by no other name of another file system
 * (overlayfs)? false when it cannot be told. */
bool sw_fd_is_local(int fd);

/* The same for a path that need not exist yet: of the nearest of its parents that does. */
sw_code sw_path_fs_near(const char *path, sw_fs *out, sw_status *st);

#endif
