/* A checkpoint against its manifest: each bit of each file, flipped, is found, and named. Run from
 * the top directory. */
#include "base/path.h"
#include "shardweld.h"
#include "top_help.h"
#include "unit.h"

#define NONE SIZE_MAX
#define MANIFEST "shardweld.manifest.json"

/* The golden rows, with a manifest: welded, with a side file; or sharded anew. */
static void make(const char *out, const char *mesh)
{
    sw_sharding sharding = SW_SHARDING_INIT;
    sw_options opt = SW_OPTIONS_INIT;
    sw_comm self = sw_comm_self();
    sw_status st;

    opt.manifest = true;
    opt.no_sync = true;
    sharding.mesh = mesh;
    sharding.placements = "shard1,shard0";
    if (mesh) {
        assert_int_equal(sw_reshard(&self, "tests/golden/rows/in", out, &sharding, &opt, NULL, &st), SW_OK);
        return;
    }
    opt.assets = at("side");
    assert_int_equal(sw_consolidate(&self, "tests/golden/rows/in", out, &opt, NULL, &st), SW_OK);
}

/* How many bytes of a file are no tensor's. */
static uint64_t head_of(const char *dir, const char *name)
{
    sw_status st = SW_STATUS_INIT;
    char *path = sw_path_join(dir, name, &st);
    int fd = open(path, O_RDONLY);
    unsigned char length[8];

    assert_int_equal(read(fd, length, 8), 8);
    close(fd);
    free(path);
    return 8 + (length[0] | (uint64_t)length[1] << 8);
}

/* What is found: the code, and whether one of the findings is of a tensor. They are of that
 * file. */
static sw_code check(const char *dir, const char *file, bool *of_tensor)
{
    sw_comm self = sw_comm_self();
    sw_verification v = SW_VERIFICATION_INIT;
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st;
    bool named = false;
    sw_code code;

    *of_tensor = false;
    opt.buffer_size = SW_BUFFER_SIZE_MIN; /* many calls: memory need not be cleared for each */
    code = sw_check(&self, dir, &opt, &v, &st);
    for (uint64_t i = 0; i < v.nfindings; i++) {
        bool is = strcmp(v.findings[i].file, file) == 0;

        named = named || is;
        /* a manifest that is wrong speaks ill of the others */
        assert_true(is || strcmp(file, MANIFEST) == 0);
        *of_tensor = *of_tensor || v.findings[i].tensor[0];
    }
    assert_true(named || code != SW_DIFF);
    sw_verification_release(&v);
    return code;
}

#define STEP (UNIT_SANITIZED ? 11u : 1u) /* comes to each bit of a byte in turn */

/* All bits of a file; head: of its bytes so many are no tensor's. */
static void flip_each(const char *dir, const char *name, uint64_t head)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf b = SW_BUF_INIT;
    char *path = sw_path_join(dir, name, &st);
    bool tensor;
    int fd;

    assert_int_equal(sw_path_read(path, NULL, 1 << 20, &b, NULL, &st), SW_OK);
    fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && b.len > 0);
    for (size_t i = 0; i < 8 * b.len; i += STEP) {
        char byte = (char)(b.data[i / 8] ^ 1 << i % 8);
        sw_code code;

        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(i / 8)), 1);
        code = check(dir, name, &tensor);
        /* a manifest that is no JSON any more says nothing at all */
        if (code != SW_DIFF && !(code == SW_EINPUT && strcmp(name, MANIFEST) == 0))
            fail_msg("%s: bit %zu was not found", name, i);
        if (i / 8 >= head && !tensor)
            fail_msg("%s: bit %zu is no tensor's", name, i);
        assert_int_equal(pwrite(fd, b.data + i / 8, 1, (off_t)(i / 8)), 1);
    }
    close(fd);
    assert_int_equal(check(dir, name, &tensor), SW_OK);
    sw_buf_release(&b);
    free(path);
}

TEST_IN_TOP(every_bit)
{
    static const char weights[] = "model-00001-of-00001.safetensors";
    char *out = strdup(at("out"));
    int fd;

    assert_int_equal(mkdir(at("side"), 0755), 0);
    fd = open(at("side/config.json"), O_WRONLY | O_CREAT, 0644);
    assert_int_equal(write(fd, "{}\n", 3), 3);
    close(fd);
    make(out, NULL);
    flip_each(out, weights, head_of(out, weights));
    flip_each(out, "model.safetensors.index.json", NONE);
    flip_each(out, "config.json", NONE);
    flip_each(out, MANIFEST, NONE);
    free(out);
}

/* The same of shard files: the file is named, and the tensor that is cut into several. */
TEST_IN_TOP(every_bit_of_shards)
{
    char *out = strdup(at("out")), name[] = "shard-00001-model-00001-of-00001.safetensors";

    make(out, "2x2");
    for (char i = '1'; i <= '4'; i++) {
        name[strlen("shard-0000")] = i;
        flip_each(out, name, head_of(out, name));
    }
    free(out);
}
