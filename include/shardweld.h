/* shardweld: weld sharded safetensors checkpoints into whole ones, in parallel.
 *
 * Everything the command line does, as functions over a communicator. Nothing here prints, exits or
 * aborts; each function that can fail returns a code and fills an sw_status with file, tensor and
 * reason. "Collective" functions are called by every rank of the communicator with equal arguments;
 * they return the same code on every rank. "Local" ones are not. What a call works on, how, and
 * what takes its outcome are arguments of their own (eight at most): no struct need be filled for a
 * plain call. Include shardweld_mpi.h for an MPI communicator.
 * SPEC n is section n of docs/spec.md. */
#ifndef SHARDWELD_H
#define SHARDWELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SW_VERSION "0.2.0"

/* Local. The SW_VERSION that the library was built with: structs may differ between versions. */
const char *sw_version(void);

/* Structs that may grow begin with their size, by which a library knows what a program has that was
 * built with an older header: what the program does not know of counts as zero, and is not written.
 * SW_..._INIT sets it, and all else to zero; 0 stands for the size in version 0.2. A program that
 * is newer than the library is refused (SW_EUSAGE) where it uses what the library does not know.
 * All other structs stay as they are for as long as the library's SONAME does. */
#ifdef __cplusplus
#define SW_SIZED_INIT(type) sw_sized_init<type>()
extern "C++" {
template <typename T> inline T sw_sized_init()
{
    T sized = T();

    sized.size = sizeof sized;
    return sized;
}
}
#else
#define SW_SIZED_INIT(type)                                                                                  \
    {                                                                                                        \
        .size = sizeof(type)                                                                                 \
    }
#endif

/* ---- errors ---------------------------------------------------------------------------------- */

/* The only list of codes: name, exit status of the program, text. */
#define SW_CODES(X)                                                                                          \
    X(SW_OK, 0, "success")                                                                                   \
    X(SW_DIFF, 1, "the checkpoints differ")                                                                  \
    X(SW_EINTERNAL, 1, "unforeseen failure")                                                                 \
    X(SW_ECOMM, 1, "communication between the ranks failed") /* nothing can be agreed upon */                \
    X(SW_ECANCEL, 1, "interrupted")                                                                          \
    X(SW_EUSAGE, 2, "wrong usage")                                                                           \
    X(SW_EINPUT, 3, "not a valid checkpoint")                                                                \
    X(SW_EIO, 4, "input/output error")                                                                       \
    X(SW_ENOMEM, 4, "out of memory")

typedef enum sw_code {
#define SW_CODE_ENUM(name, exit_status, text) name,
    SW_CODES(SW_CODE_ENUM)
#undef SW_CODE_ENUM
} sw_code;

/* What went wrong, where and why. It can be sent between ranks as it lies. Empty strings where a
 * field has nothing to say. Text is lower case, without a full stop, free of control characters. */
typedef struct sw_status {
    sw_code code;
    /* a path as the user would name it, mostly relative to INPUT_DIR or OUTPUT_DIR */
    char file[512];
    char tensor[512]; /* the FQN */
    char reason[1024];
    /* who found it, once the ranks have agreed on it: its rank in the communicator of the call, and
     * its machine. host is "" where one process was called alone */
    int rank;
    char host[64];
} sw_status;

#define SW_STATUS_INIT                                                                                       \
    {                                                                                                        \
        SW_OK, "", "", "", 0, ""                                                                             \
    }

/* Local. The exit status that belongs to a code, and its text. */
int sw_code_exit_status(sw_code code);
const char *sw_code_text(sw_code code);

/* Local. "file: tensor 'name': reason (rank 37 on node12)" as one line into text (at most n bytes
 * with the NUL); returns text. */
char *sw_status_message(const sw_status *st, char *text, size_t n);

/* Local. An error that nobody has signed yet is this rank's, on this machine. Collective functions
 * do so where there are several ranks. */
void sw_status_sign(sw_status *st, int rank);

/* ---- communicator ---------------------------------------------------------------------------- */

/* The little that the library needs of a group of processes. The functions are collective and
 * return 0, or non-zero when the group is broken beyond repair. Bytes go through as they are (one
 * kind of machine).
 *   bcast      n bytes at buf, from rank root to all
 *   allgather  counts[rank] bytes at mine; all blocks, one after the other in rank order, at all
 *   barrier    everyone has arrived
 * Made by sw_comm_self() or sw_comm_from_mpi(), or filled in by a caller that brings a process
 * group. */
typedef struct sw_comm {
    void *ctx;
    int rank, size;
    int (*bcast)(void *ctx, void *buf, size_t n, int root);
    int (*allgather)(void *ctx, const void *mine, void *all, const size_t *counts);
    int (*barrier)(void *ctx);
} sw_comm;

/* Local. The communicator of one process. Needs no release. */
sw_comm sw_comm_self(void);

/* Collective over the job. The ranks that mpirun or srun has started, for programs that do not
 * speak MPI themselves (those that do take sw_comm_from_mpi() of shardweld_mpi.h). A layer for the
 * launcher's MPI is loaded (SPEC 7), and MPI is initialised if it is not yet; its errors are
 * returned from now on. Where no launcher of MPI's has started this process (see
 * sw_comm_launched()), or one has that started nothing else and whose MPI cannot be loaded, that is
 * a group of one: sw_comm_self(), unless the program has initialised MPI itself.
 *   out  release with sw_comm_mpi_release()
 * Errors: SW_EUSAGE (several processes were started that are no ranks of one job: their MPI cannot
 * be loaded, or does not know their launcher), SW_ECOMM (MPI fails, or has been finalized),
 * SW_ENOMEM; not agreed upon. */
sw_code sw_comm_world(sw_comm *out, sw_status *st);

/* Collective. sw_comm_from_mpi() for who does not compile against mpi.h: a communicator of the same
 * ranks as one of MPI's, which is duplicated and not used again.
 *   kind  the ABI of the MPI that it belongs to, "openmpi", "mpich" or "abi"; NULL = of the one
 *         that is in the process
 *   mpi   the handle, an MPI_Comm as C has it
 *   out   free with sw_comm_mpi_release() before MPI_Finalize
 * Errors: SW_EUSAGE (there is no layer for it, or MPI has not begun), SW_ECOMM, SW_ENOMEM; not
 * agreed upon. */
sw_code sw_comm_from_handle(const char *kind, uintptr_t mpi, sw_comm *out, sw_status *st);

/* Local. Is this process a rank of an MPI job's launcher? By the environment alone; no MPI function
 * is called, and nothing is loaded. */
bool sw_comm_launched(void);

/* Local. Where that is not so: is this process one of several that another launcher has started
 * (torchrun; srun without PMI), so that each would do all of the work?
 * Errors: SW_EUSAGE: it is; the message says how to start them, and how to run one copy on
 * purpose. */
