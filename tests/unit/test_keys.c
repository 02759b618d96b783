/* Gathered keys: found again, twins noticed. */
#include "format/keys.h"
#include "unit.h"

#define LEN 16u

static void add(sw_keys *k, uint32_t object, uint32_t at, uint32_t value)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_keys_add(k, object, k->text + at, LEN, value, &st), SW_OK);
}

/* Enter them; the key that is there twice. */
static const sw_key *enter(sw_keys *k)
{
    sw_status st = SW_STATUS_INIT;
    const sw_key *twice;

    assert_int_equal(sw_keys_enter(k, &twice, &st), SW_OK);
    return twice;
}

TEST(nothing)
{
    sw_keys k;

    sw_keys_init(&k, "text");
    assert_null(enter(&k));
    assert_null(sw_keys_find(&k, 0, "", 0));
    sw_keys_release(&k);
    sw_keys_release(&k);
}

/* Find each of n keys, and none that is not there; then add one again. */
static void check(const char *text, uint32_t n)
{
    const sw_key *twice;
    sw_keys k;

    sw_keys_init(&k, text);
    for (uint32_t i = 0; i < n; i++)
        add(&k, i % 3, i * LEN, i);
    assert_null(enter(&k));
    for (uint32_t i = 0; i < n; i++) {
        const sw_key *key = sw_keys_find(&k, i % 3, text + i * LEN, LEN);

        assert_non_null(key);
        assert_int_equal(key->value, i);
        assert_null(sw_keys_find(&k, i % 3 + 1, text + i * LEN, LEN));
        assert_null(sw_keys_find(&k, i % 3, text + i * LEN, LEN - 1));
    }
    sw_keys_release(&k);

    sw_keys_init(&k, text);
    for (uint32_t i = 0; i <= n; i++)
        add(&k, 7, i % n * LEN, i);
    twice = enter(&k);
    assert_true(twice && twice->at == 0 && twice->value == n);
    sw_keys_release(&k);
}

TEST(many)
{
    static const uint32_t counts[] = { 1, 2, 3, 7, 8, 9, 47, 48, 49, 1000, 50000 };
    char *text = malloc(50000 * LEN + 1);

    assert_non_null(text);
    for (uint32_t i = 0; i < 50000; i++)
        snprintf(text + i * LEN, LEN + 1, "layer.%05u.norm", i);
    for (size_t i = 0; i < COUNT(counts); i++)
        check(text, counts[i]);
    free(text);
}
