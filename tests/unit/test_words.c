/* Words for shardings, and the catalogue of what is broken: every mistake is found, whoever
 * looked. */
#include "plan/words.h"
#include "plan_help.h"

#define B(f, ...)                                                                                            \
    {                                                                                                        \
        "t", f, SW_U8, __VA_ARGS__                                                                           \
    }

static const struct {
    size_t n;
    test_box boxes[8];
    const char *words;
} cases[] = {
    { 1, { B(0, 2, { 0, 0 }, { 4, 4 }) }, "whole" },
    { 1, { B(0, 0, { 0 }, { 0 }) }, "whole" },
    { 1, { B(0, 2, { 0, 0 }, { 0, 4 }) }, "empty" },
    { 2, { B(0, 1, { 0 }, { 4 }), B(1, 1, { 0 }, { 4 }) }, "replicated x2" },
    { 3, { B(0, 1, { 0 }, { 3 }), B(1, 1, { 3 }, { 3 }), B(2, 1, { 6 }, { 1 }) }, "rows over 3" },
    { 2, { B(0, 2, { 0, 0 }, { 4, 1 }), B(1, 2, { 0, 1 }, { 4, 3 }) }, "columns over 2" },
    { 2, { B(0, 3, { 0, 0, 0 }, { 2, 1, 2 }), B(1, 3, { 0, 1, 0 }, { 2, 1, 2 }) }, "dim 1 over 2" },
    { 4,
      { B(0, 2, { 0, 0 }, { 2, 1 }), B(1, 2, { 0, 1 }, { 2, 3 }), B(2, 2, { 2, 0 }, { 3, 1 }),
        B(3, 2, { 2, 1 }, { 3, 3 }) },
      "2x2 grid" },
    { 4,
      { B(0, 1, { 0 }, { 2 }), B(1, 1, { 2 }, { 2 }), B(2, 1, { 0 }, { 2 }), B(3, 1, { 2 }, { 2 }) },
      "rows replicated x2 over 2" },
    { 3,
      { B(0, 1, { 0 }, { 2 }), B(1, 1, { 2 }, { 2 }), B(2, 1, { 0 }, { 2 }) },
      "rows over 2, partly replicated" },
    { 2, { B(0, 1, { 0 }, { 2 }), B(1, 1, { 4 }, { 2 }) }, "rows over 3, 1 hole" },
    { 2, { B(0, 2, { 0, 0 }, { 1, 1 }), B(1, 2, { 1, 1 }, { 1, 1 }) }, "2x2 grid, 2 holes" },
    { 2, { B(0, 1, { 0 }, { 3 }), B(1, 1, { 2 }, { 3 }) }, "2 boxes, overlapping" },
    { 3,
      { B(0, 2, { 0, 0 }, { 1, 2 }), B(1, 2, { 1, 0 }, { 1, 1 }), B(2, 2, { 1, 1 }, { 1, 1 }) },
      "3 boxes" },
    { 2, { B(0, 2, { 0, 0 }, { 1, 2 }), B(1, 2, { 1, 1 }, { 1, 1 }) }, "2 boxes, with holes" },
};

TEST(words)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_findings findings = SW_FINDINGS_INIT;
        sw_status st = SW_STATUS_INIT;
        char text[SW_SHARDING_TEXT];
        sw_catalog c;

        assert_int_equal(test_catalog_with(cases[i].boxes, cases[i].n, 8, 2, &c, &findings, &st), SW_OK);
        assert_int_equal(sw_sharding_words(&c, &c.tensors[0], text, &st), SW_OK);
        assert_string_equal(text, cases[i].words);
        sw_catalog_release(&c);
        sw_findings_release(&findings);
    }
}

