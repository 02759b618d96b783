/* A band of an output file, from the shards; see fill.h. */
#include "read/fill.h"

#include <string.h>

#include "base/num.h"
#include "read/convert.h"

/* Rows of boxes that are shorter are left to the system's own reading ahead. */
#define ROW_ADVISED (UINT64_C(64) << 10)

/* The first tensor of the file whose data ends behind byte at of the data. */
static uint32_t first_slot(const sw_layout *l, const sw_layout_file *file, uint64_t at)
{
    uint32_t a = file->first, b = file->first + file->count;

    while (a < b) {
        uint32_t mid = a + (b - a) / 2;

        if (l->order[mid].end <= at)
            a = mid + 1;
        else
            b = mid;
    }
    return a;
}

bool sw_parts_each(const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end, sw_part_fn fn, void *ctx)
{
    const sw_layout_file *file = &l->files[f];
    uint64_t data = 8 + file->header_len, lo, hi;

    if (end <= data)
        return true;
    lo = begin > data ? begin - data : 0;
    hi = end - data;
    for (uint32_t i = first_slot(l, file, lo); i < file->first + file->count && l->order[i].begin < hi; i++) {
        const sw_slot *slot = &l->order[i];
        uint64_t from = sw_max(slot->begin, lo), to = sw_min(slot->end, hi);
        sw_part part = { slot->tensor, from - slot->begin, to - from, data + from - begin,
                         sw_slot_box(l, slot) };

        if (part.n && !fn(ctx, &part))
            return false;
    }
    return true;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* A box as rows that lie together in the whole output. Where elements have less than a byte, rows
 * are whole bytes (sw_shard_layout_build() saw to it). */
static void make_rows(const sw_outputs *o, uint32_t output, const uint64_t *box, sw_run *rows)
{
    const sw_tensor *t = &o->view.tensors[output];

    sw_run_place(t->ndim, sw_tensor_shape(&o->view, t), box, box + t->ndim,
                 sw_dtype_bits((sw_dtype)t->out_dtype), rows);
}

typedef struct runs {
    const sw_outputs *o;
    sw_part_fn fn;
    void *ctx;
} runs;

static bool visit_runs(void *ctx, const sw_part *part)
{
    const runs *v = ctx;
    sw_part run = { part->output, 0, 0, 0, NULL };
    uint64_t ignored;
    sw_run rows;
    int64_t first;

    if (!part->box)
        return v->fn(v->ctx, part);
    make_rows(v->o, part->output, part->box, &rows);
    for (uint64_t done = 0; done < part->n; done += run.n) {
        uint64_t from = part->from + done, in_row = from % rows.row;

        sw_run_row(&rows, from / rows.row, &ignored, &first);
        run.from = (uint64_t)first + in_row;
        run.n = sw_min(part->n - done, rows.row - in_row);
        run.at = part->at + done;
        if (!v->fn(v->ctx, &run))
            return false;
    }
    return true;
}

bool sw_part_rows_each(const sw_outputs *o, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                       sw_part_fn fn, void *ctx)
{
    runs v = { o, fn, ctx };

    return sw_parts_each(l, f, begin, end, visit_runs, &v);
}

/* ---- headers --------------------------------------------------------------------------------- */

/* The header of a shard file, all of it, if it is not there from the last time. */
static sw_code keep_header(sw_filler *f, uint32_t file, sw_status *st)
{
    uint64_t size = 8 + f->l->files[file].header_len;

    if (f->header_file == file + 1)
        return SW_OK;
    f->header_file = 0;
    f->header.len = 0;
    if (sw_buf_reserve(&f->header, (size_t)size, st) ||
        sw_layout_header(&f->o->view, f->l, file, 0, size, f->header.data, st))
        return st->code;
    f->header_file = file + 1;
    return SW_OK;
}

sw_code sw_fill_header(sw_filler *f, uint32_t file, uint64_t begin, uint64_t end, char *band, sw_status *st)
{
    uint64_t data = 8 + f->l->files[file].header_len, n;

    if (begin >= data || begin >= end)
        return SW_OK;
    n = sw_min(end, data) - begin;
    if (!f->l->shards)
        return sw_layout_header(&f->o->view, f->l, file, begin, n, band, st);
    if (!keep_header(f, file, st))
        memcpy(band, f->header.data + begin, (size_t)n);
    return st->code;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct fill_ctx {
    const sw_filler *f;
    char *to; /* where the runs of a need are counted from */
    sw_status *st;
} fill_ctx;

static bool read_run(void *ctx, const sw_run *s)
{
    fill_ctx *c = ctx;

    return sw_pull_run(&c->f->pull, s, c->to, c->st) == SW_OK;
}

static bool read_range(const fill_ctx *c, const sw_tensor *t, uint64_t from, uint64_t n, char *to)
{
    fill_ctx inner = { c->f, to, c->st };

    return sw_runs_each(c->f->o->c, t, from, n, read_run, &inner);
}

static bool read_need(void *ctx, const sw_need *need)
{
    fill_ctx *c = ctx;

    return read_range(c, need->tensor, need->from, need->n, c->to + need->at);
}

/* ---- converting ------------------------------------------------------------------------------ */

/* As much of the range as its input has room for: half of it, again and again. */
static uint64_t what_fits(const sw_filler *f, const sw_part *part, uint64_t from, uint64_t n)
{
    uint64_t size = sw_output_element(f->o, part->output);

    while (n > size && sw_needs_size(f->o, part->output, from, n) > f->room)
        n = sw_round_up(n / 2, size);
    return n;
}

static bool convert_part(const fill_ctx *c, const sw_part *part)
{
    fill_ctx input = { c->f, c->f->input, c->st };

    for (uint64_t done = 0, n; done < part->n; done += n) {
        n = what_fits(c->f, part, part->from + done, part->n - done);
        if (!sw_needs_each(c->f->o, part->output, part->from + done, n, read_need, &input))
            return false;
        sw_convert(c->f->o, part->output, part->from + done, n, c->f->input, c->to + part->at + done);
    }
    return true;
}

/* The rows of an MXFP4 tensor that an output, or a box of one, takes. */
typedef struct mxfp4_lines {
    sw_mxfp4 m;     /* its rows are those that are taken */
    uint64_t first; /* the first of them */
    uint64_t rows;  /* all that the tensor has */
} mxfp4_lines;

/* Bytes of a row: its blocks and their scales. */
static uint64_t mxfp4_row(const sw_mxfp4 *m)
{
    return m->groups * (SW_MXFP4_BYTES + 1);
}

/* The groups that a part needs are a few bytes in each row, and rows lie one after the other: whole
 * rows are read, as many as there is room for, and what is not needed is passed over. */
static bool convert_lines(const fill_ctx *c, uint32_t i, const mxfp4_lines *l, const sw_mxfp4_part *p,
                          char *to)
{
    const sw_mxfp4 *m = &l->m;
    const sw_output *how = &c->f->o->how[i];
    const sw_tensor *blocks = &c->f->o->c->tensors[how->source], *scales = &c->f->o->c->tensors[how->scale];
    uint64_t block_bytes = m->groups * SW_MXFP4_BYTES, at_once = c->f->room / mxfp4_row(m);

    for (uint64_t done = 0, rows; done < p->rows; done += rows) {
        uint64_t first = p->expert * l->rows + l->first + p->row + done;
        sw_mxfp4_input in = { c->f->input + p->group * SW_MXFP4_BYTES, NULL, block_bytes, m->groups };
        char *scale_bytes;

        rows = sw_min(at_once, p->rows - done);
        scale_bytes = c->f->input + rows * block_bytes;
        if (!read_range(c, blocks, first * block_bytes, rows * block_bytes, c->f->input) ||
            !read_range(c, scales, first * m->groups, rows * m->groups, scale_bytes))
            return false;
        in.scales = scale_bytes + p->group;
        sw_convert_mxfp4(m, p, done, rows, &in, (sw_dtype)c->f->o->view.tensors[i].out_dtype, to);
    }
    return true;
}

/* Elements [x, x + n) of an output that has no more rows than are taken. */
static bool convert_run(const fill_ctx *c, uint32_t i, const mxfp4_lines *l, uint64_t x, uint64_t n, char *to)
{
    sw_mxfp4_part p;

    for (; sw_mxfp4_segment(&l->m, x, n, &p); x += p.elements, n -= p.elements) {
        if (!convert_lines(c, i, l, &p, to))
            return false;
        to += p.elements * sw_output_element(c->f->o, i);
    }
    return true;
}

static bool convert_mxfp4(const fill_ctx *c, const sw_part *part)
{
    uint64_t size = sw_output_element(c->f->o, part->output);
    mxfp4_lines l = { .first = 0 };

    sw_mxfp4_shape(c->f->o, part->output, &l.m);
    l.rows = l.m.rows;
    if (c->f->room < mxfp4_row(&l.m))
        return convert_part(c, part);
    return convert_run(c, part->output, &l, part->from / size, part->n / size, c->to + part->at);
}

/* Part of a box: run by run, rows would be read again for each of its columns. What a box has of
 * one expert is a run of an output that has only the box's rows. */
static bool convert_mxfp4_box(const fill_ctx *c, const sw_part *part, const sw_mxfp4 *m)
{
    uint64_t size = sw_output_element(c->f->o, part->output), x = part->from / size, n = part->n / size, now;
    const uint64_t *offsets = part->box, *shape = part->box + 3;
    uint64_t columns = m->groups * SW_MXFP4_BLOCK, expert = shape[1] * shape[2];
    mxfp4_lines l = { { m->experts, m->groups, shape[2] }, offsets[2], m->rows };
    char *to = c->to + part->at;

    for (; n > 0; x += now, n -= now, to += now * size) {
        uint64_t at = ((offsets[0] + x / expert) * columns + offsets[1]) * shape[2] + x % expert;

        now = sw_min(n, expert - x % expert);
        if (!convert_run(c, part->output, &l, at, now, to))
            return false;
    }
    return true;
}

/* ---- a band ---------------------------------------------------------------------------------- */

/* A run of a whole output. */
static bool fill_run(void *ctx, const sw_part *part)
{
    const fill_ctx *c = ctx;
    const sw_output *how = &c->f->o->how[part->output];

    if (how->op == SW_OP_COPY)
        return read_range(c, &c->f->o->c->tensors[how->source], part->from, part->n, c->to + part->at);
    return how->op == SW_OP_MXFP4 ? convert_mxfp4(c, part) : convert_part(c, part);
}

/* A box of a tensor, as it lies there, packed into memory: what each source box has of it. */
static bool read_box(const fill_ctx *c, const sw_tensor *t, const uint64_t *offsets, const uint64_t *shape,
                     char *to)
{
    const sw_catalog *all = c->f->o->c;
    sw_run_target target = { offsets, shape, NULL };
    uint64_t k, end;
    sw_run run;

    sw_run_range(all, t, offsets, shape, &k, &end);
    for (; k < end; k++)
        if (sw_run_make(all, t, k, &target, &run) == SW_RUN_SHARED &&
            sw_pull_run(&c->f->pull, &run, to, c->st))
            return false;
    return true;
}

/* Part of a box that is copied. The part begins and ends between elements of whole bytes. */
static bool copy_box(const fill_ctx *c, const sw_part *part)
{
    const sw_tensor *t = &c->f->o->c->tensors[c->f->o->how[part->output].source];
    uint64_t size = sw_dtype_bits((sw_dtype)t->dtype) / 8, x = part->from / size, n = part->n / size, done;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    char *to = c->to + part->at;

    for (; n > 0; x += done, n -= done, to += done * size) {
        done = sw_first_box(t->ndim, part->box + t->ndim, x, n, offsets, shape);
        for (unsigned d = 0; d < t->ndim; d++)
            offsets[d] += part->box[d];
        if (!read_box(c, t, offsets, shape, to))
            return false;
    }
    return true;
}

static bool fill_part(void *ctx, const sw_part *part)
{
    const fill_ctx *c = ctx;
    const sw_output *how = &c->f->o->how[part->output];
    uint64_t bits = sw_dtype_bits((sw_dtype)c->f->o->c->tensors[how->source].dtype);
    runs v = { c->f->o, fill_run, ctx };
    sw_mxfp4 m;

    if (part->box && how->op == SW_OP_MXFP4) {
        sw_mxfp4_shape(c->f->o, part->output, &m);
        if (c->f->room >= mxfp4_row(&m))
            return convert_mxfp4_box(c, part, &m);
    }
    if (part->box && how->op == SW_OP_COPY && bits % 8 == 0 && part->from % (bits / 8) == 0 &&
        part->n % (bits / 8) == 0)
        return copy_box(c, part);
    return visit_runs(&v, part);
}

sw_code sw_fill_band(const sw_filler *f, uint32_t file, uint64_t begin, uint64_t end, char *band,
                     sw_status *st)
{
    fill_ctx ctx = { f, band, st };

    sw_parts_each(f->l, file, begin, end, fill_part, &ctx);
    return st->code;
}

/* ---- reading ahead --------------------------------------------------------------------------- */

static bool advise_run(void *ctx, const sw_run *s)
{
    sw_source_advise(ctx, s->file, s->at, s->n);
    return true;
}

static bool advise_need(void *ctx, const sw_need *need)
{
    const sw_filler *f = ctx;

    return sw_runs_each(f->o->c, need->tensor, need->from, need->n, advise_run, f->pull.source);
}

/* Blocks are left to the system's own reading ahead: their rows are read in order. */
static bool advise_row(void *ctx, const sw_part *part)
{
    sw_filler *f = ctx;

    return f->o->how[part->output].op == SW_OP_MXFP4 ||
           sw_needs_each(f->o, part->output, part->from, part->n, advise_need, f);
}

static bool advise_part(void *ctx, const sw_part *part)
{
    sw_filler *f = ctx;
    runs v = { f->o, advise_row, f };
    sw_run rows;

    if (part->box) {
        make_rows(f->o, part->output, part->box, &rows);
        if (rows.row < ROW_ADVISED)
            return true;
    }
    return visit_runs(&v, part);
}

void sw_fill_advise(const sw_filler *f, uint32_t file, uint64_t begin, uint64_t end)
{
    sw_filler mine = *f;

    if (begin < end)
        sw_parts_each(f->l, file, begin, end, advise_part, &mine);
}
