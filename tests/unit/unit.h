/* The frame of every unit test program. A test is
 *     TEST(what_is_shown)
 *     {
 *         ...
 *     }
 * and those of a file run in their order; the status of the program tells whether one failed. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The address sanitizer is at work: what is done very often may be done less often. */
#ifdef __has_feature
#define UNIT_HAS_FEATURE(x) __has_feature(x)
#else
#define UNIT_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || UNIT_HAS_FEATURE(address_sanitizer)
#define UNIT_SANITIZED true
#else
#define UNIT_SANITIZED false
#endif

#define TEST(name) TEST_WITH(name, NULL, NULL)

/* before and after make what a test needs and put it away: int before(void **state), 0 = done. */
#define TEST_WITH(name, before, after)                                                                       \
    static void test_##name(void **state);                                                                   \
    __attribute__((constructor)) static void enter_##name(void)                                              \
    {                                                                                                        \
        unit_enter(&(struct CMUnitTest){ #name, test_##name, before, after, NULL }, __LINE__);               \
    }                                                                                                        \
    static void test_##name(void **state __attribute__((unused)))

#define UNIT_MAX 64

static struct CMUnitTest unit_tests[UNIT_MAX];
static int unit_lines[UNIT_MAX];
static size_t unit_count;

/* Constructors come in any order: sorted by line. */
static inline void unit_enter(const struct CMUnitTest *test, int line)
{
    size_t i = unit_count++;

    if (unit_count > UNIT_MAX)
        abort();
    for (; i > 0 && unit_lines[i - 1] > line; i--) {
        unit_tests[i] = unit_tests[i - 1];
        unit_lines[i] = unit_lines[i - 1];
    }
    unit_tests[i] = *test;
    unit_lines[i] = line;
}

static inline int unit_run(void)
{
    return _cmocka_run_group_tests("tests", unit_tests, unit_count, NULL, NULL);
}

/* Who runs them more than once has a main of its own. */
#ifndef UNIT_OWN_MAIN
int main(void)
{
    return unit_run();
}
#endif

#endif
