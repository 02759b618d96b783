/* The command line: what is taken, what is refused and in which words, and the help that comes of
 * the same table. */
#include <inttypes.h>

#include "base/buf.h"
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

/* One option that was given, in as many words. */
static void describe_option(const sw_args *a, const sw_opt *row, char *text, size_t size)
{
    const char *at = (const char *)a + row->at, *word, *const * list;
    uint64_t n;
    int choice;

    switch (row->kind) {
    case SW_OPTION_FLAG:
        if (*(const bool *)at)
            sw_text_addf(text, size, " %s", row->name);
        break;
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
    case SW_OPTION_PATH:
        memcpy(&word, at, sizeof word);
        if (word)
            sw_text_addf(text, size, " %s=%s", row->name, word);
        break;
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
    case SW_OPT_TIME:
        memcpy(&n, at, sizeof n);
        if (n)
            sw_text_addf(text, size, " %s=%" PRIu64, row->name, n);
        break;
    case SW_OPTION_CHOICE:
        memcpy(&choice, at, sizeof choice);
        if (choice)
            sw_text_addf(text, size, " %s=%s", row->name, row->words[choice]);
        break;
    case SW_OPTION_LIST:
    case SW_OPTION_PAIRS:
        memcpy(&list, at, sizeof list);
        for (; list && *list; list++)
            sw_text_addf(text, size, " %s=%s", row->name, *list);
        break;
    case SW_OPT_STRIP: /* strips and renames are one list, in the order of the line */
        for (size_t i = 0; i < a->opt.nname_rules; i++) {
            const sw_name_rule *r = &a->opt.name_rules[i];

            sw_text_addf(text, size, r->kind == SW_NAME_STRIP ? " -%s" : " %s>%s", r->from, r->to);
        }
        break;
    default:
        break;
    }
}

/* COMMAND INPUT OUTPUT, and all that is not as it is by itself, in the order of the table. */
static const char *describe(const sw_args *a)
{
    static char text[1024];
    sw_opt row;

    snprintf(text, sizeof text, "%s %s %s", a->command->name, a->input ? a->input : "?",
             a->output ? a->output : "?");
    for (size_t i = 0; sw_opt_get(a->command, i, &row); i++)
        describe_option(a, &row, text, sizeof text);
    return text;
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
        { "verify in", "OUTPUT_DIR is missing" },
        { "verify --overwrite in out", "unknown option '--overwrite'" },
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
        { "inspect", "PATH is missing; see 'shardweld inspect --help'" },
        { "inspect ''", "PATH is empty" },
        { "inspect here there", "unexpected argument 'there' after PATH" },
        { "inspect --bogus here", "unknown option '--bogus'; see 'shardweld inspect --help'" },
        { "consolidate --x\033[31m\n in out", "unknown option '--x" },
    };
    line l;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(&l, cases[i].line);
        if (l.st.code != SW_EUSAGE || !strstr(l.st.reason, cases[i].says))
            fail_msg("%s: %d '%s'", cases[i].line, (int)l.st.code, l.st.reason);
        assert_null(strpbrk(l.st.reason, "\033\n"));
        sw_args_release(&l.args);
    }
}

/* What is taken, also of lines with an error: what came before it is kept, and a report can be
 * written of it. A flag twice says the same, of values the last one counts. */
