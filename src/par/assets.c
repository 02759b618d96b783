/* The model's other files; see assets.h. */
#include "par/assets.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "format/maps.h"

#define CONFIG_NAME "config.json"
#define METADATA_NAME ".hf_metadata"

/* A model has some dozens of files; links among directories can make any number of names. */
#define ENTRIES_MAX 100000u

/* A configuration is edited in memory; real ones have some kilobytes, those with quantized modules by name a few megabytes. */
#define CONFIG_MAX (UINT64_C(64) << 20)

/* A directory that the search is in, and those above it. */
typedef struct place {
    dev_t dev;
    ino_t ino;
    const struct place *up;
} place;

typedef struct search {
    bool below;         /* all files, sub-directories too; else those at the top that are known */
    const char *prefix; /* where the files go; NULL = to the top */
    const char *output_dir, *skip;
    bool output_there;
    struct stat output; /* OUTPUT_DIR, if it is there */
    uint64_t seen;      /* files that qualify */
    uint64_t entries;   /* names that were looked at */
    sw_buf *warnings;
    sw_assets *found;
} search;

/* ---- names -------------------------------------------------------------------------------------- */

static bool matches(const char *const *patterns, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

static bool is_known(const char *name)
{
    static const char *const known[] = { "*.json", "*.txt", "*.model",  "*.tiktoken", "*.jinja",
                                         "*.py",   "*.md",  "LICENSE*", "NOTICE*" };

    return matches(known, sizeof known / sizeof *known, name);
}

/* The one at the top, and that of .hf_metadata. */
static bool is_config(const char *name)
{
    return strcmp(name, CONFIG_NAME) == 0 || strcmp(name, METADATA_NAME "/" CONFIG_NAME) == 0;
}

/* What speaks of the shards. */
static bool is_mapping(const char *name)
{
    return strcmp(name, "fqn_to_file_index_mapping.json") == 0 ||
           strcmp(name, "fqn_to_dtype_mapping.json") == 0;
}

/* Weights that a loader might take instead of ours. Mappings only go along with shards. */
static bool is_never(const search *s, const char *name)
{
    static const char *const never[] = { "*.safetensors", "*.bin",  "*.pt", "*.pth",  "*.ckpt",
                                         "*.distcp",      "*.gguf", "*.h5", "*.onnx", "*.index.json" };

    return matches(never, sizeof never / sizeof *never, name) || (is_mapping(name) && !s->prefix);
}

/* A line about a file that stays behind. */
static sw_code warn(search *s, const char *path, const char *why, sw_status *st)
{
    return sw_buf_add_line(s->warnings, st, "%s %s: it is left out", path, why);
}

/* ---- searching ---------------------------------------------------------------------------------- */

/* What has its name in OUTPUT_DIR: nothing, something else, or the very same file? */
static sw_code look_at_target(const search *s, const char *name, const struct stat *source, bool *exists,
                              bool *same, sw_status *st)
{
    char *target = sw_path_join(s->output_dir, name, st);
    sw_path_kind kind = SW_PATH_MISSING;
    struct stat there;

    *same = false;
    if (target && !sw_path_stat(target, &kind, &there, st))
        *same = kind == SW_PATH_FILE && sw_path_same(&there, source);
    *exists = kind != SW_PATH_MISSING;
    free(target);
    return st->code;
}

/* Takes over target, its name in OUTPUT_DIR. */
static sw_code add(search *s, char *target, const char *source, const struct stat *found, sw_status *st)
{
    sw_assets *a = s->found;
    sw_asset item = { .name = target,
                      .size = (uint64_t)found->st_size,
                      .ino = (uint64_t)found->st_ino,
                      .mtime_ns = sw_path_ns(&found->st_mtim),
                      .ctime_ns = sw_path_ns(&found->st_ctim) };
    bool same = false;

    s->seen++;
    if (!target || look_at_target(s, target, found, &item.exists, &same, st))
        goto out;
    a->config_stays = a->config_stays || (same && is_config(target));
    if (same || sw_grow(&a->items, &a->cap, (uint64_t)a->n + 1, sizeof *a->items, st))
        goto out;
    item.source = sw_strdup(source, st);
    a->items[a->n++] = item;
    return st->code;
out:
    free(target);
    return st->code;
}

static sw_code search_dir(search *s, const char *dir, const char *path, const struct stat *self,
                          const place *up, sw_status *st);

/* A directory inside: not OUTPUT_DIR, which would be copied into itself, nor one that we are in already. */
static sw_code enter(search *s, const char *name, const char *path, const struct stat *self, const place *up,
                     sw_status *st)
{
    if (!s->below || (s->output_there && sw_path_same(self, &s->output)))
        return SW_OK;
    for (const place *p = up; p; p = p->up)
        if (p->dev == self->st_dev && p->ino == self->st_ino)
            return warn(s, path, "leads back to a directory above it", st);
    return search_dir(s, name, path, self, up, st);
}

/* name: relative to the root. */
static sw_code look_at(search *s, const char *name, const char *path, const place *up, sw_status *st)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    bool never = is_never(s, base) || (s->skip && strcmp(name, s->skip) == 0);
    sw_path_kind kind;
    struct stat found;

    if (base[0] == '.' || (!s->below && (never || !is_known(base))) || sw_path_stat(path, &kind, &found, st))
        return st->code;
    if (kind == SW_PATH_DIR)
        return enter(s, name, path, &found, up, st);
    if (never || kind == SW_PATH_MISSING)
        return SW_OK;
    if (kind != SW_PATH_FILE)
        return warn(s, path, kind == SW_PATH_DANGLING ? "is a link that leads nowhere" : "is no regular file",
                    st);
    if (!sw_name_is_below(name))
        return warn(s, path, "has a control character in its name", st);
    return add(s, s->prefix ? sw_path_join(s->prefix, name, st) : sw_strdup(name, st), path, &found, st);
}

