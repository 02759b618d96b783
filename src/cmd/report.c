/* The report; see report.h. A JSON value that could not be made is left out rather than losing the rest: jansson's
 * setters take NULL and say no. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "say.h"

static json_t *integer(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

/* Text that may be no UTF-8 (a path), or NULL or empty: null. */
static json_t *text(const char *s)
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

static json_t *text_list(const char *const *list, size_t n)
{
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, text(list[i]));
    return array;
}

/* ---- options ------------------------------------------------------------------------------------ */

static json_t *option_list(const void *from)
{
    const char *const *list;
    size_t n = 0;

    memcpy(&list, from, sizeof list);
    while (list && list[n])
        n++;
    return text_list(list, n);
}

/* What a row's member holds; null for a value that was not given. */
static json_t *option_value(const sw_args *args, const sw_opt *row)
{
    const char *from = (const char *)args + row->at;
    const char *word;
    uint64_t n;
    bool flag;
    int choice;

    switch (row->type) {
    case SW_OPT_HELP:
        break;
    case SW_OPT_FLAG:
    case SW_OPT_CLEAR:
        memcpy(&flag, from, sizeof flag);
        return json_boolean(flag == (row->type == SW_OPT_FLAG));
    case SW_OPT_TEXT:
        memcpy(&word, from, sizeof word);
        return text(word);
    case SW_OPT_SIZE:
    case SW_OPT_COUNT:
        memcpy(&n, from, sizeof n);
        return n ? integer(n) : json_null();
    case SW_OPT_CHOICE:
        memcpy(&choice, from, sizeof choice);
        return json_string(row->choices[choice]);
    case SW_OPT_PAIRS:
        return option_list(from);
    }
    return json_null();
}

static bool is_library_option(const sw_opt *row)
{
    return row->at >= offsetof(sw_args, opt) && row->at < offsetof(sw_args, opt) + sizeof(sw_options);
}

/* By option name. "no-x" is told by "x". */
static json_t *options_object(const sw_args *args, bool library_only)
{
    json_t *object = json_object();

    if (!args->command)
        return object;
    for (const sw_section *const *s = args->command->sections; *s; s++)
        for (const sw_opt *row = (*s)->rows; row->name; row++)
            if (row->type != SW_OPT_HELP && strncmp(row->name, "no-", 3) != 0 &&
                (!library_only || is_library_option(row)))
                json_object_set_new(object, row->name, option_value(args, row));
    return object;
}

char *sw_options_text(const sw_args *args)
{
    json_t *object = options_object(args, true);
    char *line = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);

    json_decref(object);
    return line;
}

/* ---- result ------------------------------------------------------------------------------------- */

static json_t *files_array(const sw_result *r)
{
    json_t *array = json_array();

    for (uint64_t i = 0; r->files && i < r->nfiles; i++) {
        json_t *file = json_object();

        json_object_set_new(file, "name", text(r->files[i].name));
        json_object_set_new(file, "tensors", integer(r->files[i].tensors));
        json_object_set_new(file, "size", integer(r->files[i].size));
        json_array_append_new(array, file);
    }
    return array;
}

/* "name=value" words as an object. */
static json_t *transport_object(const sw_result *r)
{
    json_t *object = json_object();
    char words[sizeof r->transport];
    char *rest = words;
    char *word;

    snprintf(words, sizeof words, "%s", r->transport);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        char *equals = strchr(word, '=');

        if (!equals)
            continue;
        *equals = '\0';
        json_object_set_new(object, word, json_string(equals + 1));
    }
    return object;
}

