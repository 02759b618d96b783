/* Conversions of boxes; see convert.h. */
#include "read/convert.h"

#include "base/num.h"
#include "plan/dims.h"
#include "value/cast.h"
#include "value/dequant.h"

/* Scales that are made F32 at a time: those of a piece of a row. */
#define SCALES 64u

/* ---- scales of blocks ------------------------------------------------------------------------ */

typedef struct scaled {
    sw_scaled_row row;
    sw_dtype scale;
    uint64_t scale_size, in_size, out_size;
    uint64_t begin, columns; /* of the box, counted from its first block */
} scaled;

/* One row: src its elements, scales its blocks'. */
static void convert_row(const scaled *k, const char *src, const char *scales, char *to)
{
    const uint64_t size = k->row.block, end = k->begin + k->columns;
    float factors[SCALES];
    sw_scaled_row row = k->row;

    row.scales = factors;
    for (uint64_t block = 0; block * size < end; block += SCALES) {
        uint64_t blocks = sw_min(SCALES, (end - 1) / size + 1 - block);
        uint64_t first = sw_max(k->begin, block * size), until = sw_min(end, (block + blocks) * size);

        sw_dequant_numbers(k->scale, scales + block * k->scale_size, factors, blocks);
        sw_dequant_row(sw_cast_path_best(), &row, src + (first - k->begin) * k->in_size, first - block * size,
                       to + (first - k->begin) * k->out_size, until - first);
    }
}

/* Numbers times the scales of their blocks, row by row. */
static void convert_scaled(const sw_making *g, const char *input, char *to)
{
    const sw_recipe *how = g->how;
    const sw_dtype from = (sw_dtype)how->view.t->dtype, scale = (sw_dtype)how->scale->dtype;
    const uint64_t *block = how->view.c->block, rows = g->shape[0], columns = g->shape[1];
    sw_ingredient in[2];
    scaled k = { { from, how->to, block[1], NULL },
                 scale,
                 sw_dtype_bits(scale) / 8,
                 sw_dtype_bits(from) / 8,
                 sw_dtype_bits(how->to) / 8,
                 g->offsets[1] % block[1],
                 columns };
    int64_t stride = g->strides ? g->strides[0] / 8 : (int64_t)(columns * k.out_size);

    sw_ingredients(g, in);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t row = (g->offsets[0] + r) / block[0] - in[1].offsets[0];

        convert_row(&k, input + r * columns * k.in_size,
                    input + in[1].at + row * in[1].shape[1] * k.scale_size, to + (int64_t)r * stride);
    }
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

/* Packed blocks and scales of a box, and where its values go. */
typedef struct mxfp4 {
    const char *blocks, *scales;
    uint64_t rows, groups;      /* of the box */
    uint64_t begin;             /* its first column, counted from its first group */
    int64_t row_step, col_step; /* bytes of memory */
    sw_dtype dtype;
    char *to; /* of one expert */
} mxfp4;

/* Columns [column, end) of rows [row, stop). Where columns lie together, by rows; else by groups,
 * of which one is a block in each row. */
static void put(const mxfp4 *k, uint64_t column, uint64_t end, uint64_t row, uint64_t stop)
{
    const uint64_t size = sw_dtype_bits(k->dtype) / 8;
    const bool by_rows = k->col_step == (int64_t)size;

    for (uint64_t r = row; r < stop; r += by_rows ? 1 : stop - row) {
        for (uint64_t c = column, n; c < end; c += n) {
            uint64_t at = k->begin + c, first = at % SW_MXFP4_BLOCK, block;
            uint64_t whole = by_rows && first == 0 ? (end - c) / SW_MXFP4_BLOCK : 0;
            sw_mxfp4_run run = { .block_step = SW_MXFP4_BYTES,
                                 .scale_step = 1,
                                 .nblocks = sw_max(whole, 1),
                                 .first = (unsigned)first,
                                 .value_step = (uint64_t)k->col_step / size };

            n = whole ? whole * SW_MXFP4_BLOCK : sw_min(SW_MXFP4_BLOCK - first, end - c);
            run.nvalues = (unsigned)(whole ? SW_MXFP4_BLOCK : n);
            run.out_step = run.nvalues;
            if (!by_rows) {
                run.block_step = k->groups * SW_MXFP4_BYTES;
                run.scale_step = k->groups;
                run.nblocks = stop - row;
                run.out_step = (uint64_t)k->row_step / size;
            }
            block = r * k->groups + at / SW_MXFP4_BLOCK;
            run.blocks = k->blocks + block * SW_MXFP4_BYTES;
            run.scales = k->scales + block;
            sw_dequant_mxfp4(sw_cast_path_best(), &run, k->dtype,
                             k->to + (int64_t)c * k->col_step + (int64_t)r * k->row_step);
        }
    }
}

/* All that is wanted of one expert. */
static void put_expert(const mxfp4 *k, const sw_making *g)
{
    uint64_t begin = 0, end = g->shape[2];

    if (g->skip > 0)
        put(k, begin++, 1, g->skip, k->rows);
    if (g->tail < k->rows && begin < end) {
        end--;
        put(k, end, end + 1, 0, g->tail);
    }
    put(k, begin, end, 0, k->rows);
}

/* FP4 pairs and their scales, expert by expert. */
static void convert_mxfp4(const sw_making *g, const char *input, char *to)
{
    const int64_t bits = (int64_t)sw_dtype_bits(g->how->to), columns = (int64_t)g->shape[2];
    const int64_t packed[3] = { bits * columns * (int64_t)g->shape[1], bits * columns, bits };
    const int64_t *strides = g->strides ? g->strides : packed;
    sw_ingredient in[2];
    mxfp4 k = { .rows = g->shape[1],
                .begin = g->offsets[2] % SW_MXFP4_BLOCK,
                .row_step = strides[1] / 8,
                .col_step = strides[2] / 8,
                .dtype = g->how->to };

    sw_ingredients(g, in);
    k.groups = in[0].shape[2];
    for (uint64_t e = 0; e < g->shape[0]; e++) {
        k.blocks = input + e * k.rows * k.groups * SW_MXFP4_BYTES;
        k.scales = input + in[1].at + e * k.rows * k.groups;
        k.to = to + (int64_t)e * (strides[0] / 8);
        put_expert(&k, g);
    }
}

/* ---- any ------------------------------------------------------------------------------------- */

/* Is a stride a number of elements, forwards? */
static bool is_step(int64_t stride, unsigned bits)
{
    return stride >= 0 && stride % (int64_t)bits == 0;
}

bool sw_convert_can_place(const sw_making *g)
{
    unsigned bits = sw_dtype_bits(g->how->to);
    sw_run run;

    if (!g->strides)
        return true;
    if (g->how->op == SW_OP_SCALED)
        return g->strides[1] == (int64_t)bits;
    if (g->how->op == SW_OP_MXFP4)
        return g->strides[2] == (int64_t)bits ||
               (is_step(g->strides[1], bits) && is_step(g->strides[2], bits));
    sw_run_scatter(g->how->view.n, g->shape, bits, g->strides, &run);
    return run.nloops == 0;
}

void sw_convert(const sw_making *g, const char *input, char *to)
{
    if (g->how->op == SW_OP_SCALED) {
        convert_scaled(g, input, to);
    } else if (g->how->op == SW_OP_MXFP4) {
        convert_mxfp4(g, input, to);
    } else {
        sw_cast((sw_dtype)g->how->view.t->dtype, g->how->to, input, to,
                sw_dims_count(g->shape, g->how->view.n));
    }
}
