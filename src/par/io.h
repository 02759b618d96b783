/* An output file that a group of ranks writes at once: the only place that writes by MPI-IO.
 *
 * What is written is contiguous and in rank order, so that no aggregators are needed. Each rank
 * also holds a POSIX descriptor: with it the file is opened in a way that cannot hang, and it tells
 * why a write failed, which MPI-IO does not. Without MPI, and where MPI would aggregate, the same
 * calls go through it by pwrite. */
#ifndef SW_PAR_IO_H
#define SW_PAR_IO_H

#include "base/below.h"
#include "base/passed.h"
#include "dir/stripes.h"
#include "par/comm.h"
#include "par/transport.h"
#include "plan/schedule.h"

/* The caller says what of it is to be opened; group and show are borrowed until it is closed. */
typedef struct sw_out {
    const sw_comm *group; /* NULL = it is opened by this rank alone */
    const char *show;     /* its name in the directory of the staged files, and in messages */
    uint64_t size;        /* of the whole file, bytes */
    bool durable;         /* begin to write to the disk at once: sw_out_sync() will be called */
    /* how it is striped when it is made */
    sw_stripes stripes;
    bool drops; /* what is on the disk goes from the page cache */
    /* what follows is set by opening */
    int fd;
    sw_handle file; /* by MPI-IO; 0 = it is written by POSIX */
    bool local;     /* by POSIX, on a disk of this machine */
    bool stream;
    sw_passed passed; /* where it drops */
} sw_out;

/* Collective over group. Create the file (its first rank does), which must not exist, reserve its
 * space, open it on every rank.
 *   dir  of the staged files (sw_staged_open()); only borrowed now
 *   how  chosen by sw_transport_choose(); learns what the first files are opened with
 * A rank may come with an error. All ranks return the same. On an error nothing is open. Errors:
 * SW_EIO. */
sw_code sw_out_open(sw_out *o, const sw_below *dir, sw_transport *how, sw_status *st);

/* Local, for ranks that have no MPI between them. One of them creates the file and reserves its
 * space, then each opens it for itself: sw_out_write_all(), sw_out_sync() and sw_out_close() are
 * local for what is opened so. Errors: SW_EIO. */
sw_code sw_out_create_alone(const sw_out *o, const sw_below *dir, sw_status *st);
sw_code sw_out_open_alone(sw_out *o, const sw_below *dir, sw_status *st);

/* Local. Make a file that is written once, by this rank alone, from front to back: it is opened
 * once, nothing is reserved, and no other call touches it until it is closed. The rest as
 * sw_out_open_alone(). */
sw_code sw_out_open_stream(sw_out *o, const sw_below *dir, sw_status *st);

/* Collective over group: every rank comes, with an empty band when it has nothing or st holds an
 * error. Writes data to [band.begin, band.end). Sets st on the rank that failed: agree
 * afterwards. */
sw_code sw_out_write_all(sw_out *o, sw_region band, const char *data, sw_status *st);

/* Collective over group. Make what was written durable. Sets st on the rank that failed. */
sw_code sw_out_sync(sw_out *o, sw_status *st);

/* Collective over group, also after an error. */
sw_code sw_out_close(sw_out *o, sw_status *st);

#endif