/* One number for each key; those of sw_result that are sizes or counts. */
static void put_numbers(json_t *object, const sw_result *r)
{
    const struct {
        const char *key;
        uint64_t n;
    } numbers[] = {
        { "shard_files", r->shard_files },
        { "boxes", r->boxes },
        { "tensors", r->tensors },
        { "parameters", r->parameters },
        { "bytes", r->bytes },
        { "bytes_written", r->bytes_written },
        { "buffer_size", r->buffer_size },
        { "band_size", r->band_size },
        { "rounds", r->rounds },
        { "peak_memory", r->peak_memory },
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(object, numbers[i].key, integer(numbers[i].n));
}

static void put_seconds(json_t *object, const sw_run *run)
{
    const sw_result *r = &run->result;

    json_object_set_new(object, "seconds_start", json_real(run->seconds_start));
    json_object_set_new(object, "seconds_parse", json_real(r->seconds_parse));
    json_object_set_new(object, "seconds_plan", json_real(r->seconds_plan));
    json_object_set_new(object, "seconds_write", json_real(r->seconds_write));
    json_object_set_new(object, "seconds_publish", json_real(r->seconds_publish));
    json_object_set_new(object, "seconds_total", json_real(run->seconds));
}

static const char *assign_text(const sw_result *r)
{
    return r->assign == SW_ASSIGN_OWNER ? "owner" : r->assign == SW_ASSIGN_BAND ? "band" : NULL;
}

static const char *code_name(sw_code code)
{
    static const char *const names[] = {
#define SW_CODE_NAME(name, exit_status, words) #name,
        SW_CODES(SW_CODE_NAME)
#undef SW_CODE_NAME
    };
    return names[code];
}

static void put_status(json_t *object, const sw_status *st)
{
    char message[sizeof(sw_status) + 64];

    json_object_set_new(object, "status", json_integer(sw_code_exit_status(st->code)));
    json_object_set_new(object, "code", json_string(code_name(st->code)));
    json_object_set_new(object, "message",
                        st->code ? text(sw_status_message(st, message, sizeof message)) : json_null());
    json_object_set_new(object, "file", text(st->code ? st->file : NULL));
    json_object_set_new(object, "tensor", text(st->code ? st->tensor : NULL));
    json_object_set_new(object, "reason", text(st->code ? st->reason : NULL));
}

static json_t *report_object(const sw_run *run, const sw_status *st)
{
    const sw_args *args = run->args;
    const sw_result *r = &run->result;
    json_t *o = json_object();

    json_object_set_new(o, "schema", json_integer(1));
    json_object_set_new(o, "version", json_string(SW_VERSION));
    json_object_set_new(o, "command", text(args->command ? args->command->name : NULL));
    put_status(o, st);
    json_object_set_new(o, "input", text(args->input));
    json_object_set_new(o, "output", text(args->output));
    json_object_set_new(o, "options", options_object(args, false));
    json_object_set_new(o, "ranks", json_integer(r->ranks ? r->ranks : run->comm.size));
    json_object_set_new(o, "assign", text(assign_text(r)));
    json_object_set_new(o, "io", text(r->io));
    json_object_set_new(o, "transport", transport_object(r));
    put_numbers(o, r);
    json_object_set_new(o, "files", files_array(r));
    json_object_set_new(o, "index", text(r->index));
    json_object_set_new(o, "recovered", json_boolean(r->recovered));
    put_seconds(o, run);
    json_object_set_new(o, "warnings", text_list((const char *const *)run->warnings, run->nwarnings));
    return o;
}

/* ---- file --------------------------------------------------------------------------------------- */

static sw_code fail_errno(sw_status *err, const char *path)
{
    return sw_refuse(err, SW_EIO, path, "cannot write the report: %s", strerror(errno));
}

/* Everything to path, which is made or emptied. flags: more for open. */
static sw_code write_file(const char *path, const char *show, int flags, const char *data, sw_status *err)
{
    size_t n = strlen(data);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);

    if (fd < 0)
        return fail_errno(err, show);
    while (n > 0 && !err->code) {
        ssize_t k = write(fd, data, n);

        if (k < 0 && errno != EINTR)
            fail_errno(err, show);
        if (k > 0) {
            data += k;
            n -= (size_t)k;
        }
    }
    if (close(fd) && errno != EINTR)
        fail_errno(err, show);
    return err->code;
}

/* A link, pipe or device must not be replaced by a file: think of /dev/stdout. */
static bool replaceable(const char *path)
{
    struct stat s;

    return lstat(path, &s) ? errno == ENOENT : S_ISREG(s.st_mode);
}

/* A new name beside path: the same directory, hidden, this process's own. NULL when memory is short. */
static char *temporary_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) + 1 : 0;
    char *name = NULL;

    if (asprintf(&name, "%.*s.shardweld-report-%ld", dir, path, (long)getpid()) < 0)
        return NULL;
    return name;
}

static sw_code replace_file(const char *path, const char *data, sw_status *err)
{
    char *temporary = temporary_name(path);

    if (!temporary)
        return sw_refuse(err, SW_ENOMEM, NULL, "out of memory");
    if (write_file(temporary, path, O_TRUNC | O_NOFOLLOW, data, err) == SW_OK && rename(temporary, path))
        fail_errno(err, path);
    if (err->code)
        unlink(temporary);
    free(temporary);
    return err->code;
}

sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err)
{
    const char *path = run->args->report;
    json_t *object = report_object(run, st);
    char *body = json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    char *line = NULL;

    if (!body || asprintf(&line, "%s\n", body) < 0) {
        line = NULL;
        sw_refuse(err, SW_ENOMEM, NULL, "out of memory");
    } else if (replaceable(path)) {
        replace_file(path, line, err);
    } else {
        write_file(path, path, O_TRUNC, line, err);
    }
    free(line);
    free(body);
    json_decref(object);
    return err->code;
}
