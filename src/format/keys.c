/* The keys of JSON objects; see keys.h. */
#include "format/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"

void sw_keys_init(sw_keys *k, const char *text)
{
    *k = (sw_keys){ .text = text };
    sw_hash_key(k->secret);
}

void sw_keys_release(sw_keys *k)
{
    free(k->keys);
    free(k->table);
    *k = (sw_keys){ .text = NULL };
}

sw_code sw_keys_add(sw_keys *k, uint32_t object, const char *s, size_t len, uint32_t value, sw_status *st)
{
    if (k->n == k->cap && sw_grow(&k->keys, &k->cap, k->n + 1, sizeof *k->keys, st))
        return st->code;
    k->keys[k->n++] = (sw_key){ (uint32_t)(s - k->text), (uint32_t)len, object, value };
    return SW_OK;
}

/* The hash of a key: the lower half says where its search begins. */
static uint64_t hash_of(const sw_keys *k, uint32_t object, const char *s, size_t len)
{
    return sw_hash_keyed(k->secret, s, len) + object;
}

/* The key that an entry of the table stands for. */
static const sw_key *key_of(const sw_keys *k, uint32_t entry)
{
    return &k->keys[(entry & k->mask) - 1];
}

/* The entry of such a key, or the free one where it would go: there always is one. A key of another
 * hash is hardly ever looked at. */
static uint32_t *entry_of(const sw_keys *k, uint64_t hash, uint32_t object, const char *s, size_t len)
{
    uint32_t place = (uint32_t)hash & k->mask, upper = (uint32_t)(hash >> 32);

    for (; k->table[place]; place = (place + 1) & k->mask) {
        const sw_key *key = key_of(k, k->table[place]);

        if (((k->table[place] ^ upper) & ~k->mask) == 0 && key->len == len && key->object == object &&
            memcmp(k->text + key->at, s, len) == 0)
            break;
    }
    return &k->table[place];
}

sw_code sw_keys_enter(sw_keys *k, const sw_key **twice, sw_status *st)
{
    *twice = NULL;
    for (k->mask = 1; k->mask < 2 * k->n;)
        k->mask = 2 * k->mask + 1;
    k->table = sw_calloc(k->mask + UINT64_C(1), sizeof *k->table, st);
    for (uint32_t i = 0; k->table && i < k->n && !*twice; i++) {
        const sw_key *key = &k->keys[i];
        const char *s = k->text + key->at;
        uint64_t hash = hash_of(k, key->object, s, key->len);
        uint32_t *entry = entry_of(k, hash, key->object, s, key->len);

        if (*entry)
            *twice = key;
        *entry = ((uint32_t)(hash >> 32) & ~k->mask) | (i + 1);
    }
    return st->code;
}

const sw_key *sw_keys_find(const sw_keys *k, uint32_t object, const char *s, size_t len)
{
    uint32_t entry = *entry_of(k, hash_of(k, object, s, len), object, s, len);

    return entry ? key_of(k, entry) : NULL;
}
