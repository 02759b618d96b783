/* Groups of ranks; see comm.h. */
#include "par/comm.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/num.h"
#include "base/step.h"
#include "shardweld_mpi.h"

#define BCAST_PART (UINT64_C(1) << 30)
#define TAG_STOP 77

/* ---- one process ----------------------------------------------------------------------------- */

static int self_bcast(void *ctx, void *buf, size_t n, int root)
{
    (void)ctx, (void)buf, (void)n, (void)root;
    return 0;
}

static int self_allgather(void *ctx, const void *mine, void *all, const size_t *counts)
{
    (void)ctx;
    if (counts[0])
        memmove(all, mine, counts[0]);
    return 0;
}

static int self_barrier(void *ctx)
{
    (void)ctx;
    return 0;
}

sw_comm sw_comm_self(void)
{
    return (sw_comm){ NULL, 0, 1, self_bcast, self_allgather, self_barrier };
}

/* ---- MPI ------------------------------------------------------------------------------------- */

typedef struct mpi_ctx {
    MPI_Comm comm;
    int rank, size;
    /* this rank, and how many there are, where the groups were split from */
    int origin, originally;
    /* for a gather: nothing may fail between those who come and those who do not */
    int *counts, *places;
    bool begun; /* MPI was initialised for this one, and ends with it */
} mpi_ctx;

static int mpi_bcast(void *ctx, void *buf, size_t n, int root)
{
    const mpi_ctx *c = ctx;

    sw_step_wait();
    return n > INT_MAX || sw_step_waited(MPI_Bcast(buf, (int)n, MPI_BYTE, root, c->comm)) != MPI_SUCCESS;
}

/* The callers cut what they gather, so that a total above INT_MAX is a mistake of ours. */
static int mpi_allgather(void *ctx, const void *mine, void *all, const size_t *counts)
{
    const mpi_ctx *c = ctx;
    uint64_t total = 0;

    for (int r = 0; r < c->size; r++) {
        if (counts[r] > INT_MAX || total > INT_MAX)
            return 1;
        c->counts[r] = (int)counts[r];
        c->places[r] = (int)total;
        total += counts[r];
    }
    if (total > INT_MAX)
        return 1;
    sw_step_wait();
    return sw_step_waited(MPI_Allgatherv(mine, c->counts[c->rank], MPI_BYTE, all, c->counts, c->places,
                                         MPI_BYTE, c->comm)) != MPI_SUCCESS;
}

static int mpi_barrier(void *ctx)
{
    const mpi_ctx *c = ctx;

    sw_step_wait();
    return sw_step_waited(MPI_Barrier(c->comm)) != MPI_SUCCESS;
}

/* What MPI reported last on a communicator of ours, for the message: a function of sw_comm tells
 * only that it failed. */
static int last_error;

static void note_error(MPI_Comm *comm, int *err, ...)
{
    (void)comm;
    last_error = *err;
}

/* Errors are returned, and noted. */
static int return_errors(MPI_Comm comm)
{
    MPI_Errhandler noting;
    int err = MPI_Comm_create_errhandler(note_error, &noting);

    if (err == MPI_SUCCESS)
        err = MPI_Comm_set_errhandler(comm, noting);
    return err == MPI_SUCCESS ? MPI_Errhandler_free(&noting) : err;
}

/* Take over comm (ours to free). */
static sw_code mpi_wrap(MPI_Comm comm, sw_comm *out, sw_status *st)
{
    mpi_ctx *c = sw_calloc(1, sizeof *c, st);
    int err;

    if (!c)
        return st->code;
    c->comm = comm;
    if ((err = return_errors(comm)) != MPI_SUCCESS ||
        (err = MPI_Comm_rank(comm, &out->rank)) != MPI_SUCCESS ||
        (err = MPI_Comm_size(comm, &out->size)) != MPI_SUCCESS) {
        free(c);
        return sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot use the communicator");
    }
    c->rank = out->rank;
    c->size = out->size;
    c->origin = c->rank;
    c->originally = c->size;
    c->counts = sw_calloc((uint64_t)c->size, sizeof *c->counts, st);
    c->places = sw_calloc((uint64_t)c->size, sizeof *c->places, st);
    if (st->code) {
        free(c->counts);
        free(c->places);
        free(c);
        return st->code;
    }
    out->ctx = c;
    out->bcast = mpi_bcast;
    out->allgather = mpi_allgather;
    out->barrier = mpi_barrier;
    return SW_OK;
}

