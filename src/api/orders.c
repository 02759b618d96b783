/* sw_save_begin() and what follows it: a save in steps, for ranks that hear of one another only
 * through somebody else.
 *
 * The coordinator runs the steps of a job (job.h) as one process that is told what all ranks hold.
 * What a rank needs to know is an order: where the files are, and a few numbers for each box that
 * it writes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"
#include "base/hash.h"
#include "base/num.h"
#include "par/scatter.h"

/* What the ranks hold, as far as it can be told from afar. */
typedef struct described {
    sw_item *items; /* of all ranks */
    sw_memboxes *held;
    uint32_t n;
} described;

struct sw_save {
    sw_comm alone;
    sw_result result;
    sw_job job;
    bool shards;
    bool idle; /* there is nothing to be written or published: a dry run */
    sw_buf *orders;
    uint32_t nranks;
    sw_given given;
};

/* ---- orders ---------------------------------------------------------------------------------- */

#define ORDER_MAGIC UINT64_C(0x3272656472647773) /* "swdrder2" */

/* It begins so; behind it: records (sw_choice or sw_place), sizes of the files, then texts with
 * their NULs: the directory, what shard files say of their set, and the names of the files. */
typedef struct order_head {
    uint64_t magic, bytes; /* of all of it */
    uint64_t items;        /* hash of the boxes that it was made for */
    uint64_t nitems, nrecords, nfiles;
    uint64_t buffer, input;
    uint64_t of; /* the largest model number of shard files */
    uint32_t rank, nranks;
    uint32_t shards, sync;
} order_head;

static uint64_t hash_dims(uint64_t h, const uint64_t *dims, unsigned n)
{
    return n ? sw_hash(h, dims, n * sizeof *dims) : h;
}

/* Of what the boxes are, not of what is in them. */
static uint64_t hash_items(const sw_memboxes *held)
{
    uint64_t h = 0;

    for (size_t i = 0; i < held->n; i++) {
        const sw_item *it = held->boxes[i].item;

        h = sw_hash(h, it->name, strlen(it->name));
        h = sw_hash_word(h, (uint64_t)held->boxes[i].dtype << 32 | it->ndim);
        h = hash_dims(hash_dims(hash_dims(h, it->global_shape, it->ndim), it->offsets, it->ndim), it->shape,
                      it->ndim);
    }
    return h;
}

/* What all orders have in common, and what is in this one. */
typedef struct order {
    order_head head;
    const void *records;
    const char *dir;
    const char *set; /* of shard files: what each says of all */
    const sw_publication *files;
} order;

static sw_code pack_order(const order *o, size_t record, sw_buf *out, sw_status *st)
{
    sw_buf_add(out, &o->head, sizeof o->head, st);
    sw_buf_add(out, o->records, o->head.nrecords * record, st);
    for (uint64_t i = 0; i < o->head.nfiles; i++)
        sw_buf_add(out, &o->files[i].size, sizeof o->files[i].size, st);
    sw_buf_add(out, o->dir, strlen(o->dir) + 1, st);
    sw_buf_add(out, o->set, strlen(o->set) + 1, st);
    for (uint64_t i = 0; i < o->head.nfiles; i++)
        sw_buf_add(out, o->files[i].name, strlen(o->files[i].name) + 1, st);
    if (!st->code)
        ((order_head *)(void *)out->data)->bytes = out->len;
    return st->code;
}

static sw_code refuse(sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, NULL, NULL, "this is no order that the coordinator of a save has given");
}

/* text: a copy of it that is aligned. files: room for them, to be freed. */
static sw_code parse_order(const sw_buf *text, order *o, sw_publication **files, sw_status *st)
{
    const order_head *h = (const void *)text->data;
    uint64_t size, record, at = sizeof *h;
    const char *names, *end;

    *files = NULL;
    if (text->len < sizeof *h || h->magic != ORDER_MAGIC || h->bytes != text->len ||
        text->data[text->len - 1] != '\0')
        return refuse(st);
    end = text->data + text->len;
    record = h->shards ? sizeof(sw_choice) : sizeof(sw_place);
    if (!sw_mul(h->nrecords, record, &size) || !sw_add(at, size, &at) ||
        !sw_mul(h->nfiles, sizeof(uint64_t), &size) || !sw_add(at, size, &size) || size >= text->len)
        return refuse(st);
    *o = (order){ .head = *h, .records = text->data + sizeof *h, .dir = text->data + size };
    if (!(*files = sw_calloc(h->nfiles, sizeof **files, st)))
        return st->code;
    o->set = o->dir + strlen(o->dir) + 1;
    if (o->set >= end)
        return refuse(st);
    names = o->set + strlen(o->set) + 1;
    for (uint64_t i = 0; i < h->nfiles; i++, names += strlen(names) + 1) {
        if (names >= end)
            return refuse(st);
        (*files)[i].name = names;
        memcpy(&(*files)[i].size, text->data + at + i * sizeof(uint64_t), sizeof(uint64_t));
    }
    o->files = *files;
    return SW_OK;
}

