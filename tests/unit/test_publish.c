/* Staging, lock, journal and publication. The heart is a loop: a child is killed, or refused, at
 * each of its changes of the file system in turn, its successor too, and after each of them no
 * index may name a mixture, and in the end there is exactly the old or exactly the new checkpoint.
 * The system calls that change something are defined here and reach the kernel by syscall(2), so
 * that they can be counted in any build. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/path.h"
#include "dir/existing.h"
#include "dir/journal.h"
#include "dir/place.h"
#include "format/maps.h"
#define UNIT_OWN_MAIN
#include "tree_help.h"

/* ---- system calls ---------------------------------------------------------------------------- */

#define KILL (-1)

static struct hook {
    long calls, at;        /* strike at this call; 0 = never */
    int err;               /* fail with it, or KILL */
    bool onwards;          /* and at all later calls */
    bool no_locks;         /* fcntl locks: ENOLCK */
    bool nfs;              /* statfs says so */
    long sleeps, touch_at; /* nanosleep returns at once; at this call the lock file is touched */
    const char *touch;
} hook;

static bool strikes(void)
{
    hook.calls++;
    if (hook.at == 0 || !(hook.calls == hook.at || (hook.onwards && hook.calls > hook.at)))
        return false;
    if (hook.err == KILL)
        kill(getpid(), SIGKILL);
    errno = hook.err;
    return true;
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    if (flags & O_CREAT) {
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if ((flags & O_CREAT) && strikes())
        return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return strikes() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return strikes() ? -1 : (int)syscall(SYS_mkdirat, dir, path, mode);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return strikes() ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return strikes() ? -1 : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int rmdir(const char *path)
{
    return strikes() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int unlinkat(int dir, const char *path, int flags)
{
    return strikes() ? -1 : (int)syscall(SYS_unlinkat, dir, path, flags);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    return strikes() ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, n, at);
}

int ftruncate(int fd, off_t n)
{
    return strikes() ? -1 : (int)syscall(SYS_ftruncate, fd, n);
}

/* Counted, but nothing here needs to survive the machine. */
int fsync(int fd)
{
    (void)fd;
    return strikes() ? -1 : 0;
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (cmd == F_OFD_SETLK && hook.no_locks) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

int statfs(const char *path, struct statfs *out)
{
    int r = (int)syscall(SYS_statfs, path, out);

    if (r == 0 && hook.nfs)
        out->f_type = 0x6969;
    return r;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
    (void)want;
    (void)left;
    if (++hook.sleeps == hook.touch_at)
        utimensat(AT_FDCWD, hook.touch, NULL, 0);
    return 0;
}

/* ---- a directory and what is in it ----------------------------------------------------------- */

static char top[64];     /* a directory of this test */
static char out_dir[80]; /* OUTPUT_DIR in it */

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *where)
{
    (void)s;
    (void)type;
    (void)where;
    return remove(path);
}

static void remove_all(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int setup(void **state)
{
    (void)state;
    memset(&hook, 0, sizeof hook);
    /* Thousands of small files: a disk would take minutes over them. */
    snprintf(top, sizeof top, "%s/test_publish.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(top))
        return -1;
    snprintf(out_dir, sizeof out_dir, "%s/out", top);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    memset(&hook, 0, sizeof hook);
    remove_all(top);
    return 0;
}

static void put(const char *path, const char *text)
{
    put_file(path, text, strlen(text));
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* The text of a file; empty when it is not there. */
static const char *get(const char *path, char *text, size_t n)
{
    FILE *f = fopen(path, "r");
    size_t got = f ? fread(text, 1, n - 1, f) : 0;

    text[got] = '\0';
    if (f)
        fclose(f);
    return text;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

#define MAX_FILES 5
#define INDEX "model.safetensors.index.json"

/* Weight files, and an index of them when it is not NULL; else the one weight file is the key. */
typedef struct checkpoint {
    const char *files[MAX_FILES];
    const char *index;
} checkpoint;

static const struct scene {
    const char *name;
    checkpoint old, fresh;
    bool clash;
} scenes[] = {
    { "nothing to files",
      { { NULL }, NULL },
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      false },
    { "nothing to a lone file", { { NULL }, NULL }, { { "model.safetensors" }, NULL }, false },
    { "files to the same files",
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      true },
    { "files to other files",
      { { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" }, INDEX },
      { { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
          "model-00003-of-00003.safetensors" },
        INDEX },
      false },
    { "a lone file to a lone file",
      { { "model.safetensors" }, NULL },
      { { "model.safetensors" }, NULL },
      false },
    { "a lone file to files",
      { { "model.safetensors" }, NULL },
      { { "model-00001-of-00001.safetensors" }, INDEX },
      false },
    { "files to a lone file",
      { { "model-00001-of-00001.safetensors" }, INDEX },
      { { "model.safetensors" }, NULL },
      false },
    { "an index that names the lone file",
      { { "model-00001-of-00002.safetensors", "model.safetensors" }, INDEX },
      { { "model.safetensors" }, NULL },
      true },
    { "sub-directories",
      { { "a/x.safetensors", "b/deep/y.safetensors" }, INDEX },
      { { "a/x.safetensors", "c/deep/z.safetensors" }, INDEX },
      true },
    { "some of the same names",
      { { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
          "model-00003-of-00003.safetensors" },
        INDEX },
      { { "model-00002-of-00003.safetensors", "n.safetensors" }, INDEX },
      true },
    { "another index",
      { { "diffusion_pytorch_model-00001-of-00001.safetensors" },
        "diffusion_pytorch_model.safetensors.index.json" },
      { { "model-00001-of-00001.safetensors" }, INDEX },
      false },
};
#define NSCENES (sizeof scenes / sizeof *scenes)

/* A weight file says whose and which it is; new ones are longer. */
static char *weights(const char *name, bool fresh, char *text, size_t n)
{
    snprintf(text, n, "%s %s", fresh ? "fresh" : "old", name);
    return text;
}

static char *index_text(const checkpoint *c, bool fresh, char *text, size_t n)
{
    size_t len =
        (size_t)snprintf(text, n, "{\"metadata\": {\"%s\": 1}, \"weight_map\": {", fresh ? "fresh" : "old");

    for (int i = 0; c->files[i]; i++)
        len += (size_t)snprintf(text + len, n - len, "%s\"t%d\": \"%s\"", i ? ", " : "", i, c->files[i]);
    snprintf(text + len, n - len, "}}");
    return text;
}

static void put_checkpoint(const char *dir, const checkpoint *c, bool fresh)
{
    char text[1024];

    for (int i = 0; c->files[i]; i++)
        put(path_at(dir, c->files[i]), weights(c->files[i], fresh, text, sizeof text));
    if (c->index)
        put(path_at(dir, c->index), index_text(c, fresh, text, sizeof text));
}

static bool is_exactly(const char *path, const char *want)
{
    char text[1024];

    return exists(path) && strcmp(get(path, text, sizeof text), want) == 0;
}

/* Is the whole checkpoint there, for who enters by its key? */
static bool is_readable(const checkpoint *c, bool fresh)
{
    char text[1024];
    bool all = c->files[0] != NULL;

    if (c->index)
        all = is_exactly(path_at(out_dir, c->index), index_text(c, fresh, text, sizeof text));
    for (int i = 0; c->files[i] && all; i++)
        all = is_exactly(path_at(out_dir, c->files[i]), weights(c->files[i], fresh, text, sizeof text));
    return all;
}

/* No index that is there names a file that is missing or of the other checkpoint. */
static void assert_no_mixture(const struct scene *s)
{
    const checkpoint *both[2] = { &s->old, &s->fresh };
    char text[1024];

    for (int i = 0; i < 2; i++)
        if (both[i]->index && exists(path_at(out_dir, both[i]->index))) {
            bool fresh = strstr(get(path_at(out_dir, both[i]->index), text, sizeof text), "fresh") != NULL;

            if (!is_readable(fresh ? &s->fresh : &s->old, fresh))
                fail_msg("%s: %s names a mixture", s->name, both[i]->index);
        }
}

static int nfound;

static int count_one(const char *path, const struct stat *s, int type, struct FTW *where)
{
    (void)s;
    (void)where;
    nfound += type == FTW_F || type == FTW_SL;
    /* an empty directory counts as something left */
    if (type == FTW_DP && where->level > 0 && rmdir(path) == 0)
        nfound += 100;
    return 0;
}

static int count_files(void)
{
    nfound = 0;
    nftw(out_dir, count_one, 16, FTW_DEPTH | FTW_PHYS);
    return nfound;
}

/* Exactly this checkpoint, the bystander and nothing else. */
static bool is_all(const checkpoint *c, bool fresh)
{
    int want = c->index ? 2 : 1;

    while (c->files[want - (c->index ? 2 : 1)])
        want++;
    return (is_readable(c, fresh) || !c->files[0]) && exists(path_at(out_dir, "README.md")) &&
           count_files() == want;
}

static void put_scene(const struct scene *s)
{
    remove_all(out_dir);
    put(path_at(out_dir, "README.md"), "stays");
    put_checkpoint(out_dir, &s->old, false);
}

/* ---- what a run does ------------------------------------------------------------------------- */

#define PRINT 4711u

static sw_code publish(sw_place *s, const struct scene *scene, sw_status *st)
{
    sw_publication files[MAX_FILES + 1];
    char text[1024], **old = NULL;
    size_t n = 0, nold = 0;
    const checkpoint *c = &scene->fresh;

    for (int i = 0; i < MAX_FILES && (c->files[i] || c->index); i++) {
        const char *name = c->files[i] ? c->files[i] : c->index;

        if (c->files[i])
            weights(name, true, text, sizeof text);
        else
            index_text(c, true, text, sizeof text);
        if (!sw_place_make_room(s, name, st))
            sw_below_write(sw_place_fresh(s), name, text, strlen(text), true, st);
        files[n].name = name;
        files[n++].size = strlen(text);
        if (!c->files[i])
            break;
    }
    if (!st->code && !sw_existing_checkpoint(out_dir, NULL, NULL, 0, &old, &nold, st))
        sw_place_publish(s, &(sw_change){ files, n, old, nold, PRINT }, st);
    sw_names_free(old, nold);
    return st->code;
}

static sw_code open_place(const char *dir, bool sync, sw_place **s, uint64_t *recovered, sw_status *st)
{
    return sw_place_open(&(sw_place_rule){ .dir = dir, .sync = sync }, s, recovered, st);
}

/* A whole run. Returns the code. */
static sw_code run(const struct scene *scene, sw_status *st)
{
    sw_place *s = NULL;
    uint64_t recovered;

    if (!open_place(out_dir, true, &s, &recovered, st))
        publish(s, scene, st);
    sw_place_close(s, NULL, st);
    return st->code;
}

/* What the next run does first. */
static sw_code visit(uint64_t *recovered, sw_status *st)
{
    sw_place *s = NULL;

    open_place(out_dir, true, &s, recovered, st);
    sw_place_close(s, NULL, st);
    return st->code;
}

enum { KILLED = 100, BROKEN };

/* In a child, with the hook set: a run, or a visit when scene is NULL. The code, or KILLED. */
static int in_child(const struct scene *scene, long nth, int err, bool onwards)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        hook.calls = 0;
        hook.at = nth;
        hook.err = err;
        hook.onwards = onwards;
        _exit((int)(scene ? run(scene, &st) : visit(&recovered, &st)));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? (WTERMSIG(status) == SIGKILL ? KILLED : BROKEN) : WEXITSTATUS(status);
}

/* Forking is slow under the address sanitizer: fewer calls are tried there. */
#ifdef __has_feature
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#define STEP 5
#else
#define STEP 1
#endif

static void check_between(const struct scene *s)
{
    assert_no_mixture(s);
    if (!s->clash && s->old.files[0])
        assert_true(is_readable(&s->old, false) || is_readable(&s->fresh, true));
}

/* ---- kills and failures everywhere ----------------------------------------------------------- */

static void test_plain(void **state)
{
    (void)state;
    for (size_t i = 0; i < NSCENES; i++) {
        sw_status st = SW_STATUS_INIT;

        put_scene(&scenes[i]);
        assert_true(is_all(&scenes[i].old, false));
        if (run(&scenes[i], &st))
            fail_msg("%s: %s: %s", scenes[i].name, st.file, st.reason);
        assert_true(is_all(&scenes[i].fresh, true));
    }
}

/* After a kill at each call the recovery is killed too, three times, at calls that differ from run
 * to run. */
static void test_killed_anywhere(void **state)
{
    long total = 0;

    (void)state;
    for (size_t i = 0; i < NSCENES; i++) {
        const struct scene *s = &scenes[i];
        int end = KILLED;

        for (long nth = 1; end == KILLED; nth += STEP, total++) {
            sw_status st = SW_STATUS_INIT;
            uint64_t recovered = 0;

            put_scene(s);
            end = in_child(s, nth, KILL, false);
            assert_true(end == KILLED || end == SW_OK);
            check_between(s);
            for (long k = 0; k < 3; k++) {
                in_child(NULL, 1 + (nth * 7 + k * 5) % 29, KILL, false);
                check_between(s);
            }
            if (visit(&recovered, &st))
                fail_msg("%s, call %ld: %s: %s", s->name, nth, st.file, st.reason);
            if (!is_all(&s->fresh, true) && (recovered || !is_all(&s->old, false)))
                fail_msg("%s, call %ld: neither old nor new", s->name, nth);
        }
        assert_true(is_all(&s->fresh, true));
    }
    print_message("killed %ld times\n", total);
}

/* The same, but a staged file is damaged when the recovery comes: the old checkpoint must
 * return. */
static void test_killed_and_undone(void **state)
{
    long undone = 0;

    (void)state;
    for (size_t i = 0; i < NSCENES; i++) {
        const struct scene *s = &scenes[i];
        int end = KILLED;

        for (long nth = 1; end == KILLED; nth += STEP) {
            sw_status st = SW_STATUS_INIT;
            uint64_t recovered = 0;
            const char *victim = s->fresh.index ? s->fresh.index : s->fresh.files[0];
            char staged[512];

            put_scene(s);
            end = in_child(s, nth, KILL, false);
            snprintf(staged, sizeof staged, "%s/new/%s", path_at(out_dir, SW_STAGING_NAME), victim);
            if (!exists(path_at(out_dir, SW_STAGING_NAME "/journal")) || !exists(staged))
                continue;
            assert_int_equal(truncate(staged, 3), 0);
            undone++;
            for (long k = 0; k < 3; k++) {
                in_child(NULL, 1 + (nth * 7 + k * 5) % 29, KILL, false);
                assert_no_mixture(s);
            }
            if (visit(&recovered, &st))
                fail_msg("%s, call %ld: %s: %s", s->name, nth, st.file, st.reason);
            if (recovered || !is_all(&s->old, false))
                fail_msg("%s, call %ld: not the old one", s->name, nth);
        }
    }
    assert_true(undone > 20 / STEP);
}

/* A call fails: once, or it and all that follow (a dead disk). */
static void fail_anywhere(int err, bool onwards)
{
    for (size_t i = 0; i < NSCENES; i++) {
        const struct scene *s = &scenes[i];
        bool was_whole = false;

        for (long nth = 1; nth < 400 && !was_whole; nth += STEP) {
            sw_status st = SW_STATUS_INIT;
            uint64_t recovered;
            int end;

            put_scene(s);
            end = in_child(s, nth, err, onwards);
            assert_true(end < KILLED);
            check_between(s);
            if (end == SW_OK && !onwards && !is_all(&s->fresh, true) &&
                exists(path_at(out_dir, SW_STAGING_NAME)))
                fail_msg("%s, call %ld: success, but not all of it", s->name, nth);
            if (end != SW_OK && !onwards && !exists(path_at(out_dir, SW_STAGING_NAME)) &&
                !is_all(&s->old, false) && !is_all(&s->fresh, true))
                fail_msg("%s, call %ld: an error that left something", s->name, nth);
            if (visit(&recovered, &st))
                fail_msg("%s, call %ld: %s: %s", s->name, nth, st.file, st.reason);
            if (!is_all(&s->old, false) && !is_all(&s->fresh, true))
                fail_msg("%s, call %ld: neither old nor new", s->name, nth);
            was_whole = end == SW_OK && nth > 60;
        }
    }
}

static void test_failed_anywhere(void **state)
{
    (void)state;
    fail_anywhere(EIO, false);
}

static void test_disk_dies_anywhere(void **state)
{
    (void)state;
    fail_anywhere(EROFS, true);
}

/* ---- the lock -------------------------------------------------------------------------------- */

static sw_place *must_open(void)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;

    if (open_place(out_dir, false, &s, &recovered, &st))
        fail_msg("%s: %s", st.file, st.reason);
    return s;
}

static void must_refuse(const char *says)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;

    assert_int_equal(open_place(out_dir, false, &s, &recovered, &st), SW_EUSAGE);
    assert_null(s);
    assert_string_equal(st.file, out_dir);
    if (!strstr(st.reason, says))
        fail_msg("'%s' does not say '%s'", st.reason, says);
}

static void must_close(sw_place *s)
{
    sw_status st = SW_STATUS_INIT;

    sw_place_close(s, NULL, &st);
    assert_string_equal(st.reason, "");
}

static void test_one_at_a_time(void **state)
{
    char says[64];
    sw_place *s;

    (void)state;
    setenv("SLURM_JOB_ID", "4242", 1);
    for (int no_locks = 0; no_locks < 2; no_locks++) {
        hook.no_locks = no_locks == 1;
        s = must_open();
        snprintf(says, sizeof says, ", pid %ld, job 4242", (long)getpid());
        must_refuse(says);
        must_refuse("another run works on this directory: host ");
        assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/new")));
        must_close(s);
        must_close(must_open());
        assert_false(exists(out_dir));
    }
    unsetenv("SLURM_JOB_ID");
}

static void put_lock(const char *host, time_t age)
{
    char text[200];
    struct timespec times[2] = { { 0, UTIME_OMIT }, { time(NULL) - age, 0 } };

    snprintf(text, sizeof text, *host == '#' ? "%s\n" : "host %s\npid 77\njob none\n", host + (*host == '#'));
    put(path_at(out_dir, SW_STAGING_NAME "/lock"), text);
    put(path_at(out_dir, SW_STAGING_NAME "/new/model.safetensors"), "dead");
    assert_int_equal(utimensat(AT_FDCWD, path_at(out_dir, SW_STAGING_NAME "/lock"), times, 0), 0);
}

static void test_dead_runs_lock(void **state)
{
    static const struct {
        const char *name, *host;
        bool no_locks, nfs;
        time_t age;
        long touch_at;
        const char *says; /* NULL: taken */
        long sleeps;
    } cases[] = {
        { "unlocked", "elsewhere", false, false, 1, 0, NULL, 0 },
        { "no locks, touched lately", "elsewhere", true, false, 590, 0,
          "host elsewhere, pid 77, job none; file locks do not work", 0 },
        { "no locks, touched by a fast clock", "elsewhere", true, false, -300, 0, "another run", 0 },
        { "no locks, dead", "elsewhere", true, false, 610, 0, NULL, 0 },
        { "no locks, dead, and so is who took over", "elsewhere", true, false, 611, 0, NULL, 0 },
        { "no locks, dead, somebody takes over", "elsewhere", true, false, 612, 0,
          "other runs try to work on this directory at the same moment", 200 },
        { "no locks, left by its holder", "#free\nnumber 01", true, false, 1, 0, NULL, 0 },
        { "no locks, no text yet", "#", true, false, 1, 0, "another run", 0 },
        { "shared, left by its holder", "#free\nnumber 01", false, true, 1, 0, NULL, 0 },
        { "shared, killed before it wrote", "#", false, true, 1, 0, NULL, 10 },
        { "shared, not to be read", "#\001\002", false, true, 1, 0, NULL, 10 },
        { "shared, long dead", "elsewhere", false, true, 200, 0, NULL, 0 },
        { "shared, dead a moment ago", "elsewhere", false, true, 20, 0, NULL, 35 },
        { "shared, alive on another machine", "elsewhere", false, true, 20, 4, "host elsewhere, pid 77", 4 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        remove_all(out_dir);
        put_lock(cases[i].host, cases[i].age);
        if (cases[i].age == 611 || cases[i].age == 612) {
            struct timespec times[2] = { { 0, UTIME_OMIT },
                                         { time(NULL) - (cases[i].age == 611 ? 700 : 10), 0 } };

            assert_int_equal(mkdir(path_at(out_dir, SW_STAGING_NAME "/lock.takeover"), 0777), 0);
            utimensat(AT_FDCWD, path_at(out_dir, SW_STAGING_NAME "/lock.takeover"), times, 0);
        }
        hook.no_locks = cases[i].no_locks;
        hook.nfs = cases[i].nfs;
        hook.sleeps = 0;
        hook.touch_at = cases[i].touch_at;
        hook.touch = "";
        if (cases[i].touch_at) {
            static char lock[512];

            snprintf(lock, sizeof lock, "%s/" SW_STAGING_NAME "/lock", out_dir);
            hook.touch = lock;
        }
        if (cases[i].says) {
            must_refuse(cases[i].says);
            assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/new/model.safetensors")));
        } else {
            sw_place *s = must_open();

            assert_false(exists(path_at(out_dir, SW_STAGING_NAME "/new/model.safetensors")));
            must_close(s);
            assert_false(exists(path_at(out_dir, SW_STAGING_NAME)));
        }
        assert_int_equal(hook.sleeps, cases[i].sleeps);
    }
}

/* Our own host on a shared file system: the lock's word is enough. */
static void test_same_host_is_not_watched(void **state)
{
    char host[256];

    (void)state;
    assert_int_equal(gethostname(host, sizeof host), 0);
    put_lock(host, 5);
    hook.nfs = true;
    must_close(must_open());
    assert_int_equal(hook.sleeps, 0);
}

/* One of a crowd: whoever holds the directory makes a file exclusively, sleeps and removes it. Exit
 * status 1: was alone; 2: was refused; else something is wrong. */
static int crowd_member(void)
{
    const struct timespec moment = { 0, 2000000 };
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;
    int fd;

    if (open_place(out_dir, false, &s, &recovered, &st))
        return st.code == SW_EUSAGE ? 2 : (fprintf(stderr, "%s: %s\n", st.file, st.reason), 3);
    fd = open(path_at(top, "inside"), O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (fd < 0)
        return 4;
    syscall(SYS_nanosleep, &moment, NULL);
    if (unlink(path_at(top, "inside")) != 0)
        return 5;
    sw_place_close(s, NULL, &st);
    return st.code ? 6 : 1;
}

static void test_crowd(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        int alone = 0, status;

        hook.no_locks = round % 2 == 1;
        if (round % 4 < 2)
            put_lock("elsewhere", 1000);
        for (int i = 0; i < 8; i++)
            if (fork() == 0)
                _exit(crowd_member());
        for (int i = 0; i < 8; i++) {
            assert_true(wait(&status) > 0);
            if (!WIFEXITED(status) || WEXITSTATUS(status) > 2)
                fail_msg("round %d: status %x", round, (unsigned)status);
            alone += WEXITSTATUS(status) == 1;
        }
        assert_true(alone >= 1);
        assert_false(exists(path_at(out_dir, SW_STAGING_NAME)));
    }
}

/* A run that was taken for dead neither publishes nor removes what its successor does. */
static void test_lost_lock(void **state)
{
    sw_status st = SW_STATUS_INIT;
    sw_place *s;

    (void)state;
    put_scene(&scenes[2]);
    s = must_open();
    put(path_at(out_dir, SW_STAGING_NAME "/lock"), "host b\npid 2\n");
    assert_int_equal(publish(s, &scenes[2], &st), SW_EIO);
    assert_non_null(strstr(st.reason, "another run has taken the place"));
    sw_place_close(s, NULL, &st);
    assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/lock")));
    assert_true(is_readable(&scenes[2].old, false));
}

/* Signals must reach the threads of the program: ours blocks SIGTERM and SIGINT. */
static void test_keeper_takes_no_signals(void **state)
{
    sw_status st = SW_STATUS_INIT;
    sw_place *s = must_open();
    sw_dir tasks;
    char text[4096];
    int blocked = 0;

    (void)state;
    assert_int_equal(sw_dir_list("/proc/self/task", &tasks, &st), SW_OK);
    assert_true(tasks.n >= 2);
    for (size_t i = 0; i < tasks.n; i++) {
        char *path = path_at("/proc/self/task", tasks.names[i]);
        const char *line = strstr(get(path_at(path, "status"), text, sizeof text), "SigBlk:");
        unsigned long long mask = strtoull(line ? line + 7 : "0", NULL, 16);

        blocked += (mask >> (SIGTERM - 1) & 1) && (mask >> (SIGINT - 1) & 1);
    }
    assert_true(blocked >= 1 && (size_t)blocked < tasks.n);
    sw_dir_release(&tasks);
    must_close(s);
}

/* ---- OUTPUT_DIR ------------------------------------------------------------------------------ */

static void test_made_directories(void **state)
{
    sw_status st = SW_STATUS_INIT;
    char deep[200];
    uint64_t recovered;
    sw_place *s;

    (void)state;
    snprintf(deep, sizeof deep, "%s/a/b//c/", top);
    for (int ends = 0; ends < 2; ends++) {
        assert_int_equal(open_place(deep, true, &s, &recovered, &st), SW_OK);
        assert_true(exists(path_at(deep, SW_STAGING_NAME)));
        if (ends == 1)
            put(path_at(deep, "somebody's"), "");
        must_close(s);
        assert_int_equal(exists(path_at(top, "a")), ends == 1);
    }
    assert_int_equal(count_files(), 0);
}

static void test_keeps_what_was_there(void **state)
{
    (void)state;
    assert_int_equal(mkdir(out_dir, 0777), 0);
    must_close(must_open());
    assert_true(exists(out_dir));
}

/* What would stop the publication shows at once, and leaves nothing. */
static void test_trial_rename(void **state)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    bool seen = false;
    sw_place *s;

    (void)state;
    for (long nth = 1; nth < 30 && !seen; nth++) {
        hook.calls = 0;
        hook.at = nth;
        hook.err = EXDEV;
        sw_status_clear(&st);
        if (!open_place(out_dir, false, &s, &recovered, &st))
            must_close(s);
        hook.at = 0;
        seen = strstr(st.reason, "cannot rename") && strstr(st.reason, "link");
        if (seen)
            assert_false(exists(out_dir));
        remove_all(out_dir);
    }
    assert_true(seen);
}

static void test_staging_is_a_link(void **state)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;
    sw_place *s;

    (void)state;
    put(path_at(top, "elsewhere/precious"), "");
    assert_int_equal(mkdir(out_dir, 0777), 0);
    assert_int_equal(symlink("../elsewhere", path_at(out_dir, SW_STAGING_NAME)), 0);
    assert_int_equal(open_place(out_dir, false, &s, &recovered, &st), SW_EIO);
    assert_true(exists(path_at(top, "elsewhere/precious")));
    assert_false(exists(path_at(top, "elsewhere/lock")));
}

static void test_room_for_a_file(void **state)
{
    static const char *const bad[] = { "", "/etc/x", "../x", "a/../x", "a//x", "./x", "x/", "a\nb" };
    sw_status st = SW_STATUS_INIT;
    sw_place *s = must_open();

    (void)state;
    assert_string_equal(sw_place_fresh(s)->path, path_at(out_dir, SW_STAGING_NAME "/new"));
    assert_int_equal(sw_place_make_room(s, "a/b/x", &st), SW_OK);
    put(path_at(out_dir, SW_STAGING_NAME "/new/a/b/x"), "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sw_status_clear(&st);
        assert_int_equal(sw_place_make_room(s, bad[i], &st), SW_EINPUT);
    }
    must_close(s);
}

/* ---- journals -------------------------------------------------------------------------------- */

static void test_recovery_tells_whose(void **state)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered = 0, last = 0;

    (void)state;
    for (long nth = 1; nth < 200 && !last; nth++) {
        put_scene(&scenes[3]);
        in_child(&scenes[3], nth, KILL, false);
        assert_int_equal(visit(&recovered, &st), SW_OK);
        last = recovered;
    }
    assert_int_equal(last, PRINT);
    assert_true(is_all(&scenes[3].fresh, true));
    assert_int_equal(visit(&recovered, &st), SW_OK);
    assert_int_equal(recovered, 0);
}

/* A visit is refused in these words, and nothing that was staged or moved aside is gone. */
static void must_keep(const char *what, const char *says)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t recovered;

    if (visit(&recovered, &st) != SW_EIO || !strstr(st.reason, says) || recovered)
        fail_msg("%s: %d, '%s' does not say '%s'", what, (int)st.code, st.reason, says);
}

static void test_damaged_journal(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "damaged" },
        { "shardweld journal 1\nfingerprint 1\nclash 0\nnew 1 3:abc\nsum 0\n", "another version" },
        { "shardweld journal 2\n", "damaged" },
        { "shardweld journal 2\nhome 1 2 3\n", "damaged" },
        { "shardweld journal 2\nhome 1 2 3 4\nfingerprint 1\nclash 0\nnew 1 2 3:abc\nsum 0000000000000000\n",
          "damaged" },
        { "shardweld journal 2\nhome 1 2 3 4\nfingerprint 1\nclash 0\nnew 1 2 99999999999:abc\n", "damaged" },
    };
    char text[100];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(path_at(out_dir, SW_STAGING_NAME "/old/model.safetensors"), "the only copy");
        put(path_at(out_dir, SW_STAGING_NAME "/journal"), cases[i].text);
        must_keep(cases[i].text, cases[i].says);
        assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/old/model.safetensors")));
        assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/journal")));
        /* The number stays, and nobody is in. */
        assert_int_equal(
            strncmp(get(path_at(out_dir, SW_STAGING_NAME "/lock"), text, sizeof text), "free\nnumber ", 12),
            0);
    }
}

