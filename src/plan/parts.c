/* Bands in parts, and parts in boxes; see parts.h. */
#include "plan/parts.h"

#include <string.h>

#include "base/num.h"
#include "base/sort.h"

/* ---- parts ----------------------------------------------------------------------------------- */

/* The first tensor of the file whose data ends behind byte at of the data. */
static uint32_t first_slot(const sw_layout *l, const sw_layout_file *file, uint64_t at)
{
    sw_search s = { .at = file->first, .end = file->first + (uint64_t)file->count };

    while (sw_search_on(&s))
        sw_search_tell(&s, l->order[s.mid].end <= at);
    return (uint32_t)s.at;
}

bool sw_parts_each(const sw_layout *l, uint32_t f, sw_region band, sw_part_fn fn, void *ctx)
{
    const sw_layout_file *file = &l->files[f];
    uint64_t data = 8 + file->header_len, lo, hi;

    if (band.end <= data)
        return true;
    lo = band.begin > data ? band.begin - data : 0;
    hi = band.end - data;
    for (uint32_t i = first_slot(l, file, lo); i < file->first + file->count && l->order[i].begin < hi; i++) {
        const sw_slot *slot = &l->order[i];
        uint64_t from = sw_max(slot->begin, lo), to = sw_min(slot->end, hi);
        sw_part part = {
            slot->tensor, from - slot->begin, to - from, data + from - band.begin, sw_slot_box(l, slot), i
        };

        if (part.n && !fn(ctx, &part))
            return false;
    }
    return true;
}

/* ---- boxes of a part ------------------------------------------------------------------------- */

/* How an output is made; cut: of a box of it, dimensions from there on are whole. */
static sw_recipe recipe_of(const sw_outputs *o, uint32_t output, unsigned cut)
{
    const sw_output *how = &o->how[output];
    const sw_tensor *t = &o->c->tensors[how->source];
    sw_recipe r = { .op = how->op, .to = (sw_dtype)o->view.tensors[output].out_dtype };

    if (r.op == SW_OP_COPY || r.op == SW_OP_CAST) {
        r.view = sw_view_joined(o->c, t, cut, r.op == SW_OP_COPY ? 8 : sw_dtype_bits((sw_dtype)t->dtype));
        return r;
    }
    r.view = sw_view_elements(o->c, t);
    r.scale = &o->c->tensors[how->scale];
    return r;
}

/* Beyond its last dimension that is cut a box is whole. */
static unsigned cut_dims(const uint64_t *box, const uint64_t *whole, unsigned ndim)
{
    unsigned n = box ? ndim : 0;

    while (n > 0 && box[ndim + n - 1] == whole[n - 1])
        n--;
    return n;
}

/* Boxes in the order of the data. */
static bool visit_boxes(const sw_recipe *how, const sw_part *part, const uint64_t *whole, unsigned ndim,
                        sw_making_fn fn, void *ctx)
{
    static const uint64_t zeros[SW_MAX_DIMS];
    const sw_view *v = &how->view;
    uint64_t size = sw_recipe_bits(how) / 8, x = part->from / size, n = part->n / size, now;
    uint64_t origin[SW_MAX_DIMS], dims[SW_MAX_DIMS], offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    const sw_run_target all = { origin, dims, NULL };
    sw_making g = { how, SW_ANY_BOX, offsets, shape, NULL, (int64_t)part->at, 0, SW_NO_TAIL };

    for (unsigned d = 0; d < v->n; d++) {
        sw_view_range(v, d, part->box ? part->box : zeros, part->box ? part->box + ndim : whole, &origin[d],
                      &dims[d]);
    }
    for (; n > 0; x += now, n -= now, g.to += (int64_t)(now * size)) {
        now = sw_first_box(&all, v->n, x, n, offsets, shape);
        if (!fn(ctx, &g))
            return false;
    }
    return true;
}

/* Of an output [E, G * 32, R]; boxes are of values [E, R, G * 32]. */
static bool visit_lines(const sw_recipe *how, const sw_part *part, const uint64_t *whole, sw_making_fn fn,
                        void *ctx)
{
    static const uint64_t zeros[3] = { 0 };
    const uint64_t *first = part->box ? part->box : zeros, *dims = part->box ? part->box + 3 : whole;
    const uint64_t columns = dims[1], rows = dims[2];
    uint64_t size = sw_recipe_bits(how) / 8, x = part->from / size, n = part->n / size, now;
    uint64_t offsets[3], shape[3] = { 1 };
    const int64_t bits = (int64_t)size * 8, strides[3] = { 0, bits, bits * (int64_t)rows };
    sw_making g = { how, SW_ANY_BOX, offsets, shape, strides, (int64_t)part->at, 0, SW_NO_TAIL };

    for (; n > 0; x += now, n -= now) {
        uint64_t line = x / rows, row = x % rows, last;

        now = sw_min(n, (line / columns + 1) * columns * rows - x);
        if (now < rows)
            now = sw_min(now, rows - row);
        last = (x + now - 1) / rows;
        offsets[0] = first[0] + line / columns;
        offsets[1] = first[2] + (last == line ? row : 0);
        offsets[2] = first[1] + line % columns;
        shape[1] = last == line ? now : rows;
        shape[2] = last - line + 1;
        g.skip = last == line ? 0 : row;
        g.tail = last == line ? SW_NO_TAIL : x + now - last * rows;
        g.to = (int64_t)(part->at + (x - part->from / size) * size) - (int64_t)(g.skip * size);
        if (!fn(ctx, &g))
            return false;
    }
    return true;
}

bool sw_part_boxes_each(const sw_outputs *o, const sw_part *part, sw_making_fn fn, void *ctx)
{
    const sw_tensor *t = &o->view.tensors[part->output];
    const uint64_t *whole = sw_tensor_shape(&o->view, t);
    sw_recipe how = recipe_of(o, part->output, cut_dims(part->box, whole, t->ndim));

    return how.op == SW_OP_MXFP4 ? visit_lines(&how, part, whole, fn, ctx)
                                 : visit_boxes(&how, part, whole, t->ndim, fn, ctx);
}

bool sw_saved_boxes_each(const sw_catalog *c, const sw_part *part, sw_making_fn fn, void *ctx)
{
    const sw_tensor *t = &c->tensors[part->output];
    const uint64_t *whole = sw_tensor_shape(c, t);
    const sw_recipe how = { .view = sw_view_joined(c, t, cut_dims(part->box, whole, t->ndim), 8),
                            .op = SW_OP_COPY,
                            .to = (sw_dtype)t->dtype };

    return visit_boxes(&how, part, whole, t->ndim, fn, ctx);
}

/* A visit of the boxes of all parts. */
typedef struct visit {
    const sw_outputs *o;
    sw_making_fn fn;
    void *ctx;
} visit;

/* All boxes of one part. */
static bool visit_part(void *ctx, const sw_part *part)
{
    const visit *v = ctx;

    return sw_part_boxes_each(v->o, part, v->fn, v->ctx);
}

bool sw_band_boxes_each(const sw_outputs *o, const sw_layout *l, uint32_t f, sw_region band, sw_making_fn fn,
                        void *ctx)
{
    visit v = { o, fn, ctx };

    return sw_parts_each(l, f, band, visit_part, &v);
}
