/* From headers to the catalogue; see gather.h. */
#include "par/gather.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sort.h"
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
    sw_buf sets;   /* what they say of all files: texts, each with the file's number before it */
    size_t last;   /* where the last of them begins */
    sw_buf values; /* names of what is no tensor in them, a NUL behind each */
    bool asked;    /* for what they say of themselves */
    sw_buf notes;
} harvest;

/* ---- what files say of themselves ------------------------------------------------------------ */

/* For people: so much of a value, and so many of a file. */
#define NOTE_SHOWN 1024u
#define NOTES_SHOWN 64u

/* Each is the file's number, and two texts. */
static sw_code keep_notes(const sw_header *h, uint64_t file, sw_buf *notes, sw_status *st)
{
    for (size_t i = 0; i < h->nnotes && i < NOTES_SHOWN && !st->code; i++) {
        const char *texts[2] = { h->notes[i].key, h->notes[i].value };

        sw_buf_add(notes, &file, sizeof file, st);
        for (unsigned k = 0; k < 2 && !st->code; k++)
            sw_buf_add_text(notes, texts[k], strnlen(texts[k], NOTE_SHOWN), st);
    }
    return st->code;
}

bool sw_notes_next(const sw_buf *notes, uint64_t *at, uint64_t *file, const char **key, const char **value)
{
    if (*at == notes->len)
        return false;
    memcpy(file, notes->data + *at, sizeof *file);
    *key = notes->data + *at + sizeof *file;
    *value = *key + sw_text_room(strlen(*key));
    *at += sizeof *file + sw_text_room(strlen(*key)) + sw_text_room(strlen(*value));
    return true;
}

/* ---- one file -------------------------------------------------------------------------------- */

/* All files of a set say the same: it is sent once. */
static sw_code keep_set(harvest *own, const char *set, uint64_t file, sw_status *st)
{
    if (!set || (own->sets.len && strcmp(own->sets.data + own->last + sizeof file, set) == 0))
        return SW_OK;
    own->last = own->sets.len;
    return sw_buf_add(&own->sets, &file, sizeof file, st) ? st->code
                                                          : sw_buf_add_text(&own->sets, set, strlen(set), st);
}

