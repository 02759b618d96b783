/* From headers to the catalogue; see gather.h. */
#include "par/gather.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dir/front.h"
#include "dir/guess.h"
#include "dir/items.h"
#include "plan/merge.h"
#include "plan/numbers.h"

/* ---- all headers of this rank ---------------------------------------------------------------- */

/* What the others must know of a file besides its boxes. */
typedef struct file_record {
    uint64_t file, data_start, hash, entries;
    uint8_t sharded, format_pt, zero[6];
} file_record;

/* What one rank found in its headers. */
typedef struct harvest {
    sw_entries found;
    sw_buf records; /* of its files */
    sw_buf sets;    /* what they say of all files: texts, each with the file's number before it */
    size_t last;    /* where the last of them begins */
} harvest;

/* All files of a set say the same: it is sent once. */
static sw_code keep_set(harvest *own, const char *set, uint64_t file, sw_status *st)
{
    if (!set || (own->sets.len && strcmp(own->sets.data + own->last + sizeof file, set) == 0))
        return SW_OK;
    own->last = own->sets.len;
    return sw_buf_add(&own->sets, &file, sizeof file, st) ? st->code
                                                          : sw_buf_add_text(&own->sets, set, strlen(set), st);
}

/* What this rank looks into files with. */
typedef struct look {
    sw_front front; /* the last one */
    /* where a list tells what is in the files: its boxes by file, and the next of its files, which
     * are sorted as the catalogue's are */
    sw_boxlist_index index;
    sw_listed_files walk;
} look;

/* The boxes of a file of the list. Every file of the catalogue is one, in the same order. */
static void find_listed(const sw_catalog *c, look *k, const char *name)
{
    const char *listed;

    do
        listed = sw_boxlist_file(&c->list, &k->walk);
    while (listed && strcmp(listed, name) != 0);
}

static sw_code parse_file(sw_catalog *c, uint32_t i, const char *dir, look *k, harvest *own, sw_status *st)
{
    const sw_header *h = &k->front.h;
    sw_file *f = &c->files[i];
    file_record r = { 0 };

    if (c->list.len) {
        const uint64_t *starts = k->index.starts + k->walk.number - 1;
        const sw_listed_boxes items = { k->index.boxes + starts[0], starts[1] - starts[0] };

        sw_items_read(&k->front, dir, f->name, f->size, items, st);
    } else if (!sw_front_read(&k->front, dir, f->name, f->size, st)) {
        f->data_start = 8 + k->front.text.len;
    }
    if (st->code)
        return st->code;
    f->hash = k->front.hash;
    r = (file_record){ i, f->data_start, f->hash, h->nentries, h->sharded, h->format_pt, { 0 } };
    if (!sw_entries_add(&own->found, h, c->files, i, st) &&
        !keep_set(own, f->number.shard ? h->set : NULL, i, st))
        sw_buf_add(&own->records, &r, sizeof r, st);
    return st->code;
}

/* A file that cannot be read is told of, with what its bytes say of the cause. */
static sw_code tell_broken(const char *dir, const sw_file *f, sw_findings *findings, sw_status *st)
{
    const char *hint = NULL;

    if (findings && st->code == SW_EINPUT)
        hint = sw_guess_of_file(dir, f->name, f->size);
    return sw_findings_take(findings, hint, st);
}

static sw_code parse_own(const sw_headers *in, int rank, sw_catalog *c, harvest *own, sw_findings *findings,
                         sw_status *st)
{
    look k = { .front = SW_FRONT_INIT };

    if (c->list.len)
        sw_boxlist_sort(&c->list, &k.index, st);
    for (uint32_t i = 0; i < c->nfiles && !st->code && !sw_check_cancel(in->cancel, st); i++) {
        if (c->list.len)
            find_listed(c, &k, c->files[i].name);
        if (c->files[i].owner == (uint32_t)rank) {
            parse_file(c, i, in->dir, &k, own, st);
            tell_broken(in->dir, &c->files[i], findings, st);
        }
    }
    sw_boxlist_index_release(&k.index);
    sw_front_release(&k.front);
    sw_buf_release(&c->list);
    return st->code;
}

/* ---- everybody's ----------------------------------------------------------------------------- */

/* What is not told of could not be read. */
static void take_files(sw_catalog *c, const sw_buf *records)
{
    for (uint32_t i = 0; i < c->nfiles; i++)
        c->files[i].broken = true;
    for (uint64_t at = 0; at < records->len; at += sizeof(file_record)) {
        const file_record *r = (const void *)(records->data + at);
        sw_file *f = &c->files[r->file];

        f->broken = false;
        f->data_start = r->data_start;
        f->hash = r->hash;
        f->entries = r->entries;
        f->sharded = r->sharded != 0;
        f->format_pt = r->format_pt != 0;
    }
}

/* What the files of all ranks say of the set. */
static sw_code take_sets(sw_catalog *c, const sw_buf *sets, sw_findings *findings, sw_status *st)
{
    for (uint64_t at = 0; at < sets->len && !st->code;) {
        const uint64_t *file = (const void *)(sets->data + at);
        const char *text = (const char *)(file + 1);

        sw_numbers_take(c, text, c->files[*file].name, st);
        sw_findings_take(findings, NULL, st);
        at += sizeof *file + sw_text_room(strlen(text));
    }
    return st->code;
}

