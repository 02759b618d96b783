/* What --version says: one line, whatever the MPI library tells of itself. */
#include "cmd/version.h"
#include "shardweld.h"
#include "unit.h"

TEST(mpi)
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

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[SW_VERSION_MPI];

        sw_version_mpi(cases[i].told, name);
        assert_string_equal(name, cases[i].want);
    }
}

TEST(long_name_is_cut)
{
    char told[4 * SW_VERSION_MPI], name[SW_VERSION_MPI];

    memset(told, 'x', sizeof told - 1);
    told[sizeof told - 1] = '\0';
    sw_version_mpi(told, name);
    assert_int_equal(strlen(name), SW_VERSION_MPI - 1);
}

TEST(line)
{
    static const char begin[] = "shardweld " SW_VERSION;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    assert_non_null(to);
    sw_version_print(to);
    assert_int_equal(fclose(to), 0);
    assert_memory_equal(text, begin, sizeof begin - 1);
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_non_null(strstr(text, ", layer "));
    free(text);
}
