/* A checkpoint as one JSON object. Its keys are documented in docs/inspect.md. */
#include "emit.h"
#include "inspect.h"
#include "say.h"

/* What is known of a path that cannot be looked at, too. */
static void put_head(sw_emit *j, const sw_look *look)
{
    static const char *const kinds[] = { "sharded", "plain", "file" };
    const sw_checkpoint_info *info = &look->info;
    const sw_status *st = look->st;
    char message[SW_MESSAGE_TEXT];

    sw_emit_number(j, "schema", 1);
    sw_emit_text(j, "path", look->args->input);
    sw_emit_number(j, "status", (uint64_t)sw_code_exit_status(st->code));
    sw_emit_text(j, "message", st->code ? sw_status_message(st, message, sizeof message) : NULL);
    sw_emit_text(j, "kind", look->cp ? kinds[info->kind] : NULL);
    sw_emit_bool(j, "sharded", info->sharded);
    sw_emit_text(j, "index", info->index);
    sw_emit_text(j, "shards", info->shards);
    sw_emit_object(j, "totals", true);
    sw_emit_number(j, "files", info->nfiles);
    sw_emit_number(j, "file_bytes", info->file_bytes);
    sw_emit_number(j, "tensors", info->ntensors);
    sw_emit_number(j, "boxes", info->nboxes);
    sw_emit_number(j, "parameters", info->parameters);
    sw_emit_number(j, "bytes", info->bytes);
    sw_emit_end(j);
}

/* What there is of each dtype. */
static void put_dtypes(sw_emit *j, const sw_look *look)
{
    sw_emit_object(j, "dtypes", true);
    for (const sw_dtype_sum *d = look->dtypes; d < look->dtypes + look->ndtypes; d++) {
        sw_emit_object(j, d->dtype, true);
        sw_emit_number(j, "tensors", d->tensors);
        sw_emit_number(j, "parameters", d->elements);
        sw_emit_number(j, "bytes", d->bytes);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

/* Boxes name a file by its place in this list. */
static void put_files(sw_emit *j, const sw_look *look)
{
    uint64_t at = 0;
    sw_note_info note;
    bool noted = look->cp && sw_checkpoint_note(look->cp, &at, &note);

    sw_emit_list(j, "files", false);
    for (uint64_t i = 0; i < look->info.nfiles; i++) {
        sw_file_info f;

        sw_checkpoint_file(look->cp, i, &f);
        sw_emit_object(j, NULL, true);
        sw_emit_name(j, "name", f.name);
        sw_emit_number(j, "size", f.size);
        sw_emit_optional(j, "data_start", f.data_start);
        sw_emit_number(j, "tensors", f.tensors);
        sw_emit_bool(j, "sharded", f.sharded);
        sw_emit_bool(j, "broken", f.broken);
        sw_emit_optional(j, "shard", f.shard);
        sw_emit_optional(j, "model", f.model);
        sw_emit_optional(j, "of", f.of);
        sw_emit_object(j, "metadata", true);
        for (; noted && note.file == i; noted = sw_checkpoint_note(look->cp, &at, &note))
            sw_emit_name(j, note.key, note.value);
        sw_emit_end(j);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

/* Replicas stand behind the boxes that they repeat. */
static void put_boxes(sw_emit *j, const sw_look *look, uint64_t tensor, const sw_tensor_info *t)
{
    sw_emit_list(j, "boxes", false);
    for (uint64_t k = 0; k < t->nboxes + t->nreplicas; k++) {
        sw_box_info b;

        sw_checkpoint_box(look->cp, tensor, k, &b);
        sw_emit_object(j, NULL, true);
        sw_emit_number(j, "file", b.file);
        sw_emit_dims(j, "offsets", b.offsets, t->ndim);
        sw_emit_dims(j, "shape", b.shape, t->ndim);
        sw_emit_number(j, "at", b.at);
        sw_emit_number(j, "bytes", b.bytes);
        if (!b.packed)
            sw_emit_dims(j, "strides", b.strides, t->ndim);
        sw_emit_bool(j, "replica", k >= t->nboxes);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

/* Those that --tensor chooses. */
static void put_tensors(sw_emit *j, const sw_look *look)
{
    char words[SW_SHARDING_TEXT];

    sw_emit_list(j, "tensors", false);
    for (uint64_t i = 0; i < look->nchosen; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, look->chosen[i], &t);
        sw_checkpoint_sharding_text(look->cp, look->chosen[i], words, look->err);
        sw_emit_object(j, NULL, true);
        sw_emit_name(j, "name", t.name);
        sw_emit_text(j, "dtype", t.dtype);
        sw_emit_dims(j, "shape", t.shape, t.ndim);
        sw_emit_number(j, "parameters", t.elements);
        sw_emit_number(j, "bytes", t.bytes);
        sw_emit_text(j, "sharding", words);
        if (t.counted) {
            sw_emit_number(j, "nan", t.nan);
            sw_emit_number(j, "inf", t.inf);
        }
        sw_emit_bool(j, "broken", t.broken);
        sw_emit_bool(j, "holes", t.holes);
        sw_emit_bool(j, "overlaps", t.overlaps);
        put_boxes(j, look, look->chosen[i], &t);
        sw_emit_end(j);
    }
    sw_emit_end(j);
}

void sw_look_json(FILE *to, const void *about)
{
    const sw_look *look = about;
    sw_emit j = { .to = to };

    sw_emit_object(&j, NULL, false);
    put_head(&j, look);
    put_dtypes(&j, look);
    if (!look->args->summary) {
        put_files(&j, look);
        put_tensors(&j, look);
        /* What was saved beside tensors, by its names. */
        sw_emit_list(&j, "values", false);
        for (uint64_t i = 0; i < look->info.nvalues; i++)
            sw_emit_name(&j, NULL, sw_checkpoint_value(look->cp, i));
        sw_emit_end(&j);
    }
    sw_emit_findings(&j, look->findings, look->nfindings);
    sw_emit_texts(&j, "warnings", (const char *const *)look->run->warnings, look->run->nwarnings);
    sw_emit_end(&j);
    fputc('\n', to);
}
