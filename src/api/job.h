/* One call of the library that plans what comes of an input (consolidate, verify, save, reshard):
 * what it holds, and its larger steps. */
#ifndef SW_API_JOB_H
#define SW_API_JOB_H

#include "api/options.h"
#include "base/path.h"
#include "dir/assets.h"
#include "dir/place.h"
#include "format/maps.h"
#include "par/scan.h"
#include "par/weld.h"
#include "plan/naming.h"
#include "plan/outputs.h"
#include "plan/schedule.h"

/* All that one call holds; born empty. */
typedef struct sw_job {
    const sw_comm *comm;
    const char *in, *out;
    /* what this rank holds, where there is no INPUT_DIR (in is NULL then); NULL = files */
    const sw_memboxes *held;
    uint32_t
        /* held is what so many ranks hold, and comm is one process; 0 = what this one holds */
        described;
    const sw_options *opt;
    sw_result *result;
    double started;

    sw_place *stage;    /* rank 0 */
    uint64_t recovered; /* fingerprint of a publication that was completed, 0 = none */
    bool same_dir;      /* INPUT_DIR is OUTPUT_DIR */
    bool as_saved;      /* what .hf_metadata says of dtypes is not restored */
    char **old;         /* rank 0: the checkpoint that is replaced */
    size_t nold;
    char **keep; /* rank 0: the input's names as seen from OUTPUT_DIR */
    size_t nkeep;

    sw_catalog c;
    sw_find scan;
    sw_naming naming;   /* what the tensors will be called */
    sw_outputs outputs; /* what they will be */
    sw_map map;         /* of the layout's rule, in the names of the outputs */
    sw_layout layout;
    sw_assets assets; /* rank 0: the model's other files */
    sw_schedule sched;
    sw_memory memory;
    uint64_t plan_hash, fingerprint, written;
    bool by_owner, done; /* done: a recovery had done all that was asked for; or it is a dry run */
    sw_buf warnings;     /* lines */
    sw_buf index;        /* rank 0: text of the index */
} sw_job;

static inline bool sw_job_is_root(const sw_job *r)
{
    return r->comm->rank == 0;
}

/* ---- what all calls share (consolidate.c) ---------------------------------------------------- */

/* Local, once the catalogue is known. By band or by owner: by_owner. */
void sw_job_assign(sw_job *r);

/* Local, once the outputs are known. Is any of them no plain copy? */
bool sw_job_converts(const sw_job *r);

/* Collective. All of sw_consolidate() once comm, in or held, out and opt are filled in. result may
 * be NULL; both it and st are emptied first. */
sw_code sw_job_run(sw_job *r, sw_result *result, sw_status *st);

/* Collective. What of it comes before the writing; done: there is nothing to be written. */
sw_code sw_job_prepare(sw_job *r, sw_status *st);

/* Rank 0. Are the files to be durable? */
sw_code sw_job_sync(const sw_job *r, const char *staged_dir, bool *sync, sw_status *st);

/* Local. The directory in which files are staged, newly allocated; NULL on failure. */
char *sw_job_staged_dir(const sw_job *r, sw_status *st);

/* Local. The beginning, once comm and opt are filled in: result and st are emptied. */
void sw_job_begin(sw_job *r, sw_result *result, sw_status *st);

/* Local, once by_owner is known. Share out the buffer that the user gave, else this one. Errors:
 * SW_EUSAGE. */
sw_code sw_job_take_memory(const sw_job *r, const sw_memory_rule *rule, uint64_t buffer, sw_memory *out,
                           sw_status *st);

/* Local. What is to be put together, once it is scheduled. */
sw_work sw_job_work(const sw_job *r);

/* Collective, once all is decided. Who writes what, with how much memory; all ranks have come to
 * the same plan. by_owner, sched, memory.
 * All ranks return the same. Errors: SW_EUSAGE (a buffer that is too small), SW_EINTERNAL. */
sw_code sw_job_schedule(sw_job *r, sw_status *st);

/* Rank 0, after the layout and the list of assets. A hash of what this run was asked for: of all
 * that decides what will be in OUTPUT_DIR. Never 0. */
uint64_t sw_job_fingerprint(const sw_job *r, sw_status *st);

/* Collective. What the plan says, for the caller: all of result but times. All ranks return the
 * same. */
sw_code sw_job_fill_result(sw_job *r, sw_status *st);

/* Collective. Write all files of the layout into staged_dir. All ranks return the same. */
sw_code sw_job_write_files(sw_job *r, const char *staged_dir, sw_status *st);

/* Collective, also after an error, which st holds: all ranks end with the same. Totals, warnings,
 * release. */
void sw_job_end(sw_job *r, sw_status *st);

/* Local. Hand all lines of warnings to the caller and empty it. */
void sw_job_tell_warnings(sw_job *r);

/* Local, once all is decided. The same, and what will be done: the result so far. */
void sw_job_tell_plan(sw_job *r);

/* Local. Free what the job holds, but for stage and result. */
void sw_job_release(sw_job *r);

/* ---- comparing (verify.c) -------------------------------------------------------------------- */

/* Collective, once all files are staged. Read them back and compare them with the input, their
 * headers with the layout.
 * All ranks return the same. Errors: SW_DIFF (the first finding; the others are warnings). */
sw_code sw_job_verify(sw_job *r, sw_status *st);

/* Rank 0 (around.c). What stands beside the weights in OUTPUT_DIR, against what consolidate would
 * put there: the index, if nothing is wrong with the headers and with what it names; the model's
 * other files. Errors: SW_EINPUT (a side file of the input changed meanwhile), SW_EIO,
 * SW_ENOMEM. */
