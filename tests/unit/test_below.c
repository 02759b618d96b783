/* Names below an open directory: what is made, moved and removed, and that no link leads anywhere.
 * All of it with openat2, and as on a kernel or in a sandbox that has none. */
#define UNIT_OWN_MAIN
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "top_help.h"

static sw_below dir; /* top/in */
static int no_openat2;
static long openat2_calls;
static bool rename_twice; /* the server's answer is lost: the rename is done, and done again */

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list ap;
    long a[5] = { 0 };

    va_start(ap, number);
    for (int i = 0; i < (number == SYS_renameat2 ? 5 : 4); i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
#ifdef SYS_openat2
    if (number == SYS_openat2) {
        openat2_calls++;
        if (no_openat2) {
            errno = no_openat2;
            return -1;
        }
    }
#endif
    return real(number, a[0], a[1], a[2], a[3], a[4]);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (rename_twice)
        syscall(SYS_renameat2, (long)from_dir, from, (long)to_dir, to, 0L);
    return (int)syscall(SYS_renameat2, (long)from_dir, from, (long)to_dir, to, 0L);
}

static bool exists(const char *name)
{
    return access(at(name), F_OK) == 0;
}

/* in/real/f, out/f; in/link leads to out, in/file to out/f. */
static int setup(void **state)
{
    rename_twice = false;
    if (top_make(state))
        return -1;
    make_tree(top, "in/real/f=in out/f=out in/link@../out in/file@../out/f");
    OK(sw_below_open(at("in"), &dir, NULL, st));
    return 0;
}

static int teardown(void **state)
{
    sw_below_close(&dir);
    return top_remove(state);
}

TEST_WITH(names, setup, teardown)
{
    static const char *const good[] = { "a", "a/b", "...", ".a/..b", "a\nb" };
    static const char *const bad[] = { "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b" };

    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(sw_below_is_name(good[i]));
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(sw_below_is_name(bad[i]));
        assert_int_equal(sw_below_fd(&dir, bad[i], O_RDONLY), -1);
        assert_int_equal(errno, EXDEV);
    }
}

/* Nothing that is asked for behind a link is done there, and a link itself is what it is. */
TEST_WITH(no_link_is_followed, setup, teardown)
{
    static const char *const behind[] = { "link/f", "link/sub/f", "link/../real/f" };
    sw_path_kind kind;
    sw_below sub;
    bool made, missing;
    int fd;

    for (size_t i = 0; i < COUNT(behind); i++) {
        const char *name = behind[i];
        sw_status st = SW_STATUS_INIT;

        assert_int_equal(sw_below_fd(&dir, name, O_RDONLY), -1);
        assert_int_equal(sw_below_create(&dir, name, 0666, &fd, &st), SW_EIO);
        assert_int_equal(sw_below_write(&dir, name, "x", 1, false, &st), SW_EIO);
        assert_int_equal(sw_below_mkdir(&dir, name, 0777, &made, &st), SW_EIO);
        assert_int_equal(sw_below_rename(&dir, "real/f", &dir, name, &st), SW_EIO);
        assert_int_equal(sw_below_rename(&dir, name, &dir, "real/g", &st), SW_EIO);
        sw_below_unlink(&dir, name, &st);
        sw_below_remove_tree(&dir, name, &st);
        sw_below_rmdirs_for(&dir, name);
        sw_status_clear(&st);
        kind = SW_PATH_MISSING;
        assert_int_equal(sw_below_stat(&dir, name, &kind, NULL, &st), i < 2 ? SW_OK : SW_EIO);
        assert_int_equal(kind, SW_PATH_MISSING);
    }
    assert_int_equal(sw_below_fd(&dir, "file", O_RDWR), -1);
    assert_int_equal(errno, ELOOP);
    FAILS(sw_below_enter(&dir, "link", &sub, &missing, st), SW_EIO, at("in/link"),
          "cannot open the directory");
    sw_below_close(&sub);
    FAILS(sw_below_create(&dir, "file", 0666, &fd, st), SW_EIO, at("in/file"), "File exists");
    OK(sw_below_stat(&dir, "file", &kind, NULL, st));
    assert_int_equal(kind, SW_PATH_OTHER);
    OK(sw_below_rename(&dir, "file", &dir, "other", st));
    OK(sw_below_unlink(&dir, "other", st));
    OK(sw_below_remove_tree(&dir, "link", st));
    assert_true(exists("out/f") && exists("in/real/f") && !exists("in/link") && !exists("out/sub"));
    assert_true(no_openat2 || openat2_calls > 0);
}

/* In the place of a directory that was looked at a moment ago. */
TEST_WITH(a_tree_that_moves, setup, teardown)
{
    sw_below real;
    int fd;

    OK(sw_below_enter(&dir, "real", &real, NULL, st));
    assert_int_equal(rename(at("in/real"), at("away")), 0);
    assert_int_equal(symlink("../out", at("in/real")), 0);
    OK(sw_below_create(&real, "g", 0666, &fd, st));
    OK(sw_fd_close(fd, "g", st));
    OK(sw_below_unlink(&real, "f", st));
    assert_true(exists("away/g") && !exists("away/f") && exists("out/f") && !exists("out/g"));
    sw_below_close(&real);
}

