/* The model's other files; see assets.h. */
#include "dir/assets.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "format/manifest.h"
#include "format/maps.h"
#include "plan/sized.h"

#define CONFIG_NAME "config.json"

/* A model has some dozens of files: a directory of more is another than was meant. */
#define ENTRIES_MAX 100000u

/* A configuration is edited in memory; real ones have some kilobytes, those with quantized modules
 * by name a few megabytes. */
#define CONFIG_MAX (UINT64_C(64) << 20)

typedef struct search {
    bool below;         /* all files, sub-directories too; else those at the top that are known */
    const char *prefix; /* where the files go; NULL = to the top */
    const char *output_dir, *skip;
    struct stat given[SW_ASSETS_GIVEN]; /* by options; not the model's */
    size_t ngiven;
    bool output_there;
    struct stat output; /* OUTPUT_DIR, if it is there */
    uint64_t seen;      /* files that qualify */
    uint64_t entries;   /* names that were looked at */
    char *tree;         /* resolved: links that lead out of it are told of */
    uint64_t outside;   /* such links, */
    char *first;        /* and the path of the first */
    sw_buf *warnings;
    sw_assets *found;
} search;

/* ---- names ----------------------------------------------------------------------------------- */

/* Is it a name of one of these patterns? */
static bool matches(const char *const *patterns, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

/* Side files that stand beside weights; all others there may be anything. */
static bool is_known(const char *name)
{
    static const char *const known[] = { "*.json", "*.txt", "*.model",  "*.tiktoken", "*.jinja",
                                         "*.py",   "*.md",  "LICENSE*", "NOTICE*" };

    return matches(known, sizeof known / sizeof *known, name);
}

/* The one at the top, and that of .hf_metadata. */
static bool is_config(const char *name)
{
    return strcmp(name, CONFIG_NAME) == 0 || strcmp(name, SW_METADATA_DIR "/" CONFIG_NAME) == 0;
}

/* What speaks of the shards. */
static bool is_mapping(const char *name)
{
    return strcmp(name, "fqn_to_file_index_mapping.json") == 0 ||
           strcmp(name, "fqn_to_dtype_mapping.json") == 0;
}

bool sw_asset_is_never(const char *name)
{
    static const char *const never[] = { "*.safetensors", "*.bin",        "*.pt",          "*.pth",
                                         "*.ckpt",        "*.distcp",     "*.gguf",        "*.h5",
                                         "*.onnx",        "*.index.json", SW_MANIFEST_NAME };

    return matches(never, sizeof never / sizeof *never, name);
}

/* A line about a file that stays behind. */
static sw_code warn(search *s, const char *path, const char *why, sw_status *st)
{
    return sw_buf_add_line(s->warnings, st, "%s %s: it is left out", path, why);
}

/* ---- searching ------------------------------------------------------------------------------- */

/* Takes over target, its name in OUTPUT_DIR: something of that name may be there, or the very same
 * file. */
static sw_code add(search *s, char *target, const char *source, const struct stat *found, sw_status *st)
{
    sw_assets *a = s->found;
    sw_path_kind kind;
    struct stat there;
    bool same;

    s->seen++;
    if (!target || sw_path_stat_in(s->output_dir, target, &kind, &there, st))
        goto out;
    same = kind == SW_PATH_FILE && sw_path_same(&there, found);
    a->config_stays = a->config_stays || (same && is_config(target));
    if (same || sw_grow(&a->items, &a->cap, (uint64_t)a->n + 1, sizeof *a->items, st))
        goto out;
    a->items[a->n++] = (sw_asset){ .name = target,
                                   .source = sw_strdup(source, st),
                                   .size = (uint64_t)found->st_size,
                                   .ino = (uint64_t)found->st_ino,
                                   .mtime_ns = sw_path_ns(&found->st_mtim),
                                   .ctime_ns = sw_path_ns(&found->st_ctim),
                                   .exists = kind != SW_PATH_MISSING };
    target = NULL;
out:
    free(target);
    return st->code;
}

static sw_code search_dir(search *s, const char *dir, const char *path, sw_status *st);

/* A directory inside: not OUTPUT_DIR, which would be copied into itself. A link may lead to
 * anything that we can read. */
static sw_code enter(search *s, const char *name, const char *path, bool is_link, const struct stat *self,
                     sw_status *st)
{
    if (!s->below || (s->output_there && sw_path_same(self, &s->output)))
        return SW_OK;
    return is_link ? warn(s, path, "is a link to a directory", st) : search_dir(s, name, path, st);
}

/* What is there, links followed; is the name itself a link? */
static sw_code look_through(const char *path, sw_path_kind *kind, bool *is_link, struct stat *found,
                            sw_status *st)
{
    if (sw_path_lstat(path, kind, found, st))
        return st->code;
    *is_link = *kind == SW_PATH_OTHER && S_ISLNK(found->st_mode);
    return *is_link ? sw_path_stat(path, kind, found, st) : SW_OK;
}

/* A link to a file: one that leads out of the tree brings what nobody put there. */
static sw_code note_link(search *s, const char *path, sw_status *st)
{
    char *target = realpath(path, NULL);
    size_t n = s->tree ? strlen(s->tree) : 0;

    if (s->tree && target && strncmp(target, s->tree, n) == 0 && (target[n] == '/' || s->tree[n - 1] == '/'))
        goto out;
    if (s->outside++ == 0)
        s->first = sw_strdup(path, st);
out:
    free(target);
    return st->code;
}

/* Does an option name this file? */
static bool is_given(const search *s, const struct stat *found)
{
    for (size_t i = 0; i < s->ngiven; i++)
        if (sw_path_same(&s->given[i], found))
            return true;
    return false;
}

/* name: relative to the root. */
static sw_code look_at(search *s, const char *name, const char *path, sw_status *st)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    /* mappings only go along with shards */
    bool never = sw_asset_is_never(base) || (is_mapping(base) && !s->prefix) ||
                 (s->skip && strcmp(name, s->skip) == 0),
         is_link;
    sw_path_kind kind;
    struct stat found;
    size_t before;

    if (base[0] == '.' || (!s->below && (never || !is_known(base))) ||
        look_through(path, &kind, &is_link, &found, st))
        return st->code;
    if (kind == SW_PATH_DIR)
        return enter(s, name, path, is_link, &found, st);
    if (never || kind == SW_PATH_MISSING)
        return SW_OK;
    if (kind != SW_PATH_FILE)
        return warn(s, path, kind == SW_PATH_DANGLING ? "is a link that leads nowhere" : "is no regular file",
                    st);
    if (is_given(s, &found))
        return SW_OK;
    if (!sw_name_is_below(name))
        return warn(s, path, "has a control character in its name", st);
    before = s->found->n;
    if (!add(s, s->prefix ? sw_path_join(s->prefix, name, st) : sw_strdup(name, st), path, &found, st) &&
        is_link && s->found->n > before)
        note_link(s, path, st);
    return st->code;
}

