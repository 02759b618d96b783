/* Who is waited for, and at what; see sw_watchdog in shardweld.h.
 *
 * MPI cannot tell: it may be called by one thread only, and that one stands still. So each rank's
 * watchdog sends a datagram about its rank to rank 0's every now and then, and that one answers.
 * What rank 0 knows then:
 *   - ranks that stand still at something of their own (a file): they are waited for;
 *   - ranks that were heard of and are no longer (stopped, dead, behind a dead link): they are,
 *   too;
 *   - ranks that wait for others: they are not;
 *   - ranks that stand still at something that a group does together (MPI-IO opens and closes files
 *     so): they may be either, and count only where there is nobody else.
 * A rank that hears no answers speaks for itself. Datagrams carry a random number that only the
 * ranks know; others are not looked at.
 *
 * Time is counted while this process is awake: after a suspended job is continued nobody has been
 * silent for an hour. */
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/grown.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/step.h"
#include "base/thread.h"
#include "par/comm.h"

#define USUAL_SECONDS 30.0
#define PERIODS 10 /* so many words while patience lasts */
#define PLACES_MAX 16
#define HOST_SIZE sizeof(((sw_status *)0)->host)
#define GROUPS_MAX 8 /* groups of ranks that one line names */

typedef enum word_kind { WORD_BEAT, WORD_ANSWER, WORD_BYE, WORD_END } word_kind;

/* A datagram, as it lies. */
typedef struct word {
    uint64_t token;
    int32_t kind, rank;
    int32_t waiting, joint;
    double still; /* seconds without progress */
    char host[HOST_SIZE];
    char step[232];
} word;

/* Where rank 0 can be reached. IPv4 is written as IPv6 has it. */
typedef struct place {
    uint64_t token;
    char host[HOST_SIZE];
    uint16_t port; /* as on the wire; 0 = it cannot be */
    uint32_t n;
    struct in6_addr at[PLACES_MAX];
} place;

/* What is known of a rank. */
typedef struct peer {
    word last;
    double heard; /* by our clock; < 0 = never */
    bool gone;    /* it said that it is through */
    struct sockaddr_storage at;
    socklen_t len;
} peer;

struct sw_watchdog {
    int rank, size;
    double patience, timeout, period;
    sw_watchdog_options opt;
    sw_steps steps; /* of the thread that is watched */
    pthread_t thread;
    bool running;
    int wake; /* readable: stop */

    int fd; /* -1 = no socket */
    int family;
    place root;
    word mine;
    peer *peers; /* on rank 0 one a rank, on others one: rank 0 */

    double clock, awake; /* when last looked at; seconds that this process was awake */
    unsigned long count; /* of steps, when they last changed: */
    double moved;
    double said; /* so long it had lasted when it was last said; 0 = all is well */
};

/* ---- sockets --------------------------------------------------------------------------------- */

/* One for both families; where there is no IPv6, for IPv4. */
static void open_socket(sw_watchdog *w)
{
    const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    int no = 0;

    w->family = AF_INET6;
    w->fd = socket(AF_INET6, SOCK_DGRAM | flags, 0);
    if (w->fd >= 0 && setsockopt(w->fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0)
        return;
    if (w->fd >= 0)
        close(w->fd);
    w->family = AF_INET;
    w->fd = socket(AF_INET, SOCK_DGRAM | flags, 0);
}

/* An IPv4 address as IPv6 has it. */
static struct in6_addr mapped(struct in_addr v4)
{
    struct in6_addr out = { 0 };

    out.s6_addr[10] = out.s6_addr[11] = 0xff;
    memcpy(out.s6_addr + 12, &v4, sizeof v4);
    return out;
}

/* 0: not in this family. */
static socklen_t make_address(const sw_watchdog *w, const struct in6_addr *at, uint16_t port,
                              struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = port };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = *at };

    if (w->family == AF_INET6) {
        memcpy(out, &v6, sizeof v6);
        return sizeof v6;
    }
    if (!IN6_IS_ADDR_V4MAPPED(at))
        return 0;
    memcpy(&v4.sin_addr, at->s6_addr + 12, sizeof v4.sin_addr);
    memcpy(out, &v4, sizeof v4);
    return sizeof v4;
}

