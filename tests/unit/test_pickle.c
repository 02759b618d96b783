/* Pickles are data: what producers write is read, all else is refused with words, nothing is
 * run. */
#include "format/pickle.h"
#include "unit.h"

#define P "\x80\x02"

/* says: a part of the message. */
static const struct {
    const char *text;
    size_t len;
    const char *says;
} refused[] = {
#define BAD(text, says)                                                                                      \
    {                                                                                                        \
        text, sizeof text - 1, says                                                                          \
    }
    BAD("", "no protocol 2 to 5 at byte 0"),
    BAD("(I1\ntR.", "no protocol 2 to 5"),
    BAD("\x80\x01N.", "a protocol that is not 2 to 5 at byte 0"),
    BAD("\x80\x06N.", "a protocol that is not 2 to 5"),
    BAD(P, "cut off at byte 2"),
    BAD(P "N", "cut off at byte 3"),
    BAD(P "N.N", "1 bytes behind its end"),
    BAD(P "NN.", "values are left over"),
    BAD(P ".", "nothing on the stack"),
    BAD(P "(.", "nothing on the stack"),
    BAD(P "t.", "no mark on the stack"),
    BAD(P "N\x85\x85.\x85", "behind its end"),
    BAD(P "N\x86.", "nothing on the stack"),
    BAD(P "(N\x86.", "nothing on the stack"),
    BAD(P "X\xff\xff\xff\xff"
          "abc.",
        "cut off at byte 2"),
    BAD(P "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
          "abc.",
        "cut off at byte 2"),
    BAD(P "\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "cut off at byte 2"),
    BAD(P "ctorch\nSize", "cut off at byte 2"),
    BAD(P "K\x01K\x02\x93.", "a global without a name"),
    BAD(P "h\x00.", "a memo number that was never given"),
    BAD(P "Nr\xff\xff\xff\x7f.", "a memo number that is too large"),
    BAD(P "q\x00.", "nothing on the stack"),
    BAD(P "cos\nsystem\nU\x02idR.", "a call without a tuple"),
    BAD(P "}(K\x01u.", "a key without a value"),
    BAD(P "]K\x01K\x02s.", "items for what takes none"),
    BAD(P "}(K\x01K\x02"
          "e.",
        "items for what takes none"),
    BAD(P "K\x01K\x01K\x02s.", "items for what takes none"),
    BAD(P "u.", "no mark on the stack"),
    BAD(P "(u.", "nothing on the stack"),
    BAD(P "1.", "no mark on the stack"),
    BAD(P "0.", "nothing on the stack"),
    BAD(P "2.", "nothing on the stack"),
    BAD(P "K\x01"
          "b.",
        "nothing on the stack"),
    BAD(P "I1\n.", "opcode 0x49 at byte 2 is none that checkpoints are written with"),
    BAD(P "(ios\nsystem\n.", "opcode 0x69 at byte 3"),
    BAD(P "Pname\n.", "opcode 0x50"),
    BAD(P "\x82\x01.", "opcode 0x82"),
    BAD(P "\x97.", "opcode 0x97"),
};

TEST(what_is_refused)
{
    for (size_t i = 0; i < COUNT(refused); i++) {
        sw_status st = SW_STATUS_INIT;
        char message[2048];
        sw_pickle p;
        /* of its own, so that sanitizers see a byte behind it */
        char *text = malloc(refused[i].len + !refused[i].len);

        memcpy(text, refused[i].text, refused[i].len);
        assert_int_equal(sw_pickle_parse(text, refused[i].len, ".metadata", "w", &p, &st), SW_EINPUT);
        sw_status_message(&st, message, sizeof message);
        if (!strstr(message, refused[i].says))
            fail_msg("case %zu: %s", i, message);
        assert_non_null(strstr(message, ".metadata: tensor 'w': pickle: "));
        assert_null(p.words);
        free(text);
    }
}

static void parse(const char *text, size_t n, sw_pickle *p)
{
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_pickle_parse(text, n, "f", NULL, p, &st), SW_OK);
}
#define PARSE(text, p) parse(text, sizeof text - 1, p)

