/* The one write loop: in each round a rank takes its next band, fills it, writes it, and the ranks
 * agree on how it goes. What is written stands behind two functions.
 *
 * Together, a group of ranks has the same rounds of the same files, each with a band of its own
 * that may be empty, and agrees after each, but waits for the answer only some rounds later. Apart,
 * each rank goes its own way through files that it opens by itself, and the ranks agree after so
 * many bytes (SW_TURN): that is for ranks without MPI between them, whose messages may be slow, and
 * for files that can only be streamed. Of these each is made, opened once, and written from front
 * to back by one rank. Who has a file to itself may have a thread that writes a band while the next
 * one is filled (behind.h). */
#ifndef SW_PAR_ROUNDS_H
#define SW_PAR_ROUNDS_H

#include "par/io.h"

#define SW_TURN (UINT64_C(64) << 20)

/* Bytes of one output file that this rank writes in one round. */
typedef struct sw_band {
    uint32_t file;    /* the caller's number; bands of one file come one after the other */
    const char *name; /* of the file, relative to dir; good until the file is closed */
    uint64_t size;    /* of the whole file */
    sw_region at;     /* of the file; may be empty */
} sw_band;

/* How far a run is, estimated from the part of one rank. { NULL } tells nobody. */
typedef struct sw_progress {
    void (*fn)(void *user, uint64_t done, uint64_t total);
    void (*phase)(void *user, sw_phase phase);
    void *user;
    uint64_t todo, total; /* bytes of this rank's part, and of all */
} sw_progress;

/* Local. This rank has done so many bytes of its part. */
static inline void sw_progress_tell(const sw_progress *p, uint64_t done)
{
    if (p->fn && p->todo)
        p->fn(p->user,
              (uint64_t)((double)p->total * ((double)(done < p->todo ? done : p->todo) / (double)p->todo)),
              p->total);
}

/* Local. Something else begins. */
static inline void sw_progress_enter(const sw_progress *p, sw_phase phase)
{
    if (p->phase)
        p->phase(p->user, phase);
}

/* How files are written, whatever they hold. Borrowed. */
typedef struct sw_writing {
    /* they are made in it (sw_staged_open()); sub-directories are there already */
    const char *dir;
    bool sync; /* make them durable */
    /* what is on the disk, and what was read for them, goes from the page cache */
    bool drops;
    bool stream;        /* each is made, opened once, and written from front to back by one rank */
    sw_stripes stripes; /* of files that are made */
    const volatile int *cancel;
    sw_progress progress; /* on rank 0; its todo and total are filled in by who writes */
} sw_writing;

typedef struct sw_rounds {
    const sw_comm *comm; /* who agrees: together it is the group that writes the files */
    bool apart;
    bool make;         /* apart: a file is made by whom opens it */
    bool behind;       /* not by several ranks together: bands are written by a thread. The bytes of
                         * one stay until the next but one is filled */
    bool joint;        /* apart: to fill is a collective, which agrees by itself, errors too */
    sw_writing to;     /* streams only apart; there the progress' todo is what this rank writes */
    sw_transport *how; /* together */
    void *ctx;
    /* Local. The next band of this rank; false when there is none. Together, and joint, it does not
     * depend on the status; joint it may be of no file, which has no name. */
    bool (*next)(void *ctx, sw_band *band);
    /* The bytes of that band; NULL when all ranks of the group have to leave. Together, and joint,
     * it is also called after an error of this rank's. */
    const char *(*fill)(void *ctx, const sw_band *band, sw_status *st);
    uint64_t written; /* out: bytes that this rank wrote */
} sw_rounds;

/* Collective over comm. Write all bands. All ranks return the same; on an error files may be left
 * in dir. */
sw_code sw_rounds_write(sw_rounds *w, sw_status *st);

#endif
