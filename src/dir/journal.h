/* The journal of a publication: what is about to be renamed, kept until all of it is (SPEC 6). */
#ifndef SW_DIR_JOURNAL_H
#define SW_DIR_JOURNAL_H

#include "base/below.h"
#include "dir/place.h"

#define SW_JOURNAL_NAME "journal"

typedef struct sw_journal_file {
    char *name;
    uint64_t size;
    uint64_t ino; /* of the staged file, which it keeps when it is renamed */
} sw_journal_file;

/* The directories that a journal is about. A copy of them, a clone or what comes out of an archive
 * has others. Not the number of the device, which differs from machine to machine. */
typedef struct sw_journal_home {
    uint64_t out, staging; /* inodes of OUTPUT_DIR and of the staging directory */
    uint64_t born;         /* when that was made, ns; 0 where the file system does not tell */
    uint64_t number;       /* in its lock file */
} sw_journal_home;

/* Owns its strings. */
typedef struct sw_journal {
    sw_journal_home home;
    uint64_t fingerprint;
    /* some new file has the name of an old one: old or new cannot both be whole */
    bool clash;
    /* files are made under their final names (place.h): nothing is renamed */
    bool stream;
    sw_journal_file *files; /* new, in the order of their renames; the key file last */
    size_t nfiles;
    char **old; /* by name, bytewise */
    size_t nold;
    char **sorted; /* names of files, by name; borrowed from files */
} sw_journal;

/* Local. Fill an empty journal with copies of what is to change, but for the inodes; decides clash.
 * Release it also on an error. */
sw_code sw_journal_fill(sw_journal *j, const sw_change *change, sw_status *st);

/* Local. May a journal name it as new? What a publication of ours makes are files of weights,
 * indices and side files. */
bool sw_journal_may_be_new(const char *name);

/* Local. Write the journal into the staging directory, at once or not at all; sync: durable on
 * return.
 *   store  what can be done there: without renames it may be there and empty after a kill */
sw_code sw_journal_write(const sw_journal *j, const sw_below *staging, const sw_store *store, bool sync,
                         sw_status *st);

/* Local. Read the journal of a staging directory, which is ours, into an empty one; *missing, with
 * SW_OK, when there is none.
 *   home   where it stands: one that was written elsewhere is refused
 *   store  as above: without renames an empty one counts as none. Where files have no numbers that
 *          last, that in the lock file alone tells whether a stream's was written there
 * Errors: SW_EIO (unreadable, not ours, not of this place or version, or not a whole journal, which
 * only a machine leaves that went down without --sync), SW_ENOMEM. */
sw_code sw_journal_read(sw_journal *j, const sw_below *staging, const sw_journal_home *home,
                        const sw_store *store, bool *missing, sw_status *st);

/* Local. Is it the name of a new file? O(log n). */
bool sw_journal_is_new(const sw_journal *j, const char *name);

/* Local. Are the new files a shard set, which has no index? Its key file is its lowest shard. */
bool sw_journal_is_shards(const sw_journal *j);

void sw_journal_release(sw_journal *j);

#endif
