/* What the files behind publish.h share. */
#ifndef SW_DIR_STAGE_H
#define SW_DIR_STAGE_H

#include "base/below.h"
#include "dir/lock.h"
#include "dir/publish.h"

/* All that it makes, moves and removes lies below these directories, which stay open: out is what
 * the user named, the others nobody can put links in the place of. */
struct sw_stage {
    sw_below out;          /* OUTPUT_DIR */
    sw_below dir;          /* the staging directory in it */
    sw_below fresh, aside; /* new/ and old/ in that; aside is open while something is published */
    /* so many characters of OUTPUT_DIR name what was there before this run */
    size_t kept;
    sw_lock *lock;
    bool hidden; /* OUTPUT_DIR is one of ours itself */
    bool sync;
    bool half;  /* a journal stands: leave all as it is */
    bool stays; /* the staging directory could not be removed */
    bool published;
};

/* Local. As sw_stage_open(), of a hidden directory that only runs of ours make: it must be ours,
 * and no link. */
sw_code sw_stage_open_hidden(const char *dir, bool sync, const volatile int *cancel, sw_stage **out,
                             uint64_t *recovered, sw_status *st);

/* Local. If a journal stands, complete or undo its publication and remove it. *recovered: its
 * fingerprint if it was completed, else 0. On an error the journal still stands. */
sw_code sw_publication_recover(sw_stage *s, uint64_t *recovered, sw_status *st);

/* Local. Are these staged, as regular files of these sizes? Errors: SW_EINTERNAL (names one that is
 * not), SW_EIO, SW_ENOMEM. */
sw_code sw_stage_check(const sw_stage *s, const sw_publication *files, size_t nfiles, sw_status *st);

#endif
