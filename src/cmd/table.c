/* Every command and every option, once; see opts.h. */
#include "opts.h"
#include "run.h"

#define AT(member) offsetof(sw_args, member)
#define SW_OPT_END                                                                                           \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

static const char *const assign_words[] = { "auto", "band", "owner", NULL };
static const char *const when_words[] = { "auto", "always", "never", NULL };

static const sw_opt layout_rows[] = {
    { "fqn-map", 0, SW_OPT_TEXT, AT(opt.fqn_map), "FILE",
      "JSON file {tensor name: output file number from 1}", SW_SET_LAYOUT, 0, NULL },
    { "like", 0, SW_OPT_TEXT, AT(opt.like), "INDEX",
      "lay the files out as this *.index.json does, names included", SW_SET_LAYOUT, 0, NULL },
    { "max-shard-size", 0, SW_OPT_SIZE, AT(opt.max_shard_size), "SIZE",
      "begin a new file rather than pass SIZE of tensor data", SW_SET_LAYOUT, 1, NULL },
    { "single-file", 0, SW_OPT_FLAG, AT(opt.single_file), NULL, "one model.safetensors and no index",
      SW_SET_LAYOUT, 0, NULL },
    SW_OPT_END,
};

static const sw_opt input_rows[] = {
    { "expect-shards", 0, SW_OPT_COUNT, AT(opt.expect_shards), "N", "the shards 1 to N must all be there",
      SW_SET_NONE, 1, NULL },
    { "node-local", 0, SW_OPT_FLAG, AT(opt.node_local), NULL,
      "each rank reads only the shards that it sees in its own INPUT_DIR", SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt output_rows[] = {
    { "overwrite", 0, SW_OPT_FLAG, AT(opt.overwrite), NULL,
      "replace a checkpoint that is already in OUTPUT_DIR", SW_SET_NONE, 0, NULL },
    { "sync", 0, SW_OPT_CLEAR, AT(opt.no_sync), NULL, "make the data durable before publishing it (default)",
      SW_SET_SYNC, 0, NULL },
    { "no-sync", 0, SW_OPT_FLAG, AT(opt.no_sync), NULL,
      "leave that to the system: faster, but a power cut may cost the result", SW_SET_SYNC, 0, NULL },
    { "dry-run", 'n', SW_OPT_FLAG, AT(opt.dry_run), NULL, "print the plan and write nothing", SW_SET_NONE, 0,
      NULL },
    SW_OPT_END,
};

static const sw_opt transport_rows[] = {
    { "buffer-size", 0, SW_OPT_SIZE, AT(opt.buffer_size), "SIZE",
      "memory for data on each rank, at least 4KiB (default: by file system)", SW_SET_NONE,
      SW_BUFFER_SIZE_MIN, NULL },
    { "assign", 0, SW_OPT_CHOICE, AT(opt.assign), "WHO",
      "band: a rank reads what its part of the output needs; owner: a rank reads whole shards and the ranks "
      "exchange; auto: band unless there would be too many opens (default)",
      SW_SET_NONE, 0, assign_words },
    { "hint", 0, SW_OPT_PAIRS, AT(opt.hints), "KEY=VALUE", "an MPI-IO hint; may be repeated", SW_SET_NONE, 0,
      NULL },
    SW_OPT_END,
};

static const sw_opt message_rows[] = {
    { "report", 0, SW_OPT_TEXT, AT(report), "FILE", "write a JSON report of the run, of a failed one too",
      SW_SET_NONE, 0, NULL },
    { "progress", 0, SW_OPT_CHOICE, AT(progress), "WHEN",
      "auto: a bar on a terminal, else a line every 30 s (default); always: at least a closing line; never",
      SW_SET_NONE, 0, when_words },
    { "quiet", 'q', SW_OPT_FLAG, AT(quiet), NULL, "no warnings, and no progress unless it is asked for",
      SW_SET_VOICE, 0, NULL },
    { "verbose", 'v', SW_OPT_FLAG, AT(verbose), NULL, "say what was planned, how it ran and how long it took",
      SW_SET_VOICE, 0, NULL },
    { "help", 'h', SW_OPT_HELP, 0, NULL, "print this", SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_section layout = { "Layout of the output (at most one; without any, the input's own layout):",
                                   layout_rows };
static const sw_section input = { "Input:", input_rows };
static const sw_section output = { "Output:", output_rows };
static const sw_section transport = { "Transport:", transport_rows };
static const sw_section messages = { "Messages:", message_rows };

static const sw_section *const consolidate_sections[] = { &layout,    &input,    &output,
                                                          &transport, &messages, NULL };

const sw_command sw_commands[] = {
    { "consolidate", "weld shards into a consolidated checkpoint",
      "Weld the shard files in INPUT_DIR into a consolidated checkpoint in OUTPUT_DIR.", consolidate_sections,
      sw_cmd_consolidate, sw_cmd_consolidate_tell },
    { NULL, NULL, NULL, NULL, NULL, NULL },
};
