/* The report; see run.h. */
#include <stdio.h>
#include <string.h>

#include "emit.h"
#include "file.h"
#include "run.h"
#include "say.h"
#include "text.h"
#include "version.h"

/* ---- options --------------------------------------------------------------------------------- */

/* The words of an option that may be repeated. */
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
    case SW_OPT_TOLERANCE:
        sw_emit_object(j, row->name, true);
        sw_emit_real(j, "absolute", args->allowed.absolute);
        sw_emit_real(j, "relative", args->allowed.relative);
        sw_emit_end(j);
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

/* What the ranks speak by; a process that is alone has taken nothing. */
static void put_mpi(sw_emit *j, const sw_run *run)
{
    char told[8192] = "", mpi[SW_VERSION_MPI];
    bool speaks = run->comm.ctx != NULL;

    if (speaks)
        sw_mpi_version(told, sizeof told);
    sw_version_mpi(told, mpi);
    sw_emit_text(j, "layer", speaks ? sw_mpi_kind() : "none");
    sw_emit_text(j, "mpi", mpi);
}

/* What OUTPUT_DIR was found to be able to do; null where nobody tried. */
static void put_store(sw_emit *j, const sw_store *s)
{
    if (s->kind == SW_STORE_AUTO) {
        sw_emit_text(j, "store", NULL);
        return;
    }
    sw_emit_object(j, "store", true);
    sw_emit_text(j, "kind", s->kind == SW_STORE_STREAM ? "stream" : "random");
    sw_emit_text(j, "type", s->type[0] ? s->type : NULL);
    sw_emit_bool(j, "objects", s->objects);
    sw_emit_bool(j, "rewrites", s->rewrites);
    sw_emit_bool(j, "renames", s->renames);
    sw_emit_bool(j, "locks", s->locks);
    sw_emit_bool(j, "reserves", s->reserves);
    sw_emit_number(j, "targets", s->targets);
    sw_emit_end(j);
}

/* What was written, or would be. */
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

/* What ran; null where nothing did. */
static void put_assign(sw_emit *j, sw_assign assign)
{
    sw_emit_text(j, "assign", assign == SW_ASSIGN_AUTO ? NULL : sw_assign_text(assign));
}

void sw_report_result(const sw_run *run, sw_emit *j)
{
    const sw_result *r = &run->result;

    put_assign(j, r->assign);
    put_store(j, &r->store);
    sw_emit_text(j, "io", r->io);
    put_transport(j, r);
    sw_emit_number(j, "shard_files", r->shard_files);
    sw_emit_text(j, "shards", r->shards);
    sw_emit_number(j, "boxes", r->boxes);
    sw_emit_number(j, "tensors", r->tensors);
    sw_emit_number(j, "parameters", r->parameters);
    sw_emit_number(j, "bytes", r->bytes);
    sw_emit_number(j, "bytes_written", r->bytes_written);
    sw_emit_number(j, "buffer_size", r->buffer_size);
    sw_emit_number(j, "band_size", r->band_size);
    sw_emit_number(j, "rounds", r->rounds);
    sw_emit_number(j, "peak_memory", r->peak_memory);
    put_files(j, r);
    sw_emit_text(j, "index", r->index);
    sw_emit_texts(j, "assets", (const char *const *)r->assets, r->nassets);
    sw_emit_bool(j, "recovered", r->recovered);
    sw_emit_bool(j, "unneeded", r->unneeded);
    sw_emit_real(j, "seconds_parse", r->seconds_parse);
    sw_emit_real(j, "seconds_plan", r->seconds_plan);
    sw_emit_real(j, "seconds_write", r->seconds_write);
    sw_emit_real(j, "seconds_copy", r->seconds_copy);
    sw_emit_real(j, "seconds_verify", r->seconds_verify);
    sw_emit_real(j, "seconds_publish", r->seconds_publish);
}

void sw_report_verification(const sw_run *run, sw_emit *j)
{
    const sw_verification *r = &run->verification;

    put_assign(j, r->assign);
    sw_emit_number(j, "files", r->files);
    sw_emit_number(j, "tensors", r->tensors);
    sw_emit_number(j, "bytes", r->bytes);
    sw_emit_number(j, "unread", r->unread);
    sw_emit_number(j, "replicas", r->replicas);
    sw_emit_number(j, "shard_files", r->shard_files);
    sw_emit_text(j, "shards", r->shards);
    sw_emit_number(j, "buffer_size", r->buffer_size);
    sw_emit_number(j, "peak_memory", r->peak_memory);
    sw_emit_findings(j, r->findings, r->nfindings);
    sw_emit_real(j, "seconds_plan", r->seconds_plan);
    sw_emit_real(j, "seconds_compare", r->seconds_compare);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* The name of a status, as in shardweld.h. */
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
    sw_emit_text(j, "file", st->file);
    sw_emit_text(j, "tensor", st->tensor);
    sw_emit_text(j, "reason", st->reason);
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

/* The whole report; what a failed run did not get to is 0 or null. */
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
    put_mpi(&j, run);
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