sw_code sw_comm_check_alone(sw_status *st);

/* Collective. Free what sw_comm_world() or sw_comm_from_mpi() made, and finalize MPI where
 * sw_comm_world() has initialised it: then no MPI function may be called any more. Harmless on any
 * other communicator. */
void sw_comm_mpi_release(sw_comm *comm);

/* Collective. The lowest failing rank's status becomes everybody's, and is signed; its code is
 * returned. SW_ECOMM is this rank's alone: the others cannot be told. */
sw_code sw_agree(const sw_comm *comm, sw_status *st);

/* Local. End all ranks of the MPI job at once, with that exit status: for who cannot tell the
 * others. Returns where MPI has not begun. */
void sw_comm_abort(int status);

/* Local. What the MPI calls itself whose layer this process has taken, cut to n bytes with the NUL;
 * "" = there is none. A layer is looked for where none has been taken yet. */
void sw_mpi_version(char *text, size_t n);

/* Local. The kind of that layer: "openmpi", "mpich" (and all that work as it does), "abi" (MPI's
 * own standard); "none". No function of MPI is called. */
const char *sw_mpi_kind(void);

/* Local. Set the environment so that MPI-IO takes the paths that are known to be safe (no
 * aggregation, no data sieving, no lock files); variables that are already set win, but aggregation
 * is never followed (SPEC 6). It calls setenv: call it before the first MPI_File_open of the
 * process and before there are threads, best before MPI_Init: else the library asks MPI once what
 * is in effect, which takes 0.2 s. The library never calls it by itself.
 *   output_dir  where the output will be, to look at its file system; need not exist yet; NULL =
 *               unknown */
void sw_transport_defaults(const char *output_dir);

/* ---- watching over a run --------------------------------------------------------------------- */

/* A file server that does not answer, a link that is down, a process that was stopped: then calls
 * of this library stand still, because neither the system nor MPI returns. A watchdog is a thread
 * on every rank that sees whether its rank gets on; the ranks tell rank 0 so by UDP (a port that
 * the system chooses, a few bytes every 3 s), which needs neither MPI nor files. A rank that stands
 * still without waiting for others, and one that is not heard of any more, is waited for. Where the
 * ranks have no UDP between them, each that stands still by itself is told of by itself, and
 * nothing is known of the others. */
typedef struct sw_watchdog sw_watchdog;

/* Zero is the default of each member. The callbacks come from the watchdog's thread, on rank 0; on
 * another rank only where rank 0 is not heard of. text is a line without a newline: "no round has
 * finished for 31 s: waiting for rank 37 on node12 (reading shard-00038-...)".
 *   seconds  after so long without progress: stalled(), and again after twice as long, and so on; 0
 *            = 30, or half of timeout where that is less
 *   timeout  seconds, after which the group is given up: expired(), on every rank that can be
 *            reached. It should end the process, since nothing else can end a call that does not
 *            return. text is NULL where rank 0 has something to say. 0 = never */
typedef struct sw_watchdog_options {
    size_t size; /* of this struct: SW_WATCHDOG_OPTIONS_INIT */
    double seconds;
    double timeout;
    void *user;
    void (*stalled)(void *user, const char *text);
    void (*expired)(void *user, const char *text);
} sw_watchdog_options;

#define SW_WATCHDOG_OPTIONS_INIT SW_SIZED_INIT(sw_watchdog_options)

/* Collective. Watch over what the calling thread does in functions of this library until
 * sw_watchdog_stop().
 *   st   an error that it holds is agreed upon, and nothing is begun
 *   out  NULL on error
 * Errors: SW_EIO (no thread can be made), SW_ENOMEM; agreed upon. */
sw_code sw_watchdog_start(const sw_comm *comm, const sw_watchdog_options *opt, sw_watchdog **out,
                          sw_status *st);

/* Local, from the same thread: this rank is through, and is not waited for any more. NULL is
 * fine. */
void sw_watchdog_stop(sw_watchdog *w);

/* ---- options --------------------------------------------------------------------------------- */

struct sw_result;

typedef enum sw_assign {
    /* by band, but by owner where ranks x shard files would be too many opens for the nodes and the
     * time that the bytes take */
    SW_ASSIGN_AUTO = 0,
    SW_ASSIGN_BAND, /* each rank reads what its part of the output needs */
    /* each rank reads the shard files it owns, and the ranks exchange (several: MPI only) */
    SW_ASSIGN_OWNER,
} sw_assign;

typedef enum sw_store_kind {
    SW_STORE_AUTO = 0, /* found out by trial */
    /* files are made in a hidden directory, by all ranks and in any order, and appear by renames */
    SW_STORE_RANDOM,
    /* each file is written once, from front to back, by one rank, under its final name */
    SW_STORE_STREAM,
} sw_store_kind;

/* What a call is at. */
typedef enum sw_phase {
    SW_PHASE_PLANNING,   /* headers are read, what goes where is decided */
    SW_PHASE_WRITING,    /* bytes move */
    SW_PHASE_COPYING,    /* from staging_dir */
    SW_PHASE_VERIFYING,  /* bytes are read back, or compared */
    SW_PHASE_SYNCING,    /* rank 0 has written its part, and the disk has to */
    SW_PHASE_PUBLISHING, /* index, journal, renames */
} sw_phase;

/* What the store of OUTPUT_DIR was found to be able to do. */
typedef struct sw_store {
    sw_store_kind kind; /* how it is written to; AUTO = nothing was written or tried */
    bool rewrites;      /* a file can be opened again, by several, and written in the middle */
    bool renames;
    bool locks;    /* at least on one machine */
    bool reserves; /* room can be reserved */
    bool objects;  /* what is mounted there is known for a store of objects */
    char type[32]; /* what is mounted, as "ext4" or "fuse.s3fs"; "" = unknown */
    /* of Lustre: the targets (OSTs) that large files are spread over; 0 = files are made as
     * everywhere */
    uint32_t targets;
} sw_store;

typedef enum sw_name_kind {
    SW_NAME_STRIP, /* a name that begins with `from` loses it, once */
    /* a name that begins with `from` begins with `to` instead; an empty `from` begins every name */
    SW_NAME_RENAME,
} sw_name_kind;

/* A change of names. Those that do not begin with `from` stay as they are. Bytes are compared: a
 * dot at the end is part of the prefix. */
typedef struct sw_name_rule {
    sw_name_kind kind;
    const char *from;
    const char *to; /* RENAME only; may be empty */
} sw_name_rule;

