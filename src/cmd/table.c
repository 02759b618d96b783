/* Every command and every option, once; see opts.h. */
#include "opts.h"
#include "run.h"

/* A row that fills in a member of sw_options: what that is, the library says. */
#define OPTION(option, member, word, text, ...)                                                              \
    {                                                                                                        \
        .name = option, .at = offsetof(sw_args, opt.member), .fills = "opt." #member, .arg = word,           \
        .help = text, __VA_ARGS__                                                                            \
    }

/* A row that is the program's. */
#define OWN(option, what, member, word, text, ...)                                                           \
    {                                                                                                        \
        .name = option, .kind = what, .at = offsetof(sw_args, member), .fills = #member, .arg = word,        \
        .help = text, __VA_ARGS__                                                                            \
    }

#define END                                                                                                  \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

/* Rows that stand in sections of several commands. */
#define EXPECT_SHARDS OPTION("expect-shards", expect_shards, "N", "the shards 1 to N must all be there")
#define BOXES(name, word)                                                                                    \
    OPTION(name, boxes, "FILE",                                                                              \
           "which tensors there are, and where in the files of " word                                        \
           " each box of them lies: a list of boxes, as inspect --boxes prints it")
#define BOXES_ANYWHERE                                                                                       \
    OPTION("boxes-anywhere", boxes_anywhere, NULL, "the files that the list of boxes names may lie anywhere")
#define NO_CONFIG_CHECK                                                                                      \
    OPTION("no-config-check", no_config_check, NULL,                                                         \
           "do not ask config.json (vocab_size, hidden_size, num_hidden_layers) whether tensors are "        \
           "shorter, or layers fewer, than they should be")
#define BUFFER_SIZE                                                                                          \
    OPTION("buffer-size", buffer_size, "SIZE",                                                               \
           "memory for data on each rank, at least 4KiB (default: some 4MiB, on network file systems "       \
           "64MiB, by FUSE 8MiB)")
#define ASSIGN                                                                                               \
    OPTION(                                                                                                  \
        "assign", assign, "WHO",                                                                             \
        "band: a rank reads what its part of the output needs; owner: a rank reads whole shards and "        \
        "the ranks exchange; auto: band unless there would be too many opens a node and second (default)")
#define NO_ASSETS OPTION("no-assets", no_assets, NULL, "the model's other files stay behind")
#define OVERWRITE(what) OPTION("overwrite", overwrite, NULL, "replace " what " already in OUTPUT_DIR")
#define SYNC                                                                                                 \
    OWN("sync", SW_OPT_CLEAR, opt.no_sync, NULL, "make the data durable before publishing it (default)",     \
        .set = SW_SET_SYNC)
#define NO_SYNC                                                                                              \
    OPTION("no-sync", no_sync, NULL,                                                                         \
           "leave that to the system: faster, but a power cut may cost the result", .set = SW_SET_SYNC)
#define STORE                                                                                                \
    OPTION("store", store, "HOW",                                                                            \
           "random: files are made hidden, in any order, and renamed; stream: each is written once, from "   \
           "front to back, under its final name, as object stores need; auto: as a trial shows (default)")
#define STAGING_DIR                                                                                          \
    OPTION("staging-dir", staging_dir, "DIR",                                                                \
           "write all of it in DIR, which all ranks share, then copy each file to OUTPUT_DIR from front to " \
           "back, the index last")
#define STRIPE                                                                                               \
    OPTION("stripe", stripe, "HOW",                                                                          \
           "on Lustre, auto: files above 1 GiB are spread over several targets where OUTPUT_DIR would give " \
           "them one plain stripe (default); none: as OUTPUT_DIR says; COUNT[:SIZE]: so many stripes, of "   \
           "that size")
#define DROP_CACHE                                                                                           \
    OPTION("drop-cache", drop_cache, NULL,                                                                   \
           "what was read or written leaves the page cache, so that what others have there stays")
#define MANIFEST                                                                                             \
    OPTION("manifest", manifest, NULL,                                                                       \
           "also make shardweld.manifest.json: SHA-256 of each file, a hash of each tensor, NaN and "        \
           "infinite values counted")
