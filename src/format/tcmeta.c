/* What the `metadata.pkl` of torch_checkpointing says: for each item that was saved ("model",
 * "optimizer"), how each of its tensors was cut over the ranks, and which file a rank wrote.
 *
 * It is a pickle (pickle.h) of dicts, lists, texts and numbers. A tensor is cut by the placements
 * of a DTensor on a mesh of ranks, which are followed here as DTensor does, strided ones too; or
 * each rank says which slices of what it holds are which boxes. A file is one of safetensors or of
 * torch.save, of a rank's part of an item. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "base/ranges.h"
#include "base/utf8.h"
#include "format/boxlist.h"
#include "format/pickle.h"

#define MESH_DIMS 8u
#define RUNS_MAX 1024u /* of what a rank holds, boxes too: no real placement comes near */
#define RANKS_MAX 1000000u
/* Steps for each byte of the text. What a text may speak of grows with its square, for its parts
 * may be named many times: but whoever saves names each rank that holds a tensor, in 2 or 3 bytes,
 * and 1,024 of them with strided placements over 64 others take 80 steps a byte. */
#define STEPS_PER_BYTE 128u
#define GROUP_STEPS 256u /* members of dicts are looked for */

/* How one dimension of a mesh cuts a tensor. */
typedef struct placement {
    uint64_t dim, factor; /* factor 0 = not at all, 1 = into chunks, more: each of so many chunks */
} placement;

/* A mesh of ranks; the last one is kept, for most tensors share one. */
typedef struct mesh {
    sw_value value;
    unsigned ndim;
    uint64_t sizes[MESH_DIMS];
    uint64_t *place; /* of each rank: 1 + where in the mesh it stands; 0 = nowhere */
} mesh;

typedef struct reading {
    const sw_pickle *p;
    const char *file;
    sw_status *st;
    uint64_t nranks;
    char **files; /* of the ranks, then of those of the next item */
    size_t nfiles, cap_files;
    /* the tensor that is taken */
    uint64_t shape[SW_MAX_DIMS];
    unsigned ndim;
    uint64_t steps; /* that are left: see STEPS_PER_BYTE */
    mesh mesh;
    placement placements[MESH_DIMS];
    sw_ranges runs[SW_MAX_DIMS], spare; /* what a rank holds along each dimension */
    sw_buf name;                        /* of the tensor, with its item's and a NUL */
    /* its boxes: a record each, 3 ndim numbers behind it */
    sw_buf boxes;
    uint64_t nboxes;
    bool parts; /* some do not begin where their entry does, or are not all of it */
    sw_boxlist_draft draft;
} reading;

/* ---- messages and members -------------------------------------------------------------------- */

static bool odd(const reading *r, const char *what)
{
    sw_fail(r->st, SW_EINPUT, r->file, r->name.len ? r->name.data : NULL, "%s", what);
    return false;
}

/* So many more steps. A step takes at most 24 bytes of the list. */
static bool spend(reading *r, uint64_t steps)
{
    if (steps > r->steps)
        return odd(r, "it speaks of far more than a text of its length is written for");
    r->steps -= steps;
    return true;
}

/* The member of a dict, which must be there. */
static bool member(const reading *r, sw_value dict, const char *key, sw_value *out)
{
    char what[96];

    if (sw_value_member(r->p, dict, key, out))
        return true;
    snprintf(what, sizeof what, "it is not that of torch_checkpointing: no '%s'", key);
    return odd(r, what);
}

/* A text without NUL. */
static bool text_of(reading *r, sw_value v, const char **text, size_t *len)
{
    *text = sw_value_text(r->p, v, len);
    if (!spend(r, *len / 16))
        return false;
    if (!*text || memchr(*text, '\0', *len) || sw_utf8_invalid(*text, *len))
        return odd(r, "a name that is no text");
    return true;
}

