/* A stack machine that makes values and calls nothing; see pickle.h. */
#include "format/pickle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "base/utf8.h"

/* ---- values ----------------------------------------------------------------------------------
 *
 * A value is a tag and 60 bits: a small number, the position of an opcode in the text (strings,
 * floats, names), or of a container in the words:
 *   TUPLE       count, items
 *   LIST DICT SET  count, first and last chunk (32 bits each; 0 = none)
 *   OBJECT      class, args, state
 *   PERSISTENT  what names it
 *   GLOBAL      module, name (of two texts; one that stands in the text is a value of its own)
 * A chunk is: the next one and how many items it has (32 bits each), items. */

enum tag {
    T_NONE,
    T_BOOL,
    T_INT,
    T_FLOAT,
    T_TEXT,
    T_BYTES,
    T_LINES, /* GLOBAL: two lines in the text */
    T_NAMES, /* GLOBAL: two values */
    T_TUPLE,
    T_LIST,
    T_DICT,
    T_SET,
    T_OBJECT,
    T_PERSISTENT,
    T_HUGE,
    T_MARK
};

#define NONE UINT64_C(0)
#define PAYLOAD_BITS 60
#define SMALL_MAX (INT64_C(1) << (PAYLOAD_BITS - 1))

static sw_value value_of(enum tag tag, uint64_t payload)
{
    return payload << 4 | (uint64_t)tag;
}

static enum tag tag_of(sw_value v)
{
    return (enum tag)(v & 15);
}

static uint64_t payload_of(sw_value v)
{
    return v >> 4;
}

static bool is_container(sw_value v)
{
    return tag_of(v) == T_LIST || tag_of(v) == T_DICT || tag_of(v) == T_SET;
}

/* ---- the machine ----------------------------------------------------------------------------- */

typedef struct machine {
    sw_pickle *p;
    const char *file, *tensor;
    size_t at, op; /* the next byte; where the opcode stands */
    sw_value *stack, *memo;
    size_t n, cap, nmemo, memo_cap;
    size_t given; /* numbers of the memo, of which some may be left out */
    bool stopped;
} machine;

/* An error where the machine stands. */
static sw_code bad(const machine *m, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, m->file, m->tensor, "pickle: %s at byte %zu", what, m->op);
}

/* n bytes of the text, which are consumed; NULL = it ends before. */
static const unsigned char *take(machine *m, uint64_t n, sw_status *st)
{
    const unsigned char *bytes = m->p->text + m->at;

    if (n > m->p->len - m->at) {
        bad(m, "cut off", st);
        return NULL;
    }
    m->at += (size_t)n;
    return bytes;
}

/* A number of n bytes, little-endian; 0 on an error. */
static uint64_t take_number(machine *m, unsigned n, sw_status *st)
{
    const unsigned char *bytes = take(m, n, st);

    return bytes ? sw_little(bytes, n) : 0;
}

/* A value onto the stack. */
static sw_code push(machine *m, sw_value v, sw_status *st)
{
    if (m->n == m->cap && sw_grow(&m->stack, &m->cap, m->n + 1, sizeof *m->stack, st))
        return st->code;
    m->stack[m->n++] = v;
    return SW_OK;
}

/* Are there n values on top? A mark is none. */
static sw_code need(const machine *m, size_t n, sw_status *st)
{
    for (size_t i = 0; i < n; i++)
        if (i >= m->n || tag_of(m->stack[m->n - 1 - i]) == T_MARK)
            return bad(m, "nothing on the stack", st);
    return st->code;
}

/* The value on top. */
static sw_code pop(machine *m, sw_value *v, sw_status *st)
{
    *v = NONE;
    if (!need(m, 1, st))
        *v = m->stack[--m->n];
    return st->code;
}

/* Where the values above the last mark begin; 0 on an error. */
static size_t above_mark(const machine *m, sw_status *st)
{
    for (size_t i = m->n; i-- > 0;)
        if (tag_of(m->stack[i]) == T_MARK)
            return i + 1;
    bad(m, "no mark on the stack", st);
    return 0;
}

/* Room for n words of a container, which begin at *at. */
static sw_code words(machine *m, uint64_t n, uint64_t *at, sw_status *st)
{
    sw_pickle *p = m->p;

    *at = p->nwords;
    if (p->nwords + n > UINT32_MAX)
        return bad(m, "too large", st);
    if (p->nwords + n > p->cap && sw_grow(&p->words, &p->cap, p->nwords + n, sizeof *p->words, st))
        return st->code;
    p->nwords += (size_t)n;
    return SW_OK;
}