/* dir: relative to the root, "" for the root itself. */
static sw_code search_dir(search *s, const char *dir, const char *path, sw_status *st)
{
    sw_dir items;

    if (sw_dir_list(path, &items, st))
        return st->code;
    s->entries += items.n;
    if (s->entries > ENTRIES_MAX)
        sw_fail(st, SW_EUSAGE, path, NULL,
                "over %u names below the directory of the model's other files: is it another than was meant?",
                ENTRIES_MAX);
    for (size_t i = 0; i < items.n && !st->code; i++) {
        char *name = *dir ? sw_path_join(dir, items.names[i], st) : sw_strdup(items.names[i], st);
        char *full = sw_path_join(path, items.names[i], st);

        if (name && full)
            look_at(s, name, full, st);
        free(full);
        free(name);
    }
    sw_dir_release(&items);
    return st->code;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* *there (may be NULL: then it must be): is root a directory? */
static sw_code search_root(search *s, const char *root, bool below, bool *there, sw_status *st)
{
    sw_path_kind kind;

    s->below = below;
    if (sw_path_stat(root, &kind, NULL, st))
        return st->code;
    if (there)
        *there = kind == SW_PATH_DIR;
    if (kind == SW_PATH_DIR)
        return search_dir(s, "", root, st);
    if (there)
        return SW_OK;
    return sw_fail(st, SW_EUSAGE, root, NULL, "%s",
                   kind == SW_PATH_MISSING || kind == SW_PATH_DANGLING ? "no such directory"
                                                                       : "not a directory");
}

/* INPUT_DIR/.hf_metadata, which came with the input: as a link it may lead to anything. */
static sw_code search_metadata(search *s, const char *input_dir, sw_status *st)
{
    char *metadata = sw_path_join(input_dir, SW_METADATA_DIR, st);
    bool is_link = false, there;
    sw_path_kind kind;
    struct stat found;

    if (!metadata || look_through(metadata, &kind, &is_link, &found, st))
        goto out;
    if (is_link && kind == SW_PATH_DIR)
        warn(s, metadata, "is a link to a directory", st);
    else
        search_root(s, metadata, true, &there, st);
out:
    free(metadata);
    return st->code;
}

/* Tells of links that lead out; sorts what was found, or on an error lets go of it. */
static sw_code finish(search *s, sw_status *st)
{
    if (s->outside && !st->code)
        sw_buf_add_line(s->warnings, st, "%s is a link to a file outside %s%s: what it leads to comes along",
                        s->first, s->tree ? s->tree : "its directory",
                        s->outside > 1 ? ", and not the only one" : "");
    free(s->first);
    free(s->tree);
    if (st->code)
        sw_assets_release(s->found);
    else
        /* names stand first */
        sw_sort(s->found->items, s->found->n, sizeof *s->found->items, sw_by_bytes);
    return st->code;
}

/* Who needs them has opened them: what cannot be seen is none of those that will be found. */
static void take_given(search *s, const sw_assets_rule *rule)
{
    for (size_t i = 0; i < SW_ASSETS_GIVEN; i++) {
        sw_status ignored = SW_STATUS_INIT;
        sw_path_kind kind = SW_PATH_MISSING;

        if (rule->given[i] && !sw_path_stat(rule->given[i], &kind, &s->given[s->ngiven], &ignored))
            s->ngiven += kind == SW_PATH_FILE;
    }
}

sw_code sw_assets_list(const sw_assets_rule *rule, sw_buf *warnings, sw_assets *out, sw_status *st)
{
    search s = { .output_dir = rule->output_dir, .skip = rule->skip, .warnings = warnings, .found = out };
    sw_path_kind kind;
    bool there;

    *out = (sw_assets){ 0 };
    take_given(&s, rule);
    /* what links should not lead out of; a dry run's need not be there */
    s.tree = realpath(rule->assets_dir ? rule->assets_dir : rule->input_dir, NULL);
    if (sw_path_stat(s.output_dir, &kind, &s.output, st))
        return finish(&s, st);
    s.output_there = kind == SW_PATH_DIR;
    if (rule->assets_dir)
        search_root(&s, rule->assets_dir, true, NULL, st);
    else if (!rule->stays_sharded && (search_metadata(&s, rule->input_dir, st) || s.seen))
        return finish(&s, st);
    else if (!search_root(&s, rule->input_dir, false, &there, st) && rule->stays_sharded) {
        s.prefix = SW_METADATA_DIR;
        search_metadata(&s, rule->input_dir, st);
    }
    return finish(&s, st);
}

void sw_assets_release(sw_assets *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].name);
        free(a->items[i].source);
    }
    free(a->items);
    *a = (sw_assets){ 0 };
}

