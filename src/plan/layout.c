/* Which output file holds which tensor, and where; see layout.h.
 *
 * Three steps: place (a rule gives each tensor a file), arrange (sort by file, dtype, name; cut
 * into files), measure (data ranges, then header texts, whose lengths depend on them). Every rank
 * does all of it on the whole catalogue, so it must stay near-linear: there may be millions of
 * tensors. */
#include "plan/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "plan/serialize.h"

#define UNUSED_SHOWN 10
#define WEIGHTS_SUFFIX ".safetensors"
#define NUMBERED_NAME "%smodel-%05" PRIu64 "-of-%05" PRIu64 WEIGHTS_SUFFIX

/* What a tensor is sorted by. Tensors are numbered by name, so their numbers stand for their
 * names. */
typedef struct placed {
    uint32_t file; /* a number, or an index into names */
    uint32_t tensor;
    uint8_t dtype;
} placed;

/* Where the tensors go. */
typedef struct placement {
    placed *tensors;    /* one for each tensor of the catalogue */
    const char **names; /* of files, sorted; NULL where files have numbers */
    uint32_t nnames;
    uint64_t largest;  /* the n of model-j-of-n; 0 = the one file is model.safetensors */
    const char *index; /* name of the index; NULL = none */
    bool diffusers, diffusers_index;
} placement;

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Elements of a tensor; false when they do not fit. A size of 0 anywhere makes it 0. */
static bool tensor_elements(const sw_catalog *c, const sw_tensor *t, uint64_t *elements)
{
    const uint64_t *shape = sw_tensor_shape(c, t);
    bool fits = true;

    *elements = 1;
    for (unsigned d = 0; d < t->ndim; d++) {
        if (shape[d] == 0) {
            *elements = 0;
            return true;
        }
        fits = fits && sw_mul(*elements, shape[d], elements);
    }
    return fits;
}

uint64_t sw_tensor_out_bytes(const sw_catalog *c, const sw_tensor *t)
{
    uint64_t bits = sw_dtype_bits((sw_dtype)t->out_dtype), elements, bytes;

    /* Elements of 4 and 6 bits fill whole bytes together; eight elements always do. */
    if (!tensor_elements(c, t, &elements) || !sw_mul(elements / 8, bits, &bytes) ||
        !sw_add(bytes, elements % 8 * bits / 8, &bytes))
        return UINT64_MAX;
    return bytes;
}

static const char *usual_index(const placement *p)
{
    return p->diffusers || p->diffusers_index ? SW_DIFFUSERS_INDEX_NAME : SW_INDEX_NAME;
}

/* ---- place ----------------------------------------------------------------------------------- */

static sw_code note_unused(sw_layout *l, const char *fqn, sw_status *st)
{
    if (l->unused++ >= UNUSED_SHOWN)
        return SW_OK;
    return sw_buf_addf(&l->unused_names, st, "%s%s", l->unused_names.len ? ", " : "", fqn);
}

/* Find each tensor in the map: item_of[tensor] = its item. Both are sorted by name, so one walk
 * along both does it. */
static sw_code match_map(const sw_catalog *c, const sw_layout_rule *rule, size_t *item_of, sw_layout *l,
                         sw_status *st)
{
    const sw_map *map = rule->map;
    size_t m = 0;

    for (uint32_t t = 0; t < c->ntensors; t++) {
        const char *name = c->tensors[t].name;
        int order = -1;

        for (; m < map->n && (order = strcmp(map->items[m].key, name)) < 0; m++)
            if (note_unused(l, map->items[m].key, st))
                return st->code;
        if (m == map->n || order != 0)
            return sw_fail(st, SW_EINPUT, rule->map_file, name,
                           "the shards hold this tensor, but the map does not name it");
        item_of[t] = m++;
    }
    for (; m < map->n; m++)
        if (note_unused(l, map->items[m].key, st))
            return st->code;
    return SW_OK;
}

