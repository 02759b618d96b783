/* What the `.metadata` of a torch distributed checkpoint says: which tensors there are, of which
 * boxes they consist, and where in which file the item of each box stands.
 *
 * It is a pickle (pickle.h) of 170 bytes a box: for 256 ranks x 1,000 tensors 45 MB. All of it is
 * known at once here, so a box that no file holds is always noticed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/boxlist.h"
#include "format/maps.h"
#include "format/torchtensor.h"

#define MODULE "torch.distributed.checkpoint.metadata"
#define NAME_MAX_BYTES 4096u

/* A name inside the text: of a tensor, a value or a file. */
typedef struct dcp_name {
    const char *text;
    size_t len;
    uint32_t *top; /* of a tensor in the list: see sw_listed_tensor.top */
} dcp_name;

/* An entry of storage_data: which item, and where it stands. */
typedef struct item {
    dcp_name name;
    sw_value offsets; /* a tuple; None for what is no tensor */
    sw_value path;
    uint32_t file; /* of that name */
    bool used;
    uint64_t at, length;
} item;

typedef struct reading {
    const sw_pickle *p;
    const char *file;
    item *items;
    size_t nitems, cap_items, cap_order;
    sw_sort_item *order; /* of items, by hash */
    uint64_t key[2];     /* of the hash: names are chosen by others */
    char **files;        /* names as items have them; below the directory */
    size_t nfiles, cap_files;
    sw_boxlist_draft draft;
    /* bytes of the names in it: names that differ have no more than the text has, and one that is
     * there many times must not take more memory than that */
    uint64_t named;
} reading;

/* ---- words ----------------------------------------------------------------------------------- */

#define SHOWN 256

/* A name for a message; one that is too long is cut. */
static const char *show(const dcp_name *name, char text[SHOWN])
{
    snprintf(text, SHOWN, "%.*s", (int)sw_min(name->len, SHOWN - 1), name->text);
    return text;
}

/* An error about a tensor, or, without one, about the whole. */
static sw_code odd(const reading *r, const dcp_name *name, sw_status *st, const char *what)
{
    char text[SHOWN];

    return sw_fail(st, SW_EINPUT, r->file, name ? show(name, text) : NULL, "%s", what);
}

/* It is something else than what should be there. */
static sw_code unlike(const reading *r, const dcp_name *name, sw_value v, const char *want, sw_status *st)
{
    char words[128], what[256];

    sw_torch_words(r->p, v, words);
    snprintf(what, sizeof what, "found %s, expected %s", words, want);
    return odd(r, name, st, what);
}

/* The member of an object, which must be there. */
static sw_value member(const reading *r, const dcp_name *name, sw_value object, const char *key,
                       sw_status *st)
{
    sw_value v = 0;
    char what[96];

    if (!sw_value_member(r->p, object, key, &v)) {
        snprintf(what, sizeof what, "an object without '%s'", key);
        odd(r, name, st, what);
    }
    return v;
}

/* A name of a tensor, a value or a file. */
static sw_code take_name(const reading *r, sw_value v, dcp_name *out, sw_status *st)
{
    *out = (dcp_name){ .top = NULL };
    out->text = sw_value_text(r->p, v, &out->len);
    if (!out->text)
        return unlike(r, NULL, v, "a name", st);
    /* Many things may share one name. */
    if (out->len > NAME_MAX_BYTES)
        return odd(r, NULL, st, "a name of more than 4096 bytes");
    if (memchr(out->text, '\0', out->len) || sw_utf8_invalid(out->text, out->len))
        return odd(r, NULL, st, "a name that is not UTF-8 without NUL");
    return SW_OK;
}

/* ---- where the items stand ------------------------------------------------------------------- */

/* A hash of a tensor's name and of the offsets of a box. */
static uint64_t hash_of(const reading *r, const dcp_name *name, const uint64_t *offsets, unsigned n)
{
    uint64_t h = sw_hash_keyed(r->key, name->text, name->len);

    return n ? sw_hash_keyed(r->key, offsets, n * sizeof *offsets) ^ h * 3 : h;
}

