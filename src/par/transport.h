/* Which way the bytes go out: MPI-IO without aggregation, or pwrite.
 *
 * With aggregation a rank writes what others hand it. MPI's libraries then lose data without an
 * error when a disk is full, mix up small blocks, or hang; so where a setting of the site or the
 * user asks for it, that is not followed: the ranks write their own bands by pwrite. */
#ifndef SW_PAR_TRANSPORT_H
#define SW_PAR_TRANSPORT_H

#include "par/comm.h"

typedef struct sw_transport {
    const char *const *hints; /* "KEY=VALUE", all valid, NULL-terminated; NULL = none; borrowed */
    /* the setting that asks for aggregation: all goes by pwrite; "" = none. The same on every
     * rank */
    char aggregates[128];
    bool mpi;                /* a file was opened by MPI-IO */
    char io[32], words[512]; /* what MPI-IO tells of such a file, for sw_result; "" = nothing */
} sw_transport;

/* Local. KEY=VALUE, within what MPI takes. */
bool sw_hint_is_valid(const char *hint);

/* Collective. Look at the hints and at what Open MPI is set to, before the first file is opened.
 * An error that st holds is agreed upon with it. All ranks return the same. */
sw_code sw_transport_choose(const sw_comm *comm, const char *const *hints, sw_transport *out, sw_status *st);

/* Hints that keep ROMIO from aggregating and from reading what it will overwrite, whatever a file
 * of hints says; a file is opened with these and then the user's. */
extern const char *const sw_transport_ours[];

/* Local. What MPI tells of an open file: sets io and words, and aggregates. */
void sw_transport_look(sw_transport *t, sw_handle file);

/* Local. By the settings of Open MPI, "name=value" words as MPI_T has them, would OMPIO aggregate?
 * The setting that makes it, into why (n bytes); false = no. */
bool sw_transport_aggregates(const char *words, char *why, size_t n);

#endif