#define NEW_WEIGHTS "model-00001-of-00001.safetensors"

/* A journal that knows all about the directory, as only who wrote it there can. */
static void forge(const char *new_name, const char *old_name, uint64_t number)
{
    sw_journal j = SW_JOURNAL_INIT;
    sw_status st = SW_STATUS_INIT;
    const sw_publication files[] = { { new_name, 5 }, { NEW_WEIGHTS, 5 } };
    char *old[] = { strdup(old_name) }, lock[64];
    sw_below dir = SW_BELOW_INIT;
    struct statx x;
    struct stat s;

    snprintf(lock, sizeof lock, "free\nnumber %016" PRIx64 "\n", number);
    put(path_at(out_dir, SW_STAGING_NAME "/lock"), lock);
    assert_int_equal(sw_journal_fill(&j, &(sw_change){ files, 2, old, *old_name ? 1 : 0, PRINT }, &st),
                     SW_OK);
    for (size_t i = 0; i < 2; i++) {
        char name[200];

        snprintf(name, sizeof name, SW_STAGING_NAME "/new/%s", files[i].name);
        if (!strchr(files[i].name, ':') && files[i].name[0] != '/')
            put(path_at(out_dir, name), "fresh");
        j.files[i].ino = stat(path_at(out_dir, name), &s) == 0 ? (uint64_t)s.st_ino : 1;
    }
    assert_int_equal(sw_below_open(path_at(out_dir, SW_STAGING_NAME), &dir, NULL, &st), SW_OK);
    assert_int_equal(statx(dir.fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &x), 0);
    j.home = (sw_journal_home){ 0, x.stx_ino, 0, number };
    if (x.stx_mask & STATX_BTIME)
        j.home.born = (uint64_t)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    assert_int_equal(stat(out_dir, &s), 0);
    j.home.out = s.st_ino;
    assert_int_equal(sw_journal_write(&j, &dir, false, &st), SW_OK);
    sw_below_close(&dir);
    sw_journal_release(&j);
    free(old[0]);
}

