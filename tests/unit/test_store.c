/* What a store can do, by trial and by the name of what is mounted there. */
#include "dir/store.h"

#include <errno.h>
#include <sys/sysmacros.h>

#include "top_help.h"

static char mounts[1024]; /* what the system says is mounted */

/* Nothing else is read by a stream here. */
FILE *fopen(const char *path, const char *mode)
{
    (void)mode;
    if (strcmp(path, "/proc/self/mountinfo") == 0 && *mounts)
        return fmemopen(mounts, strlen(mounts), "r");
    errno = ENOENT;
    return NULL;
}

/* One more line: what is mounted on the device of our directory, or on another one. */
static void mounted(const char *kind, const char *source, bool here)
{
    size_t n = strlen(mounts);
    struct stat s;

    assert_int_equal(stat(top, &s), 0);
    snprintf(mounts + n, sizeof mounts - n, "36 35 %u:%u / /mnt/a\\040b rw,noatime shared:1 - %s %s rw\n",
             major(s.st_dev), minor(s.st_dev) + !here, kind, source);
}

static sw_store tried(void)
{
    sw_below dir = SW_BELOW_INIT;
    sw_store store;
    sw_dir left;

    OK(sw_below_open(top, &dir, NULL, st));
    OK(sw_store_try(&dir, &store, st));
    sw_below_close(&dir);
    OK(sw_dir_list(top, &left, st));
    assert_int_equal(left.n, 0);
    sw_dir_release(&left);
    return store;
}

/* The directory can do all. A store of objects seems to, and copies each file that is renamed: only
 * its name tells. */
TEST_IN_TOP(objects_by_name)
{
    static const struct {
        const char *kind, *source;
        bool objects;
    } cases[] = {
        { "ext4", "/dev/sda1", false },
        { "nfs4", "server:/s3fs", false },
        { "fuse.sshfs", "root@server:/data", false },
        { "fuse.glusterfs", "server:v", false },
        { "fuse.ceph-fuse", "ceph-fuse", false },
        { "fuse.s3fs", "s3fs", true },
        { "fuse.s3fs", "bucket", true },
        { "fuse", "s3fs", true },
        { "fuse.s3fs2", "bucket", false },
        { "fuse.rclone", "remote:bucket", true },
        { "fuse.gcsfuse", "bucket", true },
        { "fuse", "mountpoint-s3", true },
        { "fuse.fuse_dfs", "fuse_dfs", true },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_store store;

        mounts[0] = '\0';
        mounted(cases[i].kind, cases[i].source, true);
        store = tried();
        if (store.objects != cases[i].objects || strcmp(store.type, cases[i].kind) != 0)
            fail_msg("%s %s: %s, objects %d", cases[i].kind, cases[i].source, store.type, store.objects);
        assert_true(store.rewrites && store.renames && store.locks);
        assert_int_equal(sw_store_choose(SW_STORE_AUTO, &store),
                         cases[i].objects ? SW_STORE_STREAM : SW_STORE_RANDOM);
        assert_int_equal(sw_store_choose(SW_STORE_RANDOM, &store), SW_STORE_RANDOM);
        assert_int_equal(sw_store_choose(SW_STORE_STREAM, &store), SW_STORE_STREAM);
    }
}

/* Of several on one device the last counts, of other devices none. */
TEST_IN_TOP(last_mount_counts)
{
    sw_store store;

    mounts[0] = '\0';
    mounted("fuse.s3fs", "s3fs", true);
    mounted("fuse.sshfs", "server:", true);
    mounted("fuse.rclone", "remote:", false);
    store = tried();
    assert_string_equal(store.type, "fuse.sshfs");
    assert_false(store.objects);
}

/* Where there is no /proc it has no name, and what it can do decides. */
TEST_IN_TOP(without_a_name)
{
    sw_store store;

    mounts[0] = '\0';
    store = tried();
    assert_string_equal(store.type, "");
    assert_int_equal(sw_store_choose(SW_STORE_AUTO, &store), SW_STORE_RANDOM);
    store.rewrites = false;
    assert_int_equal(sw_store_choose(SW_STORE_AUTO, &store), SW_STORE_STREAM);
}