/* dir: relative to the root, "" for the root itself. */
static sw_code search_dir(search *s, const char *dir, const char *path, const struct stat *self,
                          const place *up, sw_status *st)
{
    const place here = { self->st_dev, self->st_ino, up };
    sw_dir items;

    if (sw_dir_list(path, &items, st))
        return st->code;
    s->entries += items.n;
    if (s->entries > ENTRIES_MAX)
        sw_fail(st, SW_EUSAGE, path, NULL,
                "over %u names below the directory of the model's other files: links among directories?",
                ENTRIES_MAX);
    for (size_t i = 0; i < items.n && !st->code; i++) {
        char *name = *dir ? sw_path_join(dir, items.names[i], st) : sw_strdup(items.names[i], st);
        char *full = sw_path_join(path, items.names[i], st);

        if (name && full)
            look_at(s, name, full, &here, st);
        free(full);
        free(name);
    }
    sw_dir_release(&items);
    return st->code;
}

/* ---- the list ----------------------------------------------------------------------------------- */

/* *there (may be NULL: then it must be): is root a directory? */
static sw_code search_root(search *s, const char *root, bool below, bool *there, sw_status *st)
{
    sw_path_kind kind;
    struct stat self;

    s->below = below;
    if (sw_path_stat(root, &kind, &self, st))
        return st->code;
    if (there)
        *there = kind == SW_PATH_DIR;
    if (kind == SW_PATH_DIR)
        return search_dir(s, "", root, &self, NULL, st);
    if (there)
        return SW_OK;
    return sw_fail(st, SW_EUSAGE, root, NULL, "%s",
                   kind == SW_PATH_MISSING || kind == SW_PATH_DANGLING ? "no such directory"
                                                                       : "not a directory");
}

static sw_code search_input(search *s, const char *input_dir, sw_status *st)
{
    char *metadata = sw_path_join(input_dir, METADATA_NAME, st);
    bool there;

    if (metadata && !search_root(s, metadata, true, &there, st) && s->seen == 0)
        search_root(s, input_dir, false, &there, st);
    free(metadata);
    return st->code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sw_asset *)a)->name, ((const sw_asset *)b)->name);
}

static sw_code begin(search *s, sw_status *st)
{
    sw_path_kind kind;

    *s->found = (sw_assets)SW_ASSETS_INIT;
    if (!sw_path_stat(s->output_dir, &kind, &s->output, st))
        s->output_there = kind == SW_PATH_DIR;
    return st->code;
}

static sw_code finish(const search *s, sw_status *st)
{
    if (st->code)
        sw_assets_release(s->found);
    else if (s->found->n > 1)
        qsort(s->found->items, s->found->n, sizeof *s->found->items, by_name);
    return st->code;
}

