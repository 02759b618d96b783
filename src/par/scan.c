/* Which files are the input; see scan.h. */
#include "par/scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "base/ranges.h"
#include "base/sort.h"
#include "dir/front.h"
#include "dir/guess.h"
#include "par/gather.h"
#include "par/strays.h"

static const char hint_outside[] = "an index of another directory, or one that was written by hand";
static const char hint_index[] =
    "the index cannot be read: it was cut short, or is no JSON: copy it again, or write it again by welding "
    "the files";
static const char hint_lacks[] = "the file was not copied or downloaded, the job was killed before it was "
                                 "written, or the index is that of another save";
static const char hint_two[] = "files of two saves lie in one directory: remove those of the other save";
static const char hint_no_file[] = "something else has the name of a shard file: remove or rename it";

/* Side files are read whole: no map of a real checkpoint comes near this. */
#define SIDE_MAX (UINT64_C(1) << 30)

static const char *not_a_file(sw_path_kind kind)
{
    return kind == SW_PATH_DANGLING ? "a link that leads nowhere"
           : kind == SW_PATH_DIR    ? "a directory, not a file"
                                    : "not a regular file";
}

/* ---- side files ------------------------------------------------------------------------------ */

/* Rank 0. */
static sw_code read_side(const char *path, const char *show, const sw_pipes *pipes, sw_side *out,
                         sw_status *st)
{
    bool missing = false;
    sw_path_kind kind;

    if (sw_path_stat(path, &kind, NULL, st) || kind == SW_PATH_MISSING)
        return st->code;
    if (kind == SW_PATH_DIR || kind == SW_PATH_DANGLING || (kind == SW_PATH_OTHER && !pipes))
        return sw_fail(st, pipes && kind == SW_PATH_DANGLING ? SW_EUSAGE : SW_EINPUT, show, NULL, "%s",
                       not_a_file(kind));
    if (pipes)
        sw_path_read_any(path, SIDE_MAX, pipes->cancel, &out->text, st);
    else
        sw_path_read(path, show, SIDE_MAX, &out->text, &missing, st);
    out->there = !missing;
    return st->code;
}

sw_code sw_scan_side(const sw_comm *comm, const char *path, const char *show, const sw_pipes *pipes,
                     sw_side *out, sw_status *st)
{
    if (comm->rank == 0)
        read_side(path, show, pipes, out, st);
    if (sw_agree(comm, st) || sw_comm_bcast(comm, &out->there, sizeof out->there, 0, st))
        return st->code;
    if (sw_comm_bcast_buf(comm, &out->text, 0, st))
        return st->code;
    /* An empty file is a text, too. */
    sw_buf_reserve(&out->text, 1, st);
    return sw_agree(comm, st);
}

sw_code sw_scan_option_file(const sw_comm *comm, const char *path, const volatile int *cancel, sw_buf *text,
                            sw_status *st)
{
    const sw_pipes pipes = { cancel };
    sw_side side = { 0 };

    if (!sw_scan_side(comm, path, path, &pipes, &side, st) && !side.there)
        sw_fail(st, SW_EUSAGE, path, NULL, "no such file");
    *text = side.text;
    return st->code;
}

static sw_code scan_side_in(const sw_comm *comm, const char *dir, const char *name, sw_side *out,
                            sw_status *st)
{
    char *path = sw_path_join(dir, name, st);

    if (sw_agree(comm, st) == SW_OK)
        sw_scan_side(comm, path, name, NULL, out, st);
    free(path);
    return st->code;
}

/* With a list of findings: names that lead elsewhere are told of and left out. */
static sw_code check_below(const char *index, sw_map *map, sw_findings *findings, sw_status *st)
{
    size_t kept = 0;

    for (size_t i = 0; i < map->n && !st->code; i++) {
        sw_map_item *item = &map->items[i];

        if (sw_name_is_below(item->text)) {
            map->items[kept++] = *item;
            continue;
        }
        sw_fail(st, SW_EINPUT, index, item->key, "the index names '%.256s', which is not below its directory",
                item->text);
        sw_findings_take_hint(findings, hint_outside, st);
        free(item->key);
        free(item->text);
        *item = (sw_map_item){ 0 };
    }
    map->n = st->code ? map->n : kept;
    return st->code;
}

