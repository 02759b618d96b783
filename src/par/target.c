/* A consolidated checkpoint, found as loaders find it; see target.h. */
#include "par/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "par/gather.h"
#include "par/scan.h"

/* ---- the index ------------------------------------------------------------------------------- */

/* Take an index that is there, whatever it says. */
static sw_code take_index(sw_target *t, const char *name, const sw_buf *text, sw_findings *findings,
                          sw_status *st)
{
    t->index_name = sw_strdup(name, st);
    if (!t->index_name)
        return st->code;
    if (sw_index_parse_totals(text->len ? text->data : "", text->len, name, &t->weight_map, &t->totals, st) ==
        SW_OK)
        return SW_OK;
    t->index_broken = true;
    return sw_findings_take(findings, st);
}

/* Something that is no file has the name of the index. */
static void take_unread(sw_target *t, const char *name, sw_status *st)
{
    t->index_name = sw_strdup(name, st);
    t->index_broken = true;
}

/* Collective. Take the index of this name if there is one. */
static sw_code try_index(const sw_comm *comm, const char *dir, const char *name, sw_target *t,
                         sw_findings *findings, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_side side = { 0 };

    if (!sw_agree(comm, st)) {
        if (sw_scan_side(comm, path, name, NULL, &side, st) == SW_EINPUT && !sw_findings_take(findings, st))
            take_unread(t, name, st);
        else if (!st->code && side.there)
            take_index(t, name, &side.text, findings, st);
    }
    sw_buf_release(&side.text);
    free(path);
    return sw_agree(comm, st);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A file as rank 0 sees it; its name follows with a NUL, padded to 8. */
typedef struct target_file {
    uint64_t size, dev, ino;
    int64_t mtime_ns;
    uint64_t room;
} target_file;

/* Rank 0. A file that is named, or a finding. */
static sw_code see_file(const char *dir, const char *name, sw_buf *seen, sw_findings *findings, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    size_t len = strlen(name) + 1;
    static const char zeros[8];
    target_file f = { .room = sw_round_up(len, 8) };
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (!path || sw_path_stat(path, &kind, &s, st))
        goto out;
    if (kind != SW_PATH_FILE) {
        sw_findings_add(findings, name, NULL, kind == SW_PATH_MISSING ? "is missing" : "is no regular file",
                        st);
        goto out;
    }
    f.size = (uint64_t)s.st_size;
    f.dev = (uint64_t)s.st_dev;
    f.ino = (uint64_t)s.st_ino;
    f.mtime_ns = sw_path_ns(&s.st_mtim);
    if (!sw_buf_add(seen, &f, sizeof f, st) && !sw_buf_add(seen, name, len, st))
        sw_buf_add(seen, zeros, f.room - len, st);
out:
    free(path);
    return st->code;
}

/* Files from what rank 0 has seen. */
static sw_code make_files(sw_catalog *c, const sw_buf *seen, sw_status *st)
{
    size_t cap = 0;

    c->file_names = sw_calloc(seen->len, 1, st);
    for (size_t at = 0, names = 0; at < seen->len && !st->code;) {
        const target_file *f = (const void *)(seen->data + at);
        const char *name = (const char *)(f + 1);

        at += sizeof *f + f->room;
        if (sw_grow(&c->files, &cap, c->nfiles + UINT64_C(1), sizeof *c->files, st))
            break;
        c->files[c->nfiles] = (sw_file){ .name = strcpy(c->file_names + names, name),
                                         .size = f->size,
                                         .mtime_ns = f->mtime_ns,
                                         .dev = f->dev,
                                         .ino = f->ino };
        sw_model_name_parse(name, &c->files[c->nfiles++].number);
        names += strlen(name) + 1;
    }
    return st->code;
}

sw_code sw_target_read(const sw_comm *comm, const char *dir, const char *const *names, size_t n,
                       const volatile int *cancel, sw_target *out, sw_findings *findings, sw_status *st)
{
    sw_buf seen = SW_BUF_INIT;
    double seconds;

    for (size_t i = 0; comm->rank == 0 && i < n && !st->code; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            see_file(dir, names[i], &seen, findings, st);
    if (sw_agree(comm, st) || sw_comm_bcast_buf(comm, &seen, 0, st))
        goto out;
    if (!make_files(&out->c, &seen, st))
        sw_scan_assign(&out->c, comm->size, st);
    if (!sw_agree(comm, st))
        sw_gather_catalog(comm, dir, cancel, &out->c, &seconds, findings, st);
out:
    sw_buf_release(&seen);
    return st->code;
}

/* ---- which ----------------------------------------------------------------------------------- */

typedef struct name_list {
    /* of the map's or the directory's texts; NULL where that comes to nothing */
    const char **names;
    size_t n, cap;
} name_list;

static sw_code add_name(name_list *list, const char *name, sw_status *st)
{
    if (!sw_grow(&list->names, &list->cap, list->n + 1, sizeof *list->names, st))
        list->names[list->n++] = name;
    return st->code;
}

/* Rank 0. A lone file of weights, if there is one. */
static sw_code list_lone(const sw_dir *dir, bool diffusers, name_list *list, sw_status *st)
{
    const char *lone = NULL;

    /* "diffusion_pytorch_model" stands before "model". */
    for (size_t i = 0; i < dir->n; i++)
        if (sw_name_is_lone(dir->names[i]) && (!lone || !diffusers))
            lone = dir->names[i];
    return lone ? add_name(list, lone, st) : SW_OK;
}

/* Rank 0. Weights under their usual names: a lone file, or where there is none the numbered
 * ones. */
static sw_code list_usual(const sw_dir *dir, bool diffusers, name_list *list, sw_status *st)
{
    if (list_lone(dir, diffusers, list, st) || list->n)
        return st->code;
    for (size_t i = 0; i < dir->n && !st->code; i++) {
        sw_shard_name number;

        if (sw_model_name_parse(dir->names[i], &number))
            add_name(list, dir->names[i], st);
    }
    return st->code;
}

static sw_code list_mapped(const sw_map *map, name_list *list, sw_status *st)
{
    for (size_t i = 0; i < map->n && !st->code; i++)
        add_name(list, map->items[i].text, st);
    if (list->n > 1)
        qsort(list->names, list->n, sizeof *list->names, sw_by_bytes);
    return st->code;
}

/* Rank 0. What is in the directory; nothing where there is none. */
static sw_code list_dir(const char *path, sw_dir *dir, sw_status *st)
{
    sw_path_kind kind;

    if (!sw_path_stat(path, &kind, NULL, st) && kind == SW_PATH_DIR)
        sw_dir_list(path, dir, st);
    return st->code;
}

/* Collective. The same yes or no on all ranks: rank 0's. */
static sw_code tell_all(const sw_comm *comm, bool *yes, sw_status *st)
{
    if (!sw_agree(comm, st))
        sw_comm_bcast(comm, yes, sizeof *yes, 0, st);
    return st->code;
}

static sw_code find_index(const sw_comm *comm, const char *dir, const sw_target_rule *rule, sw_target *t,
                          sw_findings *findings, sw_status *st)
{
    const char *const usual[] = { SW_INDEX_NAME, SW_DIFFUSERS_INDEX_NAME };

    if (rule->index)
        try_index(comm, dir, rule->index, t, findings, st);
    for (size_t i = 0; i < 2 && !t->index_name && !st->code; i++)
        try_index(comm, dir, usual[rule->diffusers ? 1 - i : i], t, findings, st);
    return st->code;
}

/* Rank 0. The files of the index, or where there is none that can be used weights by name. */
static void choose_names(const char *dir, const sw_target *t, bool diffusers, name_list *list, sw_status *st)
{
    if (t->weight_map.n)
        list_mapped(&t->weight_map, list, st);
    else
        list_usual(&t->names, diffusers, list, st);
    if (list->n == 0 && !t->index_name)
        sw_fail(st, SW_EINPUT, dir, NULL, "holds neither an index nor weights of a consolidated checkpoint");
}

/* Rank 0. An index beside a lone file of weights. Other weights there are for loader.h to find. */
static void find_strays(const sw_target *t, sw_findings *findings, sw_status *st)
{
    for (size_t i = 0; !t->index_name && i < t->names.n && !st->code; i++) {
        const char *name = t->names.names[i];

        if (sw_name_is_consolidated(name) && !sw_name_ends_with(name, ".safetensors"))
            sw_findings_add(findings, name, NULL,
                            "an index beside a lone file of weights: some loaders go by it", st);
    }
}

sw_code sw_target_open(const sw_comm *comm, const char *dir, const sw_target_rule *rule,
                       const volatile int *cancel, sw_target *out, sw_findings *findings, sw_status *st)
{
    name_list list = { NULL, 0, 0 };
    bool lone;

    if (comm->rank == 0 && !list_dir(dir, &out->names, st) && rule->single)
        list_lone(&out->names, rule->diffusers, &list, st);
    lone = list.n > 0;
    if (tell_all(comm, &lone, st) || (!lone && find_index(comm, dir, rule, out, findings, st)))
        goto out;
    if (comm->rank == 0) {
        if (!lone)
            choose_names(dir, out, rule->diffusers, &list, st);
        find_strays(out, findings, st);
    }
    if (!sw_agree(comm, st))
        sw_target_read(comm, dir, list.names, list.n, cancel, out, findings, st);
out:
    free(list.names);
    return st->code;
}

/* Is the file the one that was seen? */
static bool is_same(const sw_file *f, sw_path_kind kind, const struct stat *s)
{
    return kind == SW_PATH_FILE && f->size == (uint64_t)s->st_size && f->dev == (uint64_t)s->st_dev &&
           f->ino == (uint64_t)s->st_ino && f->mtime_ns == sw_path_ns(&s->st_mtim);
}

sw_code sw_target_look_again(const sw_target *t, const char *dir, bool *changed, sw_status *st)
{
    for (uint32_t i = 0; i < t->c.nfiles && !st->code; i++) {
        const sw_file *f = &t->c.files[i];
        char *path = sw_path_join(dir, f->name, st);
        sw_path_kind kind;
        struct stat s;

        if (path && !sw_path_stat(path, &kind, &s, st) && !is_same(f, kind, &s))
            changed[i] = true;
        free(path);
    }
    return st->code;
}

void sw_target_release(sw_target *t)
{
    sw_catalog_release(&t->c);
    sw_map_release(&t->weight_map);
    sw_dir_release(&t->names);
    free(t->index_name);
    *t = (sw_target)SW_TARGET_INIT;
}
