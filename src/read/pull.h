/* Runs from files, or from boxes in memory, into memory; or compared with what lies there. */
#ifndef SW_READ_PULL_H
#define SW_READ_PULL_H

#include "plan/runs.h"
#include "read/mapped.h"
#include "read/source.h"

#define SW_PULL_ROOM_MIN 512u

typedef struct sw_pull {
    sw_source *source; /* its own scratch is not used: it may be 1 byte */
    /* for what lies between rows, and for rows that are too short to be read one by one */
    char *scratch;
    uint64_t room;     /* bytes of it, at least SW_PULL_ROOM_MIN */
    sw_mapped *mapped; /* for scattered rows; the last file stays in it; NULL = read them */
    bool far;          /* what is read is not looked at soon: it may go past the caches */
    /* of files that are not mapped: nothing is changed at the place where a run goes. Set where
     * what lies there is not the same; the rest is then not looked at. NULL = it goes there */
    bool *differs;
} sw_pull;

/* Local. What reads with the scratch memory of a source itself. */
sw_pull sw_pull_of(sw_source *source);

/* Local. Read a run: its first byte goes to to + run->to. The file is read forwards, each row
 * once.
 * Errors: SW_EINPUT for a file that has become another or shorter, SW_EIO. */
sw_code sw_pull_run(const sw_pull *p, const sw_run *s, char *to, sw_status *st);

/* Local. Read n bytes of a file, or of what is held, that lie together. Errors as above. */
sw_code sw_pull_bytes(const sw_pull *p, uint32_t file, uint64_t at, uint64_t n, char *to, sw_status *st);

/* Local. Copy rows that lie in memory at from as they would lie in a file (run->at is not looked
 * at) to where they belong. */
void sw_pull_copy(const sw_run *s, const char *from, char *to);

#endif
