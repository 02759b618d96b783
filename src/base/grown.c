/* Old and new structs; see grown.h. */
#include "base/grown.h"

#include <string.h>

#include "base/num.h"
#include "base/status.h"

#define LARGEST 65536 /* bytes; more is not a size but what happened to lie there */

/* What each was in version 0.2, without what may follow its last member. */
static const struct {
    const char *what;
    size_t size;
} firsts[] = {
#define FIRST(type, last) { #type, offsetof(type, last) + sizeof((type *)0)->last },
    SW_GROWN(FIRST)
#undef FIRST
};

/* The size that a struct begins with, where it is one. Zero stands for that of version 0.2. */
static size_t size_of(const void *given, const char *what)
{
    size_t size;

    memcpy(&size, given, sizeof size);
    for (size_t i = 0; !size && i < sizeof firsts / sizeof *firsts; i++)
        if (strcmp(firsts[i].what, what) == 0)
            return firsts[i].size;
    return size;
}

sw_code sw_grown_take(void *own, size_t known, const void *given, const char *what, sw_status *st)
{
    size_t size = given ? size_of(given, what) : 0;

    memset(own, 0, known);
    if (size > LARGEST || (given && size < sizeof size))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "the size that %s begins with is none: begin with its SW_..._INIT", what);
    for (size_t i = known; i < size; i++)
        if (((const char *)given)[i])
            return sw_fail(st, SW_EUSAGE, NULL, NULL,
                           "%s uses what this library (version " SW_VERSION ") does not know: the program "
                           "was built with a newer one",
                           what);
    if (given)
        memcpy(own, given, sw_min(size, known));
    memcpy(own, &known, sizeof known);
    return SW_OK;
}

void sw_grown_give(void *to, const void *own, size_t known, const char *what)
{
    size_t size = size_of(to, what), head = sizeof size;

    memcpy((char *)to + head, (const char *)own + head, sw_min(size, known) - head);
}
