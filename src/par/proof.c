/* Hashes and censuses of what files hold; see proof.h. */
#include "par/proof.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "base/thread.h"
#include "plan/parts.h"

#define NO_SLOT UINT32_MAX
#define BLOCK (UINT64_C(1) << 20)

/* What a rank knows of a slot: n leaves of it, whose hashes follow. It is sent as it lies; all of
 * the slot's leaves have been made one hash. */
typedef struct piece {
    uint64_t slot, first, n;
    uint64_t all;
    sw_census census;
} piece;

/* The same of a file. */
typedef struct file_record {
    uint64_t file;
    sw_proof_file proof;
} file_record;

/* A leaf of which this rank has shown the beginning. */
typedef struct torn_leaf {
    uint64_t slot, leaf, file;
} torn_leaf;

/* ---- leaves ---------------------------------------------------------------------------------- */

static uint64_t slot_bytes(const sw_proof *p, uint64_t slot)
{
    return p->l->order[slot].end - p->l->order[slot].begin;
}

static uint64_t count_leaves(uint64_t bytes)
{
    return bytes / SW_LEAF + (bytes % SW_LEAF != 0);
}

/* The hash of a slot by those of its leaves. */
static void join_leaves(const char *leaves, uint64_t n, unsigned char hash[SW_XXH3_BYTES])
{
    if (n == 1)
        memcpy(hash, leaves, SW_XXH3_BYTES);
    else
        sw_xxh3(leaves, n * SW_XXH3_BYTES, hash);
}

/* What has come of a slot becomes a record. */
static sw_code end_piece(sw_proof *p, sw_status *st)
{
    piece r = { p->slot, p->first_leaf, p->leaves.len / SW_XXH3_BYTES, false, p->census };
    unsigned char hash[SW_XXH3_BYTES];

    if (p->slot == NO_SLOT)
        return st->code;
    p->slot = NO_SLOT;
    r.all = p->hashes && r.n == count_leaves(slot_bytes(p, r.slot));
    if (r.all)
        join_leaves(p->leaves.data, r.n, hash);
    sw_buf_add(&p->pieces, &r, sizeof r, st);
    if (r.all)
        sw_buf_add(&p->pieces, hash, sizeof hash, st);
    else
        sw_buf_add(&p->pieces, p->leaves.data, p->leaves.len, st);
    return st->code;
}

/* Bytes [from, from + n) of a leaf of so many bytes. What another rank begins is left to it. */
static sw_code add_to_leaf(sw_proof *p, uint64_t from, uint64_t n, uint64_t size, const char *data,
                           sw_status *st)
{
    unsigned char hash[SW_XXH3_BYTES];

    if (n == size) {
        sw_xxh3(data, n, hash);
        return sw_buf_add(&p->leaves, hash, sizeof hash, st);
    }
    if (from == 0) {
        sw_digest_begin(p->leaf, st);
        p->open = true;
    }
    if (!p->open || sw_digest_add(p->leaf, data, n, st) || from + n < size)
        return st->code;
    p->open = false;
    return sw_digest_end(p->leaf, hash, st) ? st->code : sw_buf_add(&p->leaves, hash, sizeof hash, st);
}

/* What a part is shown to. */
typedef struct look {
    sw_proof *p;
    const char *data;
    sw_status *st;
} look;

/* Of one region: the slot before has been shown to its end. */
static sw_code turn_to(sw_proof *p, const sw_part *part, sw_status *st)
{
    if (p->slot == part->slot)
        return SW_OK;
    if (end_piece(p, st))
        return st->code;
    p->slot = part->slot;
    p->first_leaf = count_leaves(part->from);
    p->leaves.len = 0;
    p->census = (sw_census)SW_CENSUS_INIT;
    return SW_OK;
}

