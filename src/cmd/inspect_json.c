/* A checkpoint as one JSON object, written as it goes: there may be millions of boxes. Its keys are
 * documented in docs/inspect.md. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "report.h"
#include "text.h"

/* Text that may be no UTF-8, or empty: a name is never null. */
static bool put_name(const char *name, FILE *to)
{
    json_t *value = name[0] ? sw_report_text(name) : json_string("");
    bool good = value && sw_report_dump(value, JSON_ENCODE_ANY, to);

    json_decref(value);
    return good || ferror(to);
}

static bool put_text(const char *key, const char *text, FILE *to)
{
    fprintf(to, "\"%s\": ", key);
    if (text && text[0])
        return put_name(text, to);
    fputs("null", to);
    return true;
}

static void put_number(const char *key, uint64_t n, FILE *to)
{
    fprintf(to, "\"%s\": %" PRIu64, key, n);
}

/* 0 = there is none. */
static void put_optional(const char *key, uint64_t n, FILE *to)
{
    if (n)
        put_number(key, n, to);
    else
        fprintf(to, "\"%s\": null", key);
}

static void put_bool(const char *key, bool is, FILE *to)
{
    fprintf(to, "\"%s\": %s", key, is ? "true" : "false");
}

static void put_numbers(const char *key, const uint64_t *n, unsigned count, FILE *to)
{
    fprintf(to, "\"%s\": [", key);
    for (unsigned i = 0; i < count; i++)
        fprintf(to, "%s%" PRIu64, i ? ", " : "", n[i]);
    fputc(']', to);
}

static void comma(FILE *to)
{
    fputs(", ", to);
}

/* ---- head ------------------------------------------------------------------------------------ */

static bool put_head(const sw_look *look, const sw_status *st, FILE *to)
{
    static const char *const kinds[] = { "sharded", "plain", "file" };
    const sw_checkpoint_info *info = &look->info;
    char message[sizeof(sw_status) + 64];

    fputs("{\n  \"schema\": 1,\n  ", to);
    if (!put_text("path", look->run->args->input, to))
        return false;
    fprintf(to, ",\n  \"status\": %d,\n  ", sw_code_exit_status(st->code));
    if (!put_text("message", st->code ? sw_status_message(st, message, sizeof message) : NULL, to))
        return false;
    fputs(",\n  ", to);
    if (!put_text("kind", look->cp ? kinds[info->kind] : NULL, to))
        return false;
    fputs(",\n  ", to);
    put_bool("sharded", info->sharded, to);
    fputs(",\n  ", to);
    if (!put_text("index", info->index, to))
        return false;
    fputs(",\n  ", to);
    if (!put_text("shards", info->shards, to))
        return false;
    fputs(",\n  \"totals\": {", to);
    put_number("files", info->nfiles, to), comma(to);
    put_number("file_bytes", info->file_bytes, to), comma(to);
    put_number("tensors", info->ntensors, to), comma(to);
    put_number("boxes", info->nboxes, to), comma(to);
    put_number("parameters", info->parameters, to), comma(to);
    put_number("bytes", info->bytes, to);
    fputs("}", to);
    return true;
}

/* ---- dtypes ---------------------------------------------------------------------------------- */

/* Tensors of one dtype, from the first that has it on. */
static void put_dtype(const sw_look *look, uint64_t first, const char *dtype, FILE *to)
{
    uint64_t tensors = 0, elements = 0, bytes = 0;

    for (uint64_t i = first; i < look->info.ntensors; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, i, &t);
        if (strcmp(t.dtype, dtype) != 0)
            continue;
        tensors++;
        elements = sw_sum(elements, t.elements);
        bytes = sw_sum(bytes, t.bytes);
    }
    fprintf(to, "\"%s\": {", dtype);
    put_number("tensors", tensors, to), comma(to);
    put_number("parameters", elements, to), comma(to);
    put_number("bytes", bytes, to);
    fputc('}', to);
}

static void put_dtypes(const sw_look *look, FILE *to)
{
    const char *seen[64];
    size_t n = 0;

    fputs(",\n  \"dtypes\": {", to);
    for (uint64_t i = 0; i < look->info.ntensors; i++) {
        sw_tensor_info t;
        size_t k = 0;

        sw_checkpoint_tensor(look->cp, i, &t);
        while (k < n && strcmp(seen[k], t.dtype) != 0)
            k++;
        if (k < n || n == sizeof seen / sizeof *seen)
            continue;
        seen[n++] = t.dtype;
        fputs(n > 1 ? ", " : "", to);
        put_dtype(look, i, t.dtype, to);
    }
    fputc('}', to);
}

/* ---- files and tensors ----------------------------------------------------------------------- */

