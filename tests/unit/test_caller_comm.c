/* sw_consolidate() and sw_reshard() as a program calls them that brings its own ranks: one process,
 * several over sockets, no MPI anywhere. Run from the top directory. */
#include "base/path.h"
#include "group_help.h"
#include "top_help.h"

typedef struct job {
    const char *in, *out;
    sw_options opt;
    sw_sharding sharding;
    const char *other_mesh; /* what rank 1 asks for instead; NULL = the same */
    int stops;              /* the rank that raises its flag, -1 = none */
    bool weld;
} job;

static void run_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    static const int raised = 1;
    const job *j = arg;
    sw_sharding sharding = j->sharding;
    sw_status st = SW_STATUS_INIT;
    sw_options opt = j->opt;
    sw_result result = SW_RESULT_INIT;

    if (j->stops == comm->rank)
        opt.cancel = &raised;
    if (comm->rank == 1 && j->other_mesh)
        sharding.mesh = j->other_mesh;
    o->code = j->weld ? sw_consolidate(comm, j->in, j->out, &opt, &result, &st)
                      : sw_reshard(comm, j->in, j->out, &sharding, &opt, &result, &st);
    o->written = result.bytes_written;
    sw_status_message(&st, o->message, sizeof o->message);
    sw_result_release(&result);
}

/* Every number of processes writes the same, and welding shards gives what welding the input
 * gives. */
TEST_IN_TOP(bytes)
{
    static const struct {
        const char *theme, *mesh, *placements;
    } cases[] = {
        { "rows", "2x2", "shard1,shard0" },      { "columns", "3", NULL },
        { "models", "2x2", "replicate,shard1" }, { "empty", "5", "shard(0)" },
        { "plain", "2x3", "shard0,shard0" },     { "grid", "2", "shard1" },
    };
    char in[64], want[64], out[64], first[64], welded[80];
    outcome o[RANKS_MAX];
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;

    for (size_t i = 0; i < COUNT(cases); i++) {
        snprintf(in, sizeof in, "tests/golden/%s/in", cases[i].theme);
        snprintf(want, sizeof want, "tests/golden/%s/out", cases[i].theme);
        snprintf(first, sizeof first, "%s/%s-1", top, cases[i].theme);
        for (int run = 2; run <= 2 * RANKS_MAX + 1; run++) {
            int size = run / 2;
            job j = { in,   out, SW_OPTIONS_INIT, { 0, cases[i].mesh, cases[i].placements, NULL },
                      NULL, -1,  run % 2 };

            snprintf(out, sizeof out, "%s/%s-%d%s", top, cases[i].theme, size, j.weld ? "-out" : "");
            j.opt.buffer_size = size % 2 ? SW_BUFFER_SIZE_MIN : 0;
            group_run(size, run_rank, &j, o);
            for (int r = 0; r < size; r++)
                if (o[r].code)
                    fail_msg("%s, rank %d of %d: %s", in, r, size, o[r].message);
            same_tree(j.weld ? want : first, out);
        }
        snprintf(welded, sizeof welded, "%s/%s-welded", top, cases[i].theme);
        assert_int_equal(sw_consolidate(&self, first, welded, NULL, NULL, &st), SW_OK);
        same_tree(want, welded);
    }
}

/* No options, no result. */
TEST_IN_TOP(defaults)
{
    const sw_sharding sharding = { .mesh = "2" };
    char out[64];
    sw_comm self = sw_comm_self();
    sw_status st = SW_STATUS_INIT;

    snprintf(out, sizeof out, "%s/a/b/out", top);
    if (sw_reshard(&self, "tests/golden/rows/in", out, &sharding, NULL, NULL, &st))
        fail_msg("%s: %s", st.file, st.reason);
    assert_int_equal(sw_reshard(&self, "tests/golden/rows/in", out, &sharding, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "holds shard files already"));
    sw_status_clear(&st);
}

TEST_IN_TOP(refused)
{
    static const char *const bad_rules[] = { "*", NULL };
    static const struct {
        sw_options opt;
        sw_sharding sharding;
        const char *says;
    } cases[] = {
        { SW_OPTIONS_INIT, { 0, NULL, NULL, NULL }, "no mesh" },
        { SW_OPTIONS_INIT, { 0, "0", NULL, NULL }, "no mesh" },
        { SW_OPTIONS_INIT, { 0, "2", "shard", NULL }, "no placement" },
        { SW_OPTIONS_INIT, { 0, "2", NULL, bad_rules }, "GLOB=P1,P2" },
        { { .verify = true }, { 0, "2", NULL, NULL }, "sw_options.verify does not go with shard files" },
        { { .single_file = true, .max_shard_size = 1 }, { 0, "2", NULL, NULL }, "only one of" },
        { { .node_local = true }, { 0, "2", NULL, NULL }, "MPI" },
        { { .buffer_size = 1 }, { 0, "2", NULL, NULL }, "4096" },
        { { .fqn_map_text = "{" }, { 0, "2", NULL, NULL }, "JSON" },
    };
    char above[64], out[80];

    snprintf(above, sizeof above, "%s/none", top);
    snprintf(out, sizeof out, "%s/out", above);
    for (size_t i = 0; i < COUNT(cases); i++) {
        job j = { "tests/golden/rows/in", out, cases[i].opt, cases[i].sharding, NULL, -1, false };
        outcome o[RANKS_MAX];

        group_run(2, run_rank, &j, o);
        for (int r = 0; r < 2; r++)
            if ((o[r].code != SW_EUSAGE && o[r].code != SW_EINPUT) || !strstr(o[r].message, cases[i].says))
                fail_msg("case %zu, rank %d: %d '%s'", i, r, (int)o[r].code, o[r].message);
        if (access(above, F_OK) == 0)
            fail_msg("case %zu: something is left", i);
    }
}

/* Whichever rank stops, or asks for something else, all learn of it, and nothing is left. */
TEST_IN_TOP(one_is_different)
{
    static const struct {
        const char *mesh;
        int stops;
        sw_code code;
        bool weld;
    } cases[] = { { NULL, 0, SW_ECANCEL, false }, { NULL, 1, SW_ECANCEL, false },
                  { NULL, 2, SW_ECANCEL, false }, { NULL, 0, SW_ECANCEL, true },
                  { NULL, 1, SW_ECANCEL, true },  { NULL, 2, SW_ECANCEL, true },
                  { "7", -1, SW_EUSAGE, false },  { "what", -1, SW_EUSAGE, false } };
    char out[64];
    outcome o[RANKS_MAX];

    snprintf(out, sizeof out, "%s/out", top);
    for (size_t i = 0; i < COUNT(cases); i++) {
        job j = { "tests/golden/rows/in", out,           SW_OPTIONS_INIT,
                  { 0, "2", NULL, NULL }, cases[i].mesh, cases[i].stops,
                  cases[i].weld };

        group_run(3, run_rank, &j, o);
        for (int r = 0; r < 3; r++) {
            if (o[r].code != cases[i].code)
                fail_msg("case %zu, rank %d: %d '%s'", i, r, (int)o[r].code, o[r].message);
            assert_string_equal(o[r].message, o[0].message);
        }
        assert_int_not_equal(access(out, F_OK), 0);
    }
}
