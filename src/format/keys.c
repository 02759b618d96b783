/* The keys of JSON objects; see keys.h. */
#include "format/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/sort.h"

/* 8 places, 32 bytes: a search touches one line of memory, and the buckets stay in the cache. */
#define BUCKET_BITS 3

void sw_keys_init(sw_keys *k, const char *text)
{
    *k = (sw_keys){ .text = text };
}

void sw_keys_release(sw_keys *k)
{
    free(k->keys);
    free(k->places);
    free(k->buckets);
    sw_keys_init(k, NULL);
}

sw_code sw_keys_add(sw_keys *k, uint32_t object, const char *s, size_t len, uint32_t value, sw_status *st)
{
    if (k->n == k->cap && sw_grow(&k->keys, &k->cap, k->n + 1, sizeof *k->keys, st))
        return st->code;
    k->keys[k->n++] = (sw_key){ (uint32_t)(s - k->text), (uint32_t)len, object, value };
    return SW_OK;
}

/* By object, length, bytes: any order will do. */
static int compare(const char *a, const sw_key *ka, const char *b, const sw_key *kb)
{
    if (ka->object != kb->object)
        return ka->object < kb->object ? -1 : 1;
    if (ka->len != kb->len)
        return ka->len < kb->len ? -1 : 1;
    return memcmp(a, b, ka->len);
}

static int compare_keys(const sw_keys *k, const sw_key *a, const sw_key *b)
{
    return compare(k->text + a->at, a, k->text + b->at, b);
}

/* For qsort_r; equal keys by when they came. */
static int compare_slots(const void *a, const void *b, void *keys)
{
    const sw_keys *k = keys;
    const sw_sort_item *sa = a, *sb = b;
    int c = compare_keys(k, &k->keys[sa->index], &k->keys[sb->index]);

    return c ? c : (sa->index > sb->index) - (sa->index < sb->index);
}

/* Slots with one hash are few, unless the hashes were aimed at: then they are sorted by what they
 * stand for. */
static void sort_ties(sw_keys *k, sw_sort_item *slots)
{
    size_t end;

    for (size_t i = 0; i < k->n; i = end) {
        for (end = i + 1; end < k->n && slots[end].key == slots[i].key; end++)
            ;
        if (end - i > 1)
            qsort_r(slots + i, end - i, sizeof *slots, compare_slots, k);
    }
}

static size_t bucket_of(const sw_keys *k, uint64_t hash)
{
    return (size_t)(hash >> (64 - k->bits));
}

/* The bits of a hash below those that choose the bucket, as many as a place has room for. */
static uint32_t tag_of(const sw_keys *k, uint64_t hash)
{
    return (uint32_t)(hash << k->bits >> 32) >> k->index_bits;
}

static uint32_t place_tag(const sw_keys *k, size_t place)
{
    return k->places[place] >> k->index_bits;
}

static const sw_key *place_key(const sw_keys *k, size_t place)
{
    return &k->keys[k->places[place] & ((UINT32_C(1) << k->index_bits) - 1)];
}

/* What a search needs of the sorted slots, packed. */
static sw_code make_places(sw_keys *k, const sw_sort_item *slots, sw_status *st)
{
    size_t nbuckets, bucket = 0;

    for (k->index_bits = 1; k->n >> k->index_bits;)
        k->index_bits++;
    k->bits = k->index_bits > BUCKET_BITS ? k->index_bits - BUCKET_BITS : 1;
    nbuckets = (size_t)1 << k->bits;
    k->places = sw_calloc(k->n, sizeof *k->places, st);
    k->buckets = sw_calloc(nbuckets + 1, sizeof *k->buckets, st);
    if (!k->places || !k->buckets)
        return st->code;
    for (size_t i = 0; i < k->n; i++) {
        for (; bucket < bucket_of(k, slots[i].key); bucket++)
            k->buckets[bucket + 1] = (uint32_t)i;
        k->places[i] = tag_of(k, slots[i].key) << k->index_bits | slots[i].index;
    }
    for (; bucket < nbuckets; bucket++)
        k->buckets[bucket + 1] = (uint32_t)k->n;
    return SW_OK;
}

sw_code sw_keys_sort(sw_keys *k, sw_status *st)
{
    sw_sort_item *slots = sw_calloc(k->n, sizeof *slots, st);

    if (!slots)
        return st->code;
    for (size_t i = 0; i < k->n; i++) {
        const sw_key *key = &k->keys[i];

        slots[i] = (sw_sort_item){ sw_hash(key->object, k->text + key->at, key->len), (uint32_t)i };
    }
    if (!sw_sort_items(slots, k->n, st)) {
        sort_ties(k, slots);
        make_places(k, slots, st);
    }
    free(slots);
    return st->code;
}

const sw_key *sw_keys_duplicate(const sw_keys *k)
{
    for (size_t i = 1; i < k->n; i++)
        if (place_tag(k, i - 1) == place_tag(k, i) &&
            compare_keys(k, place_key(k, i - 1), place_key(k, i)) == 0)
            return place_key(k, i);
    return NULL;
}

/* Within a bucket the tags ascend. Keys whose hashes differ only below their tags stand by hash,
 * not by name, so a tie of tags is settled by the whole hash. */
static int compare_place(const sw_keys *k, size_t place, uint64_t hash, const char *s, const sw_key *want)
{
    uint32_t tag = tag_of(k, hash);
    const sw_key *key = place_key(k, place);
    uint64_t other;
    int c;

    if (place_tag(k, place) != tag)
        return place_tag(k, place) < tag ? -1 : 1;
    c = compare(k->text + key->at, key, s, want);
    other = c ? sw_hash(key->object, k->text + key->at, key->len) : hash;
    return other == hash ? c : other < hash ? -1 : 1;
}

const sw_key *sw_keys_find(const sw_keys *k, uint32_t object, const char *s, size_t len)
{
    const sw_key want = { 0, (uint32_t)len, object, 0 };
    uint64_t hash = sw_hash(object, s, len);
    size_t bucket = bucket_of(k, hash), low = k->buckets[bucket], high = k->buckets[bucket + 1];

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare_place(k, mid, hash, s, &want);

        if (c == 0)
            return place_key(k, mid);
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}
