/* sw_checkpoint: the catalogue of a checkpoint and what is wrong with it, for those who look; boxes
 * of its tensors, for those who read. Opened once, asked often. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"
#include "base/grown.h"
#include "base/hash.h"
#include "base/num.h"
#include "base/path.h"
#include "dir/assets.h"
#include "dir/pitfalls.h"
#include "par/gather.h"
#include "par/like.h"
#include "par/scan.h"
#include "plan/dims.h"
#include "plan/numbers.h"
#include "plan/words.h"
#include "read/reader.h"

struct sw_checkpoint {
    char *dir;  /* where the files are */
    char *name; /* of the one file; NULL = a directory was opened */
    sw_catalog c;
    sw_find scan;
    sw_findings findings;
    uint64_t file_bytes, parameters, bytes;
    char *shards;        /* their numbers, in words; NULL = none */
    const char **values; /* names of what is no tensor */
    sw_buf notes;
    sw_buf counts; /* sw_counts, one a tensor; empty = nothing tells */
};

/* One call of sw_checkpoint_open(). */
typedef struct opening {
    const sw_comm *comm;
    const sw_options *opt;
    sw_checkpoint *cp;
    sw_findings *findings; /* NULL = the first thing that is wrong is the error */
    /* lines, the same on every rank but for those that only rank 0 can know; rank 0 speaks */
    sw_buf warnings;
} opening;

static const char hint_not_in_like[] = "the checkpoint of another model, or the index of another one";

/* ---- path ------------------------------------------------------------------------------------ */

/* Which files there are: those of a directory, or the one that was named. */
static sw_code scan(opening *o, const char *path, sw_status *st)
{
    const sw_where where = { .dir = path,
                             .boxes = o->opt->boxes,
                             .anywhere = o->opt->boxes_anywhere,
                             .everything = o->opt->everything,
                             .cancel = o->opt->cancel };
    sw_checkpoint *cp = o->cp;

    if (sw_scan_operand(o->comm, path, &cp->dir, &cp->name, st))
        return st->code;
    if (!cp->name)
        return sw_scan_dir(o->comm, &where, &cp->c, &cp->scan, o->findings, st);
    if (where.boxes)
        return sw_fail(st, SW_EUSAGE, path, NULL, "is a file, but a list of boxes is of a directory");
    return sw_scan_file(o->comm, cp->dir, cp->name, &cp->c, st);
}

/* ---- --like ---------------------------------------------------------------------------------- */

/* Tensors that the index lacks are wrong; those that only the index has may be tied. */
static sw_code compare_names(opening *o, const sw_map *map, sw_status *st)
{
    const sw_catalog *c = &o->cp->c;
    uint64_t lacks = 0;
    const char *first = NULL;

    for (uint32_t i = 0; i < c->ntensors && !st->code; i++) {
        if (sw_map_find(map, c->tensors[i].name))
            continue;
        sw_fail(st, SW_EINPUT, o->opt->like, c->tensors[i].name, "the index does not name it");
        sw_findings_take(o->findings, hint_not_in_like, st);
    }
    for (size_t i = 0; i < map->n; i++) {
        if (sw_catalog_find_tensor(c, map->items[i].key))
            continue;
        first = first ? first : map->items[i].key;
        lacks++;
    }
    if (lacks && !st->code)
        sw_buf_add_line(&o->warnings, st,
                        "%s: %" PRIu64
                        " of its tensors %s not in the checkpoint, the first is '%.256s' (tied "
                        "weights are stored once)",
                        o->opt->like, lacks, lacks == 1 ? "is" : "are", first);
    return st->code;
}

/* --like: the names must be those of the index, the shapes those beside it. */
static sw_code check_like(opening *o, sw_status *st)
{
    sw_map map = SW_MAP_INIT;
    const sw_like compared = { o->opt->like, &map, &o->cp->c, false, &o->warnings, o->findings };

    if (!sw_like_read(o->comm, o->opt->like, o->opt->cancel, &map, st)) {
        compare_names(o, &map, st);
        if (!sw_agree(o->comm, st))
            sw_like_compare(o->comm, &compared, st);
    }
    sw_map_release(&map);
    return st->code;
}

/* ---- what loaders want ----------------------------------------------------------------------- */

/* Rank 0 knows what else lies in the directory. What only some loaders mind is a warning. */
static sw_code check_loaders(opening *o, sw_status *st)
{
    sw_findings soft = SW_FINDINGS_INIT;
    sw_checkpoint *cp = o->cp;
    sw_dir names = { 0 };

    /* Without an index all of them were taken. */
    if (o->comm->rank == 0 && !sw_dir_list(cp->dir, &names, st) &&
        !sw_pitfalls_find(&cp->c, &cp->scan, cp->scan.by_index ? &names : NULL, o->findings, &soft, st))
        for (size_t i = 0; i < soft.n && !st->code; i++)
            sw_finding_add_line(&soft.items[i], &o->warnings, st);
    sw_findings_release(&soft);
    sw_dir_release(&names);
    return sw_agree(o->comm, st);
}

