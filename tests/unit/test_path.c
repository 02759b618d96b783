/* Files and directories: what is there, what is made, and what each failure says. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "top_help.h"

TEST_IN_TOP(join)
{
    static const struct {
        const char *dir, *name, *want;
    } cases[] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "/", "b", "/b" }, { "a", "", "a/" }, { "", "b", "/b" }
    };
    sw_status st = SW_STATUS_INIT;

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *path = sw_path_join(cases[i].dir, cases[i].name, &st);

        assert_string_equal(path, cases[i].want);
        free(path);
    }
}

TEST_IN_TOP(read_and_write)
{
    sw_buf b = SW_BUF_INIT;
    bool missing;
    char *big = malloc(300000);

    assert_non_null(big);
    memset(big, 'x', 300000);
    put_file(at("f"), big, 300000);
    OK(sw_path_read(at("f"), NULL, 300000, &b, &missing, st));
    assert_int_equal(b.len, 300000);
    assert_false(missing);
    put(at("f"), "short");
    OK(sw_path_read(at("f"), NULL, 10, &b, NULL, st));
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.data, "short", 5);
    FAILS(sw_path_read(at("f"), "shown", 4, &b, &missing, st), SW_EINPUT, "shown", "larger than 4 bytes");
    OK(sw_path_read(at("none"), NULL, 10, &b, &missing, st));
    assert_true(missing && b.len == 0);
    OK(sw_path_read(at("f/below"), NULL, 10, &b, &missing, st));
    assert_true(missing);
    FAILS(sw_path_read(at("none"), NULL, 10, &b, NULL, st), SW_EIO, at("none"), "cannot open: No such file");
    FAILS(sw_path_read(top, NULL, 10, &b, NULL, st), SW_EINPUT, top, "is no regular file");
    sw_buf_release(&b);
    free(big);
}

static bool nobody_waits;

/* The library's own calls come here. */
int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct timespec t = { timeout / 1000, timeout % 1000 * 1000000L };

    return nobody_waits ? 0 : ppoll(fds, n, timeout < 0 ? NULL : &t, NULL);
}

/* Nobody waits for a pipe but who asks for it, and then not for ever. */
TEST_IN_TOP(pipes)
{
    static char text[200000];
    volatile int cancel = 1;
    sw_buf b = SW_BUF_INIT;
    bool missing;
    int fd, end;

    assert_int_equal(mkfifo(at("fifo"), 0666), 0);
    FAILS(sw_path_read(at("fifo"), NULL, 10, &b, &missing, st), SW_EINPUT, at("fifo"), "is no regular file");
    FAILS(sw_fd_open(at("fifo"), NULL, &fd, st), SW_EINPUT, at("fifo"), "is no regular file");
    FAILS(sw_path_read_any(at("fifo"), 10, &cancel, &b, st), SW_ECANCEL, "", "interrupted");
    FAILS(sw_path_read_any(at("none"), 10, NULL, &b, st), SW_EIO, at("none"), "cannot open");
    FAILS(sw_path_read_any(top, 10, NULL, &b, st), SW_EINPUT, top, "is no regular file");
    OK(sw_path_read_any("/dev/null", 10, &cancel, &b, st));
    assert_int_equal(b.len, 0);
    /* A writer that comes late, and is slow. */
    if (fork() == 0) {
        usleep(150000);
        end = open(at("fifo"), O_WRONLY);
        usleep(150000);
        _exit(write(end, text, sizeof text) == (ssize_t)sizeof text ? 0 : 1);
    }
    OK(sw_path_read_any(at("fifo"), sizeof text, NULL, &b, st));
    assert_int_equal(b.len, sizeof text);
    /* One that goes without a word, and nobody at all: that is waited for, though not here. */
    if (fork() == 0)
        _exit(close(open(at("fifo"), O_WRONLY)));
    OK(sw_path_read_any(at("fifo"), 10, NULL, &b, st));
    assert_int_equal(b.len, 0);
    nobody_waits = true;
    FAILS(sw_path_read_any(at("fifo"), 10, NULL, &b, st), SW_EINPUT, at("fifo"),
          "nobody writes into this pipe");
    nobody_waits = false;
    /* One that holds it open and says nothing: a signal ends the wait. */
    end = open(at("fifo"), O_RDWR);
    FAILS(sw_path_read_any(at("fifo"), 10, &cancel, &b, st), SW_ECANCEL, "", "interrupted");
    close(end);
    assert_true(wait(NULL) > 0 && wait(NULL) > 0);
    sw_buf_release(&b);
}

