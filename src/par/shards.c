/* Shard files from memory; see shards.h. */
#include "par/shards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "par/gather.h"
#include "plan/numbers.h"

/* ---- which boxes ----------------------------------------------------------------------------- */

typedef struct plan {
    const sw_comm *comm;
    const sw_catalog *c;
    const sw_holders *ranks;
    bool **mine; /* for each of these ranks, one for each box: it writes that */
} plan;

/* Is it one of them? Its number among them. */
static bool is_own(const plan *p, uint32_t rank, uint32_t *k)
{
    *k = rank - p->ranks->first;
    return rank >= p->ranks->first && *k < p->ranks->n;
}

/* An empty box of some rank, as it is sent; behind it: the offsets. */
typedef struct empty_record {
    uint32_t tensor, rank;
    uint32_t box, zero; /* index into that rank's boxes */
} empty_record;

/* Of the boxes that hold data the catalogue has chosen one each: replicas stand behind them. */
static void choose_full(plan *p)
{
    for (uint32_t i = 0; i < p->c->ntensors; i++) {
        const sw_tensor *t = &p->c->tensors[i];

        for (uint64_t k = 0; k < t->nboxes; k++) {
            sw_placed placed;
            const sw_box *b = &sw_box_get(p->c, t, k, &placed)->box;
            uint32_t r;

            if (is_own(p, b->file, &r))
                p->mine[r][sw_memboxes_find(&p->ranks->held[r], b->at) - p->ranks->held[r].boxes] = true;
        }
    }
}

/* Those of one of the ranks. */
static sw_code pack_empty(const plan *p, uint32_t k, sw_buf *out, sw_status *st)
{
    const sw_memboxes *h = &p->ranks->held[k];

    for (size_t i = 0; i < h->n; i++) {
        const sw_membox *b = &h->boxes[i];
        empty_record r = { 0, p->ranks->first + k, (uint32_t)i, 0 };

        if (b->begin != b->end)
            continue;
        r.tensor = (uint32_t)(sw_catalog_find_tensor(p->c, b->item->name) - p->c->tensors);
        if (sw_buf_add(out, &r, sizeof r, st) ||
            sw_buf_add(out, b->item->offsets, b->item->ndim * sizeof(uint64_t), st))
            return st->code;
    }
    return SW_OK;
}

/* They stand behind it. */
static const uint64_t *record_offsets(const empty_record *r)
{
    return (const uint64_t *)(const void *)(r + 1);
}

/* By tensor, offsets, rank. */
static int by_place(const void *a, const void *b, void *ctx)
{
    const sw_catalog *c = ((const plan *)ctx)->c;
    const empty_record *x = *(empty_record *const *)a, *y = *(empty_record *const *)b;
    int order;

    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    order = sw_by_all(record_offsets(x), record_offsets(y), c->tensors[x->tensor].ndim);
    return order ? order : (x->rank > y->rank) - (x->rank < y->rank);
}

/* Are they at one place of one tensor? */
static bool same_place(const sw_catalog *c, const empty_record *x, const empty_record *y)
{
    return x->tensor == y->tensor &&
           memcmp(record_offsets(x), record_offsets(y), c->tensors[x->tensor].ndim * sizeof(uint64_t)) == 0;
}

/* torch's reader knows boxes by their offsets: an empty one there would hide one that holds
 * data. */
static bool hides_data(const sw_catalog *c, const empty_record *r)
{
    const sw_tensor *t = &c->tensors[r->tensor];
    sw_placed b;

    if (t->nboxes == 0)
        return false;
    sw_box_get(c, t, sw_box_find(c, t, record_offsets(r)), &b);
    return memcmp(b.offsets, record_offsets(r), t->ndim * sizeof *b.offsets) == 0;
}

/* All records of all ranks, sorted; the first of each place is written by its rank. */
static sw_code judge_empty(plan *p, const sw_buf *all, sw_status *st)
{
    const empty_record **list = NULL;
    size_t n = 0, cap = 0;
    uint32_t k;

    for (size_t at = 0; at < all->len; n++) {
        const empty_record *r = (const void *)(all->data + at);

        if (sw_grow(&list, &cap, n + 1, sizeof *list, st))
            goto out;
        list[n] = r;
        at += sizeof *r + p->c->tensors[r->tensor].ndim * sizeof(uint64_t);
    }
    if (n > 1)
        qsort_r(list, n, sizeof *list, by_place, p);
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || !same_place(p->c, list[i - 1], list[i])) && is_own(p, list[i]->rank, &k) &&
            !hides_data(p->c, list[i]))
            p->mine[k][list[i]->box] = true;
