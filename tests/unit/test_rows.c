/* Rows at equal distances: what arrives is what was there, whatever the sizes, steps and addresses,
 * and nothing else is touched; each byte of them counts where they are compared, and no other. */
#include "base/num.h"
#include "base/rows.h"
#include "unit.h"

#define SIZE (1 << 17)
#define UNTOUCHED 0x5a

typedef void copy_fn(char *to, const char *from, const sw_rows *rows);

/* One byte at a time. */
static void expect(char *to, const char *from, const sw_rows *r)
{
    for (uint64_t i = 0; i < r->count; i++)
        for (uint64_t k = 0; k < r->row; k++)
            to[(int64_t)i * r->to_step + (int64_t)k] = from[(int64_t)i * r->from_step + (int64_t)k];
}

/* They have been copied. The first and the last byte of a row, and what stands behind it. */
static void check_equal(const sw_rows *r, char *to, const char *from)
{
    bool together = r->to_step == (int64_t)r->row || r->to_step == -(int64_t)r->row;

    assert_true(sw_rows_equal(to, from, r));
    for (uint64_t i = 0; i < r->count; i += r->count / 2 + 1) {
        char *row = to + (int64_t)i * r->to_step;

        for (uint64_t k = 0; k < r->row + !together; k += k + 1 < r->row ? sw_max(r->row - 1, 1) : 1) {
            row[k] ^= 1;
            assert_int_equal(sw_rows_equal(to, from, r), k == r->row);
            row[k] ^= 1;
        }
    }
}

static void check(copy_fn *copy, const sw_rows *r, uint64_t from_at, uint64_t to_at, const char *from,
                  char *got, char *want)
{
    char *aligned = (char *)(((uintptr_t)got + 63) / 64 * 64);
    uint64_t back = r->to_step < 0 && r->count ? (uint64_t)-r->to_step * (r->count - 1) : 0;

    memset(got, UNTOUCHED, SIZE);
    memset(want, UNTOUCHED, SIZE);
    copy(aligned + back + to_at, from + from_at, r);
    expect(want + (aligned - got) + back + to_at, from + from_at, r);
    if (memcmp(got, want, SIZE) != 0)
        fail_msg("row %u, count %u, steps %u and %d, at %u and %u", (unsigned)r->row, (unsigned)r->count,
                 (unsigned)r->from_step, (int)r->to_step, (unsigned)from_at, (unsigned)to_at);
    check_equal(r, aligned + back + to_at, from + from_at);
}

TEST(all)
{
    static const uint64_t rows[] = { 1, 2, 3, 4, 8, 63, 511, 512, 513, 575, 640, 1024, 2000 };
    static const uint64_t counts[] = { 0, 1, 2, 7, 8, 9, 17 };
    static const int64_t more[] = { 0, 1, 8, 64, 1000 };
    char *from = malloc(SIZE), *got = malloc(SIZE), *want = malloc(SIZE);

    for (size_t i = 0; i < SIZE; i++)
        from[i] = (char)(i * 7 + i / 251);
    for (size_t a = 0; a < COUNT(rows); a++) {
        for (size_t b = 0; b < COUNT(counts); b++) {
            for (size_t c = 0; c < COUNT(more); c++) {
                int64_t step = (int64_t)rows[a] + more[c];
                sw_rows r = { rows[a], counts[b], (int64_t)rows[a] + more[(c + 2) % 5],
                              c % 2 ? -step : step };
                uint64_t at = (a * 13 + b * 5 + c) % 70;

                check(sw_rows_copy, &r, at, 70 - at, from, got, want);
                check(sw_rows_stream, &r, at, 70 - at, from, got, want);
                check(sw_rows_stream, &r, 0, 0, from, got, want);
            }
        }
    }
    free(from);
    free(got);
    free(want);
}
