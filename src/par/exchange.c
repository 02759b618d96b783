/* Filling bands by owner; see exchange.h. */
#include "par/exchange.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/step.h"
#include "par/comm.h"
#include "read/convert.h"

/* More runs than this in one part would cost more memory for their description than they hold. */
#define STRIPS_MAX 16384

/* What this rank will receive from one other: places in its band. */
typedef struct inbox {
    int *lengths;
    MPI_Aint *places;
    MPI_Datatype *types;
    size_t n, cap_lengths, cap_places, cap_types;
} inbox;

struct sw_exchange {
    const sw_comm *comm;
    MPI_Comm mpi;
    const sw_filler *filler;
    const sw_schedule *sched;
    char *send;
    uint64_t send_size;
    inbox *inboxes; /* one a rank */
    int *send_counts, *send_at, *recv_counts, *recv_at;
    MPI_Datatype *send_types, *recv_types;
};

sw_exchange *sw_exchange_new(const sw_comm *comm, const sw_filler *filler, const sw_schedule *sched,
                             uint64_t send_size, sw_status *st)
{
    sw_exchange *x = sw_calloc(1, sizeof *x, st);
    uint64_t n = (uint64_t)comm->size;

    if (!x)
        return NULL;
    x->comm = comm;
    x->filler = filler;
    x->sched = sched;
    x->send_size = send_size;
    if (!sw_comm_mpi(comm, &x->mpi))
        sw_fail(st, SW_EUSAGE, NULL, NULL, "ranks can exchange only over MPI");
    x->send = sw_calloc(send_size, 1, st);
    x->inboxes = sw_calloc(n, sizeof *x->inboxes, st);
    x->send_counts = sw_calloc(n, sizeof *x->send_counts, st);
    x->send_at = sw_calloc(n, sizeof *x->send_at, st);
    x->recv_counts = sw_calloc(n, sizeof *x->recv_counts, st);
    x->recv_at = sw_calloc(n, sizeof *x->recv_at, st);
    x->send_types = sw_calloc(n, sizeof *x->send_types, st);
    x->recv_types = sw_calloc(n, sizeof *x->recv_types, st);
    if (st->code) {
        sw_exchange_free(x);
        return NULL;
    }
    for (uint64_t r = 0; r < n; r++) {
        x->send_types[r] = MPI_BYTE;
        x->recv_types[r] = MPI_DATATYPE_NULL;
    }
    return x;
}

void sw_exchange_free(sw_exchange *x)
{
    if (!x)
        return;
    for (int r = 0; x->inboxes && r < x->comm->size; r++) {
        free(x->inboxes[r].lengths);
        free(x->inboxes[r].places);
        free(x->inboxes[r].types);
    }
    free(x->inboxes);
    free(x->send);
    free(x->send_counts);
    free(x->send_at);
    free(x->recv_counts);
    free(x->recv_at);
    free(x->send_types);
    free(x->recv_types);
    free(x);
}

/* ---- runs of a part ------------------------------------------------------------------------ */

/* Part i of k of a rank's band. Elements that are converted are never cut: then both ends are
 * multiples of 8 bytes, or the band's. */
static sw_region part_of(const sw_exchange *x, uint32_t f, uint64_t round, int rank, uint64_t i, uint64_t k)
{
    sw_region r = sw_schedule_region(x->sched, x->filler->l, f, (uint32_t)rank);
    sw_region band = sw_schedule_band(x->sched, r, round);
    uint64_t n = band.end - band.begin, unit = x->filler->input ? 8 : 1;

    return (sw_region){ band.begin + (i < k ? sw_round_down(n * i / k, unit) : n),
                        band.begin + (i + 1 < k ? sw_round_down(n * (i + 1) / k, unit) : n) };
}

typedef struct visit {
    sw_exchange *x;
    sw_run_fn fn;
    uint64_t at;    /* where the region begins in the band */
    uint64_t input; /* where the next need of a conversion goes, counted from the band */
    uint64_t base;  /* of the runs that are being visited, counted from the band */
    char *band;
    int rank;             /* whose band it is */
    uint64_t bytes, runs; /* counted, or sent so far */
    sw_status *st;
} visit;

static bool visit_need(void *ctx, const sw_need *need)
{
    visit *v = ctx;
    uint64_t base = v->base;
    bool go_on;

    v->base = base + need->at;
    go_on = sw_runs_each(v->x->filler->o->c, need->tensor, need->from, need->n, v->fn, v);
    v->base = base;
    return go_on;
}

static bool visit_part(void *ctx, const sw_part *part)
{
    visit *v = ctx;
    const sw_outputs *o = v->x->filler->o;
    bool copy = o->how[part->output].op == SW_OP_COPY;

    v->base = copy ? v->at + part->at : v->input;
    if (!sw_needs_each(o, part->output, part->from, part->n, visit_need, v))
        return false;
    v->input += sw_needs_size(o, part->output, part->from, part->n);
    return true;
}

