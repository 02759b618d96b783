/* The command line as a table; see opts.h. */
#include "opts.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "say.h"
#include "text.h"

#define ROWS_MAX 64
#define COMMANDS_MAX 32
/* What getopt_long returns for row i: above all letters. */
#define ROW_BASE 256

/* One parse: the rows of a command, flat, and what was seen so far. */
typedef struct parse {
    const sw_command *command;
    sw_args *args;
    sw_status *st;
    sw_opt rows[ROWS_MAX];
    struct option longs[ROWS_MAX + 1];
    char shorts[2 * ROWS_MAX + 2];
    bool seen[ROWS_MAX];
    size_t nrows;
    size_t nwords; /* of the command line: room for any list */
} parse;

static const char hint[] = "see 'shardweld --help'";

#define GUESS_TEXT 96

/* "; did you mean 'x'?", where one of n names is near; else "". before stands before the name. */
static const char *guess(const char *text, const char *before, const char *const *names, size_t n,
                         char said[GUESS_TEXT])
{
    const char *near = sw_text_nearest(text, names, n);

    snprintf(said, GUESS_TEXT, "%s%s%s%s", near ? "; did you mean '" : "", near ? before : "",
             near ? near : "", near ? "'?" : "");
    return said;
}

/* What the library knows of the member of sw_options that a row fills in. */
static void complete(sw_opt *row)
{
    const sw_option *o = NULL;

    for (size_t i = 0; !row->kind && (!o || offsetof(sw_args, opt) + o->at != row->at); i++) {
        o = sw_option_at(i);
        assert(o);
    }
    if (!o)
        return;
    row->kind = (int)o->kind;
    row->set = o->lays_out ? SW_SET_LAYOUT : row->set;
    row->least = o->least;
    row->words = o->words;
}

bool sw_opt_get(const sw_command *c, size_t i, sw_opt *row)
{
    for (const sw_section *const *s = c->sections; *s; s++) {
        for (const sw_opt *r = (*s)->rows; r->name; r++) {
            if (i-- > 0)
                continue;
            *row = *r;
            row->heading = r == (*s)->rows ? (*s)->heading : NULL;
            complete(row);
            return true;
        }
    }
    return false;
}

/* Rows to getopt's two tables. */
static void parse_init(parse *p, const sw_command *command, sw_args *args, sw_status *st)
{
    size_t nshort = 0;
    sw_opt *row;

    memset(p, 0, sizeof *p);
    p->command = command;
    p->args = args;
    p->st = st;
    p->shorts[nshort++] = ':'; /* tell a missing value from an unknown option */
    for (; sw_opt_get(command, p->nrows, row = &p->rows[p->nrows]); p->nrows++) {
        assert(p->nrows + 1 < ROWS_MAX && !(row->letter && row->arg));
        p->longs[p->nrows].name = row->name;
        p->longs[p->nrows].has_arg = row->arg ? required_argument : no_argument;
        p->longs[p->nrows].val = ROW_BASE + (int)p->nrows;
        if (row->letter)
            p->shorts[nshort++] = row->letter;
    }
}

/* The row of what getopt_long returned, or nrows. */
static size_t find_row(const parse *p, int c)
{
    if (c >= ROW_BASE)
        return (size_t)(c - ROW_BASE);
    for (size_t i = 0; i < p->nrows; i++)
        if (c && p->rows[i].letter == c)
            return i;
    return p->nrows;
}

static sw_code refuse(parse *p, const char *fmt, ...) SW_SAY_PRINTF(2, 3);

/* Wrong usage of a command, and where to read how it is used. */
static sw_code refuse(parse *p, const char *fmt, ...)
{
    char what[768];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return sw_refuse(p->st, SW_EUSAGE, NULL, "%s; see 'shardweld %s --help'", what, p->command->name);
}

/* A value that is none of what its option takes. */
static sw_code refuse_value(parse *p, const sw_opt *row, const char *value, const char *want)
{
    return refuse(p, "--%s '%s': expected %s", row->name, value, want);
}