/* Even then it names nothing but what a publication makes and replaces. */
static void test_what_a_journal_may_name(void **state)
{
    static const struct {
        const char *name, *old;
        bool obeyed;
    } cases[] = {
        { "config.json", "", true },
        { "config.json", "config.json", true },
        { ".hf_metadata/a/tokenizer.json", ".hf_metadata/fqn_to_dtype_mapping.json", true },
        { "a/b.safetensors", "model.safetensors.index.json", true },
        { "a/b.safetensors", "old/weights.safetensors", true },
        { "a/b.safetensors", "train.py", false },
        { "a/b.safetensors", ".git/config", false },
        { "a/b.safetensors", "../precious.safetensors", false },
        { "a/b.safetensors", SW_STAGING_NAME "/x.safetensors", false },
        { ".git/config", "", false },
        { "a/.bashrc", "", false },
        { "pytorch_model.bin", "", false },
        { SW_STAGING_NAME "/new.json", "", false },
        { "../x.safetensors", "", false },
    };

    (void)state;
    put(path_at(top, "precious.safetensors"), "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        remove_all(out_dir);
        for (int k = 0; k < 2; k++)
            if (k == 0 ? *cases[i].old != '\0' : true)
                put(path_at(out_dir, k == 0 ? cases[i].old : ".git/config"), "old");
        forge(cases[i].name, cases[i].old, 42);
        if (!cases[i].obeyed) {
            must_keep(cases[i].name, "no publication makes or replaces");
            assert_true(exists(path_at(out_dir, SW_STAGING_NAME "/new/" NEW_WEIGHTS)));
            assert_true(!*cases[i].old || exists(path_at(out_dir, cases[i].old)));
        } else if (visit(&recovered, &st) || recovered != PRINT || !exists(path_at(out_dir, cases[i].name))) {
            fail_msg("%s: %s: %s", cases[i].name, st.file, st.reason);
        }
        assert_true(exists(path_at(out_dir, ".git/config")) && exists(path_at(top, "precious.safetensors")));
    }
}

