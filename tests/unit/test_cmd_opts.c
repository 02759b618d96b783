/* The command line: what is taken, what is refused and in which words, and the help that comes of
 * the same table. */
#include "cmd/opts.h"
#include "unit.h"

#define WORDS_MAX 48

/* A line of words between spaces; "''" is an empty one. */
typedef struct line {
    char text[512];
    char *argv[WORDS_MAX + 1];
    int argc;
    sw_args args;
    sw_status st;
} line;

static void parse_with(line *l, const sw_command *commands, const char *text)
{
    static char program[] = "shardweld", empty[] = "";
    char *rest = l->text, *word;

    memset(l, 0, sizeof *l);
    snprintf(l->text, sizeof l->text, "%s", text);
    l->argv[l->argc++] = program;
    while ((word = strtok_r(rest, " ", &rest)) != NULL && l->argc < WORDS_MAX)
        l->argv[l->argc++] = strcmp(word, "''") == 0 ? empty : word;
    sw_args_parse(l->argc, l->argv, commands, &l->args, &l->st);
}

static void parse(line *l, const char *text)
{
    parse_with(l, sw_commands, text);
}

TEST(times)
{
    static const struct {
        const char *text;
        uint64_t seconds;
    } cases[] = { { "0", 0 }, { "90", 90 }, { "90s", 90 }, { "15m", 900 }, { "2h", 7200 } };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        line l;

        snprintf(text, sizeof text, "verify --timeout %s in out", cases[i].text);
        parse(&l, text);
        assert_int_equal(l.st.code, SW_OK);
        assert_int_equal(l.args.timeout, cases[i].seconds);
        sw_args_release(&l.args);
    }
}

