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
#define RUNS_MAX 16384

/* What this rank will receive from one other: boxes of its band. */
typedef struct inbox {
    sw_layer_box *boxes;
    int *dims;
    size_t n, ndims, cap_boxes, cap_dims;
} inbox;

struct sw_exchange {
    const sw_comm *comm;
    const sw_layer *layer;
    sw_handle handle; /* of the layer's exchange */
    const sw_filler *filler;
    const sw_schedule *sched;
    char *send;
    uint64_t send_size;
    inbox *inboxes; /* one a rank */
    int *send_counts, *send_at;
    sw_cursor own;
    sw_cursor *each; /* one a rank, where each has files of its own; else all go with own */
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
    x->layer = sw_comm_layer(comm);
    if (!x->layer)
        sw_fail(st, SW_EUSAGE, NULL, NULL, "ranks can exchange only over MPI");
    else if (x->layer->exchange_new(sw_comm_handle(comm), comm->size, &x->handle))
        sw_fail_nomem(st, n);
    x->send = sw_calloc(send_size, 1, st);
    x->inboxes = sw_calloc(n, sizeof *x->inboxes, st);
    x->send_counts = sw_calloc(n, sizeof *x->send_counts, st);
    x->send_at = sw_calloc(n, sizeof *x->send_at, st);
    if (sched->whole)
        x->each = sw_calloc(n, sizeof *x->each, st);
    if (st->code) {
        sw_exchange_free(x);
        return NULL;
    }
    return x;
}

