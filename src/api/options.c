/* The table of options; see options.h. */
#include "api/options.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/path.h"
#include "dir/stripes.h"
#include "format/filenames.h"
#include "par/transport.h"
#include "value/digest.h"

/* ---- the table ------------------------------------------------------------------------------- */

static const char *const casts[] = { "bf16", "fp16", "fp32", "fp64", "none", NULL };
static const char *const dequantized[] = { "bf16", "fp16", "fp32", NULL };
static const char *const assignments[] = { "auto", "band", "owner", NULL };
static const char *const stores[] = { "auto", "random", "stream", NULL };

/* Calls that refuse a member; what others do not take they do not look at. */
#define RESHARD (1u << SW_CALL_RESHARD)
#define SAVES (1u << SW_CALL_SAVE | 1u << SW_CALL_SAVE_ORDERS | 1u << SW_CALL_SAVE_SHARDS)
#define SHARDS (1u << SW_CALL_SAVE_SHARDS)
#define DIFF (1u << SW_CALL_DIFF)

/* In the order of the struct: member, kind, what it changes, least value and words (see sw_option);
 * who refuses it. */
#define ROWS(X)                                                                                              \
    X(size, OWN, OTHER, 0, NULL, 0)                                                                          \
    X(fqn_map, PATH, LAYOUT, 0, NULL, DIFF)                                                                  \
    X(fqn_map_text, TEXT, LAYOUT, 0, NULL, DIFF)                                                             \
    X(like, PATH, LAYOUT, 0, NULL, SHARDS | DIFF)                                                            \
    X(max_shard_size, SIZE, LAYOUT, 1, NULL, SHARDS | DIFF)                                                  \
    X(single_file, FLAG, LAYOUT, 0, NULL, SHARDS | DIFF)                                                     \
    X(diffusers, FLAG, STYLE, 0, NULL, RESHARD | SHARDS | DIFF)                                              \
    X(diffusers_index, FLAG, STYLE, 0, NULL, RESHARD | SHARDS | DIFF)                                        \
    X(include, LIST, NAMES, 0, NULL, SHARDS)                                                                 \
    X(exclude, LIST, NAMES, 0, NULL, SHARDS)                                                                 \
    X(name_rules, RULES, NAMES, 0, NULL, SHARDS)                                                             \
    X(nname_rules, NRULES, OTHER, 0, NULL, 0)                                                                \
    X(cast_dtype, CAST, VALUES, 0, casts, SHARDS)                                                            \
    X(dequantize, CAST, VALUES, 0, dequantized, SHARDS)                                                      \
    X(block_size, TEXT, OTHER, 0, NULL, 0)                                                                   \
    X(dtype_map_text, TEXT, VALUES, 0, NULL, RESHARD | SHARDS)                                               \
    X(expect_shards, COUNT, OTHER, 1, NULL, SAVES | DIFF)                                                    \
    X(node_local, FLAG, OTHER, 0, NULL, SAVES | DIFF)                                                        \
    X(boxes, PATH, OTHER, 0, NULL, SAVES | DIFF)                                                             \
    X(boxes_anywhere, FLAG, OTHER, 0, NULL, SAVES | DIFF)                                                    \
    X(everything, FLAG, OTHER, 0, NULL, 0)                                                                   \
    X(no_config_check, FLAG, OTHER, 0, NULL, 0)                                                              \
    X(tolerant, FLAG, OTHER, 0, NULL, 0)                                                                     \
    X(assets, PATH, OTHER, 0, NULL, RESHARD | SHARDS)                                                        \
    X(no_assets, FLAG, OTHER, 0, NULL, 0)                                                                    \
    X(verify, FLAG, OTHER, 0, NULL, RESHARD | SAVES)                                                         \
    X(overwrite, FLAG, OTHER, 0, NULL, 0)                                                                    \
    X(no_sync, FLAG, OTHER, 0, NULL, 0)                                                                      \
    X(dry_run, FLAG, OTHER, 0, NULL, 0)                                                                      \
    X(store, CHOICE, OTHER, 0, stores, 0)                                                                    \
    X(staging_dir, PATH, OTHER, 0, NULL, 0)                                                                  \
    X(buffer_size, SIZE, OTHER, SW_BUFFER_SIZE_MIN, NULL, 0)                                                 \
    X(assign, CHOICE, OTHER, 0, assignments, 0)                                                              \
    X(hints, PAIRS, OTHER, 0, NULL, 0)                                                                       \
    X(user, OWN, OTHER, 0, NULL, 0)                                                                          \
    X(warn, OWN, OTHER, 0, NULL, 0)                                                                          \
    X(progress, OWN, OTHER, 0, NULL, 0)                                                                      \
    X(planned, OWN, OTHER, 0, NULL, 0)                                                                       \
    X(cancel, OWN, OTHER, 0, NULL, 0)                                                                        \
    X(drop_cache, FLAG, OTHER, 0, NULL, 0)                                                                   \
    X(stripe, TEXT, OTHER, 0, NULL, 0)                                                                       \
    X(manifest, FLAG, OTHER, 0, NULL, 0)                                                                     \
    X(quick, FLAG, OTHER, 0, NULL, 0)                                                                        \
    X(if_needed, FLAG, OTHER, 0, NULL, SAVES | DIFF)                                                         \
    X(refuse_nan, FLAG, OTHER, 0, NULL, 0)                                                                   \
    X(phase, OWN, OTHER, 0, NULL, 0)

