/* The command line: what is taken, what is refused and in which words, and the help that comes of the same table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/opts.h"
#include "cmd/report.h"

#define WORDS_MAX 32

/* A line of words between spaces; "''" is an empty one. */
typedef struct line {
    char text[256];
    char *argv[WORDS_MAX + 1];
    int argc;
    sw_args args;
    sw_status st;
} line;

static void parse(line *l, const char *text)
{
    static char program[] = "shardweld", empty[] = "";
    char *rest = l->text, *word;

    memset(l, 0, sizeof *l);
    snprintf(l->text, sizeof l->text, "%s", text);
    l->argv[l->argc++] = program;
    while ((word = strtok_r(rest, " ", &rest)) != NULL && l->argc < WORDS_MAX)
        l->argv[l->argc++] = strcmp(word, "''") == 0 ? empty : word;
    sw_args_parse(l->argc, l->argv, sw_commands, &l->args, &l->st);
}

static void test_refused(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        { "", "no command is given; see 'shardweld --help'" },
        { "weld in out", "'weld' is not a command; see" },
        { "verify in out", "'verify' is not a command; see" },
        { "--bogus", "unknown option '--bogus' before the command" },
        { "-n consolidate", "unknown option '-n' before the command" },
        { "consolidate", "INPUT_DIR is missing" },
        { "consolidate in", "OUTPUT_DIR is missing" },
        { "consolidate in out more", "unexpected argument 'more' after OUTPUT_DIR" },
        { "consolidate '' out", "INPUT_DIR is empty" },
        { "consolidate in ''", "OUTPUT_DIR is empty" },
        { "consolidate --bogus in out", "unknown option '--bogus'; see 'shardweld consolidate --help'" },
        { "consolidate --bogus=1 in out", "unknown option '--bogus=1'" },
        { "consolidate -x in out", "unknown option '-x'" },
        { "consolidate -qx in out", "unknown option '-x'" },
        { "consolidate --verify in out", "unknown option '--verify'" },
        { "consolidate --cast-dtype bf16 in out", "unknown option '--cast-dtype'" },
        { "consolidate --s in out", "option '--s' may be '--single-file' or '--sync'" },
        { "consolidate in out --like", "option '--like' needs a value: INDEX" },
        { "consolidate in out --overwrite=yes", "option '--overwrite' takes no value" },
        { "consolidate --like '' in out", "--like '': expected INDEX" },
        { "consolidate -n --dry-run in out", "option '--dry-run' is given twice" },
        { "consolidate --report a --report b in out", "option '--report' is given twice" },
        { "consolidate --like a --single-file in out", "options '--like' and '--single-file' exclude" },
        { "consolidate --max-shard-size 1GB --fqn-map m in out", "exclude one another" },
        { "consolidate --sync --no-sync in out", "options '--sync' and '--no-sync' exclude" },
        { "consolidate -q -v in out", "options '--quiet' and '--verbose' exclude" },
        { "consolidate --buffer-size x in out", "--buffer-size 'x': expected a size such as" },
        { "consolidate --buffer-size 4095 in out", "--buffer-size '4095': expected at least 4096" },
        { "consolidate --max-shard-size 0 in out", "--max-shard-size '0': expected at least 1" },
        { "consolidate --expect-shards 0 in out", "--expect-shards '0': expected at least 1" },
        { "consolidate --expect-shards -1 in out", "--expect-shards '-1': expected a whole number" },
        { "consolidate --expect-shards 4x in out", "--expect-shards '4x': expected a whole number" },
        { "consolidate --expect-shards 99999999999999999999 in out", "expected a whole number" },
        { "consolidate --assign rank in out", "--assign 'rank': expected one of auto, band, owner" },
        { "consolidate --progress maybe in out", "expected one of auto, always, never" },
        { "consolidate --hint novalue in out", "--hint 'novalue': expected KEY=VALUE" },
        { "consolidate --hint =x in out", "--hint '=x': expected KEY=VALUE" },
    };
    line l;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&l, cases[i].line);
        if (l.st.code != SW_EUSAGE || !strstr(l.st.reason, cases[i].says))
            fail_msg("%s: %d '%s'", cases[i].line, (int)l.st.code, l.st.reason);
        sw_args_release(&l.args);
    }
}

