/* Meshes and placements: their words, and boxes that are known. Those of any mesh are held against
 * the oracle's in tests/e2e/test_reshard.py, and against torch's own in tests/torch. */
#include "plan/mesh.h"

#include <inttypes.h>

#include "base/buf.h"
#include "plan_help.h"

#define R SW_REPLICATE

/* ---- words ----------------------------------------------------------------------------------- */

TEST(meshes)
{
    static const struct {
        const char *text;
        unsigned ndim;
        uint64_t sizes[SW_MESH_DIMS], ranks;
    } cases[] = {
        { "1", 1, { 1 }, 1 },
        { "8", 1, { 8 }, 8 },
        { "2x4", 2, { 2, 4 }, 8 },
        { "2X3x5", 3, { 2, 3, 5 }, 30 },
        { "1x1x1x1x1x1x1x1", 8, { 1, 1, 1, 1, 1, 1, 1, 1 }, 1 },
        { "1000000", 1, { 1000000 }, 1000000 },
        { "1000x1000", 2, { 1000, 1000 }, 1000000 },
        { "007", 1, { 7 }, 7 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_mesh m;

        if (sw_mesh_parse(cases[i].text, &m, &st))
            fail_msg("%s: %s", cases[i].text, st.reason);
        assert_int_equal(m.ndim, cases[i].ndim);
        assert_int_equal(m.ranks, cases[i].ranks);
        assert_memory_equal(m.sizes, cases[i].sizes, m.ndim * sizeof *m.sizes);
    }
}

TEST(no_meshes)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "'' is no mesh, expected sizes as in 2x4" },
        { "x", "is no mesh" },
        { "0", "is no mesh" },
        { "2x0", "is no mesh" },
        { "0x2", "is no mesh" },
        { "2x", "is no mesh" },
        { "x2", "is no mesh" },
        { "2xx2", "is no mesh" },
        { "2x4x", "is no mesh" },
        { "-1", "is no mesh" },
        { "+2", "is no mesh" },
        { " 2", "is no mesh" },
        { "2 ", "is no mesh" },
        { "2x 4", "is no mesh" },
        { "2,4", "is no mesh" },
        { "2*4", "is no mesh" },
        { "0x10x", "is no mesh" },
        { "2.0", "is no mesh" },
        { "1e3", "is no mesh" },
        { "two", "is no mesh" },
        { "9999999999999999999999", "is no mesh" },
        { "1000001", "'1000001' is too large: at most 8 dimensions and 1000000 ranks" },
        { "1000x1001", "is too large" },
        { "999999999999999999", "is too large" },
        { "999999999x999999999x999999999", "is too large" },
        { "1x1x1x1x1x1x1x1x1", "is too large" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_mesh m;

        if (sw_mesh_parse(cases[i].text, &m, &st) != SW_EUSAGE || !strstr(st.reason, cases[i].says) ||
            !strstr(st.reason, "sw_sharding.mesh '"))
            fail_msg("%s: %d '%s'", cases[i].text, (int)st.code, st.reason);
    }
}

TEST(placements)
{
    static const struct {
        const char *mesh, *text;
        uint64_t dims[3];
    } cases[] = {
        { "4", NULL, { 0 } },
        { "2x3x4", NULL, { 0, 0, 0 } },
        { "4", "shard0", { 0 } },
        { "4", "shard(0)", { 0 } },
        { "4", "SHARD(1)", { 1 } },
        { "4", "Shard12", { 12 } },
        { "4", "shard31", { 31 } },
        { "4", "shard(31)", { 31 } },
        { "4", "replicate", { R } },
        { "4", "Replicate", { R } },
        { "2x4", "replicate,shard1", { R, 1 } },
        { "2x4", "Shard(0),REPLICATE", { 0, R } },
        { "2x4", "shard0,shard0", { 0, 0 } },
        { "2x3x4", "shard2,replicate,shard(1)", { 2, R, 1 } },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_placements p;
        sw_mesh m;

        assert_int_equal(sw_mesh_parse(cases[i].mesh, &m, &st), SW_OK);
        if (sw_placements_parse(cases[i].text, &m, "placements", &p, &st))
            fail_msg("%s: %s", cases[i].text, st.reason);
        assert_memory_equal(p.dims, cases[i].dims, m.ndim * sizeof *p.dims);
    }
}

