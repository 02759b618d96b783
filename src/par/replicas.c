/* Copies of one region of a tensor in several shard files, compared; see compare.h. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/step.h"
#include "par/compare.h"
#include "par/gather.h"
#include "plan/dims.h"
#include "read/pull.h"

#define TAG_REPLICA 78

typedef struct replica_reader {
    sw_replicas *k;
    sw_source source;
    const sw_layer *layer; /* by owner */
    char *is, *want;       /* a chunk of each */
    sw_stopper stopper;    /* by band: another rank has failed, and what is left is not read */
    bool stopped;          /* by owner: a rank that sends here has */
} replica_reader;

/* A replica and the box that it repeats. */
typedef struct replica_pair {
    const sw_tensor *tensor;
    uint64_t replica, used; /* their numbers among the tensor's boxes */
    sw_box is, want;
    uint64_t bytes;
} replica_pair;

/* A replica with the box that it repeats, and their size. */
static replica_pair pair_of(const sw_replicas *k, const sw_tensor *t, uint64_t replica)
{
    sw_placed is, want;
    replica_pair p = { .tensor = t, .replica = replica, .is = sw_box_get(k->c, t, replica, &is)->box };

    p.used = sw_box_find(k->c, t, is.offsets);
    p.want = sw_box_get(k->c, t, p.used, &want)->box;
    p.bytes = sw_dtype_bits((sw_dtype)t->dtype) * sw_dims_count(is.shape, t->ndim) / 8;
    return p;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Bytes of a box whose elements have strides of their own. */
static sw_code read_strided(replica_reader *r, const sw_tensor *t, uint64_t k, sw_region at, char *to,
                            sw_status *st)
{
    const sw_view v = sw_view_elements(r->k->c, t);
    uint64_t size = v.bits / 8, from = at.begin / size, n = at.end / size - from, now;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    sw_placed b;
    const sw_run_target box = { sw_box_get(r->k->c, t, k, &b)->offsets, b.shape, NULL };
    const sw_run_target part = { offsets, shape, NULL };
    const sw_pull pull = sw_pull_of(&r->source);
    sw_run run;

    for (; n > 0 && !st->code; from += now, n -= now, to += now * size) {
        now = sw_first_box(&box, v.n, from, n, offsets, shape);
        if (sw_run_make(&v, k, &part, &run) == SW_RUN_SHARED)
            sw_pull_run(&pull, &run, to, st);
    }
    return st->code;
}

/* Bytes of box k of a tensor. */
static sw_code read_chunk(replica_reader *r, const sw_tensor *t, uint64_t k, sw_region at, char *to,
                          sw_status *st)
{
    sw_placed placed;
    const sw_box *box = &sw_box_get(r->k->c, t, k, &placed)->box;
    sw_pull pull = sw_pull_of(&r->source);

    if (sw_check_cancel(r->k->cancel, st))
        return st->code;
    if (box->strides)
        return read_strided(r, t, k, at, to, st);
    return sw_pull_bytes(&pull, box->file, box->at + at.begin, at.end - at.begin, to, st);
}

/* Keep what differs in a chunk. */
static sw_code note(replica_reader *r, const replica_pair *p, sw_region at, sw_status *st)
{
    const sw_copies k = { (uint64_t)(p->tensor - r->k->c->tensors),
                          p->replica,
                          (sw_dtype)p->tensor->dtype,
                          at.begin,
                          at.end - at.begin,
                          r->is,
                          r->want };

    return sw_differences_compare(&r->k->found, &k, st);
}

/* The chunk of these bytes that begins at from. */
static sw_region chunk_at(const replica_reader *r, uint64_t from, uint64_t end)
{
    return (sw_region){ from, from + sw_min(r->k->chunk, end - from) };
}

/* Local. These bytes of both. */
static void compare_here(replica_reader *r, const replica_pair *p, sw_region all, sw_status *st)
{
    for (sw_region at; all.begin < all.end && !st->code && !r->stopped && !sw_stopper_heard(&r->stopper);
         all.begin = at.end) {
        at = chunk_at(r, all.begin, all.end);
        if (!read_chunk(r, p->tensor, p->used, at, r->want, st) &&
            !read_chunk(r, p->tensor, p->replica, at, r->is, st))
            note(r, p, at, st);
    }
}

/* ---- by band --------------------------------------------------------------------------------- */

/* This rank's share [lo, hi) of all bytes of replicas, of which these begin at byte `before`. */
static void compare_share(replica_reader *r, const replica_pair *p, uint64_t before, uint64_t lo, uint64_t hi,
                          sw_status *st)
{
    uint64_t from = lo > before ? sw_round_down(lo - before, SW_ELEMENTS_UNIT) : 0;
    uint64_t end = hi - before < p->bytes ? sw_round_down(hi - before, SW_ELEMENTS_UNIT) : p->bytes;

    if (hi > before && from < p->bytes)
        compare_here(r, p, (sw_region){ from, end }, st);
}

/* ---- by owner -------------------------------------------------------------------------------- */

/* Send what is used to the owner of the replica. After an error nothing goes out any more, and that
 * tells of it. */
static void send_used(replica_reader *r, const replica_pair *p, int to, sw_status *st)
{
    for (sw_region at = { 0, 0 }; at.end < p->bytes && st->code != SW_ECOMM;) {
        sw_handle request = 0;
        int err, length = 0;

        at = chunk_at(r, at.end, p->bytes);
        if (!st->code && !r->stopped && !read_chunk(r, p->tensor, p->used, at, r->want, st))
            length = (int)(at.end - at.begin);
        sw_step_wait();
        err = r->layer->send(sw_comm_handle(r->k->world), r->want, length, to, TAG_REPLICA, &request);
        if (!err)
            err = r->layer->finish(&request, NULL);
        if (sw_step_waited(err))
            sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot send");
    }
}

/* Compare what comes from the owner of the box that is used with the replica. */
static void receive_used(replica_reader *r, const replica_pair *p, int from, sw_status *st)
{
    for (sw_region at = { 0, 0 }; at.end < p->bytes && st->code != SW_ECOMM;) {
        int err, length = 0, n;

        at = chunk_at(r, at.end, p->bytes);
        n = (int)(at.end - at.begin);
        sw_step_wait();
        err = r->layer->receive(sw_comm_handle(r->k->world), r->want, n, from, TAG_REPLICA, &length);
        if (sw_step_waited(err))
            sw_fail_mpi(st, SW_ECOMM, NULL, err, "cannot receive");
        r->stopped = r->stopped || length != n;
        if (!st->code && !r->stopped && !read_chunk(r, p->tensor, p->replica, at, r->is, st))
            note(r, p, at, st);
    }
}

/* Pairs have one order on all ranks, and a rank does its own in that order: so the first one of all
 * that is not done yet has both its ranks free, and nobody waits for ever. */
static void compare_owned(replica_reader *r, const replica_pair *p, sw_status *st)
{
    int me = r->k->world->rank;
    int want = (int)r->k->c->files[p->want.file].owner, is = (int)r->k->c->files[p->is.file].owner;

    if (want == me && is == me)
        compare_here(r, p, (sw_region){ 0, p->bytes }, st);
    else if (want == me)
        send_used(r, p, is, st);
    else if (is == me)
        receive_used(r, p, want, st);
}

/* ---- all ------------------------------------------------------------------------------------- */

/* Of all that are wanted; they are counted on the way. */
static uint64_t replica_bytes(sw_replicas *k)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < k->c->ntensors; i++) {
        const sw_tensor *t = &k->c->tensors[i];

        for (uint64_t b = t->nboxes; k->wanted[i] && b < t->nboxes + t->nreplicas; b++, k->replicas++)
            total += pair_of(k, t, b).bytes;
    }
    return total;
}

