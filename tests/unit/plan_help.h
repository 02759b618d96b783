/* For tests of the plan: make a catalogue from boxes, the way it is made from headers. */
#ifndef PLAN_HELP_H
#define PLAN_HELP_H

#include "plan/merge.h"
#include "unit.h"

/* One box of one tensor in one file. */
typedef struct test_box {
    const char *name;
    uint32_t file;
    sw_dtype dtype;
    unsigned ndim;
    uint64_t offsets[4], shape[4];
} test_box;

static inline uint64_t test_product(const uint64_t *shape, unsigned ndim)
{
    uint64_t n = 1;

    for (unsigned d = 0; d < ndim; d++)
        n *= shape[d];
    return n;
}

/* Element number `flat` of a box to an index for each dimension. */
static inline void test_unflatten(uint64_t flat, unsigned ndim, const uint64_t *shape, uint64_t *index)
{
    for (unsigned d = ndim; d-- > 0; flat /= shape[d])
        index[d] = flat % shape[d];
}

static inline uint64_t test_box_bytes(const test_box *b)
{
    return test_product(b->shape, b->ndim) * sw_dtype_bits(b->dtype) / 8;
}

/* The header of one file: all boxes that are in it, one after the other. */
static inline void test_header(const test_box *boxes, size_t n, uint32_t file, sw_header *h,
                               sw_entry *entries, uint64_t *dims)
{
    uint64_t at = 0;
    uint32_t nd = 0;

    *h = (sw_header){ .entries = entries, .dims = dims, .sharded = true };
    for (size_t i = 0; i < n; i++) {
        const test_box *b = &boxes[i];
        sw_entry *e = &entries[h->nentries];

        if (b->file != file)
            continue;
        *e = (sw_entry){ .name = b->name,
                         .name_len = (uint32_t)strlen(b->name),
                         .dtype = (uint8_t)b->dtype,
                         .ndim = (uint8_t)b->ndim,
                         .begin = at,
                         .end = at + test_box_bytes(b) };
        at = e->end;
        e->shape = nd;
        memcpy(dims + nd, b->shape, b->ndim * sizeof *dims);
        e->offsets = nd + b->ndim;
        memcpy(dims + nd + b->ndim, b->offsets, b->ndim * sizeof *dims);
        e->global_shape = SW_NO_DIMS;
        nd += 2 * b->ndim;
        h->nentries++;
    }
}

static inline const char *test_dims(const char *text, uint64_t *dims, unsigned *n)
{
    char *end;

    for (*n = 0; *text >= '0' && *text <= '9'; text = *end == ',' ? end + 1 : end)
        dims[(*n)++] = strtoull(text, &end, 10);
    return text;
}

/* Boxes of a tensor "t" from "FILE: [DTYPE ]OFFSETS+SHAPE; ...", U8 where no dtype is told. Returns
 * how many. */
static inline size_t test_boxes(const char *text, test_box *boxes)
{
    size_t n = 0;

    for (; *text; text += strspn(text, "; "), n++) {
        test_box *b = &boxes[n];
        size_t word;
        unsigned same;

        *b = (test_box){ .name = "t", .file = (uint32_t)atoi(text), .dtype = SW_U8 };
        text = strchr(text, ':') + 2;
        word = strcspn(text, " +");
        if (text[word] == ' ') {
            assert_true(sw_dtype_parse(text, word, &b->dtype));
            text += word + 1;
        }
        text = test_dims(text, b->offsets, &b->ndim);
        text = test_dims(text + 1, b->shape, &same);
        assert_true(b->ndim == same);
    }
    return n;
}

/* How boxes come together. */
typedef struct test_how {
    int nranks;
    bool blocks; /* a rank reads files that follow one another; else each nranks-th */
    bool plain;  /* without rules */
    size_t batch;
    bool node; /* the first rank collects what the others have found */
} test_how;