/* 90, 90s, 15m, 2h; at most some 30 years. False: it is none of that. */
static bool parse_time(const char *text, uint64_t *seconds)
{
    static const struct {
        const char *unit;
        uint64_t seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 } };
    char *end;
    uint64_t n = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || n > 999999999)
        return false;
    for (size_t i = 0; i < SW_COUNT(units); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        *seconds = n * units[i].seconds;
        return *seconds <= 999999999;
    }
    return false;
}

/* "1e-3", absolute; "0.1%", relative. Of both kinds one may be given. */
static sw_code put_tolerance(parse *p, const sw_opt *row, const char *value, sw_tolerance *to)
{
    char *end;
    double n = strtod(value, &end);
    bool relative = *end == '%';

    if (strspn(value, "0123456789.") == 0 || !isfinite(n) || end[relative])
        return refuse_value(p, row, value, "a number such as 1e-3, or 0.1% of the larger value");
    *(relative ? &to->relative : &to->absolute) = relative ? n / 100 : n;
    return SW_OK;
}

/* Sizes, counts and times; not below the least that the row allows. */
static sw_code put_number(parse *p, const sw_opt *row, const char *value, void *to)
{
    uint64_t n = 0;
    char want[64];
    char *end;

    if (row->kind == SW_OPTION_SIZE) {
        sw_status why = SW_STATUS_INIT;

        if (sw_size_parse(value, &n, &why))
            return refuse_value(p, row, value, "a size such as 64MiB or 5GB");
    } else if (row->kind == SW_OPT_TIME) {
        if (!parse_time(value, &n))
            return refuse_value(p, row, value, "a time such as 90s, 15m or 2h");
    } else {
        n = strtoull(value, &end, 10);
        /* strtoull takes signs and spaces, and stops at the largest number there is. */
        if (value[0] < '0' || value[0] > '9' || *end || n == UINT64_MAX)
            return refuse_value(p, row, value, "a whole number");
    }
    snprintf(want, sizeof want, "at least %" PRIu64, row->least);
    if (n < row->least)
        return refuse_value(p, row, value, want);
    memcpy(to, &n, sizeof n);
    return SW_OK;
}

/* One of the words of a row, as its number. */
static sw_code put_choice(parse *p, const sw_opt *row, const char *value, void *to)
{
    char want[128] = "";

    for (int i = 0; row->words[i]; i++) {
        if (strcmp(value, row->words[i]) == 0) {
            memcpy(to, &i, sizeof i);
            return SW_OK;
        }
        snprintf(want + strlen(want), sizeof want - strlen(want), "%s%s", i ? ", " : "one of ",
                 row->words[i]);
    }
    return refuse_value(p, row, value, want);
}

/* One more of a list that grows in place. */
static sw_code append(parse *p, const char *value, void *to)
{
    const char **list;
    size_t n = 0;

    memcpy(&list, to, sizeof list);
    if (!list) {
        list = sw_room(p->nwords, sizeof *list, p->st);
        if (!list)
            return p->st->code;
        memcpy(to, &list, sizeof list);
    }
    while (list[n])
        n++;
    list[n] = value;
    return SW_OK;
}

/* Strips and renames share one list: they are done in the order in which they were given. */
static sw_code put_name_rule(parse *p, const sw_opt *row, char *value)
{
    bool rename = row->kind == SW_OPT_RENAME;
    char *end = rename ? strchr(value, '=') : value + strlen(value);
    sw_args *args = p->args;
    sw_name_rule *rules = args->name_rules;

    if (!end || (!rename && end == value))
        return refuse_value(p, row, value, row->arg);
    if (!rules && !(rules = sw_room(p->nwords, sizeof *rules, p->st)))
        return p->st->code;
    args->name_rules = rules;
    args->opt.name_rules = rules;
    rules += args->opt.nname_rules++;
    *rules = (sw_name_rule){ rename ? SW_NAME_RENAME : SW_NAME_STRIP, value, rename ? end + 1 : "" };
    *end = '\0';
    return SW_OK;
}