static void place_by_number(const sw_catalog *c, const sw_layout_rule *rule, const size_t *item_of,
                            placement *p)
{
    const sw_map *map = rule->map;

    p->largest = rule->largest;
    for (uint32_t t = 0; t < c->ntensors; t++)
        p->tensors[t].file = (uint32_t)map->items[item_of[t]].number;
    for (size_t m = 0; m < map->n; m++)
        p->largest = sw_max(p->largest, map->items[m].number);
    p->index = usual_index(p);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sort, and leave each name once. */
static uint32_t unique_names(const char **names, uint32_t n)
{
    uint32_t kept = 0;

    qsort(names, n, sizeof *names, compare_names);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    return kept;
}

/* The index of a name of len bytes among sorted names; n when it is not there. */
static uint32_t find_name(const char *const *names, uint32_t n, const char *name, size_t len)
{
    uint32_t low = 0, high = n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strncmp(names[middle], name, len);

        if (order == 0 && names[middle][len] == '\0')
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return n;
}

static bool has_hidden_part(const char *name)
{
    return name[0] == '.' || strstr(name, "/.");
}

/* Fit to be made below OUTPUT_DIR, away from the hidden staging directory. */
static sw_code check_name(const char *name, const char *map_file, sw_status *st)
{
    if (!sw_name_is_below(name))
        return sw_fail(st, SW_EINPUT, map_file, NULL, "file name '%s' would leave the output directory",
                       name);
    if (has_hidden_part(name))
        return sw_fail(st, SW_EINPUT, map_file, NULL, "file name '%s' has a part that begins with a dot",
                       name);
    return SW_OK;
}

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

static sw_code place_by_name(const sw_catalog *c, const sw_layout_rule *rule, const size_t *item_of,
                             placement *p, sw_status *st)
{
    const sw_map_item *items = rule->map->items;

    p->index = rule->index_name ? rule->index_name : usual_index(p);
    p->names = sw_calloc(c->ntensors, sizeof *p->names, st);
    if (!p->names)
        return st->code;
    for (uint32_t t = 0; t < c->ntensors; t++)
        p->names[t] = items[item_of[t]].text;
    p->nnames = unique_names(p->names, c->ntensors);
    for (uint32_t t = 0; t < c->ntensors; t++) {
        const char *name = items[item_of[t]].text;

        p->tensors[t].file = find_name(p->names, p->nnames, name, strlen(name));
    }
    return check_names(p, rule->map_file, st);
}

static sw_code place_by_map(const sw_catalog *c, const sw_layout_rule *rule, placement *p, sw_layout *l,
                            sw_status *st)
{
    size_t *item_of = sw_calloc(c->ntensors, sizeof *item_of, st);

    if (!item_of || match_map(c, rule, item_of, l, st))
        goto out;
    if (rule->kind == SW_LAYOUT_NUMBERS)
        place_by_number(c, rule, item_of, p);
    else if (place_by_name(c, rule, item_of, p, st))
        goto out;
out:
    free(item_of);
    return st->code;
}

/* The shards' own numbers. n is what their names say: torch takes it from the map of the save,
 * whose last files may have had no tensor. */
static sw_code place_by_model(const sw_catalog *c, placement *p, sw_status *st)
{
    for (uint32_t t = 0; t < c->ntensors; t++) {
        if (c->tensors[t].model == 0)
            return sw_fail(st, SW_EINPUT, NULL, c->tensors[t].name,
                           "found in no or several model files, expected one to take its number from");
        p->tensors[t].file = c->tensors[t].model;
        p->largest = sw_max(p->largest, c->tensors[t].model);
    }
    for (uint32_t f = 0; f < c->nfiles; f++)
        p->largest = sw_max(p->largest, c->files[f].number.of);
    p->index = usual_index(p);
    return SW_OK;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
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

        if (is_digit(*x) && is_digit(*y))
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
                       uint32_t number, placed *out)
{
    for (uint32_t i = first; i < end; i++) {
        placed *p = &out[sorted[i] - c->tensors];

        if (p->file == 0)
            p->file = number;
    }
}

/* Fill files in turn, numbered from 1. A tensor over the limit gets a file at once, before the one
 * that is still open gets its number: so huggingface_hub numbers them. Returns the number of
 * files. */
static uint32_t fill_files(const sw_catalog *c, const sw_tensor *const *sorted, uint64_t limit, placed *out)
{
    uint32_t files = 0, first = 0;
    uint64_t open_size = 0;
    /* a tensor is in the open file; it may be empty, so that the size does not tell */
    bool open = false;

    for (uint32_t i = 0; i < c->ntensors; i++) {
        uint64_t size = sw_tensor_out_bytes(c, sorted[i]);

        if (size > limit) {
            out[sorted[i] - c->tensors].file = ++files;
            continue;
        }
        if (size > limit - open_size) {
            close_file(c, sorted, first, i, ++files, out);
            first = i;
            open_size = 0;
        }
        open = true;
        open_size += size;
    }
    if (open)
        close_file(c, sorted, first, c->ntensors, ++files, out);
    return files;
}

static sw_code place_by_size(const sw_catalog *c, uint64_t limit, placement *p, sw_status *st)
{
    const sw_tensor **sorted = sw_calloc(c->ntensors, sizeof *sorted, st);

    if (!sorted)
        return st->code;
    for (uint32_t t = 0; t < c->ntensors; t++)
        sorted[t] = &c->tensors[t];
    qsort(sorted, c->ntensors, sizeof *sorted, compare_tensors_natural);
    p->largest = fill_files(c, sorted, limit, p->tensors);
    if (p->largest <= 1)
        p->largest = 0;
    else
        p->index = usual_index(p);
    free(sorted);
    return SW_OK;
}

static sw_code place(const sw_catalog *c, const sw_layout_rule *rule, placement *p, sw_layout *l,
                     sw_status *st)
{
    p->tensors = sw_calloc(c->ntensors, sizeof *p->tensors, st);
    if (!p->tensors)
        return st->code;
    switch (rule->kind) {
    case SW_LAYOUT_NUMBERS:
    case SW_LAYOUT_NAMES:
        return place_by_map(c, rule, p, l, st);
    case SW_LAYOUT_MODELS:
        return place_by_model(c, p, st);
    case SW_LAYOUT_SIZE:
        return place_by_size(c, rule->max_size, p, st);
    case SW_LAYOUT_SINGLE:
        break; /* all in file 0, without number and index */
    }
    return SW_OK;
}

/* ---- arrange --------------------------------------------------------------------------------- */

static int compare_placed(const void *a, const void *b)
{
    const placed *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->dtype != y->dtype)
        return x->dtype < y->dtype ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static char *file_name(const placement *p, uint32_t file, sw_status *st)
{
    sw_buf name = SW_BUF_INIT;

    if (p->names)
        return sw_strdup(p->names[file], st);
    if (p->largest == 0)
        sw_buf_addf(&name, st, "%s" SW_SINGLE_NAME, p->diffusers ? SW_DIFFUSERS_STEM : "");
    else
        sw_buf_addf(&name, st, NUMBERED_NAME, p->diffusers ? SW_DIFFUSERS_STEM : "", (uint64_t)file,
                    p->largest);
    if (st->code)
        sw_buf_release(&name);
    return name.data;
}

static uint32_t count_files(const placement *p, uint32_t ntensors)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < ntensors; i++)
        n += i == 0 || p->tensors[i].file != p->tensors[i - 1].file;
    /* Without index the lone file is all that tells of the checkpoint: it exists even when it is
     * empty. */
    return n == 0 && !p->index ? 1 : n;
}

