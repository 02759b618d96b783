/* Converted boxes; see recast.h. */
#include "read/recast.h"

#include "base/num.h"
#include "value/cast.h"
#include "value/dequant.h"

/* A chunk: a box, its numbers as they were saved, and where its results go, packed. */
typedef struct chunk {
    const sw_recast *r;
    const sw_request *w;
    uint64_t box;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    uint64_t elements;
    char *input;
    uint64_t room; /* at input */
} chunk;

/* Scratch memory that one element needs besides its result: as saved, and its share of scales, once
 * as saved and once as F32: where the shorter side of a block is m, n elements lie in at most 2n /
 * m + 6 blocks. Of MXFP4, a value may be the only one that is wanted of its block. */
static uint64_t input_of_element(const sw_catalog *c, const sw_request *w)
{
    uint64_t size = sw_dtype_bits((sw_dtype)w->tensor->dtype) / 8, least, scale;

    if (w->op == SW_OP_MXFP4)
        return SW_MXFP4_BYTES + 1;
    if (w->op != SW_OP_SCALED)
        return size;
    least = sw_min(c->block[0], c->block[1]);
    scale = sw_dtype_bits((sw_dtype)w->scale->dtype) / 8 + sizeof(float);
    return size + (2 * scale + least - 1) / least;
}

#define SLACK 128u /* for the six blocks, and for what aligns */

/* ---- reading --------------------------------------------------------------------------------- */

/* A box of a tensor, packed. */
static sw_code gather(const chunk *k, const sw_tensor *t, uint64_t box, const uint64_t *offsets,
                      const uint64_t *shape, char *to, sw_status *st)
{
    sw_run_target target = { offsets, shape, NULL };
    uint64_t first = box, end = box + 1;
    sw_run run;

    if (box == SW_ANY_BOX)
        sw_run_range(k->r->c, t, offsets, shape, &first, &end);
    for (uint64_t i = first; i < end && !st->code; i++)
        if (sw_run_make(k->r->c, t, i, &target, &run) == SW_RUN_SHARED)
            sw_pull_run(k->r->pull, &run, to, st);
    return st->code;
}

/* ---- scales of blocks ------------------------------------------------------------------------ */