TEST(no_placements)
{
    static const struct {
        const char *mesh, *text, *says;
    } cases[] = {
        { "4", "", "sw_sharding.rules '': '' is no placement, expected shardD, shard(D) or replicate" },
        { "4", "shard", "'shard' is no placement" },
        { "4", "shard()", "is no placement" },
        { "4", "shard(", "is no placement" },
        { "4", "shard)", "is no placement" },
        { "4", "shard(0", "is no placement" },
        { "4", "shard0)", "is no placement" },
        { "4", "shard(0))", "is no placement" },
        { "4", "shard((0))", "is no placement" },
        { "4", "shard(0) ", "is no placement" },
        { "4", "shard 0", "is no placement" },
        { "4", "shard-1", "is no placement" },
        { "4", "shard(-1)", "is no placement" },
        { "4", "shard+1", "is no placement" },
        { "4", "shard32", "is no placement" },
        { "4", "shard99999999999999999999", "is no placement" },
        { "4", "shardx", "is no placement" },
        { "4", "partial", "'partial' is no placement" },
        { "4", "replicated", "is no placement" },
        { "4", "replicat", "is no placement" },
        { "4", "r", "is no placement" },
        { "4", "0", "is no placement" },
        { "4", "shard0,", "'' is no placement" },
        { "4", ",shard0", "'' is no placement" },
        { "2x4", "shard0,,shard1", "'' is no placement" },
        { "2x4", "shard0;shard1", "'shard0;shard1' is no placement" },
        { "4", "shard0,shard1", "sw_sharding.rules 'shard0,shard1' has 2 placements, the mesh 1 dimension" },
        { "2x4", "shard0", "has 1 placement, the mesh 2 dimensions" },
        { "2x4", "shard0,shard1,replicate", "has 3 placements, the mesh 2 dimensions" },
        { "4", "shard0,shard0,shard0,shard0,shard0,shard0,shard0,shard0,shard0,shard0", "has 10 placements" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_placements p;
        sw_mesh m;

        assert_int_equal(sw_mesh_parse(cases[i].mesh, &m, &st), SW_OK);
        if (sw_placements_parse(cases[i].text, &m, "rules", &p, &st) != SW_EUSAGE ||
            !strstr(st.reason, cases[i].says))
            fail_msg("%s: %d '%s'", cases[i].text, (int)st.code, st.reason);
    }
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* The boxes of a tensor, "RANK:OFFSETS+SHAPE" each, as far as a limit; the last rank, and where its
 * box ends along the first dimension. */
typedef struct list {
    char text[256];
    size_t n, limit;
    unsigned ndim;
    uint64_t rank, end;
} list;

static void add_dims(char *text, size_t size, const char *before, const uint64_t *dims, unsigned n)
{
    for (unsigned d = 0; d < n; d++)
        sw_text_addf(text, size, "%s%" PRIu64, d ? "," : before, dims[d]);
}

static bool take(void *ctx, uint64_t rank, const uint64_t *offsets, const uint64_t *shape)
{
    list *l = ctx;

    sw_text_addf(l->text, sizeof l->text, "%s%" PRIu64, l->n ? " " : "", rank);
    add_dims(l->text, sizeof l->text, ":", offsets, l->ndim);
    add_dims(l->text, sizeof l->text, "+", shape, l->ndim);
    l->rank = rank;
    l->end = l->ndim ? offsets[0] + shape[0] : 0;
    return ++l->n != l->limit;
}

/* Some by hand, as torch places them. */
TEST(known_boxes)
{
    static const struct {
        const char *mesh, *placements;
        unsigned ndim;
        uint64_t shape[2];
        const char *want;
    } cases[] = {
        { "4", "shard0", 1, { 10 }, "0:0+3 1:3+3 2:6+3 3:9+1" },
        { "4", "shard0", 1, { 5 }, "0:0+2 1:2+2 2:4+1" }, /* and nothing */
        { "4", "replicate", 1, { 5 }, "0:0+5" },
        { "4", "shard1", 1, { 5 }, "0:0+5" },
        { "4", "shard0", 0, { 0 }, "0" },
        { "4", "shard0", 2, { 0, 3 }, "0:0,0+0,3" },
        { "4", "shard1", 2, { 0, 3 }, "0:0,0+0,3" },
        { "2x2", "replicate,shard0", 1, { 4 }, "0:0+2 1:2+2" },
        { "2x2", "shard0,replicate", 1, { 4 }, "0:0+2 2:2+2" },
        { "2x2", "shard0,shard1", 2, { 3, 3 }, "0:0,0+2,2 1:0,2+2,1 2:2,0+1,2 3:2,2+1,1" },
        /* 5 over 2: 3, 2; those over 3: 1, 1, 1 and 1, 1 */
        { "2x3", "shard0,shard0", 1, { 5 }, "0:0+1 1:1+1 2:2+1 3:3+1 4:4+1" },
        { "2x2", "shard0,shard0", 1, { 1 }, "0:0+1" }, /* 1 over 2: 1, 0 */
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        list got = { .ndim = cases[i].ndim, .limit = SIZE_MAX };
        sw_status st = SW_STATUS_INIT;
        sw_placements p;
        sw_mesh m;

        assert_int_equal(sw_mesh_parse(cases[i].mesh, &m, &st), SW_OK);
        assert_int_equal(sw_placements_parse(cases[i].placements, &m, "placements", &p, &st), SW_OK);
        assert_true(sw_mesh_boxes_each(&m, &p, cases[i].ndim, cases[i].shape, take, &got));
        assert_string_equal(got.text, cases[i].want);
    }
}

/* Ranks without a box cost nothing, and numbers may be as large as they get. */
TEST(large)
{
    static const uint64_t few[] = { 10 }, huge[] = { UINT64_C(1) << 62 };
    sw_mesh m = { .ndim = 2, .sizes = { 1000, 1000 }, .ranks = 1000000 };
    sw_placements nested = { { 0, 0 } }, inner = { { R, 0 } };
    list got = { .ndim = 1, .limit = SIZE_MAX };

    assert_true(sw_mesh_boxes_each(&m, &nested, 1, few, take, &got));
    assert_int_equal(got.n, 10);
    assert_int_equal(got.rank, 9000);
    got.n = 0;
    assert_true(sw_mesh_boxes_each(&m, &inner, 1, few, take, &got));
    assert_int_equal(got.n, 10);
    assert_int_equal(got.rank, 9);
    got.n = 0;
    m = (sw_mesh){ .ndim = 1, .sizes = { 3 }, .ranks = 3 };
    assert_true(sw_mesh_boxes_each(&m, &nested, 1, huge, take, &got));
    assert_int_equal(got.n, 3);
    assert_true(got.end == huge[0]);
}

/* Whoever is told has the last word. */
TEST(stopped)
{
    static const uint64_t shape[] = { 6, 6 }, none[] = { 0, 6 };
    sw_mesh m = { .ndim = 2, .sizes = { 3, 2 }, .ranks = 6 };
    sw_placements p = { { 0, 1 } };

    for (size_t limit = 1; limit <= 6; limit++) {
        list got = { .ndim = 2, .limit = limit };

        assert_false(sw_mesh_boxes_each(&m, &p, 2, shape, take, &got));
        assert_int_equal(got.n, limit);
    }
    assert_false(sw_mesh_boxes_each(&m, &p, 2, none, take, &(list){ .ndim = 2, .limit = 1 }));
}
