/* The lock of a staging directory; see lock.h.
 *
 * Where locks work, an open-file-description lock on dir/lock decides and nothing else: it dies
 * with the process, so no killed run is ever taken for a living one.
 *   - Two starters: both may open the file, one gets the lock; the other is refused.
 *   - Two that find a dead run's file: the same.
 *   - A holder removes the file before it lets go. Who had opened it before gets the lock of a file
 *     that has no name any more; so whoever got the lock compares the file with what the path names
 *     now, and starts over.
 *   - Killed between making dir and taking the lock, or before the text was written: the file is
 *     missing, or is there and unlocked: the next run takes it as it is.
 *
 * Where locks do not work (ENOLCK and its kin), making the file exclusively decides, and a file
 * that was touched within ten minutes counts as a living run's, unless it says that nobody holds
 * it. Of those that want to take a dead one's place, one at a time makes a directory beside it,
 * looks again, and puts a file of its own in the place of the old one. (If that could be done
 * without, a slow starter might replace the new file of a fast one.) Two gaps remain: a starter
 * killed just there blocks the others for ten minutes; and a holder may sleep for ten minutes and
 * wake up, for which there is sw_lock_check(): the text in the file is no longer its own.
 *
 * In between are file systems whose locks work on one machine only (Lustre -o localflock, NFS -o
 * nolock). So, on a shared file system, the text of another machine and a recent touch make the new
 * holder wait for one sign of life before it believes that the other one is dead.
 *
 * Where files can only be streamed, the file is written once and then held open for reading, with a
 * lock for readers, which works on one machine where the store knows nothing of it; who has it asks
 * whether a writer could. A file that nobody on this machine holds is a dead run's if its text is
 * this machine's; another machine's counts as alive until ten minutes after its last sign of life,
 * which is a file of its own, made anew. To take a dead one's place the file is removed and made
 * again; two machines that do so at the same moment may both believe to have it, until one looks
 * (sw_lock_check()).
 *
 * Ages are differences of two times that the file system gave, so that clocks need not agree. */
#include "dir/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "base/step.h"
#include "base/thread.h"

#define TOUCH_SECONDS 30
#define DEAD_SECONDS 600         /* without locks: no sign of life for so long means dead */
#define FOREIGN_DEAD_SECONDS 120 /* with locks that may be another machine's: four missed touches */
#define FOREIGN_WATCH_SECONDS (TOUCH_SECONDS + 5)
#define TEXT_MAX 1024
#define TRIES 200

/* First line of a file that nobody holds, and the line of its number. */
#define FREE_TEXT "free\n"
#define NUMBER_KEY "number "

/* How long a text may be on its way: it is written when the file is made. */
#define TEXT_TENTHS 10

/* Who is about to take a dead run's place, and his file until it is there. */
#define GUARD_NAME SW_LOCK_NAME ".takeover"
#define DRAFT_NAME SW_LOCK_NAME ".new"

/* The sign of life of a stream's holder. */
#define ALIVE_NAME "alive"

struct sw_lock {
    const sw_below *dir;
    sw_lock_rule rule;
    char *path;          /* for messages while it is taken */
    char text[TEXT_MAX]; /* what we wrote into the file */
    uint64_t number;
    int fd;
    bool created; /* the file was not there: nobody's number is in it */
    bool written; /* text is in the file */
    pthread_t keeper;
    int stop; /* the keeper's: it ends when something can be read there; -1 = there is none */
};

typedef enum outcome { TAKEN, AGAIN, GONE, BUSY, FAILED } outcome;
typedef enum grip { GRIP_LOCKED, GRIP_HELD, GRIP_NO_LOCKS, GRIP_FAILED } grip;

/* ---- the text -------------------------------------------------------------------------------- */

/* The batch job that this run belongs to, for whoever is refused. */
static const char *my_job(void)
{
    static const char *const names[] = { "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID" };
    const char *job;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((job = getenv(names[i])) && *job && !strpbrk(job, "\n\r"))
            return job;
    return "none";
}

