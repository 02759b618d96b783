/* Which tensors come along and under which names: globs, prefixes, collisions, and what is told of
 * them. */
#include "plan/naming.h"
#include "unit.h"

#define MOST 8

#define STRIP(p)                                                                                             \
    {                                                                                                        \
        SW_NAME_STRIP, p, NULL                                                                               \
    }
#define RENAME(from, to)                                                                                     \
    {                                                                                                        \
        SW_NAME_RENAME, from, to                                                                             \
    }

/* Names are sorted by bytes, as in a catalogue. out: "-" = left out. says: of the error, or all
 * warnings. */
static const struct {
    const char *what;
    const char *in[MOST], *include[MOST], *exclude[MOST];
    sw_name_rule rules[MOST];
    const char *out[MOST];
    sw_code want;
    const char *says;
} cases[] = {
    { "nothing is asked for", { "a", "b.c" }, { 0 }, { 0 }, { { 0 } }, { "a", "b.c" }, SW_OK, "" },
    { "no tensors", { 0 }, { "x" }, { "y" }, { STRIP("z") }, { 0 }, SW_OK, "" },

    { "include", { "a", "b", "c" }, { "[ab]" }, { 0 }, { { 0 } }, { "a", "b", "-" }, SW_OK, "" },
    { "a star matches dots and slashes",
      { ".a.b", "a.b.c", "a/b" },
      { "*" },
      { 0 },
      { { 0 } },
      { ".a.b", "a.b.c", "a/b" },
      SW_OK,
      "" },
    { "several includes", { "a", "b", "c" }, { "a", "c" }, { 0 }, { { 0 } }, { "a", "-", "c" }, SW_OK, "" },
    { "includes that match the same",
      { "a.x", "b.x" },
      { "a.*", "*.x", "*" },
      { 0 },
      { { 0 } },
      { "a.x", "b.x" },
      SW_OK,
      "" },
    { "exclude", { "a", "b", "c" }, { 0 }, { "b" }, { { 0 } }, { "a", "-", "c" }, SW_OK, "" },
    { "exclude wins",
      { "a.x", "a.y", "b.x" },
      { "a.*" },
      { "*.y" },
      { { 0 } },
      { "a.x", "-", "-" },
      SW_OK,
      "" },
    { "a glob is for the whole name", { "abc", "b" }, { "b" }, { 0 }, { { 0 } }, { "-", "b" }, SW_OK, "" },
    { "a backslash takes the meaning away",
      { "a*", "ab" },
      { "a\\*" },
      { 0 },
      { { 0 } },
      { "a*", "-" },
      SW_OK,
      "" },
    { "globs see the input's names",
      { "m.a", "m.b" },
      { "m.a" },
      { 0 },
      { STRIP("m.") },
      { "a", "-" },
      SW_OK,
      "" },
    { "globs of no use are told",
      { "a" },
      { "a", "b*" },
      { "c" },
      { { 0 } },
      { "a" },
      SW_OK,
      "--include 'b*' matches no tensor\n--exclude 'c' matches no tensor\n" },
    { "nothing is left",
      { "a", "b" },
      { "c" },
      { 0 },
      { { 0 } },
      { 0 },
      SW_EUSAGE,
      "--include and --exclude leave none of 2 tensors" },
    { "everything is excluded", { "a" }, { 0 }, { "*" }, { { 0 } }, { 0 }, SW_EUSAGE, "leave none of 1" },

    { "strip", { "a.x", "b.x" }, { 0 }, { 0 }, { STRIP("a.") }, { "x", "b.x" }, SW_OK, "" },
    { "strip once", { "a.a.x" }, { 0 }, { 0 }, { STRIP("a.") }, { "a.x" }, SW_OK, "" },
    { "strip twice", { "a.a.x" }, { 0 }, { 0 }, { STRIP("a."), STRIP("a.") }, { "x" }, SW_OK, "" },
    { "a prefix is bytes",
      { "models.x", "mx" },
      { 0 },
      { 0 },
      { STRIP("model") },
      { "s.x", "mx" },
      SW_OK,
      "" },
    { "rename", { "a.x", "b.x" }, { 0 }, { 0 }, { RENAME("a.", "long.") }, { "long.x", "b.x" }, SW_OK, "" },
    { "rename to nothing", { "a.x" }, { 0 }, { 0 }, { RENAME("a.", "") }, { "x" }, SW_OK, "" },
    { "rename from nothing",
      { "", "x" },
      { 0 },
      { 0 },
      { RENAME("", "model.") },
      { "model.", "model.x" },
      SW_OK,
      "" },
    { "the whole name is a prefix of it", { "a" }, { 0 }, { 0 }, { RENAME("a", "b") }, { "b" }, SW_OK, "" },
    { "one after the other",
      { "a.x", "b.y" },
      { 0 },
      { 0 },
      { RENAME("a.", "b."), RENAME("b.", "c.") },
      { "c.x", "c.y" },
      SW_OK,
      "" },
    { "the other way round",
      { "a.x", "b.y" },
      { 0 },
      { 0 },
      { RENAME("b.", "c."), RENAME("a.", "b.") },
      { "b.x", "c.y" },
      SW_OK,
      "" },
    { "names can be exchanged",
      { "a.x", "b.x" },
      { 0 },
      { 0 },
      { RENAME("a.", "tmp."), RENAME("b.", "a."), RENAME("tmp.", "b.") },
      { "b.x", "a.x" },
      SW_OK,
      "" },
    { "prefixes of no use are told",
      { "a" },
      { 0 },
      { 0 },
      { STRIP("b"), RENAME("c", "d") },
      { "a" },
      SW_OK,
      "--strip-prefix 'b' is the beginning of no tensor's name\n"
      "--rename 'c' is the beginning of no tensor's name\n" },
    { "what is left out counts for nothing",
      { "a.x", "b.x" },
      { "a.*" },
      { 0 },
      { STRIP("b.") },
      { "a.x", "-" },
      SW_OK,
      "--strip-prefix 'b.' is the beginning of no tensor's name\n" },

    { "a collision with one that stays",
      { "m.x", "x" },
      { 0 },
      { 0 },
      { STRIP("m.") },
      { 0 },
      SW_EUSAGE,
      "--strip-prefix and --rename give this name to two tensors, 'm.x' and 'x'" },
    { "a collision of two that change",
      { "a.x", "b.x", "c" },
      { 0 },
      { 0 },
      { STRIP("a."), RENAME("b.", "") },
      { 0 },
      SW_EUSAGE,
      "two tensors, 'a.x' and 'b.x'" },
    { "no collision with one that is left out",
      { "m.x", "x" },
      { 0 },
      { "x" },
      { STRIP("m.") },
      { "x", "-" },
      SW_OK,
      "" },
    { "nothing of the name",
      { "a.", "a.x" },
      { 0 },
      { 0 },
      { STRIP("a.") },
      { 0 },
      SW_EUSAGE,
      "leave nothing of its name" },
    { "an empty name of the input stays",
      { "", "a" },
      { 0 },
      { 0 },
      { STRIP("a.") },
      { "", "a" },
      SW_OK,
      NULL },
    { "the name of the metadata",
      { "x.__metadata__" },
      { 0 },
      { 0 },
      { STRIP("x.") },
      { 0 },
      SW_EUSAGE,
      "__metadata__, which no tensor can have" },
    { "a name that begins with it",
      { "x.__metadata__y" },
      { 0 },
      { 0 },
      { STRIP("x.") },
      { "__metadata__y" },
      SW_OK,
      "" },
    { "an empty prefix", { "a" }, { 0 }, { 0 }, { STRIP("") }, { 0 }, SW_EUSAGE, "--strip-prefix is empty" },
    { "half a character",
      { "\xc3\xa9" },
      { 0 },
      { 0 },
      { STRIP("\xc3") },
      { 0 },
      SW_EUSAGE,
      "found bytes that are not UTF-8" },
    { "half a character to put",
      { "a" },
      { 0 },
      { 0 },
      { RENAME("a", "\xc3") },
      { 0 },
      SW_EUSAGE,
      "--rename 'a': found bytes that are not UTF-8" },
    { "whole characters",
      { "\xc3\xa9.x" },
      { 0 },
      { 0 },
      { RENAME("\xc3\xa9", "\xc3\xa8") },
      { "\xc3\xa8.x" },
      SW_OK,
      "" },

    { "a wrapper",
      { "module.a", "module.b" },
      { 0 },
      { 0 },
      { { 0 } },
      { "module.a", "module.b" },
      SW_OK,
      "all names begin with 'module.', which models do not expect: --strip-prefix module. takes it off\n" },
    { "another one",
      { "_orig_mod.a" },
      { 0 },
      { 0 },
      { { 0 } },
      { "_orig_mod.a" },
      SW_OK,
      "all names begin with '_orig_mod.', which models do not expect: --strip-prefix _orig_mod. takes it "
      "off\n" },
    { "a wrapper that is taken off", { "module.a" }, { 0 }, { 0 }, { STRIP("module.") }, { "a" }, SW_OK, "" },
    { "one of two is taken off",
      { "_orig_mod.module.a" },
      { 0 },
      { 0 },
      { STRIP("_orig_mod.") },
      { "module.a" },
      SW_OK,
      "all names begin with 'module.', which models do not expect: --strip-prefix module. takes it off\n" },
    { "not all of those that are kept",
      { "module.a", "n" },
      { 0 },
      { 0 },
      { { 0 } },
      { "module.a", "n" },
      SW_OK,
      "" },
};