sw_code sw_job_compare_index(const sw_job *r, const sw_plain *t, sw_findings *findings, sw_status *st);
sw_code sw_job_compare_assets(const sw_job *r, const sw_plain *t, sw_findings *findings, sw_status *st);

/* ---- the input (input.c) --------------------------------------------------------------------- */

/* Collective, once the files are known. The catalogue: headers, and numbers in the names as far as
 * they were asked for or have holes; which numbers are there is told in result. Is what config.json
 * speaks of all there?
 * All ranks return the same. Errors: SW_EINPUT (no valid checkpoint), SW_EUSAGE (node-local shards
 * whose end nothing tells), SW_EIO. */
sw_code sw_job_read_headers(sw_job *r, double *seconds, sw_status *st);

/* ---- OUTPUT_DIR (output.c) ------------------------------------------------------------------- */

/* Local. Is INPUT_DIR, which is of this kind, a directory? Errors: SW_EINPUT. */
sw_code sw_job_check_input(const sw_job *r, sw_path_kind kind, sw_status *st);

/* Collective. Take OUTPUT_DIR and recover what a dead run left: stage, recovered, same_dir. */
sw_code sw_job_open_output(sw_job *r, sw_status *st);

/* Collective, once the files are known. What of OUTPUT_DIR belongs to the input: keep. */
sw_code sw_job_list_keep(sw_job *r, sw_status *st);

/* Rank 0. What is in OUTPUT_DIR already (old), and may this run replace it? index: the name of the
 * one that will be written, NULL = not known yet. Errors: SW_EUSAGE. */
sw_code sw_job_look_at_output(sw_job *r, const char *index, sw_status *st);

/* Local. A line in warnings where the directory of shards holds a consolidated checkpoint too,
 * which stays: which of the two a loader takes differs. Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_warn_of_consolidated(const char *output_dir, sw_buf *warnings, sw_status *st);

/* Local. May the input's own directory be the output's, and is it no directory of shards that a
 * plain checkpoint would be welded into? A line in warnings where shards stay beside what is
 * welded. Errors: SW_EUSAGE, SW_EIO, SW_ENOMEM. */
sw_code sw_job_check_same_dir(sw_job *r, sw_status *st);

/* Rank 0, once the input is known. SW_EUSAGE where it is plain and OUTPUT_DIR holds nothing but
 * shards: the two were swapped. */
sw_code sw_job_check_swapped(const sw_job *r, sw_status *st);

/* Rank 0, after the layout. Choose the model's other files: assets. */
sw_code sw_job_list_assets(sw_job *r, sw_status *st);

/* Rank 0. All that can be known to fail fails now: names, space; makes the text of the index and
 * the staging's directories, and stages the model's other files. */
sw_code sw_job_prepare_output(sw_job *r, sw_status *st);

/* Rank 0. Is the file of this name in OUTPUT_DIR one of the input's, by whatever way it got
 * there? */
sw_code sw_job_is_input(const sw_job *r, const char *name, bool *is, sw_status *st);

/* Rank 0. What OUTPUT_DIR has of the names of assets becomes part of old, which is sorted by
 * bytes. */
sw_code sw_job_add_replaced_assets(sw_job *r, sw_status *st);

/* Local. How the options have config.json edited. Errors: SW_EUSAGE. */
sw_code sw_config_rule_of(const sw_options *opt, sw_config_rule *rule, sw_status *st);

/* Local. The same; a line in warnings when it is to be and cannot. */
sw_code sw_job_config_rule(sw_job *r, sw_config_rule *rule, sw_status *st);

/* Rank 0. Stage the model's other files, as they are to be; sizes become those of the copies.
 * Errors: as sw_asset_stage(), SW_ECANCEL. */
sw_code sw_job_stage_assets(sw_job *r, const sw_place *stage, sw_status *st);

/* Local. Warn of a staging directory that stays. */
void sw_tell_staging(const sw_options *opt, const sw_result *result);

/* Rank 0. Stage the index and make all visible. */
sw_code sw_job_publish(sw_job *r, sw_status *st);

/* ---- tensors and layout (rules.c) ------------------------------------------------------------ */

/* Collective, once the catalogue is known. The block size of its scales, if it has any: what the
 * caller says, else the config.json that comes along, else as it is. A local failure is possible:
 * agree afterwards.
 *   dir  where the input is; NULL = none
 * Errors: SW_EUSAGE (block_size is no size). */
sw_code sw_find_block_size(const sw_comm *comm, const sw_options *opt, const char *dir, sw_catalog *c,
                           sw_status *st);

/* Collective, once the catalogue is known. Names and values: naming, outputs. A local failure is
 * possible, the same on every rank: agree afterwards. */
sw_code sw_job_decide(sw_job *r, sw_status *st);

/* Local. What messages call it. */
static inline const char *sw_fqn_map_name(const sw_options *opt)
{
    return opt->fqn_map ? opt->fqn_map : "the map of names";
}

/* Collective. The map that fqn_map or fqn_map_text brings. A local failure is possible: agree
 * afterwards. */
sw_code sw_job_read_fqn_map(const sw_comm *comm, const sw_options *opt, sw_map *map, sw_status *st);

/* Collective, after that. Choose the rule (SPEC 4: options, .hf_metadata, the input's own, the
 * size), lay out. A local failure is possible: agree afterwards. */
sw_code sw_job_lay_out(sw_job *r, sw_status *st);

#endif
