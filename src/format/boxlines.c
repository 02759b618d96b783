/* A list of boxes that somebody wrote (docs/boxes.md): JSON, an object on each line for a box of a
 * tensor, which says where its elements lie plainly in a file. For whatever no other reader knows.
 * Some 150 bytes a box; for 256 files of 1,000 tensors 40 MB.
 *
 * One function for each rule of the grammar:
 *
 *     lines = line ...                            some may be blank
 *     line  = { "name": string, "dtype": dtype, "shape": [uint, ...], "file": string,
 *               "offset": uint, "box": box (optional), "strides": [uint, ...] (optional) }
 *     box   = { "offsets": [uint, ...], "shape": [uint, ...] }
 *
 * Names point into the text. Other members are refused: one that is misspelled must not be
 * missed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/boxlist.h"

#define SUM_MAX (UINT64_C(1) << 63)

enum {
    HAS_NAME = 1,
    HAS_DTYPE = 2,
    HAS_SHAPE = 4,
    HAS_FILE = 8,
    HAS_OFFSET = 16,
    HAS_BOX = 32,
    HAS_STRIDES = 64
};

static const char *const members[] = { "name", "dtype", "shape", "file", "offset", "box", "strides", NULL };
static const char *const box_members[] = { "offsets", "shape", NULL };

/* Numbers of an array: where in the pool. */
typedef struct numbers {
    uint64_t at;
    unsigned n;
} numbers;

/* What a line says. */
typedef struct line {
    char *name, *file;
    uint64_t number, offset, length; /* counted from 1; bytes of the file */
    numbers shape, offsets, sizes, strides;
    uint8_t dtype;
    bool strided; /* its elements do not lie row by row */
    bool ragged;  /* they end within a byte */
} line;

typedef struct reading {
    sw_json json;
    const char *file;
    sw_status *st;
    line *lines;
    size_t nlines, cap_lines;
    uint64_t *pool;
    size_t npool, cap_pool;
    const char **files; /* of the lines, once they are sorted */
    sw_boxlist_draft draft;
} reading;

/* ---- messages -------------------------------------------------------------------------------- */

