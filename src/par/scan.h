/* Which files are the input: INPUT_DIR is listed once, by rank 0, or by each rank for itself when
 * node-local. */
#ifndef SW_PAR_SCAN_H
#define SW_PAR_SCAN_H

#include "dir/assets.h"
#include "format/maps.h"
#include "par/comm.h"
#include "plan/catalog.h"

/* The text of a side file, on every rank. */
typedef struct sw_side {
    bool there;
    sw_buf text;
} sw_side;

/* What was found beside the shards. */
typedef struct sw_scan {
    bool by_shards; /* the files were chosen by torch's names */
    bool by_index;  /* the files were chosen by an index */
    /* its name, or of one that names nothing or (with findings) cannot be read; static */
    const char *index_name;
    bool index_broken;      /* that one cannot: a finding tells why */
    sw_index_totals totals; /* of the index; only with findings */
    sw_map weight_map;      /* its {fqn: file} */
    bool has_file_map, has_dtype_map;
    sw_map file_map;  /* .hf_metadata/fqn_to_file_index_mapping.json */
    sw_map dtype_map; /* .hf_metadata/fqn_to_dtype_mapping.json */
    sw_buf warnings;  /* lines: of files that are left out, of ranks that see none */
} sw_scan;

/* Collective. Choose the shard files of dir (SPEC 2) and fill c->files, sorted by name, with sizes
 * and owners.
 *   node_local  dir is each rank's own; the same name on several ranks is one file, owned by the
 *               lowest, if size and header are equal
 *   findings    NULL: the first thing that is wrong is the error. Else all that is wrong goes
 *               there, the same on every rank, and what is left is chosen; only a directory that is
 *               not there is an error still
 * All ranks return the same. Errors: SW_EINPUT (no such directory, no shard files, two saves, a
 * shard that is no file, files an index names that are missing or outside, files beside the shards
 * that look like some (strays.h), a map of .hf_metadata that is malformed, whether or not it will
 * be needed), SW_EIO. */
sw_code sw_scan_dir(const sw_comm *comm, const char *dir, bool node_local, sw_catalog *c, sw_scan *out,
                    sw_findings *findings, sw_status *st);

/* Local. Owners for c->files: in the order of their names, in shares of equal bytes, so that the
 * lowest rank that finds a mistake found the first one. Errors: SW_EINPUT (the sizes overflow). */
sw_code sw_scan_assign(sw_catalog *c, int nranks, sw_status *st);

/* Collective. One safetensors file by itself: c holds this one, and is a part (sw_catalog.part),
 * whatever its name or its header say.
 *   path  dir/name
 * Errors: SW_EINPUT (it is missing or no regular file), SW_EIO. */
sw_code sw_scan_file(const sw_comm *comm, const char *dir, const char *name, sw_catalog *c, sw_status *st);

/* How long pipes are waited for. */
typedef struct sw_pipes {
    const volatile int *cancel; /* may be NULL */
} sw_pipes;

/* Collective. A file that rank 0 reads for all; out->there tells whether it exists (SW_OK when it
 * does not).
 *   pipes  it may be a pipe or a device; NULL = it must be a regular file, so that nobody waits for
 *          what never comes
 * Errors: SW_EINPUT for a directory, or what else is no file; SW_EIO. */
sw_code sw_scan_side(const sw_comm *comm, const char *path, const char *show, const sw_pipes *pipes,
                     sw_side *out, sw_status *st);

/* Collective. The same for a file that an option names, which may be a pipe. Errors: SW_EUSAGE when
 * there is none, too. */
sw_code sw_scan_option_file(const sw_comm *comm, const char *path, const volatile int *cancel, sw_buf *text,
                            sw_status *st);

void sw_scan_release(sw_scan *s);

#endif
