/* A packed list of boxes; see boxlist.h. */
#include "format/boxlist.h"

#include <stdlib.h>
#include <string.h>

#include "base/sort.h"

static sw_boxlist_front *front_of(const sw_buf *b)
{
    return (void *)b->data;
}

/* Each box of n tensors that are not left out, in their order. */
static void each_box(sw_listed_tensor *t, uint64_t n, void *about,
                     void (*fn)(void *about, const sw_listed_tensor *t, sw_listed_box *b))
{
    for (; n > 0; n--, t = sw_listed_next(t)) {
        size_t box = sizeof(sw_listed_box) + t->sets * t->ndim * sizeof(uint64_t);
        char *boxes = (char *)sw_listed_next(t) - t->nboxes * box;

        for (uint64_t k = 0; !t->left_out && k < t->nboxes; k++)
            fn(about, t, (void *)(boxes + k * box));
    }
}

/* Its file is needed. */
static void need(void *about, const sw_listed_tensor *t, sw_listed_box *b)
{
    (void)t;
    ((char *)about)[b->file] = 1;
}

/* ---- making ---------------------------------------------------------------------------------- */

sw_code sw_boxlist_add(sw_boxlist_draft *d, const sw_listed_tensor *t, const uint64_t *shape,
                       const char *name, sw_status *st)
{
    sw_listed_tensor whole = *t;
    uint64_t dims = t->ndim * sizeof *shape;

    whole.next = sizeof whole + dims + sw_text_room(t->name_len) +
                 t->nboxes * (sizeof(sw_listed_box) + t->sets * dims);
    d->ntensors++;
    return sw_buf_add(&d->tensors, &whole, sizeof whole, st) || sw_buf_add(&d->tensors, shape, dims, st)
               ? st->code
               : sw_buf_add_text(&d->tensors, name, t->name_len, st);
}

sw_code sw_boxlist_add_box(sw_boxlist_draft *d, const sw_listed_box *box, const uint64_t *dims, unsigned n,
                           sw_status *st)
{
    return sw_buf_add(&d->tensors, box, sizeof *box, st)
               ? st->code
               : sw_buf_add(&d->tensors, dims, n * sizeof *dims, st);
}

sw_code sw_boxlist_add_value(sw_boxlist_draft *d, const char *name, size_t len, sw_status *st)
{
    d->nvalues++;
    return sw_buf_add(&d->values, name, len, st) ? st->code : sw_buf_add(&d->values, "", 1, st);
}

/* Its file gets another number. */
static void renumber(void *about, const sw_listed_tensor *t, sw_listed_box *b)
{
    (void)t;
    b->file = ((const uint32_t *)about)[b->file];
}

/* The files that are needed, each once and sorted, as names; what was file i is number place[i].
 * Returns how many they are. */
static size_t sort_files(const char *const *files, size_t nfiles, const char *needed, const char **names,
                         uint32_t *place)
{
    size_t n = 0;

    for (size_t i = 0; i < nfiles; i++)
        if (needed[i])
            names[n++] = files[i];
    n = sw_sort_once(names, n);
    for (size_t i = 0; i < nfiles; i++)
        if (needed[i]) {
            const char **at = bsearch(&files[i], names, n, sizeof *names, sw_by_bytes);

            place[i] = (uint32_t)(at - names);
        }
    return n;
}

/* What stands before the tensors: the front, a byte for each of n files, and their names. */
static sw_code make_head(const sw_boxlist_draft *d, const char *const *names, const char *needed, size_t n,
                         sw_buf *head, sw_status *st)
{
    sw_boxlist_front front = { .nfiles = n, .ntensors = d->ntensors, .nvalues = d->nvalues };
    sw_buf all = SW_BUF_INIT;

    for (size_t i = 0; i < n && !st->code; i++)
        sw_buf_add(&all, names[i], strlen(names[i]) + 1, st);
    front.names_at = sizeof front + sw_text_room(n);
    front.tensors_at = front.names_at + sw_text_room(all.len);
    front.values_at = front.tensors_at + d->tensors.len;
    if (!st->code && !sw_buf_add(head, &front, sizeof front, st) && !sw_buf_add_text(head, needed, n, st))
        sw_buf_add_text(head, all.data, all.len, st);
    sw_buf_release(&all);
    return st->code;
}

