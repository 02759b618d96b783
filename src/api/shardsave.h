/* A shard set from memory, in steps: what sw_save_shards() and sw_save_begin() share. */
#ifndef SW_API_SHARDSAVE_H
#define SW_API_SHARDSAVE_H

#include "dir/place.h"
#include "format/maps.h"
#include "par/shards.h"

/* All that one call holds; born empty, but for comm, out, opt, result and started. */
typedef struct sw_shard_save {
    const sw_comm *comm;
    const char *out;
    const sw_options *opt;
    sw_result *result;
    double started;
    sw_memboxes held;
    sw_catalog c;
    sw_map map;
    sw_shards shards;
    sw_place *set; /* rank 0 */
    char **old;    /* rank 0: the shard files that are replaced */
    size_t nold;
    /* all ranks' files, as they are published: their names are the result's */
    sw_publication *files;
    uint64_t total; /* bytes of them */
    uint64_t written;
    char *set_text; /* what each file says of all, where this process knows what all ranks hold */
} sw_shard_save;

/* Local. The beginning: result is emptied. */
void sw_shard_save_init(sw_shard_save *s);

/* Local; comm is one process. All that comes before the writing, where this process knows what all
 * n ranks hold: what each of them writes (sw_choice) is appended to choices[0..n). OUTPUT_DIR is
 * held from now on. */
sw_code sw_shard_save_begin(sw_shard_save *s, const sw_memboxes *held, uint32_t n, sw_buf *choices,
                            sw_status *st);

/* Rank 0. Are the files to be durable? */
sw_code sw_shard_save_sync(const sw_shard_save *s, bool *sync, sw_status *st);

/* Rank 0. Make the files visible, which all ranks have written. */
sw_code sw_shard_save_publish(sw_shard_save *s, sw_status *st);

/* Local, also after an error, which st may hold. Let go of OUTPUT_DIR, free all but the result. */
void sw_shard_save_end(sw_shard_save *s, sw_status *st);

#endif
