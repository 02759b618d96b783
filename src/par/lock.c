/* The lock of a staging directory; see lock.h.
 *
 * Where locks work, an open-file-description lock on dir/lock decides and nothing else: it dies with the process,
 * so no killed run is ever taken for a living one.
 *   - Two starters: both may open the file, one gets the lock; the other is refused.
 *   - Two that find a dead run's file: the same.
 *   - A holder removes the file before it lets go. Who had opened it before gets the lock of a file that has no
 *     name any more; so whoever got the lock compares the file with what the path names now, and starts over.
 *   - Killed between making dir and taking the lock, or before the text was written: the file is missing, or is
 *     there and unlocked: the next run takes it as it is.
 *
 * Where locks do not work (ENOLCK and its kin), making the file exclusively decides, and a file that was touched
 * within ten minutes counts as a living run's. Of those that want to remove a dead one's file, one at a time makes a
 * directory beside it, looks again, and removes it; then whoever makes the file anew has it. (If a file could be
 * removed without that, a slow starter might remove the new file of a fast one.) Two gaps remain: a starter killed
 * just there blocks the others for ten minutes; and a holder may sleep for ten minutes and wake up, for which
 * there is sw_lock_check(): the text in the file is no longer its own.
 *
 * In between are file systems whose locks work on one machine only (Lustre -o localflock, NFS -o nolock). So, on a shared
 * file system, the text of another machine and a recent touch make the new holder wait for one sign of life
 * before it believes that the other one is dead.
 *
 * Ages are differences of two times that the file system gave, so that clocks need not agree. */
#include "par/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/path.h"
#include "base/step.h"

#define TOUCH_SECONDS 30
#define DEAD_SECONDS 600         /* without locks: no sign of life for so long means dead */
#define FOREIGN_DEAD_SECONDS 120 /* with locks that may be another machine's: four missed touches */
#define FOREIGN_WATCH_SECONDS (TOUCH_SECONDS + 5)
#define TEXT_MAX 1024
#define TRIES 200

struct sw_lock {
    char *dir, *path;
    char text[TEXT_MAX]; /* what we wrote into the file */
    int fd;
    bool written; /* text is in the file */
    pthread_t keeper;
    bool keeping, stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

typedef enum outcome { TAKEN, AGAIN, GONE, BUSY, FAILED } outcome;
typedef enum grip { GRIP_LOCKED, GRIP_HELD, GRIP_NO_LOCKS, GRIP_FAILED } grip;

/* ---- the text ----------------------------------------------------------------------------------- */

static const char *my_job(void)
{
    static const char *const names[] = { "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID" };
    const char *job;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((job = getenv(names[i])) && *job && !strpbrk(job, "\n\r"))
            return job;
    return "none";
}

/* The id makes the text differ from that of every other run, also of one with our pid in another container. */
static void compose(sw_lock *l)
{
    char host[256], start[32] = "";
    struct timespec now = { 0, 0 };
    struct tm utc;
    uint64_t id;

    sw_host_name(host, sizeof host);
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc))
        strftime(start, sizeof start, "%Y-%m-%dT%H:%M:%SZ", &utc);
    id = sw_hash(sw_hash((uint64_t)getpid(), &now, sizeof now), &l, sizeof l);
    snprintf(l->text, sizeof l->text, "host %s\npid %ld\njob %.200s\nstarted %s\nid %016" PRIx64 "\n", host,
             (long)getpid(), my_job(), start, id);
}

