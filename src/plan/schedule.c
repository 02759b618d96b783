/* Which ranks write which part of which output file; see schedule.h. */
#include "plan/schedule.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/num.h"
#include "base/sort.h"

/* Ranks on different machines that write one page of a network file undo each other's bytes. */
#define BLOCK_MIN UINT64_C(4096)

/* ---- groups ---------------------------------------------------------------------------------- */

typedef struct by_size {
    uint64_t size;
    uint32_t file;
} by_size;

/* Largest first; equal ones by number. */
static int larger_first(const void *a, const void *b)
{
    const by_size *x = a, *y = b;

    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return (x->file > y->file) - (x->file < y->file);
}

/* Files, the largest first; NULL on failure. */
static by_size *files_by_size(const sw_layout *l, sw_status *st)
{
    by_size *files = sw_calloc(l->nfiles, sizeof *files, st);

    for (uint32_t f = 0; files && f < l->nfiles; f++)
        files[f] = (by_size){ l->files[f].size, f };
    sw_sort(files, l->nfiles, sizeof *files, larger_first);
    return files;
}

/* A heap of ranks by bytes that they have to write, least on top; ties by rank. */
static bool less(const uint64_t *load, uint32_t a, uint32_t b)
{
    return load[a] != load[b] ? load[a] < load[b] : a < b;
}

/* The top of the heap has changed: put it where it belongs. */
static void sift(uint32_t *heap, uint32_t n, const uint64_t *load)
{
    for (uint32_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
        uint32_t top = heap[i];

        if (child + 1 < n && less(load, heap[child + 1], heap[child]))
            child++;
        if (!less(load, heap[child], top))
            break;
        heap[i] = heap[child];
        heap[child] = top;
    }
}

/* Whole files to single ranks: the largest file that is left goes to the rank with the least
 * bytes. */
static sw_code whole_files(const sw_layout *l, uint32_t nranks, sw_schedule *s, sw_status *st)
{
    by_size *files = files_by_size(l, st);
    uint64_t *load = sw_calloc(nranks, sizeof *load, st);
    uint32_t *heap = sw_calloc(nranks, sizeof *heap, st);

    if (!st->code) {
        for (uint32_t r = 0; r < nranks; r++)
            heap[r] = r;
        for (uint32_t i = 0; i < l->nfiles; i++) {
            s->groups[files[i].file] = (sw_group){ heap[0], 1 };
            load[heap[0]] += files[i].size;
            sift(heap, nranks, load);
        }
    }
    free(heap);
    free(load);
    free(files);
    return st->code;
}

/* One rank each, then the next rank always to the file with the most bytes a rank. */
static sw_code ranks_by_size(const sw_layout *l, uint32_t nranks, sw_schedule *s, sw_status *st)
{
    uint32_t *heap = sw_calloc(l->nfiles, sizeof *heap, st), rank = 0;
    uint64_t *share = sw_calloc(l->nfiles, sizeof *share, st);
    by_size *files = files_by_size(l, st);

    if (st->code)
        goto out;
    /* The heap has the least on top, so it gets the share's complement. */
    for (uint32_t i = 0; i < l->nfiles; i++) {
        heap[i] = files[i].file;
        share[files[i].file] = UINT64_MAX - files[i].size;
        s->groups[i].nranks = 1;
    }
    for (uint32_t r = l->nfiles; r < nranks; r++) {
        uint32_t f = heap[0];

        s->groups[f].nranks++;
        share[f] = UINT64_MAX - l->files[f].size / s->groups[f].nranks;
        sift(heap, l->nfiles, share);
    }
    for (uint32_t f = 0; f < l->nfiles; rank += s->groups[f++].nranks)
        s->groups[f].rank0 = rank;
out:
    free(files);
    free(share);
    free(heap);
    return st->code;
}

/* The largest power of two that is at most n (> 0). */
static uint64_t power_below(uint64_t n)
{
    uint64_t p = 1;

    while (p <= n / 2)
        p *= 2;
    return p;
}

/* Regions begin at multiples of the preferred block, or of a smaller one when a band is smaller. A
 * very large file gets larger ones, so that an int can count them. */
static uint64_t choose_block(const sw_layout *l, uint64_t band, uint64_t block)
{
    block = sw_round_up(sw_max(block, BLOCK_MIN), BLOCK_MIN);
    while (block / 2 >= BLOCK_MIN && block > band)
        block = sw_round_down(block / 2, BLOCK_MIN);
    for (uint32_t f = 0; f < l->nfiles; f++)
        while (l->files[f].size / block >= INT_MAX)
            block *= 2;
    return block;
}