/* Count and hash it. */
static bool show_part(void *ctx, const sw_part *part)
{
    const look *v = ctx;
    sw_proof *p = v->p;
    sw_dtype dtype = p->view ? (sw_dtype)p->view->tensors[part->output].out_dtype : SW_BOOL;
    uint64_t size = slot_bytes(p, part->slot), n;

    if (turn_to(p, part, v->st))
        return false;
    if (sw_census_counts(dtype))
        sw_census_take(&p->census, dtype, v->data + part->at, part->n / (sw_dtype_bits(dtype) / 8));
    for (uint64_t done = 0; p->hashes && done < part->n && !v->st->code; done += n) {
        uint64_t from = part->from + done, in = from % SW_LEAF, leaf = sw_min(SW_LEAF, size - (from - in));

        n = sw_min(part->n - done, leaf - in);
        add_to_leaf(p, in, n, leaf, v->data + part->at + done, v->st);
    }
    p->next = part->from + part->n;
    return !v->st->code;
}

/* The region ends here: what of a leaf is missing another rank has. */
static sw_code end_region(sw_proof *p, sw_status *st)
{
    const torn_leaf torn = { p->slot, p->next / SW_LEAF, p->at_file };

    if (p->open)
        sw_buf_add(&p->torn, &torn, sizeof torn, st);
    p->open = false;
    return end_piece(p, st);
}

/* ---- whole files ----------------------------------------------------------------------------- */

/* A file has been shown to its end. */
static sw_code end_file(sw_proof *p, uint32_t f, sw_status *st)
{
    file_record r = { .file = f };

    if (sw_digest_end(p->head, r.proof.head, st) || (p->sha256 && sw_digest_end(p->file, r.proof.sha256, st)))
        return st->code;
    return sw_buf_add(&p->files, &r, sizeof r, st);
}

/* Does one rank show all of it, from front to back? */
static bool is_shown_whole(const sw_proof *p, uint32_t f)
{
    return p->sched && p->sched->groups[f].nranks == 1;
}

/* Bytes of a file that comes from front to back. */
static sw_code show_file(sw_proof *p, sw_region at, const char *data, sw_status *st)
{
    const sw_layout_file *file = &p->l->files[p->at_file];

    if (at.begin == 0) {
        sw_digest_begin(p->head, st);
        if (p->sha256)
            sw_digest_begin(p->file, st);
    }
    if (st->code)
        return st->code;
    if (at.begin < 8 + file->header_len)
        sw_digest_add(p->head, data, sw_min(at.end, 8 + file->header_len) - at.begin, st);
    if (p->sha256)
        sw_digest_add(p->file, data, at.end - at.begin, st);
    return at.end == file->size ? end_file(p, p->at_file, st) : st->code;
}

/* ---- bands ----------------------------------------------------------------------------------- */

sw_code sw_proof_begin(sw_proof *p, sw_status *st)
{
    p->slot = NO_SLOT;
    if ((!p->hashes && !p->heads) || sw_digest_take_xxh3(st) || (p->sha256 && sw_digest_take_sha256(st)))
        return st->code;
    p->leaf = sw_digest_new_xxh3(st);
    p->head = sw_digest_new_xxh3(st);
    if (p->sha256)
        p->file = sw_digest_new_sha256(st);
    return st->code;
}

void sw_proof_release(sw_proof *p)
{
    sw_digest_free(p->leaf);
    sw_digest_free(p->head);
    sw_digest_free(p->file);
    sw_buf_release(&p->leaves);
    sw_buf_release(&p->pieces);
    sw_buf_release(&p->torn);
    sw_buf_release(&p->files);
    free(p->slots);
    free(p->of_files);
    *p = (sw_proof){ .slot = NO_SLOT };
}

sw_code sw_proof_band(sw_proof *p, uint32_t f, sw_region at, const char *data, sw_status *st)
{
    look v = { p, data, st };

    if (st->code || at.begin == at.end)
        return st->code;
    if (p->at_file != f || p->at != at.begin) {
        end_region(p, st);
        p->at_file = f;
    }
    p->at = at.end;
    if (!st->code && (p->hashes || p->view))
        sw_parts_each(p->l, f, at, show_part, &v);
    return p->heads && is_shown_whole(p, f) ? show_file(p, at, data, st) : st->code;
}

