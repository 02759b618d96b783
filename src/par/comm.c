/* Groups of ranks; see comm.h. */
#include "par/comm.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/num.h"
#include "base/step.h"
#include "par/launcher.h"

#define BCAST_PART (UINT64_C(1) << 30)
#define TAG_STOP 77
#define KINDS_MAX 4 /* gathered at once */

/* ---- one process ----------------------------------------------------------------------------- */

/* What one has all have. */
static int self_bcast(void *ctx, void *buf, size_t n, int root)
{
    (void)ctx, (void)buf, (void)n, (void)root;
    return 0;
}

/* All that there is is mine. */
static int self_allgather(void *ctx, const void *mine, void *all, const size_t *counts)
{
    (void)ctx;
    if (counts[0])
        memmove(all, mine, counts[0]);
    return 0;
}

/* Nobody is waited for. */
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

typedef struct ranks {
    sw_layer_comm comm;
    /* this rank, and how many there are, where the groups were split from */
    int origin, originally;
    /* for a gather: nothing may fail between those who come and those who do not */
    int *counts, *places;
    bool begun; /* MPI was initialised for this one, and ends with it */
} ranks;

/* What MPI reported last, for the message: a function of sw_comm tells only that it failed. */
static int last_error;

int sw_comm_waited(int err)
{
    if (err)
        last_error = err;
    return sw_step_waited(err);
}

/* By MPI; MPI counts in int. */
static int mpi_bcast(void *ctx, void *buf, size_t n, int root)
{
    const ranks *c = ctx;

    sw_step_wait();
    return n > INT_MAX || sw_comm_waited(sw_layer_here()->bcast(c->comm.handle, buf, (int)n, root));
}

/* The callers cut what they gather, so that a total above INT_MAX is a mistake of ours. */
static int mpi_allgather(void *ctx, const void *mine, void *all, const size_t *counts)
{
    const ranks *c = ctx;
    uint64_t total = 0;

    for (int r = 0; r < c->comm.size; r++) {
        if (counts[r] > INT_MAX || total > INT_MAX)
            return 1;
        c->counts[r] = (int)counts[r];
        c->places[r] = (int)total;
        total += counts[r];
    }
    if (total > INT_MAX)
        return 1;
    sw_step_wait();
    return sw_comm_waited(
        sw_layer_here()->allgather(c->comm.handle, mine, c->counts[c->comm.rank], all, c->counts, c->places));
}

/* By an agreement, which tells when a rank is gone, where a barrier may not. */
static int mpi_barrier(void *ctx)
{
    const ranks *c = ctx;
    uint64_t mine = 0, most;

    sw_step_wait();
    return sw_comm_waited(sw_layer_here()->most(c->comm.handle, &mine, &most, 1, NULL));
}

sw_code sw_layer_adopt(const sw_layer_comm *comm, int err, const char *what, sw_comm *out, sw_status *st)
{
    sw_layer_comm mine = *comm;
    ranks *c;

    *out = sw_comm_self();
    if (err)
        return sw_fail_mpi(st, SW_ECOMM, NULL, err, what);
    c = sw_calloc(1, sizeof *c, st);
    if (!c) {
        sw_layer_here()->free(&mine);
        return st->code;
    }
    *c = (ranks){ .comm = mine, .origin = mine.rank, .originally = mine.size };
    *out = (sw_comm){ c, mine.rank, mine.size, mpi_bcast, mpi_allgather, mpi_barrier };
    c->counts = sw_calloc((uint64_t)mine.size, sizeof *c->counts, st);
    c->places = sw_calloc((uint64_t)mine.size, sizeof *c->places, st);
    if (st->code)
        sw_comm_mpi_release(out);
    return st->code;
}

bool sw_comm_launched(void)
{
    return sw_launcher_here() != NULL;
}

/* No layer for the launcher's MPI: N processes that do not know of one another. One is alone. */
static sw_code do_without(const sw_launcher *l, const char *why, sw_status *st)
{
    char kinds[64], cure[200];

    if (sw_launcher_size(l) == 1)
        return SW_OK;
    sw_layer_kinds(kinds, sizeof kinds);
    snprintf(
        cure, sizeof cure,
        "layers are here for: %s; load the module of that MPI, set SHARDWELD_MPI to the path of its library",
        kinds[0] ? kinds : "none");
    kinds[strcspn(kinds, " ")] = '\0';
    return sw_launcher_refuse(l, why, cure, kinds[0] ? kinds : "none", st);
}

