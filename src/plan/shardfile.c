/* The header of a shard file; see shardfile.h.
 *
 * Entries stand in the order of the reference serializer, and so does its metadata, by key. The
 * sharding info is text in a text: JSON as Python's json.dumps() writes it, in the order of the
 * items. */
#include "plan/shardfile.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "plan/numbers.h"

#define LENGTH_BYTES 8u
#define METADATA_HEAD "{\"__metadata__\":{\"DCP_SHARDING_INFO\":"
#define METADATA_SET ",\"DCP_VERSION\":\"1.0\",\"" SW_SHARDS_KEY "\":"
#define METADATA_TAIL ",\"format\":\"pt\"}"

char *sw_shard_name_text(const sw_shard_name *n, char text[SW_SHARD_NAME_SIZE])
{
    snprintf(text, SW_SHARD_NAME_SIZE, "shard-%05" PRIu64 "-model-%05" PRIu64 "-of-%05" PRIu64 ".safetensors",
             n->shard, n->model, n->of);
    return text;
}

static sw_code add_text(sw_buf *b, const char *text, sw_status *st)
{
    return sw_buf_add(b, text, strlen(text), st);
}

static sw_code add_numbers(sw_buf *b, const uint64_t *n, unsigned count, const char *between, sw_status *st)
{
    for (unsigned d = 0; d < count; d++)
        if (sw_buf_addf(b, st, "%s%" PRIu64, d ? between : "", n[d]))
            return st->code;
    return SW_OK;
}

/* info = "{" [ fqn ': {"saved_offsets": [' offsets '], "global_shape": [' sizes "]}" *( ", " ... )
 * ] "}" */
static sw_code add_info(const sw_shard_box *boxes, size_t n, sw_buf *b, sw_status *st)
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

/* entry = "," name ":{"dtype":" dtype ","shape":[" dims "],"data_offsets":[" begin "," end "]}" */
static sw_code add_entry(const sw_shard_box *e, sw_buf *b, sw_status *st)
{
    const uint64_t range[2] = { e->begin, e->end };

    if (add_text(b, ",", st) || sw_json_add_serde(b, e->name, strlen(e->name), st) ||
        sw_buf_addf(b, st, ":{\"dtype\":\"%s\",\"shape\":[", sw_dtype_name(e->dtype)) ||
        add_numbers(b, e->shape, e->ndim, ",", st) || add_text(b, "],\"data_offsets\":[", st) ||
        add_numbers(b, range, 2, ",", st))
        return st->code;
    return add_text(b, "]}", st);
}

static int by_file_order(const void *a, const void *b, void *boxes)
{
    const sw_shard_box *x = (const sw_shard_box *)boxes + *(const uint32_t *)a;
    const sw_shard_box *y = (const sw_shard_box *)boxes + *(const uint32_t *)b;

    if (x->dtype != y->dtype)
        return x->dtype < y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Where the data of each box go. */
static sw_code place(sw_shard_box *boxes, size_t n, uint32_t *order, sw_status *st)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    if (n > 1)
        qsort_r(order, n, sizeof *order, by_file_order, boxes);
    for (size_t i = 0; i < n; i++) {
        sw_shard_box *b = &boxes[order[i]];
        uint64_t bits = sw_dtype_bits(b->dtype);

        for (unsigned d = 0; d < b->ndim; d++)
            if (!sw_mul(bits, b->shape[d], &bits))
                return sw_fail(st, SW_EUSAGE, NULL, b->name, "a box of it overflows");
        b->begin = at;
        if (!sw_add(at, bits / 8, &at))
            return sw_fail(st, SW_EUSAGE, NULL, b->name, "the boxes of a shard file overflow");
        b->end = at;
    }
    return SW_OK;
}

/* Spaces up to a multiple of 8, and the length before it all. */
static sw_code finish(sw_buf *text, sw_status *st)
{
    uint64_t length;

    while (text->len % LENGTH_BYTES && !sw_buf_add(text, " ", 1, st))
        ;
    length = text->len - LENGTH_BYTES;
    if (!st->code && length > SW_HEADER_MAX)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "the header of a shard file would have %" PRIu64
                       " bytes, at most %u can be read: use fqn-map to write more files",
                       length, SW_HEADER_MAX);
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        text->data[i] = (char)(length >> 8 * i & 0xff);
    return st->code;
}

sw_code sw_shard_header(sw_shard_box *boxes, size_t n, const char *set, uint32_t *order, sw_buf *text,
                        sw_status *st)
{
    static const char zeros[LENGTH_BYTES];
    sw_buf info = SW_BUF_INIT;

    text->len = 0;
    if (place(boxes, n, order, st) || add_info(boxes, n, &info, st) ||
        sw_buf_add(text, zeros, sizeof zeros, st) || add_text(text, METADATA_HEAD, st) ||
        sw_json_add_serde(text, info.data, info.len, st) || add_text(text, METADATA_SET, st) ||
        sw_json_add_serde(text, set, strlen(set), st) || add_text(text, METADATA_TAIL, st))
        goto out;
    for (size_t i = 0; i < n && !st->code; i++)
        add_entry(&boxes[order[i]], text, st);
    if (!st->code && !add_text(text, "}", st))
        finish(text, st);
out:
    sw_buf_release(&info);
    return st->code;
}
