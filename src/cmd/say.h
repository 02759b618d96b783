/* What the program says to people: errors, warnings and plain lines on standard error, one write
 * each so that the lines of several processes do not mix; and what was asked for on standard
 * output. All local. */
#ifndef SW_CMD_SAY_H
#define SW_CMD_SAY_H

#include <stdio.h>

#include "shardweld.h"

#if defined(__GNUC__)
#define SW_SAY_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SW_SAY_PRINTF(fmt, args)
#endif

/* Record an error of the program's own and return its code; a status that already holds one keeps
 * it. file may be NULL. It is made harmless: what stands on a command line must not reach a
 * terminal. */
sw_code sw_refuse(sw_status *st, sw_code code, const char *file, const char *fmt, ...) SW_SAY_PRINTF(4, 5);

/* "shardweld: error: ..." and "shardweld: warning: ..." */
void sw_say_error(const sw_status *st);
void sw_say_warning(const char *text);

/* A plain line; the newline is added. */
void sw_say(const char *fmt, ...) SW_SAY_PRINTF(1, 2);

/* Write n bytes to standard output, and notice when they did not get there (SW_EIO). */
sw_code sw_stdout_write(const char *text, size_t n, sw_status *st);

/* Write to standard output what print makes of what it is about, whole or not at all (SW_ENOMEM,
 * SW_EIO). print returns false when memory is short. */
sw_code sw_stdout_print(bool (*print)(FILE *to, const void *about), const void *about, sw_status *st);

/* Take the places of standard descriptors that are closed, so that no data file gets the number of
 * standard error and messages in it. Writing to such a place still fails. */
void sw_stdio_guard(void);

/* Seconds on a clock that only goes forward. */
double sw_clock(void);

#endif
