/* Mapped files: which are, and that nobody can take one away while it is looked at. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/path.h"
#include "read/mapped.h"
#include "unit.h"

#define SIZE 100000

typedef struct world {
    char path[64];
    int fd;
    sw_mapped m;
} world;

static bool knows_leases(int fd)
{
    return sw_fd_is_local(fd) && fcntl(fd, F_SETLEASE, F_RDLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

static world open_world(sw_read_map how)
{
    world w = { .path = "/tmp/shardweld_mapped_XXXXXX", .m = { .how = how } };
    int fd = mkstemp(w.path);
    char data[SIZE];

    for (int i = 0; i < SIZE; i++)
        data[i] = (char)(i * 7 + i / 1000);
    assert_int_equal(write(fd, data, SIZE), SIZE);
    close(fd);
    w.fd = open(w.path, O_RDONLY);
    assert_true(w.fd >= 0);
    if (how == SW_READ_MAP_SAFE && !knows_leases(w.fd)) {
        unlink(w.path);
        skip();
    }
    return w;
}

static void close_world(world *w)
{
    sw_mapped_release(&w->m);
    close(w->fd);
    unlink(w->path);
}

static uint64_t size_of(int fd)
{
    struct stat s;

    assert_int_equal(fstat(fd, &s), 0);
    return (uint64_t)s.st_size;
}

static void check_bytes(const world *w, const char *base)
{
    char data[SIZE];

    assert_non_null(base);
    assert_int_equal(pread(w->fd, data, SIZE, 0), SIZE);
    assert_memory_equal(base, data, SIZE);
}

/* Whoever opens it for writing is told, and need not wait. */
static bool is_free(const world *w)
{
    int fd = open(w->path, O_WRONLY | O_NONBLOCK);

    assert_true(fd >= 0 || errno == EWOULDBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

TEST(safe)
{
    world w = open_world(SW_READ_MAP_SAFE);
    const char *base = sw_mapped_file(&w.m, 3, w.fd, SIZE);

    check_bytes(&w, base);
    assert_true(sw_mapped_ready(&w.m, 0, SIZE));
    sw_mapped_done(&w.m, SIZE);
    assert_ptr_equal(sw_mapped_file(&w.m, 3, w.fd, SIZE), base);
    sw_mapped_release(&w.m);
    assert_true(is_free(&w));
    /* A request to write is answered, and the file is read from then on. */
    assert_non_null(sw_mapped_file(&w.m, 3, w.fd, SIZE));
    assert_false(is_free(&w));
    assert_false(sw_mapped_ready(&w.m, 0, SIZE));
    assert_true(is_free(&w));
    assert_null(sw_mapped_file(&w.m, 3, w.fd, SIZE));
    assert_non_null(sw_mapped_file(&w.m, 4, w.fd, SIZE));
    assert_false(is_free(&w));
    sw_mapped_yield(&w.m);
    assert_true(is_free(&w));
    close_world(&w);
}

static volatile sig_atomic_t told;

static void on_signal(int signal)
{
    told = signal;
}

/* No signal comes of a lease, and no descriptor is left. */
TEST(nobody_is_told)
{
    world w = open_world(SW_READ_MAP_SAFE);
    struct sigaction action = { .sa_handler = on_signal }, urg, io;
    int next = dup(w.fd);

    close(next);
    assert_int_equal(sigaction(SIGURG, &action, &urg), 0);
    assert_int_equal(sigaction(SIGIO, &action, &io), 0);
    assert_non_null(sw_mapped_file(&w.m, 0, w.fd, SIZE));
    assert_false(is_free(&w));
    assert_false(sw_mapped_ready(&w.m, 0, SIZE));
    assert_int_equal(told, 0);
    assert_int_equal(sigaction(SIGURG, &urg, NULL), 0);
    assert_int_equal(sigaction(SIGIO, &io, NULL), 0);
    assert_non_null(sw_mapped_file(&w.m, 1, w.fd, SIZE));
    sw_mapped_release(&w.m);
    assert_null(sw_mapped_file(&w.m, 2, w.fd, SIZE + 1));
    assert_int_equal(dup(w.fd), next);
    close(next);
    close_world(&w);
}

static void *cut_short(void *arg)
{
    const world *w = arg;

    return truncate(w->path, 10) ? arg : NULL;
}

TEST(who_cuts_it_short_waits)
{
    world w = open_world(SW_READ_MAP_SAFE);
    const char *base = sw_mapped_file(&w.m, 0, w.fd, SIZE);
    pthread_t thread;
    void *failed;

    assert_int_equal(pthread_create(&thread, NULL, cut_short, &w), 0);
    for (int i = 0; i < 10000 && sw_mapped_ready(&w.m, 0, SIZE); i++) {
        usleep(1000);
        assert_int_equal(size_of(w.fd), SIZE);
        check_bytes(&w, base);
    }
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_null(w.m.base);
    assert_int_equal(size_of(w.fd), 10);
    close_world(&w);
}

TEST(files_that_are_not_safe)
{
    world w = open_world(SW_READ_MAP_SAFE);
    int writer = open(w.path, O_WRONLY);

    assert_null(sw_mapped_file(&w.m, 0, w.fd, SIZE));
    close(writer);
    assert_null(sw_mapped_file(&w.m, 1, w.fd, SIZE + 1));
    assert_null(sw_mapped_file(&w.m, 2, w.fd, SIZE - 1));
    assert_true(is_free(&w));
    check_bytes(&w, sw_mapped_file(&w.m, 3, w.fd, SIZE));
    close_world(&w);
}

/* Root can be anybody. */
TEST(the_files_of_others)
{
    world w = open_world(SW_READ_MAP_SAFE);
    int status = 0;
    pid_t child;

    if (geteuid() != 0) {
        close_world(&w);
        skip();
    }
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(seteuid(65534) || sw_mapped_file(&w.m, 0, w.fd, SIZE) ? 1 : 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close_world(&w);
}

TEST(always)
{
    world w = open_world(SW_READ_MAP_ALWAYS);
    int writer = open(w.path, O_WRONLY);

    check_bytes(&w, sw_mapped_file(&w.m, 0, w.fd, SIZE));
    assert_true(sw_mapped_ready(&w.m, 0, SIZE));
    assert_int_equal(ftruncate(writer, 5000), 0);
    assert_true(sw_mapped_ready(&w.m, 0, 5000));
    assert_false(sw_mapped_ready(&w.m, 0, SIZE));
    assert_null(sw_mapped_file(&w.m, 0, w.fd, SIZE));
    close(writer);
    close_world(&w);
}

TEST(never)
{
    world w = open_world(SW_READ_MAP_NEVER);

    assert_null(sw_mapped_file(&w.m, 0, w.fd, SIZE));
    sw_mapped_yield(&w.m);
    close_world(&w);
}