/* Call v->fn for all runs of a region of f. */
static void visit_region(visit *v, uint32_t f, sw_region r)
{
    sw_part_rows_each(v->x->filler->o, v->x->filler->l, f, r.begin, r.end, visit_part, v);
}

static int owner_of(const visit *v, const sw_run *s)
{
    return (int)v->x->filler->o->c->files[s->file].owner;
}

/* ---- how many parts -------------------------------------------------------------------------- */

static bool count_run(void *ctx, const sw_run *s)
{
    visit *v = ctx;

    if ((owner_of(v, s) == v->x->comm->rank) != (v->rank == v->x->comm->rank)) {
        v->runs++;
        if (v->rank != v->x->comm->rank)
            v->bytes += s->n;
    }
    return true;
}

/* Does what this rank has to send in part i of k fit, what it converts, and the description of what
 * it receives? */
static bool fits(sw_exchange *x, uint32_t f, uint64_t round, uint64_t i, uint64_t k)
{
    visit v = { .x = x, .fn = count_run };

    for (v.rank = 0; v.rank < x->comm->size; v.rank++) {
        sw_region r = part_of(x, f, round, v.rank, i, k);

        v.runs = v.input = 0;
        visit_region(&v, f, r);
        if (v.rank != x->comm->rank)
            continue;
        if (v.input > x->filler->room || (v.runs > STRIPS_MAX && r.end - r.begin > STRIPS_MAX))
            return false;
    }
    return v.bytes <= x->send_size;
}

/* Collective. A power of two of parts that suits every rank, as small as it goes; 0 when MPI fails.
 * What fits in larger parts need not fit in smaller ones, because a conversion that is cut needs
 * more, so all ranks look again at what they agreed upon. Parts of a few elements, or of STRIPS_MAX
 * bytes, always fit, so that this ends. */
