/* The proof of files of tensors: hashes of all their bytes, and what their numbers are like, by as
 * many ranks as there are, the same whatever their number. docs/manifest.md says what is hashed.
 *
 * A tensor, or a box of one, is hashed by leaves of SW_LEAF bytes from its first byte on, and their
 * hashes are hashed once more where there are several: so leaves are hashed where they lie, while a
 * band is in the processor's cache. One that is cut between two ranks is read back, by the rank
 * that has its first byte, when all is written: at most one for each region. A file that one rank
 * writes from front to back is hashed as a whole on the way, too; else, when all is written, by one
 * of the ranks. In memory are 80 bytes a tensor, and 16 for each MiB of those that lie on several
 * ranks. */
#ifndef SW_PAR_PROOF_H
#define SW_PAR_PROOF_H

#include "par/comm.h"
#include "plan/schedule.h"
#include "value/census.h"
#include "value/digest.h"

#define SW_LEAF (UINT64_C(1) << 20)

/* Of a slot. */
typedef struct sw_proof_slot {
    unsigned char hash[SW_XXH3_BYTES];
    sw_census census;
} sw_proof_slot;

/* Local. That of a slot that holds nothing. */
void sw_proof_slot_init(sw_proof_slot *s, bool hashes);

/* Of a file; head: of what stands before its tensors. */
typedef struct sw_proof_file {
    unsigned char head[SW_XXH3_BYTES], sha256[SW_SHA256_BYTES];
} sw_proof_file;

/* What is to be proven, and how far it is. */
typedef struct sw_proof {
    /* the caller's; borrowed */
    /* of what l is: the dtypes as they are written; NULL = nothing is counted */
    const sw_catalog *view;
    const sw_layout *l;
    const sw_schedule *sched; /* each rank shows its regions; NULL = none does */
    bool hashes;              /* of what l holds */
    bool heads, sha256;       /* of files; sha256 goes with heads */
    uint64_t chunk;           /* bytes of memory for what is read again */

    /* the piece of a slot that comes, where the next part of it would begin, its leaves */
    uint32_t slot;
    uint64_t next, first_leaf;
    sw_buf leaves;
    sw_census census;
    sw_digest *leaf;
    bool open; /* leaf is in the midst of one */
    /* the file that comes, where the next band of the region would begin */
    uint32_t at_file;
    uint64_t at;
    sw_digest *file, *head;
    sw_buf pieces, torn, files; /* of this rank */

    /* out, rank 0: of each slot; of each file, where heads are asked for */
    sw_proof_slot *slots;
    sw_proof_file *of_files;
} sw_proof;

/* Local. Begin; release it in any case. Errors: SW_EUSAGE (a library is missing), SW_ENOMEM. */
sw_code sw_proof_begin(sw_proof *p, sw_status *st);
void sw_proof_release(sw_proof *p);

/* Local. The bytes of file f that lie at `at`. Those of one region come from front to back. */
sw_code sw_proof_band(sw_proof *p, uint32_t f, sw_region at, const char *data, sw_status *st);

/* Local. The same of all bands of a rank, read from the files in dir; two: and of the next rank,
 * by a second thread, while this one hashes. */
sw_code sw_proof_read(sw_proof *p, uint32_t rank, bool two, const char *dir, const volatile int *cancel,
                      sw_status *st);

/* Collective, when all bands have been shown, of files that are in dir and closed; NULL = what l is
 * of are no files, and no leaf is cut. A rank may come with an error. All ranks return the same.
 * Errors: SW_EIO, SW_EINPUT (a file is shorter than it should be), SW_ENOMEM, SW_ECANCEL. */
sw_code sw_proof_end(sw_proof *p, const sw_comm *comm, const char *dir, const volatile int *cancel,
                     sw_status *st);

#endif
