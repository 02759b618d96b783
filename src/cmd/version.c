/* What --version says; see version.h. The commit comes from the build, because a program that is
 * installed has no history beside it. */
#include "version.h"

#include <ctype.h>

#include "shardweld.h"

/* Empty where neither the history nor the archive of the source tells it. */
#ifndef SW_COMMIT
#define SW_COMMIT ""
#endif

void sw_version_mpi(const char *told, char name[SW_VERSION_MPI])
{
    size_t n = 0;

    /* To the end of the line or, as in "Open MPI v4.1.4, package: ...", of the first item of a
     * list. */
    for (; *told && *told != '\n' && *told != ',' && n + 1 < SW_VERSION_MPI; told++) {
        if (!isspace((unsigned char)*told))
            name[n++] = *told;
        else if (n > 0 && name[n - 1] != ' ')
            name[n++] = ' ';
    }
    if (n > 0 && name[n - 1] == ' ')
        n--;
    name[n] = '\0';
}

void sw_version_print(FILE *to)
{
    char told[8192], mpi[SW_VERSION_MPI];
    const char *layer = sw_mpi_kind();

    sw_mpi_version(told, sizeof told);
    sw_version_mpi(told, mpi);
    fprintf(to, "shardweld " SW_VERSION "%s, layer %s%s%s\n", SW_COMMIT[0] ? ", commit " SW_COMMIT : "",
            layer, mpi[0] ? ", " : "", mpi);
}
