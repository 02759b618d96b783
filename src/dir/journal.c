/* The journal of a publication; see journal.h. Text, so that a person can read what a killed run
 * was about:
 *
 *     shardweld journal 2
 *     home 524290 524301 1700000000123456789 0123456789abcdef    OUTPUT_DIR, staging, when it was
 *                                                                made, number
 *     fingerprint 00f1e2d3c4b5a697
 *     clash 0                                                    1: some names are old ones; 2: a
 *                                                                stream, which renames nothing
 *     new 1048 524305 32:model-00001-of-00001.safetensors        size, inode, length of the name,
 *                                                                name
 *     old 28:model.safetensors.index.json
 *     sum 0123456789abcdef                                       hash of all that stands above
 *
 * Lengths, because names of old files may hold any byte but NUL and the slash. */
#include "dir/journal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/sort.h"
#include "dir/assets.h"
#include "dir/existing.h"
#include "format/filenames.h"
#include "format/manifest.h"
#include "format/maps.h"

#define FIRST_WORDS "shardweld journal "
#define FIRST_LINE FIRST_WORDS "2\n"
#define DRAFT_NAME SW_JOURNAL_NAME ".tmp"
#define CLASH_STREAM 2
#define JOURNAL_MAX ((uint64_t)1 << 30)

/* ---- filling --------------------------------------------------------------------------------- */

bool sw_journal_is_new(const sw_journal *j, const char *name)
{
    return sw_names_have(j->sorted, j->nfiles, name);
}

/* Both lists are complete: make them searchable. */
static sw_code finish(sw_journal *j, sw_status *st)
{
    if (!(j->sorted = sw_calloc(j->nfiles, sizeof *j->sorted, st)))
        return st->code;
    for (size_t i = 0; i < j->nfiles; i++)
        j->sorted[i] = j->files[i].name;
    sw_sort(j->sorted, j->nfiles, sizeof *j->sorted, sw_by_bytes);
    sw_sort(j->old, j->nold, sizeof *j->old, sw_by_bytes);
    return SW_OK;
}

bool sw_journal_is_shards(const sw_journal *j)
{
    return j->nfiles > 0 && sw_shard_name_parse(j->files[j->nfiles - 1].name, NULL);
}

/* A new index may replace an old one by one rename, and so may a lone file; but a lone file that an
 * old index names would make a mixture of that index, and a manifest, that goes after the key or
 * comes before it, would speak of another one. */
static bool decide_clash(const sw_journal *j)
{
    const char *key = j->nfiles ? j->files[j->nfiles - 1].name : "";
    bool key_is_weights = !sw_name_is_index(key), old_index = false, old_lone = false, clash = false;
    bool comes = false, goes = sw_names_have(j->old, j->nold, SW_MANIFEST_NAME);

    for (size_t i = 0; i < j->nold; i++) {
        old_index = old_index || sw_name_is_index(j->old[i]);
        old_lone = old_lone || sw_name_is_lone(j->old[i]);
    }
    for (size_t i = 0; i + 1 < j->nfiles && !clash; i++) {
        clash = sw_names_have(j->old, j->nold, j->files[i].name);
        comes = comes || strcmp(j->files[i].name, SW_MANIFEST_NAME) == 0;
    }
    /* Readers take all shard files that are there: those of two sets must not stand side by
     * side. */
    return clash || (comes && (old_index || old_lone)) ||
           ((goes || (key_is_weights && old_index)) && sw_names_have(j->old, j->nold, key)) ||
           (sw_journal_is_shards(j) && j->nold > 0);
}

sw_code sw_journal_fill(sw_journal *j, const sw_change *c, sw_status *st)
{
    j->fingerprint = c->fingerprint;
    j->files = sw_calloc(c->nfiles, sizeof *j->files, st);
    j->old = sw_calloc(c->nold, sizeof *j->old, st);
    for (; j->nfiles < c->nfiles && !st->code; j->nfiles++)
        j->files[j->nfiles] =
            (sw_journal_file){ sw_strdup(c->files[j->nfiles].name, st), c->files[j->nfiles].size, 0 };
    for (; j->nold < c->nold && !st->code; j->nold++)
        j->old[j->nold] = sw_strdup(c->old[j->nold], st);
    if (!st->code && !finish(j, st))
        j->clash = decide_clash(j);
    return st->code;
}

