/* Places of boxes; see items.h. */
#include "dir/items.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "dir/torchfile.h"
#include "dir/torchitem.h"

/* The safetensors file that begins at a byte of the file: torch puts values before it. */
typedef struct inner {
    sw_front front; /* none where its text is empty */
    uint64_t at;
    const sw_entry **by_name;
} inner;

/* A file that is being looked into. */
typedef struct lookup {
    int fd;
    const char *file;
    uint64_t size;
    const sw_listed_ref *ref; /* the box */
    sw_torch_item *item;
    bool archives; /* the items of this file are: it is written in one way */
    inner inner;
    sw_torch_file *archive; /* that the file is, where entries are looked for in one */
    sw_buf *values;         /* names of what else is in it */
    /* found: where the first element stands, bytes of the file; and the others, in elements */
    uint64_t first;
    uint64_t strides[SW_MAX_DIMS];
} lookup;

/* An error about the box that is looked for. */
static sw_code odd(const lookup *k, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, k->file, sw_listed_name(k->ref->tensor), "%s", what);
}

/* Its sizes, behind its offsets. */
static const uint64_t *shape_of(const lookup *k)
{
    return sw_listed_dims(k->ref->box) + k->ref->tensor->ndim;
}

/* The numbers behind the shape of the box; NULL = there are none. */
static const uint64_t *more_of(const lookup *k)
{
    return k->ref->tensor->sets > 2 ? shape_of(k) + k->ref->tensor->ndim : NULL;
}

/* Do its elements lie row by row? Those of an empty box do. */
static bool is_packed(const lookup *k)
{
    const uint64_t *shape = shape_of(k);
    unsigned ndim = k->ref->tensor->ndim;
    uint64_t n = 1;
    bool packed = true;

    for (unsigned d = ndim; d-- > 0; n *= shape[d]) {
        if (shape[d] == 0)
            return true;
        packed = packed && (shape[d] == 1 || k->strides[d] == n);
    }
    return packed;
}

/* ---- plain elements -------------------------------------------------------------------------- */

/* The elements begin where the list says, at its strides or row by row. */
static sw_code find_plain(lookup *k, sw_status *st)
{
    const sw_listed_box *b = k->ref->box;

    if (b->at > k->size || b->length > k->size - b->at)
        return sw_fail(st, SW_EINPUT, k->file, sw_listed_name(k->ref->tensor),
                       "found %" PRIu64 " bytes, but a box ends at %" PRIu64, k->size, b->at + b->length);
    k->first = b->at;
    if (more_of(k))
        memcpy(k->strides, more_of(k), k->ref->tensor->ndim * sizeof *k->strides);
    else
        sw_listed_strides(shape_of(k), k->ref->tensor->ndim, k->strides);
    return SW_OK;
}

/* ---- entries of a safetensors file ----------------------------------------------------------- */

/* Entries of one header, by their names. */
static int by_name(const void *a, const void *b)
{
    const sw_entry *x = *(const sw_entry *const *)a, *y = *(const sw_entry *const *)b;

    return strcmp(x->name, y->name);
}

/* The header of the safetensors file that begins at a byte; the last one is kept. */
static sw_code open_inner(lookup *k, uint64_t at, sw_status *st)
{
    inner *in = &k->inner;
    const sw_header *h = &in->front.h;

    if (in->by_name && in->at == at)
        return SW_OK;
    free(in->by_name);
    in->by_name = NULL;
    if (sw_front_read_at(&in->front, k->fd, k->file, at, k->size, st) ||
        !(in->by_name = sw_calloc(h->nentries, sizeof *in->by_name, st)))
        return st->code;
    in->at = at;
    for (size_t i = 0; i < h->nentries; i++)
        in->by_name[i] = &h->entries[i];
    sw_sort(in->by_name, h->nentries, sizeof *in->by_name, by_name);
    return SW_OK;
}

/* Does the file say of an entry that it is this box? One that says nothing is believed. */
static bool is_box(const lookup *k, const sw_entry *e, bool part)
{
    unsigned ndim = k->ref->tensor->ndim;

    return part || e->offsets == SW_NO_DIMS || e->ndim != ndim || ndim == 0 ||
           memcmp(k->inner.front.h.dims + e->offsets, sw_listed_dims(k->ref->box), ndim * sizeof(uint64_t)) ==
               0;
}

/* The entry of a box: of several of one name that of its offsets. NULL = there is none. */
static const sw_entry *find_entry(const lookup *k, const char *name, bool part)
{
    const inner *in = &k->inner;
    sw_search s = { .end = in->front.h.nentries };

    while (sw_search_on(&s))
        sw_search_tell(&s, strcmp(in->by_name[s.mid]->name, name) < 0);
    for (; s.at < in->front.h.nentries && strcmp(in->by_name[s.at]->name, name) == 0; s.at++)
        if (is_box(k, in->by_name[s.at], part))
            return in->by_name[s.at];
    return NULL;
}

