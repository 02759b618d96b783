/* Which files are the input: rank 0 looks into INPUT_DIR for all, or each rank into its own, and
 * every rank learns the same; dir/find chooses. */
#ifndef SW_PAR_SCAN_H
#define SW_PAR_SCAN_H

#include "dir/find.h"
#include "par/nodes.h"

/* Where to look, and what for. */
typedef struct sw_where {
    const char *dir;
    /* it is each rank's own; the same name on several ranks is one file, owned by the lowest, if
     * size and header are equal */
    bool node_local;
    /* a list of boxes (docs/boxes.md) that says what is in which files; NULL = what lies there */
    const char *boxes;
    bool anywhere;   /* the files that it names need not lie below dir */
    bool everything; /* of a training job's state all tensors, not those of the model alone */
    const volatile int *cancel;
    /* out: where the files lie that are many, once a node; the catalogue is to be released when it
     * ends. NULL = each rank has its own */
    sw_shares *shares;
} sw_where;

/* Collective. Choose the shard files of a directory (SPEC 2) and fill c->files, sorted by name,
 * with sizes and owners: in the order of their names, in shares of equal bytes, so that the lowest
 * rank that finds a mistake found the first one.
 *   findings  NULL: the first thing that is wrong is the error. Else all that is wrong goes
 *             there, the same on every rank, and what is left is chosen; only a directory that is
 *             not there is an error still
 * All ranks return the same. Errors: SW_EINPUT (no such directory, no shard files, two saves, a
 * shard that is no file, files an index names that are missing or outside, files beside the shards
 * that look like some (strays.h), a map of .hf_metadata that is malformed, whether or not it will
 * be needed; a description of the checkpoint that is malformed), SW_EUSAGE (there is no such list),
 * SW_EIO. */
sw_code sw_scan_dir(const sw_comm *comm, const sw_where *where, sw_catalog *c, sw_find *out,
                    sw_findings *findings, sw_status *st);

/* Collective. What a path names: a directory, or one file in one. Rank 0 looks.
 *   dir, name  out, for the caller to free: where the files are; name of the one file, NULL = the
 *              directory was named
 * Errors: SW_EINPUT (nothing is there), SW_EIO, SW_ENOMEM. */
sw_code sw_scan_operand(const sw_comm *comm, const char *path, char **dir, char **name, sw_status *st);

/* Collective. One safetensors file by itself: c holds this one, and is a part (sw_catalog.part),
 * whatever its name or its header say.
 *   path  dir/name
 * Errors: SW_EINPUT (it is missing or no regular file), SW_EIO. */
sw_code sw_scan_file(const sw_comm *comm, const char *dir, const char *name, sw_catalog *c, sw_status *st);

/* Collective. The text of a file that an option names, which may be a pipe; rank 0 reads it for
 * all. Errors: SW_EUSAGE when there is none; SW_EINPUT for a directory, or what else is no file;
 * SW_EIO. */
sw_code sw_scan_option_file(const sw_comm *comm, const char *path, const volatile int *cancel, sw_buf *text,
                            sw_status *st);

/* ---- a plain checkpoint, found as loaders find it -------------------------------------------- */

typedef struct sw_plain {
    const char *dir;
    const volatile int *cancel;
    sw_catalog c;  /* out: every tensor in one box */
    sw_find found; /* out, rank 0: index and names */
} sw_plain;

/* Collective. Find the checkpoint in p->dir and read its headers. / The same for files whose names
 * are known, sorted by bytes: no index is looked for.
 *   findings  what is wrong with index and files; rank 0 knows all of it
 * Errors: SW_EINPUT (neither index nor weights there), SW_EIO, SW_ENOMEM. All ranks return the
 * same. */
sw_code sw_scan_plain(const sw_comm *comm, sw_plain *p, const sw_plain_rule *rule, sw_findings *findings,
                      sw_status *st);
sw_code sw_scan_plain_files(const sw_comm *comm, sw_plain *p, const char *const *names, size_t n,
                            sw_findings *findings, sw_status *st);

/* Rank 0. Mark the files that are gone, or are others now than at first. Errors: SW_EIO,
 * SW_ENOMEM. */
sw_code sw_plain_look_again(const sw_plain *p, bool *changed, sw_status *st);

void sw_plain_release(sw_plain *p);

#endif
