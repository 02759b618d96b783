/* Every command and every option, once; see opts.h. */
#include "opts.h"
#include "run.h"

#define AT(member) offsetof(sw_args, member)
#define SW_OPT_END                                                                                           \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

/* Rows that commands share. */
#define ROW_EXPECT_SHARDS                                                                                    \
    {                                                                                                        \
        "expect-shards", 0, SW_OPT_COUNT, AT(opt.expect_shards), "N", "the shards 1 to N must all be there", \
            SW_SET_NONE, 1, NULL                                                                             \
    }
#define ROW_NO_CONFIG_CHECK                                                                                  \
    {                                                                                                        \
        "no-config-check", 0, SW_OPT_FLAG, AT(opt.no_config_check), NULL,                                    \
            "do not ask config.json (vocab_size, hidden_size, num_hidden_layers) whether tensors are "       \
            "shorter, or layers fewer, than they should be",                                                 \
            SW_SET_NONE, 0, NULL                                                                             \
    }
#define ROW_HELP                                                                                             \
    {                                                                                                        \
        "help", 'h', SW_OPT_HELP, 0, NULL, "print this", SW_SET_NONE, 0, NULL                                \
    }
#define ROW_VERSION                                                                                          \
    {                                                                                                        \
        "version", 0, SW_OPT_VERSION, 0, NULL, "print the version, the commit and the MPI library",          \
            SW_SET_NONE, 0, NULL                                                                             \
    }

static const char *const assign_words[] = { "auto", "band", "owner", NULL };
static const char *const when_words[] = { "auto", "always", "never", NULL };
static const char *const cast_words[] = { "bf16", "fp16", "fp32", "fp64", "none", NULL };
static const char *const dequantize_words[] = { "bf16", "fp16", "fp32", NULL };

/* Rows that stand in sections of several commands. */
#define ROW_BUFFER_SIZE                                                                                      \
    {                                                                                                        \
        "buffer-size", 0, SW_OPT_SIZE, AT(opt.buffer_size), "SIZE",                                          \
            "memory for data on each rank, at least 4KiB (default: some 4MiB, on network file systems "      \
            "64MiB)",                                                                                        \
            SW_SET_NONE, SW_BUFFER_SIZE_MIN, NULL                                                            \
    }
#define ROW_ASSIGN                                                                                           \
    {                                                                                                        \
        "assign", 0, SW_OPT_CHOICE, AT(opt.assign), "WHO",                                                   \
            "band: a rank reads what its part of the output needs; owner: a rank reads whole shards and "    \
            "the ranks exchange; auto: band unless there would be too many opens (default)",                 \
            SW_SET_NONE, 0, assign_words                                                                     \
    }

#define ROW_NO_ASSETS                                                                                        \
    {                                                                                                        \
        "no-assets", 0, SW_OPT_FLAG, AT(opt.no_assets), NULL, "the model's other files stay behind",         \
            SW_SET_NONE, 0, NULL                                                                             \
    }
#define ROW_OVERWRITE(what)                                                                                  \
    {                                                                                                        \
        "overwrite", 0, SW_OPT_FLAG, AT(opt.overwrite), NULL, "replace " what " already in OUTPUT_DIR",      \
            SW_SET_NONE, 0, NULL                                                                             \
    }
#define ROW_SYNC                                                                                             \
    {                                                                                                        \
        "sync", 0, SW_OPT_CLEAR, AT(opt.no_sync), NULL,                                                      \
            "make the data durable before publishing it (default)", SW_SET_SYNC, 0, NULL                     \
    }
#define ROW_NO_SYNC                                                                                          \
    {                                                                                                        \
        "no-sync", 0, SW_OPT_FLAG, AT(opt.no_sync), NULL,                                                    \
            "leave that to the system: faster, but a power cut may cost the result", SW_SET_SYNC, 0, NULL    \
    }
#define ROW_DRY_RUN                                                                                          \
    {                                                                                                        \
        "dry-run", 'n', SW_OPT_FLAG, AT(opt.dry_run), NULL, "print the plan and write nothing", SW_SET_NONE, \
            0, NULL                                                                                          \
    }

