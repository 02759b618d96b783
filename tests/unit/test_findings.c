/* The list of findings: what is taken, what stays, the order, and the way over the wire. */
#include "base/findings.h"
#include "unit.h"

static void check_item(const sw_findings *f, size_t i, const char *file, const char *tensor,
                       const char *reason, const char *hint)
{
    assert_true(i < f->n);
    assert_string_equal(f->items[i].file, file);
    assert_string_equal(f->items[i].tensor, tensor);
    assert_string_equal(f->items[i].reason, reason);
    assert_string_equal(f->items[i].hint, hint);
}

TEST(added_texts_are_clean)
{
    sw_findings f = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_findings_add(&f, "a\nb", NULL, NULL, &st, "\x1b[2J"), SW_OK);
    assert_int_equal(sw_findings_add(&f, NULL, "w", "h", &st, "r"), SW_OK);
    check_item(&f, 0, "a?b", "", "?[2J", "");
    check_item(&f, 1, "", "w", "r", "h");
    sw_findings_release(&f);
    sw_findings_release(&f);
}

TEST(only_bad_input_is_taken)
{
    static const sw_code stays[] = { SW_EIO, SW_ENOMEM, SW_ECOMM, SW_EUSAGE, SW_EINTERNAL, SW_ECANCEL };
    sw_findings f = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_findings_take(&f, NULL, &st), SW_OK);
    assert_int_equal(f.n, 0);
    for (size_t i = 0; i < COUNT(stays); i++) {
        sw_status_clear(&st);
        sw_fail(&st, stays[i], "f", NULL, "x");
        assert_int_equal(sw_findings_take(&f, NULL, &st), stays[i]);
    }
    assert_int_equal(f.n, 0);
    sw_status_clear(&st);
    sw_fail(&st, SW_EINPUT, "f", "t", "bad %d", 7);
    assert_int_equal(sw_findings_take(NULL, NULL, &st), SW_EINPUT);
    assert_int_equal(sw_findings_take(&f, "cure", &st), SW_OK);
    assert_int_equal(st.code, SW_OK);
    assert_string_equal(st.reason, "");
    check_item(&f, 0, "f", "t", "bad 7", "cure");
    sw_findings_release(&f);
}

/* Sorted by file, tensor, reason; of two that say the same the one with a hint stays. */
static void fill(sw_findings *f)
{
    static const char *const items[][4] = {
        { "b", "x", "r", "" }, { "a", "y", "r", "" },     { "a", "x", "s", "" },
        { "a", "x", "r", "" }, { "a", "x", "r", "hint" }, { "a", "x", "r", "" },
    };
    sw_status st = SW_STATUS_INIT;

    for (size_t i = 0; i < COUNT(items); i++)
        assert_int_equal(sw_findings_add(f, items[i][0], items[i][1], items[i][3], &st, "%s", items[i][2]),
                         SW_OK);
}

static void check_sorted(const sw_findings *f)
{
    assert_int_equal(f->n, 4);
    check_item(f, 0, "a", "x", "r", "hint");
    check_item(f, 1, "a", "x", "s", "");
    check_item(f, 2, "a", "y", "r", "");
    check_item(f, 3, "b", "x", "r", "");
}

TEST(there_and_back)
{
    sw_findings f = SW_FINDINGS_INIT, g = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_buf bytes = SW_BUF_INIT;

    fill(&f);
    assert_int_equal(sw_findings_pack(&f, &bytes, &st), SW_OK);
    assert_int_equal(sw_findings_unpack(&g, bytes.data, bytes.len, &st), SW_OK);
    assert_int_equal(sw_findings_unpack(&g, bytes.data, bytes.len, &st), SW_OK);
    sw_findings_sort(&g);
    check_sorted(&g);
    assert_int_equal(sw_findings_unpack(&g, bytes.data, bytes.len - 3, &st), SW_EINTERNAL);
    sw_buf_release(&bytes);
    sw_findings_release(&g);
    sw_findings_release(&f);
}

TEST(as_lines)
{
    static const char want[] = "f: tensor 't': r\nf: r\ntensor 't': r\nr\n";
    static const char *const texts[][2] = { { "f", "t" }, { "f", NULL }, { NULL, "t" }, { NULL, NULL } };
    sw_findings f = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_buf lines = SW_BUF_INIT;

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(sw_findings_add(&f, texts[i][0], texts[i][1], "h", &st, "r"), SW_OK);
        assert_int_equal(sw_finding_add_line(&f.items[i], &lines, &st), SW_OK);
    }
    assert_int_equal(lines.len, sizeof want - 1);
    assert_memory_equal(lines.data, want, lines.len);
    sw_buf_release(&lines);
    sw_findings_release(&f);
}

/* The same of many tensors is told once, with a number; of a few, of what has no tensor, and of
 * other files it stays. */
TEST(equal_ones_are_joined)
{
    sw_findings f = SW_FINDINGS_INIT;
    sw_status st = SW_STATUS_INIT;
    char name[16];

    for (unsigned i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "t%02u", i);
        sw_findings_add(&f, "a", name, "h", &st, "same");
        sw_findings_add(&f, "a", name, "h", &st, "other %u", i);
        sw_findings_add(&f, i < 8 ? "b" : "c", name, NULL, &st, "same");
        sw_findings_add(&f, name, NULL, NULL, &st, "same");
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        sw_findings_sort(&f);
        assert_int_equal(sw_findings_join(&f, &st), SW_OK);
        assert_int_equal(f.n, 1 + 20 + 8 + 1 + 20);
        check_item(&f, 0, "a", "t00", "other 0", "h");
        check_item(&f, 1, "a", "t00", "same; so it is with 19 more tensors", "h");
        check_item(&f, 2, "a", "t01", "other 1", "h");
        check_item(&f, 21, "b", "t00", "same", "");
        check_item(&f, 29, "c", "t08", "same; so it is with 11 more tensors", "");
        check_item(&f, 30, "t00", "", "same", "");
    }
    sw_findings_release(&f);
    assert_int_equal(sw_findings_join(&f, &st), SW_OK);
}
