/* Which tensors go where, and as what: from the options, .hf_metadata and the input itself; see job.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "par/like.h"
#include "plan/values.h"

#define SIZE_DEFAULT UINT64_C(5000000000)

/* A file that an option names: missing is wrong usage. */
static sw_code read_option_file(sw_job *r, const char *path, sw_side *side, sw_status *st)
{
    if (!sw_scan_side(r->comm, path, path, true, side, st) && !side->there)
        sw_fail(st, SW_EUSAGE, path, NULL, "no such file");
    return st->code;
}

static sw_code decide_values(sw_job *r, sw_status *st)
{
    sw_map map = SW_MAP_INIT;
    uint64_t kept = 0;

    if (r->scan.dtype_map.there && sw_map_parse_texts(r->scan.dtype_map.text.data, r->scan.dtype_map.text.len,
                                                      SW_DTYPE_MAP_NAME, &map, st))
        return st->code;
    sw_values_decide(&r->c, r->scan.dtype_map.there ? &map : NULL, SW_DTYPE_MAP_NAME, &kept, st);
    if (kept && !st->code)
        sw_buf_add_line(&r->warnings, st,
                        "%" PRIu64
                        " tensors are saved in another dtype than %s names (quantized or integer): "
                        "they stay as they are",
                        kept, SW_DTYPE_MAP_NAME);
    sw_map_release(&map);
    return st->code;
}

/* The directory that a file is in; NULL on failure. */
static char *dir_of(const char *path, sw_status *st)
{
    const char *slash = strrchr(path, '/');
    char *dir = sw_strdup(slash ? path : ".", st);

    if (dir && slash)
        dir[slash == path ? 1 : slash - path] = '\0';
    return dir;
}

static sw_code rule_from_like(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    const char *like = r->opt->like, *slash = strrchr(like, '/');
    char *dir = dir_of(like, st);
    sw_side side = { 0 };

    if (sw_agree(r->comm, st) || read_option_file(r, like, &side, st))
        goto out;
    if (!sw_index_parse(side.text.data, side.text.len, like, &r->map, st) && r->map.n == 0)
        sw_fail(st, SW_EINPUT, like, NULL, "no weight_map");
    if (sw_agree(r->comm, st))
        goto out;
    *rule = (sw_layout_rule){ SW_LAYOUT_NAMES, &r->map, like, slash ? slash + 1 : like, 0 };
    sw_like_compare(r->comm, &r->c, dir, &r->map, r->opt->node_local, &r->warnings, st);
out:
    free(dir);
    sw_buf_release(&side.text);
    return st->code;
}

static sw_code rule_from_fqn_map(sw_job *r, sw_layout_rule *rule, sw_status *st)
{
    sw_side side = { 0 };

    if (!read_option_file(r, r->opt->fqn_map, &side, st))
        sw_map_parse_numbers(side.text.data, side.text.len, r->opt->fqn_map, &r->map, st);
    sw_buf_release(&side.text);
    *rule = (sw_layout_rule){ SW_LAYOUT_NUMBERS, &r->map, r->opt->fqn_map, NULL, 0 };
    return st->code;
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
    if (r->opt->fqn_map)
        return rule_from_fqn_map(r, rule, st);
    if (r->opt->like)
        return rule_from_like(r, rule, st);
    if (r->opt->max_shard_size)
        *rule = (sw_layout_rule){ SW_LAYOUT_SIZE, NULL, NULL, NULL, r->opt->max_shard_size };
    else if (r->opt->single_file)
        *rule = (sw_layout_rule){ SW_LAYOUT_SINGLE, NULL, NULL, NULL, 0 };
    else if (r->scan.file_map.there) {
        sw_map_parse_numbers(r->scan.file_map.text.data, r->scan.file_map.text.len, SW_FILE_MAP_NAME, &r->map,
                             st);
        *rule = (sw_layout_rule){ SW_LAYOUT_NUMBERS, &r->map, SW_FILE_MAP_NAME, NULL, 0 };
    } else if (r->scan.by_index)
        *rule = (sw_layout_rule){ SW_LAYOUT_NAMES, &r->scan.weight_map, r->scan.index_name,
                                  r->scan.index_name, 0 };
    else if (has_models(&r->c))
        *rule = (sw_layout_rule){ SW_LAYOUT_MODELS, NULL, NULL, NULL, 0 };
    else
        *rule = (sw_layout_rule){ SW_LAYOUT_SIZE, NULL, NULL, NULL, SIZE_DEFAULT };
    return st->code;
}

sw_code sw_job_lay_out(sw_job *r, sw_status *st)
{
    sw_layout_rule rule;

    decide_values(r, st);
    if (sw_agree(r->comm, st) || choose_rule(r, &rule, st) || sw_layout_build(&r->c, &rule, &r->layout, st))
        return st->code;
    if (r->layout.unused)
        sw_buf_add_line(&r->warnings, st,
                        "%" PRIu64
                        " tensors of %s are in no shard file and are left out (tied weights?): %.*s%s",
                        r->layout.unused, rule.map_file, (int)r->layout.unused_names.len,
                        r->layout.unused_names.data, r->layout.unused > 10 ? ", ..." : "");
    return st->code;
}
