/* Agreeing, sharing, comparing and gathering between ranks: of any length, and whoever fails. */
#include "base/buf.h"
#include "group_help.h"
#include "par/comm.h"

/* What fits into the agreement itself, what needs a message of its own, what needs room first. */
static const size_t lengths[] = { 0, 1, 700, 760, 761, 64 << 10, (64 << 10) + 1, 1 << 20 };

typedef struct job {
    int fails; /* this rank comes with an error; -1 = none */
} job;

static void begin(const sw_comm *comm, const job *j, sw_status *st)
{
    sw_status_clear(st);
    if (j->fails == comm->rank)
        sw_fail(st, SW_EIO, NULL, NULL, "rank %d is to blame", comm->rank);
}

/* n bytes that only this rank has. */
static void make_bytes(int rank, size_t n, sw_buf *b, sw_status *st)
{
    for (size_t i = 0; i < n; i++) {
        char c = (char)(i * 7 + (size_t)rank);

        sw_buf_add(b, &c, 1, st);
    }
}

static bool is_of(int rank, size_t n, const char *data)
{
    for (size_t i = 0; i < n; i++)
        if (data[i] != (char)(i * 7 + (size_t)rank))
            return false;
    return true;
}

/* All come to the same, which is the failing rank's. */
static int differs(const job *j, const sw_status *st)
{
    return j->fails < 0 ? st->code != SW_OK : st->code != SW_EIO || st->rank != j->fails;
}

static int check_words(const sw_comm *comm, const job *j, sw_status *st)
{
    uint64_t words[SW_AGREE_WORDS] = { 0 }, most, shared = comm->rank == 0 ? 42 : 7;
    int bad = 0;

    begin(comm, j, st);
    words[comm->rank] = (uint64_t)comm->rank + 1;
    bad += sw_agree_most(comm, words, SW_AGREE_WORDS, st) != st->code || differs(j, st);
    for (int r = 0; r < comm->size; r++)
        bad += words[r] != (uint64_t)r + 1;
    begin(comm, j, st);
    sw_agree_share(comm, &shared, sizeof shared, st);
    bad += differs(j, st) || (j->fails < 0 && shared != 42);
    begin(comm, j, st);
    most = UINT64_MAX - (uint64_t)comm->rank;
    sw_agree_most(comm, &most, 1, st);
    return bad + (differs(j, st) || most != UINT64_MAX);
}

/* The first rank with another number than rank 0's, also where one has failed. */
static int check_compare(const sw_comm *comm, const job *j, sw_status *st)
{
    int bad = 0;

    for (int odd = 0; odd < comm->size; odd++) {
        int other = -1;

        begin(comm, j, st);
        sw_comm_compare(comm, odd && comm->rank >= odd ? UINT64_MAX - (uint64_t)odd : 3, &other, st);
        bad += differs(j, st) || other != odd;
    }
    return bad;
}

static int check_buffers(const sw_comm *comm, const job *j, size_t n, sw_status *st)
{
    const size_t share = n * (size_t)comm->rank;
    sw_buf one = SW_BUF_INIT, mine = SW_BUF_INIT, none = SW_BUF_INIT;
    sw_gathering g[] = { { .mine = &mine }, { .mine = &none } };
    int bad = 0;

    begin(comm, j, st);
    make_bytes(comm->rank, comm->rank == 0 ? n : 3, &one, st);
    sw_comm_bcast_buf(comm, &one, 0, st);
    bad += differs(j, st) || (!st->code && (one.len != n || !is_of(0, n, one.data)));
    begin(comm, j, st);
    make_bytes(comm->rank, share, &mine, st);
    sw_comm_gather_kinds(comm, g, 2, st);
    bad += differs(j, st) || (!st->code && g[1].all.len != 0);
    for (int r = 0; !st->code && r < comm->size; r++)
        bad += g[0].starts[r + 1] - g[0].starts[r] != n * (size_t)r ||
               !is_of(r, n * (size_t)r, g[0].all.data + g[0].starts[r]);
    sw_gathering_release(g, 2);
    sw_buf_release(&mine);
    sw_buf_release(&one);
    return bad;
}

static void run_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    const job *j = arg;
    sw_status st = SW_STATUS_INIT;
    int bad = check_words(comm, j, &st) + check_compare(comm, j, &st);

    for (size_t i = 0; i < COUNT(lengths); i++)
        bad += check_buffers(comm, j, lengths[i], &st);
    o->code = bad ? SW_EINTERNAL : SW_OK;
    snprintf(o->message, sizeof o->message, "%d things are wrong", bad);
}

TEST(whoever_fails)
{
    outcome o[RANKS_MAX];

    for (int size = 1; size <= RANKS_MAX; size += 2)
        for (int fails = -1; fails < size; fails++) {
            const job j = { fails };

            group_run(size, run_rank, &j, o);
            for (int r = 0; r < size; r++)
                if (o[r].code)
                    fail_msg("rank %d of %d, rank %d fails: %s", r, size, fails, o[r].message);
        }
}
