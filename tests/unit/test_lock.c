/* The lock of a staging directory: one run at a time, with and without locks of the file system. */
#include "place_help.h"

/* A file whose time of change is told as somebody saw it once, until the server is asked, as a
 * mount by FUSE does. ino 0 = none. */
static struct {
    ino_t ino;
    struct timespec mtim;
} seen;

int fstatat(int dir, const char *name, struct stat *s, int flags)
{
    int r = (int)syscall(SYS_newfstatat, dir, name, s, flags);

    if (r == 0 && seen.ino && s->st_ino == seen.ino)
        s->st_mtim = seen.mtim;
    return r;
}

int fstat(int fd, struct stat *s)
{
    return fstatat(fd, "", s, AT_EMPTY_PATH);
}

int statx(int dir, const char *name, int flags, unsigned mask, struct statx *x)
{
    int r = (int)syscall(SYS_statx, dir, name, flags, mask, x);

    if (r == 0 && x->stx_ino == seen.ino && (flags & AT_STATX_SYNC_TYPE) == AT_STATX_FORCE_SYNC)
        seen.mtim = (struct timespec){ x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec };
    return r;
}

TEST_IN_PLACE(one_at_a_time)
{
    char says[64];
    sw_place *s;

    setenv("SLURM_JOB_ID", "4242", 1);
    for (int no_locks = 0; no_locks < 2; no_locks++) {
        hook.no_locks = no_locks == 1;
        s = must_open();
        snprintf(says, sizeof says, ", pid %ld, job 4242", (long)getpid());
        must_refuse(says);
        must_refuse("another run works on this directory: host ");
        assert_true(exists(in_staging("new")));
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
    put(in_staging("lock"), text);
    put(in_staging("new/model.safetensors"), "dead");
    assert_int_equal(utimensat(AT_FDCWD, in_staging("lock"), times, 0), 0);
}

TEST_IN_PLACE(dead_runs_lock)
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

    for (size_t i = 0; i < COUNT(cases); i++) {
        remove_all(out_dir);
        put_lock(cases[i].host, cases[i].age);
        if (cases[i].age == 611 || cases[i].age == 612) {
            struct timespec times[2] = { { 0, UTIME_OMIT },
                                         { time(NULL) - (cases[i].age == 611 ? 700 : 10), 0 } };

            assert_int_equal(mkdir(in_staging("lock.takeover"), 0777), 0);
            utimensat(AT_FDCWD, in_staging("lock.takeover"), times, 0);
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
            assert_true(exists(in_staging("new/model.safetensors")));
        } else {
            sw_place *s = must_open();

            assert_false(exists(in_staging("new/model.safetensors")));
            must_close(s);
            assert_false(exists(path_at(out_dir, SW_STAGING_NAME)));
        }
        assert_int_equal(hook.sleeps, cases[i].sleeps);
    }
}

/* Our own host on a shared file system: the lock's word is enough. */
TEST_IN_PLACE(same_host_is_not_watched)
{
    char host[256];

    assert_int_equal(gethostname(host, sizeof host), 0);
    put_lock(host, 5);
    hook.nfs = true;
    must_close(must_open());
    assert_int_equal(hook.sleeps, 0);
}

/* By what this mount saw of it last the other run has been dead for minutes; its server knows
 * more. */
TEST_IN_PLACE(alive_behind_a_cache)
{
    static char lock[512];
    struct stat s;

    put_lock("elsewhere", 20);
    snprintf(lock, sizeof lock, "%s", in_staging("lock"));
    assert_int_equal(stat(lock, &s), 0);
    seen.ino = s.st_ino;
    seen.mtim = (struct timespec){ s.st_mtim.tv_sec - 200, 0 };
    hook.nfs = true;
    hook.touch_at = 4;
    hook.touch = lock;
    must_refuse("host elsewhere, pid 77");
    assert_int_equal(hook.sleeps, 4);
    assert_true(exists(in_staging("new/model.safetensors")));
    seen.ino = 0;
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
    fd = open(at("inside"), O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (fd < 0)
        return 4;
    syscall(SYS_nanosleep, &moment, NULL);
    if (unlink(at("inside")) != 0)
        return 5;
    sw_place_close(s, NULL, &st);
    return st.code ? 6 : 1;
}

TEST_IN_PLACE(crowd)
{
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

/* Signals must reach the threads of the program: ours blocks SIGTERM and SIGINT. */
TEST_IN_PLACE(keeper_takes_no_signals)
{
    sw_status st = SW_STATUS_INIT;
    sw_place *s = must_open();
    sw_dir tasks;
    char text[4096];
    int blocked = 0;

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