/* The text of a lock file; empty when there is none yet. */
static void read_text(int fd, char text[TEXT_MAX])
{
    ssize_t n = pread(fd, text, TEXT_MAX - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

/* The word behind key at the beginning of a line, as a string in word. */
static const char *text_word(const char *text, const char *key, char *word, size_t n)
{
    const char *at = text;
    size_t len = strlen(key);

    snprintf(word, n, "unknown");
    while (at && strncmp(at, key, len) != 0)
        at = (at = strchr(at, '\n')) ? at + 1 : NULL;
    if (at)
        snprintf(word, n, "%.*s", (int)strcspn(at + len, "\n"), at + len);
    return word;
}

/* Who holds the lock. It may have been taken a moment ago and the text not be there yet. */
static void fail_busy(int fd, const char *show, const char *more, sw_status *st)
{
    const struct timespec moment = { 0, 20000000 };
    char text[TEXT_MAX], host[256], pid[32], job[256];

    read_text(fd, text);
    for (int i = 0; i < 10 && !*text; i++) {
        nanosleep(&moment, NULL);
        read_text(fd, text);
    }
    sw_fail(st, SW_EUSAGE, show, NULL, "another run works on this directory: host %s, pid %s, job %s%s",
            text_word(text, "host ", host, sizeof host), text_word(text, "pid ", pid, sizeof pid),
            text_word(text, "job ", job, sizeof job), more);
}

/* ---- age ---------------------------------------------------------------------------------------- */

/* Seconds by which two times differ, in either direction: a time in the future is no younger than now. */
static uint64_t seconds_between(const struct timespec *a, const struct timespec *b)
{
    return (uint64_t)(a->tv_sec > b->tv_sec ? a->tv_sec - b->tv_sec : b->tv_sec - a->tv_sec);
}

/* Make a file of a name that nobody else uses and see what time the file system gives it. */
static sw_code fs_now(const sw_lock *l, struct timespec *now, sw_status *st)
{
    struct stat s = { 0 };
    char *path = NULL;
    int fd = -1, err;

    if (asprintf(&path, "%s/clock.%016" PRIx64, l->dir, sw_hash(0, l->text, strlen(l->text))) < 0)
        return sw_fail_nomem(st, TEXT_MAX);
    fd = SW_FAULT("open") ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    err = fd < 0 || futimens(fd, NULL) != 0 || fstat(fd, &s) != 0 ? errno : 0;
    *now = s.st_mtim;
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    if (err)
        sw_fail_errno(st, path, err, "cannot create");
    free(path);
    return err ? st->code : SW_OK;
}

/* Seconds since the last sign of life in the open lock file. */
static sw_code age_of(const sw_lock *l, int fd, uint64_t *age, sw_status *st)
{
    struct timespec now = { 0, 0 };
    struct stat s;

    if (fs_now(l, &now, st))
        return st->code;
    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, l->path, errno, "cannot look at it");
    *age = seconds_between(&now, &s.st_mtim);
    return SW_OK;
}

/* ---- taking it ---------------------------------------------------------------------------------- */

static grip grip_of(int fd)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int r;

    do {
        r = SW_FAULT("lock") ? -1 : fcntl(fd, F_OFD_SETLK, &whole);
    } while (r != 0 && errno == EINTR);
    if (r == 0)
        return GRIP_LOCKED;
    if (errno == EAGAIN)
        return GRIP_HELD;
    return errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL ? GRIP_NO_LOCKS
                                                                                        : GRIP_FAILED;
}

/* Does the path still name the open file? Links are opened by nobody here. */
static bool is_named(int fd, const char *path)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && sw_path_same(&a, &b);
}

/* A sign of life: the file is another one, or was touched, or has another text. Opened anew each time, because
 * a network file system asks its server for the times when it opens. */
