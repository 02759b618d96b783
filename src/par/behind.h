/* Writing behind: a thread writes a band while the next one is filled, where a process has a file
 * to itself and would else read and write in turn. One band under way at a time. Where the thread
 * cannot be started, bands are written as they are handed over. */
#ifndef SW_PAR_BEHIND_H
#define SW_PAR_BEHIND_H

#include <pthread.h>

#include "par/io.h"

typedef struct sw_behind {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t changed;
    bool running; /* else there is no thread */
    bool busy, stop;
    sw_out *out;
    sw_region at;
    const char *data;
    sw_status st; /* of what was written */
} sw_behind;

/* Local. Start the thread. Stop it in any case. */
void sw_behind_start(sw_behind *b);
void sw_behind_stop(sw_behind *b);

/* Local. Hand a band over, once the last one is settled: out and data stay as they are until
 * then. */
void sw_behind_write(sw_behind *b, sw_out *out, sw_region at, const char *data);

/* Local. Wait until all that was handed over is written. Fails with what went wrong. */
sw_code sw_behind_settle(sw_behind *b, sw_status *st);

#endif