typedef struct option {
    sw_option is;
    size_t size;
    unsigned changes, refused;
} option;

static const option table[] = {
#define ROW(member, kind, changes, least, words, refused)                                                    \
    { { #member, SW_OPTION_##kind, offsetof(sw_options, member), SW_CHANGES_##changes == SW_CHANGES_LAYOUT,  \
        least, words },                                                                                      \
      sizeof((sw_options *)0)->member,                                                                       \
      SW_CHANGES_##changes,                                                                                  \
      refused },
    ROWS(ROW)
#undef ROW
};

#define NOPTIONS (sizeof table / sizeof *table)

/* Every member has a row, for a zero is missing here otherwise; and none stands out of order. */
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wmissing-field-initializers"
static const sw_options defaults = {
#define ROW(member, kind, changes, least, words, refused) 0,
    ROWS(ROW)
#undef ROW
};
#pragma GCC diagnostic pop

typedef struct in_order {
#define ROW(member, kind, changes, least, words, refused) __typeof__(defaults.member) member;
    ROWS(ROW)
#undef ROW
} in_order;

#define ROW(member, kind, changes, least, words, refused)                                                    \
    _Static_assert(offsetof(in_order, member) == offsetof(sw_options, member), #member);
ROWS(ROW)
#undef ROW

const sw_option *sw_option_at(size_t i)
{
    return i < NOPTIONS ? &table[i].is : NULL;
}

/* ---- what is given --------------------------------------------------------------------------- */

/* Where the member of a row stands. */
static const void *member(const sw_options *o, const option *row)
{
    return (const char *)o + row->is.at;
}

/* The same of a text. */
static const char *text_of(const sw_options *o, const option *row)
{
    const char *text;

    memcpy(&text, member(o, row), sizeof text);
    return text;
}

/* The same of a list. */
static const char *const *list_of(const sw_options *o, const option *row)
{
    const char *const *list;

    memcpy(&list, member(o, row), sizeof list);
    return list;
}

/* Does the member ask for anything? How many name rules there are is asked of the rules. */
static bool is_given(const sw_options *o, const option *row)
{
    if (row->is.kind == SW_OPTION_OWN || row->is.kind == SW_OPTION_NRULES ||
        memcmp(member(o, row), member(&defaults, row), row->size) == 0)
        return false;
    if (row->is.kind == SW_OPTION_LIST || row->is.kind == SW_OPTION_PAIRS)
        return *list_of(o, row) != NULL;
    if (row->is.at == offsetof(sw_options, cast_dtype))
        return strcmp(o->cast_dtype, "none") != 0;
    return row->is.kind != SW_OPTION_RULES || o->nname_rules > 0;
}

size_t sw_options_given(const sw_options *o, unsigned changes)
{
    size_t n = 0;

    for (size_t i = 0; i < NOPTIONS; i++)
        n += (table[i].changes & changes) && is_given(o, &table[i]);
    return n;
}

#define ROW(member, kind, changes, least, words, refused) +(SW_OPTION_##kind == SW_OPTION_PATH)
_Static_assert(0 ROWS(ROW) == SW_OPTION_PATHS, "members that are paths");
#undef ROW

void sw_options_paths(sw_options *o, const char **paths[SW_OPTION_PATHS])
{
    size_t n = 0;

    for (size_t i = 0; i < NOPTIONS; i++)
        if (table[i].is.kind == SW_OPTION_PATH)
            paths[n++] = (const char **)(void *)((char *)o + table[i].is.at);
}

/* ---- values ---------------------------------------------------------------------------------- */

#define FLOATS "bf16, fp16, fp32 or fp64"
#define DEQUANTIZED "bf16, fp16 or fp32"

/* A dtype as people write it on command lines. */
static bool parse_dtype(const char *word, sw_dtype *dtype)
{
    static const struct {
        const char *word;
        sw_dtype dtype;
    } shorts[] = { { "bf16", SW_BF16 }, { "fp16", SW_F16 }, { "fp32", SW_F32 }, { "fp64", SW_F64 } };

    for (size_t i = 0; i < sizeof shorts / sizeof *shorts; i++) {
        if (strcmp(word, shorts[i].word) == 0) {
            *dtype = shorts[i].dtype;
            return true;
        }
    }
    return sw_dtype_parse_any(word, strlen(word), dtype);
}

sw_code sw_value_dtypes(const sw_options *o, sw_dtype *cast, sw_dtype *dequantize, sw_status *st)
{
    *cast = *dequantize = SW_NDTYPES;
    if (o->cast_dtype && strcmp(o->cast_dtype, "none") != 0 &&
        (!parse_dtype(o->cast_dtype, cast) || !sw_dtype_is_floating(*cast)))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.cast_dtype '%s': tensors can be cast to " FLOATS " (none: not)",
                       o->cast_dtype);
    if (o->dequantize && (!parse_dtype(o->dequantize, dequantize) || !sw_dtype_is_floating(*dequantize) ||
                          *dequantize == SW_F64))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.dequantize '%s': tensors can become " DEQUANTIZED, o->dequantize);
    return SW_OK;
}