/* An MPI that does not know this launcher makes a job of each process, without a word. */
static sw_code confirm(const sw_launcher *l, const sw_layer *layer, sw_comm *comm, sw_status *st)
{
    char why[200], name[100];

    if (!l || comm->size > 1 || sw_launcher_size(l) <= 1)
        return SW_OK;
    layer->name(name, sizeof name);
    snprintf(why, sizeof why, "%.*s (layer %s) sees only one", (int)strcspn(name, ",\n"), name, layer->kind);
    sw_comm_mpi_release(comm);
    return sw_launcher_refuse(l, why, NULL, layer->kind, st);
}

sw_code sw_comm_world(sw_comm *out, sw_status *st)
{
    const sw_launcher *l = sw_launcher_here();
    sw_layer_state state = sw_layer_begun();
    sw_status missing = SW_STATUS_INIT;
    const sw_layer *layer;
    sw_layer_comm comm = { 0 };
    bool begun;
    int err;

    *out = sw_comm_self();
    if (!l && state == SW_MPI_UNBORN)
        return SW_OK;
    if (state == SW_MPI_ENDED || state == SW_MPI_BROKEN)
        return sw_fail(st, SW_ECOMM, NULL, NULL, "MPI has been finalized already");
    layer = sw_layer_find(NULL, &missing);
    if (!layer)
        return do_without(l, missing.reason, st);
    if (state == SW_MPI_UNBORN && !sw_launcher_knows(l, layer->kind)) {
        char why[100];

        snprintf(why, sizeof why, "layer %s, which is linked in or asked for, is for another MPI",
                 layer->kind);
        return do_without(l, why, st);
    }
    err = layer->begin(&comm, &begun);
    if (err && !begun)
        return sw_fail(st, SW_ECOMM, NULL, NULL, "MPI cannot be initialised");
    if (!sw_layer_adopt(&comm, err, "cannot duplicate the communicator", out, st)) {
        ((ranks *)out->ctx)->begun = begun;
        confirm(l, layer, out, st);
    } else if (begun) {
        layer->end();
    }
    return st->code;
}

sw_code sw_comm_from_handle(const char *kind, uintptr_t mpi, sw_comm *out, sw_status *st)
{
    const sw_layer *layer = sw_layer_find(kind, st);
    sw_layer_comm comm = { 0 };

    *out = sw_comm_self();
    if (!layer)
        return st->code;
    if (layer->state() != SW_MPI_BEGUN)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "the MPI of layer %s has not begun: another copy of MPI may be in this process",
                       layer->kind);
    return sw_layer_adopt(&comm, layer->duplicate(mpi, &comm), "cannot duplicate the communicator", out, st);
}

void sw_comm_mpi_release(sw_comm *comm)
{
    if (sw_comm_layer(comm)) {
        const sw_layer *layer = sw_layer_here();
        ranks *c = comm->ctx;

        if (layer->state() == SW_MPI_BEGUN) {
            layer->free(&c->comm);
            if (c->begun)
                layer->end();
        }
        free(c->counts);
        free(c->places);
        free(c);
    }
    *comm = sw_comm_self();
}

void sw_comm_abort(int status)
{
    if (sw_layer_begun() == SW_MPI_BEGUN)
        sw_layer_here()->abort(status);
}

const char *sw_mpi_kind(void)
{
    sw_status ignored = SW_STATUS_INIT;
    const sw_layer *layer = sw_layer_find(NULL, &ignored);

    return layer ? layer->kind : "none";
}

void sw_mpi_version(char *text, size_t n)
{
    sw_status ignored = SW_STATUS_INIT;
    const sw_layer *layer = sw_layer_find(NULL, &ignored);

    if (layer)
        layer->name(text, n);
    else if (n)
        text[0] = '\0';
}

const sw_layer *sw_comm_layer(const sw_comm *comm)
{
    return comm->barrier == mpi_barrier ? sw_layer_here() : NULL;
}

sw_handle sw_comm_handle(const sw_comm *comm)
{
    const ranks *c = comm->ctx;

    return c->comm.handle;
}

