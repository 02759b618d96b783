/* How a large file is spread over the servers of Lustre: in stripes, dealt out to so many of their
 * disks (targets, OSTs). Elsewhere nothing is done, and nothing is asked but the file system's
 * kind.
 *
 * A file has its stripes from the moment when it is made, empty, and keeps them. By itself each
 * file above 1 GiB gets them where the directory would give it one plain stripe; whatever else
 * somebody has chosen for the directory stays. What speaks to Lustre is its own library,
 * liblustreapi.so.1, where it is. Once a run, and once for each file. */
#ifndef SW_DIR_STRIPES_H
#define SW_DIR_STRIPES_H

#include "base/below.h"
#include "shardweld.h"

/* What rank 0 has found, for all ranks; { 0 } = files are made as everywhere. */
typedef struct sw_stripes {
    uint64_t size;    /* of a stripe, bytes; 0 = by the file's size */
    uint32_t count;   /* 0 = by the file's size */
    uint32_t targets; /* that take files; 0 = leave all as it is */
} sw_stripes;

/* The words of sw_options.stripe. */
typedef enum sw_stripe_kind { SW_STRIPE_AUTO, SW_STRIPE_NONE, SW_STRIPE_GIVEN } sw_stripe_kind;

/* Local. "auto" (NULL), "none", "COUNT", "COUNT:SIZE". Errors: SW_EUSAGE. */
sw_code sw_stripe_parse(const char *text, sw_stripe_kind *kind, uint32_t *count, uint64_t *size,
                        sw_status *st);

/* Local. What a file of so many bytes gets: clamp(sqrt(bytes / 128 MiB) + 1, 1, min(targets, 72))
 * stripes of 4 to 16 MiB above 1 GiB, unless the user said it. *count: 0 = none of ours. */
void sw_stripes_of(const sw_stripes *s, uint64_t bytes, uint32_t *count, uint64_t *size);

/* Local. Bytes that what ranks write should be cut at multiples of; 0 = any. */
uint64_t sw_stripes_block(const sw_stripes *s);

/* Local. Look at an open directory.
 *   wanted  sw_options.stripe
 * Errors: SW_EUSAGE where stripes were asked for: it is not on Lustre, there is no liblustreapi, or
 * there are not so many targets. SW_ENOMEM. What cannot be found out otherwise is left as it is. */
sw_code sw_stripes_look(const sw_below *dir, const char *wanted, sw_stripes *out, sw_status *st);

/* Local. Is there room for files of such sizes on as many targets as each is spread over?
 *   show  what messages call the directory
 * Errors: SW_EIO (names the target), SW_ENOMEM. */
sw_code sw_stripes_check_space(const sw_stripes *s, const sw_below *dir, const char *show,
                               const uint64_t *sizes, size_t n, sw_status *st);

/* Local. sw_below_fd() for a file that is made now and will have so many bytes: flags are O_CREAT |
 * O_EXCL, and how it is opened. Where it cannot have its stripes it is made without, unless the
 * user said how many. -1 = errno tells. */
int sw_stripes_create(const sw_stripes *s, const sw_below *dir, const char *name, uint64_t bytes, int flags);

#endif
