/* shardweld: weld sharded safetensors checkpoints into whole ones, in parallel.
 *
 * Everything the command line does, as functions over a communicator. Nothing here prints, exits or
 * aborts; each function that can fail returns a code and fills an sw_status with file, tensor and reason.
 * "Collective" functions are called by every rank of the communicator with equal arguments; they return
 * the same code on every rank. "Local" ones are not. Include shardweld_mpi.h for an MPI communicator. */
#ifndef SHARDWELD_H
#define SHARDWELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SW_VERSION "0.1.0"

/* ---- errors ------------------------------------------------------------------------------------- */

/* The only list of codes: name, exit status of the program, text. */
#define SW_CODES(X)                                                                                          \
    X(SW_OK, 0, "success")                                                                                   \
    X(SW_DIFF, 1, "the checkpoints differ")                                                                  \
    X(SW_EINTERNAL, 1, "unforeseen failure")                                                                 \
    X(SW_ECOMM, 1, "communication between the ranks failed") /* nothing can be agreed upon any more */       \
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

/* What went wrong, where and why. It can be sent between ranks as it lies. Empty strings where a field has
 * nothing to say. Text is lower case, without a full stop, free of control characters. */
typedef struct sw_status {
    sw_code code;
    char file[512];   /* a path as the user would name it, mostly relative to INPUT_DIR or OUTPUT_DIR */
    char tensor[512]; /* the FQN */
    char reason[1024];
} sw_status;

#define SW_STATUS_INIT                                                                                       \
    {                                                                                                        \
        SW_OK, "", "", ""                                                                                    \
    }

/* Local. The exit status that belongs to a code, and its text. */
int sw_code_exit_status(sw_code code);
const char *sw_code_text(sw_code code);

/* Local. "file: tensor 'name': reason" as one line into text (at most n bytes with the NUL); returns text. */
char *sw_status_message(const sw_status *st, char *text, size_t n);

/* ---- communicator ------------------------------------------------------------------------------- */

/* The little that the library needs of a group of processes. The functions are collective and return 0, or
 * non-zero when the group is broken beyond repair. Bytes go through as they are (one kind of machine).
 *   bcast      n bytes at buf, from rank root to all
 *   allgather  counts[rank] bytes at mine; all blocks, one after the other in rank order, at all
 *   barrier    everyone has arrived
 * Made by sw_comm_self() or sw_comm_from_mpi(), or filled in by a caller that brings a process group. */
typedef struct sw_comm {
    void *ctx;
    int rank, size;
    int (*bcast)(void *ctx, void *buf, size_t n, int root);
    int (*allgather)(void *ctx, const void *mine, void *all, const size_t *counts);
    int (*barrier)(void *ctx);
} sw_comm;

/* Local. The communicator of one process. Needs no release. */
sw_comm sw_comm_self(void);

/* Local. Set the environment so that MPI-IO takes the paths that are known to be safe (no aggregation, no
 * data sieving, no lock files); variables that are already set win. It calls setenv: call it before the
 * first MPI_File_open of the process and before there are threads. The library never calls it by itself.
 *   output_dir  where the output will be, to look at its file system; need not exist yet; NULL = unknown */
void sw_transport_defaults(const char *output_dir);

/* ---- options ------------------------------------------------------------------------------------ */

typedef enum sw_assign {
    SW_ASSIGN_AUTO = 0, /* by band, but by owner where ranks x shard files would be too many opens */
    SW_ASSIGN_BAND,     /* each rank reads what its part of the output needs */
    SW_ASSIGN_OWNER,    /* each rank reads the shard files it owns, and the ranks exchange (MPI only) */
} sw_assign;

