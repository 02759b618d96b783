/* Writing all output files; see weld.h. */
#include "par/weld.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"
#include "dir/publish.h"
#include "par/exchange.h"
#include "par/gather.h"
#include "par/io.h"
#include "par/scatter.h"
#include "read/fill.h"
#include "shardweld_mpi.h"

#define BAND_ALIGN 4096

/* The status of a group that ends because another has failed: told within the group, never
 * shown. */
static const char stopped_text[] = "another group has failed";

/* One rank's means while it writes. */
typedef struct welder {
    sw_weld *w;
    sw_below staged;
    sw_comm group;
    sw_source source;
    sw_filler filler;
    sw_exchange *exchange; /* NULL = by band */
    sw_stopper stopper;
    int *leaders;
    char *band;     /* the filler's input stands behind it */
    uint64_t todo;  /* bytes that this rank has to write in all files */
    uint64_t total; /* bytes of all files */
} welder;

/* ---- groups ---------------------------------------------------------------------------------- */

static bool is_mine(const sw_weld *w, uint32_t f)
{
    const sw_group *g = &w->sched->groups[f];
    uint32_t rank = (uint32_t)w->world->rank;

    return rank >= g->rank0 && rank - g->rank0 < g->nranks;
}

/* Each rank is in one group: all ranks, the ranks of one file, or itself with several files.
 * Numbered by first rank. */
static int group_color(const sw_weld *w)
{
    for (uint32_t f = 0; f < w->l->nfiles; f++)
        if (is_mine(w, f))
            return (int)w->sched->groups[f].rank0;
    return w->world->rank;
}

