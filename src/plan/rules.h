/* Boxes by rule: boxes of one tensor that stand at equal distances, in files that do, told at once.
 *
 * Where every rank has saved its part of a mesh, its header is that of the others but for the
 * offsets: 25,000 files of 1,000 tensors are 25 million boxes, and 1,000 rules. A rule is a first
 * box and loops: "15 more, 4 rows down and one file on each". Whatever does not fit goes without:
 * rules never say more, or less, than the boxes that they were made of. */
#ifndef SW_PLAN_RULES_H
#define SW_PLAN_RULES_H

#include "base/buf.h"

#define SW_RULE_LOOPS 4
#define SW_RULE_COPIES 255 /* no dimension: the same region in another file */

typedef struct sw_rule_loop {
    uint64_t step; /* elements along its dimension, from one to the next; 0 of copies */
    uint32_t count;
    uint32_t files; /* files from one to the next, more than 0 */
} sw_rule_loop;

typedef struct sw_rule {
    uint64_t first; /* number of its first box among those of the tensor */
    uint64_t at;    /* of each box: where its data begins, bytes behind data_start of its file */
    uint32_t file;  /* of the first box, the least of its files */
    uint8_t nloops;
    uint8_t dims[SW_RULE_LOOPS];       /* along which each loop goes */
    sw_rule_loop loops[SW_RULE_LOOPS]; /* innermost first: the first one runs fastest */
} sw_rule;

/* Rules of one tensor. */
typedef struct sw_rules {
    sw_rule *items;
    uint64_t *dims; /* 2 * ndim for each: offsets of the first box, shape of all */
    size_t n, cap, cap_dims;
    unsigned ndim;
    uint64_t nboxes;
    size_t tidy; /* so many rules are looked at again, whether they can be joined */
} sw_rules;

#define SW_RULES_INIT(ndims)                                                                                 \
    {                                                                                                        \
        NULL, NULL, 0, 0, 0, ndims, 0, 0                                                                     \
    }

/* Local. The dimensions of rule i: offsets, then shape. */
static inline uint64_t *sw_rule_dims(const sw_rules *r, size_t i)
{
    return r->dims + i * 2 * r->ndim;
}

/* Local. How many boxes a rule stands for. */
uint64_t sw_rule_boxes(const sw_rule *r);

/* Local. Box k of a rule, from 0: its offsets; returns its file. from: its dims. O(loops). */
uint32_t sw_rule_box(const sw_rule *r, const uint64_t *from, unsigned ndim, uint64_t k, uint64_t *offsets);

/* Local. Add a box, or as many as a rule stands for, in the order of their files: as part of the
 * last rule where it goes on, else as one of its own.
 *   dims  offsets and shape of the (first) box
 * Errors: SW_ENOMEM. O(ndim), mostly. */
sw_code sw_rules_add(sw_rules *r, const sw_rule *rule, const uint64_t *dims, sw_status *st);

/* Local. Join what is not adjacent, too. O(n log n). Errors: SW_ENOMEM. */
sw_code sw_rules_tidy(sw_rules *r, sw_status *st);

/* Local. Bytes that they take. / Is that little: at most SW_RULES_BYTES a box? */
#define SW_RULES_BYTES 16
static inline uint64_t sw_rules_bytes(uint64_t n, unsigned ndim)
{
    return n * (sizeof(sw_rule) + 2 * ndim * sizeof(uint64_t));
}
/* Rules that were looked at again, and still stand for a box or two each: it will not get
 * better. */
static inline bool sw_rules_fail(const sw_rules *r)
{
    return r->tidy >= 16 && r->tidy > r->nboxes;
}
static inline bool sw_rules_pay(const sw_rules *r)
{
    return sw_rules_bytes(r->n, r->ndim) <= SW_RULES_BYTES * r->nboxes;
}

/* Local. The same boxes in the order of a catalogue: used ones by their offsets, replicas behind
 * them by offsets and file, empty ones gone.
 *   out         empty; rules with their first boxes numbered
 *   nboxes      used ones; of the others in out each repeats one of them
 *   ordered     false: these rules cannot be put so, and out is of no use
 * Errors: SW_ENOMEM. O(n log n). */
sw_code sw_rules_order(const sw_rules *r, sw_rules *out, uint64_t *nboxes, bool *ordered, sw_status *st);

void sw_rules_release(sw_rules *r);

#endif
