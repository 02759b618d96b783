/* Writing behind; see behind.h. */
#include "par/behind.h"

#include "base/fault.h"
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

void sw_behind_start(sw_behind *b)
{
    *b = (sw_behind){ .st = SW_STATUS_INIT };
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->running = !SW_FAULT("thread") && sw_thread_start(&b->thread, work, b) == 0;
}

void sw_behind_stop(sw_behind *b)
{
    if (b->running) {
        pthread_mutex_lock(&b->mutex);
        b->stop = true;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->mutex);
        pthread_join(b->thread, NULL);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
}

void sw_behind_write(sw_behind *b, sw_out *out, sw_region at, const char *data)
{
    if (!b->running) {
        sw_out_write_all(out, at, data, &b->st);
        return;
    }
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
