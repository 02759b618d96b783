/* Choosing and renaming tensors; see naming.h. */
#include "plan/naming.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/sort.h"
#include "base/utf8.h"

#define LEFT_OUT UINT64_MAX

/* Globs of one option, and which of them have matched. */
typedef struct globs {
    const char *member; /* of sw_options */
    const char *const *list;
    size_t n;
    bool *hit;
} globs;

typedef struct work {
    const sw_catalog *c;
    globs include, exclude;
    const sw_name_rule *rules;
    size_t nrules;
    bool *hit;    /* of each rule */
    sw_buf name;  /* the one that is being changed */
    sw_buf pool;  /* all output names, a NUL behind each */
    uint64_t *at; /* where each tensor's begins; LEFT_OUT */
} work;

/* ---- what was asked for ---------------------------------------------------------------------- */

/* Count the globs of an option. */
static sw_code globs_init(globs *g, const char *member, const char *const *list, sw_status *st)
{
    *g = (globs){ .member = member, .list = list };
    while (list && list[g->n])
        g->n++;
    g->hit = sw_calloc(g->n, sizeof *g->hit, st);
    return st->code;
}

/* For messages. */
static const char *kind_of(const sw_name_rule *r)
{
    return r->kind == SW_NAME_STRIP ? "SW_NAME_STRIP" : "SW_NAME_RENAME";
}

/* What comes in the place of a prefix. */
static const char *replacement(const sw_name_rule *r)
{
    return r->kind == SW_NAME_RENAME && r->to ? r->to : "";
}

/* What stands between two characters of UTF-8 leaves UTF-8 on both sides, so the names stay
 * valid. */
static sw_code check_rule(const sw_name_rule *r, sw_status *st)
{
    const char *to = replacement(r);

    if (r->kind == SW_NAME_STRIP && !r->from[0])
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "SW_NAME_STRIP '': expected a prefix");
    if (sw_utf8_invalid(r->from, strlen(r->from)) || sw_utf8_invalid(to, strlen(to)))
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%s '%s': found bytes that are not UTF-8", kind_of(r),
                       r->from);
    return SW_OK;
}

/* Take what was asked for, once it is checked. */
static sw_code work_init(work *w, const sw_catalog *c, const sw_name_options *o, sw_status *st)
{
    *w = (work){ .c = c, .rules = o->rules, .nrules = o->nrules };
    for (size_t i = 0; i < o->nrules; i++)
        if (check_rule(&o->rules[i], st))
            return st->code;
    if (globs_init(&w->include, "include", o->include, st) ||
        globs_init(&w->exclude, "exclude", o->exclude, st))
        return st->code;
    w->hit = sw_calloc(o->nrules, sizeof *w->hit, st);
    w->at = sw_calloc(c->ntensors, sizeof *w->at, st);
    return st->code;
}

/* All but what sw_naming takes over. */
static void work_release(work *w)
{
    free(w->include.hit);
    free(w->exclude.hit);
    free(w->hit);
    free(w->at);
    sw_buf_release(&w->name);
    sw_buf_release(&w->pool);
}

/* ---- one name -------------------------------------------------------------------------------- */

/* Globs that have not matched yet are tried even where another one does, so that each knows whether
 * it is of use. */
static sw_code match_any(globs *g, const char *name, bool *any, sw_status *st)
{
    *any = false;
    for (size_t i = 0; i < g->n; i++) {
        int r = *any && g->hit[i] ? FNM_NOMATCH : fnmatch(g->list[i], name, 0);

        if (r == 0)
            *any = g->hit[i] = true;
        else if (r != FNM_NOMATCH)
            return sw_fail(st, SW_EUSAGE, NULL, name, "sw_options.%s '%s' cannot be matched with it",
                           g->member, g->list[i]);
    }
    return SW_OK;
}

/* Included, and not excluded. */
static sw_code is_chosen(work *w, const char *name, bool *chosen, sw_status *st)
{
    bool in, out;

    if (match_any(&w->include, name, &in, st) || match_any(&w->exclude, name, &out, st))
        return st->code;
    *chosen = (in || w->include.n == 0) && !out;
    return SW_OK;
}

/* Put `to` where the name begins with `from`. */
static sw_code apply_rule(const sw_name_rule *r, sw_buf *name, bool *hit, sw_status *st)
{
    const char *to = replacement(r);
    size_t nfrom = strlen(r->from), nto = strlen(to);

    if (name->len < nfrom || memcmp(name->data, r->from, nfrom) != 0)
        return SW_OK;
    *hit = true;
    if (sw_buf_reserve(name, nto, st))
        return st->code;
    memmove(name->data + nto, name->data + nfrom, name->len - nfrom);
    memcpy(name->data, to, nto);
    name->len = name->len - nfrom + nto;
    return SW_OK;
}

/* A name that a tensor may have. */
static sw_code check_new_name(const sw_buf *name, const char *was, sw_status *st)
{
    if (name->len == 0)
        return sw_fail(st, SW_EUSAGE, NULL, was,
                       "SW_NAME_STRIP and SW_NAME_RENAME leave nothing of its name");
    if (sw_text_is(name->data, name->len, SW_METADATA_KEY))
        return sw_fail(st, SW_EUSAGE, NULL, was,
                       "SW_NAME_STRIP and SW_NAME_RENAME make its name " SW_METADATA_KEY
                       ", which no tensor can have");
    return SW_OK;
}

