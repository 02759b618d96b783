/* Which output file holds which whole tensor; see layout_whole.h.
 *
 * A rule gives each tensor a file: a number, or the index of a name. Every rank does it on the
 * whole catalogue, so it must stay near-linear: there may be millions of tensors. */
#include "plan/layout_whole.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "format/filenames.h"

#define UNUSED_SHOWN 10
#define WEIGHTS_SUFFIX ".safetensors"
#define NUMBERED_NAME "%smodel-%05" PRIu64 "-of-%05" PRIu64 WEIGHTS_SUFFIX

/* The files that tensors are placed into; which one holds a tensor is its slot's key. */
typedef struct placement {
    sw_slot *order;     /* of the layout: one for each tensor of the catalogue, in its order */
    const char **names; /* of files, sorted; NULL where files have numbers */
    uint32_t nnames;
    uint64_t largest;  /* the n of model-j-of-n; 0 = the one file is model.safetensors */
    const char *index; /* name of the index; NULL = none */
    bool diffusers, diffusers_index;
} placement;

/* The name of an index that nobody named. */
static const char *usual_index(const placement *p)
{
    return p->diffusers || p->diffusers_index ? SW_DIFFUSERS_INDEX_NAME : SW_INDEX_NAME;
}

/* ---- place ----------------------------------------------------------------------------------- */

/* The map names what no shard holds. */
static sw_code note_unused(sw_layout *l, const char *fqn, sw_status *st)
{
    if (l->unused++ >= UNUSED_SHOWN)
        return SW_OK;
    return sw_buf_addf(&l->unused_names, st, "%s%s", l->unused_names.len ? ", " : "", fqn);
}

/* The map lacks a tensor: perhaps it has the name wrong, and then that name is one of those in it
 * that no tensor has. */
static sw_code fail_unnamed(const sw_catalog *c, const sw_layout_rule *rule, const char *name, sw_status *st)
{
    const sw_map *map = rule->map;
    const char **others = sw_calloc(map->n, sizeof *others, st), *near;
    sw_buf words = SW_BUF_INIT;
    size_t n = 0;

    for (size_t m = 0; others && m < map->n; m++)
        if (!sw_catalog_find_tensor(c, map->items[m].key))
            others[n++] = map->items[m].key;
    near = others ? sw_text_nearest(name, others, n) : NULL;
    for (size_t i = 0; i < n && i < UNUSED_SHOWN && !st->code; i++)
        sw_buf_addf(&words, st, "%s'%.64s'", i ? ", " : "", others[i]);
    if (!st->code)
        sw_fail(st, SW_EINPUT, rule->map_file, name,
                "the shards hold this tensor, but the map does not name it%s%.256s%s%s%.*s%s",
                near ? "; its nearest name is '" : "", near ? near : "", near ? "'" : "",
                n ? "; no tensor has these names of the map: " : "", (int)words.len,
                words.data ? words.data : "", n > UNUSED_SHOWN ? ", ..." : "");
    sw_buf_release(&words);
    free(others);
    return st->code;
}

/* Find each tensor in the map: the key of its slot becomes the number of its item. Both are sorted
 * by name, so one walk along both does it. */
static sw_code match_map(const sw_catalog *c, const sw_layout_rule *rule, sw_slot *order, sw_layout *l,
                         sw_status *st)
{
    const sw_map *map = rule->map;
    size_t m = 0;

    for (uint32_t t = 0; t < c->ntensors; t++) {
        const char *name = c->tensors[t].name;
        int cmp = -1;

        for (; m < map->n && (cmp = strcmp(map->items[m].key, name)) < 0; m++)
            if (note_unused(l, map->items[m].key, st))
                return st->code;
        if (m == map->n || cmp != 0)
            return fail_unnamed(c, rule, name, st);
        order[t].begin = m++;
    }
    for (; m < map->n; m++)
        if (note_unused(l, map->items[m].key, st))
            return st->code;
    return SW_OK;
}

/* The numbers that the map has. */
static void place_by_number(const sw_catalog *c, const sw_layout_rule *rule, placement *p)
{
    const sw_map *map = rule->map;

    p->largest = sw_max(rule->largest, sw_map_largest(map));
    for (uint32_t t = 0; t < c->ntensors; t++)
        p->order[t].begin = map->items[p->order[t].begin].number;
    p->index = usual_index(p);
}

/* The index of a name of len bytes among sorted names; n when it is not there. */
static uint32_t find_name(const char *const *names, uint32_t n, const char *name, size_t len)
{
    sw_search s = { .end = n };

    while (sw_search_on(&s))
        sw_search_tell(&s, strncmp(names[s.mid], name, len) < 0);
    return s.at < n && strncmp(names[s.at], name, len) == 0 && !names[s.at][len] ? (uint32_t)s.at : n;
}

