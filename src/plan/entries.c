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

/* ---- rules ----------------------------------------------------------------------------------- */

/* So many boxes are put into rules at once, and at least so many of a name: where there are fewer,
 * rules save nothing. Later, where there are rules, so many are, and one of a name. */
#define BATCH 4096
#define EACH 4
#define LATER 256

/* Rules that so many boxes have made must be few by then. */
#define TRIAL 64

/* Behind the box record of a rule. */
typedef struct rule_record {
    uint32_t nloops;
    uint8_t dims[SW_RULE_LOOPS];
    sw_rule_loop loops[SW_RULE_LOOPS];
} rule_record;

void sw_box_record_take(const sw_box_record *rec, unsigned ndim, const sw_file *files, sw_taken *out)
{
    const rule_record *more = (const void *)(rec + 1);
    uint64_t ndims = 2 * ndim;

    out->is_rule = (rec->file & SW_BOX_RULE) != 0;
    out->record = rec;
    /* all of it: rules are hashed as they lie, the same on every rank */
    memset(&out->rule, 0, sizeof out->rule);
    out->rule.at = rec->at;
    out->rule.file = rec->file & SW_BOX_FILE;
    out->dims = out->is_rule ? (const void *)(more + 1) : (const void *)(rec + 1);
    out->strides = NULL;
    if (out->is_rule) {
        out->rule.nloops = (uint8_t)more->nloops;
        memcpy(out->rule.dims, more->dims, sizeof more->dims);
        memcpy(out->rule.loops, more->loops, sizeof more->loops);
    } else {
        out->rule.at -= files[out->rule.file].data_start;
    }
    if (rec->file & SW_BOX_STRIDED) {
        out->strides = out->dims + ndims;
        ndims += ndim;
    }
    out->size = sizeof *rec + (out->is_rule ? sizeof *more : 0) + ndims * sizeof *out->dims;
}

sw_taken_name sw_name_record_take(const sw_buf *names, uint64_t *at)
{
    const sw_name_record *rec = (const void *)(names->data + *at);
    sw_taken_name out = { rec, rec->has_global ? (const void *)(rec + 1) : NULL, NULL };

    *at += sizeof *rec + (out.global_shape ? rec->ndim * sizeof *out.global_shape : 0);
    out.name = names->data + *at;
    *at += sw_text_room(rec->name_len);
    return out;
}

/* The rules of a name go to the stream, and are given up. */
static sw_code emit_rules(sw_entries *f, uint32_t name, const sw_file *files, sw_status *st)
{
    sw_rules *r = f->names[name].rules;

    for (size_t i = 0; i < r->n && !st->code; i++) {
        const sw_rule *rule = &r->items[i];
        sw_box_record rec = { rule->at, rule->file, name };
        rule_record more = { .nloops = rule->nloops };

        if (rule->nloops) {
            rec.file |= SW_BOX_RULE;
            memcpy(more.dims, rule->dims, rule->nloops);
            memcpy(more.loops, rule->loops, rule->nloops * sizeof *rule->loops);
        } else {
            rec.at += files[rule->file].data_start;
        }
        if (!sw_buf_add(&f->boxes, &rec, sizeof rec, st) &&
            !(rule->nloops && sw_buf_add(&f->boxes, &more, sizeof more, st)))
            sw_buf_add(&f->boxes, r->dims + i * 2 * r->ndim, 2u * r->ndim * sizeof *r->dims, st);
    }
    sw_rules_release(r);
    free(r);
    f->names[name].rules = NULL;
    return st->code;
}

/* Elements that are no whole bytes may be cut within one, and each box is looked at for it. */
static bool takes_rules(const sw_entry_name *n)
{
    return !n->plain && sw_dtype_bits((sw_dtype)n->dtype) % 8 == 0;
}

/* A box becomes part of a rule. False: it stays in the stream. */
static bool fold(sw_entry_name *n, const sw_taken *box, sw_status *st)
{
    if (box->strides || !takes_rules(n))
        return false;
    if (!n->rules) {
        n->rules = sw_calloc(1, sizeof *n->rules, st);
        if (!n->rules)
            return false;
        n->rules->ndim = n->ndim;
    }
    sw_rules_add(n->rules, &box->rule, box->dims, st);
    n->plain = sw_rules_fail(n->rules) || (n->rules->n >= TRIAL && !sw_rules_pay(n->rules));
    return true;
}

/* What stands behind from comes before what stands behind at: it is of earlier files. */
static sw_code bring_forward(sw_buf *b, size_t at, size_t from, sw_status *st)
{
    size_t n = b->len - from;
    sw_buf late = SW_BUF_INIT;

    if (n == 0 || from == at || sw_buf_add(&late, b->data + at, from - at, st))
        return st->code;
    memmove(b->data + at, b->data + from, n);
    memcpy(b->data + at + n, late.data, late.len);
    sw_buf_release(&late);
    return SW_OK;
}

