/* Gathered keys: found again, twins noticed, also when every hash is the same. */
#include "base/hash.h"
#include "format/keys.h"
#include "unit.h"

#define LEN 16u

static void add(sw_keys *k, uint32_t object, uint32_t at, uint32_t value)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_keys_add(k, object, k->text + at, LEN, value, &st), SW_OK);
}

static void sort(sw_keys *k)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_keys_sort(k, &st), SW_OK);
}

TEST(nothing)
{
    sw_keys k;

    sw_keys_init(&k, "text");
    sort(&k);
    assert_null(sw_keys_duplicate(&k));
    assert_null(sw_keys_find(&k, 0, "", 0));
    sw_keys_release(&k);
    sw_keys_release(&k);
}

/* Find each of n keys, and none that is not there; then add one again. */
static void check(const char *text, uint32_t n)
{
    sw_keys k;

    sw_keys_init(&k, text);
    for (uint32_t i = 0; i < n; i++)
        add(&k, i % 3, i * LEN, i);
    sort(&k);
    assert_null(sw_keys_duplicate(&k));
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
    sort(&k);
    assert_non_null(sw_keys_duplicate(&k));
    assert_int_equal(sw_keys_duplicate(&k)->at, 0);
    assert_int_equal(sw_keys_duplicate(&k)->value, n);
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

/* Two words each, the second chosen so that the hash forgets the first. */
TEST(equal_hashes)
{
    const uint32_t n = 100000;
    char *text = malloc((size_t)n * LEN);
    sw_keys k;

    assert_non_null(text);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t word[2] = { i, 0 };

        word[1] = sw_hash_word(sw_hash_word(7, LEN), word[0]) ^ 42;
        memcpy(text + i * LEN, word, sizeof word);
    }
    assert_int_equal(sw_hash(7, text, LEN), sw_hash(7, text + (size_t)(n - 1) * LEN, LEN));
    sw_keys_init(&k, text);
    for (uint32_t i = 0; i < n; i++)
        add(&k, 7, i * LEN, i);
    sort(&k);
    assert_null(sw_keys_duplicate(&k));
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(sw_keys_find(&k, 7, text + (size_t)i * LEN, LEN)->value, i);
    sw_keys_release(&k);
    free(text);
}