static sw_code parse_index(const sw_side *side, const char *name, sw_scan *s, sw_findings *findings,
                           sw_status *st)
{
    sw_map *map = &s->weight_map;
    sw_index_totals totals;

    if (!findings)
        return sw_index_parse(side->text.data, side->text.len, name, map, st);
    if (sw_index_parse_any(side->text.data, side->text.len, name, map, &totals, st))
        return st->code;
    s->totals = totals;
    return check_below(name, map, findings, st);
}

/* The first index with a non-empty weight_map chooses the files. */
static sw_code find_index(const sw_comm *comm, const char *dir, sw_scan *s, sw_findings *findings,
                          sw_status *st)
{
    static const char *const names[] = { SW_INDEX_NAME, SW_DIFFUSERS_INDEX_NAME };

    for (size_t i = 0; i < 2 && !s->by_index && !st->code; i++) {
        sw_side side = { 0 };

        if (!scan_side_in(comm, dir, names[i], &side, st) && side.there &&
            !parse_index(&side, names[i], s, findings, st)) {
            s->by_index = s->weight_map.n > 0;
            s->index_name = names[i];
            s->index_broken = false;
        }
        sw_buf_release(&side.text);
        sw_agree(comm, st);
        if (st->code == SW_EINPUT && !s->index_name) {
            s->index_name = names[i];
            s->index_broken = true;
        }
        sw_findings_take_hint(findings, hint_index, st);
        /* Taking needs memory, which one rank alone may lack. */
        sw_agree(comm, st);
    }
    return st->code;
}

/* ---- what this rank sees --------------------------------------------------------------------- */

/* A file as one rank sees it; its name follows with a NUL, padded to 8. */
typedef struct seen_file {
    uint64_t size, hash, dev, ino;
    int64_t mtime_ns, ctime_ns;
    uint64_t room; /* bytes that the name takes */
} seen_file;

static sw_code add_seen(const char *dir, const char *name, bool may_lack, bool with_hash, sw_buf *seen,
                        sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    size_t len = strlen(name) + 1;
    static const char zeros[8];
    seen_file f = { 0 };
    sw_path_kind kind;
    struct stat s;

    if (!path || sw_path_stat(path, &kind, &s, st))
        goto out;
    if (kind == SW_PATH_MISSING && may_lack)
        goto out;
    if (kind != SW_PATH_FILE) {
        sw_fail(st, SW_EINPUT, name, NULL, "%s",
                kind == SW_PATH_MISSING ? "the index names it, but it is missing" : not_a_file(kind));
        goto out;
    }
    f.size = (uint64_t)s.st_size;
    f.dev = (uint64_t)s.st_dev;
    f.ino = (uint64_t)s.st_ino;
    f.mtime_ns = sw_path_ns(&s.st_mtim);
    f.ctime_ns = sw_path_ns(&s.st_ctim);
    f.room = sw_round_up(len, 8);
    if (with_hash && sw_header_hash(dir, name, f.size, &f.hash, st))
        goto out;
    if (!sw_buf_add(seen, &f, sizeof f, st) && !sw_buf_add(seen, name, len, st))
        sw_buf_add(seen, zeros, f.room - len, st);
out:
    free(path);
    return st->code;
}

static bool is_candidate(const char *name, bool shards_only)
{
    sw_shard_name number;

    if (name[0] == '.' || !sw_name_ends_with(name, ".safetensors"))
        return false;
    return !shards_only || sw_shard_name_parse(name, &number);
}

static sw_code see_listed(const char *dir, const sw_dir *names, bool shards_only, bool with_hash,
                          sw_buf *seen, sw_findings *findings, sw_status *st)
{
    for (size_t i = 0; i < names->n && !st->code; i++) {
        if (!is_candidate(names->names[i], shards_only))
            continue;
        add_seen(dir, names->names[i], false, with_hash, seen, st);
        sw_findings_take_hint(findings, hint_no_file, st);
    }
    return st->code;
}