/* Merge what the ranks found. Files are named "f0", "f1", ... */
static inline sw_code test_catalog_how(const test_box *boxes, size_t n, uint32_t nfiles, const test_how *how,
                                       sw_catalog *c, sw_findings *findings, sw_status *st)
{
    int nranks = how->nranks;
    sw_entry *entries = calloc(n + 1, sizeof *entries);
    uint64_t *dims = calloc(8 * n + 1, sizeof *dims),
             *starts = calloc(2 * (size_t)nranks + 2, sizeof *starts);
    uint64_t *box_starts = starts + nranks + 1;
    sw_buf names = SW_BUF_INIT, all = SW_BUF_INIT;
    sw_entries lead = { 0 };

    *c = (sw_catalog){ .nfiles = nfiles };
    c->files = calloc(nfiles, sizeof *c->files + 12);
    for (uint32_t f = 0; f < nfiles; f++) {
        char *name = (char *)(c->files + nfiles) + 12 * (size_t)f;

        snprintf(name, 12, "f%u", f);
        c->files[f].sharded = true;
        sw_file_set_name(&c->files[f], name);
    }
    for (int r = 0; r < nranks && !st->code; r++) {
        sw_entries found = { 0 };

        found.batch = how->batch;
        for (uint32_t f = 0; f < nfiles && !st->code; f++) {
            uint32_t owner = how->blocks ? f * (uint32_t)nranks / nfiles : f % (uint32_t)nranks;
            sw_header h;

            if (owner != (uint32_t)r)
                continue;
            test_header(boxes, n, f, &h, entries, dims);
            sw_entries_add(&found, &h, c->files, f, st);
        }
        if (how->node && r == 0) {
            lead = found;
            continue;
        }
        if (!st->code && !sw_entries_pack(&found, c->files, &names, st) && how->node)
            sw_entries_absorb(&lead, &names, &found.boxes, c->files, st);
        else if (!st->code)
            sw_buf_add(&all, found.boxes.data, found.boxes.len, st);
        if (how->node)
            names.len = 0;
        starts[r + 1] = names.len;
        box_starts[r + 1] = all.len;
        sw_entries_release(&found);
    }
    if (how->node && !st->code && !sw_entries_pack(&lead, c->files, &names, st)) {
        nranks = 1;
        sw_buf_add(&all, lead.boxes.data, lead.boxes.len, st);
        starts[1] = names.len;
        box_starts[1] = all.len;
    }
    sw_entries_release(&lead);
    if (!st->code &&
        !sw_catalog_merge(c, &(sw_gathered){ nranks, &names, starts, &all, box_starts, how->plain }, findings,
                          st))
        sw_catalog_check(c, findings, st);
    sw_buf_release(&all);
    sw_buf_release(&names);
    free(starts);
    free(dims);
    free(entries);
    return st->code;
}

static inline sw_code test_catalog_with(const test_box *boxes, size_t n, uint32_t nfiles, int nranks,
                                        sw_catalog *c, sw_findings *findings, sw_status *st)
{
    return test_catalog_how(boxes, n, nfiles, &(test_how){ .nranks = nranks }, c, findings, st);
}

static inline sw_code test_catalog(const test_box *boxes, size_t n, uint32_t nfiles, int nranks,
                                   sw_catalog *c, sw_status *st)
{
    return test_catalog_with(boxes, n, nfiles, nranks, c, NULL, st);
}

/* A repeatable stream of numbers. */
static inline uint64_t test_random(uint64_t *state, uint64_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % below;
}

/* Cut a box in two at a random place, again and again: boxes that tile a tensor, but for no grid.
 * Returns how many. */
static inline size_t test_cut(uint64_t *seed, test_box *boxes, size_t want)
{
    size_t n = 1;

    for (size_t tries = 0; n < want && tries < 20 * want; tries++) {
        test_box *b = &boxes[test_random(seed, n)];
        unsigned d = (unsigned)test_random(seed, b->ndim ? b->ndim : 1);
        uint64_t at;

        if (b->ndim == 0 || b->shape[d] < 2)
            continue;
        at = 1 + test_random(seed, b->shape[d] - 1);
        boxes[n] = *b;
        boxes[n].offsets[d] += at;
        boxes[n].shape[d] -= at;
        b->shape[d] = at;
        n++;
    }
    return n;
}

#endif
