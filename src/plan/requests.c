/* Requests of the reader, checked; see requests.h. */
#include "plan/requests.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "format/filenames.h"
#include "plan/dims.h"
#include "plan/runs.h"

#define REACH_MAX (UINT64_C(1) << 59) /* bytes that strides may span: bits fit in an int64_t */

/* ---- tensor and dtype ------------------------------------------------------------------------ */

/* A tensor with a gap or an overlap is not read. */
static sw_code check_sound(const sw_tensor *t, sw_status *st)
{
    if (!t->broken)
        return SW_OK;
    return sw_fail(st, SW_EINPUT, NULL, t->name, "it is broken%s",
                   t->overlaps ? ": boxes overlap"
                   : t->holes  ? ": parts of it are in no file"
                               : "");
}

/* Why it is not read as that dtype. */
static sw_code cannot_become(const sw_request *w, sw_status *st)
{
    const sw_tensor *t = w->how.view.t;
    bool lacks = !t->scale && ((sw_is_fp8(t) && sw_name_ends_with(t->name, SW_END_WEIGHT)) ||
                               sw_name_ends_with(t->name, SW_END_BLOCKS));

    return sw_fail(st, SW_EUSAGE, NULL, t->name, "%s cannot be read as %s%s",
                   sw_dtype_name((sw_dtype)t->dtype), sw_dtype_name(w->how.to),
                   lacks      ? ": it has no scales"
                   : t->scale ? ": by its scales it becomes F32, BF16 or F16"
                              : "");
}

/* A tensor that has scales, as numbers. */
static sw_code find_scaled(const sw_catalog *c, sw_request *w, sw_status *st)
{
    const sw_tensor *t = w->how.view.t;

    if (w->how.to == SW_F64)
        return cannot_become(w, st);
    w->how.scale = &c->tensors[t->scale - 1];
    return check_sound(w->how.scale, st) ? st->code : sw_find_dequantizer(c, t, &w->how.op, st);
}

/* Who asks for a dtype of numbers never gets those of a tensor without its scales, even where it is
 * saved as such. */
static sw_code find_op(const sw_catalog *c, const char *dtype, sw_request *w, sw_status *st)
{
    sw_dtype from = (sw_dtype)w->how.view.t->dtype;

    w->how.to = from;
    w->how.op = SW_OP_COPY;
    if (!dtype)
        return SW_OK;
    if (!sw_dtype_parse_any(dtype, strlen(dtype), &w->how.to))
        return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name, "'%.64s' is not a dtype", dtype);
    if (w->how.view.t->scale && sw_dtype_is_floating(w->how.to))
        return find_scaled(c, w, st);
    if (w->how.to == from)
        return SW_OK;
    w->how.op = SW_OP_CAST;
    return sw_dtype_is_floating(from) && sw_dtype_is_floating(w->how.to) ? SW_OK : cannot_become(w, st);
}

/* Bytes of a packed box as it is read; *bytes is unchanged when they are too many. */
static bool packed_bytes(const sw_request *w, const uint64_t *shape, uint64_t *bytes)
{
    uint64_t bits;

    if (!sw_dims_product(shape, w->ndim, &bits) || !sw_mul(bits, sw_dtype_bits(w->how.to), &bits) ||
        bits / 8 > REACH_MAX)
        return false;
    *bytes = bits / 8;
    return true;
}

sw_code sw_request_tensor(const sw_catalog *c, const char *name, const char *dtype, sw_request *out,
                          sw_status *st)
{
    const sw_tensor *t = sw_catalog_find_tensor(c, name);
    size_t size;

    *out = (sw_request){ .how.op = SW_OP_COPY };
    if (!t)
        return sw_fail(st, SW_EUSAGE, NULL, name, "no such tensor");
    out->how.view = sw_view_elements(c, t);
    if (check_sound(t, st) || find_op(c, dtype, out, st))
        return st->code;
    out->ndim = out->how.op == SW_OP_MXFP4 ? t->ndim - 1u : t->ndim;
    size = out->ndim * sizeof *out->shape;
    memcpy(out->whole, sw_tensor_shape(c, t), size);
    if ((out->how.op == SW_OP_MXFP4 && !sw_mul(out->whole[2], SW_MXFP4_BLOCK, &out->whole[2])) ||
        !packed_bytes(out, out->whole, &out->whole_bytes))
        return sw_fail(st, SW_EINPUT, NULL, name, "its size as %s overflows", sw_dtype_name(out->how.to));
    memcpy(out->shape, out->whole, size);
    out->bytes = out->whole_bytes;
    return SW_OK;
}

/* ---- box ------------------------------------------------------------------------------------- */

/* The box lies within the tensor. */
static sw_code check_inside(const sw_request *w, sw_status *st)
{
    char a[SW_DIMS_TEXT], b[SW_DIMS_TEXT], c[SW_DIMS_TEXT];

    for (unsigned d = 0; d < w->ndim; d++)
        if (w->offsets[d] > w->whole[d] || w->shape[d] > w->whole[d] - w->offsets[d])
            return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name,
                           "a box of %s at %s is not inside its shape %s", sw_dims_text(w->shape, w->ndim, a),
                           sw_dims_text(w->offsets, w->ndim, b), sw_dims_text(w->whole, w->ndim, c));
    return SW_OK;
}

