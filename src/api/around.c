/* What stands beside the weights of a consolidated checkpoint, compared with what consolidate would
 * put there; see job.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/job.h"
#include "base/num.h"
#include "base/path.h"
#include "par/gather.h"
#include "plan/layout_whole.h"
#include "plan/outmaps.h"

#define PIECE (UINT64_C(1) << 20)
#define INDEX_MAX (UINT64_C(1) << 30)

static const char hint_index[] = "it was edited, or another program wrote it: welding again writes it";
static const char hint_asset[] = "it was edited since, or came from elsewhere: --assets DIR names the "
                                 "directory, --no-assets leaves side files out";

/* ---- the index ------------------------------------------------------------------------------- */

static sw_code compare_texts(const char *name, const sw_buf *is, const sw_buf *want, sw_findings *findings,
                             sw_status *st)
{
    sw_buf why = SW_BUF_INIT;
    size_t at = 0, n = (size_t)sw_min(is->len, want->len);

    while (at < n && is->data[at] == want->data[at])
        at++;
    if (is->len == want->len && at == n)
        return SW_OK;
    if (!sw_buf_addf(&why, st, "is not the text that consolidate writes, from byte %zu on", at))
        sw_findings_add_hint(findings, name, NULL, why.data, hint_index, st);
    sw_buf_release(&why);
    return st->code;
}

sw_code sw_job_compare_index(const sw_job *r, const sw_plain *t, sw_findings *findings, sw_status *st)
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
    path = sw_path_join(r->out, t->found.index_name, st);
    if (!path || sw_layout_build(&r->outputs.view, &rule, &l, st) ||
        sw_layout_index(&r->outputs.view, &l, &want, st) ||
        sw_path_read(path, t->found.index_name, INDEX_MAX, &is, &missing, st) || missing)
        goto out;
    compare_texts(t->found.index_name, &is, &want, findings, st);
out:
    sw_layout_release(&l);
    sw_buf_release(&is);
    sw_buf_release(&want);
    free(path);
    return sw_findings_take(findings, st);
}

/* ---- the model's other files ----------------------------------------------------------------- */

/* What is only said of files that are copied is not said here. */
static sw_code compare_asset(const sw_job *r, sw_asset *a, const sw_config_rule *rule, sw_findings *findings,
                             sw_status *st)
{
    char *path = sw_path_join(r->out, a->name, st);
    sw_buf why = SW_BUF_INIT, ignored = SW_BUF_INIT;
    const sw_asset_copy how = { rule, PIECE, false, &ignored };

    if (path && !sw_check_cancel(r->opt->cancel, st) && !sw_asset_compare(a, path, &how, &why, st) &&
        *why.data)
        sw_findings_add_hint(findings, a->name, NULL, why.data, hint_asset, st);
    sw_buf_release(&ignored);
    sw_buf_release(&why);
    free(path);
    return st->code;
}

sw_code sw_job_compare_assets(const sw_job *r, const sw_plain *t, sw_findings *findings, sw_status *st)
{
    const sw_assets_rule from = { r->in, r->opt->assets, r->out, t->found.index_name };
    sw_assets assets = SW_ASSETS_INIT;
    sw_buf ignored = SW_BUF_INIT;
    sw_config_rule rule;

    if (r->opt->no_assets || sw_config_rule_of(r->opt, &rule, st) ||
        sw_assets_list(&from, &ignored, &assets, st))
        goto out;
    for (size_t i = 0; i < assets.n && !st->code; i++)
        compare_asset(r, &assets.items[i], &rule, findings, st);
out:
    sw_assets_release(&assets);
    sw_buf_release(&ignored);
    return st->code;
}