/* Addresses of this machine that others may reach. */
static void list_addresses(place *p)
{
    struct ifaddrs *all = NULL, *a;

    if (getifaddrs(&all))
        return;
    for (a = all; a && p->n < PLACES_MAX; a = a->ifa_next) {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;

        if (!a->ifa_addr || !(a->ifa_flags & IFF_UP) || (a->ifa_flags & IFF_LOOPBACK))
            continue;
        if (a->ifa_addr->sa_family == AF_INET) {
            memcpy(&v4, a->ifa_addr, sizeof v4);
            p->at[p->n++] = mapped(v4.sin_addr);
        } else if (a->ifa_addr->sa_family == AF_INET6) {
            memcpy(&v6, a->ifa_addr, sizeof v6);
            if (!IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr)) /* these mean nothing without an interface */
                p->at[p->n++] = v6.sin6_addr;
        }
    }
    freeifaddrs(all);
}

/* Rank 0. Without a socket, or a random number, it cannot be reached. */
static void listen_here(sw_watchdog *w)
{
    const struct in6_addr any = IN6ADDR_ANY_INIT, any4 = mapped((struct in_addr){ 0 });
    struct sockaddr_storage at = { 0 };
    struct sockaddr_in6 v6;
    struct sockaddr_in v4;
    socklen_t n = make_address(w, w->family == AF_INET6 ? &any : &any4, 0, &at);

    sw_host_name(w->root.host, sizeof w->root.host);
    if (w->fd < 0 || getrandom(&w->root.token, sizeof w->root.token, 0) != sizeof w->root.token ||
        bind(w->fd, (void *)&at, n) || getsockname(w->fd, (void *)&at, &n))
        return;
    memcpy(&v6, &at, sizeof v6);
    memcpy(&v4, &at, sizeof v4);
    w->root.port = w->family == AF_INET6 ? v6.sin6_port : v4.sin_port;
    list_addresses(&w->root);
}

/* One that gets lost is followed by another. */
static void send_word(const sw_watchdog *w, word_kind kind, const struct sockaddr_storage *at, socklen_t n)
{
    word out = w->mine;

    out.kind = (int32_t)kind;
    (void)sendto(w->fd, &out, sizeof out, MSG_DONTWAIT | MSG_NOSIGNAL, (const void *)at, n);
}

/* Rank 0 by all its addresses, until it has answered by one of them. */
static void send_to_root(const sw_watchdog *w, word_kind kind)
{
    const struct in6_addr here = mapped((struct in_addr){ htonl(INADDR_LOOPBACK) });
    const peer *root = &w->peers[0];
    struct sockaddr_storage at;
    socklen_t n;

    if (w->fd < 0 || !w->root.port)
        return;
    if (root->heard >= 0 && w->awake - root->heard < w->patience / 2) {
        send_word(w, kind, &root->at, root->len);
        return;
    }
    if (strcmp(w->mine.host, w->root.host) == 0 && (n = make_address(w, &here, w->root.port, &at)))
        send_word(w, kind, &at, n);
    for (uint32_t i = 0; i < w->root.n; i++)
        if ((n = make_address(w, &w->root.at[i], w->root.port, &at)))
            send_word(w, kind, &at, n);
}

/* To all that have been heard of. */
static void send_to_all(const sw_watchdog *w, word_kind kind)
{
    for (int r = 1; r < w->size && w->fd >= 0; r++)
        if (w->peers[r].heard >= 0)
            send_word(w, kind, &w->peers[r].at, w->peers[r].len);
}

/* ---- what is known --------------------------------------------------------------------------- */

/* A long while without a look was no time awake. */
static void pass_time(sw_watchdog *w)
{
    double now = sw_now(), passed = now - w->clock;

    w->clock = now;
    w->awake += passed < 2 * w->period ? passed : 2 * w->period;
}

/* How this rank itself is. */
static void look_at_self(sw_watchdog *w)
{
    word *m = &w->mine;

    pthread_mutex_lock(&w->steps.mutex);
    if (w->steps.count != w->count)
        w->moved = w->awake;
    w->count = w->steps.count;
    m->waiting = w->steps.waiting;
    m->joint = w->steps.joint;
    snprintf(m->step, sizeof m->step, "%s%s%s", w->steps.doing, w->steps.what[0] ? " " : "", w->steps.what);
    pthread_mutex_unlock(&w->steps.mutex);
    m->still = w->awake - w->moved;
}

