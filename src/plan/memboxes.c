/* Boxes in memory; see memboxes.h. */
#include "plan/memboxes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rows.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/filenames.h"
#include "plan/dims.h"

/* ---- checking -------------------------------------------------------------------------------- */

/* A name that a header can hold. */
static sw_code check_name(const sw_item *it, size_t i, const char *who, sw_status *st)
{
    if (!it->name || !*it->name)
        return sw_fail(st, SW_EUSAGE, who, NULL, "item %zu has no name", i);
    if (strlen(it->name) > SW_HEADER_MAX)
        return sw_fail(st, SW_EUSAGE, who, NULL, "the name of item %zu is too long for a header", i);
    if (sw_utf8_invalid(it->name, strlen(it->name)))
        return sw_fail(st, SW_EUSAGE, who, it->name, "the name of item %zu is not UTF-8", i);
    if (strcmp(it->name, SW_METADATA_KEY) == 0)
        return sw_fail(st, SW_EUSAGE, who, it->name, "no tensor can have this name");
    return SW_OK;
}

/* A box that lies within its tensor. */
static sw_code check_dims(const sw_item *it, const char *who, sw_status *st)
{
    char text[3][SW_DIMS_TEXT];
    uint64_t end;

    if (it->ndim > SW_MAX_DIMS)
        return sw_fail(st, SW_EUSAGE, who, it->name, "%u dimensions, at most %u can be saved", it->ndim,
                       SW_MAX_DIMS);
    if (it->ndim && (!it->global_shape || !it->offsets || !it->shape))
        return sw_fail(st, SW_EUSAGE, who, it->name, "global_shape, offsets or shape is missing");
    for (unsigned d = 0; d < it->ndim; d++)
        if (!sw_add(it->offsets[d], it->shape[d], &end) || end > it->global_shape[d] ||
            it->global_shape[d] > INT64_MAX)
            return sw_fail(
                st, SW_EUSAGE, who, it->name, "the box of shape %s at %s lies outside the tensor's shape %s",
                sw_dims_text(it->shape, it->ndim, text[0]), sw_dims_text(it->offsets, it->ndim, text[1]),
                sw_dims_text(it->global_shape, it->ndim, text[2]));
    return SW_OK;
}

/* Bytes of the box. */
static sw_code measure(const sw_item *it, sw_dtype dtype, const char *who, uint64_t *bytes, sw_status *st)
{
    uint64_t elements, bits;
    char text[SW_DIMS_TEXT];

    if (!sw_dims_product(it->shape, it->ndim, &elements) || !sw_mul(elements, sw_dtype_bits(dtype), &bits) ||
        bits / 8 > INT64_MAX)
        return sw_fail(st, SW_EUSAGE, who, it->name, "shape %s of %s overflows",
                       sw_dims_text(it->shape, it->ndim, text), sw_dtype_name(dtype));
    if (bits % 8)
        return sw_fail(st, SW_EUSAGE, who, it->name, "a box of %" PRIu64 " elements of %s ends within a byte",
                       elements, sw_dtype_name(dtype));
    *bytes = bits / 8;
    if (*bytes && !it->data)
        return sw_fail(st, SW_EUSAGE, who, it->name, "a box of %" PRIu64 " bytes without data", *bytes);
    if (it->strides && sw_dtype_bits(dtype) % 8)
        return sw_fail(st, SW_EUSAGE, who, it->name, "elements of %s cannot have strides",
                       sw_dtype_name(dtype));
    return SW_OK;
}

/* By name, then region. */
static int by_region(const void *a, const void *b, void *boxes)
{
    const sw_item *x = ((const sw_membox *)boxes)[*(const uint32_t *)a].item;
    const sw_item *y = ((const sw_membox *)boxes)[*(const uint32_t *)b].item;
    int order = strcmp(x->name, y->name);

    if (order || x->ndim != y->ndim)
        return order ? order : x->ndim < y->ndim ? -1 : 1;
    order = sw_by_all(x->offsets, y->offsets, x->ndim);
    return order ? order : sw_by_all(x->shape, y->shape, x->ndim);
}