/* A file that is read, by pieces of chunk bytes. */
typedef struct again {
    int fd;
    const char *name;
    char *chunk, *path;
    const volatile int *cancel;
} again;

static sw_code open_again(again *a, const sw_proof *p, const char *dir, uint32_t f, sw_status *st)
{
    a->name = p->l->files[f].name;
    a->path = sw_path_join(dir, a->name, st);
    return a->path ? sw_fd_open(a->path, a->name, &a->fd, st) : st->code;
}

/* Also where nothing is open. */
static void close_again(again *a, sw_status *st)
{
    sw_fd_close(a->fd, a->path, st);
    free(a->path);
    a->fd = -1;
    a->path = NULL;
}

/* All bands of one rank, to the end of the last one, unless another thread has failed. */
static sw_code read_bands(sw_proof *p, uint32_t rank, const char *dir, const volatile int *cancel,
                          atomic_bool *failed, sw_status *st)
{
    const sw_schedule *s = p->sched;
    again a = { .fd = -1, .chunk = sw_calloc(s->band, 1, st), .cancel = cancel };
    sw_cursor c = { 0 };
    uint32_t open = NO_SLOT;

    while (!st->code && !*failed && sw_cursor_next(s, p->l, rank, &c)) {
        sw_region at = sw_schedule_band(s, c.mine, c.round);

        if (at.begin == at.end)
            continue;
        if (open != c.file) {
            close_again(&a, st);
            open_again(&a, p, dir, open = c.file, st);
        }
        if (!st->code && !sw_check_cancel(cancel, st) &&
            !sw_fd_read_at(a.fd, a.name, a.chunk, at.end - at.begin, at.begin, st))
            sw_proof_band(p, c.file, at, a.chunk, st);
    }
    close_again(&a, st);
    free(a.chunk);
    if (!st->code && !*failed)
        end_region(p, st);
    if (st->code)
        *failed = true;
    return st->code;
}

/* A rank whose bands a thread of its own reads. */
typedef struct helper {
    sw_proof p;
    uint32_t rank;
    const char *dir;
    const volatile int *cancel;
    atomic_bool *failed;
    sw_status st;
} helper;

/* The thread: the bands of a rank that nobody else is. */
static void *help(void *arg)
{
    helper *h = arg;

    if (!sw_proof_begin(&h->p, &h->st))
        read_bands(&h->p, h->rank, h->dir, h->cancel, h->failed, &h->st);
    return NULL;
}

