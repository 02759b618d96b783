/* Shapes and offsets; see dims.h. */
#include "plan/dims.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

bool sw_dims_product(const uint64_t *dims, unsigned n, uint64_t *product)
{
    bool fits = true;

    *product = 1;
    for (unsigned i = 0; i < n; i++) {
        if (dims[i] == 0) {
            *product = 0;
            return true;
        }
        fits = fits && sw_mul(*product, dims[i], product);
    }
    return fits;
}

char *sw_dims_text(const uint64_t *dims, unsigned n, char text[SW_DIMS_TEXT])
{
    const size_t size = SW_DIMS_TEXT;
    size_t at = 0;

    for (unsigned i = 0; i < n; i++) {
        char word[32];
        int len = snprintf(word, sizeof word, "%s%" PRIu64, i ? ", " : "[", dims[i]);

        if (at + (size_t)len + sizeof "...]" > size) {
            snprintf(text + at, size - at, "...]");
            return text;
        }
        memcpy(text + at, word, (size_t)len);
        at += (size_t)len;
    }
    snprintf(text + at, size - at, n ? "]" : "[]");
    return text;
}