#define IF_NEEDED                                                                                            \
    OPTION("if-needed", if_needed, NULL,                                                                     \
           "do nothing where OUTPUT_DIR's manifest tells of the same input, options and plan, and its "      \
           "files are there: for a job that may run twice; else as --manifest")
#define REFUSE_NAN                                                                                           \
    OPTION("refuse-nan", refuse_nan, NULL,                                                                   \
           "publish nothing, with status 3, where floating-point tensors hold NaN or infinite values")
#define DRY_RUN OPTION("dry-run", dry_run, NULL, "print the plan and write nothing", .letter = 'n')
#define TIMEOUT                                                                                              \
    OWN("timeout", SW_OPT_TIME, timeout, "TIME",                                                             \
        "give up, with status 4, when no round has finished for so long: a file server or a link is "        \
        "down (a number and nothing, s, m or h; 0: never, the default)")
#define QUIET(text) OWN("quiet", SW_OPTION_FLAG, quiet, NULL, text, .letter = 'q', .set = SW_SET_VOICE)
#define VERBOSE(text) OWN("verbose", SW_OPTION_FLAG, verbose, NULL, text, .letter = 'v', .set = SW_SET_VOICE)
#define HELP OWN("help", SW_OPT_HELP, answer, NULL, "print this", .letter = 'h')
#define VERSION                                                                                              \
    OWN("version", SW_OPT_VERSION, answer, NULL, "print the version, the commit and the MPI library",        \
        .letter = 'V')

static const sw_opt layout_rows[] = {
    OPTION("fqn-map", fqn_map, "FILE", "JSON file {tensor name: output file number from 1}"),
    OPTION("like", like, "INDEX", "lay the files out as this *.index.json does, names included"),
    OPTION("max-shard-size", max_shard_size, "SIZE", "begin a new file rather than pass SIZE of tensor data"),
    OPTION("single-file", single_file, NULL, "one model.safetensors and no index"),
    END,
};

static const sw_opt style_rows[] = {
    OPTION("diffusers", diffusers, NULL, "name files and index diffusion_pytorch_model; not with --like"),
    OPTION("diffusers-index", diffusers_index, NULL, "name only the index so; not with --like"),
    OPTION(
        "assets", assets, "DIR",
        "take the model's other files (config.json, tokenizer, ...) from here (default: .hf_metadata, else "
        "INPUT_DIR)"),
    NO_ASSETS,
    END,
};

static const sw_opt name_rows[] = {
    OPTION("include", include, "GLOB",
           "only tensors whose name in the input matches; '*' matches dots too; may be repeated"),
    OPTION("exclude", exclude, "GLOB", "all but these, also of those included; may be repeated"),
    OWN("strip-prefix", SW_OPT_STRIP, opt.name_rules, "P",
        "a name that begins with P loses it, once, as with _orig_mod. or module.; may be repeated"),
    OWN("rename", SW_OPT_RENAME, opt.name_rules, "FROM=TO",
        "a name that begins with FROM begins with TO instead; the first '=' separates; an empty FROM puts TO "
        "before every name; may be repeated. Strips and renames are done one after the other, as given"),
    END,
};

static const sw_opt tolerance_rows[] = {
    OWN("tolerance", SW_OPT_TOLERANCE, allowed, "T",
        "values that are at most so far apart count as equal: a number, or with % a part of the larger of "
        "the two; each may be given, and one of them is enough; two that are no numbers are equal then"),
    END,
};

static const sw_opt value_rows[] = {
    OPTION("cast-dtype", cast_dtype, "T",
           "floating-point tensors become bf16, fp16, fp32 or fp64, but for those that have scales or are "
           "scales, and those that .hf_metadata says are F32 by nature; none: as saved, or as .hf_metadata "
           "says (default)"),
    OPTION("dequantize", dequantize, "T",
           "tensors with scales (X.weight with X.weight_scale_inv; MXFP4) become bf16, fp16 or fp32, those "
           "with scales of another kind are an error; others are cast if --cast-dtype says so"),
    OPTION("block-size", block_size, "RxC",
           "rows and columns under one scale of X.weight_scale_inv, or one number for both (default: "
           "weight_block_size of config.json, else 128)"),
    END,
};