/* From bytes to bits. Of a dimension of one element the stride is never used, and may be
 * anything. */
static sw_code take_strides(sw_request *w, const int64_t *strides, sw_status *st)
{
    uint64_t width = sw_dtype_bits(w->how.to) / 8, reach = width, span;

    if (sw_dtype_bits(w->how.to) < 8)
        return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name, "%s has no strides in bytes: read it packed",
                       sw_dtype_name(w->how.to));
    for (unsigned d = 0; d < w->ndim; d++) {
        uint64_t step = strides[d] < 0 ? 0 - (uint64_t)strides[d] : (uint64_t)strides[d];

        w->strides[d] = 0;
        if (w->shape[d] < 2)
            continue;
        if (!sw_mul(w->shape[d] - 1, step, &span) || !sw_add(reach, span, &reach) || reach > REACH_MAX)
            return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name,
                           "a stride of %" PRId64 " bytes is too large", strides[d]);
        if (step < width)
            return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name,
                           "a stride of %" PRId64 " bytes puts its elements, of %" PRIu64
                           " bytes, on top of one another",
                           strides[d], width);
        w->strides[d] = strides[d] * 8;
    }
    return SW_OK;
}

/* Where the box goes, and whether there is room. */
static sw_code take_memory(sw_request *w, const sw_read *read, sw_status *st)
{
    w->data = read->data;
    if (!w->data && w->bytes)
        return sw_fail(st, SW_EUSAGE, NULL, read->name, "no memory is given for its %" PRIu64 " bytes",
                       w->bytes);
    if (read->strides)
        return take_strides(w, read->strides, st);
    if (read->size < w->bytes)
        return sw_fail(st, SW_EUSAGE, NULL, read->name,
                       "there is room for %" PRIu64 " bytes, but the box has %" PRIu64, read->size, w->bytes);
    sw_strides_packed(w->ndim, w->shape, sw_dtype_bits(w->how.to), w->strides);
    return SW_OK;
}

/* Of dtypes narrower than a byte a box has whole bytes when what its source boxes give has; but
 * that of its own size is known now. */
static sw_code check_whole_bytes(const sw_request *w, sw_status *st)
{
    uint64_t elements;

    if (sw_dims_product(w->shape, w->ndim, &elements) && elements * sw_dtype_bits(w->how.to) % 8 == 0)
        return SW_OK;
    return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name, "the box does not end on a whole byte of %s",
                   sw_dtype_name(w->how.to));
}

sw_code sw_request_box(const sw_catalog *c, const sw_read *read, sw_request *out, sw_status *st)
{
    if (!read->name)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "a read without the name of a tensor");
    if (sw_request_tensor(c, read->name, read->dtype, out, st))
        return st->code;
    if ((read->offsets || read->shape || read->strides) && read->ndim != out->ndim)
        return sw_fail(st, SW_EUSAGE, NULL, read->name, "ndim is %u, expected %u dimensions", read->ndim,
                       out->ndim);
    if (!read->offsets != !read->shape && out->ndim)
        return sw_fail(st, SW_EUSAGE, NULL, read->name, "a box needs both offsets and shape");
    if (read->shape && out->ndim) {
        memcpy(out->offsets, read->offsets, out->ndim * sizeof *out->offsets);
        memcpy(out->shape, read->shape, out->ndim * sizeof *out->shape);
    }
    if (check_inside(out, st) || check_whole_bytes(out, st))
        return st->code;
    packed_bytes(out, out->shape, &out->bytes);
    return take_memory(out, read, st);
}

/* ---- several --------------------------------------------------------------------------------- */

/* Memory that a want fills to the last byte. */
typedef struct extent {
    uintptr_t begin, end;
    const sw_request *want;
} extent;

/* By where they begin. */
static int by_begin(const void *a, const void *b)
{
    const extent *x = a, *y = b;

    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* False when there are holes in it, or nothing: others may lie there. */
static bool find_extent(const sw_request *w, extent *out)
{
    uint64_t below = 0, above = sw_max(sw_dtype_bits(w->how.to) / 8, 1);

    for (unsigned d = 0; d < w->ndim && w->bytes; d++) {
        int64_t span = w->strides[d] / 8 * (int64_t)(w->shape[d] - 1);

        if (span < 0)
            below += 0 - (uint64_t)span;
        else
            above += (uint64_t)span;
    }
    if (sw_dtype_bits(w->how.to) < 8)
        above = w->bytes; /* packed */
    *out = (extent){ (uintptr_t)w->data - below, (uintptr_t)w->data + above, w };
    return w->bytes && below + above == w->bytes;
}

sw_code sw_requests_apart(const sw_request *wants, size_t n, sw_status *st)
{
    extent *all = sw_calloc(n, sizeof *all, st);
    size_t used = 0;

    for (size_t i = 0; all && i < n; i++)
        used += find_extent(&wants[i], &all[used]);
    sw_sort(all, used, sizeof *all, by_begin);
    for (size_t i = 1; i < used && !st->code; i++)
        if (all[i].begin < all[i - 1].end)
            sw_fail(st, SW_EUSAGE, NULL, all[i].want->how.view.t->name,
                    "it goes to the same memory as a read of '%.256s'", all[i - 1].want->how.view.t->name);
    free(all);
    return st->code;
}
