/* An output file that a group of ranks writes at once: the only place that calls MPI_File_*.
 *
 * What is written is contiguous and in rank order, so that no aggregators are needed. Each rank also holds a POSIX descriptor:
 * with it the file is opened in a way that cannot hang, and it tells why a write failed, which MPI-IO does not.
 * Without MPI the same calls go through it by pwrite. */
#ifndef SW_PAR_IO_H
#define SW_PAR_IO_H

#include "par/comm.h"
#include "plan/schedule.h"

typedef struct sw_out {
    const sw_comm *group;
    const char *show; /* name for messages */
    uint64_t size;    /* of the whole file, bytes */
    int fd;
    bool mpi;
    MPI_File fh;
} sw_out;

/* Collective over group. Create the file (its first rank does), reserve its space, open it on every rank.
 *   group  borrowed until sw_out_close()
 *   path   in the staging directory, must not exist; only borrowed now. show: its name for messages, borrowed
 *   hints  "KEY=VALUE", NULL-terminated; NULL = none
 * All ranks return the same. On an error nothing is open. Errors: SW_EIO. */
sw_code sw_out_open(sw_out *o, const sw_comm *group, const char *path, const char *show, uint64_t size,
                    const char *const *hints, sw_status *st);

/* Collective over group: every rank comes, with an empty band when it has nothing or st holds an error. Writes data to
 * [band.begin, band.end); block: what band.begin is a multiple of. Sets st on the rank that failed: agree afterwards. */
sw_code sw_out_write_all(sw_out *o, sw_region band, uint64_t block, const char *data, sw_status *st);

/* Collective over group. Make what was written durable. Sets st on the rank that failed. */
sw_code sw_out_sync(sw_out *o, sw_status *st);

/* Collective over group, also after an error. */
sw_code sw_out_close(sw_out *o, sw_status *st);

#endif
