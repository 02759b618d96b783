/* Finding the checkpoint in a directory; see find.h. */
#include "dir/find.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"
#include "dir/assets.h"
#include "dir/existing.h"
#include "dir/front.h"
#include "dir/guess.h"
#include "format/boxlist.h"

static const char hint_outside[] = "an index of another directory, or one that was written by hand";
static const char hint_index[] =
    "the index cannot be read: it was cut short, or is no JSON: copy it again, or write it again by welding "
    "the files";
static const char hint_lacks[] = "the file was not copied or downloaded, the job was killed before it was "
                                 "written, or the index is that of another save";
static const char hint_lacks_item[] =
    "the file was not copied or downloaded, or what names it is that of another save";
static const char hint_lacks_box[] = "the list is of another directory, or the file was not copied";
static const char hint_two[] = "files of two saves lie in one directory: remove those of the other save";
static const char hint_no_file[] = "something else has the name of a shard file: remove or rename it";

/* Texts are read whole: no map of a real checkpoint comes near this. */
#define TEXT_MAX (UINT64_C(1) << 30)

static const char *const text_names[SW_TEXT_BOXES] = { SW_INDEX_NAME, SW_DIFFUSERS_INDEX_NAME,
                                                       SW_FILE_MAP_NAME, SW_DTYPE_MAP_NAME };

/* Names that were chosen; the texts are the directory's or the map's. */
typedef struct list {
    const char **names;
    size_t n, cap;
} list;