TEST(taken)
{
    static const struct {
        const char *line, *want;
        bool bad;
    } cases[] = {
        { "consolidate in out", "consolidate in out", false },
        { "consolidate in --buffer-size=1MiB -nv out --hint a=b --assign owner --hint c=d=e --expect-shards "
          "8 "
          "--no-sync --max-shard 1.5GB --overwrite --node-local --no-config-check --progress never --report "
          "r",
          "consolidate in out max-shard-size=1500000000 expect-shards=8 node-local no-config-check overwrite "
          "no-sync dry-run buffer-size=1048576 assign=owner hint=a=b hint=c=d=e report=r progress=never "
          "verbose",
          false },
        { "consolidate --sync -- --in -out", "consolidate --in -out", false },
        { "consolidate -n --dry-run --diffusers --diffusers --no-sync --no-sync -qq --cast-dtype bf16 "
          "--cast-dtype fp16 --buffer-size 1MiB --assign owner in --buffer-size 2MiB --assign band --report "
          "a "
          "--report b --max-shard-size 1GB --max-shard-size 2GB --include a --include a out",
          "consolidate in out max-shard-size=2000000000 diffusers include=a include=a cast-dtype=fp16 "
          "no-sync dry-run buffer-size=2097152 assign=band report=b quiet",
          false },
        { "consolidate --rename a.=b. --include x* in --strip-prefix=a=b. --rename =m. --exclude *bias out "
          "--rename c==d=e --strip-prefix a=b. --include '' --rename f=",
          "consolidate in out include=x* include= exclude=*bias a.>b. -a=b. >m. c>=d=e -a=b. f>", false },
        { "consolidate --cast-dtype none --dequantize bf16 --assets d --diffusers --verify in out",
          "consolidate in out diffusers assets=d cast-dtype=none dequantize=bf16 verify", false },
        { "reshard --mesh 4 --mesh 2x2 --placements shard0 --placements shard1,shard0 in out",
          "reshard in out mesh=2x2 placements=shard1,shard0", false },
        { "reshard --rule a=b=shard0 --mesh 2x4 in --placements shard0,replicate -v out --rule *=shard1",
          "reshard in out mesh=2x4 placements=shard0,replicate rule=a=b=shard0 rule=*=shard1 verbose",
          false },
        { "reshard --ranks 24 --max-shard-size 1GB --no-assets --overwrite -n in out",
          "reshard in out ranks=24 max-shard-size=1000000000 overwrite dry-run no-assets", false },
        { "verify --timeout 0 in out", "verify in out", false },
        { "verify --timeout 90 in out", "verify in out timeout=90", false },
        { "verify --timeout 90s in out", "verify in out timeout=90", false },
        { "verify --timeout 15m in out", "verify in out timeout=900", false },
        { "verify --timeout 2h in out", "verify in out timeout=7200", false },
        { "inspect --tensor a here --tensor b", "inspect here ? tensor=a tensor=b", false },
        { "inspect -- --here", "inspect --here ?", false },
        { "consolidate --strip-prefix a --include b --hint c=d --bogus in out",
          "consolidate in out include=b -a hint=c=d", true },
        { "consolidate --strip-prefix a --strip-prefix '' --include b in out",
          "consolidate in out include=b -a", true },
        { "consolidate --rename x --strip-prefix a --include b in out", "consolidate in out include=b -a",
          true },
        { "consolidate --strip-prefix a --include b in", "consolidate ? ? include=b -a", true },
        { "consolidate --strip-prefix a --include b --help", "consolidate ? ? include=b -a", false },
        { "consolidate --bogus --report r in out", "consolidate in out report=r", true },
        { "consolidate --report r --assign x in out", "consolidate in out report=r", true },
        { "consolidate in --report r", "consolidate ? ? report=r", true },
    };
    line l;

    for (size_t i = 0; i < COUNT(cases); i++) {
        parse(&l, cases[i].line);
        if (l.st.code != (cases[i].bad ? SW_EUSAGE : SW_OK) || strcmp(describe(&l.args), cases[i].want) != 0)
            fail_msg("%s: %d '%s'", cases[i].line, (int)l.st.code, describe(&l.args));
        sw_args_release(&l.args);
        assert_true(!l.args.opt.name_rules && !l.args.opt.include && !l.args.sharding.rules);
        sw_args_release(&l.args);
    }
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
    assert_non_null(strstr(text, "usage: shardweld consolidate [OPTIONS] INPUT_DIR OUTPUT_DIR\n"));
    assert_non_null(strstr(text, "usage: shardweld inspect [OPTIONS] PATH\n"));
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
