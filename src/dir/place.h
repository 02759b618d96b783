/* The place where an output is made, and how it becomes visible: nothing half-made, ever (SPEC 6).
 *
 * One hidden directory inside OUTPUT_DIR, ".shardweld-staging", holds all that a run makes:
 *   lock       held by rank 0; tells host, pid and job of who holds it (lock.h)
 *   new/NAME   the files to be published, under their final relative names
 *   journal    written before the first visible rename, gone after the last (journal.h)
 *   old/NAME   what was moved out of the way
 *
 * Publishing, in this order: the journal is made durable. If a new file has the name of an old one
 * (and is not the index that replaces an index), the old index or lone file and every such old file
 * move into old/; else nothing moves yet. New data files are renamed in; then the new key file
 * (index, or the lone file), over an old one of its name. Then what else the old checkpoint had
 * moves into old/; the journal goes; the staging directory goes. An error before the key file is in
 * place undoes it all at once; a kill leaves the journal to the next run. A shard set (SPEC 7) goes
 * out so from the highest shard number down; where OUTPUT_DIR is missing, all is staged in a hidden
 * directory beside it, and one rename makes it appear.
 *
 * A store that only takes a stream knows neither renames nor second thoughts. There the staging
 * directory holds the lock and the journal alone, and files are made under their final names:
 * before the first of them the old checkpoint goes, its index first, then the journal is written;
 * the new index comes last. An error, or the next run after a kill, removes what the journal names,
 * unless all of it is there. A lone file, which no index holds back, waits in new/ as elsewhere,
 * where the store can rename.
 *
 * All functions are local and, but for sw_staged_open(), for one rank (rank 0): the caller agrees
 * on the outcome. Some dozens of renames in a run. */
#ifndef SW_DIR_PLACE_H
#define SW_DIR_PLACE_H

#include "base/below.h"
#include "dir/stripes.h"
#include "shardweld.h"

#define SW_STAGING_NAME ".shardweld-staging"
#define SW_TRIAL_NAME ".shardweld-trial"

typedef struct sw_place sw_place;

typedef struct sw_place_rule {
    const char *dir;     /* OUTPUT_DIR */
    bool whole;          /* one that is missing appears by one rename: a shard set */
    bool sync;           /* make renames durable */
    sw_store_kind store; /* how files are made: AUTO = as the store can */
    /* dir is one for staging only, and the files go to this OUTPUT_DIR by copies: all is in a
     * hidden directory of dir, and nothing is ever published; NULL = dir is OUTPUT_DIR */
    const char *copied_to;
    /* the files come from such a one, whole: a lone one may have its name at once */
    bool by_copies;
    const char *stripe;         /* sw_options.stripe */
    const volatile int *cancel; /* ends the waiting for another run's sign of life; may be NULL */
} sw_place_rule;

/* One file to be published. */
typedef struct sw_publication {
    const char *name; /* relative to OUTPUT_DIR */
    uint64_t size;    /* bytes, checked by a recovery */
} sw_publication;

/* What comes and what goes. All borrowed. */
typedef struct sw_change {
    /* all staged files; the last one is the key file: the index, the lone weight file, or the
     * lowest shard */
    const sw_publication *files;
    size_t nfiles;
    /* names of what is replaced (existing.h), sorted by bytes; may contain names of files */
    char *const *old;
    size_t nold;
    uint64_t fingerprint; /* of what this run was asked for, not 0; kept in the journal */
} sw_change;

/* Take OUTPUT_DIR for this run: make it (with parents) if missing, make the staging directory and
 * hold its lock. A dead run's staging is recovered first: a publication that had begun is completed
 * where all its files are there with the recorded sizes, else undone; then what it staged is
 * removed. A trial rename shows early what would stop the publication.
 *   recovered    set to the fingerprint of the publication that was completed, 0 = none
 * Errors: SW_EUSAGE when another run holds it (the message names host, pid, job); SW_EIO, also for
 * a staging directory, lock or journal that no run of ours can have left here, which stays as it
 * is; SW_ECANCEL; SW_ENOMEM. On an error nothing is held or left, and *out is NULL. */
sw_code sw_place_open(const sw_place_rule *rule, sw_place **out, uint64_t *recovered, sw_status *st);

/* What the store can do, and how it is written to. */
const sw_store *sw_place_store(const sw_place *p);

/* How its files are striped. */
const sw_stripes *sw_place_stripes(const sw_place *p);

/* Is there room for files of such sizes in all, and on the targets that each is spread over?
 *   show  what messages call the directory
 * Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_place_check_space(const sw_place *p, const char *show, const sw_publication *files, size_t n,
                             sw_status *st);

/* The staging directory: its path. */
const char *sw_place_staging(const sw_place *p);

/* The directory that files are made in, borrowed. Its path is what other ranks call it. Of a stream
 * it is known once sw_place_begin() has been called. */
const sw_below *sw_place_fresh(const sw_place *p);

/* Before the first file is made. Of a stream, remove what is replaced, and note what will come:
 * what sw_change_check() has allowed. Else nothing.
 * Errors: SW_EUSAGE for a lone file where it would be seen half made; SW_EIO, SW_ENOMEM. */
sw_code sw_place_begin(sw_place *p, const sw_change *change, sw_status *st);

/* Make the parents of a file to be staged. Errors: SW_EINPUT for a name that leads elsewhere;
 * SW_EIO, SW_ENOMEM. */
sw_code sw_place_make_room(const sw_place *p, const char *name, sw_status *st);

/* Make the file that comes last, with n bytes. It has its name all at once where the store can
 * rename, else it may be seen empty. Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_place_write_key(const sw_place *p, const char *name, const void *data, uint64_t n, sw_status *st);

/* On any rank: open the directory that files are made in by its path. What is named by the user is
 * followed, nothing below that; a network file system may take a moment to show it. Close it also
 * on an error. Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_staged_open(const char *dir, sw_below *out, sw_status *st);

/* Are they such names as publications have: of files of weights, indices and side files? And would
 * publishing files hit something that is not in old: a file that is no part of the checkpoint that
 * is replaced, a directory, a parent that is a link or a file? sw_place_publish() asks this too;
 * asked before the work, it spares the work. Errors: SW_EUSAGE (names what is in the way), SW_EIO,
 * SW_ENOMEM. */
sw_code sw_change_check(const char *output_dir, const sw_change *change, sw_status *st);

/* Publish what was staged. On an error before the key file is in place nothing has changed, or
 * (where undoing fails too, and the message says so) the next run completes or undoes it. On a
 * later error the new checkpoint is whole, and the message says so.
 * Errors: SW_EUSAGE as sw_change_check(); SW_EINTERNAL for a file that was not staged with its
 * size; SW_EIO, also where an OUTPUT_DIR that was missing has been made meanwhile; SW_ENOMEM. */
sw_code sw_place_publish(sw_place *p, const sw_change *change, sw_status *st);

/* Remove the staging directory (unless a publication stands half-way in it), let go of the lock,
 * free p. If nothing was published, directories that sw_place_open() made go too where they are
 * empty. NULL is fine.
 *   left  set to the path of the staging directory where it stays, newly allocated, else to NULL;
 *         may be NULL
 * st may already hold an error, which stays. */
void sw_place_close(sw_place *p, char **left, sw_status *st);

#endif
