/* The text of a manifest, both ways; see manifest.h. */
#include "format/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sort.h"
#include "format/filenames.h"

#define DIMS_MAX 32
#define ORIGIN_FLAGS (JSON_COMPACT | JSON_SORT_KEYS)

static const char seal_begin[] = "  \"self\": \"", seal_end[] = "\"\n}\n";

/* ---- writing --------------------------------------------------------------------------------- */

/* A key, with what goes before it. */
static sw_code add_name(sw_buf *b, const char *name, bool first, sw_status *st)
{
    sw_buf_addf(b, st, "%s\n    ", first ? "" : ",");
    return sw_json_add_serde(b, name, strlen(name), st);
}

/* A member of "files". */
static sw_code add_file(sw_buf *b, const sw_manifest_file *f, bool first, sw_status *st)
{
    if (add_name(b, f->name, first, st))
        return st->code;
    return sw_buf_addf(
        b, st, ": {\"size\": %" PRIu64 ", \"sha256\": \"%s\", \"head\": %" PRIu64 ", \"head_xxh3\": \"%s\"}",
        f->size, f->sha256, f->head, f->head_xxh3);
}

/* With the digits that make it the very number, read as a double. */
static sw_code add_bound(sw_buf *b, const char *key, const sw_manifest_tensor *t, double bound, sw_status *st)
{
    if (!t->ranged)
        return sw_buf_addf(b, st, ", \"%s\": null", key);
    return sw_buf_addf(b, st, ", \"%s\": %.17g", key, bound);
}

