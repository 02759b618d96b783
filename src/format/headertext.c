/* Writing headers; see header.h. One function for each rule of the grammar, the rule above it.
 *
 * Entries are JSON as serde_json writes it. The sharding info is text in a text: JSON as Python's
 * json.dumps() writes it. A header may hold millions of numbers, so printf has no part in it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "format/filenames.h"
#include "format/header.h"

#define DECIMAL_MAX 20 /* digits of the largest uint64_t */

/* Text of ours, without its NUL. */
static sw_code add_text(sw_buf *b, const char *text, sw_status *st)
{
    return sw_buf_add(b, text, strlen(text), st);
}

/* A number in decimal. */
static sw_code add_decimal(sw_buf *b, uint64_t n, sw_status *st)
{
    char digits[DECIMAL_MAX], *at = digits + sizeof digits;

    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    return sw_buf_add(b, at, (uint64_t)(digits + sizeof digits - at), st);
}

/* number *( between number ) */
static sw_code add_numbers(sw_buf *b, const uint64_t *n, size_t count, const char *between, sw_status *st)
{
    for (size_t i = 0; i < count; i++)
        if ((i > 0 && add_text(b, between, st)) || add_decimal(b, n[i], st))
            return st->code;
    return st->code;
}

/* entry = "," name ":{"dtype":" dtype ","shape":[" dims "],"data_offsets":[" begin "," end "]}" */
sw_code sw_header_entry(const sw_header_box *e, sw_buf *text, sw_status *st)
{
    const uint64_t range[2] = { e->begin, e->end };

    if (add_text(text, ",", st) || sw_json_add_serde(text, e->name, strlen(e->name), st) ||
        add_text(text, ":{\"dtype\":\"", st) || add_text(text, sw_dtype_name(e->dtype), st) ||
        add_text(text, "\",\"shape\":[", st) || add_numbers(text, e->shape, e->ndim, ",", st) ||
        add_text(text, "],\"data_offsets\":[", st) || add_numbers(text, range, 2, ",", st))
        return st->code;
    return add_text(text, "]}", st);
}

/* info = "{" [ box *( ", " box ) ] "}"
 * box = name ': {"saved_offsets": [' offsets '], "global_shape": [' sizes "]}" */
static sw_code add_info(const sw_header_box *boxes, size_t n, sw_buf *b, sw_status *st)
{
    if (add_text(b, "{", st))
        return st->code;
    for (size_t i = 0; i < n; i++)
        if ((i > 0 && add_text(b, ", ", st)) ||
            sw_json_add_python(b, boxes[i].name, strlen(boxes[i].name), st) ||
            add_text(b, ": {\"saved_offsets\": [", st) ||
            add_numbers(b, boxes[i].offsets, boxes[i].ndim, ", ", st) ||
            add_text(b, "], \"global_shape\": [", st) ||
            add_numbers(b, boxes[i].global_shape, boxes[i].ndim, ", ", st) || add_text(b, "]}", st))
            return st->code;
    return add_text(b, "}", st);
}

/* head = '{"__metadata__":{' [ '"DCP_SHARDING_INFO":' string ',"DCP_VERSION":"1.0",' key ":" string
 * "," ] '"format":"pt"}', the keys in the order of the reference serializer */
sw_code sw_header_head(const char *set, const sw_header_box *boxes, size_t n, sw_buf *text, sw_status *st)
{
    sw_buf info = SW_BUF_INIT;

    add_text(text, "{\"__metadata__\":{", st);
    if (set && !st->code && !add_info(boxes, n, &info, st) && !add_text(text, "\"DCP_SHARDING_INFO\":", st) &&
        !sw_json_add_serde(text, info.data, info.len, st) &&
        !add_text(text, ",\"DCP_VERSION\":\"1.0\",\"" SW_SHARDS_KEY "\":", st) &&
        !sw_json_add_serde(text, set, strlen(set), st))
        add_text(text, ",", st);
    sw_buf_release(&info);
    return st->code ? st->code : add_text(text, "\"format\":\"pt\"}", st);
}

/* length = 8 bytes, the lowest first */
void sw_header_put_length(uint64_t length, char to[SW_HEADER_LENGTH])
{
    for (unsigned i = 0; i < SW_HEADER_LENGTH; i++)
        to[i] = (char)(length >> 8 * i & 0xff);
}

sw_code sw_header_check_length(uint64_t length, sw_status *st)
{
    if (length <= SW_HEADER_MAX)
        return st->code;
    return sw_fail(st, SW_EUSAGE, NULL, NULL,
                   "the header of a shard file would have %" PRIu64
                   " bytes, at most %u can be read: use sw_options.fqn_map to write more files",
                   length, SW_HEADER_MAX);
}
