/* Looking things up in a catalogue; see catalog.h. */
#include "plan/catalog.h"

#include <stdlib.h>
#include <string.h>

static int compare_tensor(const void *name, const void *tensor)
{
    return strcmp(name, ((const sw_tensor *)tensor)->name);
}

const sw_tensor *sw_catalog_find_tensor(const sw_catalog *c, const char *name)
{
    return c->ntensors ? bsearch(name, c->tensors, c->ntensors, sizeof *c->tensors, compare_tensor) : NULL;
}

static int compare_file(const void *name, const void *file)
{
    return strcmp(name, ((const sw_file *)file)->name);
}

const sw_file *sw_catalog_find_file(const sw_catalog *c, const char *name)
{
    return c->nfiles ? bsearch(name, c->files, c->nfiles, sizeof *c->files, compare_file) : NULL;
}

uint64_t sw_box_find(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets)
{
    uint64_t a = 0, b = t->nboxes;

    while (a + 1 < b) {
        uint64_t mid = a + (b - a) / 2;
        unsigned d = 0;
        sw_placed box;

        sw_box_get(c, t, mid, &box);
        while (d < t->ndim && box.offsets[d] == offsets[d])
            d++;
        if (d == t->ndim || box.offsets[d] < offsets[d])
            a = mid;
        else
            b = mid;
    }
    return a;
}

void sw_catalog_release(sw_catalog *c)
{
    free(c->files);
    free(c->file_names);
    free(c->tensors);
    free(c->shapes);
    free(c->boxes);
    free(c->box_dims);
    free(c->strides);
    free(c->listed);
    free(c->names);
    sw_buf_release(&c->list);
    *c = (sw_catalog){ 0 };
}
