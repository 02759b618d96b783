/* For tests of the library over a communicator that the caller brings: a few processes with sockets
 * between them, no MPI anywhere. */
#ifndef GROUP_HELP_H
#define GROUP_HELP_H

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shardweld.h"
#include "unit.h"

#define RANKS_MAX 5
#define HANG_SECONDS 60

/* Rank 0 has a socket to each other rank, those have one to it. */
typedef struct group {
    int rank, size;
    int to[RANKS_MAX];
} group;

/* What a rank came to. */
typedef struct outcome {
    sw_code code;
    uint64_t written;
    char message[1024];
} outcome;

/* What one rank does. */
typedef void (*rank_fn)(const sw_comm *comm, const void *arg, outcome *o);

static inline int group_put(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

        if (k <= 0)
            return 1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static inline int group_get(int fd, void *data, size_t n)
{
    char *p = data;

    while (n > 0) {
        ssize_t k = recv(fd, p, n, 0);

        if (k <= 0)
            return 1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

/* By way of rank 0. */
static inline int group_bcast(void *ctx, void *buf, size_t n, int root)
{
    const group *g = ctx;
    int bad = 0;

    if (g->rank != 0)
        return (g->rank == root && group_put(g->to[0], buf, n)) ||
               (g->rank != root && group_get(g->to[0], buf, n));
    if (root != 0)
        bad = group_get(g->to[root], buf, n);
    for (int r = 1; r < g->size; r++)
        if (r != root)
            bad = group_put(g->to[r], buf, n) || bad;
    return bad;
}

static inline int group_allgather(void *ctx, const void *mine, void *all, const size_t *counts)
{
    const group *g = ctx;
    size_t total = 0, at = 0;

    for (int r = 0; r < g->size; r++)
        total += counts[r];
    if (g->rank != 0)
        return group_put(g->to[0], mine, counts[g->rank]) || group_bcast(ctx, all, total, 0);
    for (int r = 0; r < g->size; at += counts[r++]) {
        if (counts[r] == 0)
            continue;
        if (r == 0)
            memcpy(all, mine, counts[0]);
        else if (group_get(g->to[r], (char *)all + at, counts[r]))
            return 1;
    }
    return group_bcast(ctx, all, total, 0);
}

static inline int group_barrier(void *ctx)
{
    const group *g = ctx;
    size_t counts[RANKS_MAX] = { 0 };
    char mine = 1, all[RANKS_MAX];

    for (int r = 0; r < g->size; r++)
        counts[r] = 1;
    return group_allgather(ctx, &mine, all, counts);
}

static inline void group_rank(group *g, rank_fn fn, const void *arg, outcome *o)
{
    sw_comm comm = { g, g->rank, g->size, group_bcast, group_allgather, group_barrier };

    alarm(HANG_SECONDS);
    *o = (outcome){ SW_OK, 0, "" };
    fn(&comm, arg, o);
}

/* Run fn on so many processes, this one is rank 0. */
static inline void group_run(int size, rank_fn fn, const void *arg, outcome *outcomes)
{
    int pair[RANKS_MAX][2], results[RANKS_MAX][2];
    group g = { .rank = 0, .size = size };

    fflush(NULL);
    for (int r = 1; r < size; r++) {
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[r]), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, results[r]), 0);
        g.to[r] = pair[r][0];
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            group mine = { .rank = r, .size = size, .to = { pair[r][1] } };
            outcome o;

            group_rank(&mine, fn, arg, &o);
            _exit(group_put(results[r][1], &o, sizeof o));
        }
    }
    group_rank(&g, fn, arg, &outcomes[0]);
    for (int r = 1; r < size; r++) {
        int status;

        assert_int_equal(group_get(results[r][0], &outcomes[r], sizeof outcomes[r]), 0);
        for (int end = 0; end < 2; end++) {
            close(pair[r][end]);
            close(results[r][end]);
        }
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    alarm(0);
}

#endif