static const sw_opt layout_rows[] = {
    { "fqn-map", 0, SW_OPT_PATH, AT(opt.fqn_map), "FILE",
      "JSON file {tensor name: output file number from 1}", SW_SET_LAYOUT, 0, NULL },
    { "like", 0, SW_OPT_PATH, AT(opt.like), "INDEX",
      "lay the files out as this *.index.json does, names included", SW_SET_LAYOUT, 0, NULL },
    { "max-shard-size", 0, SW_OPT_SIZE, AT(opt.max_shard_size), "SIZE",
      "begin a new file rather than pass SIZE of tensor data", SW_SET_LAYOUT, 1, NULL },
    { "single-file", 0, SW_OPT_FLAG, AT(opt.single_file), NULL, "one model.safetensors and no index",
      SW_SET_LAYOUT, 0, NULL },
    SW_OPT_END,
};

static const sw_opt style_rows[] = {
    { "diffusers", 0, SW_OPT_FLAG, AT(opt.diffusers), NULL,
      "name files and index diffusion_pytorch_model; not with --like", SW_SET_NONE, 0, NULL },
    { "diffusers-index", 0, SW_OPT_FLAG, AT(opt.diffusers_index), NULL,
      "name only the index so; not with --like", SW_SET_NONE, 0, NULL },
    { "assets", 0, SW_OPT_PATH, AT(opt.assets), "DIR",
      "take the model's other files (config.json, tokenizer, ...) from here (default: .hf_metadata, else "
      "INPUT_DIR)",
      SW_SET_NONE, 0, NULL },
    ROW_NO_ASSETS,
    SW_OPT_END,
};