out:
    free(list);
    return st->code;
}

/* Collective. The catalogue knows no empty boxes, but torch writes them: of each place one. */
static sw_code choose_empty(plan *p, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    for (uint32_t k = 0; k < p->ranks->n && !st->code; k++)
        pack_empty(p, k, &mine, st);
    if (!sw_comm_gather(p->comm, &mine, &all, st))
        judge_empty(p, &all, st);
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

/* Collective. Which boxes each of these ranks writes. */
static sw_code choose(plan *p, sw_status *st)
{
    uint32_t n = p->ranks->n;

    p->mine = sw_calloc(n, sizeof *p->mine, st);
    for (uint32_t k = 0; p->mine && k < n && !st->code; k++)
        p->mine[k] = sw_calloc(p->ranks->held[k].n, sizeof **p->mine, st);
    if (!st->code)
        choose_full(p);
    return choose_empty(p, st);
}

/* ---- which files ----------------------------------------------------------------------------- */

/* By the names of the boxes, then in their order. */
static int by_name(const void *a, const void *b, void *boxes)
{
    const sw_choice *x = a, *y = b;
    const sw_membox *held = boxes;
    int order = strcmp(held[x->box].item->name, held[y->box].item->name);

    return order ? order : (x->box > y->box) - (x->box < y->box);
}

/* By file, then in the order of the items. */
static int by_file(const void *a, const void *b)
{
    const sw_choice *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ x->layer, x->model, x->box },
                     (const uint64_t[]){ y->layer, y->model, y->box }, 3);
}

/* Sort what rank first + k writes into files. */
static sw_code sort_choices(const plan *p, uint32_t k, const sw_model_rule *models, sw_buf *out,
                            sw_status *st)
{
    const sw_memboxes *h = &p->ranks->held[k];
    sw_choice *choices;
    size_t n;

    for (uint32_t i = 0; i < h->n; i++) {
        const sw_map_item *item = models->map ? sw_map_find(models->map, h->boxes[i].item->name) : NULL;
        sw_choice c = { .box = i, .model = item ? item->number : 1 };

        if (models->map && !item)
            return sw_fail(st, SW_EINPUT, models->name, h->boxes[i].item->name, "is not in the map");
        if (p->mine[k][i] && sw_buf_add(out, &c, sizeof c, st))
            return st->code;
    }
    choices = (void *)out->data;
    n = out->len / sizeof *choices;
    if (n < 2)
        return SW_OK;
    qsort_r(choices, n, sizeof *choices, by_name, h->boxes);
    for (size_t i = 1; i < n; i++)
        if (strcmp(h->boxes[choices[i - 1].box].item->name, h->boxes[choices[i].box].item->name) == 0)
            choices[i].layer = choices[i - 1].layer + 1;
    qsort(choices, n, sizeof *choices, by_file);
    return SW_OK;
}

/* The number of the file that a choice is for. */
static sw_shard_name number_of(const sw_choice *k, const sw_shards_role *role)
{
    return (sw_shard_name){ k->layer * role->nranks + role->rank + 1, k->model, role->of };
}

/* Are two neighbours for one file? */
static bool is_same_file(const sw_choice *a, const sw_choice *b)
{
    return a->layer == b->layer && a->model == b->model;
}

/* The numbers of the files that these choices make. */
static sw_code add_numbers(const sw_choice *choices, size_t n, const sw_shards_role *role, sw_buf *out,
                           sw_status *st)
{
    for (size_t i = 0; i < n && !st->code; i++) {
        sw_shard_name number = number_of(&choices[i], role);

        if (i == 0 || !is_same_file(&choices[i - 1], &choices[i]))
            sw_buf_add(out, &number, sizeof number, st);
    }
    return st->code;
}

/* The files of one rank while they are laid out. */
typedef struct making {
    const sw_memboxes *held;
    const sw_choice *choices;
    const sw_shards_role *role;
} making;

/* Choices by the names of their boxes, for qsort_r. */
static int by_box_name(const void *a, const void *b, void *ctx)
{
    const making *m = ctx;
    const uint32_t *x = a, *y = b;

    return by_name(&m->choices[*x], &m->choices[*y], m->held->boxes);
}

/* What the file of a key, which is the first choice for it, is called. */
static char *file_name(void *ctx, uint64_t key, sw_status *st)
{
    const making *m = ctx;
    const sw_shard_name number = number_of(&m->choices[key], m->role);
    char text[SW_SHARD_NAME_SIZE];

    return sw_strdup(sw_shard_name_text(&number, text), st);
}