/* Zero is the default of each member. Strings are borrowed until the call returns. */
typedef struct sw_options {
    size_t size; /* of this struct: SW_OPTIONS_INIT */

    /* layout of the output: at most one of these five */
    const char *fqn_map;      /* JSON file {fqn: output file index from 1} */
    const char *fqn_map_text; /* the same as JSON text, instead of a file */
    const char *like;         /* an existing *.index.json to lay the files out as */
    uint64_t max_shard_size;  /* bytes of tensor data per output file */
    bool single_file;         /* one model.safetensors, no index */
    /* files and index are called diffusion_pytorch_model; not with like */
    bool diffusers;
    bool diffusers_index; /* only the index is; not with like */

    /* names: which tensors come along, and what they are called (SPEC 4) */
    /* fnmatch patterns of the input's names, NULL-terminated; NULL = all */
    const char *const *include;
    const char *const *exclude;     /* the same: all but these */
    const sw_name_rule *name_rules; /* one after the other */
    size_t nname_rules;

    /* values (SPEC 5) */
    /* "bf16", "fp16", "fp32", "fp64", also as torch spells them; NULL, "none" = as saved */
    const char *cast_dtype;
    /* "bf16", "fp16", "fp32": tensors that have scales become this; NULL = not */
    const char *dequantize;
    /* "128", "128x64": rows and columns under one scale of X.weight_scale_inv; NULL = as
     * config.json says (quantization_config's weight_block_size), else 128x128 */
    const char *block_size;
    /* JSON text {fqn: dtype} in place of .hf_metadata's fqn_to_dtype_mapping.json; "{}" = restore
     * nothing; NULL = that file's */
    const char *dtype_map_text;

    /* input */
    uint64_t expect_shards; /* shard numbers 1..N must all occur; 0 = not asked */
    /* each rank sees shards of its own (several: MPI only); SW_EUSAGE where nothing tells the last
     * one: expect_shards, like, an index, or full shapes in the shards, as this library writes
     * them */
    bool node_local;
    /* a list of boxes (docs/boxes.md) that says which tensors there are, and in which files of the
     * directory; NULL = what lies there */
    const char *boxes;
    bool boxes_anywhere; /* the files that it names need not lie below the directory */
    /* sw_checkpoint_open(): of what a training job saved all tensors, under their names there, not
     * those of the model alone, under its own (SPEC 2) */
    bool everything;
    bool no_config_check; /* config.json is not asked whether rows, columns or layers are missing */
    bool tolerant;        /* sw_checkpoint_open(): what is wrong becomes findings, not the error */

    /* output */
    /* a directory: the model's other files are there; NULL = .hf_metadata, or INPUT_DIR */
    const char *assets;
    bool no_assets; /* the model's other files stay behind */
    bool verify;    /* before publishing, read everything back and compare it with the shards */
    bool overwrite; /* replace a checkpoint that is already there */
    bool no_sync;   /* do not make the data durable before publishing */
    bool dry_run;   /* plan only, write nothing */
    sw_store_kind store;
    /* a directory that all ranks share: all is written and verified there, and then copied to
     * output_dir, each file from front to back, the index last; NULL = none */
    const char *staging_dir;

    /* transport */
    uint64_t buffer_size; /* bytes of data memory per rank, at least 4096; 0 = by file system */
    sw_assign assign;
    /* "KEY=VALUE" MPI-IO hints, NULL-terminated; NULL = none; none for aggregation is followed */
    const char *const *hints;

    /* callbacks, called on rank 0 only, from the calling thread; may be NULL */
    void *user;
    /* a line of text, without a newline */
    void (*warn)(void *user, const char *text);
    void (*progress)(void *user, uint64_t done, uint64_t total); /* bytes of output */
    /* sw_consolidate(), sw_save_consolidated() and sw_reshard(), before anything is written: all of
     * the result but times and what was written */
    void (*planned)(void *user, const struct sw_result *result);

    /* looked at between steps; a non-zero value on any rank ends the call with SW_ECANCEL; NULL =
     * none */
    const volatile int *cancel;

    /* what was read or written, and is not needed again, goes from the page cache at once, so that
     * other programs' files stay there */
    bool drop_cache;
    /* files on Lustre: "auto" (NULL): those above 1 GiB are spread over several targets where the
     * directory would give them one plain stripe; "none"; "COUNT" or "COUNT:SIZE" for each */
    const char *stripe;

    /* proof */
    /* also make shardweld.manifest.json: what all files and tensors are, in hashes
     * (docs/manifest.md). It needs libxxhash and OpenSSL's libcrypto at run time */
    bool manifest;
    bool quick; /* sw_check(): sizes, headers and indices alone */
    /* sw_consolidate(), sw_reshard(): where output_dir's manifest tells of the same input, options
     * and plan, and its files are there, nothing is done; else as manifest */
    bool if_needed;
    bool refuse_nan; /* NaN or infinite values in what is written: SW_EINPUT, before publishing */

    /* a callback as those above: what the call is at from now on, where it writes or compares.
     * Whoever takes it is told of progress in each phase that moves bytes, from 0 on; else of that
     * of writing, or of sw_verify()'s comparing, alone */
    void (*phase)(void *user, sw_phase phase);
} sw_options;

#define SW_OPTIONS_INIT SW_SIZED_INIT(sw_options)

#define SW_BUFFER_SIZE_MIN 4096u

/* What a member of sw_options is. */
typedef enum sw_option_kind {
    SW_OPTION_FLAG = 1, /* bool */
    SW_OPTION_TEXT,     /* const char * */
    SW_OPTION_CAST,     /* const char *, a dtype */
    SW_OPTION_PATH,     /* const char *, may be a file:// URL */
    SW_OPTION_SIZE,     /* uint64_t, bytes */
    SW_OPTION_COUNT,    /* uint64_t */
    SW_OPTION_LIST,     /* const char *const *, NULL-terminated */
    SW_OPTION_PAIRS,    /* the same of KEY=VALUE */
    SW_OPTION_CHOICE,   /* an enum */
    SW_OPTION_RULES,    /* const sw_name_rule * */
    SW_OPTION_NRULES,   /* size_t: how many */
    SW_OPTION_OWN,      /* the caller's: no option, but the struct's size, or what is called */
} sw_option_kind;

/* A member of sw_options, for programs that fill it in by name. */
typedef struct sw_option {
    const char *name;
    sw_option_kind kind;
    size_t at;                /* its offset */
    bool lays_out;            /* at most one of these may be given */
    uint64_t least;           /* of SIZE and COUNT, where one is given */
    const char *const *words; /* of CHOICE all, by value; of CAST the shortest; ended by NULL */
} sw_option;

/* Local. Member i in the order of the struct; NULL = there are no more. */
const sw_option *sw_option_at(size_t i);

/* ---- consolidate ----------------------------------------------------------------------------- */

/* One output file of a plan. */
typedef struct sw_result_file {
    char *name;       /* relative to OUTPUT_DIR */
    uint64_t tensors; /* how many it holds */
    uint64_t size;    /* bytes, header included */
} sw_result_file;