/* Zero is the default of each member. Strings are borrowed until the call returns. */
typedef struct sw_options {
    /* layout of the output: at most one of these four */
    const char *fqn_map;     /* JSON file {fqn: output file index from 1} */
    const char *like;        /* an existing *.index.json to lay the files out as */
    uint64_t max_shard_size; /* bytes of tensor data per output file */
    bool single_file;        /* one model.safetensors, no index */

    /* input */
    uint64_t expect_shards; /* shard numbers 1..N must all occur; 0 = not asked */
    bool node_local;        /* each rank sees shards of its own (MPI only) */

    /* output */
    bool overwrite; /* replace a checkpoint that is already there */
    bool no_sync;   /* do not make the data durable before publishing */
    bool dry_run;   /* plan only, write nothing */

    /* transport */
    uint64_t buffer_size; /* bytes of data memory per rank, at least 4096; 0 = by file system */
    sw_assign assign;
    const char *const *hints; /* "KEY=VALUE" MPI-IO hints, NULL-terminated; NULL = none */

    /* callbacks, called on rank 0 only, from the calling thread; may be NULL */
    void *user;
    void (*warn)(void *user, const char *text);                  /* a line of text, without a newline */
    void (*progress)(void *user, uint64_t done, uint64_t total); /* bytes of output */

    /* looked at between steps; a non-zero value on any rank ends the call with SW_ECANCEL; NULL = none */
    const volatile int *cancel;
} sw_options;

#define SW_OPTIONS_INIT                                                                                      \
    {                                                                                                        \
        0                                                                                                    \
    }

#define SW_BUFFER_SIZE_MIN 4096u

/* ---- consolidate -------------------------------------------------------------------------------- */

/* One output file of a plan. */
typedef struct sw_result_file {
    char *name;       /* relative to OUTPUT_DIR */
    uint64_t tensors; /* how many it holds */
    uint64_t size;    /* bytes, header included */
} sw_result_file;

/* What a run did; filled on every rank, also (as far as it got) when it failed. */
typedef struct sw_result {
    sw_result_file *files;
    uint64_t nfiles;
    char *index;          /* name of the index file, NULL = none */
    uint64_t shard_files; /* input files that were read */
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
    bool recovered;         /* an interrupted publication was completed and was what this run asked for */
    int ranks;
    char io[32];            /* "romio", "ompio", "mpi-io" or "posix"; see sw_transport_describe() */
    char transport[512];    /* "name=value" words */
    double seconds_parse;   /* reading and checking headers, of the slowest rank; part of seconds_plan */
    double seconds_plan;    /* scan, parse, gather, plan */
    double seconds_write;   /* fill and write */
    double seconds_publish; /* sync and rename */
} sw_result;

/* Local. Free what a result holds and empty it. */
void sw_result_release(sw_result *result);

/* Local. Fill in io and transport: what MPI-IO is set to do. sw_consolidate() leaves them empty, because asking Open MPI
 * takes some 0.2 s. */
void sw_transport_describe(const sw_comm *comm, sw_result *result);

/* Collective. Weld the shards in input_dir into a consolidated checkpoint in output_dir (made if missing).
 *   comm    every rank of it works; borrowed
 *   opt     NULL = defaults; equal on every rank (with node_local input_dir may differ)
 *   result  emptied first; release with sw_result_release(); NULL = not wanted
 *   st      emptied first; equal on every rank on return
 * Until the end nothing in output_dir changes under its final name; on an error staged files are removed.
 * Errors: SW_EUSAGE (output exists, held by another run, options that exclude one another), SW_EINPUT,
 * SW_EIO, SW_ENOMEM, SW_ECANCEL. Source: SPEC 2, 3, 4, 6. */
sw_code sw_consolidate(const sw_comm *comm, const char *input_dir, const char *output_dir,
                       const sw_options *opt, sw_result *result, sw_status *st);

/* ---- small helpers ------------------------------------------------------------------------------ */

/* Local. A size as the command line takes it: a decimal number and nothing, B, KB MB GB TB (powers of 1000) or
 * KiB MiB GiB TiB (powers of 1024), in any case, without spaces. 0 is a size.
 * Errors: SW_EUSAGE (not of this form, over 2^64 - 1); *bytes is then unchanged. */
sw_code sw_size_parse(const char *text, uint64_t *bytes, sw_status *st);

#define SW_SIZE_TEXT 16 /* room for any result of sw_size_text(), with its NUL */

/* Local. "999 B", "1.50 GB": powers of 1000. Returns text. */
char *sw_size_text(uint64_t bytes, char text[SW_SIZE_TEXT]);

#ifdef __cplusplus
}
#endif

#endif