/* Weights, then the scales of their blocks as F32, then as saved. */
static sw_code make_scaled(const chunk *k, char *to, sw_status *st)
{
    const sw_request *w = k->w;
    const uint64_t *at = k->offsets, *n = k->shape, *block = k->r->c->block;
    uint64_t first[2], blocks[2];
    uint64_t in_size = sw_dtype_bits((sw_dtype)w->tensor->dtype) / 8, out_size = sw_dtype_bits(w->to) / 8;
    float *scales = (float *)(void *)(k->input + sw_round_up(k->elements * in_size, sizeof *scales));
    sw_scaled_row row = { (sw_dtype)w->tensor->dtype, w->to, block[1], NULL };
    char *raw;

    for (unsigned d = 0; d < 2; d++) {
        first[d] = at[d] / block[d];
        blocks[d] = (at[d] + n[d] - 1) / block[d] + 1 - first[d];
    }
    raw = (char *)(scales + blocks[0] * blocks[1]);
    if (gather(k, w->tensor, k->box, at, n, k->input, st) ||
        gather(k, w->scale, SW_ANY_BOX, first, blocks, raw, st))
        return st->code;
    sw_dequant_numbers((sw_dtype)w->scale->dtype, raw, scales, blocks[0] * blocks[1]);
    for (uint64_t r = 0; r < n[0]; r++) {
        row.scales = scales + ((at[0] + r) / block[0] - first[0]) * blocks[1];
        sw_dequant_row(&row, k->input + r * n[1] * in_size, at[1] - first[1] * block[1],
                       to + r * n[1] * out_size, n[1]);
    }
    return SW_OK;
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

/* Values [begin, end) of one row, of which the first group is given: parts of blocks at its ends,
 * whole ones between. */
static void make_mxfp4_row(const char *blocks, const char *scales, uint64_t begin, uint64_t end, sw_dtype to,
                           char *out)
{
    for (uint64_t n; begin < end; begin += n) {
        uint64_t group = begin / SW_MXFP4_BLOCK, first = begin % SW_MXFP4_BLOCK;
        uint64_t whole = first == 0 ? (end - begin) / SW_MXFP4_BLOCK : 0;
        sw_mxfp4_run run = { .blocks = blocks + group * SW_MXFP4_BYTES,
                             .scales = scales + group,
                             .block_step = SW_MXFP4_BYTES,
                             .scale_step = 1,
                             .nblocks = sw_max(whole, 1),
                             .first = (unsigned)first,
                             .value_step = 1 };

        n = whole ? whole * SW_MXFP4_BLOCK : sw_min(SW_MXFP4_BLOCK - first, end - begin);
        run.nvalues = (unsigned)(whole ? SW_MXFP4_BLOCK : n);
        run.out_step = run.nvalues;
        sw_dequant_mxfp4(&run, to, out);
        out += n * (sw_dtype_bits(to) / 8);
    }
}

/* Blocks, then their scales. */
static sw_code make_mxfp4(const chunk *k, char *to, sw_status *st)
{
    const sw_request *w = k->w;
    uint64_t offsets[4], shape[4], rows, begin, columns = k->shape[2];
    char *scales;

    sw_request_blocks(k->offsets, k->shape, offsets, shape);
    rows = shape[0] * shape[1];
    begin = k->offsets[2] - offsets[2] * SW_MXFP4_BLOCK;
    scales = k->input + rows * shape[2] * SW_MXFP4_BYTES;
    if (gather(k, w->tensor, SW_ANY_BOX, offsets, shape, k->input, st) ||
        gather(k, w->scale, SW_ANY_BOX, offsets, shape, scales, st))
        return st->code;
    for (uint64_t r = 0; r < rows; r++)
        make_mxfp4_row(k->input + r * shape[2] * SW_MXFP4_BYTES, scales + r * shape[2], begin,
                       begin + columns, w->to, to + r * columns * (sw_dtype_bits(w->to) / 8));
    return SW_OK;
}

/* ---- any ------------------------------------------------------------------------------------- */

static sw_code make(const chunk *k, char *to, sw_status *st)
{
    switch (k->w->op) {
    case SW_OP_SCALED:
        return make_scaled(k, to, st);
    case SW_OP_MXFP4:
        return make_mxfp4(k, to, st);
    default:
        if (!gather(k, k->w->tensor, k->box, k->offsets, k->shape, k->input, st))
            sw_cast((sw_dtype)k->w->tensor->dtype, k->w->to, k->input, to, k->elements);
        return st->code;
    }
}

/* Where the first element of the chunk goes. */
static char *place(const chunk *k)
{
    int64_t bits = 0;

    for (unsigned d = 0; d < k->w->ndim; d++)
        bits += (int64_t)(k->offsets[d] - k->w->offsets[d]) * k->w->strides[d];
    return k->w->data + bits / 8;
}

/* Straight into place where that is one run; else into scratch memory first. */
static sw_code deliver(chunk *k, sw_status *st)
{
    const sw_request *w = k->w;
    char *packed = k->r->memory;
    sw_run run;

    k->elements = 1;
    for (unsigned d = 0; d < w->ndim; d++)
        k->elements *= k->shape[d];
    sw_run_scatter(w->ndim, k->shape, sw_dtype_bits(w->to), w->strides, &run);
    if (run.nloops == 0)
        return make(k, place(k), st);
    k->input = packed + sw_round_up(run.n, sizeof(double));
    if (!make(k, packed, st))
        sw_pull_copy(&run, packed, place(k));
    return st->code;
}

sw_code sw_recast_box(const sw_recast *r, const sw_request *w, uint64_t box, const uint64_t *offsets,
                      const uint64_t *shape, sw_status *st)
{
    uint64_t each = input_of_element(r->c, w) + sw_dtype_bits(w->to) / 8;
    chunk k = { .r = r, .w = w, .box = box };
    sw_chunks chunks;

    sw_chunks_init(&chunks, w->ndim, offsets, shape, (r->room - SLACK) / each);
    for (uint64_t i = 0; i < chunks.n && !st->code; i++) {
        sw_chunks_get(&chunks, i, k.offsets, k.shape);
        k.input = r->memory;
        deliver(&k, st);
    }
    return st->code;
}
