/* The command line, described for man and for shells, from the table that the program itself parses
 * with: what is not in the table cannot be described, and nothing in it can be left out. Runs once,
 * while shardweld is built.
 *   describe man NAME <PROSE >PAGE    section 1; NAME is a command, or shardweld
 *   describe bash | zsh | fish >FILE  completion
 *   describe commands                 their names
 * PROSE is a page whose lines that begin with '@' stand for what the table knows: @head, @commands,
 * @options, @status, @see and @synopsis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/opts.h"

/* ---- roff ------------------------------------------------------------------------------------ */

/* One character that man must show as it is. */
static void put_char(char c, bool first)
{
    switch (c) {
    case '\\':
        fputs("\\e", stdout);
        break;
    case '-':
        fputs("\\-", stdout);
        break;
    case '\'':
        fputs("\\(aq", stdout);
        break;
    case '"':
        fputs("\\(dq", stdout);
        break;
    case '.':
        fputs(first ? "\\&." : ".", stdout);
        break;
    default:
        putchar(c);
    }
}

/* Text as man must show it; a dot at its beginning is no request. */
static void put_text(const char *text)
{
    for (size_t i = 0; text[i]; i++)
        put_char(text[i], i == 0);
}

/* May a word not be broken at the end of a line? */
static bool is_name(const char *word)
{
    size_t len = strcspn(word, " \n");

    return strcspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") < len;
}

/* Text whose --options stand out. */
static void put_prose(const char *text)
{
    bool bold = false;

    for (size_t i = 0; text[i]; i++) {
        bool begins = i == 0 || text[i - 1] == ' ' || text[i - 1] == '\n';

        if (begins && strncmp(text + i, "--", 2) == 0) {
            bold = true;
            fputs("\\fB", stdout);
        } else if (bold && !strchr("abcdefghijklmnopqrstuvwxyz-", text[i])) {
            bold = false;
            fputs("\\fR", stdout);
        } else if (begins && is_name(text + i)) {
            fputs("\\%", stdout);
        }
        put_char(text[i], i == 0 || text[i - 1] == '\n');
    }
    if (bold)
        fputs("\\fR", stdout);
}

/* ---- man pages ------------------------------------------------------------------------------- */

/* The page's name: of a command, or (NULL) of the program. */
static void man_name(const sw_command *c)
{
    fputs("shardweld", stdout);
    if (c) {
        fputs("\\-", stdout);
        put_text(c->name);
    }
}

