/* What the steps need of a group of ranks, on top of the three functions of an sw_comm.
 *
 * SW_ECOMM means that messages do not get through: one rank may know it alone, and nothing can be
 * agreed upon any more. Wherever "all ranks return the same" is said, that is the exception. */
#ifndef SW_PAR_COMM_H
#define SW_PAR_COMM_H

#include "base/buf.h"
#include "par/layer.h"

/* Local. A call of MPI has failed on this communicator: SW_ECOMM with what MPI says of it, whatever
 * st held. */
sw_code sw_comm_broken(const sw_comm *comm, sw_status *st);

/* Collective. n bytes from rank root to all. Fails with SW_ECOMM alone. */
sw_code sw_comm_bcast(const sw_comm *comm, void *buf, uint64_t n, int root, sw_status *st);

/* Collective. sw_agree(), and in the same step for each of n words the largest of all ranks' / n
 * bytes of rank 0 to all, where nobody has failed. */
#define SW_AGREE_WORDS 96
sw_code sw_agree_most(const sw_comm *comm, uint64_t *words, size_t n, sw_status *st);
sw_code sw_agree_share(const sw_comm *comm, void *data, size_t n, sw_status *st);

/* Collective. A buffer of any length from rank root to all; the others' is replaced. An error that
 * st holds is agreed upon with it, so that nothing needs to be before. All ranks return the
 * same. */
sw_code sw_comm_bcast_buf(const sw_comm *comm, sw_buf *b, int root, sw_status *st);

/* Collective. One fixed-size block of n bytes of each rank, in rank order, into all (size * n
 * bytes). */
sw_code sw_comm_allgather(const sw_comm *comm, const void *mine, uint64_t n, void *all, sw_status *st);

/* What each rank has, and then all of it. */
typedef struct sw_gathering {
    const sw_buf *mine; /* borrowed */
    sw_buf all;         /* one after the other in rank order */
    uint64_t *starts;   /* rank r's part is [starts[r], starts[r + 1]) */
} sw_gathering;

/* Collective. Every rank's bytes on every rank, of n kinds, in calls of at most SW_GATHER_PART
 * bytes. / Of one kind, where it does not matter whose they are; all is replaced, and released on
 * an error.
 * An error that st holds is agreed upon with the lengths, so that nothing needs to be before. All
 * ranks return the same. Release g in any case. */
#define SW_GATHER_PART (UINT64_C(256) << 20)
sw_code sw_comm_gather_kinds(const sw_comm *comm, sw_gathering *g, size_t n, sw_status *st);
void sw_gathering_release(sw_gathering *g, size_t n);
sw_code sw_comm_gather(const sw_comm *comm, const sw_buf *mine, sw_buf *all, sw_status *st);

/* Collective. Have all ranks the same number? *other: the first rank whose number is not rank 0's;
 * 0 = all have. An error that st holds is agreed upon with it. All ranks return the same. */
sw_code sw_comm_compare(const sw_comm *comm, uint64_t mine, int *other, sw_status *st);

/* Collective. What a run has cost, for a report: *bytes of this rank becomes the sum of all; *peak
 * the largest resident set of any. No memory for it is of no consequence: then both stay as they
 * are. Errors: SW_ECOMM, whatever st held. */
void sw_comm_totals(const sw_comm *comm, uint64_t *bytes, uint64_t *peak, sw_status *st);

/* Local. What speaks MPI for it, NULL when it has none; / and then by this handle. */
const sw_layer *sw_comm_layer(const sw_comm *comm);
sw_handle sw_comm_handle(const sw_comm *comm);

/* Local. To stand behind a call of the layer in which other ranks are waited for, as
 * sw_step_waited() does; keeps an error for sw_comm_broken(). */
int sw_comm_waited(int err);

/* Collective. Ranks with equal color form a group, in rank order; free with sw_comm_mpi_release().
 * Without MPI the group is the same communicator: right for one process only. */
sw_code sw_comm_split(const sw_comm *comm, int color, sw_comm *out, sw_status *st);

/* Collective. Those that share memory with one another, in rank order, likewise. */
sw_code sw_comm_split_node(const sw_comm *comm, sw_comm *out, sw_status *st);

/* Local. Turn what a function of the layer has returned into a status: code SW_EIO for files,
 * SW_ECOMM for messages. */
sw_code sw_fail_mpi(sw_status *st, sw_code code, const char *file, int err, const char *what);

/* ---- agreeing behind the work -------------------------------------------------------------------
 * The outcome of each round is agreed upon, but a rank does not wait for that of a round before
 * SW_WATCH_LAG rounds later: so a rank that is held up for a moment does not hold up the others. */
#define SW_WATCH_LAG 4

typedef struct sw_watch {
    const sw_comm *comm;
    sw_handle requests[SW_WATCH_LAG];
    uint64_t mine[SW_WATCH_LAG], any[SW_WATCH_LAG]; /* has failed: not 0 */
    unsigned begun, ended;
    bool failed; /* some rank failed in a round that has been waited for */
} sw_watch;

/* Local. comm is borrowed. */
void sw_watch_init(sw_watch *w, const sw_comm *comm);

/* Collective, but does not wait: this rank's outcome of a round. At most SW_WATCH_LAG may be under
 * way. */
void sw_watch_begin(sw_watch *w, sw_status *st);

/* Collective. Wait for the oldest round when all places are taken (all = false), or for all of
 * them. Waiting does not spin. True when some rank has failed: then, and at the end, sw_agree()
 * tells who. The answer is the same on every rank. */
bool sw_watch_end(sw_watch *w, bool all, sw_status *st);

/* ---- stopping the other groups ------------------------------------------------------------------
 * Groups never wait for each other while they write, so one that fails tells the others' first
 * ranks, and they look for such a word in each round. */
typedef struct sw_stopper {
    const sw_comm *world;
    const int *leaders; /* first ranks of all groups, ascending; NULL = every rank is a group */
    int nleaders;
    sw_handle *sent; /* one for each word that was sent */
    int nsent;
    int *told; /* room: who has told, one a rank */
    bool heard;
} sw_stopper;

/* Local. leaders is borrowed; NULL = every rank is a group. Release in any case. */
sw_code sw_stopper_init(sw_stopper *s, const sw_comm *world, const int *leaders, int nleaders, sw_status *st);
void sw_stopper_release(sw_stopper *s);

/* Local, a leader's. Has another group failed? */
bool sw_stopper_heard(sw_stopper *s);

/* Local, a leader's. Tell all other leaders. */
void sw_stopper_tell(sw_stopper *s, sw_status *st);

/* Collective over world. Receive what is still under way. */
void sw_stopper_finish(sw_stopper *s, sw_status *st);

#endif