/* The numbers of a tuple, at most SW_MAX_DIMS; none of None. */
static sw_code take_numbers(const reading *r, const dcp_name *name, sw_value v, uint64_t *out, unsigned *n,
                            sw_status *st)
{
    sw_items items;
    sw_value number;
    uint64_t count = sw_items_begin(r->p, v, &items);
    sw_kind kind = sw_value_kind(r->p, v);

    *n = 0;
    if (kind == SW_KIND_NONE)
        return SW_OK;
    if (kind != SW_KIND_TUPLE && kind != SW_KIND_LIST)
        return unlike(r, name, v, "sizes", st);
    if (count > SW_MAX_DIMS)
        return odd(r, name, st, "more than 32 dimensions");
    while (sw_items_next(&items, &number))
        if (!sw_value_size(r->p, number, &out[(*n)++]))
            return unlike(r, name, number, "a size", st);
    return SW_OK;
}

/* One entry of storage_data: a MetadataIndex, and the _StorageInfo that belongs to it. */
static sw_code take_item(reading *r, sw_value key, sw_value info, sw_status *st)
{
    uint64_t offsets[SW_MAX_DIMS];
    sw_value transforms;
    item it = { .used = false };
    unsigned n;

    if (!sw_value_is_a(r->p, key, MODULE, "MetadataIndex"))
        return unlike(r, NULL, key, "a MetadataIndex", st);
    if (take_name(r, member(r, NULL, key, "fqn", st), &it.name, st))
        return st->code;
    if (!sw_value_is_a(r->p, info, NULL, "_StorageInfo"))
        return unlike(r, &it.name, info, "a _StorageInfo", st);
    /* What is no tensor has none. */
    sw_value_member(r->p, key, "offset", &it.offsets);
    it.path = member(r, &it.name, info, "relative_path", st);
    if (take_numbers(r, &it.name, it.offsets, offsets, &n, st))
        return st->code;
    if (!sw_value_size(r->p, member(r, &it.name, info, "offset", st), &it.at) ||
        !sw_value_size(r->p, member(r, &it.name, info, "length", st), &it.length))
        return odd(r, &it.name, st, "its place in the file is no number");
    if (sw_value_member(r->p, info, "transform_descriptors", &transforms) &&
        sw_value_kind(r->p, transforms) != SW_KIND_NONE && sw_value_kind(r->p, it.offsets) != SW_KIND_NONE)
        return odd(r, &it.name, st,
                   "it was saved compressed, or changed in another way, which cannot be read");
    if (r->nitems == UINT32_MAX || sw_grow(&r->items, &r->cap_items, r->nitems + 1, sizeof it, st) ||
        sw_grow(&r->order, &r->cap_order, r->nitems + 1, sizeof *r->order, st))
        return st->code ? st->code : odd(r, NULL, st, "too many items");
    r->order[r->nitems] = (sw_sort_item){ hash_of(r, &it.name, offsets, n), (uint32_t)r->nitems };
    r->items[r->nitems++] = it;
    return st->code;
}

/* One more file name, which leads nowhere else. */
static sw_code add_file(reading *r, sw_value path, sw_status *st)
{
    dcp_name name;
    char *copy;

    if (take_name(r, path, &name, st) ||
        sw_grow(&r->files, &r->cap_files, r->nfiles + 1, sizeof *r->files, st) ||
        !(copy = sw_calloc(name.len + 1, 1, st)))
        return st->code;
    memcpy(copy, name.text, name.len);
    r->files[r->nfiles++] = copy;
    if (!sw_name_is_below(copy))
        sw_fail(st, SW_EINPUT, r->file, NULL, "file name '%s' is not a relative path below its directory",
                copy);
    return st->code;
}

/* The names of the files. Items of one file mostly share the text of its name: each text is taken
 * once, and texts that are equal are found in the end. */
