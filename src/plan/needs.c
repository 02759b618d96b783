/* What a range of an output needs of the saved tensors; see needs.h. */
#include "plan/needs.h"

#include "base/num.h"
#include "plan/dims.h"

/* MXFP4: X of shape [E, G * 32, R] is made of blocks [E, R, G, 16] and scales [E, R, G]. */
void sw_mxfp4_shape(const sw_outputs *o, uint32_t i, sw_mxfp4 *m)
{
    const uint64_t *shape = sw_tensor_shape(o->c, &o->c->tensors[o->how[i].source]);

    *m = (sw_mxfp4){ shape[0], shape[2], shape[1] };
}

typedef struct visit {
    sw_need_fn fn;
    void *ctx;
    uint64_t at;
} visit;

static bool need(visit *v, const sw_tensor *t, uint64_t from, uint64_t n)
{
    sw_need one = { t, from, n, v->at };

    v->at += n;
    return n == 0 || v->fn(v->ctx, &one);
}

bool sw_scaled_segment(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, sw_scaled_part *p)
{
    const uint64_t *block = o->c->block;
    uint64_t columns, in_row;
    bool whole;

    if (n == 0)
        return false;
    columns = sw_tensor_shape(o->c, &o->c->tensors[o->how[i].source])[1];
    in_row = x % columns;
    whole = in_row == 0 && n >= columns;
    p->row = x / columns;
    p->rows = whole ? n / columns : 1;
    p->column = in_row;
    p->columns = whole ? columns : sw_min(n, columns - in_row);
    p->block_row = p->row / block[0];
    p->block_rows = (p->row + p->rows - 1) / block[0] + 1 - p->block_row;
    p->block = p->column / block[1];
    p->blocks = (p->column + p->columns - 1) / block[1] + 1 - p->block;
    return true;
}

/* The elements of each part, then the scales of its blocks: one run, because whole rows have all of
 * them. */
static bool needs_of_scaled(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, visit *v)
{
    const sw_tensor *weight = &o->c->tensors[o->how[i].source], *scale = &o->c->tensors[o->how[i].scale];
    uint64_t size = sw_dtype_bits((sw_dtype)scale->dtype) / 8,
             each = sw_dtype_bits((sw_dtype)weight->dtype) / 8;
    sw_scaled_part p;

    for (; sw_scaled_segment(o, i, x, n, &p); x += p.rows * p.columns, n -= p.rows * p.columns) {
        uint64_t first = p.block_row * sw_tensor_shape(o->c, scale)[1] + p.block;

        if (!need(v, weight, x * each, p.rows * p.columns * each) ||
            !need(v, scale, first * size, p.block_rows * p.blocks * size))
            return false;
    }
    return true;
}

bool sw_mxfp4_segment(const sw_mxfp4 *m, uint64_t x, uint64_t n, sw_mxfp4_part *p)
{
    uint64_t columns = m->groups * SW_MXFP4_BLOCK, first, last, at;

    if (n == 0)
        return false;
    first = x / m->rows;
    at = x % m->rows;
    p->expert = first / columns;
    p->elements = sw_min(n, (p->expert + 1) * columns * m->rows - x);
    if (p->elements < m->rows)
        p->elements = sw_min(p->elements, m->rows - at);
    last = (x + p->elements - 1) / m->rows;
    p->column = first % columns;
    p->columns = last - first + 1;
    p->row = first == last ? at : 0;
    p->rows = first == last ? p->elements : m->rows;
    p->skip = at - p->row;
    p->tail = first == last ? p->rows : x + p->elements - last * m->rows;
    p->group = p->column / SW_MXFP4_BLOCK;
    p->groups = (p->column + p->columns - 1) / SW_MXFP4_BLOCK + 1 - p->group;
    return true;
}

/* The groups of a part in each of its rows; all groups of many rows lie together. size: bytes of
 * one. */
static bool need_groups(const sw_mxfp4 *m, const sw_mxfp4_part *p, const sw_tensor *t, uint64_t size,
                        visit *v)
{
    uint64_t first = (p->expert * m->rows + p->row) * m->groups + p->group;

    if (p->groups == m->groups)
        return need(v, t, first * size, p->rows * p->groups * size);
    for (uint64_t r = 0; r < p->rows; r++)
        if (!need(v, t, (first + r * m->groups) * size, p->groups * size))
            return false;
    return true;
}

static bool needs_of_mxfp4(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, visit *v)
{
    const sw_tensor *blocks = &o->c->tensors[o->how[i].source], *scales = &o->c->tensors[o->how[i].scale];
    sw_mxfp4_part p;
    sw_mxfp4 m;

    for (sw_mxfp4_shape(o, i, &m); sw_mxfp4_segment(&m, x, n, &p); x += p.elements, n -= p.elements)
        if (!need_groups(&m, &p, blocks, SW_MXFP4_BYTES, v) || !need_groups(&m, &p, scales, 1, v))
            return false;
    return true;
}

bool sw_needs_each(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n, sw_need_fn fn, void *ctx)
{
    const sw_tensor *source = &o->c->tensors[o->how[i].source];
    uint64_t in = sw_dtype_bits((sw_dtype)source->dtype) / 8, out = sw_output_element(o, i);
    visit v = { fn, ctx, 0 };

    if (n == 0)
        return true;
    switch (o->how[i].op) {
    case SW_OP_CAST:
        return need(&v, source, from / out * in, n / out * in);
    case SW_OP_SCALED:
        return needs_of_scaled(o, i, from / out, n / out, &v);
    case SW_OP_MXFP4:
        return needs_of_mxfp4(o, i, from / out, n / out, &v);
    case SW_OP_COPY:
        break;
    }
    return need(&v, source, from, n);
}

static uint64_t size_of_scaled(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n)
{
    uint64_t size = 0, scale = sw_dtype_bits((sw_dtype)o->c->tensors[o->how[i].scale].dtype) / 8;
    uint64_t each = sw_dtype_bits((sw_dtype)o->c->tensors[o->how[i].source].dtype) / 8;
    sw_scaled_part p;

    for (; sw_scaled_segment(o, i, x, n, &p); x += p.rows * p.columns, n -= p.rows * p.columns)
        size += p.rows * p.columns * each + p.block_rows * p.blocks * scale;
    return size;
}

static uint64_t size_of_mxfp4(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n)
{
    uint64_t size = 0;
    sw_mxfp4_part p;
    sw_mxfp4 m;

    for (sw_mxfp4_shape(o, i, &m); sw_mxfp4_segment(&m, x, n, &p); x += p.elements, n -= p.elements)
        size += p.rows * p.groups * (SW_MXFP4_BYTES + 1);
    return size;
}

uint64_t sw_needs_size(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n)
{
    uint64_t out = sw_output_element(o, i);

    switch (o->how[i].op) {
    case SW_OP_CAST:
        return n / out * (sw_dtype_bits((sw_dtype)o->c->tensors[o->how[i].source].dtype) / 8);
    case SW_OP_SCALED:
        return size_of_scaled(o, i, from / out, n / out);
    case SW_OP_MXFP4:
        return size_of_mxfp4(o, i, from / out, n / out);
    case SW_OP_COPY:
        break;
    }
    return 0;
}
