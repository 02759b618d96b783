/* Stripes; see stripes.h. The functions of liblustreapi are declared here as its manual pages have
 * them (those of Lustre 2.11 and later), since its headers are not where this is built. */
#include "dir/stripes.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

#define MIB (UINT64_C(1) << 20)
#define LARGE (1024 * MIB) /* a file above that is spread */
#define PER_STRIPE (128 * MIB)
#define COUNT_MOST 72u
#define SIZE_LEAST (4 * MIB)
#define SIZE_MOST (16 * MIB)
#define TURNS 256u /* so often each target has its turn before stripes become larger */

/* What Lustre takes. */
#define LUSTRE_COUNT_MOST 2000u
#define LUSTRE_SIZE_UNIT (UINT64_C(64) << 10)
#define LUSTRE_SIZE_END (UINT64_C(1) << 32)

/* ---- the library ----------------------------------------------------------------------------- */

struct llapi_layout;

/* LLAPI_LAYOUT_GET_EXPECTED: with what it inherits */
enum { GET_EXPECTED = 1 };
#define LAYOUT_DEFAULT UINT64_C(0x1000000000000002) /* LLAPI_LAYOUT_DEFAULT */
#define PATTERN_RAID0 UINT64_C(0)                   /* LLAPI_LAYOUT_RAID0 */
#define POOL_NAME_SIZE 64

enum { STATFS_LOV = 2, STATFS_NODELAY = 4 }; /* LL_STATFS_... */
#define STATE_CLOSED 0x66u                   /* OS_STATFS_READONLY | NOCREATE | ENOSPC | ENOINO */

/* struct obd_statfs, struct obd_uuid */
typedef struct target_space {
    uint64_t type, blocks, bfree, bavail, files, ffree;
    uint8_t fsid[40];
    uint32_t bsize, namelen;
    uint64_t maxbytes;
    uint32_t state, others[9];
} target_space;

_Static_assert(sizeof(target_space) == 144, "struct obd_statfs");

typedef struct target_name {
    char uuid[40];
} target_name;

/* Those that fill in a number or make a descriptor return -1 with errno; target_space -errno. */
typedef struct lustre {
    void *library;
    struct llapi_layout *(*get_by_path)(const char *path, unsigned flags);
    struct llapi_layout *(*alloc)(void);
    void (*release)(struct llapi_layout *layout);
    bool (*is_composite)(struct llapi_layout *layout);
    int (*get_count)(const struct llapi_layout *layout, uint64_t *count);
    int (*get_pattern)(const struct llapi_layout *layout, uint64_t *pattern);
    int (*get_pool)(const struct llapi_layout *layout, char *name, size_t n);
    int (*set_count)(struct llapi_layout *layout, uint64_t count);
    int (*set_size)(struct llapi_layout *layout, uint64_t size);
    int (*create)(const char *path, int flags, int mode, const struct llapi_layout *layout);
    int (*space)(char *path, uint32_t type, uint32_t index, target_space *space, target_name *name);
    int (*get_level)(void); /* of what it prints; may be NULL, as the next */
    void (*set_level)(int level);
    int level;
} lustre;

/* POSIX has a pointer to a function fit into a void *; C has no cast for it. */
static bool find_function(const lustre *l, const char *name, void *to)
{
    void *found = dlsym(l->library, name);

    memcpy(to, &found, sizeof found);
    return found != NULL;
}

/* Does the library have all that is needed of it? */
static bool find_functions(lustre *l)
{
    return find_function(l, "llapi_layout_get_by_path", &l->get_by_path) &&
           find_function(l, "llapi_layout_alloc", &l->alloc) &&
           find_function(l, "llapi_layout_free", &l->release) &&
           find_function(l, "llapi_layout_is_composite", &l->is_composite) &&
           find_function(l, "llapi_layout_stripe_count_get", &l->get_count) &&
           find_function(l, "llapi_layout_pattern_get", &l->get_pattern) &&
           find_function(l, "llapi_layout_pool_name_get", &l->get_pool) &&
           find_function(l, "llapi_layout_stripe_count_set", &l->set_count) &&
           find_function(l, "llapi_layout_stripe_size_set", &l->set_size) &&
           find_function(l, "llapi_layout_file_create", &l->create) &&
           find_function(l, "llapi_obd_statfs", &l->space);
}

/* Have it ready, and silent: it would print what it does not like. It stays loaded. */
static bool begin(lustre *l)
{
    *l = (lustre){ .library = dlopen("liblustreapi.so.1", RTLD_NOW | RTLD_NODELETE) };
    if (!l->library || !find_functions(l))
        return false;
    if (find_function(l, "llapi_msg_get_level", &l->get_level) &&
        find_function(l, "llapi_msg_set_level", &l->set_level)) {
        l->level = l->get_level();
        l->set_level(0);
    }
    return true;
}

/* Its voice is given back before it goes. */
static void end(lustre *l)
{
    if (l->set_level)
        l->set_level(l->level);
    if (l->library)
        dlclose(l->library);
}

