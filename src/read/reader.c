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
#include "base/sort.h"
#include "base/thread.h"
#include "plan/dims.h"
#include "read/make.h"

#define PART (UINT64_C(4) << 20) /* bytes of a task: what is done between two looks at the flags */

/* ---- tasks ----------------------------------------------------------------------------------- */

typedef struct task {
    uint64_t file, at; /* where it begins: for the order */
    uint64_t want;
    uint64_t box;  /* of the source, or SW_ANY_BOX */
    uint64_t part; /* the element of the shared box at which it begins */
} task;

typedef struct task_list {
    task *items;
    size_t n, cap;
} task_list;

/* A box of a want, as it is read. */
typedef struct part_box {
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
} part_box;

/* By file and position; then by want, for one order whatever qsort does. */
static int by_place(const void *a, const void *b)
{
    const task *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ x->file, x->at, x->want, x->part },
                     (const uint64_t[]){ y->file, y->at, y->want, y->part }, 4);
}

/* What a want shares with a source box, or all of it; false when nothing. */
static bool shared_box(const sw_catalog *c, const sw_request *w, uint64_t box, part_box *out)
{
    sw_placed b;

    if (box != SW_ANY_BOX)
        sw_box_get(c, w->how.view.t, box, &b);
    for (unsigned d = 0; d < w->ndim; d++) {
        uint64_t lo = w->offsets[d], hi = lo + w->shape[d];

        if (box != SW_ANY_BOX) {
            lo = sw_max(lo, b.offsets[d]);
            hi = sw_min(hi, b.offsets[d] + b.shape[d]);
        }
        if (lo >= hi)
            return false;
        out->offsets[d] = lo;
        out->shape[d] = hi - lo;
    }
    return true;
}

/* The part of a shared box that begins at element x; returns its elements. Of dtypes narrower than
 * a byte nobody knows where they may be cut. */
static uint64_t cut(const sw_request *w, const part_box *box, uint64_t x, part_box *out)
{
    const sw_run_target all = { box->offsets, box->shape, NULL };
    unsigned bits = sw_dtype_bits(w->how.to);
    uint64_t left = sw_dims_count(box->shape, w->ndim) - x;

    if (left == 0)
        return 0;
    return sw_first_box(&all, w->ndim, x, bits < 8 ? left : sw_min(left, PART / (bits / 8)), out->offsets,
                        out->shape);
}

/* Part of a want, to be made. */
static sw_making making_of(const sw_request *w, uint64_t source, const part_box *part)
{
    int64_t to = sw_strides_between(w->ndim, w->offsets, part->offsets, w->strides);

    return (sw_making){ &w->how, source, part->offsets, part->shape, w->strides, to, 0, SW_NO_TAIL };
}

/* The first run tells the place. */
static bool take_first(void *ctx, const sw_run *run)
{
    task *t = ctx;

    t->file = run->file;
    t->at = run->at;
    return false;
}

/* Where a part of a want that takes from several source boxes begins. */
static void first_place(const sw_request *w, const part_box *part, task *t)
{
    sw_making g = making_of(w, SW_ANY_BOX, part);
    sw_ingredient in[2];

    sw_ingredients(&g, in);
    sw_ingredient_runs_each(&in[0], take_first, t);
}

/* Elements of less than a byte cannot be told apart in files. */
static sw_code uneven(const sw_request *w, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, NULL, w->how.view.t->name,
                   "the box does not begin and end on whole bytes of %s in every row",
                   sw_dtype_name((sw_dtype)w->how.view.t->dtype));
}

/* The tasks of one source box. */
static sw_code add_tasks(const sw_reader *r, task_list *list, uint64_t want, uint64_t box, sw_status *st)
{
    const sw_request *w = &r->wants[want];
    part_box shared, part;
    sw_run run;
    sw_run_target target = { part.offsets, part.shape, w->strides };

    if (!shared_box(r->c, w, box, &shared))
        return SW_OK;
    for (uint64_t x = 0, n; (n = cut(w, &shared, x, &part)) > 0; x += n) {
        task *t;

        if (sw_grow(&list->items, &list->cap, list->n + 1, sizeof *list->items, st))
            return st->code;
        t = &list->items[list->n++];
        *t = (task){ .want = want, .box = box, .part = x };
        if (box == SW_ANY_BOX) {
            first_place(w, &part, t);
        } else if (sw_run_make(&w->how.view, box, &target, &run) == SW_RUN_UNEVEN) {
            return uneven(w, st);
        } else {
            t->file = run.file;
            t->at = run.at;
        }
    }
    return SW_OK;
}

/* In one file of several, what other files hold is not missed until somebody wants it. */
static sw_code check_there(const sw_ingredient *box, sw_status *st)
{
    const sw_view *v = &box->view;
    sw_run_target target = { box->offsets, box->shape, NULL };
    uint64_t first, end, bits = v->bits * sw_dims_count(box->shape, v->n);
    sw_run run;

    for (sw_run_range(v, &target, &first, &end); first < end; first++) {
        sw_run_kind kind = sw_run_make(v, first, &target, &run);

        if (kind == SW_RUN_UNEVEN)
            return SW_OK; /* its task will tell */
        bits -= kind == SW_RUN_SHARED ? run.n * 8 : 0;
    }
    if (bits)
        return sw_fail(st, SW_EINPUT, sw_file_name(&v->c->files[0]), v->t->name,
                       "parts of the box are not in this file");
    return SW_OK;
}

/* The same of all that a want is made of. */
static sw_code check_want_there(const sw_request *w, sw_status *st)
{
    sw_making g = { .how = &w->how, .offsets = w->offsets, .shape = w->shape };
    sw_ingredient in[2];
    unsigned n = w->how.view.c->part ? sw_ingredients(&g, in) : 0;

    for (unsigned i = 0; i < n && !st->code; i++)
        check_there(&in[i], st);
    return st->code;
}

/* The tasks of all wants, in the order in which they are done. */
static sw_code list_tasks(const sw_reader *r, task_list *list, sw_status *st)
{
    for (size_t i = 0; i < r->nwants && !st->code; i++) {
        const sw_request *w = &r->wants[i];
        sw_run_target all = { w->offsets, w->shape, NULL };
        uint64_t box, end;

        if (w->bytes == 0 || check_want_there(w, st))
            continue;
        if (w->how.op == SW_OP_SCALED || w->how.op == SW_OP_MXFP4) {
            add_tasks(r, list, i, SW_ANY_BOX, st);
            continue;
        }
        for (sw_run_range(&w->how.view, &all, &box, &end); box < end && !st->code; box++)
            add_tasks(r, list, i, box, st);
    }
    sw_sort(list->items, list->n, sizeof *list->items, by_place);
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
    bool copy = w->how.op == SW_OP_COPY;
    uint64_t sieve = copy ? r->buffer_size : sw_round_up(r->buffer_size / 4, 16);
    sw_maker maker = { { &k->source, k->memory, sieve, &k->mapped, copy, NULL },
                       k->memory + sieve,
                       r->buffer_size - sieve };
    part_box shared, part;
    sw_making g;

    shared_box(r->c, w, t->box, &shared);
    cut(w, &shared, t->part, &part);
    g = making_of(w, t->box, &part);
    sw_make(&maker, &g, w->data, &k->st);
    name_tensor(&k->st, w->how.view.t->name);
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

/* One thread: it takes tasks until there are none, or one has failed. */
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
        sw_source_check(&k->source, NULL, &k->st);
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
