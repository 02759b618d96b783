/* Heads of items; see torchitem.h. */
#include "dir/torchitem.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/archive.h"
#include "format/torchtensor.h"

#define HEAD_LEN 4096u               /* data.pkl, and the header before the elements */
#define TAIL_LEN 2048u               /* the directory: six or seven members */
#define PART_MAX (UINT64_C(1) << 20) /* of what is read whole of an item: no real one comes near */

struct sw_torch_item {
    int fd;
    const char *file;
    const sw_listed_ref *item;
    sw_archive archive;
    char head[HEAD_LEN], tail[TAIL_LEN];
    uint64_t nhead, ntail; /* bytes in them */
    sw_buf more;           /* what lies between */
    char name[64];         /* of the member that was found last, as far as messages show it */
    sw_torch_tensor tensor;
};

typedef struct sw_torch_item lookup;

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

/* Both ends of the item, in which its directory and data.pkl mostly lie. */
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

/* Is it the tensor that the list speaks of? */
static sw_code check_tensor(const lookup *k, sw_status *st)
{
    const sw_listed_tensor *listed = k->item->tensor;
    const uint64_t *shape = sw_listed_dims(k->item->box) + listed->ndim;
    const sw_torch_tensor *t = &k->tensor;

    if (t->dtype != listed->dtype)
        return sw_fail(st, SW_EINPUT, k->file, k->archive.tensor, "its item is %s, expected %s",
                       sw_dtype_name(t->dtype), sw_dtype_name((sw_dtype)listed->dtype));
    if (t->ndim != listed->ndim || (t->ndim && memcmp(t->shape, shape, t->ndim * sizeof *shape) != 0))
        return odd(k, "its item has another shape than its box", st);
    return SW_OK;
}

/* Find its parts, and where the first element stands. */
static sw_code look_up(lookup *k, uint64_t *first, sw_status *st)
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
    *first = k->item->box->at + at + k->tensor.first * (sw_dtype_bits(k->tensor.dtype) / 8);
    return SW_OK;
}

sw_torch_item *sw_torch_item_new(int fd, const char *file, sw_status *st)
{
    sw_torch_item *k = sw_calloc(1, sizeof *k, st);

    if (k) {
        k->fd = fd;
        k->file = file;
    }
    return k;
}

sw_code sw_torch_item_find(sw_torch_item *k, const sw_listed_ref *item, uint64_t *first,
                           const uint64_t **strides, sw_status *st)
{
    k->item = item;
    k->archive = (sw_archive){ k->file, sw_listed_name(item->tensor), item->box->length, 0, 0 };
    *strides = k->tensor.strides;
    return look_up(k, first, st);
}

void sw_torch_item_free(sw_torch_item *k)
{
    if (k)
        sw_buf_release(&k->more);
    free(k);
}