/* ---- what a file gets ------------------------------------------------------------------------ */

sw_code sw_stripe_parse(const char *text, sw_stripe_kind *kind, uint32_t *count, uint64_t *size,
                        sw_status *st)
{
    size_t digits = text ? strspn(text, "0123456789") : 0;
    sw_status bad = SW_STATUS_INIT;

    *count = 0;
    *size = 0;
    *kind = !text || strcmp(text, "auto") == 0 ? SW_STRIPE_AUTO
            : strcmp(text, "none") == 0        ? SW_STRIPE_NONE
                                               : SW_STRIPE_GIVEN;
    if (*kind != SW_STRIPE_GIVEN)
        return SW_OK;
    if (digits > 0 && digits < 5)
        *count = (uint32_t)strtoul(text, NULL, 10);
    if (*count && *count <= LUSTRE_COUNT_MOST &&
        (!text[digits] || (text[digits] == ':' && !sw_size_parse(text + digits + 1, size, &bad) && *size &&
                           *size % LUSTRE_SIZE_UNIT == 0 && *size < LUSTRE_SIZE_END)))
        return SW_OK;
    return sw_fail(
        st, SW_EUSAGE, NULL, NULL,
        "sw_options.stripe '%s' is neither auto, none nor COUNT[:SIZE], with a COUNT of 1 to %u and a SIZE "
        "of a multiple of 64KiB below 4GiB",
        text, LUSTRE_COUNT_MOST);
}

/* The whole part of a root. */
static uint64_t root_of(uint64_t n)
{
    uint64_t r = 0;

    for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
        if ((r + bit) * (r + bit) <= n)
            r += bit;
    return r;
}

void sw_stripes_of(const sw_stripes *s, uint64_t bytes, uint32_t *count, uint64_t *size)
{
    *size = 0;
    *count = s->targets ? s->count : 0;
    if (s->targets && !s->count && bytes > LARGE)
        *count = (uint32_t)sw_min(root_of(bytes / PER_STRIPE) + 1, sw_min(s->targets, COUNT_MOST));
    if (!*count)
        return;
    *size = s->size ? s->size : SIZE_LEAST;
    while (!s->size && *size < SIZE_MOST && bytes / *count / TURNS >= 2 * *size)
        *size *= 2;
}