TEST_WITH(own, setup, teardown)
{
    static const struct {
        const char *name, *says; /* NULL = it is ours */
    } cases[] = {
        { "real/f", NULL },
        { "twice", "hard links" },
        { "fifo", "no regular file" },
        { "real", "no regular file" },
        { "file", "it is a link" },
        { "theirs", "somebody else" },
    };
    bool missing;
    int fd;

    make_tree(top, "in/one in/theirs in/twice&in/one in/fifo|");
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int rw = 0; rw < 2; rw++) {
            if (strcmp(cases[i].name, "theirs") == 0 && chown(at("in/theirs"), 1, 1) != 0)
                continue;
            if (!cases[i].says)
                OK(sw_below_open_own(&dir, cases[i].name, rw ? O_RDWR : O_RDONLY, &fd, &missing, st));
            else
                FAILS(sw_below_open_own(&dir, cases[i].name, rw ? O_RDWR : O_RDONLY, &fd, &missing, st),
                      SW_EIO, path_at(at("in"), cases[i].name), cases[i].says);
            assert_int_equal(fd >= 0, !cases[i].says);
            assert_false(missing);
            if (fd >= 0)
                close(fd);
        }
    OK(sw_below_open_own(&dir, "none", O_RDWR, &fd, &missing, st));
    assert_true(missing && fd == -1);
}

TEST_WITH(make_and_remove, setup, teardown)
{
    sw_path_kind kind;
    struct stat s;
    sw_dir names;
    bool made;

    OK(sw_below_mkdirs_for(&dir, "a/b/c/f", st));
    OK(sw_below_write(&dir, "a/b/c/f", "four", 4, true, st));
    FAILS(sw_below_write(&dir, "a/b/c/f", "", 0, false, st), SW_EIO, at("in/a/b/c/f"),
          "cannot create: File exists");
    OK(sw_below_stat(&dir, "a/b/c/f", &kind, &s, st));
    assert_true(kind == SW_PATH_FILE && s.st_size == 4);
    OK(sw_below_mkdir(&dir, "a", 0700, &made, st));
    assert_false(made);
    OK(sw_below_sync(&dir, "a/b", st));
    OK(sw_below_sync(&dir, NULL, st));
    FAILS(sw_below_sync(&dir, "a/none", st), SW_EIO, at("in/a/none"), "cannot open");
    sw_below_rmdirs_for(&dir, "a/b/c/f");
    assert_true(exists("in/a/b/c/f"));
    OK(sw_below_rename(&dir, "a/b/c/f", &dir, "real/f", st));
    sw_below_rmdirs_for(&dir, "a/b/c/f");
    assert_false(exists("in/a"));
    assert_int_equal(sw_below_link(&dir, &dir, "real/f"), -1);
    OK(sw_below_unlink(&dir, "none/x", st));
    FAILS(sw_below_unlink(&dir, "real", st), SW_EIO, at("in/real"), "cannot remove");
    assert_int_equal(symlink("../../out", at("in/real/deep")), 0);
    OK(sw_below_remove_tree(&dir, "real", st));
    OK(sw_below_remove_tree(&dir, "real", st));
    assert_true(exists("out/f"));
    OK(sw_below_list(&dir, &names, st));
    assert_int_equal(names.n, 2);
    assert_string_equal(names.names[0], "file");
    sw_dir_release(&names);
}

TEST_WITH(rename, setup, teardown)
{
    FAILS(sw_below_rename(&dir, "none", &dir, "real/g", st), SW_EIO, at("in/real/g"),
          "none to it: No such file");
    FAILS(sw_below_rename(&dir, "real/f", &dir, "none/f", st), SW_EIO, at("in/none/f"), "No such file");
    rename_twice = true;
    OK(sw_below_rename(&dir, "real/f", &dir, "g", st));
    assert_true(exists("in/g"));
}

TEST_WITH(open, setup, teardown)
{
    sw_below b;
    bool missing;

    OK(sw_below_open(at("in/link"), &b, NULL, st)); /* what the user names is followed */
    sw_below_close(&b);
    OK(sw_below_open(at("none"), &b, &missing, st));
    assert_true(missing && b.fd == -1);
    sw_below_close(&b);
    FAILS(sw_below_open(at("none"), &b, NULL, st), SW_EIO, at("none"), "No such file");
    sw_below_close(&b);
    FAILS(sw_below_open(at("out/f"), &b, &missing, st), SW_EIO, at("out/f"), "Not a directory");
    sw_below_close(&b);
}

int main(void)
{
    static const int absent[] = { 0, ENOSYS, EPERM };
    int failed = 0;

    for (size_t i = 0; i < COUNT(absent); i++) {
        no_openat2 = absent[i];
        failed += unit_run();
    }
    return failed;
}