TEST(refused)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        { "", "no command is given" },
        { "weld in out", "'weld' is not a command; see" },
        { "consolidates in out", "'consolidates' is not a command; did you mean 'consolidate'?; see" },
        { "help verfiy", "'verfiy' is not a command; did you mean 'verify'?; see" },
        { "consolidate --overwirte in out",
          "unknown option '--overwirte'; did you mean '--overwrite'?; see" },
        { "consolidate --max-shrad-size=5G in out",
          "'--max-shrad-size=5G'; did you mean '--max-shard-size'?" },
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
        { "consolidate --verify=1 in out", "option '--verify' takes no value" },
        { "consolidate --s in out", "option '--s' may be '--single-file' or '--strip-prefix'" },
        { "consolidate --cast-dtype '' in out", "--cast-dtype '': expected T" },
        { "consolidate in out --include", "option '--include' needs a value: GLOB" },
        { "consolidate --strip-prefix '' in out", "--strip-prefix '': expected P" },
        { "consolidate in out --strip-prefix", "option '--strip-prefix' needs a value: P" },
        { "consolidate --rename a in out", "--rename 'a': expected FROM=TO" },
        { "consolidate --rename '' in out", "--rename '': expected FROM=TO" },
        { "consolidate --rename a=b --rename c in out", "--rename 'c': expected FROM=TO" },
        { "consolidate in out --like", "option '--like' needs a value: INDEX" },
        { "consolidate in out --overwrite=yes", "option '--overwrite' takes no value" },
        { "consolidate --like '' in out", "--like '': expected INDEX" },
        { "consolidate --like a --single-file in out", "options '--like' and '--single-file' exclude" },
        { "consolidate --max-shard-size 1GB --fqn-map m in out", "exclude one another" },
        { "consolidate --like a --like b --single-file in out",
          "options '--like' and '--single-file' exclude" },
        { "consolidate --version=1 in out", "option '--version' takes no value" },
        { "consolidate --max-shard-size x --max-shard-size 1GB in out", "--max-shard-size 'x': expected" },
        { "consolidate --sync --no-sync in out", "options '--sync' and '--no-sync' exclude" },
        { "consolidate -q -v in out", "options '--quiet' and '--verbose' exclude" },
        { "consolidate --buffer-size x in out", "--buffer-size 'x': expected a size such as" },
        { "consolidate --buffer-size 4095 in out", "--buffer-size '4095': expected at least 4096" },
        { "consolidate --max-shard-size 0 in out", "--max-shard-size '0': expected at least 1" },
        { "consolidate --expect-shards 0 in out", "--expect-shards '0': expected at least 1" },
        { "consolidate --expect-shards -1 in out", "--expect-shards '-1': expected a whole number" },
        { "verify --timeout 5x in out", "--timeout '5x': expected a time such as 90s, 15m or 2h" },
        { "inspect --timeout -1 in", "--timeout '-1': expected a time" },
        { "reshard --ranks 2 --timeout 1000000h in out", "--timeout '1000000h': expected a time" },
        { "consolidate --timeout m in out", "--timeout 'm': expected a time" },
        { "consolidate --expect-shards 4x in out", "--expect-shards '4x': expected a whole number" },
        { "consolidate --expect-shards 99999999999999999999 in out", "expected a whole number" },
        { "consolidate --assign rank in out", "--assign 'rank': expected one of auto, band, owner" },
        { "consolidate --progress maybe in out", "expected one of auto, always, never" },
        { "consolidate --hint novalue in out", "--hint 'novalue': expected KEY=VALUE" },
        { "consolidate --hint =x in out", "--hint '=x': expected KEY=VALUE" },
        { "reshard in", "OUTPUT_DIR is missing" },
        { "reshard --mesh 4 --ranks 4 in out", "options '--mesh' and '--ranks' exclude one another" },
        { "reshard --ranks 4 --mesh 4 in out", "options '--ranks' and '--mesh' exclude one another" },
        { "reshard in out", "--mesh or --ranks is missing; see 'shardweld reshard --help'" },
        { "reshard --mesh '' in out", "--mesh '': expected SIZES" },
        { "reshard --ranks 0 in out", "--ranks '0': expected at least 1" },
        { "reshard --ranks 2x2 in out", "--ranks '2x2': expected a whole number" },
        { "reshard --mesh 4 --placements '' in out", "--placements '': expected P1,P2" },
        { "reshard --mesh 4 --rule '' in out", "--rule '': expected GLOB=P1,P2" },
        { "reshard --mesh 4 --rule a in out", "--rule 'a': expected GLOB=P1,P2" },
        { "reshard --mesh 4 --rule =shard0 in out", "--rule '=shard0': expected GLOB=P1,P2" },
        { "reshard --mesh 4 --rule a=shard0 --rule b in out", "--rule 'b': expected GLOB=P1,P2" },
        { "reshard --mesh 4 --like a --single-file in out", "'--like' and '--single-file' exclude" },
        { "reshard --mesh 4 --sync --no-sync in out", "exclude one another" },
        { "reshard --mesh 4 --verify in out", "unknown option '--verify'" },
        { "reshard --mesh 4 --assets d in out", "unknown option '--assets'" },
        { "reshard --mesh 4 --diffusers in out", "unknown option '--diffusers'" },
        { "consolidate --mesh 4 in out", "unknown option '--mesh'" },
    };
    line l;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&l, cases[i].line);
        if (l.st.code != SW_EUSAGE || !strstr(l.st.reason, cases[i].says))
            fail_msg("%s: %d '%s'", cases[i].line, (int)l.st.code, l.st.reason);
        sw_args_release(&l.args);
    }
}