static bool stirred(const sw_lock *l, int fd, const struct stat *before, const char *text)
{
    char now[TEXT_MAX] = "";
    struct stat s;
    int again = open(l->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool is = again < 0 || !is_named(fd, l->path) || fstat(again, &s) != 0 ||
              s.st_mtim.tv_sec != before->st_mtim.tv_sec || s.st_mtim.tv_nsec != before->st_mtim.tv_nsec;

    if (again >= 0) {
        read_text(again, now);
        close(again);
    }
    return is || strcmp(now, text) != 0;
}

/* We have the lock, but does it say anything about the run on another machine whose text is in the file? */
static outcome watch_foreign(const sw_lock *l, int fd, const char *show, sw_status *st)
{
    const struct timespec second = { 1, 0 };
    char text[TEXT_MAX], host[256], mine[256];
    struct stat before;
    uint64_t age;
    sw_fs fs;

    read_text(fd, text);
    sw_host_name(mine, sizeof mine);
    if (sw_path_fs(l->dir, &fs, st))
        return FAILED;
    if (!fs.shared || strcmp(text_word(text, "host ", host, sizeof host), mine) == 0)
        return TAKEN;
    if (age_of(l, fd, &age, st))
        return FAILED;
    if (fstat(fd, &before) != 0 || age > FOREIGN_DEAD_SECONDS)
        return TAKEN;
    for (int i = 0; i < FOREIGN_WATCH_SECONDS; i++) {
        nanosleep(&second, NULL);
        if (stirred(l, fd, &before, text)) {
            fail_busy(fd, show, "", st);
            return BUSY;
        }
    }
    return TAKEN;
}

/* One at a time may remove a dead run's file; AGAIN, after a pause, when somebody else is at it. */
static outcome enter_takeover(const sw_lock *l, const char *guard, sw_status *st)
{
    const struct timespec moment = { 0, 20000000 }, *touched;
    struct timespec now = { 0, 0 };
    struct stat s;

    if ((SW_FAULT("mkdir") ? -1 : mkdir(guard, 0777)) == 0)
        return TAKEN;
    if (errno != EEXIST) {
        sw_fail_errno(st, guard, errno, "cannot make the directory");
        return FAILED;
    }
    if (fs_now(l, &now, st))
        return FAILED;
    touched = lstat(guard, &s) == 0 ? &s.st_mtim : &now;
    if (seconds_between(&now, touched) >= DEAD_SECONDS)
        rmdir(guard); /* whoever made it was killed in the middle */
    else
        nanosleep(&moment, NULL);
    return AGAIN;
}

/* Without locks: remove a dead run's file, so that one of those who try can make it anew. What was judged before may
 * have changed until we are the only one. */
static outcome oust(const sw_lock *l, int fd, sw_status *st)
{
    char *guard = NULL;
    outcome result;
    uint64_t age;

    if (asprintf(&guard, "%s.takeover", l->path) < 0) {
        sw_fail_nomem(st, TEXT_MAX);
        return FAILED;
    }
    if ((result = enter_takeover(l, guard, st)) == TAKEN) {
        result = AGAIN;
        if (is_named(fd, l->path) &&
            (age_of(l, fd, &age, st) || (age >= DEAD_SECONDS && sw_path_unlink(l->path, st))))
            result = FAILED;
        rmdir(guard);
    }
    free(guard);
    return result;
}

/* The file was there and locks do not work. */
static outcome judge_by_age(const sw_lock *l, int fd, const char *show, sw_status *st)
{
    uint64_t age;

    if (age_of(l, fd, &age, st))
        return FAILED;
    if (age >= DEAD_SECONDS)
        return oust(l, fd, st);
    fail_busy(
        fd, show,
        "; file locks do not work here, so it counts as alive until ten minutes after its last sign of life",
        st);
    return BUSY;
}

static outcome try_open(const sw_lock *l, int *fd, bool *created, sw_status *st)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;

    *fd = SW_FAULT("open") ? -1 : open(l->path, flags | O_CREAT | O_EXCL, 0666);
    *created = *fd >= 0;
    if (*fd < 0 && errno == ENOENT)
        return GONE;
    if (*fd < 0 && errno == EEXIST) {
        *fd = SW_FAULT("open") ? -1 : open(l->path, flags);
        if (*fd < 0 && errno == ENOENT)
            return AGAIN;
    }
    if (*fd >= 0)
        return TAKEN;
    if (errno == EINTR)
        return AGAIN;
    sw_fail_errno(st, l->path, errno, "cannot open");
    return FAILED;
}

/* One try; fd stays open only when it is TAKEN. */
static outcome try_take(const sw_lock *l, const char *show, int *fd, sw_status *st)
{
    bool created;
    outcome result = try_open(l, fd, &created, st);

    if (result != TAKEN)
        return result;
    switch (grip_of(*fd)) {
    case GRIP_LOCKED:
        result = !is_named(*fd, l->path) ? AGAIN : created ? TAKEN : watch_foreign(l, *fd, show, st);
        break;
    case GRIP_NO_LOCKS:
        result = created ? TAKEN : judge_by_age(l, *fd, show, st);
        break;
    case GRIP_HELD:
        fail_busy(*fd, show, "", st);
        result = BUSY;
        break;
    case GRIP_FAILED:
        sw_fail_errno(st, l->path, errno, "cannot lock");
        result = FAILED;
        break;
    }
    /* What failed may have failed because a run that finished has removed it all. */
    if (result == FAILED && !is_named(*fd, l->path))
        result = AGAIN;
    if (result == FAILED && created)
        unlink(l->path);
    if (result != TAKEN) {
        close(*fd);
        *fd = -1;
    }
    return result;
}

