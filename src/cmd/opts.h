/* The command line as a table: what getopt_long needs, the help text, the conversion of values and
 * the check for options that exclude one another all come from the rows. A new option is one row in
 * table.c, a new command is one more. All local; nothing here prints. */
#ifndef SW_CMD_OPTS_H
#define SW_CMD_OPTS_H

#include <stdio.h>

#include "progress.h"
#include "shardweld.h"

struct sw_run;
struct sw_command;
struct sw_emit;

typedef enum sw_sort { SW_SORT_NAME, SW_SORT_SIZE } sw_sort;

typedef enum sw_answer { SW_ANSWER_RUN, SW_ANSWER_HELP, SW_ANSWER_VERSION } sw_answer;

/* What a command line asks for. Texts are borrowed from argv. */
typedef struct sw_args {
    const struct sw_command *command; /* NULL = none was given */
    sw_answer answer;
    sw_options opt; /* for the library; its lists belong to this struct */
    /* the operands; NULL when their number was wrong, output also where a command takes one */
    const char *input;
    const char *output;
    sw_name_rule *name_rules; /* what opt.name_rules points at; owned */
    const char *report;
    uint64_t timeout; /* seconds; 0 = never */
    sw_when progress;
    bool quiet;
    bool verbose;
    sw_sharding sharding;            /* reshard */
    sw_tolerance allowed;            /* diff */
    uint64_t ranks;                  /* reshard: a mesh of one dimension; 0 = not given */
    const char *const *tensors;      /* inspect: globs, NULL-terminated; NULL = all */
    const char *svg;                 /* inspect: where the picture goes; "-" = standard output */
    bool json, boxes, summary, tree; /* inspect */
    bool sums;                       /* check */
    sw_sort sort;                    /* inspect: the order of what is shown for people */
} sw_args;

/* What a row is beyond the kinds that the library's own options have (sw_option_kind). */
enum {
    SW_OPT_HELP = 64, /* ends the parsing */
    SW_OPT_VERSION,   /* so does this */
    SW_OPT_CLEAR,     /* bool becomes false: the default, said aloud */
    SW_OPT_TIME,      /* uint64_t, seconds: decimal digits and nothing, s, m or h */
    SW_OPT_STRIP,     /* a prefix; one more of opt.name_rules */
    SW_OPT_RENAME,    /* FROM=TO, the same */
    SW_OPT_TOLERANCE, /* sw_tolerance: a number, or one and '%' */
};

/* Options of one set exclude one another. */
typedef enum sw_opt_set { SW_SET_NONE, SW_SET_LAYOUT, SW_SET_SYNC, SW_SET_VOICE, SW_SET_MESH } sw_opt_set;

/* A row. What the library knows of a member of opt need not be said: sw_opt_get() fills it in. */
typedef struct sw_opt {
    const char *name;
    const char *arg; /* what the help calls the value; NULL = takes none */
    const char *help;
    size_t at;         /* offset in sw_args, */
    const char *fills; /* and what stands there: "opt.like" */
    char letter;       /* '\0' = none */
    int kind;          /* 0 = that of the member; of several texts or numbers the last one counts */
    sw_opt_set set;
    uint64_t least; /* of SIZE and COUNT */
    /* NULL-terminated: of CHOICE by value, of texts what completion offers */
    const char *const *words;
    const char *heading; /* of the section that begins here; NULL = none does */
} sw_opt;

/* Rows under one heading of the help; commands share them. Ended by a row without a name. */
typedef struct sw_section {
    const char *heading;
    const sw_opt *rows;
} sw_section;

typedef struct sw_command {
    const char *name;
    const char *summary;               /* one line */
    const char *about;                 /* what the help says above the options */
    const char *operands[2];           /* what the help calls them; the second may be NULL */
    const sw_section *const *sections; /* ended by NULL */

    /* Collective. Do it; what it finds goes into the run. The status is equal on every rank
     * afterwards. */
    sw_code (*run)(struct sw_run *run, sw_status *st);
    /* Local, for rank 0, also when the run failed (then st tells how). Print what was asked for on
     * standard output, and (verbose) what was found. What is wrong with that is worse than what st
     * held. */
    sw_code (*tell)(const struct sw_run *run, sw_status *st);
    /* Local, for rank 0. Add what the command has to say to the report. */
    void (*report)(const struct sw_run *run, struct sw_emit *j);
} sw_command;

/* All commands, ended by one without a name. */
extern const sw_command sw_commands[];

/* Option i of a command, complete; false = there are no more. */
bool sw_opt_get(const sw_command *c, size_t i, sw_opt *row);

#define SW_ARGS_INIT                                                                                         \
    {                                                                                                        \
        .answer = SW_ANSWER_RUN, .opt = SW_OPTIONS_INIT                                                      \
    }

/* Read a command line. The first error is kept and the rest is read all the same, so that a report
 * that was asked for can tell of it.
 *   argv  may be permuted, and its words cut; lives as long as args
 *   args  SW_ARGS_INIT; release with sw_args_release(), after an error too
 * Errors: SW_EUSAGE, with a hint at --help; SW_ENOMEM. */
sw_code sw_args_parse(int argc, char **argv, const sw_command *commands, sw_args *args, sw_status *st);
void sw_args_release(sw_args *args);

/* Write the help of one command, or (command NULL) of the program. */
void sw_help(FILE *to, const sw_command *commands, const sw_command *command);

#endif
