/* Which scales belong to which tensors; see quantized.h. */
#include "plan/quantized.h"

#include <stdlib.h>
#include <string.h>

#include "plan/dims.h"

sw_code sw_find_partner(const sw_catalog *c, const char *name, size_t cut, const char *end,
                        const sw_tensor **found, sw_status *st)
{
    size_t len = strlen(name) - cut, n = strlen(end);
    char *partner = sw_calloc(len + n + 1, 1, st);

    *found = NULL;
    if (partner) {
        memcpy(partner, name, len);
        memcpy(partner + len, end, n);
        *found = sw_catalog_find_tensor(c, partner);
    }
    free(partner);
    return st->code;
}

bool sw_is_fp8(const sw_tensor *t)
{
    return t->dtype == SW_F8_E4M3 || t->dtype == SW_F8_E5M2;
}

bool sw_is_mxfp4(const sw_catalog *c, const sw_tensor *t)
{
    return t->dtype == SW_U8 && t->ndim == 4 && sw_tensor_shape(c, t)[3] == SW_MXFP4_BYTES;
}

static uint64_t blocks_of(uint64_t n)
{
    return n / SW_FP8_BLOCK + (n % SW_FP8_BLOCK != 0);
}

static bool may_scale_fp8(const sw_tensor *t)
{
    return t->dtype == SW_F32 || t->dtype == SW_BF16 || t->dtype == SW_F8_E8M0;
}

bool sw_scales_fp8(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *weight)
{
    const uint64_t *w = sw_tensor_shape(c, weight), *s = sw_tensor_shape(c, scale);

    return sw_is_fp8(weight) && may_scale_fp8(scale) && weight->ndim == 2 && scale->ndim == 2 &&
           s[0] == blocks_of(w[0]) && s[1] == blocks_of(w[1]);
}

bool sw_scales_mxfp4(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *blocks)
{
    return scale->dtype == SW_U8 && scale->ndim == 3 &&
           memcmp(sw_tensor_shape(c, scale), sw_tensor_shape(c, blocks), 3 * sizeof(uint64_t)) == 0;
}

sw_code sw_fail_scale(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *of, sw_status *st)
{
    char a[SW_DIMS_TEXT], b[SW_DIMS_TEXT];

    return sw_fail(st, SW_EINPUT, NULL, scale->name, "%s of shape %s does not scale '%s', %s of shape %s",
                   sw_dtype_name((sw_dtype)scale->dtype),
                   sw_dims_text(sw_tensor_shape(c, scale), scale->ndim, a, sizeof a), of->name,
                   sw_dtype_name((sw_dtype)of->dtype),
                   sw_dims_text(sw_tensor_shape(c, of), of->ndim, b, sizeof b));
}
