/* The header of a safetensors file; see header.h. One function for each rule of the grammar, the
 * rule above it:
 *
 *     header   = { member, ... }                 white space around it
 *     member   = "__metadata__": metadata | name: entry
 *     metadata = null | { key: string, ... }
 *     entry    = { "dtype": dtype, "shape": [uint, ...], "data_offsets": [uint, uint], other
 *              members left out }
 *     dtype    = string | { string: null }       the second as the reference library has it
 *     sharding = { name: box, ... }              the text of metadata's member DCP_SHARDING_INFO
 *     box      = { "saved_offsets": [uint, ...], "global_shape": [uint, ...] (optional),
 *              "logical_fqn": string (optional), others left out }
 *
 * Everything lies in the text that was given: names point into it, sharding info is parsed where it
 * stands. */
#include "format/header.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/filenames.h"
#include "format/keys.h"

#define SUM_MAX (UINT64_C(1) << 63)

/* Objects whose keys are gathered (keys.h). */
enum { OBJECT_ROOT, OBJECT_METADATA, OBJECT_FREE };

typedef struct text {
    char *s; /* NULL = not there */
    size_t len;
} text;

typedef struct parser {
    sw_json json;
    sw_status *st;
    const char *file;
    const char *where;  /* which text the parser is in, for messages */
    const char *tensor; /* the entry it is in, or NULL */
    sw_header *h;
    size_t entries_cap, dims_cap, notes_cap;
    sw_keys keys; /* all but the known members of entries and boxes */
    bool has_metadata;
    text sharding, version;
} parser;

/* ---- messages -------------------------------------------------------------------------------- */

static bool refuse(parser *p, const char *fmt, ...) SW_PRINTF(2, 3);

/* Refuse the entry that the parser is in, or the file. False, always. What is no JSON is refused at
 * the end (sw_header_parse()): p->json knows what and where. */
static bool refuse(parser *p, const char *fmt, ...)
{
    char reason[sizeof p->st->reason];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    sw_fail(p->st, SW_EINPUT, p->file, p->tensor, "%s", reason);
    return false;
}

/* ---- parts that occur in several rules ------------------------------------------------------- */

/* For sw_json.key and for our own objects. */
static bool take_key(void *ctx, uint32_t object, const char *s, size_t len)
{
    parser *p = ctx;

    return sw_keys_add(&p->keys, object, s, len, 0, p->st) == SW_OK;
}

/* A member that nobody asked for: still JSON, still without a twin. */
static bool skip_member(parser *p, uint32_t object, const char *key, size_t len)
{
    return take_key(p, object, key, len) && sw_json_skip(&p->json);
}

/* [uint, ...] into the pool of dimensions. */
static bool parse_dims(parser *p, uint32_t *at, uint8_t *ndim)
{
    sw_header *h = p->h;
    bool first = true;
    unsigned n = 0;

    *at = (uint32_t)h->ndims;
    /* A scalar has none, but where they would be must be a place. */
    if (!h->dims && sw_grow(&h->dims, &p->dims_cap, 1, sizeof *h->dims, p->st))
        return false;
    if (!sw_json_open(&p->json, '['))
        return false;
    for (; sw_json_next(&p->json, ']', &first); n++) {
        if (n == SW_MAX_DIMS)
            return sw_json_fail(&p->json, "more than 32 dimensions");
        if (h->ndims == p->dims_cap && sw_grow(&h->dims, &p->dims_cap, h->ndims + 1, sizeof *h->dims, p->st))
            return false;
        if (!sw_json_uint(&p->json, &h->dims[h->ndims]))
            return false;
        h->ndims++;
    }
    *ndim = (uint8_t)n;
    return !p->json.error;
}

/* [begin, end] */
static bool parse_range(parser *p, uint64_t *begin, uint64_t *end)
{
    sw_json *j = &p->json;
    bool good =
        sw_json_take(j, '[') && sw_json_uint(j, begin) && sw_json_take(j, ',') && sw_json_uint(j, end);

    if (good && sw_json_peek(j) != ']')
        return sw_json_fail(j, "data_offsets are not two numbers");
    return good && sw_json_take(j, ']');
}