sw_code sw_comm_from_mpi(MPI_Comm mpi, sw_comm *out, sw_status *st)
{
    MPI_Comm dup = MPI_COMM_NULL;
    int err = MPI_Comm_dup(mpi, &dup);

    *out = sw_comm_self();
    if (err != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot duplicate the communicator");
    if (mpi_wrap(dup, out, st))
        MPI_Comm_free(&dup);
    return st->code;
}

/* SERIALIZED: a script may call from any of its threads, one at a time. */
static sw_code mpi_begin(bool *begun, sw_status *st)
{
    int flag = 0, err, level;

    *begun = false;
    if ((err = MPI_Finalized(&flag)) != MPI_SUCCESS || flag)
        return sw_fail(st, SW_ECOMM, NULL, NULL, "MPI has been finalized already");
    if ((err = MPI_Initialized(&flag)) == MPI_SUCCESS && !flag) {
        err = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
        *begun = err == MPI_SUCCESS;
    }
    /* Datatypes, infos and files report there, from MPI 4 on to COMM_SELF. By a function of ours:
     * Intel MPI, through the standard's ABI, takes MPI_ERRORS_RETURN without an error and aborts
     * all the same. */
    if (err == MPI_SUCCESS)
        err = return_errors(MPI_COMM_WORLD);
    if (err == MPI_SUCCESS)
        err = return_errors(MPI_COMM_SELF);
    if (err != MPI_SUCCESS)
        return sw_fail(st, SW_ECOMM, NULL, NULL, "MPI cannot be initialised");
    return SW_OK;
}

/* Open MPI's mpirun sets PMIX_RANK too, which another MPI cannot answer. */
bool sw_comm_launched(void)
{
#ifdef OPEN_MPI
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK");
#else
    return getenv("PMI_SIZE") || getenv("PMI_FD") || getenv("PMI_PORT") ||
           (getenv("PMIX_RANK") && !getenv("OMPI_COMM_WORLD_SIZE"));
#endif
}

sw_code sw_comm_world(sw_comm *out, sw_status *st)
{
    int initialized = 0;
    bool begun;

    *out = sw_comm_self();
    if (!sw_comm_launched() && MPI_Initialized(&initialized) == MPI_SUCCESS && !initialized)
        return SW_OK;
    if (mpi_begin(&begun, st))
        return st->code;
    if (!sw_comm_from_mpi(MPI_COMM_WORLD, out, st))
        ((mpi_ctx *)out->ctx)->begun = begun;
    else if (begun)
        MPI_Finalize();
    return st->code;
}

void sw_comm_mpi_release(sw_comm *comm)
{
    if (comm->barrier == mpi_barrier) {
        mpi_ctx *c = comm->ctx;
        int ended = 0;

        if (MPI_Finalized(&ended) == MPI_SUCCESS && !ended) {
            MPI_Comm_free(&c->comm);
            if (c->begun)
                MPI_Finalize();
        }
        free(c->counts);
        free(c->places);
        free(c);
    }
    *comm = sw_comm_self();
}

bool sw_comm_mpi(const sw_comm *comm, MPI_Comm *mpi)
{
    const mpi_ctx *c = comm->ctx;

    if (comm->barrier != mpi_barrier)
        return false;
    *mpi = c->comm;
    return true;
}

sw_code sw_comm_split(const sw_comm *comm, int color, sw_comm *out, sw_status *st)
{
    MPI_Comm mpi, part = MPI_COMM_NULL;
    int err;

    *out = *comm;
    if (!sw_comm_mpi(comm, &mpi))
        return SW_OK;
    *out = sw_comm_self();
    sw_step_wait();
    err = sw_step_waited(MPI_Comm_split(mpi, color, comm->rank, &part));
    if (err != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot split the communicator");
    if (mpi_wrap(part, out, st)) {
        MPI_Comm_free(&part);
    } else {
        mpi_ctx *c = out->ctx;
        const mpi_ctx *whole = comm->ctx;

        c->origin = whole->origin;
        c->originally = whole->originally;
    }
    return st->code;
}

sw_code sw_fail_mpi(sw_status *st, sw_code code, const char *file, int err, const char *what)
{
    char text[MPI_MAX_ERROR_STRING + 1] = "";
    int n = 0;

    if (MPI_Error_string(err, text, &n) != MPI_SUCCESS)
        n = 0;
    text[n] = '\0';
    for (char *line = text; (line = strchr(line, '\n')) != NULL;)
        *line = ' ';
    return sw_fail(st, code, file, NULL, "%s: %s", what, n ? text : "unknown MPI error");
}

/* ---- for any communicator -------------------------------------------------------------------- */

/* An error of this rank's. In a message it counts as a rank of the communicator that the caller
 * knows; a process alone has no number. */
static void sign(const sw_comm *comm, sw_status *st)
{
    const mpi_ctx *c = comm->barrier == mpi_barrier ? comm->ctx : NULL;

    if ((c ? c->originally : comm->size) > 1)
        sw_status_sign(st, c ? c->origin : comm->rank);
}

/* Worse than any other error: what a rank knows alone, it cannot tell. */
static sw_code broken(const sw_comm *comm, sw_status *st)
{
    if (st->code != SW_ECOMM)
        sw_status_clear(st);
    if (comm->barrier == mpi_barrier && last_error != MPI_SUCCESS)
        sw_fail_mpi(st, SW_ECOMM, NULL, last_error, "communication between the ranks failed");
    sw_fail(st, SW_ECOMM, NULL, NULL, "communication between the ranks failed");
    sign(comm, st);
    return st->code;
}

sw_code sw_comm_broken(const sw_comm *comm, sw_status *st)
{
    return broken(comm, st);
}

/* The lowest rank with a code that is not SW_OK; size = none; -1 = the group is broken. */
static int first_failed(const sw_comm *comm, sw_code code)
{
    int mine = code ? comm->rank : comm->size, first = comm->size;
    MPI_Comm mpi;
    int *all;

    if (sw_comm_mpi(comm, &mpi)) {
        sw_step_wait();
        if (sw_step_waited(MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, mpi)) != MPI_SUCCESS)
            first = -1;
    } else {
        sw_status st = SW_STATUS_INIT;

        all = sw_calloc((uint64_t)comm->size, sizeof *all, &st);
        if (!all || sw_comm_allgather(comm, &mine, sizeof mine, all, &st))
            first = -1;
        for (int r = 0; first >= 0 && r < comm->size; r++)
            first = all[r] < first ? all[r] : first;
        free(all);
    }
    return first;
}

sw_code sw_agree(const sw_comm *comm, sw_status *st)
{
    int first;

    sign(comm, st);
    if (st->code == SW_ECOMM || (first = first_failed(comm, st->code)) < 0)
        return broken(comm, st);
    if (first < comm->size && comm->bcast(comm->ctx, st, sizeof *st, first))
        return broken(comm, st);
    return st->code;
}

sw_code sw_comm_bcast(const sw_comm *comm, void *buf, uint64_t n, int root, sw_status *st)
{
    for (uint64_t at = 0; at < n; at += BCAST_PART)
        if (comm->bcast(comm->ctx, (char *)buf + at, (size_t)sw_min(n - at, BCAST_PART), root))
            return broken(comm, st);
    return SW_OK;
}

sw_code sw_comm_bcast_buf(const sw_comm *comm, sw_buf *b, int root, sw_status *st)
{
    uint64_t n = b->len;

    if (sw_comm_bcast(comm, &n, sizeof n, root, st))
        return st->code;
    if (comm->rank != root) {
        b->len = 0;
        if (!sw_buf_reserve(b, n, st))
            b->len = (size_t)n;
    }
    if (sw_agree(comm, st))
        return st->code;
    return sw_comm_bcast(comm, b->data, n, root, st);
}

sw_code sw_comm_allgather(const sw_comm *comm, const void *mine, uint64_t n, void *all, sw_status *st)
{
    size_t *counts;
    MPI_Comm mpi;

    if (sw_comm_mpi(comm, &mpi)) {
        sw_step_wait();
        if (n > INT_MAX ||
            sw_step_waited(MPI_Allgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE, mpi)) != MPI_SUCCESS)
            broken(comm, st);
        return st->code;
    }
    /* Without these few bytes no message can be sent, so the others cannot be told. */
    counts = calloc((size_t)comm->size, sizeof *counts);
    if (!counts)
        return broken(comm, st);
    for (int r = 0; r < comm->size; r++)
        counts[r] = (size_t)n;
    if (comm->allgather(comm->ctx, mine, all, counts))
        broken(comm, st);
    free(counts);
    return st->code;
}