TEST(numbers_and_texts)
{
    static const char text[] =
        P "(K\xffM\x01\x02J\xff\xff\xff\xffJ\xff\xff\xff\x7f\x8a\x00\x8a\x05\x00\x00\x00\x00\x01"
          "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x07\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x08"
          "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x88\x8c\x02\xc3\xa4U\x01xC\x01yNG@\x08\x00\x00"
          "\x00\x00\x00\x00t.";
    static const struct {
        sw_kind kind;
        bool fits;
        uint64_t size;
    } want[] = { { SW_KIND_INT, true, 255 },
                 { SW_KIND_INT, true, 513 },
                 { SW_KIND_INT, false, 0 },
                 { SW_KIND_INT, true, INT32_MAX },
                 { SW_KIND_INT, true, 0 },
                 { SW_KIND_INT, true, UINT64_C(1) << 32 },
                 { SW_KIND_INT, true, (UINT64_C(1) << 59) - 1 },
                 { SW_KIND_HUGE, false, 0 },
                 { SW_KIND_HUGE, false, 0 },
                 { SW_KIND_BOOL, false, 0 },
                 { SW_KIND_TEXT, false, 0 },
                 { SW_KIND_TEXT, false, 0 },
                 { SW_KIND_BYTES, false, 0 },
                 { SW_KIND_NONE, false, 0 },
                 { SW_KIND_FLOAT, false, 0 } };
    sw_pickle p;
    sw_items items;
    sw_value v;
    uint64_t size;
    size_t len;

    PARSE(text, &p);
    assert_int_equal(sw_items_begin(&p, p.root, &items), COUNT(want));
    for (size_t i = 0; i < COUNT(want); i++) {
        assert_true(sw_items_next(&items, &v));
        assert_int_equal(sw_value_kind(&p, v), want[i].kind);
        assert_int_equal(sw_value_size(&p, v, &size), want[i].fits);
        if (want[i].fits)
            assert_int_equal(size, want[i].size);
    }
    assert_false(sw_items_next(&items, &v));
    assert_true(sw_value_item(&p, p.root, 10, &v) && sw_value_is_text(&p, v, "\xc3\xa4"));
    assert_true(sw_value_item(&p, p.root, 12, &v) && sw_value_text(&p, v, &len) && len == 1);
    assert_false(sw_value_item(&p, p.root, COUNT(want), &v));
    sw_pickle_release(&p);
}

/* Items come in several helpings, into an object too. */
TEST(containers_grow)
{
    char text[8192] = P "}", *end = text + 3;
    sw_pickle p;
    sw_items items;
    sw_value key, value;
    uint64_t n, sum = 0;

    for (int part = 0; part < 10; part++) {
        *end++ = '(';
        for (int i = 0; i < 20 * part; i++)
            end += snprintf(end, 8, "K%cK%c", 1 + i, 1 + part);
        *end++ = 'u';
    }
    *end++ = '.';
    parse(text, (size_t)(end - text), &p);
    n = sw_items_begin(&p, p.root, &items);
    assert_int_equal(n, 900);
    while (sw_items_next_pair(&items, &key, &value)) {
        assert_true(sw_value_size(&p, value, &n));
        sum += n;
    }
    assert_int_equal(sum, 20 * (1 * 2 + 2 * 3 + 3 * 4 + 4 * 5 + 5 * 6 + 6 * 7 + 7 * 8 + 8 * 9 + 9 * 10));
    sw_pickle_release(&p);
    PARSE(P "ccollections\nOrderedDict\n)R(U\x01"
            "aK\x01U\x01"
            "bK\x02uU\x01"
            "aK\x03s.",
          &p);
    assert_true(sw_value_is_a(&p, p.root, "collections", "OrderedDict"));
    /* the last one counts */
    assert_true(sw_value_member(&p, p.root, "a", &value) && sw_value_size(&p, value, &n) && n == 3);
    assert_false(sw_value_member(&p, p.root, "c", &value));
    sw_pickle_release(&p);
}

/* A call of anything is an object with a name, and nothing happens. A dict that holds itself
 * ends. */
TEST(nothing_is_called)
{
    sw_pickle p;
    sw_value v, args;
    sw_global g;

    PARSE("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch /tmp/pwn\x85R.", &p);
    assert_int_equal(sw_value_kind(&p, p.root), SW_KIND_OBJECT);
    assert_true(sw_value_is_a(&p, p.root, "posix", "system") && sw_value_is_a(&p, p.root, NULL, "system"));
    assert_false(sw_value_is_a(&p, p.root, "os", "system") || sw_value_is_a(&p, p.root, NULL, "syste"));
    args = sw_object_args(&p, p.root);
    assert_true(sw_value_item(&p, args, 0, &v) && sw_value_is_text(&p, v, "touch /tmp/pwn"));
    assert_int_equal(sw_value_kind(&p, sw_object_state(&p, p.root)), SW_KIND_NONE);
    sw_pickle_release(&p);

    PARSE(P "ctorch\nFloatStorage\nQ.", &p);
    assert_int_equal(sw_value_kind(&p, p.root), SW_KIND_PERSISTENT);
    assert_true(sw_value_global(&p, sw_object_args(&p, p.root), &g));
    assert_true(g.module_len == 5 && memcmp(g.name, "FloatStorage", g.name_len) == 0 && g.name_len == 12);
    sw_pickle_release(&p);

    PARSE(P "}q\x00(U\x01xh\x00u.", &p);
    assert_true(sw_value_member(&p, p.root, "x", &v) && v == p.root);
    sw_pickle_release(&p);

    PARSE(P "ctorch\nSize\n(K\x03K\x04t\x85R.", &p);
    assert_int_equal(sw_value_kind(&p, p.root), SW_KIND_TUPLE);
    sw_pickle_release(&p);

    PARSE(P "cm\nC\n)\x81}(U\x01xK\x07ub.", &p);
    assert_true(sw_value_member(&p, p.root, "x", &v));
    sw_pickle_release(&p);
}
