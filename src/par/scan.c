/* Which files are the input; see scan.h. */
#include "par/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/ranges.h"
#include "dir/strays.h"
#include "par/gather.h"

/* Files that options name are read whole. */
#define OPTION_MAX (UINT64_C(1) << 30)

/* ---- what was seen --------------------------------------------------------------------------- */

/* Node-local ranks that see nothing: their nodes may have been given another directory. */
static sw_code warn_blind(const sw_comm *comm, const uint64_t *starts, sw_buf *warnings, sw_status *st)
{
    sw_ranges blind = SW_RANGES_INIT;
    sw_buf words = SW_BUF_INIT;

    for (int r = 0; r < comm->size && !st->code; r++)
        if (starts[r] == starts[r + 1])
            sw_ranges_add(&blind, (uint64_t)r, (uint64_t)r, st);
    if (blind.n && !sw_ranges_words(&blind, &words, st))
        sw_buf_add_line(warnings, st, "rank%s %.*s see%s no shard file in the directory of %s own",
                        sw_ranges_count(&blind) == 1 ? "" : "s", (int)words.len, words.data,
                        sw_ranges_count(&blind) == 1 ? "s" : "",
                        sw_ranges_count(&blind) == 1 ? "its" : "their");
    sw_buf_release(&words);
    sw_ranges_release(&blind);
    return st->code;
}

/* Collective. c->files from what each rank has seen. */
static sw_code join_seen(const sw_comm *comm, const sw_buf *seen, sw_buf *warnings, sw_catalog *c,
                         sw_status *st)
{
    sw_gathering g = { .mine = seen };

    if (!sw_comm_gather_kinds(comm, &g, 1, st) && !sw_find_files(&g.all, g.starts, comm->size, NULL, c, st) &&
        c->nfiles)
        warn_blind(comm, g.starts, warnings, st);
    sw_gathering_release(&g, 1);
    return st->code;
}

/* The same from what rank 0 has seen. room: where they go; NULL = memory of this rank's own. */
static sw_code take_seen(const sw_buf *seen, void *room, sw_catalog *c, sw_status *st)
{
    const uint64_t starts[2] = { 0, seen->len };

    return sw_find_files(seen, starts, 1, room, c, st);
}

/* Who reads which file: shares of equal bytes. */
static sw_code assign(sw_catalog *c, int nranks, sw_status *st)
{
    uint64_t total = 0, before = 0, share;

    for (uint32_t i = 0; i < c->nfiles; i++)
        if (!sw_add(total, c->files[i].size, &total))
            return sw_fail(st, SW_EINPUT, sw_file_name(&c->files[i]), NULL,
                           "the sizes of the files overflow");
    share = total / (uint64_t)nranks + 1;
    for (uint32_t i = 0; i < c->nfiles; i++) {
        c->files[i].owner = (uint32_t)((before + c->files[i].size / 2) / share);
        before += c->files[i].size;
    }
    return st->code;
}

/* Rank 0. A pipe may be waited for. */
static sw_code read_option_file(const char *path, const volatile int *cancel, sw_buf *text, sw_status *st)
{
    sw_path_kind kind;

    if (sw_path_stat(path, &kind, NULL, st))
        return st->code;
    if (kind == SW_PATH_MISSING)
        return sw_fail(st, SW_EUSAGE, path, NULL, "no such file");
    if (kind == SW_PATH_DIR || kind == SW_PATH_DANGLING)
        return sw_fail(st, kind == SW_PATH_DIR ? SW_EINPUT : SW_EUSAGE, path, NULL, "%s",
                       sw_find_not_a_file(kind));
    return sw_path_read_any(path, OPTION_MAX, cancel, text, st);
}

/* ---- the input ------------------------------------------------------------------------------- */

/* What is sent begins with it: room for the files, where they are kept once a node. 0 = what rank 0
 * has seen of them is sent behind the texts. */
typedef uint64_t files_room;

/* A text as it is sent: this, and behind it what is wrong with it, or its bytes. */
typedef struct text_head {
    uint64_t len;
    unsigned by_boxes;
    bool there, by_shards, wrong;
} text_head;

/* All texts that rank 0 has read, with what is wrong with them, to be sent. */
static sw_code pack_texts(const sw_find *f, sw_buf *b, sw_status *st)
{
    const files_room none = 0;

    sw_buf_add(b, &none, sizeof none, st);
    for (size_t i = 0; i < SW_NTEXTS && !st->code; i++) {
        const sw_side *t = &f->texts[i];
        text_head h;

        memset(&h, 0, sizeof h);
        h.wrong = t->st.code != SW_OK;
        h.len = h.wrong ? sizeof t->st : t->text.len;
        h.there = t->there;
        h.by_shards = f->by_shards;
        h.by_boxes = f->by_boxes;
        if (!sw_buf_add(b, &h, sizeof h, st))
            sw_buf_add(b, h.wrong ? (const void *)&t->st : t->text.data, h.len, st);
    }
    return st->code;
}

