/* The library without MPI: one process, its own communicator, and no MPI_Init anywhere. Run from
 * the top directory. */
#include <sys/stat.h>

#include "base/path.h"
#include "shardweld.h"
#include "top_help.h"
#include "unit.h"

#define GOLDEN "tests/golden/rows"

TEST_IN_TOP(self)
{
    char out[64];
    sw_comm comm = sw_comm_self();
    sw_status st = SW_STATUS_INIT;
    sw_result result = SW_RESULT_INIT;

    snprintf(out, sizeof out, "%s/out", top);
    if (sw_consolidate(&comm, GOLDEN "/in", out, NULL, &result, &st))
        fail_msg("%s: %s", st.file, st.reason);
    assert_int_equal(result.ranks, 1);
    assert_int_equal(result.nfiles, 1);
    sw_transport_describe(&comm, &result);
    assert_string_equal(result.io, "posix");
    same_tree(GOLDEN "/out", out);
    sw_result_release(&result);

    /* what is there is not replaced unasked, and the call says so without printing or exiting */
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", out, NULL, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "holds a checkpoint"));
    sw_status_clear(&st);
}

/* What was told: a letter for each phase, one for progress in it. */
typedef struct told {
    char text[64];
    size_t n;
    uint64_t done;
} told;

static void on_phase(void *user, sw_phase phase)
{
    told *t = user;

    t->text[t->n++] = "PWCVSU"[phase];
    t->done = 0;
}

static void on_progress(void *user, uint64_t done, uint64_t total)
{
    told *t = user;

    assert_true(done >= t->done && done <= total);
    t->done = done;
    if (t->text[t->n - 1] != '.')
        t->text[t->n++] = '.';
}

/* The phases of a call, in their order; bytes are counted anew in each. */
TEST_IN_TOP(phases)
{
    char out[64], staging[64];
    sw_comm comm = sw_comm_self();
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st = SW_STATUS_INIT;
    told t = { .n = 0 };

    opt.user = &t;
    opt.phase = on_phase;
    opt.progress = on_progress;
    opt.verify = true;
    snprintf(out, sizeof out, "%s/out", top);
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", out, &opt, NULL, &st), SW_OK);
    assert_string_equal(t.text, "PW.SV.U");

    t = (told){ .n = 0 };
    opt.verify = false;
    opt.no_sync = opt.overwrite = true;
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", out, &opt, NULL, &st), SW_OK);
    assert_string_equal(t.text, "PW.U");

    t = (told){ .n = 0 };
    snprintf(staging, sizeof staging, "%s/staging", top);
    assert_int_equal(mkdir(staging, 0777), 0);
    opt.staging_dir = staging;
    opt.no_sync = false;
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", out, &opt, NULL, &st), SW_OK);
    assert_string_equal(t.text, "PW.C.SU");

    t = (told){ .n = 0 };
    opt = (sw_options)SW_OPTIONS_INIT;
    opt.user = &t;
    opt.phase = on_phase;
    assert_int_equal(sw_verify(&comm, GOLDEN "/in", out, &opt, NULL, &st), SW_OK);
    assert_string_equal(t.text, "PV");
}

static int refuse(void *ctx, void *buf, size_t n, int root)
{
    (void)ctx, (void)buf, (void)n, (void)root;
    return 1;
}

/* The other rank of two always says the same. */
static int twin(void *ctx, const void *mine, void *all, const size_t *counts)
{
    (void)ctx;
    memcpy(all, mine, counts[0]);
    memcpy((char *)all + counts[0], mine, counts[1]);
    return 0;
}

/* A group of several that brings no MPI is refused before anything is touched; what it must not use
 * cannot be agreed upon either. */
TEST(needs_mpi)
{
    sw_options owner = SW_OPTIONS_INIT;
    sw_comm comm = sw_comm_self();
    sw_status st = SW_STATUS_INIT;

    owner.assign = SW_ASSIGN_OWNER;
    comm.size = 2;
    comm.allgather = twin;
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", "/nonexistent/out", &owner, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "MPI"));
    comm.bcast = refuse;
    assert_int_equal(sw_consolidate(&comm, GOLDEN "/in", "/nonexistent/out", &owner, NULL, &st), SW_ECOMM);
}
