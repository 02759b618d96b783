/* Injected failures; see fault.h. One spec at a time, so one counter is enough; it counts the calls
 * that the spec matches, in this process. */
#include "base/fault.h"

#ifdef SW_FAULTS

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct fault_spec {
    char site[32], action[16];
    long rank, nth;
    bool onwards;
} fault_spec;

/* As the launcher tells it: MPI may not have begun. */
static long my_rank(void)
{
    const char *r = getenv("OMPI_COMM_WORLD_RANK");

    if (!r)
        r = getenv("PMIX_RANK");
    if (!r)
        r = getenv("PMI_RANK");
    return r ? atol(r) : 0;
}

/* SITE:RANK:NTH[+][:ACTION] */
static bool parse_spec(const char *text, fault_spec *f)
{
    char nth[16] = "", *end;
    int n;

    memset(f, 0, sizeof *f);
    if (!text)
        return false;
    n = sscanf(text, "%31[^:]:%ld:%15[^:]:%15s", f->site, &f->rank, nth, f->action);
    f->nth = strtol(nth, &end, 10);
    f->onwards = *end == '+';
    return n >= 3 && f->nth > 0;
}

/* A whole line in one write to a file opened for appending: ranks do not mix their lines. */
static void list_call(const char *site)
{
    const char *path = getenv("SHARDWELD_FAULT_LIST");
    char line[64];
    int fd, n;

    if (!path || (fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
        return;
    n = snprintf(line, sizeof line, "%s %ld\n", site, my_rank());
    if (n > 0 && write(fd, line, (size_t)n) != n)
        fputs("the list of fault sites is incomplete\n", stderr);
    close(fd);
}

/* Do what the spec says. True: the call fails, errno says how. */
static int strike(const char *action)
{
    const struct timespec moment = { 0, 50000000 }, longer = { 3, 0 };
    int err = atoi(action);

    if (strcmp(action, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(action, "stop") == 0 || strcmp(action, "halt") == 0) {
        kill(getpid(), SIGSTOP);
        if (strcmp(action, "halt") == 0)
            nanosleep(&longer, NULL);
        return 0;
    }
    while (strcmp(action, "hang") == 0)
        nanosleep(&longer, NULL);
    if (strcmp(action, "slow") == 0) {
        nanosleep(&moment, NULL);
        return 0;
    }
    errno = err > 0 ? err : EIO;
    return 1;
}

/* Is it the turn of this call? */
static bool is_due(const char *site, fault_spec *f)
{
    static atomic_long calls;
    long n;

    if (!parse_spec(getenv("SHARDWELD_FAULT"), f) || strcmp(site, f->site) != 0 ||
        (f->rank >= 0 && f->rank != my_rank()))
        return false;
    n = atomic_fetch_add(&calls, 1) + 1;
    return n == f->nth || (f->onwards && n > f->nth);
}

int sw_fault(const char *site)
{
    fault_spec f;

    list_call(site);
    return is_due(site, &f) ? strike(f.action) : 0;
}

void sw_fault_flip(const char *site, char *data, uint64_t n)
{
    fault_spec f;

    if (n && is_due(site, &f) && strcmp(f.action, "flip") == 0)
        data[n / 2] = (char)(data[n / 2] ^ 1);
}

int sw_fault_no_reserve(void)
{
    const char *v = getenv("SHARDWELD_NO_RESERVE");

    return v && v[0] == '1';
}

#else

int sw_fault_no_reserve(void)
{
    return 0;
}

#endif