/* What a run did; filled on every rank, also (as far as it got) when it failed. */
typedef struct sw_result {
    size_t size; /* of this struct: SW_RESULT_INIT */
    sw_result_file *files;
    uint64_t nfiles;
    char *index;   /* name of the index file, NULL = none */
    char **assets; /* names of the model's other files that come along; only on rank 0 */
    uint64_t nassets;
    uint64_t shard_files; /* input files that were read */
    char *shards;         /* shard numbers in their names: "1 to 8", "2, 3, 7"; NULL = none */
    uint64_t last_shard;  /* the highest of them, 0 = none */
    bool shards_listed;   /* the files say themselves which belong to their set: none is missing */
    uint64_t boxes;       /* boxes in them */
    uint64_t tensors;
    uint64_t parameters;    /* elements */
    uint64_t bytes;         /* of tensor data */
    uint64_t bytes_written; /* by all ranks, headers included */
    uint64_t buffer_size;   /* in effect, bytes per rank */
    uint64_t band_size;     /* bytes that one rank writes in one round */
    uint64_t rounds;        /* most rounds of any output file */
    uint64_t peak_memory;   /* largest resident set of any rank, bytes */
    sw_assign assign;       /* in effect */
    sw_store store;         /* of output_dir */
    /* an interrupted publication was completed and was what this run asked for */
    bool recovered;
    int ranks;
    char io[32];         /* "romio", "ompio", "mpi-io" or "posix"; see sw_transport_describe() */
    char transport[512]; /* "name=value" words */
    /* reading and checking headers, of the slowest rank; part of seconds_plan */
    double seconds_parse;
    double seconds_plan;    /* scan, parse, gather, plan */
    double seconds_write;   /* fill and write */
    double seconds_copy;    /* from staging_dir */
    double seconds_verify;  /* read back and compare, where that was asked for */
    double seconds_publish; /* sync and rename */
    /* the staging directory, where it stays; only on rank 0; NULL = it does not */
    char *staging;
    bool unneeded; /* if_needed: all was there already, and nothing was written */
} sw_result;

#define SW_RESULT_INIT SW_SIZED_INIT(sw_result)

/* Local. Free what a result holds and empty it, but for its size. */
void sw_result_release(sw_result *result);

/* Local. Fill in io and transport, where sw_consolidate() has left them empty because asking Open
 * MPI for its settings takes some 0.2 s. */
void sw_transport_describe(const sw_comm *comm, sw_result *result);

/* Collective. Weld the shards in input_dir into a consolidated checkpoint in output_dir (made if
 * missing).
 *   comm    every rank of it works; borrowed
 *   opt     NULL = defaults; equal on every rank but for callbacks, here and below (with node_local
 *           input_dir may differ)
 *   result  SW_RESULT_INIT; emptied first; release with sw_result_release(); NULL = not wanted
 *   st      emptied first; equal on every rank on return
 * Until the end nothing in output_dir changes under its final name; on an error staged files are
 * removed.
 * Errors: SW_EUSAGE (output exists, held by another run, options that exclude one another),
 * SW_EINPUT, SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 2, 3, 4, 6. */
sw_code sw_consolidate(const sw_comm *comm, const char *input_dir, const char *output_dir,
                       const sw_options *opt, sw_result *result, sw_status *st);

/* ---- reshard --------------------------------------------------------------------------------- */

/* How tensors are to be sharded: over a mesh of ranks, by DTensor's rule. Zero is the default of
 * each member but mesh. Borrowed.
 *   mesh        "2x4": its sizes, outermost first; ranks are numbered row by row. At most 8
 *               dimensions and 1000000 ranks. It has nothing to do with the ranks that do the work
 *   placements  "shard0,replicate": one for each dimension of the mesh, in any case. shardD or
 *               shard(D) cuts dimension D of a tensor into chunks of equal size, the last of which
 *               may be shorter or empty; what has no dimension D is replicated. Several that cut
 *               one dimension do so one after the other. NULL = shard0 for each
 *   rules       "GLOB=PLACEMENTS", NULL-terminated: for tensors whose name in the input matches the
 *               fnmatch pattern; the first that does counts. NULL = none */
typedef struct sw_sharding {
    size_t size; /* of this struct: SW_SHARDING_INIT */
    const char *mesh;
    const char *placements;
    const char *const *rules;
} sw_sharding;

#define SW_SHARDING_INIT SW_SIZED_INIT(sw_sharding)

/* Collective. Write the checkpoint in input_dir, sharded or consolidated, again as shard files of
 * other ranks: those that torch's HuggingFaceStorageWriter(save_distributed=True) would write on
 * that mesh. A box that several ranks hold stands in the lowest rank's file, an empty one in none,
 * so that a rank may have no file. Memory is bound as in sw_consolidate().
 *   opt     layout (it gives the model number of each tensor; without one of them it is as in the
 *           input), names, values, input, proof, overwrite, no_sync, dry_run, no_assets, transport
 *           and callbacks count; NULL = defaults. Dtypes that .hf_metadata names are restored only
 *           with cast_dtype. Not verify, assets, diffusers, dtype_map_text
 *   result, st  as above
 * Side files at the top of input_dir, and .hf_metadata, come along; what .hf_metadata maps is
 * brought up to date where the options change names, dtypes or files. output_dir is published as
 * sw_save_shards() does.
 * Errors: as sw_consolidate(); SW_EUSAGE also for a mesh or placement that is none, a cut within a
 * byte (F4, F6), output_dir being input_dir.
 * Seven parameters: those of sw_consolidate(), and the mesh. Source: SPEC 4, 7. */
sw_code sw_reshard(const sw_comm *comm, const char *input_dir, const char *output_dir,
                   const sw_sharding *sharding, const sw_options *opt, sw_result *result, sw_status *st);

/* ---- writer ---------------------------------------------------------------------------------- */

/* A box of a tensor that a rank holds in memory. Everything is borrowed until the call returns. */
typedef struct sw_item {
    const char *name;  /* the FQN: UTF-8, not empty, not __metadata__ */
    const char *dtype; /* "BF16" or "torch.bfloat16": as safetensors or torch spell it */
    unsigned ndim;     /* at most 32 */
    /* of the whole tensor: ndim sizes, elements, outermost first; equal on every rank */
    const uint64_t *global_shape;
    const uint64_t *offsets; /* of the box: ndim, elements; the three may be NULL where ndim is 0 */
    const uint64_t *shape;   /* of the box: ndim, elements; a 0 makes it empty */
    const void *data;        /* its first element; may be NULL where the box is empty */
    /* bytes from one element to the next along each dimension, also 0 or below; NULL = packed */
    const int64_t *strides;
} sw_item;

