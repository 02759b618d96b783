/* What --version says: one line, whatever the MPI library tells of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/version.h"
#include "shardweld.h"

static void test_mpi(void **state)
{
    static const struct {
        const char *told, *want;
    } cases[] = {
        { "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022",
          "Open MPI v4.1.4" },
        { "MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7 12:34:45 CDT 2022\n",
          "MPICH Version: 4.0.2" },
        { "Intel(R) MPI Library 2021.5 for Linux* OS\n", "Intel(R) MPI Library 2021.5 for Linux* OS" },
        { "MPI VERSION    : CRAY MPICH version 8.1.4.5 (ANL base 3.2)\nMPI BUILD INFO : ...",
          "MPI VERSION : CRAY MPICH version 8.1.4.5 (ANL base 3.2)" },
        { "  two  spaces  ", "two spaces" },
        { "\nnothing", "" },
        { "", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[SW_VERSION_MPI];

        sw_version_mpi(cases[i].told, name);
        assert_string_equal(name, cases[i].want);
    }
}

static void test_long_name_is_cut(void **state)
{
    char told[4 * SW_VERSION_MPI], name[SW_VERSION_MPI];

    (void)state;
    memset(told, 'x', sizeof told - 1);
    told[sizeof told - 1] = '\0';
    sw_version_mpi(told, name);
    assert_int_equal(strlen(name), SW_VERSION_MPI - 1);
}

static void test_line(void **state)
{
    static const char begin[] = "shardweld " SW_VERSION;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    (void)state;
    assert_non_null(to);
    sw_version_print(to);
    assert_int_equal(fclose(to), 0);
    assert_memory_equal(text, begin, sizeof begin - 1);
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_non_null(strstr(text, "MPI"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mpi),
        cmocka_unit_test(test_long_name_is_cut),
        cmocka_unit_test(test_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
