/* What will be written; see outputs.h. */
#include "plan/outputs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/filenames.h"
#include "plan/dims.h"

#define NONE UINT32_MAX

/* What has been decided for one tensor of the catalogue. */
typedef struct decision {
    sw_op op;
    uint8_t dtype;  /* of the output */
    bool is_scale;  /* it goes into another tensor */
    uint32_t scale; /* its own */
} decision;

typedef struct builder {
    const sw_catalog *c;
    const sw_value_rule *rule;
    char *const *names; /* NULL = left out: nothing is said of these */
    decision *d;        /* one a tensor */
    uint64_t kept, bare, bare_blocks, joined, scaled;
    const char *first_bare;   /* the first FP8 tensor without a scale */
    const char *first_blocks; /* the same of blocks */
    /* the first floating-point tensor that is cast beside its scales */
    const sw_tensor *first_scaled;
} builder;

/* ---- quantized tensors ----------------------------------------------------------------------- */

/* A tensor that has scales becomes plain numbers, and they disappear. Nothing is said of what is
 * left out. */
static sw_code dequantize(builder *b, uint32_t i, sw_status *st)
{
    const sw_tensor *t = &b->c->tensors[i];
    uint32_t scale = t->scale - 1;
    decision *d = &b->d[i];

    if ((!b->names[i] && !b->names[scale]) || sw_find_dequantizer(b->c, t, &d->op, st))
        return st->code;
    d->scale = scale;
    d->dtype = (uint8_t)b->rule->dequantize;
    b->d[scale].is_scale = true;
    b->joined += b->names[i] != NULL;
    return SW_OK;
}

/* Scales by name and form that scale nothing. */
static sw_code check_alone(const builder *b, uint32_t i, sw_status *st)
{
    const sw_tensor *t = &b->c->tensors[i];

    if (t->scaled || !b->names[i])
        return SW_OK;
    if (sw_name_ends_with(t->name, SW_END_WEIGHT SW_END_SCALE_INV))
        return sw_fail(st, SW_EINPUT, NULL, t->name, "a scale without its weight");
    if (sw_name_ends_with(t->name, SW_END_SCALES) && t->dtype == SW_U8 && t->ndim == 3)
        return sw_fail(st, SW_EINPUT, NULL, t->name, "scales without their blocks");
    return SW_OK;
}

/* What looks quantized, and has no scales. */
static void note_bare(builder *b, uint32_t i)
{
    const sw_tensor *t = &b->c->tensors[i];

    if (t->scale || t->scaled || !b->names[i])
        return;
    if (sw_is_fp8(t) && b->bare++ == 0)
        b->first_bare = t->name;
    if (sw_is_mxfp4(b->c, t) && sw_name_ends_with(t->name, SW_END_BLOCKS) && b->bare_blocks++ == 0)
        b->first_blocks = t->name;
}

/* Quantized tensors and their scales, and what only looks like them. */
static sw_code decide_quantized(builder *b, sw_status *st)
{
    for (uint32_t i = 0; i < b->c->ntensors && !st->code; i++) {
        if (b->c->tensors[i].scale)
            dequantize(b, i, st);
        else if (!check_alone(b, i, st))
            note_bare(b, i);
    }
    return st->code;
}

/* ---- casts ----------------------------------------------------------------------------------- */

/* What the mapping says of a tensor; SW_NDTYPES = nothing. */
static sw_code mapped_dtype(const builder *b, const sw_tensor *t, sw_dtype *mapped, sw_status *st)
{
    const sw_map_item *item = b->rule->map ? sw_map_find(b->rule->map, t->name) : NULL;

    *mapped = SW_NDTYPES;
    if (item && !sw_dtype_parse_any(item->text, strlen(item->text), mapped))
        return sw_fail(st, SW_EINPUT, b->rule->map_file, t->name, "'%s' is not a dtype", item->text);
    return SW_OK;
}

/* A mapping that names F32 for every floating tensor tells nothing of what is F32 by nature. */
static sw_code all_mapped_to_f32(const builder *b, bool *all, sw_status *st)
{
    sw_dtype mapped;

    *all = true;
    for (uint32_t i = 0; i < b->c->ntensors && *all; i++) {
        const sw_tensor *t = &b->c->tensors[i];

        if (!sw_dtype_is_floating((sw_dtype)t->dtype))
            continue;
        if (mapped_dtype(b, t, &mapped, st))
            return st->code;
        *all = mapped == SW_F32;
    }
    return SW_OK;
}

