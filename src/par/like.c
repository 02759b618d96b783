/* Comparing with an existing checkpoint; see like.h. */
#include "par/like.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sort.h"
#include "dir/front.h"
#include "par/gather.h"
#include "par/scan.h"
#include "plan/dims.h"

/* How many tensors have another dtype there, and the first of them. */
typedef struct other_dtypes {
    uint64_t n;
    char name[256], here[16], there[16];
} other_dtypes;

static const char hint_like[] = "a checkpoint of another model or size, or the end of the tensor was lost "
                                "with the last shard file";

static sw_code compare_entry(const sw_catalog *c, const sw_header *h, const sw_entry *e, const char *file,
                             other_dtypes *others, sw_status *st)
{
    const sw_tensor *t = sw_catalog_find_tensor(c, e->name);
    char text[2][SW_DIMS_TEXT];

    if (!t || t->broken)
        return SW_OK;
    if (t->ndim != e->ndim ||
        memcmp(sw_tensor_shape(c, t), h->dims + e->shape, e->ndim * sizeof *h->dims) != 0)
        return sw_fail(st, SW_EINPUT, NULL, t->name, "the shards make up shape %s, but it is %s in %s",
                       sw_dims_text(sw_tensor_shape(c, t), t->ndim, text[0], sizeof text[0]),
                       sw_dims_text(h->dims + e->shape, e->ndim, text[1], sizeof text[1]), file);
    if (t->out_dtype != e->dtype && others->n++ == 0) {
        strncat(others->name, t->name, sizeof others->name - 1);
        strcpy(others->here, sw_dtype_name((sw_dtype)t->out_dtype));
        strcpy(others->there, sw_dtype_name((sw_dtype)e->dtype));
    }
    return SW_OK;
}

static sw_code compare_file(const sw_catalog *c, const char *dir, const char *name, other_dtypes *others,
                            sw_findings *findings, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_header h = SW_HEADER_INIT;
    sw_buf text = SW_BUF_INIT;
    sw_path_kind kind;
    struct stat s;

    if (!path || sw_path_stat(path, &kind, &s, st) || kind != SW_PATH_FILE)
        goto out;
    if (sw_header_read(dir, name, (uint64_t)s.st_size, &text, &h, NULL, st)) {
        /* Its bare name may be that of a file of the checkpoint, too. */
        snprintf(st->file, sizeof st->file, "%s", path);
        sw_text_clean(st->file, strlen(st->file));
        goto out;
    }
    for (size_t i = 0; i < h.nentries && !st->code; i++) {
        compare_entry(c, &h, &h.entries[i], name, others, st);
        sw_findings_take_hint(findings, hint_like, st);
    }
out:
    sw_header_release(&h);
    sw_buf_release(&text);
    free(path);
    return st->code;
}

/* This rank's share of the files. */
static sw_code compare_share(const sw_catalog *c, const char *dir, const sw_map *map, int share, int shares,
                             other_dtypes *others, sw_findings *findings, sw_status *st)
{
    const char **names = sw_calloc(map->n, sizeof *names, st);
    int file = 0;

    for (size_t i = 0; names && i < map->n; i++)
        names[i] = map->items[i].text;
    if (names && map->n > 1)
        qsort(names, map->n, sizeof *names, sw_by_bytes);
    for (size_t i = 0; names && i < map->n && !st->code; i++) {
        if (i > 0 && strcmp(names[i - 1], names[i]) == 0)
            continue;
        if (file++ % shares == share)
            compare_file(c, dir, names[i], others, findings, st);
    }
    free(names);
    return st->code;
}

sw_code sw_like_read(const sw_comm *comm, const char *index, const volatile int *cancel, sw_map *weight_map,
                     sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    if (!sw_scan_option_file(comm, index, cancel, &text, st) &&
        !sw_index_parse(text.data, text.len, index, weight_map, st) && weight_map->n == 0)
        sw_fail(st, SW_EINPUT, index, NULL, "no weight_map");
    sw_buf_release(&text);
    return sw_agree(comm, st);
}

sw_code sw_like_compare(const sw_comm *comm, const sw_catalog *c, const char *dir, const sw_map *weight_map,
                        bool node_local, sw_buf *warnings, sw_findings *findings, sw_status *st)
{
    other_dtypes mine = { 0 }, *all = sw_calloc((uint64_t)comm->size, sizeof *all, st), *first = NULL;
    uint64_t n = 0;

    if (!st->code && (!node_local || comm->rank == 0))
        compare_share(c, dir, weight_map, comm->rank, node_local ? 1 : comm->size, &mine, findings, st);
    if (sw_agree(comm, st) || sw_comm_allgather(comm, &mine, sizeof mine, all, st))
        goto out;
    for (int r = 0; r < comm->size; r++) {
        n += all[r].n;
        first = !first && all[r].n ? &all[r] : first;
    }
    if (first)
        sw_buf_addf(
            warnings, st,
            "%" PRIu64
            " tensors have another dtype than the checkpoint of --like, the first is '%s': %s, there %s\n",
            n, first->name, first->here, first->there);
    if (!sw_agree(comm, st) && findings)
        sw_findings_gather(comm, findings, st);
out:
    free(all);
    return st->code;
}