/* ---- the coordinator ------------------------------------------------------------------------- */

static void release_described(described *d)
{
    for (uint32_t r = 0; d->held && r < d->n; r++)
        sw_memboxes_release(&d->held[r]);
    free(d->held);
    free(d->items);
}

static sw_code describe(const sw_item *const *items, const size_t *n, size_t nranks, described *d,
                        sw_status *st)
{
    static const char elsewhere; /* stands for the data, which nobody looks at */
    size_t total = 0;

    if (nranks == 0 || nranks > INT32_MAX)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%zu ranks cannot save", nranks);
    for (size_t r = 0; r < nranks; r++)
        total += n[r];
    d->items = sw_calloc(total, sizeof *d->items, st);
    d->held = sw_calloc(nranks, sizeof *d->held, st);
    d->n = (uint32_t)nranks;
    total = 0;
    for (size_t r = 0; r < nranks && !st->code; total += n[r++]) {
        char who[SW_RANK_NAME_SIZE];

        snprintf(who, sizeof who, SW_RANK_NAME, (unsigned)r);
        for (size_t i = 0; i < n[r]; i++) {
            d->items[total + i] = items[r][i];
            d->items[total + i].data = &elsewhere;
            d->items[total + i].strides = NULL;
        }
        sw_memboxes_init(d->items + total, n[r], who, &d->held[r], st);
    }
    return st->code;
}

/* What the order of a rank begins with. */
static order_head head_of(const sw_save *s, const described *d, uint32_t rank)
{
    return (order_head){ .magic = ORDER_MAGIC,
                         .items = hash_items(&d->held[rank]),
                         .nitems = d->held[rank].n,
                         .rank = rank,
                         .nranks = s->nranks,
                         .shards = s->shards,
                         .sync = sw_job_syncs(&s->job) };
}

/* Each rank makes its files itself. */
static sw_code order_shards(sw_save *s, const described *d, const char *dir, sw_status *st)
{
    const sw_shard_set *set = &s->job.laid.set;

    for (uint32_t r = 0; r < s->nranks && !st->code; r++) {
        order o = { .head = head_of(s, d, r), .records = set->choices[r].data, .dir = dir, .set = set->text };

        o.head.nrecords = s->idle ? 0 : set->choices[r].len / sizeof(sw_choice);
        o.head.buffer = s->result.buffer_size;
        o.head.of = set->of;
        pack_order(&o, sizeof(sw_choice), &s->orders[r], st);
    }
    return st->code;
}

/* An order for each rank: its places, and all files, since it may write to any. */
static sw_code order_places(sw_save *s, const described *d, const char *dir, const sw_buf *places,
                            sw_status *st)
{
    const sw_layout *l = &s->job.laid.layout;
    sw_publication *files = sw_calloc(l->nfiles, sizeof *files, st);

    for (uint32_t f = 0; files && f < l->nfiles; f++)
        files[f] = (sw_publication){ l->files[f].name, l->files[f].size };
    for (uint32_t r = 0; r < s->nranks && !st->code; r++) {
        order o = {
            .head = head_of(s, d, r), .records = places[r].data, .dir = dir, .set = "", .files = files
        };

        o.head.nrecords = places[r].len / sizeof(sw_place);
        o.head.nfiles = o.head.nrecords ? l->nfiles : 0;
        o.head.buffer = s->job.work.sched.band;
        o.head.input = s->job.work.memory.input;
        pack_order(&o, sizeof(sw_place), &s->orders[r], st);
    }
    free(files);
    return st->code;
}

/* The coordinator makes the files, with their headers. */
static sw_code order_whole(sw_save *s, const described *d, const char *dir, sw_status *st)
{
    const sw_job *j = &s->job;
    sw_weld w = { .work = sw_job_work_of(j), .staged_dir = dir, .sync = sw_job_syncs(j) };
    sw_buf *places = sw_calloc(s->nranks, sizeof *places, st);

    if (places && (s->idle || !sw_scatter_create(&w, st)) &&
        (s->idle || !sw_places_find(&j->values.outputs, &j->laid.layout, j->held, places, st)))
        order_places(s, d, dir, places, st);
    for (uint32_t r = 0; places && r < s->nranks; r++)
        sw_buf_release(&places[r]);
    free(places);
    return st->code;
}

static sw_code begin(sw_save *s, const sw_item *const *items, const size_t *n, size_t nranks, sw_status *st)
{
    described d = { NULL, NULL, 0 };
    const char *dir;

    if (describe(items, n, nranks, &d, st))
        goto out;
    s->nranks = d.n;
    s->job.held = &(sw_holders){ d.held, 0, d.n };
    s->orders = sw_calloc(s->nranks, sizeof *s->orders, st);
    if (st->code || sw_job_plan(&s->job, st))
        goto out;
    s->idle = s->job.output.done;
    dir = s->idle ? "" : s->job.output.staged;
    s->shards ? order_shards(s, &d, dir, st) : order_whole(s, &d, dir, st);
out:
    s->job.held = NULL;
    release_described(&d);
    return st->code;
}

