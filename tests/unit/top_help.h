/* A test with a directory of its own, top, which is removed behind it. In memory if possible:
 * a disk takes minutes over thousands of small files that are synced. */
#ifndef TOP_HELP_H
#define TOP_HELP_H

#include "tree_help.h"
#include "unit.h"

static char top[32];

static inline int top_make(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "%s/shardweld-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(top) && chmod(top, 0755) == 0 ? 0 : -1;
}

static inline int top_remove(void **state)
{
    sw_status st = SW_STATUS_INIT;

    (void)state;
    return remove_tree(top, &st) ? -1 : 0;
}

/* A name in it; see path_at(). */
static inline char *at(const char *name)
{
    return path_at(top, name);
}

#define TEST_IN_TOP(name) TEST_WITH(name, top_make, top_remove)

#endif
