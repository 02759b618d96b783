/* One call that plans what comes of an input: consolidate, reshard, what saves from memory, verify.
 * All are fills of the same steps (pipeline.c has them as lists): where the boxes come from, what
 * the files hold, where they are put; verify compares where the others write.
 *
 * Each step leaves a struct of its own, which later steps read. Steps are collective unless they
 * say otherwise: all ranks return the same. Some dozens of calls in the life of a process. */
#ifndef SW_API_JOB_H
#define SW_API_JOB_H

#include "api/options.h"
#include "dir/assets.h"
#include "dir/place.h"
#include "par/bands.h"
#include "par/nodes.h"
#include "par/proof.h"
#include "par/scan.h"
#include "par/shards.h"
#include "par/whole.h"
#include "plan/layout_cut.h"
#include "plan/naming.h"

/* What the files hold. */
typedef enum sw_files {
    SW_FILES_WHOLE, /* whole tensors; an index tells where: consolidated */
    SW_FILES_CUT,   /* a box for each rank of a mesh: a shard set */
    SW_FILES_HELD,  /* the boxes that each rank holds, written by itself: a shard set */
} sw_files;

/* ---- what the steps come to ------------------------------------------------------------------ */

/* Find. */
typedef struct sw_job_input {
    char *dir, *name; /* of an operand that may be one file; name NULL = it is none */
    sw_catalog c;
    sw_find found;    /* empty where there is no INPUT_DIR */
    sw_shares shares; /* some of c may lie there */
    uint64_t nodes;   /* that the ranks are on; 0 where there is no INPUT_DIR */
} sw_job_input;

/* Decide: which tensors, under which names, of which values. Of SW_FILES_HELD nothing, until what
 * was written is proven: then what lies there. */
typedef struct sw_job_values {
    sw_naming naming;
    sw_outputs outputs;
} sw_job_values;

/* Lay out. */
typedef struct sw_job_files {
    sw_map map;           /* that the rule of the layout goes by, in the names of the outputs */
    sw_shard_rules rules; /* CUT */
    sw_layout whole;      /* CUT: the models that are cut */
    sw_layout layout;     /* WHOLE, CUT; HELD: once they are there, and proven, the files alone */
    sw_shard_set set;     /* HELD */
} sw_job_files;

/* Schedule: who fills what with which memory. Not of SW_FILES_HELD. */
typedef struct sw_job_work {
    bool by_owner;
    sw_memory memory;
    sw_schedule sched;
} sw_job_work;

/* Prove, where that is asked for. */
typedef struct sw_job_proven {
    bool on;
    sw_proof proof;         /* of files; of WHOLE and CUT also of what they hold */
    sw_plain there;         /* HELD: what was written */
    sw_proof_slot *tensors; /* rank 0: of each output */
    /* of each file of the input, the hash of its header as text; "" = it has none; NULL = not
     * known yet */
    char (*headers)[SW_HEX_SIZE(SW_XXH3_BYTES)];
    /* rank 0: a hash of what decides the bytes, whatever the input's inodes and times */
    uint64_t plan;
} sw_job_proven;

/* What rank 0 has seen of OUTPUT_DIR, told to all. */
typedef struct sw_job_told {
    uint64_t recovered; /* fingerprint of a publication that was completed, 0 = none */
    bool same_dir;      /* INPUT_DIR is OUTPUT_DIR */
    bool shared;        /* it is on a parallel or network file system, */
    bool fuse;          /* by FUSE, */
    uint64_t block;     /* of such blocks */
    sw_store store;     /* what it can do, and how it is written to */
    /* how its files are striped, and those of the staging directory elsewhere */
    sw_stripes stripes, depot_stripes;
} sw_job_told;

/* Open, look, judge, prepare: OUTPUT_DIR. All but the first three members is rank 0's. */
typedef struct sw_job_output {
    sw_job_told told;
    bool done;    /* a recovery had done all of it; or it is a dry run */
    char *staged; /* where files are made; mostly the others learn it when they write */
    sw_place *place;
    sw_place *depot;            /* where all is made before it is copied there; NULL = it is not */
    sw_dir keep;                /* the input's names as seen from OUTPUT_DIR */
    sw_dir old;                 /* what is replaced */
    sw_assets assets;           /* the model's other files */
    sw_buf file_map, dtype_map; /* CUT: what the mappings among them are to say; empty = as it is */
    sw_buf index;               /* WHOLE: text of the index */
    sw_buf manifest;            /* text of the manifest; empty until it is published */
    uint64_t fingerprint;       /* of what this run was asked for */
} sw_job_output;