/* ---- copying --------------------------------------------------------------------------------- */

/* What a copy holds: the source's bytes, or a text. */
typedef struct content {
    int fd;           /* the source */
    const char *text; /* NULL = what fd holds */
    sw_buf edited;    /* config.json's text */
    mode_t mode;      /* of the source */
} content;

/* The text of config.json, edited. */
static sw_code edit(sw_asset *a, const sw_asset_copy *how, content *c, sw_status *st)
{
    sw_buf was = SW_BUF_INIT;
    sw_config_fault fault;

    if (sw_buf_reserve(&was, (size_t)a->size, st) ||
        sw_fd_read_at(c->fd, a->source, was.data, a->size, 0, st) ||
        sw_config_edit(was.data, (size_t)a->size, how->rule, &c->edited, &fault, st))
        goto out;
    if (fault.what)
        sw_buf_add_line(how->warnings, st, "%s is not JSON (line %" PRIu64 ": %s): it is copied as it is",
                        a->source, fault.line, fault.what);
    a->size = c->edited.len;
    c->text = c->edited.data;
out:
    sw_buf_release(&was);
    return st->code;
}

/* Its size and mode are those of now, rather than when it was found. */
static sw_code open_content(sw_asset *a, const sw_asset_copy *how, content *c, sw_status *st)
{
    const sw_config_rule *rule = how->rule;
    struct stat s;

    *c = (content){ .fd = -1 };
    if (sw_fd_open(a->source, NULL, &c->fd, st))
        return st->code;
    if (fstat(c->fd, &s) != 0)
        return sw_fail_errno(st, a->source, errno, "cannot look at it");
    a->size = (uint64_t)s.st_size;
    c->mode = s.st_mode & 0666;
    if (a->text) {
        a->size = a->text->len;
        c->text = a->text->data;
        return SW_OK;
    }
    if (!rule || (rule->dtype == SW_NDTYPES && !rule->no_quantization) || !is_config(a->name))
        return SW_OK;
    if (a->size <= CONFIG_MAX)
        return edit(a, how, c, st);
    return sw_buf_add_line(how->warnings, st,
                           "%s has %" PRIu64 " bytes, too many to edit it: it is copied as it is", a->source,
                           a->size);
}

