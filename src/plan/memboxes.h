/* What a rank holds in memory: boxes of tensors, checked, and read as if they lay packed one after
 * the other in a file.
 *
 * So the rest of the program sees ranks as it sees shard files. A rank has some thousands of boxes;
 * how each lies in memory is told by one run, made anew when it is copied. */
#ifndef SW_PLAN_MEMBOXES_H
#define SW_PLAN_MEMBOXES_H

#include "plan/entries.h"
#include "plan/runs.h"

typedef struct sw_membox {
    const sw_item *item; /* borrowed */
    sw_dtype dtype;
    bool together;       /* it is one row in memory */
    uint64_t begin, end; /* where it lies among all of this rank, bytes; equal when it is empty */
} sw_membox;

typedef struct sw_memboxes {
    sw_membox *boxes; /* in the order of the items */
    size_t n;
    uint64_t bytes; /* of all boxes */
} sw_memboxes;

/* What some ranks hold: one that holds it itself, or all, of which one process is told.
 * Borrowed. */
typedef struct sw_holders {
    const sw_memboxes *held; /* n of them */
    uint32_t first, n;       /* the ranks [first, first + n) */
} sw_holders;

/* A rank as a file: its name, which sorts as ranks do. */
#define SW_RANK_NAME "rank-%010u"
#define SW_RANK_NAME_SIZE 16

/* Local. Check and take the items of one rank.
 *   who   the rank's name, for messages
 *   out   release with sw_memboxes_release(); empty on error
 * Errors: SW_EUSAGE (an item that is malformed, lies outside its tensor or is there twice),
 * SW_ENOMEM. O(n log n). */
sw_code sw_memboxes_init(const sw_item *items, size_t n, const char *who, sw_memboxes *out, sw_status *st);

void sw_memboxes_release(sw_memboxes *h);

/* Local. The box that holds byte at. O(log n). */
const sw_membox *sw_memboxes_find(const sw_memboxes *h, uint64_t at);

/* Local. From the packed box, which is not empty, to its rows in memory. */
void sw_membox_run(const sw_membox *b, sw_run *run);

/* Local. Copy bytes [from, from + n) of a box, counted as if it were packed, to to. */
void sw_membox_copy(const sw_membox *b, uint64_t from, uint64_t n, char *to);

/* Local. Where byte from of the box is when all behind it lies together; NULL when it does not. */
const char *sw_membox_direct(const sw_membox *b, uint64_t from);

/* Local. Tell found of all boxes: file is this rank's in files. */
sw_code sw_memboxes_found(const sw_memboxes *h, const sw_file *files, uint32_t file, sw_entries *found,
                          sw_status *st);

#endif