/* What was staged is told by its inode: another file of the same name and size is neither published
 * nor taken back. */
static void test_other_files_than_were_staged(void **state)
{
    char text[20];

    (void)state;
    for (int published = 0; published < 2; published++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        remove_all(out_dir);
        forge("config.json", "", 42);
        put(path_at(out_dir, "other"), "OTHER");
        assert_int_equal(
            rename(path_at(out_dir, "other"),
                   path_at(out_dir, published ? "config.json" : SW_STAGING_NAME "/new/config.json")),
            0);
        if (published)
            assert_int_equal(unlink(path_at(out_dir, SW_STAGING_NAME "/new/config.json")), 0);
        assert_int_equal(visit(&recovered, &st), SW_OK);
        assert_int_equal(recovered, 0);
        assert_false(exists(path_at(out_dir, NEW_WEIGHTS)));
        assert_string_equal(get(path_at(out_dir, "config.json"), text, sizeof text),
                            published ? "OTHER" : "");
    }
}

/* Leave a directory in which a journal stands. */
static void kill_with_journal(const struct scene *s)
{
    static long nth = 1;

    for (put_scene(s);; nth++, put_scene(s)) {
        assert_int_equal(in_child(s, nth, KILL, false), KILLED);
        if (exists(path_at(out_dir, SW_STAGING_NAME "/journal")))
            return;
    }
}