sw_code sw_comm_compare(const sw_comm *comm, uint64_t mine, int *other, sw_status *st)
{
    uint64_t *all = sw_calloc((uint64_t)comm->size, sizeof *all, st);

    *other = 0;
    if (!sw_agree(comm, st) && !sw_comm_allgather(comm, &mine, sizeof mine, all, st))
        for (int r = comm->size - 1; r > 0; r--)
            *other = all[r] != all[0] ? r : *other;
    free(all);
    return st->code;
}

sw_code sw_comm_most(const sw_comm *comm, uint64_t mine, uint64_t *most, sw_status *st)
{
    uint64_t *all = sw_calloc((uint64_t)comm->size, sizeof *all, st);

    *most = 0;
    if (!sw_agree(comm, st) && !sw_comm_allgather(comm, &mine, sizeof mine, all, st))
        for (int r = 0; r < comm->size; r++)
            *most = sw_max(*most, all[r]);
    free(all);
    return st->code;
}

void sw_comm_totals(const sw_comm *comm, uint64_t *bytes, uint64_t *peak)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t mine[2] = { *bytes, sw_peak_memory() };
    uint64_t *all = sw_calloc((uint64_t)comm->size, sizeof mine, &st);

    if (!sw_agree(comm, &st) && !sw_comm_allgather(comm, mine, sizeof mine, all, &st)) {
        *bytes = 0;
        for (int r = 0; r < comm->size; r++) {
            *bytes += all[2 * r];
            *peak = sw_max(*peak, all[2 * r + 1]);
        }
    }
    free(all);
}

