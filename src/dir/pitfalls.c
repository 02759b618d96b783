/* The rules of loaders; see pitfalls.h. */
#include "dir/pitfalls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static const char hint_other_index[] =
    "the index of another save, or files that were replaced without it: write both anew by welding the files";
static const char hint_stray[] = "it is left over from another save: remove it, or loaders may mix the two";
static const char hint_no_index[] = "copy or download the index too, or weld the files to write one";
static const char hint_format[] = "some loaders refuse a file without it: welding writes it";
static const char hint_aligned[] =
    "written by a program that does not sort tensors by width; loaders that map "
    "the file have to copy: welding aligns them";

static const char hint_totals[] =
    "tensors were added or removed, or the index was written by hand: welding writes it anew";

/* ---- index and files ------------------------------------------------------------------------- */

/* Does this file hold the tensor, in any of its boxes? A plain checkpoint has one, a broken one may
 * have more. */
static bool holds(const sw_catalog *c, const sw_tensor *t, const char *file)
{
    for (uint64_t i = 0; i < t->nboxes + t->nreplicas; i++)
        if (strcmp(sw_file_name(&c->files[sw_box_file(c, t, i)]), file) == 0)
            return true;
    return t->nboxes == 0 && strcmp(sw_tensor_file(c, t), file) == 0;
}

/* Is each tensor in the file that the index names, and each tensor named? */
static sw_code check_index(const sw_catalog *c, const sw_find *f, sw_findings *hard, sw_status *st)
{
    for (size_t i = 0; i < f->weight_map.n && !st->code; i++) {
        const sw_map_item *item = &f->weight_map.items[i];
        const sw_tensor *t = sw_catalog_find_tensor(c, item->key);
        const sw_file *file = sw_catalog_find_file(c, item->text);

        if (file && !file->broken && !(t && holds(c, t, item->text)))
            sw_findings_add(hard, item->text, item->key, hint_other_index, st,
                            "%s says that it is here, but %s%s", f->index_name,
                            t ? "it is in " : "no file holds it", t ? sw_tensor_file(c, t) : "");
    }
    for (uint32_t i = 0; i < c->ntensors && !st->code; i++)
        if (!sw_map_find(&f->weight_map, c->tensors[i].name))
            sw_findings_add(hard, sw_tensor_file(c, &c->tensors[i]), c->tensors[i].name, hint_other_index, st,
                            "%s does not name it, so that loaders leave it out", f->index_name);
    return st->code;
}

/* ---- other weights in the directory ---------------------------------------------------------- */

/* Names that loaders of models look for: llama.cpp takes model*, vLLM's Mistral format
 * consolidated*. */
static bool is_looked_for(const char *name)
{
    static const char *const stems[] = { "model", "consolidated", "diffusion_pytorch_model" };

    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (strncmp(name, stems[i], strlen(stems[i])) == 0)
            return true;
    return sw_shard_name_parse(name, NULL);
}

/* What a loader makes of a name that is in the directory, but not of the checkpoint; NULL =
 * nothing. */
static const char *stray_reason(const char *name, bool mapped)
{
    if (name[0] == '.' || !sw_name_ends_with(name, ".safetensors"))
        return NULL;
    if (!mapped)
        return "a stray beside the weights: some loaders take every safetensors file that they find";
    return sw_name_is_lone(name)
               ? "loaders take it in place of the files that the index names"
               : "the index does not name it, but some loaders take every safetensors file that they find";
}

/* Named, but no regular file: told of already. */
static bool is_named(const sw_map *map, const char *name)
{
    for (size_t k = 0; k < map->n; k++)
        if (strcmp(map->items[k].text, name) == 0)
            return true;
    return false;
}

/* What loaders might take in place of the checkpoint's files, or besides. */
static sw_code check_strays(const sw_catalog *c, const sw_map *map, const sw_dir *names, sw_findings *hard,
                            sw_findings *soft, sw_status *st)
{
    for (size_t i = 0; i < names->n && !st->code; i++) {
        const char *name = names->names[i], *reason = stray_reason(name, map->n > 0);

        if (reason && !sw_catalog_find_file(c, name) && !is_named(map, name))
            sw_findings_add(is_looked_for(name) ? hard : soft, name, NULL, hint_stray, st, "%s", reason);
    }
    return st->code;
}

/* ---- what the index says of all tensors together --------------------------------------------- */

/* Sums of what was read; false: not all of it could be, or the sums overflow, and something else
 * tells of that. */
static bool sum_up(const sw_catalog *c, const sw_map *map, uint64_t *size, uint64_t *parameters)
{
    *size = *parameters = 0;
    if (sw_catalog_is_broken(c))
        return false;
    for (size_t i = 0; i < map->n; i++)
        if (!sw_catalog_find_file(c, map->items[i].text))
            return false;
    for (uint32_t i = 0; i < c->ntensors; i++)
        if (!sw_add(*size, c->tensors[i].bytes, size) ||
            !sw_add(*parameters, c->tensors[i].elements, parameters))
            return false;
    return true;
}

/* A total against what it should be; what: its key. */
static void check_total(const char *index, const char *what, double said, uint64_t is, sw_findings *soft,
                        sw_status *st)
{
    if (said < (double)is || said > (double)is)
        sw_findings_add(soft, index, NULL, hint_totals, st, "%s is %.17g, but the files hold %" PRIu64, what,
                        said, is);
}