/* Nobody has given a sign of life for long. */
static void age_lock(void)
{
    struct timespec times[2] = { { 0, UTIME_OMIT }, { time(NULL) - 700, 0 } };

    utimensat(AT_FDCWD, path_at(out_dir, SW_STAGING_NAME "/lock"), times, 0);
}

/* The number that binds journal and directory outlives those who take a dead run's place, and fail
 * there too. */
static void test_a_journal_where_locks_do_not_work(void **state)
{
    const struct scene *s = &scenes[3];
    long left = 0;

    (void)state;
    hook.no_locks = true;
    for (long nth = 1; nth < 60; nth++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered;

        kill_with_journal(s);
        age_lock();
        in_child(NULL, nth, EIO, false);
        left += exists(path_at(out_dir, SW_STAGING_NAME "/journal"));
        if (visit(&recovered, &st) == SW_EUSAGE) {
            age_lock();
            sw_status_clear(&st);
            visit(&recovered, &st);
        }
        if (st.code || !(is_all(&s->old, false) || is_all(&s->fresh, true)))
            fail_msg("call %ld: %s: %s", nth, st.file, st.reason);
    }
    assert_true(left > 10);
}

static int shell(const char *command)
{
    char line[512];
    int status;

    snprintf(line, sizeof line, "cd %s && %s", top, command);
    status = system(line);
    return status;
}