/* A member of "tensors". */
static sw_code add_tensor(sw_buf *b, const sw_manifest_tensor *t, bool first, sw_status *st)
{
    if (add_name(b, t->name, first, st) ||
        sw_buf_addf(b, st, ": {\"dtype\": \"%s\", \"shape\": [", sw_dtype_name(t->dtype)))
        return st->code;
    for (unsigned d = 0; d < t->ndim; d++)
        sw_buf_addf(b, st, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    sw_buf_addf(b, st, "], \"file\": ");
    sw_json_add_serde(b, t->file, strlen(t->file), st);
    sw_buf_addf(b, st, ", \"xxh3\": \"%s\"", t->xxh3);
    if (t->counted) {
        sw_buf_addf(b, st, ", \"nan\": %" PRIu64 ", \"inf\": %" PRIu64, t->nan, t->inf);
        add_bound(b, "min", t, t->least, st);
        add_bound(b, "max", t, t->most, st);
    }
    return sw_buf_addf(b, st, "}");
}

sw_code sw_manifest_write(const sw_manifest *m, sw_buf *out, sw_status *st)
{
    sw_buf_addf(out, st, "{\n  \"schema\": %d,\n  \"origin\": %s,\n  \"files\": {", SW_MANIFEST_SCHEMA,
                m->origin);
    for (size_t i = 0; i < m->nfiles && !st->code; i++)
        add_file(out, &m->files[i], i == 0, st);
    sw_buf_addf(out, st, "\n  },\n  \"tensors\": {");
    for (size_t i = 0; i < m->ntensors && !st->code; i++)
        add_tensor(out, &m->tensors[i], i == 0, st);
    return sw_buf_addf(out, st, "\n  },\n");
}

sw_code sw_manifest_seal(sw_buf *out, const char hash[SW_MANIFEST_HASH], sw_status *st)
{
    return sw_buf_addf(out, st, "%s%s%s", seal_begin, hash, seal_end);
}

size_t sw_manifest_unseal(const char *text, size_t len, char hash[SW_MANIFEST_HASH])
{
    const size_t begin = sizeof seal_begin - 1, end = sizeof seal_end - 1, n = SW_MANIFEST_HASH - 1;
    size_t all = begin + n + end, at = len < all ? 0 : len - all;

    if (at == 0 || memcmp(text + at, seal_begin, begin) != 0 || memcmp(text + len - end, seal_end, end) != 0)
        return 0;
    memcpy(hash, text + at + begin, n);
    hash[n] = '\0';
    return at;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What is read, and where the first thing that is wrong goes. */
typedef struct reader {
    sw_manifest *m;
    const char *file;
    uint64_t *shapes; /* what is left of the room */
    sw_status *st;
} reader;

/* What of it is not as docs/manifest.md has it. */
static sw_code fail(const reader *r, const char *name, const char *what)
{
    return sw_fail(r->st, SW_EINPUT, r->file, name, "is no manifest of schema %d: %s", SW_MANIFEST_SCHEMA,
                   what);
}

/* A number of an object, not below 0. */
static bool take_number(const json_t *object, const char *key, uint64_t *n)
{
    const json_t *value = json_object_get(object, key);

    *n = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

/* Hexadecimal digits of so many characters, in small letters. */
static bool take_hash(const json_t *object, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (!text || strlen(text) != size - 1 || strspn(text, "0123456789abcdef") != size - 1)
        return false;
    memcpy(to, text, size);
    return true;
}

/* The next file, from a member of "files". */
static sw_code read_file(reader *r, const char *name, const json_t *value)
{
    sw_manifest_file *f = &r->m->files[r->m->nfiles++];

    f->name = name;
    if (!take_number(value, "size", &f->size) || !take_number(value, "head", &f->head) || f->head > f->size ||
        !take_hash(value, "sha256", f->sha256, sizeof f->sha256) ||
        !take_hash(value, "head_xxh3", f->head_xxh3, sizeof f->head_xxh3))
        fail(r, name, "of a file size, sha256, head and head_xxh3 are told");
    return r->st->code;
}

/* The shape, into what is left of the room. */
static bool take_shape(reader *r, const json_t *shape, sw_manifest_tensor *t)
{
    size_t n = json_array_size(shape);

    if (!json_is_array(shape) || n > DIMS_MAX)
        return false;
    t->ndim = (unsigned)n;
    t->shape = r->shapes;
    for (size_t d = 0; d < n; d++) {
        const json_t *size = json_array_get(shape, d);

        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return false;
        *r->shapes++ = (uint64_t)json_integer_value(size);
    }
    return true;
}

/* A bound is a number, or null. */
static bool take_bound(const json_t *value, double *bound)
{
    *bound = json_number_value(value);
    return json_is_number(value);
}

/* The next tensor, from a member of "tensors". */
static sw_code read_tensor(reader *r, const char *name, const json_t *value)
{
    sw_manifest_tensor *t = &r->m->tensors[r->m->ntensors++];
    const char *dtype = json_string_value(json_object_get(value, "dtype"));

    t->name = name;
    t->file = json_string_value(json_object_get(value, "file"));
    if (!t->file || !dtype || !sw_dtype_parse(dtype, strlen(dtype), &t->dtype) ||
        !take_shape(r, json_object_get(value, "shape"), t) ||
        !take_hash(value, "xxh3", t->xxh3, sizeof t->xxh3))
        return fail(r, name, "of a tensor dtype, shape, file and xxh3 are told");
    t->counted = json_object_get(value, "nan") != NULL;
    if (t->counted && (!take_number(value, "nan", &t->nan) || !take_number(value, "inf", &t->inf)))
        return fail(r, name, "nan and inf are numbers");
    t->ranged = take_bound(json_object_get(value, "min"), &t->least) &&
                take_bound(json_object_get(value, "max"), &t->most);
    return SW_OK;
}

/* Room for all shapes. */
static sw_code make_room(reader *r, json_t *files, json_t *tensors)
{
    uint64_t dims = 0;
    const char *name;
    json_t *value;

    json_object_foreach(tensors, name, value) dims += json_array_size(json_object_get(value, "shape"));
    r->m->files = sw_calloc(json_object_size(files), sizeof *r->m->files, r->st);
    r->m->tensors = sw_calloc(json_object_size(tensors), sizeof *r->m->tensors, r->st);
    r->shapes = r->m->shapes = sw_calloc(dims, sizeof *r->shapes, r->st);
    return r->st->code;
}

/* By name: jansson keeps the order of the text. */
static int by_file(const void *a, const void *b)
{
    const sw_manifest_file *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static int by_tensor(const void *a, const void *b)
{
    const sw_manifest_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Both lists, into room that is made for them first. */
static sw_code read_all(reader *r, json_t *files, json_t *tensors)
{
    const char *name;
    json_t *value;

    if (!json_is_object(files) || !json_is_object(tensors))
        return fail(r, NULL, "files and tensors are objects");
    if (make_room(r, files, tensors))
        return r->st->code;
    json_object_foreach(files, name, value) if (read_file(r, name, value)) return r->st->code;
    json_object_foreach(tensors, name, value) if (read_tensor(r, name, value)) return r->st->code;
    sw_sort(r->m->files, r->m->nfiles, sizeof *r->m->files, by_file);
    sw_sort(r->m->tensors, r->m->ntensors, sizeof *r->m->tensors, by_tensor);
    return SW_OK;
}

sw_code sw_manifest_read(const char *text, size_t len, const char *file, sw_manifest *out, sw_status *st)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    reader r = { .m = out, .file = file, .st = st };
    json_t *schema = json_object_get(root, "schema");

    *out = (sw_manifest)SW_MANIFEST_INIT;
    out->root = root;
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return sw_fail_nomem(st, len);
    if (!root)
        return sw_fail(st, SW_EINPUT, file, NULL, "not valid JSON: line %d, column %d: %s", error.line,
                       error.column, error.text);
    if (!json_is_integer(schema) || json_integer_value(schema) != SW_MANIFEST_SCHEMA)
        return fail(&r, NULL, "another schema, or none");
    out->origin = out->text = json_dumps(json_object_get(root, "origin"), ORIGIN_FLAGS);
    return read_all(&r, json_object_get(root, "files"), json_object_get(root, "tensors"));
}

bool sw_manifest_same_origin(const char *a, const char *b)
{
    json_t *x = a ? json_loads(a, 0, NULL) : NULL, *y = b ? json_loads(b, 0, NULL) : NULL;
    bool same;

    json_object_del(x, "version");
    json_object_del(y, "version");
    same = x && y && json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}

bool sw_manifest_is_of_shards(const sw_manifest *m)
{
    bool is = false;

    for (size_t i = 0; i < m->nfiles && !is; i++)
        is = sw_shard_name_parse(m->files[i].name, NULL);
    return is;
}

void sw_manifest_release(sw_manifest *m)
{
    if (m->root)
        json_decref(m->root);
    free(m->text);
    free(m->shapes);
    free(m->files);
    free(m->tensors);
    *m = (sw_manifest)SW_MANIFEST_INIT;
}

/* ---- looking up ------------------------------------------------------------------------------ */

const sw_manifest_file *sw_manifest_file_of(const sw_manifest *m, const char *name)
{
    const sw_manifest_file key = { .name = name };

    return m->nfiles ? bsearch(&key, m->files, m->nfiles, sizeof key, by_file) : NULL;
}

const sw_manifest_tensor *sw_manifest_tensor_of(const sw_manifest *m, const char *name)
{
    const sw_manifest_tensor key = { .name = name };

    return m->ntensors ? bsearch(&key, m->tensors, m->ntensors, sizeof key, by_tensor) : NULL;
}