/* A container of these words is pushed. */
static sw_code push_words(machine *m, enum tag tag, const uint64_t *w, uint64_t n, sw_status *st)
{
    uint64_t at;

    if (words(m, n, &at, st))
        return st->code;
    memcpy(m->p->words + at, w, (size_t)n * sizeof *w);
    return push(m, value_of(tag, at), st);
}

/* The n topmost values become a tuple. */
static sw_code make_tuple(machine *m, size_t first, sw_status *st)
{
    uint64_t n = m->n - first, at;

    if (words(m, n + 1, &at, st))
        return st->code;
    m->p->words[at] = n;
    if (n)
        memcpy(m->p->words + at + 1, m->stack + first, (size_t)n * sizeof *m->stack);
    m->n = first;
    return push(m, value_of(T_TUPLE, at), st);
}

/* TUPLE1 to TUPLE3: the n topmost values. */
static sw_code make_short_tuple(machine *m, size_t n, sw_status *st)
{
    return need(m, n, st) ? st->code : make_tuple(m, m->n - n, st);
}

/* TUPLE: all values above the mark. */
static sw_code make_long_tuple(machine *m, sw_status *st)
{
    size_t first = above_mark(m, st);

    if (!first || make_tuple(m, first, st))
        return st->code;
    /* It takes the mark's place. */
    m->stack[first - 1] = m->stack[first];
    m->n = first;
    return SW_OK;
}

/* An empty container. */
static sw_code make_empty(machine *m, enum tag tag, sw_status *st)
{
    const uint64_t w[2] = { 0, 0 };

    return push_words(m, tag, w, 2, st);
}

/* The values from first on go into the container below them. An object that is filled so, as an
 * OrderedDict, gets a container for its state. */
static sw_code fill(machine *m, enum tag tag, size_t below, size_t first, sw_status *st)
{
    uint64_t n = m->n - first, chunk, *head;
    sw_value c;

    if (below >= m->n || below + 1 > first || tag_of(m->stack[below]) == T_MARK)
        return bad(m, "nothing on the stack", st);
    c = m->stack[below];
    if (tag == T_DICT && n % 2)
        return bad(m, "a key without a value", st);
    if (tag_of(c) == T_OBJECT) {
        uint64_t state = m->p->words[payload_of(c) + 2];

        if (state == NONE) {
            if (make_empty(m, tag, st))
                return st->code;
            state = m->stack[--m->n];
            m->p->words[payload_of(c) + 2] = state;
        }
        c = state;
    }
    if (tag_of(c) != tag)
        return bad(m, "items for what takes none", st);
    if (n && !words(m, n + 1, &chunk, st)) {
        m->p->words[chunk] = n;
        memcpy(m->p->words + chunk + 1, m->stack + first, (size_t)n * sizeof *m->stack);
        head = m->p->words + payload_of(c);
        head[0] += n;
        if (head[1])
            m->p->words[head[1] & UINT32_MAX] |= chunk << 32;
        head[1] = head[1] ? (head[1] >> 32) << 32 | chunk : chunk << 32 | chunk;
    }
    m->n = below + 1;
    return st->code;
}

/* What stands above the last mark goes into the container below it, or, without a mark, the topmost
 * n. */
static sw_code fill_many(machine *m, enum tag tag, sw_status *st)
{
    size_t first = above_mark(m, st);

    if (first < 2)
        return bad(m, "nothing on the stack", st);
    return fill(m, tag, first - 2, first, st);
}

/* APPEND and SETITEM: the n topmost values go into the container below them. */
static sw_code fill_few(machine *m, enum tag tag, size_t n, sw_status *st)
{
    return need(m, n + 1, st) ? st->code : fill(m, tag, m->n - n - 1, m->n - n, st);
}

/* LIST, DICT and FROZENSET: a container of what stands above the mark, in its place. */
static sw_code make_filled(machine *m, enum tag tag, sw_status *st)
{
    size_t first = above_mark(m, st);
    sw_value c;

    if (!first || make_empty(m, tag, st))
        return st->code;
    /* The empty one takes the mark's place. */
    c = m->stack[--m->n];
    m->stack[first - 1] = c;
    return fill(m, tag, first - 1, first, st);
}

/* ---- opcodes --------------------------------------------------------------------------------- */

