/* The keys of JSON objects, gathered to find those that occur twice, and to look names up.
 *
 * Hash and sort, then compare neighbours: O(text + n log n) even when somebody chose the keys so
 * that all their hashes are equal. 16 bytes a key, 5 more once it is sorted, 32 while it is. */
#ifndef SW_FORMAT_KEYS_H
#define SW_FORMAT_KEYS_H

#include "base/status.h"

typedef struct sw_key {
    uint32_t at, len; /* where in the text, bytes */
    uint32_t object;  /* keys are equal only within one object */
    uint32_t value;   /* the caller's */
} sw_key;

typedef struct sw_keys {
    const char *text; /* borrowed; under 4 GiB */
    sw_key *keys;     /* in the order they were added */
    size_t n, cap;
    /* by hash, object and name: an index into keys, some bits of the hash above it */
    uint32_t *places;
    uint32_t *buckets;   /* first place for each value of a hash's upper bits, and the end */
    unsigned bits;       /* of a hash that choose the bucket */
    unsigned index_bits; /* of a place */
} sw_keys;

void sw_keys_init(sw_keys *k, const char *text);
void sw_keys_release(sw_keys *k);

/* Local. Take note of a key; s points into the text and stays as it is. */
sw_code sw_keys_add(sw_keys *k, uint32_t object, const char *s, size_t len, uint32_t value, sw_status *st);

/* Local. Sort what was added; once, before the next two. */
sw_code sw_keys_sort(sw_keys *k, sw_status *st);

/* Local. A key that another one equals, or NULL. */
const sw_key *sw_keys_duplicate(const sw_keys *k);

/* Local. NULL when there is none. O(log n). */
const sw_key *sw_keys_find(const sw_keys *k, uint32_t object, const char *s, size_t len);

#endif