static uint64_t count_parts(sw_exchange *x, uint32_t f, uint64_t round)
{
    uint64_t k = 1, most = 0, tried = 1;
    int err;

    for (;;) {
        for (uint64_t i = 0; i < k;) {
            if (fits(x, f, round, i, k)) {
                i++;
            } else {
                assert(k <= x->sched->band);
                k *= 2;
                i = 0;
            }
        }
        sw_step_wait();
        err = sw_step_waited(MPI_Allreduce(&k, &most, 1, MPI_UINT64_T, MPI_MAX, x->mpi));
        if (err != MPI_SUCCESS)
            return 0;
        if (tried == most)
            return most;
        tried = k = most;
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool send_run(void *ctx, const sw_run *s)
{
    visit *v = ctx;

    if (owner_of(v, s) != v->x->comm->rank)
        return true;
    assert(v->bytes + s->n <= v->x->send_size);
    if (sw_pull_bytes(&v->x->filler->pull, s->file, s->at, s->n, v->x->send + v->bytes, v->st))
        return false;
    v->bytes += s->n;
    return true;
}

/* Read what the other ranks' bands need of this rank's files. */
static void read_for_others(sw_exchange *x, uint32_t f, uint64_t round, uint64_t i, uint64_t k, sw_status *st)
{
    visit v = { .x = x, .fn = send_run, .st = st };

    for (v.rank = 0; v.rank < x->comm->size; v.rank++) {
        x->send_at[v.rank] = (int)v.bytes;
        if (v.rank != x->comm->rank && !st->code)
            visit_region(&v, f, part_of(x, f, round, v.rank, i, k));
        x->send_counts[v.rank] = (int)v.bytes - x->send_at[v.rank];
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* The rows of a run as a subarray of bytes: the innermost dimension is the distance of rows, of
 * which a row is taken. All numbers are at most a band, and each distance is a multiple of the next
 * inner one. */
static int rows_type(const sw_run *s, MPI_Datatype *type)
{
    int sizes[SW_MAX_DIMS + 1], subsizes[SW_MAX_DIMS + 1], starts[SW_MAX_DIMS + 1] = { 0 };
    unsigned n = s->nloops;

    for (unsigned d = 0; d < n; d++) {
        subsizes[d] = (int)s->loops[d].count;
        sizes[d] = d == 0 ? subsizes[0] : (int)(s->loops[d - 1].to / s->loops[d].to);
    }
    sizes[n] = (int)s->loops[n - 1].to;
    subsizes[n] = (int)s->row;
    return MPI_Type_create_subarray((int)n + 1, sizes, subsizes, starts, MPI_ORDER_C, MPI_BYTE, type);
}

static sw_code add_to_inbox(inbox *in, const sw_run *s, uint64_t at, sw_status *st)
{
    MPI_Datatype type = MPI_BYTE;
    int err;

    if (sw_grow(&in->lengths, &in->cap_lengths, in->n + 1, sizeof *in->lengths, st) ||
        sw_grow(&in->places, &in->cap_places, in->n + 1, sizeof *in->places, st) ||
        sw_grow(&in->types, &in->cap_types, in->n + 1, sizeof *in->types, st))
        return st->code;
    if (s->nloops > 0 && (err = rows_type(s, &type)) != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_EINTERNAL, NULL, err, "cannot make a datatype");
    in->lengths[in->n] = s->nloops ? 1 : (int)s->n;
    in->places[in->n] = (MPI_Aint)at + (MPI_Aint)s->to;
    in->types[in->n++] = type;
    return SW_OK;
}

static bool receive_run(void *ctx, const sw_run *s)
{
    visit *v = ctx;
    int owner = owner_of(v, s);

    if (owner == v->x->comm->rank)
        return sw_pull_run(&v->x->filler->pull, s, v->band + v->base, v->st) == SW_OK;
    return add_to_inbox(&v->x->inboxes[owner], s, v->base, v->st) == SW_OK;
}

/* Make a datatype of all that comes from each rank. */
static sw_code make_types(sw_exchange *x, sw_status *st)
{
    for (int r = 0; r < x->comm->size && !st->code; r++) {
        inbox *in = &x->inboxes[r];
        int err;

        x->recv_counts[r] = in->n > 0;
        x->recv_types[r] = MPI_BYTE;
        if (in->n == 0)
            continue;
        err = MPI_Type_create_struct((int)in->n, in->lengths, in->places, in->types, &x->recv_types[r]);
        if (err == MPI_SUCCESS)
            err = MPI_Type_commit(&x->recv_types[r]);
        if (err != MPI_SUCCESS)
            sw_fail_mpi(st, SW_EINTERNAL, NULL, err, "cannot make a datatype");
    }
    return st->code;
}

static void free_types(sw_exchange *x)
{
    for (int r = 0; r < x->comm->size; r++) {
        inbox *in = &x->inboxes[r];

        for (size_t i = 0; i < in->n; i++)
            if (in->types[i] != MPI_BYTE)
                MPI_Type_free(&in->types[i]);
        in->n = 0;
        if (x->recv_types[r] != MPI_BYTE && x->recv_types[r] != MPI_DATATYPE_NULL)
            MPI_Type_free(&x->recv_types[r]);
        x->recv_types[r] = MPI_DATATYPE_NULL;
    }
}

/* ---- a part ---------------------------------------------------------------------------------- */

static bool convert_part(void *ctx, const sw_part *part)
{
    visit *v = ctx;
    const sw_outputs *o = v->x->filler->o;

    if (o->how[part->output].op == SW_OP_COPY)
        return true;
    sw_convert(o, part->output, part->from, part->n, v->band + v->input, v->band + v->at + part->at);
    v->input += sw_needs_size(o, part->output, part->from, part->n);
    return true;
}

static sw_code exchange_part(sw_exchange *x, uint32_t f, uint64_t round, uint64_t i, uint64_t k, char *band,
                             sw_status *st)
{
    const sw_filler *filler = x->filler;
    sw_region mine = part_of(x, f, round, x->comm->rank, i, k);
    sw_region first = part_of(x, f, round, x->comm->rank, 0, k);
    uint64_t input = filler->input ? (uint64_t)(filler->input - band) : 0;
    visit v = {
        .x = x, .fn = receive_run, .at = mine.begin - first.begin, .input = input, .band = band, .st = st
    };
    int err;

    read_for_others(x, f, round, i, k, st);
    if (!st->code)
        visit_region(&v, f, mine);
    if (!st->code)
        make_types(x, st);
    /* Only what all ranks have prepared can be exchanged. */
    if (sw_agree(x->comm, st) == SW_OK) {
        sw_step_wait();
        err = sw_step_waited(MPI_Alltoallw(x->send, x->send_counts, x->send_at, x->send_types, band,
                                           x->recv_counts, x->recv_at, x->recv_types, x->mpi));
        if (err != MPI_SUCCESS)
            sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot exchange data");
    }
    free_types(x);
    v.input = input;
    if (!st->code)
        sw_part_rows_each(filler->o, filler->l, f, mine.begin, mine.end, convert_part, &v);
    return st->code;
}

sw_code sw_exchange_fill(sw_exchange *x, uint32_t f, uint64_t round, char *band, sw_status *st)
{
    uint64_t k = count_parts(x, f, round);

    if (k == 0)
        return sw_comm_broken(x->comm, st);
    if (sw_agree(x->comm, st))
        return st->code;
    for (uint64_t i = 0; i < k && !exchange_part(x, f, round, i, k, band, st); i++)
        ;
    return st->code;
}
