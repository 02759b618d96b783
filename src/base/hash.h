/* A 64-bit hash of bytes, for comparing plans and headers between ranks; not against an adversary. */
#ifndef SW_BASE_HASH_H
#define SW_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t sw_hash_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
    return h ^ (h >> 32);
}

/* Local. Chain calls by passing the last value as seed. */
static inline uint64_t sw_hash(uint64_t seed, const void *data, size_t n)
{
    const char *p = data;
    uint64_t h = sw_hash_word(seed, n), word;

    for (; n >= sizeof word; n -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = sw_hash_word(h, word);
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    return sw_hash_word(h, word);
}

#endif
