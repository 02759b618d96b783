/* A store that only takes a stream, mounted as a file system: what object stores are like when they
 * are mounted, at their worst.
 *
 *     stream_store BACKING MOUNTPOINT [rename] [full=BYTES] [broken=NAME]
 *
 * Of a file: it is made, written from front to back by the one descriptor that made it, and closed;
 * only then it is there, in BACKING, and can be read. What was not closed is lost when the store
 * dies. Refused with EPERM: to open a file for writing again (but to begin anew, with O_TRUNC), to
 * open it for both, to open one for reading while it is written, to write anywhere but at its end,
 * to cut it, to change its mode or times, links, and, unless `rename` is given, renames. Nothing
 * can be reserved.
 *   full    a write that would pass so many bytes, all files taken together, is ENOSPC
 *   broken  closing a file whose name ends so is EIO, and it is lost
 * It runs in the foreground until it is unmounted. */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A file on its way. It has no name in BACKING before it is closed. */
typedef struct stream {
    struct stream *next;
    char *path;
    int fd;
    off_t at;
    mode_t mode;
    bool closed;
} stream;

static struct {
    int root; /* BACKING, and where what is under way is kept, which nobody sees */
    char hidden[4096];
    bool renames;
    uint64_t room;
    const char *broken;
    pthread_mutex_t mutex; /* guards what follows */
    stream *streams;
    uint64_t number;
} store = { .room = UINT64_MAX, .mutex = PTHREAD_MUTEX_INITIALIZER };

/* "" is no path below a directory. */
static const char *below(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static int result(int r)
{
    return r < 0 ? -errno : r;
}

/* With the mutex held. */
static stream *find(const char *path)
{
    stream *s = store.streams;

    while (s && (s->closed || strcmp(s->path, path) != 0))
        s = s->next;
    return s;
}

static void hide(char *path, size_t n, const stream *s)
{
    snprintf(path, n, "%s/%p", store.hidden, (const void *)s);
}

/* ---- what is there --------------------------------------------------------------------------- */

static int op_getattr(const char *path, struct stat *s, struct fuse_file_info *fi)
{
    int r = fstatat(store.root, below(path), s, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
    stream *under_way;

    (void)fi;
    pthread_mutex_lock(&store.mutex);
    if ((under_way = find(path)) && fstat(under_way->fd, s) == 0)
        r = 0;
    pthread_mutex_unlock(&store.mutex);
    return r;
}

static int op_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags)
{
    int fd = openat(store.root, below(path), O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    (void)off;
    (void)fi;
    (void)flags;
    if (!dir)
        return -errno;
    while ((e = readdir(dir)))
        fill(buf, e->d_name, NULL, 0, (enum fuse_fill_dir_flags)0);
    closedir(dir);
    return 0;
}

static int op_statfs(const char *path, struct statvfs *v)
{
    (void)path;
    return result(fstatvfs(store.root, v));
}

static int op_mkdir(const char *path, mode_t mode)
{
    return result(mkdirat(store.root, below(path), mode));
}

static int op_rmdir(const char *path)
{
    return result(unlinkat(store.root, below(path), AT_REMOVEDIR));
}

static int op_unlink(const char *path)
{
    return result(unlinkat(store.root, below(path), 0));
}

static int op_rename(const char *from, const char *to, unsigned flags)
{
    if (!store.renames || flags)
        return -EPERM;
    return result(renameat(store.root, below(from), store.root, below(to)));
}

/* ---- what is refused ------------------------------------------------------------------------- */

static int op_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    (void)path;
    (void)size;
    (void)fi;
    return -EPERM;
}

static int op_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    (void)path;
    (void)mode;
    (void)fi;
    return -EPERM;
}

static int op_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
    (void)path;
    (void)times;
    (void)fi;
    return -EPERM;
}

static int op_link(const char *from, const char *to)
{
    (void)from;
    (void)to;
    return -EPERM;
}

/* ---- streams --------------------------------------------------------------------------------- */

static int begin(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    stream *s = calloc(1, sizeof *s);
    char hidden[8192];

    if (!s || !(s->path = strdup(path)))
        return -ENOMEM;
    hide(hidden, sizeof hidden, s);
    s->mode = mode;
    s->fd = open(hidden, O_RDWR | O_CREAT | O_TRUNC, mode);
    if (s->fd < 0)
        return -errno;
    s->next = store.streams;
    store.streams = s;
    fi->fh = (uintptr_t)s;
    return 0;
}