/* Rank 0 asks config.json; without a list nobody asked for a diagnosis. */
static sw_code check_sizes(opening *o, sw_status *st)
{
    if (o->comm->rank == 0 && o->findings && !o->cp->name && !o->opt->no_config_check)
        sw_assets_check_sizes(o->cp->dir, NULL, &o->cp->c, o->findings, st);
    return sw_agree(o->comm, st);
}

/* ---- open ------------------------------------------------------------------------------------ */

/* Where each name of a value begins. */
static sw_code name_values(sw_checkpoint *cp, sw_status *st)
{
    const char *name = cp->c.values.data;

    cp->values = sw_calloc(cp->c.nvalues, sizeof *cp->values, st);
    for (uint64_t i = 0; cp->values && i < cp->c.nvalues; i++, name += strlen(name) + 1)
        cp->values[i] = name;
    return st->code;
}

/* Sums that overflow stay at their end; that is told of once. */
static sw_code sum_up(opening *o, sw_status *st)
{
    sw_checkpoint *cp = o->cp;
    bool fit = true;

    for (uint32_t i = 0; i < cp->c.nfiles; i++)
        cp->file_bytes += cp->c.files[i].size;
    for (uint32_t i = 0; i < cp->c.ntensors; i++) {
        const sw_tensor *t = &cp->c.tensors[i];
        bool elements = sw_add(cp->parameters, t->elements, &cp->parameters);
        bool bytes = sw_add(cp->bytes, t->bytes, &cp->bytes);

        cp->parameters = elements ? cp->parameters : UINT64_MAX;
        cp->bytes = bytes ? cp->bytes : UINT64_MAX;
        if (fit && !(elements && bytes)) {
            fit = false;
            sw_fail(st, SW_EINPUT, NULL, t->name, "the sizes of the tensors overflow");
        }
    }
    sw_numbers_text(&cp->c, &cp->shards, st);
    name_values(cp, st);
    return sw_findings_take(o->findings, NULL, st);
}

/* Collective. All that opening does, one step after the other. */
static sw_code steps(opening *o, const char *path, sw_status *st)
{
    sw_checkpoint *cp = o->cp;
    sw_headers headers;

    if (scan(o, path, st))
        return st->code;
    headers = (sw_headers){ .dir = cp->dir, .cancel = o->opt->cancel, .notes = &cp->notes };
    sw_buf_add(&o->warnings, cp->scan.warnings.data, cp->scan.warnings.len, st);
    sw_numbers_expect(&cp->c, o->opt->expect_shards, &o->warnings, o->findings, st);
    if (sw_agree(o->comm, st) || sw_gather_catalog(o->comm, &headers, &cp->c, o->findings, st) ||
        (o->opt->like && check_like(o, st)) || check_sizes(o, st))
        return st->code;
    /* What findings tell of needs no warning. */
    if (!cp->name && o->opt->expect_shards == 0 && cp->findings.n == 0)
        sw_numbers_warn_holes(&cp->c, &o->warnings, st);
    if (!cp->name)
        sw_numbers_warn_models(&cp->c, &o->warnings, st);
    if (sw_agree(o->comm, st))
        return st->code;
    /* In a directory of whole tensors; without a list nobody asked for a diagnosis. */
    if (o->findings && !cp->name && !cp->c.sharded && !cp->scan.by_shards && check_loaders(o, st))
        return st->code;
    if (sw_find_block_size(o->comm, o->opt, cp->dir, &cp->c, st))
        return sw_agree(o->comm, st);
    sum_up(o, st);
    if (!cp->c.sharded && !cp->c.list.len && sw_told_counts(o->comm, cp->dir, &cp->c, &cp->counts, st))
        return st->code;
    if (sw_agree(o->comm, st) || !o->findings)
        return st->code;
    return sw_findings_gather(o->comm, o->findings, st);
}