/* The output dtype of a tensor that is not dequantized. */
static sw_code decide_cast(builder *b, uint32_t i, bool all_f32, sw_status *st)
{
    const sw_tensor *t = &b->c->tensors[i];
    sw_dtype mapped, to = (sw_dtype)t->dtype;

    if (mapped_dtype(b, t, &mapped, st) || b->d[i].is_scale || b->d[i].op != SW_OP_COPY || !b->names[i])
        return st->code;
    if (!sw_dtype_is_floating((sw_dtype)t->dtype)) {
        b->kept += mapped != SW_NDTYPES && mapped != (sw_dtype)t->dtype && !sw_dtype_is_floating(mapped);
        return SW_OK;
    }
    if (b->rule->cast != SW_NDTYPES)
        to = mapped == SW_F32 && !all_f32 ? SW_F32 : b->rule->cast;
    else if (mapped != SW_NDTYPES && sw_dtype_is_floating(mapped))
        to = mapped;
    else
        b->kept += mapped != SW_NDTYPES && mapped != (sw_dtype)t->dtype;
    if (b->rule->cast != SW_NDTYPES && t->scale && b->scaled++ == 0)
        b->first_scaled = t;
    b->d[i].dtype = (uint8_t)to;
    b->d[i].op = to == (sw_dtype)t->dtype ? SW_OP_COPY : SW_OP_CAST;
    return SW_OK;
}

/* What becomes of each tensor. */
static sw_code decide(builder *b, sw_status *st)
{
    bool all_f32 = false;

    for (uint32_t i = 0; i < b->c->ntensors; i++)
        b->d[i] = (decision){ SW_OP_COPY, b->c->tensors[i].dtype, false, NONE };
    if (b->rule->dequantize != SW_NDTYPES && decide_quantized(b, st))
        return st->code;
    if (b->rule->cast != SW_NDTYPES && all_mapped_to_f32(b, &all_f32, st))
        return st->code;
    for (uint32_t i = 0; i < b->c->ntensors && !st->code; i++)
        decide_cast(b, i, all_f32, st);
    return st->code;
}

/* What is not as somebody may have meant it. */
static sw_code warn(const builder *b, sw_buf *warnings, sw_status *st)
{
    if (b->kept)
        sw_buf_add_line(warnings, st,
                        "%" PRIu64
                        " tensors are saved in another dtype than %s names (quantized or integer): they stay "
                        "as they are",
                        b->kept, b->rule->map_file);
    if (b->bare)
        sw_buf_add_line(warnings, st,
                        "%" PRIu64 " FP8 tensors have no scale (X.weight" SW_END_SCALE_INV
                        " for X.weight) and stay as they are, the first is '%s'",
                        b->bare, b->first_bare);
    if (b->bare_blocks)
        sw_buf_add_line(warnings, st,
                        "%" PRIu64 " tensors of blocks have no scales (X" SW_END_SCALES " for X" SW_END_BLOCKS
                        ") and stay as they are, the first is '%s'",
                        b->bare_blocks, b->first_blocks);
    if (b->scaled)
        sw_buf_add_line(warnings, st,
                        "%" PRIu64
                        " floating-point tensors have scales and are only cast, the first is '%s' with '%s': "
                        "dequantize makes plain ones of them",
                        b->scaled, b->first_scaled->name, b->c->tensors[b->first_scaled->scale - 1].name);
    if (b->rule->dequantize != SW_NDTYPES && !b->joined && !b->bare && !b->bare_blocks)
        sw_buf_add_line(warnings, st, "there is nothing to dequantize");
    return st->code;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* An output by name. */
typedef struct named {
    const char *name;
    size_t len;
    uint32_t source;
} named;

/* For qsort; equal names by tensor. */
static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    int cmp = sw_text_compare(x->name, x->len, y->name, y->len);

    return cmp ? cmp : (x->source > y->source) - (x->source < y->source);
}

/* X_blocks becomes X. */
static size_t output_len(const builder *b, uint32_t i, const char *name)
{
    size_t len = strlen(name);

    return b->d[i].op == SW_OP_MXFP4 && sw_name_ends_with(name, SW_END_BLOCKS) ? len - strlen(SW_END_BLOCKS)
                                                                               : len;
}

