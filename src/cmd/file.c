/* Files for people; see file.h. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names that are tried for the file that is written first. */
#define TEMPORARY_TRIES 100

typedef struct job {
    const char *path, *what;
    const char *data;
    size_t n;
    sw_status *st;
} job;

/* What the system did not do. */
static sw_code fail_errno(const job *j)
{
    return sw_refuse(j->st, SW_EIO, j->path, "cannot write %s: %s", j->what, strerror(errno));
}

/* Everything into an open file, which is closed; -1 = it could not be opened. */
static sw_code write_file(const job *j, int fd)
{
    if (fd < 0 || !sw_write_all(fd, j->data, j->n))
        fail_errno(j);
    if (fd >= 0 && close(fd) && errno != EINTR)
        fail_errno(j);
    return j->st->code;
}

/* A new name beside path: the same directory, hidden, this process's own. NULL when memory is
 * short. */
static char *temporary_name(const char *path, int nth)
{
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) + 1 : 0;
    char *name = NULL;

    if (asprintf(&name, "%.*s.shardweld-%ld-%d", dir, path, (long)getpid(), nth) < 0)
        return NULL;
    return name;
}

/* Make a file that was not there: what somebody has put under its name is neither followed nor
 * emptied. */
static char *make_temporary(const job *j, int *fd)
{
    char *name = NULL;

    *fd = -1;
    for (int i = 0; i < TEMPORARY_TRIES && *fd < 0; i++) {
        free(name);
        if (!(name = temporary_name(j->path, i)))
            break;
        *fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (*fd < 0 && errno != EEXIST)
            break;
    }
    return name;
}

/* Beside it first, then in its place: nobody ever reads half of it. */
static sw_code replace_file(const job *j)
{
    int fd;
    char *temporary = make_temporary(j, &fd);

    if (!temporary)
        return sw_no_memory(j->st);
    if (write_file(j, fd) == SW_OK && rename(temporary, j->path))
        fail_errno(j);
    if (fd >= 0 && j->st->code)
        unlink(temporary);
    free(temporary);
    return j->st->code;
}

/* A pipe that nobody reads must not make anybody wait: opening it is an error. One that is read is
 * written to in full. */
static sw_code write_through(const job *j)
{
    int fd = open(j->path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

    if (flags >= 0)
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    return write_file(j, fd);
}

/* A link to a file of a checkpoint would cost that file. */
static sw_code check_link(const job *j)
{
    char *real = realpath(j->path, NULL);

    if (real && sw_file_is_taboo(real))
        sw_refuse(j->st, SW_EUSAGE, j->path, "cannot write %s: it leads to %s, a file of a checkpoint",
                  j->what, real);
    free(real);
    return j->st->code;
}

sw_code sw_file_print(const char *path, const char *what, sw_printer *print, const void *about, sw_status *st)
{
    size_t n;
    char *text = sw_print_text(print, about, &n, st);
    const job j = { path, what, text, n, st };
    struct stat s;

    /* A link, pipe or device must not be replaced by a file: think of /dev/stdout. */
    if (text && (lstat(path, &s) ? errno == ENOENT : S_ISREG(s.st_mode)))
        replace_file(&j);
    else if (text && !check_link(&j))
        write_through(&j);
    free(text);
    return st->code;
}

sw_code sw_file_discard(const char *path, const char *what, sw_status *st)
{
    struct stat s;

    if (lstat(path, &s) || !S_ISREG(s.st_mode) || !unlink(path) || errno == ENOENT)
        return SW_OK;
    return sw_refuse(st, SW_EIO, path, "cannot remove %s of an earlier run: %s", what, strerror(errno));
}

/* Are these the last characters of a text? */
static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

bool sw_file_is_taboo(const char *path)
{
    return ends_with(path, ".safetensors") || ends_with(path, ".index.json") ||
           ends_with(path, "config.json");
}