/* A signed number of n bytes. */
static sw_code push_signed(machine *m, uint64_t n, sw_status *st)
{
    const unsigned char *bytes = take(m, n, st);
    uint64_t x = 0;
    int64_t i;

    if (!bytes)
        return st->code;
    if (n > 8)
        return push(m, value_of(T_HUGE, m->op), st);
    if (n) {
        x = sw_little(bytes, (unsigned)n);
        if (bytes[n - 1] & 0x80 && n < 8)
            x |= UINT64_MAX << (8 * n);
    }
    memcpy(&i, &x, sizeof i);
    if (i >= SMALL_MAX || i < -SMALL_MAX)
        return push(m, value_of(T_HUGE, m->op), st);
    return push(m, value_of(T_INT, x & (UINT64_MAX >> 4)), st);
}

/* Text or bytes behind a length of so many bytes: the value is where the opcode stands. */
static sw_code push_string(machine *m, enum tag tag, unsigned length_bytes, sw_status *st)
{
    uint64_t n = take_number(m, length_bytes, st);

    if (st->code || !take(m, n, st))
        return st->code;
    return push(m, value_of(tag, m->op), st);
}

/* GLOBAL: module and name are two lines of the text. */
static sw_code push_lines(machine *m, sw_status *st)
{
    for (int i = 0; i < 2; i++) {
        const unsigned char *from = m->p->text + m->at, *end = memchr(from, '\n', m->p->len - m->at);

        if (!end)
            return bad(m, "cut off", st);
        m->at += (size_t)(end - from) + 1;
    }
    return push(m, value_of(T_LINES, m->op), st);
}

/* STACK_GLOBAL: module and name are values. */
static sw_code push_names(machine *m, sw_status *st)
{
    sw_value w[2];

    if (pop(m, &w[1], st) || pop(m, &w[0], st))
        return st->code;
    if (tag_of(w[0]) != T_TEXT || tag_of(w[1]) != T_TEXT)
        return bad(m, "a global without a name", st);
    return push_words(m, T_NAMES, w, 2, st);
}

/* A call, which is not made. torch.Size(tuple) is that tuple: there are two for each box. */
static sw_code push_object(machine *m, sw_status *st)
{
    sw_value w[3] = { NONE, NONE, NONE }, item;

    if (pop(m, &w[1], st) || pop(m, &w[0], st))
        return st->code;
    if (tag_of(w[1]) != T_TUPLE)
        return bad(m, "a call without a tuple", st);
    if (sw_value_is_a(m->p, w[0], "torch", "Size") && sw_value_item(m->p, w[1], 0, &item) &&
        tag_of(item) == T_TUPLE)
        return push(m, item, st);
    return push_words(m, T_OBJECT, w, 3, st);
}

/* NEWOBJ_EX has a dict of arguments too, of which nothing is asked. */
static sw_code push_object_ex(machine *m, sw_status *st)
{
    sw_value ignored;

    return pop(m, &ignored, st) ? st->code : push_object(m, st);
}

/* BUILD: the topmost value is the state of the object below it. */
static sw_code build(machine *m, sw_status *st)
{
    sw_value state, *object;

    if (pop(m, &state, st) || need(m, 1, st))
        return st->code;
    object = &m->stack[m->n - 1];
    /* What else has a state (a function, a container) is not asked for it. */
    if (tag_of(*object) == T_OBJECT)
        m->p->words[payload_of(*object) + 2] = state;
    return SW_OK;
}

/* BINPERSID: what stands outside, by its name. */
static sw_code push_persistent(machine *m, sw_status *st)
{
    sw_value name;

    if (pop(m, &name, st))
        return st->code;
    return push_words(m, T_PERSISTENT, &name, 1, st);
}

/* Numbers of the memo are given in order, so that one beyond the length of the text is a lie. */
static sw_code put(machine *m, uint64_t i, sw_status *st)
{
    if (st->code || need(m, 1, st))
        return st->code;
    if (i >= m->p->len)
        return bad(m, "a memo number that is too large", st);
    if (i >= m->memo_cap && sw_grow(&m->memo, &m->memo_cap, i + 1, sizeof *m->memo, st))
        return st->code;
    for (; m->nmemo <= i; m->nmemo++)
        m->memo[m->nmemo] = value_of(T_MARK, 0);
    m->given += tag_of(m->memo[i]) == T_MARK;
    m->memo[i] = m->stack[m->n - 1];
    return SW_OK;
}

