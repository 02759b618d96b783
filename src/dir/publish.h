/* Staging and publication: nothing half-made, ever (SPEC 6).
 *
 * One hidden directory inside OUTPUT_DIR, ".shardweld-staging", holds all that a run makes:
 *   lock       held by rank 0; tells host, pid and job of who holds it (lock.h)
 *   new/NAME   the files to be published, under their final relative names
 *   journal    written before the first visible rename, gone after the last (journal.h)
 *   old/NAME   what was moved out of the way
 * All functions are local and for one rank (rank 0): the caller agrees on the outcome.
 *
 * Publishing, in this order: the journal is made durable. If a new file has the name of an old one
 * (and is not the index that replaces an index), the old index or lone file and every such old file
 * move into old/; else nothing moves yet. New data files are renamed in; then the new key file
 * (index, or the lone file), over an old one of its name. Then what else the old checkpoint had
 * moves into old/; the journal goes; the staging directory goes. An error before the key file is in
 * place undoes it all at once; a kill leaves the journal to the next run. */
#ifndef SW_DIR_PUBLISH_H
#define SW_DIR_PUBLISH_H

#include "base/below.h"

#define SW_STAGING_NAME ".shardweld-staging"
#define SW_TRIAL_NAME ".shardweld-trial"

typedef struct sw_stage sw_stage;

/* Take OUTPUT_DIR for this run: make it (with parents) if missing, make the staging directory and
 * hold its lock. A dead run's staging is recovered first: a publication that had begun is completed
 * where all its files are there with the recorded sizes, else undone; then what it staged is
 * removed. A trial rename shows early what would stop the publication.
 *   sync         make renames durable
 *   cancel       ends the waiting for another run's sign of life; may be NULL
 *   recovered    set to the fingerprint of the publication that was completed, 0 = none
 * Errors: SW_EUSAGE when another run holds it (the message names host, pid, job); SW_EIO, also for
 * a staging directory, lock or journal that no run of ours can have left here, which stays as it
 * is; SW_ECANCEL; SW_ENOMEM. On an error nothing is held or left, and *out is NULL. */
sw_code sw_stage_open(const char *output_dir, bool sync, const volatile int *cancel, sw_stage **out,
                      uint64_t *recovered, sw_status *st);

/* The directory of the staged files, OUTPUT_DIR/.shardweld-staging/new; borrowed. Its path is what
 * other ranks call it. */
const sw_below *sw_stage_fresh(const sw_stage *s);

/* Make the parents of a file to be staged. Errors: SW_EINPUT for a name that leads elsewhere;
 * SW_EIO, SW_ENOMEM. */
sw_code sw_stage_make_room(const sw_stage *s, const char *name, sw_status *st);

/* On any rank: open the directory of the staged files by its path. What is named by the user is
 * followed, nothing below that; a network file system may take a moment to show it. Close it also
 * on an error. Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_staged_open(const char *dir, sw_below *out, sw_status *st);

/* What SPEC 6 calls the checkpoint that is there: the names in OUTPUT_DIR that --overwrite would
 * remove (consolidated files, either index, and *.safetensors inside OUTPUT_DIR that the indices
 * name), never shard-* files, never those in keep. Of an index that cannot be parsed only its own
 * name.
 *   index  counts as an index too: the name of the one that will be written; NULL = none
 *   keep   relative names in OUTPUT_DIR that belong to the input; one that ends with '/' stands for
 *          all below it; may be NULL with nkeep 0
 *   n      0 = there is none
 * names: newly allocated array of n strings, sorted by bytes; free with sw_names_free().
 * Errors: SW_EIO (a directory or an index that cannot be read), SW_ENOMEM. */
sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const char *const *keep,
                               size_t nkeep, char ***names, size_t *n, sw_status *st);
void sw_names_free(char **names, size_t n);

/* One file to be published. */
typedef struct sw_publication {
    const char *name; /* relative to OUTPUT_DIR */
    uint64_t size;    /* bytes, checked by a recovery */
} sw_publication;

/* Are they such names as publications have: of files of weights, indices and side files? And would
 * publishing files hit something that is not in old: a file that is no part of the checkpoint that
 * is replaced, a directory, a parent that is a link or a file? sw_stage_publish() asks this too;
 * asked before the work, it spares the work.
 *   old   sorted by bytes
 * Errors: SW_EUSAGE (names what is in the way), SW_EIO, SW_ENOMEM. */
sw_code sw_publication_check(const char *output_dir, const sw_publication *files, size_t nfiles,
                             char *const *old, size_t nold, sw_status *st);

/* Publish what was staged.
 *   files        all staged files; the last one is the key file: the index, or the lone weight file
 *   old          names of the checkpoint that is replaced (of sw_existing_checkpoint()); may
 *                contain names of files
 *   fingerprint  of what this run was asked for, not 0; kept in the journal
 * On an error before the key file is in place nothing has changed, or (where undoing fails too, and
 * the message says so) the next run completes or undoes it. On a later error the new checkpoint is
 * whole, and the message says so.
 * Errors: SW_EUSAGE as sw_publication_check(); SW_EINTERNAL for a file that was not staged with its
 * size; SW_EIO; SW_ENOMEM. */
sw_code sw_stage_publish(sw_stage *s, const sw_publication *files, size_t nfiles, char *const *old,
                         size_t nold, uint64_t fingerprint, sw_status *st);

/* Remove the staging directory (unless a publication stands half-way in it), let go of the lock,
 * free s. If nothing was published, directories that sw_stage_open() made go too where they are
 * empty. NULL is fine.
 *   left  set to the path of the staging directory where it stays, newly allocated, else to NULL;
 *         may be NULL
 * st may already hold an error, which stays. */
void sw_stage_close(sw_stage *s, char **left, sw_status *st);

#endif