/* Put the head before the tensors, where they are: they are most of the list. */
static sw_code join(sw_buf *tensors, const sw_buf *head, const sw_buf *values, sw_status *st)
{
    if (sw_buf_reserve(tensors, head->len + values->len, st))
        return st->code;
    if (tensors->len)
        memmove(tensors->data + head->len, tensors->data, tensors->len);
    memcpy(tensors->data, head->data, head->len);
    tensors->len += head->len;
    return sw_buf_add(tensors, values->data, values->len, st);
}

sw_code sw_boxlist_finish(sw_boxlist_draft *d, const char *const *files, size_t nfiles, bool all,
                          sw_buf *list, sw_status *st)
{
    const char **names = sw_calloc(nfiles, sizeof *names, st);
    uint32_t *place = sw_calloc(nfiles, sizeof *place, st);
    char *needed = sw_calloc(nfiles, 1, st);
    sw_buf head = SW_BUF_INIT;
    size_t n;

    if (!st->code) {
        memset(needed, all, nfiles);
        each_box((void *)d->tensors.data, d->ntensors, needed, need);
        n = sort_files(files, nfiles, needed, names, place);
        each_box((void *)d->tensors.data, d->ntensors, place, renumber);
        memset(needed, 1, n);
        if (!make_head(d, names, needed, n, &head, st) && !join(&d->tensors, &head, &d->values, st)) {
            *list = d->tensors;
            d->tensors = (sw_buf)SW_BUF_INIT;
        }
    }
    sw_buf_release(&head);
    free(names);
    free(place);
    free(needed);
    return st->code;
}

void sw_boxlist_draft_release(sw_boxlist_draft *d)
{
    sw_buf_release(&d->tensors);
    sw_buf_release(&d->values);
}

/* ---- asking ---------------------------------------------------------------------------------- */

const char *sw_boxlist_file(const sw_buf *b, sw_listed_files *walk)
{
    const sw_boxlist_front *f = front_of(b);
    const char *needed = (const char *)(f + 1), *name;

    while (walk->number < f->nfiles) {
        name = b->data + f->names_at + walk->at;
        walk->at += strlen(name) + 1;
        if (needed[walk->number++])
            return name;
    }
    return NULL;
}

sw_code sw_boxlist_values(const sw_buf *b, uint64_t *n, sw_buf *names, sw_status *st)
{
    const sw_boxlist_front *f = front_of(b);

    *n = f->nvalues;
    return sw_buf_add(names, b->data + f->values_at, b->len - f->values_at, st);
}

static sw_listed_tensor *first_tensor(const sw_buf *b)
{
    return (void *)(b->data + front_of(b)->tensors_at);
}

/* ---- the model ------------------------------------------------------------------------------- */

/* Megatron-Core numbers its optimizers where it has several. */
const char *const sw_training_names[SW_NTRAINING] = { "optimizer.*",       "optimizers.*",  "optim.*",
                                                      "optimizer_state.*", "scheduler.*",   "rng_state.*",
                                                      "lr_scheduler.*",    "train_state.*", "dataloader.*",
                                                      "chained_0.*",       "chained_1.*",   "chained_2.*",
                                                      "chained_3.*" };

size_t sw_training_top(const char *name, size_t len)
{
    for (size_t i = 0; i < SW_NTRAINING; i++) {
        size_t n = strlen(sw_training_names[i]) - 1;

        if (len > n && memcmp(name, sw_training_names[i], n) == 0)
            return n;
    }
    return 0;
}

/* The bit of a name that stood in such a dict; 0 = it did not. */
static uint32_t training_bit(const char *name, size_t top)
{
    for (size_t i = 0; i < SW_NTRAINING; i++)
        if (strlen(sw_training_names[i]) == top + 1 && memcmp(name, sw_training_names[i], top) == 0)
            return UINT32_C(1) << i;
    return 0;
}

