/* Hashes of bytes: a fast one for comparing plans and headers between ranks, a keyed one against an
 * adversary. */
#ifndef SW_BASE_HASH_H
#define SW_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

/* Local. A hash, and one more word. */
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

/* Local. The same of a text, or of none. */
static inline uint64_t sw_hash_text(uint64_t h, const char *text)
{
    return text ? sw_hash(h, text, strlen(text) + 1) : sw_hash_word(h, 0);
}

/* ---- against an adversary -------------------------------------------------------------------- */

/* Local. A key. Without a secret (an old kernel) hostile names cost time, no more. */
static inline void sw_hash_key(uint64_t key[2])
{
    if (getrandom(key, 2 * sizeof *key, GRND_NONBLOCK) < 0)
        key[0] = (uint64_t)(uintptr_t)key;
}

#define SW_SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define SW_SIP_ROUND(v)                                                                                      \
    do {                                                                                                     \
        v[0] += v[1], v[1] = SW_SIP_ROTATE(v[1], 13) ^ v[0], v[0] = SW_SIP_ROTATE(v[0], 32);                 \
        v[2] += v[3], v[3] = SW_SIP_ROTATE(v[3], 16) ^ v[2];                                                 \
        v[0] += v[3], v[3] = SW_SIP_ROTATE(v[3], 21) ^ v[0];                                                 \
        v[2] += v[1], v[1] = SW_SIP_ROTATE(v[1], 17) ^ v[2], v[2] = SW_SIP_ROTATE(v[2], 32);                 \
    } while (0)

/* Local. SipHash-1-3 of bytes under a key that nobody outside knows: for tables of names that
 * others chose. */
static inline uint64_t sw_hash_keyed(const uint64_t key[2], const void *data, size_t n)
{
    uint64_t v[4] = { key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                      key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573) };
    uint64_t last = (uint64_t)n << 56, word;
    const char *p = data;

    for (; n >= sizeof word; n -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        v[3] ^= word;
        SW_SIP_ROUND(v);
        v[0] ^= word;
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    last |= word;
    v[3] ^= last;
    SW_SIP_ROUND(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    SW_SIP_ROUND(v);
    SW_SIP_ROUND(v);
    SW_SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
