/* Rows in memory; see rows.h.
 *
 * The processor fetches ahead within a run of bytes, and begins anew with each row: a row of 2 KiB
 * whose neighbours are 8 KiB away comes at little more than half the speed of memory. Eight rows at
 * a time, a cache line of each in turn, keep as many fetches going as one long run does; and stores
 * that bypass the caches spare reading what is overwritten. */
#include "base/rows.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/num.h"

/* ---- short rows ------------------------------------------------------------------------------ */

/* The function for rows that are as long as many are: of a constant. */
#define BY_ROW(fn, to, from, rows)                                                                           \
    switch ((rows)->row) {                                                                                   \
    case 1:                                                                                                  \
        return fn(to, from, 1, rows);                                                                        \
    case 2:                                                                                                  \
        return fn(to, from, 2, rows);                                                                        \
    case 4:                                                                                                  \
        return fn(to, from, 4, rows);                                                                        \
    case 8:                                                                                                  \
        return fn(to, from, 8, rows);                                                                        \
    case 64:                                                                                                 \
        return fn(to, from, 64, rows);                                                                       \
    case 128:                                                                                                \
        return fn(to, from, 128, rows);                                                                      \
    default:                                                                                                 \
        return fn(to, from, (rows)->row, rows);                                                              \
    }

/* Inline for the sake of a constant row; so is the other. */
static inline void copy_each(char *to, const char *from, uint64_t row, const sw_rows *r)
{
    for (uint64_t i = 0; i < r->count; i++)
        memcpy(to + (int64_t)i * r->to_step, from + (int64_t)i * r->from_step, (size_t)row);
}

void sw_rows_copy(char *to, const char *from, const sw_rows *rows)
{
    BY_ROW(copy_each, to, from, rows)
}

/* All rows are, byte for byte. */
static inline bool are_equal(const char *to, const char *from, uint64_t row, const sw_rows *r)
{
    for (uint64_t i = 0; i < r->count; i++)
        if (memcmp(to + (int64_t)i * r->to_step, from + (int64_t)i * r->from_step, (size_t)row) != 0)
            return false;
    return true;
}

bool sw_rows_equal(const char *to, const char *from, const sw_rows *rows)
{
    BY_ROW(are_equal, to, from, rows)
}

/* ---- long rows ------------------------------------------------------------------------------- */

#ifdef __SSE2__

#define LINE 64u
#define TOGETHER 8u

/* A line of the cache, and nobody reads it before it is written. In four registers: an array would
 * go through memory. */
static inline void stream_line(char *to, const char *from)
{
    const __m128i *in = (const __m128i *)(const void *)from;
    __m128i *out = (__m128i *)(void *)to;
    __m128i a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1);
    __m128i c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);

    _mm_stream_si128(out, a);
    _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c);
    _mm_stream_si128(out + 3, d);
}

/* At most TOGETHER rows. What lies before the first whole line of the target, and behind the last
 * one that all rows have, is copied in the ordinary way. */
static void stream_some(char *to, const char *from, const sw_rows *r, unsigned count)
{
    uint64_t lines = r->row / LINE, head[TOGETHER];

    for (unsigned i = 0; i < count; i++) {
        char *row = to + (int64_t)i * r->to_step;

        head[i] = (LINE - (uintptr_t)row % LINE) % LINE;
        lines = sw_min(lines, (r->row - head[i]) / LINE);
        memcpy(row, from + (int64_t)i * r->from_step, head[i]);
    }
    for (uint64_t k = 0; k < lines * LINE; k += LINE)
        for (unsigned i = 0; i < count; i++)
            stream_line(to + (int64_t)i * r->to_step + head[i] + k,
                        from + (int64_t)i * r->from_step + head[i] + k);
    for (unsigned i = 0; i < count; i++) {
        uint64_t done = head[i] + lines * LINE;

        memcpy(to + (int64_t)i * r->to_step + done, from + (int64_t)i * r->from_step + done, r->row - done);
    }
}

void sw_rows_stream(char *to, const char *from, const sw_rows *rows)
{
    uint64_t i = 0;

    if (rows->row < SW_ROWS_STREAM) {
        sw_rows_copy(to, from, rows);
        return;
    }
    for (; i + TOGETHER <= rows->count; i += TOGETHER)
        stream_some(to + (int64_t)i * rows->to_step, from + (int64_t)i * rows->from_step, rows, TOGETHER);
    if (i < rows->count)
        stream_some(to + (int64_t)i * rows->to_step, from + (int64_t)i * rows->from_step, rows,
                    (unsigned)(rows->count - i));
    _mm_sfence(); /* other threads see these bytes before whatever tells them so */
}

#else

void sw_rows_stream(char *to, const char *from, const sw_rows *rows)
{
    sw_rows_copy(to, from, rows);
}

#endif