/* Each replica by the rank, or the ranks, that it falls to. */
static void compare_all(replica_reader *r, uint64_t total, sw_status *st)
{
    const sw_replicas *k = r->k;
    uint64_t share = total / (uint64_t)k->world->size + 1, lo = share * (uint64_t)k->world->rank, before = 0;

    for (uint32_t i = 0; i < k->c->ntensors && st->code != SW_ECOMM; i++) {
        const sw_tensor *t = &k->c->tensors[i];

        for (uint64_t b = t->nboxes; k->wanted[i] && b < t->nboxes + t->nreplicas; b++) {
            replica_pair p = pair_of(k, t, b);

            if (k->by_owner)
                compare_owned(r, &p, st);
            else
                compare_share(r, &p, before, lo, lo + share, st);
            before += p.bytes;
        }
    }
}

sw_code sw_replicas_compare(sw_replicas *k, sw_status *st)
{
    uint64_t total = replica_bytes(k);
    replica_reader r = { .k = k, .layer = sw_comm_layer(k->world) };

    if (total == 0)
        return SW_OK;
    r.is = sw_calloc(k->chunk, 1, st);
    r.want = sw_calloc(k->chunk, 1, st);
    sw_source_init(&r.source, k->c, k->dir, 1, st);
    sw_stopper_init(&r.stopper, k->world, NULL, 0, st);
    if (k->by_owner && !r.layer)
        sw_fail(st, SW_EUSAGE, NULL, NULL, "ranks can exchange only over MPI");
    if (!sw_agree(k->world, st)) {
        compare_all(&r, total, st);
        if (!st->code)
            sw_source_check(&r.source, NULL, st);
        sw_differences_end(&r.stopper, k->by_owner, &k->found, st);
    }
    sw_stopper_release(&r.stopper);
    sw_source_release(&r.source);
    free(r.want);
    free(r.is);
    return st->code;
}