/* Convert a value, in its place if need be, and put it where the row says. */
static sw_code put_value(parse *p, const sw_opt *row, char *value)
{
    void *to = (char *)p->args + row->at;
    bool flag = row->kind == SW_OPTION_FLAG;

    switch (row->kind) {
    case SW_OPT_HELP:
        p->args->answer = SW_ANSWER_HELP;
        return SW_OK;
    case SW_OPT_VERSION:
        p->args->answer = SW_ANSWER_VERSION;
        return SW_OK;
    case SW_OPTION_FLAG:
    case SW_OPT_CLEAR:
        memcpy(to, &flag, sizeof flag);
        return SW_OK;
    case SW_OPTION_PATH:
        if (sw_local_path(value, value, p->st))
            return p->st->code;
        /* fall through */
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
        if (!value[0])
            return refuse_value(p, row, value, row->arg);
        memcpy(to, &value, sizeof value);
        return SW_OK;
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
    case SW_OPT_TIME:
        return put_number(p, row, value, to);
    case SW_OPTION_CHOICE:
        return put_choice(p, row, value, to);
    case SW_OPTION_LIST:
        return append(p, value, to);
    case SW_OPTION_PAIRS:
        /* KEY=VALUE; neither is looked at any further */
        return value[0] == '=' || !strchr(value, '=') ? refuse_value(p, row, value, row->arg)
                                                      : append(p, value, to);
    case SW_OPT_STRIP:
    case SW_OPT_RENAME:
        return put_name_rule(p, row, value);
    case SW_OPT_TOLERANCE:
        return put_tolerance(p, row, value, to);
    }
    return sw_refuse(p->st, SW_EINTERNAL, NULL, "option '--%s' has no type", row->name);
}

/* One of a set is enough. What is repeated is harmless: a list grows, and of values the last one
 * counts. */
static sw_code check_seen(parse *p, size_t i)
{
    const sw_opt *row = &p->rows[i];

    p->seen[i] = true;
    for (size_t k = 0; k < p->nrows; k++)
        if (k != i && p->seen[k] && row->set != SW_SET_NONE && p->rows[k].set == row->set)
            return refuse(p, "options '--%s' and '--%s' exclude one another", p->rows[k].name, row->name);
    return SW_OK;
}

/* getopt_long did not like a word: say why. */
static sw_code refuse_option(parse *p, int c, int opt, const char *word)
{
    size_t i = find_row(p, opt);
    size_t len = word && word[0] == '-' && word[1] == '-' ? strcspn(word + 2, "=") : 0;
    const char *one = NULL, *names[ROWS_MAX];
    char text[64], said[GUESS_TEXT];

    if (c == ':' && i < p->nrows)
        return refuse(p, "option '--%s' needs a value: %s", p->rows[i].name, p->rows[i].arg);
    if (opt >= ROW_BASE)
        return refuse(p, "option '--%s' takes no value", p->rows[i].name);
    if (opt)
        return refuse(p, "unknown option '-%c'", opt);
    for (i = 0; i < p->nrows; i++) {
        if (len == 0 || strncmp(p->rows[i].name, word + 2, len) != 0)
            continue;
        if (one)
            return refuse(p, "option '%s' may be '--%s' or '--%s'", word, one, p->rows[i].name);
        one = p->rows[i].name;
    }
    for (i = 0; i < p->nrows; i++)
        names[i] = p->rows[i].name;
    snprintf(text, sizeof text, "%.*s", (int)len, len ? word + 2 : "");
    return refuse(p, "unknown option '%s'%s", word ? word : "", guess(text, "--", names, p->nrows, said));
}

