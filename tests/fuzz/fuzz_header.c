/* libFuzzer target: any bytes are a safetensors file. Whatever comes out of the parser is an error
 * that says why, or a header that keeps its promises.
 *
 *     clang -fsanitize=fuzzer,address,undefined ... -o fuzz_header
 *     fuzz_header -dict=tests/fuzz/header.dict -max_total_time=60 CORPUS tests/fuzz/header_seeds */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/utf8.h"
#include "format/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size); /* libFuzzer's */

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

static void check_entry(const sw_header *h, const sw_entry *e, const char *text, size_t len)
{
    uint64_t bits = 1;

    must(e->name >= text && e->name + e->name_len < text + len, "the name lies in the text");
    must(strlen(e->name) == e->name_len, "the name has no NUL");
    must(!sw_utf8_invalid(e->name, e->name_len), "the name is UTF-8");
    must(e->dtype < SW_NDTYPES, "the dtype is known");
    must(e->ndim <= SW_MAX_DIMS && e->shape + (size_t)e->ndim <= h->ndims, "the shape lies in the pool");
    for (unsigned d = 0; d < e->ndim; d++)
        must(sw_mul(bits, h->dims[e->shape + d], &bits), "the size fits");
    must(sw_mul(bits, sw_dtype_bits((sw_dtype)e->dtype), &bits), "the size fits");
    must(e->begin <= e->end && bits % 8 == 0 && bits / 8 == e->end - e->begin,
         "the size is that of the data");
    must((e->offsets != SW_NO_DIMS) == h->sharded, "offsets if and only if there is sharding info");
    must(h->sharded || e->global_shape == SW_NO_DIMS, "no global shape without sharding info");
    for (unsigned d = 0; h->sharded && d < e->ndim; d++) {
        uint64_t end;

        must(e->offsets + (size_t)e->ndim <= h->ndims, "the offsets lie in the pool");
        must(sw_add(h->dims[e->shape + d], h->dims[e->offsets + d], &end) && end <= UINT64_C(1) << 63,
             "the box ends within 2^63");
    }
}

static int compare(const void *a, const void *b)
{
    const sw_entry *x = a, *y = b;
    int c = (x->begin > y->begin) - (x->begin < y->begin);

    return c ? c : (x->end > y->end) - (x->end < y->end);
}

static int compare_names(const void *a, const void *b)
{
    const sw_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static void check_header(sw_header *h, const char *text, size_t len, uint64_t data_len)
{
    uint64_t at = 0;

    for (size_t i = 0; i < h->nentries; i++)
        check_entry(h, &h->entries[i], text, len);
    if (h->nentries)
        qsort(h->entries, h->nentries, sizeof *h->entries, compare);
    for (size_t i = 0; i < h->nentries; at = h->entries[i++].end)
        must(h->entries[i].begin == at, "no hole and no overlap");
    must(at == data_len && h->data_len == at, "the data is covered");
    if (h->nentries)
        qsort(h->entries, h->nentries, sizeof *h->entries, compare_names);
    for (size_t i = 1; i < h->nentries; i++)
        must(strcmp(h->entries[i - 1].name, h->entries[i].name) != 0, "each name once");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char first[8] = { 0 };
    sw_status st = SW_STATUS_INIT;
    sw_header h = SW_HEADER_INIT;
    uint64_t len = 0;
    char *text;

    if (size)
        memcpy(first, data, size < 8 ? size : 8);
    if (sw_header_length(first, size, "fuzz", &len, &st)) {
        must(st.reason[0] != '\0', "an error says why");
        return 0;
    }
    text = malloc(len ? (size_t)len : 1); /* of exactly this size, so that a step too far is seen */
    must(text != NULL, "memory");
    memcpy(text, data + 8, (size_t)len);
    if (sw_header_parse(text, (size_t)len, size - 8 - len, "fuzz", &h, &st))
        must(st.code == SW_EINPUT && st.reason[0] && !h.entries && !h.dims,
             "an error says why and leaves nothing");
    else
        check_header(&h, text, (size_t)len, size - 8 - len);
    sw_header_release(&h);
    free(text);
    return 0;
}

/* Most changes move the end of the header; three in four times the length field follows, so that
 * what was changed is read as a header and not thrown out at once. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t len = 0, tail;

    if (size < 8 || seed % 4 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (int i = 7; i >= 0; i--)
        len = len << 8 | data[i];
    tail = len <= size - 8 ? size - 8 - len : 0;
    size = 8 + tail < size
               ? 8 + LLVMFuzzerMutate(data + 8, size - 8 - (size_t)tail, max_size - 8 - (size_t)tail)
               : size;
    len = size - 8;
    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t)(len >> 8 * i);
    if (size + tail > max_size)
        return size;
    memset(data + size, 0, (size_t)tail);
    return size + (size_t)tail;
}