void sw_exchange_free(sw_exchange *x)
{
    if (!x)
        return;
    for (int r = 0; x->inboxes && r < x->comm->size; r++) {
        free(x->inboxes[r].boxes);
        free(x->inboxes[r].dims);
    }
    if (x->layer)
        x->layer->exchange_free(x->handle);
    free(x->inboxes);
    free(x->send);
    free(x->send_counts);
    free(x->each);
    free(x->send_at);
    free(x);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

bool sw_exchange_next(sw_exchange *x, sw_cursor *own)
{
    const sw_layout *l = x->filler->l;
    bool left = false;

    if (!x->each)
        left = sw_cursor_next(x->sched, l, (uint32_t)x->comm->rank, &x->own);
    for (int r = 0; x->each && r < x->comm->size; r++)
        left = sw_cursor_next(x->sched, l, (uint32_t)r, &x->each[r]) || left;
    *own = x->each ? x->each[x->comm->rank] : x->own;
    return left;
}

/* Where a rank is in this round: the file of its band. */
static const sw_cursor *cursor_of(const sw_exchange *x, int rank)
{
    return x->each ? &x->each[rank] : &x->own;
}

/* ---- runs of a part -------------------------------------------------------------------------- */

/* Part i of k of what all ranks fill in a round. */
typedef struct part {
    uint64_t i, k;
} part;

/* The part of a rank's band. Elements that are converted are never cut: then both ends are
 * multiples of 8 bytes, or the band's. */
static sw_region part_of(const sw_exchange *x, const part *p, int rank)
{
    const sw_cursor *c = cursor_of(x, rank);
    sw_region mine = x->each ? c->mine : sw_schedule_region(x->sched, x->filler->l, c->file, (uint32_t)rank);
    sw_region band = sw_schedule_band(x->sched, mine, c->round);
    uint64_t n = band.end - band.begin, unit = x->filler->maker.memory ? 8 : 1;

    return (sw_region){ band.begin + sw_round_down(n * p->i / p->k, unit),
                        band.begin + (p->i + 1 < p->k ? sw_round_down(n * (p->i + 1) / p->k, unit) : n) };
}

typedef struct visit {
    sw_exchange *x;
    sw_run_fn fn;
    uint64_t at;    /* where the region begins in the band */
    uint64_t input; /* where the next input of a conversion goes, counted from the band */
    uint64_t base;  /* of the runs that are being visited, counted from the band */
    char *band;
    int rank;             /* whose band it is */
    uint64_t bytes, runs; /* counted, or sent so far */
    sw_status *st;
} visit;

/* A copy goes straight to its place; what is converted, to the filler's memory. */
static bool visit_box(void *ctx, const sw_making *g)
{
    visit *v = ctx;
    sw_run_target target = { g->offsets, g->shape, g->strides };
    sw_ingredient in[2];
    unsigned n;

    if (g->how->op == SW_OP_COPY) {
        v->base = v->at + (uint64_t)g->to;
        return sw_runs_each(&g->how->view, &target, v->fn, v);
    }
    n = sw_ingredients(g, in);
    for (unsigned i = 0; i < n; i++) {
        v->base = v->input + in[i].at;
        if (!sw_ingredient_runs_each(&in[i], v->fn, v))
            return false;
    }
    v->input += in[n - 1].at + in[n - 1].bytes;
    return true;
}

/* Call v->fn for all runs of a region of a rank's file. One who is through has none. */
static void visit_region(visit *v, int rank, sw_region r)
{
    if (r.begin < r.end)
        sw_band_boxes_each(v->x->filler->o, v->x->filler->l, cursor_of(v->x, rank)->file, r, visit_box, v);
}

/* The rank that reads a run. */
static int owner_of(const visit *v, const sw_run *s)
{
    return (int)v->x->filler->o->c->files[s->file].owner;
}

/* ---- how many parts -------------------------------------------------------------------------- */

/* What of it crosses from rank to rank: sent by this one, or received. */
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
static bool fits(sw_exchange *x, const part *p)
{
    visit v = { .x = x, .fn = count_run };

    for (v.rank = 0; v.rank < x->comm->size; v.rank++) {
        sw_region r = part_of(x, p, v.rank);

        v.runs = v.input = 0;
        visit_region(&v, v.rank, r);
        if (v.rank != x->comm->rank)
            continue;
        if (v.input > x->filler->maker.room || (v.runs > RUNS_MAX && r.end - r.begin > RUNS_MAX))
            return false;
    }
    return v.bytes <= x->send_size;
}

/* Collective. A power of two of parts that suits every rank, as small as it goes; 0 when a rank has
 * failed, and all know. What fits in larger parts need not fit in smaller ones, because a
 * conversion that is cut needs more, so all ranks look again at what they agreed upon. Parts of a
 * few elements, or of RUNS_MAX bytes, always fit, so that this ends. */
static uint64_t count_parts(sw_exchange *x, sw_status *st)
{
    part p = { 0, 1 };
    uint64_t tried = 1;

    for (;;) {
        for (p.i = 0; p.i < p.k;) {
            if (fits(x, &p)) {
                p.i++;
            } else {
                assert(p.k <= x->sched->band);
                p.k *= 2;
                p.i = 0;
            }
        }
        if (sw_agree_most(x->comm, &p.k, 1, st))
            return 0;
        if (tried == p.k)
            return p.k;
        tried = p.k;
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Read it, packed, if it is of this rank's files. */
static bool send_run(void *ctx, const sw_run *s)
{
    visit *v = ctx;
    sw_run packed;

    if (owner_of(v, s) != v->x->comm->rank)
        return true;
    assert(v->bytes + s->n <= v->x->send_size);
    packed = sw_run_packed(s);
    if (sw_pull_run(&v->x->filler->maker.pull, &packed, v->x->send + v->bytes, v->st))
        return false;
    v->bytes += s->n;
    return true;
}

/* Read what the other ranks' bands need of this rank's files. */
static void read_for_others(sw_exchange *x, const part *p, sw_status *st)
{
    visit v = { .x = x, .fn = send_run, .st = st };

    for (v.rank = 0; v.rank < x->comm->size; v.rank++) {
        x->send_at[v.rank] = (int)v.bytes;
        if (v.rank != x->comm->rank && !st->code)
            visit_region(&v, v.rank, part_of(x, p, v.rank));
        x->send_counts[v.rank] = (int)v.bytes - x->send_at[v.rank];
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* The rows of a run as a subarray of bytes: the innermost dimension is the distance of rows, of
 * which a row is taken. All numbers are at most a band, and each distance is a multiple of the next
 * inner one. */
static void add_dims(inbox *in, const sw_run *s)
{
    unsigned n = s->nloops;
    int *sizes = in->dims + in->ndims, *taken = sizes + n + 1;

    for (unsigned d = 0; d < n; d++) {
        taken[d] = (int)s->loops[d].count;
        sizes[d] = d == 0 ? taken[0] : (int)(s->loops[d - 1].to / s->loops[d].to);
    }
    sizes[n] = (int)s->loops[n - 1].to;
    taken[n] = (int)s->row;
    in->ndims += 2 * ((size_t)n + 1);
}

/* One more box that comes from an owner. */
static sw_code add_to_inbox(inbox *in, const sw_run *s, uint64_t at, sw_status *st)
{
    size_t ndims = s->nloops ? (size_t)s->nloops + 1 : 0;

    if (sw_grow(&in->boxes, &in->cap_boxes, in->n + 1, sizeof *in->boxes, st) ||
        sw_grow(&in->dims, &in->cap_dims, in->ndims + 2 * ndims, sizeof *in->dims, st))
        return st->code;
    in->boxes[in->n++] = (sw_layer_box){ (int64_t)at + s->to, (int)s->n, (int)ndims };
    if (ndims)
        add_dims(in, s);
    return SW_OK;
}

/* Read it straight to its place, or expect it. */
static bool receive_run(void *ctx, const sw_run *s)
{
    visit *v = ctx;
    int owner = owner_of(v, s);

    if (owner == v->x->comm->rank)
        return sw_pull_run(&v->x->filler->maker.pull, s, v->band + v->base, v->st) == SW_OK;
    return add_to_inbox(&v->x->inboxes[owner], s, v->base, v->st) == SW_OK;
}

/* Tell the layer what comes from each rank. */
static sw_code expect_all(sw_exchange *x, sw_status *st)
{
    for (int r = 0; r < x->comm->size && !st->code; r++) {
        const inbox *in = &x->inboxes[r];
        int err = x->layer->exchange_expect(x->handle, r, in->boxes, in->n, in->dims);

        if (err)
            sw_fail_mpi(st, SW_EINTERNAL, NULL, err, "cannot make a datatype");
    }
    return st->code;
}

/* ---- a part ---------------------------------------------------------------------------------- */

/* From the filler's input to its place. */
static bool convert_box(void *ctx, const sw_making *g)
{
    visit *v = ctx;

    if (g->how->op == SW_OP_COPY)
        return true;
    sw_convert(g, v->band + v->input, v->band + (int64_t)v->at + g->to);
    v->input += sw_ingredients_size(g);
    return true;
}

/* Collective. Fill this rank's part. */
static sw_code exchange_part(sw_exchange *x, const part *p, char *band, sw_status *st)
{
    const sw_filler *filler = x->filler;
    sw_region mine = part_of(x, p, x->comm->rank);
    sw_region first = part_of(x, &(part){ 0, p->k }, x->comm->rank);
    uint64_t input = filler->maker.memory ? (uint64_t)(filler->maker.memory - band) : 0;
    visit v = {
        .x = x, .fn = receive_run, .at = mine.begin - first.begin, .input = input, .band = band, .st = st
    };
    int err;

    for (int r = 0; r < x->comm->size; r++)
        x->inboxes[r].n = x->inboxes[r].ndims = 0;
    read_for_others(x, p, st);
    if (!st->code)
        visit_region(&v, x->comm->rank, mine);
    if (!st->code)
        expect_all(x, st);
    /* Only what all ranks have prepared can be exchanged. */
    if (sw_agree(x->comm, st) == SW_OK) {
        sw_step_wait();
        err = sw_step_waited(x->layer->exchange_go(x->handle, x->send, x->send_counts, x->send_at, band));
        if (err)
            sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot exchange data");
    }
    v.input = input;
    if (!st->code && mine.begin < mine.end)
        sw_band_boxes_each(filler->o, filler->l, cursor_of(x, x->comm->rank)->file, mine, convert_box, &v);
    return st->code;
}

sw_code sw_exchange_fill(sw_exchange *x, char *band, sw_status *st)
{
    part p = { 0, count_parts(x, st) };

    for (; p.i < p.k && !exchange_part(x, &p, band, st); p.i++)
        ;
    return st->code;
}