sw_code sw_schedule_build(const sw_layout *l, const sw_schedule_rule *rule, sw_schedule *out, sw_status *st)
{
    *out = (sw_schedule){ .nfiles = l->nfiles, .shared = rule->shared, .whole = rule->whole };
    out->block = choose_block(l, rule->band, rule->block);
    out->band = rule->band >= out->block ? sw_round_down(rule->band, out->block) : power_below(rule->band);
    out->unit = sw_min(out->band, out->block);
    out->groups = sw_calloc(l->nfiles, sizeof *out->groups, st);
    if (!out->groups)
        return st->code;
    if (rule->shared && !rule->whole)
        for (uint32_t f = 0; f < l->nfiles; f++)
            out->groups[f] = (sw_group){ 0, rule->nranks };
    else if (rule->whole || l->nfiles == 0 || l->nfiles >= rule->nranks)
        whole_files(l, rule->nranks, out, st);
    else
        ranks_by_size(l, rule->nranks, out, st);
    if (st->code)
        sw_schedule_release(out);
    return st->code;
}

/* ---- regions and bands ----------------------------------------------------------------------- */

/* Where the part of rank i of n begins: whole blocks, as even as they go. */
static uint64_t region_begin(const sw_schedule *s, uint64_t size, uint32_t i, uint32_t n)
{
    uint64_t blocks = size / s->block + (size % s->block != 0);
    uint64_t begin = blocks / n * i + blocks % n * i / n;

    return sw_min(begin * s->block, size);
}

sw_region sw_schedule_region(const sw_schedule *s, const sw_layout *l, uint32_t f, uint32_t rank)
{
    const sw_group *g = &s->groups[f];
    uint64_t size = l->files[f].size;
    uint32_t i = rank - g->rank0;

    if (!sw_schedule_has(s, f, rank))
        return (sw_region){ 0, 0 };
    return (sw_region){ region_begin(s, size, i, g->nranks), region_begin(s, size, i + 1, g->nranks) };
}

uint64_t sw_schedule_rounds(const sw_schedule *s, const sw_layout *l, uint32_t f)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < s->groups[f].nranks; i++) {
        sw_region r = sw_schedule_region(s, l, f, s->groups[f].rank0 + i);

        most = sw_max(most, r.end - r.begin);
    }
    return most / s->band + (most % s->band != 0);
}

sw_region sw_schedule_band(const sw_schedule *s, sw_region region, uint64_t round)
{
    uint64_t begin = sw_min(region.begin + round * s->band, region.end);

    return (sw_region){ begin, sw_min(begin + s->band, region.end) };
}

bool sw_cursor_next(const sw_schedule *s, const sw_layout *l, uint32_t rank, sw_cursor *c)
{
    if (c->rounds && ++c->round < c->rounds)
        return true;
    c->file += c->rounds > 0;
    c->round = c->rounds = 0;
    c->mine = (sw_region){ 0, 0 };
    while (c->file < s->nfiles && !sw_schedule_has(s, c->file, rank))
        c->file++;
    if (c->file == s->nfiles)
        return false;
    c->rounds = sw_max(sw_schedule_rounds(s, l, c->file), 1);
    c->mine = sw_schedule_region(s, l, c->file, rank);
    return true;
}

/* ---- opens ----------------------------------------------------------------------------------- */

/* So many are over in a moment. Beyond that a metadata server shares what it can do with other
 * jobs, and a node's client sends one after the other. What is assumed here is little of what
 * either can do. */
#define OPENS_MOMENT UINT64_C(32768)
#define OPENS_SECOND UINT64_C(4096)
#define OPENS_NODE UINT64_C(512)       /* a second */
#define NODE_BYTES (UINT64_C(1) << 30) /* that a node reads and writes in a second */

uint64_t sw_opens_again(const sw_catalog *c, uint64_t band)
{
    uint64_t again = 0, opens;

    for (uint32_t i = 0; c->nfiles > SW_OPEN_MOST && i < c->ntensors; i++) {
        const sw_tensor *t = &c->tensors[i];

        if (t->nboxes > SW_OPEN_MOST &&
            (!sw_mul(t->nboxes, t->split_dims > 1 ? t->bytes / band + 1 : 1, &opens) ||
             !sw_add(again, opens, &again)))
            return UINT64_MAX;
    }
    return again;
}

bool sw_opens_storm(const sw_opens *o)
{
    uint64_t nodes = sw_max(o->nodes, 1), seconds = o->bytes / nodes / NODE_BYTES + 1, opens;

    if (!sw_mul(o->ranks, o->files, &opens) || !sw_add(opens, o->again, &opens))
        return true;
    return opens > OPENS_MOMENT && (opens / seconds > OPENS_SECOND || opens / seconds / nodes > OPENS_NODE);
}