/* ---- keeping it --------------------------------------------------------------------------------- */

static void *keep(void *arg)
{
    sw_lock *l = arg;
    struct timespec until;

    pthread_mutex_lock(&l->mutex);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TOUCH_SECONDS;
    while (!l->stop)
        if (pthread_cond_timedwait(&l->wake, &l->mutex, &until) == ETIMEDOUT) {
            /* A failure shows as age, and the next touch may succeed. */
            futimens(l->fd, NULL);
            until.tv_sec += TOUCH_SECONDS;
        }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* The thread inherits a mask that blocks all signals: handlers run in the threads of the program. */
static sw_code start_keeper(sw_lock *l, sw_status *st)
{
    pthread_condattr_t attr;
    sigset_t all, was;
    int err;

    pthread_mutex_init(&l->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    err = pthread_create(&l->keeper, NULL, keep, l);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    l->keeping = err == 0;
    return err ? sw_fail_errno(st, l->path, err, "cannot start a thread") : SW_OK;
}

static void stop_keeper(sw_lock *l)
{
    if (!l->keeping)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->keeper, NULL);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    l->keeping = false;
}

/* The new text first, then the end of the file: who reads in between finds a whole text. */
static sw_code sign(sw_lock *l, sw_status *st)
{
    uint64_t n = strlen(l->text);

    if (sw_fd_write_at(l->fd, l->path, l->text, n, 0, st))
        return st->code;
    if (ftruncate(l->fd, (off_t)n) != 0)
        return sw_fail_errno(st, l->path, errno, "cannot write");
    l->written = true;
    return SW_OK;
}

static outcome keep_trying(sw_lock *l, const char *show, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    outcome result = AGAIN;

    for (int i = 0; i < TRIES && result == AGAIN; i++) {
        sw_status_clear(&own);
        result = try_take(l, show, &l->fd, &own);
    }
    if (own.code && result != GONE)
        *st = own;
    return result;
}

/* ---- the interface ------------------------------------------------------------------------------ */

sw_code sw_lock_take(const char *dir, const char *show, sw_lock **out, bool *gone, sw_status *st)
{
    sw_lock *l = sw_calloc(1, sizeof *l, st);
    outcome result;

    *out = NULL;
    *gone = false;
    if (!l)
        return st->code;
    l->fd = -1;
    if (!(l->dir = sw_strdup(dir, st)) || !(l->path = sw_path_join(dir, SW_LOCK_NAME, st)))
        goto out;
    compose(l);
    sw_step("locking", l->path);
    result = keep_trying(l, show, st);
    *gone = result == GONE;
    if (result == AGAIN)
        sw_fail(st, SW_EUSAGE, show, NULL, "other runs try to work on this directory at the same moment");
    if (result != TAKEN || sign(l, st) || start_keeper(l, st))
        goto out;
    *out = l;
    l = NULL;
out:
    sw_lock_drop(l, st);
    return *out || *gone ? SW_OK : st->code;
}

static bool is_ours(const sw_lock *l)
{
    char text[TEXT_MAX] = "";
    int fd = open(l->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0) {
        read_text(fd, text);
        close(fd);
    }
    return is_named(l->fd, l->path) && strcmp(text, l->text) == 0;
}

sw_code sw_lock_check(const sw_lock *l, sw_status *st)
{
    if (is_ours(l))
        return SW_OK;
    return sw_fail(st, SW_EIO, l->path, NULL,
                   "another run has taken the place of this one, which gave no sign of life for long");
}

/* Unlinked before it is closed: nobody else can hold it yet, so it is not another run's file that goes. */
void sw_lock_drop(sw_lock *l, sw_status *st)
{
    if (!l)
        return;
    stop_keeper(l);
    if (l->fd >= 0) {
        if (l->written ? is_ours(l) : is_named(l->fd, l->path))
            sw_path_unlink(l->path, st);
        close(l->fd);
    }
    free(l->path);
    free(l->dir);
    free(l);
}