/* Anybody may send anything: texts end, numbers are ranks. Only rank 0 is spoken to by others than
 * rank 0. */
static peer *known(sw_watchdog *w, word *m)
{
    if (m->token != w->root.token || m->rank < 0 || m->rank >= w->size || (w->rank == 0) == (m->rank == 0))
        return NULL;
    m->host[sizeof m->host - 1] = m->step[sizeof m->step - 1] = '\0';
    sw_text_clean(m->host, strlen(m->host));
    sw_text_clean(m->step, strlen(m->step));
    return w->rank == 0 ? &w->peers[m->rank] : &w->peers[0];
}

/* False: rank 0 has given the group up. */
static bool hear(sw_watchdog *w)
{
    struct sockaddr_storage from;
    socklen_t n = sizeof from;
    ssize_t got;
    word m;

    while ((got = recvfrom(w->fd, &m, sizeof m, MSG_DONTWAIT, (void *)&from, &n)) >= 0 || errno == EINTR) {
        peer *p = got == sizeof m ? known(w, &m) : NULL;

        if (p) {
            p->last = m;
            p->heard = w->awake;
            p->gone = m.kind == WORD_BYE;
            p->at = from;
            p->len = n;
            if (m.kind == WORD_BEAT)
                send_word(w, WORD_ANSWER, &from, n);
            if (m.kind == WORD_END && w->rank != 0)
                return false;
        }
        n = sizeof from;
    }
    return true;
}

/* ---- who is waited for ----------------------------------------------------------------------- */

typedef enum blame { NOBODY, JOINT, UNKNOWN, SILENT, BUSY } blame;

/* Is this rank waited for, and since when? */
static blame judge(const sw_watchdog *w, int r, const word **last, double *age)
{
    const peer *p = &w->peers[r];
    double silent = r == 0 ? 0 : w->awake - p->heard;

    *last = r == 0 ? &w->mine : &p->last;
    *age = 0;
    if (r != 0 && p->gone)
        return NOBODY;
    if (r != 0 && p->heard < 0)
        return UNKNOWN;
    *age = silent;
    if (silent >= w->patience)
        return SILENT;
    *age = (*last)->still + silent;
    if ((*last)->waiting || *age < w->patience)
        return NOBODY;
    return (*last)->joint ? JOINT : BUSY;
}

/* What a line says; more has no room. */
#define LINE_SIZE 1024
#define add(line, ...) sw_text_addf(line, LINE_SIZE, __VA_ARGS__)

/* Ranks first to last are of one machine and one kind. */
static void add_group(char *l, int first, int last, blame why, const word *of)
{
    if (first == last)
        add(l, "rank %d", first);
    else
        add(l, "ranks %d to %d", first, last);
    if (why == UNKNOWN)
        add(l, " (never heard of)");
    else if (why == SILENT)
        add(l, " on %s (no word of %s any more; the last was: %s)", of->host, first == last ? "it" : "them",
            of->waiting ? "waiting for others" : of->step);
    else
        add(l, " on %s (%s)", of->host, of->step);
}

/* Is there the same to say of rank r as of that one? */
static bool is_like(const sw_watchdog *w, int r, blame why, const word *of)
{
    const word *mine = NULL;
    double age;

    if (judge(w, r, &mine, &age) != why)
        return false;
    return why == UNKNOWN ||
           (strcmp(mine->host, of->host) == 0 && (why == SILENT || strcmp(mine->step, of->step) == 0));
}

/* All that are to be blamed for as much. Returns how many there are. */
static int add_all(const sw_watchdog *w, blame least, char *l)
{
    int n = 0, groups = 0;

    for (int r = 0, end; r < w->size; r = end) {
        const word *of = NULL;
        double age;
        blame why = judge(w, r, &of, &age);

        end = r + 1;
        while (end < w->size && is_like(w, end, why, of))
            end++;
        if (why < least)
            continue;
        n += end - r;
        if (groups++ < GROUPS_MAX) {
            add(l, groups > 1 ? ", " : "");
            add_group(l, r, end - 1, why, of);
        }
    }
    if (groups > GROUPS_MAX)
        add(l, ", and others");
    return n;
}

