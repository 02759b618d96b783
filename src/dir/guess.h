/* What a file that is no safetensors file mostly is: a guess at the cause, for people. */
#ifndef SW_DIR_GUESS_H
#define SW_DIR_GUESS_H

#include "base/path.h"

/* Local. Look at the beginning of a file whose header could not be used. Static text; NULL = no
 * idea, also when it cannot be read. */
const char *sw_guess_of_file(const char *dir, const char *name, uint64_t size);

/* Local. The same for a directory that holds no safetensors files, by the names in it. */
const char *sw_guess_of_names(const sw_dir *names);

#endif