/* ---- agreement ------------------------------------------------------------------------------- */

/* Name, shape, dtype. */
static uint64_t hash_tensor(uint64_t h, const sw_catalog *c, const sw_tensor *t, sw_dtype dtype)
{
    h = sw_hash(h, t->name, strlen(t->name));
    h = sw_hash(h, sw_tensor_shape(c, t), t->ndim * sizeof(uint64_t));
    return sw_hash_word(h, (uint64_t)dtype);
}

/* Files and boxes that are read; which boxes are in a file is in the hash of its header. */
static uint64_t hash_input(uint64_t h, const sw_catalog *c)
{
    for (uint32_t i = 0; i < c->nfiles; i++) {
        const char *name = sw_file_name(&c->files[i]);

        h = sw_hash(h, name, strlen(name));
        h = sw_hash_word(h, c->files[i].size);
        h = sw_hash_word(h, c->files[i].hash);
        h = sw_hash_word(sw_hash_word(h, (uint64_t)c->files[i].mtime_ns), (uint64_t)c->files[i].ctime_ns);
        /* not the device: it has other numbers on other machines */
        h = sw_hash_word(h, c->files[i].ino);
    }
    for (uint32_t i = 0; i < c->ntensors; i++) {
        const sw_tensor *t = &c->tensors[i];

        h = hash_tensor(h, c, t, (sw_dtype)t->dtype);
        for (uint64_t k = 0; c->in_memory && k < t->nboxes; k++) {
            sw_placed b;

            h = sw_hash(h, sw_box_get(c, t, k, &b)->offsets, 2u * t->ndim * sizeof *b.offsets);
        }
    }
    return h;
}

/* What is made of them. */
static uint64_t hash_outputs(uint64_t h, const sw_outputs *o)
{
    h = sw_hash(h, o->c->block, sizeof o->c->block);
    for (uint32_t i = 0; i < o->view.ntensors; i++) {
        h = hash_tensor(h, &o->view, &o->view.tensors[i], (sw_dtype)o->view.tensors[i].out_dtype);
        h = sw_hash_word(h, (uint64_t)o->how[i].op << 32 | o->how[i].source);
        h = sw_hash_word(h, o->how[i].scale);
    }
    return h;
}

/* What is written where. */
static uint64_t hash_layout(uint64_t h, const sw_layout *l)
{
    for (uint32_t f = 0; f < l->nfiles; f++) {
        h = sw_hash(h, l->files[f].name, strlen(l->files[f].name));
        h = sw_hash_word(h, l->files[f].size);
    }
    for (uint32_t i = 0; i < l->nslots; i++)
        h = sw_hash_word(h, (uint64_t)l->order[i].tensor << 32 ^ l->order[i].begin);
    h = sw_hash(h, l->box_dims, (size_t)l->nbox_dims * sizeof *l->box_dims);
    return l->index_name ? sw_hash(h, l->index_name, strlen(l->index_name)) : h;
}

/* Who does it. */
static uint64_t hash_work(uint64_t h, const sw_catalog *c, const sw_schedule *s)
{
    for (uint32_t i = 0; i < c->nfiles; i++)
        h = sw_hash_word(h, (uint64_t)c->files[i].owner << 1 | c->files[i].sharded);
    for (uint64_t i = 0; i < c->nplain; i++)
        h = sw_hash_word(sw_hash_word(h, c->boxes[i].at), c->boxes[i].file);
    h = sw_hash(h, c->box_dims, c->nbox_dims * sizeof *c->box_dims);
    h = sw_hash(h, c->rules, c->nrules * sizeof *c->rules);
    h = sw_hash(h, c->rule_dims, c->nrule_dims * sizeof *c->rule_dims);
    h = sw_hash(h, c->strides, c->nstrides * sizeof *c->strides);
    h = sw_hash(h, s->groups, s->nfiles * sizeof *s->groups);
    return sw_hash_word(sw_hash_word(h, s->band), s->block);
}

uint64_t sw_plan_hash(const sw_outputs *o, const sw_layout *l, const sw_schedule *s)
{
    uint64_t h = hash_layout(hash_outputs(hash_input(1, o->c), o), l);

    if (s)
        h = hash_work(h, o->c, s);
    return h ? h : 1;
}

uint64_t sw_outcome_hash(const sw_outputs *o, const sw_layout *l)
{
    return hash_layout(hash_outputs(1, o), l);
}

void sw_schedule_release(sw_schedule *s)
{
    free(s->groups);
    *s = (sw_schedule){ 0 };
}
