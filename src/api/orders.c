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

#define ORDER_MAGIC UINT64_C(0x3372656472647773) /* "swdrder3" */

/* It begins so; behind it: records (sw_choice or sw_spot), sizes of the files, then texts with
 * their NULs: the directory, what shard files say of their set, and the names of the files. */
typedef struct order_head {
    uint64_t magic, bytes; /* of all of it */
    uint64_t items;        /* hash of the boxes that it was made for */
    uint64_t nitems, nrecords, nfiles;
    uint64_t buffer, input;
    uint64_t of; /* the largest model number of shard files */
    uint32_t rank, nranks;
    uint32_t shards, sync, stream, drops;
    sw_stripes stripes;
} order_head;

/* The same as sw_hash(), but of none there may be no pointer. */
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
    sw_layout l;     /* of other files, which are there: names and sizes */
} order;

/* Bytes of a record. */
static size_t record_size(const order_head *h)
{
    return h->shards ? sizeof(sw_choice) : sizeof(sw_spot);
}

/* As it is sent. */
static sw_code pack_order(const order *o, sw_buf *out, sw_status *st)
{
    sw_buf_add(out, &o->head, sizeof o->head, st);
    sw_buf_add(out, o->records, o->head.nrecords * record_size(&o->head), st);
    for (uint64_t i = 0; i < o->head.nfiles; i++)
        sw_buf_add(out, &o->l.files[i].size, sizeof o->l.files[i].size, st);
    sw_buf_add(out, o->dir, strlen(o->dir) + 1, st);
    sw_buf_add(out, o->set, strlen(o->set) + 1, st);
    for (uint64_t i = 0; i < o->head.nfiles; i++)
        sw_buf_add(out, o->l.files[i].name, strlen(o->l.files[i].name) + 1, st);
    if (!st->code)
        ((order_head *)(void *)out->data)->bytes = out->len;
    return st->code;
}

/* The text is not for this rank, or was changed on its way. */
static sw_code refuse(sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, NULL, NULL, "this is no order that the coordinator of a save has given");
}

/* text: a copy of it that is aligned, and may be changed no more. o->l.files is to be freed. */
static sw_code parse_order(const sw_buf *text, order *o, sw_status *st)
{
    const order_head *h = (const void *)text->data;
    uint64_t size, at = sizeof *h;
    char *names, *end;

    if (text->len < sizeof *h || h->magic != ORDER_MAGIC || h->bytes != text->len ||
        text->data[text->len - 1] != '\0')
        return refuse(st);
    end = text->data + text->len;
    if (!sw_mul(h->nrecords, record_size(h), &size) || !sw_add(at, size, &at) ||
        !sw_mul(h->nfiles, sizeof(uint64_t), &size) || !sw_add(at, size, &size) || size >= text->len)
        return refuse(st);
    *o = (order){ .head = *h, .records = text->data + sizeof *h, .dir = text->data + size };
    if (!(o->l.files = sw_calloc(h->nfiles, sizeof *o->l.files, st)))
        return st->code;
    o->set = o->dir + strlen(o->dir) + 1;
    if (o->set >= end)
        return refuse(st);
    names = text->data + (o->set - text->data) + strlen(o->set) + 1;
    for (; o->l.nfiles < h->nfiles; o->l.nfiles++, names += strlen(names) + 1) {
        sw_layout_file *f = &o->l.files[o->l.nfiles];

        if (names >= end)
            return refuse(st);
        f->name = names;
        memcpy(&f->size, text->data + at + o->l.nfiles * sizeof f->size, sizeof f->size);
    }
    return SW_OK;
}

/* ---- the coordinator ------------------------------------------------------------------------- */

/* What describe() has made. */
static void release_described(described *d)
{
    for (uint32_t r = 0; d->held && r < d->n; r++)
        sw_memboxes_release(&d->held[r]);
    free(d->held);
    free(d->items);
}

/* What the ranks hold, checked as each would check its own. */
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
                         .sync = sw_job_syncs(&s->job),
                         .stream = sw_job_streams(&s->job),
                         .drops = s->job.opt->drop_cache,
                         .stripes = *sw_job_stripes(&s->job) };
}

/* An order for each rank: its records; and all files, since it may write to any, unless it makes
 * its own. */
