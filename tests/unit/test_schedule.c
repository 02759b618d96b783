/* Groups, regions and bands: every byte of every file is written once, in rank order, by ranks of
 * one group. */
#include "plan/schedule.h"
#include "plan_help.h"

static void check_file(const sw_schedule *s, const sw_layout *l, uint32_t f, uint32_t nranks)
{
    uint64_t at = 0, rounds = sw_schedule_rounds(s, l, f);

    assert_true(rounds >= 1);
    for (uint32_t rank = 0; rank < nranks; rank++) {
        sw_region r = sw_schedule_region(s, l, f, rank);
        bool mine = rank >= s->groups[f].rank0 && rank < s->groups[f].rank0 + s->groups[f].nranks;

        if (!mine) {
            assert_int_equal(r.begin, r.end);
            continue;
        }
        assert_int_equal(r.begin, at);
        assert_true(r.begin % s->block == 0 || r.begin == l->files[f].size);
        for (uint64_t round = 0; round < rounds; round++) {
            sw_region b = sw_schedule_band(s, r, round);

            assert_int_equal(b.begin, at);
            assert_true(b.end - b.begin <= s->band);
            assert_true(b.begin == b.end || b.begin % s->unit == 0);
            at = b.end;
        }
        assert_int_equal(at, r.end);
    }
    assert_int_equal(at, l->files[f].size);
}

/* A cursor goes through all rounds of all files of its rank, each once, in order. */
static void check_way(const sw_schedule *s, const sw_layout *l, uint32_t rank)
{
    sw_cursor c = { 0 };

    for (uint32_t f = 0; f < l->nfiles; f++)
        for (uint64_t round = 0; sw_schedule_has(s, f, rank) && round < sw_schedule_rounds(s, l, f);
             round++) {
            assert_true(sw_cursor_next(s, l, rank, &c));
            assert_int_equal(c.file, f);
            assert_int_equal(c.round, round);
            assert_int_equal(c.mine.end, sw_schedule_region(s, l, f, rank).end);
        }
    for (int again = 0; again < 2; again++) {
        assert_false(sw_cursor_next(s, l, rank, &c));
        assert_int_equal(c.rounds, 0);
        assert_int_equal(c.mine.begin, c.mine.end);
    }
}

TEST(random_plans)
{
    sw_layout_file files[12];

    for (uint64_t seed = 1; seed <= 500; seed++) {
        uint64_t s = seed;
        sw_layout l = { .files = files, .nfiles = (uint32_t)test_random(&s, 13) };
        uint32_t nranks = 1 + (uint32_t)test_random(&s, 24), used[24] = { 0 };
        bool shared = test_random(&s, 4) == 0, whole = test_random(&s, 4) == 0;
        sw_status st = SW_STATUS_INIT;
        sw_schedule_rule rule;
        sw_schedule sched;

        for (uint32_t f = 0; f < l.nfiles; f++)
            files[f] = (sw_layout_file){ .size = 10 + test_random(&s, 2000000) };
        rule = (sw_schedule_rule){ nranks, 1500 + test_random(&s, 100000), 1 << (12 + test_random(&s, 6)),
                                   shared, whole };
        assert_int_equal(sw_schedule_build(&l, &rule, &sched, &st), SW_OK);
        for (uint32_t f = 0; f < l.nfiles; f++) {
            check_file(&sched, &l, f, nranks);
            assert_true(!whole || sched.groups[f].nranks == 1);
            for (uint32_t i = 0; i < sched.groups[f].nranks; i++)
                used[sched.groups[f].rank0 + i]++;
        }
        for (uint32_t r = 0; r < nranks; r++) {
            check_way(&sched, &l, r);
            if (shared && !whole)
                assert_int_equal(used[r], l.nfiles);
            else if (l.nfiles > 0 && l.nfiles <= nranks)
                assert_true(used[r] == 1 || (whole && used[r] == 0));
        }
        sw_schedule_release(&sched);
    }
}

