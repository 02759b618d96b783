/* Own boxes straight to their places; see scatter.h. */
#include "par/scatter.h"

#include <stdlib.h>

#include "base/num.h"
#include "base/path.h"
#include "par/gather.h"
#include "par/io.h"
#include "value/cast.h"

/* A rank writes so much before the ranks agree again on how it goes: it takes messages that may be slow. */
#define TURN (UINT64_C(64) << 20)

/* One rank's way through all of its rows. */
typedef struct scatter {
    sw_weld *w;
    char *staging, *input; /* sched->band, memory.input bytes */
    uint32_t file, slot;   /* slot: of the whole layout */
    uint64_t box, row;     /* of the slot's tensor; row of the box */
    uint64_t written;      /* of the row, bytes as they are written */
    sw_out out;
    bool open;
    uint64_t todo, total; /* bytes that this rank writes; bytes of all files */
} scatter;

/* A box as it lies in its output: rows of whole bytes, one for each index of the outer dimensions. */
typedef struct box_rows {
    const sw_held_box *held;
    const uint64_t *offsets, *shape, *full;
    unsigned outer;          /* dimensions outside a row */
    uint64_t rows, elements; /* how many; in each */
    unsigned from_bits, to_bits;
    bool cast;
} box_rows;

static const sw_tensor *source_of(const sw_weld *w, uint32_t slot)
{
    return &w->o->c->tensors[w->o->how[w->l->order[slot].tensor].source];
}

static bool is_own(const sw_weld *w, const sw_tensor *t, uint64_t box)
{
    return w->o->c->boxes[t->box0 + box].file == (uint32_t)w->world->rank;
}

/* Along the last dimensions a box may be whole: there its elements lie together. */
static void find_rows(const sw_weld *w, uint32_t slot, uint64_t box, box_rows *b)
{
    const sw_catalog *c = w->o->c;
    const sw_tensor *t = source_of(w, slot);
    uint32_t i = w->l->order[slot].tensor;

    *b = (box_rows){ .held = sw_held_find(w->held, c->boxes[t->box0 + box].at),
                     .offsets = sw_box_offsets(c, t, box),
                     .shape = sw_box_shape(c, t, box),
                     .full = sw_tensor_shape(c, t),
                     .outer = t->ndim,
                     .rows = 1,
                     .elements = 1,
                     .from_bits = sw_dtype_bits((sw_dtype)t->dtype),
                     .to_bits = sw_dtype_bits((sw_dtype)w->o->view.tensors[i].out_dtype),
                     .cast = w->o->how[i].op == SW_OP_CAST };
    while (b->outer > 0) {
        b->elements *= b->shape[--b->outer];
        if (b->shape[b->outer] != b->full[b->outer])
            break;
    }
    for (unsigned d = 0; d < b->outer; d++)
        b->rows *= b->shape[d];
}

/* Where a row goes in the data of its tensor, bytes. */
static uint64_t row_place(const box_rows *b, unsigned ndim, uint64_t row)
{
    uint64_t index[SW_MAX_DIMS] = { 0 }, at = 0;

    for (unsigned d = b->outer; d-- > 0; row /= b->shape[d])
        index[d] = row % b->shape[d];
    for (unsigned d = 0; d < ndim; d++)
        at = at * b->full[d] + b->offsets[d] + index[d];
    /* Eight elements of less than a byte are whole bytes. */
    return b->to_bits % 8 ? at / 8 * b->to_bits + at % 8 * b->to_bits / 8 : at * (b->to_bits / 8);
}

/* ---- files ---------------------------------------------------------------------------------------- */

/* The first rank makes all files and writes their headers. */
static sw_code create_file(const scatter *s, uint32_t f, sw_status *st)
{
    const sw_weld *w = s->w;
    const sw_layout_file *file = &w->l->files[f];
    uint64_t end = 8 + file->header_len, n;
    char *path = sw_path_join(w->staged_dir, file->name, st);
    sw_out out;

    if (!path || sw_out_create_alone(path, file->name, file->size, st) ||
        sw_out_open_alone(&out, path, file->name, file->size, w->sync, st))
        goto done;
    for (uint64_t at = 0; at < end && !st->code; at += n) {
        n = sw_min(end - at, w->sched->band);
        if (!sw_layout_header(&w->o->view, w->l, f, at, n, s->staging, st))
            sw_out_write_all(&out, (sw_region){ at, at + n }, s->staging, st);
    }
    if (w->sync && !st->code)
        sw_out_sync(&out, st);
    sw_out_close(&out, st);
done:
    free(path);
    return st->code;
}

static sw_code create_files(scatter *s, sw_status *st)
{
    sw_weld *w = s->w;

    for (uint32_t f = 0; f < w->l->nfiles && w->world->rank == 0 && !st->code; f++) {
        create_file(s, f, st);
        w->written += st->code ? 0 : 8 + w->l->files[f].header_len;
    }
    return sw_agree(w->world, st);
}

static sw_code open_file(scatter *s, sw_status *st)
{
    const sw_layout_file *file = &s->w->l->files[s->file];
    char *path = s->open ? NULL : sw_path_join(s->w->staged_dir, file->name, st);

    if (path)
        s->open = !sw_out_open_alone(&s->out, path, file->name, file->size, s->w->sync, st);
    free(path);
    return st->code;
}

static sw_code close_file(scatter *s, sw_status *st)
{
    if (!s->open)
        return st->code;
    s->open = false;
    if (!st->code && s->w->sync)
        sw_out_sync(&s->out, st);
    return sw_out_close(&s->out, st);
}