sw_code sw_proof_read(sw_proof *p, uint32_t rank, bool two, const char *dir, const volatile int *cancel,
                      sw_status *st)
{
    atomic_bool failed = false;
    helper h = { .p = { .view = p->view,
                        .l = p->l,
                        .sched = p->sched,
                        .hashes = p->hashes,
                        .heads = p->heads,
                        .sha256 = p->sha256 },
                 .rank = rank + 1,
                 .dir = dir,
                 .cancel = cancel,
                 .failed = &failed,
                 .st = SW_STATUS_INIT };
    pthread_t thread;
    bool apart = two && sw_thread_start(&thread, help, &h) == 0;

    read_bands(p, rank, dir, cancel, &failed, st);
    if (apart)
        pthread_join(thread, NULL);
    else if (two && !st->code)
        help(&h);
    /* What the other has found is this one's, too. */
    if (!st->code)
        *st = h.st;
    sw_buf_add(&p->pieces, h.p.pieces.data, h.p.pieces.len, st);
    sw_buf_add(&p->torn, h.p.torn.data, h.p.torn.len, st);
    sw_buf_add(&p->files, h.p.files.data, h.p.files.len, st);
    sw_proof_release(&h.p);
    return st->code;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* A leaf that another rank has a part of, as a piece of its own. */
static sw_code read_leaf(sw_proof *p, const torn_leaf *t, again *a, sw_status *st)
{
    const sw_layout_file *file = &p->l->files[t->file];
    piece r = { t->slot, t->leaf, 1, false, SW_CENSUS_INIT };
    uint64_t from = t->leaf * SW_LEAF, size = sw_min(SW_LEAF, slot_bytes(p, t->slot) - from), n;
    uint64_t at = 8 + file->header_len + p->l->order[t->slot].begin + from;
    unsigned char hash[SW_XXH3_BYTES];

    sw_digest_begin(p->leaf, st);
    for (uint64_t done = 0; done < size && !st->code; done += n) {
        n = sw_min(p->chunk, size - done);
        if (!sw_fd_read_at(a->fd, a->name, a->chunk, n, at + done, st))
            sw_digest_add(p->leaf, a->chunk, n, st);
    }
    if (st->code || sw_digest_end(p->leaf, hash, st) || sw_buf_add(&p->pieces, &r, sizeof r, st))
        return st->code;
    return sw_buf_add(&p->pieces, hash, sizeof hash, st);
}

/* Leaves that several ranks have written parts of: one rank reads them again. */
static sw_code read_leaves(sw_proof *p, const char *dir, again *a, sw_status *st)
{
    const torn_leaf *torn = (const void *)p->torn.data;

    for (size_t i = 0; i < p->torn.len / sizeof *torn && !st->code; i++) {
        if (!sw_check_cancel(a->cancel, st) && !open_again(a, p, dir, (uint32_t)torn[i].file, st))
            read_leaf(p, &torn[i], a, st);
        close_again(a, st);
    }
    return st->code;
}

/* A file that no rank had all of: all of it, or what is asked for. */
static sw_code read_file(sw_proof *p, uint32_t f, again *a, sw_status *st)
{
    const sw_layout_file *file = &p->l->files[f];
    uint64_t size = p->sha256 ? file->size : 8 + file->header_len;

    p->at_file = f;
    for (uint64_t at = 0, n; at < size && !st->code; at += n) {
        n = sw_min(p->chunk, size - at);
        if (!sw_check_cancel(a->cancel, st) && !sw_fd_read_at(a->fd, a->name, a->chunk, n, at, st))
            show_file(p, (sw_region){ at, at + n }, a->chunk, st);
    }
    return st->code || p->sha256 ? st->code : end_file(p, f, st);
}

/* Those that several ranks have written: whole files to ranks, by size. */
static sw_code read_files(sw_proof *p, const sw_comm *comm, const char *dir, again *a, sw_status *st)
{
    const sw_schedule_rule rule = { (uint32_t)comm->size, BLOCK, BLOCK, false, true };
    sw_schedule s = { 0 };

    if (sw_schedule_build(p->l, &rule, &s, st))
        return st->code;
    for (uint32_t f = 0; f < p->l->nfiles && !st->code; f++) {
        if (p->l->files[f].size == 0 || is_shown_whole(p, f) || s.groups[f].rank0 != (uint32_t)comm->rank)
            continue;
        if (!open_again(a, p, dir, f, st))
            read_file(p, f, a, st);
        close_again(a, st);
    }
    sw_schedule_release(&s);
    return st->code;
}

/* ---- all ranks' ------------------------------------------------------------------------------ */

/* A record in the pieces, where its hashes stand behind it. */
typedef struct found {
    uint64_t slot, first, at;
} found;

/* For qsort. */
static int by_slot(const void *a, const void *b)
{
    const found *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ x->slot, x->first }, (const uint64_t[]){ y->slot, y->first }, 2);
}

/* Where the records of all ranks begin, by slot. */
static found *sort_pieces(const sw_buf *all, size_t *n, sw_status *st)
{
    found *list = NULL;
    size_t cap = 0;
    piece r;

    *n = 0;
    for (size_t at = 0; at < all->len && !sw_grow(&list, &cap, (uint64_t)*n + 1, sizeof *list, st);
         at += sizeof r + (size_t)(r.all ? 1 : r.n) * SW_XXH3_BYTES) {
        memcpy(&r, all->data + at, sizeof r);
        list[(*n)++] = (found){ r.slot, r.first, at };
    }
    sw_sort(list, *n, sizeof *list, by_slot);
    return list;
}

