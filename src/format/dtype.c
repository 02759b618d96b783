/* The dtypes of safetensors; see dtype.h. One table, looked through from the front: it is short. */
#include "format/dtype.h"

#include <string.h>

#include "base/utf8.h"

static const struct {
    const char *name;
    unsigned bits;
    bool floating;
} dtypes[] = {
#define SW_DTYPE_ROW(id, name, bits, floating) { name, bits, floating },
    SW_DTYPES(SW_DTYPE_ROW)
#undef SW_DTYPE_ROW
};

/* What torch calls them: str(dtype) without "torch.", and its aliases. */
static const struct {
    const char *name;
    sw_dtype dtype;
} torch_names[] = {
    { "bfloat16", SW_BF16 },
    { "float16", SW_F16 },
    { "half", SW_F16 },
    { "float32", SW_F32 },
    { "float", SW_F32 },
    { "float64", SW_F64 },
    { "double", SW_F64 },
    { "complex64", SW_C64 },
    { "cfloat", SW_C64 },
    { "float8_e4m3fn", SW_F8_E4M3 },
    { "float8_e5m2", SW_F8_E5M2 },
    { "float8_e4m3fnuz", SW_F8_E4M3FNUZ },
    { "float8_e5m2fnuz", SW_F8_E5M2FNUZ },
    { "float8_e8m0fnu", SW_F8_E8M0 },
    { "float4_e2m1fn_x2", SW_F4 },
    { "bool", SW_BOOL },
    { "uint8", SW_U8 },
    { "int8", SW_I8 },
    { "uint16", SW_U16 },
    { "int16", SW_I16 },
    { "short", SW_I16 },
    { "uint32", SW_U32 },
    { "int32", SW_I32 },
    { "int", SW_I32 },
    { "uint64", SW_U64 },
    { "int64", SW_I64 },
    { "long", SW_I64 },
};

const char *sw_dtype_name(sw_dtype dtype)
{
    return dtypes[dtype].name;
}

unsigned sw_dtype_bits(sw_dtype dtype)
{
    return dtypes[dtype].bits;
}

bool sw_dtype_is_floating(sw_dtype dtype)
{
    return dtypes[dtype].floating;
}

bool sw_dtype_is_number(sw_dtype dtype)
{
    return dtypes[dtype].bits >= 8 && dtype != SW_BOOL && dtype != SW_C64;
}

bool sw_dtype_is_signed(sw_dtype dtype)
{
    return dtypes[dtype].name[0] == 'I';
}

bool sw_dtype_is_unsigned(sw_dtype dtype)
{
    return dtypes[dtype].name[0] == 'U';
}

bool sw_dtype_parse(const char *name, size_t len, sw_dtype *out)
{
    for (unsigned i = 0; i < SW_NDTYPES; i++)
        if (sw_text_is(name, len, dtypes[i].name)) {
            *out = (sw_dtype)i;
            return true;
        }
    return false;
}

bool sw_dtype_parse_any(const char *name, size_t len, sw_dtype *out)
{
    static const char prefix[] = "torch.";
    const size_t n = sizeof prefix - 1;

    if (sw_dtype_parse(name, len, out))
        return true;
    if (len >= n && memcmp(name, prefix, n) == 0) {
        name += n;
        len -= n;
    }
    for (size_t i = 0; i < sizeof torch_names / sizeof torch_names[0]; i++)
        if (sw_text_is(name, len, torch_names[i].name)) {
            *out = torch_names[i].dtype;
            return true;
        }
    return false;
}