/* color NULL: by node */
static sw_code split(const sw_comm *comm, const int *color, sw_comm *out, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(comm);
    const ranks *whole = comm->ctx;
    sw_layer_comm part = { 0 };
    int err;

    *out = *comm;
    if (!layer)
        return SW_OK;
    sw_step_wait();
    err = sw_step_waited(color ? layer->split(&whole->comm, *color, &part)
                               : layer->split_node(&whole->comm, &part));
    if (!sw_layer_adopt(&part, err, "cannot split the communicator", out, st)) {
        ranks *c = out->ctx;

        c->origin = whole->origin;
        c->originally = whole->originally;
    }
    return st->code;
}

sw_code sw_comm_split(const sw_comm *comm, int color, sw_comm *out, sw_status *st)
{
    return split(comm, &color, out, st);
}

sw_code sw_comm_split_node(const sw_comm *comm, sw_comm *out, sw_status *st)
{
    return split(comm, NULL, out, st);
}

sw_code sw_fail_mpi(sw_status *st, sw_code code, const char *file, int err, const char *what)
{
    char text[sizeof st->reason];

    if (err == SW_LAYER_NOMEM)
        return sw_fail(st, SW_ENOMEM, file, NULL, "%s: out of memory", what);
    sw_layer_here()->error_text(err, text, sizeof text);
    return sw_fail(st, code, file, NULL, "%s: %s", what, text);
}

/* ---- for any communicator -------------------------------------------------------------------- */

/* An error of this rank's. In a message it counts as a rank of the communicator that the caller
 * knows; a process alone has no number. */
static void sign(const sw_comm *comm, sw_status *st)
{
    const ranks *c = sw_comm_layer(comm) ? comm->ctx : NULL;

    if ((c ? c->originally : comm->size) > 1)
        sw_status_sign(st, c ? c->origin : comm->rank);
}

/* Worse than any other error: what a rank knows alone, it cannot tell. */
sw_code sw_comm_broken(const sw_comm *comm, sw_status *st)
{
    if (st->code != SW_ECOMM)
        sw_status_clear(st);
    if (sw_comm_layer(comm) && last_error)
        sw_fail_mpi(st, SW_ECOMM, NULL, last_error, "communication between the ranks failed");
    sw_fail(st, SW_ECOMM, NULL, NULL, "communication between the ranks failed");
    sign(comm, st);
    return st->code;
}

/* ---- agreeing -------------------------------------------------------------------------------- */

/* The largest of all ranks' words, for each of n. False = the group is broken. Without MPI those
 * few bytes must be there: else the others cannot be told. */
static bool find_most(const sw_comm *comm, const uint64_t *mine, uint64_t *most, size_t n)
{
    const sw_layer *layer = sw_comm_layer(comm);
    sw_status st = SW_STATUS_INIT;
    uint64_t *all;

    if (layer) {
        sw_step_wait();
        return !sw_comm_waited(layer->most(sw_comm_handle(comm), mine, most, (int)n, NULL));
    }
    all = calloc((size_t)comm->size, n * sizeof *all);
    memset(most, 0, n * sizeof *most);
    if (!all || sw_comm_allgather(comm, mine, n * sizeof *mine, all, &st)) {
        free(all);
        return false;
    }
    for (size_t i = 0; i < n * (size_t)comm->size; i++)
        most[i % n] = sw_max(most[i % n], all[i]);
    free(all);
    return true;
}

/* A failing rank's word: of several, the lowest rank's is the largest. */
static uint64_t word_of(const sw_comm *comm, const sw_status *st)
{
    return st->code ? (uint64_t)(comm->size - comm->rank) : 0;
}

/* Such a word has been seen: its rank tells. */
static sw_code hear_failed(const sw_comm *comm, uint64_t word, sw_status *st)
{
    if (word && comm->bcast(comm->ctx, st, sizeof *st, comm->size - (int)word))
        return sw_comm_broken(comm, st);
    return st->code;
}

