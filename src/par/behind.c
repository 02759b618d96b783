/* Writing behind; see behind.h. */
#include "par/behind.h"

#include "base/step.h"
#include "base/thread.h"

/* Until it is told to stop: wait for a band, write it. */
static void *work(void *arg)
{
    sw_behind *b = arg;

    pthread_mutex_lock(&b->mutex);
    for (;;) {
        while (!b->busy && !b->stop)
            pthread_cond_wait(&b->changed, &b->mutex);
        if (!b->busy)
            break;
        pthread_mutex_unlock(&b->mutex);
        sw_out_write_all(b->out, b->at, b->data, &b->st);
        pthread_mutex_lock(&b->mutex);
        b->busy = false;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

sw_code sw_behind_start(sw_behind *b, sw_status *st)
{
    int err;

    *b = (sw_behind){ .st = SW_STATUS_INIT };
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    err = sw_thread_start(&b->thread, work, b);
    b->running = err == 0;
    return err ? sw_fail_errno(st, "writing", err, "cannot start a thread") : SW_OK;
}

void sw_behind_stop(sw_behind *b)
{
    if (!b->running)
        return;
    pthread_mutex_lock(&b->mutex);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    b->running = false;
}

void sw_behind_write(sw_behind *b, sw_out *out, sw_region at, const char *data)
{
    pthread_mutex_lock(&b->mutex);
    b->out = out;
    b->at = at;
    b->data = data;
    b->busy = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
}

/* The thread tells nobody what it is at: who waits for it does. */
sw_code sw_behind_settle(sw_behind *b, sw_status *st)
{
    pthread_mutex_lock(&b->mutex);
    if (b->busy)
        sw_step("writing", b->out->show);
    while (b->busy)
        pthread_cond_wait(&b->changed, &b->mutex);
    if (b->st.code && !st->code)
        *st = b->st;
    pthread_mutex_unlock(&b->mutex);
    return st->code;
}