sw_code sw_assets_list(const char *input_dir, const char *assets_dir, const char *output_dir,
                       const char *skip, sw_buf *warnings, sw_assets *out, sw_status *st)
{
    search s = { .output_dir = output_dir, .skip = skip, .warnings = warnings, .found = out };

    if (begin(&s, st))
        return st->code;
    if (assets_dir)
        search_root(&s, assets_dir, true, NULL, st);
    else
        search_input(&s, input_dir, st);
    return finish(&s, st);
}

sw_code sw_assets_list_beside(const char *input_dir, const char *output_dir, sw_buf *warnings, sw_assets *out,
                              sw_status *st)
{
    search s = { .output_dir = output_dir, .warnings = warnings, .found = out };
    char *metadata = sw_path_join(input_dir, METADATA_NAME, st);
    bool there;

    if (!metadata || begin(&s, st) || search_root(&s, input_dir, false, &there, st))
        goto out;
    s.prefix = METADATA_NAME;
    search_root(&s, metadata, true, &there, st);
out:
    free(metadata);
    return finish(&s, st);
}

void sw_assets_release(sw_assets *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->items[i].name);
        free(a->items[i].source);
    }
    free(a->items);
    *a = (sw_assets)SW_ASSETS_INIT;
}

/* ---- copying ------------------------------------------------------------------------------------ */

static sw_code copy_bytes(int from, int to, const sw_asset *a, uint64_t piece, sw_status *st)
{
    char *bytes;

    piece = sw_max(sw_min(piece, a->size), 1);
    bytes = sw_calloc(piece, 1, st);
    for (uint64_t at = 0; bytes && at < a->size && !st->code; at += piece) {
        uint64_t n = sw_min(piece, a->size - at);

        if (!sw_fd_read_at(from, a->source, bytes, n, at, st))
            sw_fd_write_at(to, a->name, bytes, n, at, st);
    }
    free(bytes);
    return st->code;
}

/* Its size now, rather than when it was found. */
static sw_code measure(int fd, sw_asset *a, sw_status *st)
{
    struct stat s;

    if (fstat(fd, &s) != 0)
        return sw_fail_errno(st, a->source, errno, "cannot look at it");
    if (!S_ISREG(s.st_mode))
        return sw_fail(st, SW_EINPUT, a->source, NULL, "is no regular file any more");
    a->size = (uint64_t)s.st_size;
    return SW_OK;
}

static sw_code copy(sw_asset *a, const char *path, uint64_t piece, bool sync, sw_status *st)
{
    int from = -1, to = -1;

    if (sw_fd_open(a->source, NULL, &from, st) || measure(from, a, st) ||
        sw_fd_create(path, a->name, &to, st) || copy_bytes(from, to, a, piece, st))
        goto out;
    if (sync)
        sw_fd_sync(to, a->name, st);
out:
    sw_fd_close(to, a->name, st);
    sw_fd_close(from, a->source, st);
    return st->code;
}

static bool is_edited(const sw_asset *a, const sw_config_rule *rule)
{
    return rule && (rule->dtype != SW_NDTYPES || rule->no_quantization) && is_config(a->name);
}

static sw_code stage_config(sw_asset *a, const char *path, const sw_config_rule *rule, bool sync,
                            sw_buf *warnings, sw_status *st)
{
    sw_buf text = SW_BUF_INIT, edited = SW_BUF_INIT;
    sw_config_fault fault;

    if (sw_path_read(a->source, NULL, CONFIG_MAX, &text, NULL, st) ||
        sw_config_edit(text.data, text.len, rule, &edited, &fault, st))
        goto out;
    if (fault.what &&
        sw_buf_add_line(warnings, st, "%s is not JSON (line %" PRIu64 ": %s): it is copied as it is",
                        a->source, fault.line, fault.what))
        goto out;
    a->size = edited.len;
    sw_path_write(path, edited.data, edited.len, sync, st);
out:
    sw_buf_release(&edited);
    sw_buf_release(&text);
    return st->code;
}

sw_code sw_asset_stage(sw_asset *a, const char *path, const sw_config_rule *rule, uint64_t piece, bool sync,
                       sw_buf *warnings, sw_status *st)
{
    if (is_edited(a, rule) && a->size <= CONFIG_MAX)
        return stage_config(a, path, rule, sync, warnings, st);
    if (is_edited(a, rule) &&
        sw_buf_add_line(warnings, st, "%s has %" PRIu64 " bytes, too many to edit it: it is copied as it is",
                        a->source, a->size))
        return st->code;
    return copy(a, path, piece, sync, st);
}
