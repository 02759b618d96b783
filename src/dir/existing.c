/* The checkpoint that is already in OUTPUT_DIR: what stands in the way, and what --overwrite
 * removes; see publish.h. A few thousand names at most, but from a directory and an index that
 * anybody may have written: nothing outside OUTPUT_DIR, behind a link or of the input may ever get
 * on this list. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "base/sort.h"
#include "dir/publish.h"
#include "format/filenames.h"
#include "format/maps.h"

#define INDEX_MAX ((uint64_t)1 << 30)

typedef struct list {
    char **names;
    size_t n, cap;
} list;

static sw_code add(list *l, const char *name, sw_status *st)
{
    if (sw_grow(&l->names, &l->cap, (uint64_t)l->n + 1, sizeof *l->names, st) ||
        !(l->names[l->n] = sw_strdup(name, st)))
        return st->code;
    l->n++;
    return SW_OK;
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

/* What belongs to the input: names, sorted; those that end with '/' stand for all that is below. */
typedef struct spared {
    const char **keep;
    size_t n;
} spared;

static bool is_spared(const spared *s, char *const *name)
{
    size_t len;

    if (s->n > 0 && bsearch(name, s->keep, s->n, sizeof *s->keep, sw_by_bytes))
        return true;
    for (size_t i = 0; i < s->n; i++)
        if ((len = strlen(s->keep[i])) > 0 && s->keep[i][len - 1] == '/' &&
            strncmp(*name, s->keep[i], len) == 0)
            return true;
    return false;
}

static void spare(list *l, const spared *s)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++)
        if (is_spared(s, &l->names[i]))
            free(l->names[i]);
        else
            l->names[n++] = l->names[i];
    l->n = n;
}

/* What lies at root/name: a file, or a link (which goes, not what it leads to), under real
 * directories only? */
static sw_code is_file_below(const char *root, const char *name, bool *is, sw_status *st)
{
    char *path = sw_path_join(root, name, st);
    sw_path_kind kind = SW_PATH_DIR;
    struct stat s;
    sw_code code = path ? SW_OK : st->code;

    *is = false;
    for (char *slash = path ? strchr(path + strlen(root) + 1, '/') : NULL;
         slash && !code && kind == SW_PATH_DIR; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        code = sw_path_lstat(path, &kind, NULL, st);
        *slash = '/';
    }
    if (!code && kind == SW_PATH_DIR && !(code = sw_path_lstat(path, &kind, &s, st)))
        *is = kind == SW_PATH_FILE || (kind == SW_PATH_OTHER && S_ISLNK(s.st_mode));
    free(path);
    return code;
}

/* An index may name anything: what is no file of weights, or is a shard, stays. */
static bool may_go(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;

    return sw_name_ends_with(base, ".safetensors") && strncmp(base, "shard-", 6) != 0 &&
           strncmp(name, SW_STAGING_NAME, strlen(SW_STAGING_NAME)) != 0;
}

/* The text of an index; empty when it is no regular file. */
static sw_code read_index(const char *path, sw_buf *text, sw_status *st)
{
    sw_path_kind kind;

    if (sw_path_stat(path, &kind, NULL, st) || kind != SW_PATH_FILE)
        return st->code;
    return sw_path_read(path, NULL, INDEX_MAX, text, NULL, st);
}

/* The names in an index, each once. One that is no index (SW_EINPUT) names none; one that cannot be
 * read is an error, since its files would be left behind. */
static sw_code index_names(const char *dir, const char *index, list *named, sw_status *st)
{
    sw_status own = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    sw_map map = SW_MAP_INIT;
    char *path = sw_path_join(dir, index, &own);

    if (path && !read_index(path, &text, &own) && text.len > 0)
        sw_index_parse_any(text.data, text.len, path, &map, NULL, &own);
    for (size_t i = 0; i < map.n && !own.code; i++)
        if (sw_name_is_below(map.items[i].text) &&
            (named->n == 0 || strcmp(named->names[named->n - 1], map.items[i].text) != 0))
            add(named, map.items[i].text, &own);
    tidy(named);
    sw_map_release(&map);
    sw_buf_release(&text);
    free(path);
    return own.code && own.code != SW_EINPUT ? sw_fail(st, own.code, own.file, NULL, "%s", own.reason)
                                             : SW_OK;
}

static sw_code add_named(const char *dir, const char *index, list *l, sw_status *st)
{
    list named = { NULL, 0, 0 };
    sw_code code = index_names(dir, index, &named, st);
    bool is;

    for (size_t i = 0; i < named.n && !code; i++)
        if (may_go(named.names[i]) && !(code = is_file_below(dir, named.names[i], &is, st)) && is)
            code = add(l, named.names[i], st);
    sw_names_free(named.names, named.n);
    return code;
}

/* The consolidated files of the directory itself, and what the indices among them name. */
static sw_code collect(const char *dir, const char *index, const spared *s, list *l, sw_status *st)
{
    sw_dir items;
    sw_code code = sw_dir_list(dir, &items, st);
    bool is;

    for (size_t i = 0; !code && i < items.n; i++)
        if ((sw_name_is_consolidated(items.names[i]) || (index && strcmp(items.names[i], index) == 0)) &&
            !(code = is_file_below(dir, items.names[i], &is, st)) && is)
            code = add(l, items.names[i], st);
    if (!code)
        spare(l, s);
    for (size_t i = 0, own = l->n; !code && i < own; i++)
        if (sw_name_ends_with(l->names[i], ".json"))
            code = add_named(dir, l->names[i], l, st);
    sw_dir_release(&items);
    if (code)
        return code;
    tidy(l);
    spare(l, s);
    return SW_OK;
}

sw_code sw_existing_checkpoint(const char *output_dir, const char *index, const char *const *keep,
                               size_t nkeep, char ***names, size_t *n, sw_status *st)
{
    list l = { NULL, 0, 0 };
    sw_path_kind kind;
    const char **sorted = NULL;
    sw_code code;

    *names = NULL;
    *n = 0;
    if ((code = sw_path_stat(output_dir, &kind, NULL, st)) || kind != SW_PATH_DIR)
        return code;
    if (!(sorted = sw_calloc(nkeep, sizeof *sorted, st)))
        return st->code;
    for (size_t i = 0; i < nkeep; i++)
        sorted[i] = keep[i];
    if (nkeep > 1)
        qsort(sorted, nkeep, sizeof *sorted, sw_by_bytes);
    code = collect(output_dir, index, &(spared){ sorted, nkeep }, &l, st);
    free(sorted);
    if (code) {
        sw_names_free(l.names, l.n);
        return code;
    }
    *names = l.names;
    *n = l.n;
    return SW_OK;
}

void sw_names_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}
