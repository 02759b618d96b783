/* Directories of tests. */
#ifndef TREE_HELP_H
#define TREE_HELP_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/below.h"
#include "unit.h"

#define OK(call)                                                                                             \
    do {                                                                                                     \
        sw_status status = SW_STATUS_INIT, *st = &status;                                                    \
        if ((call) != SW_OK || status.code)                                                                  \
            fail_msg("%s: %s: %s", #call, status.file, status.reason);                                       \
    } while (0)

/* dir/name, as one of the last 32 that were asked for; dir may be one of them. */
static inline char *path_at(const char *dir, const char *name)
{
    static char paths[32][512];
    static unsigned next;
    char joined[sizeof paths[0]];

    snprintf(joined, sizeof joined, "%s/%s", dir, name);
    return strcpy(paths[next++ % 32], joined);
}

/* A file with these bytes, and the directories above it. */
static inline void put_file(const char *path, const void *data, size_t n)
{
    char *slash = strrchr(path, '/');
    char above[512];
    int fd;

    snprintf(above, sizeof above, "%.*s", (int)(slash - path), path);
    OK(sw_path_mkdirs(above, NULL, st));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        fail_msg("%s cannot be made", path);
    OK(sw_fd_write_at(fd, path, data, n, 0, st));
    OK(sw_fd_close(fd, path, st));
}

/* Remove whatever has this path, with all below it. */
static inline sw_code remove_tree(const char *path, sw_status *st)
{
    char *above = sw_path_dir(path, st);
    sw_below dir = SW_BELOW_INIT;
    sw_code code = above ? sw_below_open(above, &dir, NULL, st) : st->code;

    if (!code)
        code = sw_below_remove_tree(&dir, sw_path_name(path), st);
    sw_below_close(&dir);
    free(above);
    return code;
}

#endif
