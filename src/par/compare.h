/* Is what a checkpoint holds what the input makes? Every byte of every tensor, in parallel.
 *
 * The tensors that both have are laid out once more, in virtual files without headers: what they
 * should hold is put together band by band exactly as for writing, and what is there, in one box or
 * in many, is read beside it in pieces that stay in the processor's cache. By band every rank goes
 * its own way until the end. By owner a band takes all ranks. */
#ifndef SW_PAR_COMPARE_H
#define SW_PAR_COMPARE_H

#include "dir/match.h"
#include "par/bands.h"
#include "value/difference.h"

typedef struct sw_compare {
    /* what is expected; layout and schedule are made here. Of its memory, band is for that, and
     * chunk for what is there, which is read as it lies: multiples of SW_ELEMENTS_UNIT */
    sw_work work;
    bool by_owner;
    const sw_catalog *target; /* what is there */
    const char *target_dir;
    /* of each output: the target's tensor of equal dtype and shape; SW_NO_PARTNER */
    const uint32_t *partners;
    /* one a file of the target, out: it is another now than when its header was read, and the rest
     * of it is not compared; each rank marks what it meets. An error where a tensor has several
     * boxes */
    bool *changed;
    sw_differences found; /* out: by output, box = 0; the same on every rank; release it. In: what
                           * is allowed */
    uint64_t compared;    /* out: bytes of the target that this rank compared */
} sw_compare;

/* Collective over world. Compare all outputs that have a partner. All ranks return the same; that
 * something differs is no error.
 * Errors: SW_EINPUT (a file of the input that changed meanwhile), SW_EIO, SW_ENOMEM, SW_ECANCEL. */
sw_code sw_compare_tensors(sw_compare *k, sw_status *st);

/* Copies of the same region of a tensor in several shard files: each against the one that is
 * used. */
typedef struct sw_replicas {
    const sw_comm *world;
    const sw_catalog *c;
    const char *dir;
    const bool *wanted; /* of each tensor of c: is it looked at? */
    uint64_t chunk;     /* bytes of memory, twice; a multiple of SW_ELEMENTS_UNIT */
    bool by_owner;      /* only its owner reads a file */
    const volatile int *cancel;
    /* out: by tensor, box = number of the replica among all boxes of the tensor; the elements are
     * those of the box; the same on every rank; release it */
    sw_differences found;
    uint64_t replicas; /* out: compared, by all ranks */
} sw_replicas;

/* Collective over world. By band the ranks share the bytes; by owner those whose files differ send
 * one another what they have, in an order that all keep. All ranks return the same. Errors: as
 * above. */
sw_code sw_replicas_compare(sw_replicas *k, sw_status *st);

/* Collective. How comparing ends on every rank, also after an error: by band one that has failed
 * tells the others; what the ranks have found is joined, the same on each. */
sw_code sw_differences_end(sw_stopper *s, bool by_owner, sw_differences *d, sw_status *st);

#endif
