/* The report; see report.h. A JSON value that could not be made is left out rather than losing the
 * rest: jansson's setters take NULL and say no. */
#include "report.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "say.h"

json_t *sw_report_integer(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

json_t *sw_report_text(const char *s)
{
    json_t *value;
    char *copy;

    if (!s || !s[0])
        return json_null();
    value = json_string(s);
    if (value)
        return value;
    copy = strdup(s);
    if (!copy)
        return NULL;
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

bool sw_report_dump(const json_t *value, size_t flags, FILE *to)
{
    char *text = json_dumps(value, flags);
    size_t n = text ? strlen(text) : 0, len;

    for (size_t at = 0; at < n; at += len) {
        uint32_t code = 0;

        len = sw_text_char(text + at, n - at, &code);
        len += len == 0; /* never: jansson takes UTF-8 only */
        /* Below DEL stands what JSON needs: its line ends are jansson's own, those in strings it
         * has escaped. */
        if (code < 0x7f || sw_text_harmless(code))
            fwrite(text + at, 1, len, to);
        else
            fprintf(to, "\\u%04x", (unsigned)code);
    }
    free(text);
    return text != NULL;
}

json_t *sw_report_assign(sw_assign assign)
{
    return assign == SW_ASSIGN_AUTO ? json_null() : json_string(assign == SW_ASSIGN_OWNER ? "owner" : "band");
}

static json_t *text_list(const char *const *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, sw_report_text(list[i]));
    return array;
}

/* ---- options --------------------------------------------------------------------------------- */

static json_t *option_list(const void *from)
{
    const char *const *list;
    size_t n = 0;

    memcpy(&list, from, sizeof list);
    while (list && list[n])
        n++;
    return text_list(list, n);
}

/* All changes of names, in their order: both options show the same list. */
static json_t *name_rules(const sw_args *args)
{
    json_t *array = json_array();

    for (size_t i = 0; i < args->opt.nname_rules; i++) {
        const sw_name_rule *rule = &args->opt.name_rules[i];

        if (rule->kind == SW_NAME_STRIP)
            json_array_append_new(array, json_pack("{s:s}", "strip-prefix", rule->from));
        else
            json_array_append_new(array, json_pack("{s:s,s:s}", "from", rule->from, "to", rule->to));
    }
    return array;
}

/* What a row's member holds; null for a value that was not given. */
static json_t *option_value(const sw_args *args, const sw_opt *row)
{
    const char *from = (const char *)args + row->at;
    const char *word;
    uint64_t n;
    bool flag;
    int choice;

    switch (row->kind) {
    case SW_OPT_HELP:
    case SW_OPT_VERSION:
        break;
    case SW_OPTION_FLAG:
    case SW_OPT_CLEAR:
        memcpy(&flag, from, sizeof flag);
        return json_boolean(flag == (row->kind == SW_OPTION_FLAG));
    case SW_OPTION_TEXT:
    case SW_OPTION_CAST:
    case SW_OPTION_PATH:
        memcpy(&word, from, sizeof word);
        return sw_report_text(word);
    case SW_OPTION_SIZE:
    case SW_OPTION_COUNT:
    case SW_OPT_TIME:
        memcpy(&n, from, sizeof n);
        return n ? sw_report_integer(n) : json_null();
    case SW_OPTION_CHOICE:
        memcpy(&choice, from, sizeof choice);
        return json_string(row->words[choice]);
    case SW_OPTION_LIST:
    case SW_OPTION_PAIRS:
        return option_list(from);
    case SW_OPT_STRIP:
    case SW_OPT_RENAME:
        return name_rules(args);
    }
    return json_null();
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
static json_t *options_object(const sw_args *args)
{
    json_t *object = json_object();
    sw_opt row;

    for (size_t i = 0; args->command && sw_opt_get(args->command, i, &row); i++)
        if (row.kind != SW_OPT_HELP && row.kind != SW_OPT_VERSION && !is_told_by_another(args->command, &row))
            json_object_set_new(object, row.name, option_value(args, &row));
    return object;
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
static void put_status(json_t *object, const sw_status *st)
{
    char message[sizeof(sw_status) + 64];
    sw_status who = *st;

    json_object_set_new(object, "status", json_integer(sw_code_exit_status(st->code)));
    json_object_set_new(object, "code", json_string(code_name(st->code)));
    json_object_set_new(object, "message",
                        st->code ? sw_report_text(sw_status_message(st, message, sizeof message))
                                 : json_null());
    json_object_set_new(object, "file", sw_report_text(st->code ? st->file : NULL));
    json_object_set_new(object, "tensor", sw_report_text(st->code ? st->tensor : NULL));
    json_object_set_new(object, "reason", sw_report_text(st->code ? st->reason : NULL));
    sw_status_sign(&who, 0);
    json_object_set_new(object, "rank", st->code ? json_integer(who.rank) : json_null());
    json_object_set_new(object, "host", sw_report_text(who.host));
}

static json_t *report_object(const sw_run *run, const sw_status *st)
{
    const sw_args *args = run->args;
    json_t *o = json_object();

    json_object_set_new(o, "schema", json_integer(1));
    json_object_set_new(o, "version", json_string(SW_VERSION));
    json_object_set_new(o, "command", sw_report_text(args->command ? args->command->name : NULL));
    put_status(o, st);
    json_object_set_new(o, "input", sw_report_text(args->input));
    json_object_set_new(o, "output", sw_report_text(args->output));
    json_object_set_new(o, "options", options_object(args));
    json_object_set_new(o, "ranks", json_integer(run->comm.size));
    json_object_set_new(o, "seconds_start", json_real(run->seconds_start));
    json_object_set_new(o, "seconds_total", json_real(run->seconds));
    json_object_set_new(o, "warnings", text_list((const char *const *)run->warnings, run->nwarnings));
    if (args->command)
        args->command->report(run, o);
    return o;
}

/* ---- file ------------------------------------------------------------------------------------ */

sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err)
{
    json_t *object = report_object(run, st);
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    bool made =
        to && sw_report_dump(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6), to) && fputc('\n', to) >= 0;

    if (!to || fclose(to) || !made)
        sw_refuse(err, SW_ENOMEM, NULL, "out of memory");
    else
        sw_file_put(run->args->report, "the report", text, n, err);
    free(text);
    json_decref(object);
    return err->code;
}