TEST_IN_TOP(modes)
{
    mode_t was = umask(027);
    struct stat s;

    put(at("f"), "");
    OK(sw_path_mkdirs(at("d/e"), NULL, st));
    umask(was);
    assert_int_equal(stat(at("f"), &s), 0);
    assert_int_equal(s.st_mode & 07777, 0640);
    assert_int_equal(stat(at("d"), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0750);
}

/* Open for reading and writing. */
static int make(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    assert_true(fd >= 0);
    return fd;
}

TEST_IN_TOP(at_offsets)
{
    char got[8];
    int fd;

    fd = make(at("f"));
    OK(sw_fd_write_at(fd, "f", "end", 3, UINT64_C(5000000000), st));
    OK(sw_fd_read_at(fd, "f", got, 3, UINT64_C(5000000000), st));
    assert_memory_equal(got, "end", 3);
    FAILS(sw_fd_read_at(fd, "f", got, 4, UINT64_C(5000000000), st), SW_EINPUT, "f",
          "shorter than expected: it ends at byte 5000000003, 4 bytes from 5000000000 on");
    OK(sw_fd_sync(fd, "f", st));
    OK(sw_fd_close(fd, "f", st));
    OK(sw_fd_close(-1, "f", st));
    FAILS(sw_fd_close(fd, "f", st), SW_EIO, "f", "cannot close");
    OK(sw_fd_open(at("f"), NULL, &fd, st));
    FAILS(sw_fd_write_at(fd, "f", "x", 1, 0, st), SW_EIO, "f", "cannot write");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    OK(sw_fd_close(fd, "f", st));
    FAILS(sw_fd_open(at("none"), "shown", &fd, st), SW_EIO, "shown", "cannot open");
    assert_int_equal(fd, -1);
}

/* In the working directory, which will be on a disk: in memory nothing is reserved. */
TEST(reserve)
{
    struct rlimit was, small = { 1 << 20, 1 << 20 };
    char name[] = "reserve-XXXXXX";
    struct statfs fs;
    struct stat s;
    int fd;

    fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(fstatfs(fd, &fs), 0);
    OK(sw_path_reserve(fd, "f", 0, st));
    OK(sw_path_reserve(fd, "f", 100000, st));
    assert_int_equal(fstat(fd, &s), 0);
    assert_true(s.st_size == 100000 || s.st_size == 0);
    FAILS(sw_path_reserve(fd, "f", UINT64_MAX, st), SW_EIO, "f", "18446744073709551615 bytes");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    if (sw_fs_reserves((uint32_t)fs.f_type))
        FAILS(sw_path_reserve(fd, "f", 2 << 20, st), SW_EIO, "f",
              "cannot reserve 2097152 bytes: File too large");
    else
        OK(sw_path_reserve(fd, "f", 2 << 20, st));
    FAILS(sw_fd_write_at(fd, "f", "x", 1, 2 << 20, st), SW_EIO, "f", "cannot write: File too large");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    OK(sw_fd_close(fd, "f", st));
    assert_false(sw_fs_reserves(0x9123683E)); /* btrfs */
    assert_true(sw_fs_reserves(0xEF53));      /* ext4 */
    assert_false(sw_fs_reserves(0x01021994)); /* tmpfs */
}

TEST_IN_TOP(mkdirs)
{
    size_t kept;

    OK(sw_path_mkdirs(at("a//b/c/"), &kept, st));
    assert_int_equal(kept, strlen(top));
    OK(sw_path_mkdirs(at("a/b/c"), &kept, st));
    assert_int_equal(kept, strlen(at("a/b/c")));
    OK(sw_path_mkdirs(at("a/b/d/e/"), &kept, st));
    assert_int_equal(kept, strlen(at("a/b")));
    sw_path_rmdirs(at("a/b/d/e/"), kept);
    assert_int_equal(access(at("a/b/d"), F_OK), -1);
    assert_int_equal(access(at("a/b/c"), F_OK), 0);
    put(at("a/f"), "");
    FAILS(sw_path_mkdirs(at("a/f"), NULL, st), SW_EIO, at("a/f"), "Not a directory");
    FAILS(sw_path_mkdirs(at("a/f/g"), NULL, st), SW_EIO, at("a/f"), "Not a directory");
    FAILS(sw_path_mkdirs("", NULL, st), SW_EIO, "", "cannot make the directory");
    OK(sw_path_mkdirs("/", &kept, st));
    assert_int_equal(kept, 1);
    /* Not empty: stays, and so do its parents. */
    put(at("p/q/file"), "");
    sw_path_rmdirs(at("p/q"), strlen(top));
    assert_int_equal(access(at("p/q/file"), F_OK), 0);
}

TEST_IN_TOP(stat)
{
    static const struct {
        const char *name;
        sw_path_kind kind, own;
    } cases[] = {
        { "file", SW_PATH_FILE, SW_PATH_FILE },         { "dir", SW_PATH_DIR, SW_PATH_DIR },
        { "fifo", SW_PATH_OTHER, SW_PATH_OTHER },       { "to_file", SW_PATH_FILE, SW_PATH_OTHER },
        { "to_dir", SW_PATH_DIR, SW_PATH_OTHER },       { "to_none", SW_PATH_DANGLING, SW_PATH_OTHER },
        { "to_self", SW_PATH_DANGLING, SW_PATH_OTHER }, { "none", SW_PATH_MISSING, SW_PATH_MISSING },
        { "file/x", SW_PATH_MISSING, SW_PATH_MISSING },
    };
    struct stat s;

    make_tree(top, "file=four dir/ fifo| to_file@file to_dir@dir to_none@none to_self@to_self");
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_path_kind kind;

        OK(sw_path_stat(at(cases[i].name), &kind, &s, st));
        assert_int_equal(kind, cases[i].kind);
        if (kind == SW_PATH_FILE)
            assert_int_equal(s.st_size, 4);
        OK(sw_path_lstat(at(cases[i].name), &kind, NULL, st));
        assert_int_equal(kind, cases[i].own);
    }
}

