/* Structs of the caller that begin with their size, because they grow from version to version: what
 * a program was built with may be shorter or longer than what this library knows. All of them, with
 * the last member that each had in version 0.2: up to there size 0 reaches. */
#ifndef SW_BASE_GROWN_H
#define SW_BASE_GROWN_H

#include <stddef.h>

#include "shardweld.h"

#define SW_GROWN(X)                                                                                          \
    X(sw_options, phase)                                                                                     \
    X(sw_result, unneeded)                                                                                   \
    X(sw_sharding, rules)                                                                                    \
    X(sw_verification, unread)                                                                               \
    X(sw_read_options, map)                                                                                  \
    X(sw_watchdog_options, expired)

/* Local. Take such a struct.
 *   known  bytes of it that this library knows of; so many are filled at own, zeros where the
 *          program knows less
 *   given  NULL = all zero
 *   what   the struct's name
 * Errors: SW_EUSAGE (the size is none; something is set that this library does not know of). */
sw_code sw_grown_take(void *own, size_t known, const void *given, const char *what, sw_status *st);

/* Local. Fill such a struct from one as this library knows it; its size stays, and nothing is
 * written behind it. */
void sw_grown_give(void *to, const void *own, size_t known, const char *what);

#endif
