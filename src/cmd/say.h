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

/* The same for SW_ENOMEM. */
sw_code sw_no_memory(sw_status *st);

/* Room for count things of so many bytes, and for one more, all zero: free it. NULL on error
 * (SW_ENOMEM). */
void *sw_room(uint64_t count, size_t size, sw_status *st);

/* Room for the longest message that an sw_status can make. */
#define SW_MESSAGE_TEXT (sizeof(sw_status) + 64)

/* "shardweld: error: ..." and "shardweld: warning: ..." */
void sw_say_error(const sw_status *st);
void sw_say_warning(const char *text);

/* A plain line; the newline is added. */
void sw_say(const char *fmt, ...) SW_SAY_PRINTF(1, 2);

/* Writes what it is about. Who prints looks at ferror(); an error of another kind may be put into
 * the status that the printing gets. */
typedef void sw_printer(FILE *to, const void *about);

/* Write to standard output what print makes, in pieces: there may be millions of lines. Errors:
 * SW_ENOMEM, SW_EIO (it did not get there). */
sw_code sw_stdout_print(sw_printer *print, const void *about, sw_status *st);

/* What print makes, as text: free it. NULL on error (SW_ENOMEM).
 *   n  takes how many bytes that is; may be NULL */
char *sw_print_text(sw_printer *print, const void *about, size_t *n, sw_status *st);

/* Write n bytes to a descriptor. False: errno tells why. */
bool sw_write_all(int fd, const char *data, size_t n);

/* Take the places of standard descriptors that are closed, so that no data file gets the number of
 * standard error and messages in it. Writing to such a place still fails. */
void sw_stdio_guard(void);

/* Seconds on a clock that only goes forward. */
double sw_clock(void);

#endif