sw_code sw_checkpoint_open(const sw_comm *comm, const char *path, const sw_options *opt, sw_checkpoint **out,
                           sw_status *st)
{
    opening o = { .comm = comm, .warnings = SW_BUF_INIT };
    sw_given g;

    *out = NULL;
    sw_given_take(&g, SW_CALL_OPEN, comm, path, NULL, opt);
    o.opt = &g.opt;
    if (sw_call_begin(comm, &g, 0, st))
        goto out;
    o.cp = sw_calloc(1, sizeof *o.cp, st);
    if (o.cp && o.opt->tolerant)
        o.findings = &o.cp->findings;
    if (!sw_agree(comm, st))
        steps(&o, g.in, st);
    sw_buf_tell_lines(&o.warnings, comm->rank == 0 ? o.opt->warn : NULL, o.opt->user);
    if (st->code == SW_OK)
        *out = o.cp;
    else
        sw_checkpoint_free(o.cp);
    sw_buf_release(&o.warnings);
out:
    sw_given_release(&g);
    return st->code;
}

void sw_checkpoint_free(sw_checkpoint *cp)
{
    if (!cp)
        return;
    sw_catalog_release(&cp->c);
    sw_find_release(&cp->scan);
    sw_findings_release(&cp->findings);
    free(cp->shards);
    free(cp->values);
    sw_buf_release(&cp->notes);
    sw_buf_release(&cp->counts);
    free(cp->name);
    free(cp->dir);
    free(cp);
}

/* ---- looking --------------------------------------------------------------------------------- */

void sw_checkpoint_info_get(const sw_checkpoint *cp, sw_checkpoint_info *info)
{
    bool sharded = cp->c.sharded || cp->scan.by_shards;

    *info = (sw_checkpoint_info){ .kind = cp->name  ? SW_KIND_FILE
                                          : sharded ? SW_KIND_SHARDED
                                                    : SW_KIND_PLAIN,
                                  .sharded = cp->c.sharded,
                                  .index = cp->scan.by_index ? cp->scan.index_name : NULL,
                                  .shards = cp->shards,
                                  .nfiles = cp->c.nfiles,
                                  .ntensors = cp->c.ntensors,
                                  .file_bytes = cp->file_bytes,
                                  .parameters = cp->parameters,
                                  .bytes = cp->bytes,
                                  .nvalues = cp->c.nvalues };
    for (uint32_t i = 0; i < cp->c.ntensors; i++)
        info->nboxes += cp->c.tensors[i].nboxes + cp->c.tensors[i].nreplicas;
}

void sw_checkpoint_file(const sw_checkpoint *cp, uint64_t file, sw_file_info *info)
{
    const sw_file *f;

    assert(file < cp->c.nfiles);
    f = &cp->c.files[file];
    *info = (sw_file_info){ .name = sw_file_name(f),
                            .size = f->size,
                            .data_start = f->data_start,
                            .tensors = f->entries,
                            .sharded = f->sharded,
                            .broken = f->broken,
                            .shard = f->number.shard,
                            .model = f->number.model,
                            .of = f->number.of };
}

void sw_checkpoint_tensor(const sw_checkpoint *cp, uint64_t tensor, sw_tensor_info *info)
{
    sw_counts counts = { 0 };
    const sw_tensor *t;

    assert(tensor < cp->c.ntensors);
    t = &cp->c.tensors[tensor];
    if (cp->counts.len)
        memcpy(&counts, cp->counts.data + tensor * sizeof counts, sizeof counts);
    *info = (sw_tensor_info){ .name = t->name,
                              .dtype = sw_dtype_name((sw_dtype)t->dtype),
                              .ndim = t->ndim,
                              .shape = sw_tensor_shape(&cp->c, t),
                              .elements = t->elements,
                              .bytes = t->bytes,
                              .nboxes = t->nboxes,
                              .nreplicas = t->nreplicas,
                              .file = t->file,
                              .broken = t->broken,
                              .holes = t->holes,
                              .overlaps = t->overlaps,
                              .scale = t->scale ? cp->c.tensors[t->scale - 1].name : NULL,
                              .counted = counts.counted,
                              .nan = counts.nan,
                              .inf = counts.inf };
}

void sw_checkpoint_box(const sw_checkpoint *cp, uint64_t tensor, uint64_t box, sw_box_info *info)
{
    const sw_tensor *t;
    sw_placed b;

    assert(tensor < cp->c.ntensors);
    t = &cp->c.tensors[tensor];
    assert(box < t->nboxes + t->nreplicas);
    sw_box_get(&cp->c, t, box, &b);
    memcpy(info->offsets, b.offsets, t->ndim * sizeof *b.offsets);
    memcpy(info->shape, b.shape, t->ndim * sizeof *b.shape);
    info->file = b.box.file;
    info->at = b.box.at;
    info->bytes = sw_dtype_bits((sw_dtype)t->dtype) * sw_dims_count(b.shape, t->ndim) / 8;
    info->packed = b.box.strides == 0;
    if (!info->packed)
        memcpy(info->strides, cp->c.strides + b.box.strides - 1, t->ndim * sizeof *info->strides);
}

