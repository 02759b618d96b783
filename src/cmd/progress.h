/* Progress on standard error, with the phase it is of: on a terminal a bar that is redrawn at most
 * ten times a second, else a line every 30 s. Under a launcher standard error is a pipe; where that
 * launcher writes to this process's terminal, and has it to itself, the bar goes there. Driven by
 * the library's callback on rank 0. All local. */
#ifndef SW_CMD_PROGRESS_H
#define SW_CMD_PROGRESS_H

#include "shardweld.h"

typedef enum sw_when { SW_WHEN_AUTO, SW_WHEN_ALWAYS, SW_WHEN_NEVER } sw_when;

typedef struct sw_progress {
    int to;       /* the bar's descriptor */
    bool beyond;  /* which is the user's terminal, though standard error is not */
    bool bar;     /* draw a bar */
    bool lines;   /* else lines */
    bool closing; /* a last line whatever happened */
    double begun; /* seconds on sw_clock() */
    double shown; /* when something was last shown */
    sw_phase phase;
    double entered; /* when that began */
    uint64_t done, total;
    bool writes;      /* there was a phase of writing, */
    uint64_t written; /* and so many bytes were written; else those of any phase */
    size_t drawn;     /* columns that the bar takes up now, 0 = there is none */
} sw_progress;

/* quiet means never, unless when is ALWAYS. launched: this process has a launcher. */
void sw_progress_begin(sw_progress *p, sw_when when, bool quiet, bool launched);

/* A phase begins: on a terminal it is shown at once. */
void sw_progress_enter(sw_progress *p, sw_phase phase);

/* done of total bytes of the phase are there. */
void sw_progress_update(sw_progress *p, uint64_t done, uint64_t total);

/* Take the bar away, so that a line can be printed; the next update draws it again. */
void sw_progress_pause(sw_progress *p);

/* The last word: the bar is completed, or taken away after a failure. shards: which were read, in
 * words; NULL = none. */
void sw_progress_end(sw_progress *p, bool success, const char *shards);

/* The text of a moment of p, without newline.
 *   width    columns of the terminal for a bar; 0 = a line for a log
 *   seconds  since the phase began */
void sw_progress_text(char *text, size_t n, size_t width, const sw_progress *p, double seconds);

#endif