static const sw_opt input_rows[] = {
    EXPECT_SHARDS,
    OPTION("node-local", node_local, NULL,
           "each rank reads only the shards that it sees in its own INPUT_DIR; with --expect-shards or "
           "--like, unless the shards tell the full shapes: a forgotten node must be missed"),
    BOXES("boxes", "INPUT_DIR"),
    BOXES_ANYWHERE,
    NO_CONFIG_CHECK,
    END,
};

static const sw_opt output_rows[] = {
    OPTION("verify", verify, NULL,
           "after writing, read everything back, compare it with the shards, then publish"),
    MANIFEST,
    IF_NEEDED,
    REFUSE_NAN,
    OVERWRITE("a checkpoint that is"),
    STORE,
    STAGING_DIR,
    STRIPE,
    SYNC,
    NO_SYNC,
    DRY_RUN,
    END,
};

static const sw_opt shard_output_rows[] = {
    MANIFEST, IF_NEEDED,   REFUSE_NAN, OVERWRITE("shard files that are"),
    STORE,    STAGING_DIR, STRIPE,     SYNC,
    NO_SYNC,  DRY_RUN,     NO_ASSETS,  END,
};

static const sw_opt mesh_rows[] = {
    OWN("mesh", SW_OPTION_TEXT, sharding.mesh, "SIZES",
        "the new ranks, as 8 or 2x4: each dimension of the mesh shards or replicates", .set = SW_SET_MESH),
    OWN("ranks", SW_OPTION_COUNT, ranks, "N", "the same as --mesh N", .set = SW_SET_MESH, .least = 1),
    OWN("placements", SW_OPTION_TEXT, sharding.placements, "P1,P2",
        "one for each dimension of the mesh: shardD (or shard(D)) cuts dimension D of a tensor, replicate "
        "does not; tensors without a dimension D are replicated (default: shard0 for each)"),
    OWN("rule", SW_OPTION_PAIRS, sharding.rules, "GLOB=P1,P2",
        "placements for tensors whose name in the input matches; the first rule that matches counts; may be "
        "repeated"),
    END,
};

static const sw_opt transport_rows[] = {
    BUFFER_SIZE,
    ASSIGN,
    OPTION("hint", hints, "KEY=VALUE", "an MPI-IO hint (not for aggregation); may be repeated"),
    DROP_CACHE,
    END,
};

static const sw_opt reading_rows[] = { BUFFER_SIZE, ASSIGN, DROP_CACHE, END };

static const char *const when_words[] = { "auto", "always", "never", NULL };

static const sw_opt message_rows[] = {
    OWN("report", SW_OPTION_PATH, report, "FILE", "write a JSON report of the run, of a failed one too"),
    OWN("progress", SW_OPTION_CHOICE, progress, "WHEN",
        "auto: a bar on a terminal, else a line every 30 s (default); always: at least a closing line; never",
        .words = when_words),
    QUIET("no warnings, and no progress unless it is asked for"),
    VERBOSE("say what was planned, how it ran and how long it took"),
    TIMEOUT,
    HELP,
    VERSION,
    END,
};

static const char *const sort_words[] = { "name", "size", NULL };

static const sw_opt show_rows[] = {
    OWN("summary", SW_OPTION_FLAG, summary, NULL,
        "only totals and what is wrong, no tables of files and tensors"),
    OWN("tensor", SW_OPTION_LIST, tensors, "GLOB",
        "only tensors whose name matches; '*' matches dots too; may be repeated"),
    OWN("tree", SW_OPTION_FLAG, tree, NULL,
        "tensors below the parts that their names have in common, with sums"),
    OWN("sort", SW_OPTION_CHOICE, sort, "BY",
        "name (default), or size: the largest files, groups of tensors and branches first",
        .words = sort_words),
    OWN("json", SW_OPTION_FLAG, json, NULL, "print one JSON object instead of tables"),
    OWN("boxes", SW_OPTION_FLAG, boxes, NULL,
        "print a list of boxes instead of tables: a line of JSON for each, for other programs and --boxes "
        "FILE "
        "of the other commands"),
    OWN("svg", SW_OPTION_PATH, svg, "FILE",
        "draw how the shards tile the tensors (those of --tensor, else the first 24 that are sharded); -: on "
        "standard output, instead of tables"),
    END,
};

