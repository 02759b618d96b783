/* The shard files of a rank, from memory: which of its boxes go into which file, and the writing of
 * them.
 *
 * Of boxes that several ranks hold the lowest rank writes one. A file holds one box of a tensor, so
 * that a rank with several writes further files: a layer for each. No data go from rank to rank. */
#ifndef SW_PAR_SHARDS_H
#define SW_PAR_SHARDS_H

#include "format/header.h"
#include "format/maps.h"
#include "par/rounds.h"
#include "plan/catalog.h"
#include "plan/memboxes.h"

typedef struct sw_shard_file {
    sw_shard_name number;
    char name[SW_SHARD_NAME_SIZE];
    uint64_t first, count; /* its boxes */
    uint64_t header_len;   /* bytes before the data: the header's length, and the header */
    uint64_t size;         /* of all of it */
} sw_shard_file;

/* This rank's files. */
typedef struct sw_shards {
    const sw_memboxes *held;
    sw_shard_file *files; /* by shard number, then model */
    size_t nfiles;
    sw_header_box *boxes;         /* file by file, each in the order of the items */
    const sw_membox **held_boxes; /* the same, as this rank holds them */
    size_t nboxes;
    uint32_t *order; /* file by file: indices of its boxes in the order of the data */
    uint64_t bytes;  /* of all files */
    char *set;       /* what each of them says of all files of all ranks */
} sw_shards;

/* A box that its rank writes, and where. It can be sent as it lies. */
typedef struct sw_choice {
    uint32_t box; /* index into held->boxes */
    uint32_t zero;
    uint64_t layer, model;
} sw_choice;

/* Collective. Decide what this rank writes.
 *   c     of sw_join_held(); borrowed for the call
 *   held  what it was made of; borrowed as long as out lives
 *   map   {FQN: j}; NULL = all in 1 of 1. map_file: for messages
 *   out   release with sw_shards_release(); empty on error
 * All ranks return the same. Errors: SW_EINPUT (a tensor that the map lacks), SW_EUSAGE (a header
 * that is too long), SW_ENOMEM. */
sw_code sw_shards_plan(const sw_comm *comm, const sw_catalog *c, const sw_memboxes *held, const sw_map *map,
                       const char *map_file, sw_shards *out, sw_status *st);

/* Local. The same for n ranks, where one process knows what all of them hold: the choices
 * (sw_choice) of each, appended to choices[0..n).
 *   c  of sw_join_described() */
sw_code sw_shards_choose(const sw_catalog *c, const sw_memboxes *held, uint32_t n, const sw_map *map,
                         const char *map_file, sw_buf *choices, sw_status *st);

/* Whose files, and what those of all ranks have in common. */
typedef struct sw_shards_role {
    uint32_t rank, nranks;
    uint64_t of;     /* the largest model number */
    const char *set; /* of sw_numbers_list(): what each file says of all */
} sw_shards_role;

/* Local. The files of one rank, of n choices that were made for it. */
sw_code sw_shards_make(const sw_memboxes *held, const sw_choice *choices, size_t n,
                       const sw_shards_role *role, sw_shards *out, sw_status *st);

/* Local. The numbers (sw_shard_name) of these files, appended to out. */
sw_code sw_shards_numbers(const sw_choice *choices, size_t n, const sw_shards_role *role, sw_buf *out,
                          sw_status *st);

/* Local. The n of the names "model-j-of-n". */
uint64_t sw_map_largest(const sw_map *map);

/* How to write them. */
typedef struct sw_shards_write {
    const char *dir; /* where (sw_staged_open()) */
    uint64_t buffer; /* bytes of memory, for what does not lie together */
    bool sync;       /* make the files durable */
    const volatile int *cancel;
    sw_progress progress; /* todo is filled in */
    uint64_t written;     /* out: bytes that this rank wrote */
} sw_shards_write;

/* Collective. Write all files of all ranks. All ranks return the same; on an error files may be
 * left in dir. */
sw_code sw_shards_write_files(const sw_comm *comm, const sw_shards *s, sw_shards_write *w, sw_status *st);

void sw_shards_release(sw_shards *s);

#endif