/* The pieces list[0..n) of one slot, leaf after leaf. */
static sw_code join_slot(sw_proof *p, const sw_buf *all, const found *list, size_t n, sw_status *st)
{
    sw_proof_slot *slot = &p->slots[list[0].slot];
    uint64_t leaves = 0;
    bool done = false;

    p->leaves.len = 0;
    for (size_t i = 0; i < n && !st->code; i++) {
        const char *hashes = all->data + list[i].at + sizeof(piece);
        piece r;

        memcpy(&r, all->data + list[i].at, sizeof r);
        sw_census_join(&slot->census, &r.census);
        if (r.all)
            memcpy(slot->hash, hashes, sizeof slot->hash);
        else if (r.n && r.first != leaves)
            return sw_fail(st, SW_EINTERNAL, NULL, NULL, "leaves of a tensor have not been hashed");
        else
            sw_buf_add(&p->leaves, hashes, r.n * SW_XXH3_BYTES, st);
        done = done || r.all;
        leaves += r.n;
    }
    if (!p->hashes || st->code || done)
        return st->code;
    if (leaves != count_leaves(slot_bytes(p, list[0].slot)))
        return sw_fail(st, SW_EINTERNAL, NULL, NULL, "leaves of a tensor have not been hashed");
    join_leaves(p->leaves.data, leaves, slot->hash);
    return SW_OK;
}

void sw_proof_slot_init(sw_proof_slot *s, bool hashes)
{
    *s = (sw_proof_slot){ .census = SW_CENSUS_INIT };
    if (hashes)
        sw_xxh3("", 0, s->hash);
}

/* Rank 0. What all have found. */
static sw_code join(sw_proof *p, const sw_buf *pieces, const sw_buf *files, sw_status *st)
{
    const file_record *record = (const void *)files->data;
    found *list = NULL;
    size_t n = 0, same;

    p->slots = sw_calloc(p->l->nslots, sizeof *p->slots, st);
    p->of_files = sw_calloc(p->l->nfiles, sizeof *p->of_files, st);
    for (uint32_t i = 0; !st->code && i < p->l->nslots; i++)
        sw_proof_slot_init(&p->slots[i], p->hashes); /* of what is empty nothing comes */
    for (uint32_t f = 0; !st->code && p->heads && f < p->l->nfiles; f++)
        sw_xxh3("", 0, p->of_files[f].head); /* nor of such a file */
    for (size_t i = 0; !st->code && i < files->len / sizeof *record; i++)
        p->of_files[record[i].file] = record[i].proof;
    if (!st->code)
        list = sort_pieces(pieces, &n, st);
    for (size_t i = 0; i < n && !st->code; i += same) {
        for (same = 1; i + same < n && list[i + same].slot == list[i].slot;)
            same++;
        join_slot(p, pieces, list + i, same, st);
    }
    free(list);
    return st->code;
}

sw_code sw_proof_end(sw_proof *p, const sw_comm *comm, const char *dir, const volatile int *cancel,
                     sw_status *st)
{
    sw_gathering g[2] = { { .mine = &p->pieces }, { .mine = &p->files } };
    again a = { .fd = -1, .cancel = cancel };

    if (!st->code)
        end_region(p, st);
    if (!st->code && dir && (a.chunk = sw_calloc(p->chunk, 1, st)) && !read_leaves(p, dir, &a, st) &&
        p->heads)
        read_files(p, comm, dir, &a, st);
    free(a.chunk);
    if (!sw_comm_gather_kinds(comm, g, 2, st) && comm->rank == 0)
        join(p, &g[0].all, &g[1].all, st);
    sw_gathering_release(g, 2);
    return sw_agree(comm, st);
}