const char *sw_checkpoint_value(const sw_checkpoint *cp, uint64_t value)
{
    assert(value < cp->c.nvalues);
    return cp->values[value];
}

bool sw_checkpoint_note(const sw_checkpoint *cp, uint64_t *at, sw_note_info *note)
{
    return sw_notes_next(&cp->notes, at, &note->file, &note->key, &note->value);
}

bool sw_checkpoint_find(const sw_checkpoint *cp, const char *name, uint64_t *tensor)
{
    const sw_tensor *t = sw_catalog_find_tensor(&cp->c, name);

    *tensor = t ? (uint64_t)(t - cp->c.tensors) : 0;
    return t != NULL;
}

const sw_finding *sw_checkpoint_findings(const sw_checkpoint *cp, uint64_t *n)
{
    *n = cp->findings.n;
    return cp->findings.items;
}

uint64_t sw_checkpoint_cuts(const sw_checkpoint *cp, uint64_t tensor, unsigned dim, uint64_t *cuts)
{
    assert(tensor < cp->c.ntensors && dim < cp->c.tensors[tensor].ndim);
    return sw_sharding_cuts(&cp->c, &cp->c.tensors[tensor], dim, cuts);
}

sw_code sw_checkpoint_sharding_text(const sw_checkpoint *cp, uint64_t tensor, char *text, sw_status *st)
{
    assert(tensor < cp->c.ntensors);
    return sw_sharding_words(&cp->c, &cp->c.tensors[tensor], text, st);
}

/* ---- reading --------------------------------------------------------------------------------- */

#define THREADS_MAX 1024u

/* Ways of reading that make sense, with the defaults filled in. */
static sw_code take_read_options(const sw_read_options *given, sw_reader *r, sw_status *st)
{
    sw_read_options opt;

    if (sw_grown_take(&opt, sizeof opt, given, "sw_read_options", st))
        return st->code;
    r->threads = opt.threads ? opt.threads : 1;
    r->buffer_size = opt.buffer_size ? opt.buffer_size : SW_READER_BUFFER;
    r->cancel = opt.cancel;
    r->map = opt.map;
    if ((unsigned)opt.map > SW_READ_MAP_ALWAYS)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no way of reading has the number %d", (int)opt.map);
    if (r->threads > THREADS_MAX)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%u threads are more than %u", r->threads, THREADS_MAX);
    if (r->buffer_size < SW_BUFFER_SIZE_MIN)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small: at least %u are needed", r->buffer_size,
                       SW_BUFFER_SIZE_MIN);
    return SW_OK;
}

sw_code sw_checkpoint_read(const sw_checkpoint *cp, const sw_read *reads, size_t n,
                           const sw_read_options *opt, sw_status *st)
{
    sw_reader r = { .c = &cp->c, .dir = cp->dir, .nwants = n };
    sw_request *wants = NULL;

    sw_status_clear(st);
    if (take_read_options(opt, &r, st))
        return st->code;
    if (n && !reads)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%zu reads, but no list of them", n);
    r.wants = wants = sw_calloc(n, sizeof *wants, st);
    for (size_t i = 0; wants && i < n && !st->code; i++)
        sw_request_box(r.c, &reads[i], &wants[i], st);
    if (!st->code && !sw_requests_apart(wants, n, st))
        sw_reader_run(&r, st);
    free(wants);
    return st->code;
}

sw_code sw_checkpoint_read_all(const sw_comm *comm, const sw_checkpoint *cp, const sw_read *reads, size_t n,
                               const sw_read_options *opt, sw_status *st)
{
    static const char call[] = "sw_checkpoint_read_all";
    int other;

    sw_status_clear(st);
    /* Ranks that came with different calls have nothing to do together. */
    if (sw_comm_compare(comm, sw_hash(0, call, sizeof call), &other, st))
        return st->code;
    if (other)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "ranks 0 and %d were called with different functions",
                       other);
    sw_checkpoint_read(cp, reads, n, opt, st);
    return sw_agree(comm, st);
}

sw_code sw_checkpoint_read_shape(const sw_checkpoint *cp, const char *name, const char *dtype,
                                 sw_read_shape *out, sw_status *st)
{
    sw_request w;

    sw_status_clear(st);
    *out = (sw_read_shape){ .dtype = "" };
    if (sw_request_tensor(&cp->c, name, dtype, &w, st))
        return st->code;
    out->dtype = sw_dtype_name(w.how.to);
    out->ndim = w.ndim;
    memcpy(out->shape, w.whole, w.ndim * sizeof *w.whole);
    out->bytes = w.whole_bytes;
    return SW_OK;
}