static void make(const char *const *names, sw_catalog *c, sw_tensor *tensors)
{
    *c = (sw_catalog){ .tensors = tensors };
    for (; c->ntensors < MOST && names[c->ntensors]; c->ntensors++)
        tensors[c->ntensors] = (sw_tensor){ .name = names[c->ntensors] };
}

static void check_names(const sw_naming *n, const char *const *want, const char *what)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n->n; i++) {
        const char *got = n->names[i] ? n->names[i] : "-";

        if (strcmp(got, want[i]) != 0)
            fail_msg("%s: '%s', expected '%s'", what, got, want[i]);
        kept += n->names[i] != NULL;
    }
    assert_int_equal(n->kept, kept);
}

TEST(table)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_name_options o = { cases[i].include, cases[i].exclude, cases[i].rules, 0 };
        sw_status st = SW_STATUS_INIT;
        sw_buf warnings = SW_BUF_INIT;
        sw_tensor tensors[MOST];
        sw_catalog c;
        sw_naming n;

        while (o.nrules < MOST && cases[i].rules[o.nrules].from)
            o.nrules++;
        make(cases[i].in, &c, tensors);
        if (sw_naming_build(&c, &o, &warnings, &n, &st) != cases[i].want)
            fail_msg("%s: %d, %s", cases[i].what, (int)st.code, st.reason);
        if (st.code) {
            assert_null(n.names);
            if (!strstr(st.reason, cases[i].says))
                fail_msg("%s: '%s' does not say '%s'", cases[i].what, st.reason, cases[i].says);
        } else {
            check_names(&n, cases[i].out, cases[i].what);
            assert_int_equal(sw_buf_add(&warnings, "", 1, &st), SW_OK);
            if (cases[i].says && strcmp(warnings.data, cases[i].says) != 0)
                fail_msg("%s: warns '%s'", cases[i].what, warnings.data);
        }
        sw_buf_release(&warnings);
        sw_naming_release(&n);
    }
}