/* All outputs by name, none twice; *out is the caller's to free, after an error too. */
static sw_code list_named(const builder *b, char *const *names, named **out, uint32_t *n, sw_status *st)
{
    named *list = sw_calloc(b->c->ntensors, sizeof *list, st);
    bool scales = false;

    *n = 0;
    for (uint32_t i = 0; list && i < b->c->ntensors; i++) {
        if (names[i] && b->d[i].is_scale)
            scales = true;
        else if (names[i])
            list[(*n)++] = (named){ names[i], output_len(b, i, names[i]), i };
    }
    sw_sort(list, *n, sizeof *list, by_name);
    for (uint32_t i = 0; i < *n; i++)
        if (list[i].len == 0 && names[list[i].source][0])
            sw_fail(st, SW_EUSAGE, NULL, b->c->tensors[list[i].source].name,
                    "without '" SW_END_BLOCKS "' nothing is left of its name");
        else if (sw_text_is(list[i].name, list[i].len, SW_METADATA_KEY))
            sw_fail(st, SW_EUSAGE, NULL, b->c->tensors[list[i].source].name,
                    "would be written as '" SW_METADATA_KEY "', which no tensor can be called");
    if (list && *n == 0 && scales)
        sw_fail(st, SW_EUSAGE, NULL, NULL, "only scales of quantized tensors are left, and they disappear");
    for (uint32_t i = 1; i < *n; i++)
        if (sw_text_compare(list[i].name, list[i].len, list[i - 1].name, list[i - 1].len) == 0)
            sw_fail(st, SW_EUSAGE, NULL, b->c->tensors[list[i].source].name,
                    "would be written as '%.*s', and so would '%s'", (int)list[i].len, list[i].name,
                    b->c->tensors[list[i - 1].source].name);
    *out = list;
    return st->code;
}

/* One output: the saved tensor with another name, dtype and perhaps shape. */
static sw_code add_output(const builder *b, sw_outputs *o, const named *from, char *name, uint64_t *dims,
                          sw_status *st)
{
    const sw_tensor *source = &b->c->tensors[from->source];
    const uint64_t *shape = sw_tensor_shape(b->c, source);
    uint32_t i = o->view.ntensors++;
    sw_tensor *t = &o->view.tensors[i];
    uint64_t bits;

    o->how[i] = (sw_output){ b->d[from->source].op, from->source, b->d[from->source].scale };
    memcpy(name, from->name, from->len);
    *t = (sw_tensor){ .name = name,
                      .dtype = b->d[from->source].dtype,
                      .out_dtype = b->d[from->source].dtype,
                      .ndim = source->ndim,
                      .model = source->model,
                      .dims0 = (uint64_t)(dims - o->view.shapes) };
    memcpy(dims, shape, source->ndim * sizeof *dims);
    if (o->how[i].op == SW_OP_MXFP4) {
        t->ndim = 3;
        dims[1] = shape[2];
        dims[2] = shape[1];
        if (!sw_mul(dims[1], SW_MXFP4_BLOCK, &dims[1]))
            return sw_fail(st, SW_EINPUT, NULL, source->name, "its shape overflows");
    }
    if (!sw_dims_product(dims, t->ndim, &t->elements) ||
        !sw_mul(t->elements, sw_dtype_bits((sw_dtype)t->out_dtype), &bits))
        return sw_fail(st, SW_EINPUT, NULL, source->name, "its size as %s overflows",
                       sw_dtype_name((sw_dtype)t->out_dtype));
    t->bytes = bits / 8;
    return SW_OK;
}

/* The outputs and their texts and shapes, each in one block. */
static sw_code fill_outputs(const builder *b, char *const *names, sw_outputs *o, sw_status *st)
{
    uint64_t dims = 0, text = 0;
    named *list = NULL;
    uint32_t n;

    if (list_named(b, names, &list, &n, st))
        goto out;
    for (uint32_t i = 0; i < n; i++) {
        dims += b->c->tensors[list[i].source].ndim;
        text += list[i].len + 1;
    }
    o->how = sw_calloc(n, sizeof *o->how, st);
    o->view.tensors = sw_calloc(n, sizeof *o->view.tensors, st);
    o->view.shapes = sw_calloc(dims, sizeof *o->view.shapes, st);
    o->view.names = sw_calloc(text, 1, st);
    dims = text = 0;
    for (uint32_t i = 0; i < n && !st->code; i++) {
        add_output(b, o, &list[i], o->view.names + text, o->view.shapes + dims, st);
        dims += b->c->tensors[list[i].source].ndim;
        text += list[i].len + 1;
    }
out:
    free(list);
    return st->code;
}

sw_code sw_outputs_build(const sw_catalog *c, char *const *names, const sw_value_rule *rule, sw_buf *warnings,
                         sw_outputs *out, sw_status *st)
{
    builder b = { .c = c, .rule = rule, .names = names };

    *out = (sw_outputs){ .c = c };
    b.d = sw_calloc(c->ntensors, sizeof *b.d, st);
    if (b.d && !decide(&b, st) && !fill_outputs(&b, names, out, st))
        warn(&b, warnings, st);
    free(b.d);
    /* A layout by the numbers in file names looks at them. */
    out->view.files = st->code ? NULL : c->files;
    out->view.nfiles = st->code ? 0 : c->nfiles;
    if (st->code)
        sw_outputs_release(out);
    return st->code;
}

void sw_outputs_release(sw_outputs *o)
{
    o->view.files = NULL; /* the catalogue's */
    sw_catalog_release(&o->view);
    free(o->how);
    *o = (sw_outputs){ 0 };
}
