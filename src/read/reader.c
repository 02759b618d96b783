/* Reading boxes; see reader.h.
 *
 * A want is cut into tasks: what it shares with one source box, in parts of a few MiB. Sorted by
 * file and position they are handed out one after the other to whoever is free, so that every file
 * is read forwards by each thread, and all threads are busy to the end. Tensors that are
 * dequantized are read from several boxes at once, so their tasks are parts of the wanted box. */
#include "read/reader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/thread.h"
#include "read/recast.h"

#define PART (UINT64_C(4) << 20) /* bytes of a task: what is done between two looks at the flags */

/* ---- tasks ----------------------------------------------------------------------------------- */

typedef struct task {
    uint64_t file, at; /* where it begins: for the order */
    uint64_t want;
    uint64_t box; /* of the source, or SW_ANY_BOX */
    uint64_t part;
} task;

typedef struct task_list {
    task *items;
    size_t n, cap;
} task_list;

/* A box of a want, as it is read. */
typedef struct part_box {
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
} part_box;

static int by_place(const void *a, const void *b)
{
    const task *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->want != y->want)
        return x->want < y->want ? -1 : 1;
    return (x->part > y->part) - (x->part < y->part);
}

/* What a want shares with a source box, or all of it; false when nothing. */
static bool shared_box(const sw_catalog *c, const sw_request *w, uint64_t box, part_box *out)
{
    for (unsigned d = 0; d < w->ndim; d++) {
        uint64_t lo = w->offsets[d], hi = lo + w->shape[d];

        if (box != SW_ANY_BOX) {
            uint64_t begin = sw_box_offsets(c, w->tensor, box)[d];

            lo = sw_max(lo, begin);
            hi = sw_min(hi, begin + sw_box_shape(c, w->tensor, box)[d]);
        }
        if (lo >= hi)
            return false;
        out->offsets[d] = lo;
        out->shape[d] = hi - lo;
    }
    return true;
}

/* How a shared box is cut. Of dtypes narrower than a byte nobody knows where they may be. */
static void cut(const sw_request *w, const part_box *box, sw_chunks *out)
{
    unsigned bits = sw_dtype_bits(w->to);

    sw_chunks_init(out, w->ndim, box->offsets, box->shape, bits < 8 ? UINT64_MAX : PART / (bits / 8));
}

/* The box of saved elements behind a part: its own, but for MXFP4. */
static void saved_box(const sw_request *w, const part_box *part, part_box *out)
{
    if (w->op == SW_OP_MXFP4)
        sw_request_blocks(part->offsets, part->shape, out->offsets, out->shape);
    else
        *out = *part;
}

/* Where a part of a want that takes from several source boxes begins. */
static void first_place(const sw_catalog *c, const sw_request *w, const part_box *part, task *t)
{
    uint64_t first, end;
    part_box saved;
    sw_run run;
    sw_run_target target = { saved.offsets, saved.shape, NULL };

    saved_box(w, part, &saved);
    sw_run_range(c, w->tensor, saved.offsets, saved.shape, &first, &end);
    while (first < end && sw_run_make(c, w->tensor, first, &target, &run) == SW_RUN_NONE)
        first++;
    if (first < end) {
        t->file = run.file;
        t->at = run.at;
    }
}

static sw_code uneven(const sw_request *w, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, NULL, w->tensor->name,
                   "the box does not begin and end on whole bytes of %s in every row",
                   sw_dtype_name((sw_dtype)w->tensor->dtype));
}

/* The tasks of one source box. */
static sw_code add_tasks(const sw_reader *r, task_list *list, uint64_t want, uint64_t box, sw_status *st)
{
    const sw_request *w = &r->wants[want];
    part_box shared, part;
    sw_chunks chunks;
    sw_run run;
    sw_run_target target = { part.offsets, part.shape, w->strides };

    if (!shared_box(r->c, w, box, &shared))
        return SW_OK;
    cut(w, &shared, &chunks);
    if (sw_grow(&list->items, &list->cap, list->n + chunks.n, sizeof *list->items, st))
        return st->code;
    for (uint64_t i = 0; i < chunks.n; i++) {
        task *t = &list->items[list->n++];

        *t = (task){ .want = want, .box = box, .part = i };
        sw_chunks_get(&chunks, i, part.offsets, part.shape);
        if (box == SW_ANY_BOX) {
            first_place(r->c, w, &part, t);
        } else if (sw_run_make(r->c, w->tensor, box, &target, &run) == SW_RUN_UNEVEN) {
            return uneven(w, st);
        } else {
            t->file = run.file;
            t->at = run.at;
        }
    }
    return SW_OK;
}

