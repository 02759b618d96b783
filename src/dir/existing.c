/* What is already in OUTPUT_DIR; see existing.h. Names come from a directory and an index that
 * anybody may have written: nothing outside OUTPUT_DIR, behind a link or of the input may ever get
 * on this list. */
#include "dir/existing.h"

#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sort.h"
#include "dir/place.h"
#include "format/filenames.h"
#include "format/maps.h"

#define INDEX_MAX ((uint64_t)1 << 30)

/* ---- lists of names -------------------------------------------------------------------------- */

bool sw_names_have(char *const *names, size_t n, const char *name)
{
    return n > 0 && bsearch(&name, names, n, sizeof *names, sw_by_bytes);
}

bool sw_name_is_kept(const sw_dir *keep, const char *name)
{
    for (size_t i = 0; keep && i < keep->n; i++) {
        const char *kept = keep->names[i];
        size_t len = strlen(kept);

        if (strcmp(kept, name) == 0 || (len > 0 && kept[len - 1] == '/' && strncmp(name, kept, len) == 0))
            return true;
    }
    return false;
}

/* Sort, and drop repetitions and what is in keep; NULL = nothing is. */
static void tidy(sw_dir *d, const sw_dir *keep)
{
    size_t n = 0;

    sw_sort(d->names, d->n, sizeof *d->names, sw_by_bytes);
    for (size_t i = 0; i < d->n; i++)
        if ((n > 0 && strcmp(d->names[n - 1], d->names[i]) == 0) || sw_name_is_kept(keep, d->names[i]))
            free(d->names[i]);
        else
            d->names[n++] = d->names[i];
    d->n = n;
}

/* ---- the checkpoint -------------------------------------------------------------------------- */

/* An index may name anything: what is no file of weights, or is a shard, stays. */
static bool may_go(const char *name)
{
    const char *last = sw_path_name(name);

    return sw_name_ends_with(last, ".safetensors") && strncmp(last, "shard-", 6) != 0 &&
           strncmp(name, SW_STAGING_NAME, strlen(SW_STAGING_NAME)) != 0;
}

/* Add what lies at root/name if it is a file, or a link (which goes, not what it leads to), under
 * real directories only. */
static sw_code add_file(const char *root, const char *name, sw_dir *l, sw_status *st)
{
    char *path = sw_path_join(root, name, st);
    sw_path_kind kind = SW_PATH_DIR;
    struct stat s;

    for (char *slash = path ? strchr(path + strlen(root) + 1, '/') : NULL;
         slash && !st->code && kind == SW_PATH_DIR; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        sw_path_lstat(path, &kind, NULL, st);
        *slash = '/';
    }
    if (!st->code && kind == SW_PATH_DIR && !sw_path_lstat(path, &kind, &s, st) &&
        (kind == SW_PATH_FILE || (kind == SW_PATH_OTHER && S_ISLNK(s.st_mode))))
        sw_dir_add(l, name, st);
    free(path);
    return st->code;
}

/* Add the files that an index names, each looked at once. One that is no index (SW_EINPUT) names
 * none; one that cannot be read is an error, since its files would be left behind. */
static sw_code add_named(const char *dir, const char *index, sw_dir *l, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    sw_dir named = { NULL, 0, 0 };
    sw_buf text = SW_BUF_INIT;
    sw_map map = SW_MAP_INIT;
    sw_path_kind kind;
    char *path = sw_path_join(dir, index, &own);

    if (path && !sw_path_stat(path, &kind, NULL, &own) && kind == SW_PATH_FILE &&
        !sw_path_read(path, NULL, INDEX_MAX, &text, NULL, &own) && text.len > 0)
        sw_index_parse_any(text.data, text.len, path, &map, NULL, &own);
    for (size_t i = 0; i < map.n && !own.code; i++)
        if (sw_name_is_below(map.items[i].text) && may_go(map.items[i].text) &&
            (named.n == 0 || strcmp(named.names[named.n - 1], map.items[i].text) != 0))
            sw_dir_add(&named, map.items[i].text, &own);
    tidy(&named, NULL);
    if (own.code && own.code != SW_EINPUT)
        sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    for (size_t i = 0; i < named.n && !st->code; i++)
        add_file(dir, named.names[i], l, st);
    sw_dir_release(&named);
    sw_map_release(&map);
    sw_buf_release(&text);
    free(path);
    return st->code;
}

