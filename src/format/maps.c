/* Maps and index files; see maps.h. They are small beside a checkpoint (one line a tensor) and are
 * read once, by one rank, so a general JSON library serves. */
#include "format/maps.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/below.h"
#include "base/json.h"
#include "base/num.h"
#include "base/sort.h"

#define NUMBER_MAX 99999999

/* Fill item->number or item->text from value; on failure st says what is wrong with it. */
typedef sw_code (*read_value)(const json_t *value, const char *file, sw_map_item *item, sw_status *st);

/* What a value is, in words. */
static const char *type_name(const json_t *value)
{
    static const char *const names[] = { [JSON_OBJECT] = "an object",
                                         [JSON_ARRAY] = "an array",
                                         [JSON_STRING] = "a string",
                                         [JSON_INTEGER] = "an integer",
                                         [JSON_REAL] = "a number with a fraction or exponent",
                                         [JSON_TRUE] = "a boolean",
                                         [JSON_FALSE] = "a boolean",
                                         [JSON_NULL] = "null" };

    return names[json_typeof(value)];
}

/* {fqn: 1..99999999} */
static sw_code read_number(const json_t *value, const char *file, sw_map_item *item, sw_status *st)
{
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value))
        return sw_fail(st, SW_EINPUT, file, item->key, "found %s, expected a file index from 1 to %d",
                       type_name(value), NUMBER_MAX);
    if (n < 1 || n > NUMBER_MAX)
        return sw_fail(st, SW_EINPUT, file, item->key,
                       "found %" JSON_INTEGER_FORMAT ", expected a file index from 1 to %d", n, NUMBER_MAX);
    item->number = (uint64_t)n;
    return SW_OK;
}

/* {fqn: text} */
static sw_code read_text(const json_t *value, const char *file, sw_map_item *item, sw_status *st)
{
    if (!json_is_string(value))
        return sw_fail(st, SW_EINPUT, file, item->key, "found %s, expected a string",
                       json_is_number(value) ? "a number" : type_name(value));
    item->text = sw_strdup(json_string_value(value), st);
    return st->code;
}

/* "./a//b" is "a/b". */
static void tidy_path(char *path)
{
    char *to = path;

    for (const char *part = path; *path != '/' && *part;) {
        size_t len = strcspn(part, "/");
        bool last = part[len] == '\0';

        if (len > 0 && (len != 1 || *part != '.' || last)) {
            memmove(to, part, len);
            to += len;
            if (!last)
                *to++ = '/';
        }
        part += len + !last;
    }
    if (*path != '/')
        *to = '\0';
}

/* {fqn: file name}, of whatever kind. */
static sw_code read_any_name(const json_t *value, const char *file, sw_map_item *item, sw_status *st)
{
    if (read_text(value, file, item, st))
        return st->code;
    tidy_path(item->text);
    return SW_OK;
}

/* {fqn: file name below the directory} */
static sw_code read_file_name(const json_t *value, const char *file, sw_map_item *item, sw_status *st)
{
    if (read_any_name(value, file, item, st))
        return st->code;
    if (!sw_name_is_below(item->text))
        return sw_fail(st, SW_EINPUT, file, item->key,
                       "file name '%s' is not a relative path below its directory", item->text);
    return SW_OK;
}

/* A text, and its name for messages. */
typedef struct map_text {
    const char *json;
    size_t len;
    const char *file;
} map_text;

/* The object that the text holds; NULL on failure. flags: more of jansson's. The caller calls
 * json_decref(). */
static json_t *load_object(const map_text *t, size_t flags, sw_status *st)
{
    json_error_t error;
    json_t *root = json_loadb(t->json, t->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | flags, &error);

    /* jansson knows no place in the text where it runs out of memory. */
    if (!root && (json_error_code(&error) == json_error_out_of_memory || error.line < 0)) {
        sw_fail_nomem(st, t->len);
    } else if (!root) {
        sw_fail(st, SW_EINPUT, t->file, NULL, "not valid JSON: line %d, column %d: %s", error.line,
                error.column, error.text);
    } else if (!json_is_object(root)) {
        sw_fail(st, SW_EINPUT, t->file, NULL, "found %s, expected an object", type_name(root));
        json_decref(root);
        root = NULL;
    }
    return root;
}

/* By key; for qsort. */
static int compare_items(const void *a, const void *b)
{
    return strcmp(((const sw_map_item *)a)->key, ((const sw_map_item *)b)->key);
}

void sw_map_sort(sw_map *map)
{
    sw_sort(map->items, map->n, sizeof *map->items, compare_items);
}

/* Copy the members of object into out (empty, and again so on failure). jansson borrows it as
 * non-const only to iterate. */
static sw_code map_from_object(json_t *object, const char *file, read_value read, sw_map *out, sw_status *st)
{
    out->items = sw_calloc(json_object_size(object), sizeof *out->items, st);
    if (!out->items)
        return st->code;
    for (void *it = json_object_iter(object); it && !st->code; it = json_object_iter_next(object, it)) {
        sw_map_item *item = &out->items[out->n++];

        item->key = sw_strdup(json_object_iter_key(it), st);
        if (item->key)
            read(json_object_iter_value(it), file, item, st);
    }
    if (st->code)
        sw_map_release(out);
    else
        sw_map_sort(out);
    return st->code;
}

