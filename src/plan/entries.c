/* What one rank found in the headers of its files; see entries.h. */
#include "plan/entries.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"

static size_t hash_name(const sw_entries *f, const char *name, uint32_t len, size_t table_size)
{
    return (size_t)sw_hash_keyed(f->key, name, len) & (table_size - 1);
}

/* Twice as many places, all names put in anew. */
static sw_code grow_table(sw_entries *f, sw_status *st)
{
    size_t size = f->table_size ? f->table_size * 2 : 1024;
    uint32_t *table = sw_calloc(size, sizeof *table, st);

    if (!table)
        return st->code;
    if (!f->table)
        sw_hash_key(f->key);
    for (size_t i = 0; i < f->nnames; i++) {
        size_t at = hash_name(f, f->texts.data + f->names[i].name, f->names[i].name_len, size);

        while (table[at])
            at = (at + 1) & (size - 1);
        table[at] = (uint32_t)i + 1;
    }
    free(f->table);
    f->table = table;
    f->table_size = size;
    return SW_OK;
}

/* NULL = none was given. */
static const uint64_t *global_shape(const sw_header *h, const sw_entry *e)
{
    return e->global_shape == SW_NO_DIMS ? NULL : h->dims + e->global_shape;
}

/* Does the record speak of the same name, in the same way? */
static bool same_thing(const sw_entries *f, const sw_entry_name *n, const sw_entry *e, const uint64_t *global)
{
    return n->name_len == e->name_len && memcmp(f->texts.data + n->name, e->name, e->name_len) == 0 &&
           n->dtype == e->dtype && n->ndim == e->ndim && (n->global_shape != NULL) == (global != NULL) &&
           (!global || memcmp(n->global_shape, global, n->ndim * sizeof *global) == 0);
}

/* Add a record at a free place of the table. */
static sw_code add_name(sw_entries *f, const sw_entry *e, const uint64_t *global, uint32_t file, size_t at,
                        sw_status *st)
{
    sw_entry_name n = {
        .name = f->texts.len, .name_len = e->name_len, .first_file = file, .dtype = e->dtype, .ndim = e->ndim
    };

    if (f->nnames >= UINT32_MAX - 1)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "more than %" PRIu32 " tensors", UINT32_MAX - 1);
    if (sw_grow(&f->names, &f->cap_names, f->nnames + 1, sizeof *f->names, st) ||
        sw_buf_add(&f->texts, e->name, e->name_len + UINT64_C(1), st))
        return st->code;
    if (global) {
        n.global_shape = sw_calloc(n.ndim, sizeof *global, st);
        if (!n.global_shape)
            return st->code;
        memcpy(n.global_shape, global, n.ndim * sizeof *global);
    }
    f->names[f->nnames++] = n;
    f->table[at] = (uint32_t)f->nnames;
    return SW_OK;
}

/* Find or add a name. Files of one checkpoint mostly hold the same names in the same order, so
 * *guess, the name after the last one, is looked at first. */
static sw_code intern(sw_entries *f, const sw_entry *e, const uint64_t *global, uint32_t file, size_t *guess,
                      sw_status *st)
{
    size_t at;

    if (*guess < f->nnames && same_thing(f, &f->names[*guess], e, global))
        return SW_OK;
    if (f->nnames * 2 >= f->table_size && grow_table(f, st))
        return st->code;
    for (at = hash_name(f, e->name, e->name_len, f->table_size); f->table[at];
         at = (at + 1) & (f->table_size - 1)) {
        *guess = f->table[at] - 1;
        if (same_thing(f, &f->names[*guess], e, global))
            return SW_OK;
    }
    *guess = f->nnames;
    return add_name(f, e, global, file, at, st);
}

sw_code sw_entries_add(sw_entries *f, const sw_header *h, const sw_file *files, uint32_t file, sw_status *st)
{
    static const uint64_t zeros[SW_MAX_DIMS];
    size_t id = 0;

    for (size_t i = 0; i < h->nentries; i++, id++) {
        const sw_entry *e = &h->entries[i];
        const uint64_t *offsets = e->offsets == SW_NO_DIMS ? zeros : h->dims + e->offsets;
        sw_box_record box;

        if (intern(f, e, global_shape(h, e), file, &id, st))
            return st->code;
        f->names[id].count++;
        box = (sw_box_record){ files[file].data_start + e->begin, e->strides ? file | SW_BOX_STRIDED : file,
                               (uint32_t)id };
        if (sw_buf_add(&f->boxes, &box, sizeof box, st) ||
            sw_buf_add(&f->boxes, offsets, e->ndim * sizeof *offsets, st) ||
            sw_buf_add(&f->boxes, h->dims + e->shape, e->ndim * sizeof *h->dims, st) ||
            (e->strides && sw_buf_add(&f->boxes, h->dims + e->strides - 1, e->ndim * sizeof *h->dims, st)))
            return st->code;
    }
    return SW_OK;
}

sw_code sw_entries_pack(const sw_entries *f, sw_buf *out, sw_status *st)
{
    for (size_t i = 0; i < f->nnames; i++) {
        const sw_entry_name *n = &f->names[i];
        sw_name_record r = { n->count, n->name_len, n->first_file, n->dtype, n->ndim, n->global_shape != NULL,
                             { 0 } };

        if (sw_buf_add(out, &r, sizeof r, st) ||
            (n->global_shape && sw_buf_add(out, n->global_shape, n->ndim * sizeof *n->global_shape, st)) ||
            sw_buf_add_text(out, f->texts.data + n->name, n->name_len, st))
            return st->code;
    }
    return SW_OK;
}

void sw_entries_release(sw_entries *f)
{
    for (size_t i = 0; i < f->nnames; i++)
        free(f->names[i].global_shape);
    free(f->names);
    free(f->table);
    sw_buf_release(&f->texts);
    sw_buf_release(&f->boxes);
    *f = (sw_entries)SW_ENTRIES_INIT;
}
