/* The shard files of a rank, from memory: which of its boxes go into which file; scatter.h writes
 * them.
 *
 * Of boxes that several ranks hold the lowest rank writes one. A file holds one box of a tensor, so
 * that a rank with several writes further files: a layer for each. No data go from rank to rank. */
#ifndef SW_PAR_SHARDS_H
#define SW_PAR_SHARDS_H

#include "format/maps.h"
#include "par/scatter.h"

/* This rank's files. */
typedef struct sw_shards {
    sw_catalog view; /* of what is written: a tensor for each box, by name */
    sw_layout l;     /* files by shard number, then model; what each says of all in set */
    sw_spot *spots;  /* of the boxes that hold data, file by file */
    size_t nspots;
} sw_shards;

/* A box that its rank writes, and where. It can be sent as it lies. */
typedef struct sw_choice {
    uint32_t box; /* index into held->boxes */
    uint32_t zero;
    uint64_t layer, model;
} sw_choice;

/* Whose files, and what those of all ranks have in common. */
typedef struct sw_shards_role {
    uint32_t rank, nranks;
    uint64_t of;     /* the largest model number */
    const char *set; /* of sw_numbers_list(): what each file says of all */
} sw_shards_role;

/* Local. The files of one rank, of n choices that were made for it.
 *   held  what they were made of; borrowed as long as out lives
 *   out   release with sw_shards_release() in any case
 * Errors: SW_EUSAGE (a header that is too long), SW_ENOMEM. */
sw_code sw_shards_make(const sw_memboxes *held, const sw_choice *choices, size_t n,
                       const sw_shards_role *role, sw_shards *out, sw_status *st);

void sw_shards_release(sw_shards *s);

/* Collective. Make and write the files of all ranks.
 *   s  rounds, held and buffer are the caller's; the rest is filled in
 * All ranks return the same; on an error files may be left. */
sw_code sw_shards_write(const sw_shards *own, sw_scatter *s, sw_status *st);

/* ---- the files of all ranks ------------------------------------------------------------------ */

/* What all must know of a file. */
typedef struct sw_shard_record {
    uint64_t shard, model, tensors, size;
} sw_shard_record;

typedef struct sw_shard_set {
    sw_buf *choices; /* sw_choice, of each of the ranks that were asked for */
    uint32_t n;
    sw_shards own; /* of the one that was, if it was one */
    uint64_t of;   /* the largest model number */
    char *text;    /* of sw_numbers_list() */
    /* as they are published: from the highest shard number down, and model numbers likewise */
    sw_shard_record *files;
    size_t nfiles;
    uint64_t bytes; /* of them */
} sw_shard_set;

/* The model number of each tensor. */
typedef struct sw_model_rule {
    const sw_map *map; /* {FQN: j}; NULL = all are 1 of 1 */
    const char *name;  /* of it, for messages */
} sw_model_rule;

/* Collective. Decide what the ranks write.
 *   c      of sw_join_held(); borrowed for the call
 *   ranks  what it was made of; borrowed as long as out lives
 *   out    release with sw_shard_set_release() in any case
 * All ranks return the same. Errors: SW_EINPUT (a tensor that the map lacks), SW_EUSAGE (a header
 * that is too long), SW_ENOMEM. */
sw_code sw_shard_set_plan(const sw_comm *comm, const sw_catalog *c, const sw_holders *ranks,
                          const sw_model_rule *models, sw_shard_set *out, sw_status *st);

void sw_shard_set_release(sw_shard_set *s);

#endif
