/* What stands beside the weights: the model's other files, and .hf_metadata with its mappings,
 * which speak of the files that hold the tensors; chosen, staged and compared by rank 0. See job.h.
 * Some dozens of files. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/num.h"
#include "base/path.h"
#include "plan/layout_whole.h"
#include "plan/outmaps.h"

#define PIECE (UINT64_C(1) << 20)
#define INDEX_MAX (UINT64_C(1) << 30)

static const char hint_index[] = "it was edited, or another program wrote it: welding again writes it";
static const char hint_asset[] = "it was edited since, or came from elsewhere: sw_options.assets names the "
                                 "directory, sw_options.no_assets leaves side files out";

/* ---- mappings -------------------------------------------------------------------------------- */

/* Is anything asked for that makes the mappings of .hf_metadata wrong? */
static bool changes_mappings(const sw_job *j)
{
    return sw_options_given(j->opt, SW_CHANGES_LAYOUT | SW_CHANGES_NAMES | SW_CHANGES_VALUES);
}

/* The index of a name; n = it is not among them. */
static size_t find_asset(const sw_assets *a, const char *name)
{
    size_t i = 0;

    while (i < a->n && strcmp(a->items[i].name, name) != 0)
        i++;
    return i;
}

/* Mappings that cannot stay as they are: file_map and dtype_map. The numbers of .hf_metadata are
 * wrong where tensors get other files. */
static sw_code make_mappings(sw_job *j, sw_status *st)
{
    const sw_find *s = &j->input.found;
    sw_job_output *out = &j->output;

    if (s->has_file_map)
        sw_mapping_of_files(&j->values.outputs, &j->laid.whole, &s->file_map,
                            !sw_options_given(j->opt, SW_CHANGES_LAYOUT), &out->file_map, st);
    if (s->has_dtype_map && !st->code)
        sw_mapping_of_dtypes(&j->values.outputs, &s->dtype_map, !sw_job_as_saved(j), &out->dtype_map, st);
    return st->code;
}

/* What a side file is to hold instead of what it holds; NULL = it is copied. */
static const sw_buf *new_text(const sw_job *j, const char *name)
{
    const sw_buf *text = strcmp(name, SW_FILE_MAP_NAME) == 0    ? &j->output.file_map
                         : strcmp(name, SW_DTYPE_MAP_NAME) == 0 ? &j->output.dtype_map
                                                                : NULL;

    return text && text->len ? text : NULL;
}

/* How a mapping stands in OUTPUT_DIR. */
typedef struct stale {
    bool there;
    bool own;   /* it is the input's own file */
    bool loose; /* a file in a directory of OUTPUT_DIR's own, so that nobody else misses it */
} stale;

/* Is a mapping of this name there, and whose is it? */
static sw_code look_at_stale(const sw_job *j, const char *name, stale *out, sw_status *st)
{
    char *path = sw_path_join(j->out, name, st), *dir = path ? sw_path_dir(path, st) : NULL;
    sw_path_kind kind = SW_PATH_MISSING, of_dir = SW_PATH_MISSING, of_input = SW_PATH_MISSING;
    struct stat a, b;

    *out = (stale){ false };
    if (st->code || sw_path_lstat(path, &kind, &a, st) || sw_path_lstat(dir, &of_dir, NULL, st) ||
        sw_path_stat_in(j->in, name, &of_input, &b, st))
        goto out;
    out->there = kind != SW_PATH_MISSING;
    out->own = kind == SW_PATH_FILE && of_input == SW_PATH_FILE && sw_path_same(&a, &b);
    out->loose = kind == SW_PATH_FILE && of_dir == SW_PATH_DIR && !out->own;
out:
    free(dir);
    free(path);
    return st->code;
}

/* A mapping that OUTPUT_DIR has, and that is not replaced, speaks of other shards: it goes with
 * those. */
static sw_code remove_stale(sw_job *j, const char *name, bool changed, sw_status *st)
{
    stale s;

    if (find_asset(&j->output.assets, name) < j->output.assets.n || look_at_stale(j, name, &s, st) ||
        !s.there || (s.own && !changed))
        return st->code;
    if (j->output.old.n == 0 || !s.loose)
        return sw_buf_add_line(&j->warnings, st,
                               "%s stays in the output directory, and does not speak of these shards", name);
    return sw_dir_add(&j->output.old, name, st);
}

/* What comes along with a shard set, and with which mappings. */
static sw_code choose_beside_set(sw_job *j, sw_status *st)
{
    sw_assets *a = &j->output.assets;
    size_t map;
    const sw_assets_rule rule = { .input_dir = j->in,
                                  .output_dir = j->out,
                                  .stays_sharded = true,
                                  .given = { j->opt->fqn_map, j->opt->boxes } };

    if (sw_assets_list(&rule, &j->warnings, a, st) || !changes_mappings(j) || make_mappings(j, st))
        return st->code;
    map = find_asset(a, SW_FILE_MAP_NAME);
    if (map < a->n && j->output.file_map.len == 0) {
        /* it does not come along after all */
        free(a->items[map].name);
        free(a->items[map].source);
        memmove(&a->items[map], &a->items[map + 1], (--a->n - map) * sizeof *a->items);
    }
    return SW_OK;
}

/* ---- choosing and staging -------------------------------------------------------------------- */

/* What comes along with whole tensors, but for their index. */
static sw_code list_beside(const sw_job *j, const char *index, sw_buf *warnings, sw_assets *out,
                           sw_status *st)
{
    const sw_assets_rule rule = { j->in, j->opt->assets, j->out,
                                  index, false,          { j->opt->fqn_map, j->opt->boxes } };

    return sw_assets_list(&rule, warnings, out, st);
}

