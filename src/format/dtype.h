/* The dtypes of safetensors: names, widths, and the order in which files hold them. */
#ifndef SW_FORMAT_DTYPE_H
#define SW_FORMAT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

/* In the order of the reference library's output: a file holds its tensors by ascending sw_dtype
 * (which is descending alignment), then by name. X(enum, name, bits, floating) */
#define SW_DTYPES(X)                                                                                         \
    X(SW_U64, "U64", 64, 0)                                                                                  \
    X(SW_I64, "I64", 64, 0)                                                                                  \
    X(SW_F64, "F64", 64, 1)                                                                                  \
    X(SW_C64, "C64", 64, 0)                                                                                  \
    X(SW_F32, "F32", 32, 1)                                                                                  \
    X(SW_U32, "U32", 32, 0)                                                                                  \
    X(SW_I32, "I32", 32, 0)                                                                                  \
    X(SW_BF16, "BF16", 16, 1)                                                                                \
    X(SW_F16, "F16", 16, 1)                                                                                  \
    X(SW_U16, "U16", 16, 0)                                                                                  \
    X(SW_I16, "I16", 16, 0)                                                                                  \
    X(SW_F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, 0)                                                                   \
    X(SW_F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, 0)                                                                   \
    X(SW_F8_E8M0, "F8_E8M0", 8, 0)                                                                           \
    X(SW_F8_E4M3, "F8_E4M3", 8, 0)                                                                           \
    X(SW_F8_E5M2, "F8_E5M2", 8, 0)                                                                           \
    X(SW_I8, "I8", 8, 0)                                                                                     \
    X(SW_U8, "U8", 8, 0)                                                                                     \
    X(SW_F6_E3M2, "F6_E3M2", 6, 0)                                                                           \
    X(SW_F6_E2M3, "F6_E2M3", 6, 0)                                                                           \
    X(SW_F4, "F4", 4, 0)                                                                                     \
    X(SW_BOOL, "BOOL", 8, 0)

/* The integers among them, and what C calls those. X(enum, type) */
#define SW_INTEGERS(X)                                                                                       \
    X(SW_I8, int8_t)                                                                                         \
    X(SW_U8, uint8_t)                                                                                        \
    X(SW_I16, int16_t)                                                                                       \
    X(SW_U16, uint16_t)                                                                                      \
    X(SW_I32, int32_t)                                                                                       \
    X(SW_U32, uint32_t)                                                                                      \
    X(SW_I64, int64_t)                                                                                       \
    X(SW_U64, uint64_t)

typedef enum sw_dtype {
#define SW_DTYPE_ENUM(id, name, bits, floating) id,
    SW_DTYPES(SW_DTYPE_ENUM)
#undef SW_DTYPE_ENUM
        SW_NDTYPES
} sw_dtype;

const char *sw_dtype_name(sw_dtype dtype);
unsigned sw_dtype_bits(sw_dtype dtype);
bool sw_dtype_is_floating(sw_dtype dtype); /* F64 F32 BF16 F16 */
/* an element is one number in whole bytes: not BOOL, C64, F4, F6 */
bool sw_dtype_is_number(sw_dtype dtype);
/* integers: those that are called I, and U */
bool sw_dtype_is_signed(sw_dtype dtype);
bool sw_dtype_is_unsigned(sw_dtype dtype);

/* Local. False when there is no such dtype. Safetensors spelling, exactly. */
bool sw_dtype_parse(const char *name, size_t len, sw_dtype *out);

/* Local. The same for names in .hf_metadata: safetensors spelling, or torch's with or without
 * "torch." (bfloat16, float32, float, half, float8_e4m3fn, int64, long, ...). */
bool sw_dtype_parse_any(const char *name, size_t len, sw_dtype *out);

#endif
