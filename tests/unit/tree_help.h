/* Directories of tests. */
#ifndef TREE_HELP_H
#define TREE_HELP_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/below.h"
#include "unit.h"

#define OK(call)                                                                                             \
    do {                                                                                                     \
        sw_status status = SW_STATUS_INIT, *st = &status;                                                    \
        if ((call) != SW_OK || status.code)                                                                  \
            fail_msg("%s: %s: %s", #call, status.file, status.reason);                                       \
    } while (0)

/* It fails with this code, naming path, in these words. */
#define FAILS(call, want, path, says)                                                                        \
    do {                                                                                                     \
        sw_status status = SW_STATUS_INIT, *st = &status;                                                    \
        assert_int_equal(call, want);                                                                        \
        assert_int_equal(status.code, want);                                                                 \
        assert_string_equal(status.file, path);                                                              \
        if (!strstr(status.reason, says))                                                                    \
            fail_msg("'%s' does not say '%s'", status.reason, says);                                         \
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
    const char *slash = strrchr(path, '/');
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

static inline void put(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

/* Both directories hold the same. */
static inline void same_tree(const char *want, const char *got)
{
    char command[1200];

    snprintf(command, sizeof command, "diff -r '%s' '%s' >&2", want, got);
    if (system(command))
        fail_msg("%s and %s differ", want, got);
}

/* Make what words say, below dir: NAME is an empty file, NAME=TEXT one with a text, NAME/ a
 * directory, NAME| a pipe, NAME@TO a link, NAME&TO a second name of what TO is there. */
static inline void make_tree(const char *dir, const char *words)
{
    for (size_t n; *(words += strspn(words, " ")); words += n) {
        char word[400], *mark, *path, *above;
        sw_status err = SW_STATUS_INIT;
        char kind = '=';
        int bad = 0;

        n = strcspn(words, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        mark = strpbrk(word, "=@&|");
        if (mark) {
            kind = *mark;
            *mark++ = '\0';
        }
        path = path_at(dir, word);
        above = sw_path_dir(path, &err);
        OK(sw_path_mkdirs(above, NULL, st));
        if (kind == '@')
            bad = symlink(mark, path);
        else if (kind == '&')
            bad = link(path_at(dir, mark), path);
        else if (kind == '|')
            bad = mkfifo(path, 0666);
        else if (*sw_path_name(path))
            put_file(path, mark ? mark : "", mark ? strlen(mark) : 0);
        if (bad)
            fail_msg("%s cannot be made", path);
        free(above);
    }
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
