/* Directories of tests. */
#ifndef TREE_HELP_H
#define TREE_HELP_H

#include <stdlib.h>

#include "base/below.h"

/* Remove whatever has this path, with all below it. */
static inline sw_code remove_tree(const char *path, sw_status *st)
{
    char *above = sw_path_dir(path, st);
    sw_below dir = SW_BELOW_INIT;
    sw_code code = above ? sw_below_open(above, &dir, NULL, st) : st->code;

    if (!code)
        code = sw_below_remove_tree(&dir, sw_path_name(path), st);
    sw_below_close(&dir);
    free(above);
    return code;
}

#endif