sw_code sw_agree_most(const sw_comm *comm, uint64_t *words, size_t n, sw_status *st)
{
    uint64_t mine[1 + SW_AGREE_WORDS], most[1 + SW_AGREE_WORDS];

    assert(n <= SW_AGREE_WORDS);
    sign(comm, st);
    mine[0] = word_of(comm, st);
    if (n)
        memcpy(mine + 1, words, n * sizeof *words);
    if (st->code == SW_ECOMM || !find_most(comm, mine, most, n + 1))
        return sw_comm_broken(comm, st);
    if (n)
        memcpy(words, most + 1, n * sizeof *words);
    return hear_failed(comm, most[0], st);
}

sw_code sw_agree(const sw_comm *comm, sw_status *st)
{
    return sw_agree_most(comm, NULL, 0, st);
}

/* The others' words are 0, so that rank 0's are the largest. */
sw_code sw_agree_share(const sw_comm *comm, void *data, size_t n, sw_status *st)
{
    uint64_t words[SW_AGREE_WORDS] = { 0 };

    assert(n <= sizeof words);
    if (n && comm->rank == 0)
        memcpy(words, data, n);
    if (!sw_agree_most(comm, words, (n + 7) / 8, st) && n)
        memcpy(data, words, n);
    return st->code;
}

/* Numbers are all the same where the largest one is the least one, too. Which rank's is another one
 * is asked only where they are not. */
sw_code sw_comm_compare(const sw_comm *comm, uint64_t mine, int *other, sw_status *st)
{
    uint64_t words[3] = { mine, ~mine, comm->rank == 0 ? mine : 0 }, word;
    sw_status told = *st;

    *other = 0;
    sw_agree_most(comm, words, 3, &told);
    if (told.code != SW_ECOMM && words[0] != ~words[1]) {
        word = mine != words[2] ? (uint64_t)(comm->size - comm->rank) : 0;
        if (!find_most(comm, &word, words, 1))
            return sw_comm_broken(comm, st);
        *other = comm->size - (int)words[0];
    }
    *st = told;
    return st->code;
}

/* ---- sending and gathering ------------------------------------------------------------------- */

sw_code sw_comm_bcast(const sw_comm *comm, void *buf, uint64_t n, int root, sw_status *st)
{
    for (uint64_t at = 0; at < n; at += BCAST_PART)
        if (comm->bcast(comm->ctx, (char *)buf + at, (size_t)sw_min(n - at, BCAST_PART), root))
            return sw_comm_broken(comm, st);
    return SW_OK;
}

/* Room that each rank takes before it is known how much will come: where that is enough, nobody can
 * fail any more, and nothing is to be agreed upon. */
#define SMALL (UINT64_C(64) << 10)

sw_code sw_comm_bcast_buf(const sw_comm *comm, sw_buf *b, int root, sw_status *st)
{
    uint64_t words[SW_AGREE_WORDS] = { 0 }, n;
    const size_t room = sizeof words - sizeof *words;

    if (comm->rank != root)
        b->len = 0;
    if (comm->rank != root && !st->code)
        sw_buf_reserve(b, SMALL, st);
    words[0] = b->len;
    if (b->len && b->len <= room)
        memcpy(words + 1, b->data, b->len);
    if (sw_agree_most(comm, words, SW_AGREE_WORDS, st))
        return st->code;
    n = words[0];
    if (n > SMALL) {
        if (comm->rank != root)
            sw_buf_reserve(b, n, st);
        if (sw_agree(comm, st))
            return st->code;
    }
    if (n > room)
        sw_comm_bcast(comm, b->data, n, root, st);
    else if (n)
        memcpy(b->data, words + 1, n);
    b->len = (size_t)n;
    return st->code;
}

sw_code sw_comm_allgather(const sw_comm *comm, const void *mine, uint64_t n, void *all, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(comm);
    size_t *counts;

    if (layer) {
        sw_step_wait();
        if (n > INT_MAX || sw_comm_waited(layer->allgather_equal(sw_comm_handle(comm), mine, (int)n, all)))
            sw_comm_broken(comm, st);
        return st->code;
    }
    /* Without these few bytes no message can be sent, so the others cannot be told. */
    counts = calloc((size_t)comm->size, sizeof *counts);
    if (!counts)
        return sw_comm_broken(comm, st);
    for (int r = 0; r < comm->size; r++)
        counts[r] = (size_t)n;
    if (comm->allgather(comm->ctx, mine, all, counts))
        sw_comm_broken(comm, st);
    free(counts);
    return st->code;
}

