/* Files beside the input that somebody may have meant as a part of it: a shard whose name is wrong
 * would be left out without a word. */
#ifndef SW_PAR_STRAYS_H
#define SW_PAR_STRAYS_H

#include "base/path.h"
#include "par/comm.h"
#include "plan/catalog.h"

typedef struct sw_strays {
    const char *dir;
    const sw_dir *names; /* what this rank sees there; empty when it does not look */
    const sw_catalog *c; /* the files that were chosen */
    bool by_shards;      /* by torch's names; else all *.safetensors */
    sw_buf *warnings;    /* gets lines, the same on every rank */
} sw_strays;

/* Collective. An error is what carries sharding info, or has the name of a shard file but for some
 * detail; what is left out with good reason is told of in a line. findings as in sw_scan_dir(). All
 * ranks return the same. Errors: SW_EINPUT, SW_EIO, SW_ENOMEM. */
sw_code sw_strays_check(const sw_comm *comm, const sw_strays *s, sw_findings *findings, sw_status *st);

#endif
