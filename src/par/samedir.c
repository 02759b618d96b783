/* One directory on all nodes; see samedir.h. */
#include "par/samedir.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "dir/lock.h"

#define LOCK_MAX 4096

/* Rank 0. What it tells the others: three texts, its machine, the lock file's path, and what stands
 * in that. */
static sw_code make_word(const char *staging, sw_buf *b, sw_status *st)
{
    char *path = sw_path_join(staging, SW_LOCK_NAME, st);
    sw_buf text = SW_BUF_INIT;
    char host[64];

    sw_host_name(host, sizeof host);
    if (path && !sw_path_read(path, NULL, LOCK_MAX, &text, NULL, st)) {
        sw_buf_add(b, host, strlen(host) + 1, st);
        sw_buf_add(b, path, strlen(path) + 1, st);
        sw_buf_add(b, text.data, text.len, st);
    }
    sw_buf_release(&text);
    free(path);
    return st->code;
}

/* Network file systems ask the server anew when a directory is opened: else a name that was not
 * there a minute ago may go on not being there. The last directories of the path may be new. */
static void refresh(const char *file)
{
    char path[PATH_MAX];
    size_t n = strlen(file);
    char *ends[8];
    int depth = 0;

    if (n >= sizeof path)
        return;
    memcpy(path, file, n + 1);
    while (depth < 8 && (ends[depth] = strrchr(path, '/')) && ends[depth] != path)
        *ends[depth++] = '\0';
    while (depth-- > 0) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
            close(fd);
        *ends[depth] = '/';
    }
}

/* Does this rank see that text there? */
static sw_code look(const char *path, const char *text, size_t n, bool *same, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT;
    bool missing = true;

    for (int i = 0; missing && !st->code && sw_path_wait(i, SW_LOOKUP_SECONDS); i++) {
        refresh(path);
        sw_path_read(path, NULL, LOCK_MAX, &mine, &missing, st);
    }
    *same = !missing && mine.len == n && memcmp(mine.data, text, n) == 0;
    sw_buf_release(&mine);
    return st->code;
}

/* Another rank. */
static sw_code compare(const sw_buf *b, const char *staging, const char *show, int rank, sw_status *st)
{
    const char *there = b->data, *theirs = there + strlen(there) + 1, *text = theirs + strlen(theirs) + 1;
    char *path = staging ? sw_path_join(staging, SW_LOCK_NAME, st) : sw_strdup(theirs, st);
    char host[64];
    bool same = false;

    if (path)
        look(path, text, b->len - (size_t)(text - b->data), &same, st);
    free(path);
    if (same || st->code)
        return st->code;
    sw_host_name(host, sizeof host);
    return sw_fail(
        st, SW_EUSAGE, show, NULL,
        "is not the same directory for rank 0 on %s and rank %d on %s: choose one that all of them "
        "share",
        there, rank, host);
}

sw_code sw_check_same_dir(const sw_comm *comm, const char *staging, const char *show, void *share, size_t n,
                          sw_status *st)
{
    sw_buf b = SW_BUF_INIT;

    if (comm->size == 1)
        return st->code;
    if (comm->rank == 0 && staging && !st->code)
        make_word(staging, &b, st);
    if (!sw_comm_bcast_buf(comm, &b, 0, st)) {
        if (b.len && comm->rank != 0)
            compare(&b, staging, show, comm->rank, st);
        sw_agree_share(comm, share, n, st);
    }
    sw_buf_release(&b);
    return st->code;
}
