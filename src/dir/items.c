/* Heads of items; see items.h. */
#include "dir/items.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "format/archive.h"
#include "format/torchtensor.h"

#define HEAD_LEN 4096u               /* data.pkl, and the header before the elements */
#define TAIL_LEN 2048u               /* the directory: six or seven members */
#define PART_MAX (UINT64_C(1) << 20) /* of what is read whole of an item: no real one comes near */

/* An item that is being looked up. */
typedef struct lookup {
    int fd;
    const char *file;
    const sw_listed_ref *item;
    sw_archive archive;
    char head[HEAD_LEN], tail[TAIL_LEN];
    uint64_t nhead, ntail; /* bytes in them */
    sw_buf more;           /* what lies between */
    char name[64];         /* of the member that was found last, as far as messages show it */
    sw_torch_tensor tensor;
    bool packed;       /* its elements lie row by row */
    uint64_t elements; /* where the first one stands, from the beginning of the file */
} lookup;

static sw_code odd(const lookup *k, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, k->file, k->archive.tensor, "%s", what);
}

/* n bytes of the item; good until the next call. NULL on an error. */
static const char *part(lookup *k, uint64_t at, uint64_t n, sw_status *st)
{
    uint64_t tail = k->archive.size - k->ntail;

    if (n > PART_MAX || at > k->archive.size || n > k->archive.size - at) {
        odd(k, "a part of its item lies outside, or is too large", st);
        return NULL;
    }
    if (at + n <= k->nhead)
        return k->head + at;
    if (at >= tail)
        return k->tail + (at - tail);
    k->more.len = 0;
    if (sw_buf_reserve(&k->more, n + 1, st) ||
        sw_fd_read_at(k->fd, k->file, k->more.data, n, k->item->box->at + at, st))
        return NULL;
    return k->more.data;
}

/* The member of that name, of which there is one. Its own name is copied: the directory may stand
 * where the next part is put. */
static sw_code find_member(lookup *k, const char *name, bool *found, sw_member *out, sw_status *st)
{
    const char *dir = part(k, k->archive.dir_at, k->archive.dir_len, st);
    uint64_t at = 0;
    sw_member m;

    *found = false;
    while (dir && sw_archive_next(&k->archive, dir, &at, &m, st))
        if (sw_member_is(&m, name)) {
            if (*found)
                return odd(k, "its item has two members of one name", st);
            *found = true;
            *out = m;
            out->name = memcpy(k->name, m.name, (size_t)sw_min(m.name_len, sizeof k->name));
        }
    return st->code;
}

/* Where the bytes of a member begin, from the beginning of the item. */
static sw_code place_of(lookup *k, const sw_member *m, uint64_t *at, sw_status *st)
{
    const char *head = part(k, m->at, SW_ARCHIVE_HEAD, st);

    return head ? sw_archive_bytes(&k->archive, m, head, at, st) : st->code;
}

/* The bytes of a small member, checked; NULL on an error, and when it is not there. */
static const char *member_bytes(lookup *k, const char *name, sw_member *m, uint64_t *at, sw_status *st)
{
    const char *bytes = NULL;
    bool found;

    if (!find_member(k, name, &found, m, st) && found && !place_of(k, m, at, st))
        bytes = part(k, *at, m->size, st);
    return bytes && !sw_archive_check(&k->archive, m, bytes, st) ? bytes : NULL;
}

static sw_code read_ends(lookup *k, sw_status *st)
{
    uint64_t at = k->item->box->at, size = k->archive.size;

    k->nhead = sw_min(size, HEAD_LEN);
    k->ntail = sw_min(size, TAIL_LEN);
    if (sw_fd_read_at(k->fd, k->file, k->head, k->nhead, at, st))
        return st->code;
    if (size <= HEAD_LEN)
        memcpy(k->tail, k->head + size - k->ntail, k->ntail);
    else if (sw_fd_read_at(k->fd, k->file, k->tail, k->ntail, at + size - k->ntail, st))
        return st->code;
    return sw_archive_find(&k->archive, k->tail, k->ntail, st);
}

/* Is it the tensor that the list speaks of? packed: its elements lie row by row. */
static sw_code check_tensor(lookup *k, sw_status *st)
{
    const sw_listed_tensor *listed = k->item->tensor;
    const uint64_t *shape = sw_listed_dims(k->item->box) + listed->ndim;
    const sw_torch_tensor *t = &k->tensor;
    uint64_t packed = 1;

    if (t->dtype != listed->dtype)
        return sw_fail(st, SW_EINPUT, k->file, k->archive.tensor, "its item is %s, expected %s",
                       sw_dtype_name(t->dtype), sw_dtype_name((sw_dtype)listed->dtype));
    if (t->ndim != listed->ndim || (t->ndim && memcmp(t->shape, shape, t->ndim * sizeof *shape) != 0))
        return odd(k, "its item has another shape than its box", st);
    k->packed = true;
    for (unsigned d = t->ndim; d-- > 0;) {
        k->packed = k->packed && (t->shape[d] <= 1 || t->strides[d] == packed);
        packed *= t->shape[d];
    }
    for (unsigned d = 0; d < t->ndim; d++)
        k->packed = k->packed || t->shape[d] == 0;
    /* One dimension more is for the bytes of an element. */
    if (!k->packed && t->ndim == SW_MAX_DIMS)
        return odd(k, "elements of 32 dimensions that do not lie row by row", st);
    return SW_OK;
}

