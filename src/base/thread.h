/* Threads of our own. */
#ifndef SW_BASE_THREAD_H
#define SW_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* Local. Start a thread that no signal reaches: handlers run in the threads of the program. Returns
 * 0 or an errno. */
static inline int sw_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, was;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    err = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    return err;
}

#endif