/* Fit to be made below OUTPUT_DIR, away from the hidden staging directory. */
static sw_code check_name(const char *name, const char *map_file, sw_status *st)
{
    if (!sw_name_is_below(name))
        return sw_fail(st, SW_EINPUT, map_file, NULL, "file name '%s' would leave the output directory",
                       name);
    if (name[0] == '.' || strstr(name, "/."))
        return sw_fail(st, SW_EINPUT, map_file, NULL, "file name '%s' has a part that begins with a dot",
                       name);
    return SW_OK;
}

/* A name cannot be a file and a directory. */
static sw_code fail_clash(const char *a, const char *b, const char *map_file, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, map_file, NULL, "file names '%s' and '%s' exclude each other", a, b);
}

/* No directory on the way to name may have the name of a weight file or of the index. */
static sw_code check_parents(const placement *p, const char *name, const char *map_file, sw_status *st)
{
    for (const char *cut = strchr(name, '/'); cut; cut = strchr(cut + 1, '/')) {
        size_t len = (size_t)(cut - name);
        uint32_t parent = find_name(p->names, p->nnames, name, len);

        if (parent < p->nnames)
            return fail_clash(p->names[parent], name, map_file, st);
        if (find_name(&p->index, 1, name, len) == 0)
            return fail_clash(p->index, name, map_file, st);
    }
    return SW_OK;
}

/* File names of a map: fit, and none in the way of another one. */
static sw_code check_names(const placement *p, const char *map_file, sw_status *st)
{
    uint32_t same = find_name(p->names, p->nnames, p->index, strlen(p->index));

    if (check_name(p->index, map_file, st) || check_parents(p, p->index, map_file, st))
        return st->code;
    if (same < p->nnames)
        return fail_clash(p->names[same], p->index, map_file, st);
    for (uint32_t i = 0; i < p->nnames; i++) {
        const char *name = p->names[i];

        if (check_name(name, map_file, st) || check_parents(p, name, map_file, st))
            return st->code;
        if (!sw_name_ends_with(name, WEIGHTS_SUFFIX))
            return sw_fail(st, SW_EINPUT, map_file, NULL, "file name '%s' does not end in " WEIGHTS_SUFFIX,
                           name);
    }
    return SW_OK;
}

/* The files that the map names, in the order of their names. */
static sw_code place_by_name(const sw_catalog *c, const sw_layout_rule *rule, placement *p, sw_status *st)
{
    const sw_map_item *items = rule->map->items;

    p->index = rule->index_name ? rule->index_name : usual_index(p);
    p->names = sw_calloc(c->ntensors, sizeof *p->names, st);
    if (!p->names)
        return st->code;
    for (uint32_t t = 0; t < c->ntensors; t++)
        p->names[t] = items[p->order[t].begin].text;
    p->nnames = (uint32_t)sw_sort_once(p->names, c->ntensors);
    for (uint32_t t = 0; t < c->ntensors; t++) {
        const char *name = items[p->order[t].begin].text;

        p->order[t].begin = find_name(p->names, p->nnames, name, strlen(name));
    }
    return check_names(p, rule->map_file, st);
}

/* The shards' own numbers. n is what their names say: torch takes it from the map of the save,
 * whose last files may have had no tensor. */
static sw_code place_by_model(const sw_catalog *c, placement *p, sw_status *st)
{
    for (uint32_t t = 0; t < c->ntensors; t++) {
        if (c->tensors[t].model == 0)
            return sw_fail(st, SW_EINPUT, NULL, c->tensors[t].name,
                           "found in no or several model files, expected one to take its number from");
        p->order[t].begin = c->tensors[t].model;
        p->largest = sw_max(p->largest, c->tensors[t].model);
    }
    for (uint32_t f = 0; f < c->nfiles; f++)
        p->largest = sw_max(p->largest, c->files[f].number.of);
    p->index = usual_index(p);
    return SW_OK;
}

/* Compare the runs of digits at *a and *b by value, however long, and step over them. */
static int compare_digits(const char **a, const char **b)
{
    const char *x, *y;
    size_t n, m;
    int order;

    x = *a + strspn(*a, "0");
    y = *b + strspn(*b, "0");
    n = strspn(x, "0123456789");
    m = strspn(y, "0123456789");
    order = n != m ? (n < m ? -1 : 1) : strncmp(x, y, n);
    *a = x + n;
    *b = y + m;
    return order;
}

/* layers.9 before layers.10. Names that differ in leading zeros only are told apart by their
 * bytes. */
static int compare_natural(const char *a, const char *b)
{
    const char *x = a, *y = b;

    while (*x && *y) {
        int order;

        if (isdigit((unsigned char)*x) && isdigit((unsigned char)*y))
            order = compare_digits(&x, &y);
        else
            order = (unsigned char)*x++ - (unsigned char)*y++;
        if (order)
            return order;
    }
    if (*x || *y)
        return *x ? 1 : -1;
    return strcmp(a, b);
}

/* qsort has no room for the catalogue, so it sorts pointers to the tensors themselves. */
static int compare_tensors_natural(const void *a, const void *b)
{
    const sw_tensor *const *x = a, *const *y = b;

    return compare_natural((*x)->name, (*y)->name);
}