/* Also after an error, whose words stay. */
static void close_content(const sw_asset *a, content *c, sw_status *st)
{
    sw_fd_close(c->fd, a->source, st);
    sw_buf_release(&c->edited);
}

/* n bytes of what the copy holds, from `at` on. */
static sw_code read_content(const sw_asset *a, const content *c, void *to, uint64_t n, uint64_t at,
                            sw_status *st)
{
    if (!c->text)
        return sw_fd_read_at(c->fd, a->source, to, n, at, st);
    memcpy(to, c->text + at, (size_t)n);
    return SW_OK;
}

/* All of it to an open file, a piece at a time. */
static sw_code copy_content(const sw_asset *a, const content *c, int to, uint64_t piece, sw_status *st)
{
    char *bytes;

    piece = sw_max(sw_min(piece, a->size), 1);
    bytes = sw_calloc(piece, 1, st);
    for (uint64_t at = 0; bytes && at < a->size && !st->code; at += piece) {
        uint64_t n = sw_min(piece, a->size - at);

        if (!read_content(a, c, bytes, n, at, st))
            sw_fd_write_at(to, a->name, bytes, n, at, st);
    }
    free(bytes);
    return st->code;
}

sw_code sw_asset_stage(sw_asset *a, const sw_below *to, const sw_asset_copy *how, sw_status *st)
{
    int fd = -1;
    content c;

    if (open_content(a, how, &c, st) || sw_below_create(to, a->name, c.mode, &fd, st) ||
        copy_content(a, &c, fd, how->piece, st))
        goto out;
    if (how->sync)
        sw_fd_sync(fd, a->name, st);
out:
    sw_fd_close(fd, a->name, st);
    close_content(a, &c, st);
    return st->code;
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* The first byte that differs, of a->size; that when none does. */
static sw_code find_difference(const sw_asset *a, const content *c, int fd, uint64_t piece, uint64_t *at,
                               sw_status *st)
{
    char *both;

    piece = sw_max(sw_min(piece, a->size), 1);
    both = sw_calloc(2, piece, st);
    for (*at = 0; both && *at < a->size && !st->code;) {
        uint64_t n = sw_min(piece, a->size - *at), same = 0;

        if (read_content(a, c, both, n, *at, st) || sw_fd_read_at(fd, a->name, both + piece, n, *at, st))
            break;
        while (same < n && both[same] == both[piece + same])
            same++;
        *at += same;
        if (same < n)
            break;
    }
    free(both);
    return st->code;
}

/* An open file against what the copy would hold: its size, then its bytes. */
static sw_code compare_content(const sw_asset *a, const content *c, int fd, uint64_t piece, sw_buf *why,
                               sw_status *st)
{
    const char *becomes = c->text ? "what becomes of " : "";
    struct stat s;
    uint64_t at;

    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, a->name, errno, "cannot look at it");
    if ((uint64_t)s.st_size != a->size)
        return sw_buf_addf(why, st, "has %" PRIu64 " bytes, expected %" PRIu64 ", those of %s%s",
                           (uint64_t)s.st_size, a->size, becomes, a->source);
    if (find_difference(a, c, fd, piece, &at, st) || at == a->size)
        return st->code;
    return sw_buf_addf(why, st, "differs from %s%s from byte %" PRIu64 " on", becomes, a->source, at);
}

