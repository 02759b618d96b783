/* Side files of a shard set; see beside.h. */
#include "api/beside.h"

#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "par/gather.h"
#include "plan/outmaps.h"

/* ---- mappings -------------------------------------------------------------------------------- */

/* Is anything asked for that gives tensors other files, so that the numbers of .hf_metadata are
 * wrong? */
static bool changes_layout(const sw_options *o)
{
    return sw_options_given(o, SW_CHANGES_LAYOUT);
}

/* Is anything asked for that makes the mappings of .hf_metadata wrong? */
static bool changes_mappings(const sw_job *r)
{
    return sw_options_given(r->opt, SW_CHANGES_LAYOUT | SW_CHANGES_NAMES | SW_CHANGES_VALUES);
}

static size_t find_asset(const sw_assets *a, const char *name)
{
    size_t i = 0;

    while (i < a->n && strcmp(a->items[i].name, name) != 0)
        i++;
    return i;
}

static void drop_asset(sw_assets *a, size_t i)
{
    free(a->items[i].name);
    free(a->items[i].source);
    memmove(&a->items[i], &a->items[i + 1], (--a->n - i) * sizeof *a->items);
}

/* Mappings that cannot stay as they are: file_map and dtype_map. */
static sw_code make_mappings(sw_beside *b, sw_status *st)
{
    const sw_job *r = b->job;
    const sw_find *s = &r->scan;

    if (s->has_file_map)
        sw_mapping_of_files(&r->outputs, b->whole, &s->file_map, !changes_layout(r->opt), &b->file_map, st);
    if (s->has_dtype_map && !st->code)
        sw_mapping_of_dtypes(&r->outputs, &s->dtype_map, !r->as_saved, &b->dtype_map, st);
    return st->code;
}

/* What a side file is to hold instead of what it holds; NULL = it is copied. */
static const sw_buf *new_text(const sw_beside *b, const char *name)
{
    const sw_buf *text = strcmp(name, SW_FILE_MAP_NAME) == 0    ? &b->file_map
                         : strcmp(name, SW_DTYPE_MAP_NAME) == 0 ? &b->dtype_map
                                                                : NULL;

    return text && text->len ? text : NULL;
}

/* How a mapping stands in OUTPUT_DIR. */
typedef struct stale {
    bool there;
    bool own;   /* it is the input's own file */
    bool loose; /* a file in a directory of OUTPUT_DIR's own, so that nobody else misses it */
} stale;

static sw_code look_at_stale(const sw_job *r, const char *name, stale *out, sw_status *st)
{
    char *path = sw_path_join(r->out, name, st), *input = sw_path_join(r->in, name, st),
         *dir = path ? sw_path_dir(path, st) : NULL;
    sw_path_kind kind = SW_PATH_MISSING, of_dir = SW_PATH_MISSING, of_input = SW_PATH_MISSING;
    struct stat a, b;

    *out = (stale){ false };
    if (st->code || sw_path_lstat(path, &kind, &a, st) || sw_path_lstat(dir, &of_dir, NULL, st) ||
        sw_path_stat(input, &of_input, &b, st))
        goto out;
    out->there = kind != SW_PATH_MISSING;
    out->own = kind == SW_PATH_FILE && of_input == SW_PATH_FILE && sw_path_same(&a, &b);
    out->loose = kind == SW_PATH_FILE && of_dir == SW_PATH_DIR && !out->own;
out:
    free(dir);
    free(input);
    free(path);
    return st->code;
}

/* A mapping that OUTPUT_DIR has, and that is not replaced, speaks of other shards: it goes with
 * those. */
static sw_code remove_stale(sw_job *r, const char *name, bool changed, sw_status *st)
{
    size_t cap = r->nold;
    stale s;

    if (find_asset(&r->assets, name) < r->assets.n || look_at_stale(r, name, &s, st) || !s.there ||
        (s.own && !changed))
        return st->code;
    if (r->nold == 0 || !s.loose)
        return sw_buf_add_line(&r->warnings, st,
                               "%s stays in the output directory, and does not speak of these shards", name);
    if (!sw_grow(&r->old, &cap, r->nold + 1, sizeof *r->old, st) && (r->old[r->nold] = sw_strdup(name, st)))
        r->nold++;
    return st->code;
}

/* What comes along, and with which mappings. */
static sw_code choose_assets(sw_beside *b, sw_status *st)
{
    sw_job *r = b->job;
    size_t map;

    if (sw_assets_list_beside(r->in, r->out, &r->warnings, &r->assets, st) || !changes_mappings(r) ||
        make_mappings(b, st))
        return st->code;
    map = find_asset(&r->assets, SW_FILE_MAP_NAME);
    if (map < r->assets.n && b->file_map.len == 0)
        drop_asset(&r->assets, map);
    return SW_OK;
}

sw_code sw_beside_list(sw_beside *b, sw_status *st)
{
    sw_job *r = b->job;

    if (!r->opt->no_assets && choose_assets(b, st))
        return st->code;
    if (!remove_stale(r, SW_FILE_MAP_NAME, changes_mappings(r), st))
        remove_stale(r, SW_DTYPE_MAP_NAME, changes_mappings(r), st);
    return st->code;
}

/* ---- staging --------------------------------------------------------------------------------- */

sw_code sw_beside_stage(const sw_beside *b, const sw_place *stage, sw_status *st)
{
    sw_job *r = b->job;

    for (size_t i = 0; i < r->assets.n; i++)
        r->assets.items[i].text = new_text(b, r->assets.items[i].name);
    return sw_job_stage_assets(r, stage, st);
}

void sw_beside_release(sw_beside *b)
{
    sw_buf_release(&b->file_map);
    sw_buf_release(&b->dtype_map);
}
