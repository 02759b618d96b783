/* Which ranks are on one node, and what they do for one another there: one of them, the first,
 * leads; the others give it what they have, and get back what it has made of it. */
#ifndef SW_PAR_NODES_H
#define SW_PAR_NODES_H

#include "par/comm.h"

typedef struct sw_nodes {
    uint64_t n;      /* so many there are; 0 = not known */
    sw_comm mates;   /* the ranks of this one; rank 0 leads */
    sw_comm leaders; /* of one that leads: those of all nodes */
    char *room;      /* of one that leads: for what comes in; nothing may fail then */
    bool own;        /* they were made, and are to be freed */
} sw_nodes;

/* Collective, also after an error, which is agreed upon. Without MPI nobody knows: then each rank
 * is a node, and nothing is agreed upon. Release in any case. */
sw_code sw_nodes_find(const sw_comm *comm, sw_nodes *out, sw_status *st);
void sw_nodes_release(sw_nodes *nodes);

/* Local. Each rank is a node, whatever MPI knows. */
void sw_nodes_none(const sw_comm *comm, sw_nodes *out);

/* Local. Does this rank lead? */
static inline bool sw_nodes_lead(const sw_nodes *nodes)
{
    return nodes->mates.rank == 0;
}

/* Collective over the mates, also after an error. Each of the others gives n buffers, which are
 * released, to the first, rank after rank: take is called there with what has come, and may empty
 * it. A leader that has failed receives all the same. Errors: SW_ECOMM; of the leader SW_ENOMEM,
 * and what take returns. */
#define SW_COLLECT_MAX 2
typedef sw_code (*sw_collect_fn)(void *ctx, sw_buf *got, sw_status *st);
sw_code sw_nodes_collect(const sw_nodes *nodes, sw_buf *const *mine, size_t n, sw_collect_fn take, void *ctx,
                         sw_status *st);

/* ---- memory of a node ------------------------------------------------------------------------ */

/* Bytes that all ranks of a node see. Who writes which of them is agreed upon. */
typedef struct sw_share {
    sw_handle handle; /* 0 = the memory is this rank's own */
    void *data;       /* NULL = none */
    uint64_t size;    /* bytes */
} sw_share;

/* Collective over the mates, who have agreed before, and return the same. Room for n bytes, the
 * first's number; out->data is NULL where they cannot have it: not every MPI can share. Errors:
 * SW_ECOMM. */
sw_code sw_share_new(const sw_nodes *nodes, uint64_t n, sw_share *out, sw_status *st);

/* Collective over the mates. What any of them has written before is seen by all. Errors:
 * SW_ECOMM. */
sw_code sw_share_show(const sw_share *share, sw_status *st);

/* Collective over those who had it made, unless messages do not get through. */
void sw_share_end(sw_share *share, bool broken);

/* What a job's catalogue has once a node, made where it pays; who comes next goes on with it. Born
 * empty. */
typedef struct sw_shares {
    sw_nodes nodes; /* not own: not asked for yet, or not needed any more */
    sw_share files, boxes;
} sw_shares;

/* Collective over the ranks of the job, unless messages do not get through; the catalogue has been
 * released. */
void sw_shares_end(sw_shares *shares, bool broken);

#endif