/* One call for the bytes [from, to) of all parts joined. */
static sw_code gather_part(const sw_comm *comm, const sw_buf *mine, char *all, const uint64_t *starts,
                           uint64_t from, uint64_t to, size_t *counts, sw_status *st)
{
    uint64_t own = starts[comm->rank];
    uint64_t skip = from > own ? sw_min(from - own, mine->len) : 0;

    for (int r = 0; r < comm->size; r++) {
        uint64_t lo = sw_max(from, starts[r]), hi = sw_min(to, starts[r + 1]);

        counts[r] = hi > lo ? (size_t)(hi - lo) : 0;
    }
    if (comm->allgather(comm->ctx, mine->data ? mine->data + skip : NULL, all + from, counts))
        return broken(comm, st);
    return SW_OK;
}

sw_code sw_comm_gather(const sw_comm *comm, const sw_buf *mine, sw_buf *all, uint64_t *starts, sw_status *st)
{
    size_t *counts = sw_calloc((uint64_t)comm->size, sizeof *counts, st);
    uint64_t n = mine->len;

    all->len = 0;
    if (sw_agree(comm, st) || sw_comm_allgather(comm, &n, sizeof n, starts + 1, st))
        goto out;
    starts[0] = 0;
    for (int r = 0; r < comm->size; r++)
        if (!sw_add(starts[r], starts[r + 1], &starts[r + 1]))
            sw_fail_nomem(st, UINT64_MAX);
    if (!st->code && !sw_buf_reserve(all, starts[comm->size], st))
        all->len = (size_t)starts[comm->size];
    if (sw_agree(comm, st))
        goto out;
    for (uint64_t at = 0; at < all->len && !st->code; at += SW_GATHER_PART)
        gather_part(comm, mine, all->data, starts, at, sw_min(at + SW_GATHER_PART, all->len), counts, st);
out:
    free(counts);
    if (st->code)
        sw_buf_release(all);
    return st->code;
}

/* ---- agreeing behind the work ---------------------------------------------------------------- */

void sw_watch_init(sw_watch *w, const sw_comm *comm)
{
    *w = (sw_watch){ .comm = comm };
}

