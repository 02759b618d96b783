/* Slots in files, their bytes, and the headers before them; see layout.h.
 *
 * Every rank does all of it on the whole catalogue, so it must stay near-linear: there may be
 * millions of slots. Headers are kept nowhere: one is made again for each range that is asked for
 * (a rank asks for its own ranges only, each once). */
#include "plan/layout.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "plan/dims.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Elements, and bytes as written, of a shape; false when they do not fit. */
static bool measure_shape(const uint64_t *shape, const sw_tensor *t, uint64_t *elements, uint64_t *bytes)
{
    uint64_t bits = sw_dtype_bits((sw_dtype)t->out_dtype);

    /* Elements of 4 and 6 bits fill whole bytes together; eight elements always do. */
    return sw_dims_product(shape, t->ndim, elements) && sw_mul(*elements / 8, bits, bytes) &&
           sw_add(*bytes, *elements % 8 * bits / 8, bytes);
}

uint64_t sw_tensor_out_bytes(const sw_catalog *c, const sw_tensor *t)
{
    uint64_t elements, bytes;

    return measure_shape(sw_tensor_shape(c, t), t, &elements, &bytes) ? bytes : UINT64_MAX;
}

/* ---- arranging ------------------------------------------------------------------------------- */

/* By file, dtype, name. Tensors are numbered by name, so their numbers stand for their names. */
static int by_file(const void *a, const void *b)
{
    const sw_slot *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

sw_code sw_layout_arrange(const sw_catalog *c, sw_layout *l, sw_layout_name name, void *ctx, sw_status *st)
{
    bool lone = l->nslots == 0 && !l->index_name && !l->shards;
    uint32_t nfiles = lone;

    for (uint32_t i = 0; i < l->nslots; i++)
        l->order[i].end = c->tensors[l->order[i].tensor].out_dtype;
    sw_sort(l->order, l->nslots, sizeof *l->order, by_file);
    for (uint32_t i = 0; i < l->nslots; i++)
        nfiles += i == 0 || l->order[i].begin != l->order[i - 1].begin;
    l->files = sw_calloc(nfiles, sizeof *l->files, st);
    for (uint32_t at = 0; l->files && l->nfiles < nfiles; l->nfiles++) {
        sw_layout_file *f = &l->files[l->nfiles];
        uint64_t key = lone ? 0 : l->order[at].begin;

        f->first = at;
        while (at < l->nslots && l->order[at].begin == key)
            at++;
        f->count = at - f->first;
        f->name = name(ctx, key, st);
        if (!f->name)
            return st->code;
    }
    return st->code;
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* A slot as a header tells of it. */
static sw_header_box header_box(const sw_catalog *c, const sw_layout *l, const sw_slot *slot)
{
    static const uint64_t zeros[SW_MAX_DIMS];
    const sw_tensor *t = &c->tensors[slot->tensor];
    const uint64_t *box = sw_slot_box(l, slot), *all = sw_tensor_shape(c, t);

    return (sw_header_box){ .name = t->name,
                            .dtype = (sw_dtype)t->out_dtype,
                            .ndim = t->ndim,
                            .offsets = box ? box : zeros,
                            .shape = box ? box + t->ndim : all,
                            .global_shape = all,
                            .begin = slot->begin,
                            .end = slot->end };
}

/* The head of a file's header into text. */
static sw_code make_head(const sw_catalog *c, const sw_layout *l, const sw_layout_file *file, sw_buf *text,
                         sw_status *st)
{
    sw_header_box *boxes = NULL;

    text->len = 0;
    if (l->shards)
        boxes = sw_calloc(file->count, sizeof *boxes, st);
    for (uint32_t i = 0; boxes && i < file->count; i++)
        boxes[l->told ? l->told[l->order[file->first + i].tensor] - file->first : i] =
            header_box(c, l, &l->order[file->first + i]);
    if (!st->code)
        sw_header_head(l->shards ? l->set : NULL, boxes, file->count, text, st);
    free(boxes);
    return st->code;
}

/* The bytes of one file's slots; what they add up to goes into the totals, too. A shard file holds
 * no more of a tensor than the whole one has, so its sizes fit if those of the whole layout do. */
static sw_code measure_data(const sw_catalog *c, sw_layout *l, const sw_layout_file *file, uint64_t *bytes,
                            sw_status *st)
{
    *bytes = 0;
    for (uint32_t i = 0; i < file->count; i++) {
        sw_slot *slot = &l->order[file->first + i];
        const sw_tensor *t = &c->tensors[slot->tensor];
        uint64_t size, elements;

        slot->begin = *bytes;
        /* File offsets are signed, and a header must fit before the data. */
        if (!measure_shape(header_box(c, l, slot).shape, t, &elements, &size) ||
            !sw_add(*bytes, size, bytes) || *bytes > INT64_MAX - SW_HEADER_LENGTH - SW_HEADER_MAX ||
            (!l->shards &&
             (!sw_add(l->parameters, elements, &l->parameters) || !sw_add(l->bytes, size, &l->bytes))))
            return sw_fail(st, l->shards ? SW_EUSAGE : SW_EINPUT, file->name, t->name,
                           "sizes add up to more than a file can hold");
        slot->end = *bytes;
    }
    return SW_OK;
}

/* Is the header one that can be read? */
static sw_code check_header(const sw_layout *l, const sw_layout_file *file, sw_status *st)
{
    if (l->shards)
        return sw_header_check_length(file->header_len, st);
    if (file->header_len > SW_HEADER_MAX)
        return sw_fail(st, SW_EINPUT, file->name, NULL,
                       "the header of its %" PRIu32 " tensors would be larger than the limit of %u bytes: "
                       "split it into more files (sw_options.max_shard_size)",
                       file->count, SW_HEADER_MAX);
    return SW_OK;
}

/* Where the entries begin in the header, and its length. text is scratch. */
static sw_code measure_header(const sw_catalog *c, sw_layout *l, sw_layout_file *file, sw_buf *text,
                              sw_status *st)
{
    if (make_head(c, l, file, text, st))
        return st->code;
    file->header_len = text->len;
    for (uint32_t i = 0; i < file->count; i++) {
        sw_slot *slot = &l->order[file->first + i];
        const sw_header_box box = header_box(c, l, slot);

        slot->header_at = (uint32_t)file->header_len;
        text->len = 0;
        if (sw_header_entry(&box, text, st))
            return st->code;
        file->header_len += text->len;
    }
    file->header_len = sw_round_up(file->header_len + strlen(SW_HEADER_TAIL), SW_HEADER_LENGTH);
    return check_header(l, file, st);
}

sw_code sw_layout_measure(const sw_catalog *c, sw_layout *l, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    for (uint32_t f = 0; f < l->nfiles; f++) {
        sw_layout_file *file = &l->files[f];
        uint64_t bytes;

        if (measure_data(c, l, file, &bytes, st) || measure_header(c, l, file, &text, st))
            break;
        file->size = SW_HEADER_LENGTH + file->header_len + bytes;
    }
    sw_buf_release(&text);
    return st->code;
}

/* ---- headers --------------------------------------------------------------------------------- */

/* The range [from, from + n) of something that is made piece by piece. */
typedef struct window {
    char *to;
    uint64_t from, n;
} window;

/* The piece text[0..len) lies at byte at: copy what of it the window shows. */
static void window_put(const window *w, uint64_t at, const char *text, uint64_t len)
{
    uint64_t begin = sw_max(at, w->from), end = sw_min(at + len, w->from + w->n);

    if (begin < end)
        memcpy(w->to + (begin - w->from), text + (begin - at), (size_t)(end - begin));
}

/* The last of count slots whose entry begins at or before byte at of the JSON; 0 when none does. */
static uint32_t slot_at(const sw_slot *slots, uint32_t count, uint64_t at)
{
    sw_search s = { .end = count };

    while (sw_search_on(&s))
        sw_search_tell(&s, slots[s.mid].header_at <= at);
    return (uint32_t)sw_search_last(&s);
}

/* The entries that the window meets, and the tail if it may show it. text is scratch; it holds the
 * head where there are no entries. */
static sw_code put_entries(const sw_catalog *c, const sw_layout *l, const sw_layout_file *file,
                           const window *w, sw_buf *text, sw_status *st)
{
    uint64_t at = SW_HEADER_LENGTH + text->len;
    uint64_t first = w->from > SW_HEADER_LENGTH ? w->from - SW_HEADER_LENGTH : 0;
    const sw_slot *slots = l->order + file->first;
    uint32_t i = slot_at(slots, file->count, first);

    for (; i < file->count && SW_HEADER_LENGTH + (uint64_t)slots[i].header_at < w->from + w->n; i++) {
        const sw_header_box box = header_box(c, l, &slots[i]);

        text->len = 0;
        if (sw_header_entry(&box, text, st))
            return st->code;
        at = SW_HEADER_LENGTH + (uint64_t)slots[i].header_at;
        window_put(w, at, text->data, text->len);
        at += text->len;
    }
    if (i == file->count)
        window_put(w, at, SW_HEADER_TAIL, strlen(SW_HEADER_TAIL));
    return st->code;
}

sw_code sw_layout_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t from, uint64_t n,
                         char *to, sw_status *st)
{
    const sw_layout_file *file = &l->files[f];
    uint64_t head = file->count ? SW_HEADER_LENGTH + (uint64_t)l->order[file->first].header_at : UINT64_MAX;
    const window w = { to, from, n };
    char length[SW_HEADER_LENGTH];
    sw_buf text = SW_BUF_INIT;

    assert(f < l->nfiles && from <= SW_HEADER_LENGTH + file->header_len &&
           n <= SW_HEADER_LENGTH + file->header_len - from);
    if (n == 0)
        return st->code;
    memset(to, ' ', (size_t)n); /* the padding */
    sw_header_put_length(file->header_len, length);
    window_put(&w, 0, length, sizeof length);
    if (from < head && !make_head(c, l, file, &text, st))
        window_put(&w, SW_HEADER_LENGTH, text.data, text.len);
    if (!st->code)
        put_entries(c, l, file, &w, &text, st);
    sw_buf_release(&text);
    return st->code;
}

void sw_layout_release(sw_layout *l)
{
    for (uint32_t f = 0; l->files && f < l->nfiles; f++)
        free(l->files[f].name);
    free(l->files);
    free(l->order);
    free(l->set);
    free(l->told);
    free(l->box_dims);
    free(l->index_name);
    sw_buf_release(&l->unused_names);
    *l = (sw_layout){ 0 };
}