void sw_comm_totals(const sw_comm *comm, uint64_t *bytes, uint64_t *peak, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    uint64_t mine[2] = { *bytes, sw_peak_memory() };
    uint64_t *all = sw_calloc((uint64_t)comm->size, sizeof mine, &own);

    if (!sw_agree(comm, &own) && !sw_comm_allgather(comm, mine, sizeof mine, all, &own)) {
        *bytes = 0;
        for (int r = 0; r < comm->size; r++) {
            *bytes += all[2 * r];
            *peak = sw_max(*peak, all[2 * r + 1]);
        }
    }
    free(all);
    if (own.code == SW_ECOMM)
        *st = own;
}

/* One call for a part of what is joined, from a byte of it on. */
static sw_code gather_part(const sw_comm *comm, sw_gathering *g, uint64_t from, size_t *counts, sw_status *st)
{
    const uint64_t *starts = g->starts;
    uint64_t own = starts[comm->rank], to = sw_min(from + SW_GATHER_PART, g->all.len);
    uint64_t skip = from > own ? sw_min(from - own, g->mine->len) : 0;

    for (int r = 0; r < comm->size; r++) {
        uint64_t lo = sw_max(from, starts[r]), hi = sw_min(to, starts[r + 1]);

        counts[r] = hi > lo ? (size_t)(hi - lo) : 0;
    }
    if (comm->allgather(comm->ctx, g->mine->data ? g->mine->data + skip : NULL, g->all.data + from, counts))
        return sw_comm_broken(comm, st);
    return SW_OK;
}

/* Where each rank's bytes begin. lengths: n of each rank. */
static sw_code find_starts(const sw_comm *comm, sw_gathering *g, const uint64_t *lengths, size_t n,
                           sw_status *st)
{
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < comm->size; r++)
            if (!sw_add(g[i].starts[r], lengths[(size_t)r * n + i], &g[i].starts[r + 1]))
                sw_fail_nomem(st, UINT64_MAX);
    return st->code;
}

/* The lengths, and that somebody has failed: what has no length says so. */
static sw_code gather_lengths(const sw_comm *comm, sw_gathering *g, size_t n, uint64_t *lengths,
                              sw_status *st)
{
    uint64_t mine[KINDS_MAX];
    int failed = 0;

    assert(n <= KINDS_MAX);
    for (size_t i = 0; i < n; i++)
        mine[i] = st->code ? UINT64_MAX : g[i].mine->len;
    sign(comm, st);
    if (st->code == SW_ECOMM || !lengths ||
        sw_comm_allgather(comm, mine, n * sizeof *mine, lengths, st) == SW_ECOMM)
        return sw_comm_broken(comm, st);
    while (failed < comm->size && lengths[(size_t)failed * n] != UINT64_MAX)
        failed++;
    return hear_failed(comm, (uint64_t)(comm->size - failed), st);
}

/* Room for all of it. What is small has been taken already, and needs no agreement. */
static sw_code take_room(const sw_comm *comm, sw_gathering *g, size_t n, sw_status *st)
{
    bool small = true;

    for (size_t i = 0; i < n; i++) {
        uint64_t total = g[i].starts[comm->size];

        small = small && total <= SMALL;
        if (!sw_buf_reserve(&g[i].all, total, st))
            g[i].all.len = (size_t)total;
    }
    return small ? st->code : sw_agree(comm, st);
}

sw_code sw_comm_gather_kinds(const sw_comm *comm, sw_gathering *g, size_t n, sw_status *st)
{
    size_t size = (size_t)comm->size;
    /* without these few bytes no message can be sent */
    uint64_t *lengths = calloc(size * n, sizeof *lengths);
    size_t *counts = sw_calloc(size, sizeof *counts, st);

    for (size_t i = 0; i < n; i++) {
        g[i].all = (sw_buf)SW_BUF_INIT;
        g[i].starts = sw_calloc(size + 1, sizeof *g[i].starts, st);
        if (!st->code)
            sw_buf_reserve(&g[i].all, SMALL, st);
    }
    if (!gather_lengths(comm, g, n, lengths, st) && !find_starts(comm, g, lengths, n, st))
        take_room(comm, g, n, st);
    for (size_t i = 0; i < n; i++)
        for (uint64_t at = 0; !st->code && at < g[i].all.len; at += SW_GATHER_PART)
            gather_part(comm, &g[i], at, counts, st);
    free(lengths);
    free(counts);
    return st->code;
}

