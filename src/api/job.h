/* One call of sw_consolidate(): what it holds, and its larger steps. */
#ifndef SW_API_JOB_H
#define SW_API_JOB_H

#include "format/maps.h"
#include "par/publish.h"
#include "par/scan.h"
#include "plan/schedule.h"

/* All that one call holds; born empty. */
typedef struct sw_job {
    const sw_comm *comm;
    const char *in, *out;
    const sw_options *opt;
    sw_result *result;
    double started;

    sw_stage *stage;    /* rank 0 */
    uint64_t recovered; /* fingerprint of a publication that was completed, 0 = none */
    bool same_dir;      /* INPUT_DIR is OUTPUT_DIR */
    char **old;         /* rank 0: the checkpoint that is replaced */
    size_t nold;
    char **keep; /* rank 0: the input's names as seen from OUTPUT_DIR */
    size_t nkeep;

    sw_catalog c;
    sw_scan scan;
    sw_map map; /* of --fqn-map, --like or .hf_metadata */
    sw_layout layout;
    sw_schedule sched;
    uint64_t plan_hash, fingerprint;
    uint64_t scratch, written;
    bool by_owner, done; /* done: a recovery had done all that was asked for */
    sw_buf warnings;     /* lines */
    sw_buf index;        /* rank 0: text of the index */
} sw_job;

static inline bool sw_job_is_root(const sw_job *r)
{
    return r->comm->rank == 0;
}

/* ---- OUTPUT_DIR (output.c) ------------------------------------------------------------------------ */

/* Collective. Take OUTPUT_DIR and recover what a dead run left: stage, recovered, same_dir. */
sw_code sw_job_open_output(sw_job *r, sw_status *st);

/* Collective, once the files are known. What of OUTPUT_DIR belongs to the input: keep. */
sw_code sw_job_list_keep(sw_job *r, sw_status *st);

/* Rank 0. What is in OUTPUT_DIR already (old), and may this run replace it? index: the name of the one that will be written, NULL =
 * not known yet. Errors: SW_EUSAGE. */
sw_code sw_job_look_at_output(sw_job *r, const char *index, sw_status *st);

/* Local. May the input's own directory be the output's? Errors: SW_EUSAGE. */
sw_code sw_job_check_same_dir(sw_job *r, sw_status *st);

/* Rank 0. All that can be known to fail fails now: names, space; makes the text of the index and the staging's directories. */
sw_code sw_job_prepare_output(sw_job *r, sw_status *st);

/* Rank 0. Stage the index and make all visible. */
sw_code sw_job_publish(sw_job *r, sw_status *st);

/* ---- the layout (rules.c) -------------------------------------------------------------------------- */

/* Collective. Decide on values, choose the rule (SPEC 4: options, .hf_metadata, the input's own, the size), lay out. A local
 * failure is possible: agree afterwards. */
sw_code sw_job_lay_out(sw_job *r, sw_status *st);

#endif
