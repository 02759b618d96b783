/* Comparing a checkpoint with what the input makes; see compare.h. */
#include "par/compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "par/exchange.h"
#include "par/gather.h"
#include "read/fill.h"

/* Regions of virtual files begin at multiples of it. */
#define BLOCK (SW_ELEMENTS_UNIT * (UINT64_C(1) << 13))

/* What was found is sent as it lies. */
sw_code sw_differences_gather(const sw_comm *comm, sw_differences *d, sw_status *st)
{
    uint64_t *starts = sw_calloc((uint64_t)comm->size + 1, sizeof *starts, st);
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (starts)
        sw_buf_add(&mine, d->items, d->n * sizeof *d->items, st);
    if (sw_agree(comm, st) || sw_comm_gather(comm, &mine, &all, starts, st))
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
    free(starts);
    return st->code;
}

/* ---- virtual files --------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b, void *ctx)
{
    const sw_compare *k = ctx;
    const uint32_t *x = a, *y = b;
    const sw_box *p = &k->target->boxes[k->target->tensors[k->partners[*x]].box0];
    const sw_box *q = &k->target->boxes[k->target->tensors[k->partners[*y]].box0];

    if (p->file != q->file)
        return p->file < q->file ? -1 : 1;
    if (p->at != q->at)
        return p->at < q->at ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

/* The outputs that hold anything to compare, in the order in which the target has them. */
static uint32_t *list_outputs(const sw_compare *k, uint32_t *n, sw_status *st)
{
    uint32_t *list = sw_calloc(k->o->view.ntensors, sizeof *list, st);

    *n = 0;
    for (uint32_t i = 0; list && i < k->o->view.ntensors; i++)
        if (k->partners[i] != SW_NO_PARTNER && k->o->view.tensors[i].bytes)
            list[(*n)++] = i;
    if (*n > 1)
        qsort_r(list, *n, sizeof *list, by_place, (void *)(uintptr_t)k);
    return list;
}

/* Behind the 8 bytes that a layout takes for the length of a header, a slot begins where no cut can
 * fall into an element. */
static void add_slot(sw_layout *l, sw_layout_file *file, uint32_t output, uint64_t bytes)
{
    uint64_t begin = sw_round_up(file->size, SW_ELEMENTS_UNIT) - 8;

    l->order[l->nslots++] = (sw_slot){ .tensor = output, .begin = begin, .end = begin + bytes };
    file->count++;
    file->size = 8 + begin + bytes;
}

static uint32_t file_of(const sw_compare *k, uint32_t output)
{
    return k->target->boxes[k->target->tensors[k->partners[output]].box0].file;
}

static sw_code lay_out(const sw_compare *k, sw_layout *l, sw_status *st)
{
    uint32_t n, *list = list_outputs(k, &n, st), last = 0;

    if (list) {
        l->files = sw_calloc(k->target->nfiles, sizeof *l->files, st);
        l->order = sw_calloc(n, sizeof *l->order, st);
    }
    for (uint32_t i = 0; !st->code && i < n; i++) {
        uint32_t file = file_of(k, list[i]);

        if (i == 0 || file != last)
            l->files[l->nfiles++] = (sw_layout_file){ .first = i, .size = 8 };
        last = file;
        add_slot(l, &l->files[l->nfiles - 1], list[i], k->o->view.tensors[list[i]].bytes);
    }
    free(list);
    return st->code;
}

/* Cuts fall on multiples of SW_ELEMENTS_UNIT, which is no power of two as the schedule's own choice
 * may be. */
static sw_code make_schedule(const sw_compare *k, const sw_layout *l, sw_schedule *s, sw_status *st)
{
    if (sw_schedule_build(l, (uint32_t)k->world->size, BLOCK, BLOCK, k->by_owner, s, st))
        return st->code;
    s->band = s->unit = k->band;
    return SW_OK;
}

/* ---- one rank's means ------------------------------------------------------------------------ */

typedef struct comparer {
    sw_compare *k;
    sw_layout l;
    sw_schedule sched;
    sw_source source, target;
    sw_filler filler;
    sw_exchange *exchange; /* NULL = by band */
    sw_stopper stopper;
    char *band, *chunk;
    uint64_t todo, total; /* bytes that this rank, and that all ranks have to compare */
} comparer;

static void count_work(comparer *c)
{
    for (uint32_t f = 0; f < c->l.nfiles; f++) {
        sw_region r = sw_schedule_region(&c->sched, &c->l, f, (uint32_t)c->k->world->rank);

        c->todo += r.end - r.begin;
        c->total += c->l.files[f].size;
    }
}

static sw_code prepare(comparer *c, sw_status *st)
{
    sw_compare *k = c->k;
    const sw_memory *m = &k->memory;

    if (lay_out(k, &c->l, st) || make_schedule(k, &c->l, &c->sched, st) ||
        sw_stopper_init(&c->stopper, k->world, NULL, 0, st))
        return st->code;
    /* The exchange wants its input behind the band. */
    c->band = sw_calloc(k->band + m->input, 1, st);
    c->chunk = sw_calloc(k->chunk, 1, st);
    if (st->code || sw_source_init(&c->source, k->o->c, k->input_dir, m->scratch, st) ||
        sw_source_init(&c->target, k->target, k->target_dir, 1, st))
        return st->code;
    c->filler = (sw_filler){ .pull = sw_pull_of(&c->source), .o = k->o, .l = &c->l, .room = m->input };
    if (m->input)
        c->filler.input = c->band + k->band;
    if (k->by_owner)
        c->exchange = sw_exchange_new(k->world, &c->filler, &c->sched, m->send, st);
    count_work(c);
    return st->code;
}

