/* Files that the program writes for people: the report, pictures. Local. */
#ifndef SW_CMD_FILE_H
#define SW_CMD_FILE_H

#include "say.h"

/* Write what print makes to path. A regular file appears whole under its name or not at all; a
 * link, pipe or device is written to.
 *   what  names the file in the message: "the report"
 * Errors: SW_EIO, SW_ENOMEM. */
sw_code sw_file_print(const char *path, const char *what, sw_printer *print, const void *about,
                      sw_status *st);

/* Remove a regular file that an earlier run has left at path; what is none, and what is not there,
 * stays as it is.
 *   what  as above
 * Errors: SW_EIO. */
sw_code sw_file_discard(const char *path, const char *what, sw_status *st);

/* Is this the name of a checkpoint's own file? What stands there is not replaced by a slip of the
 * hand. */
bool sw_file_is_taboo(const char *path);

#endif