/* In a dict "model." or "app.model.", of characters that mean nothing in a pattern. */
static bool is_model(const sw_listed_tensor *t)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    const char *name = sw_listed_saved_name(t);
    size_t top = t->top;

    return top >= 6 && top < t->name_len && top < sizeof((sw_model_names *)NULL)->prefix &&
           memcmp(name + top - 6, "model.", 6) == 0 && (top == 6 || name[top - 7] == '.') &&
           strspn(name, plain) >= top;
}

/* The names that stand before those of the model and of training. */
static void find_model(const sw_buf *b, sw_model_names *out)
{
    sw_listed_tensor *t = first_tensor(b);
    bool one = true;

    memset(out, 0, sizeof *out);
    for (uint64_t i = 0; i < front_of(b)->ntensors; i++, t = sw_listed_next(t)) {
        const char *name = sw_listed_saved_name(t);

        out->training |= training_bit(name, t->top);
        if (!is_model(t))
            continue;
        one = one &&
              (!out->prefix[0] || (strlen(out->prefix) == t->top && memcmp(out->prefix, name, t->top) == 0));
        memcpy(out->prefix, name, t->top);
        out->prefix[t->top] = '\0';
    }
    /* Two models: which is meant, nobody knows. */
    if (!one)
        out->prefix[0] = '\0';
}

void sw_boxlist_choose(sw_buf *b)
{
    sw_boxlist_front *f = front_of(b);
    sw_model_names *m = &f->chosen;
    sw_listed_tensor *t = first_tensor(b);
    size_t len;

    find_model(b, m);
    len = strlen(m->prefix);
    for (uint64_t i = 0; i < f->ntensors; i++, t = sw_listed_next(t)) {
        const char *name = sw_listed_saved_name(t);

        t->left_out =
            len ? t->top != len || memcmp(name, m->prefix, len) != 0 : training_bit(name, t->top) != 0;
        t->cut = t->left_out ? 0 : (uint8_t)len;
    }
    if (!len && !m->training)
        return;
    memset(f + 1, 0, f->nfiles);
    each_box(first_tensor(b), f->ntensors, f + 1, need);
}

const sw_model_names *sw_boxlist_chosen(const sw_buf *b)
{
    return &front_of(b)->chosen;
}

/* ---- by file --------------------------------------------------------------------------------- */

/* One more of its file. */
static void count(void *about, const sw_listed_tensor *t, sw_listed_box *b)
{
    sw_boxlist_index *i = about;

    (void)t;
    i->starts[b->file + 1]++;
}

/* starts[file] is where the next one of it goes; in the end, where those of the file behind it
 * begin. */
static void place(void *about, const sw_listed_tensor *t, sw_listed_box *b)
{
    sw_boxlist_index *i = about;

    i->boxes[i->starts[b->file]++] = (sw_listed_ref){ t, b };
}

static int by_place(const void *a, const void *b)
{
    const sw_listed_box *x = ((const sw_listed_ref *)a)->box, *y = ((const sw_listed_ref *)b)->box;

    return (x->at > y->at) - (x->at < y->at);
}

sw_code sw_boxlist_sort(const sw_buf *b, sw_boxlist_index *out, sw_status *st)
{
    uint64_t n = front_of(b)->nfiles;

    *out = (sw_boxlist_index){ .starts = sw_calloc(n + 2, sizeof *out->starts, st) };
    if (st->code)
        return st->code;
    each_box(first_tensor(b), front_of(b)->ntensors, out, count);
    for (uint64_t i = 0; i < n; i++)
        out->starts[i + 1] += out->starts[i];
    out->boxes = sw_calloc(out->starts[n], sizeof *out->boxes, st);
    if (st->code)
        return st->code;
    each_box(first_tensor(b), front_of(b)->ntensors, out, place);
    memmove(out->starts + 1, out->starts, n * sizeof *out->starts);
    out->starts[0] = 0;
    for (uint64_t i = 0; i < n; i++)
        if (out->starts[i + 1] > out->starts[i])
            qsort(out->boxes + out->starts[i], out->starts[i + 1] - out->starts[i], sizeof *out->boxes,
                  by_place);
    return SW_OK;
}

void sw_boxlist_index_release(sw_boxlist_index *i)
{
    free(i->boxes);
    free(i->starts);
    *i = (sw_boxlist_index){ NULL, NULL };
}