/* The index's metadata: is it there, and do its sums agree with the files? */
static sw_code check_totals(const sw_catalog *c, const sw_find *f, sw_findings *soft, sw_status *st)
{
    const sw_index_totals *t = &f->totals;
    const char *index = f->index_name;
    uint64_t size, parameters;
    bool known = sum_up(c, &f->weight_map, &size, &parameters);

    if (f->weight_map.n == 0 && c->ntensors)
        sw_findings_add(soft, index, NULL, NULL, st, "names no tensors");
    if (!t->there)
        sw_findings_add(soft, index, NULL, NULL, st, "has no metadata, which some loaders look up");
    else if (!t->has_size && !t->odd_size)
        sw_findings_add(soft, index, NULL, NULL, st, "has no total_size, which some loaders look up");
    if (t->odd_size)
        sw_findings_add(soft, index, NULL, hint_totals, st, "total_size is no number");
    else if (known && t->has_size)
        check_total(index, "total_size", t->size, size, soft, st);
    if (t->odd_parameters)
        sw_findings_add(soft, index, NULL, hint_totals, st, "total_parameters is no number");
    else if (known && t->has_parameters)
        check_total(index, "total_parameters", t->parameters, parameters, soft, st);
    return st->code;
}

/* ---- without an index ------------------------------------------------------------------------ */

/* For qsort: by how many there are, then by number. */
static int by_model(const void *a, const void *b)
{
    const sw_shard_name *x = a, *y = b;

    if (x->of != y->of)
        return x->of < y->of ? -1 : 1;
    return (x->model > y->model) - (x->model < y->model);
}

/* The first number of n that a sorted list lacks, 0 = none. */
static uint64_t first_lack(const sw_shard_name *numbers, uint32_t n)
{
    uint64_t next = 1;

    for (uint32_t i = 0; i < n; i++) {
        if (numbers[i].of != numbers[0].of || numbers[i].model > next)
            break;
        next += numbers[i].model == next;
    }
    return next <= numbers[0].of ? next : 0;
}

/* Numbered files that no index names: are they all there? */
static sw_code check_numbers(const sw_catalog *c, sw_findings *hard, sw_findings *soft, sw_status *st)
{
    sw_shard_name *numbers = sw_calloc(c->nfiles, sizeof *numbers, st);
    uint32_t n = 0;
    uint64_t lack;

    for (uint32_t i = 0; numbers && i < c->nfiles; i++)
        if (sw_model_name_parse(sw_file_name(&c->files[i]), &numbers[n]))
            n++;
    if (st->code || n == 0)
        goto out;
    qsort(numbers, n, sizeof *numbers, by_model);
    lack = first_lack(numbers, n);
    if (lack)
        sw_findings_add(hard, NULL, NULL, hint_no_index, st,
                        "no file has number %" PRIu64 " of %" PRIu64 ", and there is no index", lack,
                        numbers[0].of);
    else /* One of one has a number, too: only an index leads to it. */
        sw_findings_add(soft, NULL, NULL, hint_no_index, st,
                        "numbered files, but no index: loaders do not find them");
out:
    free(numbers);
    return st->code;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* One word a file: of its first tensor that is not aligned. */
static sw_code check_alignment(const sw_catalog *c, sw_findings *soft, sw_status *st)
{
    bool *told = sw_calloc(c->nfiles, sizeof *told, st);

    for (uint32_t i = 0; told && i < c->ntensors && !st->code; i++) {
        const sw_tensor *t = &c->tensors[i];
        uint64_t unit = sw_dtype_bits((sw_dtype)t->dtype) / 8;

        for (uint64_t k = 0; unit > 1 && k < t->nboxes && !st->code; k++) {
            sw_placed placed;
            const sw_box *b = &sw_box_get(c, t, k, &placed)->box;

            if (b->at % unit == 0 || told[b->file])
                continue;
            told[b->file] = true;
            sw_findings_add(soft, sw_file_name(&c->files[b->file]), t->name, hint_aligned, st,
                            "its data begins at byte %" PRIu64 ", which is no multiple of the %" PRIu64
                            " bytes of its elements",
                            b->at, unit);
        }
    }
    free(told);
    return st->code;
}

sw_code sw_pitfalls_find(const sw_catalog *c, const sw_find *f, const sw_dir *names, sw_findings *hard,
                         sw_findings *soft, sw_status *st)
{
    bool mapped = f->weight_map.n > 0;

    if ((mapped && check_index(c, f, hard, st)) ||
        ((mapped || !f->index_name) && names && check_strays(c, &f->weight_map, names, hard, soft, st)) ||
        (f->index_name && !f->index_broken && check_totals(c, f, soft, st)) ||
        (!f->index_name && check_numbers(c, hard, soft, st)) || check_alignment(c, soft, st))
        return st->code;
    /* One word a file that does not say who made its tensors. */
    for (uint32_t i = 0; i < c->nfiles && !st->code; i++)
        if (!c->files[i].format_pt && !c->files[i].broken)
            sw_findings_add(soft, sw_file_name(&c->files[i]), NULL, hint_format, st,
                            "its metadata does not say format: pt");
    return st->code;
}