/* What is left when all options are taken: as many as the command wants. */
static sw_code take_operands(parse *p, int n, char **words)
{
    const char *const *names = p->command->operands;
    int want = names[1] ? 2 : 1;

    if (n > want)
        return refuse(p, "unexpected argument '%s' after %s", words[want], names[want - 1]);
    if (n < want)
        return refuse(p, "%s is missing", names[n]);
    for (int i = 0; i < n; i++) {
        if (!words[i][0])
            return refuse(p, "%s is empty", names[i]);
        if (sw_local_path(words[i], words[i], p->st))
            return p->st->code;
    }
    p->args->input = words[0];
    p->args->output = want == 2 ? words[1] : NULL;
    return SW_OK;
}

/* Of the mesh's options, where the command has them, one is needed. */
static sw_code check_mesh(parse *p)
{
    const char *first = NULL, *last = NULL;

    for (size_t i = 0; i < p->nrows; i++) {
        if (p->rows[i].set != SW_SET_MESH)
            continue;
        if (p->seen[i])
            return SW_OK;
        first = first ? first : p->rows[i].name;
        last = p->rows[i].name;
    }
    return first ? refuse(p, "--%s or --%s is missing", first, last) : SW_OK;
}

/* argv[0] is the command. */
static sw_code parse_command(parse *p, int argc, char **argv)
{
    int c;

    p->nwords = (size_t)argc;
    opterr = 0;
    optind = 0; /* glibc and musl: begin anew, whatever was parsed before */
    while ((c = getopt_long(argc, argv, p->shorts, p->longs, NULL)) != -1) {
        size_t i = find_row(p, c);

        if (c == '?' || c == ':')
            refuse_option(p, c, optopt, optind > 0 && optind <= argc ? argv[optind - 1] : NULL);
        else if (i < p->nrows && put_value(p, &p->rows[i], optarg) == SW_OK)
            check_seen(p, i);
        if (p->args->answer != SW_ANSWER_RUN)
            return p->st->code;
    }
    return take_operands(p, argc - optind, argv + optind) ? p->st->code : check_mesh(p);
}

/* The command of this name; NULL = st says that there is none. */
static const sw_command *find_command(const char *name, const sw_command *commands, sw_status *st)
{
    const char *names[COMMANDS_MAX];
    char said[GUESS_TEXT];
    size_t n = 0;

    for (const sw_command *c = commands; c->name; c++) {
        if (strcmp(name, c->name) == 0)
            return c;
        assert(n < COMMANDS_MAX);
        names[n++] = c->name;
    }
    sw_refuse(st, SW_EUSAGE, NULL, "'%s' is not a command%s; %s", name, guess(name, "", names, n, said),
              hint);
    return NULL;
}

/* What stands in the place of a command and is none; false = a command should be there. */
static bool parse_question(int argc, char **argv, const sw_command *commands, sw_args *args, sw_status *st)
{
    const char *word = argc > 1 ? argv[1] : "help";

    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        args->answer = SW_ANSWER_VERSION;
    else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        args->answer = SW_ANSWER_HELP;
    else if (word[0] == '-')
        sw_refuse(st, SW_EUSAGE, NULL, "unknown option '%s' before the command; %s", word, hint);
    else
        return false;
    if (argc < 2)
        sw_refuse(st, SW_EUSAGE, NULL, "no command is given");
    else if (argc > 2 && args->answer == SW_ANSWER_HELP && argv[2][0] != '-' &&
             strcmp(argv[2], "help") != 0 && !(args->command = find_command(argv[2], commands, st)))
        args->answer = SW_ANSWER_RUN;
    return true;
}

sw_code sw_args_parse(int argc, char **argv, const sw_command *commands, sw_args *args, sw_status *st)
{
    parse p;

    if (parse_question(argc, argv, commands, args, st) ||
        !(args->command = find_command(argv[1], commands, st)))
        return st->code;
    parse_init(&p, args->command, args, st);
    parse_command(&p, argc - 1, argv + 1);
    /* A report that would stand where a checkpoint's file does is a slip of the hand that costs a
     * shard. */
    if (args->report && sw_file_is_taboo(args->report)) {
        sw_refuse(st, SW_EUSAGE, args->report, "a report must not have the name of a checkpoint's file");
        args->report = NULL;
    }
    return st->code;
}

