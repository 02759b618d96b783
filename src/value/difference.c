/* Elements that differ; see difference.h. */
#include "value/difference.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "value/distance.h"

/* So many bytes are looked at at once: a copy that differs here and there is still mostly compared
 * fast. */
#define STRIDE (SW_ELEMENTS_UNIT * UINT64_C(40))
#define MOST (STRIDE * 2) /* elements in them: of four bits */

/* ---- comparing ------------------------------------------------------------------------------- */

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

/* A piece of two copies in which something differs. */
typedef struct piece {
    sw_dtype dtype;
    const unsigned char *is, *want;
    uint64_t n;     /* elements, at most MOST */
    uint64_t first; /* number of the first in the thing */
    unsigned char differs[MOST];
    double is_number[MOST], want_number[MOST]; /* where doubles do */
} piece;

/* Which elements differ, of a width that a type has. */
#define MARK(type)                                                                                           \
    for (uint64_t i = 0; i < p->n; i++) {                                                                    \
        type a, b;                                                                                           \
                                                                                                             \
        memcpy(&a, p->is + i * sizeof a, sizeof a);                                                          \
        memcpy(&b, p->want + i * sizeof b, sizeof b);                                                        \
        p->differs[i] = a != b;                                                                              \
    }

/* Which elements differ, by their bits. */
static void mark(piece *p)
{
    unsigned bits = sw_dtype_bits(p->dtype);

    if (bits == 64)
        MARK(uint64_t)
    else if (bits == 32)
        MARK(uint32_t)
    else if (bits == 16)
        MARK(uint16_t)
    else if (bits == 8)
        MARK(uint8_t)
    else
        for (uint64_t i = 0; i < p->n; i++)
            p->differs[i] = sw_element_bits(p->is, i, bits) != sw_element_bits(p->want, i, bits);
}

/* Between its elements i. */
static inline sw_gap gap_at(const piece *p, uint64_t i, bool numbers)
{
    unsigned bits = sw_dtype_bits(p->dtype);

    if (numbers)
        return sw_gap_between(p->is_number[i], p->want_number[i], p->is_number[i] - p->want_number[i]);
    return sw_gap_of(p->dtype, sw_element_bits(p->is, i, bits), sw_element_bits(p->want, i, bits));
}

/* What differs in it, and counts; item->count = 0: nothing. */
static void count(piece *p, const sw_tolerance *allowed, sw_difference *item)
{
    bool any = allowed->absolute > 0 || allowed->relative > 0, numbers = sw_numbers_do(p->dtype);
    unsigned bits = sw_dtype_bits(p->dtype);

    mark(p);
    if (numbers) {
        sw_numbers_of(p->dtype, p->is, p->n, p->is_number);
        sw_numbers_of(p->dtype, p->want, p->n, p->want_number);
    }
    for (uint64_t i = 0; i < p->n; i++) {
        sw_gap g;

        if (!p->differs[i])
            continue;
        g = gap_at(p, i, numbers);
        if (any && (g.nan || g.absolute <= allowed->absolute || g.relative <= allowed->relative))
            continue;
        if (item->count++ == 0) {
            item->first = p->first + i;
            item->is = sw_element_bits(p->is, i, bits);
            item->want = sw_element_bits(p->want, i, bits);
        }
        item->largest = g.absolute > item->largest ? g.absolute : item->largest;
        item->relative = g.relative > item->relative ? g.relative : item->relative;
    }
}

/* What was found of one thing in two parts: the first difference stays. */
static void join(sw_difference *to, const sw_difference *more)
{
    if (to->count == 0 || more->first < to->first) {
        to->first = more->first;
        to->is = more->is;
        to->want = more->want;
    }
    to->count += more->count;
    to->largest = fmax(to->largest, more->largest);
    to->relative = fmax(to->relative, more->relative);
}

