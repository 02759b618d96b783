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

/* Lists are words with blanks between them. asked: i:GLOB and x:GLOB to include and exclude,
 * s:PREFIX to strip, r:FROM>TO to rename. Names are sorted by bytes, as in a catalogue; '' = the
 * empty one; in out "-" = left out; of an error the tensor that it names. says: of the error, or
 * all warnings; NULL = any. */
static const struct {
    const char *what, *in, *asked, *out;
    sw_code want;
    const char *says;
} cases[] = {
    { "nothing is asked for", "a b.c", "", "a b.c", SW_OK, "" },
    { "no tensors", "", "i:x x:y s:z", "", SW_OK, "" },
    { "include", "a b c", "i:[ab]", "a b -", SW_OK, "" },
    { "a star matches dots and slashes", ".a.b a.b.c a/b", "i:*", ".a.b a.b.c a/b", SW_OK, "" },
    { "several includes", "a b c", "i:a i:c", "a - c", SW_OK, "" },
    { "includes that match the same", "a.x b.x", "i:a.* i:*.x i:*", "a.x b.x", SW_OK, "" },
    { "exclude", "a b c", "x:b", "a - c", SW_OK, "" },
    { "exclude wins", "a.x a.y b.x", "i:a.* x:*.y", "a.x - -", SW_OK, "" },
    { "a glob is for the whole name", "abc b", "i:b", "- b", SW_OK, "" },
    { "a backslash takes the meaning away", "a* ab", "i:a\\*", "a* -", SW_OK, "" },
    { "globs see the input's names", "m.a m.b", "i:m.a s:m.", "a -", SW_OK, "" },
    { "globs of no use are told", "a", "i:a i:b* x:c", "a", SW_OK,
      "sw_options.include 'b*' matches no tensor\nsw_options.exclude 'c' matches no tensor\n" },
    { "nothing is left", "a b", "i:c", "", SW_EUSAGE,
      "sw_options.include and sw_options.exclude leave none of 2 tensors" },
    { "everything is excluded", "a", "x:*", "", SW_EUSAGE, "leave none of 1" },
    { "strip", "a.x b.x", "s:a.", "x b.x", SW_OK, "" },
    { "strip once", "a.a.x", "s:a.", "a.x", SW_OK, "" },
    { "strip twice", "a.a.x", "s:a. s:a.", "x", SW_OK, "" },
    { "a prefix is bytes", "models.x mx", "s:model", "s.x mx", SW_OK, "" },
    { "rename", "a.x b.x", "r:a.>long.", "long.x b.x", SW_OK, "" },
    { "rename to nothing", "a.x", "r:a.>", "x", SW_OK, "" },
    { "rename from nothing", "'' x", "r:>model.", "model. model.x", SW_OK, "" },
    { "the whole name is a prefix of it", "a", "r:a>b", "b", SW_OK, "" },
    { "one after the other", "a.x b.y", "r:a.>b. r:b.>c.", "c.x c.y", SW_OK, "" },
    { "the other way round", "a.x b.y", "r:b.>c. r:a.>b.", "b.x c.y", SW_OK, "" },
    { "names can be exchanged", "a.x b.x", "r:a.>tmp. r:b.>a. r:tmp.>b.", "b.x a.x", SW_OK, "" },
    { "prefixes of no use are told", "a", "s:b r:c>d", "a", SW_OK,
      "SW_NAME_STRIP 'b' is the beginning of no tensor's name\n"
      "SW_NAME_RENAME 'c' is the beginning of no tensor's name\n" },
    { "what is left out counts for nothing", "a.x b.x", "i:a.* s:b.", "a.x -", SW_OK,
      "SW_NAME_STRIP 'b.' is the beginning of no tensor's name\n" },
    { "a collision with one that stays", "m.x x", "s:m.", "x", SW_EUSAGE,
      "SW_NAME_STRIP and SW_NAME_RENAME give this name to two tensors, 'm.x' and 'x'" },
    { "a collision of two that change", "a.x b.x c", "s:a. r:b.>", "", SW_EUSAGE,
      "two tensors, 'a.x' and 'b.x'" },
    { "no collision with one that is left out", "m.x x", "x:x s:m.", "x -", SW_OK, "" },
    { "nothing of the name", "a. a.x", "s:a.", "a.", SW_EUSAGE, "leave nothing of its name" },
    { "an empty name of the input stays", "'' a", "s:a.", "'' a", SW_OK, NULL },
    { "the name of the metadata", "x.__metadata__", "s:x.", "", SW_EUSAGE,
      "__metadata__, which no tensor can have" },
    { "a name that begins with it", "x.__metadata__y", "s:x.", "__metadata__y", SW_OK, "" },
    { "an empty prefix", "a", "s:", "", SW_EUSAGE, "SW_NAME_STRIP '': expected a prefix" },
    { "half a character", "\xc3\xa9", "s:\xc3", "", SW_EUSAGE, "found bytes that are not UTF-8" },
    { "half a character to put", "a", "r:a>\xc3", "", SW_EUSAGE,
      "SW_NAME_RENAME 'a': found bytes that are not UTF-8" },
    { "whole characters", "\xc3\xa9.x", "r:\xc3\xa9>\xc3\xa8", "\xc3\xa8.x", SW_OK, "" },
    { "a wrapper", "module.a module.b", "", "module.a module.b", SW_OK,
      "all names begin with 'module.', which models do not expect: SW_NAME_STRIP module. takes it off\n" },
    { "another one", "_orig_mod.a", "", "_orig_mod.a", SW_OK,
      "all names begin with '_orig_mod.', which models do not expect: SW_NAME_STRIP _orig_mod. takes it "
      "off\n" },
    { "a wrapper that is taken off", "module.a", "s:module.", "a", SW_OK, "" },
    { "one of two is taken off", "_orig_mod.module.a", "s:_orig_mod.", "module.a", SW_OK,
      "all names begin with 'module.', which models do not expect: SW_NAME_STRIP module. takes it off\n" },
    { "not all of those that are kept", "module.a n", "", "module.a n", SW_OK, "" },
};

