/* Own boxes straight to their places; see scatter.h. */
#include "par/scatter.h"

#include <stdlib.h>

#include "base/num.h"
#include "plan/runs.h"
#include "value/cast.h"

/* ---- spots ----------------------------------------------------------------------------------- */

sw_code sw_spots_find(const sw_outputs *o, const sw_layout *l, const sw_holders *ranks, sw_buf *spots,
                      sw_status *st)
{
    for (uint32_t f = 0; f < l->nfiles; f++) {
        const sw_layout_file *file = &l->files[f];

        for (uint32_t i = file->first; i < file->first + file->count; i++) {
            const sw_tensor *t = &o->c->tensors[o->how[l->order[i].tensor].source];

            for (uint64_t k = 0; k < t->nboxes; k++) {
                sw_placed placed;
                const sw_box *b = &sw_box_get(o->c, t, k, &placed)->box;
                uint32_t r = b->file - ranks->first;
                sw_spot s = { .at = 8 + file->header_len + l->order[i].begin,
                              .file = f,
                              .dtype = o->view.tensors[l->order[i].tensor].out_dtype };

                if (b->file < ranks->first || r >= ranks->n)
                    continue;
                s.box = (uint32_t)(sw_memboxes_find(&ranks->held[r], b->at) - ranks->held[r].boxes);
                if (sw_buf_add(&spots[r], &s, sizeof s, st))
                    return st->code;
            }
        }
    }
    return SW_OK;
}

/* A box as it lies in its file. */
typedef struct box_rows {
    const sw_membox *held;
    sw_run run; /* rows, from the packed box as it is written to the data of the tensor */
    unsigned from_bits, to_bits;
    bool cast;
} box_rows;

/* The rows of a spot. */
static void find_rows(const sw_memboxes *held, const sw_spot *s, box_rows *b)
{
    static const uint64_t zeros[SW_MAX_DIMS];
    const sw_membox *box = &held->boxes[s->box];
    const sw_item *it = box->item;

    b->held = box;
    b->from_bits = sw_dtype_bits(box->dtype);
    b->to_bits = sw_dtype_bits((sw_dtype)s->dtype);
    b->cast = (sw_dtype)s->dtype != box->dtype;
    sw_run_place(it->ndim, s->alone ? it->shape : it->global_shape, s->alone ? zeros : it->offsets, it->shape,
                 b->to_bits, &b->run);
}

/* ---- bands ----------------------------------------------------------------------------------- */

/* One rank's way through its files. A band is a header or a part of one, or a part of a row. */
typedef struct walk {
    const sw_scatter *s;
    char *staging, *input;
    bool second; /* of a stream: staging is for two bands in turn */
    sw_buf header;
    bool in_header; /* the band is of one */
    uint32_t file;  /* whose header is the next, */
    uint64_t done;  /* and of that so much has been written */
    size_t next;    /* spot behind that of the box */
    box_rows box;
    uint64_t row, nrows;   /* of the box */
    uint64_t from, length; /* the band: bytes of the row as they are written */
} walk;

/* The header of a file stands before its data. That of a shard file is made as a whole. */
static bool next_header(walk *k, sw_band *band)
{
    const sw_scatter *s = k->s;
    const sw_layout_file *f = &s->l->files[k->file];
    uint64_t size, n;

    if (!s->rounds.make || k->file == s->l->nfiles ||
        (k->next < s->nspots && s->spots[k->next].file < k->file))
        return false;
    size = SW_HEADER_LENGTH + f->header_len;
    n = s->l->shards ? size : sw_min(size - k->done, s->buffer);
    *band = (sw_band){ k->file, f->name, f->size, { k->done, k->done + n } };
    k->done += n;
    if (k->done == size) {
        k->file++;
        k->done = 0;
    }
    return true;
}

/* Of casts whole elements. */
static void next_part(walk *k, sw_band *band)
{
    const sw_spot *s = &k->s->spots[k->next - 1];
    const sw_layout_file *f = &k->s->l->files[s->file];
    const box_rows *b = &k->box;
    uint64_t ignored, at, to = b->to_bits / 8, from = b->from_bits / 8;
    int64_t row;

    sw_run_row(&b->run, k->row, &ignored, &row);
    at = s->at + k->from + (uint64_t)row;
    k->length = sw_min(b->run.row - k->from, k->s->buffer);
    if (b->cast)
        k->length = sw_min(sw_max(k->length / to, 1), k->s->input / from) * to;
    *band = (sw_band){ s->file, f->name, f->size, { at, at + k->length } };
}