/* What is wrong with the line that is read, or with one that was. False. */
static bool refuse(reading *r, const line *l, const char *what)
{
    sw_fail(r->st, SW_EINPUT, r->file, l->name, "line %" PRIu64 ": %s", l->number, what);
    return false;
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* [uint, ...] */
static bool take_numbers(reading *r, numbers *out)
{
    bool first = true;

    *out = (numbers){ r->npool, 0 };
    if (!sw_json_open(&r->json, '['))
        return false;
    for (; sw_json_next(&r->json, ']', &first); out->n++) {
        if (out->n == SW_MAX_DIMS)
            return sw_json_fail(&r->json, "more than 32 dimensions");
        if (sw_grow(&r->pool, &r->cap_pool, r->npool + 1, sizeof *r->pool, r->st) ||
            !sw_json_uint(&r->json, &r->pool[r->npool]))
            return false;
        r->npool++;
    }
    return !r->json.error;
}

/* A string that can be a name: of a tensor it may be empty. */
static bool take_text(reading *r, char **out)
{
    char *s;
    size_t len;

    if (!sw_json_string(&r->json, &s, &len))
        return false;
    if (strlen(s) != len)
        return sw_json_fail(&r->json, "a name that holds a NUL");
    *out = s;
    return true;
}

/* As safetensors or torch spells it. */
static bool take_dtype(reading *r, const line *l, uint8_t *out)
{
    char *s, what[96];
    sw_dtype known;
    size_t len;

    if (!sw_json_string(&r->json, &s, &len))
        return false;
    if (sw_dtype_parse(s, len, &known) || sw_dtype_parse_any(s, len, &known)) {
        *out = (uint8_t)known;
        return true;
    }
    snprintf(what, sizeof what, "unknown dtype '%.64s'", s);
    return refuse(r, l, what);
}

/* key: of a member that is known and comes once; its bit goes into *has. */
static bool take_key(reading *r, const line *l, const char *const *known, unsigned *has, unsigned *bit)
{
    char *key, what[128];
    size_t len;

    if (!sw_json_string(&r->json, &key, &len) || !sw_json_take(&r->json, ':'))
        return false;
    for (unsigned i = 0; known[i]; i++) {
        *bit = 1u << i;
        if (strcmp(known[i], key) != 0)
            continue;
        snprintf(what, sizeof what, "two members '%s'", known[i]);
        if (*has & *bit)
            return refuse(r, l, what);
        *has |= *bit;
        return true;
    }
    snprintf(what, sizeof what, "a member '%.64s', which is none of a box's", key);
    return refuse(r, l, what);
}

/* { "offsets": ..., "shape": ... } */
static bool take_box(reading *r, line *l)
{
    unsigned has = 0, bit;
    bool first = true;

    if (!sw_json_open(&r->json, '{'))
        return false;
    while (sw_json_next(&r->json, '}', &first))
        if (!take_key(r, l, box_members, &has, &bit) || !take_numbers(r, bit == 1 ? &l->offsets : &l->sizes))
            return false;
    return !r->json.error && (has == 3 || refuse(r, l, "its box lacks offsets or shape"));
}

/* One member of a line. */
static bool take_member(reading *r, line *l, unsigned *has)
{
    unsigned bit;

    if (!take_key(r, l, members, has, &bit))
        return false;
    switch (bit) {
    case HAS_NAME:
        return take_text(r, &l->name);
    case HAS_DTYPE:
        return take_dtype(r, l, &l->dtype);
    case HAS_SHAPE:
        return take_numbers(r, &l->shape);
    case HAS_FILE:
        return take_text(r, &l->file);
    case HAS_OFFSET:
        return sw_json_uint(&r->json, &l->offset);
    case HAS_BOX:
        return take_box(r, l);
    default:
        return take_numbers(r, &l->strides);
    }
}

/* ---- a line ---------------------------------------------------------------------------------- */

/* Bytes from the first element to behind the last one. False: they are too many. */
static bool measure(const reading *r, line *l)
{
    const uint64_t *sizes = r->pool + l->sizes.at, *strides = r->pool + l->strides.at;
    uint64_t last = 0, packed = 1, step, bits = sw_dtype_bits((sw_dtype)l->dtype);
    bool fits = true, empty = false;

    for (unsigned d = l->shape.n; d-- > 0;) {
        l->strided = l->strided || (l->strides.n && sizes[d] > 1 && strides[d] != packed);
        empty = empty || sizes[d] == 0;
        fits = fits && sw_mul(packed, sizes[d], &packed);
    }
    for (unsigned d = 0; d < l->shape.n && l->strided && !empty; d++)
        fits = fits && sw_mul(sizes[d] - 1, strides[d], &step) && sw_add(last, step, &last);
    l->strided = l->strided && !empty;
    fits = fits && sw_add(last, 1, &last) && sw_mul(l->strided ? last : packed, bits, &bits);
    l->length = empty ? 0 : bits / 8;
    l->ragged = !empty && bits % 8 != 0;
    return empty || (fits && sw_add(l->offset, l->length, &step) && step <= SUM_MAX);
}

/* The box lies within the tensor; the bytes are counted. */
static bool check_line(reading *r, line *l)
{
    unsigned bits = sw_dtype_bits((sw_dtype)l->dtype), ndim = l->shape.n;
    const uint64_t *shape = r->pool + l->shape.at, *sizes = r->pool + l->sizes.at;
    uint64_t end, all = bits;

    if (l->sizes.n != ndim || l->offsets.n != ndim)
        return refuse(r, l, "its box has another number of dimensions than its tensor");
    for (unsigned d = 0; d < ndim; d++)
        if (!sw_add(r->pool[l->offsets.at + d], sizes[d], &end) || end > shape[d])
            return refuse(r, l, "its box lies outside of its tensor");
    for (unsigned d = 0; d < ndim; d++)
        if (!sw_mul(all, shape[d], &all))
            return refuse(r, l, "the size of its tensor overflows 64 bits");
    if (!measure(r, l))
        return refuse(r, l, "its bytes reach over 2^63");
    if (bits < 8 && l->strided)
        return refuse(r, l, "strides of elements that are no whole bytes");
    if (l->ragged)
        return refuse(r, l, "its box is no whole number of bytes");
    return true;
}

/* A box that is the whole tensor. */
static bool take_whole(reading *r, line *l)
{
    if (sw_grow(&r->pool, &r->cap_pool, r->npool + l->shape.n + 1, sizeof *r->pool, r->st))
        return false;
    l->sizes = l->shape;
    l->offsets = (numbers){ r->npool, l->shape.n };
    memset(r->pool + r->npool, 0, l->shape.n * sizeof *r->pool);
    r->npool += l->shape.n;
    return true;
}

/* All of a line, and what must hold of it. */
static bool take_line(reading *r, line *l)
{
    static const unsigned needed = HAS_NAME | HAS_DTYPE | HAS_SHAPE | HAS_FILE | HAS_OFFSET;
    bool first = true;
    unsigned has = 0;
    char what[64];

    if (!sw_json_open(&r->json, '{'))
        return false;
    while (sw_json_next(&r->json, '}', &first))
        if (!take_member(r, l, &has))
            return false;
    if (!sw_json_end(&r->json))
        return false;
    for (unsigned i = 0; members[i]; i++)
        if (needed & ~has & 1u << i) {
            snprintf(what, sizeof what, "it has no '%s'", members[i]);
            return refuse(r, l, what);
        }
    if (!*l->file)
        return refuse(r, l, "the name of its file is empty");
    if (!(has & HAS_BOX) && !take_whole(r, l))
        return false;
    if ((has & HAS_STRIDES) && l->strides.n != l->shape.n)
        return refuse(r, l, "it has another number of strides than of dimensions");
    return check_line(r, l);
}

/* ---- all lines ------------------------------------------------------------------------------- */

/* Line by line: a text is changed where it is read, so its end is looked for before. */
static sw_code take_lines(reading *r, char *text, size_t n, sw_status *st)
{
    const char *bad = sw_utf8_invalid(text, n);
    char *end = text + n, *next;
    uint64_t number = 1;

    if (bad)
        return sw_fail(st, SW_EINPUT, r->file, NULL, "bad UTF-8 at byte %td", bad - text);
    for (; text < end && !st->code; text = next + 1, number++) {
        line l = { .number = number };

        next = memchr(text, '\n', (size_t)(end - text));
        next = next ? next : end;
        sw_json_init(&r->json, text, (size_t)(next - text));
        if (sw_json_peek(&r->json) == '\0' && r->json.at == next)
            continue;
        if (!take_line(r, &l) && r->json.error)
            sw_fail(st, SW_EINPUT, r->file, NULL, "line %" PRIu64 ", byte %" PRIu64 ": %s", number,
                    sw_json_pos(&r->json), r->json.error);
        if (!st->code && r->nlines == UINT32_MAX - 1)
            sw_fail(st, SW_EINPUT, r->file, NULL, "too many lines");
        if (!st->code && !sw_grow(&r->lines, &r->cap_lines, r->nlines + 1, sizeof l, st))
            r->lines[r->nlines++] = l;
    }
    return st->code;
}

/* Lines by name; those of one tensor as they stand in the text. */
static int by_tensor(const void *a, const void *b)
{
    const line *x = a, *y = b;
    int cmp = strcmp(x->name, y->name);

    return cmp ? cmp : (x->number > y->number) - (x->number < y->number);
}

/* Do two lines of one name speak of one tensor? */
static bool check_same(reading *r, const line *first, const line *l)
{
    const char *what = NULL;

    if (l->dtype != first->dtype)
        what = "dtype";
    else if (l->shape.n != first->shape.n ||
             (l->shape.n &&
              memcmp(r->pool + l->shape.at, r->pool + first->shape.at, l->shape.n * sizeof *r->pool) != 0))
        what = "shape";
    if (what)
        sw_fail(r->st, SW_EINPUT, r->file, l->name, "line %" PRIu64 ": another %s than in line %" PRIu64,
                l->number, what, first->number);
    return !what;
}

/* A tensor and its boxes: n lines of one name, the first of which is number first of all. */
static sw_code add_tensor(reading *r, size_t first, size_t n, sw_status *st)
{
    const line *l = r->lines + first;
    unsigned ndim = l->shape.n;
    sw_listed_tensor t = { .nboxes = n,
                           .name_len = (uint32_t)strlen(l->name),
                           .dtype = l->dtype,
                           .ndim = (uint8_t)ndim,
                           .sets = 2 };
    uint64_t dims[3 * SW_MAX_DIMS];

    for (size_t i = 0; i < n; i++) {
        if (!check_same(r, &l[0], &l[i]))
            return st->code;
        t.sets = l[i].strided ? 3 : t.sets;
    }
    sw_boxlist_add(&r->draft, &t, r->pool + l->shape.at, l->name, st);
    for (size_t i = 0; i < n && !st->code; i++) {
        const sw_listed_box box = { l[i].offset, l[i].length, (uint32_t)(first + i), SW_FORM_PLAIN, 0 };

        for (unsigned d = 0; d < ndim; d++) {
            dims[d] = r->pool[l[i].offsets.at + d];
            dims[ndim + d] = r->pool[l[i].sizes.at + d];
            dims[2 * ndim + d] = l[i].strided ? r->pool[l[i].strides.at + d] : 0;
        }
        /* it may say none, where another box of its tensor has some */
        if (!l[i].strided)
            sw_listed_strides(dims + ndim, ndim, dims + 2 * ndim);
        sw_boxlist_add_box(&r->draft, &box, dims, t.sets * ndim, st);
    }
    return st->code;
}

/* The list of all lines, by their tensors. */
static sw_code make_list(reading *r, sw_buf *list, sw_status *st)
{
    r->files = sw_calloc(r->nlines, sizeof *r->files, st);
    sw_sort(r->lines, r->nlines, sizeof *r->lines, by_tensor);
    for (size_t i = 0; r->files && i < r->nlines; i++)
        r->files[i] = r->lines[i].file;
    for (size_t i = 0, n; i < r->nlines && !st->code; i += n) {
        for (n = 1; i + n < r->nlines && strcmp(r->lines[i].name, r->lines[i + n].name) == 0;)
            n++;
        add_tensor(r, i, n, st);
    }
    return st->code ? st->code : sw_boxlist_finish(&r->draft, r->files, r->nlines, false, list, st);
}

sw_code sw_boxlines_read(char *text, size_t n, const char *file, sw_buf *list, sw_status *st)
{
    reading r = { .file = file, .st = st };

    if (!take_lines(&r, text, n, st))
        make_list(&r, list, st);
    sw_boxlist_draft_release(&r.draft);
    free(r.lines);
    free(r.pool);
    free(r.files);
    return st->code;
}
