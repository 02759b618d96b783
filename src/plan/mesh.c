/* Meshes and placements; see mesh.h. */
#include "plan/mesh.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "format/header.h"

#define GUESS_TEXT 48

/* ---- words ----------------------------------------------------------------------------------- */

/* Decimal digits up to end, at most 18 of them; false when that is not what stands there. */
static bool parse_number(const char *text, const char *end, uint64_t *out)
{
    const char *at = text;

    return end - text <= 18 && sw_take_decimal(&at, out) && at == end;
}

sw_code sw_mesh_parse(const char *text, sw_mesh *out, sw_status *st)
{
    sw_mesh m = { .ranks = 1 };

    for (const char *at = text, *end;; at = end + 1) {
        uint64_t size;

        end = at + strcspn(at, "xX");
        if (!parse_number(at, end, &size) || size == 0)
            return sw_fail(st, SW_EUSAGE, NULL, NULL,
                           "sw_sharding.mesh '%s' is no mesh, expected sizes as in 2x4", text);
        if (m.ndim == SW_MESH_DIMS || !sw_mul(m.ranks, size, &m.ranks) || m.ranks > SW_MESH_RANKS_MAX)
            return sw_fail(st, SW_EUSAGE, NULL, NULL,
                           "sw_sharding.mesh '%s' is too large: at most %u dimensions and %u ranks", text,
                           SW_MESH_DIMS, SW_MESH_RANKS_MAX);
        m.sizes[m.ndim++] = size;
        if (!*end)
            break;
    }
    *out = m;
    return SW_OK;
}

/* "replicate", "shard0", "shard(0)" between text and end. */
static bool parse_placement(const char *text, const char *end, uint64_t *dim)
{
    static const char replicate[] = "replicate", shard[] = "shard";
    size_t n = (size_t)(end - text);

    if (n == sizeof replicate - 1 && strncasecmp(text, replicate, n) == 0) {
        *dim = SW_REPLICATE;
        return true;
    }
    if (n < sizeof shard || strncasecmp(text, shard, sizeof shard - 1) != 0)
        return false;
    text += sizeof shard - 1;
    if (*text == '(' && end[-1] == ')') {
        text++;
        end--;
    }
    return parse_number(text, end, dim) && *dim < SW_MAX_DIMS;
}

/* "; did you mean 'shard0'?" of what is no placement; "" where none is near. */
static const char *guess_placement(const char *text, size_t n, char said[GUESS_TEXT])
{
    char word[32], shard[16], bracketed[20];
    const char *const names[] = { "replicate", shard, bracketed };
    const char *near = NULL;
    const char *number;

    if (n < sizeof word) {
        snprintf(word, sizeof word, "%.*s", (int)n, text);
        number = word + strcspn(word, "0123456789");
        snprintf(shard, sizeof shard, "shard%.*s", (int)strspn(number, "0123456789"), number);
        snprintf(bracketed, sizeof bracketed, "shard(%s)", shard + strlen("shard"));
        near = sw_text_nearest(word, names, *number ? 3 : 1);
    }
    snprintf(said, GUESS_TEXT, "%s%s%s", near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    return said;
}

sw_code sw_placements_parse(const char *text, const sw_mesh *mesh, const char *member, sw_placements *out,
                            sw_status *st)
{
    char said[GUESS_TEXT];
    unsigned n = 0;

    *out = (sw_placements){ { 0 } };
    if (!text)
        return SW_OK;
    for (const char *at = text, *end;; at = end + 1) {
        uint64_t dim;

        end = at + strcspn(at, ",");
        if (!parse_placement(at, end, &dim))
            return sw_fail(
                st, SW_EUSAGE, NULL, NULL,
                "sw_sharding.%s '%s': '%.*s' is no placement, expected shardD, shard(D) or replicate%s",
                member, text, (int)sw_min((uint64_t)(end - at), 64), at,
                guess_placement(at, (size_t)(end - at), said));
        if (n < mesh->ndim)
            out->dims[n] = dim;
        n++;
        if (!*end)
            break;
    }
    if (n != mesh->ndim)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_sharding.%s '%s' has %u placement%s, the mesh %u dimension%s", member, text, n,
                       n == 1 ? "" : "s", mesh->ndim, mesh->ndim == 1 ? "" : "s");
    return SW_OK;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* One way down through the dimensions of the mesh. */
typedef struct visit {
    const sw_mesh *mesh;
    const sw_placements *p;
    unsigned ndim; /* of the tensor */
    sw_mesh_fn fn;
    void *ctx;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
} visit;

/* rank: the number of the outer coordinates. */
static bool descend(visit *v, unsigned level, uint64_t rank)
{
    uint64_t n, dim, offset, size, chunk;
    bool go_on = true;

    if (level == v->mesh->ndim)
        return v->fn(v->ctx, rank, v->offsets, v->shape);
    n = v->mesh->sizes[level];
    dim = v->p->dims[level];
    if (dim >= v->ndim)
        return descend(v, level + 1, rank * n);
    offset = v->offsets[dim];
    size = v->shape[dim];
    chunk = size / n + (size % n != 0);
    for (uint64_t i = 0; go_on && i < n && i * chunk < size; i++) {
        v->offsets[dim] = offset + i * chunk;
        v->shape[dim] = sw_min(chunk, size - i * chunk);
        go_on = descend(v, level + 1, rank * n + i);
    }
    v->offsets[dim] = offset;
    v->shape[dim] = size;
    return go_on;
}

bool sw_mesh_boxes_each(const sw_mesh *mesh, const sw_placements *p, unsigned ndim, const uint64_t *shape,
                        sw_mesh_fn fn, void *ctx)
{
    visit v = { .mesh = mesh, .p = p, .ndim = ndim, .fn = fn, .ctx = ctx };
    bool empty = false;

    for (unsigned d = 0; d < ndim; d++) {
        v.shape[d] = shape[d];
        empty = empty || shape[d] == 0;
    }
    return empty ? fn(ctx, 0, v.offsets, v.shape) : descend(&v, 0, 0);
}