/* Join the names and boxes of all ranks, and check the catalogue. */
static sw_code join(const sw_comm *comm, sw_gathering *names, sw_gathering *boxes, sw_catalog *c,
                    sw_findings *findings, sw_status *st)
{
    const sw_gathered all = { comm->size, &names->all, names->starts, &boxes->all, boxes->starts, false };

    if (!sw_catalog_merge(c, &all, findings, st))
        sw_catalog_check(c, findings, st);
    return st->code;
}

sw_code sw_findings_gather(const sw_comm *comm, sw_findings *f, sw_status *st)
{
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (!st->code)
        sw_findings_pack(f, &mine, st);
    if (!sw_comm_gather(comm, &mine, &all, st)) {
        sw_findings_release(f);
        sw_findings_unpack(f, all.data, all.len, st);
        sw_findings_sort(f);
        sw_agree(comm, st);
    }
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

sw_code sw_gather_catalog(const sw_comm *comm, sw_headers *in, sw_catalog *c, sw_findings *findings,
                          sw_status *st)
{
    harvest own = { .found = SW_ENTRIES_INIT };
    sw_buf packed = SW_BUF_INIT;
    sw_gathering g[] = {
        { .mine = &own.records }, { .mine = &own.sets }, { .mine = &packed }, { .mine = &own.found.boxes }
    };
    double begin = sw_now();
    uint64_t word;

    if (!st->code && !parse_own(in, comm->rank, c, &own, findings, st))
        sw_entries_pack(&own.found, c->files, &packed, st);
    in->seconds = sw_now() - begin;
    sw_comm_gather_kinds(comm, g, 4, st);
    /* The largest things first: what was sent is not needed any more. */
    sw_entries_release(&own.found);
    sw_buf_release(&packed);
    if (!st->code) {
        take_files(c, &g[0].all);
        if (!take_sets(c, &g[1].all, findings, st) && !join(comm, &g[2], &g[3], c, findings, st))
            sw_numbers_check_listed(c, findings, st);
        /* Numbers that are not negative are in the order of their bits. */
        memcpy(&word, &in->seconds, sizeof word);
        if (!sw_agree_most(comm, &word, 1, st))
            memcpy(&in->seconds, &word, sizeof word);
    }
    sw_gathering_release(g, 4);
    sw_buf_release(&own.sets);
    sw_buf_release(&own.records);
    if (!st->code && findings)
        sw_findings_gather(comm, findings, st);
    return st->code;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Each rank as a file. Its shard number is what it would be in a file name. */
static sw_code make_rank_files(uint32_t n, sw_catalog *c, sw_status *st)
{
    c->files = sw_calloc(n, sizeof *c->files, st);
    c->file_names = sw_calloc(n, SW_RANK_NAME_SIZE, st);
    if (st->code)
        return st->code;
    c->nfiles = n;
    c->in_memory = true;
    for (uint32_t r = 0; r < n; r++) {
        char *name = c->file_names + (size_t)r * SW_RANK_NAME_SIZE;

        snprintf(name, SW_RANK_NAME_SIZE, SW_RANK_NAME, r);
        c->files[r] = (sw_file){
            .name = name, .number = { r + UINT64_C(1), 1, 1 }, .owner = r, .sharded = true, .format_pt = true
        };
    }
    return SW_OK;
}

/* Collective. Join what the ranks found in memory. Found is released. */
static sw_code join_found(const sw_comm *comm, sw_entries *found, const sw_buf *sizes, sw_catalog *c,
                          sw_status *st)
{
    sw_buf packed = SW_BUF_INIT;
    sw_gathering g[] = { { .mine = &packed }, { .mine = &found->boxes }, { .mine = sizes } };

    if (!st->code)
        sw_entries_pack(found, c->files, &packed, st);
    sw_comm_gather_kinds(comm, g, 3, st);
    sw_entries_release(found);
    sw_buf_release(&packed);
    if (!st->code) {
        for (size_t r = 0; r < g[2].all.len / sizeof c->files->size; r++)
            memcpy(&c->files[r].size, g[2].all.data + r * sizeof c->files->size, sizeof c->files->size);
        join(comm, &g[0], &g[1], c, NULL, st);
        sw_agree(comm, st);
    }
    sw_gathering_release(g, 3);
    return st->code;
}

sw_code sw_join_held(const sw_comm *comm, const sw_holders *ranks, sw_catalog *c, sw_status *st)
{
    sw_entries found = SW_ENTRIES_INIT;
    sw_buf sizes = SW_BUF_INIT;

    if (!st->code)
        make_rank_files((uint32_t)comm->size * ranks->n, c, st);
    for (uint32_t r = 0; r < ranks->n && !st->code; r++)
        if (!sw_buf_add(&sizes, &ranks->held[r].bytes, sizeof ranks->held[r].bytes, st))
            sw_memboxes_found(&ranks->held[r], c->files, ranks->first + r, &found, st);
    join_found(comm, &found, &sizes, c, st);
    sw_buf_release(&sizes);
    return st->code;
}