/* *end: where what lies behind the texts begins. */
static sw_code unpack_texts(sw_find *f, const sw_buf *b, size_t *end, sw_status *st)
{
    *end = sizeof(files_room);
    for (size_t i = 0; i < SW_NTEXTS && !st->code; i++) {
        sw_side *t = &f->texts[i];
        const char *bytes;
        text_head h;

        memcpy(&h, b->data + *end, sizeof h);
        bytes = b->data + *end + sizeof h;
        t->there = h.there;
        f->by_shards = h.by_shards;
        f->by_boxes = h.by_boxes;
        if (h.wrong)
            memcpy(&t->st, bytes, sizeof t->st);
        /* An empty file is a text, too. */
        else if (h.there && !sw_buf_reserve(&t->text, h.len + 1, st))
            sw_buf_add(&t->text, bytes, h.len, st);
        *end += sizeof h + h.len;
    }
    return st->code;
}

/* Collective. What rank 0 has read, and mostly what it has seen, is taken by the others.
 *   room  rank 0's; out: the same on every rank, 0 after an error of all */
static sw_code share_found(const sw_comm *comm, sw_find *f, sw_buf *packed, sw_buf *seen, files_room *room,
                           sw_status *st)
{
    size_t at;

    if (comm->rank == 0 && !st->code)
        memcpy(packed->data, room, sizeof *room);
    if (comm->rank == 0 && *room == 0)
        sw_buf_add(packed, seen->data, seen->len, st);
    *room = 0;
    if (sw_comm_bcast_buf(comm, packed, 0, st))
        return st->code;
    memcpy(room, packed->data, sizeof *room);
    if (comm->rank != 0 && !unpack_texts(f, packed, &at, st))
        sw_buf_add(seen, packed->data + at, packed->len - at, st);
    return st->code;
}

/* ---- files that a node has once -------------------------------------------------------------- */

/* So many bytes of files times ranks are worth a window. */
#define SHARE_LEAST (UINT64_C(256) << 10)

/* What lies there. */
typedef struct shared_files {
    uint64_t n;
    sw_file files[];
} shared_files;

/* Rank 0. The room that they take; 0 = each rank has its own. */
static files_room room_for(const sw_comm *comm, const sw_where *where, const sw_buf *seen)
{
    uint64_t room = sw_find_room(seen);

    bool little = room < SHARE_LEAST / (uint64_t)comm->size;

    return !where->shares || comm->size == 1 || !sw_comm_layer(comm) || little ? 0
                                                                               : sizeof(shared_files) + room;
}

/* Collective, also after an error. The first rank of each node makes the files, and all ranks of it
 * have them: then seen, rank 0's, is released. Where a node cannot, each rank gets what rank 0 has
 * seen. */
static sw_code share_files(const sw_comm *comm, sw_shares *shares, sw_buf *seen, files_room room,
                           sw_catalog *c, sw_status *st)
{
    const sw_nodes *nodes = &shares->nodes;
    uint64_t cannot;
    bool leads;
    shared_files *shared;

    if (sw_nodes_find(comm, &shares->nodes, st))
        return st->code;
    leads = sw_nodes_lead(nodes);
    if (leads && nodes->leaders.size > 1)
        sw_comm_bcast_buf(&nodes->leaders, seen, 0, st);
    if (sw_agree(comm, st))
        return st->code;
    sw_share_new(nodes, room, &shares->files, st);
    shared = shares->files.data;
    cannot = !shared;
    if (sw_agree_most(comm, &cannot, 1, st))
        return st->code;
    if (cannot) {
        sw_shares_end(shares, false);
        return sw_comm_bcast_buf(comm, seen, 0, st);
    }
    if (leads && !take_seen(seen, shared->files, c, st))
        assign(c, comm->size, st);
    if (leads)
        shared->n = c->nfiles;
    sw_buf_release(seen);
    sw_share_show(&shares->files, st);
    if (sw_agree(comm, st))
        return st->code;
    c->files = shared->files;
    c->nfiles = (uint32_t)shared->n;
    c->files_lent = true;
    return SW_OK;
}

