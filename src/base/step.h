/* What a thread is at, for who watches over it (par/watchdog.h): told by the functions that may
 * take long because something outside this process does. Where nobody watches, telling costs next
 * to nothing. */
#ifndef SW_BASE_STEP_H
#define SW_BASE_STEP_H

#include <pthread.h>
#include <stdbool.h>

typedef struct sw_steps {
    pthread_mutex_t mutex; /* guards the rest */
    unsigned long count;   /* of all that was told */
    bool waiting;          /* for other ranks, and for nothing else */
    /* all ranks of a group do it together: who is at it may be waiting for the others */
    bool joint;
    char doing[24]; /* "reading" */
    char what[200]; /* a file; "" = doing says it all */
} sw_steps;

#define SW_STEPS_INIT                                                                                        \
    {                                                                                                        \
        PTHREAD_MUTEX_INITIALIZER, 0, false, false, "beginning", ""                                          \
    }

/* Local. From now on what the calling thread tells goes to steps, which must live until this is
 * called with another; NULL = nowhere. */
void sw_step_follow(sw_steps *steps);

/* Local. This thread begins something of its own; what may be NULL. */
void sw_step(const char *doing, const char *what);

/* Local. The same for what a group of ranks does together. */
void sw_step_joint(const char *doing, const char *what);

/* Local. It waits for other ranks; it does so no longer. The latter returns what it is given, so
 * that the two stand around a call:
 *     sw_step_wait();
 *     err = sw_step_waited(layer->bcast(comm, buf, n, root)); */
void sw_step_wait(void);
int sw_step_waited(int result);

#endif
