/* What the two files behind place.h share: the life of the staging directory, and the renames. */
#ifndef SW_DIR_PUBLISH_H
#define SW_DIR_PUBLISH_H

#include "dir/lock.h"
#include "dir/place.h"

/* All that it makes, moves and removes lies below these directories, which stay open: out is what
 * the user named, the others nobody can put links in the place of. */
struct sw_place {
    sw_below out;          /* OUTPUT_DIR, or the hidden directory beside it */
    sw_below dir;          /* the staging directory in it */
    sw_below fresh, aside; /* new/ and old/ in that; aside is open while something is published */
    /* OUTPUT_DIR, which new/ is to become, without slashes at its end; NULL = it is out */
    char *missing;
    size_t kept; /* so many characters of out.path name what was there before this run */
    sw_lock *lock;
    sw_store store;
    sw_stripes stripes;
    bool sync;
    bool by_copies; /* as in sw_place_rule */
    bool begun;     /* of a stream: what is replaced is gone, and a journal tells what comes */
    bool half;      /* a journal stands: leave all as it is */
    bool stays;     /* the staging directory could not be removed */
    bool published;
};

/* Local. Are files made under their final names? */
static inline bool sw_place_streams(const sw_place *p)
{
    return p->store.kind == SW_STORE_STREAM;
}

/* Local. Of a stream: remove what is replaced, its index first, and write the journal. */
sw_code sw_publication_begin(sw_place *p, const sw_change *change, sw_status *st);

/* Local. If a journal stands, complete or undo its publication and remove it. *recovered: its
 * fingerprint if it was completed, else 0. On an error the journal still stands. */
sw_code sw_publication_recover(sw_place *p, uint64_t *recovered, sw_status *st);

#endif