void sw_args_release(sw_args *args)
{
    sw_opt row;

    for (size_t i = 0; args->command && sw_opt_get(args->command, i, &row); i++) {
        void *to = (char *)args + row.at, *list = NULL;

        if (row.kind != SW_OPTION_LIST && row.kind != SW_OPTION_PAIRS)
            continue;
        memcpy(&list, to, sizeof list);
        free(list);
        memset(to, 0, sizeof list);
    }
    free(args->name_rules);
    args->name_rules = NULL;
    args->opt.name_rules = NULL;
    args->opt.nname_rules = 0;
}

/* ---- help ------------------------------------------------------------------------------------ */

#define HELP_WIDTH 80
#define HELP_COLUMN 25

/* The words of an option beside it or, where it is too long for that, below. */
static void help_row(FILE *to, const sw_opt *row)
{
    char left[64], blank[HELP_COLUMN + 1];
    int n = row->letter ? snprintf(left, sizeof left, "  -%c, --%s", row->letter, row->name)
                        : snprintf(left, sizeof left, "      --%s", row->name);

    if (row->arg)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", row->arg);
    snprintf(blank, sizeof blank, "%*s", HELP_COLUMN, "");
    if (n + 2 > HELP_COLUMN)
        fprintf(to, "%s\n", left);
    else
        snprintf(left + n, sizeof left - (size_t)n, "%*s", HELP_COLUMN - n, "");
    sw_text_wrap(to, row->help, n + 2 > HELP_COLUMN ? blank : left, blank, HELP_WIDTH);
}

/* One command: its options under their headings. */
static void help_command(FILE *to, const sw_command *c)
{
    bool sizes = false;
    sw_opt row;

    fprintf(to, "usage: shardweld %s [OPTIONS] %s%s%s\n\n%s\n", c->name, c->operands[0],
            c->operands[1] ? " " : "", c->operands[1] ? c->operands[1] : "", c->about);
    for (size_t i = 0; sw_opt_get(c, i, &row); i++) {
        if (row.heading)
            fprintf(to, "\n%s\n", row.heading);
        help_row(to, &row);
        sizes = sizes || row.kind == SW_OPTION_SIZE;
    }
    if (sizes)
        fputs("\nSIZE is a number and nothing or B (bytes), KB MB GB TB (powers of 1000), KiB MiB\n"
              "GiB TiB or K M G T (powers of 1024).\n",
              to);
}

void sw_help(FILE *to, const sw_command *commands, const sw_command *command)
{
    if (command) {
        help_command(to, command);
    } else {
        fputs("usage: shardweld COMMAND [OPTIONS] INPUT_DIR OUTPUT_DIR | PATH\n"
              "       shardweld COMMAND --help | --version\n"
              "       shardweld --help | --version | help COMMAND\n\n"
              "Works on checkpoints of safetensors files, as one process or under mpirun.\n\n"
              "Commands:\n",
              to);
        for (; commands->name; commands++)
            fprintf(to, "  %-*s%s\n", HELP_COLUMN - 2, commands->name, commands->summary);
        fputs("\nTo begin with:\n"
              "  shardweld inspect CHECKPOINT                  what is there, and is it whole?\n"
              "  shardweld consolidate SHARDS OUT              by one process, or by many:\n"
              "  mpirun -n 8 shardweld consolidate SHARDS OUT\n"
              "  shardweld help consolidate                    all of its options\n",
              to);
    }
    fputs("\nExit status: 0 done, 1 a difference was found, or an unforeseen failure or an\n"
          "interruption, 2 wrong usage, 3 the input is not a valid checkpoint, 4 the system\n"
          "failed (I/O, space, permission, memory). Every rank leaves with the same status.\n",
          to);
}
