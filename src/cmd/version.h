/* What --version says. */
#ifndef SW_CMD_VERSION_H
#define SW_CMD_VERSION_H

#include <stdio.h>

/* Room for the name of any MPI library, with its NUL. */
#define SW_VERSION_MPI 128

/* Local. One line: version, the commit where the build knew it ("-dirty": with changes of its own),
 * and the MPI library that the process runs with. */
void sw_version_print(FILE *to);

/* Local. The name and version in what MPI tells of itself, which may be many lines with copyright
 * and options. */
void sw_version_mpi(const char *told, char name[SW_VERSION_MPI]);

#endif