void sw_gathering_release(sw_gathering *g, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sw_buf_release(&g[i].all);
        free(g[i].starts);
        g[i].starts = NULL;
    }
}

sw_code sw_comm_gather(const sw_comm *comm, const sw_buf *mine, sw_buf *all, sw_status *st)
{
    sw_gathering g = { .mine = mine };

    sw_buf_release(all);
    if (!sw_comm_gather_kinds(comm, &g, 1, st)) {
        *all = g.all;
        g.all = (sw_buf)SW_BUF_INIT;
    }
    sw_gathering_release(&g, 1);
    return st->code;
}

/* ---- agreeing behind the work ---------------------------------------------------------------- */

void sw_watch_init(sw_watch *w, const sw_comm *comm)
{
    *w = (sw_watch){ .comm = comm };
}

void sw_watch_begin(sw_watch *w, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(w->comm);
    unsigned i = w->begun++ % SW_WATCH_LAG;

    w->mine[i] = w->any[i] = word_of(w->comm, st);
    w->requests[i] = 0;
    if (w->comm->size > 1 && layer &&
        layer->most(sw_comm_handle(w->comm), &w->mine[i], &w->any[i], 1, &w->requests[i]))
        sw_comm_broken(w->comm, st);
}

/* A rank that spins takes the processor from the one that it waits for. */
static int wait_idle(sw_handle *request)
{
    const struct timespec moment = { 0, 50000 };
    int done = *request == 0, err = 0; /* without MPI there is nothing to wait for */

    sw_step_wait();
    for (int i = 0; !done && !err; i++) {
        err = sw_layer_here()->finish(request, &done);
        if (!done && i > 100)
            nanosleep(&moment, NULL);
    }
    return sw_comm_waited(err);
}

bool sw_watch_end(sw_watch *w, bool all, sw_status *st)
{
    unsigned keep = all ? 0 : SW_WATCH_LAG - 1;

    /* Whatever has happened: requests write into w. */
    while (w->begun - w->ended > keep) {
        unsigned i = w->ended++ % SW_WATCH_LAG;

        if (wait_idle(&w->requests[i]))
            sw_comm_broken(w->comm, st);
        w->failed = w->failed || w->any[i];
    }
    return w->failed;
}

/* ---- stopping -------------------------------------------------------------------------------- */

/* The rank that speaks for group i. */
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
    const sw_layer *layer = sw_comm_layer(s->world);
    int come = 0;

    if (!s->heard && s->nleaders > 1 && layer)
        s->heard = layer->probe(sw_comm_handle(s->world), TAG_STOP, &come) || come;
    return s->heard;
}

void sw_stopper_tell(sw_stopper *s, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(s->world);

    if (s->nsent || s->nleaders < 2 || !layer)
        return;
    for (int i = 0; i < s->nleaders; i++) {
        if (leader_at(s, i) == s->world->rank)
            continue;
        if (layer->send(sw_comm_handle(s->world), NULL, 0, leader_at(s, i), TAG_STOP, &s->sent[s->nsent]))
            sw_comm_broken(s->world, st);
        else
            s->nsent++;
    }
}

void sw_stopper_finish(sw_stopper *s, sw_status *st)
{
    const sw_layer *layer = sw_comm_layer(s->world);
    int told = s->nsent > 0, got, err = 0;
    bool leader = false;

    if (s->nleaders < 2 || !layer)
        return;
    for (int i = 0; i < s->nleaders; i++)
        leader = leader || leader_at(s, i) == s->world->rank;
    if (sw_comm_allgather(s->world, &told, sizeof told, s->told, st) == SW_ECOMM)
        return;
    sw_step_wait();
    for (int r = 0; leader && r < s->world->size && !err; r++)
        if (s->told[r] && r != s->world->rank)
            err = layer->receive(sw_comm_handle(s->world), NULL, 0, r, TAG_STOP, &got);
    for (int i = 0; i < s->nsent && !err; i++)
        err = layer->finish(&s->sent[i], NULL);
    if (sw_comm_waited(err))
        sw_comm_broken(s->world, st);
    s->nsent = 0;
}