/* The error names the tensor it is about. */
TEST(tensor)
{
    static const char *const names[MOST] = { "m.x", "x" };
    static const sw_name_rule strip[] = { STRIP("m.") }, all[] = { STRIP("m.x") };
    sw_status st = SW_STATUS_INIT;
    sw_buf warnings = SW_BUF_INIT;
    sw_tensor tensors[MOST];
    sw_catalog c;
    sw_naming n;

    make(names, &c, tensors);
    sw_naming_build(&c, &(sw_name_options){ .rules = strip, .nrules = 1 }, &warnings, &n, &st);
    assert_string_equal(st.tensor, "x");
    sw_status_clear(&st);
    sw_naming_build(&c, &(sw_name_options){ .rules = all, .nrules = 1 }, &warnings, &n, &st);
    assert_string_equal(st.tensor, "m.x");
    sw_buf_release(&warnings);
}

TEST(no_options)
{
    static const char *const names[MOST] = { "a", "b" };
    sw_status st = SW_STATUS_INIT;
    sw_buf warnings = SW_BUF_INIT;
    sw_tensor tensors[MOST];
    sw_catalog c;
    sw_naming n;

    make(names, &c, tensors);
    assert_int_equal(sw_naming_build(&c, NULL, &warnings, &n, &st), SW_OK);
    check_names(&n, names, "no options");
    sw_naming_release(&n);
    sw_naming_release(&n);
    sw_buf_release(&warnings);
}