/* The t-th box by name: a tensor, and a slot in the place of its choice. */
static void add_box(const making *m, sw_shards *s, uint32_t t)
{
    uint32_t i = s->l.told[t];
    const sw_membox *b = &m->held->boxes[m->choices[i].box];
    const sw_item *it = b->item;
    uint64_t *dims = s->l.box_dims + s->l.nbox_dims, *shape = s->view.shapes + s->l.nbox_dims / 2;

    for (unsigned d = 0; d < it->ndim; d++) {
        shape[d] = it->global_shape[d];
        dims[d] = it->offsets[d];
        dims[it->ndim + d] = it->shape[d];
    }
    s->view.tensors[t] = (sw_tensor){ .name = it->name,
                                      .dtype = (uint8_t)b->dtype,
                                      .out_dtype = (uint8_t)b->dtype,
                                      .ndim = (uint8_t)it->ndim,
                                      .dims0 = s->l.nbox_dims / 2 };
    s->l.order[i] = (sw_slot){ .tensor = t, .box = s->l.nbox_dims + 1 };
    s->l.nbox_dims += 2 * (uint64_t)it->ndim;
}

/* Where the boxes go; those that are empty go nowhere. */
static void find_spots(const making *m, sw_shards *s)
{
    for (uint32_t f = 0; f < s->l.nfiles; f++) {
        const sw_layout_file *file = &s->l.files[f];

        for (uint32_t i = file->first; i < file->first + file->count; i++) {
            const sw_slot *slot = &s->l.order[i];

            if (slot->begin != slot->end)
                s->spots[s->nspots++] = (sw_spot){ .at = SW_HEADER_LENGTH + file->header_len + slot->begin,
                                                   .box = m->choices[s->l.told[slot->tensor]].box,
                                                   .file = f,
                                                   .dtype = s->view.tensors[slot->tensor].out_dtype,
                                                   .alone = 1 };
        }
    }
}

sw_code sw_shards_make(const sw_memboxes *held, const sw_choice *choices, size_t n,
                       const sw_shards_role *role, sw_shards *s, sw_status *st)
{
    const making m = { held, choices, role };
    uint64_t dims = 0;

    for (size_t i = 0; i < n; i++)
        dims += held->boxes[choices[i].box].item->ndim;
    *s = (sw_shards){ .view = { .tensors = sw_calloc(n, sizeof *s->view.tensors, st),
                                .ntensors = (uint32_t)n,
                                .shapes = sw_calloc(dims, sizeof *s->view.shapes, st) },
                      .l = { .shards = true,
                             .set = sw_strdup(role->set, st),
                             .order = sw_calloc(n, sizeof *s->l.order, st),
                             .nslots = (uint32_t)n,
                             .told = sw_calloc(n, sizeof *s->l.told, st),
                             .box_dims = sw_calloc(2 * dims, sizeof *s->l.box_dims, st) },
                      .spots = sw_calloc(n, sizeof *s->spots, st) };
    if (st->code)
        return st->code;
    for (uint32_t i = 0; i < n; i++)
        s->l.told[i] = i;
    if (n > 1)
        qsort_r(s->l.told, n, sizeof *s->l.told, by_box_name, (void *)(uintptr_t)&m);
    for (uint32_t t = 0; t < n; t++)
        add_box(&m, s, t);
    /* Slots of one file have the first choice for it as their key. */
    for (uint32_t i = 0; i < n; i++)
        s->l.order[i].begin =
            i > 0 && is_same_file(&choices[i - 1], &choices[i]) ? s->l.order[i - 1].begin : i;
    if (!sw_layout_arrange(&s->view, &s->l, file_name, (void *)(uintptr_t)&m, st) &&
        !sw_layout_measure(&s->view, &s->l, st))
        find_spots(&m, s);
    return st->code;
}

sw_code sw_shards_write(const sw_shards *own, sw_scatter *s, sw_status *st)
{
    s->rounds.make = true;
    s->l = &own->l;
    s->view = &own->view;
    s->spots = own->spots;
    s->nspots = own->nspots;
    return sw_scatter_write(s, st);
}

void sw_shards_release(sw_shards *s)
{
    sw_layout_release(&s->l);
    sw_catalog_release(&s->view);
    free(s->spots);
    *s = (sw_shards){ .nspots = 0 };
}