/* One rank has no replicas of its own boxes: whoever gives one twice did not mean it. */
static sw_code check_twice(const sw_memboxes *h, const char *who, sw_status *st)
{
    uint32_t *ids = sw_sorted_numbers(h->n, by_region, h->boxes, st);
    char text[2][SW_DIMS_TEXT];

    for (size_t i = 1; ids && i < h->n && !st->code; i++) {
        const sw_item *it = h->boxes[ids[i]].item;

        if (by_region(&ids[i - 1], &ids[i], h->boxes) == 0)
            sw_fail(st, SW_EUSAGE, who, it->name, "the box of shape %s at %s is given twice",
                    sw_dims_text(it->shape, it->ndim, text[0]), sw_dims_text(it->offsets, it->ndim, text[1]));
    }
    free(ids);
    return st->code;
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* A stride of a dimension of one element is never used, and may be anything. */
void sw_membox_run(const sw_membox *b, sw_run *run)
{
    const sw_item *it = b->item;
    unsigned bits = sw_dtype_bits(b->dtype);
    int64_t strides[SW_MAX_DIMS];

    sw_strides_packed(it->ndim, it->shape, bits, strides);
    for (unsigned d = 0; it->strides && d < it->ndim; d++)
        strides[d] = it->shape[d] > 1 ? (int64_t)((uint64_t)it->strides[d] * 8) : 0;
    sw_run_scatter(it->ndim, it->shape, bits, strides, run);
}

/* Check one item, and take it. */
static sw_code take_item(sw_memboxes *h, const sw_item *it, const char *who, sw_status *st)
{
    sw_membox *b = &h->boxes[h->n];
    uint64_t bytes = 0;
    sw_run run;

    *b = (sw_membox){ .item = it, .begin = h->bytes };
    if (check_name(it, h->n, who, st) || check_dims(it, who, st))
        return st->code;
    if (!it->dtype || !sw_dtype_parse_any(it->dtype, strlen(it->dtype), &b->dtype))
        return sw_fail(st, SW_EUSAGE, who, it->name, "'%.64s' is no dtype", it->dtype ? it->dtype : "");
    if (measure(it, b->dtype, who, &bytes, st))
        return st->code;
    if (!sw_add(h->bytes, bytes, &h->bytes))
        return sw_fail(st, SW_EUSAGE, who, it->name, "the boxes of this rank overflow");
    b->end = h->bytes;
    if (bytes)
        sw_membox_run(b, &run);
    b->together = !bytes || run.nloops == 0;
    h->n++;
    return SW_OK;
}

sw_code sw_memboxes_init(const sw_item *items, size_t n, const char *who, sw_memboxes *out, sw_status *st)
{
    *out = (sw_memboxes){ 0 };
    if (n && !items)
        return sw_fail(st, SW_EUSAGE, who, NULL, "%zu items, but no list of them", n);
    if (n >= UINT32_MAX / SW_MAX_DIMS / 3)
        return sw_fail(st, SW_EUSAGE, who, NULL, "%zu items, too many for one rank", n);
    out->boxes = sw_calloc(n, sizeof *out->boxes, st);
    for (size_t i = 0; i < n && !st->code; i++)
        take_item(out, &items[i], who, st);
    if (!st->code)
        check_twice(out, who, st);
    if (st->code)
        sw_memboxes_release(out);
    return st->code;
}

void sw_memboxes_release(sw_memboxes *h)
{
    free(h->boxes);
    *h = (sw_memboxes){ 0 };
}

/* ---- reading --------------------------------------------------------------------------------- */

const sw_membox *sw_memboxes_find(const sw_memboxes *h, uint64_t at)
{
    sw_search s = { .end = h->n };

    /* The last one that begins there or before: empty ones begin where the next one does. */
    while (sw_search_on(&s))
        sw_search_tell(&s, h->boxes[s.mid].begin <= at);
    return &h->boxes[sw_search_last(&s)];
}

const char *sw_membox_direct(const sw_membox *b, uint64_t from)
{
    return b->together ? (const char *)b->item->data + from : NULL;
}

/* Row by row; as many at once as stand at one distance. */
void sw_membox_copy(const sw_membox *b, uint64_t from, uint64_t n, char *to)
{
    const sw_run_loop *inner;
    uint64_t ignored;
    int64_t place;
    sw_run run;

    if (n == 0)
        return;
    sw_membox_run(b, &run);
    inner = sw_run_innermost(&run);
    for (uint64_t end = from + n, part; from < end; from += part, to += part) {
        uint64_t i = from / run.row, within = from % run.row;
        sw_rows rows = { run.row, sw_min((end - from) / run.row, inner->count - i % inner->count), inner->to,
                         (int64_t)run.row };
        const char *at;

        sw_run_row(&run, i, &ignored, &place);
        at = (const char *)b->item->data + place + within;
        if (within || rows.count == 0) {
            part = sw_min(end - from, run.row - within);
            memcpy(to, at, (size_t)part);
        } else {
            part = rows.count * rows.row;
            sw_rows_copy(to, at, &rows);
        }
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

sw_code sw_memboxes_found(const sw_memboxes *h, const sw_file *files, uint32_t file, sw_entries *found,
                          sw_status *st)
{
    sw_header text = { .sharded = true };
    uint64_t ndims = 0;

    for (size_t i = 0; i < h->n; i++)
        ndims += 3 * (uint64_t)h->boxes[i].item->ndim;
    sw_header_make_room(&text, h->n, ndims, st);
    for (size_t i = 0; i < h->n && !st->code; i++) {
        const sw_membox *b = &h->boxes[i];
        const sw_item *it = b->item;

        text.entries[text.nentries++] =
            (sw_entry){ .name = it->name,
                        .name_len = (uint32_t)strlen(it->name),
                        .dtype = (uint8_t)b->dtype,
                        .ndim = (uint8_t)it->ndim,
                        .begin = b->begin,
                        .end = b->end,
                        .shape = sw_header_keep(&text, it->shape, it->ndim),
                        .offsets = sw_header_keep(&text, it->offsets, it->ndim),
                        .global_shape = sw_header_keep(&text, it->global_shape, it->ndim) };
    }
    if (!st->code)
        sw_entries_add(found, &text, files, file, st);
    sw_header_release(&text);
    return st->code;
}
