/* What is wrong with a checkpoint, all of it: a list for those who look at checkpoints rather than
 * stop at the first error. */
#ifndef SW_BASE_FINDINGS_H
#define SW_BASE_FINDINGS_H

#include "base/buf.h"

typedef struct sw_findings {
    sw_finding *items; /* owned */
    size_t n, cap;
} sw_findings;

#define SW_FINDINGS_INIT SW_EMPTY

/* Local. Append copies; NULL stands for "", control characters become '?'. The reason is made as by
 * printf, so that fmt is the sixth parameter, and what it speaks of comes behind it.
 *   hint  the usual cause and its cure; NULL = no word */
sw_code sw_findings_add(sw_findings *f, const char *file, const char *tensor, const char *hint, sw_status *st,
                        const char *fmt, ...) SW_PRINTF(6, 7);

/* Local. The last one is about values. */
void sw_findings_count(sw_findings *f, uint64_t differing, double largest, double relative);

/* Local. If st holds SW_EINPUT, move what it says into the list, with the hint, and clear it, so
 * that the caller goes on; any other error stays. With f NULL nothing is done: the first error is
 * the end. Returns st->code. */
sw_code sw_findings_take(sw_findings *f, const char *hint, sw_status *st);

/* Local. Append a line of its place and reason: "file: tensor 'x': reason". */
sw_code sw_finding_add_line(const sw_finding *f, sw_buf *lines, sw_status *st);

/* Local. By file, then tensor, then reason; what is there twice stays once. */
void sw_findings_sort(sw_findings *f);

/* Local. Where the same is wrong with more than 8 tensors of a file, the first of them is told of,
 * with the number of the others. Sorted before and after. Errors: SW_ENOMEM. */
sw_code sw_findings_join(sw_findings *f, sw_status *st);

/* Local. As bytes that can be sent, appended to out; and back, appended to f. */
sw_code sw_findings_pack(const sw_findings *f, sw_buf *out, sw_status *st);
sw_code sw_findings_unpack(sw_findings *f, const char *data, size_t n, sw_status *st);

/* Local. Give the list to the caller: an array of *n items that sw_findings_free() frees; f is
 * empty then. */
sw_finding *sw_findings_hand_over(sw_findings *f, uint64_t *n);
void sw_findings_free(sw_finding *items, uint64_t n);

void sw_findings_release(sw_findings *f);

#endif