/* Collective. Almost-shards: soft ones make a line, the same on every rank that speaks. */
static sw_code check_strays(const sw_comm *comm, const sw_where *where, const sw_catalog *c, sw_find *f,
                            sw_findings *findings, sw_status *st)
{
    sw_findings soft = SW_FINDINGS_INIT;

    if (!st->code && !f->by_index && !f->by_boxes)
        sw_strays_judge(f, where->dir, c, &soft, findings, st);
    if (where->node_local)
        sw_findings_gather(comm, &soft, st);
    if (!st->code)
        sw_strays_tell(&soft, &f->warnings, st);
    sw_findings_release(&soft);
    return st->code;
}

/* Rank 0. What is wrong with a text counts when its turn comes. */
static void read_texts(const sw_where *where, sw_find *f)
{
    sw_side *t = &f->texts[SW_TEXT_BOXES];

    if (where->boxes && !read_option_file(where->boxes, where->cancel, &t->text, &t->st))
        t->there = !sw_buf_reserve(&t->text, 1, &t->st);
    sw_find_read_texts(f, where->dir);
}

/* Collective, where rank 0 looks for all. */
static sw_code find_shared(const sw_comm *comm, const sw_where *where, sw_catalog *c, sw_find *out,
                           sw_findings *findings, sw_status *st)
{
    const char *dir = where->dir;
    sw_buf packed = SW_BUF_INIT, seen = SW_BUF_INIT;
    files_room room = 0;

    if (comm->rank == 0 && !sw_find_list(out, dir, st)) {
        read_texts(where, out);
        if ((comm->size == 1 || !pack_texts(out, &packed, st)) && !sw_find_take_index(out, findings, st) &&
            !sw_find_choose(out, dir, false, &seen, findings, st))
            room = room_for(comm, where, &seen);
    }
    if (comm->size > 1)
        share_found(comm, out, &packed, &seen, &room, st);
    sw_buf_release(&packed);
    if (!st->code && comm->rank != 0)
        sw_find_take_index(out, findings, st);
    if (room)
        share_files(comm, where->shares, &seen, room, c, st);
    if (!st->code && !c->files_lent && !take_seen(&seen, NULL, c, st))
        assign(c, comm->size, st);
    sw_buf_release(&seen);
    return st->code;
}

/* Collective, where each rank looks for itself; the texts are rank 0's. */
static sw_code find_apart(const sw_comm *comm, const sw_where *where, sw_catalog *c, sw_find *out,
                          sw_findings *findings, sw_status *st)
{
    const char *dir = where->dir;
    sw_buf packed = SW_BUF_INIT, seen = SW_BUF_INIT;
    files_room none = 0;
    uint64_t by_shards;

    sw_find_list(out, dir, st);
    /* Does any rank see a name of torch's form? Then all go by these. */
    by_shards = out->by_shards;
    if (!sw_agree_most(comm, &by_shards, 1, st)) {
        out->by_shards = by_shards != 0;
        if (comm->rank == 0) {
            read_texts(where, out);
            pack_texts(out, &packed, st);
        }
        if (!share_found(comm, out, &packed, &seen, &none, st) && !sw_find_take_index(out, findings, st))
            sw_find_choose(out, dir, true, &seen, findings, st);
        join_seen(comm, &seen, &out->warnings, c, st);
    }
    sw_buf_release(&packed);
    sw_buf_release(&seen);
    return st->code;
}

sw_code sw_scan_dir(const sw_comm *comm, const sw_where *where, sw_catalog *c, sw_find *out,
                    sw_findings *findings, sw_status *st)
{
    bool each = where->node_local, looks = each || comm->rank == 0;

    out->boxes = where->boxes;
    out->anywhere = where->anywhere;
    out->everything = where->everything;
    if (each)
        find_apart(comm, where, c, out, findings, st);
    else
        find_shared(comm, where, c, out, findings, st);
    if (!st->code)
        sw_find_check(out, where->dir, looks, c, findings, st);
    if (out->by_boxes && !st->code) {
        /* The list goes to who looks into the files. */
        c->list = out->texts[SW_TEXT_BOXES].text;
        out->texts[SW_TEXT_BOXES].text = (sw_buf)SW_BUF_INIT;
        c->model = *sw_boxlist_chosen(&c->list);
        sw_boxlist_values(&c->list, &c->nvalues, &c->values, st);
    }
    if (!check_strays(comm, where, c, out, findings, st))
        sw_find_take_maps(out, findings, st);
    if (!sw_agree(comm, st) && findings)
        sw_findings_gather(comm, findings, st);
    sw_dir_release(&out->names);
    return st->code;
}