static int by_int(const void *a, const void *b)
{
    const int *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* First ranks of all groups, each once. */
static sw_code find_leaders(welder *k, sw_status *st)
{
    uint32_t nfiles = k->w->l->nfiles;
    int n = 0;

    k->leaders = sw_calloc(nfiles, sizeof *k->leaders, st);
    if (!k->leaders)
        return st->code;
    for (uint32_t f = 0; f < nfiles; f++)
        k->leaders[f] = (int)k->w->sched->groups[f].rank0;
    if (nfiles > 1)
        qsort(k->leaders, nfiles, sizeof *k->leaders, by_int);
    for (uint32_t f = 0; f < nfiles; f++)
        if (f == 0 || k->leaders[f] != k->leaders[n - 1])
            k->leaders[n++] = k->leaders[f];
    return sw_stopper_init(&k->stopper, k->w->world, k->leaders, n, st);
}

/* ---- one file -------------------------------------------------------------------------------- */

static void tell_progress(const welder *k)
{
    const sw_weld *w = k->w;
    if (w->progress && w->world->rank == 0 && k->todo)
        w->progress(w->user, (uint64_t)((double)k->total * ((double)w->written / (double)k->todo)), k->total);
}

/* Look for reasons to stop that are not this rank's own. */
static void look_around(welder *k, sw_status *st)
{
    sw_check_cancel(k->w->cancel, st);
    if (k->group.rank == 0 && !st->code && sw_stopper_heard(&k->stopper))
        sw_fail(st, SW_ECANCEL, NULL, NULL, "%s", stopped_text);
}

/* Put this rank's band together. By owner it is a collective; false when all ranks have to
 * leave. */
static bool fill(welder *k, uint32_t f, uint64_t r, sw_region mine, sw_status *st)
{
    sw_weld *w = k->w;
    sw_region band = sw_schedule_band(w->sched, mine, r), next = sw_schedule_band(w->sched, mine, r + 1);

    if (!st->code)
        sw_fill_header(&k->filler, f, band.begin, band.end, k->band, st);
    if (k->exchange)
        return sw_exchange_fill(k->exchange, f, r, k->band, st) == SW_OK;
    if (!st->code) {
        sw_fill_advise(&k->filler, f, next.begin, next.end);
        sw_fill_band(&k->filler, f, band.begin, band.end, k->band, st);
    }
    return true;
}

/* All ranks of the group do the same rounds and leave together; one that has failed comes along
 * with nothing to write until all know. */
static sw_code write_rounds(welder *k, sw_out *out, uint32_t f, sw_status *st)
{
    sw_weld *w = k->w;
    const sw_schedule *s = w->sched;
    sw_region mine = sw_schedule_region(s, w->l, f, (uint32_t)w->world->rank);
    uint64_t rounds = sw_schedule_rounds(s, w->l, f);
    sw_watch watch;

    sw_watch_init(&watch, &k->group);
    for (uint64_t r = 0; r < rounds; r++) {
        sw_region band = sw_schedule_band(s, mine, r);

        look_around(k, st);
        if (!fill(k, f, r, mine, st) || sw_watch_end(&watch, false, st))
            break;
        SW_FAULT_FLIP("band", k->band, band.end - band.begin);
        sw_out_write_all(out, band, k->band, st);
        sw_watch_begin(&watch, st);
        if (!st->code)
            w->written += band.end - band.begin;
        tell_progress(k);
    }
    sw_watch_end(&watch, true, st);
    return sw_agree(&k->group, st);
}

static sw_code write_file(welder *k, uint32_t f, sw_status *st)
{
    const sw_layout_file *file = &k->w->l->files[f];
    sw_out out;

    if (sw_out_open(&out, &k->group, &k->staged, file->name, file->size, k->w->sync, &k->w->how, st))
        return st->code;
    write_rounds(k, &out, f, st);
    if (!st->code && k->w->sync)
        sw_out_sync(&out, st);
    sw_out_close(&out, st);
    return sw_agree(&k->group, st);
}

/* ---- ranks without MPI between them ---------------------------------------------------------- */

/* So often they agree on how it goes: it takes messages that may be slow. */
#define AGREE_EVERY 64

/* One rank's way through its bands of all files. */
typedef struct walk {
    uint32_t file; /* the next one, while none is open */
    uint64_t round, rounds;
    sw_region mine;
    sw_out out;
    bool open;
} walk;

/* Make the files; each is made by the first rank of its group. */
static sw_code create_files(welder *k, sw_status *st)
{
    const sw_weld *w = k->w;

    for (uint32_t f = 0; f < w->l->nfiles && !st->code; f++)
        if (w->sched->groups[f].rank0 == (uint32_t)w->world->rank)
            sw_out_create_alone(&k->staged, w->l->files[f].name, w->l->files[f].size, st);
    return sw_agree(w->world, st);
}

/* Open the next file that this rank writes to; nothing is open when there is none. */
static sw_code open_next(welder *k, walk *p, sw_status *st)
{
    const sw_weld *w = k->w;
    const sw_layout_file *file;

    while (p->file < w->l->nfiles && !is_mine(w, p->file))
        p->file++;
    if (p->file == w->l->nfiles)
        return SW_OK;
    file = &w->l->files[p->file];
    p->mine = sw_schedule_region(w->sched, w->l, p->file, (uint32_t)w->world->rank);
    p->round = 0;
    p->rounds = sw_schedule_rounds(w->sched, w->l, p->file);
    p->open = !sw_out_open_alone(&p->out, &k->staged, file->name, file->size, w->sync, st);
    return st->code;
}

static sw_code close_file(welder *k, walk *p, sw_status *st)
{
    if (!p->open)
        return st->code;
    if (!st->code && k->w->sync)
        sw_out_sync(&p->out, st);
    p->open = false;
    p->file++;
    return sw_out_close(&p->out, st);
}

/* The next band, if any is left. */
static sw_code write_next(welder *k, walk *p, sw_status *st)
{
    sw_region band;

    if (sw_check_cancel(k->w->cancel, st) || (!p->open && open_next(k, p, st)) || !p->open)
        return st->code;
    band = sw_schedule_band(k->w->sched, p->mine, p->round);
    fill(k, p->file, p->round, p->mine, st);
    if (!sw_out_write_all(&p->out, band, k->band, st))
        k->w->written += band.end - band.begin;
    tell_progress(k);
    return ++p->round >= p->rounds ? close_file(k, p, st) : st->code;
}

/* How many bands this rank has to write. */
static uint64_t count_bands(const welder *k)
{
    const sw_weld *w = k->w;
    uint64_t n = 0;

    for (uint32_t f = 0; f < w->l->nfiles; f++)
        if (is_mine(w, f))
            n += sw_max(sw_schedule_rounds(w->sched, w->l, f), 1);
    return n;
}

/* Each goes its own way; now and then they agree, so that one that fails stops all. */
static sw_code write_apart(welder *k, sw_status *st)
{
    walk p = { .file = 0 };
    uint64_t most;

    if (sw_comm_most(k->w->world, count_bands(k), &most, st) || create_files(k, st))
        return st->code;
    for (uint64_t i = 0; i < most; i++) {
        if (!st->code)
            write_next(k, &p, st);
        if (i % AGREE_EVERY == AGREE_EVERY - 1 && sw_agree(k->w->world, st))
            break;
    }
    close_file(k, &p, st);
    if (!st->code)
        sw_source_check(&k->source, st);
    return sw_agree(k->w->world, st);
}

/* ---- all files ------------------------------------------------------------------------------- */

/* The band, and the input of conversions behind it. */
static sw_code take_memory(welder *k, sw_status *st)
{
    const sw_weld *w = k->w;
    uint64_t size = w->sched->band + w->memory.input;

    /* A small one is not rounded up: memory was given to the byte. */
    k->band = size % BAND_ALIGN == 0 ? aligned_alloc(BAND_ALIGN, (size_t)size) : malloc((size_t)size);
    if (!k->band)
        return sw_fail_nomem(st, size);
    k->filler = (sw_filler){ .o = w->o, .l = w->l, .room = w->memory.input };
    if (w->memory.input)
        k->filler.input = k->band + w->sched->band;
    return SW_OK;
}

static sw_code prepare(welder *k, sw_status *st)
{
    sw_weld *w = k->w;

    if (sw_staged_open(w->staged_dir, &k->staged, st) || find_leaders(k, st) || take_memory(k, st))
        return st->code;
    if (w->held ? sw_source_init_memory(&k->source, w->o->c, w->held, w->memory.scratch, st)
                : sw_source_init(&k->source, w->o->c, w->input_dir, w->memory.scratch, st))
        return st->code;
    k->filler.pull = sw_pull_of(&k->source);
    if (w->sched->shared)
        k->exchange = sw_exchange_new(&k->group, &k->filler, w->sched, w->memory.send, st);
    for (uint32_t f = 0; f < w->l->nfiles; f++) {
        sw_region r = sw_schedule_region(w->sched, w->l, f, (uint32_t)w->world->rank);

        k->todo += r.end - r.begin;
        k->total += w->l->files[f].size;
    }
    return st->code;
}

/* What a group has come to is told to the others, which may be in the middle of their files. */
static void tell_others(welder *k, sw_status *st)
{
    if (st->code == SW_ECANCEL && strcmp(st->reason, stopped_text) == 0)
        sw_status_clear(st);
    else if (st->code && k->group.rank == 0)
        sw_stopper_tell(&k->stopper, st);
}

sw_code sw_weld_files(sw_weld *w, sw_status *st)
{
    welder k = { .w = w, .staged = SW_BELOW_INIT };
    MPI_Comm mpi;

    if (w->held && w->world->size > 1 && !sw_comm_mpi(w->world, &mpi))
        return sw_scatter_files(w, st);
    if (sw_comm_split(w->world, group_color(w), &k.group, st)) {
        sw_agree(w->world, st);
        return st->code;
    }
    prepare(&k, st);
    if (sw_agree(w->world, st))
        goto out;
    if (w->world->size > 1 && !sw_comm_mpi(w->world, &mpi)) {
        write_apart(&k, st);
        goto out;
    }
    for (uint32_t f = 0; f < w->l->nfiles && !st->code; f++)
        if (is_mine(w, f))
            write_file(&k, f, st);
    if (!st->code)
        sw_source_check(&k.source, st);
    if (st->code != SW_ECOMM) {
        tell_others(&k, st);
        sw_stopper_finish(&k.stopper, st);
        sw_agree(w->world, st);
    }
out:
    sw_exchange_free(k.exchange);
    sw_source_release(&k.source);
    sw_buf_release(&k.filler.header);
    free(k.band);
    free(k.leaders);
    sw_stopper_release(&k.stopper);
    sw_below_close(&k.staged);
    sw_comm_mpi_release(&k.group);
    return st->code;
}
