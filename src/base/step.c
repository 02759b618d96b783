/* What a thread is at; see step.h. */
#include "base/step.h"

#include <string.h>

/* The only thing that goes with a thread and not with an argument: else every function that opens
 * or reads would have one more. */
static _Thread_local sw_steps *followed;

void sw_step_follow(sw_steps *steps)
{
    followed = steps;
}

/* A text into n bytes of room. */
static void copy(char *to, size_t n, const char *from)
{
    size_t len = from ? strlen(from) : 0, skip = len < n ? 0 : len - (n - 1);

    /* The end of a long path tells more than its beginning. */
    if (len)
        memcpy(to, from + skip, len - skip);
    to[len - skip] = '\0';
}

/* Tell whoever follows this thread what it begins; doing NULL: whether it waits for other ranks, at
 * what it is already. */
static void tell(const char *doing, const char *what, bool joint, bool waiting)
{
    if (!followed)
        return;
    pthread_mutex_lock(&followed->mutex);
    followed->count++;
    followed->waiting = waiting;
    if (doing) {
        followed->joint = joint;
        copy(followed->doing, sizeof followed->doing, doing);
        copy(followed->what, sizeof followed->what, what);
    }
    pthread_mutex_unlock(&followed->mutex);
}

void sw_step(const char *doing, const char *what)
{
    tell(doing, what, false, false);
}

void sw_step_joint(const char *doing, const char *what)
{
    tell(doing, what, true, false);
}

void sw_step_wait(void)
{
    tell(NULL, NULL, false, true);
}

int sw_step_waited(int result)
{
    tell(NULL, NULL, false, false);
    return result;
}
