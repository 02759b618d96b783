/* Own boxes straight to their places; see scatter.h. */
#include "par/scatter.h"

#include <stdlib.h>

#include "base/num.h"
#include "base/path.h"
#include "par/gather.h"
#include "par/io.h"
#include "plan/runs.h"
#include "value/cast.h"

/* A rank writes so much before the ranks agree again on how it goes: it takes messages that may be
 * slow. */
#define TURN (UINT64_C(64) << 20)

/* ---- places ---------------------------------------------------------------------------------- */

static const sw_tensor *source_of(const sw_outputs *o, const sw_layout *l, uint32_t slot)
{
    return &o->c->tensors[o->how[l->order[slot].tensor].source];
}

sw_code sw_places_find(const sw_outputs *o, const sw_layout *l, const sw_memboxes *held, uint32_t first,
                       uint32_t n, sw_buf *places, sw_status *st)
{
    for (uint32_t f = 0; f < l->nfiles; f++) {
        const sw_layout_file *file = &l->files[f];

        for (uint32_t i = file->first; i < file->first + file->count; i++) {
            const sw_tensor *t = source_of(o, l, i);

            for (uint64_t k = 0; k < t->nboxes; k++) {
                const sw_box *b = &o->c->boxes[t->box0 + k];
                uint32_t r = b->file - first;
                sw_place p = { .at = 8 + file->header_len + l->order[i].begin,
                               .file = f,
                               .dtype = o->view.tensors[l->order[i].tensor].out_dtype };

                if (b->file < first || r >= n)
                    continue;
                p.box = (uint32_t)(sw_memboxes_find(&held[r], b->at) - held[r].boxes);
                if (sw_buf_add(&places[r], &p, sizeof p, st))
                    return st->code;
            }
        }
    }
    return SW_OK;
}

/* A box as it lies in its output. */
typedef struct box_rows {
    const sw_membox *held;
    sw_run run; /* rows, from the packed box as it is written to the data of the tensor */
    unsigned from_bits, to_bits;
    bool cast;
} box_rows;

static void find_rows(const sw_memboxes *held, const sw_place *p, box_rows *b)
{
    const sw_membox *box = &held->boxes[p->box];
    const sw_item *it = box->item;

    b->held = box;
    b->from_bits = sw_dtype_bits(box->dtype);
    b->to_bits = sw_dtype_bits((sw_dtype)p->dtype);
    b->cast = (sw_dtype)p->dtype != box->dtype;
    sw_run_place(it->ndim, it->global_shape, it->offsets, it->shape, b->to_bits, &b->run);
}

/* ---- files ----------------------------------------------------------------------------------- */

static sw_code create_file(const sw_outputs *o, const sw_layout *l, uint32_t f, const sw_below *dir,
                           char *buffer, uint64_t size, bool sync, sw_status *st)
{
    const sw_layout_file *file = &l->files[f];
    uint64_t end = 8 + file->header_len, n;
    sw_out out;

    if (sw_out_create_alone(dir, file->name, file->size, st) ||
        sw_out_open_alone(&out, dir, file->name, file->size, sync, st))
        return st->code;
    for (uint64_t at = 0; at < end && !st->code; at += n) {
        n = sw_min(end - at, size);
        if (!sw_layout_header(&o->view, l, f, at, n, buffer, st))
            sw_out_write_all(&out, (sw_region){ at, at + n }, buffer, st);
    }
    if (sync && !st->code)
        sw_out_sync(&out, st);
    return sw_out_close(&out, st);
}

sw_code sw_scatter_create(const sw_outputs *o, const sw_layout *l, const char *dir, uint64_t size, bool sync,
                          sw_status *st)
{
    char *buffer = sw_calloc(size, 1, st);
    sw_below staged = SW_BELOW_INIT;

    if (buffer)
        sw_staged_open(dir, &staged, st);
    for (uint32_t f = 0; f < l->nfiles && !st->code; f++)
        create_file(o, l, f, &staged, buffer, size, sync, st);
    sw_below_close(&staged);
    free(buffer);
    return st->code;
}

/* One rank's way through all of its rows. */
typedef struct walk {
    sw_scatter *s;
    sw_below staged; /* open once something is written */
    char *staging, *input;
    size_t place;
    uint64_t row, done; /* row of the box; bytes of the row as they are written */
    uint32_t file;      /* the one that is open */
    sw_out out;
    bool open;
} walk;

static sw_code close_file(walk *k, sw_status *st)
{
    if (!k->open)
        return st->code;
    k->open = false;
    if (!st->code && k->s->sync)
        sw_out_sync(&k->out, st);
    return sw_out_close(&k->out, st);
}

