/* Boxes of values; see make.h. */
#include "read/make.h"

#include "base/num.h"
#include "plan/dims.h"
#include "read/convert.h"

#define SLACK 128u /* for the blocks at the edges of a chunk, and for what aligns */

typedef struct gather {
    const sw_maker *m;
    char *to;
    sw_status *st;
} gather;

/* One run of a box. */
static bool pull_run(void *ctx, const sw_run *run)
{
    const gather *g = ctx;

    return sw_pull_run(&g->m->pull, run, g->to, g->st) == SW_OK;
}

/* A box of a tensor, as it was saved. */
static sw_code pull_box(const sw_maker *m, const sw_view *view, uint64_t source, const sw_run_target *target,
                        char *to, sw_status *st)
{
    gather g = { m, to, st };
    sw_run run;

    if (source == SW_ANY_BOX)
        sw_runs_each(view, target, pull_run, &g);
    else if (sw_run_make(view, source, target, &run) == SW_RUN_SHARED)
        pull_run(&g, &run);
    return st->code;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Scratch memory for one of the things that are counted: a step of a box, of MXFP4 a block of 32.
 * Where the shorter side of a block of scales is m, n elements lie in at most 2n / m + 6 blocks. */
static uint64_t bytes_of_one(const sw_recipe *how, bool packed)
{
    uint64_t in = how->view.bits / 8, out = packed ? sw_dtype_bits(how->to) / 8 : 0, least, scale;

    if (how->op == SW_OP_MXFP4)
        return SW_MXFP4_BYTES + 1 + out * SW_MXFP4_BLOCK;
    if (how->op != SW_OP_SCALED)
        return in + out;
    least = sw_min(how->view.c->block[0], how->view.c->block[1]);
    scale = sw_dtype_bits((sw_dtype)how->scale->dtype) / 8;
    return in + out + (2 * scale + least - 1) / least;
}

/* Gather the ingredients of a box, and make it. */
static sw_code make_chunk(const sw_maker *m, const sw_making *g, char *input, char *to, sw_status *st)
{
    sw_ingredient in[2];
    unsigned n = sw_ingredients(g, in);

    for (unsigned i = 0; i < n && !st->code; i++) {
        sw_run_target target = { in[i].offsets, in[i].shape, NULL };

        pull_box(m, &in[i].view, g->source, &target, input + in[i].at, st);
    }
    if (!st->code)
        sw_convert(g, input, to);
    return st->code;
}

/* Into scratch memory first where it cannot go straight to its place. */
static sw_code deliver(const sw_maker *m, const sw_making *g, char *to, sw_status *st)
{
    const sw_recipe *how = g->how;
    sw_making aside = *g;
    sw_run run;

    if (sw_convert_can_place(g))
        return make_chunk(m, g, m->memory, to, st);
    sw_run_scatter(how->op == SW_OP_MXFP4 ? 3 : how->view.n, g->shape, sw_dtype_bits(how->to), g->strides,
                   &run);
    aside.strides = NULL;
    if (!make_chunk(m, &aside, m->memory + sw_round_up(run.n, sizeof(double)), m->memory, st))
        sw_pull_copy(&run, m->memory, to);
    return st->code;
}

/* A chunk of blocks of MXFP4: the values of it that belong to the box, and how its first and last
 * columns are clipped. */
static void clip_blocks(const sw_making *g, sw_making *chunk, uint64_t *offsets, uint64_t *shape)
{
    uint64_t end = g->offsets[2] + g->shape[2], row = offsets[1] - g->offsets[1], first, until;

    first = sw_max(offsets[2] * SW_MXFP4_BLOCK, g->offsets[2]);
    until = sw_min((offsets[2] + shape[2]) * SW_MXFP4_BLOCK, end);
    offsets[2] = first;
    shape[2] = until - first;
    chunk->skip = first > g->offsets[2] || g->skip < row ? 0 : sw_min(g->skip - row, shape[1]);
    chunk->tail = until < end || g->tail == SW_NO_TAIL ? SW_NO_TAIL : g->tail < row ? 0 : g->tail - row;
}

/* A box by chunks that fit the scratch memory. */
static sw_code convert_box(const sw_maker *m, const sw_making *g, char *memory, sw_status *st)
{
    const bool blocks = g->how->op == SW_OP_MXFP4;
    const unsigned ndim = blocks ? 3 : g->how->view.n;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    int64_t strides[SW_MAX_DIMS];
    sw_making chunk = *g;
    sw_ingredient in[2];
    const sw_run_target all = { in[0].offsets, in[0].shape, NULL };
    uint64_t n, limit = (m->room - SLACK) / bytes_of_one(g->how, !sw_convert_can_place(g));

    chunk.offsets = offsets;
    chunk.shape = shape;
    if (!g->strides) {
        sw_strides_packed(ndim, g->shape, sw_dtype_bits(g->how->to), strides);
        chunk.strides = strides;
    }
    sw_ingredients(g, in);
    n = sw_dims_count(in[0].shape, ndim);
    for (uint64_t x = 0; x < n && !st->code;) {
        x += sw_first_box(&all, ndim, x, sw_min(limit, n - x), offsets, shape);
        if (blocks)
            clip_blocks(g, &chunk, offsets, shape);
        deliver(m, &chunk, memory + g->to + sw_strides_between(ndim, g->offsets, offsets, chunk.strides), st);
    }
    return st->code;
}

sw_code sw_make(const sw_maker *m, const sw_making *g, char *memory, sw_status *st)
{
    sw_run_target target = { g->offsets, g->shape, g->strides };

    return g->how->op == SW_OP_COPY ? pull_box(m, &g->how->view, g->source, &target, memory + g->to, st)
                                    : convert_box(m, g, memory, st);
}
