/* The consolidated checkpoint in a directory, found as loaders find it: by its index, or by the
 * usual names of weights. */
#ifndef SW_PAR_TARGET_H
#define SW_PAR_TARGET_H

#include "base/path.h"
#include "format/maps.h"
#include "par/comm.h"
#include "plan/catalog.h"

typedef struct sw_target {
    sw_catalog c;      /* every tensor in one box */
    char *index_name;  /* NULL = no index */
    sw_map weight_map; /* of the index; empty when it cannot be used */
    bool index_broken; /* it cannot: a finding tells why */
    sw_index_totals totals;
    sw_dir names; /* rank 0: what is in the directory */
} sw_target;

#define SW_TARGET_INIT                                                                                       \
    {                                                                                                        \
        .index_name = NULL                                                                                   \
    }

/* What is looked for first, where there is more than one. */
typedef struct sw_target_rule {
    const char *index; /* an index of this name, before the usual ones; NULL = none */
    bool single;       /* a lone file of the usual name, before any index */
    bool diffusers;    /* diffusion_pytorch_model before model */
} sw_target_rule;

/* Collective. Find the checkpoint in dir and read its headers.
 *   findings  what is wrong with index and files; rank 0 knows all of it
 * Errors: SW_EINPUT (neither index nor weights there), SW_EIO, SW_ENOMEM. All ranks return the
 * same. */
sw_code sw_target_open(const sw_comm *comm, const char *dir, const sw_target_rule *rule,
                       const volatile int *cancel, sw_target *out, sw_findings *findings, sw_status *st);

/* Collective. The same for files whose names are known, sorted by bytes: no index is looked for. */
sw_code sw_target_read(const sw_comm *comm, const char *dir, const char *const *names, size_t n,
                       const volatile int *cancel, sw_target *out, sw_findings *findings, sw_status *st);

/* Rank 0. Mark the files that are gone from dir, or are others there now than at first. Errors:
 * SW_EIO, SW_ENOMEM. */
sw_code sw_target_look_again(const sw_target *t, const char *dir, bool *changed, sw_status *st);

void sw_target_release(sw_target *t);

#endif