/* Sort the tensors into l->order and cut it into l->files. */
static sw_code arrange(const sw_catalog *c, placement *p, sw_layout *l, sw_status *st)
{
    uint32_t at = 0;

    for (uint32_t t = 0; t < c->ntensors; t++) {
        p->tensors[t].tensor = t;
        p->tensors[t].dtype = c->tensors[t].out_dtype;
    }
    qsort(p->tensors, c->ntensors, sizeof *p->tensors, compare_placed);
    l->order = sw_calloc(c->ntensors, sizeof *l->order, st);
    l->files = sw_calloc(count_files(p, c->ntensors), sizeof *l->files, st);
    if (!l->order || !l->files)
        return st->code;
    l->nfiles = count_files(p, c->ntensors);
    l->nslots = c->ntensors;
    for (uint32_t f = 0; f < l->nfiles; f++) {
        uint32_t number = at < c->ntensors ? p->tensors[at].file : 0;

        l->files[f].first = at;
        for (; at < c->ntensors && p->tensors[at].file == number; at++)
            l->order[at].tensor = p->tensors[at].tensor;
        l->files[f].count = at - l->files[f].first;
        l->files[f].name = file_name(p, number, st);
        if (!l->files[f].name)
            return st->code;
    }
    return SW_OK;
}