static int op_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    int r;

    if ((fi->flags & O_ACCMODE) != O_WRONLY)
        return -EPERM;
    pthread_mutex_lock(&store.mutex);
    r = find(path) ? -EPERM : begin(path, mode, fi);
    pthread_mutex_unlock(&store.mutex);
    return r;
}

static int op_open(const char *path, struct fuse_file_info *fi)
{
    bool reads = (fi->flags & O_ACCMODE) == O_RDONLY;
    int r;

    pthread_mutex_lock(&store.mutex);
    if (find(path) || (!reads && ((fi->flags & O_ACCMODE) != O_WRONLY || !(fi->flags & O_TRUNC))))
        r = -EPERM;
    else
        r = reads ? 0 : begin(path, 0644, fi);
    pthread_mutex_unlock(&store.mutex);
    return r;
}

static int op_read(const char *path, char *to, size_t n, off_t at, struct fuse_file_info *fi)
{
    int fd = openat(store.root, below(path), O_RDONLY), r;

    (void)fi;
    if (fd < 0)
        return -errno;
    r = result((int)pread(fd, to, n, at));
    close(fd);
    return r;
}

static int op_write(const char *path, const char *from, size_t n, off_t at, struct fuse_file_info *fi)
{
    stream *s = (void *)(uintptr_t)fi->fh;
    ssize_t did;

    (void)path;
    if (!s || s->closed || at != s->at)
        return -EPERM;
    pthread_mutex_lock(&store.mutex);
    if (store.room != UINT64_MAX && n > store.room) {
        pthread_mutex_unlock(&store.mutex);
        return -ENOSPC;
    }
    if (store.room != UINT64_MAX)
        store.room -= n;
    pthread_mutex_unlock(&store.mutex);
    did = pwrite(s->fd, from, n, at);
    if (did > 0)
        s->at += did;
    return result((int)did);
}

static bool is_broken(const char *path)
{
    size_t n = strlen(path), k = store.broken ? strlen(store.broken) : 0;

    return store.broken && n >= k && strcmp(path + n - k, store.broken) == 0;
}

/* close(2): it is there now. */
static int op_flush(const char *path, struct fuse_file_info *fi)
{
    stream *s = (void *)(uintptr_t)fi->fh;
    char hidden[8192];
    int r;

    if (!s || s->closed)
        return 0;
    hide(hidden, sizeof hidden, s);
    pthread_mutex_lock(&store.mutex);
    s->closed = true;
    r = is_broken(path) ? -EIO : result(renameat(AT_FDCWD, hidden, store.root, below(path)));
    pthread_mutex_unlock(&store.mutex);
    return r;
}

static int op_release(const char *path, struct fuse_file_info *fi)
{
    stream *s = (void *)(uintptr_t)fi->fh, **at = &store.streams;
    char hidden[8192];

    (void)path;
    if (!s)
        return 0;
    hide(hidden, sizeof hidden, s);
    pthread_mutex_lock(&store.mutex);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&store.mutex);
    close(s->fd);
    unlink(hidden);
    free(s->path);
    free(s);
    return 0;
}

static int op_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    (void)path;
    (void)datasync;
    (void)fi;
    return 0;
}

static void *op_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
    conn->max_write = 1 << 20;
    cfg->entry_timeout = cfg->attr_timeout = cfg->negative_timeout = 0;
    cfg->hard_remove = 1; /* what was closed may go, though the kernel has not told of it yet */
    return NULL;
}

static const struct fuse_operations operations = {
    .init = op_init,
    .getattr = op_getattr,
    .readdir = op_readdir,
    .statfs = op_statfs,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .unlink = op_unlink,
    .rename = op_rename,
    .truncate = op_truncate,
    .chmod = op_chmod,
    .utimens = op_utimens,
    .link = op_link,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .release = op_release,
};

int main(int argc, char **argv)
{
    char *words[] = {
        argv[0], NULL, "-f", "-o", "fsname=stream_store,subtype=stream_store,default_permissions", NULL
    };

    if (argc < 3 || (store.root = open(argv[1], O_RDONLY | O_DIRECTORY)) < 0)
        return 2;
    for (int i = 3; i < argc; i++)
        if (strcmp(argv[i], "rename") == 0)
            store.renames = true;
        else if (strncmp(argv[i], "full=", 5) == 0)
            store.room = strtoull(argv[i] + 5, NULL, 10);
        else if (strncmp(argv[i], "broken=", 7) == 0)
            store.broken = argv[i] + 7;
        else
            return 2;
    snprintf(store.hidden, sizeof store.hidden, "%s.under-way", argv[1]);
    mkdir(store.hidden, 0700);
    words[1] = argv[2];
    return fuse_main(5, words, &operations, NULL);
}