static void test_taken(void **state)
{
    line l;

    (void)state;
    parse(
        &l,
        "consolidate in --buffer-size=1MiB -nv out --hint a=b --assign owner --hint c=d=e --expect-shards 8 "
        "--no-sync --max-shard 1.5GB --overwrite --node-local --progress never --report r");
    assert_int_equal(l.st.code, SW_OK);
    assert_int_equal(l.args.answer, SW_ANSWER_RUN);
    assert_string_equal(l.args.command->name, "consolidate");
    assert_string_equal(l.args.input, "in");
    assert_string_equal(l.args.output, "out");
    assert_true(l.args.opt.buffer_size == 1 << 20);
    assert_true(l.args.opt.max_shard_size == 1500000000);
    assert_true(l.args.opt.expect_shards == 8);
    assert_true(l.args.opt.dry_run && l.args.opt.no_sync && l.args.opt.overwrite && l.args.opt.node_local);
    assert_true(l.args.verbose && !l.args.quiet && !l.args.opt.single_file);
    assert_int_equal(l.args.opt.assign, SW_ASSIGN_OWNER);
    assert_int_equal(l.args.progress, SW_WHEN_NEVER);
    assert_string_equal(l.args.report, "r");
    assert_string_equal(l.args.opt.hints[0], "a=b");
    assert_string_equal(l.args.opt.hints[1], "c=d=e");
    assert_null(l.args.opt.hints[2]);
    sw_args_release(&l.args);

    parse(&l, "consolidate --sync -- --in -out");
    assert_int_equal(l.st.code, SW_OK);
    assert_string_equal(l.args.input, "--in");
    assert_string_equal(l.args.output, "-out");
    assert_false(l.args.opt.no_sync);
    assert_null(l.args.opt.hints);
    sw_args_release(&l.args);
}

/* Help is answered where it stands, unless something was wrong before it. */
static void test_answers(void **state)
{
    static const struct {
        const char *line;
        sw_answer answer;
        sw_code code;
    } cases[] = {
        { "--help", SW_ANSWER_HELP, SW_OK },
        { "-h", SW_ANSWER_HELP, SW_OK },
        { "--version", SW_ANSWER_VERSION, SW_OK },
        { "consolidate --help", SW_ANSWER_HELP, SW_OK },
        { "consolidate in -h", SW_ANSWER_HELP, SW_OK },
        { "consolidate in out", SW_ANSWER_RUN, SW_OK },
        { "consolidate --bogus --help", SW_ANSWER_HELP, SW_EUSAGE },
    };
    line l;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&l, cases[i].line);
        if (l.args.answer != cases[i].answer || l.st.code != cases[i].code)
            fail_msg("%s: %d, %d '%s'", cases[i].line, (int)l.args.answer, (int)l.st.code, l.st.reason);
        sw_args_release(&l.args);
    }
}

/* A report can be written of an error that came before or after the option. */
static void test_report_survives_an_error(void **state)
{
    static const char *const lines[] = { "consolidate --bogus --report r in out",
                                         "consolidate --report r --assign x in out",
                                         "consolidate in --report r" };
    line l;

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        parse(&l, lines[i]);
        assert_int_equal(l.st.code, SW_EUSAGE);
        assert_string_equal(l.args.report, "r");
        sw_args_release(&l.args);
    }
}

static void test_no_control_characters(void **state)
{
    line l;

    (void)state;
    parse(&l, "consolidate --x\033[31m\n in out");
    assert_int_equal(l.st.code, SW_EUSAGE);
    assert_null(strpbrk(l.st.reason, "\033\n"));
    sw_args_release(&l.args);
}

/* Every option stands in the help, and no line is wider than a terminal. */
static void test_help(void **state)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    (void)state;
    assert_non_null(to);
    sw_help(to, sw_commands, NULL);
    for (const sw_command *c = sw_commands; c->name; c++)
        sw_help(to, sw_commands, c);
    assert_int_equal(fclose(to), 0);
    for (const sw_command *c = sw_commands; c->name; c++) {
        assert_non_null(strstr(text, c->summary));
        for (const sw_section *const *s = c->sections; *s; s++)
            for (const sw_opt *row = (*s)->rows; row->name; row++)
                assert_non_null(strstr(text, row->name));
    }
    for (const char *at = text; *at; at += strcspn(at, "\n") + 1)
        if (strcspn(at, "\n") > 80)
            fail_msg("%.*s", (int)strcspn(at, "\n"), at);
    free(text);
}

/* What ranks compare: the library's options only, whatever their order on the line. */
static void test_options_text(void **state)
{
    line a, b;
    char *one, *two;

    (void)state;
    parse(&a, "consolidate --no-sync --buffer-size 1MiB in out --report r -q");
    parse(&b, "consolidate --buffer-size 1048576 other place --no-sync");
    one = sw_options_text(&a.args);
    two = sw_options_text(&b.args);
    assert_string_equal(one, two);
    free(two);
    b.args.opt.dry_run = true;
    two = sw_options_text(&b.args);
    assert_string_not_equal(one, two);
    free(one);
    free(two);
    sw_args_release(&a.args);
    sw_args_release(&b.args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_report_survives_an_error),
        cmocka_unit_test(test_no_control_characters),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_options_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
