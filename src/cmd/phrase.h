/* Messages of the library in the program's words. The library names members, since that is what its
 * callers set: "sw_options.overwrite replaces it". A person at a shell sets "--overwrite": what
 * stands so in a message is replaced by the option that fills the member in, as table.c says. An
 * option is called the same in every command (but for boxes, of which no message speaks to
 * inspect). Once for each message that is said; local. */
#ifndef SW_CMD_PHRASE_H
#define SW_CMD_PHRASE_H

#include <stdio.h>

#include "shardweld.h"

/* Write a message (const char *) in the program's words: an sw_printer. A member without an option
 * stands there by its bare name. */
void sw_phrase_put(FILE *to, const void *text);

/* A message in these words: free it. As it is where memory is short, and NULL without any. */
char *sw_phrase_text(const char *text);

/* Put what a status says into these words. */
void sw_phrase_status(sw_status *st);

#endif
