/* Headers: each is read and checked by the rank that owns the file, and every rank gets the same
 * catalogue. */
#ifndef SW_PAR_GATHER_H
#define SW_PAR_GATHER_H

#include "par/comm.h"
#include "par/nodes.h"
#include "plan/entries.h"
#include "plan/memboxes.h"

typedef struct sw_headers {
    const char *dir;            /* where the files are */
    const volatile int *cancel; /* looked at between files; NULL = none */
    double seconds;             /* out: what the slowest rank took to read and check its own */
    uint64_t nodes;             /* out: on how many the ranks are, as far as MPI tells */
    /* where the files may lie. out: where boxes lie that are many, and in no rule; the catalogue
     * must not be used, and is to be released, when it ends. NULL = each rank has its own */
    sw_shares *shares;
    /* out: what the files' __metadata__ says, as sw_notes_next() reads it; NULL = not asked for */
    sw_buf *notes;
} sw_headers;

/* Local. What the files say of themselves, one after the other, from *at = 0 on: false when there
 * is no more. Values are as they stand in the file, at most 1 KiB of each.
 *   file  out: index of the file */
bool sw_notes_next(const sw_buf *notes, uint64_t *at, uint64_t *file, const char **key, const char **value);

/* Collective. Parse the headers of c->files by their owners, gather, join and check
 * (sw_catalog_check()).
 *   findings NULL: the first thing that is wrong is the error. Else all that is wrong goes there,
 *            the same on every rank; files and tensors that it speaks of are marked as broken
 * All ranks return the same. Cost: memory on every rank for the files, the tensors, and their boxes
 * by rule (rules.h); 16 + 16 n bytes, twice at peak, for an n-dimensional box that is in none. */
sw_code sw_gather_catalog(const sw_comm *comm, sw_headers *in, sw_catalog *c, sw_findings *findings,
                          sw_status *st);

/* Collective. A catalogue of what the ranks hold in memory: each of them is a file of it. Every
 * rank of comm speaks for as many as the others, and may come with an error. All ranks return the
 * same.
 * Errors: as sw_catalog_merge() and sw_catalog_check(). */
sw_code sw_join_held(const sw_comm *comm, const sw_holders *ranks, sw_catalog *c, sw_status *st);

/* Collective. Every rank gets the findings of all, sorted (sw_findings_sort()). */
sw_code sw_findings_gather(const sw_comm *comm, sw_findings *f, sw_status *st);

#endif
