/* shardweld inspect: what is looked at, and the three ways to show it. */
#ifndef SW_CMD_INSPECT_H
#define SW_CMD_INSPECT_H

#include <stdio.h>

#include "run.h"

/* A checkpoint and what of it was asked for. Borrowed but for chosen. */
typedef struct sw_look {
    const sw_run *run;
    const sw_checkpoint *cp;
    sw_checkpoint_info info;
    uint64_t *chosen; /* indices of the tensors that --tensor chooses; owned */
    uint64_t nchosen;
    const sw_finding *findings;
    uint64_t nfindings;
} sw_look;

/* All of these are local. They write what they can; the caller looks at ferror(). A false answer
 * means that memory is short. */

/* Tables for people, in lines of at most width columns (0 = any). */
bool sw_look_tables(const sw_look *look, size_t width, FILE *to);

/* One JSON object (docs/inspect.md). look->cp may be NULL where the checkpoint could not be
 * opened. */
bool sw_look_json(const sw_look *look, const sw_status *st, FILE *to);

/* An SVG picture of how the shards tile the tensors. */
bool sw_look_svg(const sw_look *look, FILE *to);

#endif