/* "128", "64x128". */
static bool parse_block_size(const char *text, uint64_t block[2])
{
    const char *at = text;

    for (unsigned d = 0; d < 2; d++) {
        const char *end = at + strspn(at, "0123456789");

        if (end == at || end - at > 9)
            return false;
        block[d] = strtoull(at, NULL, 10);
        if (!*end && d == 0)
            block[d = 1] = block[0];
        else if (d == 0 && *end != 'x' && *end != 'X')
            return false;
        at = d == 0 ? end + 1 : end;
    }
    return !*at && block[0] && block[1];
}

sw_code sw_take_block_size(const sw_options *o, uint64_t block[2], sw_status *st)
{
    if (o->block_size && !parse_block_size(o->block_size, block))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.block_size '%s' is no size, expected one as in 128 or 128x64",
                       o->block_size);
    return SW_OK;
}

/* ---- what goes together ---------------------------------------------------------------------- */

/* In the words of the call: why it does not take a member. */
static sw_code refuse(sw_call call, const char *member, sw_status *st)
{
    if (call == SW_CALL_RESHARD)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "sw_options.%s does not go with shard files", member);
    if (call == SW_CALL_DIFF)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.%s does not go with two checkpoints of any kind", member);
    if (call == SW_CALL_SAVE_SHARDS)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.%s does not go with shard files that are saved from memory", member);
    return sw_fail(st, SW_EUSAGE, NULL, NULL,
                   "sw_options.%s speaks of shard files: there are none when tensors are saved from memory",
                   member);
}

/* Does the call take all that is given? */
static sw_code check_call(const sw_options *o, sw_call call, sw_status *st)
{
    for (size_t i = 0; i < NOPTIONS; i++)
        if ((table[i].refused & 1u << call) && is_given(o, &table[i]))
            return refuse(call, table[i].is.name, st);
    if (call == SW_CALL_SAVE_SHARDS && o->fqn_map && o->fqn_map_text)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.fqn_map does not go with sw_options.fqn_map_text");
    return SW_OK;
}

