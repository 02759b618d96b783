/* Names that repeat: which patterns are found, and that they stand for exactly the names that are
 * there. */
#include "cmd/pattern.h"
#include "unit.h"

static const char *name_of(const void *about, uint64_t i)
{
    return ((const char *const *)about)[i];
}

/* What begins with the same letter is of one kind. */
static int by_letter(const void *about, uint64_t a, uint64_t b)
{
    return name_of(about, a)[0] - name_of(about, b)[0];
}

/* Find the patterns of names (ended by NULL), and compare them with want (likewise): "COUNT NAME"
 * each. */
static void check(const char *const *names, const char *const *want, bool files)
{
    sw_named named = { .name = name_of, .order = by_letter, .about = names, .files = files };
    sw_patterns p = SW_PATTERNS_INIT;
    sw_status st = SW_STATUS_INIT;
    uint64_t counts[64] = { 0 };
    char text[256];
    size_t n = 0;

    while (names[named.n])
        named.n++;
    assert_int_equal(sw_patterns_find(&named, &p, &st), SW_OK);
    for (; want[n]; n++) {
        assert_true(n < p.n);
        snprintf(text, sizeof text, "%llu %s", (unsigned long long)p.items[n].count, p.items[n].name);
        assert_string_equal(text, want[n]);
    }
    assert_int_equal(p.n, n);
    for (size_t i = 0; i < named.n; i++)
        counts[p.of[i]]++;
    for (size_t i = 0; i < n; i++)
        assert_int_equal(counts[i], p.items[i].count);
    sw_patterns_release(&p);
}

TEST(tensors)
{
    static const char *const want[] = { "1 head", "3 l.{0-2}.w", "2 l.{3,7}.v", NULL };
    static const char *const all[] = { "head", "l.0.w", "l.1.w", "l.2.w", "l.3.v", "l.7.v", NULL };
    static const char *const grid[] = { "a.0.e.0.w", "a.0.e.1.w", "a.1.e.0.w", "a.1.e.1.w", NULL };
    static const char *const grid_want[] = { "4 a.{0-1}.e.{0-1}.w", NULL };
    /* layer 0 has other experts than the others */
    static const char *const odd[] = { "a.0.e.0.w",  "a.1.e.0.w", "a.1.e.1.w", "a.10.e.0.w",
                                       "a.10.e.1.w", "a.2.e.0.w", "a.2.e.1.w", NULL };
    static const char *const odd_want[] = { "1 a.0.e.0.w", "6 a.{1-2,10}.e.{0-1}.w", NULL };
    static const char *const few[] = { "a.1.w", NULL }, *const few_want[] = { "1 a.1.w", NULL };
    static const char *const none[] = { NULL };

    check(all, want, false);
    check(grid, grid_want, false);
    check(odd, odd_want, false);
    check(few, few_want, false);
    check(none, none, false);
}

/* Digits within a word are no number of a tensor's; those that are filled up are kept so. */
TEST(words)
{
    static const char *const names[] = {
        "b.01.x", "b.02.x", "b.1.x", "b.2.x", "w1.x", "w2.x", "x.99999999999999999999.y", NULL
    };
    static const char *const want[] = {
        "2 b.{01-02}.x", "2 b.{1-2}.x", "1 w1.x", "1 w2.x", "1 x.99999999999999999999.y", NULL
    };

    check(names, want, false);
}

TEST(kinds)
{
    static const char *const names[] = { "0.w", "1.w", "2.w", NULL };
    /* by_letter() has them of three kinds */
    static const char *const want[] = { "1 0.w", "1 1.w", "1 2.w", NULL };

    check(names, want, false);
}

TEST(files)
{
    static const char *const names[] = { "s-00001-m-00001.x", "s-00001-m-00002.x", "s-00002-m-00001.x",
                                         "s-00002-m-00002.x", "s-00009-m-00001.x", NULL };
    static const char *const want[] = { "4 s-{00001-00002}-m-{00001-00002}.x", "1 s-00009-m-00001.x", NULL };

    check(names, want, true);
}

/* Sets of many pieces are told by their first ones and their last. */
TEST(many_pieces)
{
    static const char *const names[] = { "a.0", "a.10", "a.12", "a.14", "a.16", "a.18",
                                         "a.2", "a.4",  "a.6",  "a.8",  NULL };
    static const char *const want[] = { "10 a.{0,2,4,6,8,10,...,18}", NULL };

    check(names, want, false);
}

/* More numbers than are looked at are text. */
TEST(many_numbers)
{
    static const char *const names[] = { "a.1.2.3.4.5.6.7.8.9", "a.1.2.3.4.5.6.7.8.10", NULL };
    static const char *const want[] = { "1 a.1.2.3.4.5.6.7.8.9", "1 a.1.2.3.4.5.6.7.8.10", NULL };

    check(names, want, false);
}

TEST(by_amount)
{
    static const char *const names[] = { "a", "b", "c", NULL };
    const sw_named named = { .n = 3, .name = name_of, .about = names, .each = true };
    sw_patterns p = SW_PATTERNS_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_patterns_find(&named, &p, &st), SW_OK);
    p.items[1].amount = p.items[2].amount = 7;
    sw_patterns_by_amount(&p);
    assert_string_equal(p.items[0].name, "b");
    assert_string_equal(p.items[1].name, "c");
    assert_string_equal(p.items[2].name, "a");
    sw_patterns_release(&p);
}