TEST(taken)
{
    line l;

    parse(
        &l,
        "consolidate in --buffer-size=1MiB -nv out --hint a=b --assign owner --hint c=d=e --expect-shards 8 "
        "--no-sync --max-shard 1.5GB --overwrite --node-local --no-config-check --progress never --report r");
    assert_int_equal(l.st.code, SW_OK);
    assert_int_equal(l.args.answer, SW_ANSWER_RUN);
    assert_string_equal(l.args.command->name, "consolidate");
    assert_string_equal(l.args.input, "in");
    assert_string_equal(l.args.output, "out");
    assert_true(l.args.opt.buffer_size == 1 << 20);
    assert_true(l.args.opt.max_shard_size == 1500000000);
    assert_true(l.args.opt.expect_shards == 8);
    assert_true(l.args.opt.dry_run && l.args.opt.no_sync && l.args.opt.overwrite && l.args.opt.node_local &&
                l.args.opt.no_config_check);
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

/* A flag twice says the same, of values the last one counts; in a set too. */
TEST(repeated)
{
    line l;

    parse(
        &l,
        "consolidate -n --dry-run --diffusers --diffusers --no-sync --no-sync -qq --cast-dtype bf16 "
        "--cast-dtype fp16 --buffer-size 1MiB --assign owner in --buffer-size 2MiB --assign band --report a "
        "--report b --max-shard-size 1GB --max-shard-size 2GB --include a --include a out");
    assert_int_equal(l.st.code, SW_OK);
    assert_true(l.args.opt.dry_run && l.args.opt.diffusers && l.args.opt.no_sync && l.args.quiet);
    assert_string_equal(l.args.opt.cast_dtype, "fp16");
    assert_int_equal(l.args.opt.buffer_size, 2 << 20);
    assert_int_equal(l.args.opt.assign, SW_ASSIGN_BAND);
    assert_string_equal(l.args.report, "b");
    assert_true(l.args.opt.max_shard_size == 2000000000);
    assert_string_equal(l.args.opt.include[1], "a");
    sw_args_release(&l.args);

    parse(&l, "reshard --mesh 4 --mesh 2x2 --placements shard0 --placements shard1,shard0 in out");
    assert_int_equal(l.st.code, SW_OK);
    assert_string_equal(l.args.sharding.mesh, "2x2");
    assert_string_equal(l.args.sharding.placements, "shard1,shard0");
    sw_args_release(&l.args);
}

TEST(reshard)
{
    line l;

    parse(&l, "reshard --rule a=b=shard0 --mesh 2x4 in --placements shard0,replicate -v out --rule *=shard1");
    assert_int_equal(l.st.code, SW_OK);
    assert_string_equal(l.args.command->name, "reshard");
    assert_string_equal(l.args.input, "in");
    assert_string_equal(l.args.output, "out");
    assert_string_equal(l.args.sharding.mesh, "2x4");
    assert_string_equal(l.args.sharding.placements, "shard0,replicate");
    assert_string_equal(l.args.sharding.rules[0], "a=b=shard0");
    assert_string_equal(l.args.sharding.rules[1], "*=shard1");
    assert_null(l.args.sharding.rules[2]);
    assert_int_equal(l.args.ranks, 0);
    sw_args_release(&l.args);
    assert_null(l.args.sharding.rules);

    parse(&l, "reshard --ranks 24 --max-shard-size 1GB --no-assets --overwrite -n in out");
    assert_int_equal(l.st.code, SW_OK);
    assert_int_equal(l.args.ranks, 24);
    assert_null(l.args.sharding.mesh);
    assert_null(l.args.sharding.placements);
    assert_null(l.args.sharding.rules);
    assert_true(l.args.opt.no_assets && l.args.opt.overwrite && l.args.opt.dry_run);
    sw_args_release(&l.args);
}

static void assert_rule(const sw_name_rule *rule, sw_name_kind kind, const char *from, const char *to)
{
    assert_int_equal(rule->kind, kind);
    assert_string_equal(rule->from, from);
    if (kind == SW_NAME_RENAME)
        assert_string_equal(rule->to, to);
}

/* Strips and renames are one list, in the order of the line; globs are two. */
TEST(names)
{
    line l;

    parse(&l,
          "consolidate --rename a.=b. --include x* in --strip-prefix=a=b. --rename =m. --exclude *bias out "
          "--rename c==d=e --strip-prefix a=b. --include '' --rename f=");
    assert_int_equal(l.st.code, SW_OK);
    assert_string_equal(l.args.input, "in");
    assert_string_equal(l.args.output, "out");
    assert_int_equal(l.args.opt.nname_rules, 6);
    assert_rule(&l.args.opt.name_rules[0], SW_NAME_RENAME, "a.", "b.");
    assert_rule(&l.args.opt.name_rules[1], SW_NAME_STRIP, "a=b.", NULL);
    assert_rule(&l.args.opt.name_rules[2], SW_NAME_RENAME, "", "m.");
    assert_rule(&l.args.opt.name_rules[3], SW_NAME_RENAME, "c", "=d=e");
    assert_rule(&l.args.opt.name_rules[4], SW_NAME_STRIP, "a=b.", NULL);
    assert_rule(&l.args.opt.name_rules[5], SW_NAME_RENAME, "f", "");
    assert_string_equal(l.args.opt.include[0], "x*");
    assert_string_equal(l.args.opt.include[1], "");
    assert_null(l.args.opt.include[2]);
    assert_string_equal(l.args.opt.exclude[0], "*bias");
    assert_null(l.args.opt.exclude[1]);
    sw_args_release(&l.args);
    assert_null(l.args.opt.name_rules);
    assert_int_equal(l.args.opt.nname_rules, 0);
    assert_null(l.args.opt.include);
    assert_null(l.args.opt.exclude);
    sw_args_release(&l.args);

    parse(&l, "consolidate in out");
    assert_int_equal(l.st.code, SW_OK);
    assert_int_equal(l.args.opt.nname_rules, 0);
    assert_null(l.args.opt.name_rules);
    assert_null(l.args.opt.include);
    sw_args_release(&l.args);

    parse(&l, "consolidate --cast-dtype none --dequantize bf16 --assets d --diffusers --verify in out");
    assert_int_equal(l.st.code, SW_OK);
    assert_string_equal(l.args.opt.cast_dtype, "none");
    assert_string_equal(l.args.opt.dequantize, "bf16");
    assert_string_equal(l.args.opt.assets, "d");
    assert_true(l.args.opt.diffusers && l.args.opt.verify);
    sw_args_release(&l.args);
}

/* Lists that were begun before an error are freed, and what came before it is kept. */
TEST(names_and_an_error)
{
    static const char *const lines[] = {
        "consolidate --strip-prefix a --include b --hint c=d --bogus in out",
        "consolidate --strip-prefix a --strip-prefix '' --include b in out",
        "consolidate --rename x --strip-prefix a --include b in out",
        "consolidate --strip-prefix a --include b in",
        "consolidate --strip-prefix a --include b --help",
    };
    line l;

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        parse(&l, lines[i]);
        assert_true(l.st.code == SW_EUSAGE || l.args.answer == SW_ANSWER_HELP);
        assert_int_equal(l.args.opt.nname_rules, 1);
        assert_rule(&l.args.opt.name_rules[0], SW_NAME_STRIP, "a", NULL);
        assert_string_equal(l.args.opt.include[0], "b");
        sw_args_release(&l.args);
    }
}