/* A value from the memo. */
static sw_code get(machine *m, uint64_t i, sw_status *st)
{
    if (st->code)
        return st->code;
    if (i >= m->nmemo || tag_of(m->memo[i]) == T_MARK)
        return bad(m, "a memo number that was never given", st);
    return push(m, m->memo[i], st);
}

/* POP: a value or a mark. */
static sw_code pop_one(machine *m, sw_status *st)
{
    if (m->n == 0)
        return bad(m, "nothing on the stack", st);
    m->n--;
    return SW_OK;
}

/* POP_MARK: all down to the last mark. */
static sw_code pop_mark(machine *m, sw_status *st)
{
    size_t first = above_mark(m, st);

    if (first)
        m->n = first - 1;
    return st->code;
}

/* DUP */
static sw_code duplicate(machine *m, sw_status *st)
{
    sw_value v;

    return pop(m, &v, st) || push(m, v, st) || push(m, v, st) ? st->code : SW_OK;
}

/* PROTO */
static sw_code protocol(machine *m, sw_status *st)
{
    uint64_t version = take_number(m, 1, st);

    if (!st->code && (version < 2 || version > 5))
        bad(m, "a protocol that is not 2 to 5", st);
    return st->code;
}

/* STOP: what is left is all. */
static sw_code stop(machine *m, sw_status *st)
{
    if (pop(m, &m->p->root, st))
        return st->code;
    m->stopped = true;
    return m->n ? bad(m, "values are left over", st) : SW_OK;
}

/* An opcode that is not taken. */
static sw_code unknown(const machine *m, unsigned op, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, m->file, m->tensor,
                   "pickle: opcode 0x%02x at byte %zu is none that checkpoints are written with", op, m->op);
}

/* One opcode. Names as in Python's pickletools. */
static sw_code step(machine *m, sw_status *st)
{
    unsigned op = (unsigned)take_number(m, 1, st);

    if (st->code)
        return st->code;
    switch (op) {
    case 0x80: /* PROTO */
        return protocol(m, st);
    case 0x95: /* FRAME: the frames' lengths say nothing that the text does not */
        return take_number(m, 8, st) > m->p->len - m->at && !st->code ? bad(m, "cut off", st) : st->code;
    case 'N':
        return push(m, NONE, st);
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push(m, value_of(T_BOOL, op == 0x88), st);
    case 'K': /* BININT1 */
    case 'M': /* BININT2 */
        return push(m, value_of(T_INT, take_number(m, op == 'K' ? 1 : 2, st)), st);
    case 'J': /* BININT */
        return push_signed(m, 4, st);
    case 0x8a: /* LONG1 */
    case 0x8b: /* LONG4 */
        return push_signed(m, take_number(m, op == 0x8a ? 1 : 4, st), st);
    case 'G': /* BINFLOAT */
        return take(m, 8, st) ? push(m, value_of(T_FLOAT, m->op), st) : st->code;
    case 0x8c: /* SHORT_BINUNICODE */
    case 'U':  /* SHORT_BINSTRING */
        return push_string(m, T_TEXT, 1, st);
    case 'X': /* BINUNICODE */
    case 'T': /* BINSTRING */
        return push_string(m, T_TEXT, 4, st);
    case 0x8d: /* BINUNICODE8 */
        return push_string(m, T_TEXT, 8, st);
    case 'C': /* SHORT_BINBYTES */
        return push_string(m, T_BYTES, 1, st);
    case 'B': /* BINBYTES */
        return push_string(m, T_BYTES, 4, st);
    case 0x8e: /* BINBYTES8 */
    case 0x96: /* BYTEARRAY8 */
        return push_string(m, T_BYTES, 8, st);
    case 'c': /* GLOBAL */
        return push_lines(m, st);
    case 0x93: /* STACK_GLOBAL */
        return push_names(m, st);
    case '(': /* MARK */
        return push(m, value_of(T_MARK, 0), st);
    case ')': /* EMPTY_TUPLE */
        return make_tuple(m, m->n, st);
    case 0x85: /* TUPLE1 */
    case 0x86: /* TUPLE2 */
    case 0x87: /* TUPLE3 */
        return make_short_tuple(m, op - 0x84, st);
    case 't': /* TUPLE */
        return make_long_tuple(m, st);
    case ']': /* EMPTY_LIST */
        return make_empty(m, T_LIST, st);
    case '}': /* EMPTY_DICT */
        return make_empty(m, T_DICT, st);
    case 0x8f: /* EMPTY_SET */
        return make_empty(m, T_SET, st);
    case 'l': /* LIST */
        return make_filled(m, T_LIST, st);
    case 'd': /* DICT */
        return make_filled(m, T_DICT, st);
    case 0x91: /* FROZENSET */
        return make_filled(m, T_SET, st);
    case 'a': /* APPEND */
        return fill_few(m, T_LIST, 1, st);
    case 's': /* SETITEM */
        return fill_few(m, T_DICT, 2, st);
    case 'e': /* APPENDS */
        return fill_many(m, T_LIST, st);
    case 'u': /* SETITEMS */
        return fill_many(m, T_DICT, st);
    case 0x90: /* ADDITEMS */
        return fill_many(m, T_SET, st);
    case 'R':  /* REDUCE */
    case 0x81: /* NEWOBJ */
        return push_object(m, st);
    case 0x92: /* NEWOBJ_EX */
        return push_object_ex(m, st);
    case 'b': /* BUILD */
        return build(m, st);
    case 'Q': /* BINPERSID */
        return push_persistent(m, st);
    case 0x94: /* MEMOIZE */
        return put(m, m->given, st);
    case 'q': /* BINPUT */
    case 'r': /* LONG_BINPUT */
        return put(m, take_number(m, op == 'q' ? 1 : 4, st), st);
    case 'h': /* BINGET */
    case 'j': /* LONG_BINGET */
        return get(m, take_number(m, op == 'h' ? 1 : 4, st), st);
    case '0': /* POP */
        return pop_one(m, st);
    case '1': /* POP_MARK */
        return pop_mark(m, st);
    case '2': /* DUP */
        return duplicate(m, st);
    case '.': /* STOP */
        return stop(m, st);
    default:
        return unknown(m, op, st);
    }
}

