/* The keys of JSON objects, gathered to find those that occur twice, and to look names up.
 *
 * A table under a secret hash: O(text) whoever chose the keys. 16 bytes a key, and at most 16 more
 * once they are entered. */
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
    /* at the hash or behind it: 1 + an index into keys, and other bits of the hash above mask; 0 =
     * free */
    uint32_t *table;
    uint32_t mask; /* places of the table - 1 */
    uint64_t secret[2];
} sw_keys;

void sw_keys_init(sw_keys *k, const char *text);
void sw_keys_release(sw_keys *k);

/* Local. Take note of a key; s points into the text and stays as it is. */
sw_code sw_keys_add(sw_keys *k, uint32_t object, const char *s, size_t len, uint32_t value, sw_status *st);

/* Local. Enter what was added into the table; once, before sw_keys_find().
 *   twice  the first key that equals an earlier one, NULL = none does; with one the table is not
 *          whole
 * Errors: SW_ENOMEM. */
sw_code sw_keys_enter(sw_keys *k, const sw_key **twice, sw_status *st);

/* Local. NULL when there is none. */
const sw_key *sw_keys_find(const sw_keys *k, uint32_t object, const char *s, size_t len);

#endif
