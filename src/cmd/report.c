/* The report; see report.h. */
#include "report.h"

#include <stdio.h>
#include <string.h>

#include "emit.h"
#include "file.h"
#include "say.h"
#include "text.h"

/* ---- options --------------------------------------------------------------------------------- */

static void put_option_list(sw_emit *j, const char *key, const void *from)
{
    const char *const *list;
    size_t n = 0;

    memcpy(&list, from, sizeof list);
    while (list && list[n])
        n++;
    sw_emit_texts(j, key, list, n);
}

/* All changes of names, in their order: both options show the same list. */
static void put_name_rules(sw_emit *j, const char *key, const sw_options *opt)
{
    sw_emit_list(j, key, true);
    for (size_t i = 0; i < opt->nname_rules; i++) {
        const sw_name_rule *rule = &opt->name_rules[i];
        bool strip = rule->kind == SW_NAME_STRIP;

        sw_emit_object(j, NULL, true);
        sw_emit_name(j, strip ? "strip-prefix" : "from", rule->from);
        if (!strip)
            sw_emit_name(j, "to", rule->to);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

/* What a row's member holds; null for a value that was not given. */
static void put_option(sw_emit *j, const sw_args *args, const sw_opt *row)
{
    const char *from = (const char *)args + row->at;
    const char *word;
    uint64_t n;
    bool flag;
    int choice;

    switch (row->kind) {
    case SW_OPTION_FLAG:
    case SW_OPT_CLEAR:
        memcpy(&flag, from, sizeof flag);
        sw_emit_bool(j, row->name, flag == (row->kind == SW_OPTION_FLAG));
        break;
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
    case SW_OPTION_PATH:
        memcpy(&word, from, sizeof word);
        sw_emit_text(j, row->name, word);
        break;
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
    case SW_OPT_TIME:
        memcpy(&n, from, sizeof n);
        sw_emit_optional(j, row->name, n);
        break;
    case SW_OPTION_CHOICE:
        memcpy(&choice, from, sizeof choice);
        sw_emit_text(j, row->name, row->words[choice]);
        break;
    case SW_OPTION_LIST:
    case SW_OPTION_PAIRS:
        put_option_list(j, row->name, from);
        break;
    case SW_OPT_STRIP:
    case SW_OPT_RENAME:
        put_name_rules(j, row->name, &args->opt);
        break;
    default: /* --help and --version */
        break;
    }
}

/* "no-sync" is told by "sync": both set one member. */
static bool is_told_by_another(const sw_command *command, const sw_opt *row)
{
    sw_opt other;

    for (size_t i = 0; row->kind == SW_OPTION_FLAG && sw_opt_get(command, i, &other); i++)
        if (other.kind == SW_OPT_CLEAR && other.at == row->at)
            return true;
    return false;
}

/* By option name. */
static void put_options(sw_emit *j, const sw_args *args)
{
    sw_opt row;

    sw_emit_object(j, "options", false);
    for (size_t i = 0; args->command && sw_opt_get(args->command, i, &row); i++)
        if (!is_told_by_another(args->command, &row))
            put_option(j, args, &row);
    sw_emit_end(j);
}

/* ---- what the library tells of a run --------------------------------------------------------- */

/* A key, and the member of sw_result or sw_verification that it shows. */
typedef struct field {
    const char *key;
    enum { NUMBER, SECONDS, FLAG, TEXT, WORD, ASSIGN } type; /* WORD: text in the struct itself */
    size_t at;
} field;

static void put_fields(sw_emit *j, const void *from, const field *fields, size_t n)
{
    for (const field *f = fields; f < fields + n; f++) {
        const void *at = (const char *)from + f->at;
        sw_assign assign;
        const char *text;
        uint64_t number;
        double seconds;
        bool flag;

        switch (f->type) {
        case NUMBER:
            memcpy(&number, at, sizeof number);
            sw_emit_number(j, f->key, number);
            break;
        case SECONDS:
            memcpy(&seconds, at, sizeof seconds);
            sw_emit_real(j, f->key, seconds);
            break;
        case FLAG:
            memcpy(&flag, at, sizeof flag);
            sw_emit_bool(j, f->key, flag);
            break;
        case TEXT:
            memcpy(&text, at, sizeof text);
            sw_emit_text(j, f->key, text);
            break;
        case WORD:
            sw_emit_text(j, f->key, at);
            break;
        case ASSIGN:
            memcpy(&assign, at, sizeof assign);
            sw_emit_text(j, f->key, assign == SW_ASSIGN_AUTO ? NULL : sw_assign_text(assign));
            break;
        }
    }
}

/* "name=value" words as an object. */
static void put_transport(sw_emit *j, const sw_result *r)
{
    char words[sizeof r->transport], *rest = words, *word;

    memcpy(words, r->transport, sizeof words);
    sw_emit_object(j, "transport", true);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        char *equals = strchr(word, '=');

        if (!equals)
            continue;
        *equals = '\0';
        sw_emit_name(j, word, equals + 1);
    }
    sw_emit_end(j);
}

static void put_files(sw_emit *j, const sw_result *r)
{
    sw_emit_list(j, "files", false);
    for (uint64_t i = 0; r->files && i < r->nfiles; i++) {
        sw_emit_object(j, NULL, true);
        sw_emit_text(j, "name", r->files[i].name);
        sw_emit_number(j, "tensors", r->files[i].tensors);
        sw_emit_number(j, "size", r->files[i].size);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

void sw_report_result(const sw_run *run, sw_emit *j)
{
#define OF(type, member)                                                                                     \
    {                                                                                                        \
#member, type, offsetof(sw_result, member)                                                           \
    }
    static const field fields[] = {
        OF(ASSIGN, assign),
        OF(WORD, io),
        OF(NUMBER, shard_files),
        OF(NUMBER, boxes),
        OF(NUMBER, tensors),
        OF(NUMBER, parameters),
        OF(NUMBER, bytes),
        OF(NUMBER, bytes_written),
        OF(NUMBER, buffer_size),
        OF(NUMBER, band_size),
        OF(NUMBER, rounds),
        OF(NUMBER, peak_memory),
        OF(TEXT, shards),
        OF(TEXT, index),
        OF(FLAG, recovered),
        OF(SECONDS, seconds_parse),
        OF(SECONDS, seconds_plan),
        OF(SECONDS, seconds_write),
        OF(SECONDS, seconds_verify),
        OF(SECONDS, seconds_publish),
    };
#undef OF

    put_fields(j, &run->result, fields, SW_COUNT(fields));
    put_transport(j, &run->result);
    put_files(j, &run->result);
    sw_emit_texts(j, "assets", (const char *const *)run->result.assets, run->result.nassets);
}

void sw_report_verification(const sw_run *run, sw_emit *j)
{
#define OF(type, member)                                                                                     \
    {                                                                                                        \
#member, type, offsetof(sw_verification, member)                                                     \
    }
    static const field fields[] = {
        OF(ASSIGN, assign),
        OF(NUMBER, files),
        OF(NUMBER, tensors),
        OF(NUMBER, bytes),
        OF(NUMBER, replicas),
        OF(NUMBER, shard_files),
        OF(TEXT, shards),
        OF(NUMBER, buffer_size),
        OF(NUMBER, peak_memory),
        OF(SECONDS, seconds_plan),
        OF(SECONDS, seconds_compare),
    };
#undef OF

    put_fields(j, &run->verification, fields, SW_COUNT(fields));
    sw_emit_findings(j, run->verification.findings, run->verification.nfindings);
}

/* ---- the run --------------------------------------------------------------------------------- */

static const char *code_name(sw_code code)
{
    static const char *const names[] = {
#define SW_CODE_NAME(name, exit_status, words) #name,
        SW_CODES(SW_CODE_NAME)
#undef SW_CODE_NAME
    };
    return names[code];
}

/* The message of a process alone does not tell where it ran; this does. */
static void put_status(sw_emit *j, const sw_status *st)
{
    char message[SW_MESSAGE_TEXT];
    sw_status who = *st;

    sw_status_sign(&who, 0);
    sw_emit_number(j, "status", (uint64_t)sw_code_exit_status(st->code));
    sw_emit_text(j, "code", code_name(st->code));
    sw_emit_text(j, "message", st->code ? sw_status_message(st, message, sizeof message) : NULL);
    sw_emit_text(j, "file", st->code ? st->file : NULL);
    sw_emit_text(j, "tensor", st->code ? st->tensor : NULL);
    sw_emit_text(j, "reason", st->code ? st->reason : NULL);
    if (st->code)
        sw_emit_number(j, "rank", (uint64_t)who.rank);
    else
        sw_emit_text(j, "rank", NULL);
    sw_emit_text(j, "host", who.host);
}

typedef struct subject {
    const sw_run *run;
    const sw_status *st;
} subject;

static void print_report(FILE *to, const void *about)
{
    const subject *s = about;
    const sw_run *run = s->run;
    const sw_args *args = run->args;
    sw_emit j = { .to = to };

    sw_emit_object(&j, NULL, false);
    sw_emit_number(&j, "schema", 1);
    sw_emit_text(&j, "version", SW_VERSION);
    sw_emit_text(&j, "command", args->command ? args->command->name : NULL);
    put_status(&j, s->st);
    sw_emit_text(&j, "input", args->input);
    sw_emit_text(&j, "output", args->output);
    put_options(&j, args);
    sw_emit_number(&j, "ranks", (uint64_t)run->comm.size);
    sw_emit_real(&j, "seconds_start", run->seconds_start);
    sw_emit_real(&j, "seconds_total", run->seconds);
    sw_emit_texts(&j, "warnings", (const char *const *)run->warnings, run->nwarnings);
    if (args->command)
        args->command->report(run, &j);
    sw_emit_end(&j);
    fputc('\n', to);
}

sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err)
{
    const subject s = { run, st };

    return sw_file_print(run->args->report, "the report", print_report, &s, err);
}