sw_code sw_pickle_parse(const void *text, size_t n, const char *file, const char *tensor, sw_pickle *out,
                        sw_status *st)
{
    machine m = { .p = out, .file = file, .tensor = tensor };
    uint64_t unused;

    *out = (sw_pickle){ .text = text, .len = n };
    /* Position 0 of the words is no container: 0 ends a list of chunks. */
    words(&m, 1, &unused, st);
    if (n < 2 || out->text[0] != 0x80)
        bad(&m, "no protocol 2 to 5", st);
    while (!st->code && !m.stopped) {
        m.op = m.at;
        step(&m, st);
    }
    if (!st->code && m.at < n)
        sw_fail(st, SW_EINPUT, file, tensor, "pickle: %zu bytes behind its end", n - m.at);
    free(m.stack);
    free(m.memo);
    if (st->code)
        sw_pickle_release(out);
    return st->code;
}

void sw_pickle_release(sw_pickle *p)
{
    free(p->words);
    *p = (sw_pickle)SW_PICKLE_INIT;
}

/* ---- asking ---------------------------------------------------------------------------------- */

sw_kind sw_value_kind(const sw_pickle *p, sw_value v)
{
    static const sw_kind kinds[] = { [T_NONE] = SW_KIND_NONE,     [T_BOOL] = SW_KIND_BOOL,
                                     [T_INT] = SW_KIND_INT,       [T_FLOAT] = SW_KIND_FLOAT,
                                     [T_TEXT] = SW_KIND_TEXT,     [T_BYTES] = SW_KIND_BYTES,
                                     [T_LINES] = SW_KIND_GLOBAL,  [T_NAMES] = SW_KIND_GLOBAL,
                                     [T_TUPLE] = SW_KIND_TUPLE,   [T_LIST] = SW_KIND_LIST,
                                     [T_DICT] = SW_KIND_DICT,     [T_SET] = SW_KIND_SET,
                                     [T_OBJECT] = SW_KIND_OBJECT, [T_PERSISTENT] = SW_KIND_PERSISTENT,
                                     [T_HUGE] = SW_KIND_HUGE,     [T_MARK] = SW_KIND_NONE };

    (void)p;
    return kinds[tag_of(v)];
}

bool sw_value_size(const sw_pickle *p, sw_value v, uint64_t *out)
{
    (void)p;
    *out = payload_of(v);
    return tag_of(v) == T_INT && *out < (uint64_t)SMALL_MAX;
}