/* Ranks save values of the same names: those of the file before are not sent again. */
static sw_code keep_values(harvest *own, const sw_buf *values, sw_status *st)
{
    const sw_buf *kept = &own->values;
    size_t n = values->len, before = kept->len - sw_min(kept->len, n);

    if (n == 0 || (kept->len - before == n && memcmp(kept->data + before, values->data, n) == 0 &&
                   (before == 0 || kept->data[before - 1] == '\0')))
        return st->code;
    return sw_buf_add(&own->values, values->data, n, st);
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

/* What one file says of its boxes, and what the others must know of it. */
static sw_code parse_file(sw_catalog *c, uint32_t i, const char *dir, look *k, harvest *own, sw_status *st)
{
    const sw_header *h = &k->front.h;
    sw_file *f = &c->files[i];

    if (c->list.len) {
        const uint64_t *starts = k->index.starts + k->walk.number - 1;
        const sw_listed_boxes items = { k->index.boxes + starts[0], starts[1] - starts[0] };

        sw_items_read(&k->front, dir, sw_file_name(f), f->size, items, st);
    } else if (!sw_front_read(&k->front, dir, sw_file_name(f), f->size, st)) {
        f->data_start = 8 + k->front.text.len;
    }
    if (st->code)
        return st->code;
    f->hash = k->front.hash;
    f->entries = h->nentries;
    f->sharded = h->sharded;
    f->format_pt = h->format_pt;
    if ((own->asked && keep_notes(h, i, &own->notes, st)) || keep_values(own, &k->front.values, st))
        return st->code;
    if (!sw_entries_add(&own->found, h, c->files, i, st))
        keep_set(own, f->number.shard ? h->set : NULL, i, st);
    f->broken = st->code != SW_OK;
    return st->code;
}

/* A file that cannot be read is told of, with what its bytes say of the cause.
 *   dir  NULL = it need not be a safetensors file, so that nothing is said */
static sw_code tell_broken(const char *dir, const sw_file *f, sw_findings *findings, sw_status *st)
{
    const char *hint = NULL;

    if (findings && dir && st->code == SW_EINPUT)
        hint = sw_guess_of_file(dir, sw_file_name(f), f->size);
    return sw_findings_take(findings, hint, st);
}

/* All files of this rank. */
static sw_code parse_own(const sw_headers *in, int rank, sw_catalog *c, harvest *own, sw_findings *findings,
                         sw_status *st)
{
    look k = { 0 };

    if (c->list.len)
        sw_boxlist_sort(&c->list, &k.index, st);
    for (uint32_t i = 0; i < c->nfiles && !st->code && !sw_check_cancel(in->cancel, st); i++) {
        if (c->list.len)
            find_listed(c, &k, sw_file_name(&c->files[i]));
        if (c->files[i].owner == (uint32_t)rank) {
            parse_file(c, i, in->dir, &k, own, st);
            tell_broken(c->list.len ? NULL : in->dir, &c->files[i], findings, st);
        }
    }
    sw_boxlist_index_release(&k.index);
    sw_front_release(&k.front);
    sw_buf_release(&c->list);
    return st->code;
}

/* ---- everybody's ----------------------------------------------------------------------------- */

/* What this rank, or this node where its ranks share the files, has learned of them. */
static sw_code pack_files(const sw_catalog *c, sw_buf *records, sw_status *st)
{
    for (uint32_t i = 0; i < c->nfiles && !st->code; i++) {
        const sw_file *f = &c->files[i];
        const file_record r = { i, f->data_start, f->hash, f->entries, f->sharded, f->format_pt, { 0 } };

        if (!f->broken)
            sw_buf_add(records, &r, sizeof r, st);
    }
    return st->code;
}

/* What is not told of could not be read. */
static void take_files(sw_catalog *c, const sw_buf *records)
{
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

/* Collective, of files that a node has once. Its ranks have written there what they have learned;
 * the first of them exchanges it with those of other nodes. */
static sw_code join_files(const sw_shares *shares, sw_catalog *c, sw_status *st)
{
    const sw_comm *leaders = &shares->nodes.leaders;
    sw_buf mine = SW_BUF_INIT, all = SW_BUF_INIT;

    if (sw_share_show(&shares->files, st) || shares->nodes.n == 1)
        return st->code;
    if (sw_nodes_lead(&shares->nodes)) {
        pack_files(c, &mine, st);
        if (!sw_comm_gather(leaders, &mine, &all, st))
            take_files(c, &all);
    }
    sw_buf_release(&mine);
    sw_buf_release(&all);
    return sw_share_show(&shares->files, st);
}

/* What the files of all ranks say of the set. */
static sw_code take_sets(sw_catalog *c, const sw_buf *sets, sw_findings *findings, sw_status *st)
{
    for (uint64_t at = 0; at < sets->len && !st->code;) {
        const uint64_t *file = (const void *)(sets->data + at);
        const char *text = (const char *)(file + 1);

        sw_numbers_take(c, text, sw_file_name(&c->files[*file]), st);
        sw_findings_take(findings, NULL, st);
        at += sizeof *file + sw_text_room(strlen(text));
    }
    return st->code;
}

/* Values that the ranks found in files, beside those of the list: each name once, sorted. */
static sw_code take_values(sw_catalog *c, const sw_buf *values, sw_status *st)
{
    const char **names = NULL;
    size_t n = 0, cap = 0;

    for (uint64_t at = 0; at < values->len && !sw_grow(&names, &cap, n + 1, sizeof *names, st);
         at += strlen(names[n++]) + 1)
        names[n] = values->data + at;
    n = sw_sort_once(names, n);
    for (size_t i = 0; i < n && !sw_buf_add(&c->values, names[i], strlen(names[i]) + 1, st); i++)
        c->nvalues++;
    free(names);
    return st->code;
}

/* ---- joining --------------------------------------------------------------------------------- */

/* So many boxes times ranks are worth to be joined once a node. */
#define JOIN_LEAST (UINT64_C(1) << 20)

/* So many bytes of boxes are worth a window. */
#define SHARE_LEAST (UINT64_C(4) << 20)

/* What is found by the ranks of a node, at the one that leads. */
typedef struct joining {
    const sw_nodes *nodes;
    sw_catalog *c;
    sw_entries *found; /* of this rank, then of the node */
    sw_buf *names;     /* packed */
} joining;

/* What a mate has found is added to what is there. */
static sw_code take_mate(void *ctx, sw_buf *got, sw_status *st)
{
    const joining *j = ctx;

    return sw_entries_absorb(j->found, &got[0], &got[1], j->c->files, st);
}

/* Collective over the mates. */
static sw_code collect_node(joining *j, sw_status *st)
{
    sw_buf *const mine[SW_COLLECT_MAX] = { j->names, &j->found->boxes };

    if (!sw_nodes_lead(j->nodes) && !st->code)
        sw_entries_pack(j->found, j->c->files, j->names, st);
    sw_nodes_collect(j->nodes, mine, SW_COLLECT_MAX, take_mate, j, st);
    if (sw_nodes_lead(j->nodes) && !st->code)
        sw_entries_pack(j->found, j->c->files, j->names, st);
    return st->code;
}

/* Collective over the leaders: each has the same catalogue then, and has checked it. */
static sw_code join_nodes(const joining *j, sw_findings *findings, sw_status *st)
{
    const sw_comm *leaders = &j->nodes->leaders;
    sw_gathering g[] = { { .mine = j->names }, { .mine = &j->found->boxes } };
    const uint64_t ends[2][2] = { { 0, j->names->len }, { 0, j->found->boxes.len } };
    bool alone = leaders->size == 1;

    if (!alone) {
        sw_comm_gather_kinds(leaders, g, 2, st);
        sw_entries_release(j->found);
        sw_buf_release(j->names);
    }
    if (!st->code) {
        const sw_gathered all = { .nranks = leaders->size,
                                  .names = alone ? j->names : &g[0].all,
                                  .name_starts = alone ? ends[0] : g[0].starts,
                                  .boxes = alone ? &j->found->boxes : &g[1].all,
                                  .box_starts = alone ? ends[1] : g[1].starts };

        if (!sw_catalog_merge(j->c, &all, findings, st))
            sw_catalog_check(j->c, findings, st);
    }
    sw_gathering_release(g, 2);
    return st->code;
}

/* Collective over the mates. The leader's boxes go into n bytes of the node; where it cannot share,
 * into as many of each. */
static sw_code share_boxes(const sw_nodes *nodes, sw_catalog *c, uint64_t n, sw_share *share, sw_status *st)
{
    bool leads = sw_nodes_lead(nodes), own;

    if (sw_share_new(nodes, n, share, st))
        return st->code;
    own = !share->data;
    if (own)
        *share = (sw_share){ .data = sw_calloc(n, 1, st), .size = n };
    if (leads && !st->code)
        sw_catalog_lend(c, share->data, true);
    if (!own)
        sw_share_show(share, st);
    else if (!sw_agree(&nodes->mates, st))
        sw_comm_bcast(&nodes->mates, share->data, n, 0, st);
    if (!leads && !st->code)
        sw_catalog_lend(c, share->data, false);
    return st->code;
}

/* Collective over the mates. They get what their leader has made; boxes lie in share where they are
 * many. */
static sw_code hand_out(const sw_nodes *nodes, sw_catalog *c, sw_share *share, sw_status *st)
{
    bool leads = sw_nodes_lead(nodes);
    sw_buf packed = SW_BUF_INIT;
    uint64_t n = share && leads ? sw_catalog_box_bytes(c) : 0; /* in the share; told first */

    if (nodes->mates.size == 1)
        return st->code;
    n = n < SHARE_LEAST ? 0 : n;
    if (leads && !st->code && !sw_buf_add(&packed, &n, sizeof n, st))
        sw_catalog_pack(c, n == 0, &packed, st);
    if (sw_comm_bcast_buf(&nodes->mates, &packed, 0, st)) {
        sw_buf_release(&packed);
        return st->code;
    }
    memcpy(&n, packed.data, sizeof n);
    if (!leads)
        sw_catalog_unpack(c, packed.data + sizeof n, st);
    sw_buf_release(&packed);
    return n ? share_boxes(nodes, c, n, share, st) : st->code;
}

/* Collective. Names and boxes of all ranks become the catalogue of each. It is made once a node,
 * from what each node has joined before: nothing grows with the ranks of a node but what they come
 * with. Where that is little each rank makes its own: they are all quicker then.
 *   boxes  of all ranks
 * Agree afterwards. Seven parameters: what is joined, and what comes of it, belong to the caller
 * one by one. */
static sw_code join(const sw_comm *comm, sw_headers *in, uint64_t boxes, sw_entries *found, sw_catalog *c,
                    sw_findings *findings, sw_status *st)
{
    sw_shares own = { .nodes = { 0 } }, *shares = in->shares ? in->shares : &own;
    sw_nodes *nodes = &shares->nodes;
    sw_buf names = SW_BUF_INIT;
    joining j = { nodes, c, found, &names };
    bool all = true; /* ranks go on: where nothing was agreed upon, those that have failed, too */

    if (nodes->own)
        all = !sw_agree(comm, st);
    else if (boxes < JOIN_LEAST / (uint64_t)comm->size)
        sw_nodes_none(comm, nodes);
    else
        all = !sw_nodes_find(comm, nodes, st) || !nodes->own;
    if (all) {
        in->nodes = nodes->n;
        collect_node(&j, st);
        if (sw_nodes_lead(nodes))
            join_nodes(&j, findings, st);
        hand_out(nodes, c, in->shares ? &shares->boxes : NULL, st);
    }
    sw_nodes_release(nodes);
    sw_entries_release(found);
    sw_buf_release(&names);
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
        sw_findings_join(f, st);
        sw_agree(comm, st);
    }
    sw_buf_release(&all);
    sw_buf_release(&mine);
    return st->code;
}

sw_code sw_gather_catalog(const sw_comm *comm, sw_headers *in, sw_catalog *c, sw_findings *findings,
                          sw_status *st)
{
    harvest own = { .asked = in->notes };
    bool shared = in->shares && in->shares->files.data;
    sw_buf records = SW_BUF_INIT;
    sw_gathering g[] = {
        { .mine = &records }, { .mine = &own.sets }, { .mine = &own.values }, { .mine = &own.notes }
    };
    unsigned kinds = in->notes ? 4 : 3;
    double begin = sw_now();
    uint64_t word, boxes = 0;

    if (!st->code)
        parse_own(in, comm->rank, c, &own, findings, st);
    in->seconds = sw_now() - begin;
    if (!shared && !st->code)
        pack_files(c, &records, st);
    if (!sw_comm_gather_kinds(comm, g, kinds, st)) {
        if (shared)
            join_files(in->shares, c, st);
        else
            take_files(c, &g[0].all);
        if (in->notes) {
            *in->notes = g[3].all;
            g[3].all = (sw_buf)SW_BUF_INIT;
        }
        take_sets(c, &g[1].all, findings, st);
        take_values(c, &g[2].all, st);
        for (uint32_t i = 0; i < c->nfiles; i++)
            boxes += c->files[i].entries;
        sw_gathering_release(g, kinds);
        if (!join(comm, in, boxes, &own.found, c, findings, st))
            sw_numbers_check_listed(c, findings, st);
        /* Numbers that are not negative are in the order of their bits. */
        memcpy(&word, &in->seconds, sizeof word);
        if (!sw_agree_most(comm, &word, 1, st))
            memcpy(&in->seconds, &word, sizeof word);
    }
    sw_entries_release(&own.found);
    sw_gathering_release(g, kinds);
    sw_buf_release(&own.notes);
    sw_buf_release(&own.values);
    sw_buf_release(&own.sets);
    sw_buf_release(&records);
    if (!st->code && findings)
        sw_findings_gather(comm, findings, st);
    return st->code;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Each rank as a file. Its shard number is what it would be in a file name. */
static sw_code make_rank_files(uint32_t n, sw_catalog *c, sw_status *st)
{
    char *name;

    c->files = sw_calloc(n, sizeof *c->files + SW_RANK_NAME_SIZE, st);
    if (st->code)
        return st->code;
    c->nfiles = n;
    c->in_memory = true;
    name = (void *)(c->files + n);
    for (uint32_t r = 0; r < n; r++, name += SW_RANK_NAME_SIZE) {
        snprintf(name, SW_RANK_NAME_SIZE, SW_RANK_NAME, r);
        c->files[r] =
            (sw_file){ .number = { r + UINT64_C(1), 1, 1 }, .owner = r, .sharded = true, .format_pt = true };
        sw_file_set_name(&c->files[r], name);
    }
    return SW_OK;
}

/* What the others must know of a rank besides its boxes. */
typedef struct rank_record {
    uint64_t bytes, boxes;
} rank_record;

/* Collective. Join what the ranks found in memory. Found is released. */
static sw_code join_found(const sw_comm *comm, sw_entries *found, const sw_buf *records, sw_catalog *c,
                          sw_status *st)
{
    sw_gathering g[] = { { .mine = records } };
    sw_headers in = { .shares = NULL };
    uint64_t boxes = 0;

    if (!sw_comm_gather_kinds(comm, g, 1, st)) {
        for (size_t r = 0; r < g[0].all.len / sizeof(rank_record); r++) {
            rank_record record;

            memcpy(&record, g[0].all.data + r * sizeof record, sizeof record);
            c->files[r].size = record.bytes;
            boxes += record.boxes;
        }
        join(comm, &in, boxes, found, c, NULL, st);
        sw_agree(comm, st);
    }
    sw_entries_release(found);
    sw_gathering_release(g, 1);
    return st->code;
}

sw_code sw_join_held(const sw_comm *comm, const sw_holders *ranks, sw_catalog *c, sw_status *st)
{
    sw_entries found = { 0 };
    sw_buf records = SW_BUF_INIT;

    if (!st->code)
        make_rank_files((uint32_t)comm->size * ranks->n, c, st);
    for (uint32_t r = 0; r < ranks->n && !st->code; r++) {
        const rank_record record = { ranks->held[r].bytes, ranks->held[r].n };

        if (!sw_buf_add(&records, &record, sizeof record, st))
            sw_memboxes_found(&ranks->held[r], c->files, ranks->first + r, &found, st);
    }
    join_found(comm, &found, &records, c, st);
    sw_buf_release(&records);
    return st->code;
}
