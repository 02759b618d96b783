/* Elements that differ; see difference.h. */
#include "plan/difference.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"

/* So many bytes are looked at at once: a copy that differs here and there is still mostly compared
 * fast. */
#define STRIDE (SW_ELEMENTS_UNIT * UINT64_C(40))

/* ---- comparing ------------------------------------------------------------------------------- */

/* Element i of data that begins with a whole one. Those of less than a byte lie one behind the
 * other from the lowest bit on. */
static uint64_t element(const unsigned char *data, uint64_t i, unsigned bits)
{
    uint64_t at = i * bits, value = 0;

    if (bits >= 8) {
        memcpy(&value, data + at / 8, bits / 8);
        return value;
    }
    value = data[at / 8];
    if (at % 8 + bits > 8)
        value |= (uint64_t)data[at / 8 + 1] << 8;
    return value >> at % 8 & ((UINT64_C(1) << bits) - 1);
}

/* The item of a thing: the last one, or a new one; NULL on failure. */
static sw_difference *item_of(sw_differences *d, const sw_copies *k, sw_status *st)
{
    sw_difference *last = d->n ? &d->items[d->n - 1] : NULL;

    if (last && last->tensor == k->tensor && last->box == k->box)
        return last;
    if (sw_grow(&d->items, &d->cap, d->n + UINT64_C(1), sizeof *d->items, st))
        return NULL;
    d->items[d->n] = (sw_difference){ .tensor = k->tensor, .box = k->box };
    return &d->items[d->n++];
}

/* Elements [first, first + n) of the thing. */
static void count(sw_difference *item, unsigned bits, uint64_t first, const unsigned char *is,
                  const unsigned char *want, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t a = element(is, i, bits), b = element(want, i, bits);

        if (a == b)
            continue;
        if (item->count++ == 0 || first + i < item->first) {
            item->first = first + i;
            item->is = a;
            item->want = b;
        }
    }
}

sw_code sw_differences_compare(sw_differences *d, const sw_copies *k, sw_status *st)
{
    const unsigned char *a = k->is, *b = k->want;
    unsigned bits = sw_dtype_bits(k->dtype);

    assert(k->from % SW_ELEMENTS_UNIT == 0);
    if (memcmp(a, b, (size_t)k->n) == 0)
        return SW_OK;
    for (uint64_t at = 0, now; at < k->n; at += now) {
        uint64_t first = (k->from + at) / SW_ELEMENTS_UNIT * (SW_ELEMENTS_UNIT * 8 / bits);
        sw_difference *item;

        now = sw_min(k->n - at, STRIDE);
        if (memcmp(a + at, b + at, (size_t)now) == 0)
            continue;
        item = item_of(d, k, st);
        if (!item)
            return st->code;
        count(item, bits, first, a + at, b + at, now * 8 / bits);
    }
    return SW_OK;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* For qsort; the first difference of each thing first. */
static int by_thing(const void *a, const void *b)
{
    const sw_difference *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ x->tensor, x->box, x->first },
                     (const uint64_t[]){ y->tensor, y->box, y->first }, 3);
}

void sw_differences_join(sw_differences *d)
{
    size_t n = 0;

    if (d->n > 1)
        qsort(d->items, d->n, sizeof *d->items, by_thing);
    for (size_t i = 0; i < d->n; i++) {
        sw_difference *last = n ? &d->items[n - 1] : NULL;

        if (last && last->tensor == d->items[i].tensor && last->box == d->items[i].box)
            last->count += d->items[i].count;
        else
            d->items[n++] = d->items[i];
    }
    d->n = n;
}

void sw_differences_release(sw_differences *d)
{
    free(d->items);
    *d = (sw_differences)SW_DIFFERENCES_INIT;
}

/* ---- words ----------------------------------------------------------------------------------- */

void sw_element_index(uint64_t i, const uint64_t *shape, unsigned n, uint64_t *index)
{
    while (n-- > 0) {
        index[n] = i % shape[n];
        i /= shape[n];
    }
}

/* What the bits of an F16 stand for. */
static double half_value(uint64_t bits)
{
    int exponent = (int)(bits >> 10 & 31);
    double fraction = (double)(bits & 1023), sign = bits >> 15 & 1 ? -1.0 : 1.0;

    if (exponent == 31)
        return copysign(fraction > 0 ? NAN : INFINITY, sign);
    return exponent == 0 ? sign * ldexp(fraction, -24) : sign * ldexp(1024 + fraction, exponent - 25);
}

/* The same of an F32. */
static double float_value(uint64_t bits)
{
    uint32_t word = (uint32_t)bits;
    float f;

    memcpy(&f, &word, sizeof f);
    return (double)f;
}

/* The same of an F64. */
static double double_value(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof d);
    return d;
}

/* A signed integer of some width. */
static int64_t signed_value(uint64_t value, unsigned bits)
{
    return (int64_t)(value << (64 - bits)) >> (64 - bits);
}

/* All digits that the width has. */
static void hex_text(sw_dtype dtype, uint64_t value, char *text, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t count = (sw_dtype_bits(dtype) + 3u) / 4u;

    assert(n > count + 2);
    memcpy(text, "0x", 2);
    for (size_t i = 0; i < count; i++, value >>= 4)
        text[1 + count - i] = digits[value & 15];
    text[2 + count] = '\0';
    (void)n;
}

/* A value as people write it. */
static void value_text(sw_dtype dtype, uint64_t value, char *text, size_t n)
{
    switch (dtype) {
    case SW_F64:
        snprintf(text, n, "%.17g", double_value(value));
        break;
    case SW_F32:
        snprintf(text, n, "%.9g", float_value(value));
        break;
    case SW_BF16:
        snprintf(text, n, "%.9g", float_value(value << 16));
        break;
    case SW_F16:
        snprintf(text, n, "%.9g", half_value(value));
        break;
    case SW_C64:
        snprintf(text, n, "%.9g%+.9gi", float_value(value & UINT32_MAX), float_value(value >> 32));
        break;
    case SW_U64:
    case SW_U32:
    case SW_U16:
    case SW_U8:
        snprintf(text, n, "%" PRIu64, value);
        break;
    case SW_I64:
    case SW_I32:
    case SW_I16:
    case SW_I8:
        snprintf(text, n, "%" PRId64, signed_value(value, sw_dtype_bits(dtype)));
        break;
    case SW_BOOL:
        if (value < 2) {
            snprintf(text, n, "%s", value ? "true" : "false");
            break;
        }
        hex_text(dtype, value, text, n);
        break;
    default: /* who has floats of 8 bits and less looks at their bits */
        hex_text(dtype, value, text, n);
    }
}

char *sw_values_text(sw_dtype dtype, uint64_t is, uint64_t want, char text[SW_VALUES_TEXT])
{
    char a[64], b[64], bits_a[24], bits_b[24];

    value_text(dtype, is, a, sizeof a);
    value_text(dtype, want, b, sizeof b);
    hex_text(dtype, is, bits_a, sizeof bits_a);
    hex_text(dtype, want, bits_b, sizeof bits_b);
    if (strcmp(a, b) == 0)
        snprintf(text, SW_VALUES_TEXT, "%s (%s), expected %s (%s)", a, bits_a, b, bits_b);
    else
        snprintf(text, SW_VALUES_TEXT, "%s, expected %s", a, b);
    return text;
}