/* "only one of sw_options.fqn_map, sw_options.like and ...": all that lay the files out. */
static sw_code refuse_layouts(sw_status *st)
{
    const char *last = NULL;
    char members[256] = "";

    for (size_t i = 0; i < NOPTIONS; i++) {
        if (!table[i].is.lays_out)
            continue;
        if (last)
            snprintf(members + strlen(members), sizeof members - strlen(members), "%ssw_options.%s",
                     *members ? ", " : "", last);
        last = table[i].is.name;
    }
    return sw_fail(st, SW_EUSAGE, NULL, NULL, "only one of %s and sw_options.%s can lay the files out",
                   members, last);
}

/* Members that exclude one another. */
static sw_code check_pairs(const sw_options *o, sw_status *st)
{
    if (sw_options_given(o, SW_CHANGES_LAYOUT) > 1)
        return refuse_layouts(st);
    if (o->boxes_anywhere && !o->boxes)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.boxes_anywhere goes with sw_options.boxes alone");
    if (o->assets && o->no_assets)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "sw_options.assets does not go with sw_options.no_assets");
    if (sw_options_given(o, SW_CHANGES_STYLE) && o->like)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "sw_options.%s does not go with sw_options.like, which names the files itself",
                       o->diffusers ? "diffusers" : "diffusers_index");
    return SW_OK;
}

/* A buffer that is given must be of use, and so must stripes. */
static sw_code check_writing(const sw_options *o, sw_status *st)
{
    sw_stripe_kind kind;
    uint32_t count;
    uint64_t size;

    if (o->buffer_size && o->buffer_size < SW_BUFFER_SIZE_MIN)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small, the least is %u", o->buffer_size,
                       SW_BUFFER_SIZE_MIN);
    return sw_stripe_parse(o->stripe, &kind, &count, &size, st);
}

/* What makes hashes is looked for before the work. */
static sw_code check_proof(const sw_options *o, sw_status *st)
{
    if ((!o->manifest && !o->if_needed) || sw_digest_take_xxh3(st))
        return st->code;
    return sw_digest_take_sha256(st);
}

/* Each by itself. */
static sw_code check_values(const sw_options *o, sw_status *st)
{
    sw_dtype cast, dequantize;
    uint64_t block[2];

    if (o->like && !sw_name_is_index(o->like))
        return sw_fail(st, SW_EUSAGE, o->like, NULL, "is not called *.index.json, as an index is");
    if (check_writing(o, st))
        return st->code;
    for (const char *const *h = o->hints; h && *h; h++)
        if (!sw_hint_is_valid(*h))
            return sw_fail(st, SW_EUSAGE, NULL, NULL, "not an MPI-IO hint, KEY=VALUE: '%s'", *h);
    return sw_value_dtypes(o, &cast, &dequantize, st) ? st->code : sw_take_block_size(o, block, st);
}

/* What can only be done by ranks with MPI between them. */
static sw_code check_ranks(const sw_options *o, sw_call call, const sw_comm *comm, sw_status *st)
{
    bool apart = call == SW_CALL_SAVE_ORDERS || (comm->size > 1 && !sw_comm_layer(comm));

    if (o->dequantize && apart && (call == SW_CALL_SAVE || call == SW_CALL_SAVE_ORDERS))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "to dequantize what several ranks hold in memory they need MPI between them");
    if (o->node_local && o->assign == SW_ASSIGN_BAND)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "node-local shards can only be assigned by owner");
    if ((o->node_local || o->assign == SW_ASSIGN_OWNER) && apart && comm->size > 1)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "node-local shards and the assignment by owner need MPI");
    return SW_OK;
}

sw_code sw_options_check(const sw_options *o, sw_call call, const sw_comm *comm, sw_status *st)
{
    if (call == SW_CALL_CHECK)
        return check_writing(o, st);
    if (call == SW_CALL_OPEN || check_call(o, call, st))
        return st->code;
    /* Whatever else concerns those who write shard files from memory, they have refused. */
    if (call == SW_CALL_SAVE_SHARDS)
        return check_writing(o, st) ? st->code : check_proof(o, st);
    if (check_pairs(o, st) || check_values(o, st) || check_proof(o, st))
        return st->code;
    return check_ranks(o, call, comm, st);
}

/* ---- hash ------------------------------------------------------------------------------------ */

