/* The bands of a rank by the schedule: file after file and round after round, put together in
 * memory. What comes of them is the caller's: they are written (weld.h) or compared (compare.h).
 *
 * By band a rank fills its bands from the source, by itself. By owner all ranks fill them together
 * (exchange.h). */
#ifndef SW_PAR_BANDS_H
#define SW_PAR_BANDS_H

#include "par/exchange.h"
#include "par/rounds.h"

/* ---- memory ---------------------------------------------------------------------------------- */

/* How the memory of a rank is shared, in bytes. */
typedef struct sw_memory {
    uint64_t buffer;  /* all of it */
    uint64_t band;    /* at most; the schedule may take less */
    uint64_t chunk;   /* of what is compared with a band */
    uint64_t scratch; /* for short rows */
    uint64_t input;   /* for what conversions take; 0 = there are none */
    uint64_t send;    /* by owner: for what is sent */
} sw_memory;

/* What a purpose takes of a buffer at most. */
typedef struct sw_memory_rule {
    /* the buffer, by kind of file system, where none is given; of what is streamed by band */
    uint64_t local, shared, fuse, stream;
    uint64_t chunk;                    /* 0 = none */
    uint64_t scratch, scratch_divisor; /* at most that share of the buffer, too */
    uint64_t input;                    /* by band: pieces that stay in the processor's cache */
    uint64_t unit;                     /* of bands and chunks */
} sw_memory_rule;

extern const sw_memory_rule sw_memory_of_weld, sw_memory_of_compare;

/* What the sharing depends on. */
typedef struct sw_memory_need {
    uint64_t buffer;
    uint32_t nranks;
    bool by_owner, converts;
    bool fuse;   /* where it is shared, it is by FUSE */
    bool stream; /* files are streamed */
    bool behind; /* a second band is written while one is filled */
} sw_memory_need;

/* Local. The buffer to take where the user gave none. need's own is not looked at. */
uint64_t sw_memory_buffer(const sw_memory_rule *rule, bool shared, const sw_memory_need *need);

/* Local. Share it out. Errors: SW_EUSAGE (too small for so many ranks that exchange). */
sw_code sw_memory_share(const sw_memory_rule *rule, const sw_memory_need *need, sw_memory *out,
                        sw_status *st);

/* ---- bands ----------------------------------------------------------------------------------- */

/* What is put together, from what, by whom. Borrowed. */
typedef struct sw_work {
    const sw_comm *world;
    const sw_outputs *o;
    const sw_layout *l;
    const sw_schedule *sched; /* shared = by owner */
    const char *input_dir;
    /* what this rank holds, in the place of input_dir; NULL = files. With several ranks: shared, or
     * no MPI */
    const sw_memboxes *held;
    sw_memory memory;
    sw_writing to; /* of what is only compared or shown: drops, cancel and progress */
    bool behind;   /* bands are put together in two places in turn: one may be under way yet */
} sw_work;

typedef struct sw_bands {
    const sw_work *w;
    sw_source source;
    sw_filler filler;
    sw_exchange *exchange; /* NULL = by band */
    char *memory;          /* for one band, or two; the filler's input stands behind them */
    char *band;            /* in it, what was filled last */
    sw_cursor at;
    sw_progress progress; /* of the whole work */
} sw_bands;

/* Local. group: by owner, the ranks that exchange; borrowed, as w is. Release it in any case. */
sw_code sw_bands_init(sw_bands *b, const sw_work *w, const sw_comm *group, sw_status *st);
void sw_bands_release(sw_bands *b);

/* Local. The next band of this rank, which may be empty. By owner, where others still have one,
 * also one of no file (name NULL). False when there is none left. */
bool sw_bands_next(sw_bands *b, sw_band *out);

/* Local. Ask the system to begin reading what the band behind that one needs. */
void sw_bands_advise(const sw_bands *b);

/* Fill that band: b->band. By owner it is a collective, also after an error. False when all ranks
 * have to leave. */
bool sw_bands_fill(sw_bands *b, sw_status *st);

#endif