/* Rank 0. How long has it lasted, and with whose fault? *sure: whoever it is, it is no mistake. 0 =
 * all is well. */
static double find_fault(const sw_watchdog *w, blame *least, bool *sure)
{
    double worst[BUSY + 1] = { 0 };
    /* does rank 0 wait for others, and for how long? */
    double waits = w->mine.waiting && w->mine.still >= w->patience ? w->mine.still : 0;
    int unknown = 0, moving = 0;

    for (int r = 0; r < w->size; r++) {
        const word *of = NULL;
        double age;
        blame why = judge(w, r, &of, &age);

        worst[why] = worst[why] < age ? age : worst[why];
        unknown += why == UNKNOWN;
        moving += why == NOBODY && !w->peers[r].gone && of->still < w->patience;
    }
    *sure = true;
    if (worst[BUSY] > 0 || worst[SILENT] > 0) {
        *least = waits > 0 ? UNKNOWN : SILENT;
        return worst[BUSY] > worst[SILENT] ? worst[BUSY] : worst[SILENT];
    }
    *least = JOINT;
    *sure = unknown == 0;
    if (worst[JOINT] > 0)
        return worst[JOINT];
    return moving ? 0 : waits;
}

/* The line, and how long it has lasted. */
static double describe(const sw_watchdog *w, char *l, bool *sure)
{
    blame least;
    double age = find_fault(w, &least, sure);

    if (age <= 0)
        return 0;
    add(l, "no round has finished for %.0f s: ", age);
    if (w->size == 1) {
        add(l, "%s", w->mine.step);
        return age;
    }
    add(l, "waiting for ");
    if (add_all(w, least, l) == 0)
        add(l, "one another");
    return age;
}