/* ---- a table of our own: commands with one operand and with two ------------------------------ */

static const sw_opt look_rows[] = {
    { .name = "tensor", .at = offsetof(sw_args, opt.include), .arg = "GLOB", .help = "only these" },
    { .name = "help", .letter = 'h', .kind = SW_OPT_HELP, .help = "print this" },
    { .name = NULL },
};

static const sw_section look_section = { "Options:", look_rows };
static const sw_section *const look_sections[] = { &look_section, NULL };

static const sw_command look_commands[] = {
    { .name = "look",
      .summary = "look at it",
      .about = "Look at PATH.",
      .operands = { "PATH", NULL },
      .sections = look_sections },
    { .name = "both",
      .summary = "look at both",
      .about = "Look at A and B.",
      .operands = { "A", "B" },
      .sections = look_sections },
    { .name = NULL },
};

TEST(operands)
{
    static const struct {
        const char *line;
        const char *input, *output; /* what is taken */
        const char *says;           /* else what is said */
    } cases[] = {
        { "look here", "here", NULL, NULL },
        { "look --tensor a here --tensor b", "here", NULL, NULL },
        { "look -- --here", "--here", NULL, NULL },
        { "both here there", "here", "there", NULL },
        { "look", NULL, NULL, "PATH is missing; see 'shardweld look --help'" },
        { "look ''", NULL, NULL, "PATH is empty" },
        { "look here there", NULL, NULL, "unexpected argument 'there' after PATH" },
        { "look --bogus here", NULL, NULL, "unknown option '--bogus'; see 'shardweld look --help'" },
        { "both", NULL, NULL, "A is missing" },
        { "both here", NULL, NULL, "B is missing" },
        { "both here there more", NULL, NULL, "unexpected argument 'more' after B" },
        { "consolidate in out", NULL, NULL, "'consolidate' is not a command" },
    };
    line l;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        print_message("%s\n", cases[i].line);
        parse_with(&l, look_commands, cases[i].line);
        assert_int_equal(l.st.code, cases[i].says ? SW_EUSAGE : SW_OK);
        if (cases[i].says)
            assert_non_null(strstr(l.st.reason, cases[i].says));
        else
            assert_string_equal(l.args.input, cases[i].input);
        if (cases[i].output)
            assert_string_equal(l.args.output, cases[i].output);
        else if (!cases[i].says)
            assert_null(l.args.output);
        sw_args_release(&l.args);
    }
}

