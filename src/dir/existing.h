/* What is already in OUTPUT_DIR: what stands in the way, and what --overwrite removes. A few
 * thousand names at most. All functions are local. */
#ifndef SW_DIR_EXISTING_H
#define SW_DIR_EXISTING_H

#include "base/status.h"

/* What SPEC 6 calls the checkpoint that is there: the names in OUTPUT_DIR that --overwrite would
 * remove (consolidated files, either index, and *.safetensors inside OUTPUT_DIR that the indices
 * name), never shard-* files, never those in keep. Of an index that cannot be parsed only its own
 * name.
 *   index  counts as an index too: the name of the one that will be written; NULL = none
 *   keep   relative names in OUTPUT_DIR that belong to the input; one that ends with '/' stands for
 *          all below it; may be NULL with nkeep 0
 *   n      0 = there is none
 * names: newly allocated array of n strings, sorted by bytes; free with sw_names_free().
 * Errors: SW_EIO (a directory or an index that cannot be read), SW_ENOMEM. */
sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const char *const *keep,
                               size_t nkeep, char ***names, size_t *n, sw_status *st);

/* The shard files, and links that are called so: likewise. Errors: SW_EUSAGE (something else has
 * such a name), SW_EIO, SW_ENOMEM. */
sw_code sw_existing_shards(const char *output_dir, char ***names, size_t *n, sw_status *st);

/* Is the name in a list that is sorted by bytes? O(log n). */
bool sw_names_have(char *const *names, size_t n, const char *name);

void sw_names_free(char **names, size_t n);

#endif
