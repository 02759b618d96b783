/* The schedule: which ranks write which part of which output file, in which rounds. Pure.
 *
 * Each output file has a group of ranks. With more ranks than files a group has ranks in proportion
 * to the file's bytes and no rank is in two groups; with more files than ranks each file has one
 * rank, balanced by bytes. When ranks exchange (by owner), every file has all ranks, one file after
 * the other. Where files can only be streamed each has one rank in any case. Within a group each
 * rank has one contiguous region, in rank order, cut at absolute offsets; it goes through it in
 * bands. */
#ifndef SW_PLAN_SCHEDULE_H
#define SW_PLAN_SCHEDULE_H

#include "plan/layout.h"
#include "plan/outputs.h"

/* The ranks [rank0, rank0 + nranks) write the file. */
typedef struct sw_group {
    uint32_t rank0, nranks;
} sw_group;

typedef struct sw_schedule {
    sw_group *groups; /* one a file of the layout */
    uint32_t nfiles;
    uint64_t band;  /* bytes that a rank writes in one round, at most */
    uint64_t block; /* regions begin at multiples of it (bytes, absolute in the file) */
    uint64_t unit;  /* bands begin at multiples of it: block, or band when that is smaller */
    bool shared;    /* all ranks fill every band together: they exchange */
    bool whole;     /* each file has one rank */
} sw_schedule;

/* What a schedule goes by. */
typedef struct sw_schedule_rule {
    uint32_t nranks;
    uint64_t band;  /* bytes, > 0 */
    uint64_t block; /* preferred cut: stripe or block size of the file system, bytes */
    bool shared;    /* the ranks exchange */
    bool whole;     /* a file has one writer, who goes through it from front to back */
} sw_schedule_rule;

/* Local. Errors: SW_ENOMEM. */
sw_code sw_schedule_build(const sw_layout *l, const sw_schedule_rule *rule, sw_schedule *out, sw_status *st);

/* Local. The part of file f that rank writes. */
sw_region sw_schedule_region(const sw_schedule *s, const sw_layout *l, uint32_t f, uint32_t rank);

/* Local. Rounds in which file f is written: the same for all ranks of its group; 0 for an empty
 * file. */
uint64_t sw_schedule_rounds(const sw_schedule *s, const sw_layout *l, uint32_t f);

/* Local. The band of a region in a round: empty once the region is done. */
sw_region sw_schedule_band(const sw_schedule *s, sw_region region, uint64_t round);

/* A rank's way through its bands: of each of its files all rounds, at least one. Begins as { 0
 * }. */
typedef struct sw_cursor {
    uint32_t file;
    sw_region mine;         /* of that file */
    uint64_t round, rounds; /* 0 rounds = before the first file, or behind the last */
} sw_cursor;

/* Local. To the next band, which may be empty; false when there is none left. */
bool sw_cursor_next(const sw_schedule *s, const sw_layout *l, uint32_t rank, sw_cursor *c);

/* Local. Does the rank write file f? */
static inline bool sw_schedule_has(const sw_schedule *s, uint32_t f, uint32_t rank)
{
    return rank >= s->groups[f].rank0 && rank - s->groups[f].rank0 < s->groups[f].nranks;
}

/* Local. A hash of catalogue, outputs, layout and schedule: what all ranks must agree upon. Never
 * 0. s may be NULL: only what decides the output bytes, the same for any number of ranks. */
uint64_t sw_plan_hash(const sw_outputs *o, const sw_layout *l, const sw_schedule *s);

/* Local. A hash of outputs and layout alone: of equal headers and options, wherever and whenever
 * they are. */
uint64_t sw_outcome_hash(const sw_outputs *o, const sw_layout *l);

/* What reading by band asks of a file system: each rank may open each file. */
typedef struct sw_opens {
    uint64_t ranks, files;
    uint64_t nodes; /* that the ranks are on; 0 = not known: one */
    uint64_t bytes; /* that are read in all */
    uint64_t again; /* of files that had been closed to make room */
} sw_opens;

/* Files that a rank has open, at most: those that were opened first are closed for others. */
#define SW_OPEN_MOST 512

/* Local. How many opens come again, at least: a tensor of which the boxes are more than a rank has
 * files open finds none of them, each time that it is gone through. Once where it is cut by rows;
 * else band by band.
 *   band  bytes, at most */
uint64_t sw_opens_again(const sw_catalog *c, uint64_t band);

/* Local. Are they too many? That depends on how long they have: a run takes as long as its bytes
 * take. */
bool sw_opens_storm(const sw_opens *o);

void sw_schedule_release(sw_schedule *s);

#endif