TEST(groups)
{
    sw_layout_file three[] = { { .size = 100 << 20 }, { .size = 300 << 20 }, { .size = 20 << 20 } };
    sw_layout l = { .files = three, .nfiles = 3 };
    sw_status st = SW_STATUS_INIT;
    sw_schedule s;

    /* more ranks than files: in proportion */
    assert_int_equal(sw_schedule_build(&l, &(sw_schedule_rule){ 9, 4 << 20, 1 << 20, false, false }, &s, &st),
                     SW_OK);
    assert_int_equal(s.groups[0].nranks, 2);
    assert_int_equal(s.groups[1].nranks, 6);
    assert_int_equal(s.groups[2].nranks, 1);
    assert_int_equal(s.groups[1].rank0, 2);
    sw_schedule_release(&s);
    /* more files than ranks: the large one alone */
    assert_int_equal(sw_schedule_build(&l, &(sw_schedule_rule){ 2, 4 << 20, 1 << 20, false, false }, &s, &st),
                     SW_OK);
    assert_int_equal(s.groups[1].rank0, 0);
    assert_int_equal(s.groups[0].rank0, 1);
    assert_int_equal(s.groups[2].rank0, 1);
    sw_schedule_release(&s);
}

/* A petabyte in one file: regions stay countable in blocks. */
TEST(large)
{
    sw_layout_file one = { .size = UINT64_C(1) << 50 };
    sw_layout l = { .files = &one, .nfiles = 1 };
    sw_status st = SW_STATUS_INIT;
    sw_schedule s;

    assert_int_equal(sw_schedule_build(&l, &(sw_schedule_rule){ 7, 64 << 20, 4096, false, false }, &s, &st),
                     SW_OK);
    assert_true(one.size / s.block < INT32_MAX);
    for (uint32_t r = 0; r + 1 < 7; r++)
        assert_int_equal(sw_schedule_region(&s, &l, 0, r).end, sw_schedule_region(&s, &l, 0, r + 1).begin);
    assert_int_equal(sw_schedule_region(&s, &l, 0, 6).end, one.size);
    sw_schedule_release(&s);
}

typedef struct storm_case {
    sw_opens opens;
    bool storm;
} storm_case;

/* Few in all; many in a short time; many that have time; many of one node; jobs beyond
 * counting; files that are opened again. */
TEST(storm)
{
    static const storm_case cases[] = {
        { { 64, 512, 1, 1 << 20, 0 }, false },
        { { 64, 513, 1, 1 << 20, 0 }, true },
        { { 64, 513, 0, 1 << 20, 0 }, true },
        { { 1000, 1000, 16, UINT64_C(10) << 40, 0 }, false },
        { { 1000, 1000, 16, UINT64_C(1) << 40, 0 }, true },
        { { 1000, 1000, 1, UINT64_C(1) << 40, 0 }, true },
        { { 1000, 1000, 1, UINT64_C(2) << 40, 0 }, false },
        { { 1000, 2000, 2, UINT64_C(2) << 40, 0 }, true },
        { { UINT64_MAX, 2, 1, 1, 0 }, true },
        { { 2, 1000, 1, 1 << 20, 30768 }, false },
        { { 2, 1000, 1, 1 << 20, 30769 }, true },
        { { 2, 1000, 1, 1, UINT64_MAX }, true },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(sw_opens_storm(&cases[i].opens), cases[i].storm);
}

/* Boxes of a tensor that a rank finds open; rows; columns, of which each band takes all; beyond
 * counting. */
TEST(again)
{
    sw_tensor tensors[] = { { .nboxes = 512, .split_dims = 2, .bytes = 1000 },
                            { .nboxes = 513, .split_dims = 1, .bytes = 1000 },
                            { .nboxes = 1000, .split_dims = 2, .bytes = 99 },
                            { .nboxes = 1000, .split_dims = 2, .bytes = 250 } };
    sw_catalog c = { .tensors = tensors, .ntensors = 4, .nfiles = 513 };

    assert_int_equal(sw_opens_again(&c, 100), 513 + 1000 + 3000);
    tensors[3].nboxes = UINT64_MAX / 2;
    assert_int_equal(sw_opens_again(&c, 100), UINT64_MAX);
    c.nfiles = 512;
    assert_int_equal(sw_opens_again(&c, 100), 0);
}
