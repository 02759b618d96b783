/* shardweld inspect: what is looked at, and the ways to show it. */
#ifndef SW_CMD_INSPECT_H
#define SW_CMD_INSPECT_H

#include <stdio.h>

#include "pattern.h"
#include "run.h"

/* What there is of one dtype. */
typedef struct sw_dtype_sum {
    const char *dtype;
    uint64_t tensors, elements, bytes;
} sw_dtype_sum;

#define SW_DTYPES_MAX 64

/* A checkpoint and what of it was asked for. Borrowed but for chosen. */
typedef struct sw_look {
    const sw_run *run;
    const sw_args *args;
    const sw_status *st;     /* how the run ended */
    const sw_checkpoint *cp; /* NULL = it could not be opened: for JSON only */
    sw_checkpoint_info info;
    uint64_t *chosen; /* indices of the tensors that --tensor chooses; owned */
    uint64_t nchosen;
    /* for people: how each of them is sharded, in words, and those that are alike but for numbers
     * in their names (with -v: each by itself), their bytes as the amount; owned */
    const char **words;
    char **texts; /* of words, each once */
    size_t ntexts;
    sw_patterns groups;
    sw_dtype_sum dtypes[SW_DTYPES_MAX]; /* of all tensors, by the first of each */
    size_t ndtypes;
    /* tensors of which a manifest tells; that hold NaN or infinite numbers */
    uint64_t counted, strange;
    const sw_finding *findings;
    uint64_t nfindings;
    sw_status *err; /* takes what goes wrong while it is shown: SW_ENOMEM */
} sw_look;

/* Local. A sum; one that does not fit stays at the end. */
static inline uint64_t sw_sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Local. The one walk over all tensors: fill in what follows cp, from the checkpoint and args. */
void sw_look_survey(sw_look *look);

/* Local. The tensor that stands for the others of a group: an index of the checkpoint. */
uint64_t sw_look_first(const sw_look *look, const sw_pattern *group);

/* Local. Tables for people; one JSON object (docs/inspect.md); a list of boxes (docs/boxes.md); a
 * picture of how the shards tile the tensors. Each is an sw_printer, about an sw_look. */
void sw_look_tables(FILE *to, const void *look);
void sw_look_json(FILE *to, const void *look);
void sw_look_boxes(FILE *to, const void *look);
void sw_look_svg(FILE *to, const void *look);

/* Local. The rest of the line of a group, behind its name: cells of sw_look_tables(). */
void sw_look_put_group(const sw_look *look, const sw_pattern *group, FILE *to);

/* Local. The groups by the words of their names, as lines of sw_look_tables(): what has parts in
 * common stands below them. */
void sw_look_tree(FILE *to, const void *look);

#endif
