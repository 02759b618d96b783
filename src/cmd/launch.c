/* What the launcher made of this process; see launch.h. */
#include "launch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "say.h"
#include "text.h"

/* The number in the first of these variables that has one, or 0. */
static int number_of(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *text = getenv(names[i]);
        char *end;
        long found;

        if (!text || text[0] < '0' || text[0] > '9')
            continue;
        found = strtol(text, &end, 10);
        if (!*end && found <= INT32_MAX)
            return (int)found;
    }
    return 0;
}

sw_code sw_launch_look(sw_launch *out, sw_status *st)
{
    static const char *const ranks[] = { "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK" };
    static const char *const places[] = { "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PMIX_LOCAL_RANK",
                                          "SLURM_LOCALID" };

    out->alone = !sw_comm_launched();
    out->rank = out->alone ? 0 : number_of(ranks, SW_COUNT(ranks));
    out->place = out->alone ? 0 : number_of(places, SW_COUNT(places));
    return sw_comm_check_alone(st);
}

/* ---- signals --------------------------------------------------------------------------------- */

/* A handler can reach nothing but what has static storage. */
static volatile sig_atomic_t caught;
static char announcement[1024]; /* "" = none */

/* The handler: what it does must be safe at any moment. */
static void note(int sig)
{
    int err = errno;

    caught = sig;
    if (announcement[0] && write(STDERR_FILENO, announcement, strlen(announcement)) < 0)
        announcement[0] = '\0'; /* nobody hears us */
    errno = err;
}

void sw_signals_catch(void)
{
    static const int ends[] = { SIGINT, SIGTERM };
    struct sigaction act, old;

    memset(&act, 0, sizeof act);
    sigemptyset(&act.sa_mask);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    sigaction(SIGXFSZ, &act, NULL);
    act.sa_handler = note;
    act.sa_flags = SA_RESTART | (int)SA_RESETHAND; /* MPI libraries do not expect EINTR */
    for (size_t i = 0; i < SW_COUNT(ends); i++)
        if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ends[i], &act, NULL);
}

/* The first byte last: a signal may come in between. */
void sw_signals_announce(const char *staging)
{
    char text[sizeof announcement] = "";
    size_t n;

    snprintf(text, sizeof text - 1, "shardweld: interrupted%s%s%s", staging ? "; if " : "",
             staging ? staging : "", staging ? " stays behind, the next run removes it" : "");
    n = strlen(text);
    sw_text_clean(text, n);
    text[n] = '\n';
    memcpy(announcement + 1, text + 1, sizeof text - 1);
    announcement[0] = text[0];
}

const volatile int *sw_signals_flag(void)
{
    return &caught;
}

void sw_signals_die(void)
{
    int sig = caught;

    if (sig == 0)
        return;
    signal(sig, SIG_DFL);
    raise(sig);
}
