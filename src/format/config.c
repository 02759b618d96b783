/* Editing and reading config.json as text; see config.h.
 *
 * A copy of the text is parsed, whose strings may be unescaped in place; a position in it is one in
 * the text itself. Editing is one pass: the text is checked from the front, and copied up to a
 * place whenever something has to be exchanged or left out there. Functions that read return false
 * once the text is broken or memory is short. */
#include "format/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

typedef struct editor {
    sw_json j;
    const char *text;
    size_t copied; /* what of the text is in out, or was left out */
    const sw_config_rule *rule;
    sw_buf *out;
    sw_status *st;
} editor;

/* ---- parts ----------------------------------------------------------------------------------- */

/* Begin to parse a copy of the text as Python does; the copy is the caller's to release. */
static bool begin_text(sw_json *j, const char *text, size_t len, sw_buf *copy, sw_status *st)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    const size_t mark = sizeof byte_order_mark - 1;
    const char *bad = sw_utf8_invalid(text, len);

    if (sw_buf_reserve(copy, len + UINT64_C(1), st) || sw_buf_add(copy, text, len, st))
        return false;
    sw_json_init(j, copy->data, len);
    j->python = true;
    if (bad) {
        j->at += bad - text;
        return sw_json_fail(j, "not UTF-8");
    }
    if (len >= mark && memcmp(text, byte_order_mark, mark) == 0)
        j->at += mark;
    return true;
}

/* Members of this kind are looked into. */
static bool ends_with_config(const char *s, size_t len)
{
    static const char suffix[] = "_config";
    const size_t n = sizeof suffix - 1;

    return len >= n && memcmp(s + len - n, suffix, n) == 0;
}

/* Put n bytes into out in the place of what lies between from and where the parser stands. */
static bool exchange(editor *e, size_t from, const char *put, size_t n)
{
    const char *kept = e->text + e->copied;

    if (sw_buf_add(e->out, kept, from - e->copied, e->st) || sw_buf_add(e->out, put, n, e->st))
        return false;
    e->copied = (size_t)sw_json_pos(&e->j);
    return true;
}

/* All up to where the parser stands. */
static bool copy(editor *e)
{
    return exchange(e, (size_t)sw_json_pos(&e->j), NULL, 0);
}

/* ---- members --------------------------------------------------------------------------------- */

/* At the value of a dtype. It becomes torch's own name: loaders do not know all spellings. */
static bool edit_dtype(editor *e)
{
    const char *name = e->rule->dtype == SW_F64    ? "\"float64\""
                       : e->rule->dtype == SW_F32  ? "\"float32\""
                       : e->rule->dtype == SW_BF16 ? "\"bfloat16\""
                                                   : "\"float16\"";
    size_t from = (size_t)sw_json_pos(&e->j), n = strlen(name), len;
    sw_dtype now = SW_NDTYPES;
    char *s;

    if (!sw_json_string(&e->j, &s, &len))
        return false;
    if (!sw_text_is(s, len, "auto") && !(sw_dtype_parse_any(s, len, &now) && sw_dtype_is_floating(now)))
        return true;
    if (e->rule->dtype == SW_NDTYPES || (len == n - 2 && memcmp(s, name + 1, len) == 0))
        return true;
    return exchange(e, from, name, n);
}

static bool edit_object(editor *e);

/* At the value of a member that stays. */
static bool edit_value(editor *e, const char *key, size_t len)
{
    char c = sw_json_peek(&e->j);

    if (c == '{' && ends_with_config(key, len))
        return edit_object(e);
    if (c == '"' && (sw_text_is(key, len, "torch_dtype") || sw_text_is(key, len, "dtype")))
        return edit_dtype(e);
    return sw_json_skip(&e->j);
}

/* At the opening bracket of an object whose members are looked at. Of one that goes nothing is
 * copied up to the next key; before the closing bracket out is cut back to the last member that
 * stays, or to the opening bracket. */
