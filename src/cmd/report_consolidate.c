/* What shardweld consolidate adds to the report; see docs/report.md. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "report.h"

static json_t *files_array(const sw_result *r)
{
    json_t *array = json_array();

    for (uint64_t i = 0; r->files && i < r->nfiles; i++) {
        json_t *file = json_object();

        json_object_set_new(file, "name", sw_report_text(r->files[i].name));
        json_object_set_new(file, "tensors", sw_report_integer(r->files[i].tensors));
        json_object_set_new(file, "size", sw_report_integer(r->files[i].size));
        json_array_append_new(array, file);
    }
    return array;
}

static json_t *assets_array(const sw_result *r)
{
    json_t *array = json_array();

    for (uint64_t i = 0; i < r->nassets; i++)
        json_array_append_new(array, sw_report_text(r->assets[i]));
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
        json_object_set_new(object, numbers[i].key, sw_report_integer(numbers[i].n));
}

void sw_cmd_consolidate_report(const sw_run *run, struct json_t *object)
{
    const sw_result *r = &run->result;

    json_object_set_new(object, "assign", sw_report_assign(r->assign));
    json_object_set_new(object, "io", sw_report_text(r->io));
    json_object_set_new(object, "transport", transport_object(r));
    put_numbers(object, r);
    json_object_set_new(object, "shards", sw_report_text(r->shards));
    json_object_set_new(object, "files", files_array(r));
    json_object_set_new(object, "index", sw_report_text(r->index));
    json_object_set_new(object, "assets", assets_array(r));
    json_object_set_new(object, "recovered", json_boolean(r->recovered));
    json_object_set_new(object, "seconds_parse", json_real(r->seconds_parse));
    json_object_set_new(object, "seconds_plan", json_real(r->seconds_plan));
    json_object_set_new(object, "seconds_write", json_real(r->seconds_write));
    json_object_set_new(object, "seconds_verify", json_real(r->seconds_verify));
    json_object_set_new(object, "seconds_publish", json_real(r->seconds_publish));
}