/* ---- measure --------------------------------------------------------------------------------- */

/* Data ranges of one file; what they add up to goes into the totals, too. */
static sw_code measure_data(const sw_catalog *c, sw_layout *l, const sw_layout_file *file, uint64_t *bytes,
                            sw_status *st)
{
    *bytes = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        sw_slot *slot = &l->order[file->first + i];
        const sw_tensor *t = &c->tensors[slot->tensor];
        uint64_t size = sw_tensor_out_bytes(c, t), elements;

        slot->begin = *bytes;
        /* File offsets are signed, and a header must fit before the data. */
        if (!tensor_elements(c, t, &elements) || !sw_add(*bytes, size, bytes) ||
            *bytes > INT64_MAX - 8 - SW_HEADER_MAX || !sw_add(l->parameters, elements, &l->parameters) ||
            !sw_add(l->bytes, size, &l->bytes))
            return sw_fail(st, SW_EINPUT, file->name, t->name, "sizes add up to more than a file can hold");
        slot->end = *bytes;
    }
    return SW_OK;
}

static sw_code fail_header(const sw_layout_file *file, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, file->name, NULL,
                   "the header of its %" PRIu32 " tensors would be larger than the limit of %u bytes: split "
                   "it into more files (--max-shard-size)",
                   file->count, SW_HEADER_MAX);
}

/* Where the entries begin in the header, and its length. text is scratch. */
static sw_code measure_header(const sw_catalog *c, sw_layout *l, sw_layout_file *file, sw_buf *text,
                              sw_status *st)
{
    uint64_t at = strlen(SW_HEADER_HEAD);

    for (uint32_t i = 0; i < file->count; i++) {
        sw_slot *slot = &l->order[file->first + i];

        if (sw_header_entry(c, slot, text, st))
            return st->code;
        slot->header_at = (uint32_t)at;
        at += text->len;
        if (at > SW_HEADER_MAX)
            return fail_header(file, st);
    }
    file->header_len = sw_round_up(at + strlen(SW_HEADER_TAIL), 8);
    return file->header_len > SW_HEADER_MAX ? fail_header(file, st) : SW_OK;
}

static sw_code measure(const sw_catalog *c, sw_layout *l, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    for (uint32_t f = 0; f < l->nfiles; f++) {
        sw_layout_file *file = &l->files[f];
        uint64_t bytes;

        if (measure_data(c, l, file, &bytes, st) || measure_header(c, l, file, &text, st))
            break;
        file->size = 8 + file->header_len + bytes;
    }
    sw_buf_release(&text);
    return st->code;
}

sw_code sw_layout_build(const sw_catalog *c, const sw_layout_rule *rule, sw_layout *out, sw_status *st)
{
    sw_layout l = { 0 };
    placement p = { .diffusers = rule->diffusers, .diffusers_index = rule->diffusers_index };

    *out = l;
    if (place(c, rule, &p, &l, st) || arrange(c, &p, &l, st) || measure(c, &l, st))
        goto out;
    if (p.index && !(l.index_name = sw_strdup(p.index, st)))
        goto out;
    *out = l;
    l = (sw_layout){ 0 }; /* handed over */
out:
    free(p.tensors);
    free(p.names);
    sw_layout_release(&l);
    return st->code;
}

void sw_layout_release(sw_layout *l)
{
    for (uint32_t f = 0; l->files && f < l->nfiles; f++)
        free(l->files[f].name);
    free(l->files);
    free(l->order);
    free(l->set);
    free(l->box_dims);
    free(l->index_name);
    sw_buf_release(&l->unused_names);
    *l = (sw_layout){ 0 };
}