/* Collective. Write the tensors whose boxes the ranks hold as a consolidated checkpoint, with no
 * shard files in between: the bytes, and the safety, are those of sw_consolidate() of the shards
 * that sw_save_shards() would write with the same options.
 *   items   n boxes of this rank: any number of any tensors, none too. All ranks' boxes together
 *           must cover each tensor; of boxes that are equal the lowest rank's is used. Elements of
 *           less than a byte (F4, F6): packed, and as sw_consolidate() takes them
 *   opt     layout, names, values, output, transport and callbacks count, equal on every rank; the
 *           model's other files come from assets only. Without an option for the layout it is
 *           model-00001-of-00001 and its index. Not verify, node_local, expect_shards
 *   result, st  as above
 * Over MPI the ranks exchange what they hold and write contiguous parts, within buffer_size; ranks
 * without MPI between them each write their boxes' rows to their places, and cannot dequantize:
 * network file systems that mix up the pages which two machines write at once are no place for
 * that.
 * Errors: SW_EUSAGE (an item that is malformed or lies outside its tensor, one box twice on a rank,
 * ranks that were called with different options; and as sw_consolidate()), SW_EINPUT (a gap, a
 * partial overlap, another dtype or shape on another rank), SW_EIO, SW_ENOMEM, SW_ECANCEL.
 * Seven parameters: those of sw_consolidate(), where items and their number stand for a directory.
 * Source: SPEC 3, 5, 6, 7. */
sw_code sw_save_consolidated(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                             const sw_options *opt, sw_result *result, sw_status *st);

/* Collective. Write them as a sharded checkpoint: the files that torch's
 * HuggingFaceStorageWriter(save_distributed=True) writes, and in each the full shapes and the list
 * of all files, which torch ignores and by which a lost one is missed: shard-{rank +
 * 1}-model-{j}-of-{n}.safetensors, which its HuggingFaceStorageReader and sw_consolidate() read.
 *   items   as above. A replica is written by the lowest rank that holds it, so that a rank may
 *           write no file. A file has one box of a tensor: the second one that a rank holds goes to
 *           shard {rank + 1 + size}, and so on
 *   opt     fqn_map (j of each tensor; without it all is model 1 of 1), overwrite, no_sync,
 *           dry_run, manifest, refuse_nan, buffer_size and callbacks count, equal on every rank;
 *           what else lays out, names or changes tensors is refused
 *   result, st  as above
 * An OUTPUT_DIR that is missing appears when all is written, by one rename; till then all is in a
 * hidden directory beside it. In one that is there, a shard set that is replaced (overwrite) goes
 * first, lowest shard number first, and the new one comes from the highest number down. A
 * consolidated checkpoint that is there stays, with a warning.
 * Errors: as above; SW_EUSAGE also when shard files are there already, SW_EINPUT for a tensor that
 * the map lacks. Parameters as of sw_save_consolidated(). Source: SPEC 7. */
sw_code sw_save_shards(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                       const sw_options *opt, sw_result *result, sw_status *st);

/* ---- a save in steps ------------------------------------------------------------------------- */

/* For ranks that hear of one another only through somebody else, who gathers plans, scatters
 * answers and gathers results (as torch.distributed.checkpoint does): nothing of this is
 * collective. One rank, the coordinator, is told which boxes all ranks hold, and has an order for
 * each; each rank writes by its order, and when all have, the coordinator publishes. The bytes, and
 * the safety, are those of sw_save_consolidated() and sw_save_shards(). */
typedef struct sw_save sw_save;

/* Local, on the coordinator. Take output_dir, plan, stage what is not a rank's own.
 *   shards  as sw_save_shards(), else as sw_save_consolidated()
 *   items   n[r] boxes of each of nranks ranks; their data and strides are not looked at
 *   opt     as there, but no dequantize, and progress is not called; borrowed until sw_save_free(),
 *           also what it points to
 *   out     free with sw_save_free(); NULL on error
 * Errors: as there. Eight parameters: those of both functions without ranks and result, which set
 * of files, how many ranks, and what comes of it. */
sw_code sw_save_begin(const char *output_dir, bool shards, const sw_item *const *items, const size_t *n,
                      size_t nranks, const sw_options *opt, sw_save **out, sw_status *st);

/* Local. The order for a rank: *n bytes to be sent to it as they are; they belong to s. */
const void *sw_save_order(const sw_save *s, size_t rank, size_t *n);

/* Local, on every rank: write by the order. It needs nothing but the file system.
 *   items   the boxes of this rank, those that the coordinator was told of, in that order
 *   cancel  looked at between steps: non-zero ends it with SW_ECANCEL; NULL = none
 * Errors: SW_EUSAGE (other boxes, no order), SW_EIO, SW_ENOMEM, SW_ECANCEL. */
sw_code sw_save_write(const void *order, size_t bytes, const sw_item *items, size_t n,
                      const volatile int *cancel, sw_status *st);

/* Local, on the coordinator, once every rank has written: make all of it visible, as one. With
 * manifest or refuse_nan it reads all of it back before. Errors: as sw_save_consolidated(). */
sw_code sw_save_publish(sw_save *s, sw_status *st);

/* Local, on the coordinator, also when ranks have failed: what was staged and not published is
 * removed, and output_dir let go of. NULL is fine. st may already hold an error, which stays. */
sw_code sw_save_free(sw_save *s, sw_status *st);

/* ---- findings -------------------------------------------------------------------------------- */

/* One thing that is wrong with a checkpoint. "" where a text has nothing to say, never NULL; free
 * of control characters. */
typedef struct sw_finding {
    char *file;   /* relative to the checkpoint's directory */
    char *tensor; /* the FQN */
    char *reason; /* what was found and what was expected */
    char *hint;   /* the usual cause and its cure */
    /* of values: elements that differ (0 = it is about something else), the most that two of them
     * are apart, and the most in proportion to the larger of the two; infinite where one of them is
     * no finite number */
    uint64_t differing;
    double largest, relative;
} sw_finding;

/* ---- verify ---------------------------------------------------------------------------------- */

/* What a comparison came to; filled on every rank, also (as far as it got) when it failed. */
typedef struct sw_verification {
    size_t size;          /* of this struct: SW_VERIFICATION_INIT */
    sw_finding *findings; /* by file, then tensor */
    uint64_t nfindings;
    uint64_t files;       /* weight files of output_dir */
    uint64_t tensors;     /* that were compared */
    uint64_t bytes;       /* of them */
    uint64_t replicas;    /* copies of boxes that were compared with the one that is used */
    uint64_t shard_files; /* of input_dir */
    char *shards;         /* as in sw_result */
    uint64_t buffer_size; /* in effect, bytes per rank */
    uint64_t peak_memory; /* largest resident set of any rank, bytes */
    sw_assign assign;     /* in effect */
    int ranks;
    double seconds_plan;    /* find and read headers of both */
    double seconds_compare; /* read and compare all bytes */
    /* sw_diff(): of tensors, those that were not read, for the manifests of both tell the same */
    uint64_t unread;
} sw_verification;

