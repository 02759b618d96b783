/* Which scales belong to which tensors; see quantized.h. */
#include "plan/quantized.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/filenames.h"

/* Endings of scales and of what they scale, the first that fit. */
typedef struct scheme {
    const char *scale, *tensor;
    bool any; /* of any dtype; else of one for codes */
    sw_op op; /* COPY: not known how */
} scheme;

static const scheme schemes[] = {
    { SW_END_WEIGHT SW_END_SCALE_INV, SW_END_WEIGHT, true, SW_OP_SCALED },
    { SW_END_SCALES, SW_END_BLOCKS, false, SW_OP_MXFP4 },
    { SW_END_SCALE_INV, "", true, SW_OP_COPY }, /* experts in one tensor */
    /* of a tensor, a row, a group: compressed-tensors, ModelOpt */
    { "_scale", "", false, SW_OP_COPY },
    { "_scale", "_packed", false, SW_OP_COPY },      /* the same of 4 bits */
    { ".scale", SW_END_WEIGHT, false, SW_OP_COPY },  /* DeepSeek's own */
    { ".scales", ".qweight", false, SW_OP_COPY },    /* GPTQ, AWQ */
    { ".scales", SW_END_WEIGHT, false, SW_OP_COPY }, /* MLX */
    { ".SCB", SW_END_WEIGHT, false, SW_OP_COPY },    /* bitsandbytes, 8 bits */
    { ".absmax", "", false, SW_OP_COPY },            /* the same, 4 bits */
};
#define NSCHEMES (sizeof schemes / sizeof schemes[0])

/* ---- by name --------------------------------------------------------------------------------- */

/* The first from there on by whose ending, with something before it, a name is one of scales. */
static const scheme *scheme_of(const char *scale, const scheme *from)
{
    for (; from < schemes + NSCHEMES; from++)
        if (sw_name_ends_with(scale, from->scale) && strcmp(scale, from->scale) != 0)
            return from;
    return NULL;
}

/* Dtypes of codes, several of which may be packed into one element. */
static bool holds_codes(sw_dtype dtype)
{
    return sw_dtype_bits(dtype) <= 8 ? dtype != SW_BOOL && dtype != SW_F8_E8M0
                                     : dtype == SW_I32 || dtype == SW_U32;
}

/* The tensor that scale i would belong to by a scheme; NULL = there is none. Mostly it stands right
 * before it. */
static sw_tensor *find_scaled(sw_catalog *c, uint32_t i, const scheme *s, sw_buf *name, sw_status *st)
{
    const char *scale = c->tensors[i].name;
    const sw_tensor *found;

    name->len = 0;
    if (sw_buf_add(name, scale, strlen(scale) - strlen(s->scale), st) ||
        sw_buf_add(name, s->tensor, strlen(s->tensor) + 1, st))
        return NULL;
    if (i > 0 && strcmp(c->tensors[i - 1].name, name->data) == 0)
        return &c->tensors[i - 1];
    found = sw_catalog_find_tensor(c, name->data);
    return found ? &c->tensors[found - c->tensors] : NULL;
}

sw_code sw_find_scales(sw_catalog *c, sw_status *st)
{
    sw_buf name = SW_BUF_INIT;

    for (uint32_t i = 0; i < c->ntensors && !st->code; i++) {
        sw_tensor *scale = &c->tensors[i], *t;

        for (const scheme *s = scheme_of(scale->name, schemes); s && !scale->scaled;
             s = scheme_of(scale->name, s + 1)) {
            t = find_scaled(c, i, s, &name, st);
            if (!t || !(s->any || holds_codes((sw_dtype)t->dtype)))
                continue;
            scale->scaled = 1 + (uint32_t)(t - c->tensors);
            if (!t->scale || s == schemes)
                t->scale = 1 + i;
        }
    }
    sw_buf_release(&name);
    return st->code;
}

/* ---- do they fit? ---------------------------------------------------------------------------- */

bool sw_is_fp8(const sw_tensor *t)
{
    return t->dtype == SW_F8_E4M3 || t->dtype == SW_F8_E5M2 || t->dtype == SW_F8_E4M3FNUZ ||
           t->dtype == SW_F8_E5M2FNUZ;
}

bool sw_is_mxfp4(const sw_catalog *c, const sw_tensor *t)
{
    return t->dtype == SW_U8 && t->ndim == 4 && sw_tensor_shape(c, t)[3] == SW_MXFP4_BYTES;
}

/* Integers are not: a byte may be an exponent. */
static bool may_scale(const sw_tensor *t)
{
    return sw_dtype_is_floating((sw_dtype)t->dtype) || t->dtype == SW_F8_E8M0 || sw_is_fp8(t);
}

/* One scale for each block of rows and columns, the last ones cut off. */
static bool scales_blocks(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *weight)
{
    const uint64_t *w = sw_tensor_shape(c, weight), *s = sw_tensor_shape(c, scale);
    bool fit = sw_dtype_is_number((sw_dtype)weight->dtype) && may_scale(scale) && weight->ndim == 2 &&
               scale->ndim == 2;

    for (unsigned d = 0; d < 2 && fit; d++)
        fit = s[d] == w[d] / c->block[d] + (w[d] % c->block[d] != 0);
    return fit;
}

/* One byte for each block of 32. */
static bool scales_mxfp4(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *blocks)
{
    return sw_is_mxfp4(c, blocks) && scale->dtype == SW_U8 && scale->ndim == 3 &&
           memcmp(sw_tensor_shape(c, scale), sw_tensor_shape(c, blocks), 3 * sizeof(uint64_t)) == 0;
}

sw_code sw_find_dequantizer(const sw_catalog *c, const sw_tensor *t, sw_op *op, sw_status *st)
{
    const sw_tensor *scale = &c->tensors[t->scale - 1];
    char a[SW_KIND_TEXT], b[SW_KIND_TEXT], blocks[64] = "";

    *op = scheme_of(scale->name, schemes)->op;
    sw_tensor_text(c, scale, a);
    sw_tensor_text(c, t, b);
    if (*op == SW_OP_COPY)
        return sw_fail(st, SW_EINPUT, NULL, t->name,
                       "%s: it cannot be dequantized by '%.256s', %s: only by scales of blocks, "
                       "X.weight" SW_END_SCALE_INV ", and of MXFP4, X" SW_END_SCALES,
                       b, scale->name, a);
    if (*op == SW_OP_MXFP4 ? scales_mxfp4(c, scale, t) : scales_blocks(c, scale, t))
        return SW_OK;
    if (*op == SW_OP_SCALED)
        snprintf(blocks, sizeof blocks, ", in blocks of %" PRIu64 "x%" PRIu64 " (see sw_options.block_size)",
                 c->block[0], c->block[1]);
    return sw_fail(st, SW_EINPUT, NULL, scale->name, "%s does not scale '%.256s', %s%s", a, t->name, b,
                   blocks);
}
