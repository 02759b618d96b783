/* Writing all output files; see weld.h. */
#include "par/weld.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/sort.h"
#include "dir/place.h"
#include "par/scatter.h"

/* The status of a group that ends because another has failed: told within the group, never
 * shown. */
static const char stopped_text[] = "another group has failed";

/* One rank's means while it writes. */
typedef struct welder {
    sw_weld *w;
    sw_comm group;
    sw_bands bands;
    sw_stopper stopper;
    int *leaders;
    /* each rank opens its files by itself: they have no MPI between them, or the files are
     * streamed */
    bool apart;
} welder;

/* ---- groups ---------------------------------------------------------------------------------- */

/* Each rank is in one group: all ranks, the ranks of one file, or itself with several files.
 * Numbered by first rank. */
static int group_color(const sw_work *w)
{
    for (uint32_t f = 0; f < w->l->nfiles; f++)
        if (sw_schedule_has(w->sched, f, (uint32_t)w->world->rank))
            return (int)w->sched->groups[f].rank0;
    return w->world->rank;
}

/* For qsort. */
static int by_int(const void *a, const void *b)
{
    const int *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* First ranks of all groups, each once. */
static sw_code find_leaders(welder *k, sw_status *st)
{
    const sw_work *w = &k->w->work;
    uint32_t nfiles = w->l->nfiles;
    int n = 0;

    k->leaders = sw_calloc(nfiles, sizeof *k->leaders, st);
    if (!k->leaders)
        return st->code;
    for (uint32_t f = 0; f < nfiles; f++)
        k->leaders[f] = (int)w->sched->groups[f].rank0;
    sw_sort(k->leaders, nfiles, sizeof *k->leaders, by_int);
    for (uint32_t f = 0; f < nfiles; f++)
        if (f == 0 || k->leaders[f] != k->leaders[n - 1])
            k->leaders[n++] = k->leaders[f];
    return sw_stopper_init(&k->stopper, w->world, k->leaders, n, st);
}

/* ---- bands ----------------------------------------------------------------------------------- */

/* By the schedule. */
static bool next_band(void *ctx, sw_band *band)
{
    welder *k = ctx;

    return sw_bands_next(&k->bands, band);
}

/* Fill it, unless another group has failed. */
static const char *fill_band(void *ctx, const sw_band *band, sw_status *st)
{
    welder *k = ctx;

    if (!k->apart && k->group.rank == 0 && !st->code && sw_stopper_heard(&k->stopper))
        sw_fail(st, SW_ECANCEL, NULL, NULL, "%s", stopped_text);
    if (!sw_bands_fill(&k->bands, st))
        return NULL;
    if (k->w->proof && band->name)
        sw_proof_band(k->w->proof, band->file, band->at, k->bands.band, st);
    SW_FAULT_FLIP("band", k->bands.band, band->at.end - band->at.begin);
    return k->bands.band;
}

/* Collective. Ranks that open files by themselves find them made, each by the first rank of its
 * group. */
static sw_code create_files(const welder *k, sw_status *st)
{
    const sw_work *w = &k->w->work;
    sw_below staged = SW_BELOW_INIT;

    sw_staged_open(w->to.dir, &staged, st);
    for (uint32_t f = 0; f < w->l->nfiles && !st->code; f++) {
        const sw_out out = { .show = w->l->files[f].name,
                             .size = w->l->files[f].size,
                             .stripes = w->to.stripes };

        if (w->sched->groups[f].rank0 == (uint32_t)w->world->rank)
            sw_out_create_alone(&out, &staged, st);
    }
    sw_below_close(&staged);
    return sw_agree(w->world, st);
}

/* ---- all files ------------------------------------------------------------------------------- */

/* Collective. The rounds, and what they come to. */
static void write_all(welder *k, sw_status *st)
{
    sw_weld *w = k->w;
    sw_rounds r = { .comm = k->apart ? w->work.world : &k->group,
                    .apart = k->apart,
                    .behind = w->work.behind,
                    .joint = w->work.to.stream && w->work.sched->shared,
                    .to = w->work.to,
                    .how = &w->how,
                    .ctx = k,
                    .next = next_band,
                    .fill = fill_band };

    r.to.progress = k->bands.progress;
    sw_rounds_write(&r, st);
    w->written = r.written;
    if (!st->code)
        sw_source_check(&k->bands.source, NULL, st);
    if (k->apart) {
        sw_agree(w->work.world, st);
    } else if (st->code != SW_ECOMM) {
        /* What a group has come to is told to the others, which may be in the middle of their
         * files. */
        if (st->code == SW_ECANCEL && strcmp(st->reason, stopped_text) == 0)
            sw_status_clear(st);
        else if (st->code && k->group.rank == 0)
            sw_stopper_tell(&k->stopper, st);
        sw_stopper_finish(&k->stopper, st);
        sw_agree(w->work.world, st);
    }
}

sw_code sw_weld_files(sw_weld *w, sw_status *st)
{
    const sw_comm *world = w->work.world;
    bool without_mpi = world->size > 1 && !sw_comm_layer(world);
    welder k = { .w = w, .apart = without_mpi || w->work.to.stream };

    if (w->work.held && without_mpi) {
        /* rows go to their places in any order: what they come to is read back */
        if (!sw_scatter_files(w, st) && w->proof)
            sw_proof_read(w->proof, (uint32_t)world->rank, false, w->work.to.dir, w->work.to.cancel, st);
        return sw_agree(world, st);
    }
    if (!k.apart && !sw_comm_split(world, group_color(&w->work), &k.group, st))
        find_leaders(&k, st);
    if (!st->code)
        sw_bands_init(&k.bands, &w->work, k.apart ? world : &k.group, st);
    if (!sw_agree(world, st) && (!k.apart || w->work.to.stream || !create_files(&k, st)))
        write_all(&k, st);
    sw_bands_release(&k.bands);
    free(k.leaders);
    sw_stopper_release(&k.stopper);
    sw_comm_mpi_release(&k.group);
    return st->code;
}
