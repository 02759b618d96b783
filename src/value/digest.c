/* Hashes by libraries that are loaded; see digest.h. What is called here has had the same form
 * since libxxhash 0.8 and OpenSSL 1.1. */
#include "value/digest.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/num.h"
#include "value/cast.h"
#include "value/f32.h"

/* ---- the libraries --------------------------------------------------------------------------- */

/* As libxxhash returns it. */
typedef struct pair {
    uint64_t low, high;
} pair;

/* Their functions: what points to state of theirs points to nothing that is known here. */
static struct {
    pair (*hash)(const void *data, size_t n);
    void *(*create)(void);
    int (*destroy)(void *state);
    int (*reset)(void *state);
    int (*update)(void *state, const void *data, size_t n);
    pair (*digest)(const void *state);
} xxh;

static struct {
    void *(*create)(void);
    void (*destroy)(void *ctx);
    const void *(*sha256)(void);
    int (*init)(void *ctx, const void *type, void *engine);
    int (*update)(void *ctx, const void *data, size_t n);
    int (*final)(void *ctx, unsigned char *hash, unsigned *n);
} crypto;

/* One to be taken. */
typedef struct library {
    const char *names[3];
    const char *symbols[6];
    const char *fast[6]; /* in their place, where they are there: of the kind of CPU; NULL = none */
    void *functions;     /* room for pointers to them */
    const char *advice;
    bool there, looked;
} library;

static library libraries[] = {
    { { "libxxhash.so.0" },
      { "XXH3_128bits", "XXH3_createState", "XXH3_freeState", "XXH3_128bits_reset", "XXH3_128bits_update",
        "XXH3_128bits_digest" },
      { [0] = "XXH3_128bits_dispatch", [4] = "XXH3_128bits_update_dispatch" },
      &xxh,
      "a manifest needs libxxhash.so.0, version 0.8 or later, which cannot be loaded (Debian: libxxhash0; "
      "RHEL: "
      "xxhash-libs)",
      false,
      false },
    { { "libcrypto.so.3", "libcrypto.so.1.1" },
      { "EVP_MD_CTX_new", "EVP_MD_CTX_free", "EVP_sha256", "EVP_DigestInit_ex", "EVP_DigestUpdate",
        "EVP_DigestFinal_ex" },
      { NULL },
      &crypto,
      "a manifest needs OpenSSL's libcrypto.so.3, which cannot be loaded (Debian: libssl3; RHEL: "
      "openssl-libs)",
      false,
      false },
};

static pthread_mutex_t taking = PTHREAD_MUTEX_INITIALIZER;

/* All its functions, or none. */
static void look_for(library *l)
{
    l->looked = true;
    for (size_t i = 0; i < 3 && l->names[i] && !l->there; i++) {
        void *handle = dlopen(l->names[i], RTLD_NOW | RTLD_LOCAL);

        l->there = handle != NULL;
        for (size_t k = 0; k < 6 && l->there; k++) {
            void *f = l->fast[k] ? dlsym(handle, l->fast[k]) : NULL;

            f = f ? f : dlsym(handle, l->symbols[k]);
            memcpy((char *)l->functions + k * sizeof f, &f, sizeof f);
            l->there = f != NULL;
        }
        if (handle && !l->there)
            dlclose(handle);
    }
}

/* It stays for as long as the process does. */
static sw_code take(library *l, sw_status *st)
{
    bool there;

    pthread_mutex_lock(&taking);
    if (!l->looked)
        look_for(l);
    there = l->there;
    pthread_mutex_unlock(&taking);
    return there ? st->code : sw_fail(st, SW_EUSAGE, NULL, NULL, "%s", l->advice);
}

sw_code sw_digest_take_xxh3(sw_status *st)
{
    return take(&libraries[0], st);
}

sw_code sw_digest_take_sha256(sw_status *st)
{
    return take(&libraries[1], st);
}

/* ---- XXH3 ------------------------------------------------------------------------------------ */

/* The high half first, each from its highest byte. */
static void put_pair(pair p, unsigned char hash[SW_XXH3_BYTES])
{
    for (unsigned i = 0; i < 8; i++) {
        hash[i] = (unsigned char)(p.high >> (56 - 8 * i));
        hash[8 + i] = (unsigned char)(p.low >> (56 - 8 * i));
    }
}

#if defined(__x86_64__)

static AVX2 void empty_halves(void)
{
    _mm256_zeroupper();
}

#else

/* No other CPU has them. */
static void empty_halves(void)
{
}

#endif

/* Theirs leave the upper halves of the registers full: value/cast says what that costs. */
static void empty_registers(void)
{
    if (sw_cast_path_best() == SW_CAST_AVX2)
        empty_halves();
}

void sw_xxh3(const void *data, uint64_t n, unsigned char hash[SW_XXH3_BYTES])
{
    put_pair(xxh.hash(data, (size_t)n), hash);
    empty_registers();
}

/* ---- one after the other --------------------------------------------------------------------- */

struct sw_digest {
    void *state;
    bool sha256;
};

/* Begun. */
static sw_digest *new_digest(bool sha256, sw_status *st)
{
    sw_digest *d = sw_calloc(1, sizeof *d, st);

    if (!d)
        return NULL;
    d->sha256 = sha256;
    d->state = sha256 ? crypto.create() : xxh.create();
    if (d->state && !sw_digest_begin(d, st))
        return d;
    if (!d->state)
        sw_fail_nomem(st, sizeof *d);
    sw_digest_free(d);
    return NULL;
}

sw_digest *sw_digest_new_xxh3(sw_status *st)
{
    return new_digest(false, st);
}

sw_digest *sw_digest_new_sha256(sw_status *st)
{
    return new_digest(true, st);
}

void sw_digest_free(sw_digest *d)
{
    if (d && d->state && d->sha256)
        crypto.destroy(d->state);
    else if (d && d->state)
        xxh.destroy(d->state);
    free(d);
}

/* What a call of theirs says. */
static sw_code check(bool done, sw_status *st)
{
    return done ? st->code : sw_fail(st, SW_EINTERNAL, NULL, NULL, "the library that makes hashes fails");
}

sw_code sw_digest_begin(sw_digest *d, sw_status *st)
{
    return check(d->sha256 ? crypto.init(d->state, crypto.sha256(), NULL) == 1 : xxh.reset(d->state) == 0,
                 st);
}

sw_code sw_digest_add(sw_digest *d, const void *data, uint64_t n, sw_status *st)
{
    bool done = d->sha256 ? crypto.update(d->state, data, (size_t)n) == 1
                          : xxh.update(d->state, data, (size_t)n) == 0;

    empty_registers();
    return check(done, st);
}

sw_code sw_digest_end(sw_digest *d, unsigned char *hash, sw_status *st)
{
    unsigned n;

    if (d->sha256)
        return check(crypto.final(d->state, hash, &n) == 1 && n == SW_SHA256_BYTES, st);
    put_pair(xxh.digest(d->state), hash);
    return st->code;
}

/* ---- text ------------------------------------------------------------------------------------ */

char *sw_hex_text(const unsigned char *hash, size_t n, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    text[2 * n] = '\0';
    return text;
}