TEST(a_part_is_not_missed)
{
    const test_box box = B(0, 2, { 4, 0 }, { 2, 3 });
    sw_status st = SW_STATUS_INIT;
    char text[SW_SHARDING_TEXT];
    sw_catalog c;

    assert_int_equal(test_catalog(&box, 1, 1, 1, &c, &st), SW_EINPUT);
    sw_status_clear(&st);
    c.part = true;
    assert_int_equal(sw_catalog_check(&c, NULL, &st), SW_OK);
    assert_int_equal(sw_sharding_words(&c, &c.tensors[0], text, &st), SW_OK);
    assert_string_equal(text, "box at [4, 0]");
    sw_catalog_release(&c);
}

/* One healthy tensor, and one of each mistake. */
static const test_box broken[] = {
    { "gap", 0, SW_U8, 1, { 0 }, { 2 } },        { "gap", 1, SW_U8, 1, { 4 }, { 2 } },
    { "good", 0, SW_U8, 1, { 0 }, { 2 } },       { "good", 1, SW_U8, 1, { 2 }, { 2 } },
    { "kind", 0, SW_U8, 1, { 0 }, { 2 } },       { "kind", 1, SW_I8, 1, { 2 }, { 2 } },
    { "kind", 2, SW_I8, 1, { 4 }, { 2 } },       { "kind", 3, SW_U8, 1, { 6 }, { 2 } },
    { "overlap", 0, SW_U8, 1, { 0 }, { 3 } },    { "overlap", 3, SW_U8, 1, { 1 }, { 3 } },
    { "rank", 1, SW_U8, 2, { 0, 0 }, { 1, 1 } }, { "rank", 2, SW_U8, 1, { 0 }, { 2 } },
};

TEST(all_mistakes_are_found)
{
    /* by file: "", f1, f2, f3 */
    static const char *const tensors[] = { "gap", "kind", "rank", "overlap" };
    const size_t n = COUNT(broken);

    for (int ranks = 1; ranks <= 4; ranks++) {
        sw_findings findings = SW_FINDINGS_INIT;
        sw_status st = SW_STATUS_INIT;
        sw_catalog c;

        assert_int_equal(test_catalog_with(broken, n, 4, ranks, &c, &findings, &st), SW_OK);
        sw_findings_sort(&findings);
        assert_int_equal(findings.n, 4);
        for (size_t i = 0; i < 4; i++) {
            assert_string_equal(findings.items[i].tensor, tensors[i]);
            assert_true(findings.items[i].hint[0] != '\0');
        }
        assert_string_equal(findings.items[1].file, "f1");
        for (uint32_t i = 0; i < c.ntensors; i++)
            assert_int_equal(c.tensors[i].broken, strcmp(c.tensors[i].name, "good") != 0);
        assert_true(sw_catalog_find_tensor(&c, "gap")->holes);
        assert_true(sw_catalog_find_tensor(&c, "overlap")->overlaps);
        assert_int_equal(sw_catalog_find_tensor(&c, "kind")->nboxes, 4);
        assert_int_equal(sw_catalog_find_tensor(&c, "rank")->nboxes, 1);
        sw_catalog_release(&c);
        sw_findings_release(&findings);
    }
}

TEST(cuts_are_sorted_and_each_once)
{
    static const test_box boxes[] = { B(0, 2, { 4, 0 }, { 2, 3 }), B(1, 2, { 0, 0 }, { 4, 2 }),
                                      B(2, 2, { 0, 2 }, { 4, 1 }) };
    static const uint64_t rows[] = { 0, 4, 6 }, columns[] = { 0, 2, 3 };
    sw_status st = SW_STATUS_INIT;
    uint64_t cuts[2 * 3 + 2];
    sw_catalog c;

    assert_int_equal(test_catalog(boxes, 3, 3, 1, &c, &st), SW_OK);
    assert_int_equal(sw_sharding_cuts(&c, &c.tensors[0], 0, cuts), 3);
    assert_memory_equal(cuts, rows, sizeof rows);
    assert_int_equal(sw_sharding_cuts(&c, &c.tensors[0], 1, cuts), 3);
    assert_memory_equal(cuts, columns, sizeof columns);
    sw_catalog_release(&c);
}