/* What has come since the last time. */
static sw_code fold_late(sw_entries *f, const sw_file *files, sw_status *st)
{
    size_t kept = f->folded;

    for (size_t at = f->folded; at < f->boxes.len && !st->code;) {
        const sw_box_record *rec = (const void *)(f->boxes.data + at);
        sw_entry_name *n = &f->names[rec->name];
        sw_taken box;

        sw_box_record_take(rec, n->ndim, files, &box);
        if (!fold(n, &box, st)) {
            memmove(f->boxes.data + kept, rec, box.size);
            kept += box.size;
        }
        at += box.size;
    }
    f->boxes.len = kept;
    f->nlate = 0;
    for (uint32_t i = 0; i < f->nnames && !st->code; i++)
        if (f->names[i].plain && f->names[i].rules)
            emit_rules(f, i, files, st);
    bring_forward(&f->boxes, f->folded, kept, st);
    f->folded = f->boxes.len;
    if (!f->folds)
        sw_buf_fit(&f->boxes); /* so many will never wait again */
    f->folds = true;
    return st->code;
}

/* What waits becomes rules, once it is much. */
static sw_code fold_when_many(sw_entries *f, const sw_file *files, sw_status *st)
{
    size_t many = f->batch ? f->batch : f->folds ? sw_max(LATER, f->nnames) : sw_max(BATCH, EACH * f->nnames);

    return f->nlate >= many ? fold_late(f, files, st) : SW_OK;
}

/* What waits becomes rules, where that saves anything: before rules of later files come, between
 * which it would lie, or at the end. */
static sw_code fold_rest(sw_entries *f, const sw_file *files, sw_status *st)
{
    bool many = f->nlate >= (f->batch ? f->batch : EACH * f->nnames);

    return f->nlate && (f->folds || many) ? fold_late(f, files, st) : SW_OK;
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
    f->nlate += h->nentries;
    return fold_when_many(f, files, st);
}

/* The names of another rank: which of f's each of them is. */
static sw_code absorb_names(sw_entries *f, const sw_buf *names, uint32_t **ids, size_t *n, sw_status *st)
{
    size_t guess = 0, cap = 0;

    for (uint64_t at = 0; at < names->len; guess++) {
        const sw_taken_name taken = sw_name_record_take(names, &at);
        const sw_name_record *rec = taken.record;
        const sw_entry e = {
            .name = taken.name, .name_len = rec->name_len, .dtype = rec->dtype, .ndim = rec->ndim
        };

        if (sw_grow(ids, &cap, *n + UINT64_C(1), sizeof **ids, st) ||
            intern(f, &e, taken.global_shape, rec->first_file, &guess, st))
            return st->code;
        (*ids)[(*n)++] = (uint32_t)guess;
        f->names[guess].count += rec->count;
        f->names[guess].plain |= rec->plain != 0;
        f->names[guess].first_file = (uint32_t)sw_min(f->names[guess].first_file, rec->first_file);
    }
    return st->code;
}

sw_code sw_entries_absorb(sw_entries *f, const sw_buf *names, const sw_buf *boxes, const sw_file *files,
                          sw_status *st)
{
    uint32_t *ids = NULL;
    size_t n = 0;

    if (!fold_rest(f, files, st))
        absorb_names(f, names, &ids, &n, st);
    for (uint64_t at = 0; at < boxes->len && !st->code;) {
        const sw_box_record *rec = (const void *)(boxes->data + at);
        sw_entry_name *name = &f->names[ids[rec->name]];
        sw_box_record *copy;
        sw_taken box;

        sw_box_record_take(rec, name->ndim, files, &box);
        at += box.size;
        /* among rules boxes stay in the order of their files */
        f->folds = f->folds || box.is_rule;
        if (f->folds && fold(name, &box, st))
            continue;
        if (sw_buf_add(&f->boxes, rec, box.size, st))
            break;
        copy = (void *)(f->boxes.data + f->boxes.len - box.size);
        copy->name = ids[rec->name];
        f->nlate++;
    }
    free(ids);
    return st->code ? st->code : fold_when_many(f, files, st);
}

sw_code sw_entries_pack(sw_entries *f, const sw_file *files, sw_buf *out, sw_status *st)
{
    if (fold_rest(f, files, st))
        return st->code;
    for (uint32_t i = 0; i < f->nnames; i++)
        if (f->names[i].rules && emit_rules(f, i, files, st))
            return st->code;
    for (size_t i = 0; i < f->nnames; i++) {
        const sw_entry_name *n = &f->names[i];
        sw_name_record r = { n->count, n->name_len, n->first_file, n->dtype, n->ndim, n->global_shape != NULL,
                             n->plain, { 0 } };

        if (sw_buf_add(out, &r, sizeof r, st) ||
            (n->global_shape && sw_buf_add(out, n->global_shape, n->ndim * sizeof *n->global_shape, st)) ||
            sw_buf_add_text(out, f->texts.data + n->name, n->name_len, st))
            return st->code;
    }
    return SW_OK;
}

void sw_entries_release(sw_entries *f)
{
    for (size_t i = 0; i < f->nnames; i++) {
        free(f->names[i].global_shape);
        if (f->names[i].rules)
            sw_rules_release(f->names[i].rules);
        free(f->names[i].rules);
    }
    free(f->names);
    free(f->table);
    sw_buf_release(&f->texts);
    sw_buf_release(&f->boxes);
    *f = (sw_entries){ 0 };
}