/* dtype */
static bool parse_dtype(parser *p, uint8_t *out)
{
    sw_json *j = &p->json;
    bool wrapped = sw_json_peek(j) == '{', first = true;
    sw_dtype dtype;
    char *s;
    size_t len;

    if (wrapped && !(sw_json_open(j, '{') && sw_json_next(j, '}', &first)))
        return sw_json_fail(j, "expected a dtype");
    if (!sw_json_string(j, &s, &len))
        return false;
    if (!sw_dtype_parse(s, len, &dtype))
        return refuse(p, "unknown dtype '%.64s'", s);
    *out = (uint8_t)dtype;
    if (!wrapped)
        return true;
    if (!sw_json_take(j, ':') || sw_json_peek(j) != 'n' || !sw_json_skip(j) || sw_json_next(j, '}', &first))
        return sw_json_fail(j, "expected a dtype");
    return !j->error;
}

/* ---- entries --------------------------------------------------------------------------------- */

enum { HAS_DTYPE = 1, HAS_SHAPE = 2, HAS_OFFSETS = 4, HAS_ALL = 7 };

/* 0 = none that is known. */
static unsigned which_member(const char *key, size_t len)
{
    return sw_text_is(key, len, "dtype")          ? HAS_DTYPE
           : sw_text_is(key, len, "shape")        ? HAS_SHAPE
           : sw_text_is(key, len, "data_offsets") ? HAS_OFFSETS
                                                  : 0;
}

/* The value of a member that every entry has. */
static bool parse_known_member(parser *p, sw_entry *e, unsigned member)
{
    switch (member) {
    case HAS_DTYPE:
        return parse_dtype(p, &e->dtype);
    case HAS_SHAPE:
        return parse_dims(p, &e->shape, &e->ndim);
    default:
        return parse_range(p, &e->begin, &e->end);
    }
}

/* { "dtype": dtype, "shape": [uint, ...], "data_offsets": [uint, uint], other members left out } */
static bool parse_members(parser *p, sw_entry *e, unsigned *has)
{
    uint32_t object = p->json.objects++;
    bool first = true;
    char *key;
    size_t len;

    if (sw_json_peek(&p->json) == '[')
        return refuse(p, "the entry is an array, expected an object");
    if (!sw_json_open(&p->json, '{'))
        return false;
    while (sw_json_member(&p->json, &first, &key, &len)) {
        unsigned member = which_member(key, len);

        if (member & *has)
            return refuse(p, "duplicate key '%s' in the entry", key);
        if (member ? !parse_known_member(p, e, member) : !skip_member(p, object, key, len))
            return false;
        *has |= member;
    }
    return !p->json.error;
}

/* Bits of data that shape and dtype ask for: products in the order of the dimensions, as the
 * reference library forms them, so that [2^63, 2^63, 0] does not fit and [0, 2^63, 2^63] does. */
static bool count_bits(const sw_header *h, const sw_entry *e, uint64_t *bits)
{
    *bits = 1;
    for (unsigned d = 0; d < e->ndim; d++)
        if (!sw_mul(*bits, h->dims[e->shape + d], bits))
            return false;
    return sw_mul(*bits, sw_dtype_bits((sw_dtype)e->dtype), bits);
}

/* shape x dtype = range */
static bool check_entry(parser *p, const sw_entry *e)
{
    const char *dtype = sw_dtype_name((sw_dtype)e->dtype);
    uint64_t bits;

    if (e->end < e->begin)
        return refuse(p, "data ends at %" PRIu64 ", before it begins at %" PRIu64, e->end, e->begin);
    if (!count_bits(p->h, e, &bits))
        return refuse(p, "the size of the shape overflows 64 bits as %s", dtype);
    if (bits % 8 != 0)
        return refuse(p, "shape and dtype %s make %" PRIu64 " bits, no whole number of bytes", dtype, bits);
    if (bits / 8 != e->end - e->begin)
        return refuse(p, "shape and dtype %s make %" PRIu64 " bytes, but data_offsets hold %" PRIu64, dtype,
                      bits / 8, e->end - e->begin);
    return true;
}

