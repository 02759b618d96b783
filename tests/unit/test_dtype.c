/* The dtypes: names, widths, order. */
#include "format/dtype.h"
#include "unit.h"

/* As the reference library orders a file, written down a second time. */
static const struct {
    const char *name;
    unsigned bits;
    bool floating;
} known[] = {
    { "U64", 64, 0 },        { "I64", 64, 0 },    { "F64", 64, 1 },    { "C64", 64, 0 },
    { "F32", 32, 1 },        { "U32", 32, 0 },    { "I32", 32, 0 },    { "BF16", 16, 1 },
    { "F16", 16, 1 },        { "U16", 16, 0 },    { "I16", 16, 0 },    { "F8_E5M2FNUZ", 8, 0 },
    { "F8_E4M3FNUZ", 8, 0 }, { "F8_E8M0", 8, 0 }, { "F8_E4M3", 8, 0 }, { "F8_E5M2", 8, 0 },
    { "I8", 8, 0 },          { "U8", 8, 0 },      { "F6_E3M2", 6, 0 }, { "F6_E2M3", 6, 0 },
    { "F4", 4, 0 },          { "BOOL", 8, 0 },
};

TEST(table)
{
    assert_int_equal(COUNT(known), SW_NDTYPES);
    for (size_t i = 0; i < COUNT(known); i++) {
        sw_dtype d = SW_NDTYPES;

        assert_string_equal(sw_dtype_name((sw_dtype)i), known[i].name);
        assert_int_equal(sw_dtype_bits((sw_dtype)i), known[i].bits);
        assert_int_equal(sw_dtype_is_floating((sw_dtype)i), known[i].floating);
        assert_true(sw_dtype_parse(known[i].name, strlen(known[i].name), &d));
        assert_int_equal(d, i);
        assert_true(sw_dtype_parse_any(known[i].name, strlen(known[i].name), &d));
        assert_int_equal(d, i);
    }
}

/* As torch spells them, which the stricter reading never takes; SW_NDTYPES: nobody does. */
TEST(torch_spelling)
{
    static const struct {
        const char *name;
        sw_dtype want;
    } cases[] = {
        { "bfloat16", SW_BF16 },
        { "torch.bfloat16", SW_BF16 },
        { "float", SW_F32 },
        { "torch.float32", SW_F32 },
        { "half", SW_F16 },
        { "double", SW_F64 },
        { "torch.float8_e4m3fn", SW_F8_E4M3 },
        { "float8_e5m2", SW_F8_E5M2 },
        { "float8_e8m0fnu", SW_F8_E8M0 },
        { "float8_e4m3fnuz", SW_F8_E4M3FNUZ },
        { "long", SW_I64 },
        { "torch.int64", SW_I64 },
        { "torch.bool", SW_BOOL },
        { "uint8", SW_U8 },
        { "complex64", SW_C64 },
        { "bool", SW_BOOL },
        { "", SW_NDTYPES },
        { "F", SW_NDTYPES },
        { "f32", SW_NDTYPES },
        { "F320", SW_NDTYPES },
        { "F3", SW_NDTYPES },
        { "BF16 ", SW_NDTYPES },
        { "F8", SW_NDTYPES },
        { "torch.F32", SW_NDTYPES },
        { "torch.", SW_NDTYPES },
        { "complex128", SW_NDTYPES },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_dtype d = SW_NDTYPES;

        assert_false(sw_dtype_parse(cases[i].name, strlen(cases[i].name), &d));
        assert_int_equal(sw_dtype_parse_any(cases[i].name, strlen(cases[i].name), &d),
                         cases[i].want != SW_NDTYPES);
        assert_int_equal(d, cases[i].want);
    }
    assert_false(sw_dtype_parse("F32\0", 4, &(sw_dtype){ SW_NDTYPES }));
}
