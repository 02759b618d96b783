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

bool sw_job_as_saved(const sw_job *j)
{
    const char *cast = j->opt->cast_dtype;

    return j->files == SW_FILES_CUT && (!cast || strcmp(cast, "none") == 0);
}

/* What the tensors' dtypes were: the caller's word, which goes into own, or .hf_metadata's. */
static sw_code read_dtype_map(const sw_job *j, sw_value_rule *rule, sw_map *own, sw_status *st)
{
    const char *text = j->opt->dtype_map_text;

    if (!text && (sw_job_as_saved(j) || !j->input.found.has_dtype_map))
        return SW_OK;
    rule->map_file = text ? "the dtype map" : SW_DTYPE_MAP_NAME;
    rule->map = text ? own : &j->input.found.dtype_map;
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

/* Local. What the input holds beside the model, and was left out. */
static sw_code tell_model(sw_job *j, sw_status *st)
{
    const sw_model_names *m = &j->input.c.model;
    uint64_t n = j->input.c.nvalues;

    if (n)
        sw_buf_add_line(&j->warnings, st, "left out: %" PRIu64 " value%s that %s not a tensor", n,
                        n == 1 ? "" : "s", n == 1 ? "is" : "are");
    if (m->prefix[0])
        return sw_buf_add_line(
            &j->warnings, st,
            "the tensors of '%s' are taken, and are called without it; sw_options.include and "
            "SW_NAME_STRIP decide otherwise",
            m->prefix);
    for (size_t i = 0; i < SW_NTRAINING; i++)
        if (m->training >> i & 1)
            return sw_buf_add_line(
                &j->warnings, st,
                "the state of training (%s) is left out; sw_options.include decides otherwise",
                sw_training_names[i]);
    return st->code;
}

/* Local. Outputs from the names and the options. */
static sw_code make_outputs(sw_job *j, sw_status *st)
{
    sw_name_options names = { j->opt->include, j->opt->exclude, j->opt->name_rules, j->opt->nname_rules };
    sw_value_rule rule = { .map_file = SW_DTYPE_MAP_NAME };
    sw_map map = SW_MAP_INIT;

    if (tell_model(j, st) || sw_naming_build(&j->input.c, &names, &j->warnings, &j->values.naming, st) ||
        sw_value_dtypes(j->opt, &rule.cast, &rule.dequantize, st) || read_dtype_map(j, &rule, &map, st))
        return st->code;
    sw_outputs_build(&j->input.c, j->values.naming.names, &rule, &j->warnings, &j->values.outputs, st);
    sw_map_release(&map);
    return st->code;
}

sw_code sw_job_decide(sw_job *j, sw_status *st)
{
    if (j->files == SW_FILES_HELD)
        return SW_OK;
    if (!sw_find_block_size(j->comm, j->opt, j->in, &j->input.c, st))
        make_outputs(j, st);
    return sw_agree(j->comm, st);
}

/* ---- the layout ------------------------------------------------------------------------------ */

/* A rule by a map that a file, or whatever it is, brings: by name or by number. The layout takes it
 * in the names of the outputs. map may be j->laid.map itself. */
static sw_code rule_from_map(sw_job *j, const sw_map *map, bool by_input, sw_layout_rule *rule, sw_status *st)
{
    sw_remap remap = { &j->values.outputs, j->values.naming.names, by_input, j->opt->diffusers };
    sw_map renamed;

    if (sw_map_for_outputs(&remap, map, &renamed, &rule->largest, st))
        return st->code;
    sw_map_release(&j->laid.map);
    j->laid.map = renamed;
    rule->map = &j->laid.map;
    return SW_OK;
}

/* What messages call the map of fqn_map or fqn_map_text. */
static const char *fqn_map_name(const sw_options *opt)
{
    return opt->fqn_map ? opt->fqn_map : "the map of names";
}

/* Collective. A local failure is possible: agree afterwards. */
static sw_code read_fqn_map(sw_job *j, sw_status *st)
{
    const sw_options *opt = j->opt;
    const char *own = opt->fqn_map_text;
    sw_buf text = SW_BUF_INIT;

    if (own)
        return sw_map_parse_numbers(own, strlen(own), fqn_map_name(opt), &j->laid.map, st);
    if (!sw_scan_option_file(j->comm, opt->fqn_map, opt->cancel, &text, st))
        sw_map_parse_numbers(text.data, text.len, opt->fqn_map, &j->laid.map, st);
    sw_buf_release(&text);
    return st->code;
}

/* --like: the names of its index. */
static sw_code rule_from_like(sw_job *j, sw_layout_rule *rule, sw_status *st)
{
    const char *like = j->opt->like;
    const sw_like compared = { like,         &j->laid.map, &j->values.outputs.view, j->opt->node_local,
                               &j->warnings, NULL };

    if (sw_like_read(j->comm, like, j->opt->cancel, &j->laid.map, st))
        return st->code;
    rule->kind = SW_LAYOUT_NAMES;
    rule->map_file = like;
    rule->index_name = sw_path_name(like);
    sw_like_compare(j->comm, &compared, st);
    if (!st->code)
        rule_from_map(j, &j->laid.map, false, rule, st);
    return st->code;
}

/* The input's own: the numbers of .hf_metadata, else the index that chose its files. */
static sw_code rule_from_input(sw_job *j, sw_layout_rule *rule, sw_status *st)
{
    bool numbers = j->input.found.has_file_map;

    rule->kind = numbers ? SW_LAYOUT_NUMBERS : SW_LAYOUT_NAMES;
    rule->map_file = numbers ? SW_FILE_MAP_NAME : j->input.found.index_name;
    if (!numbers && !rule->diffusers && !rule->diffusers_index)
        rule->index_name = j->input.found.index_name;
    return rule_from_map(j, numbers ? &j->input.found.file_map : &j->input.found.weight_map, true, rule, st);
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
static sw_code choose_rule(sw_job *j, sw_layout_rule *rule, sw_status *st)
{
    *rule = (sw_layout_rule){ .kind = SW_LAYOUT_SIZE,
                              .max_size = SIZE_DEFAULT,
                              .diffusers = j->opt->diffusers,
                              .diffusers_index = j->opt->diffusers_index };
    if (j->opt->fqn_map || j->opt->fqn_map_text) {
        rule->kind = SW_LAYOUT_NUMBERS;
        rule->map_file = fqn_map_name(j->opt);
        return read_fqn_map(j, st) ? st->code : rule_from_map(j, &j->laid.map, false, rule, st);
    }
    if (j->opt->like)
        return rule_from_like(j, rule, st);
    if (j->opt->max_shard_size)
        rule->max_size = j->opt->max_shard_size;
    else if (j->opt->single_file)
        rule->kind = SW_LAYOUT_SINGLE;
    else if (j->input.found.has_file_map || j->input.found.by_index)
        return rule_from_input(j, rule, st);
    else if (has_models(&j->values.outputs.view))
        rule->kind = SW_LAYOUT_MODELS;
    return st->code;
}

/* Models that are split by size are as large as they will be when they are welded: with the dtypes
 * that .hf_metadata names. Newly allocated, one for each output. */
static uint8_t *dtypes_when_welded(const sw_job *j, sw_status *st)
{
    const sw_outputs *o = &j->values.outputs;
    uint8_t *dtypes = sw_calloc(o->view.ntensors, sizeof *dtypes, st);

    for (uint32_t i = 0; dtypes && i < o->view.ntensors; i++) {
        const char *name = o->c->tensors[o->how[i].source].name;
        const sw_map_item *item = sw_map_find(&j->input.found.dtype_map, name);
        sw_dtype said;

        dtypes[i] = o->view.tensors[i].out_dtype;
        if (item && o->how[i].op == SW_OP_COPY && sw_dtype_is_floating((sw_dtype)dtypes[i]) &&
            sw_dtype_parse_any(item->text, strlen(item->text), &said) && sw_dtype_is_floating(said))
            dtypes[i] = (uint8_t)said;
    }
    return dtypes;
}

/* Collective. Whole tensors; a local failure is possible. */
static sw_code lay_out_whole(sw_job *j, sw_layout *l, sw_status *st)
{
    sw_layout_rule rule;
    uint8_t *dtypes = NULL;

    if (choose_rule(j, &rule, st))
        return st->code;
    if (rule.kind == SW_LAYOUT_SIZE && sw_job_as_saved(j) && j->input.found.has_dtype_map)
        rule.dtypes = dtypes = dtypes_when_welded(j, st);
    if (!st->code && !sw_layout_build(&j->values.outputs.view, &rule, l, st) && l->unused)
        sw_buf_add_line(&j->warnings, st,
                        "%" PRIu64
                        " tensors of %s are in no shard file and are left out (tied weights?): %.*s%s",
                        l->unused, rule.map_file, (int)l->unused_names.len, l->unused_names.data,
                        l->unused > 10 ? ", ..." : "");
    free(dtypes);
    return st->code;
}

/* Collective. The boxes that the ranks hold. */
static sw_code lay_out_held(sw_job *j, sw_status *st)
{
    bool given = j->opt->fqn_map || j->opt->fqn_map_text;
    const sw_model_rule models = { given ? &j->laid.map : NULL, fqn_map_name(j->opt) };

    if (given) {
        read_fqn_map(j, st);
        if (sw_agree(j->comm, st))
            return st->code;
    }
    return sw_shard_set_plan(j->comm, &j->input.c, j->held, &models, &j->laid.set, st);
}

sw_code sw_job_lay_out(sw_job *j, sw_status *st)
{
    sw_job_files *f = &j->laid;
    bool cut = j->files == SW_FILES_CUT;

    if (j->files == SW_FILES_HELD)
        return lay_out_held(j, st);
    /* Models as sw_consolidate() would lay them out, each cut into shards. */
    if (!lay_out_whole(j, cut ? &f->whole : &f->layout, st) && cut)
        sw_shard_layout_build(&j->values.outputs, &f->whole, &f->rules, &j->warnings, &f->layout, st);
    return st->code;
}