void sw_journal_release(sw_journal *j)
{
    const sw_journal empty = { 0 };

    for (size_t i = 0; i < j->nfiles; i++)
        free(j->files[i].name);
    for (size_t i = 0; i < j->nold; i++)
        free(j->old[i]);
    free(j->files);
    free(j->old);
    free(j->sorted);
    *j = empty;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Is it a staging directory, or in one? No journal may speak of that. */
static bool is_staging(const char *name)
{
    size_t n = strlen(SW_STAGING_NAME);

    return strncmp(name, SW_STAGING_NAME, n) == 0 && (name[n] == '/' || name[n] == '\0');
}

/* Weights or an index, by the last part. */
static bool is_checkpoint(const char *name)
{
    return sw_name_ends_with(sw_path_name(name), ".safetensors") || sw_name_is_index(sw_path_name(name)) ||
           strcmp(name, SW_MANIFEST_NAME) == 0;
}

/* Nothing hidden but .hf_metadata at the top, and no weights of other kinds. */
static bool is_side_file(const char *name)
{
    static const char metadata[] = SW_METADATA_DIR "/";
    size_t n = strncmp(name, metadata, sizeof metadata - 1) == 0 ? sizeof metadata - 1 : 0;

    for (const char *part = name + n; part; part = (part = strchr(part, '/')) ? part + 1 : NULL)
        if (*part == '.')
            return false;
    return !sw_asset_is_never(sw_path_name(name));
}

bool sw_journal_may_be_new(const char *name)
{
    return sw_name_is_below(name) && !is_staging(name) && (is_checkpoint(name) || is_side_file(name));
}

/* And as old? What it takes away are weights, indices, the side files that it replaces, and
 * mappings of .hf_metadata. */
static bool may_be_old(const sw_journal *j, const char *name)
{
    return sw_below_is_name(name) && !is_staging(name) &&
           (is_checkpoint(name) || sw_journal_is_new(j, name) || strcmp(name, SW_FILE_MAP_NAME) == 0 ||
            strcmp(name, SW_DTYPE_MAP_NAME) == 0);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The text of a journal, but for the sum at its end. */
static sw_code compose(const sw_journal *j, sw_buf *b, sw_status *st)
{
    sw_buf_addf(b, st,
                FIRST_LINE "home %" PRIu64 " %" PRIu64 " %" PRIu64 " %016" PRIx64 "\nfingerprint %016" PRIx64
                           "\nclash %d\n",
                j->home.out, j->home.staging, j->home.born, j->home.number, j->fingerprint,
                j->stream ? CLASH_STREAM : j->clash);
    for (size_t i = 0; i < j->nfiles && !st->code; i++)
        sw_buf_addf(b, st, "new %" PRIu64 " %" PRIu64 " %zu:%s\n", j->files[i].size, j->files[i].ino,
                    strlen(j->files[i].name), j->files[i].name);
    for (size_t i = 0; i < j->nold && !st->code; i++)
        sw_buf_addf(b, st, "old %zu:%s\n", strlen(j->old[i]), j->old[i]);
    return st->code ? st->code : sw_buf_addf(b, st, "sum %016" PRIx64 "\n", sw_hash(0, b->data, b->len));
}

sw_code sw_journal_write(const sw_journal *j, const sw_below *staging, const sw_store *store, bool sync,
                         sw_status *st)
{
    const char *name = store->renames ? DRAFT_NAME : SW_JOURNAL_NAME;
    sw_buf text = SW_BUF_INIT;

    if (!compose(j, &text, st) && !sw_below_write(staging, name, text.data, text.len, sync, st) &&
        (!store->renames || !sw_below_rename(staging, name, staging, SW_JOURNAL_NAME, st)) && sync)
        sw_below_sync(staging, NULL, st);
    sw_buf_release(&text);
    return st->code;
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    const char *at, *end;
    bool bad;
    size_t files_cap, old_cap;
} reader;

/* A word that comes next is passed; false = another one comes. */
static bool take_word(reader *r, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* A number and what follows it; 0 and r->bad where it is none. */
static uint64_t take_number(reader *r, int base, const char *after)
{
    uint64_t n = 0;
    char *stop;

    /* The text ends with a newline and a NUL, so strtoull stays inside. */
    n = strtoull(r->at, &stop, base);
    r->bad = r->bad || stop == r->at || *r->at == '-' || *r->at == '+';
    r->at = stop;
    r->bad = r->bad || !take_word(r, after);
    return n;
}

/* LENGTH ":" NAME "\n" */
static char *take_name(reader *r, sw_status *st)
{
    uint64_t n = take_number(r, 10, ":");
    char *name = NULL;

    r->bad = r->bad || n >= (uint64_t)(r->end - r->at) || r->at[n] != '\n' || memchr(r->at, 0, (size_t)n);
    if (r->bad || !(name = sw_calloc(n + 1, 1, st)))
        return NULL;
    memcpy(name, r->at, (size_t)n);
    r->at += n + 1;
    return name;
}

/* SIZE " " INODE " " and a name. */
static void take_new(reader *r, sw_journal *j, sw_status *st)
{
    sw_journal_file f = { NULL, take_number(r, 10, " "), 0 };

    f.ino = take_number(r, 10, " ");
    if (!(f.name = take_name(r, st)) || sw_grow(&j->files, &r->files_cap, j->nfiles + 1, sizeof f, st))
        free(f.name);
    else
        j->files[j->nfiles++] = f;
}

/* A name of what goes away. */
static void take_old(reader *r, sw_journal *j, sw_status *st)
{
    char *name = take_name(r, st);

    if (!name || sw_grow(&j->old, &r->old_cap, j->nold + 1, sizeof *j->old, st))
        free(name);
    else
        j->old[j->nold++] = name;
}

/* Whoever reads such a journal must find out what became of his files before anything of them
 * goes. */
static sw_code refuse(const char *path, const char *why, sw_status *st)
{
    return sw_fail(
        st, SW_EIO, path, NULL,
        "this journal is not obeyed: %s; look into its directory, where old/ holds replaced files and new/ "
        "their successors, and move or remove it",
        why);
}

/* Who forges one can guess inodes, but cannot set when the directory was made. */
static bool is_home(const sw_journal *j, const sw_journal_home *is, const sw_store *store)
{
    const sw_journal_home *was = &j->home;
    bool numbered = store->rewrites && !store->objects;

    return was->number == is->number &&
           ((j->stream && !numbered) ||
            (was->out == is->out && was->staging == is->staging && (was->born == is->born || !is->born)));
}

/* All names are such as a publication of ours may have. */
static bool names_are_ours(const sw_journal *j)
{
    bool ours = true;

    for (size_t i = 0; i < j->nfiles; i++)
        ours = ours && sw_journal_may_be_new(j->files[i].name);
    for (size_t i = 0; i < j->nold; i++)
        ours = ours && may_be_old(j, j->old[i]);
    return ours;
}

/* All of a journal, strictly: what does not read as it was written is refused. */
static sw_code parse(sw_journal *j, const sw_buf *text, const char *path, sw_status *st)
{
    reader r = { text->data, text->data + text->len, false, 0, 0 };
    const char *sum;
    uint64_t clash;

    if (!take_word(&r, FIRST_LINE) && take_word(&r, FIRST_WORDS))
        return refuse(path, "it is of another version of this program", st);
    r.bad = !take_word(&r, "home ");
    if (!r.bad) {
        j->home.out = take_number(&r, 10, " ");
        j->home.staging = take_number(&r, 10, " ");
        j->home.born = take_number(&r, 10, " ");
        j->home.number = take_number(&r, 16, "\n");
    }
    r.bad = r.bad || !take_word(&r, "fingerprint ");
    j->fingerprint = r.bad ? 0 : take_number(&r, 16, "\nclash ");
    clash = r.bad ? 0 : take_number(&r, 10, "\n");
    j->stream = clash == CLASH_STREAM;
    j->clash = clash == 1;
    while (!r.bad && !st->code && take_word(&r, "new "))
        take_new(&r, j, st);
    while (!r.bad && !st->code && take_word(&r, "old "))
        take_old(&r, j, st);
    sum = r.at;
    r.bad = r.bad || !take_word(&r, "sum ");
    r.bad = r.bad || take_number(&r, 16, "\n") != sw_hash(0, text->data, (size_t)(sum - text->data));
    if (r.bad || r.at != r.end || j->nfiles == 0)
        refuse(path, "it is damaged", st);
    return st->code ? st->code : finish(j, st);
}

sw_code sw_journal_read(sw_journal *j, const sw_below *staging, const sw_journal_home *home,
                        const sw_store *store, bool *missing, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;
    char *path = sw_path_join(staging->path, SW_JOURNAL_NAME, st);
    int fd = -1;

    if (!path || sw_below_open_own(staging, SW_JOURNAL_NAME, O_RDONLY, &fd, missing, st) || *missing)
        goto out;
    if (!sw_fd_read_all(fd, path, JOURNAL_MAX, &text, st) && !sw_buf_add(&text, "", 1, st)) {
        text.len--;
        *missing = !store->renames && text.len == 0;
        if (!*missing)
            parse(j, &text, path, st);
    }
    if (*missing)
        sw_below_unlink(staging, SW_JOURNAL_NAME, st);
    else if (!st->code && !is_home(j, home, store))
        refuse(path, "it was written in another directory, of which this is a copy, or came from elsewhere",
               st);
    if (!st->code && !*missing && !names_are_ours(j))
        refuse(path, "it names files that no publication makes or replaces", st);
    close(fd);
out:
    sw_buf_release(&text);
    free(path);
    return st->code;
}