/* Not to be guessed where the system can draw one. */
static uint64_t draw(void)
{
    struct timespec now = { 0, 0 };
    uint64_t n = 0;

    if (getrandom(&n, sizeof n, GRND_NONBLOCK) != (ssize_t)sizeof n || n == 0) {
        clock_gettime(CLOCK_REALTIME, &now);
        n = sw_hash((uint64_t)getpid(), &now, sizeof now) | 1;
    }
    return n;
}

/* The id makes the text differ from that of every other run, also of one with our pid in another
 * container. */
static void compose(sw_lock *l)
{
    char host[256], start[32] = "";
    struct timespec now = { 0, 0 };
    struct tm utc;

    sw_host_name(host, sizeof host);
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc))
        strftime(start, sizeof start, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(l->text, sizeof l->text,
             "host %s\npid %ld\njob %.200s\nstarted %s\nid %016" PRIx64 "\n" NUMBER_KEY "%016" PRIx64 "\n",
             host, (long)getpid(), my_job(), start, draw(), l->number);
}

/* The text of a lock file; empty when there is none yet. False: it cannot be read. */
static bool read_text(int fd, char text[TEXT_MAX])
{
    ssize_t n = SW_FAULT("lock_read") ? -1 : pread(fd, text, TEXT_MAX - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    return n >= 0;
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

/* Does the text say whose it is? One that was cut short, or is on its way, does not. */
static bool has_host(const char *text)
{
    return strncmp(text, "host ", 5) == 0 || strstr(text, "\nhost ");
}

/* Is it of a run on this machine? */
static bool is_here(const char *text)
{
    char host[256], mine[256];

    sw_host_name(mine, sizeof mine);
    return strcmp(text_word(text, "host ", host, sizeof host), mine) == 0;
}

/* Did the last holder leave it for the next one? */
static bool is_free(const char *text)
{
    return strncmp(text, FREE_TEXT, strlen(FREE_TEXT)) == 0;
}

/* Keep the number of who was here before. */
static void take_number(sw_lock *l, const char *text)
{
    char word[32];
    uint64_t n = strtoull(text_word(text, NUMBER_KEY, word, sizeof word), NULL, 16);

    if (n)
        l->number = n;
}

/* Who holds the lock. It may have been taken a moment ago and the text not be there yet. */
static void fail_busy(const sw_lock *l, int fd, const char *more, sw_status *st)
{
    const struct timespec moment = { 0, 20000000 };
    char text[TEXT_MAX], host[256], pid[32], job[256];

    read_text(fd, text);
    for (int i = 0; i < 10 && !*text; i++) {
        nanosleep(&moment, NULL);
        read_text(fd, text);
    }
    sw_fail(st, SW_EUSAGE, l->rule.show, NULL,
            "another run works on this directory: host %s, pid %s, job %s%s",
            text_word(text, "host ", host, sizeof host), text_word(text, "pid ", pid, sizeof pid),
            text_word(text, "job ", job, sizeof job), more);
}

/* ---- age ------------------------------------------------------------------------------------- */

/* Seconds by which two times differ, in either direction: a time in the future is no younger than
 * now. */
static uint64_t seconds_between(const struct timespec *a, const struct timespec *b)
{
    return (uint64_t)(a->tv_sec > b->tv_sec ? a->tv_sec - b->tv_sec : b->tv_sec - a->tv_sec);
}

/* Make a file of a name that nobody else uses and see what time the file system gives it. One that
 * is streamed is only there once it is closed. */
static sw_code fs_now(const sw_lock *l, struct timespec *now, sw_status *st)
{
    struct stat s = { 0 };
    sw_code code;
    char name[64];
    bool told;
    int fd;

    snprintf(name, sizeof name, "clock.%016" PRIx64, sw_hash(0, l->text, strlen(l->text)));
    if ((code = sw_below_create(l->dir, name, 0666, &fd, st)))
        return code;
    told = l->rule.stream || (futimens(fd, NULL) == 0 && fstat(fd, &s) == 0);
    close(fd);
    if (l->rule.stream)
        told = fstatat(l->dir->fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
    if (!told)
        code = sw_fail_errno(st, l->path, errno, "cannot ask for the time of its file system");
    *now = s.st_mtim;
    unlinkat(l->dir->fd, name, 0);
    return code;
}

/* Have the file system ask its server what became of a name in a directory, or of an open file
 * where the name is empty: one that is mounted by FUSE else tells for minutes what it saw at first,
 * if it was told to. Where the system cannot ask, it stays as it is. */
static void ask_server(int fd, const char *name)
{
    struct statx ignored;

    (void)statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS,
                &ignored);
}

/* Seconds since the last sign of life in the open lock file, or beside it. */
static sw_code age_of(const sw_lock *l, int fd, uint64_t *age, sw_status *st)
{
    struct timespec now = { 0, 0 };
    struct stat s, alive;

    if (fs_now(l, &now, st))
        return st->code;
    ask_server(fd, "");
    ask_server(l->dir->fd, ALIVE_NAME);
    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, l->path, errno, "cannot look at it");
    *age = seconds_between(&now, &s.st_mtim);
    if (fstatat(l->dir->fd, ALIVE_NAME, &alive, AT_SYMLINK_NOFOLLOW) == 0)
        *age = sw_min(*age, seconds_between(&now, &alive.st_mtim));
    return SW_OK;
}

/* ---- taking it ------------------------------------------------------------------------------- */

/* Try to lock the open file, without waiting. */
static grip grip_as(int fd, short type)
{
    struct flock whole = { .l_type = type, .l_whence = SEEK_SET };
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

/* Of a file that is open for reading. */
static grip grip_stream(int fd)
{
    struct flock other = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    grip mine = grip_as(fd, F_RDLCK);

    if (mine != GRIP_LOCKED || fcntl(fd, F_OFD_GETLK, &other) != 0 || other.l_type == F_UNLCK)
        return mine;
    grip_as(fd, F_UNLCK);
    return GRIP_HELD;
}

/* Is the open file still the one of that name? */
static bool is_named(int fd, const sw_lock *l)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && fstatat(l->dir->fd, SW_LOCK_NAME, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           sw_path_same(&a, &b);
}

/* What the file says, opened anew: a network file system asks its server then, for the bytes too if
 * it has heard that they were changed. False: it cannot be read. */
static bool read_again(const sw_lock *l, char text[TEXT_MAX], struct stat *s)
{
    int fd = sw_below_fd(l->dir, SW_LOCK_NAME, O_RDONLY);
    bool can;

    if (fd >= 0)
        ask_server(fd, "");
    can = fd >= 0 && fstat(fd, s) == 0 && read_text(fd, text);
    if (fd >= 0)
        close(fd);
    return can;
}

/* A sign of life: the file is another one, or was touched, or has another text. What cannot be read
 * is none. */
static bool stirred(const sw_lock *l, int fd, const struct stat *before, const char *text)
{
    char now[TEXT_MAX];
    struct stat s;

    return !is_named(fd, l) || (read_again(l, now, &s) &&
                                (s.st_mtim.tv_sec != before->st_mtim.tv_sec ||
                                 s.st_mtim.tv_nsec != before->st_mtim.tv_nsec || strcmp(now, text) != 0));
}

/* Sleep. False when the run was asked to stop: a signal ends it early. */
static bool pause_for(const sw_lock *l, time_t seconds, long ns, sw_status *st)
{
    const struct timespec length = { seconds, ns };

    nanosleep(&length, NULL);
    return !sw_check_cancel(l->rule.cancel, st);
}

/* The text of who was here; one that has not come after a second will not come: whoever made the
 * file died before he wrote. */
static outcome wait_for_text(const sw_lock *l, int fd, char text[TEXT_MAX], sw_status *st)
{
    struct stat s;

    for (int i = 0; i < TEXT_TENTHS && !has_host(text) && !is_free(text); i++) {
        if (!pause_for(l, 0, 100000000, st))
            return FAILED;
        if (!is_named(fd, l))
            return AGAIN;
        if (!read_again(l, text, &s))
            text[0] = '\0';
    }
    return TAKEN;
}

/* We have the lock, but does it say anything about the run on another machine whose text is in the
 * file? */
static outcome watch_foreign(const sw_lock *l, int fd, sw_status *st)
{
    char text[TEXT_MAX];
    struct stat before;
    outcome result;
    uint64_t age = 0;
    sw_fs fs;

    if (sw_path_fs(l->dir->path, &fs, st))
        return FAILED;
    if (!fs.shared)
        return TAKEN;
    ask_server(fd, "");
    if (!read_text(fd, text))
        text[0] = '\0';
    if ((result = wait_for_text(l, fd, text, st)) != TAKEN || !has_host(text) || is_here(text))
        return result;
    if (age_of(l, fd, &age, st))
        return FAILED;
    if (fstat(fd, &before) != 0 || age > FOREIGN_DEAD_SECONDS)
        return TAKEN;
    for (int i = 0; i < FOREIGN_WATCH_SECONDS; i++) {
        if (!pause_for(l, 1, 0, st))
            return FAILED;
        if (stirred(l, fd, &before, text)) {
            fail_busy(l, fd, "", st);
            return BUSY;
        }
    }
    return TAKEN;
}

/* One at a time may take a dead run's place; AGAIN, after a pause, when somebody else is at it. */
static outcome enter_takeover(const sw_lock *l, sw_status *st)
{
    const struct timespec *touched;
    struct timespec now = { 0, 0 };
    struct stat s;
    bool made;

    if (sw_below_mkdir(l->dir, GUARD_NAME, 0777, &made, st))
        return FAILED;
    if (made)
        return TAKEN;
    if (fs_now(l, &now, st))
        return FAILED;
    touched = fstatat(l->dir->fd, GUARD_NAME, &s, AT_SYMLINK_NOFOLLOW) == 0 ? &s.st_mtim : &now;
    if (seconds_between(&now, touched) >= DEAD_SECONDS)
        /* whoever made it was killed in the middle */
        unlinkat(l->dir->fd, GUARD_NAME, AT_REMOVEDIR);
    else if (!pause_for(l, 0, 20000000, st))
        return FAILED;
    return AGAIN;
}

/* Without locks: may the file be replaced? It says so, or nobody has touched it for long. */
static outcome judge(const sw_lock *l, int fd, const char *text, sw_status *st)
{
    uint64_t age = 0;

    if (is_free(text))
        return TAKEN;
    if (age_of(l, fd, &age, st))
        return FAILED;
    if (age >= DEAD_SECONDS)
        return TAKEN;
    fail_busy(
        l, fd,
        "; file locks do not work here, so it counts as alive until ten minutes after its last sign of life",
        st);
    return BUSY;
}

/* A file of our own, with the number of the old one, in its place. */
static outcome replace(sw_lock *l, int *fd, const char *text, sw_status *st)
{
    int fresh;

    take_number(l, text);
    compose(l);
    if (sw_below_unlink(l->dir, DRAFT_NAME, st))
        return FAILED;
    fresh = sw_below_fd(l->dir, DRAFT_NAME, O_RDWR | O_CREAT | O_EXCL);
    if (fresh < 0) {
        sw_fail_errno(st, l->path, errno, "cannot create");
        return FAILED;
    }
    if (sw_fd_write_at(fresh, l->path, l->text, strlen(l->text), 0, st) ||
        sw_below_rename(l->dir, DRAFT_NAME, l->dir, SW_LOCK_NAME, st)) {
        close(fresh);
        return FAILED;
    }
    close(*fd);
    *fd = fresh;
    l->written = true;
    return TAKEN;
}

/* The file was there and locks do not work: take a dead run's place. What was judged before may
 * have changed until we are the only one. */
static outcome oust(sw_lock *l, int *fd, sw_status *st)
{
    char text[TEXT_MAX];
    outcome result;

    read_text(*fd, text);
    if ((result = judge(l, *fd, text, st)) != TAKEN || (result = enter_takeover(l, st)) != TAKEN)
        return result;
    /* another machine may have replaced it since */
    ask_server(l->dir->fd, SW_LOCK_NAME);
    ask_server(*fd, "");
    read_text(*fd, text);
    if (!is_named(*fd, l))
        result = AGAIN;
    else if ((result = judge(l, *fd, text, st)) == TAKEN)
        result = replace(l, fd, text, st);
    unlinkat(l->dir->fd, GUARD_NAME, AT_REMOVEDIR);
    return result;
}

/* ---- of a stream ----------------------------------------------------------------------------- */

/* A file of these words, made anew and closed. *exists: another one is there. */
static sw_code put_stream(const sw_lock *l, const char *name, const char *text, bool *exists, sw_status *st)
{
    int fd = sw_below_fd(l->dir, name, O_WRONLY | O_CREAT | O_EXCL);

    *exists = fd < 0 && errno == EEXIST;
    if (fd < 0)
        return *exists ? SW_OK : sw_fail_errno(st, l->path, errno, "cannot create");
    sw_fd_write_at(fd, l->path, text, strlen(text), 0, st);
    return sw_fd_close(fd, l->path, st) ? st->code : SW_OK;
}

/* Hold what is there now, if it is ours. */
static outcome hold_stream(sw_lock *l, int *fd, sw_status *st)
{
    char text[TEXT_MAX];
    bool missing;

    if (sw_below_open_own(l->dir, SW_LOCK_NAME, O_RDONLY, fd, &missing, st))
        return FAILED;
    l->written =
        !missing && read_text(*fd, text) && strcmp(text, l->text) == 0 && grip_stream(*fd) != GRIP_HELD;
    if (l->written)
        return TAKEN;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return pause_for(l, 0, 20000000, st) ? AGAIN : FAILED;
}

/* Somebody's file is there: is he alive? If not, it may go. */
static outcome oust_stream(sw_lock *l, int fd, sw_status *st)
{
    char text[TEXT_MAX];
    grip got = grip_stream(fd);
    outcome result;

    if (!read_text(fd, text))
        text[0] = '\0';
    if (got == GRIP_HELD) {
        fail_busy(l, fd, "", st);
        return BUSY;
    }
    if ((result = wait_for_text(l, fd, text, st)) != TAKEN)
        return result;
    if (has_host(text) && (got != GRIP_LOCKED || !is_here(text)))
        result = judge(l, fd, text, st);
    if (result == TAKEN) {
        take_number(l, text);
        compose(l);
    }
    return result;
}

/* One try. What was judged is closed before it is removed: where names of open files are changed
 * rather than removed, a store may not be able to do that. */
static outcome try_stream(sw_lock *l, int *fd, sw_status *st)
{
    outcome result;
    bool exists, missing;

    if (put_stream(l, SW_LOCK_NAME, l->text, &exists, st))
        return errno == ENOENT || errno == ESTALE ? GONE : FAILED;
    l->created = !exists;
    if (!exists)
        return hold_stream(l, fd, st);
    if (sw_below_open_own(l->dir, SW_LOCK_NAME, O_RDONLY, fd, &missing, st) || missing)
        return missing ? AGAIN : FAILED;
    result = oust_stream(l, *fd, st);
    close(*fd);
    *fd = -1;
    if (result == TAKEN)
        result = sw_below_unlink(l->dir, SW_LOCK_NAME, st) ? FAILED : AGAIN;
    return result;
}

/* ---- either way ------------------------------------------------------------------------------ */

/* Make the file, or open the one that is there if it can be ours. */
static outcome try_open(const sw_lock *l, int *fd, bool *created, sw_status *st)
{
    bool missing = false;

    *fd = sw_below_fd(l->dir, SW_LOCK_NAME, O_RDWR | O_CREAT | O_EXCL);
    *created = *fd >= 0;
    if (*fd < 0 && (errno == ENOENT || errno == ESTALE))
        return GONE;
    if (*fd < 0 && errno != EEXIST) {
        sw_fail_errno(st, l->path, errno, "cannot open");
        return FAILED;
    }
    if (*fd < 0 && sw_below_open_own(l->dir, SW_LOCK_NAME, O_RDWR, fd, &missing, st))
        return FAILED;
    return missing ? AGAIN : TAKEN;
}

/* One try; fd stays open only when it is TAKEN. */
static outcome try_take(sw_lock *l, int *fd, sw_status *st)
{
    bool created;
    outcome result = try_open(l, fd, &created, st);

    if (result != TAKEN)
        return result;
    switch (grip_as(*fd, F_WRLCK)) {
    case GRIP_LOCKED:
        result = !is_named(*fd, l) ? AGAIN : created ? TAKEN : watch_foreign(l, *fd, st);
        break;
    case GRIP_NO_LOCKS:
        result = created ? TAKEN : oust(l, fd, st);
        break;
    case GRIP_HELD:
        fail_busy(l, *fd, "", st);
        result = BUSY;
        break;
    case GRIP_FAILED:
        sw_fail_errno(st, l->path, errno, "cannot lock");
        result = FAILED;
        break;
    }
    /* What failed may have failed because a run that finished has removed it all. */
    if (result == FAILED && !is_named(*fd, l))
        result = AGAIN;
    if (result == FAILED && created)
        unlinkat(l->dir->fd, SW_LOCK_NAME, 0);
    l->created = created;
    if (result != TAKEN) {
        close(*fd);
        *fd = -1;
    }
    return result;
}

/* ---- keeping it ------------------------------------------------------------------------------ */

/* The thread: a sign of life now and then. A failure shows as age, and the next touch may
 * succeed. */
static void *keep(void *arg)
{
    sw_lock *l = arg;
    struct pollfd stop = { .fd = l->stop, .events = POLLIN };
    sw_status ignored = SW_STATUS_INIT;
    bool exists;

    while (poll(&stop, 1, TOUCH_SECONDS * 1000) == 0)
        if (l->rule.stream) {
            sw_below_unlink(l->dir, ALIVE_NAME, &ignored);
            put_stream(l, ALIVE_NAME, "", &exists, &ignored);
        } else {
            futimens(l->fd, NULL);
        }
    return NULL;
}

/* On an error there is none, and nothing of it. */
static sw_code start_keeper(sw_lock *l, sw_status *st)
{
    int err = (l->stop = eventfd(0, EFD_CLOEXEC)) < 0 ? errno : sw_thread_start(&l->keeper, keep, l);

    if (!err)
        return SW_OK;
    if (l->stop >= 0)
        close(l->stop);
    l->stop = -1;
    return sw_fail_errno(st, l->path, err, "cannot start a thread");
}

/* The new text first, then the end of the file: who reads in between finds a whole text. Other
 * machines may want to read it. */
static sw_code write_text(const sw_lock *l, const char *text, sw_status *st)
{
    sw_code code = sw_fd_write_at(l->fd, l->path, text, strlen(text), 0, st);

    if (!code && ftruncate(l->fd, (off_t)strlen(text)) != 0)
        code = sw_fail_errno(st, l->path, errno, "cannot write");
    if (!code && !sw_fd_is_local(l->fd))
        fdatasync(l->fd);
    return code;
}

/* Write our text, with the number that is in the file, into the file. */
static sw_code sign(sw_lock *l, sw_status *st)
{
    char was[TEXT_MAX];

    read_text(l->fd, was);
    take_number(l, was);
    compose(l);
    if (write_text(l, l->text, st))
        return st->code;
    l->written = true;
    return SW_OK;
}

/* Files come and go while others finish: some hundred tries, of which the last one's error counts.
 * */
static outcome keep_trying(sw_lock *l, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    outcome result = AGAIN;

    for (int i = 0; i < TRIES && result == AGAIN && !sw_check_cancel(l->rule.cancel, st); i++) {
        sw_status_clear(&own);
        result = l->rule.stream ? try_stream(l, &l->fd, &own) : try_take(l, &l->fd, &own);
    }
    if (own.code && result != GONE)
        *st = own;
    return result;
}

/* ---- the interface --------------------------------------------------------------------------- */

sw_code sw_lock_take(const sw_below *dir, const sw_lock_rule *rule, sw_lock **out, bool *gone, sw_status *st)
{
    sw_lock *l = sw_calloc(1, sizeof *l, st);
    outcome result;

    *out = NULL;
    *gone = false;
    if (!l)
        return st->code;
    l->fd = l->stop = -1;
    l->dir = dir;
    l->rule = *rule;
    l->number = draw();
    if (!(l->path = sw_path_join(dir->path, SW_LOCK_NAME, st)))
        goto out;
    compose(l);
    sw_step("locking", l->path);
    result = keep_trying(l, st);
    *gone = result == GONE;
    if (result == AGAIN)
        sw_fail(st, SW_EUSAGE, rule->show, NULL,
                "other runs try to work on this directory at the same moment");
    if (result != TAKEN || (!l->written && sign(l, st)) || start_keeper(l, st))
        goto out;
    *out = l;
    l = NULL;
out:
    sw_lock_drop(l, l && !l->created, st);
    return *out || *gone ? SW_OK : st->code;
}

/* Is the file of that name the one that we hold, with our text in it? */
static bool is_ours(const sw_lock *l)
{
    char text[TEXT_MAX];
    struct stat s;

    if (!l->rule.stream && !is_named(l->fd, l))
        return false;
    /* A file that cannot be read tells of no other run: it is the one that we hold. */
    return (!read_again(l, text, &s) && !read_text(l->fd, text)) || strcmp(text, l->text) == 0;
}

uint64_t sw_lock_number(const sw_lock *l)
{
    return l->number;
}

sw_code sw_lock_check(const sw_lock *l, sw_status *st)
{
    if (is_ours(l))
        return SW_OK;
    return sw_fail(st, SW_EIO, l->path, NULL,
                   "another run has taken the place of this one, which gave no sign of life for long");
}

/* Closed before it goes, as in try_stream(). */
static void drop_stream(const sw_lock *l, const char *text, bool stays, sw_status *st)
{
    bool ours = is_ours(l), exists;

    close(l->fd);
    if (!ours || sw_below_unlink(l->dir, ALIVE_NAME, st) || sw_below_unlink(l->dir, SW_LOCK_NAME, st))
        return;
    if (stays)
        put_stream(l, SW_LOCK_NAME, text, &exists, st);
}

/* Unlinked before it is closed: nobody else can hold it yet, so it is not another run's file that
 * goes. */
void sw_lock_drop(sw_lock *l, bool stays, sw_status *st)
{
    char text[64];

    if (!l)
        return;
    if (l->stop >= 0) {
        eventfd_write(l->stop, 1); /* the thread is woken */
        pthread_join(l->keeper, NULL);
        close(l->stop);
    }
    snprintf(text, sizeof text, FREE_TEXT NUMBER_KEY "%016" PRIx64 "\n", l->number);
    if (l->fd >= 0 && l->rule.stream) {
        drop_stream(l, text, stays, st);
    } else if (l->fd >= 0) {
        if (l->written ? is_ours(l) : is_named(l->fd, l) && !stays)
            stays ? write_text(l, text, st) : sw_below_unlink(l->dir, SW_LOCK_NAME, st);
        close(l->fd);
    }
    free(l->path);
    free(l);
}
