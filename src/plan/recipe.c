/* What boxes of values are made of; see recipe.h. */
#include "plan/recipe.h"

#include <string.h>

#include "plan/dims.h"

unsigned sw_recipe_bits(const sw_recipe *how)
{
    return how->op == SW_OP_COPY ? how->view.bits : sw_dtype_bits(how->to);
}

/* Complete a box: it stands behind what there is. */
static void measure(sw_ingredient *i, uint64_t at)
{
    i->at = at;
    i->bytes = i->view.bits * sw_dims_count(i->shape, i->view.n) / 8;
}

/* The whole units of a range that hold [*offset, *offset + *n), counted in units. */
static void round_out(uint64_t *offset, uint64_t *n, uint64_t unit)
{
    uint64_t last = (*offset + *n - 1) / unit;

    *offset /= unit;
    *n = last + 1 - *offset;
}

/* Of no box that is empty. */
unsigned sw_ingredients(const sw_making *g, sw_ingredient out[2])
{
    const sw_recipe *how = g->how;
    const sw_catalog *c = how->view.c;
    unsigned n = how->op == SW_OP_MXFP4 ? 3 : how->view.n;

    out[0].view = how->view;
    memcpy(out[0].offsets, g->offsets, n * sizeof *g->offsets);
    memcpy(out[0].shape, g->shape, n * sizeof *g->shape);
    if (how->op == SW_OP_MXFP4) {
        round_out(&out[0].offsets[2], &out[0].shape[2], SW_MXFP4_BLOCK);
        out[0].offsets[3] = 0;
        out[0].shape[3] = SW_MXFP4_BYTES;
    }
    measure(&out[0], 0);
    if (how->op == SW_OP_COPY || how->op == SW_OP_CAST)
        return 1;
    out[1].view = sw_view_elements(c, how->scale);
    memcpy(out[1].offsets, out[0].offsets, n * sizeof *g->offsets);
    memcpy(out[1].shape, out[0].shape, n * sizeof *g->shape);
    for (unsigned d = 0; d < 2 && how->op == SW_OP_SCALED; d++)
        round_out(&out[1].offsets[d], &out[1].shape[d], c->block[d]);
    measure(&out[1], out[0].bytes);
    return 2;
}

bool sw_ingredient_runs_each(const sw_ingredient *in, sw_run_fn fn, void *ctx)
{
    const sw_run_target target = { in->offsets, in->shape, NULL };

    return sw_runs_each(&in->view, &target, fn, ctx);
}

uint64_t sw_ingredients_size(const sw_making *g)
{
    sw_ingredient all[2];
    unsigned n = sw_ingredients(g, all);

    return all[n - 1].at + all[n - 1].bytes;
}
