/* A checkpoint as a list of boxes (docs/boxes.md): a line for each box, and what is on it is all
 * that a reader needs. */
#include <inttypes.h>

#include "emit.h"
#include "inspect.h"

/* The line of a box. */
static void put_box(FILE *to, const sw_look *look, const sw_tensor_info *t, const sw_box_info *b)
{
    sw_emit j = { .to = to };
    sw_file_info f;

    sw_checkpoint_file(look->cp, b->file, &f);
    sw_emit_object(&j, NULL, true);
    sw_emit_name(&j, "name", t->name);
    sw_emit_text(&j, "dtype", t->dtype);
    sw_emit_dims(&j, "shape", t->shape, t->ndim);
    sw_emit_name(&j, "file", f.name);
    sw_emit_number(&j, "offset", b->at);
    sw_emit_object(&j, "box", true);
    sw_emit_dims(&j, "offsets", b->offsets, t->ndim);
    sw_emit_dims(&j, "shape", b->shape, t->ndim);
    sw_emit_end(&j);
    if (!b->packed)
        sw_emit_dims(&j, "strides", b->strides, t->ndim);
    sw_emit_end(&j);
    fputc('\n', to);
}

/* A tensor without elements has no box: a line that is all of it keeps it. */
static void put_empty(FILE *to, const sw_look *look, const sw_tensor_info *t)
{
    sw_box_info all = { .packed = true, .file = t->file };

    for (unsigned d = 0; d < t->ndim; d++)
        all.shape[d] = t->shape[d];
    put_box(to, look, t, &all);
}

void sw_look_boxes(FILE *to, const void *about)
{
    const sw_look *look = about;

    for (uint64_t i = 0; i < look->nchosen; i++) {
        sw_tensor_info t;
        sw_box_info b;

        sw_checkpoint_tensor(look->cp, look->chosen[i], &t);
        for (uint64_t k = 0; k < t.nboxes + t.nreplicas; k++) {
            sw_checkpoint_box(look->cp, look->chosen[i], k, &b);
            put_box(to, look, &t, &b);
        }
        if (t.nboxes == 0)
            put_empty(to, look, &t);
    }
}