/* Chained as sw_hash(). */
static uint64_t hash_member(uint64_t h, const sw_options *o, const option *row)
{
    switch (row->is.kind) {
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
    case SW_OPTION_PATH:
        return sw_hash_text(h, text_of(o, row));
    case SW_OPTION_FLAG:
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
    case SW_OPTION_CHOICE:
    case SW_OPTION_NRULES:
        return sw_hash(h, member(o, row), row->size);
    case SW_OPTION_LIST:
    case SW_OPTION_PAIRS:
        for (const char *const *list = list_of(o, row); list && *list; list++)
            h = sw_hash_text(h, *list);
        return sw_hash_word(h, 1);
    case SW_OPTION_RULES:
        for (size_t i = 0; i < o->nname_rules; i++)
            h = sw_hash_text(sw_hash_text(sw_hash_word(h, o->name_rules[i].kind), o->name_rules[i].from),
                             o->name_rules[i].to);
        return h;
    case SW_OPTION_OWN:
        break;
    }
    return h;
}

uint64_t sw_options_hash(uint64_t h, const sw_options *o)
{
    for (size_t i = 0; i < NOPTIONS; i++)
        h = hash_member(h, o, &table[i]);
    return h;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Does it have a part in what the bytes of the output are? */
static bool changes_bytes(const option *row)
{
    return row->changes != SW_CHANGES_OTHER || row->is.at == offsetof(sw_options, block_size) ||
           row->is.at == offsetof(sw_options, no_assets);
}

/* Texts, in brackets. */
static sw_code add_texts(sw_buf *b, const char *const *texts, size_t n, sw_status *st)
{
    sw_buf_addf(b, st, "[");
    for (size_t i = 0; i < n && !st->code; i++) {
        sw_buf_addf(b, st, "%s", i ? ", " : "");
        sw_json_add_serde(b, texts[i], strlen(texts[i]), st);
    }
    return sw_buf_addf(b, st, "]");
}

/* All changes of names, each "strip P" or "rename FROM=TO". */
static sw_code add_rules(sw_buf *b, const sw_options *o, sw_status *st)
{
    sw_buf word = SW_BUF_INIT;

    sw_buf_addf(b, st, "[");
    for (size_t i = 0; i < o->nname_rules && !st->code; i++) {
        const sw_name_rule *rule = &o->name_rules[i];
        bool strip = rule->kind == SW_NAME_STRIP;

        word.len = 0;
        sw_buf_addf(b, st, "%s", i ? ", " : "");
        if (!sw_buf_addf(&word, st, "%s %s%s%s", strip ? "strip" : "rename", rule->from, strip ? "" : "=",
                         strip ? "" : rule->to))
            sw_json_add_serde(b, word.data, word.len, st);
    }
    sw_buf_release(&word);
    return sw_buf_addf(b, st, "]");
}

/* Of a path the last part alone; a text that stands for a file may be long: that it was given. */
static sw_code add_value(sw_buf *b, const sw_options *o, const option *row, sw_status *st)
{
    const char *text;
    uint64_t n;
    size_t k = 0;

    switch (row->is.kind) {
    case SW_OPTION_CAST:
        return sw_json_add_serde(b, text_of(o, row), strlen(text_of(o, row)), st);
    case SW_OPTION_PATH:
        text = sw_path_name(text_of(o, row));
        return sw_json_add_serde(b, text, strlen(text), st);
    case SW_OPTION_SIZE:
        memcpy(&n, member(o, row), sizeof n);
        return sw_buf_addf(b, st, "%" PRIu64, n);
    case SW_OPTION_LIST:
        while (list_of(o, row)[k])
            k++;
        return add_texts(b, list_of(o, row), k, st);
    case SW_OPTION_RULES:
        return add_rules(b, o, st);
    default:
        if (row->is.at == offsetof(sw_options, block_size))
            return sw_json_add_serde(b, o->block_size, strlen(o->block_size), st);
        return sw_buf_addf(b, st, "true");
    }
}

sw_code sw_options_text(const sw_options *o, sw_buf *out, sw_status *st)
{
    bool first = true;

    sw_buf_addf(out, st, "{");
    for (size_t i = 0; i < NOPTIONS && !st->code; i++) {
        if (!changes_bytes(&table[i]) || !is_given(o, &table[i]))
            continue;
        sw_buf_addf(out, st, "%s\"%s\": ", first ? "" : ", ", table[i].is.name);
        add_value(out, o, &table[i], st);
        first = false;
    }
    return sw_buf_addf(out, st, "}");
}