sw_code sw_existing_manifest(const char *dir, bool *missing, sw_buf *text, sw_manifest *m, sw_status *st)
{
    char *path = sw_path_join(dir, SW_MANIFEST_NAME, st);

    if (path && !sw_path_read(path, NULL, SW_MANIFEST_MAX, text, missing, st) && !(missing && *missing))
        sw_manifest_read(text->data ? text->data : "", text->len, SW_MANIFEST_NAME, m, st);
    free(path);
    return st->code;
}

/* The manifest, if it speaks of shard files, or does not, as is asked for. One that cannot be
 * understood goes with whatever is replaced; one that cannot be read is an error. */
static sw_code add_manifest(const char *dir, bool of_shards, sw_dir *l, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    sw_manifest m = SW_MANIFEST_INIT;
    sw_buf text = SW_BUF_INIT;
    bool missing = false, goes;

    sw_existing_manifest(dir, &missing, &text, &m, &own);
    if (own.code && own.code != SW_EINPUT)
        sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    goes = own.code ? !of_shards || l->n > 0 : sw_manifest_is_of_shards(&m) == of_shards;
    if (!st->code && goes)
        add_file(dir, SW_MANIFEST_NAME, l, st);
    sw_manifest_release(&m);
    sw_buf_release(&text);
    return st->code;
}

/* What is in the directory; nothing where there is none. */
static sw_code list_dir(const char *path, sw_dir *dir, sw_status *st)
{
    sw_path_kind kind;

    if (!sw_path_stat(path, &kind, NULL, st) && kind == SW_PATH_DIR)
        sw_dir_list(path, dir, st);
    return st->code;
}

sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const sw_dir *keep, sw_dir *out,
                               sw_status *st)
{
    sw_dir items = { NULL, 0, 0 };

    *out = items;
    list_dir(output_dir, &items, st);
    for (size_t i = 0; i < items.n && !st->code; i++)
        if (sw_name_is_consolidated(items.names[i]) || (index && strcmp(items.names[i], index) == 0))
            add_file(output_dir, items.names[i], out, st);
        else if (strcmp(items.names[i], SW_MANIFEST_NAME) == 0)
            add_manifest(output_dir, false, out, st);
    tidy(out, keep);
    for (size_t i = 0, own = out->n; i < own && !st->code; i++)
        if (sw_name_ends_with(out->names[i], ".json") && strcmp(out->names[i], SW_MANIFEST_NAME) != 0)
            add_named(output_dir, out->names[i], out, st);
    tidy(out, keep);
    sw_dir_release(&items);
    if (st->code)
        sw_dir_release(out);
    return st->code;
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* A directory of such a name would be lost with all that is in it, and no set can be read beside
 * it. */
static sw_code check_replaceable(const char *dir, const char *name, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat s;

    if (path && !sw_path_lstat(path, &kind, &s, st) && kind != SW_PATH_MISSING && kind != SW_PATH_FILE &&
        !S_ISLNK(s.st_mode))
        sw_fail(st, SW_EUSAGE, path, NULL, "has the name of a shard file, and is neither a file nor a link");
    free(path);
    return st->code;
}

sw_code sw_existing_shards(const char *output_dir, sw_dir *out, sw_status *st)
{
    sw_dir items = { NULL, 0, 0 };

    *out = items;
    list_dir(output_dir, &items, st);
    for (size_t i = 0; i < items.n && !st->code; i++)
        if (strcmp(items.names[i], SW_MANIFEST_NAME) == 0)
            add_manifest(output_dir, true, out, st);
        else if (sw_shard_name_parse(items.names[i], NULL) &&
                 !check_replaceable(output_dir, items.names[i], st))
            sw_dir_add(out, items.names[i], st);
    sw_dir_release(&items);
    if (st->code)
        sw_dir_release(out);
    return st->code;
}