/* Born empty but for the fill. */
typedef struct sw_job {
    /* the fill; all of it is borrowed */
    const sw_comm *comm;
    const sw_options *opt;
    const char *in;         /* INPUT_DIR, or */
    const sw_holders *held; /* what this rank, or the ranks that this process speaks for, hold */
    const char *out;
    sw_files files;
    bool by_orders;              /* each rank writes by itself what it holds: api/orders */
    const sw_sharding *sharding; /* CUT */
    struct sw_job *with;         /* diff: the other checkpoint, of which nothing is made */
    const sw_tolerance *allowed; /* diff */
    sw_result *result;

    double started;
    sw_buf warnings; /* lines, the same on every rank but for those that only rank 0 can know */
    sw_job_input input;
    sw_job_values values;
    sw_job_files laid;
    sw_job_work work;
    sw_job_proven proven;
    sw_job_output output;
    uint64_t written; /* bytes, by this rank */
} sw_job;

static inline bool sw_job_is_root(const sw_job *j)
{
    return j->comm->rank == 0;
}

/* Local. Whoever asked is told what the job is at from now on. */
static inline void sw_job_enter(const sw_job *j, sw_phase phase)
{
    if (sw_job_is_root(j) && j->opt->phase)
        j->opt->phase(j->opt->user, phase);
}

/* Local. Are the files streamed to OUTPUT_DIR as they are filled? */
static inline bool sw_job_streams(const sw_job *j)
{
    return j->output.told.store.kind == SW_STORE_STREAM && !j->opt->staging_dir;
}

/* Local. Is a manifest made? */
static inline bool sw_job_makes_manifest(const sw_job *j)
{
    return j->opt->manifest || j->opt->if_needed;
}

/* Local. How files are striped where bands are written. */
static inline const sw_stripes *sw_job_stripes(const sw_job *j)
{
    return j->opt->staging_dir ? &j->output.told.depot_stripes : &j->output.told.stripes;
}

/* Local. Hand all lines of warnings to the caller, and empty it. Rank 0 speaks. */
static inline void sw_job_tell_warnings(sw_job *j)
{
    sw_buf_tell_lines(&j->warnings, sw_job_is_root(j) ? j->opt->warn : NULL, j->opt->user);
}

/* ---- the input (input.c) --------------------------------------------------------------------- */

/* Which files are the input; nothing where it is memory. Errors: as sw_scan_dir(). */
sw_code sw_job_scan(sw_job *j, sw_status *st);

/* The same of what may be a directory or one file: in names it, and is the directory afterwards.
 * Errors: SW_EINPUT too where nothing is there. */
sw_code sw_job_scan_any(sw_job *j, sw_status *st);

/* The catalogue, of headers or of memory. Of files: the numbers in their names, as far as they were
 * asked for or have holes (result tells which are there), and what config.json speaks of, must all
 * be there. A rank may come with an error.
 *   seconds  out: what the slowest rank took for its headers
 * Errors: SW_EINPUT (no valid checkpoint), SW_EUSAGE (node-local shards whose end nothing tells),
 * SW_EIO. */
sw_code sw_job_read(sw_job *j, double *seconds, sw_status *st);

/* ---- tensors and layout (decide.c) ----------------------------------------------------------- */

/* Local, after agreement, but for what is told of block sizes: agree afterwards. The block size of
 * a catalogue's scales, if it has any: what the caller says, else the config.json that comes along,
 * else as it is.
 *   dir  where the input is; NULL = none
 * Errors: SW_EUSAGE (block_size is no size). */
sw_code sw_find_block_size(const sw_comm *comm, const sw_options *opt, const char *dir, sw_catalog *c,
                           sw_status *st);

/* Names and values. */
sw_code sw_job_decide(sw_job *j, sw_status *st);

/* Which tensor, or box of one, goes into which file (SPEC 4: options, .hf_metadata, the input's
 * own, the size). A rank may fail alone: agree afterwards. */
sw_code sw_job_lay_out(sw_job *j, sw_status *st);

/* Local. Do values stay as they are saved, whatever .hf_metadata says of dtypes? That is for
 * whoever welds new shards. */
bool sw_job_as_saved(const sw_job *j);

/* ---- filling and writing (move.c) ------------------------------------------------------------ */

