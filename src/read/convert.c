/* Conversions of one range; see convert.h. */
#include "read/convert.h"

#include "base/num.h"
#include "value/cast.h"
#include "value/dequant.h"

/* Scales that are made F32 at a time: those of a piece of a row. */
#define SCALES 64u

/* ---- scales of blocks ------------------------------------------------------------------------ */

typedef struct scaled {
    sw_scaled_row row;
    sw_dtype scale;
    uint64_t scale_size, in_size, out_size;
} scaled;

/* One row of a part: src its elements, scales its blocks'. */
static void convert_row(const scaled *k, const sw_scaled_part *p, const char *src, const char *scales,
                        char *to)
{
    const uint64_t size = k->row.block;
    uint64_t begin = p->column - p->block * size; /* columns from the first block on */
    float factors[SCALES];
    sw_scaled_row row = k->row;

    row.scales = factors;
    for (uint64_t block = 0; block < p->blocks; block += SCALES) {
        uint64_t blocks = sw_min(SCALES, p->blocks - block);
        uint64_t first = sw_max(begin, block * size);
        uint64_t end = sw_min(begin + p->columns, (block + blocks) * size);

        sw_dequant_numbers(k->scale, scales + block * k->scale_size, factors, blocks);
        sw_dequant_row(&row, src + (first - begin) * k->in_size, first - block * size,
                       to + (first - begin) * k->out_size, end - first);
    }
}

static void convert_scaled(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, const char *input,
                           char *to)
{
    const sw_output *how = &o->how[i];
    const uint64_t *block = o->c->block;
    scaled k = { { (sw_dtype)o->c->tensors[how->source].dtype, (sw_dtype)o->view.tensors[i].out_dtype,
                   block[1], NULL },
                 (sw_dtype)o->c->tensors[how->scale].dtype,
                 0,
                 0,
                 sw_output_element(o, i) };
    sw_scaled_part p;

    k.scale_size = sw_dtype_bits(k.scale) / 8;
    k.in_size = sw_dtype_bits(k.row.from) / 8;
    while (sw_scaled_segment(o, i, x, n, &p)) {
        uint64_t elements = p.rows * p.columns;
        const char *scales = input + elements * k.in_size;

        for (uint64_t r = 0; r < p.rows; r++)
            convert_row(&k, &p, input + r * p.columns * k.in_size,
                        scales + ((p.row + r) / block[0] - p.block_row) * p.blocks * k.scale_size,
                        to + r * p.columns * k.out_size);
        input = scales + p.block_rows * p.blocks * k.scale_size;
        to += elements * k.out_size;
        x += elements;
        n -= elements;
    }
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

/* Rows of the input box of a part, and where it goes. */
typedef struct mxfp4_rows {
    const sw_mxfp4 *m;
    const sw_mxfp4_part *p;
    const sw_mxfp4_input *in;
    uint64_t first; /* of the rows that in has */
    sw_dtype dtype;
    char *to;
} mxfp4_rows;

/* Columns [column, end) of rows [row, stop). */
static void convert_box(const mxfp4_rows *k, uint64_t column, uint64_t end, uint64_t row, uint64_t stop)
{
    const sw_mxfp4_part *p = k->p;
    uint64_t size = sw_dtype_bits(k->dtype) / 8, until;

    /* A group is one block in each row; its values go to as many columns. */
    for (; row < stop && column < end; column = until) {
        uint64_t group = column / SW_MXFP4_BLOCK, begin = group * SW_MXFP4_BLOCK;
        sw_mxfp4_run run = { .block_step = k->in->block_stride,
                             .scale_step = k->in->scale_stride,
                             .nblocks = stop - row,
                             .first = (unsigned)(column - begin),
                             .value_step = k->m->rows,
                             .out_step = 1 };

        until = sw_min(begin + SW_MXFP4_BLOCK, end);
        run.nvalues = (unsigned)(until - column);
        run.blocks = k->in->blocks + (row - k->first) * run.block_step + (group - p->group) * SW_MXFP4_BYTES;
        run.scales = k->in->scales + (row - k->first) * run.scale_step + (group - p->group);
        sw_dequant_mxfp4(&run, k->dtype, k->to + ((column - p->column) * k->m->rows + row - p->skip) * size);
    }
}

void sw_convert_mxfp4(const sw_mxfp4 *m, const sw_mxfp4_part *p, uint64_t first, uint64_t rows,
                      const sw_mxfp4_input *in, sw_dtype to_dtype, char *to)
{
    mxfp4_rows k = { m, p, in, first, to_dtype, to };
    uint64_t begin = p->column, end = p->column + p->columns, stop = first + rows;

    if (p->skip > 0) {
        convert_box(&k, begin, begin + 1, sw_max(first, p->skip), stop);
        begin++;
    }
    if (p->tail < p->rows) {
        end--;
        convert_box(&k, end, end + 1, first, sw_min(stop, p->tail));
    }
    convert_box(&k, begin, end, first, stop);
}

static void convert_mxfp4(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, const char *input,
                          char *to)
{
    uint64_t size = sw_output_element(o, i);
    sw_mxfp4_part p;
    sw_mxfp4 m;

    for (sw_mxfp4_shape(o, i, &m); sw_mxfp4_segment(&m, x, n, &p); x += p.elements, n -= p.elements) {
        uint64_t blocks = p.rows * p.groups;
        sw_mxfp4_input in = { input, input + blocks * SW_MXFP4_BYTES, p.groups * SW_MXFP4_BYTES, p.groups };

        sw_convert_mxfp4(&m, &p, 0, p.rows, &in, (sw_dtype)o->view.tensors[i].out_dtype, to);
        input += blocks * (SW_MXFP4_BYTES + 1);
        to += p.elements * size;
    }
}

/* ---- any ------------------------------------------------------------------------------------- */

void sw_convert(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n, const char *input, char *to)
{
    uint64_t size = sw_output_element(o, i);

    switch (o->how[i].op) {
    case SW_OP_CAST:
        sw_cast((sw_dtype)o->c->tensors[o->how[i].source].dtype, (sw_dtype)o->view.tensors[i].out_dtype,
                input, to, n / size);
        break;
    case SW_OP_SCALED:
        convert_scaled(o, i, from / size, n / size, input, to);
        break;
    case SW_OP_MXFP4:
        convert_mxfp4(o, i, from / size, n / size, input, to);
        break;
    case SW_OP_COPY:
        break;
    }
}