/* ---- the files of all ranks ------------------------------------------------------------------ */

/* Of one rank. */
static size_t nchoices(const sw_buf *choices)
{
    return choices->len / sizeof(sw_choice);
}

/* Collective. What each file says of those of all ranks. */
static sw_code list_set(const plan *p, const sw_shards_role *role, sw_shard_set *s, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT, text = SW_BUF_INIT;
    sw_shards_role k = *role;

    for (uint32_t i = 0; i < s->n && !st->code; i++, k.rank++)
        add_numbers((const void *)s->choices[i].data, nchoices(&s->choices[i]), &k, &mine, st);
    if (!sw_comm_gather(p->comm, &mine, &all, st))
        sw_numbers_list((const void *)all.data, all.len / sizeof(sw_shard_name), &text, st);
    s->text = text.data;
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

/* What all must know of the files of one rank. */
static sw_code add_records(const sw_layout *l, sw_buf *out, sw_status *st)
{
    for (uint32_t f = 0; f < l->nfiles && !st->code; f++) {
        sw_shard_record r = { .tensors = l->files[f].count, .size = l->files[f].size };
        sw_shard_name number;

        sw_shard_name_parse(l->files[f].name, &number);
        r.shard = number.shard;
        r.model = number.model;
        sw_buf_add(out, &r, sizeof r, st);
    }
    return st->code;
}

/* Make each rank's files. Those of several ranks are only measured: they write them themselves. */
static sw_code make_files(const plan *p, const sw_shards_role *role, sw_shard_set *s, sw_buf *records,
                          sw_status *st)
{
    sw_shards_role k = *role;

    for (uint32_t i = 0; i < s->n && !st->code; i++, k.rank++) {
        sw_shards_release(&s->own);
        if (!sw_shards_make(&p->ranks->held[i], (const void *)s->choices[i].data, nchoices(&s->choices[i]),
                            &k, &s->own, st))
            add_records(&s->own.l, records, st);
    }
    if (s->n > 1)
        sw_shards_release(&s->own);
    return st->code;
}

/* From the highest number down. */
static int by_publication(const void *a, const void *b)
{
    const sw_shard_record *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ y->shard, y->model }, (const uint64_t[]){ x->shard, x->model }, 2);
}

/* Collective. */
static sw_code gather_records(const plan *p, const sw_buf *mine, sw_shard_set *s, sw_status *st)
{
    sw_buf all = SW_BUF_INIT;

    if (sw_comm_gather(p->comm, mine, &all, st))
        return st->code;
    s->files = (void *)all.data;
    s->nfiles = all.len / sizeof *s->files;
    sw_sort(s->files, s->nfiles, sizeof *s->files, by_publication);
    for (size_t i = 0; i < s->nfiles; i++)
        if (!sw_add(s->bytes, s->files[i].size, &s->bytes))
            return sw_fail(st, SW_EUSAGE, NULL, NULL, "the shard files overflow");
    return SW_OK;
}

sw_code sw_shard_set_plan(const sw_comm *comm, const sw_catalog *c, const sw_holders *ranks,
                          const sw_model_rule *models, sw_shard_set *s, sw_status *st)
{
    plan p = { .comm = comm, .c = c, .ranks = ranks };
    sw_shards_role role = { ranks->first, (uint32_t)comm->size * ranks->n, 1, NULL };
    sw_buf records = SW_BUF_INIT;

    if (models->map)
        role.of = sw_max(1, sw_map_largest(models->map)); /* the n of the names "model-j-of-n" */
    *s = (sw_shard_set){ .of = role.of, .n = ranks->n };
    s->choices = sw_calloc(s->n, sizeof *s->choices, st);
    choose(&p, st);
    for (uint32_t k = 0; k < s->n && !st->code; k++)
        sort_choices(&p, k, models, &s->choices[k], st);
    list_set(&p, &role, s, st);
    role.set = s->text;
    if (!st->code)
        make_files(&p, &role, s, &records, st);
    gather_records(&p, &records, s, st);
    sw_buf_release(&records);
    for (uint32_t k = 0; p.mine && k < ranks->n; k++)
        free(p.mine[k]);
    free(p.mine);
    return st->code;
}

void sw_shard_set_release(sw_shard_set *s)
{
    for (uint32_t k = 0; s->choices && k < s->n; k++)
        sw_buf_release(&s->choices[k]);
    free(s->choices);
    sw_shards_release(&s->own);
    free(s->text);
    free(s->files);
    *s = (sw_shard_set){ 0 };
}
