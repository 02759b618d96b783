/* Structs that begin with their size: programs built with an older header, and with a newer one. */
#include "base/grown.h"
#include "shardweld.h"
#include "top_help.h"

#define IN "tests/golden/rows/in"

/* What a program holds whose header is newer than the library. */
typedef struct newer_options {
    sw_options known;
    uint64_t more;
} newer_options;

typedef struct newer_result {
    sw_result known;
    uint64_t more;
} newer_result;

static sw_code weld(const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_comm self = sw_comm_self();
    char out[64];

    snprintf(out, sizeof out, "%s/out", top);
    return sw_consolidate(&self, IN, out, opt, result, st);
}

TEST_IN_TOP(newer)
{
    newer_options n = { .known = SW_OPTIONS_INIT };
    newer_result r = { .known = SW_RESULT_INIT, .more = 7 };
    sw_status st;

    n.known.size = sizeof n;
    n.known.dry_run = true;
    assert_int_equal(weld(&n.known, NULL, &st), SW_OK);
    n.more = 1;
    assert_int_equal(weld(&n.known, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "sw_options uses what this library (version " SW_VERSION ") does not"));

    /* a result is not written behind what the library knows, and stays as large as it says */
    n.more = 0;
    assert_int_equal(weld(&n.known, &r.known, &st), SW_OK);
    assert_int_equal(r.known.nfiles, 1);
    assert_int_equal(r.more, 7);
    r.known.size = sizeof r;
    sw_result_release(&r.known);
    assert_int_equal(r.known.size, sizeof r);
    assert_int_equal(r.known.nfiles, 0);
}

/* Its struct ends before members that came later: they are as if zero, and not written. */
TEST_IN_TOP(older)
{
    sw_options opt = SW_OPTIONS_INIT;
    sw_result r = SW_RESULT_INIT;
    sw_status st;

    opt.dry_run = true;
    opt.buffer_size = 1;
    opt.size = offsetof(sw_options, buffer_size);
    r.size = offsetof(sw_result, ranks);
    r.ranks = -1;
    assert_int_equal(weld(&opt, &r, &st), SW_OK);
    assert_int_equal(r.nfiles, 1);
    assert_int_equal(r.ranks, -1);
    sw_result_release(&r);
    assert_int_equal(r.ranks, -1);
    opt.size = sizeof opt;
    assert_int_equal(weld(&opt, NULL, &st), SW_EUSAGE);
}

/* What size 0 stands for is what version 0.2.0 was released with. Until then a new member belongs
 * to it: its name goes into SW_GROWN. From then on it does not, and this holds for the versions
 * 0.2.x alone. */
TEST(first_size)
{
    size_t end;

#define ROW(type, last)                                                                                      \
    end = offsetof(type, last) + sizeof((type *)0)->last;                                                    \
    if (strncmp(SW_VERSION, "0.2.", 4) == 0 && sizeof(type) - end >= _Alignof(type))                         \
        fail_msg(#type " has members behind " #last);
    SW_GROWN(ROW)
#undef ROW
}

/* The others stay as they are, for as long as the SONAME does: bytes on machines of 64 bits. Until
 * 0.2.0 is released a change is told here, and in CHANGELOG.md. */
TEST(fixed_size)
{
    static const struct {
        const char *name;
        size_t is, was;
    } fixed[] = {
#define FIXED(type, size) { #type, sizeof(type), size }
        FIXED(sw_status, 2120),    FIXED(sw_comm, 40),
        FIXED(sw_store, 48),       FIXED(sw_name_rule, 24),
        FIXED(sw_option, 48),      FIXED(sw_result_file, 24),
        FIXED(sw_item, 64),        FIXED(sw_finding, 56),
        FIXED(sw_tolerance, 16),   FIXED(sw_checkpoint_info, 80),
        FIXED(sw_file_info, 64),   FIXED(sw_tensor_info, 112),
        FIXED(sw_box_info, 800),   FIXED(sw_read, 64),
        FIXED(sw_read_shape, 280), FIXED(sw_note_info, 24),
#undef FIXED
    };

    for (size_t i = 0; sizeof(void *) == 8 && i < COUNT(fixed); i++)
        if (fixed[i].is != fixed[i].was)
            fail_msg("%s has %zu bytes, had %zu", fixed[i].name, fixed[i].is, fixed[i].was);
}

/* A struct of version 0.2 without a size, in the hands of a library that knows more of it. */
TEST(later)
{
    struct {
        sw_read_options first;
        uint64_t later;
    } given = { .first = { .threads = 7 }, .later = 8 }, own;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_grown_take(&own, sizeof own, &given, "sw_read_options", &st), SW_OK);
    assert_int_equal(own.first.size, sizeof own);
    assert_int_equal(own.first.threads, 7);
    assert_int_equal(own.later, 0);
    own.first.threads = 9;
    own.later = 10;
    sw_grown_give(&given, &own, sizeof own, "sw_read_options");
    assert_int_equal(given.first.size, 0);
    assert_int_equal(given.first.threads, 9);
    assert_int_equal(given.later, 8);
}

TEST_IN_TOP(no_size)
{
    sw_options opt = { .dry_run = true };
    sw_sharding sharding = { .mesh = "2" };
    sw_read_options reading = SW_READ_OPTIONS_INIT;
    sw_comm self = sw_comm_self();
    sw_checkpoint *cp;
    sw_verification v;
    sw_result r;
    sw_status st;
    char out[64];

    snprintf(out, sizeof out, "%s/out", top);
    assert_int_equal(weld(&opt, NULL, &st), SW_OK); /* 0: that of version 0.2 */
    opt.size = 3;
    assert_int_equal(weld(&opt, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "SW_..._INIT"));
    opt.size = sizeof opt;
    memset(&r, 0xa5, sizeof r);
    assert_int_equal(weld(&opt, &r, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "the size that sw_result begins with is none"));
    memset(&v, 0xa5, sizeof v);
    assert_int_equal(sw_verify(&self, IN, out, NULL, &v, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "sw_verification"));
    sharding.size = 1;
    assert_int_equal(sw_reshard(&self, IN, out, &sharding, &opt, NULL, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "sw_sharding"));
    assert_int_equal(sw_checkpoint_open(&self, IN, NULL, &cp, &st), SW_OK);
    reading.size = 70000;
    assert_int_equal(sw_checkpoint_read(cp, NULL, 0, &reading, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "sw_read_options"));
    sw_checkpoint_free(cp);
}
