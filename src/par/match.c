/* A checkpoint's headers and index against what should be there; see match.h. */
#include "par/match.h"

#include <stdlib.h>
#include <string.h>

#include "dir/loadable.h"
#include "plan/dims.h"

typedef struct matcher {
    sw_match *m;
    const sw_catalog *there;
    sw_findings *findings;
    sw_buf text; /* of a finding */
    sw_status *st;
} matcher;

/* ---- saying it ------------------------------------------------------------------------------- */

/* Take what is in text as a finding. */
static void tell(matcher *k, const char *file, const char *tensor)
{
    if (!k->st->code)
        sw_findings_add(k->findings, file, tensor, k->text.data, k->st);
    k->text.len = 0;
}

/* "BF16 of shape [3, 4]" */
static void add_kind(matcher *k, const sw_catalog *c, const sw_tensor *t)
{
    char dims[SW_DIMS_TEXT];

    sw_buf_addf(&k->text, k->st, "%s of shape %s", sw_dtype_name((sw_dtype)t->dtype),
                sw_dims_text(sw_tensor_shape(c, t), t->ndim, dims, sizeof dims));
}

/* ---- where things are ------------------------------------------------------------------------ */

/* The file that holds a tensor of the target. The box of an empty one was given up. */
static const sw_file *file_of(const matcher *k, const sw_tensor *t)
{
    return &k->there->files[t->nboxes ? k->there->boxes[t->box0].file : t->file];
}

static bool is_unread(const matcher *k, const char *name)
{
    const sw_file *f = sw_catalog_find_file(k->there, name);

    return !f || f->broken;
}

/* May the tensor be in a file that cannot be read? There is a finding for that file already. */
static bool may_be_unread(const matcher *k, const char *tensor)
{
    const sw_find *t = &k->m->target->found;
    const sw_map_item *item = sw_map_find(&t->weight_map, tensor);

    if (item)
        return is_unread(k, item->text);
    for (uint32_t f = 0; !t->weight_map.n && f < k->there->nfiles; f++)
        if (k->there->files[f].broken)
            return true;
    return false;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void tell_missing(matcher *k, const sw_tensor *t)
{
    /* Of one that the index names more will be said. */
    if (may_be_unread(k, t->name) || sw_map_find(&k->m->target->found.weight_map, t->name))
        return;
    sw_buf_addf(&k->text, k->st, "is missing, the shards make it ");
    add_kind(k, &k->m->o->view, t);
    tell(k, NULL, t->name);
}

static bool same_kind(const sw_catalog *a, const sw_tensor *t, const sw_catalog *b, const sw_tensor *u)
{
    return t->dtype == u->dtype && t->ndim == u->ndim &&
           memcmp(sw_tensor_shape(a, t), sw_tensor_shape(b, u), t->ndim * sizeof(uint64_t)) == 0;
}

/* Empty tensors are in a box of a file, but their boxes were given up. */
static bool is_whole(const sw_tensor *t)
{
    return !t->broken && t->nreplicas == 0 && (t->nboxes == 1 || t->bytes == 0);
}

static void pair_output(matcher *k, uint32_t i)
{
    const sw_catalog *view = &k->m->o->view;
    const sw_tensor *t = &view->tensors[i], *u = sw_catalog_find_tensor(k->there, t->name);
    const sw_file *file;

    k->m->partners[i] = SW_NO_PARTNER;
    if (!u) {
        tell_missing(k, t);
        return;
    }
    file = file_of(k, u);
    if (!is_whole(u))
        return; /* why has been said */
    if (!same_kind(view, t, k->there, u)) {
        add_kind(k, k->there, u);
        sw_buf_addf(&k->text, k->st, ", expected ");
        add_kind(k, view, t);
        tell(k, file->name, t->name);
        return;
    }
    k->m->partners[i] = (uint32_t)(u - k->there->tensors);
    k->m->matched++;
}

/* Nothing is spared: what the shards do not make (a tied weight, a scale that was consumed, a name
 * before it was changed) is not written either, whatever map names it. */
static void find_extra(matcher *k)
{
    for (uint32_t i = 0; i < k->there->ntensors && !k->st->code; i++) {
        const sw_tensor *u = &k->there->tensors[i];
        const sw_file *file = file_of(k, u);

        if (sw_catalog_find_tensor(&k->m->o->view, u->name))
            continue;
        sw_buf_addf(&k->text, k->st, "is not among the tensors that the shards make");
        tell(k, file->name, u->name);
    }
}

static void check_layout(matcher *k)
{
    const sw_layout *l = k->m->layout;
    const char *index = k->m->target->found.index_name;

    if (!l)
        return;
    if (l->index_name && index && strcmp(l->index_name, index) != 0) {
        sw_buf_addf(&k->text, k->st, "is the index, expected %s", l->index_name);
        tell(k, index, NULL);
    }
    for (uint32_t f = 0; f < l->nfiles; f++) {
        for (uint32_t i = l->files[f].first; i < l->files[f].first + l->files[f].count; i++) {
            const sw_tensor *t = &k->m->o->view.tensors[l->order[i].tensor];
            const sw_tensor *u = sw_catalog_find_tensor(k->there, t->name);
            const sw_file *file = u ? file_of(k, u) : NULL;

            if (!file || strcmp(file->name, l->files[f].name) == 0)
                continue;
            sw_buf_addf(&k->text, k->st, "is in this file, expected in %s", l->files[f].name);
            tell(k, file->name, t->name);
        }
    }
}

/* ---- the index ------------------------------------------------------------------------------- */

static void check_map(matcher *k)
{
    const sw_find *t = &k->m->target->found;

    if (!t->index_name && k->m->layout && k->m->layout->index_name) {
        sw_buf_addf(&k->text, k->st, "the index is missing");
        tell(k, k->m->layout->index_name, NULL);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static void find_shards(matcher *k)
{
    for (uint32_t f = 0; f < k->there->nfiles; f++) {
        if (!k->there->files[f].sharded)
            continue;
        sw_buf_addf(&k->text, k->st, "carries DCP_SHARDING_INFO, as shards do");
        tell(k, k->there->files[f].name, NULL);
    }
}

/* What all loaders ask for, and what some do. */
static void ask_loaders(matcher *k)
{
    const sw_find *t = &k->m->target->found;
    sw_loadable_view view = { k->there, t->index_name, &t->weight_map,
                              t->index_name && !t->index_broken ? &t->totals : NULL, k->m->names };

    if (!k->st->code)
        sw_loadable_check(&view, k->findings, k->findings, k->st);
}

sw_code sw_match_tensors(sw_match *m, sw_findings *findings, sw_status *st)
{
    matcher k = { .m = m, .there = &m->target->c, .findings = findings, .st = st };

    for (uint32_t i = 0; i < m->o->view.ntensors && !st->code; i++)
        pair_output(&k, i);
    find_extra(&k);
    check_layout(&k);
    sw_buf_release(&k.text);
    return st->code;
}

sw_code sw_match_loaders(sw_match *m, sw_findings *findings, sw_status *st)
{
    matcher k = { .m = m, .there = &m->target->c, .findings = findings, .st = st };

    check_map(&k);
    find_shards(&k);
    ask_loaders(&k);
    sw_buf_release(&k.text);
    return st->code;
}