/* What is there of a tensor: an entry of a header, or a tensor of an archive. */
typedef struct held {
    unsigned dtype, ndim;
    const uint64_t *shape;
    uint64_t first; /* byte of the file */
} held;

/* It is the box, or (part) the box lies somewhere in it: where that begins. k->strides are its
 * strides. */
static sw_code take_held(lookup *k, const held *e, const uint64_t *part, sw_status *st)
{
    const uint64_t *shape = shape_of(k), *has = e->shape;
    const sw_listed_tensor *t = k->ref->tensor;
    unsigned bits = sw_dtype_bits((sw_dtype)t->dtype);
    uint64_t end, first = 0;
    bool whole = true, empty = false;

    if (e->dtype != t->dtype)
        return sw_fail(st, SW_EINPUT, k->file, sw_listed_name(t), "its entry is %s, expected %s",
                       sw_dtype_name((sw_dtype)e->dtype), sw_dtype_name((sw_dtype)t->dtype));
    if (e->ndim != t->ndim)
        return odd(k, "its entry has another number of dimensions than its box", st);
    for (unsigned d = 0; d < e->ndim; d++) {
        uint64_t begin = part ? part[d] : 0;

        whole = whole && shape[d] == has[d];
        empty = empty || shape[d] == 0;
        if (!sw_add(begin, shape[d], &end) || end > has[d] || (!part && shape[d] != has[d]))
            return odd(k, "its entry has another shape than its box", st);
        first += begin * k->strides[d];
    }
    if (!whole && bits < 8)
        return odd(k, "a part of an entry, of elements that are no whole bytes", st);
    k->first = e->first + (whole || empty ? 0 : first * (bits / 8));
    return SW_OK;
}

/* The elements are those of a tensor of an archive of torch.save, or a part of them. */
static sw_code find_in_archive(lookup *k, const char *name, const uint64_t *part, sw_status *st)
{
    sw_torch_tensor t;
    held h = { .shape = t.shape };

    if (sw_torch_file_find(k->archive, name, sw_listed_name(k->ref->tensor), &t, &h.first, st))
        return st->code;
    h.dtype = t.dtype;
    h.ndim = t.ndim;
    memcpy(k->strides, t.strides, t.ndim * sizeof *t.strides);
    return take_held(k, &h, part, st);
}

/* Is the file an archive? It is opened once, and tells what is no tensor in it then: named, as its
 * tensors are, with what their entries lack. */
static sw_code open_archive(lookup *k, sw_status *st)
{
    if (k->archive || k->inner.by_name || !sw_torch_file_is(k->fd, k->file, k->size, st))
        return st->code;
    k->archive = sw_torch_file_open(k->fd, k->file, k->size, st);
    return k->archive ? sw_torch_file_values(k->archive, sw_listed_saved_name(k->ref->tensor),
                                             k->ref->box->skip, k->values, st)
                      : st->code;
}

/* The elements are those of an entry of a header, or a part of them. */
static sw_code find_in_entry(lookup *k, sw_status *st)
{
    const sw_listed_box *b = k->ref->box;
    const uint64_t *part = b->form == SW_FORM_ENTRY ? more_of(k) : NULL;
    const char *name = sw_listed_saved_name(k->ref->tensor) + b->skip;
    const sw_entry *e;
    held h;

    if (b->form == SW_FORM_ENTRY && open_archive(k, st))
        return st->code;
    if (k->archive)
        return find_in_archive(k, name, part, st);
    if (open_inner(k, b->at, st))
        return st->code;
    e = find_entry(k, name, part != NULL);
    if (!e)
        return odd(k, "a box of it is not in this file", st);
    h = (held){ e->dtype, e->ndim, k->inner.front.h.dims + e->shape,
                k->inner.at + 8 + k->inner.front.text.len + e->begin };
    sw_listed_strides(h.shape, h.ndim, k->strides);
    return take_held(k, &h, part, st);
}

/* ---- items of torch -------------------------------------------------------------------------- */

/* Does the header of a safetensors file stand there? An archive begins with a signature, which
 * would be the length of a header of a gigabyte. */
static sw_code is_header(const lookup *k, uint64_t at, bool *is, sw_status *st)
{
    unsigned char first[9];
    uint64_t n;

    *is = false;
    if (at > k->size || k->size - at < sizeof first)
        return SW_OK;
    if (sw_fd_read_at(k->fd, k->file, first, sizeof first, at, st))
        return st->code;
    n = sw_little(first, 8);
    *is = first[8] == '{' && n <= SW_HEADER_MAX && n <= k->size - at - 8;
    return SW_OK;
}

