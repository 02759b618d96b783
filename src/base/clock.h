/* Seconds, for saying how long something took. */
#ifndef SW_BASE_CLOCK_H
#define SW_BASE_CLOCK_H

#include <time.h>

/* Local. Seconds since some moment, never going back. */
static inline double sw_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#endif