static sw_code take_files(reading *r, sw_status *st)
{
    sw_sort_item *order = sw_calloc(r->nitems, sizeof *order, st);

    for (size_t i = 0; order && i < r->nitems; i++)
        order[i] = (sw_sort_item){ r->items[i].path, (uint32_t)i };
    if (order)
        sw_sort_items(order, r->nitems, st);
    for (size_t i = 0; i < r->nitems && !st->code; i++) {
        if (i == 0 || order[i].key != order[i - 1].key)
            add_file(r, order[i].key, st);
        r->items[order[i].index].file = (uint32_t)r->nfiles - 1;
    }
    free(order);
    return st->code;
}

/* All of storage_data. */
static sw_code take_items(reading *r, sw_value storage, sw_status *st)
{
    sw_items items;
    sw_value key, info;
    uint64_t n;

    if (sw_value_kind(r->p, storage) != SW_KIND_DICT)
        return unlike(r, NULL, storage, "storage_data as a file system's writer makes it", st);
    /* Room for all of them: growing would leave half as much again unused. */
    n = sw_items_begin(r->p, storage, &items);
    sw_grow(&r->items, &r->cap_items, n, sizeof *r->items, st);
    sw_grow(&r->order, &r->cap_order, n, sizeof *r->order, st);
    while (!st->code && sw_items_next_pair(&items, &key, &info))
        take_item(r, key, info, st);
    return st->code || take_files(r, st) ? st->code : sw_sort_items(r->order, r->nitems, st);
}

/* Is that item of this name, at these offsets? */
static bool is_item(const reading *r, const item *it, const dcp_name *name, const uint64_t *offsets,
                    unsigned ndim)
{
    uint64_t its[SW_MAX_DIMS];
    sw_status st = SW_STATUS_INIT;
    unsigned n;

    return it->name.len == name->len && memcmp(it->name.text, name->text, name->len) == 0 &&
           !take_numbers(r, name, it->offsets, its, &n, &st) && n == ndim &&
           (n == 0 || memcmp(its, offsets, n * sizeof *its) == 0);
}

