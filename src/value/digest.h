/* Hashes that others can compute too: XXH3-128 of libxxhash, SHA-256 of OpenSSL's libcrypto.
 *
 * Both libraries are taken when they are first asked for, by their names, and are needed for
 * nothing else: what is built here needs neither of them, nor their headers, and a machine without
 * them has all but manifests. Once a process; then by leaves of 1 MiB and bands of some MiB. */
#ifndef SW_VALUE_DIGEST_H
#define SW_VALUE_DIGEST_H

#include "base/status.h"

#define SW_XXH3_BYTES 16 /* in the order in which xxh128sum prints them */
#define SW_SHA256_BYTES 32

/* Local. Take the libraries. Errors: SW_EUSAGE (one is not there; says which, and of which
 * package). */
sw_code sw_digest_take_xxh3(sw_status *st);
sw_code sw_digest_take_sha256(sw_status *st);

/* Local, from here on: the library has been taken. Of n bytes. */
void sw_xxh3(const void *data, uint64_t n, unsigned char hash[SW_XXH3_BYTES]);

/* Of bytes that come one after the other. */
typedef struct sw_digest sw_digest;

/* Local. Free it with sw_digest_free(); NULL when memory is short. */
sw_digest *sw_digest_new_xxh3(sw_status *st);
sw_digest *sw_digest_new_sha256(sw_status *st);
void sw_digest_free(sw_digest *d);

/* Local. Begin again / more bytes / what all since the beginning come to: SW_XXH3_BYTES or
 * SW_SHA256_BYTES. Errors: SW_EINTERNAL (libcrypto refuses). */
sw_code sw_digest_begin(sw_digest *d, sw_status *st);
sw_code sw_digest_add(sw_digest *d, const void *data, uint64_t n, sw_status *st);
sw_code sw_digest_end(sw_digest *d, unsigned char *hash, sw_status *st);

#define SW_HEX_SIZE(bytes) (2 * (bytes) + 1)

/* Local. As text in small letters, with its NUL: returns text. */
char *sw_hex_text(const unsigned char *hash, size_t n, char *text);

#endif
