/* Comparing a checkpoint with what the input makes; see compare.h. */
#include "par/compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "par/gather.h"

/* Regions of virtual files begin at multiples of it, and of their unit. */
#define BLOCK (SW_ELEMENTS_UNIT * (UINT64_C(1) << 13))
#define ROWS 16 /* fewer are not worth that the next tensor begins later */

/* Collective. What the ranks have found, joined: the same on each. It is sent as it lies. */
static sw_code gather(const sw_comm *comm, sw_differences *d, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (!st->code)
        sw_buf_add(&mine, d->items, d->n * sizeof *d->items, st);
    if (sw_comm_gather(comm, &mine, &all, st))
        goto out;
    d->n = 0;
    if (!sw_grow(&d->items, &d->cap, all.len / sizeof *d->items + 1, sizeof *d->items, st) && all.len) {
        memcpy(d->items, all.data, all.len);
        d->n = all.len / sizeof *d->items;
        sw_differences_join(d);
    }
    sw_agree(comm, st);
out:
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

sw_code sw_differences_end(sw_stopper *s, bool by_owner, sw_differences *d, sw_status *st)
{
    /* Where all fail at once, one word is enough for each. */
    if (st->code && st->code != SW_ECOMM && !by_owner && !sw_stopper_heard(s))
        sw_stopper_tell(s, st);
    if (st->code != SW_ECOMM)
        sw_stopper_finish(s, st);
    return sw_agree(s->world, st) ? st->code : gather(s->world, d, st);
}

/* ---- virtual files --------------------------------------------------------------------------- */

/* By where the target has them. */
static int by_place(const void *a, const void *b, void *ctx)
{
    const sw_compare *k = ctx;
    const uint32_t *x = a, *y = b;
    sw_placed p, q;

    sw_box_get(k->target, &k->target->tensors[k->partners[*x]], 0, &p);
    sw_box_get(k->target, &k->target->tensors[k->partners[*y]], 0, &q);
    return sw_by_all((const uint64_t[]){ p.box.file, p.box.at, *x },
                     (const uint64_t[]){ q.box.file, q.box.at, *y }, 3);
}

/* The outputs that hold anything to compare, in the order in which the target has them. */
static uint32_t *list_outputs(const sw_compare *k, uint32_t *n, sw_status *st)
{
    uint32_t *list = sw_calloc(k->work.o->view.ntensors, sizeof *list, st);

    *n = 0;
    for (uint32_t i = 0; list && i < k->work.o->view.ntensors; i++)
        if (k->partners[i] != SW_NO_PARTNER && k->work.o->view.tensors[i].bytes)
            list[(*n)++] = i;
    if (*n > 1)
        qsort_r(list, *n, sizeof *list, by_place, (void *)(uintptr_t)k);
    return list;
}

/* The least that both divide. */
static uint64_t common_multiple(uint64_t a, uint64_t b)
{
    uint64_t x = a, y = b;

    while (y) {
        uint64_t rest = x % y;

        x = y;
        y = rest;
    }
    return a / x * b;
}

/* Where cuts may fall: not into an element, and of a tensor with many rows not into a row either.
 * Of one that is cut, each of the files that have a part of it would be asked for that alone. */
static uint64_t unit_of(const sw_compare *k, uint32_t output)
{
    const sw_tensor *t = &k->work.o->view.tensors[output];
    uint64_t bits = sw_dtype_bits((sw_dtype)t->out_dtype), most = sw_min(t->bytes, k->work.memory.band), unit;

    if (t->ndim < 2)
        return SW_ELEMENTS_UNIT;
    bits *= sw_tensor_shape(&k->work.o->view, t)[t->ndim - 1];
    unit = bits % 8 == 0 && bits / 8 < most ? common_multiple(SW_ELEMENTS_UNIT, bits / 8) : UINT64_MAX;
    return unit <= most / ROWS ? unit : SW_ELEMENTS_UNIT;
}

/* Behind the 8 bytes that a layout takes for the length of a header. */
static void add_slot(const sw_compare *k, sw_layout *l, uint32_t output)
{
    sw_layout_file *file = &l->files[l->nfiles - 1];
    uint64_t begin = sw_round_up(file->size, unit_of(k, output)) - 8;
    uint64_t end = begin + k->work.o->view.tensors[output].bytes;

    l->order[l->nslots++] = (sw_slot){ .tensor = output, .begin = begin, .end = end };
    file->count++;
    file->size = 8 + end;
}

/* The virtual files: one for each file of the target that holds anything to compare. */
static sw_code lay_out(const sw_compare *k, sw_layout *l, sw_status *st)
{
    uint32_t n, *list = list_outputs(k, &n, st), last = 0;

    if (list) {
        l->files = sw_calloc(k->target->nfiles, sizeof *l->files, st);
        l->order = sw_calloc(n, sizeof *l->order, st);
    }
    for (uint32_t i = 0; !st->code && i < n; i++) {
        uint32_t file = sw_box_file(k->target, &k->target->tensors[k->partners[list[i]]], 0);

        if (i == 0 || file != last)
            l->files[l->nfiles++] = (sw_layout_file){ .first = i, .size = 8 };
        last = file;
        add_slot(k, l, list[i]);
    }
    free(list);
    return st->code;
}

/* It is no power of two, as the schedule's own choice may be. */
static sw_code make_schedule(const sw_compare *k, const sw_layout *l, sw_schedule *s, sw_status *st)
{
    const sw_schedule_rule rule = {
        .nranks = (uint32_t)k->work.world->size, .band = BLOCK, .block = BLOCK, .shared = k->by_owner
    };
    uint64_t unit = SW_ELEMENTS_UNIT;

    if (sw_schedule_build(l, &rule, s, st))
        return st->code;
    /* What all cuts are multiples of: the units of all slots, as far as several fit a band. */
    for (uint32_t i = 0; i < l->nslots; i++) {
        uint64_t both = common_multiple(unit, unit_of(k, l->order[i].tensor));

        unit = both <= k->work.memory.band / 2 ? both : unit;
    }
    s->block = sw_round_up(s->block, unit);
    s->band = s->unit = sw_round_down(k->work.memory.band, unit);
    return SW_OK;
}

/* ---- one rank's means ------------------------------------------------------------------------ */

typedef struct comparer {
    sw_compare *k;
    sw_layout l;
    sw_schedule sched;
    sw_bands bands;
    sw_source target;
    sw_maker maker; /* from the target */
    sw_stopper stopper;
    char *chunk;
    bool can_match; /* by band, from files */
    bool quick;     /* nothing has differed in the band before */
} comparer;

/* For short rows of the target: half of what is there; whole tensors have none. */
static uint64_t share_scratch(sw_compare *k)
{
    for (uint32_t i = 0; i < k->target->ntensors; i++)
        if (k->target->tensors[i].nboxes > 1)
            return k->work.memory.scratch /= 2;
    return 1;
}

/* Layout, schedule and memory. */
static sw_code prepare(comparer *c, sw_status *st)
{
    sw_compare *k = c->k;
    uint64_t scratch = share_scratch(k);

    if (lay_out(k, &c->l, st) || make_schedule(k, &c->l, &c->sched, st) ||
        sw_stopper_init(&c->stopper, k->work.world, NULL, 0, st))
        return st->code;
    k->work.l = &c->l;
    k->work.sched = &c->sched;
    if (sw_bands_init(&c->bands, &k->work, k->work.world, st))
        return st->code;
    c->chunk = sw_calloc(k->work.memory.chunk, 1, st);
    sw_source_init(&c->target, k->target, k->target_dir, scratch, st);
    c->target.drops = k->work.to.drops;
    c->quick = c->can_match = !k->by_owner && !k->work.held;
    c->maker.pull = sw_pull_of(&c->target);
    return st->code;
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct look {
    comparer *c;
    char *memory;   /* where the target's boxes go */
    uint64_t bytes; /* that are the same, of a band that may be */
    sw_status *st;
} look;

/* One box of the target. */
static bool make_box(void *ctx, const sw_making *g)
{
    const look *v = ctx;

    return sw_make(&v->c->maker, g, v->memory, v->st) == SW_OK;
}

/* The file of a tensor that is all in one; NULL = it is not. It is marked if it is another now. */
static bool *changed_of(const sw_compare *k, const sw_tensor *t)
{
    return t->nboxes == 1 ? &k->changed[sw_box_file(k->target, t, 0)] : NULL;
}

/* A file of the target that is another now is no error: it is marked, and left alone. */
static bool read_target(look *v, const sw_part *part, bool *changed)
{
    sw_saved_boxes_each(v->c->k->target, part, make_box, v);
    if (v->st->code == SW_EINPUT && changed) {
        *changed = true;
        sw_status_clear(v->st);
    }
    return !v->st->code;
}

/* A box that the input makes, against the band. */
static bool match_box(void *ctx, const sw_making *g)
{
    const look *v = ctx;
    sw_maker m = v->c->bands.filler.maker;
    bool differs = false;

    m.pull.differs = &differs;
    return sw_make(&m, g, v->memory, v->st) == SW_OK && !differs;
}

/* A part of the target into the band; does the input make the same? */
static bool match_part(void *ctx, const sw_part *part)
{
    look *v = ctx;
    const sw_compare *k = v->c->k;
    const uint32_t partner = k->partners[part->output];
    const sw_part there = { .output = partner, .from = part->from, .n = part->n, .at = part->at };
    bool *changed = changed_of(k, &k->target->tensors[partner]);

    v->bytes += part->n;
    return k->work.o->how[part->output].op == SW_OP_COPY && read_target(v, &there, changed) &&
           !(changed && *changed) && sw_part_boxes_each(k->work.o, part, match_box, v);
}

/* Is all of a band the same, as nearly always? Then nothing is put together: what is there lies in
 * the band, as it is read, and each row of the input is looked at beside it. */
static bool match_band(comparer *c, const sw_band *b, sw_status *st)
{
    look v = { c, c->bands.band, 0, st };

    sw_bands_advise(&c->bands);
    if (!sw_parts_each(&c->l, b->file, b->at, match_part, &v))
        return false;
    c->k->compared += v.bytes;
    return true;
}

/* Part of a tensor: it is expected in the band, and is in the target. */
static bool compare_part(void *ctx, const sw_part *part)
{
    look *v = ctx;
    comparer *c = v->c;
    sw_compare *k = c->k;
    const uint32_t partner = k->partners[part->output];
    const sw_tensor *t = &k->target->tensors[partner];
    bool *changed = changed_of(k, t);

    for (uint64_t done = 0, n; done < part->n && !(changed && *changed); done += n) {
        uint64_t from = part->from + done;
        sw_copies two;

        n = sw_min(k->work.memory.chunk, part->n - done);
        if (!read_target(v, &(sw_part){ .output = partner, .from = from, .n = n }, changed))
            return false;
        if (changed && *changed)
            break;
        two = (sw_copies){
            part->output, 0, (sw_dtype)t->dtype, from, n, c->chunk, c->bands.band + part->at + done
        };
        if (sw_differences_compare(&k->found, &two, v->st))
            return false;
        k->compared += n;
    }
    return true;
}

/* Put together, and compared by chunks. False when all ranks have to leave. */
static bool compare_band(comparer *c, const sw_band *b, sw_status *st)
{
    look v = { c, c->chunk, 0, st };
    uint64_t before = c->k->found.elements;
    /* what is tolerated is not the same, and mostly everywhere */
    bool exact = c->k->found.allowed.absolute == 0 && c->k->found.allowed.relative == 0;

    if (!sw_bands_fill(&c->bands, st))
        return false;
    if (!st->code)
        sw_parts_each(&c->l, b->file, b->at, compare_part, &v);
    c->quick = c->can_match && exact && c->k->found.elements == before;
    return true;
}

/* By owner all ranks do the same rounds, one that has failed too until all know. By band each goes
 * its own way. */
static void compare_bands(comparer *c, sw_status *st)
{
    sw_band b;

    while (sw_bands_next(&c->bands, &b)) {
        sw_check_cancel(c->k->work.to.cancel, st);
        if (!c->k->by_owner && (st->code || sw_stopper_heard(&c->stopper)))
            return;
        if (!(c->quick && match_band(c, &b, st)) && !compare_band(c, &b, st))
            return;
        if (!st->code)
            sw_progress_tell(&c->bands.progress, c->k->compared);
    }
}

sw_code sw_compare_tensors(sw_compare *k, sw_status *st)
{
    const sw_comm *world = k->work.world;
    comparer c = { .k = k };

    prepare(&c, st);
    if (sw_agree(world, st))
        goto out;
    compare_bands(&c, st);
    /* Are the files those that were looked at in the beginning? */
    if (!st->code && !sw_source_check(&c.bands.source, NULL, st))
        sw_source_check(&c.target, k->changed, st);
    sw_differences_end(&c.stopper, k->by_owner, &k->found, st);
out:
    sw_bands_release(&c.bands);
    sw_source_release(&c.target);
    sw_stopper_release(&c.stopper);
    sw_schedule_release(&c.sched);
    sw_layout_release(&c.l);
    free(c.chunk);
    return st->code;
}