static sw_code make_orders(sw_save *s, const described *d, const char *dir, const sw_buf *records,
                           sw_status *st)
{
    const sw_job *j = &s->job;

    for (uint32_t r = 0; r < s->nranks && !st->code; r++) {
        order o = { .head = head_of(s, d, r),
                    .records = records[r].data,
                    .dir = dir,
                    .set = s->shards ? j->laid.set.text : "",
                    .l = j->laid.layout };

        o.head.nrecords = s->idle ? 0 : records[r].len / record_size(&o.head);
        o.head.nfiles = o.head.nrecords ? o.l.nfiles : 0;
        o.head.buffer = s->shards ? s->result.buffer_size : j->work.sched.band;
        o.head.input = j->work.memory.input;
        o.head.of = j->laid.set.of;
        pack_order(&o, &s->orders[r], st);
    }
    return st->code;
}

/* The coordinator makes the files, with their headers. */
static sw_code order_whole(sw_save *s, const described *d, const char *dir, sw_status *st)
{
    const sw_job *j = &s->job;
    sw_weld w = { .work = sw_job_work_of(j) };
    sw_buf *spots = sw_calloc(s->nranks, sizeof *spots, st);

    if (spots && (s->idle || !sw_scatter_create(&w, st)) &&
        (s->idle || !sw_spots_find(&j->values.outputs, &j->laid.layout, j->held, spots, st)))
        make_orders(s, d, dir, spots, st);
    for (uint32_t r = 0; spots && r < s->nranks; r++)
        sw_buf_release(&spots[r]);
    free(spots);
    return st->code;
}

/* Plan it all, and tell each rank of its part. */
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
    s->shards ? make_orders(s, &d, dir, s->job.laid.set.choices, st) : order_whole(s, &d, dir, st);
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
                       .files = shards ? SW_FILES_HELD : SW_FILES_WHOLE,
                       .by_orders = true };
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
    sw_job *j = &s->job;

    sw_status_clear(st);
    if (s->idle)
        return SW_OK;
    s->idle = true;
    /* What the ranks have written is read back, where it is to be proven. */
    if (!sw_job_prove_begin(j, st) && j->proven.on && j->files == SW_FILES_WHOLE)
        sw_proof_read(&j->proven.proof, 0, false, j->output.staged, j->opt->cancel, st);
    return sw_job_prove(j, st) || sw_job_copy(j, st) ? st->code : sw_job_publish(j, st);
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

/* What the order says that this rank writes. */
static sw_code write_own(const order *o, const sw_memboxes *held, const volatile int *cancel, sw_status *st)
{
    const sw_comm alone = sw_comm_self();
    const sw_shards_role role = { o->head.rank, o->head.nranks, o->head.of, o->set };
    sw_scatter s = { .rounds = { .comm = &alone,
                                 .to = { .dir = o->dir,
                                         .sync = o->head.sync,
                                         .drops = o->head.drops,
                                         .stream = o->head.stream,
                                         .stripes = o->head.stripes,
                                         .cancel = cancel } },
                     .l = &o->l,
                     .held = held,
                     .spots = o->records,
                     .nspots = o->head.nrecords,
                     .buffer = o->head.buffer,
                     .input = o->head.input };
    sw_shards shards;

    if (!o->head.shards)
        return sw_scatter_write(&s, st);
    if (!sw_shards_make(held, o->records, o->head.nrecords, &role, &shards, st))
        sw_shards_write(&shards, &s, st);
    sw_shards_release(&shards);
    return st->code;
}

/* Do the records speak of what is there? */
static bool is_for(const order *o, const sw_memboxes *held)
{
    const sw_choice *choices = o->records;
    const sw_spot *spots = o->records;

    if (o->head.nitems != held->n || o->head.items != hash_items(held))
        return false;
    for (uint64_t i = 0; i < o->head.nrecords; i++)
        if (o->head.shards
                ? choices[i].box >= held->n
                : spots[i].box >= held->n || spots[i].file >= o->head.nfiles || spots[i].dtype >= SW_NDTYPES)
            return false;
    return true;
}

sw_code sw_save_write(const void *text, size_t size, const sw_item *items, size_t n,
                      const volatile int *cancel, sw_status *st)
{
    sw_buf copy = SW_BUF_INIT;
    sw_memboxes held = { 0 };
    order o = { .dir = "" };

    sw_status_clear(st);
    if (sw_buf_add(&copy, text, size, st) || parse_order(&copy, &o, st) ||
        sw_memboxes_init(items, n, "this rank", &held, st))
        goto out;
    if (!is_for(&o, &held))
        sw_fail(
            st, SW_EUSAGE, NULL, NULL,
            "these are not the boxes that the coordinator was told of: names, dtypes, shapes or their order "
            "differ");
    else if (o.head.nrecords)
        write_own(&o, &held, cancel, st);
out:
    sw_memboxes_release(&held);
    free(o.l.files);
    sw_buf_release(&copy);
    return st->code;
}
