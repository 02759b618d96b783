/* The text of headers and of the index; see layout.h.
 *
 * Both are kept nowhere: a header is made again for each range that is asked for (a rank asks for
 * its own ranges only, each once), the index is made once, by the rank that writes it. */
#include "plan/serialize.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "plan/shardlayout.h"

#define LENGTH_BYTES 8u
#define DECIMAL_MAX 20 /* digits of the largest uint64_t */

static sw_code add_text(sw_buf *b, const char *text, sw_status *st)
{
    return sw_buf_add(b, text, strlen(text), st);
}

/* Not by printf: a header may hold millions of numbers. */
static sw_code add_decimal(sw_buf *b, uint64_t n, sw_status *st)
{
    char digits[DECIMAL_MAX], *at = digits + sizeof digits;

    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    return sw_buf_add(b, at, (uint64_t)(digits + sizeof digits - at), st);
}

static sw_code add_decimals(sw_buf *b, const uint64_t *n, size_t count, sw_status *st)
{
    for (size_t i = 0; i < count; i++)
        if ((i > 0 && sw_buf_add(b, ",", 1, st)) || add_decimal(b, n[i], st))
            return st->code;
    return st->code;
}

/* entry = "," name ":{"dtype":" dtype ","shape":[" dims "],"data_offsets":[" begin "," end "]}" */
sw_code sw_header_entry(const sw_catalog *c, const sw_slot *slot, sw_buf *text, sw_status *st)
{
    const sw_tensor *t = &c->tensors[slot->tensor];
    const uint64_t range[2] = { slot->begin, slot->end };

    text->len = 0;
    if (add_text(text, ",", st) || sw_json_add_serde(text, t->name, strlen(t->name), st) ||
        add_text(text, ":{\"dtype\":\"", st) || add_text(text, sw_dtype_name((sw_dtype)t->out_dtype), st) ||
        add_text(text, "\",\"shape\":[", st) || add_decimals(text, sw_tensor_shape(c, t), t->ndim, st) ||
        add_text(text, "],\"data_offsets\":[", st) || add_decimals(text, range, 2, st))
        return st->code;
    return add_text(text, "]}", st);
}

/* The range [from, from + n) of something that is made piece by piece. */
typedef struct window {
    char *to;
    uint64_t from, n;
} window;

/* The piece text[0..len) lies at byte at: copy what of it the window shows. */
static void window_put(const window *w, uint64_t at, const char *text, uint64_t len)
{
    uint64_t begin = sw_max(at, w->from), end = sw_min(at + len, w->from + w->n);

    if (begin < end)
        memcpy(w->to + (begin - w->from), text + (begin - at), (size_t)(end - begin));
}

static void put_length(const window *w, uint64_t length)
{
    char bytes[LENGTH_BYTES];

    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        bytes[i] = (char)(length >> 8 * i & 0xff);
    window_put(w, 0, bytes, sizeof bytes);
}

/* The last of count slots whose entry begins at or before byte at of the JSON; 0 when none does. */
static uint32_t slot_at(const sw_slot *slots, uint32_t count, uint64_t at)
{
    uint32_t low = 0, high = count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (slots[middle].header_at <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The entries that the window meets, and the closing bracket if it may show it. */
static sw_code put_entries(const sw_catalog *c, const sw_slot *slots, uint32_t count, const window *w,
                           sw_status *st)
{
    uint64_t first = w->from > LENGTH_BYTES ? w->from - LENGTH_BYTES : 0;
    uint64_t at = LENGTH_BYTES + strlen(SW_HEADER_HEAD);
    uint32_t i = slot_at(slots, count, first);
    sw_buf text = SW_BUF_INIT;

    for (; i < count && LENGTH_BYTES + (uint64_t)slots[i].header_at < w->from + w->n; i++) {
        if (sw_header_entry(c, &slots[i], &text, st))
            break;
        at = LENGTH_BYTES + (uint64_t)slots[i].header_at;
        window_put(w, at, text.data, text.len);
        at += text.len;
    }
    if (i == count)
        window_put(w, at, SW_HEADER_TAIL, strlen(SW_HEADER_TAIL));
    sw_buf_release(&text);
    return st->code;
}

sw_code sw_layout_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t from, uint64_t n,
                         char *to, sw_status *st)
{
    const sw_layout_file *file = &l->files[f];
    window w = { to, from, n };

    assert(f < l->nfiles && from <= LENGTH_BYTES + file->header_len &&
           n <= LENGTH_BYTES + file->header_len - from);
    if (n == 0)
        return st->code;
    if (l->shards)
        return sw_shard_layout_header(c, l, f, from, n, to, st);
    memset(to, ' ', (size_t)n); /* the padding */
    put_length(&w, file->header_len);
    window_put(&w, LENGTH_BYTES, SW_HEADER_HEAD, strlen(SW_HEADER_HEAD));
    return put_entries(c, l->order + file->first, file->count, &w, st);
}

/* The file of each tensor, newly allocated; NULL on failure. */
static uint32_t *files_by_tensor(const sw_layout *l, sw_status *st)
{
    uint32_t *file_of = sw_calloc(l->nslots, sizeof *file_of, st);

    for (uint32_t f = 0; file_of && f < l->nfiles; f++)
        for (uint32_t i = 0; i < l->files[f].count; i++)
            file_of[l->order[l->files[f].first + i].tensor] = f;
    return file_of;
}

/* weight_map = "{}" / "{" 1*( NL fqn ": " file ) NL "}", the tensors by code points as Python sorts
 * them: that is the order of their UTF-8 bytes, which the catalogue has. */
static sw_code add_weight_map(const sw_catalog *c, const sw_layout *l, const uint32_t *file_of, sw_buf *out,
                              sw_status *st)
{
    for (uint32_t t = 0; t < l->nslots; t++) {
        const char *fqn = c->tensors[t].name, *file = l->files[file_of[t]].name;

        if (add_text(out, t == 0 ? "{\n    " : ",\n    ", st) ||
            sw_json_add_python(out, fqn, strlen(fqn), st) || add_text(out, ": ", st) ||
            sw_json_add_python(out, file, strlen(file), st))
            return st->code;
    }
    return add_text(out, l->nslots ? "\n  }" : "{}", st);
}

sw_code sw_layout_index(const sw_catalog *c, const sw_layout *l, sw_buf *out, sw_status *st)
{
    uint32_t *file_of = files_by_tensor(l, st);

    if (!file_of ||
        sw_buf_addf(out, st,
                    "{\n  \"metadata\": {\n    \"total_parameters\": %" PRIu64
                    ",\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": ",
                    l->parameters, l->bytes) ||
        add_weight_map(c, l, file_of, out, st) || add_text(out, "\n}\n", st))
        goto out;
out:
    free(file_of);
    return st->code;
}