/* name: entry */
static bool parse_entry(parser *p, const char *name, size_t len)
{
    sw_entry e = {
        .name = name, .name_len = (uint32_t)len, .offsets = SW_NO_DIMS, .global_shape = SW_NO_DIMS
    };
    sw_header *h = p->h;
    unsigned has = 0;

    p->tensor = name;
    if (strlen(name) != len)
        return refuse(p, "the name holds a NUL");
    if (!parse_members(p, &e, &has))
        return false;
    if (has != HAS_ALL)
        return refuse(p, !(has & HAS_DTYPE)   ? "the entry has no dtype"
                         : !(has & HAS_SHAPE) ? "the entry has no shape"
                                              : "the entry has no data_offsets");
    if (!check_entry(p, &e) ||
        sw_grow(&h->entries, &p->entries_cap, h->nentries + 1, sizeof *h->entries, p->st) ||
        sw_keys_add(&p->keys, OBJECT_ROOT, name, len, (uint32_t)h->nentries, p->st))
        return false;
    h->entries[h->nentries++] = e;
    p->tensor = NULL;
    return true;
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* Whatever it says of the file, and not of its boxes. */
static bool add_note(parser *p, const char *key, const char *value)
{
    sw_header *h = p->h;

    if (sw_grow(&h->notes, &p->notes_cap, h->nnotes + UINT64_C(1), sizeof *h->notes, p->st))
        return false;
    h->notes[h->nnotes++] = (sw_note){ key, value };
    return true;
}

/* key: string, of which a few are understood. */
static bool parse_metadata_value(parser *p, const char *key, size_t key_len)
{
    char *value;
    size_t len;

    if (sw_json_peek(&p->json) != '"')
        return sw_json_fail(&p->json, "a value of __metadata__ is not a string");
    if (!sw_json_string(&p->json, &value, &len))
        return false;
    if (sw_text_is(key, key_len, "DCP_SHARDING_INFO")) {
        p->sharding = (text){ value, len };
        return true;
    }
    if (sw_text_is(key, key_len, SW_SHARDS_KEY)) {
        p->h->set = value;
        return true;
    }
    if (sw_text_is(key, key_len, "DCP_VERSION"))
        p->version = (text){ value, len };
    else if (sw_text_is(key, key_len, "format"))
        p->h->format_pt = sw_text_is(value, len, "pt");
    return add_note(p, key, value);
}

/* null | { key: string, ... } */
static bool parse_metadata(parser *p)
{
    bool first = true;
    char *key;
    size_t len;

    if (p->has_metadata)
        return refuse(p, "duplicate key '__metadata__'");
    p->has_metadata = true;
    if (sw_json_peek(&p->json) == 'n')
        return sw_json_skip(&p->json);
    if (!sw_json_open(&p->json, '{'))
        return false;
    while (sw_json_member(&p->json, &first, &key, &len))
        if (!take_key(p, OBJECT_METADATA, key, len) || !parse_metadata_value(p, key, len))
            return false;
    return !p->json.error;
}

/* { member, ... } */
static bool parse_root(parser *p)
{
    bool first = true;
    char *key;
    size_t len;

    if (!sw_json_open(&p->json, '{'))
        return false;
    while (sw_json_member(&p->json, &first, &key, &len))
        if (sw_text_is(key, len, "__metadata__") ? !parse_metadata(p) : !parse_entry(p, key, len))
            return false;
    return sw_json_end(&p->json);
}

/* ---- sharding info --------------------------------------------------------------------------- */

/* The version of torch DCP's layout: 1, or 1 and more numbers behind points. */
static bool is_version_1(const text *v)
{
    size_t i = 1;

    if (v->len == 0 || v->s[0] != '1')
        return false;
    while (i < v->len) {
        size_t digits = strspn(v->s + i + 1, "0123456789");

        if (v->s[i] != '.' || digits == 0)
            return false;
        i += 1 + digits;
    }
    return i == v->len;
}

/* One more array of a box, with as many numbers as the tensor has dimensions. */
static bool parse_box_dims(parser *p, const sw_entry *e, const char *key, uint32_t *at)
{
    uint8_t ndim;

    if (*at != SW_NO_DIMS)
        return refuse(p, "%s: duplicate key '%s'", p->where, key);
    if (!parse_dims(p, at, &ndim))
        return false;
    if (ndim != e->ndim)
        return refuse(p, "%s: %s has %u dimensions, the shape has %u", p->where, key, ndim, e->ndim);
    return true;
}

/* offset + shape within 2^63, and within the global shape where it is told: an empty box may lie
 * anywhere. */
static bool check_box(parser *p, const sw_entry *e)
{
    const sw_header *h = p->h;

    for (unsigned d = 0; d < e->ndim; d++) {
        uint64_t end;

        if (!sw_add(h->dims[e->offsets + d], h->dims[e->shape + d], &end) || end > SUM_MAX)
            return refuse(p, "%s: shape + offset is over 2^63 in dimension %u", p->where, d);
        if (e->global_shape != SW_NO_DIMS && end > h->dims[e->global_shape + d] && e->begin < e->end)
            return refuse(p, "%s: the box ends at %" PRIu64 " in dimension %u, global_shape says %" PRIu64,
                          p->where, end, d, h->dims[e->global_shape + d]);
    }
    return true;
}

/* The tensor that the entry is a box of, where that is not its own name: of several boxes of one
 * tensor each has an entry of a name of its own, `w.__dcp_shard_0`. */
static bool parse_logical(parser *p, text *logical)
{
    if (logical->s)
        return refuse(p, "%s: duplicate key 'logical_fqn'", p->where);
    return sw_json_string(&p->json, &logical->s, &logical->len) &&
           (strlen(logical->s) == logical->len || refuse(p, "%s: logical_fqn holds a NUL", p->where));
}

/* { "saved_offsets": [uint, ...], "global_shape": [uint, ...] (optional), "logical_fqn": string
 * (optional), others left out } */
static bool parse_box(parser *p, sw_entry *e)
{
    uint32_t object = p->json.objects++;
    text logical = { NULL, 0 };
    bool first = true, good;
    char *key;
    size_t len;

    if (!sw_json_open(&p->json, '{'))
        return false;
    while (sw_json_member(&p->json, &first, &key, &len)) {
        if (sw_text_is(key, len, "saved_offsets"))
            good = parse_box_dims(p, e, key, &e->offsets);
        else if (sw_text_is(key, len, "global_shape"))
            good = parse_box_dims(p, e, key, &e->global_shape);
        else if (sw_text_is(key, len, "logical_fqn"))
            good = parse_logical(p, &logical);
        else
            good = skip_member(p, object, key, len);
        if (!good)
            return false;
    }
    if (p->json.error)
        return false;
    if (e->offsets == SW_NO_DIMS)
        return refuse(p, "%s: no saved_offsets", p->where);
    if (logical.s) {
        e->name = logical.s;
        e->name_len = (uint32_t)logical.len;
    }
    return check_box(p, e);
}

/* The entry of that name, or NULL. Sharding info mostly has the order of the entries, so the one
 * behind the last answer is tried first. */
static sw_entry *find_entry(const sw_header *h, const sw_keys *names, size_t *guess, const char *name,
                            size_t len)
{
    const sw_key *key;

    /* One that has its box may have another name by now. */
    if (*guess < h->nentries && h->entries[*guess].offsets == SW_NO_DIMS &&
        h->entries[*guess].name_len == len && memcmp(h->entries[*guess].name, name, len) == 0)
        return &h->entries[(*guess)++];
    key = sw_keys_find(names, OBJECT_ROOT, name, len);
    if (!key)
        return NULL;
    *guess = (size_t)key->value + 1;
    return &h->entries[key->value];
}

/* name: box */
static bool parse_sharding_member(parser *p, const sw_keys *names, size_t *guess, char *name, size_t len)
{
    sw_entry *e = find_entry(p->h, names, guess, name, len);

    if (!e)
        return skip_member(p, OBJECT_ROOT, name, len);
    p->tensor = name;
    if (e->offsets != SW_NO_DIMS)
        return refuse(p, "%s: duplicate key", p->where);
    if (!parse_box(p, e))
        return false;
    p->tensor = NULL;
    return true;
}

/* { name: box, ... }, and a box for each entry */
static bool parse_sharding(parser *p, const sw_keys *names)
{
    bool first = true;
    size_t guess = 0, len;
    char *name;

    if (!sw_json_open(&p->json, '{'))
        return false;
    while (sw_json_member(&p->json, &first, &name, &len))
        if (!parse_sharding_member(p, names, &guess, name, len))
            return false;
    if (!sw_json_end(&p->json))
        return false;
    for (size_t i = 0; i < p->h->nentries; i++) {
        p->tensor = p->h->entries[i].name;
        if (p->h->entries[i].offsets == SW_NO_DIMS)
            return refuse(p, "%s does not name this tensor", p->where);
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The keys of this text: none twice in one object. They stay entered, for find_entry(). */
static bool check_keys(parser *p)
{
    const sw_key *twice;
    const char *name, *of;

    if (sw_keys_enter(&p->keys, &twice, p->st))
        return false;
    if (!twice)
        return true;
    name = p->keys.text + twice->at;
    of = twice->object == OBJECT_ROOT       ? ""
         : twice->object == OBJECT_METADATA ? " in __metadata__"
                                            : " in one object";
    p->tensor = of[0] ? NULL : name;
    return refuse(p, "%s: duplicate key '%.200s'%s", p->where, name, of);
}

/* Begin to parse a text. */
static void start(parser *p, char *s, size_t len, const char *where)
{
    sw_json_init(&p->json, s, len);
    p->json.key = take_key;
    p->json.ctx = p;
    p->json.objects = OBJECT_FREE;
    p->where = where;
    p->tensor = NULL;
}

/* The sharding info is a text of its own, with keys of its own. */
static bool read_sharding(parser *p)
{
    sw_keys names = p->keys;
    bool good;

    if (p->version.s && !is_version_1(&p->version))
        return refuse(p, "DCP_VERSION is '%.64s', expected 1 or 1.x", p->version.s);
    p->h->sharded = true;
    sw_keys_init(&p->keys, names.text);
    start(p, p->sharding.s, p->sharding.len, "DCP_SHARDING_INFO");
    good = parse_sharding(p, &names) && check_keys(p);
    sw_keys_release(&names);
    return good;
}

/* ---- coverage -------------------------------------------------------------------------------- */

/* Entry e comes next and the data before it ends at at, its last piece having begun at group. Of
 * several entries that begin at one place, one at most holds data, and the empty ones may come on
 * either side of it. */
static bool cover_one(parser *p, const sw_entry *e, const sw_entry *last, uint64_t at)
{
    uint64_t group = last ? last->begin : 0;

    if (e->begin == at || (e->begin == group && e->end == group))
        return true;
    if (e->begin > at)
        return refuse(p, "data begins at %" PRIu64 ", expected %" PRIu64 ": a hole of %" PRIu64 " bytes",
                      e->begin, at, e->begin - at);
    return refuse(p, "data begins at %" PRIu64 ", expected %" PRIu64 ": an overlap with tensor '%.200s'",
                  e->begin, at, last ? last->name : "");
}

/* The entries by where they begin: no hole, no overlap, and the end of the last one is the end of
 * the file. */
static bool cover(parser *p, const sw_sort_item *order, uint64_t data_len)
{
    const sw_entry *last = NULL;
    uint64_t at = 0;

    for (size_t i = 0; i < p->h->nentries; i++) {
        const sw_entry *e = &p->h->entries[order[i].index];

        p->tensor = e->name;
        if (!cover_one(p, e, last, at))
            return false;
        if (e->end > data_len)
            return refuse(
                p, "data ends at %" PRIu64 ", but the file holds %" PRIu64 " bytes of data: it is cut short",
                e->end, data_len);
        if (e->end > e->begin) {
            last = e;
            at = e->end;
        }
    }
    p->tensor = NULL;
    if (at != data_len)
        return refuse(p, "%" PRIu64 " bytes at the end belong to no tensor", data_len - at);
    p->h->data_len = at;
    return true;
}

/* The entries cover the data, each byte once. */
static bool check_coverage(parser *p, uint64_t data_len)
{
    const sw_header *h = p->h;
    sw_sort_item *order = sw_calloc(h->nentries, sizeof *order, p->st);
    bool good = false;

    if (!order)
        return false;
    for (size_t i = 0; i < h->nentries; i++)
        order[i] = (sw_sort_item){ h->entries[i].begin, (uint32_t)i };
    if (!sw_sort_items(order, h->nentries, p->st))
        good = cover(p, order, data_len);
    free(order);
    return good;
}

/* ---- the interface --------------------------------------------------------------------------- */

sw_code sw_header_length(const unsigned char first[8], uint64_t file_size, const char *file,
                         uint64_t *len_out, sw_status *st)
{
    uint64_t len;

    if (file_size < 8)
        return sw_fail(st, SW_EINPUT, file, NULL,
                       "the file has %" PRIu64 " bytes, too short for a header length", file_size);
    len = sw_little(first, 8);
    if (len > SW_HEADER_MAX)
        return sw_fail(st, SW_EINPUT, file, NULL, "header length %" PRIu64 " is over the limit of %u bytes",
                       len, SW_HEADER_MAX);
    if (len > file_size - 8)
        return sw_fail(st, SW_EINPUT, file, NULL,
                       "header length %" PRIu64 " goes past the end of the file, which has %" PRIu64 " bytes",
                       len, file_size);
    *len_out = len;
    return SW_OK;
}

/* What the parser takes for granted. */
static bool check_text(parser *p, const char *s, size_t len)
{
    const char *bad;

    if (len > SW_HEADER_MAX)
        return refuse(p, "header length %zu is over the limit of %u bytes", len, SW_HEADER_MAX);
    bad = sw_utf8_invalid(s, len);
    return !bad || refuse(p, "header: bad UTF-8 at byte %td", bad - s);
}

sw_code sw_header_parse(char *s, size_t len, uint64_t data_len, const char *file, sw_header *out,
                        sw_status *st)
{
    parser p = { .st = st, .file = file, .h = out };
    bool good;

    *out = (sw_header)SW_HEADER_INIT;
    start(&p, s, len, "header");
    sw_keys_init(&p.keys, s);
    good = check_text(&p, s, len) && parse_root(&p) && check_keys(&p) && (!p.sharding.s || read_sharding(&p));
    sw_keys_release(&p.keys);
    if (!good && p.json.error)
        refuse(&p, "%s: invalid at byte %" PRIu64 ": %s", p.where, sw_json_pos(&p.json), p.json.error);
    if (!good || !check_coverage(&p, data_len))
        sw_header_release(out);
    return st->code;
}

sw_code sw_header_make_room(sw_header *h, uint64_t n, uint64_t ndims, sw_status *st)
{
    h->entries = sw_calloc(n, sizeof *h->entries, st);
    h->dims = sw_calloc(ndims, sizeof *h->dims, st);
    return st->code;
}

uint32_t sw_header_keep(sw_header *h, const uint64_t *dims, unsigned n)
{
    uint32_t at = (uint32_t)h->ndims;

    if (n)
        memcpy(h->dims + at, dims, n * sizeof *dims);
    h->ndims += n;
    return at;
}

void sw_header_release(sw_header *h)
{
    free(h->entries);
    free(h->dims);
    free(h->notes);
    *h = (sw_header)SW_HEADER_INIT;
}
