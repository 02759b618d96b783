/* Welding over a communicator that the caller brings. Run from the top directory. */
#include "base/path.h"
#include "group_help.h"
#include "top_help.h"

/* ---- running --------------------------------------------------------------------------------- */

typedef struct job {
    const char *in, *out;
    sw_options opt;
    int stops; /* the rank that raises its flag, -1 = none */
} job;

static void run_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    static const int raised = 1;
    const job *j = arg;
    sw_status st = SW_STATUS_INIT;
    sw_options opt = j->opt;
    sw_result result = SW_RESULT_INIT;

    if (j->stops == comm->rank)
        opt.cancel = &raised;
    o->code = sw_consolidate(comm, j->in, j->out, &opt, &result, &st);
    o->written = result.bytes_written;
    sw_status_message(&st, o->message, sizeof o->message);
    sw_result_release(&result);
}

static void run_group(int size, const job *j, outcome *outcomes)
{
    group_run(size, run_rank, j, outcomes);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static const char *const themes[] = { "rows", "columns", "models", "grid" };

static void check_tree(const char *want, const char *got)
{
    char command[512];

    snprintf(command, sizeof command, "diff -r '%s' '%s'", want, got);
    assert_int_equal(system(command), 0);
}

/* Every number of processes writes the same bytes. */
TEST_IN_TOP(bytes)
{
    char in[64], want[64], out[64];
    outcome o[RANKS_MAX];

    for (size_t t = 0; t < COUNT(themes); t++) {
        snprintf(in, sizeof in, "tests/golden/%s/in", themes[t]);
        snprintf(want, sizeof want, "tests/golden/%s/out", themes[t]);
        if (access(in, R_OK))
            fail_msg("no fixture %s", in);
        for (int size = 1; size <= RANKS_MAX; size++) {
            job j = { in, out, SW_OPTIONS_INIT, -1 };

            snprintf(out, sizeof out, "%s/%s-%d", top, themes[t], size);
            j.opt.buffer_size = size % 2 ? SW_BUFFER_SIZE_MIN : 0;
            run_group(size, &j, o);
            for (int r = 0; r < size; r++)
                if (o[r].code)
                    fail_msg("%s, rank %d of %d: %s", in, r, size, o[r].message);
            check_tree(want, out);
        }
    }
}

/* Whichever rank stops, all learn of it, and nothing is left. */
TEST_IN_TOP(one_stops)
{
    char out[64];
    outcome o[RANKS_MAX];

    snprintf(out, sizeof out, "%s/out", top);
    for (int stops = 0; stops < 3; stops++) {
        job j = { "tests/golden/rows/in", out, SW_OPTIONS_INIT, stops };

        run_group(3, &j, o);
        for (int r = 0; r < 3; r++) {
            assert_int_equal(o[r].code, SW_ECANCEL);
            assert_string_equal(o[r].message, o[0].message);
        }
        assert_int_not_equal(access(out, F_OK), 0);
    }
}

/* What only MPI can do is refused on every rank. */
TEST(needs_mpi)
{
    outcome o[RANKS_MAX];
    job j = { "tests/golden/rows/in", "/nonexistent/out", SW_OPTIONS_INIT, -1 };

    j.opt.node_local = true;
    run_group(2, &j, o);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(o[r].code, SW_EUSAGE);
        assert_non_null(strstr(o[r].message, "MPI"));
    }
}
