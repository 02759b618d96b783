/* A zip archive as torch.save writes it: members lie in it as they are, so that bytes can be read
 * where they stand. Directory and headers only; nothing is ever unpacked.
 *
 * The directory of an archive stands at its end. Who reads one takes the last bytes, is told where
 * the directory is, walks it, and asks where the bytes of a member begin. All of it is over bytes
 * in memory; positions count from the beginning of the archive. */
#ifndef SW_FORMAT_ARCHIVE_H
#define SW_FORMAT_ARCHIVE_H

#include "base/status.h"

/* So many bytes at the end of an archive tell where its directory is. */
#define SW_ARCHIVE_TAIL 98u
/* So long is the header before the bytes of a member, without its name and its extra field. */
#define SW_ARCHIVE_HEAD 30u

/* An archive of size bytes, inside a file; for messages too. */
typedef struct sw_archive {
    const char *file, *tensor;
    uint64_t size;
    uint64_t dir_at, dir_len; /* its directory */
} sw_archive;

typedef struct sw_member {
    const char *name; /* inside the directory, not NUL-terminated */
    size_t name_len;
    uint64_t at, size; /* of its header, and of its bytes */
    uint32_t crc;
} sw_member;

/* Local. Find the directory: a->dir_at and dir_len, which lie within the archive.
 *   tail  its last n bytes: all, or SW_ARCHIVE_TAIL at least
 * Errors: SW_EINPUT (no archive, one of several parts, or with a comment behind it). */
sw_code sw_archive_find(sw_archive *a, const void *tail, size_t n, sw_status *st);

/* Local. The next member. *at: where in the directory, 0 at first. False: there are no more, or st
 * holds an error.
 *   dir  the a->dir_len bytes of the directory
 * Errors: SW_EINPUT (malformed; a member that is compressed, encrypted or outside). */
bool sw_archive_next(const sw_archive *a, const void *dir, uint64_t *at, sw_member *m, sw_status *st);

/* Local. Where the bytes of a member begin.
 *   head  SW_ARCHIVE_HEAD bytes from m->at on
 * Errors: SW_EINPUT (no such header, or the bytes would lie outside). */
sw_code sw_archive_bytes(const sw_archive *a, const sw_member *m, const void *head, uint64_t *at,
                         sw_status *st);

/* Local. Are these the bytes that the directory speaks of? Errors: SW_EINPUT. */
sw_code sw_archive_check(const sw_archive *a, const sw_member *m, const void *bytes, sw_status *st);

/* Local. Is the name of a member, behind the archive's own ("archive/"), this one? */
bool sw_member_is(const sw_member *m, const char *name);

#endif
