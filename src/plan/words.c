/* Words for a sharding; see words.h.
 *
 * All places where a box begins or ends along a dimension are its cuts. If every box lies between
 * two neighbouring cuts of each dimension, the boxes are cells of a grid, and the cells without a
 * box are holes; uneven chunks make no difference. */
#include "plan/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "plan/dims.h"

/* Append to a text of SW_SHARDING_TEXT bytes. */
#define say(text, ...) sw_text_addf(text, SW_SHARDING_TEXT, __VA_ARGS__)

/* ---- the grid -------------------------------------------------------------------------------- */

typedef struct grid {
    bool is_grid;
    uint64_t parts[SW_MAX_DIMS]; /* cells along each dimension */
    uint64_t cells;
} grid;

uint64_t sw_sharding_cuts(const sw_catalog *c, const sw_tensor *t, unsigned dim, uint64_t *cuts)
{
    uint64_t n = 0, kept = 1;

    cuts[n++] = 0;
    cuts[n++] = sw_tensor_shape(c, t)[dim];
    for (uint64_t k = 0; k < t->nboxes; k++) {
        sw_placed b;

        cuts[n++] = sw_box_get(c, t, k, &b)->offsets[dim];
        cuts[n++] = b.offsets[dim] + b.shape[dim];
    }
    qsort(cuts, n, sizeof *cuts, sw_by_number);
    for (uint64_t i = 1; i < n; i++)
        if (cuts[i] != cuts[kept - 1])
            cuts[kept++] = cuts[i];
    return kept;
}

/* Does every box begin at a cut and end at the next one? */
static bool fills_cells(const sw_catalog *c, const sw_tensor *t, unsigned dim, const uint64_t *cuts,
                        uint64_t n)
{
    for (uint64_t k = 0; k < t->nboxes; k++) {
        sw_placed b;
        uint64_t begin = sw_box_get(c, t, k, &b)->offsets[dim], end = begin + b.shape[dim];
        const uint64_t *at = bsearch(&begin, cuts, n, sizeof *cuts, sw_by_number);

        if (!at || at == cuts + n - 1 || at[1] != end)
            return false;
    }
    return true;
}

/* Are the boxes cells of a grid, and of which? */
static sw_code find_grid(const sw_catalog *c, const sw_tensor *t, grid *g, sw_status *st)
{
    uint64_t *cuts = sw_calloc(2 * t->nboxes + 2, sizeof *cuts, st);

    *g = (grid){ .is_grid = !t->overlaps, .cells = 1 };
    for (unsigned d = 0; cuts && g->is_grid && d < t->ndim; d++) {
        uint64_t n = sw_sharding_cuts(c, t, d, cuts);

        g->parts[d] = n - 1;
        g->is_grid = fills_cells(c, t, d, cuts, n) && sw_mul(g->cells, g->parts[d], &g->cells);
    }
    free(cuts);
    return st->code;
}

/* ---- replicas -------------------------------------------------------------------------------- */

/* How often each region is there, if all are equally often; else 0. Replicas lie behind the used
 * boxes, sorted likewise. */
static uint64_t multiplicity(const sw_catalog *c, const sw_tensor *t)
{
    uint64_t each = t->nboxes ? t->nreplicas / t->nboxes : 0;
    size_t size = 2u * t->ndim * sizeof(uint64_t);

    if (each * t->nboxes != t->nreplicas)
        return 0;
    for (uint64_t i = 0; i < t->nreplicas; i++) {
        sw_placed is, want;

        sw_box_get(c, t, t->nboxes + i, &is);
        if (memcmp(is.offsets, sw_box_get(c, t, i / each, &want)->offsets, size) != 0)
            return 0;
    }
    return each + 1;
}

/* ---- words ----------------------------------------------------------------------------------- */

/* What is cut, and the number of parts behind it: one dimension. */
static void say_one(char *w, const sw_tensor *t, const grid *g, unsigned dim, uint64_t times)
{
    if (dim == 0)
        say(w, "rows");
    else if (dim == 1 && t->ndim == 2)
        say(w, "columns");
    else
        say(w, "dim %u", dim);
    if (times > 1)
        say(w, " replicated x%" PRIu64, times);
    say(w, " over %" PRIu64, g->parts[dim]);
}

/* "2x4 grid", "2x1x4 grid": all dimensions, so that it is clear which are cut. */
static void say_grid(char *w, const sw_tensor *t, const grid *g, uint64_t times)
{
    for (unsigned d = 0; d < t->ndim; d++)
        say(w, "%s%" PRIu64, d ? "x" : "", g->parts[d]);
    say(w, " grid");
    if (times > 1)
        say(w, " replicated x%" PRIu64, times);
}

/* A grid by how many dimensions are cut. */
static void say_cells(char *w, const sw_tensor *t, const grid *g, uint64_t times)
{
    unsigned cut = 0, dim = 0;

    for (unsigned d = 0; d < t->ndim; d++) {
        cut += g->parts[d] > 1;
        dim = g->parts[d] > 1 ? d : dim;
    }
    if (cut == 0 && times > 1)
        say(w, "replicated x%" PRIu64, times);
    else if (cut == 0)
        say(w, "whole");
    else if (cut == 1)
        say_one(w, t, g, dim, times);
    else
        say_grid(w, t, g, times);
}

/* Of a shard file by itself. */
static void say_part(char *w, const sw_catalog *c, const sw_tensor *t)
{
    char dims[SW_DIMS_TEXT];
    sw_placed b;

    if (t->ndim == 0)
        say(w, "whole");
    else
        say(w, "box at %s", sw_dims_text(sw_box_get(c, t, 0, &b)->offsets, t->ndim, dims));
}

sw_code sw_sharding_words(const sw_catalog *c, const sw_tensor *t, char *text, sw_status *st)
{
    uint64_t times = multiplicity(c, t);
    grid g;

    text[0] = '\0';
    if (t->nboxes == 0) {
        say(text, "empty");
        return SW_OK;
    }
    if (c->part && c->sharded) {
        say_part(text, c, t);
        return SW_OK;
    }
    if (find_grid(c, t, &g, st))
        return st->code;
    if (g.is_grid) {
        say_cells(text, t, &g, times);
    } else {
        say(text, "%" PRIu64 " box%s", t->nboxes, t->nboxes == 1 ? "" : "es");
        if (times > 1)
            say(text, " replicated x%" PRIu64, times);
    }
    if (times == 0)
        say(text, ", partly replicated");
    if (t->overlaps)
        say(text, t->holes ? ", overlapping, with holes" : ", overlapping");
    else if (t->holes && g.is_grid)
        say(text, ", %" PRIu64 " hole%s", g.cells - t->nboxes, g.cells - t->nboxes == 1 ? "" : "s");
    else if (t->holes)
        say(text, ", with holes");
    return SW_OK;
}
