/* The boxes of one tensor against one another and against its shape: which overlap, and what they
 * leave open. Pure geometry; no element is ever marked. */
#ifndef SW_PLAN_COVER_H
#define SW_PLAN_COVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* n boxes (fewer than 2^32), known by their numbers. */
typedef struct sw_boxes {
    const uint64_t *dims; /* offsets, then shape of each, ndim numbers each */
    uint64_t n;
    unsigned ndim;
} sw_boxes;

/* Where a box begins, how far it goes, and where it ends along a dimension. */
static inline uint64_t sw_boxes_low(const sw_boxes *b, uint32_t box, unsigned dim)
{
    return b->dims[(uint64_t)box * 2 * b->ndim + dim];
}

static inline uint64_t sw_boxes_extent(const sw_boxes *b, uint32_t box, unsigned dim)
{
    return b->dims[(uint64_t)box * 2 * b->ndim + b->ndim + dim];
}

static inline uint64_t sw_boxes_high(const sw_boxes *b, uint32_t box, unsigned dim)
{
    return sw_boxes_low(b, box, dim) + sw_boxes_extent(b, box, dim);
}

/* So many pairs of boxes that overlap are told of, one by one. */
#define SW_PAIRS_MAX 8

typedef struct sw_pairs {
    uint32_t pairs[SW_PAIRS_MAX + 1][2];
    size_t n, max; /* one more than are told of, to know that there are more */
} sw_pairs;

/* Local. Pairs of boxes that overlap, up to max of them; none is empty. room: for n numbers. O(b
 * log b) for grids of b boxes. */
void sw_boxes_overlaps(const sw_boxes *b, uint32_t *room, sw_pairs *out);

typedef struct sw_cover {
    /* they are, and within the shape: then only the first gap is looked for */
    bool disjoint;
    /* false: the boxes lie in too many ways over one another, and nothing is known */
    bool counted;
    bool open;       /* some element is in no box */
    uint64_t held;   /* elements that are in any, as far as was looked */
    uint64_t *first; /* room for ndim; out: where the first element is that is in none, if open */
} sw_cover;

/* Local. What boxes hold of a shape whose elements can be counted, and where the first one is that
 * none holds. Errors: SW_ENOMEM. Of boxes that overlap a number of steps is never exceeded. */
sw_code sw_boxes_count(const sw_boxes *b, const uint64_t *shape, sw_cover *out, sw_status *st);

#endif