/* All that is there but for the lock file. */
#define LISTING                                                                                              \
    "(find . ! -name lock -printf '%P %y %l\\n'; find . -type f ! -name lock -exec cksum {} +) | sort"

/* A killed publication's directory, treated as users and thieves treat directories. */
static void test_a_journal_belongs_to_its_directory(void **state)
{
    static const char staging[] = "out/" SW_STAGING_NAME;
    static const struct {
        const char *command, *says; /* NULL = it is completed or undone */
    } cases[] = {
        { "true", NULL },
        { "mv out moved && mv moved out", NULL },
        { "cp -a out copy && rm -r out && mv copy out", "in another directory" },
        { "tar cf t out && rm -r out && tar xf t", "in another directory" },
        { "cp -a $S s && rm -r $S && mv s $S", "in another directory" },
        { "mkdir o && mv out/* $S o && rm -r out && mv o out", "in another directory" },
        { "rm $S/lock", "in another directory" },
        { "ln $S/journal j", "hard links" },
        { "mv $S/journal j && ln -s ../../j $S/journal", "it is a link" },
        { "rm $S/journal && mkfifo $S/journal", "no regular file" },
        { "rm $S/journal && mkdir $S/journal", "no regular file" },
        { "ln $S/lock l && echo mine >l", "hard links" },
        { "mv $S/lock l && ln -s ../../l $S/lock", "it is a link" },
        { "rm $S/lock && mkfifo $S/lock", "no regular file" },
        { "mv $S s && ln -s ../s $S", "it is a link" },
        { "rm -r $S && mkfifo $S", "link or a pipe" },
        { "rm -r $S && echo mine >$S", "it is a file" },
        { "chown 65534 $S", "belongs to user 65534" },
        { "chown 65534 $S/journal", "somebody else" },
        { "chown 65534 $S/lock", "somebody else" },
    };
    const struct scene *s = &scenes[3];

    (void)state;
    setenv("S", staging, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t recovered = 0;

        if (strstr(cases[i].command, "chown") && geteuid() != 0)
            continue;
        shell("rm -rf *");
        kill_with_journal(s);
        assert_int_equal(shell(cases[i].command), 0);
        assert_int_equal(shell(LISTING " >../$(basename $PWD).before"), 0);
        if (cases[i].says) {
            must_keep(cases[i].command, cases[i].says);
            assert_int_equal(shell("[ ! -s l ] || [ -L $S/lock ] || [ $(cat l) = mine ]"), 0);
            assert_true(is_readable(&s->old, false));
        } else if (visit(&recovered, &st) || !(is_all(&s->old, false) || is_all(&s->fresh, true))) {
            fail_msg("%s: %s: %s", cases[i].command, st.file, st.reason);
        }
        if (cases[i].says && shell(LISTING " | cmp - ../$(basename $PWD).before") != 0)
            fail_msg("%s: something has changed", cases[i].command);
        shell("rm ../$(basename $PWD).before");
    }
    unsetenv("S");
}