static const sw_opt diagnosis_rows[] = {
    BOXES("boxes-from", "PATH"),
    BOXES_ANYWHERE,
    EXPECT_SHARDS,
    NO_CONFIG_CHECK,
    OPTION("like", like, "INDEX",
           "the names must be those of this *.index.json, and the shapes those of the files beside it, where "
           "they exist"),
    END,
};

static const sw_opt check_rows[] = {
    OPTION("quick", quick, NULL, "only sizes, headers and indices: no data is read"),
    OWN("sums", SW_OPTION_FLAG, sums, NULL,
        "print the SHA-256 of all files, as `sha256sum -c` takes it in DIR, and look at nothing else"),
    OPTION("buffer-size", buffer_size, "SIZE",
           "memory for data on each rank, at least 4KiB (default: 512KiB)"),
    END,
};

static const sw_opt inspect_message_rows[] = {
    QUIET("no warnings"),
    VERBOSE("each file and each tensor by itself, and a table of all boxes"),
    TIMEOUT,
    HELP,
    VERSION,
    END,
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

static const sw_section chosen = { "Tensors of both, and names in A:", name_rows };
static const sw_section made = { "Values that are made of A before it is compared:", value_rows };
static const sw_section tolerance = { "Comparing:", tolerance_rows };

static const sw_section *const diff_sections[] = { &tolerance, &chosen, &made, &reading, &messages, NULL };

static const sw_section show = { "What is shown:", show_rows };
static const sw_section diagnosis = { "What is asked of it:", diagnosis_rows };
static const sw_section inspect_messages = { "Messages:", inspect_message_rows };

static const sw_section *const inspect_sections[] = { &show, &diagnosis, &inspect_messages, NULL };

static const sw_section proven = { "What is looked at:", check_rows };

static const sw_section *const check_sections[] = { &proven, &messages, NULL };

const sw_command sw_commands[] = {
    { "consolidate",
      "weld shards into a consolidated checkpoint",
      "Weld the shard files in INPUT_DIR into a consolidated checkpoint in OUTPUT_DIR.",
      { "INPUT_DIR", "OUTPUT_DIR" },
      consolidate_sections,
      sw_cmd_consolidate,
      sw_cmd_consolidate_tell,
      sw_report_result },
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
      sw_report_verification },
    { "check",
      "prove a checkpoint by its manifest",
      "Is the checkpoint in DIR what --manifest says was written? Sizes, headers,\n"
      "indices, side files and all tensors, whole or in shards, against the hashes in\n"
      "its shardweld.manifest.json; files that are missing or strange. Nothing else is\n"
      "needed and nothing is written; all that differs is listed.",
      { "DIR", NULL },
      check_sections,
      sw_cmd_check,
      sw_cmd_verify_tell,
      sw_report_verification },
    { "diff",
      "say how the tensors of two checkpoints differ",
      "Compare the tensors of two checkpoints of any kind, sharded or consolidated or\n"
      "single files, whatever their layout: which only one of them has, which have\n"
      "another dtype or shape, how many elements differ, and by how much. Nothing is\n"
      "written; side files are not looked at.",
      { "A", "B" },
      diff_sections,
      sw_cmd_diff,
      sw_cmd_verify_tell,
      sw_report_verification },
    { "inspect",
      "show what a checkpoint or one file holds",
      "Show the files and tensors of a checkpoint, sharded or consolidated, or of one\n"
      "safetensors file, and how each tensor is sharded. All that is wrong is listed,\n"
      "with the usual causes; the exit status is then 3. Only headers are read. What is\n"
      "alike but for numbers in the names is one line: layers.{0-59}.mlp.w1.weight.",
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
      sw_report_result },
    { NULL, NULL, NULL, { NULL, NULL }, NULL, NULL, NULL, NULL },
};