void sw_watch_begin(sw_watch *w, sw_status *st)
{
    unsigned i = w->begun++ % SW_WATCH_LAG;
    MPI_Comm mpi;

    w->mine[i] = w->first[i] = st->code ? w->comm->rank : w->comm->size;
    w->requests[i] = MPI_REQUEST_NULL;
    if (w->comm->size > 1 && sw_comm_mpi(w->comm, &mpi) &&
        MPI_Iallreduce(&w->mine[i], &w->first[i], 1, MPI_INT, MPI_MIN, mpi, &w->requests[i]) != MPI_SUCCESS)
        broken(w->comm, st);
}

/* A rank that spins takes the processor from the one that it waits for. */
static int wait_idle(MPI_Request *request)
{
    const struct timespec moment = { 0, 50000 };
    /* without MPI there is nothing to wait for */
    int done = *request == MPI_REQUEST_NULL, err = MPI_SUCCESS;

    sw_step_wait();
    for (int i = 0; !done && err == MPI_SUCCESS; i++) {
        err = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (!done && i > 100)
            nanosleep(&moment, NULL);
    }
    return sw_step_waited(err);
}

bool sw_watch_end(sw_watch *w, bool all, sw_status *st)
{
    unsigned keep = all ? 0 : SW_WATCH_LAG - 1;

    /* Whatever has happened: requests write into w. */
    while (w->begun - w->ended > keep) {
        unsigned i = w->ended++ % SW_WATCH_LAG;

        if (wait_idle(&w->requests[i]) != MPI_SUCCESS)
            broken(w->comm, st);
        w->failed = w->failed || w->first[i] < w->comm->size;
    }
    return w->failed;
}

/* ---- stopping -------------------------------------------------------------------------------- */

static int leader_at(const sw_stopper *s, int i)
{
    return s->leaders ? s->leaders[i] : i;
}

sw_code sw_stopper_init(sw_stopper *s, const sw_comm *world, const int *leaders, int nleaders, sw_status *st)
{
    *s = (sw_stopper){ .world = world, .leaders = leaders, .nleaders = leaders ? nleaders : world->size };
    s->sent = sw_calloc((uint64_t)s->nleaders, sizeof *s->sent, st);
    s->told = sw_calloc((uint64_t)world->size, sizeof *s->told, st);
    return st->code;
}

void sw_stopper_release(sw_stopper *s)
{
    free(s->sent);
    free(s->told);
    *s = (sw_stopper){ 0 };
}

bool sw_stopper_heard(sw_stopper *s)
{
    MPI_Comm mpi;
    int flag = 0;

    if (s->heard || s->nleaders < 2 || !sw_comm_mpi(s->world, &mpi))
        return s->heard;
    if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_STOP, mpi, &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS || flag)
        s->heard = true;
    return s->heard;
}

void sw_stopper_tell(sw_stopper *s, sw_status *st)
{
    MPI_Comm mpi;

    if (s->nsent || s->nleaders < 2 || !sw_comm_mpi(s->world, &mpi))
        return;
    for (int i = 0; i < s->nleaders; i++) {
        if (leader_at(s, i) == s->world->rank)
            continue;
        if (MPI_Isend(NULL, 0, MPI_BYTE, leader_at(s, i), TAG_STOP, mpi, &s->sent[s->nsent]) != MPI_SUCCESS)
            broken(s->world, st);
        else
            s->nsent++;
    }
}

void sw_stopper_finish(sw_stopper *s, sw_status *st)
{
    bool leader = false;
    int told = s->nsent > 0;
    MPI_Comm mpi;

    if (s->nleaders < 2 || !sw_comm_mpi(s->world, &mpi))
        return;
    for (int i = 0; i < s->nleaders; i++)
        leader = leader || leader_at(s, i) == s->world->rank;
    if (sw_comm_allgather(s->world, &told, sizeof told, s->told, st) == SW_ECOMM)
        return;
    sw_step_wait();
    for (int r = 0; leader && r < s->world->size; r++)
        if (s->told[r] && r != s->world->rank &&
            MPI_Recv(NULL, 0, MPI_BYTE, r, TAG_STOP, mpi, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            broken(s->world, st);
    /* One by one: MPICH's word for no statuses is an address that compilers warn of. */
    for (int i = 0; i < s->nsent; i++)
        if (MPI_Wait(&s->sent[i], MPI_STATUS_IGNORE) != MPI_SUCCESS)
            broken(s->world, st);
    sw_step_waited(0);
    s->nsent = 0;
}
