/* What the files behind publish.h share. */
#ifndef SW_PAR_STAGE_H
#define SW_PAR_STAGE_H

#include "par/lock.h"
#include "par/publish.h"

struct sw_stage {
    char *out;           /* OUTPUT_DIR */
    char *dir;           /* the staging directory in it */
    char *fresh, *aside; /* new/ and old/ in that */
    size_t kept;         /* so much of out was there before this run */
    sw_lock *lock;
    bool sync;
    bool half; /* a journal stands: leave all as it is */
    bool published;
};

/* Local. If a journal stands, complete or undo its publication and remove it. *recovered: its fingerprint if it was
 * completed, else 0. On an error the journal still stands. */
sw_code sw_publication_recover(sw_stage *s, uint64_t *recovered, sw_status *st);

#endif