/* n bytes of the copies, from their byte at on. */
static sw_code compare_piece(sw_differences *d, const sw_copies *k, uint64_t at, uint64_t n, sw_status *st)
{
    unsigned bits = sw_dtype_bits(k->dtype);
    sw_difference found = { .count = 0 }, *item;
    piece p; /* is large: not emptied */

    p.dtype = k->dtype;
    p.is = (const unsigned char *)k->is + at;
    p.want = (const unsigned char *)k->want + at;
    p.n = n * 8 / bits;
    p.first = (k->from + at) / SW_ELEMENTS_UNIT * (SW_ELEMENTS_UNIT * 8 / bits);
    count(&p, &d->allowed, &found);
    d->elements += found.count;
    if (found.count && (item = item_of(d, k, st)) != NULL)
        join(item, &found);
    return st->code;
}

sw_code sw_differences_compare(sw_differences *d, const sw_copies *k, sw_status *st)
{
    const unsigned char *a = k->is, *b = k->want;

    assert(k->from % SW_ELEMENTS_UNIT == 0);
    if (memcmp(a, b, (size_t)k->n) == 0)
        return SW_OK;
    for (uint64_t at = 0, now; at < k->n; at += now) {
        now = sw_min(k->n - at, STRIDE);
        if (memcmp(a + at, b + at, (size_t)now) != 0 && compare_piece(d, k, at, now, st))
            return st->code;
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

    sw_sort(d->items, d->n, sizeof *d->items, by_thing);
    for (size_t i = 0; i < d->n; i++) {
        sw_difference *last = n ? &d->items[n - 1] : NULL;

        if (last && last->tensor == d->items[i].tensor && last->box == d->items[i].box)
            join(last, &d->items[i]);
        else
            d->items[n++] = d->items[i];
    }
    d->n = n;
}

void sw_differences_release(sw_differences *d)
{
    free(d->items);
    *d = (sw_differences){ .allowed = d->allowed };
}

/* ---- words ----------------------------------------------------------------------------------- */

void sw_element_index(uint64_t i, const uint64_t *shape, unsigned n, uint64_t *index)
{
    while (n-- > 0) {
        index[n] = i % shape[n];
        i /= shape[n];
    }
}

/* All digits that the width has. */
static void hex_text(sw_dtype dtype, uint64_t value, char *text, size_t n)
{
    snprintf(text, n, "0x%0*" PRIx64, (int)(sw_dtype_bits(dtype) + 3u) / 4, value);
}

/* A value as people write it. */
static void value_text(sw_dtype dtype, uint64_t value, char *text, size_t n)
{
    if (sw_dtype_is_floating(dtype))
        snprintf(text, n, "%.*g", dtype == SW_F64 ? 17 : 9, sw_number_of(dtype, value));
    else if (dtype == SW_C64)
        snprintf(text, n, "%.9g%+.9gi", sw_number_of(SW_F32, value & UINT32_MAX),
                 sw_number_of(SW_F32, value >> 32));
    else if (sw_dtype_is_signed(dtype))
        snprintf(text, n, "%" PRId64, sw_signed_of(dtype, value));
    else if (sw_dtype_is_unsigned(dtype))
        snprintf(text, n, "%" PRIu64, value);
    else if (dtype == SW_BOOL && value < 2)
        snprintf(text, n, "%s", value ? "true" : "false");
    else /* who has floats of 8 bits and less looks at their bits */
        hex_text(dtype, value, text, n);
}

char *sw_values_text(sw_dtype dtype, uint64_t is, const char *between, uint64_t want,
                     char text[SW_VALUES_TEXT])
{
    char a[64], b[64], bits_a[24], bits_b[24];

    value_text(dtype, is, a, sizeof a);
    value_text(dtype, want, b, sizeof b);
    hex_text(dtype, is, bits_a, sizeof bits_a);
    hex_text(dtype, want, bits_b, sizeof bits_b);
    if (strcmp(a, b) == 0)
        snprintf(text, SW_VALUES_TEXT, "%s (%s)%s%s (%s)", a, bits_a, between, b, bits_b);
    else
        snprintf(text, SW_VALUES_TEXT, "%s%s%s", a, between, b);
    return text;
}