/* ---- what is there --------------------------------------------------------------------------- */

static void test_existing(void **state)
{
    static const struct {
        const char *name;
        const char *files[6]; /* NAME or NAME=TEXT */
        const char *keep;
        const char *want; /* names with a space behind each */
    } cases[] = {
        { "nothing", { "config.json", "shard-00001-model-00001-of-00001.safetensors" }, NULL, "" },
        { "lone", { "model.safetensors", "x.safetensors" }, NULL, "model.safetensors " },
        { "files and index",
          { "model-00001-of-00001.safetensors", INDEX "={\"weight_map\":{}}", "README.md" },
          NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "index names others",
          { INDEX "={\"weight_map\":{\"a\":\"sub/"
                  "w.safetensors\",\"b\":\"odd.bin\",\"c\":\"gone\",\"d\":\"odd.bin\"}}",
            "odd.bin", "sub/w.safetensors" },
          NULL,
          INDEX " sub/w.safetensors " },
        { "index names shards",
          { INDEX
            "={\"weight_map\":{\"a\":\"shard-00001-model-00001-of-00001.safetensors\",\"b\":\"s/shard-x\"}}",
            "shard-00001-model-00001-of-00001.safetensors", "s/shard-x" },
          NULL,
          INDEX " " },
        { "index leads out",
          { INDEX "={\"weight_map\":{\"a\":\"../precious\"}}", "w.safetensors" },
          NULL,
          INDEX " " },
        { "index leads behind a link",
          { INDEX "={\"weight_map\":{\"a\":\"behind/precious\"}}" },
          NULL,
          INDEX " " },
        { "index is no JSON",
          { INDEX "={", "model-00001-of-00001.safetensors" },
          NULL,
          "model-00001-of-00001.safetensors " INDEX " " },
        { "diffusers",
          { "diffusion_pytorch_model.safetensors.index.json={\"weight_map\":{\"a\":\"w.safetensors\"}}",
            "w.safetensors", "diffusion_pytorch_model.safetensors" },
          NULL,
          "diffusion_pytorch_model.safetensors diffusion_pytorch_model.safetensors.index.json "
          "w.safetensors " },
        { "input is spared",
          { INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}", "w.safetensors", "model.safetensors" },
          "w.safetensors",
          "model.safetensors " INDEX " " },
        { "the input's index names nothing of ours",
          { INDEX "={\"weight_map\":{\"a\":\"w.safetensors\"}}", "w.safetensors" },
          INDEX,
          "" },
        { "a link", { "@model.safetensors" }, NULL, "model.safetensors " },
        { "a directory", { "model.safetensors/x" }, NULL, "" },
    };

    (void)state;
    put(path_at(top, "elsewhere/precious"), "");
    put(path_at(top, "precious"), "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_status st = SW_STATUS_INIT;
        char got[500] = "", **names;
        size_t n;

        remove_all(out_dir);
        assert_int_equal(mkdir(out_dir, 0777), 0);
        assert_int_equal(symlink("../elsewhere", path_at(out_dir, "behind")), 0);
        for (int k = 0; k < 6 && cases[i].files[k]; k++) {
            char name[300];
            const char *text = strchr(cases[i].files[k], '=');

            snprintf(name, sizeof name, "%.*s", (int)strcspn(cases[i].files[k], "="), cases[i].files[k]);
            if (name[0] == '@')
                assert_int_equal(symlink("../precious", path_at(out_dir, name + 1)), 0);
            else
                put(path_at(out_dir, name), text ? text + 1 : "");
        }
        assert_int_equal(
            sw_existing_checkpoint(out_dir, NULL, &cases[i].keep, cases[i].keep ? 1 : 0, &names, &n, &st),
            SW_OK);
        for (size_t k = 0; k < n; k++) {
            strncat(got, names[k], 200);
            strcat(got, " ");
        }
        sw_names_free(names, n);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: found '%s', expected '%s'", cases[i].name, got, cases[i].want);
    }
}