static bool edit_object(editor *e)
{
    bool first = true, any = false, gone = false;
    size_t kept, value_end = 0, len;
    sw_json *j = &e->j;
    char *key;

    if (!sw_json_open(j, '{') || !copy(e))
        return false;
    kept = e->out->len;
    while (sw_json_next(j, '}', &first)) {
        sw_json_peek(j);
        if (gone)
            e->copied = (size_t)sw_json_pos(j);
        if (!copy(e) || !sw_json_string(j, &key, &len) || !sw_json_take(j, ':'))
            return false;
        gone = e->rule->no_quantization && sw_text_is(key, len, "quantization_config");
        if (gone ? !sw_json_skip(j) : (!edit_value(e, key, len) || !copy(e)))
            return false;
        value_end = (size_t)sw_json_pos(j);
        any = any || !gone;
        kept = gone ? kept : e->out->len;
    }
    if (gone && !j->error) {
        e->out->len = kept;
        e->copied = any ? value_end : (size_t)sw_json_pos(j) - 1;
    }
    return !j->error;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The line of a position, from 1. */
static uint64_t line_of(const char *text, uint64_t pos)
{
    uint64_t line = 1;

    for (uint64_t i = 0; i < pos; i++)
        line += text[i] == '\n';
    return line;
}

sw_code sw_config_edit(const char *text, size_t len, const sw_config_rule *rule, sw_buf *out,
                       sw_config_fault *fault, sw_status *st)
{
    editor e = { .text = text, .rule = rule, .out = out, .st = st };
    sw_buf parsed = SW_BUF_INIT;
    sw_json *j = &e.j;

    *fault = (sw_config_fault){ NULL, 0 };
    out->len = 0;
    if (!(begin_text(j, text, len, &parsed, st) &&
          (sw_json_peek(j) == '{' ? edit_object(&e) : sw_json_skip(j)) && sw_json_end(j) && copy(&e)) &&
        !st->code) {
        *fault = (sw_config_fault){ j->error, line_of(text, sw_json_pos(j)) };
        out->len = 0;
        sw_buf_add(out, text, len, st);
    }
    sw_buf_release(&parsed);
    return st->code;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

#define NAME_MAX_LEN 63u /* longer ones are none of those looked for */

/* Whose members are read: the configuration's, its text model's, or any other part's. */
typedef enum whose { ITS_OWN, TEXT_MODELS, ANY_OTHERS } whose;

/* What was read of the first two. */
typedef struct reader {
    sw_json j;
    sw_status *st;
    sw_config_sizes found[2], *all;
} reader;

static const char *const size_names[] = { "vocab_size", "hidden_size", "num_hidden_layers" };

const char *sw_config_size_name(sw_config_size size)
{
    return size_names[size];
}

/* known ends with NULL. */
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

/* What a number of a configuration tells of: maybe a size, maybe a second stack. */
static bool note_number(reader *r, whose of, const char *name, uint64_t n)
{
    static const char *const decoders[] = { "decoder_layers", "num_decoder_layers", NULL };
    sw_config_sizes *all = r->all, *own = of == ANY_OTHERS ? NULL : &r->found[of];

    for (sw_config_size size = 0; size < SW_CONFIG_NSIZES; size++) {
        if (own && strcmp(name, size_names[size]) == 0)
            own->said[size] = n;
        if (!may_be(name, size))
            continue;
        if (sw_grow(&all->others, &all->cap, (uint64_t)all->nothers + 1, sizeof *all->others, r->st))
            return false;
        all->others[all->nothers++] = (sw_config_other){ size, n };
    }
    if (own && n > 0 && is_one_of(name, decoders))
        own->two_stacks = true;
    return true;
}

/* A whole number of at most 18 digits; others are no size of anything: 0. */
static bool read_number(sw_json *j, uint64_t *n)
{
    const char *at = j->at;
    bool whole;

    if (!sw_json_skip(j))
        return false;
    whole = j->at - at <= 18;
    for (*n = 0; at < j->at && whole; at++) {
        whole = isdigit((unsigned char)*at);
        *n = whole ? 10 * *n + (uint64_t)(*at - '0') : 0;
    }
    return true;
}

static bool read_object(reader *r, whose of);

/* At a member's value. */
static bool read_member(reader *r, whose of, const char *name)
{
    sw_config_sizes *own = of == ANY_OTHERS ? NULL : &r->found[of];
    char c = sw_json_peek(&r->j);
    uint64_t n;

    if (c == '{') {
        const char *scope = of == ITS_OWN ? text_scope(name) : NULL;

        if (scope)
            r->found[TEXT_MODELS].scope = scope;
        return read_object(r, scope ? TEXT_MODELS : ANY_OTHERS);
    }
    if (isdigit((unsigned char)c))
        return read_number(&r->j, &n) && note_number(r, of, name, n);
    if (own && c == 't' && strcmp(name, "is_encoder_decoder") == 0)
        own->two_stacks = true;
    if (own && c == '[' && strcmp(name, "block_configs") == 0)
        own->uneven = true;
    return sw_json_skip(&r->j);
}

/* All members of an object. */
static bool read_object(reader *r, whose of)
{
    sw_json *j = &r->j;
    bool first = true;
    size_t len;
    char *s;

    if (!sw_json_open(j, '{'))
        return false;
    while (sw_json_member(j, &first, &s, &len))
        if (!read_member(r, of, len <= NAME_MAX_LEN && strlen(s) == len ? s : ""))
            return false;
    return !j->error;
}

sw_code sw_config_read_sizes(const char *text, size_t len, sw_config_sizes *out, sw_status *st)
{
    reader r = { .st = st, .all = out };
    sw_buf parsed = SW_BUF_INIT;

    *out = (sw_config_sizes){ .scope = "" };
    r.found[ITS_OWN].scope = "";
    if (begin_text(&r.j, text, len, &parsed, st) && read_object(&r, ITS_OWN) && sw_json_end(&r.j)) {
        const sw_config_sizes *own = &r.found[r.found[TEXT_MODELS].scope ? TEXT_MODELS : ITS_OWN];

        memcpy(out->said, own->said, sizeof out->said);
        out->scope = own->scope;
        out->two_stacks = own->two_stacks || r.found[ITS_OWN].two_stacks;
        out->uneven = own->uneven;
    }
    sw_buf_release(&parsed);
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
    while (sw_json_member(j, &first, &key, &len)) {
        char c = sw_json_peek(j);

        if (quantization && c == '[' && sw_text_is(key, len, "weight_block_size"))
            found = take_block_size(j, block) || found;
        else if (c == '{' && ends_with_config(key, len))
            found = find_block_size(j, sw_text_is(key, len, "quantization_config"), block) || found;
        else
            sw_json_skip(j);
    }
    return found;
}

bool sw_config_block_size(char *text, size_t len, uint64_t block[2])
{
    sw_json j;

    if (sw_utf8_invalid(text, len))
        return false;
    sw_json_init(&j, text, len);
    j.python = true;
    return find_block_size(&j, false, block);
}