/* In one file of several, what other files hold is not missed until somebody wants it. */
static sw_code check_held(const sw_catalog *c, const sw_request *w, const sw_tensor *t, const part_box *box,
                          sw_status *st)
{
    sw_run_target target = { box->offsets, box->shape, NULL };
    uint64_t first, end, bits = sw_dtype_bits((sw_dtype)t->dtype);
    sw_run run;

    if (!c->part || w->bytes == 0)
        return SW_OK;
    for (unsigned d = 0; d < t->ndim; d++)
        bits *= box->shape[d];
    sw_run_range(c, t, box->offsets, box->shape, &first, &end);
    for (; first < end; first++) {
        sw_run_kind kind = sw_run_make(c, t, first, &target, &run);

        if (kind == SW_RUN_UNEVEN)
            return SW_OK; /* its task will tell */
        bits -= kind == SW_RUN_SHARED ? run.n * 8 : 0;
    }
    if (bits)
        return sw_fail(st, SW_EINPUT, c->files[0].name, t->name, "parts of the box are not in this file");
    return SW_OK;
}

static sw_code check_want_held(const sw_catalog *c, const sw_request *w, sw_status *st)
{
    part_box wanted, box;

    if (!shared_box(c, w, SW_ANY_BOX, &wanted))
        return SW_OK;
    saved_box(w, &wanted, &box);
    if (check_held(c, w, w->tensor, &box, st) || w->op == SW_OP_COPY || w->op == SW_OP_CAST)
        return st->code;
    for (unsigned d = 0; d < 2 && w->op == SW_OP_SCALED; d++) {
        uint64_t last = (box.offsets[d] + box.shape[d] - 1) / c->block[d];

        box.offsets[d] /= c->block[d];
        box.shape[d] = last + 1 - box.offsets[d];
    }
    return check_held(c, w, w->scale, &box, st);
}

static sw_code list_tasks(const sw_reader *r, task_list *list, sw_status *st)
{
    for (size_t i = 0; i < r->nwants && !st->code; i++) {
        const sw_request *w = &r->wants[i];
        uint64_t box, end;

        if (w->bytes == 0 || check_want_held(r->c, w, st))
            continue;
        if (w->op == SW_OP_SCALED || w->op == SW_OP_MXFP4) {
            add_tasks(r, list, i, SW_ANY_BOX, st);
            continue;
        }
        sw_run_range(r->c, w->tensor, w->offsets, w->shape, &box, &end);
        for (; box < end && !st->code; box++)
            add_tasks(r, list, i, box, st);
    }
    if (list->n > 1)
        qsort(list->items, list->n, sizeof *list->items, by_place);
    return st->code;
}

/* ---- one thread ------------------------------------------------------------------------------ */

typedef struct crew {
    const sw_reader *r;
    const task_list *tasks;
    unsigned size;
    atomic_size_t next; /* the task that nobody has taken yet */
    atomic_bool stop;   /* some thread has failed */
} crew;

typedef struct worker {
    crew *crew;
    sw_source source;
    sw_mapped mapped;
    char *memory;
    sw_status st;
    size_t failed; /* its task; tasks->n before the first */
    pthread_t thread;
    bool started;
} worker;

static sw_code copy_part(const sw_reader *r, const sw_pull *pull, const task *t, const part_box *part,
                         sw_status *st)
{
    const sw_request *w = &r->wants[t->want];
    sw_run_target target = { part->offsets, part->shape, w->strides };
    int64_t bits = 0;
    sw_run run;

    for (unsigned d = 0; d < w->ndim; d++)
        bits += (int64_t)(part->offsets[d] - w->offsets[d]) * w->strides[d];
    sw_run_make(r->c, w->tensor, t->box, &target, &run);
    run.to += bits / 8;
    return sw_pull_run(pull, &run, w->data, st);
}