static sw_code open_file(walk *k, uint32_t f, sw_status *st)
{
    const sw_publication *file = &k->s->files[f];

    if ((k->open && k->file == f) || close_file(k, st) ||
        (k->staged.fd < 0 && sw_staged_open(k->s->dir, &k->staged, st)))
        return st->code;
    k->file = f;
    k->open = !sw_out_open_alone(&k->out, &k->staged, file->name, file->size, k->s->sync, st);
    return st->code;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The bytes [from, from + n) of a row, as they are written; n is what there is room for. */
static const char *fill(const walk *k, const box_rows *b, uint64_t from, uint64_t n)
{
    uint64_t at = k->row * b->run.row + from, elements = n * 8 / b->to_bits;
    uint64_t begin = b->cast ? at / (b->to_bits / 8) * (b->from_bits / 8) : at;
    const char *direct = sw_membox_direct(b->held, begin);

    if (!b->cast && direct)
        return direct;
    if (!b->cast) {
        sw_membox_copy(b->held, begin, n, k->staging);
        return k->staging;
    }
    if (!direct) {
        sw_membox_copy(b->held, begin, elements * b->from_bits / 8, k->input);
        direct = k->input;
    }
    sw_cast(b->held->dtype, (sw_dtype)k->s->places[k->place].dtype, direct, k->staging, elements);
    return k->staging;
}

/* The next part of the row; of casts whole elements. */
static sw_code write_part(walk *k, const box_rows *b, uint64_t room, sw_status *st)
{
    sw_scatter *s = k->s;
    uint64_t size = b->run.row, n = sw_min(sw_min(size - k->done, s->buffer), room), at, ignored;
    int64_t row;

    sw_run_row(&b->run, k->row, &ignored, &row);
    at = s->places[k->place].at + k->done + (uint64_t)row;
    if (b->cast)
        n = sw_min(sw_max(n / (b->to_bits / 8), 1), s->input / (b->from_bits / 8)) * (b->to_bits / 8);
    if (!sw_out_write_all(&k->out, (sw_region){ at, at + n }, fill(k, b, k->done, n), st)) {
        s->written += n;
        k->done += n;
    }
    if (k->done == size) {
        k->done = 0;
        k->row++;
    }
    return st->code;
}

/* As much as a turn allows. */
static sw_code write_turn(walk *k, sw_status *st)
{
    sw_scatter *s = k->s;
    uint64_t end = s->written + TURN;
    box_rows b;

    while (s->written < end && k->place < s->nplaces && !sw_check_cancel(s->cancel, st) &&
           !open_file(k, s->places[k->place].file, st)) {
        find_rows(s->held, &s->places[k->place], &b);
        while (k->row < b.run.n / b.run.row && s->written < end && !write_part(k, &b, end - s->written, st))
            ;
        if (st->code)
            break;
        if (k->row == b.run.n / b.run.row) {
            k->row = 0;
            k->place++;
        }
    }
    return st->code;
}

/* ---- all ------------------------------------------------------------------------------------- */

static sw_code begin(walk *k, sw_scatter *s, sw_status *st)
{
    *k = (walk){ .s = s, .staged = SW_BELOW_INIT };
    s->written = 0;
    k->staging = sw_calloc(s->buffer, 1, st);
    k->input = sw_calloc(s->input, 1, st);
    return st->code;
}

static void release(walk *k)
{
    sw_below_close(&k->staged);
    free(k->input);
    free(k->staging);
}

sw_code sw_scatter_write(sw_scatter *s, sw_status *st)
{
    walk k;

    begin(&k, s, st);
    while (!st->code && k.place < s->nplaces)
        write_turn(&k, st);
    close_file(&k, st);
    release(&k);
    return st->code;
}

/* What this rank has to write. */
static uint64_t count_own(const sw_scatter *s)
{
    uint64_t todo = 0;
    box_rows b;

    for (size_t i = 0; i < s->nplaces; i++) {
        find_rows(s->held, &s->places[i], &b);
        todo += b.run.n;
    }
    return todo;
}

/* The first rank makes all files. */
static sw_code create_files(sw_weld *w, sw_status *st)
{
    if (w->world->rank == 0 && !sw_scatter_create(w->o, w->l, w->staged_dir, w->sched->band, w->sync, st))
        for (uint32_t f = 0; f < w->l->nfiles; f++)
            w->written += 8 + w->l->files[f].header_len;
    return sw_agree(w->world, st);
}

static void tell_progress(const sw_weld *w, uint64_t written, uint64_t todo)
{
    uint64_t total = 0;

    if (!w->progress || w->world->rank != 0 || !todo)
        return;
    for (uint32_t f = 0; f < w->l->nfiles; f++)
        total += w->l->files[f].size;
    w->progress(w->user, (uint64_t)((double)total * ((double)written / (double)todo)), total);
}

/* Collective. Turn by turn; all ranks leave together. */
static sw_code write_turns(sw_weld *w, sw_scatter *s, sw_status *st)
{
    uint64_t most, todo = count_own(s);
    walk k;

    begin(&k, s, st);
    if (sw_comm_most(w->world, todo, &most, st) || create_files(w, st))
        goto out;
    for (uint64_t i = 0; i <= most / TURN; i++) {
        if (!st->code)
            write_turn(&k, st);
        tell_progress(w, s->written, todo);
        if (sw_agree(w->world, st))
            break;
    }
    w->written += s->written;
    close_file(&k, st);
    sw_agree(w->world, st);
out:
    release(&k);
    return st->code;
}

sw_code sw_scatter_files(sw_weld *w, sw_status *st)
{
    sw_buf places = SW_BUF_INIT;
    sw_publication *files = sw_calloc(w->l->nfiles, sizeof *files, st);
    sw_scatter s = { .dir = w->staged_dir,
                     .files = files,
                     .held = w->held,
                     .buffer = w->sched->band,
                     .input = w->memory.input,
                     .sync = w->sync,
                     .cancel = w->cancel };

    for (uint32_t f = 0; files && f < w->l->nfiles; f++)
        files[f] = (sw_publication){ w->l->files[f].name, w->l->files[f].size };
    if (!st->code)
        sw_places_find(w->o, w->l, w->held, (uint32_t)w->world->rank, 1, &places, st);
    s.places = (const void *)places.data;
    s.nplaces = places.len / sizeof *s.places;
    if (!sw_agree(w->world, st))
        write_turns(w, &s, st);
    sw_buf_release(&places);
    free(files);
    return st->code;
}