/* Past the last band: the rest of the row, the next one, the next header or box. */
static bool next_band(void *ctx, sw_band *band)
{
    walk *k = ctx;

    k->from += k->length;
    k->length = 0;
    if (k->nrows && k->from == k->box.run.row) {
        k->from = 0;
        k->row++;
    }
    k->in_header = k->row == k->nrows && next_header(k, band);
    if (k->in_header)
        return true;
    if (k->row == k->nrows) {
        if (k->next == k->s->nspots)
            return false;
        find_rows(k->s->held, &k->s->spots[k->next++], &k->box);
        k->row = 0;
        k->nrows = k->box.run.n / k->box.run.row;
    }
    next_part(k, band);
    return true;
}

/* Straight from memory where it lies together. */
static const char *fill_band(void *ctx, const sw_band *band, sw_status *st)
{
    walk *k = ctx;
    const box_rows *b = &k->box;
    uint64_t at = k->row * b->run.row + k->from, n = band->at.end - band->at.begin, elements, begin;
    const char *direct;
    char *to;

    if (k->in_header) {
        k->header.len = 0;
        if (!sw_buf_reserve(&k->header, n, st))
            sw_layout_header(k->s->view, k->s->l, band->file, band->at.begin, n, k->header.data, st);
        return k->header.data;
    }
    elements = k->length * 8 / b->to_bits;
    begin = b->cast ? at / (b->to_bits / 8) * (b->from_bits / 8) : at;
    direct = sw_membox_direct(b->held, begin);
    if (!b->cast && direct)
        return direct;
    k->second = k->s->rounds.behind && !k->second;
    to = k->staging + (k->second ? k->s->buffer : 0);
    if (!b->cast) {
        sw_membox_copy(b->held, begin, k->length, to);
        return to;
    }
    if (!direct) {
        sw_membox_copy(b->held, begin, elements * b->from_bits / 8, k->input);
        direct = k->input;
    }
    sw_cast(b->held->dtype, (sw_dtype)k->s->spots[k->next - 1].dtype, direct, to, elements);
    return to;
}

/* What this rank has to write. */
static uint64_t count_own(const sw_scatter *s)
{
    uint64_t todo = 0;
    box_rows b;

    for (uint32_t f = 0; s->rounds.make && f < s->l->nfiles; f++)
        todo += SW_HEADER_LENGTH + s->l->files[f].header_len;
    for (size_t i = 0; i < s->nspots; i++) {
        find_rows(s->held, &s->spots[i], &b);
        todo += b.run.n;
    }
    return todo;
}

sw_code sw_scatter_write(sw_scatter *s, sw_status *st)
{
    walk k = { .s = s };

    s->rounds.apart = true;
    s->rounds.behind = s->rounds.to.stream;
    s->rounds.ctx = &k;
    s->rounds.next = next_band;
    s->rounds.fill = fill_band;
    s->rounds.to.progress.todo = count_own(s);
    if (s->rounds.behind)
        s->buffer = sw_max(s->buffer / 2, 1);
    k.staging = sw_calloc(s->rounds.behind ? 2 : 1, s->buffer, st);
    k.input = sw_calloc(s->input, 1, st);
    sw_rounds_write(&s->rounds, st);
    sw_buf_release(&k.header);
    free(k.input);
    free(k.staging);
    return st->code;
}

/* ---- all files ------------------------------------------------------------------------------- */

/* What all parts of a weld have in common. */
static sw_scatter part_of(const sw_weld *w, const sw_comm *comm)
{
    const sw_work *k = &w->work;

    return (sw_scatter){ .rounds = { .comm = comm, .to = k->to },
                         .l = k->l,
                         .view = &k->o->view,
                         .held = k->held,
                         .buffer = k->sched->band };
}

sw_code sw_scatter_create(sw_weld *w, sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    sw_scatter s = part_of(w, &alone);

    s.rounds.make = true;
    s.rounds.to.progress = (sw_progress){ .fn = NULL };
    sw_scatter_write(&s, st);
    w->written += s.rounds.written;
    return st->code;
}

/* The first rank makes all files. */
sw_code sw_scatter_files(sw_weld *w, sw_status *st)
{
    const sw_work *k = &w->work;
    const sw_holders own = { k->held, (uint32_t)k->world->rank, 1 };
    sw_scatter s = part_of(w, k->world);
    sw_buf spots = SW_BUF_INIT;

    s.input = k->memory.input;
    for (uint32_t f = 0; f < k->l->nfiles; f++)
        s.rounds.to.progress.total += k->l->files[f].size;
    if (!st->code && !sw_spots_find(k->o, k->l, &own, &spots, st) && k->world->rank == 0)
        sw_scatter_create(w, st);
    s.spots = (const void *)spots.data;
    s.nspots = spots.len / sizeof *s.spots;
    if (!sw_agree(k->world, st))
        sw_scatter_write(&s, st);
    w->written += s.rounds.written;
    sw_buf_release(&spots);
    return st->code;
}