static bool put_files(const sw_look *look, FILE *to)
{
    fputs(",\n  \"files\": [", to);
    for (uint64_t i = 0; i < look->info.nfiles; i++) {
        sw_file_info f;

        sw_checkpoint_file(look->cp, i, &f);
        fprintf(to, "%s\n    {\"name\": ", i ? "," : "");
        if (!put_name(f.name, to))
            return false;
        comma(to);
        put_number("size", f.size, to), comma(to);
        put_optional("data_start", f.data_start, to), comma(to);
        put_number("tensors", f.tensors, to), comma(to);
        put_bool("sharded", f.sharded, to), comma(to);
        put_bool("broken", f.broken, to), comma(to);
        put_optional("shard", f.shard, to), comma(to);
        put_optional("model", f.model, to), comma(to);
        put_optional("of", f.of, to);
        fputc('}', to);
    }
    fputs("\n  ]", to);
    return true;
}

static void put_boxes(const sw_look *look, uint64_t tensor, const sw_tensor_info *t, FILE *to)
{
    fputs("\"boxes\": [", to);
    for (uint64_t k = 0; k < t->nboxes + t->nreplicas; k++) {
        sw_box_info b;

        sw_checkpoint_box(look->cp, tensor, k, &b);
        fprintf(to, "%s\n      {", k ? "," : "");
        put_number("file", b.file, to), comma(to);
        put_numbers("offsets", b.offsets, t->ndim, to), comma(to);
        put_numbers("shape", b.shape, t->ndim, to), comma(to);
        put_number("at", b.at, to), comma(to);
        put_number("bytes", b.bytes, to), comma(to);
        put_bool("replica", k >= t->nboxes, to);
        fputc('}', to);
    }
    fputs("]", to);
}

static bool put_tensor(const sw_look *look, uint64_t tensor, FILE *to)
{
    char words[SW_SHARDING_TEXT];
    sw_status st = SW_STATUS_INIT;
    sw_tensor_info t;

    sw_checkpoint_tensor(look->cp, tensor, &t);
    fputs("\n    {\"name\": ", to);
    if (!put_name(t.name, to) || sw_checkpoint_sharding_text(look->cp, tensor, words, &st))
        return false;
    comma(to);
    if (!put_text("dtype", t.dtype, to))
        return false;
    comma(to);
    put_numbers("shape", t.shape, t.ndim, to), comma(to);
    put_number("parameters", t.elements, to), comma(to);
    put_number("bytes", t.bytes, to), comma(to);
    if (!put_text("sharding", words, to))
        return false;
    comma(to);
    put_bool("broken", t.broken, to), comma(to);
    put_bool("holes", t.holes, to), comma(to);
    put_bool("overlaps", t.overlaps, to), comma(to);
    put_boxes(look, tensor, &t, to);
    fputc('}', to);
    return true;
}

static bool put_tensors(const sw_look *look, FILE *to)
{
    fputs(",\n  \"tensors\": [", to);
    for (uint64_t i = 0; i < look->nchosen; i++) {
        fputs(i ? "," : "", to);
        if (!put_tensor(look, look->chosen[i], to))
            return false;
    }
    fputs("\n  ]", to);
    return true;
}

/* ---- findings -------------------------------------------------------------------------------- */

static bool put_findings(const sw_look *look, FILE *to)
{
    fputs(",\n  \"findings\": [", to);
    for (uint64_t i = 0; i < look->nfindings; i++) {
        const sw_finding *f = &look->findings[i];

        fprintf(to, "%s\n    {", i ? "," : "");
        if (!put_text("file", f->file, to) || (comma(to), !put_text("tensor", f->tensor, to)) ||
            (comma(to), !put_text("reason", f->reason, to)) || (comma(to), !put_text("hint", f->hint, to)))
            return false;
        fputc('}', to);
    }
    fputs(look->nfindings ? "\n  ]" : "]", to);
    return true;
}

static bool put_warnings(const sw_look *look, FILE *to)
{
    fputs(",\n  \"warnings\": [", to);
    for (size_t i = 0; i < look->run->nwarnings; i++) {
        fputs(i ? ", " : "", to);
        if (!put_name(look->run->warnings[i], to))
            return false;
    }
    fputs("]", to);
    return true;
}

bool sw_look_json(const sw_look *look, const sw_status *st, FILE *to)
{
    if (!put_head(look, st, to))
        return false;
    put_dtypes(look, to);
    if (!look->run->args->summary && (!put_files(look, to) || !put_tensors(look, to)))
        return false;
    if (!put_findings(look, to) || !put_warnings(look, to))
        return false;
    fputs("\n}\n", to);
    return true;
}