const char *sw_value_text(const sw_pickle *p, sw_value v, size_t *len)
{
    const unsigned char *at = p->text + payload_of(v);
    unsigned n;

    *len = 0;
    if (tag_of(v) != T_TEXT && tag_of(v) != T_BYTES)
        return NULL;
    n = *at == 0x8c || *at == 'U' || *at == 'C' ? 1 : *at == 'X' || *at == 'T' || *at == 'B' ? 4 : 8;
    *len = (size_t)sw_little(at + 1, n);
    return (const char *)at + 1 + n;
}

bool sw_value_is_text(const sw_pickle *p, sw_value v, const char *text)
{
    size_t len;
    const char *s = sw_value_text(p, v, &len);

    return s && sw_text_is(s, len, text);
}

/* The parser has seen that it ends. */
static size_t line_length(const char *line, const char *end)
{
    const char *at = memchr(line, '\n', (size_t)(end - line));

    return at ? (size_t)(at - line) : 0;
}

bool sw_value_global(const sw_pickle *p, sw_value v, sw_global *out)
{
    *out = (sw_global){ NULL, NULL, 0, 0 };
    if (tag_of(v) == T_LINES) {
        const char *line = (const char *)p->text + payload_of(v) + 1, *end = (const char *)p->text + p->len;

        out->module = line;
        out->module_len = line_length(line, end);
        out->name = line + out->module_len + 1;
        out->name_len = line_length(out->name, end);
    } else if (tag_of(v) == T_NAMES) {
        const uint64_t *w = p->words + payload_of(v);

        out->module = sw_value_text(p, w[0], &out->module_len);
        out->name = sw_value_text(p, w[1], &out->name_len);
    }
    return out->module && out->name;
}

bool sw_value_is_a(const sw_pickle *p, sw_value v, const char *module, const char *name)
{
    sw_global g;

    return sw_value_global(p, tag_of(v) == T_OBJECT ? sw_object_class(p, v) : v, &g) &&
           (!module || sw_text_is(g.module, g.module_len, module)) && sw_text_is(g.name, g.name_len, name);
}

sw_value sw_object_class(const sw_pickle *p, sw_value v)
{
    return tag_of(v) == T_OBJECT ? p->words[payload_of(v)] : NONE;
}

sw_value sw_object_args(const sw_pickle *p, sw_value v)
{
    if (tag_of(v) == T_PERSISTENT)
        return p->words[payload_of(v)];
    return tag_of(v) == T_OBJECT ? p->words[payload_of(v) + 1] : NONE;
}

sw_value sw_object_state(const sw_pickle *p, sw_value v)
{
    return tag_of(v) == T_OBJECT ? p->words[payload_of(v) + 2] : NONE;
}

uint64_t sw_items_begin(const sw_pickle *p, sw_value v, sw_items *out)
{
    const uint64_t *w = p->words + payload_of(v);

    *out = (sw_items){ .p = p };
    if (tag_of(v) == T_TUPLE) {
        out->left = out->chunk = w[0];
        out->at = payload_of(v) + 1;
    } else if (is_container(v) && w[0]) {
        out->left = w[0];
        out->next = w[1] >> 32;
    }
    return tag_of(v) == T_DICT ? out->left / 2 : out->left;
}

bool sw_items_next(sw_items *i, sw_value *item)
{
    if (i->left == 0)
        return false;
    if (i->chunk == 0) {
        uint64_t head = i->p->words[i->next];

        i->at = i->next + 1;
        i->chunk = head & UINT32_MAX;
        i->next = head >> 32;
    }
    *item = i->p->words[i->at++];
    i->chunk--;
    i->left--;
    return true;
}

bool sw_items_next_pair(sw_items *i, sw_value *key, sw_value *value)
{
    return sw_items_next(i, key) && sw_items_next(i, value);
}

bool sw_value_item(const sw_pickle *p, sw_value v, uint64_t i, sw_value *out)
{
    sw_items items;

    if (i >= sw_items_begin(p, v, &items) || tag_of(v) == T_DICT)
        return false;
    for (uint64_t k = 0; k <= i; k++)
        sw_items_next(&items, out);
    return true;
}

bool sw_value_member(const sw_pickle *p, sw_value v, const char *name, sw_value *out)
{
    sw_value key, value, from = tag_of(v) == T_OBJECT ? sw_object_state(p, v) : v;
    sw_items items;
    bool found = false;

    if (tag_of(from) != T_DICT || sw_items_begin(p, from, &items) > SW_MEMBERS_MAX)
        return false;
    while (sw_items_next_pair(&items, &key, &value))
        if (sw_value_is_text(p, key, name)) {
            *out = value;
            found = true;
        }
    return found;
}