/* The files that the index names, each once. Node-local, one rank need not see them all. */
static sw_code see_indexed(const char *dir, const sw_map *map, bool node_local, sw_buf *seen,
                           sw_findings *findings, sw_status *st)
{
    const char **names = sw_calloc(map->n, sizeof *names, st);

    for (size_t i = 0; names && i < map->n; i++)
        names[i] = map->items[i].text;
    if (names)
        qsort(names, map->n, sizeof *names, sw_by_bytes);
    for (size_t i = 0; names && i < map->n && !st->code; i++) {
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            continue;
        add_seen(dir, names[i], node_local, node_local, seen, st);
        sw_findings_take_hint(findings, hint_lacks, st);
    }
    free(names);
    return st->code;
}

static sw_code list_dir(const char *dir, sw_dir *names, sw_status *st)
{
    sw_path_kind kind;

    if (sw_path_stat(dir, &kind, NULL, st))
        return st->code;
    if (kind != SW_PATH_DIR)
        return sw_fail(st, SW_EINPUT, dir, NULL, "%s",
                       kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
    return sw_dir_list(dir, names, st);
}

/* ---- what all ranks see ---------------------------------------------------------------------- */

typedef struct sighting {
    const seen_file *file;
    const char *name;
    uint32_t rank;
} sighting;

static int by_name_and_rank(const void *a, const void *b)
{
    const sighting *x = a, *y = b;
    int cmp = strcmp(x->name, y->name);

    return cmp ? cmp : (x->rank > y->rank) - (x->rank < y->rank);
}

static sw_code list_sightings(const sw_comm *comm, const sw_buf *all, const uint64_t *starts, sighting **out,
                              size_t *n, sw_status *st)
{
    size_t cap = 0;

    for (int r = 0; r < comm->size; r++) {
        for (uint64_t at = starts[r]; at < starts[r + 1];) {
            const seen_file *f = (const void *)(all->data + at);

            if (sw_grow(out, &cap, *n + 1, sizeof **out, st))
                return st->code;
            (*out)[(*n)++] = (sighting){ f, (const char *)(f + 1), (uint32_t)r };
            at += sizeof *f + f->room;
        }
    }
    if (*n > 1)
        qsort(*out, *n, sizeof **out, by_name_and_rank);
    return SW_OK;
}

/* One file of each name; several ranks that see it must see the same. */
static sw_code make_files(sw_catalog *c, const sighting *s, size_t n, sw_status *st)
{
    const sighting *first = s;
    size_t names = 0;

    if (n >= UINT32_MAX)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "too many files");
    for (size_t i = 0; i < n; i++)
        names += strlen(s[i].name) + 1;
    c->files = sw_calloc(n, sizeof *c->files, st);
    c->file_names = sw_calloc(names, 1, st);
    names = 0;
    for (size_t i = 0; i < n && !st->code; i++) {
        sw_file *f = &c->files[c->nfiles];

        if (i > 0 && strcmp(s[i].name, first->name) == 0) {
            if (s[i].file->size != first->file->size || s[i].file->hash != first->file->hash)
                sw_fail(st, SW_EINPUT, s[i].name, NULL,
                        "ranks %" PRIu32 " and %" PRIu32 " see different files of this name", first->rank,
                        s[i].rank);
            continue;
        }
        first = &s[i];
        *f = (sw_file){ .name = strcpy(c->file_names + names, s[i].name),
                        .size = s[i].file->size,
                        .mtime_ns = s[i].file->mtime_ns,
                        .ctime_ns = s[i].file->ctime_ns,
                        .dev = s[i].file->dev,
                        .ino = s[i].file->ino,
                        .owner = s[i].rank };
        if (!sw_shard_name_parse(f->name, &f->number))
            sw_model_name_parse(f->name, &f->number);
        names += strlen(f->name) + 1;
        c->nfiles++;
    }
    return st->code;
}

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