sw_code sw_job_list_sidefiles(sw_job *j, sw_status *st)
{
    bool changed = changes_mappings(j);

    if (j->files == SW_FILES_CUT) {
        if ((j->opt->no_assets || !choose_beside_set(j, st)) &&
            !remove_stale(j, SW_FILE_MAP_NAME, changed, st))
            remove_stale(j, SW_DTYPE_MAP_NAME, changed, st);
        return st->code;
    }
    if (j->files == SW_FILES_HELD || j->opt->no_assets || (!j->in && !j->opt->assets))
        return SW_OK;
    return list_beside(j, j->laid.layout.index_name, &j->warnings, &j->output.assets, st);
}

/* config.json tells the dtype that the tensors have now, and no quantization that is gone. */
static sw_code config_rule(const sw_options *opt, sw_config_rule *rule, sw_status *st)
{
    sw_dtype cast, dequantize;

    *rule = (sw_config_rule){ .dtype = SW_NDTYPES };
    if (sw_value_dtypes(opt, &cast, &dequantize, st))
        return st->code;
    rule->dtype = cast != SW_NDTYPES ? cast : dequantize;
    rule->no_quantization = dequantize != SW_NDTYPES;
    return SW_OK;
}

sw_code sw_job_stage_sidefiles(sw_job *j, sw_status *st)
{
    const sw_place *place = j->output.place;
    sw_asset_copy how = { NULL, j->result->band_size, !j->opt->no_sync, &j->warnings };
    sw_config_rule rule;

    if (config_rule(j->opt, &rule, st))
        return st->code;
    how.rule = rule.dtype == SW_NDTYPES ? NULL : &rule;
    if (j->output.assets.config_stays && how.rule)
        sw_buf_add_line(
            &j->warnings, st,
            "config.json is in the output directory already and stays as it is: its dtype is not edited");
    for (size_t i = 0; i < j->output.assets.n && !st->code; i++) {
        sw_asset *a = &j->output.assets.items[i];

        a->text = new_text(j, a->name);
        if (!sw_place_make_room(place, a->name, st) && !sw_check_cancel(j->opt->cancel, st))
            sw_asset_stage(a, sw_place_fresh(place), &how, st);
    }
    return st->code;
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* A finding tells where they differ first. */
static sw_code compare_texts(const char *name, const sw_buf *is, const sw_buf *want, sw_findings *findings,
                             sw_status *st)
{
    size_t at = 0, n = (size_t)sw_min(is->len, want->len);

    while (at < n && is->data[at] == want->data[at])
        at++;
    if (is->len == want->len && at == n)
        return SW_OK;
    return sw_findings_add(findings, name, NULL, hint_index, st,
                           "is not the text that consolidate writes, from byte %zu on", at);
}

/* The index against the one that would be written for the files that are there. */
static sw_code compare_index(const sw_job *j, const sw_plain *t, sw_findings *findings, sw_status *st)
{
    const sw_layout_rule rule = { .kind = SW_LAYOUT_NAMES,
                                  .map = &t->found.weight_map,
                                  .map_file = t->found.index_name,
                                  .index_name = t->found.index_name };
    sw_buf is = SW_BUF_INIT, want = SW_BUF_INIT;
    sw_layout l = { 0 };
    bool missing = false;
    char *path;

    if (!t->found.index_name || findings->n > 0)
        return SW_OK;
    path = sw_path_join(j->out, t->found.index_name, st);
    if (!path || sw_layout_build(&j->values.outputs.view, &rule, &l, st) ||
        sw_layout_index(&j->values.outputs.view, &l, &want, st) ||
        sw_path_read(path, t->found.index_name, INDEX_MAX, &is, &missing, st) || missing)
        goto out;
    compare_texts(t->found.index_name, &is, &want, findings, st);
out:
    sw_layout_release(&l);
    sw_buf_release(&is);
    sw_buf_release(&want);
    free(path);
    return sw_findings_take(findings, NULL, st);
}

/* What is only said of files that are copied is not said here. */
static sw_code compare_asset(const sw_job *j, sw_asset *a, const sw_config_rule *rule, sw_findings *findings,
                             sw_status *st)
{
    char *path = sw_path_join(j->out, a->name, st);
    sw_buf why = SW_BUF_INIT, ignored = SW_BUF_INIT;
    const sw_asset_copy how = { rule, PIECE, false, &ignored };

    if (path && !sw_check_cancel(j->opt->cancel, st) && !sw_asset_compare(a, path, &how, &why, st) &&
        *why.data)
        sw_findings_add(findings, a->name, NULL, hint_asset, st, "%s", why.data);
    sw_buf_release(&ignored);
    sw_buf_release(&why);
    free(path);
    return st->code;
}

/* Each side file against what it would be copied from. */
static sw_code compare_assets(const sw_job *j, const sw_plain *t, sw_findings *findings, sw_status *st)
{
    sw_assets assets = { 0 };
    sw_buf ignored = SW_BUF_INIT;
    sw_config_rule rule;

    if (j->opt->no_assets || config_rule(j->opt, &rule, st) ||
        list_beside(j, t->found.index_name, &ignored, &assets, st))
        goto out;
    for (size_t i = 0; i < assets.n && !st->code; i++)
        compare_asset(j, &assets.items[i], &rule, findings, st);
out:
    sw_assets_release(&assets);
    sw_buf_release(&ignored);
    return st->code;
}

sw_code sw_job_compare_sidefiles(const sw_job *j, const sw_plain *there, sw_findings *findings, sw_status *st)
{
    if (!compare_index(j, there, findings, st))
        compare_assets(j, there, findings, st);
    return st->code;
}