/* A text that is nothing but the map. */
static sw_code parse_map(map_text t, read_value read, sw_map *out, sw_status *st)
{
    json_t *root = load_object(&t, 0, st);

    *out = (sw_map)SW_MAP_INIT;
    if (root)
        map_from_object(root, t.file, read, out, st);
    json_decref(root);
    return st->code;
}

sw_code sw_map_parse_numbers(const char *json, size_t len, const char *file, sw_map *out, sw_status *st)
{
    return parse_map((map_text){ json, len, file }, read_number, out, st);
}

sw_code sw_map_parse_texts(const char *json, size_t len, const char *file, sw_map *out, sw_status *st)
{
    return parse_map((map_text){ json, len, file }, read_text, out, st);
}

/* *odd: there is something, but no number. */
static void get_total(const json_t *metadata, const char *key, double *n, bool *has, bool *odd)
{
    const json_t *value = json_object_get(metadata, key);

    *n = json_number_value(value);
    *has = json_is_number(value);
    *odd = value && !*has;
}

/* The member metadata of an index. */
static void read_totals(const json_t *index, sw_index_totals *totals)
{
    const json_t *metadata = json_object_get(index, "metadata");

    totals->there = json_is_object(metadata);
    get_total(metadata, "total_size", &totals->size, &totals->has_size, &totals->odd_size);
    get_total(metadata, "total_parameters", &totals->parameters, &totals->has_parameters,
              &totals->odd_parameters);
}

/* Numbers in an index may be larger than 64 bits: jansson takes them as reals. totals: NULL = not
 * wanted. */
static sw_code parse_index(map_text t, read_value read, sw_map *out, sw_index_totals *totals, sw_status *st)
{
    json_t *root = load_object(&t, JSON_DECODE_INT_AS_REAL, st);
    json_t *weights = json_object_get(root, "weight_map");

    *out = (sw_map)SW_MAP_INIT;
    if (totals)
        *totals = (sw_index_totals){ 0 };
    if (weights && !json_is_object(weights))
        sw_fail(st, SW_EINPUT, t.file, NULL, "weight_map: found %s, expected an object", type_name(weights));
    else if (weights)
        map_from_object(weights, t.file, read, out, st);
    if (totals && !st->code)
        read_totals(root, totals);
    json_decref(root);
    return st->code;
}

sw_code sw_index_parse(const char *json, size_t len, const char *file, sw_map *out, sw_index_totals *totals,
                       sw_status *st)
{
    return parse_index((map_text){ json, len, file }, read_file_name, out, totals, st);
}

sw_code sw_index_parse_any(const char *json, size_t len, const char *file, sw_map *out,
                           sw_index_totals *totals, sw_status *st)
{
    return parse_index((map_text){ json, len, file }, read_any_name, out, totals, st);
}

/* For bsearch. */
static int compare_key(const void *key, const void *item)
{
    return strcmp(key, ((const sw_map_item *)item)->key);
}

const sw_map_item *sw_map_find(const sw_map *map, const char *key)
{
    return map->n ? bsearch(key, map->items, map->n, sizeof *map->items, compare_key) : NULL;
}

sw_code sw_map_files(const sw_map *map, const char ***names, size_t *n, sw_status *st)
{
    const char **all = sw_calloc(map->n, sizeof *all, st);

    *names = all;
    for (size_t i = 0; all && i < map->n; i++)
        all[i] = map->items[i].text;
    *n = all ? sw_sort_once(all, map->n) : 0;
    return st->code;
}

uint64_t sw_map_largest(const sw_map *map)
{
    uint64_t n = 0;

    for (size_t i = 0; i < map->n; i++)
        n = sw_max(n, map->items[i].number);
    return n;
}

void sw_map_release(sw_map *map)
{
    for (size_t i = 0; i < map->n; i++) {
        free(map->items[i].key);
        free(map->items[i].text);
    }
    free(map->items);
    map->items = NULL;
    map->n = 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* A line begins, so many objects deep: two at most. */
static sw_code add_line(sw_buf *out, unsigned depth, sw_status *st)
{
    return sw_buf_add(out, "\n    ", 1 + 2 * depth, st);
}

sw_code sw_map_text_add(sw_map_text *w, const char *key, const char *text, uint64_t number, sw_status *st)
{
    if (sw_buf_add(w->out, w->any ? "," : "{", 1, st) || add_line(w->out, w->depth + 1, st) ||
        sw_json_add_python(w->out, key, strlen(key), st) || sw_buf_add(w->out, ": ", 2, st))
        return st->code;
    w->any = true;
    return text ? sw_json_add_python(w->out, text, strlen(text), st)
                : sw_buf_addf(w->out, st, "%" PRIu64, number);
}

sw_code sw_map_text_end(sw_map_text *w, sw_status *st)
{
    if (!w->any)
        return sw_buf_add(w->out, "{}", 2, st);
    return add_line(w->out, w->depth, st) ? st->code : sw_buf_add(w->out, "}", 1, st);
}

/* ---- names ----------------------------------------------------------------------------------- */

bool sw_name_is_below(const char *name)
{
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            return false;
    return sw_below_is_name(name);
}