TEST(operands_in_help)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

    assert_non_null(to);
    sw_help(to, look_commands, &look_commands[0]);
    sw_help(to, look_commands, &look_commands[1]);
    assert_int_equal(fclose(to), 0);
    assert_non_null(strstr(text, "usage: shardweld look [OPTIONS] PATH\n"));
    assert_non_null(strstr(text, "usage: shardweld both [OPTIONS] A B\n"));
    assert_non_null(strstr(text, "--tensor GLOB"));
    free(text);
}

/* Help is answered where it stands, unless something was wrong before it. */
TEST(answers)
{
    static const struct {
        const char *line;
        sw_answer answer;
        sw_code code;
    } cases[] = {
        { "--help", SW_ANSWER_HELP, SW_OK },
        { "-h", SW_ANSWER_HELP, SW_OK },
        { "--version", SW_ANSWER_VERSION, SW_OK },
        { "-V", SW_ANSWER_VERSION, SW_OK },
        { "help", SW_ANSWER_HELP, SW_OK },
        { "help help", SW_ANSWER_HELP, SW_OK },
        { "help reshard", SW_ANSWER_HELP, SW_OK },
        { "help nonsense", SW_ANSWER_RUN, SW_EUSAGE },
        { "--help verify", SW_ANSWER_HELP, SW_OK },
        { "", SW_ANSWER_HELP, SW_EUSAGE },
        { "consolidate -V", SW_ANSWER_VERSION, SW_OK },
        { "consolidate --help", SW_ANSWER_HELP, SW_OK },
        { "consolidate in -h", SW_ANSWER_HELP, SW_OK },
        { "consolidate --version", SW_ANSWER_VERSION, SW_OK },
        { "inspect p --version --json", SW_ANSWER_VERSION, SW_OK },
        { "verify --version --help", SW_ANSWER_VERSION, SW_OK },
        { "consolidate in out", SW_ANSWER_RUN, SW_OK },
        { "consolidate --bogus --help", SW_ANSWER_HELP, SW_EUSAGE },
    };
    line l;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&l, cases[i].line);
        if (l.args.answer != cases[i].answer || l.st.code != cases[i].code)
            fail_msg("%s: %d, %d '%s'", cases[i].line, (int)l.args.answer, (int)l.st.code, l.st.reason);
        sw_args_release(&l.args);
    }
}

/* A report can be written of an error that came before or after the option. */
TEST(report_survives_an_error)
{
    static const char *const lines[] = { "consolidate --bogus --report r in out",
                                         "consolidate --report r --assign x in out",
                                         "consolidate in --report r" };
    line l;

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        parse(&l, lines[i]);
        assert_int_equal(l.st.code, SW_EUSAGE);
        assert_string_equal(l.args.report, "r");
        sw_args_release(&l.args);
    }
}

TEST(no_control_characters)
{
    line l;

    parse(&l, "consolidate --x\033[31m\n in out");
    assert_int_equal(l.st.code, SW_EUSAGE);
    assert_null(strpbrk(l.st.reason, "\033\n"));
    sw_args_release(&l.args);
}

/* Every option stands in the help, and no line is wider than a terminal. */
TEST(help)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);

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