/* Errors of files do not know what was read. */
static void name_tensor(sw_status *st, const char *name)
{
    if (st->code && st->file[0] && !st->tensor[0]) {
        snprintf(st->tensor, sizeof st->tensor, "%s", name);
        sw_text_clean(st->tensor, strlen(st->tensor));
    }
}

/* A quarter of the memory sieves when something is converted; all of it otherwise. */
static sw_code do_task(worker *k, const task *t)
{
    const sw_reader *r = k->crew->r;
    const sw_request *w = &r->wants[t->want];
    bool copy = w->op == SW_OP_COPY;
    uint64_t sieve = copy ? r->buffer_size : sw_round_up(r->buffer_size / 4, 16);
    sw_pull pull = { &k->source, k->memory, sieve, &k->mapped, copy };
    sw_recast recast = { r->c, &pull, k->memory + sieve, r->buffer_size - sieve };
    part_box shared, part;
    sw_chunks chunks;

    shared_box(r->c, w, t->box, &shared);
    cut(w, &shared, &chunks);
    sw_chunks_get(&chunks, t->part, part.offsets, part.shape);
    if (copy)
        copy_part(r, &pull, t, &part, &k->st);
    else
        sw_recast_box(&recast, w, t->box, part.offsets, part.shape, &k->st);
    name_tensor(&k->st, w->tensor->name);
    return k->st.code;
}

/* Files are shared among the threads, so is the number that may be open. */
static sw_code open_source(worker *k)
{
    const sw_reader *r = k->crew->r;

    if (sw_source_init(&k->source, r->c, r->dir, 1, &k->st))
        return k->st.code;
    k->source.max_open = (uint32_t)sw_max(k->source.max_open / k->crew->size, 2);
    k->memory = sw_calloc(r->buffer_size, 1, &k->st);
    return k->st.code;
}

static void *work(void *arg)
{
    worker *k = arg;
    crew *all = k->crew;
    size_t i = all->tasks->n;

    open_source(k);
    while (!k->st.code && !atomic_load(&all->stop)) {
        i = atomic_fetch_add(&all->next, 1);
        if (i >= all->tasks->n || sw_check_cancel(all->r->cancel, &k->st))
            break;
        do_task(k, &all->tasks->items[i]);
    }
    if (!k->st.code)
        sw_source_check(&k->source, &k->st);
    k->failed = i;
    if (k->st.code)
        atomic_store(&all->stop, true);
    sw_mapped_release(&k->mapped);
    sw_source_release(&k->source);
    free(k->memory);
    return NULL;
}

/* ---- all threads ----------------------------------------------------------------------------- */

/* The caller's thread is the first. One that cannot be started is done without. */
static void work_together(worker *workers, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        workers[i].started = sw_thread_start(&workers[i].thread, work, &workers[i]) == 0;
    work(&workers[0]);
    for (unsigned i = 1; i < n; i++)
        if (workers[i].started)
            pthread_join(workers[i].thread, NULL);
}

/* Of several threads that failed, the one whose task came first. */
static sw_code first_failure(const worker *workers, unsigned n, sw_status *st)
{
    const worker *first = NULL;

    for (unsigned i = 0; i < n; i++)
        if (workers[i].st.code && (!first || workers[i].failed < first->failed))
            first = &workers[i];
    if (first)
        *st = first->st;
    return st->code;
}

sw_code sw_reader_run(const sw_reader *r, sw_status *st)
{
    task_list tasks = { NULL, 0, 0 };
    worker *workers = NULL;
    crew all = { .r = r, .tasks = &tasks };

    if (list_tasks(r, &tasks, st))
        goto out;
    all.size = (unsigned)sw_max(sw_min(r->threads, tasks.n), 1);
    workers = sw_calloc(all.size, sizeof *workers, st);
    if (!workers)
        goto out;
    for (unsigned i = 0; i < all.size; i++) {
        workers[i].crew = &all;
        workers[i].mapped.how = r->map;
    }
    work_together(workers, all.size);
    first_failure(workers, all.size, st);
out:
    free(workers);
    free(tasks.items);
    return st->code;
}