/* Local. The buffer that the user gave, else what the rule gives for OUTPUT_DIR's file system. */
uint64_t sw_job_buffer(const sw_job *j, const sw_memory_rule *rule, const sw_memory_need *need);

/* Local. Would it be a storm for a metadata server, if each rank could open each file of c? Then
 * ranks that can read their own, and exchange. */
bool sw_job_is_storm(const sw_job *j, const sw_catalog *c);

/* Local, once the catalogue is known. Does each rank read its own files? */
bool sw_job_by_owner(const sw_job *j);

/* Local. Share out the buffer that the user gave, else what the rule gives for OUTPUT_DIR's file
 * system. Errors: SW_EUSAGE. */
sw_code sw_job_share_memory(const sw_job *j, const sw_memory_rule *rule, sw_memory *out, sw_status *st);

/* Local. Who is told how far it is: rank 0 tells. */
sw_progress sw_job_progress(const sw_job *j);

/* Local. What is to be put together, and how it is written. */
sw_work sw_job_work_of(const sw_job *j);

/* Who writes what, with how much memory; all ranks have come to the same plan. A rank may come with
 * an error. Errors: SW_EUSAGE (a
 * buffer that is too small), SW_EINTERNAL. */
sw_code sw_job_schedule(sw_job *j, sw_status *st);

/* Write all files to where they are made. Rank 0 may come with an error. */
sw_code sw_job_move(sw_job *j, sw_status *st);

/* Copy them from the depot, if there is one, to where they would be made without. */
sw_code sw_job_copy(sw_job *j, sw_status *st);

/* Local. Are the files to be durable? On network file systems close would flush anyway, and only a
 * sync tells of lost bytes. */
bool sw_job_syncs(const sw_job *j);

/* ---- OUTPUT_DIR (output.c) ------------------------------------------------------------------- */

/* Can the options be followed? Then take OUTPUT_DIR and recover what a dead run left. What is in it
 * is looked at here where shard files are written. */
sw_code sw_job_open(sw_job *j, sw_status *st);

/* Once the files are known; rank 0's matter unless ranks are node-local: agree afterwards. What
 * OUTPUT_DIR has of a consolidated checkpoint, which of it is the input's, and whether this run may
 * replace the rest. */
sw_code sw_job_look(sw_job *j, sw_status *st);

/* Is it all there already, by a recovery? What comes along, what goes, and may it? Fills in the
 * result, tells the caller what is planned. */
sw_code sw_job_judge(sw_job *j, sw_status *st);

/* Rank 0: agree afterwards. All that can be known to fail fails now: names, space. Then the files
 * can be made, in the depot or in OUTPUT_DIR's place; what goes there from the depot begins with
 * the second function. With the files come the model's other ones. */
sw_code sw_job_prepare(sw_job *j, sw_status *st);
sw_code sw_job_begin_output(sw_job *j, sw_status *st);

/* Rank 0. Stage the index and make all visible. */
sw_code sw_job_publish(sw_job *j, sw_status *st);

/* Rank 0. SW_EUSAGE where the input is plain and OUTPUT_DIR holds nothing but shards: the two were
 * swapped. */
sw_code sw_job_check_swapped(const sw_job *j, sw_status *st);

/* ---- beside the weights (sidefiles.c) -------------------------------------------------------- */

/* Rank 0, after the layout. Choose what comes along; of a shard set also with which mappings, and
 * which mappings of OUTPUT_DIR go with the shards that are replaced. Errors: SW_EINPUT (a mapping
 * that cannot be read), SW_EIO, SW_ENOMEM. */
sw_code sw_job_list_sidefiles(sw_job *j, sw_status *st);

/* Rank 0. Stage them, as they are to be; sizes become those of the copies. Errors: as
 * sw_asset_stage(), SW_ECANCEL. */
sw_code sw_job_stage_sidefiles(sw_job *j, sw_status *st);

/* Rank 0. The index of a plain checkpoint in OUTPUT_DIR, if nothing is wrong so far, and the
 * model's other files there, against what consolidate would put there. Errors: SW_EINPUT (a side
 * file of the input changed meanwhile), SW_EIO, SW_ENOMEM. */
sw_code sw_job_compare_sidefiles(const sw_job *j, const sw_plain *there, sw_findings *findings,
                                 sw_status *st);

/* ---- the manifest (prove.c) ------------------------------------------------------------------ */