static void test_publication_check(void **state)
{
    static const struct {
        const char *name, *old;
        sw_code want;
    } cases[] = {
        { "new.safetensors", NULL, SW_OK },
        { "deep/in/new.safetensors", NULL, SW_OK },
        { "dir/new.safetensors", NULL, SW_OK },
        { "config.json", NULL, SW_EUSAGE },
        { "config.json", "config.json", SW_OK },
        { "dir", NULL, SW_EUSAGE },
        { "dir", "dir", SW_EUSAGE },
        { "link", NULL, SW_EUSAGE },
        { "link/new.safetensors", NULL, SW_EUSAGE },
        { "config.json/new.safetensors", NULL, SW_EUSAGE },
    };

    (void)state;
    put(path_at(out_dir, "config.json"), "{}");
    put(path_at(out_dir, "dir/x"), "");
    assert_int_equal(symlink("dir", path_at(out_dir, "link")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_status st = SW_STATUS_INIT;
        sw_publication file = { cases[i].name, 1 };
        char *old[1] = { strdup(cases[i].old ? cases[i].old : "") };

        if (sw_change_check(out_dir, &(sw_change){ &file, 1, old, cases[i].old ? 1 : 0, 0 }, &st) !=
            cases[i].want)
            fail_msg("%s: %d: %s", cases[i].name, (int)st.code, st.reason);
        free(old[0]);
    }
}

/* A file that is not as it should be is never published. */
static void test_wrong_size(void **state)
{
    sw_status st = SW_STATUS_INIT;
    sw_publication file = { "model.safetensors", 5 };
    sw_place *s = must_open();

    (void)state;
    put(path_at(out_dir, SW_STAGING_NAME "/new/model.safetensors"), "four");
    assert_int_equal(sw_place_publish(s, &(sw_change){ &file, 1, NULL, 0, 1 }, &st), SW_EINTERNAL);
    sw_status_clear(&st);
    must_close(s);
    assert_false(exists(out_dir));
}

int main(void)
{
#undef TEST
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_plain),
        TEST(test_killed_anywhere),
        TEST(test_killed_and_undone),
        TEST(test_failed_anywhere),
        TEST(test_disk_dies_anywhere),
        TEST(test_one_at_a_time),
        TEST(test_dead_runs_lock),
        TEST(test_same_host_is_not_watched),
        TEST(test_crowd),
        TEST(test_lost_lock),
        TEST(test_keeper_takes_no_signals),
        TEST(test_made_directories),
        TEST(test_keeps_what_was_there),
        TEST(test_trial_rename),
        TEST(test_staging_is_a_link),
        TEST(test_room_for_a_file),
        TEST(test_recovery_tells_whose),
        TEST(test_damaged_journal),
        TEST(test_what_a_journal_may_name),
        TEST(test_other_files_than_were_staged),
        TEST(test_a_journal_where_locks_do_not_work),
        TEST(test_a_journal_belongs_to_its_directory),
        TEST(test_existing),
        TEST(test_publication_check),
        TEST(test_wrong_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
