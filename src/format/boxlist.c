/* A packed list of boxes; see boxlist.h. */
#include "format/boxlist.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static sw_boxlist_front *front_of(const sw_buf *b)
{
    return (void *)b->data;
}

sw_code sw_boxlist_begin(sw_buf *b, char *const *files, size_t nfiles, sw_status *st)
{
    sw_boxlist_front front = { .nfiles = nfiles };
    sw_buf needed = SW_BUF_INIT, names = SW_BUF_INIT;

    for (size_t i = 0; i < nfiles && !st->code; i++)
        if (!sw_buf_add(&needed, "\1", 1, st))
            sw_buf_add(&names, files[i], strlen(files[i]) + 1, st);
    front.names_at = sizeof front + sw_text_room(needed.len);
    front.tensors_at = front.names_at + sw_text_room(names.len);
    if (!sw_buf_add(b, &front, sizeof front, st) && !sw_buf_add_text(b, needed.data, needed.len, st))
        sw_buf_add_text(b, names.data, names.len, st);
    sw_buf_release(&needed);
    sw_buf_release(&names);
    return st->code;
}

sw_code sw_boxlist_add(sw_buf *b, const sw_listed_tensor *t, const uint64_t *shape, const char *name,
                       sw_status *st)
{
    sw_listed_tensor whole = *t;
    uint64_t dims = t->ndim * sizeof *shape;

    whole.next = sizeof whole + dims + sw_text_room(t->name_len) +
                 t->nboxes * (sizeof(sw_listed_box) + t->sets * dims);
    if (sw_buf_add(b, &whole, sizeof whole, st) || sw_buf_add(b, shape, dims, st) ||
        sw_buf_add_text(b, name, t->name_len, st))
        return st->code;
    front_of(b)->ntensors++;
    return SW_OK;
}

sw_code sw_boxlist_add_box(sw_buf *b, const sw_listed_box *box, const uint64_t *dims, unsigned n,
                           sw_status *st)
{
    return sw_buf_add(b, box, sizeof *box, st) ? st->code : sw_buf_add(b, dims, n * sizeof *dims, st);
}

sw_code sw_boxlist_add_value(sw_buf *b, const char *name, size_t len, sw_status *st)
{
    if (front_of(b)->nvalues++ == 0)
        front_of(b)->values_at = b->len;
    return sw_buf_add(b, name, len, st) ? st->code : sw_buf_add(b, "", 1, st);
}

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

uint64_t sw_boxlist_values(const sw_buf *b)
{
    return front_of(b)->nvalues;
}

const char *sw_boxlist_value(const sw_buf *b, uint64_t *at)
{
    const char *name = b->data + front_of(b)->values_at + *at;

    if (!front_of(b)->nvalues || name == b->data + b->len)
        return NULL;
    *at += strlen(name) + 1;
    return name;
}

static sw_listed_tensor *first_tensor(const sw_buf *b)
{
    return (void *)(b->data + front_of(b)->tensors_at);
}

static sw_listed_tensor *next_tensor(sw_listed_tensor *t)
{
    return (void *)((char *)t + t->next);
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
    for (uint64_t i = 0; i < front_of(b)->ntensors; i++, t = next_tensor(t)) {
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

/* Each box that is not left out, in the order of the list. */
static void each_box(const sw_buf *b, void *about, void (*fn)(void *about, sw_listed_ref))
{
    sw_listed_tensor *t = first_tensor(b);

    for (uint64_t left = front_of(b)->ntensors; left > 0; left--, t = next_tensor(t)) {
        size_t box = sizeof(sw_listed_box) + t->sets * t->ndim * sizeof(uint64_t);
        const char *boxes = (const char *)next_tensor(t) - t->nboxes * box;

        for (uint64_t k = 0; !t->left_out && k < t->nboxes; k++)
            fn(about, (sw_listed_ref){ t, (const void *)(boxes + k * box) });
    }
}

static void need(void *about, sw_listed_ref ref)
{
    ((char *)about)[ref.box->file] = 1;
}

void sw_boxlist_choose(sw_buf *b)
{
    sw_boxlist_front *f = front_of(b);
    sw_model_names *m = &f->chosen;
    sw_listed_tensor *t = first_tensor(b);
    size_t len;

    find_model(b, m);
    len = strlen(m->prefix);
    for (uint64_t i = 0; i < f->ntensors; i++, t = next_tensor(t)) {
        const char *name = sw_listed_saved_name(t);

        t->left_out =
            len ? t->top != len || memcmp(name, m->prefix, len) != 0 : training_bit(name, t->top) != 0;
        t->cut = t->left_out ? 0 : (uint8_t)len;
    }
    if (!len && !m->training)
        return;
    memset(f + 1, 0, f->nfiles);
    each_box(b, f + 1, need);
}

const sw_model_names *sw_boxlist_chosen(const sw_buf *b)
{
    return &front_of(b)->chosen;
}

/* ---- by file --------------------------------------------------------------------------------- */

static void count(void *about, sw_listed_ref ref)
{
    sw_boxlist_index *i = about;

    i->starts[ref.box->file + 1]++;
}

/* starts[file] is where the next one of it goes; in the end, where those of the file behind it
 * begin. */
static void place(void *about, sw_listed_ref ref)
{
    sw_boxlist_index *i = about;

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