#define SW_VERIFICATION_INIT SW_SIZED_INIT(sw_verification)

/* Local. Free what it holds and empty it, but for its size. */
void sw_verification_release(sw_verification *result);

/* Collective. Does the consolidated checkpoint in output_dir hold, byte for byte, what
 * sw_consolidate() would make of input_dir? Every byte of every tensor is read on both sides, every
 * replica is compared with the box that is used, so are the index and the model's other files, and
 * what loaders demand of index and files is checked. Nothing is written.
 *   opt     layout, names, values, input, assets, no_assets, buffer_size, assign and callbacks
 *           count; NULL = defaults. Without an option for the layout the files of output_dir may be
 *           laid out in any way
 *   result  SW_VERIFICATION_INIT; emptied first; release with sw_verification_release(); NULL = not
 *           wanted
 *   st      emptied first; equal on every rank on return
 * Errors: SW_DIFF (there are findings: st tells the first of them and how many more there are),
 * SW_EINPUT (input_dir is no valid checkpoint, or output_dir has neither index nor weights),
 * SW_EUSAGE, SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 4. */
sw_code sw_verify(const sw_comm *comm, const char *input_dir, const char *output_dir, const sw_options *opt,
                  sw_verification *result, sw_status *st);

/* ---- diff ------------------------------------------------------------------------------------ */

/* Two values that are so near count as equal, and so do two that are no numbers; zeros: the bits
 * must be equal. */
typedef struct sw_tolerance {
    double absolute;
    double relative; /* to the larger of the two */
} sw_tolerance;

/* Collective. What differs between the tensors of two checkpoints of any kind (sharded,
 * consolidated, distributed; directories, or single files), whatever their files and their
 * sharding: tensors that only one of them has, other dtypes or shapes, elements of other values.
 * Nothing is written. Both must be valid; side files and indices are not looked at.
 *   a, b     paths
 *   opt      include and exclude choose from both by their own names; name_rules and values make of
 *            a what is compared with b as it is; buffer_size, assign and callbacks count; NULL =
 *            defaults
 *   allowed  borrowed; NULL = every bit counts
 * Tensors of which the manifests of both tell the same hash are not read: sw_check() says whether
 * manifests are true still.
 *   result   SW_VERIFICATION_INIT; emptied first; release with sw_verification_release(); NULL =
 *            not wanted. Files are those of b, shard_files those of a; one finding a tensor
 *   st       emptied first; equal on every rank on return
 * Errors: SW_DIFF (there are findings), SW_EINPUT (one of them is no valid checkpoint; a file of a
 * that changed meanwhile), SW_EUSAGE, SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 4. */
sw_code sw_diff(const sw_comm *comm, const char *a, const char *b, const sw_options *opt,
                const sw_tolerance *allowed, sw_verification *result, sw_status *st);

/* ---- check ----------------------------------------------------------------------------------- */

/* Collective. Is the checkpoint in dir what its shardweld.manifest.json says (sw_options.manifest
 * made it)? The size of each file, headers, indices and side files, the hash of each tensor, whole
 * or in shards; weights and indices that it does not name. Nothing is written, nothing else is
 * needed, and each byte is read once, by one of the ranks; shards that hold parts of a tensor that
 * differs once more.
 *   opt     quick, buffer_size, warn and cancel count; NULL = defaults
 *   result  as in sw_verify(): files, tensors and bytes that were looked at, findings
 * Errors: SW_DIFF (there are findings), SW_EINPUT (there is no manifest, or none that can be
 * understood), SW_EUSAGE (libxxhash is missing), SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 4. */
sw_code sw_check(const sw_comm *comm, const char *dir, const sw_options *opt, sw_verification *result,
                 sw_status *st);

/* Local. The manifest's SHA-256 of all files, as lines that `sha256sum -c` takes in dir. Nothing
 * else is read.
 *   text  newly allocated; NULL on error
 * Errors: SW_EINPUT, SW_EIO, SW_ENOMEM. */
sw_code sw_manifest_sums(const char *dir, char **text, sw_status *st);

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* A checkpoint that has been looked at: every tensor, and where the parts of it lie. Headers only:
 * no data is read. It is the same on every rank, and everything but opening it is local. What the
 * functions below give belongs to it, until sw_checkpoint_free(). Indices run from 0 and are
 * asserted. */
typedef struct sw_checkpoint sw_checkpoint;

typedef enum sw_checkpoint_kind {
    SW_KIND_SHARDED, /* a directory of shard files */
    SW_KIND_PLAIN,   /* a directory of files with whole tensors: consolidated */
    SW_KIND_FILE,    /* one file; if it is a shard, shapes are only as large as it tells */
} sw_checkpoint_kind;

typedef struct sw_checkpoint_info {
    sw_checkpoint_kind kind;
    bool sharded;        /* some file carries sharding info */
    const char *index;   /* name of the index that chose the files; NULL = none */
    const char *shards;  /* which shard numbers the names have: "1 to 8", "2, 3, 7"; NULL = none */
    uint64_t nfiles;     /* by name (bytes) */
    uint64_t ntensors;   /* by name (bytes) */
    uint64_t nboxes;     /* replicas included */
    uint64_t file_bytes; /* of all files */
    uint64_t parameters; /* elements of all tensors */
    uint64_t bytes;      /* of their data, without replicas */
    uint64_t nvalues;    /* what was saved beside them and is no tensor */
} sw_checkpoint_info;

typedef struct sw_file_info {
    const char *name;    /* relative to the checkpoint's directory */
    uint64_t size;       /* bytes */
    uint64_t data_start; /* bytes before the data of the tensors; 0 when broken */
    uint64_t tensors;    /* so many have a part in it, empty ones too */
    bool sharded;        /* it carries sharding info */
    bool broken;         /* its header cannot be used: findings tell why */
    uint64_t shard, model,
        of; /* the numbers in a name shard-S-model-M-of-N or model-M-of-N; 0 = it has none */
} sw_file_info;

/* A member of a file's __metadata__, but for those that tell of its boxes. */
typedef struct sw_note_info {
    uint64_t file;
    const char *key, *value; /* at most 1 KiB of each */
} sw_note_info;

typedef struct sw_tensor_info {
    const char *name;      /* the FQN */
    const char *dtype;     /* as safetensors spells it */
    unsigned ndim;         /* at most 32 */
    const uint64_t *shape; /* ndim sizes, elements, outermost first */
    uint64_t elements;     /* of the full shape; 0 where that overflows */
    uint64_t bytes;
    uint64_t nboxes;    /* the boxes that make it up, by offsets; none is empty */
    uint64_t nreplicas; /* boxes that repeat one of them, numbered behind them */
    uint64_t file;      /* index of the first file that holds a part of it, even an empty one */
    bool broken;        /* findings tell why */
    bool holes;         /* some elements are in no box */
    bool overlaps;      /* boxes overlap without being equal */
    /* the FQN of the tensor that has its scales; NULL = none. It is not what its numbers say */
    const char *scale;
    /* the manifest beside its file tells how many elements are NaN, or infinite
     * (docs/manifest.md) */
    bool counted;
    uint64_t nan, inf;
} sw_tensor_info;