sw_code sw_scan_operand(const sw_comm *comm, const char *path, char **dir, char **name, sw_status *st)
{
    sw_path_kind kind = SW_PATH_MISSING;
    bool is_dir;

    if (comm->rank == 0 && !sw_path_stat(path, &kind, NULL, st) &&
        (kind == SW_PATH_MISSING || kind == SW_PATH_DANGLING))
        sw_fail(st, SW_EINPUT, path, NULL, "%s",
                kind == SW_PATH_MISSING ? "no such file or directory" : "a link that leads nowhere");
    is_dir = kind == SW_PATH_DIR;
    if (sw_agree(comm, st) || sw_comm_bcast(comm, &is_dir, sizeof is_dir, 0, st))
        return st->code;
    *dir = is_dir ? sw_strdup(path, st) : sw_path_dir(path, st);
    if (!is_dir)
        *name = sw_strdup(sw_path_name(path), st);
    return sw_agree(comm, st);
}

sw_code sw_scan_file(const sw_comm *comm, const char *dir, const char *name, sw_catalog *c, sw_status *st)
{
    sw_buf seen = SW_BUF_INIT;
    sw_path_kind kind;
    char *path = sw_path_join(dir, name, st);

    if (comm->rank == 0 && path && !sw_find_see(dir, name, false, &seen, &kind, st) && kind != SW_PATH_FILE)
        sw_fail(st, SW_EINPUT, path, NULL, "%s",
                kind == SW_PATH_MISSING ? "no such file or directory" : sw_find_not_a_file(kind));
    if (!sw_comm_bcast_buf(comm, &seen, 0, st))
        take_seen(&seen, NULL, c, st);
    if (!sw_agree(comm, st))
        c->part = true;
    sw_buf_release(&seen);
    free(path);
    return st->code;
}

sw_code sw_scan_option_file(const sw_comm *comm, const char *path, const volatile int *cancel, sw_buf *text,
                            sw_status *st)
{
    if (comm->rank == 0)
        read_option_file(path, cancel, text, st);
    if (!sw_comm_bcast_buf(comm, text, 0, st))
        sw_buf_reserve(text, 1, st); /* an empty file is a text, too */
    return sw_agree(comm, st);
}

/* ---- a plain checkpoint ---------------------------------------------------------------------- */

/* Collective. The headers of what rank 0 has seen. */
static sw_code read_plain(const sw_comm *comm, sw_plain *p, sw_buf *seen, sw_findings *findings,
                          sw_status *st)
{
    sw_headers headers = { .dir = p->dir, .cancel = p->cancel };

    if (!sw_comm_bcast_buf(comm, seen, 0, st))
        take_seen(seen, NULL, &p->c, st);
    /* Whatever an index may name: these are no shards. */
    for (uint32_t i = 0; i < p->c.nfiles; i++)
        sw_model_name_parse(sw_file_name(&p->c.files[i]), &p->c.files[i].number);
    if (!st->code)
        assign(&p->c, comm->size, st);
    return sw_gather_catalog(comm, &headers, &p->c, findings, st);
}

sw_code sw_scan_plain(const sw_comm *comm, sw_plain *p, const sw_plain_rule *rule, sw_findings *findings,
                      sw_status *st)
{
    sw_buf seen = SW_BUF_INIT;

    if (comm->rank == 0)
        sw_find_plain(&p->found, p->dir, rule, &seen, findings, st);
    read_plain(comm, p, &seen, findings, st);
    sw_buf_release(&seen);
    return st->code;
}

sw_code sw_scan_plain_files(const sw_comm *comm, sw_plain *p, const char *const *names, size_t n,
                            sw_findings *findings, sw_status *st)
{
    sw_buf seen = SW_BUF_INIT;

    for (size_t i = 0; comm->rank == 0 && i < n && !st->code; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            sw_find_see_plain(p->dir, names[i], &seen, findings, st);
    read_plain(comm, p, &seen, findings, st);
    sw_buf_release(&seen);
    return st->code;
}

/* Is the file the one that was seen? */
static bool is_same(const sw_file *f, sw_path_kind kind, const struct stat *s)
{
    return kind == SW_PATH_FILE && f->size == (uint64_t)s->st_size && f->dev == (uint64_t)s->st_dev &&
           f->ino == (uint64_t)s->st_ino && f->mtime_ns == sw_path_ns(&s->st_mtim);
}

sw_code sw_plain_look_again(const sw_plain *p, bool *changed, sw_status *st)
{
    for (uint32_t i = 0; i < p->c.nfiles && !st->code; i++) {
        const sw_file *f = &p->c.files[i];
        sw_path_kind kind;
        struct stat s;

        if (!sw_path_stat_in(p->dir, sw_file_name(f), &kind, &s, st) && !is_same(f, kind, &s))
            changed[i] = true;
    }
    return st->code;
}

void sw_plain_release(sw_plain *p)
{
    sw_catalog_release(&p->c);
    sw_find_release(&p->found);
}