static const sw_opt name_rows[] = {
    { "include", 0, SW_OPT_LIST, AT(opt.include), "GLOB",
      "only tensors whose name in the input matches; '*' matches dots too; may be repeated", SW_SET_NONE, 0,
      NULL },
    { "exclude", 0, SW_OPT_LIST, AT(opt.exclude), "GLOB",
      "all but these, also of those included; may be repeated", SW_SET_NONE, 0, NULL },
    { "strip-prefix", 0, SW_OPT_STRIP, AT(opt.name_rules), "P",
      "a name that begins with P loses it, once, as with _orig_mod. or module.; may be repeated", SW_SET_NONE,
      0, NULL },
    { "rename", 0, SW_OPT_RENAME, AT(opt.name_rules), "FROM=TO",
      "a name that begins with FROM begins with TO instead; the first '=' separates; an empty FROM puts TO "
      "before every name; may be repeated. Strips and renames are done one after the other, as given",
      SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt value_rows[] = {
    { "cast-dtype", 0, SW_OPT_TEXT, AT(opt.cast_dtype), "T",
      "floating-point tensors become bf16, fp16, fp32 or fp64, but for those that have scales or are scales, "
      "and those "
      "that .hf_metadata says are F32 by nature; none: as saved, or as .hf_metadata says (default)",
      SW_SET_NONE, 0, cast_words },
    { "dequantize", 0, SW_OPT_TEXT, AT(opt.dequantize), "T",
      "tensors with scales (X.weight with X.weight_scale_inv; MXFP4) become bf16, fp16 or fp32, those with "
      "scales of "
      "another kind are an error; others are cast if --cast-dtype says so",
      SW_SET_NONE, 0, dequantize_words },
    { "block-size", 0, SW_OPT_TEXT, AT(opt.block_size), "RxC",
      "rows and columns under one scale of X.weight_scale_inv, or one number for both (default: "
      "weight_block_size of "
      "config.json, else 128)",
      SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt input_rows[] = {
    ROW_EXPECT_SHARDS,
    { "node-local", 0, SW_OPT_FLAG, AT(opt.node_local), NULL,
      "each rank reads only the shards that it sees in its own INPUT_DIR; with --expect-shards or --like, "
      "unless the "
      "shards tell the full shapes: a forgotten node must be missed",
      SW_SET_NONE, 0, NULL },
    ROW_NO_CONFIG_CHECK,
    SW_OPT_END,
};

static const sw_opt output_rows[] = {
    { "verify", 0, SW_OPT_FLAG, AT(opt.verify), NULL,
      "after writing, read everything back, compare it with the shards, then publish", SW_SET_NONE, 0, NULL },
    ROW_OVERWRITE("a checkpoint that is"),
    ROW_SYNC,
    ROW_NO_SYNC,
    ROW_DRY_RUN,
    SW_OPT_END,
};

static const sw_opt shard_output_rows[] = {
    ROW_OVERWRITE("shard files that are"), ROW_SYNC, ROW_NO_SYNC, ROW_DRY_RUN, ROW_NO_ASSETS, SW_OPT_END,
};

static const sw_opt mesh_rows[] = {
    { "mesh", 0, SW_OPT_TEXT, AT(sharding.mesh), "SIZES",
      "the new ranks, as 8 or 2x4: each dimension of the mesh shards or replicates", SW_SET_MESH, 0, NULL },
    { "ranks", 0, SW_OPT_COUNT, AT(ranks), "N", "the same as --mesh N", SW_SET_MESH, 1, NULL },
    { "placements", 0, SW_OPT_TEXT, AT(sharding.placements), "P1,P2",
      "one for each dimension of the mesh: shardD (or shard(D)) cuts dimension D of a tensor, replicate does "
      "not; "
      "tensors without a dimension D are replicated (default: shard0 for each)",
      SW_SET_NONE, 0, NULL },
    { "rule", 0, SW_OPT_PAIRS, AT(sharding.rules), "GLOB=P1,P2",
      "placements for tensors whose name in the input matches; the first rule that matches counts; may be "
      "repeated",
      SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt transport_rows[] = {
    ROW_BUFFER_SIZE,
    ROW_ASSIGN,
    { "hint", 0, SW_OPT_PAIRS, AT(opt.hints), "KEY=VALUE",
      "an MPI-IO hint (not for aggregation); may be repeated", SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt reading_rows[] = {
    ROW_BUFFER_SIZE,
    ROW_ASSIGN,
    SW_OPT_END,
};

#define ROW_TIMEOUT                                                                                          \
    {                                                                                                        \
        "timeout", 0, SW_OPT_TIME, AT(timeout), "TIME",                                                      \
            "give up, with status 4, when no round has finished for so long: a file server or a link is "    \
            "down (a number and nothing, s, m or h; 0: never, the default)",                                 \
            SW_SET_NONE, 0, NULL                                                                             \
    }

static const sw_opt message_rows[] = {
    { "report", 0, SW_OPT_PATH, AT(report), "FILE", "write a JSON report of the run, of a failed one too",
      SW_SET_NONE, 0, NULL },
    { "progress", 0, SW_OPT_CHOICE, AT(progress), "WHEN",
      "auto: a bar on a terminal, else a line every 30 s (default); always: at least a closing line; never",
      SW_SET_NONE, 0, when_words },
    { "quiet", 'q', SW_OPT_FLAG, AT(quiet), NULL, "no warnings, and no progress unless it is asked for",
      SW_SET_VOICE, 0, NULL },
    { "verbose", 'v', SW_OPT_FLAG, AT(verbose), NULL, "say what was planned, how it ran and how long it took",
      SW_SET_VOICE, 0, NULL },
    ROW_TIMEOUT,
    ROW_HELP,
    ROW_VERSION,
    SW_OPT_END,
};

static const sw_opt show_rows[] = {
    { "summary", 0, SW_OPT_FLAG, AT(summary), NULL,
      "only totals and what is wrong, no tables of files and tensors", SW_SET_NONE, 0, NULL },
    { "tensor", 0, SW_OPT_LIST, AT(tensors), "GLOB",
      "only tensors whose name matches; '*' matches dots too; may be repeated", SW_SET_NONE, 0, NULL },
    { "json", 0, SW_OPT_FLAG, AT(json), NULL, "print one JSON object instead of tables", SW_SET_NONE, 0,
      NULL },
    { "svg", 0, SW_OPT_PATH, AT(svg), "FILE",
      "draw how the shards tile the tensors (those of --tensor, else the first 24 that are sharded); -: on "
      "standard "
      "output, instead of tables",
      SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt diagnosis_rows[] = {
    ROW_EXPECT_SHARDS,
    ROW_NO_CONFIG_CHECK,
    { "like", 0, SW_OPT_PATH, AT(opt.like), "INDEX",
      "the names must be those of this *.index.json, and the shapes those of the files beside it, where they "
      "exist",
      SW_SET_NONE, 0, NULL },
    SW_OPT_END,
};

static const sw_opt inspect_message_rows[] = {
    { "quiet", 'q', SW_OPT_FLAG, AT(quiet), NULL, "no warnings", SW_SET_VOICE, 0, NULL },
    { "verbose", 'v', SW_OPT_FLAG, AT(verbose), NULL, "a table of all boxes, too", SW_SET_VOICE, 0, NULL },
    ROW_TIMEOUT,
    ROW_HELP,
    ROW_VERSION,
    SW_OPT_END,
};

static const sw_section layout = { "Layout of the output (at most one; without any, the input's own layout):",
                                   layout_rows };
static const sw_section style = { "Names of files, and files besides the weights:", style_rows };
static const sw_section names = { "Tensors and their names:", name_rows };
static const sw_section values = { "Values:", value_rows };
static const sw_section input = { "Input:", input_rows };
static const sw_section output = { "Output:", output_rows };
static const sw_section transport = { "Transport:", transport_rows };
static const sw_section messages = { "Messages:", message_rows };

static const sw_section *const consolidate_sections[] = { &layout, &style,     &names,    &values, &input,
                                                          &output, &transport, &messages, NULL };

static const sw_section mesh = { "How to shard (--mesh or --ranks is needed):", mesh_rows };
static const sw_section model_layout = { "Model files (at most one; without any, those of the input):",
                                         layout_rows };
static const sw_section shard_output = { "Output:", shard_output_rows };

static const sw_section *const reshard_sections[] = { &mesh,      &model_layout, &names,
                                                      &values,    &input,        &shard_output,
                                                      &transport, &messages,     NULL };

static const sw_section asked_layout = {
    "Layout that is expected (at most one; without any, every layout will do):", layout_rows
};
static const sw_section reading = { "Reading:", reading_rows };

static const sw_section *const verify_sections[] = { &asked_layout, &style,   &names,    &values,
                                                     &input,        &reading, &messages, NULL };

static const sw_section show = { "What is shown:", show_rows };
static const sw_section diagnosis = { "What is asked of it:", diagnosis_rows };
static const sw_section inspect_messages = { "Messages:", inspect_message_rows };

static const sw_section *const inspect_sections[] = { &show, &diagnosis, &inspect_messages, NULL };

const sw_command sw_commands[] = {
    { "consolidate",
      "weld shards into a consolidated checkpoint",
      "Weld the shard files in INPUT_DIR into a consolidated checkpoint in OUTPUT_DIR.",
      { "INPUT_DIR", "OUTPUT_DIR" },
      consolidate_sections,
      sw_cmd_consolidate,
      sw_cmd_consolidate_tell,
      sw_cmd_consolidate_report },
    { "verify",
      "compare a consolidated checkpoint with its shards",
      "Compare the consolidated checkpoint in OUTPUT_DIR with the shards in INPUT_DIR,\n"
      "byte by byte, the index and the model's other files too. Replicas of shards are\n"
      "compared, and so is what loaders ask of files and index. Take the options for\n"
      "layout, names, values, input and side files that consolidate was given. Nothing\n"
      "is written; all that differs is listed.",
      { "INPUT_DIR", "OUTPUT_DIR" },
      verify_sections,
      sw_cmd_verify,
      sw_cmd_verify_tell,
      sw_cmd_verify_report },
    { "inspect",
      "show what a checkpoint or one file holds",
      "Show the files and tensors of a checkpoint, sharded or consolidated, or of one\n"
      "safetensors file, and how each tensor is sharded. All that is wrong is listed,\n"
      "with the usual causes; the exit status is then 3. Only headers are read.",
      { "PATH", NULL },
      inspect_sections,
      sw_cmd_inspect,
      sw_cmd_inspect_tell,
      NULL },
    { "reshard",
      "write the checkpoint again, sharded another way",
      "Write the checkpoint in INPUT_DIR, sharded or consolidated, to OUTPUT_DIR as the\n"
      "shard files that torch's distributed checkpoint would write on another mesh of\n"
      "ranks. How many ranks that mesh has does not depend on how many do the work.",
      { "INPUT_DIR", "OUTPUT_DIR" },
      reshard_sections,
      sw_cmd_reshard,
      sw_cmd_consolidate_tell,
      sw_cmd_consolidate_report },
    { NULL, NULL, NULL, { NULL, NULL }, NULL, NULL, NULL, NULL },
};