#define SW_READ_DIMS 32 /* no tensor has more dimensions */

typedef struct sw_box_info {
    uint64_t offsets[SW_READ_DIMS]; /* ndim of them, elements */
    uint64_t shape[SW_READ_DIMS];   /* likewise; what lies behind ndim is not set */
    uint64_t strides[SW_READ_DIMS]; /* likewise, elements from one to the next */
    bool packed;                    /* they lie row by row: strides is not set */
    uint64_t file;                  /* index of the file that holds it */
    uint64_t at;                    /* where its data begins there, bytes */
    uint64_t bytes;
} sw_box_info;

/* Collective. Look at the checkpoint in a directory, or at one safetensors file.
 *   path  a directory (sharded or consolidated) or a file; equal on every rank
 *   opt   boxes, boxes_anywhere, everything, expect_shards, like, tolerant, no_config_check (with
 *         tolerant), block_size (and assets, where config.json is looked for), warn and cancel
 *         count; NULL = defaults
 *   out   free with sw_checkpoint_free(); NULL on error
 * With opt->tolerant, what is wrong with the checkpoint is no error: sw_checkpoint_findings() tells
 * all of it, with the usual causes, and the tensors and files that are concerned are marked as
 * broken.
 * Errors: SW_EINPUT (path is missing; without tolerant: the first thing that is wrong), SW_EUSAGE
 * (like is missing; ranks that were called with different options), SW_EIO, SW_ENOMEM, SW_ECANCEL.
 * All ranks return the same. Source: SPEC 2. */
sw_code sw_checkpoint_open(const sw_comm *comm, const char *path, const sw_options *opt, sw_checkpoint **out,
                           sw_status *st);

/* Local. NULL is fine. */
void sw_checkpoint_free(sw_checkpoint *cp);

/* Local. */
void sw_checkpoint_info_get(const sw_checkpoint *cp, sw_checkpoint_info *info);
void sw_checkpoint_file(const sw_checkpoint *cp, uint64_t file, sw_file_info *info);
void sw_checkpoint_tensor(const sw_checkpoint *cp, uint64_t tensor, sw_tensor_info *info);

/* Local. box: below nboxes + nreplicas of the tensor. */
void sw_checkpoint_box(const sw_checkpoint *cp, uint64_t tensor, uint64_t box, sw_box_info *info);

/* Local. The name of what is no tensor, value below nvalues. */
const char *sw_checkpoint_value(const sw_checkpoint *cp, uint64_t value);

/* Local. What the files say of themselves, in __metadata__: one after the other, the first 64 of
 * each file, those of a file together. *at is 0 before the first one; false: there are no more. */
bool sw_checkpoint_note(const sw_checkpoint *cp, uint64_t *at, sw_note_info *note);

/* Local. The index of the tensor of this name; false when there is none. O(log n). */
bool sw_checkpoint_find(const sw_checkpoint *cp, const char *name, uint64_t *tensor);

/* Local. All that is wrong, by file, then tensor; *n = 0 when nothing is, and always without
 * tolerant. */
const sw_finding *sw_checkpoint_findings(const sw_checkpoint *cp, uint64_t *n);

/* Local. Where boxes of a tensor begin or end along dimension dim, its own edges among them:
 * ascending, each once. Into cuts (room for 2 * nboxes + 2 numbers). Returns how many. O(b log b)
 * for b boxes. */
uint64_t sw_checkpoint_cuts(const sw_checkpoint *cp, uint64_t tensor, unsigned dim, uint64_t *cuts);

#define SW_SHARDING_TEXT 192 /* room for what sw_checkpoint_sharding_text() says */

/* Local. How a tensor is sharded, in words: "whole", "rows over 8", "columns over 4", "dim 2 over
 * 3", "2x4 grid", "replicated x2", "rows replicated x2 over 4", "7 boxes" where there is no grid,
 * "box at [0, 64]" in a shard file by itself; with ", 1 hole" or ", overlapping" behind it. Into
 * text (of SW_SHARDING_TEXT bytes).
 * Errors: SW_ENOMEM. O(b log b) for b boxes. */
sw_code sw_checkpoint_sharding_text(const sw_checkpoint *cp, uint64_t tensor, char *text, sw_status *st);

/* ---- reader ---------------------------------------------------------------------------------- */

/* One box of one tensor, and where it goes. Zero is the default of each member but name and data.
 * All is borrowed.
 *   name     the FQN
 *   ndim     how many numbers offsets, shape and strides have: as the tensor is read (see
 *            sw_checkpoint_read_shape()), or the read is refused; not looked at where all three are
 *            NULL
 *   offsets  of the box, elements, outermost first
 *   shape    of the box; may be empty. Both NULL = the whole tensor
 *   data     where the first element of the box goes; any address. NULL only for an empty box
 *   strides  bytes from one element to the next along each dimension, as numpy counts; may be
 *            negative; no two elements may share a byte (that is found where a stride is less than
 *            an element). NULL = packed, the only way for F4 and F6
 *   size     bytes of room at data: must suffice when packed, not looked at with strides
 *   dtype    as safetensors or torch spell it; NULL = as saved. F64, F32, BF16 and F16 are cast
 *            into one another (SPEC 5), a tensor that has scales becomes F32, BF16 or F16 by them,
 *            also where it is saved so: see sw_checkpoint_read_shape() */
typedef struct sw_read {
    const char *name;
    unsigned ndim;
    const uint64_t *offsets;
    const uint64_t *shape;
    void *data;
    const int64_t *strides;
    uint64_t size;
    const char *dtype;
} sw_read;

/* Rows with small gaps between them (columns of a matrix) come up to twice as fast from a mapped
 * file as by pread(2). But where a mapped file is cut short, or its disk fails, while a part of it
 * is copied, the process ends with SIGBUS. */
typedef enum sw_read_map {
    /* Files that nobody on this machine can cut short meanwhile: this process holds a lease on them
     * (fcntl(2), F_SETLEASE). Whoever opens one for writing waits for a few ms (with O_NONBLOCK:
     * gets EAGAIN, so coreutils' truncate does); all others are read. Leases are for local file
     * systems (not overlayfs), for the owner of the file and root, for files that nobody has open
     * for writing. What is left: the process stands still in the midst of it for longer than the
     * system's lease-break-time (45 s); an NFS server on this machine cuts the file short for a
     * client; a disk has failed to read a page of a file that seems to be in memory as a whole. */
    SW_READ_MAP_SAFE = 0,
    SW_READ_MAP_NEVER,
    /* all files. Each 2 MiB are looked at before (from Linux 5.14 on); what happens after that may
     * be the end */
    SW_READ_MAP_ALWAYS,
} sw_read_map;