static sw_code look_up(lookup *k, sw_status *st)
{
    sw_member pickle, order, m;
    uint64_t at, end, unused;
    const char *bytes;
    bool found;

    if (read_ends(k, st))
        return st->code;
    bytes = member_bytes(k, "data.pkl", &pickle, &at, st);
    if (!bytes)
        return st->code ? st->code : odd(k, "its item has no data.pkl", st);
    end = at + pickle.size;
    if (sw_torch_tensor_parse(bytes, pickle.size, k->file, k->archive.tensor, &k->tensor, st) ||
        check_tensor(k, st))
        return st->code;
    bytes = member_bytes(k, "byteorder", &order, &unused, st);
    if (bytes && (order.size != 6 || memcmp(bytes, "little", 6) != 0))
        return odd(k, "it was saved on a big-endian machine", st);
    if (st->code || find_member(k, k->tensor.member, &found, &m, st))
        return st->code;
    if (!found || m.size != k->tensor.storage_size)
        return odd(k, found ? "its storage has another length than its item says" : "its item has no storage",
                   st);
    if (place_of(k, &m, &at, st))
        return st->code;
    if (at < end && pickle.at < at + m.size)
        return odd(k, "two members of its item overlap", st);
    k->elements = k->item->box->at + at + k->tensor.first * (sw_dtype_bits(k->tensor.dtype) / 8);
    return SW_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Numbers that an entry of a header speaks of. */
static uint32_t keep_dims(sw_header *h, const uint64_t *dims, unsigned n)
{
    uint32_t at = (uint32_t)h->ndims;

    if (n)
        memcpy(h->dims + h->ndims, dims, n * sizeof *dims);
    h->ndims += n;
    return at;
}

static void add_entry(sw_header *h, const lookup *k)
{
    const sw_listed_tensor *t = k->item->tensor;
    const uint64_t *dims = sw_listed_dims(k->item->box);
    uint64_t bytes = sw_dtype_bits((sw_dtype)t->dtype) / 8;

    for (unsigned d = 0; d < t->ndim; d++)
        bytes *= dims[t->ndim + d];
    h->entries[h->nentries++] =
        (sw_entry){ .name = sw_listed_name(t),
                    .name_len = t->name_len,
                    .dtype = t->dtype,
                    .ndim = t->ndim,
                    .begin = k->elements,
                    .end = k->elements + bytes,
                    .shape = keep_dims(h, dims + t->ndim, t->ndim),
                    .offsets = keep_dims(h, dims, t->ndim),
                    .global_shape = keep_dims(h, sw_listed_shape(t), t->ndim),
                    .strides = k->packed ? 0 : 1 + keep_dims(h, k->tensor.strides, t->ndim) };
    h->data_len = sw_max(h->data_len, k->elements + bytes);
}

static sw_code make_room(sw_header *h, sw_listed_boxes items, const char *name, sw_status *st)
{
    uint64_t dims = 0;

    for (uint64_t i = 0; i < items.n; i++)
        dims += 4 * (uint64_t)items.boxes[i].tensor->ndim;
    if (dims >= SW_NO_DIMS)
        return sw_fail(st, SW_EINPUT, name, NULL, "too many boxes in one file");
    h->entries = sw_calloc(items.n, sizeof *h->entries, st);
    h->dims = sw_calloc(dims, sizeof *h->dims, st);
    h->sharded = h->format_pt = true;
    return st->code;
}

sw_code sw_items_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_listed_boxes items,
                      sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    lookup *k = sw_calloc(1, sizeof *k, st);
    uint64_t h = 0;
    int fd = -1;

    sw_front_release(f);
    if (st->code || make_room(&f->h, items, name, st))
        goto out;
    if (sw_fd_open(path, name, &fd, st)) {
        sw_path_gone(path, name, st);
        goto out;
    }
    k->fd = fd;
    k->file = name;
    for (uint64_t i = 0; i < items.n && !st->code; i++) {
        const sw_listed_box *b = items.boxes[i].box;

        k->item = &items.boxes[i];
        k->archive = (sw_archive){ name, sw_listed_name(items.boxes[i].tensor), b->length, 0, 0 };
        if (b->at > size || b->length > size - b->at)
            sw_fail(st, SW_EINPUT, name, k->archive.tensor,
                    "found %" PRIu64 " bytes, but an item ends at %" PRIu64, size, b->at + b->length);
        else if (!look_up(k, st))
            add_entry(&f->h, k);
        h = sw_hash(h, &k->elements, sizeof k->elements);
        h = sw_hash(h, b, sizeof *b + 2 * items.boxes[i].tensor->ndim * sizeof(uint64_t));
    }
    f->hash = h;
out:
    sw_fd_close(fd, name, st);
    if (k)
        sw_buf_release(&k->more);
    free(k);
    free(path);
    if (st->code)
        sw_front_release(f);
    return st->code;
}
