/* A set of numbers; see ranges.h. */
#include "base/ranges.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"

/* So many numbers and ranges are told of before the dots. */
#define WORDS_MAX 10

sw_code sw_ranges_add(sw_ranges *r, uint64_t from, uint64_t to, sw_status *st)
{
    sw_range *last = r->n ? &r->items[r->n - 1] : NULL;

    if (last && (from <= last->to || from - last->to == 1)) {
        last->to = sw_max(last->to, to);
        return SW_OK;
    }
    if (!sw_grow(&r->items, &r->cap, (uint64_t)r->n + 1, sizeof *r->items, st))
        r->items[r->n++] = (sw_range){ from, to };
    return st->code;
}

sw_code sw_ranges_lacking(const sw_ranges *r, uint64_t n, sw_ranges *out, sw_status *st)
{
    uint64_t next = 1;

    for (size_t i = 0; i < r->n && next <= n && !st->code; i++) {
        const sw_range *have = &r->items[i];

        if (have->from > next)
            sw_ranges_add(out, next, sw_min(have->from - 1, n), st);
        if (have->to >= n)
            return st->code;
        next = sw_max(next, have->to + 1);
    }
    return st->code || next > n ? st->code : sw_ranges_add(out, next, n, st);
}

/* Two neighbours are two numbers, not a range. */
sw_code sw_ranges_words(const sw_ranges *r, sw_buf *out, sw_status *st)
{
    unsigned told = 0;

    for (size_t i = 0; i < r->n && !st->code; i++) {
        const sw_range *k = &r->items[i];
        const char *between = told ? ", " : "";

        if (told >= WORDS_MAX)
            return sw_buf_addf(out, st, ", ...");
        if (k->from == k->to)
            sw_buf_addf(out, st, "%s%" PRIu64, between, k->from);
        else
            sw_buf_addf(out, st, "%s%" PRIu64 "%s%" PRIu64, between, k->from,
                        k->to - k->from == 1 ? ", " : " to ", k->to);
        told += k->to - k->from == 1 ? 2 : 1;
    }
    return st->code;
}

uint64_t sw_ranges_count(const sw_ranges *r)
{
    uint64_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        n += r->items[i].to - r->items[i].from + 1;
    return n;
}

uint64_t sw_ranges_last(const sw_ranges *r)
{
    return r->n ? r->items[r->n - 1].to : 0;
}

void sw_ranges_release(sw_ranges *r)
{
    free(r->items);
    *r = (sw_ranges)SW_RANGES_INIT;
}