/* The open file: those of sorted[first..end) that have no number yet (the others were over the
 * limit). */
static void close_file(const sw_catalog *c, const sw_tensor *const *sorted, uint32_t first, uint32_t end,
                       uint32_t number, sw_slot *order)
{
    for (uint32_t i = first; i < end; i++) {
        sw_slot *slot = &order[sorted[i] - c->tensors];

        if (slot->begin == 0)
            slot->begin = number;
    }
}

/* Fill files in turn, numbered from 1. A tensor over the limit gets a file at once, before the one
 * that is still open gets its number: so huggingface_hub numbers them. Returns the number of
 * files. */
static uint32_t fill_files(const sw_catalog *c, const sw_tensor *const *sorted, const sw_layout_rule *rule,
                           sw_slot *order)
{
    uint64_t limit = rule->max_size;
    uint32_t files = 0, first = 0;
    uint64_t open_size = 0;
    /* a tensor is in the open file; it may be empty, so that the size does not tell */
    bool open = false;

    for (uint32_t i = 0; i < c->ntensors; i++) {
        sw_tensor t = *sorted[i];
        uint64_t size;

        if (rule->dtypes)
            t.out_dtype = rule->dtypes[sorted[i] - c->tensors];
        size = sw_tensor_out_bytes(c, &t);
        if (size > limit) {
            order[sorted[i] - c->tensors].begin = ++files;
            continue;
        }
        if (size > limit - open_size) {
            close_file(c, sorted, first, i, ++files, order);
            first = i;
            open_size = 0;
        }
        open = true;
        open_size += size;
    }
    if (open)
        close_file(c, sorted, first, c->ntensors, ++files, order);
    return files;
}

/* As huggingface_hub splits: in the natural order of the names. */
static sw_code place_by_size(const sw_catalog *c, const sw_layout_rule *rule, placement *p, sw_status *st)
{
    const sw_tensor **sorted = sw_calloc(c->ntensors, sizeof *sorted, st);

    if (!sorted)
        return st->code;
    for (uint32_t t = 0; t < c->ntensors; t++)
        sorted[t] = &c->tensors[t];
    qsort(sorted, c->ntensors, sizeof *sorted, compare_tensors_natural);
    p->largest = fill_files(c, sorted, rule, p->order);
    if (p->largest <= 1)
        p->largest = 0;
    else
        p->index = usual_index(p);
    free(sorted);
    return SW_OK;
}

/* Give each slot the key of its file. */
static sw_code place(const sw_catalog *c, const sw_layout_rule *rule, placement *p, sw_layout *l,
                     sw_status *st)
{
    switch (rule->kind) {
    case SW_LAYOUT_NUMBERS:
        if (!match_map(c, rule, p->order, l, st))
            place_by_number(c, rule, p);
        return st->code;
    case SW_LAYOUT_NAMES:
        return match_map(c, rule, p->order, l, st) ? st->code : place_by_name(c, rule, p, st);
    case SW_LAYOUT_MODELS:
        return place_by_model(c, p, st);
    case SW_LAYOUT_SIZE:
        return place_by_size(c, rule, p, st);
    case SW_LAYOUT_SINGLE:
        break; /* all in file 0, without number and index */
    }
    return SW_OK;
}

/* What the file of a key is called. */
static char *file_name(void *ctx, uint64_t key, sw_status *st)
{
    const placement *p = ctx;
    sw_buf name = SW_BUF_INIT;

    if (p->names)
        return sw_strdup(p->names[key], st);
    if (p->largest == 0)
        sw_buf_addf(&name, st, "%s" SW_SINGLE_NAME, p->diffusers ? SW_DIFFUSERS_STEM : "");
    else
        sw_buf_addf(&name, st, NUMBERED_NAME, p->diffusers ? SW_DIFFUSERS_STEM : "", key, p->largest);
    if (st->code)
        sw_buf_release(&name);
    return name.data;
}

sw_code sw_layout_build(const sw_catalog *c, const sw_layout_rule *rule, sw_layout *out, sw_status *st)
{
    sw_layout l = { .nslots = c->ntensors };
    placement p = { .diffusers = rule->diffusers, .diffusers_index = rule->diffusers_index };

    *out = (sw_layout){ 0 };
    p.order = l.order = sw_calloc(c->ntensors, sizeof *l.order, st);
    for (uint32_t t = 0; l.order && t < c->ntensors; t++)
        l.order[t].tensor = t;
    if (!l.order || place(c, rule, &p, &l, st) || (p.index && !(l.index_name = sw_strdup(p.index, st))) ||
        sw_layout_arrange(c, &l, file_name, &p, st) || sw_layout_measure(c, &l, st))
        goto out;
    *out = l;
    l = (sw_layout){ 0 }; /* handed over */
out:
    free(p.names);
    sw_layout_release(&l);
    return st->code;
}
