/* A checkpoint's headers and index against what should be there; see match.h. */
#include "dir/match.h"

#include <stdio.h>
#include <string.h>

#include "dir/pitfalls.h"
#include "plan/dims.h"

/* ---- tensors --------------------------------------------------------------------------------- */

/* May a tensor that is missed be in a file that cannot be read? There is a finding for that file
 * already; and of one that the index names more will be said. */
static bool is_told_of(const sw_match *m, const char *tensor)
{
    return m->found->weight_map.n ? sw_map_find(&m->found->weight_map, tensor) != NULL
                                  : sw_catalog_is_broken(m->there);
}

/* Of equal dtype and shape? */
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

/* Both are of one kind: they are compared. */
static void pair(sw_match *m, uint32_t i, const sw_tensor *u)
{
    m->partners[i] = (uint32_t)(u - m->there->tensors);
    m->matched++;
}

/* The partner of output i, or what is wrong with the tensor of its name. */
static void pair_output(sw_match *m, uint32_t i, sw_findings *findings, sw_status *st)
{
    const sw_catalog *view = &m->o->view;
    const sw_tensor *t = &view->tensors[i], *u = sw_catalog_find_tensor(m->there, t->name);
    char is[SW_KIND_TEXT], want[SW_KIND_TEXT];

    m->partners[i] = SW_NO_PARTNER;
    if (!u) {
        if (!is_told_of(m, t->name))
            sw_findings_add(findings, NULL, t->name, NULL, st, "is missing, the shards make it %s",
                            sw_tensor_text(view, t, want));
    } else if (!is_whole(u)) {
        return; /* why has been said */
    } else if (!same_kind(view, t, m->there, u)) {
        sw_findings_add(findings, sw_tensor_file(m->there, u), t->name, NULL, st, "%s, expected %s",
                        sw_tensor_text(m->there, u, is), sw_tensor_text(view, t, want));
    } else {
        pair(m, i, u);
    }
}

/* Is each tensor in the file that the layout says? */
static void check_layout(const sw_match *m, sw_findings *findings, sw_status *st)
{
    const sw_layout *l = m->layout;
    const char *index = m->found->index_name;

    if (l->index_name && index && strcmp(l->index_name, index) != 0)
        sw_findings_add(findings, index, NULL, NULL, st, "is the index, expected %s", l->index_name);
    for (uint32_t f = 0; f < l->nfiles; f++) {
        for (uint32_t i = l->files[f].first; i < l->files[f].first + l->files[f].count && !st->code; i++) {
            const char *name = m->o->view.tensors[l->order[i].tensor].name;
            const sw_tensor *u = sw_catalog_find_tensor(m->there, name);

            if (u && strcmp(sw_tensor_file(m->there, u), l->files[f].name) != 0)
                sw_findings_add(findings, sw_tensor_file(m->there, u), name, NULL, st,
                                "is in this file, expected in %s", l->files[f].name);
        }
    }
}

sw_code sw_match_tensors(sw_match *m, sw_findings *findings, sw_status *st)
{
    for (uint32_t i = 0; i < m->o->view.ntensors && !st->code; i++)
        pair_output(m, i, findings, st);
    /* Nothing is spared: what the shards do not make (a tied weight, a scale that was consumed, a
     * name before it was changed) is not written either, whatever map names it. */
    for (uint32_t i = 0; i < m->there->ntensors && !st->code; i++) {
        const sw_tensor *u = &m->there->tensors[i];

        if (!sw_catalog_find_tensor(&m->o->view, u->name))
            sw_findings_add(findings, sw_tensor_file(m->there, u), u->name, NULL, st,
                            "is not among the tensors that the shards make");
    }
    if (m->layout && !st->code)
        check_layout(m, findings, st);
    return st->code;
}

/* Of one file by itself: are parts of a tensor in others? None of its boxes overlap. */
static bool lacks_parts(const sw_catalog *c, const sw_tensor *t)
{
    uint64_t held = 0, n;
    sw_placed b;

    for (uint64_t k = 0; c->part && k < t->nboxes; k++)
        held += sw_dims_product(sw_box_get(c, t, k, &b)->shape, t->ndim, &n) ? n : 0;
    return c->part && held < t->elements;
}

/* The same of all that output i is made of. */
static bool lacks_sources(const sw_outputs *o, uint32_t i)
{
    const sw_output *how = &o->how[i];
    bool scaled = how->op == SW_OP_SCALED || how->op == SW_OP_MXFP4;

    return lacks_parts(o->c, &o->c->tensors[how->source]) ||
           (scaled && lacks_parts(o->c, &o->c->tensors[how->scale]));
}

sw_code sw_match_any(sw_match *m, char *const *chosen, sw_findings *findings, sw_status *st)
{
    const sw_catalog *a = &m->o->view, *b = m->there;
    char in_a[SW_KIND_TEXT], in_b[SW_KIND_TEXT];

    for (uint32_t i = 0; i < a->ntensors && !st->code; i++) {
        const sw_tensor *t = &a->tensors[i], *u = sw_catalog_find_tensor(b, t->name);

        m->partners[i] = SW_NO_PARTNER;
        if (!u || !chosen[u - b->tensors]) {
            sw_findings_add(findings, NULL, t->name, NULL, st, "is only in A: %s",
                            sw_tensor_text(a, t, in_a));
        } else if (!same_kind(a, t, b, u)) {
            sw_findings_add(findings, NULL, t->name, NULL, st, "is %s in A, %s in B",
                            sw_tensor_text(a, t, in_a), sw_tensor_text(b, u, in_b));
        } else if (lacks_sources(m->o, i) || lacks_parts(b, u)) {
            sw_findings_add(findings, NULL, t->name, NULL, st,
                            "is not all in %s: other files have parts of it", lacks_parts(b, u) ? "B" : "A");
        } else {
            pair(m, i, u);
        }
    }
    for (uint32_t i = 0; i < b->ntensors && !st->code; i++)
        if (chosen[i] && !sw_catalog_find_tensor(a, b->tensors[i].name))
            sw_findings_add(findings, NULL, b->tensors[i].name, NULL, st, "is only in B: %s",
                            sw_tensor_text(b, &b->tensors[i], in_b));
    return st->code;
}

/* ---- loaders --------------------------------------------------------------------------------- */

sw_code sw_match_loaders(const sw_match *m, const sw_dir *names, sw_findings *findings, sw_status *st)
{
    if (!m->found->index_name && m->layout && m->layout->index_name)
        sw_findings_add(findings, m->layout->index_name, NULL, NULL, st, "the index is missing");
    for (uint32_t f = 0; f < m->there->nfiles && !st->code; f++)
        if (m->there->files[f].sharded)
            sw_findings_add(findings, sw_file_name(&m->there->files[f]), NULL, NULL, st,
                            "carries DCP_SHARDING_INFO, as shards do");
    return st->code ? st->code : sw_pitfalls_find(m->there, m->found, names, findings, findings, st);
}
