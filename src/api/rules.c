/* Which tensors go where, and as what: from the options, .hf_metadata and the input itself; see
 * job.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/path.h"
#include "par/like.h"
#include "plan/layout_whole.h"
#include "plan/outmaps.h"

#define SIZE_DEFAULT UINT64_C(5000000000)

/* ---- names and values ------------------------------------------------------------------------ */

/* What the tensors' dtypes were: the caller's word, which goes into own, or .hf_metadata's. */
static sw_code read_dtype_map(const sw_job *r, sw_value_rule *rule, sw_map *own, sw_status *st)
{
    const char *text = r->opt->dtype_map_text;

    if (!text && (r->as_saved || !r->scan.has_dtype_map))
        return SW_OK;
    rule->map_file = text ? "the dtype map" : SW_DTYPE_MAP_NAME;
    rule->map = text ? own : &r->scan.dtype_map;
    return text ? sw_map_parse_texts(text, strlen(text), rule->map_file, own, st) : SW_OK;
}

/* Has any tensor scales by name? */
static bool has_scales(const sw_catalog *c)
{
    for (uint32_t i = 0; i < c->ntensors; i++)
        if (c->tensors[i].scale)
            return true;
    return false;
}

sw_code sw_find_block_size(const sw_comm *comm, const sw_options *opt, const char *dir, sw_catalog *c,
                           sw_status *st)
{
    uint64_t block[2] = { c->block[0], c->block[1] };

    if (sw_take_block_size(opt, block, st) || !has_scales(c))
        return st->code;
    if (!opt->block_size && comm->rank == 0)
        sw_assets_block_size(dir, opt->assets, block);
    if (!sw_comm_bcast(comm, block, sizeof block, 0, st))
        memcpy(c->block, block, sizeof block);
    return st->code;
}

sw_code sw_job_decide(sw_job *r, sw_status *st)
{
    sw_name_options names = { r->opt->include, r->opt->exclude, r->opt->name_rules, r->opt->nname_rules };
    sw_value_rule rule = { .map_file = SW_DTYPE_MAP_NAME };
    sw_map map = SW_MAP_INIT;

    if (sw_value_dtypes(r->opt, &rule.cast, &rule.dequantize, st) ||
        sw_find_block_size(r->comm, r->opt, r->in, &r->c, st) ||
        sw_naming_build(&r->c, &names, &r->warnings, &r->naming, st))
        return st->code;
    if (read_dtype_map(r, &rule, &map, st))
        return st->code;
    sw_outputs_build(&r->c, r->naming.names, &rule, &r->warnings, &r->outputs, st);
    sw_map_release(&map);
    return st->code;
}

/* ---- the layout ------------------------------------------------------------------------------ */

/* A rule by a map that a file, or whatever it is, brings: by name or by number. The layout takes it
 * in the names of the outputs. map may be r->map itself. */
static sw_code rule_from_map(sw_job *r, const sw_map *map, bool by_input, sw_layout_rule *rule, sw_status *st)
{
    sw_remap remap = { &r->outputs, r->naming.names, by_input, r->opt->diffusers };
    sw_map renamed;

    if (sw_map_for_outputs(&remap, map, &renamed, &rule->largest, st))
        return st->code;
    sw_map_release(&r->map);
    r->map = renamed;
    rule->map = &r->map;
    return SW_OK;
}

sw_code sw_job_read_fqn_map(const sw_comm *comm, const sw_options *opt, sw_map *map, sw_status *st)
{
    const char *own = opt->fqn_map_text;
    sw_buf text = SW_BUF_INIT;

    if (own)
        return sw_map_parse_numbers(own, strlen(own), sw_fqn_map_name(opt), map, st);
    if (!sw_scan_option_file(comm, opt->fqn_map, opt->cancel, &text, st))
        sw_map_parse_numbers(text.data, text.len, opt->fqn_map, map, st);
    sw_buf_release(&text);
    return st->code;
}

static sw_code rule_from_like(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    const char *like = r->opt->like;
    const sw_like compared = { like, &r->map, &r->outputs.view, r->opt->node_local, &r->warnings, NULL };

    if (sw_like_read(r->comm, like, r->opt->cancel, &r->map, st))
        return st->code;
    rule->kind = SW_LAYOUT_NAMES;
    rule->map_file = like;
    rule->index_name = sw_path_name(like);
    sw_like_compare(r->comm, &compared, st);
    if (!st->code)
        rule_from_map(r, &r->map, false, rule, st);
    return st->code;
}

static sw_code rule_from_fqn_map(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    rule->kind = SW_LAYOUT_NUMBERS;
    rule->map_file = sw_fqn_map_name(r->opt);
    if (!sw_job_read_fqn_map(r->comm, r->opt, &r->map, st))
        rule_from_map(r, &r->map, false, rule, st);
    return st->code;
}

/* The input's own: the numbers of .hf_metadata, else the index that chose its files. */
static sw_code rule_from_input(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    bool numbers = r->scan.has_file_map;

    rule->kind = numbers ? SW_LAYOUT_NUMBERS : SW_LAYOUT_NAMES;
    rule->map_file = numbers ? SW_FILE_MAP_NAME : r->scan.index_name;
    if (!numbers && !rule->diffusers && !rule->diffusers_index)
        rule->index_name = r->scan.index_name;
    return rule_from_map(r, numbers ? &r->scan.file_map : &r->scan.weight_map, true, rule, st);
}

/* No tensor stands under several model numbers, and all have one. */
static bool has_models(const sw_catalog *c)
{
    for (uint32_t i = 0; i < c->ntensors; i++)
        if (c->tensors[i].model == 0)
            return false;
    return c->ntensors > 0;
}

/* SPEC 4: the first of the options, .hf_metadata, the input's own layout, the size. */
static sw_code choose_rule(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    *rule = (sw_layout_rule){ .kind = SW_LAYOUT_SIZE,
                              .max_size = SIZE_DEFAULT,
                              .diffusers = r->opt->diffusers,
                              .diffusers_index = r->opt->diffusers_index };
    if (r->opt->fqn_map || r->opt->fqn_map_text)
        return rule_from_fqn_map(r, rule, st);
    if (r->opt->like)
        return rule_from_like(r, rule, st);
    if (r->opt->max_shard_size)
        rule->max_size = r->opt->max_shard_size;
    else if (r->opt->single_file)
        rule->kind = SW_LAYOUT_SINGLE;
    else if (r->scan.has_file_map || r->scan.by_index)
        return rule_from_input(r, rule, st);
    else if (has_models(&r->outputs.view))
        rule->kind = SW_LAYOUT_MODELS;
    return st->code;
}

sw_code sw_job_lay_out(sw_job *r, sw_status *st)
{
    sw_layout_rule rule;

    if (choose_rule(r, &rule, st) || sw_layout_build(&r->outputs.view, &rule, &r->layout, st))
        return st->code;
    if (r->layout.unused)
        sw_buf_add_line(&r->warnings, st,
                        "%" PRIu64
                        " tensors of %s are in no shard file and are left out (tied weights?): %.*s%s",
                        r->layout.unused, rule.map_file, (int)r->layout.unused_names.len,
                        r->layout.unused_names.data, r->layout.unused > 10 ? ", ..." : "");
    return st->code;
}
