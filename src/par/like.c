/* Comparing with an existing checkpoint; see like.h. */
#include "par/like.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
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

/* A tensor of a header beside the index against the catalogue's. */
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
                       sw_dims_text(sw_tensor_shape(c, t), t->ndim, text[0]),
                       sw_dims_text(h->dims + e->shape, e->ndim, text[1]), file);
    if (t->out_dtype != e->dtype && others->n++ == 0) {
        strncat(others->name, t->name, sizeof others->name - 1);
        strcpy(others->here, sw_dtype_name((sw_dtype)t->out_dtype));
        strcpy(others->there, sw_dtype_name((sw_dtype)e->dtype));
    }
    return SW_OK;
}

/* The header of one file beside the index, if it is there. */
static sw_code compare_file(const sw_like *k, const char *dir, const char *name, other_dtypes *others,
                            sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    sw_front front = { 0 };
    sw_path_kind kind;
    struct stat s;

    if (!path || sw_path_stat(path, &kind, &s, st) || kind != SW_PATH_FILE)
        goto out;
    if (sw_front_read(&front, dir, name, (uint64_t)s.st_size, st)) {
        /* Its bare name may be that of a file of the checkpoint, too. */
        snprintf(st->file, sizeof st->file, "%s", path);
        sw_text_clean(st->file, strlen(st->file));
        goto out;
    }
    for (size_t i = 0; i < front.h.nentries && !st->code; i++) {
        compare_entry(k->c, &front.h, &front.h.entries[i], name, others, st);
        sw_findings_take(k->findings, hint_like, st);
    }
out:
    sw_front_release(&front);
    free(path);
    return st->code;
}

/* This rank's share of the files. */
static sw_code compare_share(const sw_like *k, int share, int shares, other_dtypes *others, sw_status *st)
{
    char *dir = sw_path_dir(k->index, st);
    const char **names = NULL;
    size_t n;

    if (dir && !sw_map_files(k->weight_map, &names, &n, st))
        for (size_t i = (size_t)share; i < n && !st->code; i += (size_t)shares)
            compare_file(k, dir, names[i], others, st);
    free(names);
    free(dir);
    return st->code;
}

sw_code sw_like_read(const sw_comm *comm, const char *index, const volatile int *cancel, sw_map *weight_map,
                     sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    if (!sw_scan_option_file(comm, index, cancel, &text, st) &&
        !sw_index_parse(text.data, text.len, index, weight_map, NULL, st) && weight_map->n == 0)
        sw_fail(st, SW_EINPUT, index, NULL, "no weight_map");
    sw_buf_release(&text);
    return sw_agree(comm, st);
}

sw_code sw_like_compare(const sw_comm *comm, const sw_like *like, sw_status *st)
{
    other_dtypes mine = { 0 }, *all = sw_calloc((uint64_t)comm->size, sizeof *all, st), *first = NULL;
    uint64_t n = 0;

    if (!st->code && (!like->node_local || comm->rank == 0))
        compare_share(like, comm->rank, like->node_local ? 1 : comm->size, &mine, st);
    if (sw_agree(comm, st) || sw_comm_allgather(comm, &mine, sizeof mine, all, st))
        goto out;
    for (int r = 0; r < comm->size; r++) {
        n += all[r].n;
        first = !first && all[r].n ? &all[r] : first;
    }
    if (first)
        sw_buf_addf(like->warnings, st,
                    "%" PRIu64 " tensors have another dtype than the checkpoint of sw_options.like, the "
                    "first is '%s': %s, there %s\n",
                    n, first->name, first->here, first->there);
    if (!sw_agree(comm, st) && like->findings)
        sw_findings_gather(comm, like->findings, st);
out:
    free(all);
    return st->code;
}