static void release(comparer *c)
{
    sw_exchange_free(c->exchange);
    sw_source_release(&c->source);
    sw_source_release(&c->target);
    sw_stopper_release(&c->stopper);
    sw_schedule_release(&c->sched);
    sw_layout_release(&c->l);
    free(c->chunk);
    free(c->band);
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct look {
    comparer *c;
    sw_status *st;
} look;

/* A file of the target that is another now is no error: it is marked, and left alone. */
static bool read_target(comparer *c, uint32_t file, uint64_t at, uint64_t n, sw_status *st)
{
    sw_pull pull = sw_pull_of(&c->target);

    if (sw_pull_bytes(&pull, file, at, n, c->chunk, st) == SW_EINPUT) {
        c->k->changed[file] = true;
        sw_status_clear(st);
    }
    return !st->code;
}

/* Part of a tensor: it is expected in the band, and is in the target. */
static bool compare_part(void *ctx, const sw_part *part)
{
    const look *v = ctx;
    comparer *c = v->c;
    sw_compare *k = c->k;
    const sw_tensor *t = &k->target->tensors[k->partners[part->output]];
    const sw_box *box = &k->target->boxes[t->box0];

    for (uint64_t done = 0, n; done < part->n && !k->changed[box->file]; done += n) {
        uint64_t from = part->from + done;

        n = sw_min(k->chunk, part->n - done);
        if (!read_target(c, box->file, box->at + from, n, v->st))
            return false;
        if (k->changed[box->file])
            break;
        if (sw_differences_compare(&k->found, part->output, 0, (sw_dtype)t->dtype, from, c->chunk,
                                   c->band + part->at + done, n, v->st))
            return false;
        k->compared += n;
    }
    return true;
}

static void tell_progress(const comparer *c)
{
    const sw_compare *k = c->k;

    if (k->progress && k->world->rank == 0 && c->todo)
        k->progress(k->user,
                    (uint64_t)((double)c->total * ((double)sw_min(k->compared, c->todo) / (double)c->todo)),
                    c->total);
}

static void compare_band(comparer *c, uint32_t f, sw_region band, sw_status *st)
{
    look v = { c, st };

    sw_parts_each(&c->l, f, band.begin, band.end, compare_part, &v);
    tell_progress(c);
}

/* Local, by band: what this rank has of one file. */
static void compare_region(comparer *c, uint32_t f, sw_status *st)
{
    sw_region mine = sw_schedule_region(&c->sched, &c->l, f, (uint32_t)c->k->world->rank);

    for (uint64_t r = 0; !st->code; r++) {
        sw_region band = sw_schedule_band(&c->sched, mine, r),
                  next = sw_schedule_band(&c->sched, mine, r + 1);

        if (band.begin == band.end || sw_stopper_heard(&c->stopper) || sw_check_cancel(c->k->cancel, st))
            return;
        sw_fill_advise(&c->filler, f, next.begin, next.end);
        if (!sw_fill_band(&c->filler, f, band.begin, band.end, c->band, st))
            compare_band(c, f, band, st);
    }
}

/* Collective: all ranks do the same rounds, one that has failed too until all know. */
static void compare_together(comparer *c, uint32_t f, sw_status *st)
{
    sw_region mine = sw_schedule_region(&c->sched, &c->l, f, (uint32_t)c->k->world->rank);
    uint64_t rounds = sw_schedule_rounds(&c->sched, &c->l, f);

    for (uint64_t r = 0; r < rounds; r++) {
        sw_check_cancel(c->k->cancel, st);
        if (sw_exchange_fill(c->exchange, f, r, c->band, st))
            return;
        compare_band(c, f, sw_schedule_band(&c->sched, mine, r), st);
    }
}

/* Local. Are the files those that were looked at in the beginning? */
static void check_files(const comparer *c, sw_status *st)
{
    if (!st->code && !sw_source_check(&c->source, st))
        sw_source_check_each(&c->target, c->k->changed, st);
}

sw_code sw_compare_tensors(sw_compare *k, sw_status *st)
{
    comparer c = { .k = k };

    prepare(&c, st);
    if (sw_agree(k->world, st))
        goto out;
    for (uint32_t f = 0; f < c.l.nfiles; f++) {
        if (c.exchange) {
            compare_together(&c, f, st);
            if (sw_agree(k->world, st))
                goto out;
        } else if (!st->code) {
            compare_region(&c, f, st);
        }
    }
    check_files(&c, st);
    /* Where all fail at once, one word is enough for each. */
    if (st->code && st->code != SW_ECOMM && !c.exchange && !sw_stopper_heard(&c.stopper))
        sw_stopper_tell(&c.stopper, st);
    if (st->code != SW_ECOMM)
        sw_stopper_finish(&c.stopper, st);
    if (!sw_agree(k->world, st))
        sw_differences_gather(k->world, &k->found, st);
out:
    release(&c);
    return st->code;
}