/* The item of a box; NULL = there is none. */
static item *find_item(reading *r, const dcp_name *name, const uint64_t *offsets, unsigned ndim)
{
    uint64_t hash = hash_of(r, name, offsets, ndim);
    sw_search s = { .end = r->nitems };

    while (sw_search_on(&s))
        sw_search_tell(&s, r->order[s.mid].key < hash);
    for (; s.at < r->nitems && r->order[s.at].key == hash; s.at++)
        if (is_item(r, &r->items[r->order[s.at].index], name, offsets, ndim))
            return &r->items[r->order[s.at].index];
    return NULL;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* A box that some rank saved (a ChunkStorageMetadata), and its item. */
static sw_code take_box(reading *r, const dcp_name *name, const uint64_t *shape, unsigned ndim,
                        sw_value chunk, sw_status *st)
{
    uint64_t dims[2 * SW_MAX_DIMS], end;
    unsigned n[2];
    item *it;

    if (!sw_value_is_a(r->p, chunk, MODULE, "ChunkStorageMetadata"))
        return unlike(r, name, chunk, "a ChunkStorageMetadata", st);
    if (take_numbers(r, name, member(r, name, chunk, "offsets", st), dims, &n[0], st) || n[0] != ndim ||
        take_numbers(r, name, member(r, name, chunk, "sizes", st), dims + n[0], &n[1], st) || n[1] != ndim)
        return st->code ? st->code
                        : odd(r, name, st, "a box has another number of dimensions than its tensor");
    for (unsigned i = 0; i < ndim; i++)
        if (!sw_add(dims[i], dims[ndim + i], &end) || end > shape[i])
            return odd(r, name, st, "a box lies outside of its tensor");
    it = find_item(r, name, dims, ndim);
    /* Early writers gave no offsets to a tensor that was not sharded. */
    if (!it)
        it = find_item(r, name, NULL, 0);
    if (!it || it->used)
        return odd(r, name, st, it ? "two boxes have the same offsets" : "a box of it is in no file");
    it->used = true;
    return sw_boxlist_add_box(&r->draft, &(sw_listed_box){ it->at, it->length, it->file, SW_FORM_ITEM, 0 },
                              dims, 2 * ndim, st);
}

/* properties (a TensorProperties, whose state is a tuple that begins with the dtype and the
 * layout), size, chunks. */
static sw_code take_tensor(reading *r, const dcp_name *name, sw_value v, sw_status *st)
{
    sw_value properties = member(r, name, v, "properties", st), chunk, dtype = 0, layout = 0, word = 0;
    sw_value state = sw_object_state(r->p, properties), chunks;
    sw_listed_tensor t = { .name_len = (uint32_t)name->len, .sets = 2 };
    uint64_t shape[SW_MAX_DIMS];
    sw_dtype known;
    sw_items items;
    unsigned ndim;
    char text[SHOWN];

    if (st->code)
        return st->code;
    if (!sw_value_item(r->p, state, 0, &dtype) || !sw_value_item(r->p, state, 1, &layout))
        return unlike(r, name, properties, "a TensorProperties", st);
    if (sw_torch_dtype(r->p, dtype, r->file, show(name, text), &known, st))
        return st->code;
    sw_value_item(r->p, sw_object_args(r->p, layout), 0, &word);
    if (!sw_value_is_a(r->p, layout, "torch.serialization", "_get_layout") ||
        !sw_value_is_text(r->p, word, "torch.strided"))
        return odd(r, name, st, "it is sparse, or of another layout that safetensors does not have");
    if (take_numbers(r, name, member(r, name, v, "size", st), shape, &ndim, st))
        return st->code;
    t.dtype = (uint8_t)known;
    t.ndim = (uint8_t)ndim;
    chunks = member(r, name, v, "chunks", st);
    sw_items_begin(r->p, chunks, &items);
    t.nboxes = items.left;
    if (!st->code)
        sw_boxlist_add(&r->draft, &t, shape, name->text, st);
    while (!st->code && sw_items_next(&items, &chunk))
        take_box(r, name, shape, ndim, chunk, st);
    return st->code;
}

/* Where in the state dict it stood: planner_data has the path of each name. That is the dict at the
 * top, or one of the name "model" in it, as applications have that save one object of theirs. */
static size_t top_of(const reading *r, const dcp_name *name, sw_value path)
{
    size_t len, first = 0, at = 0;
    sw_items items;
    uint64_t n = sw_items_begin(r->p, path, &items);
    sw_value v;

    for (uint64_t i = 0; i < 2 && i + 1 < n && sw_items_next(&items, &v); i++) {
        const char *text = sw_value_text(r->p, v, &len);

        if (!text || len >= name->len - at || memcmp(text, name->text + at, len) != 0 ||
            name->text[at + len] != '.')
            break;
        at += len + 1;
        first = i == 0 ? at : first;
        if (sw_value_is_text(r->p, v, "model"))
            return at;
    }
    return first;
}

/* Where no paths were saved, the names tell: an optimizer's, and beside them a model's where all
 * others begin with "model.". */
static void take_tops(const dcp_name *names, size_t n)
{
    size_t tensors = 0, training = 0, model = 0;

    for (size_t i = 0; i < n; i++) {
        const dcp_name *name = &names[i];

        if (!name->top)
            continue;
        *name->top = (uint32_t)sw_training_top(name->text, name->len);
        tensors++;
        training += *name->top != 0;
        model += name->len > 6 && memcmp(name->text, "model.", 6) == 0;
    }
    for (size_t i = 0; i < n && training && training + model == tensors; i++)
        if (names[i].top && *names[i].top == 0)
            *names[i].top = 6;
}

/* Names by their bytes. */
static int by_name(const void *a, const void *b)
{
    const dcp_name *x = a, *y = b;
    int c = x->text == y->text ? 0 : memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

    return c ? c : (x->len > y->len) - (x->len < y->len);
}

/* The names of all tensors and values in the list, sorted; NULL = no memory. */
static dcp_name *sort_names(reading *r, sw_status *st)
{
    const sw_boxlist_draft *d = &r->draft;
    size_t n = d->ntensors + d->nvalues, k = 0;
    dcp_name *names = sw_calloc(n, sizeof *names, st);
    sw_listed_tensor *t = (void *)d->tensors.data;
    const char *value = d->values.data;

    for (; names && k < d->ntensors; t = sw_listed_next(t))
        names[k++] = (dcp_name){ sw_listed_saved_name(t), t->name_len, &t->top };
    for (; names && k < n; value += names[k++].len + 1)
        names[k] = (dcp_name){ value, strlen(value), NULL };
    sw_sort(names, n, sizeof *names, by_name);
    return names;
}

/* Two tensors or values of one name are refused; the names learn where they belong to. */
static sw_code take_paths(reading *r, sw_value planner, sw_status *st)
{
    size_t n = r->draft.ntensors + r->draft.nvalues;
    dcp_name *names = st->code ? NULL : sort_names(r, st), name = { 0 }, *found;
    sw_items items;
    sw_value key, path;

    for (size_t i = 1; names && i < n && !st->code; i++)
        if (by_name(&names[i - 1], &names[i]) == 0)
            odd(r, &names[i], st, "there are two of this name");
    if (r->named > r->p->len)
        odd(r, NULL, st, "there are two of one name");
    if (!sw_items_begin(r->p, planner, &items) && names)
        take_tops(names, n);
    while (!st->code && sw_value_kind(r->p, planner) == SW_KIND_DICT &&
           sw_items_next_pair(&items, &key, &path)) {
        name.text = sw_value_text(r->p, key, &name.len);
        found = name.text ? bsearch(&name, names, n, sizeof *names, by_name) : NULL;
        if (found && found->top)
            *found->top = (uint32_t)top_of(r, found, path);
    }
    free(names);
    return st->code;
}

/* All of state_dict_metadata: tensors and values. */
static sw_code take_state_dict(reading *r, sw_value dict, sw_status *st)
{
    sw_items items;
    sw_value key, v;
    dcp_name name;

    if (sw_value_kind(r->p, dict) != SW_KIND_DICT)
        return unlike(r, NULL, dict, "state_dict_metadata", st);
    sw_items_begin(r->p, dict, &items);
    while (!st->code && r->named <= r->p->len && sw_items_next_pair(&items, &key, &v)) {
        if (take_name(r, key, &name, st))
            break;
        r->named += name.len;
        if (sw_value_is_a(r->p, v, MODULE, "TensorStorageMetadata"))
            take_tensor(r, &name, v, st);
        else if (sw_value_is_a(r->p, v, MODULE, "BytesStorageMetadata"))
            sw_boxlist_add_value(&r->draft, name.text, name.len, st);
        else
            unlike(r, &name, v, "a tensor or bytes", st);
    }
    return st->code;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* All that the pickle says. */
static sw_code take_root(reading *r, sw_value root, sw_status *st)
{
    /* Megatron-Core up to 0.15 saves a class of its own that is one. */
    if (!sw_value_is_a(r->p, root, MODULE, "Metadata") && !sw_value_is_a(r->p, root, NULL, "MCoreMetadata"))
        return unlike(r, NULL, root, "the Metadata of a distributed checkpoint", st);
    if (take_items(r, member(r, NULL, root, "storage_data", st), st) ||
        take_state_dict(r, member(r, NULL, root, "state_dict_metadata", st), st))
        return st->code;
    return take_paths(r, member(r, NULL, root, "planner_data", st), st);
}

sw_code sw_dcp_list(char *text, size_t n, const char *file, sw_buf *list, sw_status *st)
{
    sw_pickle p = SW_PICKLE_INIT;
    reading r = { .p = &p, .file = file };

    sw_hash_key(r.key);
    if (!sw_pickle_parse(text, n, file, NULL, &p, st))
        take_root(&r, p.root, st);
    free(r.items);
    free(r.order);
    /* Names stand in the draft; nothing else of the text is asked for any more. */
    sw_pickle_release(&p);
    if (!st->code)
        sw_boxlist_finish(&r.draft, (const char *const *)r.files, r.nfiles, true, list, st);
    sw_boxlist_draft_release(&r.draft);
    for (size_t i = 0; i < r.nfiles; i++)
        free(r.files[i]);
    free(r.files);
    return st->code;
}
