/* What is already in OUTPUT_DIR: what stands in the way, and what --overwrite removes. A few
 * thousand names at most. All functions are local. */
#ifndef SW_DIR_EXISTING_H
#define SW_DIR_EXISTING_H

#include "base/path.h"
#include "format/manifest.h"

/* What SPEC 6 calls the checkpoint that is there: the names in OUTPUT_DIR that --overwrite would
 * remove (consolidated files, either index, *.safetensors inside OUTPUT_DIR that the indices name,
 * and a manifest, unless it speaks of shard files), never shard-* files, never those in keep. Of an
 * index that cannot be parsed only its own name.
 *   index  counts as an index too: the name of the one that will be written; NULL = none
 *   keep   relative names in OUTPUT_DIR that belong to the input; one that ends with '/' stands for
 *          all below it; NULL = none
 *   out    replaced, sorted by bytes; empty = there is none, or an error
 * Errors: SW_EIO (a directory or an index that cannot be read), SW_ENOMEM. */
sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const sw_dir *keep, sw_dir *out,
                               sw_status *st);

/* The shard files, links that are called so, and a manifest that speaks of such: likewise. Errors:
 * SW_EUSAGE (something else has such a name), SW_EIO, SW_ENOMEM. */
sw_code sw_existing_shards(const char *output_dir, sw_dir *out, sw_status *st);

/* The manifest that a directory has. m borrows of text; release both.
 *   missing  set, with SW_OK, where there is none; NULL = that is an error
 * Errors: SW_EINPUT (it is no regular file, or cannot be understood), SW_EIO, SW_ENOMEM. */
sw_code sw_existing_manifest(const char *dir, bool *missing, sw_buf *text, sw_manifest *m, sw_status *st);

/* Does the name belong to the input, by such a list? NULL = there is none. */
bool sw_name_is_kept(const sw_dir *keep, const char *name);

/* Is the name in a list that is sorted by bytes? O(log n). */
bool sw_names_have(char *const *names, size_t n, const char *name);

#endif