/* The output name of one tensor into the pool. */
static sw_code add_name(work *w, const char *was, sw_status *st)
{
    bool changed = false;

    w->name.len = 0;
    if (sw_buf_reserve(&w->name, 1, st) || sw_buf_add(&w->name, was, strlen(was), st))
        return st->code;
    for (size_t i = 0; i < w->nrules; i++) {
        bool hit = false;

        if (apply_rule(&w->rules[i], &w->name, &hit, st))
            return st->code;
        w->hit[i] = w->hit[i] || hit;
        changed = changed || hit;
    }
    if (changed && check_new_name(&w->name, was, st))
        return st->code;
    if (sw_buf_add(&w->pool, w->name.data, w->name.len, st))
        return st->code;
    return sw_buf_add(&w->pool, "", 1, st);
}

/* Output names of all tensors that are chosen. */
static sw_code name_all(work *w, sw_naming *out, sw_status *st)
{
    bool chosen = false;

    for (uint32_t i = 0; i < w->c->ntensors; i++) {
        const char *was = w->c->tensors[i].name;

        if (is_chosen(w, was, &chosen, st))
            return st->code;
        w->at[i] = chosen ? w->pool.len : LEFT_OUT;
        if (chosen && add_name(w, was, st))
            return st->code;
        out->kept += chosen;
    }
    out->n = w->c->ntensors;
    out->names = sw_calloc(out->n, sizeof *out->names, st);
    for (uint32_t i = 0; out->names && i < out->n; i++)
        out->names[i] = w->at[i] == LEFT_OUT ? NULL : w->pool.data + w->at[i];
    return st->code;
}

/* ---- all names ------------------------------------------------------------------------------- */

typedef struct named {
    const char *name;
    uint32_t tensor;
} named;

/* For qsort; equal names by tensor. */
static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* No two tensors get one name. */
static sw_code check_collisions(const sw_catalog *c, const sw_naming *n, sw_status *st)
{
    named *all = sw_calloc(n->kept, sizeof *all, st);
    uint32_t k = 0;

    for (uint32_t i = 0; all && i < n->n; i++)
        if (n->names[i])
            all[k++] = (named){ n->names[i], i };
    sw_sort(all, k, sizeof *all, by_name);
    for (uint32_t i = 1; i < k && !st->code; i++)
        if (strcmp(all[i - 1].name, all[i].name) == 0)
            sw_fail(st, SW_EUSAGE, NULL, all[i].name,
                    "SW_NAME_STRIP and SW_NAME_RENAME give this name to two tensors, '%s' and '%s'",
                    c->tensors[all[i - 1].tensor].name, c->tensors[all[i].tensor].name);
    free(all);
    return st->code;
}

size_t sw_naming_wrapper(const sw_naming *n, const char **prefix)
{
    static const char *const words[] = { "_orig_mod.", "module." };
    const char *first = NULL;
    size_t len = 0;

    for (uint32_t i = 0; i < n->n && !first; i++)
        first = n->names[i];
    if (prefix)
        *prefix = first;
    for (size_t w = 0; first && w < sizeof words / sizeof *words; w++) {
        size_t more = strlen(words[w]);
        bool all = true;

        /* All names are equal up to len, so none is shorter. */
        for (uint32_t i = 0; i < n->n && all; i++)
            all =
                !n->names[i] || (strncmp(n->names[i] + len, words[w], more) == 0 && n->names[i][len + more]);
        if (all) {
            len += more;
            w = SIZE_MAX; /* from the first word again */
        }
    }
    return len;
}

/* Globs that are of no use. */
static sw_code warn_globs(const globs *g, const sw_catalog *c, sw_buf *warnings, sw_status *st)
{
    char said[SW_NEAREST_TEXT];

    for (size_t i = 0; i < g->n && !st->code; i++)
        if (!g->hit[i])
            sw_buf_add_line(warnings, st, "sw_options.%s '%s' matches no tensor%s", g->member, g->list[i],
                            sw_catalog_nearest(c, g->list[i], said));
    return st->code;
}

/* What was asked for in vain, and what was probably forgotten. */
static sw_code warn(const work *w, const sw_naming *n, sw_buf *warnings, sw_status *st)
{
    const char *prefix;
    size_t len = sw_naming_wrapper(n, &prefix);

    if (w->c->ntensors == 0 || warn_globs(&w->include, w->c, warnings, st) ||
        warn_globs(&w->exclude, w->c, warnings, st))
        return st->code;
    for (size_t i = 0; i < w->nrules && !st->code; i++)
        if (!w->hit[i])
            sw_buf_add_line(warnings, st, "%s '%s' is the beginning of no tensor's name",
                            kind_of(&w->rules[i]), w->rules[i].from);
    if (len && !st->code)
        sw_buf_addf(
            warnings, st,
            "all names begin with '%.*s', which models do not expect: SW_NAME_STRIP %.*s takes it off\n",
            (int)len, prefix, (int)len, prefix);
    return st->code;
}

/* ---- the interface --------------------------------------------------------------------------- */

sw_code sw_naming_build(const sw_catalog *c, const sw_name_options *o, sw_buf *warnings, sw_naming *out,
                        sw_status *st)
{
    static const sw_name_options all = { 0 };
    work w;

    *out = (sw_naming){ 0 };
    if (work_init(&w, c, o ? o : &all, st) || name_all(&w, out, st))
        goto out;
    if (c->ntensors && !out->kept) {
        sw_fail(st, SW_EUSAGE, NULL, NULL,
                "sw_options.include and sw_options.exclude leave none of %" PRIu32 " tensors", c->ntensors);
        goto out;
    }
    if (w.nrules && check_collisions(c, out, st))
        goto out;
    if (!warn(&w, out, warnings, st)) {
        out->pool = w.pool.data; /* handed over */
        w.pool = (sw_buf)SW_BUF_INIT;
    }
out:
    work_release(&w);
    if (st->code)
        sw_naming_release(out);
    return st->code;
}

void sw_naming_release(sw_naming *n)
{
    free(n->names);
    free(n->pool);
    *n = (sw_naming){ 0 };
}
