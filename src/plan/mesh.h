/* How tensors are spread over a mesh of ranks: DTensor's rule. Pure.
 *
 * Ranks are numbered row by row. Each dimension of the mesh shards a tensor along one of its
 * dimensions or replicates it, one after the other from the outermost on: a dimension of size s
 * over n ranks is cut into chunks of ceil(s / n), the last of which are shorter or empty, and the
 * next dimension of the mesh cuts what is left. */
#ifndef SW_PLAN_MESH_H
#define SW_PLAN_MESH_H

#include "base/status.h"

#define SW_MESH_DIMS 8u
#define SW_MESH_RANKS_MAX 1000000u
#define SW_REPLICATE UINT64_MAX

typedef struct sw_mesh {
    unsigned ndim; /* at least 1 */
    uint64_t sizes[SW_MESH_DIMS];
    uint64_t ranks; /* their product */
} sw_mesh;

/* For each dimension of a mesh the dimension of a tensor that it cuts, or SW_REPLICATE. Tensors
 * that lack that dimension are replicated. */
typedef struct sw_placements {
    uint64_t dims[SW_MESH_DIMS];
} sw_placements;

/* Local. "2x4". Errors: SW_EUSAGE. */
sw_code sw_mesh_parse(const char *text, sw_mesh *out, sw_status *st);

/* Local. "shard0,replicate", "shard(1)": as many as the mesh has dimensions, in any case; NULL =
 * shard0 for each. member: of sw_sharding, for messages.
 * Errors: SW_EUSAGE. */
sw_code sw_placements_parse(const char *text, const sw_mesh *mesh, const char *member, sw_placements *out,
                            sw_status *st);

/* Called for a box of a tensor; offsets and shape hold its dimensions and are good until fn
 * returns. False stops. */
typedef bool (*sw_mesh_fn)(void *ctx, uint64_t rank, const uint64_t *offsets, const uint64_t *shape);

/* Local. Visit the boxes of a tensor by rank: each once, at the lowest rank that holds it, and no
 * empty ones; a tensor without elements is one box at rank 0. False when fn did. O(boxes). */
bool sw_mesh_boxes_each(const sw_mesh *mesh, const sw_placements *p, unsigned ndim, const uint64_t *shape,
                        sw_mesh_fn fn, void *ctx);

#endif