uint64_t sw_stripes_block(const sw_stripes *s)
{
    return s->targets ? sw_max(s->size, SIZE_MOST) : 0;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* Would a file that is made there have one stripe, of no kind that anybody has chosen? */
static bool is_plain(const lustre *l, const char *path)
{
    struct llapi_layout *layout = l->get_by_path(path, GET_EXPECTED);
    uint64_t count, pattern;
    char pool[POOL_NAME_SIZE] = "";
    bool plain = layout && !l->is_composite(layout) && l->get_count(layout, &count) == 0 &&
                 (count == 1 || count == LAYOUT_DEFAULT) && l->get_pattern(layout, &pattern) == 0 &&
                 (pattern == PATTERN_RAID0 || pattern == LAYOUT_DEFAULT) &&
                 l->get_pool(layout, pool, sizeof pool) == 0 && !pool[0];

    if (layout)
        l->release(layout);
    return plain;
}

/* A target that takes files. */
typedef struct target {
    uint64_t room; /* bytes */
    target_name name;
} target;

typedef struct targets {
    target *all;
    size_t n, cap;
} targets;

/* All of them. Those that are down, or take no new files, are none. */
static sw_code list_targets(const lustre *l, char *path, targets *t, sw_status *st)
{
    int err = 0;

    for (uint32_t i = 0; err != -ENODEV && i < UINT16_MAX && !st->code; i++) {
        target_space s = { 0 };
        target one = { 0 };

        err = l->space(path, STATFS_LOV | STATFS_NODELAY, i, &s, &one.name);
        if (err || (s.state & STATE_CLOSED) || sw_grow(&t->all, &t->cap, t->n + 1, sizeof *t->all, st))
            continue;
        one.name.uuid[sizeof one.name.uuid - 1] = '\0';
        one.room = sw_mul(s.bavail, s.bsize, &one.room) ? one.room : UINT64_MAX;
        t->all[t->n++] = one;
    }
    return st->code;
}

/* A path to what is open, which the library resolves. */
static void path_of(const sw_below *dir, char path[32])
{
    snprintf(path, 32, "/proc/self/fd/%d", dir->fd);
}

/* What the user asked for cannot be. */
static sw_code refuse(const sw_below *dir, const char *why, sw_status *st)
{
    return sw_fail(st, SW_EUSAGE, dir->path, NULL, "sw_options.stripe asks for stripes, but %s", why);
}

/* How many targets files in the directory may be spread over; 0 = they are made as everywhere. */
static sw_code look(const lustre *l, const sw_below *dir, bool given, sw_stripes *s, sw_status *st)
{
    targets t = { NULL, 0, 0 };
    char path[32];

    path_of(dir, path);
    if ((given || is_plain(l, path)) && !list_targets(l, path, &t, st))
        s->targets = (uint32_t)t.n;
    free(t.all);
    if (!st->code && given && s->count > s->targets)
        return sw_fail(st, SW_EUSAGE, dir->path, NULL,
                       "sw_options.stripe asks for %" PRIu32 " stripes, and %" PRIu32 " targets take files",
                       s->count, s->targets);
    return st->code;
}

sw_code sw_stripes_look(const sw_below *dir, const char *wanted, sw_stripes *out, sw_status *st)
{
    sw_stripe_kind kind;
    sw_fs fs;
    lustre l;

    *out = (sw_stripes){ 0 };
    if (sw_stripe_parse(wanted, &kind, &out->count, &out->size, st) || kind == SW_STRIPE_NONE ||
        sw_path_fs(dir->path, &fs, st))
        return st->code;
    if (strcmp(fs.name, "lustre") != 0)
        return kind == SW_STRIPE_GIVEN ? refuse(dir, "it is not on Lustre", st) : SW_OK;
    if (begin(&l))
        look(&l, dir, kind == SW_STRIPE_GIVEN, out, st);
    else if (kind == SW_STRIPE_GIVEN)
        refuse(dir, "liblustreapi.so.1 cannot be loaded", st);
    end(&l);
    return st->code;
}

/* ---- room ------------------------------------------------------------------------------------ */

/* For qsort: most room first. */
static int by_room(const void *a, const void *b)
{
    const target *x = a, *y = b;

    return (x->room < y->room) - (x->room > y->room);
}

/* One file: each of the emptiest targets takes a share. */
static sw_code check_file(const sw_stripes *s, const targets *t, const char *show, uint64_t bytes,
                          sw_status *st)
{
    uint32_t count;
    uint64_t size, share;
    const target *last;

    sw_stripes_of(s, bytes, &count, &size);
    if (!count || !t->n)
        return st->code;
    last = &t->all[sw_min(count, t->n) - 1];
    share = (bytes / count / size + 1) * size;
    if (last->room >= sw_min(share, bytes))
        return SW_OK;
    return sw_fail(st, SW_EIO, show, NULL,
                   "no space: a file of %" PRIu64 " bytes takes %" PRIu64 " of each of its %" PRIu32
                   " targets, and %s has %" PRIu64,
                   bytes, sw_min(share, bytes), count, last->name.uuid, last->room);
}

sw_code sw_stripes_check_space(const sw_stripes *s, const sw_below *dir, const char *show,
                               const uint64_t *sizes, size_t n, sw_status *st)
{
    targets t = { NULL, 0, 0 };
    char path[32];
    lustre l;

    if (!s->targets)
        return st->code;
    path_of(dir, path);
    if (begin(&l) && !list_targets(&l, path, &t, st) && t.n > 1)
        qsort(t.all, t.n, sizeof *t.all, by_room);
    end(&l);
    for (size_t i = 0; i < n && !st->code; i++)
        check_file(s, &t, show, sizes[i], st);
    free(t.all);
    return st->code;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* By a path through the directory that is held open, so that nobody can put anything in the way.
 * -1 = errno tells. */
static int create_there(const lustre *l, int parent, const char *name, int flags,
                        const struct llapi_layout *layout)
{
    char *path;
    int fd, err;

    if (asprintf(&path, "/proc/self/fd/%d/%s", parent, name) < 0) {
        errno = ENOMEM;
        return -1;
    }
    fd = l->create(path, flags | O_NOFOLLOW | O_CLOEXEC, 0666, layout);
    err = errno;
    /* One that could not have its stripes may be there all the same. */
    if (fd < 0 && err != EEXIST)
        unlinkat(parent, name, 0);
    free(path);
    errno = err;
    return fd;
}

/* By liblustreapi, with a layout made for it: the descriptor, or -1 and errno. */
static int create_striped(const sw_below *dir, const char *name, int flags, uint32_t count, uint64_t size)
{
    struct llapi_layout *layout = NULL;
    const char *last = NULL;
    int parent = sw_below_parent(dir, name, &last), fd = -1, err;
    lustre l;

    if (parent < 0)
        return -1;
    if (!begin(&l))
        errno = ENOTTY; /* as it says of other file systems */
    else if ((layout = l.alloc()) && l.set_count(layout, count) == 0 && l.set_size(layout, size) == 0)
        fd = create_there(&l, parent, last, flags, layout);
    err = errno;
    if (layout)
        l.release(layout);
    end(&l);
    close(parent);
    errno = err;
    return fd;
}

int sw_stripes_create(const sw_stripes *s, const sw_below *dir, const char *name, uint64_t bytes, int flags)
{
    uint32_t count;
    uint64_t size;
    int fd = -1;

    sw_stripes_of(s, bytes, &count, &size);
    if (count)
        fd = create_striped(dir, name, flags, count, size);
    if (fd >= 0 || (count && (s->count || errno == EEXIST)))
        return fd;
    return sw_below_fd(dir, name, flags);
}