/* Title and name. */
static void man_head(const sw_command *c)
{
    fputs(".TH SHARDWELD", stdout);
    if (c) {
        fputs("\\-", stdout);
        for (const char *s = c->name; *s; s++)
            putchar(*s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
    }
    fputs(" 1 \"\" \"shardweld " SW_VERSION "\" \"User Commands\"\n.ad l\n.SH NAME\n", stdout);
    man_name(c);
    fputs(" \\- ", stdout);
    put_text(c ? c->summary : "weld sharded safetensors checkpoints into whole ones, in parallel");
    putchar('\n');
}

/* How it is called. */
static void man_synopsis(const sw_command *c)
{
    fputs(".SH SYNOPSIS\n.nf\n", stdout);
    if (c) {
        fputs("\\fBshardweld ", stdout);
        put_text(c->name);
        fputs("\\fR [\\fIOPTIONS\\fR]", stdout);
        for (size_t i = 0; i < 2 && c->operands[i]; i++) {
            fputs(" \\fI", stdout);
            put_text(c->operands[i]);
            fputs("\\fR", stdout);
        }
        putchar('\n');
    } else {
        fputs("\\fBshardweld\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] \\fIOPERANDS\\fR\n"
              "\\fBshardweld\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR | \\fB\\-\\-version\\fR\n"
              "\\fBshardweld \\-\\-help\\fR | \\fB\\-\\-version\\fR\n"
              "\\fBshardweld help\\fR \\fICOMMAND\\fR\n",
              stdout);
    }
    fputs(".fi\n", stdout);
}

/* What the command does. */
static void man_about(const sw_command *c)
{
    put_prose(c->about);
    putchar('\n');
}

/* One option. */
static void man_row(const sw_opt *row)
{
    fputs(".TP\n", stdout);
    if (row->letter)
        printf("\\fB\\-%c\\fR, ", row->letter);
    fputs("\\fB\\-\\-", stdout);
    put_text(row->name);
    fputs("\\fR", stdout);
    if (row->arg) {
        fputs(" \\fI", stdout);
        put_text(row->arg);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_prose(row->help);
    putchar('\n');
}

/* Without the colon at its end. */
static void put_heading(const char *text)
{
    for (size_t i = 0; text[i] && strcmp(text + i, ":") != 0; i++)
        put_char(text[i], false);
    putchar('\n');
}

/* All options of a command, in their sections. */
static void man_options(const sw_command *c)
{
    sw_opt row;

    fputs(".SH OPTIONS\n", stdout);
    for (size_t i = 0; sw_opt_get(c, i, &row); i++) {
        if (row.heading) {
            fputs(".SS ", stdout);
            put_heading(row.heading);
        }
        man_row(&row);
    }
    fputs(".PP\n\\fISIZE\\fR is a number and nothing or B (bytes), KB MB GB TB (powers of 1000), KiB MiB GiB "
          "TiB\n"
          "or K M G T (powers of 1024).\n",
          stdout);
}

/* What each command is for. */
static void man_commands(void)
{
    fputs(".SH COMMANDS\n", stdout);
    for (const sw_command *c = sw_commands; c->name; c++) {
        fputs(".TP\n\\fBshardweld\\-", stdout);
        put_text(c->name);
        fputs("\\fR(1)\n", stdout);
        put_text(c->summary);
        putchar('\n');
    }
}

/* By status: each with the texts of all codes that have it. */
static void man_status(void)
{
    static const struct {
        int status;
        const char *text;
    } codes[] = {
#define ROW(name, exit_status, words) { exit_status, words },
        SW_CODES(ROW)
#undef ROW
    };
    int last = -1;

    fputs(".SH EXIT STATUS\nEvery rank leaves with the same status.\n", stdout);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (codes[i].status == last)
            fputs(",\n", stdout);
        else
            printf("%s.TP\n.B %d\n", last < 0 ? "" : "\n", codes[i].status);
        last = codes[i].status;
        put_text(codes[i].text);
    }
    putchar('\n');
}

/* The other pages. */
static void man_see(const sw_command *but)
{
    fputs(".SH SEE ALSO\n", stdout);
    if (but)
        fputs(".BR shardweld (1),\n", stdout);
    for (const sw_command *c = sw_commands; c->name; c++) {
        if (c == but)
            continue;
        fputs(".BR shardweld\\-", stdout);
        put_text(c->name);
        fputs(" (1),\n", stdout);
    }
    fputs(".BR shardweld (3)\n", stdout);
}

/* A line that begins with '@'. */
static bool man_directive(const char *line, const sw_command *c)
{
    if (strcmp(line, "@head\n") == 0)
        man_head(c);
    else if (strcmp(line, "@synopsis\n") == 0)
        man_synopsis(c);
    else if (strcmp(line, "@about\n") == 0 && c)
        man_about(c);
    else if (strcmp(line, "@options\n") == 0 && c)
        man_options(c);
    else if (strcmp(line, "@commands\n") == 0)
        man_commands();
    else if (strcmp(line, "@status\n") == 0)
        man_status();
    else if (strcmp(line, "@see\n") == 0)
        man_see(c);
    else
        return false;
    return true;
}

/* The page that standard input has, its directives replaced. */
static int man(const sw_command *c)
{
    char line[1024];

    while (fgets(line, sizeof line, stdin)) {
        if (line[0] != '@') {
            fputs(line, stdout);
        } else if (!man_directive(line, c)) {
            fprintf(stderr, "describe: what is %s", line);
            return 1;
        }
    }
    return 0;
}

/* What starts ranks: behind it the program is completed, too. */
#define LAUNCHERS "mpirun mpiexec srun"

/* ---- bash ------------------------------------------------------------------------------------ */

/* Does a text end so? */
static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

/* What can stand in the place of a word, where there are no words of a choice. */
typedef enum kind { NOTHING, FILES, DIRECTORIES } kind;

/* By what the help calls it. */
static kind kind_of(const char *word)
{
    if (ends_with(word, "DIR") || strcmp(word, "IN") == 0 || strcmp(word, "OUT") == 0)
        return DIRECTORIES;
    return ends_with(word, "FILE") || ends_with(word, "INDEX") || ends_with(word, "PATH") ? FILES : NOTHING;
}

static void bash_kind(const char *word)
{
    static const char *const names[] = { "nothing", "files", "directories" };

    fputs(names[kind_of(word)], stdout);
}

/* What can follow each option of a command. */
static void bash_values(const sw_command *c)
{
    sw_opt row;

    printf("    %s)\n        case $2 in\n", c->name);
    for (size_t i = 0; sw_opt_get(c, i, &row); i++) {
        if (!row.arg)
            continue;
        printf("        --%s) _shardweld_", row.name);
        if (row.words) {
            fputs("words '", stdout);
            for (size_t k = 0; row.words[k]; k++)
                printf("%s%s", k ? " " : "", row.words[k]);
            fputs("'", stdout);
        } else {
            bash_kind(row.arg);
        }
        fputs(" ;;\n", stdout);
    }
    fputs("        *) return 1 ;;\n        esac\n        ;;\n", stdout);
}

/* The options of a command. */
static void bash_options(const sw_command *c)
{
    sw_opt row;

    printf("    %s) _shardweld_words '", c->name);
    for (size_t i = 0; sw_opt_get(c, i, &row); i++)
        printf("%s--%s", i ? " " : "", row.name);
    fputs("' ;;\n", stdout);
}

/* What its operands are. */
static void bash_operands(const sw_command *c)
{
    printf("    %s) _shardweld_", c->name);
    bash_kind(c->operands[0]);
    fputs(" ;;\n", stdout);
}

/* A function with a case for each command. */
static void bash_cases(const char *comment, const char *name, void (*put)(const sw_command *c))
{
    printf("\n# %s\n_shardweld_%s()\n{\n    case $1 in\n", comment, name);
    for (const sw_command *c = sw_commands; c->name; c++)
        put(c);
    fputs("    *) return 1 ;;\n    esac\n}\n", stdout);
}

/* All of the completion that comes of the tables. */
static void bash(void)
{
    fputs("# bash completion for shardweld; made from its table of options.\n"
          "# cur: the word that is being typed. What fits goes into COMPREPLY.\n"
          "\n"
          "_shardweld_words()\n{\n    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n}\n"
          "\n"
          "_shardweld_files()\n{\n    compopt -o filenames 2>/dev/null\n"
          "    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n}\n"
          "\n"
          "_shardweld_directories()\n{\n    compopt -o filenames 2>/dev/null\n"
          "    mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n}\n"
          "\n"
          "_shardweld_nothing()\n{\n    COMPREPLY=()\n}\n",
          stdout);
    bash_cases("COMMAND OPTION: the values of an option; 1 = it takes none.", "values", bash_values);
    bash_cases("COMMAND: its options.", "options", bash_options);
    bash_cases("COMMAND: its operands.", "operands", bash_operands);
    fputs("\n_shardweld()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=\n"
          "\n"
          "    COMPREPLY=()\n"
          "    # readline takes --option=value for three words\n"
          "    if [[ $cur == = ]]; then\n"
          "        cur=\n"
          "    elif [[ $prev == = && $COMP_CWORD -ge 3 ]]; then\n"
          "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    fi\n"
          "    if [[ $COMP_CWORD -gt 1 ]]; then\n"
          "        command=${COMP_WORDS[1]}\n"
          "        if [[ $prev == --* ]] && _shardweld_values \"$command\" \"$prev\"; then\n"
          "            return\n"
          "        fi\n"
          "    fi\n"
          "    if [[ -z $command ]]; then\n"
          "        _shardweld_words '",
          stdout);
    for (const sw_command *c = sw_commands; c->name; c++)
        printf("%s ", c->name);
    fputs("help --help --version'\n"
          "    elif [[ $command == help ]]; then\n"
          "        _shardweld_words '",
          stdout);
    for (const sw_command *c = sw_commands; c->name; c++)
        printf("%s%s", c == sw_commands ? "" : " ", c->name);
    fputs("'\n"
          "    elif [[ $cur == -* ]]; then\n"
          "        _shardweld_options \"$command\"\n"
          "    else\n"
          "        _shardweld_operands \"$command\"\n"
          "    fi\n"
          "}\n"
          "\n"
          "# The same behind a launcher: mpirun -n 2 shardweld ...\n"
          "_shardweld_behind()\n{\n"
          "    local at\n"
          "\n"
          "    COMPREPLY=()\n"
          "    for ((at = 1; at < COMP_CWORD; at++)); do\n"
          "        if [[ ${COMP_WORDS[at]##*/} == shardweld ]]; then\n"
          "            local COMP_WORDS=(\"${COMP_WORDS[@]:at}\") COMP_CWORD=$((COMP_CWORD - at))\n"
          "            _shardweld\n"
          "            return\n"
          "        fi\n"
          "    done\n"
          "}\n"
          "\n"
          "complete -F _shardweld shardweld\n"
          "for _shardweld_launcher in " LAUNCHERS "; do\n"
          "    complete -p \"$_shardweld_launcher\" &>/dev/null ||\n"
          "        complete -o bashdefault -o default -F _shardweld_behind \"$_shardweld_launcher\"\n"
          "done\n"
          "unset _shardweld_launcher\n",
          stdout);
}

/* ---- zsh ------------------------------------------------------------------------------------- */

/* Where the first words of a help text end. */
static bool ends_brief(const char *help, size_t i)
{
    return !help[i] || (i > 12 && strchr(";(", help[i])) || (i > 40 && strchr(",:", help[i]));
}

/* The first words of a help text, between single quotes of zsh or fish; those of special are
 * escaped. */
static void put_brief(const char *help, const char *special)
{
    for (size_t i = 0; !ends_brief(help, i); i++) {
        if (help[i] == '\'')
            fputs("'\\''", stdout);
        else if (help[i] != ' ' || !ends_brief(help, i + 1))
            printf("%s%c", strchr(special, help[i]) ? "\\" : "", help[i]);
    }
}

/* What can stand for a word, as _arguments takes it: behind the words "NAME:". */
static void zsh_kind(const char *word)
{
    static const char *const names[] = { " ", "_files", "_files -/" };

    fputs(names[kind_of(word)], stdout);
}

/* May it be given again, to say more? */
static bool is_repeated(const sw_opt *row)
{
    return row->kind == SW_OPTION_LIST || row->kind == SW_OPTION_PAIRS || row->kind == SW_OPT_STRIP ||
           row->kind == SW_OPT_RENAME;
}

/* One option: '--name=[help]:ARG:what', and its letter. */
static void zsh_option(const sw_opt *row)
{
    char letter[] = { '-', row->letter, '\0' };

    for (int i = row->letter ? 0 : 1; i < 2; i++) {
        printf(" \\\n        '%s%s%s%s[", is_repeated(row) ? "*" : "", i ? "--" : "", i ? row->name : letter,
               row->arg ? "=" : "");
        put_brief(row->help, "[]:\\");
        putchar(']');
        if (row->arg) {
            printf(":%s:", row->arg);
            if (!row->words)
                zsh_kind(row->arg);
            for (size_t k = 0; row->words && row->words[k]; k++)
                printf("%s%s%s", k ? " " : "(", row->words[k], row->words[k + 1] ? "" : ")");
        }
        putchar('\'');
    }
}

static void zsh(void)
{
    sw_opt row;

    fputs("#compdef shardweld " LAUNCHERS "\n"
          "# zsh completion for shardweld, also behind a launcher; made from its table of options.\n",
          stdout);
    for (const sw_command *c = sw_commands; c->name; c++) {
        printf("\n_shardweld_%s()\n{\n    _arguments -s", c->name);
        for (size_t i = 0; sw_opt_get(c, i, &row); i++)
            zsh_option(&row);
        for (int i = 0; i < 2 && c->operands[i]; i++) {
            printf(" \\\n        '%d:%s:", i + 1, c->operands[i]);
            zsh_kind(c->operands[i]);
            putchar('\'');
        }
        fputs("\n}\n", stdout);
    }
    fputs("\n_shardweld()\n{\n"
          "    local -i at\n"
          "    local -a commands=(\n",
          stdout);
    for (const sw_command *c = sw_commands; c->name; c++)
        printf("        '%s:%s'\n", c->name, c->summary);
    fputs("        'help:what a command does, and its options'\n"
          "    )\n"
          "\n"
          "    if [[ $service != shardweld ]]; then\n"
          "        at=${words[(i)(shardweld|*/shardweld)]}\n"
          "        if (( at >= CURRENT )); then\n"
          "            _default\n"
          "            return\n"
          "        fi\n"
          "        words=(\"${(@)words[at,-1]}\")\n"
          "        (( CURRENT -= at - 1 ))\n"
          "    fi\n"
          "    if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then\n"
          "        _describe -t commands command commands\n"
          "        if [[ $words[CURRENT] == -* ]]; then\n"
          "            _values option --help --version\n"
          "        fi\n"
          "    elif (( $+functions[_shardweld_$words[2]] )); then\n"
          "        shift words\n"
          "        (( CURRENT-- ))\n"
          "        _shardweld_$words[1]\n"
          "    fi\n"
          "}\n"
          "\n"
          "_shardweld \"$@\"\n",
          stdout);
}

/* ---- fish ------------------------------------------------------------------------------------ */

/* What can follow an option, or stand for an operand. */
static void fish_kind(const char *word, const char *const *words)
{
    kind k = kind_of(word);

    if (words) {
        fputs(" -x -a '", stdout);
        for (size_t i = 0; words[i]; i++)
            printf("%s%s", i ? " " : "", words[i]);
        putchar('\'');
    } else {
        fputs(k == FILES         ? " -r -F"
              : k == DIRECTORIES ? " -x -a '(__fish_complete_directories)'"
                                 : " -x",
              stdout);
    }
}

static void fish_option(const sw_command *c, const sw_opt *row)
{
    printf("complete -c shardweld -n '__fish_seen_subcommand_from %s' -l %s", c->name, row->name);
    if (row->letter)
        printf(" -s %c", row->letter);
    if (row->arg)
        fish_kind(row->arg, row->words);
    fputs(" -d '", stdout);
    put_brief(row->help, "\\");
    fputs("'\n", stdout);
}

static void fish(void)
{
    sw_opt row;

    fputs("# fish completion for shardweld, also behind a launcher; made from its table of options.\n"
          "complete -c shardweld -f\n",
          stdout);
    for (const sw_command *c = sw_commands; c->name; c++) {
        printf("complete -c shardweld -n '__fish_use_subcommand' -a %s -d '%s'\n", c->name, c->summary);
        printf("complete -c shardweld -n '__fish_seen_subcommand_from help' -a %s\n", c->name);
        for (size_t i = 0; sw_opt_get(c, i, &row); i++)
            fish_option(c, &row);
        printf("complete -c shardweld -n '__fish_seen_subcommand_from %s'%s\n", c->name,
               kind_of(c->operands[0]) == FILES ? " -F" : " -a '(__fish_complete_directories)'");
    }
    fputs(
        "complete -c shardweld -n '__fish_use_subcommand' -a help -d 'what a command does, and its options'\n"
        "complete -c shardweld -n '__fish_use_subcommand' -s h -l help -d 'print this'\n"
        "complete -c shardweld -n '__fish_use_subcommand' -s V -l version -d 'print the version'\n"
        "\n"
        "# From the program's name on, as if it stood alone.\n"
        "function __shardweld_behind\n"
        "    set -l words (commandline -opc)\n"
        "    for i in (seq 2 (count $words))\n"
        "        if string match -qr '(^|/)shardweld$' -- $words[$i]\n"
        "            complete -C \"shardweld \"(string join ' ' -- (string escape -- $words[(math $i + "
        "1)..-1]) "
        "(commandline -ct))\n"
        "            return\n"
        "        end\n"
        "    end\n"
        "end\n"
        "for launcher in " LAUNCHERS "\n"
        "    complete -c $launcher -n 'string match -qr \"(^|/)shardweld\\$\" -- (commandline -opc)[2..-1]' "
        "-f -a "
        "'(__shardweld_behind)'\n"
        "end\n",
        stdout);
}

/* ---- main ------------------------------------------------------------------------------------ */

/* The names of all commands, a line each. */
static void commands(void)
{
    for (const sw_command *c = sw_commands; c->name; c++)
        puts(c->name);
}

/* The page of the command of this name; 2 = there is none. */
static int man_named(const char *name)
{
    if (strcmp(name, "shardweld") == 0)
        return man(NULL);
    for (const sw_command *c = sw_commands; c->name; c++)
        if (strcmp(name, c->name) == 0)
            return man(c);
    fprintf(stderr, "describe: '%s' is not a command\n", name);
    return 1;
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc == 3 && strcmp(argv[1], "man") == 0) {
        status = man_named(argv[2]);
    } else if (argc == 2 && strcmp(argv[1], "bash") == 0) {
        bash();
    } else if (argc == 2 && strcmp(argv[1], "zsh") == 0) {
        zsh();
    } else if (argc == 2 && strcmp(argv[1], "fish") == 0) {
        fish();
    } else if (argc == 2 && strcmp(argv[1], "commands") == 0) {
        commands();
    } else {
        fputs("usage: describe man NAME | bash | zsh | fish | commands\n", stderr);
        return 2;
    }
    return fflush(stdout) || ferror(stdout) ? 1 : status;
}