/* Local, before the first byte. What is filled is proven, where that is asked for. Errors:
 * SW_EUSAGE (a library is missing), SW_ENOMEM. */
sw_code sw_job_prove_begin(sw_job *j, sw_status *st);

/* When all is written: the ranks' parts come together. Of tensors that were written in boxes all is
 * read once more: by who reshards from the input, so that check proves the cuts, too; by who saves
 * from memory from what was written. Errors: SW_EINPUT (NaN or infinite, where that is refused),
 * SW_EIO. */
sw_code sw_job_prove(sw_job *j, sw_status *st);

/* Local. To put the tensors of files that are there together, as they are saved; what is broken is
 * left out.
 *   there  its catalogue is borrowed as long as o and w live
 *   o      release with sw_outputs_release(), also on an error
 * Errors: SW_EUSAGE (a buffer that is too small), SW_ENOMEM. */
sw_code sw_job_whole_of(const sw_job *j, const sw_plain *there, sw_outputs *o, sw_whole *w, sw_status *st);

/* The headers of the input's files, each read by its owner; nothing the second time. */
sw_code sw_job_hash_headers(sw_job *j, sw_status *st);

/* Rank 0, while side files have their sources' sizes; HELD: once there are outputs. */
void sw_job_note_plan(sw_job *j);

/* Rank 0, once plan and headers are known. Does OUTPUT_DIR hold what this run would make, by its
 * manifest and the sizes of its files? Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_job_is_made(const sw_job *j, bool *made, sw_status *st);

/* Rank 0, when all but the index is where it is published from. Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_job_write_manifest(sw_job *j, sw_status *st);

/* ---- comparing (comparison.c) ---------------------------------------------------------------- */

/* Compare what is in OUTPUT_DIR with what the job would put there. findings: release them;
 * the same on every rank on success, rank 0's own and what the others met after an error. */
sw_code sw_job_compare(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st);

/* What this job has staged, headers too. Errors: SW_DIFF (the first finding; the others
 * are warnings). */
sw_code sw_job_compare_staged(sw_job *j, sw_status *st);

/* The tensors of j->with with what the job makes. findings: as of sw_job_compare(). */
sw_code sw_job_compare_with(sw_job *j, sw_findings *findings, sw_verification *result, sw_status *st);

/* Forget the partners of outputs of which the manifests of both checkpoints tell the same hash:
 * they need not be read. The function's caller may come with an error.
 *   left  out: how many more
 * Errors: SW_ENOMEM. */
sw_code sw_job_leave_alike(const sw_job *j, uint32_t *partners, uint64_t *left, sw_status *st);

/* How many elements of a tensor are NaN, or infinite. */
typedef struct sw_counts {
    uint64_t nan, inf;
    bool counted;
} sw_counts;

/* Collective. What the manifest beside a checkpoint's files tells of each tensor of the catalogue,
 * in its order; empty where there is none that is of use. Errors: SW_ENOMEM. */
sw_code sw_told_counts(const sw_comm *comm, const char *dir, const sw_catalog *c, sw_buf *counts,
                       sw_status *st);

/* Local. The first finding becomes the status, with the number of the others. */
sw_code sw_fail_by_findings(const sw_findings *f, sw_status *st);

/* ---- against its manifest (proven.c) --------------------------------------------------------- */

/* Local, once libxxhash is there. Is the text of a manifest as it was written? */
bool sw_manifest_is_whole(const char *text, size_t len);

/* What is in OUTPUT_DIR against its manifest.
 *   quick     sizes, headers and indices alone
 *   needed    that there is no manifest is an error (SW_EINPUT); else nothing is done then
 *   findings  rank 0's are all; sw_findings_gather() afterwards
 *   result    files, tensors, bytes (of this rank), buffer_size, seconds
 * Errors: SW_EINPUT (a manifest that is none), SW_EUSAGE (libxxhash is missing), SW_EIO. */
sw_code sw_job_check(sw_job *j, bool quick, bool needed, sw_findings *findings, sw_verification *result,
                     sw_status *st);

/* ---- the call (pipeline.c) ------------------------------------------------------------------- */

/* Local. The beginning: result and st are emptied. */
void sw_job_begin(sw_job *j, sw_result *result, sw_status *st);

/* All that comes before the first byte. */
sw_code sw_job_plan(sw_job *j, sw_status *st);

/* Also after an error, which st holds: all ranks end with the same. Totals, warnings, release. */
void sw_job_end(sw_job *j, sw_status *st);

#endif