const char *sw_find_not_a_file(sw_path_kind kind)
{
    return kind == SW_PATH_DANGLING ? "a link that leads nowhere"
           : kind == SW_PATH_DIR    ? "a directory, not a file"
                                    : "not a regular file";
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A shard, by torch's form of names. */
static bool is_shard(const char *name)
{
    return sw_shard_name_parse(name, NULL);
}

/* A consolidated file that is one of several. */
static bool is_numbered(const char *name)
{
    return sw_model_name_parse(name, NULL);
}

/* Any file of weights that is not hidden. */
static bool is_weights(const char *name)
{
    return name[0] != '.' && sw_name_ends_with(name, ".safetensors");
}

/* One more name, which is not copied. */
static sw_code add_name(list *l, const char *name, sw_status *st)
{
    if (!sw_grow(&l->names, &l->cap, l->n + 1, sizeof *l->names, st))
        l->names[l->n++] = name;
    return st->code;
}

/* The names of a directory that are so. */
static sw_code list_those(const sw_dir *dir, bool (*are)(const char *name), list *l, sw_status *st)
{
    for (size_t i = 0; i < dir->n && !st->code; i++)
        if (are(dir->names[i]))
            add_name(l, dir->names[i], st);
    return st->code;
}

/* The files that the index names. */
static sw_code list_indexed(const sw_find *f, list *l, sw_status *st)
{
    return sw_map_files(&f->weight_map, &l->names, &l->n, st);
}

/* A file of a distributed checkpoint. */
static bool is_distcp(const char *name)
{
    return sw_name_ends_with(name, ".distcp");
}

/* Is any name of this kind? */
static bool any(const sw_dir *dir, bool (*are)(const char *name))
{
    for (size_t i = 0; i < dir->n; i++)
        if (are(dir->names[i]))
            return true;
    return false;
}

/* ---- texts that describe a checkpoint as a whole --------------------------------------------- */

/* Beside whole weights a `.metadata` without files of its own is a remnant. */
static bool beside_items(const sw_dir *dir)
{
    return any(dir, is_distcp) || !any(dir, is_weights);
}

/* A checkpoint of whole tensors may have a file of any name beside it. */
static bool beside_parts(const sw_dir *dir)
{
    return !any(dir, sw_name_is_consolidated);
}

/* Another one is one more row, and a reader in format. */
static const struct description {
    const char *name;                     /* in the directory; NULL = f->boxes */
    bool (*counts)(const sw_dir *beside); /* where it lies beside such names */
    sw_boxlist_reader *read;
    const char *hint;       /* the usual cause where a file that it names is missing */
    const char *unfinished; /* what lies there until a save has ended */
} descriptions[] = {
    { NULL, NULL, sw_boxlines_read, hint_lacks_box, NULL },
    { SW_DCP_METADATA_NAME, beside_items, sw_dcp_list, hint_lacks_item, SW_DCP_METADATA_NAME ".tmp" },
    { SW_TC_METADATA_NAME, beside_parts, sw_tc_list, hint_lacks_item, NULL },
};

#define NDESCRIPTIONS (sizeof descriptions / sizeof *descriptions)

/* Its name, for messages too. */
static const char *description_name(const sw_find *f)
{
    const char *name = descriptions[f->by_boxes - 1].name;

    return name ? name : f->boxes;
}

/* Which text counts, of those that are there? */
static unsigned choose_description(const sw_find *f)
{
    if (f->boxes)
        return 1;
    for (unsigned i = 1; i < NDESCRIPTIONS; i++)
        if (sw_names_have(f->names.names, f->names.n, descriptions[i].name) &&
            descriptions[i].counts(&f->names))
            return 1 + i;
    return 0;
}

/* The files that a list of boxes names. */
static sw_code list_boxes(const sw_find *f, list *l, sw_status *st)
{
    const sw_buf *b = &f->texts[SW_TEXT_BOXES].text;
    sw_listed_files walk = { 0, 0 };
    const char *name;

    while (!st->code && b->len && (name = sw_boxlist_file(b, &walk)) != NULL)
        if (!f->anywhere && !sw_name_is_below(name))
            sw_fail(st, SW_EINPUT, description_name(f), NULL,
                    "file name '%.256s' is not a relative path below its directory%s", name,
                    f->boxes ? ": where files may lie anywhere, set sw_options.boxes_anywhere" : "");
        else
            add_name(l, name, st);
    return st->code;
}

/* ---- the kinds of input ---------------------------------------------------------------------- */

/* The first that is there is taken; weights are always. */
enum { BOXES, SHARDS, INDEXED, WEIGHTS };

static const struct kind {
    bool (*are)(const char *name); /* its files, of all that lie there; NULL = those of list */
    sw_code (*list)(const sw_find *f, list *l, sw_status *st);
    bool may_lack;    /* ranks with directories of their own need not see each of the files */
    const char *hint; /* the usual cause when one of them is no file; NULL = its description's */
} kinds[] = {
    [BOXES] = { NULL, list_boxes, true, NULL },
    [SHARDS] = { is_shard, NULL, false, hint_no_file },
    [INDEXED] = { NULL, list_indexed, true, hint_lacks },
    [WEIGHTS] = { is_weights, NULL, false, hint_no_file },
};

sw_code sw_find_list(sw_find *f, const char *dir, sw_status *st)
{
    sw_path_kind kind;

    if (sw_path_stat(dir, &kind, NULL, st))
        return st->code;
    if (kind != SW_PATH_DIR)
        return sw_fail(st, SW_EINPUT, dir, NULL, "%s",
                       kind == SW_PATH_MISSING ? "no such directory" : "not a directory");
    sw_dir_list(dir, &f->names, st);
    f->by_shards = !f->boxes && any(&f->names, is_shard);
    f->by_boxes = f->by_shards ? 0 : choose_description(f);
    return st->code;
}

sw_code sw_find_choose(const sw_find *f, const char *dir, bool some, sw_buf *seen, sw_findings *findings,
                       sw_status *st)
{
    const char *named = f->by_boxes ? description_name(f) : "the index", *hint;
    const struct kind *k = &kinds[f->by_boxes    ? BOXES
                                  : f->by_shards ? SHARDS
                                  : f->by_index  ? INDEXED
                                                 : WEIGHTS];
    list l = { NULL, 0, 0 };

    hint = k->hint ? k->hint : descriptions[f->by_boxes - 1].hint;
    if (f->by_boxes)
        *st = f->texts[SW_TEXT_BOXES].st;
    if (!st->code)
        k->are ? list_those(&f->names, k->are, &l, st) : k->list(f, &l, st);
    for (size_t i = 0; i < l.n && !st->code; i++) {
        sw_path_kind kind;

        if (sw_find_see(dir, l.names[i], some, seen, &kind, st) == SW_OK && kind != SW_PATH_FILE &&
            !(kind == SW_PATH_MISSING && some && k->may_lack))
            sw_fail(st, SW_EINPUT, l.names[i], NULL, "%s%s", kind == SW_PATH_MISSING ? named : "",
                    kind == SW_PATH_MISSING ? " names it, but it is missing" : sw_find_not_a_file(kind));
        sw_findings_take(findings, hint, st);
    }
    free(l.names);
    return st->code;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* One text, whatever is wrong with it; with room for a byte, so that it is never NULL. */
static void read_text(const char *dir, const char *name, sw_side *t)
{
    char *path = sw_path_join(dir, name, &t->st);
    sw_path_kind kind = SW_PATH_MISSING;
    bool missing = true;

    if (path && !sw_path_stat(path, &kind, NULL, &t->st) && kind != SW_PATH_MISSING) {
        if (kind != SW_PATH_FILE)
            sw_fail(&t->st, SW_EINPUT, name, NULL, "%s", sw_find_not_a_file(kind));
        else
            sw_path_read(path, name, TEXT_MAX, &t->text, &missing, &t->st);
        sw_buf_reserve(&t->text, 1, &t->st);
    }
    t->there = !missing && !t->st.code;
    free(path);
}

/* Was a save into this directory killed before its end? torch renames the file when all others are
 * written; those are new then, whatever an older one says of them. */
static void check_ended(const sw_find *f, sw_status *st)
{
    const char *unfinished = descriptions[f->by_boxes - 1].unfinished;

    if (unfinished && sw_names_have(f->names.names, f->names.n, unfinished))
        sw_fail(st, SW_EINPUT, unfinished, NULL,
                "a save into this directory never ended: %s is that of another one", description_name(f));
}

/* What is kept of a description is the list: of .metadata a third, and it goes to all ranks. */
static void read_boxes(sw_find *f, const char *dir, sw_side *t)
{
    sw_buf boxes = SW_BUF_INIT;

    check_ended(f, &t->st);
    if (!t->st.code && !f->boxes)
        read_text(dir, description_name(f), t);
    if (t->there &&
        !descriptions[f->by_boxes - 1].read(t->text.data, t->text.len, description_name(f), &boxes, &t->st) &&
        !f->everything)
        sw_boxlist_choose(&boxes);
    sw_buf_release(&t->text);
    t->text = boxes;
    t->there = t->there && !t->st.code;
}

void sw_find_read_texts(sw_find *f, const char *dir)
{
    for (size_t i = f->by_shards || f->by_boxes ? SW_TEXT_FILE_MAP : SW_TEXT_INDEX; i <= SW_TEXT_DTYPE_MAP;
         i++)
        read_text(dir, text_names[i], &f->texts[i]);
    if (f->by_boxes)
        read_boxes(f, dir, &f->texts[SW_TEXT_BOXES]);
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
        sw_findings_take(findings, hint_outside, st);
        free(item->key);
        free(item->text);
        *item = (sw_map_item){ 0 };
    }
    map->n = st->code ? map->n : kept;
    return st->code;
}

/* The weight_map of an index: strictly, or with findings as far as it goes, and the totals. */
static sw_code parse_index(sw_find *f, const sw_side *t, const char *name, sw_findings *findings,
                           sw_status *st)
{
    sw_index_totals totals;

    sw_map_release(&f->weight_map);
    if (!findings)
        return sw_index_parse(t->text.data, t->text.len, name, &f->weight_map, NULL, st);
    if (sw_index_parse_any(t->text.data, t->text.len, name, &f->weight_map, &totals, st))
        return st->code;
    f->totals = totals;
    return check_below(name, &f->weight_map, findings, st);
}

sw_code sw_find_take_index(sw_find *f, sw_findings *findings, sw_status *st)
{
    for (size_t i = SW_TEXT_INDEX; i <= SW_TEXT_DIFFUSERS_INDEX && !f->by_index && !st->code; i++) {
        sw_side *t = &f->texts[i];

        *st = t->st;
        if (t->there && !parse_index(f, t, text_names[i], findings, st)) {
            f->by_index = f->weight_map.n > 0;
            f->index_name = text_names[i];
            f->index_broken = false;
        } else if (st->code == SW_EINPUT && !f->index_name) {
            f->index_name = text_names[i];
            f->index_broken = true;
        }
        sw_findings_take(findings, hint_index, st);
        sw_buf_release(&t->text);
    }
    return st->code;
}

typedef sw_code (*parse_map)(const char *json, size_t len, const char *file, sw_map *out, sw_status *st);

/* One map, if its text is there; the text is let go. */
static void take_map(sw_find *f, int text, parse_map parse, bool *has, sw_map *out, sw_status *st)
{
    sw_side *t = &f->texts[text];

    if (!st->code)
        *st = t->st;
    *has = !st->code && t->there && !parse(t->text.data, t->text.len, text_names[text], out, st);
    sw_buf_release(&t->text);
}

sw_code sw_find_take_maps(sw_find *f, sw_findings *findings, sw_status *st)
{
    take_map(f, SW_TEXT_FILE_MAP, sw_map_parse_numbers, &f->has_file_map, &f->file_map, st);
    sw_findings_take(findings, NULL, st);
    take_map(f, SW_TEXT_DTYPE_MAP, sw_map_parse_texts, &f->has_dtype_map, &f->dtype_map, st);
    return sw_findings_take(findings, NULL, st);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* A file as one rank sees it; its name follows with a NUL, padded to 8. */
typedef struct seen_file {
    uint64_t size, hash, dev, ino;
    int64_t mtime_ns, ctime_ns;
    uint64_t room; /* bytes that the name takes */
} seen_file;

typedef struct sighting {
    const seen_file *file;
    const char *name;
    uint32_t rank;
} sighting;

sw_code sw_find_see(const char *dir, const char *name, bool hash, sw_buf *seen, sw_path_kind *kind,
                    sw_status *st)
{
    char *path = sw_path_named(dir, name, st);
    seen_file f = { .room = sw_text_room(strlen(name)) };
    struct stat s;

    *kind = SW_PATH_MISSING;
    if (!path || sw_path_stat(path, kind, &s, st) || *kind != SW_PATH_FILE)
        goto out;
    f.size = (uint64_t)s.st_size;
    f.dev = (uint64_t)s.st_dev;
    f.ino = (uint64_t)s.st_ino;
    f.mtime_ns = sw_path_ns(&s.st_mtim);
    f.ctime_ns = sw_path_ns(&s.st_ctim);
    if (hash && sw_front_hash(dir, name, f.size, &f.hash, st))
        goto out;
    if (!sw_buf_add(seen, &f, sizeof f, st))
        sw_buf_add_text(seen, name, strlen(name), st);
out:
    free(path);
    return st->code;
}

/* For qsort. */
static int by_name_and_rank(const void *a, const void *b)
{
    const sighting *x = a, *y = b;
    int cmp = strcmp(x->name, y->name);

    return cmp ? cmp : (x->rank > y->rank) - (x->rank < y->rank);
}

/* The records of all ranks, sorted. */
static sw_code list_sightings(const sw_buf *seen, const uint64_t *starts, int nranks, sighting **out,
                              size_t *n, sw_status *st)
{
    size_t cap = 0;

    for (int r = 0; r < nranks; r++) {
        for (uint64_t at = starts[r]; at < starts[r + 1];) {
            const seen_file *f = (const void *)(seen->data + at);

            if (sw_grow(out, &cap, *n + 1, sizeof **out, st))
                return st->code;
            (*out)[(*n)++] = (sighting){ f, (const char *)(f + 1), (uint32_t)r };
            at += sizeof *f + f->room;
        }
    }
    sw_sort(*out, *n, sizeof **out, by_name_and_rank);
    return SW_OK;
}

/* One file of each name; several ranks that see it must see the same. */
static sw_code make_files(sw_catalog *c, const sighting *s, size_t n, sw_status *st)
{
    const sighting *first = s;
    char *names = (void *)(c->files + n);

    for (size_t i = 0; i < n; i++) {
        const seen_file *is = s[i].file;
        sw_file *f = &c->files[c->nfiles];

        if (i > 0 && strcmp(s[i].name, first->name) == 0) {
            if (is->size != first->file->size || is->hash != first->file->hash)
                sw_fail(st, SW_EINPUT, s[i].name, NULL,
                        "ranks %" PRIu32 " and %" PRIu32 " see different files of this name", first->rank,
                        s[i].rank);
            continue;
        }
        first = &s[i];
        *f = (sw_file){ .size = is->size,
                        .mtime_ns = is->mtime_ns,
                        .ctime_ns = is->ctime_ns,
                        .dev = is->dev,
                        .ino = is->ino,
                        .owner = s[i].rank,
                        .broken = true };
        sw_file_set_name(f, strcpy(names, s[i].name));
        names += strlen(names) + 1;
        if (!sw_shard_name_parse(s[i].name, &f->number))
            sw_model_name_parse(s[i].name, &f->number);
        c->nfiles++;
    }
    return st->code;
}

uint64_t sw_find_room(const sw_buf *seen)
{
    uint64_t room = 0;

    for (uint64_t at = 0; at < seen->len;) {
        const seen_file *f = (const void *)(seen->data + at);

        room += sizeof(sw_file) + f->room;
        at += sizeof *f + f->room;
    }
    return room;
}

sw_code sw_find_files(const sw_buf *seen, const uint64_t *starts, int n, void *room, sw_catalog *c,
                      sw_status *st)
{
    sighting *s = NULL;
    size_t ns = 0;

    if (list_sightings(seen, starts, n, &s, &ns, st))
        goto out;
    if (ns > SW_FILES_MAX)
        sw_fail(st, SW_EINPUT, NULL, NULL, "too many files");
    c->files = room ? room : sw_calloc(sw_find_room(seen), 1, st);
    c->files_lent = room != NULL;
    if (!st->code)
        make_files(c, s, ns, st);
out:
    free(s);
    return st->code;
}

/* Each other number of model files is told of once, at its first file. */
static sw_code check_saves(const sw_catalog *c, sw_findings *findings, sw_status *st)
{
    sw_sort_item *items;
    uint32_t same = 0;

    while (same < c->nfiles && c->files[same].number.of == c->files[0].number.of)
        same++;
    if (same == c->nfiles)
        return SW_OK;
    items = sw_calloc(c->nfiles, sizeof *items, st);
    for (uint32_t i = 0; items && i < c->nfiles; i++)
        items[i] = (sw_sort_item){ c->files[i].number.of, i };
    if (items)
        sw_sort_items(items, c->nfiles, st);
    for (uint32_t i = 0; items && i < c->nfiles && !st->code; i++) {
        const sw_file *f = &c->files[items[i].index];

        if (f->number.of == c->files[0].number.of || (i > 0 && items[i - 1].key == items[i].key))
            continue;
        sw_fail(st, SW_EINPUT, sw_file_name(f), NULL,
                "of %" PRIu64 " model files, but %s is of %" PRIu64 ": two saves in one directory",
                f->number.of, sw_file_name(&c->files[0]), c->files[0].number.of);
        sw_findings_take(findings, hint_two, st);
    }
    free(items);
    return st->code;
}

sw_code sw_find_check(const sw_find *f, const char *dir, bool looked, const sw_catalog *c,
                      sw_findings *findings, sw_status *st)
{
    const sw_buf *boxes = &f->texts[SW_TEXT_BOXES].text;
    sw_listed_files walk = { 0, 0 };

    /* A list that names nothing describes no checkpoint. */
    if (f->by_boxes && (!boxes->len || !sw_boxlist_file(boxes, &walk))) {
        sw_fail(st, SW_EINPUT, description_name(f), NULL, "names no tensor");
        return sw_findings_take(findings, NULL, st);
    }
    if (c->nfiles == 0 && !(findings && (f->by_index || f->by_boxes))) {
        const char *guess = looked ? sw_guess_of_names(&f->names) : NULL;

        sw_fail(st, SW_EINPUT, dir, NULL, "holds no safetensors files%s%s", guess && !findings ? ": " : "",
                guess && !findings ? guess : "");
        return sw_findings_take(findings, guess, st);
    }
    if (f->by_shards && check_saves(c, findings, st))
        return st->code;
    /* Told of already where there is a list, and in the words of the rank that looked. */
    for (size_t i = 0; f->by_index && !findings && i < f->weight_map.n; i++) {
        const char *name = f->weight_map.items[i].text;

        if (!sw_catalog_find_file(c, name))
            return sw_fail(st, SW_EINPUT, name, NULL, "%s names it, but it is missing", f->index_name);
    }
    return st->code;
}

/* ---- a plain checkpoint ---------------------------------------------------------------------- */

/* Take the index of this name if there is one, whatever it says. */
static sw_code try_index(sw_find *f, const char *dir, const char *name, sw_findings *findings, sw_status *st)
{
    sw_side t = { 0 };

    read_text(dir, name, &t);
    *st = t.st;
    if (t.there || st->code == SW_EINPUT)
        f->index_name = name;
    if (t.there)
        sw_index_parse(t.text.data, t.text.len, name, &f->weight_map, &f->totals, st);
    f->index_broken = st->code == SW_EINPUT;
    sw_buf_release(&t.text);
    return sw_findings_take(findings, NULL, st);
}

/* The index that was asked for, else the first of the usual ones. */
static sw_code find_plain_index(sw_find *f, const char *dir, const sw_plain_rule *rule, sw_findings *findings,
                                sw_status *st)
{
    if (rule->index)
        try_index(f, dir, rule->index, findings, st);
    for (size_t i = 0; i < 2 && !f->index_name && !st->code; i++)
        try_index(f, dir, text_names[SW_TEXT_INDEX + (rule->diffusers ? 1 - i : i)], findings, st);
    return st->code;
}

/* A lone file of weights, if there is one. */
static sw_code list_lone(const sw_dir *dir, bool diffusers, list *l, sw_status *st)
{
    const char *lone = NULL;

    /* "diffusion_pytorch_model" stands before "model". */
    for (size_t i = 0; i < dir->n; i++)
        if (sw_name_is_lone(dir->names[i]) && (!lone || !diffusers))
            lone = dir->names[i];
    return lone ? add_name(l, lone, st) : st->code;
}

/* The files of the index; where there is none that can be used a lone file of the usual name; where
 * there is none the numbered ones. */
static sw_code list_plain(const sw_find *f, const char *dir, bool diffusers, list *l, sw_status *st)
{
    if (f->weight_map.n)
        list_indexed(f, l, st);
    else if (!list_lone(&f->names, diffusers, l, st) && l->n == 0)
        list_those(&f->names, is_numbered, l, st);
    if (l->n == 0 && !f->index_name && !st->code)
        sw_fail(st, SW_EINPUT, dir, NULL, "holds neither an index nor weights of a consolidated checkpoint");
    return st->code;
}

/* An index beside a lone file of weights. Other weights there are for pitfalls.h to find. */
static sw_code find_spare_index(const sw_find *f, sw_findings *findings, sw_status *st)
{
    for (size_t i = 0; !f->index_name && i < f->names.n && !st->code; i++) {
        const char *name = f->names.names[i];

        if (sw_name_is_consolidated(name) && !sw_name_ends_with(name, ".safetensors"))
            sw_findings_add(findings, name, NULL, NULL, st,
                            "an index beside a lone file of weights: some loaders go by it");
    }
    return st->code;
}

sw_code sw_find_see_plain(const char *dir, const char *name, sw_buf *seen, sw_findings *findings,
                          sw_status *st)
{
    sw_path_kind kind;

    if (!sw_find_see(dir, name, false, seen, &kind, st) && kind != SW_PATH_FILE)
        sw_findings_add(findings, name, NULL, NULL, st, "%s",
                        kind == SW_PATH_MISSING ? "is missing" : "is no regular file");
    return st->code;
}

sw_code sw_find_plain(sw_find *f, const char *dir, const sw_plain_rule *rule, sw_buf *seen,
                      sw_findings *findings, sw_status *st)
{
    list l = { NULL, 0, 0 };
    sw_path_kind kind;

    if (sw_path_stat(dir, &kind, NULL, st) || (kind == SW_PATH_DIR && sw_dir_list(dir, &f->names, st)) ||
        (rule->single && list_lone(&f->names, rule->diffusers, &l, st)))
        goto out;
    if (l.n == 0 && !find_plain_index(f, dir, rule, findings, st))
        list_plain(f, dir, rule->diffusers, &l, st);
    if (!st->code)
        find_spare_index(f, findings, st);
    for (size_t i = 0; i < l.n && !st->code; i++)
        sw_find_see_plain(dir, l.names[i], seen, findings, st);
out:
    free(l.names);
    return st->code;
}

void sw_find_release(sw_find *f)
{
    for (size_t i = 0; i < SW_NTEXTS; i++)
        sw_buf_release(&f->texts[i].text);
    sw_map_release(&f->weight_map);
    sw_map_release(&f->file_map);
    sw_map_release(&f->dtype_map);
    sw_buf_release(&f->warnings);
    sw_dir_release(&f->names);
    *f = (sw_find){ 0 };
}