TEST(wrapper)
{
    static const struct {
        const char *names[MOST], *prefix;
    } rows[] = {
        { { 0 }, "" },
        { { "a" }, "" },
        { { "module.a", "module.b" }, "module." },
        { { "_orig_mod.a", "_orig_mod.b" }, "_orig_mod." },
        { { "module.a", "_orig_mod.b" }, "" },
        { { "module.", "module.a" }, "" }, /* nothing would be left of one */
        { { "module" }, "" },
        { { "module._orig_mod.a", "module._orig_mod.b" }, "module._orig_mod." },
        { { "_orig_mod.module.a", "_orig_mod.module.b" }, "_orig_mod.module." },
        { { "module.module._orig_mod.a" }, "module.module._orig_mod." },
        { { "module._orig_mod.a", "module.b" }, "module." },
        { { "module.module.", "module.module.a" }, "module." },
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        char *names[2 * MOST + 1] = { NULL };
        sw_naming n = { .names = names, .n = 1 };
        const char *prefix = NULL;
        size_t len;

        /* Every other place is left out, the first too. */
        for (size_t k = 0; k < MOST && rows[i].names[k]; k++, n.n += 2)
            names[n.n] = strdup(rows[i].names[k]);
        len = sw_naming_wrapper(&n, &prefix);
        if (len != strlen(rows[i].prefix) || (len && strncmp(prefix, rows[i].prefix, len) != 0))
            fail_msg("row %zu: %zu bytes of '%s'", i, len, prefix ? prefix : "");
        assert_int_equal(sw_naming_wrapper(&n, NULL), len);
        for (uint32_t k = 0; k < n.n; k++)
            free(names[k]);
    }
}

/* Many names that end alike, two of which become one. */
TEST(many)
{
    enum { N = 200000 };
    static const sw_name_rule rules[] = { RENAME("a", ""), STRIP("layer.") };
    char(*names)[24] = calloc(N, sizeof *names);
    sw_tensor *tensors = calloc(N, sizeof *tensors);
    sw_catalog c = { .tensors = tensors, .ntensors = N };
    sw_name_options o = { .rules = rules, .nrules = 2 };
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_naming n;

    assert_true(names && tensors);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof *names, "layer.%06u.weight", i);
        tensors[i].name = names[i];
    }
    memcpy(names[0], "a", 2);
    memcpy(names[0] + 1, names[N / 2], strlen(names[N / 2]) + 1);
    assert_int_equal(sw_naming_build(&c, &o, &warnings, &n, &st), SW_EUSAGE);
    assert_non_null(strstr(st.reason, "'alayer.100000.weight' and 'layer.100000.weight'"));
    sw_status_clear(&st);
    names[0][8] = 'x';
    assert_int_equal(sw_naming_build(&c, &o, &warnings, &n, &st), SW_OK);
    assert_string_equal(n.names[0], "1x0000.weight");
    assert_string_equal(n.names[N - 1], "199999.weight");
    assert_int_equal(warnings.len, 0);
    sw_naming_release(&n);
    sw_buf_release(&warnings);
    free(tensors);
    free(names);
}