sw_code sw_save_begin(const char *output_dir, bool shards, const sw_item *const *items, const size_t *n,
                      size_t nranks, const sw_options *opt, sw_save **out, sw_status *st)
{
    sw_save *s;

    sw_status_clear(st);
    *out = NULL;
    if (!(s = sw_calloc(1, sizeof *s, st)))
        return st->code;
    s->alone = sw_comm_self();
    s->shards = shards;
    sw_given_take(&s->given, shards ? SW_CALL_SAVE_SHARDS : SW_CALL_SAVE_ORDERS, &s->alone, NULL, output_dir,
                  opt);
    if (shards)
        s->given.opt.planned = NULL;
    s->job = (sw_job){ .comm = &s->alone,
                       .out = s->given.out,
                       .opt = &s->given.opt,
                       .files = shards ? SW_FILES_HELD : SW_FILES_WHOLE };
    sw_job_begin(&s->job, &s->result, st);
    *st = s->given.st;
    if (!st->code)
        begin(s, items, n, nranks, st);
    if (st->code)
        sw_save_free(s, st);
    else
        *out = s;
    return st->code;
}

const void *sw_save_order(const sw_save *s, size_t rank, size_t *n)
{
    *n = s->orders[rank].len;
    return s->orders[rank].data;
}

sw_code sw_save_publish(sw_save *s, sw_status *st)
{
    sw_status_clear(st);
    if (s->idle)
        return SW_OK;
    s->idle = true;
    return sw_job_publish(&s->job, st);
}

sw_code sw_save_free(sw_save *s, sw_status *st)
{
    if (!s)
        return st->code;
    sw_job_end(&s->job, st);
    for (uint32_t r = 0; s->orders && r < s->nranks; r++)
        sw_buf_release(&s->orders[r]);
    free(s->orders);
    sw_result_release(&s->result);
    sw_given_release(&s->given);
    free(s);
    return st->code;
}

/* ---- every rank ------------------------------------------------------------------------------ */

static sw_code write_shards(const order *o, const sw_memboxes *held, const volatile int *cancel,
                            sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    sw_shards_write w = { .dir = o->dir, .buffer = o->head.buffer, .sync = o->head.sync, .cancel = cancel };
    sw_shards_role role = { o->head.rank, o->head.nranks, o->head.of, o->set };
    sw_shards shards;

    if (!sw_shards_make(held, o->records, o->head.nrecords, &role, &shards, st))
        sw_shards_write_files(&alone, &shards, &w, st);
    sw_shards_release(&shards);
    return st->code;
}

static sw_code write_places(const order *o, const sw_memboxes *held, const volatile int *cancel,
                            sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    sw_scatter s = { .dir = o->dir,
                     .files = o->files,
                     .held = held,
                     .places = o->records,
                     .nplaces = o->head.nrecords,
                     .buffer = o->head.buffer,
                     .input = o->head.input,
                     .sync = o->head.sync,
                     .cancel = cancel };

    return sw_scatter_write(&alone, &s, st);
}

/* Do the records speak of what is there? */
static bool is_for(const order *o, const sw_memboxes *held)
{
    const sw_choice *choices = o->records;
    const sw_place *places = o->records;

    if (o->head.nitems != held->n || o->head.items != hash_items(held))
        return false;
    for (uint64_t i = 0; i < o->head.nrecords; i++)
        if (o->head.shards ? choices[i].box >= held->n
                           : places[i].box >= held->n || places[i].file >= o->head.nfiles ||
                                 places[i].dtype >= SW_NDTYPES)
            return false;
    return true;
}

sw_code sw_save_write(const void *text, size_t size, const sw_item *items, size_t n,
                      const volatile int *cancel, sw_status *st)
{
    sw_buf copy = SW_BUF_INIT;
    sw_publication *files = NULL;
    sw_memboxes held = SW_MEMBOXES_INIT;
    order o = { .dir = "" };

    sw_status_clear(st);
    if (sw_buf_add(&copy, text, size, st) || parse_order(&copy, &o, &files, st) ||
        sw_memboxes_init(items, n, "this rank", &held, st))
        goto out;
    if (!is_for(&o, &held))
        sw_fail(
            st, SW_EUSAGE, NULL, NULL,
            "these are not the boxes that the coordinator was told of: names, dtypes, shapes or their order "
            "differ");
    else if (o.head.nrecords)
        o.head.shards ? write_shards(&o, &held, cancel, st) : write_places(&o, &held, cancel, st);
out:
    sw_memboxes_release(&held);
    free(files);
    sw_buf_release(&copy);
    return st->code;
}
