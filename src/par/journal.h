/* The journal of a publication: what is about to be renamed, kept until all of it is (SPEC 6). */
#ifndef SW_PAR_JOURNAL_H
#define SW_PAR_JOURNAL_H

#include "par/publish.h"

#define SW_JOURNAL_NAME "journal"

typedef struct sw_journal_file {
    char *name;
    uint64_t size;
} sw_journal_file;

/* Owns its strings. */
typedef struct sw_journal {
    uint64_t fingerprint;
    bool clash;             /* some new file has the name of an old one: old or new cannot both be whole */
    sw_journal_file *files; /* new, in the order of their renames; the key file last */
    size_t nfiles;
    char **old; /* by name, bytewise */
    size_t nold;
    char **sorted; /* names of files, by name; borrowed from files */
} sw_journal;

#define SW_JOURNAL_INIT                                                                                      \
    {                                                                                                        \
        0, false, NULL, 0, NULL, 0, NULL                                                                     \
    }

/* Local. Fill an empty journal with copies of what sw_stage_publish() was given; decides clash. Release it also on an error. */
sw_code sw_journal_fill(sw_journal *j, const sw_publication *files, size_t nfiles, char *const *old,
                        size_t nold, uint64_t fingerprint, sw_status *st);

/* Local. Write dir/journal, at once or not at all; sync: durable on return. */
sw_code sw_journal_write(const sw_journal *j, const char *dir, bool sync, sw_status *st);

/* Local. Read dir/journal into an empty journal; *missing, with SW_OK, when there is none.
 * Errors: SW_EIO (unreadable, or not a whole journal: only a machine that went down without --sync leaves that), SW_ENOMEM. */
sw_code sw_journal_read(sw_journal *j, const char *dir, bool *missing, sw_status *st);

/* Local. Is it the name of a new / of an old file? O(log n). */
bool sw_journal_is_new(const sw_journal *j, const char *name);
bool sw_journal_is_old(const sw_journal *j, const char *name);

/* Local. Are the new files a shard set, which has no index? Its key file is its lowest shard. */
bool sw_journal_is_shards(const sw_journal *j);

/* Local. Is it an index: a file that names others? */
bool sw_journal_is_index(const char *name);

void sw_journal_release(sw_journal *j);

#endif