/* Zero is the default of each member.
 *   threads      that read, the caller's among them; 0 = 1
 *   buffer_size  bytes of memory per thread besides the caller's own, at least SW_BUFFER_SIZE_MIN;
 *                0 = 1 MiB
 *   cancel       looked at every few MiB; non-zero ends the call with SW_ECANCEL; NULL = none
 *   map          see sw_read_map */
typedef struct sw_read_options {
    size_t size; /* of this struct: SW_READ_OPTIONS_INIT */
    unsigned threads;
    uint64_t buffer_size;
    const volatile int *cancel;
    sw_read_map map;
} sw_read_options;

#define SW_READ_OPTIONS_INIT SW_SIZED_INIT(sw_read_options)

/* Local. Read boxes of tensors into memory: each byte of the files once for each box that needs it,
 * each file forwards, in the order of position, whatever the order of the reads. Files are opened
 * in each call, so many reads in one call cost less than many calls. The checkpoint is not changed:
 * several threads may read from it at the same time.
 *   reads  n of them; also several of one tensor. No two may have memory in common; that is found
 *          where both fill theirs without gaps
 *   opt    NULL = defaults
 *   st     emptied first; names file and tensor
 * Memory: buffer_size for each thread (and up to some 10 MiB of mapped files, which are the
 * system's and count as this process's only meanwhile), some 1 KiB for each read and 40 bytes for
 * each part (of 4 MiB at most) of a box that is saved in another place. Nothing is written anywhere
 * before all requests have been checked; on a later error what data points at holds anything.
 * Errors: SW_EUSAGE (a tensor that is not there, a box outside of it, a dtype that it cannot
 * become, too little room, F4 or F6 that do not begin and end on bytes), SW_EINPUT (the tensor is
 * broken, or parts of the box are in no file; a file was changed since the checkpoint was opened;
 * scales that cannot be made use of), SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 5, 7. */
sw_code sw_checkpoint_read(const sw_checkpoint *cp, const sw_read *reads, size_t n,
                           const sw_read_options *opt, sw_status *st);

/* Collective. The same; each rank reads boxes of its own, perhaps none. If any rank fails, all
 * return its error; so they do (SW_EUSAGE) when other ranks are in one of the functions that
 * save. */
sw_code sw_checkpoint_read_all(const sw_comm *comm, const sw_checkpoint *cp, const sw_read *reads, size_t n,
                               const sw_read_options *opt, sw_status *st);

/* What a read of a whole tensor gives. */
typedef struct sw_read_shape {
    const char *dtype; /* as safetensors spells it */
    unsigned ndim;
    uint64_t shape[SW_READ_DIMS]; /* the first ndim; offsets and shapes of boxes count in it */
    uint64_t bytes;               /* packed */
} sw_read_shape;

/* Local. What a tensor becomes when it is read as dtype (NULL: as saved).
 * Whoever asks for F32, BF16 or F16 of a tensor that has scales (sw_tensor_info) gets it
 * dequantized, or an error. They need not be sharded as it is:
 *   X.weight (any number; [r, c]) with X.weight_scale_inv (any number but integers; one for each
 *     block: sw_options.block_size of sw_checkpoint_open()) is F32(weight) * F32(scale), rounded
 *     once more to dtype, of the same shape
 *   X_blocks (MXFP4: U8 [E, R, G, 16]) with X_scales (U8 [E, R, G]) is of shape [E, R, G * 32]
 *   under its own name
 * as torch's QuantizedHuggingFaceStorageReader has it; sw_checkpoint_tensor() tells the shape as
 * saved. dtype NULL, or the saved one where that is not F64, F32, BF16 or F16, reads the bytes as
 * they are.
 * Errors: SW_EUSAGE (there is no such tensor; it cannot become that), SW_EINPUT (it is broken;
 * scales of another kind, shape or dtype), SW_ENOMEM. Source: SPEC 5. */
sw_code sw_checkpoint_read_shape(const sw_checkpoint *cp, const char *name, const char *dtype,
                                 sw_read_shape *out, sw_status *st);

/* ---- small helpers --------------------------------------------------------------------------- */

/* Local. The path that an operand means: mostly itself; of file:///PATH (or file://localhost/PATH)
 * what it stands for, decoded. All functions that take paths, and those among the options, do that
 * themselves.
 *   path  room for strlen(operand) + 1 bytes; may be operand
 * Errors: SW_EUSAGE for any other scheme:// (tells what to do), path is then untouched. */
sw_code sw_local_path(const char *operand, char *path, sw_status *st);

/* Local. The directory in which a run stages what it writes to output_dir, for messages (SPEC 6).
 * Newly allocated; NULL when memory is short.
 *   shards  as shard files: sw_reshard(), sw_save_shards() */
char *sw_staging_path(const char *output_dir, bool shards);

/* Local. A size as the command line takes it: a decimal number and nothing or B (bytes), KB MB GB
 * TB (powers of 1000), KiB MiB GiB TiB or K M G T (powers of 1024), in any case, without spaces. 0
 * is a size.
 * Errors: SW_EUSAGE (not of this form, over 2^64 - 1); *bytes is then unchanged. */
sw_code sw_size_parse(const char *text, uint64_t *bytes, sw_status *st);

#define SW_SIZE_TEXT 16 /* room for any result of sw_size_text(), with its NUL */

/* Local. "999 B", "1.50 GB": powers of 1000. Returns text. */
char *sw_size_text(uint64_t bytes, char text[SW_SIZE_TEXT]);

/* Local. The character that n bytes of text (n > 0) begin with: its length in bytes, and *code. 0:
 * that is no UTF-8. */
size_t sw_text_char(const char *text, size_t n, uint32_t *code);

/* Local. May this character be shown where somebody else chose the name that it stands in? Not
 * control characters (up to U+001F, U+007F to U+009F), which would steer a terminal; not line
 * separators and marks of direction (U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069),
 * which tear a line or turn it round; not what is no character (surrogates, U+FFFE, U+FFFF). */
bool sw_text_harmless(uint32_t code);

/* Local. Of n names the one that somebody may have meant who wrote text: the fewest letters to be
 * put in, left out, changed or changed over, of which there may be one in three. Case does not
 * count; '*' and '?' in text stand for anything, as in a glob. NULL: none is near. */
const char *sw_text_nearest(const char *text, const char *const *names, size_t n);

/* Local. Make n bytes of such text harmless, in place: '?' for each character that is not, and for
 * each byte that is no UTF-8. Returns the length; where it is less than n, a NUL follows. Messages
 * and findings of this library have been through it, names of tensors and files have not. */
size_t sw_text_clean(char *text, size_t n);

#ifdef __cplusplus
}
#endif

#endif