/* warnings: NULL = only rank 0 has looked. */
static sw_code join_sightings(const sw_comm *comm, const sw_buf *seen, sw_catalog *c, sw_buf *warnings,
                              sw_status *st)
{
    uint64_t *starts = sw_calloc((uint64_t)comm->size + 1, sizeof *starts, st);
    sw_buf all = SW_BUF_INIT;
    sighting *s = NULL;
    size_t n = 0;

    if (sw_agree(comm, st))
        goto out;
    if (!sw_comm_gather(comm, seen, &all, starts, st) && !list_sightings(comm, &all, starts, &s, &n, st) &&
        !make_files(c, s, n, st) && warnings && n)
        warn_blind(comm, starts, warnings, st);
    sw_agree(comm, st);
out:
    free(s);
    sw_buf_release(&all);
    free(starts);
    return st->code;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Each other number of model files is told of once, at its first file. */
static sw_code check_saves(const sw_catalog *c, sw_findings *findings, sw_status *st)
{
    sw_sort_item *items = sw_calloc(c->nfiles, sizeof *items, st);

    for (uint32_t i = 0; items && i < c->nfiles; i++)
        items[i] = (sw_sort_item){ c->files[i].number.of, i };
    if (items)
        sw_sort_items(items, c->nfiles, st);
    for (uint32_t i = 0; items && i < c->nfiles && !st->code; i++) {
        const sw_file *f = &c->files[items[i].index];

        if (f->number.of == c->files[0].number.of || (i > 0 && items[i - 1].key == items[i].key))
            continue;
        sw_fail(st, SW_EINPUT, f->name, NULL,
                "of %" PRIu64 " model files, but %s is of %" PRIu64 ": two saves in one directory",
                f->number.of, c->files[0].name, c->files[0].number.of);
        sw_findings_take_hint(findings, hint_two, st);
    }
    free(items);
    return st->code;
}

/* Local. names: what lies in dir; NULL = this rank has not looked, and has no word on the cause. */
static sw_code check_names(const sw_catalog *c, const sw_scan *s, const char *dir, const sw_dir *names,
                           sw_findings *findings, sw_status *st)
{
    if (c->nfiles == 0 && !(findings && s->by_index)) {
        sw_fail(st, SW_EINPUT, dir, NULL, "holds no safetensors files%s%s", names && !findings ? ": " : "",
                names && !findings ? sw_guess_of_names(names) : "");
        return sw_findings_take_hint(findings, names ? sw_guess_of_names(names) : NULL, st);
    }
    if (s->by_shards && check_saves(c, findings, st))
        return st->code;
    /* Told of already where there is a list, and in the words of the rank that looked. */
    for (size_t i = 0; s->by_index && !findings && i < s->weight_map.n; i++) {
        const char *name = s->weight_map.items[i].text;

        if (!sw_catalog_find_file(c, name))
            return sw_fail(st, SW_EINPUT, name, NULL, "%s names it, but it is missing", s->index_name);
    }
    return SW_OK;
}

sw_code sw_scan_assign(sw_catalog *c, int nranks, sw_status *st)
{
    uint64_t total = 0, before = 0, share;

    for (uint32_t i = 0; i < c->nfiles; i++)
        if (!sw_add(total, c->files[i].size, &total))
            return sw_fail(st, SW_EINPUT, c->files[i].name, NULL, "the sizes of the files overflow");
    share = total / (uint64_t)nranks + 1;
    for (uint32_t i = 0; i < c->nfiles; i++) {
        c->files[i].owner = (uint32_t)((before + c->files[i].size / 2) / share);
        before += c->files[i].size;
    }
    return SW_OK;
}

/* Does any rank see a name of torch's form? */
static sw_code any_shards(const sw_comm *comm, const sw_dir *names, bool *any, sw_status *st)
{
    uint64_t mine = 0, *all = sw_calloc((uint64_t)comm->size, sizeof *all, st);

    for (size_t i = 0; i < names->n; i++)
        mine |= is_candidate(names->names[i], true);
    if (!sw_agree(comm, st))
        sw_comm_allgather(comm, &mine, sizeof mine, all, st);
    *any = false;
    for (int r = 0; r < comm->size && !st->code; r++)
        *any = *any || all[r];
    free(all);
    return st->code;
}

typedef sw_code (*parse_map)(const char *json, size_t len, const char *file, sw_map *out, sw_status *st);

static sw_code scan_map(const sw_comm *comm, const char *dir, const char *name, parse_map parse, bool *there,
                        sw_map *out, sw_findings *findings, sw_status *st)
{
    sw_side side = { 0 };

    *there = !scan_side_in(comm, dir, name, &side, st) && side.there &&
             !parse(side.text.data, side.text.len, name, out, st);
    sw_buf_release(&side.text);
    sw_agree(comm, st);
    sw_findings_take(findings, st);
    return sw_agree(comm, st);
}

/* The maps in .hf_metadata: what is wrong with them is wrong, whoever needs them. */
static sw_code scan_maps(const sw_comm *comm, const char *dir, sw_scan *out, sw_findings *findings,
                         sw_status *st)
{
    if (scan_map(comm, dir, SW_FILE_MAP_NAME, sw_map_parse_numbers, &out->has_file_map, &out->file_map,
                 findings, st))
        return st->code;
    return scan_map(comm, dir, SW_DTYPE_MAP_NAME, sw_map_parse_texts, &out->has_dtype_map, &out->dtype_map,
                    findings, st);
}

sw_code sw_scan_dir(const sw_comm *comm, const char *dir, bool node_local, sw_catalog *c, sw_scan *out,
                    sw_findings *findings, sw_status *st)
{
    bool looks = comm->rank == 0 || node_local;
    sw_buf seen = SW_BUF_INIT;
    sw_dir names = { 0 };
    sw_strays strays = { dir, &names, c, false, &out->warnings };

    if (looks)
        list_dir(dir, &names, st);
    if (sw_agree(comm, st) || any_shards(comm, &names, &out->by_shards, st))
        goto out;
    if (!out->by_shards && find_index(comm, dir, out, findings, st))
        goto out;
    strays.by_shards = out->by_shards;
    if (looks && out->by_index)
        see_indexed(dir, &out->weight_map, node_local, &seen, findings, st);
    else if (looks)
        see_listed(dir, &names, out->by_shards, node_local, &seen, findings, st);
    if (join_sightings(comm, &seen, c, node_local ? &out->warnings : NULL, st))
        goto out;
    if (!check_names(c, out, dir, looks ? &names : NULL, findings, st) && !node_local)
        sw_scan_assign(c, comm->size, st);
    if (sw_agree(comm, st) || (!out->by_index && sw_strays_check(comm, &strays, findings, st)))
        goto out;
    if (!scan_maps(comm, dir, out, findings, st) && findings)
        sw_findings_gather(comm, findings, st);
out:
    sw_buf_release(&seen);
    sw_dir_release(&names);
    return st->code;
}

/* Rank 0. */
static sw_code see_one(const char *dir, const char *name, sw_buf *seen, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_path_kind kind;

    if (path && !sw_path_stat(path, &kind, NULL, st)) {
        if (kind == SW_PATH_FILE)
            add_seen(dir, name, false, false, seen, st);
        else
            sw_fail(st, SW_EINPUT, path, NULL, "%s",
                    kind == SW_PATH_MISSING ? "no such file or directory" : not_a_file(kind));
    }
    free(path);
    return st->code;
}

sw_code sw_scan_file(const sw_comm *comm, const char *dir, const char *name, sw_catalog *c, sw_status *st)
{
    sw_buf seen = SW_BUF_INIT;

    if (comm->rank == 0)
        see_one(dir, name, &seen, st);
    if (!join_sightings(comm, &seen, c, NULL, st))
        c->part = true;
    sw_buf_release(&seen);
    return st->code;
}

void sw_scan_release(sw_scan *s)
{
    sw_map_release(&s->weight_map);
    sw_map_release(&s->file_map);
    sw_map_release(&s->dtype_map);
    sw_buf_release(&s->warnings);
    *s = (sw_scan){ 0 };
}