/* ---- rows ----------------------------------------------------------------------------------------- */

/* The bytes [from, from + n) of a row, as they are written; n is what there is room for. */
static const char *fill(const scatter *s, const box_rows *b, uint64_t from, uint64_t n)
{
    uint64_t row = b->elements * b->from_bits / 8 * s->row, elements = n * 8 / b->to_bits;
    uint64_t begin = row + (b->cast ? from / (b->to_bits / 8) * (b->from_bits / 8) : from);
    const char *direct = sw_held_direct(b->held, begin);
    uint32_t i = s->w->l->order[s->slot].tensor;

    if (!b->cast && direct)
        return direct;
    if (!b->cast) {
        sw_held_copy(b->held, begin, n, s->staging);
        return s->staging;
    }
    if (!direct) {
        sw_held_copy(b->held, begin, elements * b->from_bits / 8, s->input);
        direct = s->input;
    }
    sw_cast(b->held->dtype, (sw_dtype)s->w->o->view.tensors[i].out_dtype, direct, s->staging, elements);
    return s->staging;
}

/* The next part of the row; of casts whole elements. */
static sw_code write_part(scatter *s, const box_rows *b, uint64_t room, sw_status *st)
{
    const sw_weld *w = s->w;
    const sw_layout_file *file = &w->l->files[s->file];
    uint64_t size = b->elements * b->to_bits / 8, n = sw_min(sw_min(size - s->written, w->sched->band), room);
    uint64_t at = 8 + file->header_len + w->l->order[s->slot].begin + s->written;

    if (b->cast)
        n = sw_min(sw_max(n / (b->to_bits / 8), 1), w->memory.input / (b->from_bits / 8)) * (b->to_bits / 8);
    at += row_place(b, source_of(w, s->slot)->ndim, s->row);
    if (!sw_out_write_all(&s->out, (sw_region){ at, at + n }, fill(s, b, s->written, n), st)) {
        s->w->written += n;
        s->written += n;
    }
    if (s->written == size) {
        s->written = 0;
        s->row++;
    }
    return st->code;
}

/* Go to the next box of this rank; false when there is none in any file. */
static bool find_own(scatter *s, sw_status *st)
{
    const sw_layout *l = s->w->l;

    for (; s->file < l->nfiles; s->file++, close_file(s, st)) {
        for (; s->slot < l->files[s->file].first + l->files[s->file].count; s->slot++, s->box = 0) {
            const sw_tensor *t = source_of(s->w, s->slot);

            for (; s->box < t->nboxes; s->box++)
                if (is_own(s->w, t, s->box))
                    return true;
        }
    }
    return false;
}

/* As much as a turn allows. */
static sw_code write_turn(scatter *s, sw_status *st)
{
    uint64_t end = s->w->written + TURN;
    box_rows b;

    while (s->w->written < end && !sw_check_cancel(s->w->cancel, st) && find_own(s, st) &&
           !open_file(s, st)) {
        find_rows(s->w, s->slot, s->box, &b);
        while (s->row < b.rows && s->w->written < end && !write_part(s, &b, end - s->w->written, st))
            ;
        if (st->code)
            break;
        if (s->row == b.rows) {
            s->row = 0;
            s->box++;
        }
    }
    if (s->w->progress && s->w->world->rank == 0 && s->todo)
        s->w->progress(s->w->user, (uint64_t)((double)s->total * ((double)s->w->written / (double)s->todo)),
                       s->total);
    return st->code;
}

/* ---- all ------------------------------------------------------------------------------------------ */

/* What this rank has to write. */
static void count_own(scatter *s)
{
    const sw_weld *w = s->w;
    box_rows b;

    for (uint32_t f = 0; f < w->l->nfiles; f++) {
        s->total += w->l->files[f].size;
        if (w->world->rank == 0)
            s->todo += 8 + w->l->files[f].header_len;
    }
    for (uint32_t i = 0; i < w->l->nslots; i++) {
        const sw_tensor *t = source_of(w, i);

        for (uint64_t k = 0; k < t->nboxes; k++) {
            if (!is_own(w, t, k))
                continue;
            find_rows(w, i, k, &b);
            s->todo += b.rows * (b.elements * b.to_bits / 8);
        }
    }
}

/* Collective. So many turns that the busiest rank comes to its end. */
static sw_code count_turns(const scatter *s, uint64_t *turns, sw_status *st)
{
    const sw_comm *world = s->w->world;
    uint64_t *all = sw_calloc((uint64_t)world->size, sizeof *all, st), most = 0;

    if (!sw_agree(world, st) && !sw_comm_allgather(world, &s->todo, sizeof s->todo, all, st))
        for (int r = 0; r < world->size; r++)
            most = sw_max(most, all[r]);
    *turns = most / TURN + 1;
    free(all);
    return st->code;
}

sw_code sw_scatter_files(sw_weld *w, sw_status *st)
{
    scatter s = { .w = w };
    uint64_t turns;

    s.staging = sw_calloc(w->sched->band, 1, st);
    s.input = sw_calloc(w->memory.input, 1, st);
    count_own(&s);
    if (count_turns(&s, &turns, st) || create_files(&s, st))
        goto out;
    for (uint64_t i = 0; i < turns; i++) {
        if (!st->code)
            write_turn(&s, st);
        if (sw_agree(w->world, st))
            break;
    }
    close_file(&s, st);
    sw_agree(w->world, st);
out:
    free(s.input);
    free(s.staging);
    return st->code;
}
