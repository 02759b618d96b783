/* Tensors shown whole to a proof; see whole.h. */
#include "par/whole.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"

#define BAND (UINT64_C(512) << 10) /* what is hashed is in the cache yet */
#define ALIGN UINT64_C(64)         /* bands cut no element */

/* One rank's means. */
typedef struct prover {
    sw_whole *w;
    sw_layout l;
    sw_schedule sched;
    sw_bands bands;
    sw_proof proof;
} prover;

/* ---- the virtual file ------------------------------------------------------------------------ */

/* By where the source has them. */
static int by_place(const void *a, const void *b, void *ctx)
{
    const sw_outputs *o = ctx;
    const sw_slot *x = a, *y = b;
    sw_placed p, q;

    sw_box_get(o->c, &o->c->tensors[o->how[x->tensor].source], 0, &p);
    sw_box_get(o->c, &o->c->tensors[o->how[y->tensor].source], 0, &q);
    return sw_by_all((const uint64_t[]){ p.box.file, p.box.at, x->tensor },
                     (const uint64_t[]){ q.box.file, q.box.at, y->tensor }, 3);
}

/* The next tensor of so many bytes, behind *end of the file: in the leaf that lies there, or from
 * the next one on. */
static sw_code place(uint64_t bytes, uint64_t *end, sw_slot *slot, sw_status *st)
{
    uint64_t at = sw_round_up(*end, ALIGN);

    if (bytes > SW_LEAF - at % SW_LEAF)
        at = sw_round_up(at, SW_LEAF);
    if (!sw_add(at, bytes, end) || *end > UINT64_MAX - 2 * SW_LEAF)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "the sizes of the tensors overflow");
    /* a layout counts from behind the 8 bytes of a header's length */
    slot->begin = at - 8;
    slot->end = *end - 8;
    return SW_OK;
}

/* Of outputs that hold anything. */
static sw_code lay_out(prover *p, sw_status *st)
{
    const sw_outputs *o = p->w->work.o;
    sw_layout *l = &p->l;
    uint64_t end = 8;

    l->order = sw_calloc(o->view.ntensors, sizeof *l->order, st);
    l->files = sw_calloc(1, sizeof *l->files, st);
    for (uint32_t i = 0; !st->code && i < o->view.ntensors; i++)
        if (o->view.tensors[i].bytes)
            l->order[l->nslots++].tensor = i;
    if (!st->code && l->nslots > 1)
        qsort_r(l->order, l->nslots, sizeof *l->order, by_place, (void *)(uintptr_t)o);
    for (uint32_t i = 0; !st->code && i < l->nslots; i++)
        place(o->view.tensors[l->order[i].tensor].bytes, &end, &l->order[i], st);
    if (st->code)
        return st->code;
    l->nfiles = 1;
    l->files[0] = (sw_layout_file){ .count = l->nslots, .size = end };
    return SW_OK;
}

/* Regions begin at leaves, bands anywhere but in an element. */
static sw_code make_schedule(prover *p, sw_status *st)
{
    const sw_whole *w = p->w;
    const sw_schedule_rule rule = {
        .nranks = (uint32_t)w->work.world->size, .band = SW_LEAF, .block = SW_LEAF, .shared = w->by_owner
    };

    if (sw_schedule_build(&p->l, &rule, &p->sched, st))
        return st->code;
    p->sched.band = p->sched.unit = sw_round_down(sw_min(w->work.memory.band, BAND), ALIGN);
    return SW_OK;
}

/* Before anything is read: who proves what, and the room for it. */
static sw_code prepare(prover *p, sw_status *st)
{
    sw_whole *w = p->w;

    if (st->code || lay_out(p, st) || make_schedule(p, st))
        return st->code;
    w->work.l = &p->l;
    w->work.sched = &p->sched;
    p->proof = (sw_proof){
        .view = w->counts ? &w->work.o->view : NULL, .l = &p->l, .sched = &p->sched, .hashes = w->hashes
    };
    return sw_bands_init(&p->bands, &w->work, w->work.world, st) ? st->code : sw_proof_begin(&p->proof, st);
}

/* ---- showing --------------------------------------------------------------------------------- */

/* By owner all ranks do the same rounds, one that has failed too until all know. By band each goes
 * its own way. */
static void show_bands(prover *p, sw_status *st)
{
    sw_whole *w = p->w;
    sw_band b;

    while (sw_bands_next(&p->bands, &b)) {
        sw_check_cancel(w->work.to.cancel, st);
        if ((!w->by_owner && st->code) || !sw_bands_fill(&p->bands, st))
            return;
        if (st->code || b.at.begin == b.at.end)
            continue;
        sw_proof_band(&p->proof, b.file, b.at, p->bands.band, st);
        w->bytes += b.at.end - b.at.begin;
        sw_progress_tell(&p->bands.progress, w->bytes);
    }
}

/* Rank 0. Slots are in the order of the virtual file. */
static sw_code sort_out(const prover *p, sw_status *st)
{
    sw_whole *w = p->w;
    uint32_t n = w->work.o->view.ntensors;

    w->tensors = sw_calloc(n, sizeof *w->tensors, st);
    for (uint32_t i = 0; w->tensors && i < n; i++)
        sw_proof_slot_init(&w->tensors[i], w->hashes);
    for (uint32_t i = 0; w->tensors && i < p->l.nslots; i++)
        w->tensors[p->l.order[i].tensor] = p->proof.slots[i];
    return st->code;
}

sw_code sw_whole_prove(sw_whole *w, sw_status *st)
{
    const sw_comm *world = w->work.world;
    prover p = { .w = w };

    w->tensors = NULL;
    w->bytes = 0;
    prepare(&p, st);
    if (sw_agree(world, st))
        goto out;
    show_bands(&p, st);
    if (!st->code)
        sw_source_check(&p.bands.source, NULL, st);
    if (!sw_proof_end(&p.proof, world, NULL, w->work.to.cancel, st) && world->rank == 0)
        sort_out(&p, st);
    sw_agree(world, st);
out:
    sw_proof_release(&p.proof);
    sw_bands_release(&p.bands);
    sw_schedule_release(&p.sched);
    sw_layout_release(&p.l);
    return st->code;
}
