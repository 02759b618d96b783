/* Own boxes straight to their places; see scatter.h. */
#include "par/scatter.h"

#include <stdlib.h>

#include "base/num.h"
#include "base/path.h"
#include "plan/runs.h"
#include "value/cast.h"

/* ---- places ---------------------------------------------------------------------------------- */

static const sw_tensor *source_of(const sw_outputs *o, const sw_layout *l, uint32_t slot)
{
    return &o->c->tensors[o->how[l->order[slot].tensor].source];
}

sw_code sw_places_find(const sw_outputs *o, const sw_layout *l, const sw_holders *ranks, sw_buf *places,
                       sw_status *st)
{
    for (uint32_t f = 0; f < l->nfiles; f++) {
        const sw_layout_file *file = &l->files[f];

        for (uint32_t i = file->first; i < file->first + file->count; i++) {
            const sw_tensor *t = source_of(o, l, i);

            for (uint64_t k = 0; k < t->nboxes; k++) {
                sw_placed placed;
                const sw_box *b = &sw_box_get(o->c, t, k, &placed)->box;
                uint32_t r = b->file - ranks->first;
                sw_place p = { .at = 8 + file->header_len + l->order[i].begin,
                               .file = f,
                               .dtype = o->view.tensors[l->order[i].tensor].out_dtype };

                if (b->file < ranks->first || r >= ranks->n)
                    continue;
                p.box = (uint32_t)(sw_memboxes_find(&ranks->held[r], b->at) - ranks->held[r].boxes);
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

/* The headers of all files, as bands. */
typedef struct headers {
    const sw_outputs *o;
    const sw_layout *l;
    char *buffer;
    uint64_t size; /* of the buffer */
    uint32_t file;
    uint64_t at; /* so much of its header has been written */
} headers;

static bool next_header(void *ctx, sw_band *band)
{
    headers *h = ctx;
    const sw_layout_file *file = &h->l->files[h->file];
    uint64_t n;

    if (h->file < h->l->nfiles && h->at == 8 + file->header_len) {
        h->file++;
        file++;
        h->at = 0;
    }
    if (h->file == h->l->nfiles)
        return false;
    n = sw_min(8 + file->header_len - h->at, h->size);
    *band = (sw_band){ h->file, file->name, file->size, { h->at, h->at + n } };
    h->at += n;
    return true;
}

static const char *fill_header(void *ctx, const sw_band *band, sw_status *st)
{
    headers *h = ctx;

    sw_layout_header(&h->o->view, h->l, band->file, band->at.begin, band->at.end - band->at.begin, h->buffer,
                     st);
    return h->buffer;
}

sw_code sw_scatter_create(sw_weld *w, sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    headers h = { .o = w->work.o, .l = w->work.l, .size = w->work.sched->band };
    sw_rounds r = { .comm = &alone,
                    .apart = true,
                    .make = true,
                    .dir = w->staged_dir,
                    .sync = w->sync,
                    .cancel = w->work.cancel,
                    .ctx = &h,
                    .next = next_header,
                    .fill = fill_header };

    if ((h.buffer = sw_calloc(h.size, 1, st)))
        sw_rounds_write(&r, st);
    w->written += r.written;
    free(h.buffer);
    return st->code;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* One rank's way through all of its rows; a band is a part of one. */
typedef struct walk {
    const sw_scatter *s;
    char *staging, *input;
    size_t place, next;
    box_rows box;          /* of the place */
    uint64_t row, nrows;   /* of the box */
    uint64_t from, length; /* the band: bytes of the row as they are written */
} walk;

/* Past the last band, to a row that is not written yet. */
static bool find_row(walk *k)
{
    k->from += k->length;
    k->length = 0;
    if (k->nrows && k->from == k->box.run.row) {
        k->from = 0;
        k->row++;
    }
    while (k->row == k->nrows) {
        if (k->next == k->s->nplaces)
            return false;
        k->place = k->next++;
        find_rows(k->s->held, &k->s->places[k->place], &k->box);
        k->row = 0;
        k->nrows = k->box.run.n / k->box.run.row;
    }
    return true;
}

/* Of casts whole elements. */
static bool next_part(void *ctx, sw_band *band)
{
    walk *k = ctx;
    const sw_scatter *s = k->s;
    const box_rows *b = &k->box;
    const sw_place *p;
    uint64_t ignored, at, to, from;
    int64_t row;

    if (!find_row(k))
        return false;
    p = &s->places[k->place];
    to = b->to_bits / 8;
    from = b->from_bits / 8;
    sw_run_row(&b->run, k->row, &ignored, &row);
    at = p->at + k->from + (uint64_t)row;
    k->length = sw_min(b->run.row - k->from, s->buffer);
    if (b->cast)
        k->length = sw_min(sw_max(k->length / to, 1), s->input / from) * to;
    *band = (sw_band){ p->file, s->files[p->file].name, s->files[p->file].size, { at, at + k->length } };
    return true;
}

/* Straight from memory where it lies together. */
static const char *fill_part(void *ctx, const sw_band *band, sw_status *st)
{
    const walk *k = ctx;
    const box_rows *b = &k->box;
    uint64_t at = k->row * b->run.row + k->from, elements = k->length * 8 / b->to_bits;
    uint64_t begin = b->cast ? at / (b->to_bits / 8) * (b->from_bits / 8) : at;
    const char *direct = sw_membox_direct(b->held, begin);

    (void)band;
    (void)st; /* memory cannot fail */
    if (!b->cast && direct)
        return direct;
    if (!b->cast) {
        sw_membox_copy(b->held, begin, k->length, k->staging);
        return k->staging;
    }
    if (!direct) {
        sw_membox_copy(b->held, begin, elements * b->from_bits / 8, k->input);
        direct = k->input;
    }
    sw_cast(b->held->dtype, (sw_dtype)k->s->places[k->place].dtype, direct, k->staging, elements);
    return k->staging;
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

sw_code sw_scatter_write(const sw_comm *comm, sw_scatter *s, sw_status *st)
{
    walk k = { .s = s };
    sw_rounds r = { .comm = comm,
                    .apart = true,
                    .dir = s->dir,
                    .sync = s->sync,
                    .cancel = s->cancel,
                    .progress = s->progress,
                    .ctx = &k,
                    .next = next_part,
                    .fill = fill_part };

    r.progress.todo = count_own(s);
    k.staging = sw_calloc(s->buffer, 1, st);
    k.input = sw_calloc(s->input, 1, st);
    sw_rounds_write(&r, st);
    s->written = r.written;
    free(k.input);
    free(k.staging);
    return st->code;
}

/* ---- all files ------------------------------------------------------------------------------- */

/* The first rank makes all files. */
sw_code sw_scatter_files(sw_weld *w, sw_status *st)
{
    const sw_work *k = &w->work;
    const sw_holders own = { k->held, (uint32_t)k->world->rank, 1 };
    sw_buf places = SW_BUF_INIT;
    sw_publication *files = sw_calloc(k->l->nfiles, sizeof *files, st);
    sw_scatter s = { .dir = w->staged_dir,
                     .files = files,
                     .held = k->held,
                     .buffer = k->sched->band,
                     .input = k->memory.input,
                     .sync = w->sync,
                     .cancel = k->cancel,
                     .progress = { .fn = k->world->rank ? NULL : k->progress, .user = k->user } };

    for (uint32_t f = 0; files && f < k->l->nfiles; f++) {
        files[f] = (sw_publication){ k->l->files[f].name, k->l->files[f].size };
        s.progress.total += files[f].size;
    }
    if (!st->code && !sw_places_find(k->o, k->l, &own, &places, st) && k->world->rank == 0)
        sw_scatter_create(w, st);
    s.places = (const void *)places.data;
    s.nplaces = places.len / sizeof *s.places;
    if (!sw_agree(k->world, st))
        sw_scatter_write(k->world, &s, st);
    w->written += s.written;
    sw_buf_release(&places);
    free(files);
    return st->code;
}
