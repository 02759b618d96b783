/* Editing and reading config.json as text; see config.h.
 *
 * Editing is one pass: the text is checked from the front, and copied up to a place whenever
 * something has to be exchanged or left out there. Functions that read return false once the text
 * is broken or memory is short. */
#include "format/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

#define DEPTH_MAX 500u /* Python's own reader ends somewhat later */

static const char byte_order_mark[] = "\xef\xbb\xbf";

typedef struct editor {
    const char *begin, *at, *end;
    const char *copied; /* the text before it is in out, or was left out */
    const sw_config_rule *rule;
    unsigned depth;
    const char *error;
    sw_buf *out;
    sw_buf scratch; /* a string that is unescaped */
    sw_status *st;
} editor;

/* A string in the text, its quotes included. */
typedef struct token {
    const char *at;
    size_t len;
} token;

static bool fail(editor *e, const char *what)
{
    if (!e->error)
        e->error = what;
    return false;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The next character other than white space, without taking it; '\0' at the end. */
static char peek(editor *e)
{
    while (e->at < e->end && (*e->at == ' ' || *e->at == '\n' || *e->at == '\r' || *e->at == '\t'))
        e->at++;
    return e->at < e->end ? *e->at : '\0';
}

static bool take(editor *e, char c, const char *expected)
{
    if (peek(e) != c || e->at == e->end)
        return fail(e, e->at == e->end ? "unexpected end of the text" : expected);
    e->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* At a backslash. Halves of surrogate pairs are let through, as Python does. */
static bool take_escape(editor *e)
{
    static const char letters[] = "\"\\/bfnrtu";
    size_t digits = 0;

    if (e->end - e->at < 2)
        return fail(e, "unexpected end of the text");
    if (!memchr(letters, e->at[1], sizeof letters - 1))
        return fail(e, "a bad escape in a string");
    if (e->at[1] == 'u')
        while (digits < 4 && e->end - e->at > (ptrdiff_t)(2 + digits) && is_hex(e->at[2 + digits]))
            digits++;
    if (e->at[1] == 'u' && digits < 4)
        return fail(e, "a bad escape in a string");
    e->at += 2 + digits;
    return true;
}

static bool take_string(editor *e, token *t)
{
    if (!take(e, '"', "expected a string"))
        return false;
    t->at = e->at - 1;
    while (e->at < e->end && *e->at != '"') {
        if ((unsigned char)*e->at < 0x20)
            return fail(e, "a control character in a string");
        if (*e->at != '\\')
            e->at++;
        else if (!take_escape(e))
            return false;
    }
    if (e->at == e->end)
        return fail(e, "unexpected end of the text");
    e->at++;
    t->len = (size_t)(e->at - t->at);
    return true;
}

static bool take_digits(editor *e)
{
    const char *start = e->at;

    while (e->at < e->end && is_digit(*e->at))
        e->at++;
    return e->at > start;
}

static bool take_one_of(editor *e, const char *these)
{
    if (e->at == e->end || !*e->at || !strchr(these, *e->at))
        return false;
    e->at++;
    return true;
}

static bool take_word(editor *e, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(e->end - e->at) < n || memcmp(e->at, word, n) != 0)
        return fail(e, "expected a value");
    e->at += n;
    return true;
}

static bool take_number(editor *e)
{
    bool good;

    if (take_one_of(e, "-") && e->at < e->end && *e->at == 'I')
        return take_word(e, "Infinity");
    good = take_one_of(e, "0") || take_digits(e);
    if (good && take_one_of(e, "."))
        good = take_digits(e);
    if (good && take_one_of(e, "eE")) {
        take_one_of(e, "+-");
        good = take_digits(e);
    }
    return good || fail(e, "a malformed number");
}

static bool enter(editor *e)
{
    e->at++;
    return ++e->depth <= DEPTH_MAX || fail(e, "nested more than 500 deep");
}

/* Behind an item: on to the next one, or past the closing bracket (*more = false). */
static bool take_comma(editor *e, char closing, bool *more)
{
    *more = peek(e) == ',';
    if (*more) {
        e->at++;
        return true;
    }
    e->depth--;
    return take(e, closing, closing == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
}

static bool take_value(editor *e);

/* An array, or (with keys) an object. The recursion is as deep as the text is nested: at most
 * DEPTH_MAX. */
static bool take_items(editor *e, char closing, bool keys)
{
    bool more = true;
    token key;

    if (!enter(e))
        return false;
    if (peek(e) == closing)
        return take_comma(e, closing, &more);
    while (more)
        if ((keys && (!take_string(e, &key) || !take(e, ':', "expected ':'"))) || !take_value(e) ||
            !take_comma(e, closing, &more))
            return false;
    return true;
}

/* Any value, checked. */
static bool take_value(editor *e)
{
    char c = peek(e);
    token t;

    switch (c) {
    case '{':
        return take_items(e, '}', true);
    case '[':
        return take_items(e, ']', false);
    case '"':
        return take_string(e, &t);
    case 't':
        return take_word(e, "true");
    case 'f':
        return take_word(e, "false");
    case 'n':
        return take_word(e, "null");
    case 'N':
        return take_word(e, "NaN");
    case 'I':
        return take_word(e, "Infinity");
    default:
        if (c == '-' || is_digit(c))
            return take_number(e);
        return fail(e, e->at == e->end ? "unexpected end of the text" : "expected a value");
    }
}

/* What a string says, in scratch; not valid Unicode (half a surrogate pair) says nothing that we
 * look for. */
static bool unescape(editor *e, token t, char **s, size_t *len)
{
    sw_json j;

    e->scratch.len = 0;
    if (sw_buf_add(&e->scratch, t.at, t.len, e->st))
        return false;
    sw_json_init(&j, e->scratch.data, e->scratch.len);
    if (!sw_json_string(&j, s, len)) {
        *s = e->scratch.data;
        *len = 0;
    }
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool put(editor *e, const char *text, size_t n)
{
    return sw_buf_add(e->out, text, n, e->st) == SW_OK;
}

static bool copy_to(editor *e, const char *to)
{
    const char *from = e->copied;

    e->copied = to;
    return put(e, from, (size_t)(to - from));
}

static const char *torch_name(sw_dtype dtype)
{
    return dtype == SW_F64    ? "float64"
           : dtype == SW_F32  ? "float32"
           : dtype == SW_BF16 ? "bfloat16"
                              : "float16";
}

/* ---- members --------------------------------------------------------------------------------- */

typedef enum member { MEMBER_OTHER, MEMBER_DTYPE, MEMBER_CONFIG, MEMBER_GONE } member;

static bool is_text(const char *s, size_t len, const char *known)
{
    return len == strlen(known) && memcmp(s, known, len) == 0;
}

static bool ends_with_config(const char *s, size_t len)
{
    static const char suffix[] = "_config";
    const size_t n = sizeof suffix - 1;

    return len >= n && memcmp(s + len - n, suffix, n) == 0;
}

static bool look_at_key(editor *e, token key, member *what)
{
    char *s;
    size_t len;

    if (!unescape(e, key, &s, &len))
        return false;
    *what = MEMBER_OTHER;
    if (is_text(s, len, "quantization_config") && e->rule->no_quantization)
        *what = MEMBER_GONE;
    else if (ends_with_config(s, len))
        *what = MEMBER_CONFIG;
    else if (is_text(s, len, "torch_dtype") || is_text(s, len, "dtype"))
        *what = MEMBER_DTYPE;
    return true;
}

/* At the string that is the value of a dtype. It becomes torch's own name: loaders do not know all
 * spellings. */
static bool edit_dtype(editor *e)
{
    const char *name = torch_name(e->rule->dtype);
    sw_dtype now = SW_NDTYPES;
    char *s;
    size_t len;
    token t;

    if (!take_string(e, &t) || !unescape(e, t, &s, &len))
        return false;
    if (!is_text(s, len, "auto") && !(sw_dtype_parse_any(s, len, &now) && sw_dtype_is_floating(now)))
        return true;
    if (e->rule->dtype == SW_NDTYPES || is_text(s, len, name))
        return true;
    if (!copy_to(e, t.at))
        return false;
    e->copied = e->at;
    return put(e, "\"", 1) && put(e, name, strlen(name)) && put(e, "\"", 1);
}

static bool edit_object(editor *e);

static bool edit_value(editor *e, member what)
{
    char c = peek(e);

    if (what == MEMBER_CONFIG && c == '{')
        return edit_object(e);
    if (what == MEMBER_DTYPE && c == '"')
        return edit_dtype(e);
    return take_value(e);
}

/* At a value that goes; out ends with the white space before its key. Up to the next key nothing is
 * copied; before the closing bracket out is cut back to the last member that stays, which ends at
 * `kept` (`any`), or to the opening bracket. */
static bool drop_member(editor *e, size_t kept, bool any, bool *more)
{
    if (!take_value(e))
        return false;
    e->copied = e->at;
    if (peek(e) == ',') {
        e->at++;
        *more = true;
        peek(e);
        e->copied = e->at;
        return true;
    }
    if (!any)
        e->copied = e->at;
    e->out->len = kept;
    return take_comma(e, '}', more);
}

/* At the opening bracket of an object whose members are looked at. */
static bool edit_object(editor *e)
{
    bool any = false, more = true;
    size_t kept;

    if (!enter(e) || !copy_to(e, e->at))
        return false;
    kept = e->out->len;
    if (peek(e) == '}')
        return take_comma(e, '}', &more);
    while (more) {
        member what;
        token key;

        if (!take_string(e, &key) || !take(e, ':', "expected ':'") || !look_at_key(e, key, &what))
            return false;
        if (what == MEMBER_GONE) {
            if (!copy_to(e, key.at) || !drop_member(e, kept, any, &more))
                return false;
            continue;
        }
        if (!edit_value(e, what) || !copy_to(e, e->at))
            return false;
        kept = e->out->len;
        any = true;
        if (!take_comma(e, '}', &more))
            return false;
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool begin_text(editor *e)
{
    const char *bad = sw_utf8_invalid(e->begin, (size_t)(e->end - e->begin));
    const size_t mark = sizeof byte_order_mark - 1;

    if (bad) {
        e->at = bad;
        return fail(e, "not UTF-8");
    }
    if ((size_t)(e->end - e->begin) >= mark && memcmp(e->begin, byte_order_mark, mark) == 0)
        e->at += mark;
    return true;
}

static bool edit_text(editor *e)
{
    if (!begin_text(e) || !(peek(e) == '{' ? edit_object(e) : take_value(e)))
        return false;
    peek(e);
    if (e->at < e->end)
        return fail(e, "more text after the value");
    return copy_to(e, e->end);
}

static uint64_t line_of(const editor *e)
{
    uint64_t line = 1;

    for (const char *s = e->begin; s < e->at; s++)
        line += *s == '\n';
    return line;
}

sw_code sw_config_edit(const char *text, size_t len, const sw_config_rule *rule, sw_buf *out,
                       sw_config_fault *fault, sw_status *st)
{
    editor e = { .begin = text,
                 .at = text,
                 .end = len ? text + len : text,
                 .copied = text,
                 .rule = rule,
                 .out = out,
                 .st = st };

    *fault = (sw_config_fault){ NULL, 0 };
    out->len = 0;
    if (!edit_text(&e) && !st->code) {
        *fault = (sw_config_fault){ e.error, line_of(&e) };
        out->len = 0;
        sw_buf_add(out, text, len, st);
    }
    sw_buf_release(&e.scratch);
    return st->code;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

#define NAME_MAX_LEN 63u /* longer ones are none of those looked for */

/* Whose members are read: the configuration's, its text model's, or any other part's. */
typedef enum whose { ITS_OWN, TEXT_MODELS, ANY_OTHERS } whose;

/* What was read of the first two. */
typedef struct reader {
    editor e;
    sw_config_sizes found[2], *all;
} reader;

static const char *const size_names[] = { "vocab_size", "hidden_size", "num_hidden_layers" };

const char *sw_config_size_name(sw_config_size size)
{
    return size_names[size];
}

static bool is_one_of(const char *name, const char *const *known)
{
    while (*known && strcmp(name, *known) != 0)
        known++;
    return *known != NULL;
}

/* The scope of a member that describes the text model; NULL = it does not. */
static const char *text_scope(const char *name)
{
    return strcmp(name, "text_config") == 0       ? "text_config."
           : strcmp(name, "llm_config") == 0      ? "llm_config."
           : strcmp(name, "language_config") == 0 ? "language_config."
                                                  : NULL;
}

/* What a number of this name may be the size of. */
static bool may_be(const char *name, sw_config_size size)
{
    static const char *const layers[] = { "num_hidden_layers",
                                          "num_layers",
                                          "n_layer",
                                          "n_layers",
                                          "num_encoder_layers",
                                          "encoder_layers",
                                          "num_decoder_layers",
                                          "decoder_layers",
                                          "depth",
                                          "num_transformer_layers",
                                          NULL };

    switch (size) {
    case SW_CONFIG_VOCAB:
        return strstr(name, "vocab") != NULL;
    case SW_CONFIG_WIDTH:
        return (strstr(name, "hidden") && !strstr(name, "layers")) ||
               (strstr(name, "emb") && !strstr(name, "position")) || strcmp(name, "d_model") == 0 ||
               strcmp(name, "dim") == 0;
    default:
        return is_one_of(name, layers);
    }
}

static bool note_number(reader *r, whose of, const char *name, uint64_t n)
{
    static const char *const decoders[] = { "decoder_layers", "num_decoder_layers", NULL };
    sw_config_sizes *all = r->all, *own = of == ANY_OTHERS ? NULL : &r->found[of];

    for (sw_config_size size = 0; size < SW_CONFIG_NSIZES; size++) {
        if (own && strcmp(name, size_names[size]) == 0)
            own->said[size] = n;
        if (!may_be(name, size))
            continue;
        if (sw_grow(&all->others, &all->cap, (uint64_t)all->nothers + 1, sizeof *all->others, r->e.st))
            return false;
        all->others[all->nothers++] = (sw_config_other){ size, n };
    }
    if (own && n > 0 && is_one_of(name, decoders))
        own->two_stacks = true;
    return true;
}

/* A whole number of at most 18 digits; others are no size of anything: 0. */
static bool read_number(editor *e, uint64_t *n)
{
    const char *at = e->at;

    *n = 0;
    if (!take_number(e))
        return false;
    for (const char *c = at; c < e->at; c++) {
        if (!is_digit(*c) || e->at - at > 18) {
            *n = 0;
            return true;
        }
        *n = 10 * *n + (uint64_t)(*c - '0');
    }
    return true;
}

static bool read_object(reader *r, whose of);

static bool read_member(reader *r, whose of, const char *name)
{
    sw_config_sizes *own = of == ANY_OTHERS ? NULL : &r->found[of];
    editor *e = &r->e;
    char c = peek(e);
    uint64_t n;

    if (c == '{') {
        const char *scope = of == ITS_OWN ? text_scope(name) : NULL;

        if (scope)
            r->found[TEXT_MODELS].scope = scope;
        return read_object(r, scope ? TEXT_MODELS : ANY_OTHERS);
    }
    if (is_digit(c))
        return read_number(e, &n) && note_number(r, of, name, n);
    if (own && c == 't' && strcmp(name, "is_encoder_decoder") == 0)
        own->two_stacks = true;
    if (own && c == '[' && strcmp(name, "block_configs") == 0)
        own->uneven = true;
    return take_value(e);
}

static bool read_object(reader *r, whose of)
{
    editor *e = &r->e;
    char name[NAME_MAX_LEN + 1];
    bool more = true;
    size_t len;
    token key;
    char *s;

    if (!enter(e))
        return false;
    if (peek(e) == '}')
        return take_comma(e, '}', &more);
    while (more) {
        if (!take_string(e, &key) || !take(e, ':', "expected ':'") || !unescape(e, key, &s, &len))
            return false;
        len = len <= NAME_MAX_LEN && !memchr(s, '\0', len) ? len : 0;
        memcpy(name, s, len);
        name[len] = '\0';
        if (!read_member(r, of, name) || !take_comma(e, '}', &more))
            return false;
    }
    return true;
}

sw_code sw_config_read_sizes(const char *text, size_t len, sw_config_sizes *out, sw_status *st)
{
    const char *end = len ? text + len : text;
    reader r = { .e = { .begin = text, .at = text, .end = end, .st = st }, .all = out };
    bool whole;

    *out = (sw_config_sizes){ .scope = "" };
    r.found[ITS_OWN].scope = "";
    whole = begin_text(&r.e) && peek(&r.e) == '{' && read_object(&r, ITS_OWN) && !peek(&r.e) && r.e.at == end;
    sw_buf_release(&r.e.scratch);
    if (whole) {
        const sw_config_sizes *own = &r.found[r.found[TEXT_MODELS].scope ? TEXT_MODELS : ITS_OWN];

        memcpy(out->said, own->said, sizeof out->said);
        out->scope = own->scope;
        out->two_stacks = own->two_stacks || r.found[ITS_OWN].two_stacks;
        out->uneven = own->uneven;
    }
    return st->code;
}

bool sw_config_has_size(const sw_config_sizes *s, sw_config_size size, uint64_t value)
{
    for (size_t i = 0; i < s->nothers; i++)
        if (s->others[i].size == size && s->others[i].value == value)
            return true;
    return false;
}

void sw_config_sizes_release(sw_config_sizes *s)
{
    free(s->others);
    *s = (sw_config_sizes){ .scope = "" };
}

/* ---- block size ------------------------------------------------------------------------------ */

/* An array of two sizes; anything else says nothing. */
static bool take_block_size(sw_json *j, uint64_t block[2])
{
    uint64_t sizes[2] = { 0 }, size;
    bool first = true;
    unsigned n = 0;

    if (!sw_json_open(j, '['))
        return false;
    for (; sw_json_next(j, ']', &first); n++) {
        if (!sw_json_uint(j, &size))
            return false;
        if (n < 2)
            sizes[n] = size;
    }
    if (j->error || n != 2 || !sizes[0] || !sizes[1])
        return false;
    memcpy(block, sizes, sizeof sizes);
    return true;
}

/* The members of an object: is it quantization_config itself? */
static bool find_block_size(sw_json *j, bool quantization, uint64_t block[2])
{
    bool first = true, found = false;
    char *key;
    size_t len;

    if (!sw_json_open(j, '{'))
        return false;
    while (sw_json_next(j, '}', &first)) {
        char c;

        if (!sw_json_string(j, &key, &len) || !sw_json_take(j, ':'))
            break;
        c = sw_json_peek(j);
        if (quantization && c == '[' && is_text(key, len, "weight_block_size"))
            found = take_block_size(j, block) || found;
        else if (c == '{' && ends_with_config(key, len))
            found = find_block_size(j, is_text(key, len, "quantization_config"), block) || found;
        else
            sw_json_skip(j);
        if (j->error)
            break;
    }
    return found;
}

bool sw_config_block_size(char *text, size_t len, uint64_t block[2])
{
    sw_json j;

    if (sw_utf8_invalid(text, len))
        return false;
    sw_json_init(&j, text, len);
    return find_block_size(&j, false, block);
}
