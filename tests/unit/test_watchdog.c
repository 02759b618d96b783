/* Who stands still, and what is said of it: a process alone, and three without MPI. Times are
 * tenths of those of a real run. */
#include <time.h>

#include "base/step.h"
#include "group_help.h"

/* What the watchdog's thread had to say last; read when it has ended. */
typedef struct heard {
    char stalled[1024], expired[1024];
    int nstalled;
    bool ended;
} heard;

static void on_stalled(void *user, const char *text)
{
    heard *h = user;

    h->nstalled++;
    snprintf(h->stalled, sizeof h->stalled, "%s", text);
}

static void on_expired(void *user, const char *text)
{
    heard *h = user;

    h->ended = true;
    snprintf(h->expired, sizeof h->expired, "%s", text ? text : "rank 0 knows");
}

static void rest(double seconds)
{
    const struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

    nanosleep(&t, NULL);
}

static sw_watchdog *begin(const sw_comm *comm, heard *h, double seconds, double timeout)
{
    const sw_watchdog_options opt = {
        .seconds = seconds, .timeout = timeout, .user = h, .stalled = on_stalled, .expired = on_expired
    };
    sw_status st = SW_STATUS_INIT;
    sw_watchdog *w;

    assert_int_equal(sw_watchdog_start(comm, &opt, &w, &st), SW_OK);
    return w;
}

TEST(alone)
{
    const sw_comm self = sw_comm_self();
    heard h = { "", "", 0, false };
    sw_watchdog *w = begin(&self, &h, 0.4, 0);

    for (int i = 0; i < 10; i++) {
        sw_step("reading", "a/file");
        rest(0.1);
    }
    sw_watchdog_stop(w);
    assert_int_equal(h.nstalled, 0);
    w = begin(&self, &h, 0.4, 1.2);
    sw_step("reading", "a/file");
    rest(2);
    sw_watchdog_stop(w);
    /* After 0.4 s, after twice that, and the end. */
    assert_int_equal(h.nstalled, 2);
    assert_string_equal(h.stalled, "no round has finished for 1 s: reading a/file");
    assert_string_equal(h.expired, "no round has finished for 1 s: reading a/file");
    /* Nobody follows any more. */
    sw_step("reading", "another");
    sw_watchdog_stop(NULL);
}

/* Rank 1 stands still at a file, the others wait; arg: the timeout. */
static void rank_1_stands_still(const sw_comm *comm, const void *arg, outcome *o)
{
    const double *timeout = arg;
    heard h = { "", "", 0, false };
    sw_watchdog *w = begin(comm, &h, 0.5, *timeout);

    if (comm->rank == 1)
        sw_step("reading", "shard-00002");
    else
        sw_step_wait();
    rest(3);
    sw_step_waited(0);
    comm->barrier(comm->ctx);
    sw_watchdog_stop(w);
    o->written = (uint64_t)h.nstalled;
    o->code = h.ended ? SW_EIO : SW_OK;
    snprintf(o->message, sizeof o->message, "%s", h.ended ? h.expired : h.stalled);
}

TEST(of_three)
{
    const double never = 0, soon = 1.5;
    outcome o[3];

    group_run(3, rank_1_stands_still, &never, o);
    assert_true(o[0].written > 0 && strstr(o[0].message, ": waiting for rank 1 on "));
    assert_true(strstr(o[0].message, " (reading shard-00002)") && !strstr(o[0].message, "rank 2"));
    assert_true(o[1].written == 0 && o[2].written == 0);
    group_run(3, rank_1_stands_still, &soon, o);
    assert_non_null(strstr(o[0].message, ": waiting for rank 1 on "));
    for (int r = 0; r < 3; r++)
        assert_int_equal(o[r].code, SW_EIO);
    assert_string_equal(o[1].message, "rank 0 knows");
    assert_string_equal(o[2].message, "rank 0 knows");
}

/* A rank that is through is waited for no more, whatever it does then. */
static void leave_early(const sw_comm *comm, const void *arg, outcome *o)
{
    heard h = { "", "", 0, false };
    sw_watchdog *w = begin(comm, &h, 0.5, 0);

    (void)arg;
    rest(0.2);
    if (comm->rank == 2)
        sw_watchdog_stop(w);
    for (int i = 0; i < 20; i++) {
        sw_step("writing", "x");
        rest(0.1);
    }
    comm->barrier(comm->ctx);
    if (comm->rank != 2)
        sw_watchdog_stop(w);
    o->written = (uint64_t)h.nstalled;
}

TEST(who_is_through)
{
    outcome o[3];

    group_run(3, leave_early, NULL, o);
    for (int r = 0; r < 3; r++)
        assert_int_equal(o[r].written, 0);
}