sw_code sw_asset_compare(sw_asset *a, const char *path, const sw_asset_copy *how, sw_buf *why, sw_status *st)
{
    sw_path_kind kind;
    int fd = -1;
    content c;

    why->len = 0;
    if (open_content(a, how, &c, st) || sw_path_stat(path, &kind, NULL, st))
        goto out;
    if (kind != SW_PATH_FILE)
        sw_buf_addf(why, st,
                    kind == SW_PATH_MISSING ? "is missing, expected that of %s" : "is no regular file as %s",
                    a->source);
    else if (!sw_fd_open(path, a->name, &fd, st))
        compare_content(a, &c, fd, how->piece, why, st);
    sw_buf_add(why, "", 1, st);
out:
    sw_fd_close(fd, a->name, st);
    close_content(a, &c, st);
    return st->code;
}

/* ---- config.json is asked -------------------------------------------------------------------- */

/* The path of the one that comes along, newly allocated; NULL = there is none of a size that can be
 * read, or an error. show: its name for messages. */
static char *find_config(const char *input_dir, const char *assets_dir, const char **show, sw_status *st)
{
    static const char *const names[] = { SW_METADATA_DIR "/" CONFIG_NAME, CONFIG_NAME };

    for (size_t i = assets_dir ? 1 : 0; i < 2 && !st->code; i++) {
        char *path = sw_path_join(assets_dir ? assets_dir : input_dir, names[i], st);
        sw_path_kind kind;
        struct stat s;

        *show = assets_dir ? path : names[i];
        if (path && !sw_path_stat(path, &kind, &s, st) && kind == SW_PATH_FILE &&
            (uint64_t)s.st_size <= CONFIG_MAX)
            return path;
        free(path);
    }
    return NULL;
}

sw_code sw_assets_check_sizes(const char *input_dir, const char *assets_dir, const sw_catalog *c,
                              sw_findings *findings, sw_status *st)
{
    const char *show;
    char *path = find_config(input_dir, assets_dir, &show, st);
    sw_buf text = SW_BUF_INIT;
    sw_config_sizes sizes = { 0 };

    if (path && !sw_path_read(path, show, CONFIG_MAX, &text, NULL, st) &&
        !sw_config_read_sizes(text.data, text.len, &sizes, st))
        sw_check_sizes(c, &sizes, show, findings, st);
    sw_config_sizes_release(&sizes);
    sw_buf_release(&text);
    free(path);
    return st->code;
}

/* Whoever cannot read it goes on without: shapes are checked against what is assumed then. */
bool sw_assets_block_size(const char *input_dir, const char *assets_dir, uint64_t block[2])
{
    sw_status st = SW_STATUS_INIT;
    const char *show;
    char *path = input_dir || assets_dir ? find_config(input_dir, assets_dir, &show, &st) : NULL;
    sw_buf text = SW_BUF_INIT;
    bool found = path && !sw_path_read(path, show, CONFIG_MAX, &text, NULL, &st) &&
                 sw_config_block_size(text.data, text.len, block);

    sw_buf_release(&text);
    free(path);
    return found;
}