/* What torch wrote of the box: an archive, or, where all items of the file are so, an entry. */
static sw_code find_item(lookup *k, sw_status *st)
{
    const sw_listed_box *b = k->ref->box;
    const uint64_t *strides;
    bool header = k->inner.by_name && k->inner.at == b->at;

    if (!header && !k->archives && is_header(k, b->at, &header, st))
        return st->code;
    if (header)
        return find_in_entry(k, st);
    k->archives = true;
    if (b->at > k->size || b->length > k->size - b->at)
        return sw_fail(st, SW_EINPUT, k->file, sw_listed_name(k->ref->tensor),
                       "found %" PRIu64 " bytes, but an item ends at %" PRIu64, k->size, b->at + b->length);
    if (!sw_torch_item_find(k->item, k->ref, &k->first, &strides, st))
        memcpy(k->strides, strides, k->ref->tensor->ndim * sizeof *strides);
    return st->code;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Where its elements are, whatever stands there. */
static sw_code find_box(lookup *k, sw_status *st)
{
    switch ((sw_box_form)k->ref->box->form) {
    case SW_FORM_PLAIN:
        return find_plain(k, st);
    case SW_FORM_ITEM:
        return find_item(k, st);
    case SW_FORM_ENTRY:
        return find_in_entry(k, st);
    }
    return st->code;
}

/* The box as an entry of a header, with its offsets, and strides where it needs some. */
static sw_code add_entry(sw_header *h, const lookup *k, sw_status *st)
{
    const sw_listed_tensor *t = k->ref->tensor;
    const uint64_t *dims = sw_listed_dims(k->ref->box);
    uint64_t bits = sw_dtype_bits((sw_dtype)t->dtype);
    bool packed = is_packed(k);

    /* One dimension more is for the bytes of an element. */
    if (!packed && t->ndim == SW_MAX_DIMS)
        return odd(k, "elements of 32 dimensions that do not lie row by row", st);
    for (unsigned d = 0; d < t->ndim; d++)
        bits *= dims[t->ndim + d];
    h->entries[h->nentries++] =
        (sw_entry){ .name = sw_listed_name(t),
                    .name_len = t->name_len - t->cut,
                    .dtype = t->dtype,
                    .ndim = t->ndim,
                    .begin = k->first,
                    .end = k->first + bits / 8,
                    .shape = sw_header_keep(h, dims + t->ndim, t->ndim),
                    .offsets = sw_header_keep(h, dims, t->ndim),
                    .global_shape = sw_header_keep(h, sw_listed_shape(t), t->ndim),
                    .strides = packed ? 0 : 1 + sw_header_keep(h, k->strides, t->ndim) };
    h->data_len = sw_max(h->data_len, k->first + bits / 8);
    return SW_OK;
}

/* Room for all boxes of a file. */
static sw_code make_room(sw_header *h, sw_listed_boxes boxes, const char *name, sw_status *st)
{
    uint64_t dims = 0;

    for (uint64_t i = 0; i < boxes.n; i++)
        dims += 4 * (uint64_t)boxes.boxes[i].tensor->ndim;
    if (dims >= SW_NO_DIMS)
        return sw_fail(st, SW_EINPUT, name, NULL, "too many boxes in one file");
    h->sharded = h->format_pt = true;
    return sw_header_make_room(h, boxes.n, dims, st);
}

sw_code sw_items_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_listed_boxes boxes,
                      sw_status *st)
{
    lookup k = { .fd = -1, .file = name, .size = size, .values = &f->values };
    uint64_t h = 0;

    sw_front_release(f);
    if (make_room(&f->h, boxes, name, st) || (k.fd = sw_path_open_named(dir, name, st)) < 0)
        goto out;
    k.item = sw_torch_item_new(k.fd, name, st);
    for (uint64_t i = 0; i < boxes.n && !st->code; i++) {
        const sw_listed_ref *r = &boxes.boxes[i];

        k.ref = r;
        if (!find_box(&k, st))
            add_entry(&f->h, &k, st);
        h = sw_hash(h, &k.first, sizeof k.first);
        h = sw_hash(h, r->box, sizeof *r->box + r->tensor->sets * r->tensor->ndim * sizeof(uint64_t));
    }
    f->hash = h;
out:
    sw_fd_close(k.fd, name, st);
    sw_torch_item_free(k.item);
    sw_torch_file_free(k.archive);
    free(k.inner.by_name);
    sw_front_release(&k.inner.front);
    if (st->code)
        sw_front_release(f);
    return st->code;
}