/* What a case asks for, as lists. */
typedef struct lists {
    char text[3][256];
    const char *in[MOST + 1], *out[MOST + 1], *include[MOST + 1], *exclude[MOST + 1];
    sw_name_rule rules[MOST];
    size_t nrules;
} lists;

/* A list of the words of a text, which is changed; returns how many. */
static size_t split(char *text, const char **words)
{
    size_t n = 0;

    for (char *w = strtok(text, " "); w; w = strtok(NULL, " ")) {
        assert_true(n < MOST);
        words[n++] = strcmp(w, "''") == 0 ? "" : w;
    }
    words[n] = NULL;
    return n;
}

static void read_case(size_t i, lists *l)
{
    const char *asked[MOST + 1], **end[] = { l->include, l->exclude };
    size_t n;

    *l = (lists){ .nrules = 0 };
    strcpy(l->text[0], cases[i].in);
    strcpy(l->text[1], cases[i].asked);
    strcpy(l->text[2], cases[i].out);
    split(l->text[0], l->in);
    n = split(l->text[1], asked);
    split(l->text[2], l->out);
    for (size_t k = 0; k < n; k++) {
        const char *word = asked[k] + 2;
        char *mark = strchr(word, '>');

        if (asked[k][0] == 'i' || asked[k][0] == 'x') {
            *end[asked[k][0] == 'x']++ = word;
            continue;
        }
        l->rules[l->nrules++] = mark ? (sw_name_rule){ SW_NAME_RENAME, word, mark + 1 }
                                     : (sw_name_rule){ SW_NAME_STRIP, word, NULL };
        if (mark)
            *mark = '\0';
    }
}

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
        sw_status st = SW_STATUS_INIT;
        sw_buf warnings = SW_BUF_INIT;
        sw_tensor tensors[MOST];
        sw_name_options o;
        sw_catalog c;
        sw_naming n;
        lists l;

        read_case(i, &l);
        o = (sw_name_options){ l.include, l.exclude, l.rules, l.nrules };
        make(l.in, &c, tensors);
        if (sw_naming_build(&c, i ? &o : NULL, &warnings, &n, &st) != cases[i].want)
            fail_msg("%s: %d, %s", cases[i].what, (int)st.code, st.reason);
        if (st.code) {
            assert_null(n.names);
            assert_true(!*cases[i].out || strcmp(st.tensor, cases[i].out) == 0);
            if (!strstr(st.reason, cases[i].says))
                fail_msg("%s: '%s' does not say '%s'", cases[i].what, st.reason, cases[i].says);
        } else {
            check_names(&n, l.out, cases[i].what);
            assert_int_equal(sw_buf_add(&warnings, "", 1, &st), SW_OK);
            if (cases[i].says && strcmp(warnings.data, cases[i].says) != 0)
                fail_msg("%s: warns '%s'", cases[i].what, warnings.data);
        }
        sw_buf_release(&warnings);
        sw_naming_release(&n);
        sw_naming_release(&n);
    }
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
