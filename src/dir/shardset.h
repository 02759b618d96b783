/* The OUTPUT_DIR of a shard set: taken, filled and published (SPEC 7).
 *
 * One that is missing is made whole: all is staged in a hidden directory beside it, and one rename
 * makes it appear. In one that is there the set is published as any checkpoint is, from the highest
 * shard number down. All functions are local and for one rank (rank 0): the caller agrees on the
 * outcome. */
#ifndef SW_DIR_SHARDSET_H
#define SW_DIR_SHARDSET_H

#include "dir/publish.h"

typedef struct sw_shardset sw_shardset;

/* Local. The shard files, and links that are called so, that are in the directory already: names
 * for sw_names_free(), sorted by bytes; none when it is missing. Errors: SW_EUSAGE (something else
 * has such a name), SW_EIO, SW_ENOMEM. */
sw_code sw_shardset_existing(const char *output_dir, char ***names, size_t *n, sw_status *st);

/* Local. Take OUTPUT_DIR, and recover what a dead run left.
 *   recovered  set to the fingerprint of the publication that was completed, 0 = none
 * Errors: as sw_stage_open(). *out is NULL on an error. */
sw_code sw_shardset_open(const char *output_dir, bool sync, const volatile int *cancel, sw_shardset **out,
                         uint64_t *recovered, sw_status *st);

/* Local. Where its files are staged, under their names; and the path of that directory, as in
 * sw_staged_open(). Borrowed. */
sw_stage *sw_shardset_stage(const sw_shardset *s);
const char *sw_shardset_dir(const sw_shardset *s);

/* Local. Publish what was staged.
 *   files  with the lowest shard last
 *   old    shard files that are replaced (of sw_shardset_existing())
 *   fingerprint  of what this run was asked for, not 0
 * Errors: as sw_stage_publish(); SW_EIO where OUTPUT_DIR has been made meanwhile. */
sw_code sw_shardset_publish(sw_shardset *s, const sw_publication *files, size_t nfiles, char *const *old,
                            size_t nold, uint64_t fingerprint, sw_status *st);

/* Local. As sw_stage_close(). NULL is fine. */
void sw_shardset_close(sw_shardset *s, char **left, sw_status *st);

#endif
