/* Almost-shards; see strays.h. */
#include "dir/strays.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dir/front.h"

static const char hint_name[] = "a copy, or a file that was renamed: give it the name that torch gave it, or "
                                "take it out of the directory";

/* What is left out, and said in one line for all of a kind. */
static const char soft_stray[] = "is no shard file by its name, and has no sharding info";
static const char soft_copy[] = "is a copy of a shard file that is there";

static const char form[] = "shard-00001-model-00001-of-00001.safetensors";

/* Is it a file, or a link that leads nowhere, which would be one? */
static bool is_file(const char *dir, const char *name, uint64_t *size, sw_status *st)
{
    sw_path_kind kind;
    struct stat s = { 0 };

    sw_path_stat_in(dir, name, &kind, &s, st);
    *size = kind == SW_PATH_FILE ? (uint64_t)s.st_size : 0;
    return !st->code && (kind == SW_PATH_FILE || kind == SW_PATH_DANGLING);
}

/* One that cannot be read has none: it is nobody's input. */
static bool has_sharding_info(const char *dir, const char *name, uint64_t size)
{
    sw_status st = SW_STATUS_INIT;
    sw_front front = { 0 };
    bool has = !sw_front_read(&front, dir, name, size, &st) && front.h.sharded;

    sw_front_release(&front);
    return has;
}

/* Is the shard of this number among those that are read? */
static bool is_there(const sw_catalog *c, const sw_shard_name *n)
{
    for (uint32_t i = 0; i < c->nfiles; i++)
        if (c->files[i].number.shard == n->shard && c->files[i].number.model == n->model)
            return true;
    return false;
}

/* A shard's name with something behind it. */
static sw_code judge_leftover(const sw_catalog *c, const char *name, const sw_shard_name *n,
                              sw_findings *soft, sw_status *st)
{
    if (is_there(c, n))
        return sw_name_is_copy(name) ? sw_findings_add(soft, name, NULL, NULL, st, "%s", soft_copy) : SW_OK;
    return sw_fail(
        st, SW_EINPUT, name, NULL,
        "has the name of shard %" PRIu64 " of model %" PRIu64
        " with something behind it, and that shard is not there: a copy that was not finished, or a "
        "file that was set aside",
        n->shard, n->model);
}

/* What is wrong with one name of the directory. */
static sw_code judge(const sw_find *f, const char *dir, const sw_catalog *c, const char *name,
                     sw_findings *soft, sw_status *st)
{
    sw_shard_name number;
    sw_name_look look = sw_name_judge(name, &number);
    uint64_t size;

    if (look == SW_LOOKS_OTHER || look == SW_LOOKS_SHARD)
        return SW_OK;
    /* Where all *.safetensors were taken, only those in another case were not. */
    if (!f->by_shards && (look == SW_LOOKS_LEFTOVER || sw_name_ends_with(name, ".safetensors")))
        return SW_OK;
    if (!is_file(dir, name, &size, st))
        return st->code;
    if (look == SW_LOOKS_LEFTOVER)
        return judge_leftover(c, name, &number, soft, st);
    if (look == SW_LOOKS_ALMOST && f->by_shards)
        return sw_fail(
            st, SW_EINPUT, name, NULL,
            "looks like a shard file, but would be left out: its name is not of the form %s (five digits or "
            "more, from 1, no model above its 'of')",
            form);
    if (!has_sharding_info(dir, name, size))
        return sw_findings_add(soft, name, NULL, NULL, st, "%s", soft_stray);
    return sw_fail(st, SW_EINPUT, name, NULL,
                   "carries sharding info, but would be left out: %s is not of the form %s",
                   f->by_shards ? "its name" : "the end of its name", f->by_shards ? form : "*.safetensors");
}

sw_code sw_strays_judge(const sw_find *f, const char *dir, const sw_catalog *c, sw_findings *soft,
                        sw_findings *findings, sw_status *st)
{
    for (size_t i = 0; i < f->names.n && !st->code; i++) {
        judge(f, dir, c, f->names.names[i], soft, st);
        sw_findings_take(findings, hint_name, st);
    }
    return st->code;
}

/* One line for each reason: the first file, and how many there are. */
sw_code sw_strays_tell(const sw_findings *soft, sw_buf *warnings, sw_status *st)
{
    static const char *const reasons[] = { soft_stray, soft_copy };

    for (size_t r = 0; r < sizeof reasons / sizeof *reasons; r++) {
        const char *first = NULL;
        size_t n = 0;

        for (size_t i = 0; i < soft->n; i++) {
            if (strcmp(soft->items[i].reason, reasons[r]) != 0)
                continue;
            first = first ? first : soft->items[i].file;
            n++;
        }
        if (n == 1)
            sw_buf_add_line(warnings, st, "%s: %s: it is left out", first, reasons[r]);
        else if (n)
            sw_buf_add_line(warnings, st, "%s: %s: it is left out, and so %s %zu more file%s", first,
                            reasons[r], n == 2 ? "is" : "are", n - 1, n == 2 ? "" : "s");
    }
    return st->code;
}
