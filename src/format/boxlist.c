/* A packed list of boxes; see boxlist.h. */
#include "format/boxlist.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

sw_code sw_boxlist_begin(sw_buf *b, char *const *files, size_t nfiles, uint64_t nvalues, sw_status *st)
{
    sw_boxlist_front front = { .nfiles = nfiles, .nvalues = nvalues };
    sw_buf names = SW_BUF_INIT;

    for (size_t i = 0; i < nfiles && !st->code; i++)
        sw_buf_add(&names, files[i], strlen(files[i]) + 1, st);
    front.files_len = sw_text_room(names.len);
    if (!sw_buf_add(b, &front, sizeof front, st))
        sw_buf_add_text(b, names.data, names.len, st);
    sw_buf_release(&names);
    return st->code;
}

sw_code sw_boxlist_add(sw_buf *b, const sw_listed_tensor *t, const uint64_t *shape, const char *name,
                       sw_status *st)
{
    sw_listed_tensor whole = *t;
    uint64_t dims = t->ndim * sizeof *shape;

    whole.next =
        sizeof whole + dims + sw_text_room(t->name_len) + t->nboxes * (sizeof(sw_listed_box) + 2 * dims);
    if (sw_buf_add(b, &whole, sizeof whole, st) || sw_buf_add(b, shape, dims, st) ||
        sw_buf_add_text(b, name, t->name_len, st))
        return st->code;
    ((sw_boxlist_front *)(void *)b->data)->ntensors++;
    return SW_OK;
}

sw_code sw_boxlist_add_box(sw_buf *b, const sw_listed_box *box, const uint64_t *dims, unsigned ndim,
                           sw_status *st)
{
    return sw_buf_add(b, box, sizeof *box, st) ? st->code : sw_buf_add(b, dims, 2 * ndim * sizeof *dims, st);
}

static const sw_boxlist_front *front_of(const sw_buf *b)
{
    return (const void *)b->data;
}

const char *sw_boxlist_file(const sw_buf *b, size_t *at)
{
    const char *names = b->data + sizeof(sw_boxlist_front), *name = names + *at;

    /* Padding is no name. */
    if (*at >= front_of(b)->files_len || !*name)
        return NULL;
    *at += strlen(name) + 1;
    return name;
}

uint64_t sw_boxlist_values(const sw_buf *b)
{
    return front_of(b)->nvalues;
}

static const sw_listed_tensor *first_tensor(const sw_buf *b)
{
    return (const void *)(b->data + sizeof(sw_boxlist_front) + front_of(b)->files_len);
}

static const sw_listed_tensor *next_tensor(const sw_listed_tensor *t)
{
    return (const void *)((const char *)t + t->next);
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

/* "model." or "app.model.", of characters that mean nothing in a pattern. */
static bool is_model(const char *name, size_t top)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

    return top >= 6 && top < sizeof((sw_model_names *)NULL)->prefix &&
           memcmp(name + top - 6, "model.", 6) == 0 && (top == 6 || name[top - 7] == '.') &&
           strspn(name, plain) >= top;
}

void sw_boxlist_model(const sw_buf *b, sw_model_names *out)
{
    const sw_listed_tensor *t = first_tensor(b);
    bool one = true;

    memset(out, 0, sizeof *out);
    for (uint64_t i = 0; i < front_of(b)->ntensors; i++, t = next_tensor(t)) {
        const char *name = sw_listed_name(t);

        out->training |= training_bit(name, t->top);
        if (!is_model(name, t->top))
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

/* ---- by file --------------------------------------------------------------------------------- */

/* Each box of the list, in its order. */
static void each_box(const sw_buf *b, sw_boxlist_index *i, void (*fn)(sw_boxlist_index *, sw_listed_ref))
{
    const sw_listed_tensor *t = first_tensor(b);

    for (uint64_t left = front_of(b)->ntensors; left > 0; left--, t = next_tensor(t)) {
        size_t box = sizeof(sw_listed_box) + 2 * t->ndim * sizeof(uint64_t);
        const char *boxes = (const char *)next_tensor(t) - t->nboxes * box;

        for (uint64_t k = 0; k < t->nboxes; k++)
            fn(i, (sw_listed_ref){ t, (const void *)(boxes + k * box) });
    }
}

static void count(sw_boxlist_index *i, sw_listed_ref ref)
{
    i->starts[ref.box->file + 1]++;
}

/* starts[file] is where the next one of it goes; in the end, where those of the file behind it
 * begin. */
static void place(sw_boxlist_index *i, sw_listed_ref ref)
{
    i->boxes[i->starts[ref.box->file]++] = ref;
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
    each_box(b, out, count);
    for (uint64_t i = 0; i < n; i++)
        out->starts[i + 1] += out->starts[i];
    out->boxes = sw_calloc(out->starts[n], sizeof *out->boxes, st);
    if (st->code)
        return st->code;
    each_box(b, out, place);
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