/* Another rank. Rank 0 says it all, unless it is not heard of. */
static double describe_self(const sw_watchdog *w, char *l, bool *sure)
{
    const word *m = &w->mine;
    const peer *root = &w->peers[0];
    double silent = root->heard < 0 ? w->awake : w->awake - root->heard;

    *sure = true;
    if (silent < w->patience || m->still < w->patience || root->gone)
        return 0;
    if (!m->waiting && (!m->joint || root->heard < 0)) {
        add(l, "no round has finished for %.0f s: waiting for rank %d on %s (%s)", m->still, w->rank, m->host,
            m->step);
        return m->still;
    }
    /* One of them is enough, while it is only to be said. */
    if (root->heard < 0 || (w->rank > 1 && (w->timeout <= 0 || silent < w->timeout)))
        return 0;
    add(l, "no round has finished for %.0f s: waiting for rank 0 on %s (no word of it any more)", m->still,
        w->root.host);
    return silent < m->still ? silent : m->still;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Say it, or give up; false = the latter. */
static bool act(sw_watchdog *w)
{
    char l[LINE_SIZE] = "";
    bool sure;
    double age = w->rank == 0 ? describe(w, l, &sure) : describe_self(w, l, &sure);
    /* After so long the group is given up. One after the other, rank 0 first, so that there is one
     * message: the launcher ends the others. */
    double limit =
        w->timeout + (w->rank == 0 ? 0 : (double)(1 + sw_min((uint64_t)w->rank, PERIODS)) * w->period);

    if (age <= 0)
        w->said = 0;
    if (age > 0 && sure && w->timeout > 0 && age >= limit) {
        if (w->rank == 0)
            send_to_all(w, WORD_END);
        if (w->opt.expired)
            w->opt.expired(w->opt.user, l);
        return false;
    }
    if (age >= w->patience && age >= 2 * w->said) {
        w->said = age;
        if (w->opt.stalled)
            w->opt.stalled(w->opt.user, l);
    }
    return true;
}

/* True: it is time to stop. */
static bool sleep_until(sw_watchdog *w, double due)
{
    struct pollfd fds[2] = { { w->wake, POLLIN, 0 }, { w->fd, POLLIN, 0 } };

    for (;;) {
        double left = due - w->awake;

        if (left <= 0)
            return false;
        fds[1].revents = 0;
        if (poll(fds, w->fd >= 0 ? 2 : 1, (int)(left * 1000) + 1) < 0 && errno != EINTR)
            return true;
        pass_time(w);
        if (fds[0].revents)
            return true;
        look_at_self(w);
        if (fds[1].revents && !hear(w)) {
            if (w->opt.expired)
                w->opt.expired(w->opt.user, NULL);
            return true;
        }
    }
}

/* The watchdog's own thread. */
static void *watch(void *arg)
{
    sw_watchdog *w = arg;
    bool go_on = true;

    while (go_on) {
        look_at_self(w);
        if (w->rank != 0)
            send_to_root(w, WORD_BEAT);
        go_on = act(w) && !sleep_until(w, w->awake + w->period);
    }
    return NULL;
}

/* ---- the interface --------------------------------------------------------------------------- */

/* All but socket and thread. */
static sw_watchdog *make(const sw_comm *comm, const sw_watchdog_options *opt, sw_status *st)
{
    static const sw_steps fresh = SW_STEPS_INIT;
    sw_watchdog *w = sw_calloc(1, sizeof *w, st);

    if (!w)
        return NULL;
    w->fd = w->wake = -1;
    w->rank = comm->rank;
    w->size = comm->size;
    sw_grown_take(&w->opt, sizeof w->opt, opt, "sw_watchdog_options", st);
    opt = &w->opt;
    w->timeout = opt->timeout;
    w->patience = opt->seconds > 0 ? opt->seconds : USUAL_SECONDS;
    if (opt->seconds <= 0 && opt->timeout > 0 && opt->timeout / 2 < w->patience)
        w->patience = opt->timeout / 2;
    w->period = w->patience / PERIODS;
    w->steps = fresh;
    w->clock = sw_now();
    w->mine.rank = w->rank;
    sw_host_name(w->mine.host, sizeof w->mine.host);
    w->peers = sw_calloc(w->rank == 0 ? (uint64_t)w->size : 1, sizeof *w->peers, st);
    for (int r = 0; w->peers && r < (w->rank == 0 ? w->size : 1); r++)
        w->peers[r].heard = -1;
    if ((w->wake = eventfd(0, EFD_CLOEXEC)) < 0)
        sw_fail_errno(st, NULL, errno, "cannot make an event");
    return w;
}

sw_code sw_watchdog_start(const sw_comm *comm, const sw_watchdog_options *opt, sw_watchdog **out,
                          sw_status *st)
{
    sw_watchdog *w = make(comm, opt, st);
    place root = { 0 };
    int err;

    *out = NULL;
    if (w)
        pthread_mutex_lock(&w->steps.mutex);
    if (w && !st->code) {
        if (w->size > 1)
            open_socket(w);
        if (w->rank == 0 && w->size > 1)
            listen_here(w);
        root = w->root;
        /* It stands still as long as w->steps is locked: until all ranks are ready. */
        err = sw_thread_start(&w->thread, watch, w);
        w->running = err == 0;
        if (err)
            sw_fail_errno(st, NULL, err, "cannot start a thread");
    }
    if (!sw_agree_share(comm, &root, sizeof root, st)) {
        w->root = root;
        w->mine.token = root.token;
    }
    if (w)
        pthread_mutex_unlock(&w->steps.mutex);
    if (st->code) {
        sw_watchdog_stop(w);
        return st->code;
    }
    sw_step_follow(&w->steps);
    *out = w;
    return SW_OK;
}

void sw_watchdog_stop(sw_watchdog *w)
{
    if (!w)
        return;
    if (w->running) {
        sw_step_follow(NULL);
        while (eventfd_write(w->wake, 1) < 0 && errno == EINTR)
            ;
        pthread_join(w->thread, NULL);
        if (w->rank == 0)
            send_to_all(w, WORD_BYE);
        else
            send_to_root(w, WORD_BYE);
    }
    if (w->fd >= 0)
        close(w->fd);
    if (w->wake >= 0)
        close(w->wake);
    pthread_mutex_destroy(&w->steps.mutex);
    free(w->peers);
    free(w);
}