/* The numbers of a list or tuple, at most max. */
static bool numbers_of(const reading *r, sw_value v, unsigned max, uint64_t *out, unsigned *n)
{
    sw_items items;
    sw_value number;

    *n = 0;
    if (sw_value_kind(r->p, v) != SW_KIND_LIST && sw_value_kind(r->p, v) != SW_KIND_TUPLE)
        return odd(r, "a list of sizes is missing");
    if (sw_items_begin(r->p, v, &items) > max)
        return odd(r, "too many dimensions");
    while (*n < max && sw_items_next(&items, &number))
        if (!sw_value_size(r->p, number, &out[(*n)++]))
            return odd(r, "a size that is no number");
    return true;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* A box that a rank holds; offsets, sizes, and where in its entry it begins follow. */
static bool keep_box(reading *r, size_t file, const uint64_t *offsets, const uint64_t *sizes,
                     const uint64_t *local)
{
    const sw_listed_box box = { .at = 0, .file = (uint32_t)file, .form = SW_FORM_ENTRY };
    uint64_t end;

    if (!spend(r, 1 + r->ndim))
        return false;
    for (unsigned d = 0; d < r->ndim; d++)
        if (!sw_add(offsets[d], sizes[d], &end) || end > r->shape[d])
            return odd(r, "a box lies outside of its tensor");
    r->nboxes++;
    return !(sw_buf_add(&r->boxes, &box, sizeof box, r->st) ||
             sw_buf_add(&r->boxes, offsets, r->ndim * sizeof *offsets, r->st) ||
             sw_buf_add(&r->boxes, sizes, r->ndim * sizeof *sizes, r->st) ||
             sw_buf_add(&r->boxes, local, r->ndim * sizeof *local, r->st));
}

/* ---- placements ------------------------------------------------------------------------------ */

/* One more run of elements behind the others. */
static bool add_run(reading *r, sw_ranges *to, uint64_t begin, uint64_t n)
{
    if (n == 0)
        return true;
    if (to->n == RUNS_MAX && sw_ranges_last(to) + 1 != begin)
        return odd(r, "its placements cut it into too many boxes");
    return sw_ranges_add(to, begin, begin + n - 1, r->st) == SW_OK;
}

/* A place among runs: in run i, of which the first element has that number among all. */
typedef struct cursor {
    size_t i;
    uint64_t at;
} cursor;

/* What of these runs lies in [begin, end), counted from the first. From *p on, which goes along:
 * who asks does so in order. */
static bool cut_runs(reading *r, const sw_ranges *from, cursor *p, uint64_t begin, uint64_t end)
{
    for (uint64_t next; p->i < from->n && p->at < end; p->i++, p->at = next) {
        const sw_range *run = &from->items[p->i];
        uint64_t a = sw_max(begin, p->at), b;

        next = p->at + (run->to - run->from + 1);
        b = sw_min(end, next);
        if (a < b && !add_run(r, &r->spare, run->from + (a - p->at), b - a))
            return false;
        if (next > end)
            break;
    }
    return true;
}

/* Chunk k of n, as torch.chunk cuts: all of one size, the last ones shorter or empty. */
static void chunk(uint64_t begin, uint64_t length, uint64_t n, uint64_t k, uint64_t *from, uint64_t *to)
{
    uint64_t size = length / n + (length % n != 0);

    *from = begin + (k < length / (size ? size : 1) + 1 ? sw_min(size * k, length) : length);
    *to = sw_min(*from + size, begin + length);
}

/* One more mesh dimension cuts a dimension of the tensor: into n chunks, of which the rank gets
 * number k; strided: each of so many chunks is cut so, and the rank gets one of each. */
static bool cut_dim(reading *r, sw_ranges *dim, uint64_t n, uint64_t k, uint64_t factor)
{
    uint64_t length = sw_ranges_count(dim), a, b, from, to;
    cursor at = { 0, 0 };
    sw_ranges swap;

    r->spare.n = 0;
    if (factor > RUNS_MAX)
        return odd(r, "its placements cut it into too many boxes");
    if (!spend(r, factor))
        return false;
    for (uint64_t i = 0; i < factor; i++) {
        chunk(0, length, factor, i, &a, &b);
        chunk(a, b - a, n, k, &from, &to);
        if (!cut_runs(r, dim, &at, from, to))
            return false;
    }
    swap = *dim;
    *dim = r->spare;
    r->spare = swap;
    return true;
}

/* A mesh_spec: sizes, and the ranks in their order. */
static bool take_mesh(reading *r, sw_value v)
{
    mesh *m = &r->mesh;
    sw_value sizes, data, rank;
    uint64_t n = 1, place = 0, number;
    sw_items items;

    if (m->place && m->value == v)
        return true;
    free(m->place);
    *m = (mesh){ .value = v };
    if (!member(r, v, "mesh_shape", &sizes) || !member(r, v, "mesh_data", &data) ||
        !numbers_of(r, sizes, MESH_DIMS, m->sizes, &m->ndim))
        return false;
    for (unsigned d = 0; d < m->ndim; d++)
        if (!sw_mul(n, m->sizes[d], &n))
            return odd(r, "a mesh that is too large");
    if (sw_items_begin(r->p, data, &items) != n)
        return odd(r, "a mesh of another number of ranks than its sizes");
    if (!spend(r, n + r->nranks) || !(m->place = sw_calloc(r->nranks, sizeof *m->place, r->st)))
        return false;
    while (sw_items_next(&items, &rank)) {
        if (!sw_value_size(r->p, rank, &number) || number >= r->nranks || m->place[number])
            return odd(r, "a mesh with a rank that there is not, or twice");
        m->place[number] = ++place;
    }
    return true;
}

/* How each dimension of the mesh cuts the tensor. */
static bool take_placements(reading *r, sw_value list)
{
    sw_value v, type, number;
    sw_items items;

    if (sw_items_begin(r->p, list, &items) != r->mesh.ndim)
        return odd(r, "another number of placements than its mesh has dimensions");
    for (placement *p = r->placements; sw_items_next(&items, &v); p++) {
        *p = (placement){ 0, 0 };
        if (!member(r, v, "type", &type))
            return false;
        if (sw_value_is_text(r->p, type, "Replicate"))
            continue;
        p->factor = 1;
        if (sw_value_is_text(r->p, type, "StridedShard")) {
            if (!member(r, v, "split_factor", &number))
                return false;
            if (!sw_value_size(r->p, number, &p->factor) || p->factor == 0)
                return odd(r, "a strided placement without a factor");
        } else if (!sw_value_is_text(r->p, type, "Shard")) {
            return odd(r, "a placement that is neither Shard, StridedShard nor Replicate");
        }
        if (!member(r, v, "dim", &number))
            return false;
        if (!sw_value_size(r->p, number, &p->dim) || p->dim >= r->ndim)
            return odd(r, "a placement over a dimension that it does not have");
    }
    return true;
}

/* What the rank at a place of the mesh holds of each dimension. */
static bool place_rank(reading *r, uint64_t place)
{
    uint64_t coordinate[MESH_DIMS];

    for (unsigned d = 0; d < r->ndim; d++) {
        r->runs[d].n = 0;
        if (!add_run(r, &r->runs[d], 0, r->shape[d]))
            return false;
    }
    for (unsigned d = r->mesh.ndim; d-- > 0; place /= r->mesh.sizes[d])
        coordinate[d] = place % r->mesh.sizes[d];
    for (unsigned i = 0; i < r->mesh.ndim; i++) {
        const placement *p = &r->placements[i];

        if (p->factor && !cut_dim(r, &r->runs[p->dim], r->mesh.sizes[i], coordinate[i], p->factor))
            return false;
    }
    return true;
}

/* The boxes of all combinations of runs; one that is empty where some dimension has none. */
static bool keep_runs(reading *r, size_t file)
{
    uint64_t offsets[SW_MAX_DIMS], sizes[SW_MAX_DIMS], local[SW_MAX_DIMS] = { 0 };
    size_t at[SW_MAX_DIMS] = { 0 };
    uint64_t n = 1;
    unsigned d;

    for (d = 0; d < r->ndim; d++)
        if (!sw_mul(n, sw_max(r->runs[d].n, 1), &n) || n > RUNS_MAX)
            return odd(r, "its placements cut it into too many boxes");
    for (;;) {
        for (d = 0; d < r->ndim; d++) {
            const sw_range *of = r->runs[d].items + at[d];

            offsets[d] = r->runs[d].n ? of->from : r->shape[d];
            sizes[d] = r->runs[d].n ? of->to - of->from + 1 : 0;
            r->parts = r->parts || r->runs[d].n > 1;
        }
        if (!keep_box(r, file, offsets, sizes, local))
            return false;
        for (d = r->ndim; d-- > 0;) {
            local[d] += sizes[d];
            if (++at[d] < r->runs[d].n)
                break;
            at[d] = 0;
            local[d] = 0;
        }
        if (d == (unsigned)-1)
            return true;
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* A DTensor, by each of the ranks that share its placements. */
static bool take_dtensor(reading *r, sw_value data, sw_value ranks, size_t files)
{
    sw_value spec, placements, rank;
    uint64_t number;
    sw_items items;

    if (!member(r, data, "mesh_spec", &spec) || !member(r, data, "placements", &placements) ||
        !take_mesh(r, spec) || !take_placements(r, placements))
        return false;
    sw_items_begin(r->p, ranks, &items);
    while (sw_items_next(&items, &rank)) {
        if (!sw_value_size(r->p, rank, &number) || number >= r->nranks || !r->mesh.place[number])
            return odd(r, "a rank that is not in its mesh");
        if (!place_rank(r, r->mesh.place[number] - 1) || !keep_runs(r, files + number))
            return false;
    }
    return true;
}

/* Slices of what a rank holds, each a box. */
static bool take_slices(reading *r, sw_value data, sw_value ranks, size_t files)
{
    static const char *const keys[] = { "global_offsets", "local_sizes", "local_offsets" };
    uint64_t dims[3][SW_MAX_DIMS], number;
    sw_value lists[3], rank, one;
    sw_items walks[3], items;
    uint64_t n[3];
    unsigned has;

    r->parts = true;
    for (unsigned i = 0; i < 3; i++)
        if (!member(r, data, keys[i], &lists[i]))
            return false;
    sw_items_begin(r->p, ranks, &items);
    while (sw_items_next(&items, &rank)) {
        if (!spend(r, 1))
            return false;
        if (!sw_value_size(r->p, rank, &number) || number >= r->nranks)
            return odd(r, "a rank that there is not");
        for (unsigned i = 0; i < 3; i++)
            n[i] = sw_items_begin(r->p, lists[i], &walks[i]);
        if (n[0] != n[1] || n[0] != n[2])
            return odd(r, "another number of offsets than of sizes");
        for (uint64_t k = 0; k < n[0]; k++) {
            for (unsigned i = 0; i < 3; i++) {
                if (!sw_items_next(&walks[i], &one) || !numbers_of(r, one, SW_MAX_DIMS, dims[i], &has))
                    return false;
                if (has != r->ndim)
                    return odd(r, "a slice of another number of dimensions");
            }
            if (!keep_box(r, files + number, dims[0], dims[1], dims[2]))
                return false;
        }
    }
    return true;
}

/* The tensor and its boxes; skip: characters of the name that its entries lack. */
static bool keep_tensor(reading *r, sw_dtype dtype, size_t skip, size_t top)
{
    sw_listed_tensor t = { .nboxes = r->nboxes,
                           .name_len = (uint32_t)r->name.len - 1,
                           .top = (uint32_t)top,
                           .dtype = (uint8_t)dtype,
                           .ndim = (uint8_t)r->ndim,
                           .sets = r->parts ? 3 : 2 };
    size_t one = sizeof(sw_listed_box) + 3 * r->ndim * sizeof(uint64_t);

    if (!spend(r, 2 + r->ndim + r->name.len / 24))
        return false;
    sw_boxlist_add(&r->draft, &t, r->shape, r->name.data, r->st);
    for (uint64_t i = 0; i < r->nboxes && !r->st->code; i++) {
        sw_listed_box *box = (void *)(r->boxes.data + i * one);

        box->skip = (uint16_t)skip;
        sw_boxlist_add_box(&r->draft, box, sw_listed_dims(box), t.sets * r->ndim, r->st);
    }
    return !r->st->code;
}

/* Groups of ranks that share what is said of a tensor. */
static bool take_tensor(reading *r, sw_value groups, size_t files, size_t skip, size_t top)
{
    uint64_t shape[SW_MAX_DIMS];
    sw_value group, said, ranks, type, data, v;
    sw_dtype dtype = SW_NDTYPES, also;
    unsigned ndim;
    sw_items items;
    const char *word;
    size_t len;

    r->nboxes = r->boxes.len = 0;
    r->parts = false;
    sw_items_begin(r->p, groups, &items);
    for (bool first = true; sw_items_next(&items, &group); first = false) {
        if (!spend(r, GROUP_STEPS) || !member(r, group, "sharding_metadata", &said) ||
            !member(r, group, "ranks", &ranks) || !member(r, said, "type", &type) ||
            !member(r, said, "data", &data) || !member(r, data, "global_shape", &v) ||
            !numbers_of(r, v, SW_MAX_DIMS, shape, &ndim) || !member(r, data, "dtype", &v) ||
            !text_of(r, v, &word, &len))
            return false;
        if (!sw_dtype_parse_any(word, len, &also) || sw_dtype_bits(also) < 8)
            return odd(r, "its dtype is none that safetensors has");
        if (!first &&
            (also != dtype || ndim != r->ndim || memcmp(shape, r->shape, ndim * sizeof *shape) != 0))
            return odd(r, "ranks have another shape or dtype of it than others");
        dtype = also;
        r->ndim = ndim;
        memcpy(r->shape, shape, ndim * sizeof *shape);
        if (sw_value_is_text(r->p, type, "DTensorShardingMetadata") ? !take_dtensor(r, data, ranks, files)
            : sw_value_is_text(r->p, type, "default_tensor_v1")
                ? !take_slices(r, data, ranks, files)
                : !odd(r, "it is saved in a way that is not known"))
            return false;
    }
    return dtype == SW_NDTYPES || keep_tensor(r, dtype, skip, top);
}

/* item.a.0.b of the path ["a", 0, "b"], which is JSON. */
static bool take_path(reading *r, const char *item, size_t item_len, sw_value path)
{
    const char *json;
    size_t len, n;
    char *copy, *s;
    bool first = true, good;
    uint64_t number;
    sw_json j;

    r->name.len = 0;
    if (!text_of(r, path, &json, &len) || !(copy = sw_calloc(len + 1, 1, r->st)))
        return false;
    memcpy(copy, json, len);
    sw_json_init(&j, copy, len);
    good = sw_buf_add(&r->name, item, item_len, r->st) == SW_OK && sw_json_open(&j, '[');
    while (good && sw_json_next(&j, ']', &first)) {
        if (sw_json_peek(&j) == '"')
            good = sw_json_string(&j, &s, &n) && strlen(s) == n && !sw_buf_addf(&r->name, r->st, ".%s", s);
        else
            good = sw_json_uint(&j, &number) &&
                   !sw_buf_addf(&r->name, r->st, ".%llu", (unsigned long long)number);
    }
    good = good && sw_json_end(&j);
    free(copy);
    if (!r->st->code && (!good || r->name.len > 4096)) {
        r->name.len = 0;
        return odd(r, "the path of a tensor is none");
    }
    return good && sw_buf_add(&r->name, "", 1, r->st) == SW_OK;
}

/* ---- items ----------------------------------------------------------------------------------- */

/* The file of a rank of an item, where nothing was said of it: torch.save's, by the item's name. */
static char *usual_file(reading *r, uint64_t rank, const char *item, size_t item_len)
{
    char number[32];
    size_t n = (size_t)snprintf(number, sizeof number, "_%llu.pt", (unsigned long long)rank);
    char *name = spend(r, (item_len + n) / 24) ? sw_calloc(item_len + n + 1, 1, r->st) : NULL;

    if (name) {
        memcpy(name, item, item_len);
        memcpy(name + item_len, number, n);
    }
    return name;
}

/* The file of each rank of an item, behind those that are there. *plain: all are of safetensors or
 * of torch.save. */
static bool take_files(reading *r, sw_value layouts, const char *item, size_t item_len, bool *plain)
{
    sw_value rank, layout, v, type;
    uint64_t number;
    sw_items items;
    const char *text;
    size_t len, at = r->nfiles;

    *plain = true;
    if (sw_items_begin(r->p, layouts, &items) != r->nranks)
        return odd(r, "another number of files than of ranks");
    if (sw_grow(&r->files, &r->cap_files, at + r->nranks, sizeof *r->files, r->st))
        return false;
    memset(r->files + at, 0, r->nranks * sizeof *r->files);
    r->nfiles += r->nranks;
    while (sw_items_next_pair(&items, &rank, &layout)) {
        if (!spend(r, GROUP_STEPS))
            return false;
        if (!sw_value_size(r->p, rank, &number) || number >= r->nranks || r->files[at + number])
            return odd(r, "a file of a rank that there is not, or two of one");
        if (sw_value_kind(r->p, layout) == SW_KIND_NONE) {
            if (!(r->files[at + number] = usual_file(r, number, item, item_len)))
                return false;
            continue;
        }
        if (!member(r, layout, "serialization_format", &v) || !member(r, v, "type", &type) ||
            !member(r, layout, "file_path", &v) || !text_of(r, v, &text, &len) ||
            !(r->files[at + number] = sw_calloc(len + 1, 1, r->st)))
            return false;
        memcpy(r->files[at + number], text, len);
        *plain = *plain && (sw_value_is_text(r->p, type, "SafetensorsSerialization") ||
                            sw_value_is_text(r->p, type, "TorchSerialization"));
    }
    return !r->st->code;
}

/* An item: its tensors, or, where none are told of, its name. */
static bool take_item(reading *r, sw_value key, sw_value item)
{
    sw_value layouts, paths, path, groups;
    size_t len, files = r->nfiles;
    sw_items items;
    const char *name;
    bool plain;

    r->name.len = 0;
    if (!text_of(r, key, &name, &len) || len > 1024)
        return r->st->code ? false : odd(r, "the name of an item is too long");
    if (!member(r, item, "rank_to_layout_info", &layouts) ||
        !member(r, item, "nested_path_to_metadata", &paths) || !take_files(r, layouts, name, len, &plain))
        return false;
    if (!plain && sw_text_is(name, len, "model"))
        return odd(
            r,
            "the model was saved neither as safetensors (SafetensorsSerialization) nor by torch.save, which "
            "cannot be read");
    if (!plain || !sw_items_begin(r->p, paths, &items))
        return sw_boxlist_add_value(&r->draft, name, len, r->st) == SW_OK;
    while (sw_items_next_pair(&items, &path, &groups)) {
        size_t top = len + 1;

        if (!take_path(r, name, len, path))
            return false;
        /* The item itself may be a tensor. */
        if (r->name.len - 1 == len)
            top = len;
        if (!take_tensor(r, groups, files, top, top > len ? top : 0))
            return false;
    }
    return true;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* All items. */
static bool take_root(reading *r)
{
    sw_value root = r->p->root, items_of, v, key, item;
    sw_items items;

    if (!member(r, root, "metadata", &items_of) || !member(r, root, "world_size", &v))
        return false;
    if (!sw_value_size(r->p, v, &r->nranks) || r->nranks == 0 || r->nranks > RANKS_MAX)
        return odd(r, "its world_size is no number of ranks");
    if (!sw_value_member(r->p, root, "version", &v) || !sw_value_is_text(r->p, v, "2.0"))
        return odd(r, "its version is not 2.0");
    sw_items_begin(r->p, items_of, &items);
    while (sw_items_next_pair(&items, &key, &item))
        if (!take_item(r, key, item))
            return false;
    r->name.len = 0;
    return r->draft.ntensors > 0 || odd(r, "it tells of no tensors: items were saved without a resharder");
}

sw_code sw_tc_list(char *text, size_t n, const char *file, sw_buf *list, sw_status *st)
{
    sw_pickle p = SW_PICKLE_INIT;
    reading r = { .p = &p, .file = file, .st = st, .steps = n * STEPS_PER_BYTE };

    if (!sw_pickle_parse(text, n, file, NULL, &p, st) && take_root(&r))
        sw_boxlist_finish(&r.draft, (const char *const *)r.files, r.nfiles, false, list, st);
    for (size_t i = 0; i < r.nfiles; i++)
        free(r.files[i]);
    for (unsigned d = 0; d < SW_MAX_DIMS; d++)
        sw_ranges_release(&r.runs[d]);
    sw_ranges_release(&r.spare);
    free(r.files);
    free(r.mesh.place);
    sw_buf_release(&r.name);
    sw_buf_release(&r.boxes);
    sw_boxlist_draft_release(&r.draft);
    sw_pickle_release(&p);
    return st->code;
}
