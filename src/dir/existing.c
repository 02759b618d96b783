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

typedef struct list {
    char **names;
    size_t n, cap;
} list;

bool sw_names_have(char *const *names, size_t n, const char *name)
{
    return n > 0 && bsearch(&name, names, n, sizeof *names, sw_by_bytes);
}

void sw_names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static sw_code add(list *l, const char *name, sw_status *st)
{
    if (!sw_grow(&l->names, &l->cap, (uint64_t)l->n + 1, sizeof *l->names, st) &&
        (l->names[l->n] = sw_strdup(name, st)))
        l->n++;
    return st->code;
}

/* Sort, and drop repetitions. */
static void tidy(list *l)
{
    size_t n = 0;

    if (l->n > 1)
        qsort(l->names, l->n, sizeof *l->names, sw_by_bytes);
    for (size_t i = 0; i < l->n; i++)
        if (n > 0 && strcmp(l->names[n - 1], l->names[i]) == 0)
            free(l->names[i]);
        else
            l->names[n++] = l->names[i];
    l->n = n;
}

/* ---- the checkpoint -------------------------------------------------------------------------- */

/* What belongs to the input: names that end with '/' stand for all that is below. */
static bool is_kept(const char *const *keep, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(keep[i]);

        if (strcmp(keep[i], name) == 0 ||
            (len > 0 && keep[i][len - 1] == '/' && strncmp(name, keep[i], len) == 0))
            return true;
    }
    return false;
}

/* An index may name anything: what is no file of weights, or is a shard, stays. */
static bool may_go(const char *name)
{
    const char *last = sw_path_name(name);

    return sw_name_ends_with(last, ".safetensors") && strncmp(last, "shard-", 6) != 0 &&
           strncmp(name, SW_STAGING_NAME, strlen(SW_STAGING_NAME)) != 0;
}

/* Add what lies at root/name if it is a file, or a link (which goes, not what it leads to), under
 * real directories only. */
static sw_code add_file(const char *root, const char *name, list *l, sw_status *st)
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
        add(l, name, st);
    free(path);
    return st->code;
}

/* Add the files that an index names, each looked at once. One that is no index (SW_EINPUT) names
 * none; one that cannot be read is an error, since its files would be left behind. */
static sw_code add_named(const char *dir, const char *index, list *l, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    list named = { NULL, 0, 0 };
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
            add(&named, map.items[i].text, &own);
    tidy(&named);
    if (own.code && own.code != SW_EINPUT)
        sw_fail(st, own.code, own.file, NULL, "%s", own.reason);
    for (size_t i = 0; i < named.n && !st->code; i++)
        add_file(dir, named.names[i], l, st);
    sw_names_free(named.names, named.n);
    sw_map_release(&map);
    sw_buf_release(&text);
    free(path);
    return st->code;
}

/* Without what is kept, sorted, each once. */
static void spare(list *l, const char *const *keep, size_t nkeep)
{
    size_t n = 0;

    tidy(l);
    for (size_t i = 0; i < l->n; i++)
        if (is_kept(keep, nkeep, l->names[i]))
            free(l->names[i]);
        else
            l->names[n++] = l->names[i];
    l->n = n;
}

/* What is in the directory; nothing where there is none. */
static sw_code list_dir(const char *path, sw_dir *dir, sw_status *st)
{
    sw_path_kind kind;

    if (!sw_path_stat(path, &kind, NULL, st) && kind == SW_PATH_DIR)
        sw_dir_list(path, dir, st);
    return st->code;
}

/* Give the list to the caller, or after an error nothing. */
static sw_code hand_over(list *l, char ***names, size_t *n, sw_status *st)
{
    if (st->code) {
        sw_names_free(l->names, l->n);
        *l = (list){ NULL, 0, 0 };
    }
    *names = l->names;
    *n = l->n;
    return st->code;
}

sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const char *const *keep,
                               size_t nkeep, char ***names, size_t *n, sw_status *st)
{
    list l = { NULL, 0, 0 };
    sw_dir items = { NULL, 0, 0 };

    list_dir(output_dir, &items, st);
    for (size_t i = 0; i < items.n && !st->code; i++)
        if (sw_name_is_consolidated(items.names[i]) || (index && strcmp(items.names[i], index) == 0))
            add_file(output_dir, items.names[i], &l, st);
    spare(&l, keep, nkeep);
    for (size_t i = 0, own = l.n; i < own && !st->code; i++)
        if (sw_name_ends_with(l.names[i], ".json"))
            add_named(output_dir, l.names[i], &l, st);
    spare(&l, keep, nkeep);
    sw_dir_release(&items);
    return hand_over(&l, names, n, st);
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

sw_code sw_existing_shards(const char *output_dir, char ***names, size_t *n, sw_status *st)
{
    list l = { NULL, 0, 0 };
    sw_dir items = { NULL, 0, 0 };
    sw_shard_name ignored;

    list_dir(output_dir, &items, st);
    for (size_t i = 0; i < items.n && !st->code; i++)
        if (sw_shard_name_parse(items.names[i], &ignored) &&
            !check_replaceable(output_dir, items.names[i], st))
            add(&l, items.names[i], st);
    sw_dir_release(&items);
    return hand_over(&l, names, n, st);
}