TEST_IN_TOP(list)
{
    static const char *const want[] = { ".hidden", "B", "a", "\xc3\xa4", "\xff" };
    sw_dir d;

    for (size_t i = COUNT(want); i-- > 0;)
        put(at(want[i]), "");
    OK(sw_dir_list(top, &d, st));
    assert_int_equal(d.n, COUNT(want));
    for (size_t i = 0; i < d.n; i++)
        assert_string_equal(d.names[i], want[i]);
    sw_dir_release(&d);
    assert_null(d.names);
    FAILS(sw_dir_list(at("none"), &d, st), SW_EIO, at("none"), "cannot list");
    sw_dir_release(&d);
}

TEST_IN_TOP(file_system)
{
    sw_fs fs;

    OK(sw_path_check_space(top, "shown", 1, st));
    FAILS(sw_path_check_space(top, "shown", UINT64_MAX - 1, st), SW_EIO, "shown", "no space: 1844674407");
    FAILS(sw_path_check_space(at("none"), "shown", 1, st), SW_EIO, at("none"), "free space");
    OK(sw_path_fs(top, &fs, st));
    assert_true(fs.block > 0);
    assert_int_equal(fs.shared, strcmp(fs.name, "local") != 0);
    OK(sw_path_fs("/proc", &fs, st));
    assert_false(fs.shared || fs.nfs);
    FAILS(sw_path_fs(at("none"), &fs, st), SW_EIO, at("none"), "file system");
    OK(sw_path_sync_dir(top, st));
    FAILS(sw_path_sync_dir(at("none"), st), SW_EIO, at("none"), "cannot open");
}

/* Cleaning up after an error does its work and leaves the message alone. */
TEST_IN_TOP(first_error_stays)
{
    sw_status status = SW_STATUS_INIT;

    sw_fail(&status, SW_EINPUT, "first", NULL, "why");
    assert_int_equal(sw_path_mkdirs(at("d"), NULL, &status), SW_OK);
    assert_int_equal(sw_path_sync_dir(at("no"), &status), SW_EINPUT);
    assert_string_equal(status.file, "first");
}

TEST_IN_TOP(parts)
{
    static const char *const cases[][3] = { { "a", ".", "a" },  { "a/b", "a", "b" },
                                            { "/a", "/", "a" }, { "/a/b.c", "/a", "b.c" },
                                            { "a/", "a", "" },  { "", ".", "" } };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        char *dir = sw_path_dir(cases[i][0], &st);

        assert_non_null(dir);
        assert_string_equal(dir, cases[i][1]);
        assert_string_equal(sw_path_name(cases[i][0]), cases[i][2]);
        free(dir);
    }
}
