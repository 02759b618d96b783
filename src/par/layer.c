/* Which layer speaks MPI for this process, looked for once: a file for the ABI of an MPI library,
 * and that library; see layer.h.
 *
 * Only one MPI may be in a process, and its modules look for its symbols among those that all can
 * see: so the library is loaded, or opened again where it is there, with RTLD_GLOBAL, before the
 * layer, which may or may not name it as what it needs. */
#include <dlfcn.h>
#include <fnmatch.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "par/launcher.h"
#include "par/layer.h"

/* Where make install puts the layers. */
#ifndef SW_LAYER_DIR
#define SW_LAYER_DIR "/usr/local/lib/shardweld"
#endif

#define LAYER_FILE "libshardweld-mpi-%s.so"

/* An ABI: MPI libraries of it, by the names that the loader finds, and by those that they may have
 * in a process. */
typedef struct abi {
    const char *kind, *whose;
    const char *names[2], *patterns[3];
} abi;

static const abi abis[] = {
    { "openmpi", "Open MPI", { "libmpi.so.40" }, { "libmpi.so.40*" } },
    { "mpich",
      "MPICH or Intel MPI",
      { "libmpi.so.12", "libmpich.so.12" },
      { "libmpi.so.12*", "libmpich.so.12*", "libmpi_*.so.12*" } },
    { "abi", "an MPI with the standard's ABI", { "libmpi_abi.so.1" }, { "libmpi_abi.so.1*" } },
};

#define ABIS (sizeof abis / sizeof *abis)

/* The ABI of this kind. */
static const abi *abi_of(const char *kind)
{
    for (size_t i = 0; i < ABIS; i++)
        if (strcmp(abis[i].kind, kind) == 0)
            return &abis[i];
    return NULL;
}

/* By the name of a library; the first that fits: of the patterns the wider ones come last. */
static const abi *abi_of_library(const char *path)
{
    const char *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    for (size_t i = 0; i < ABIS; i++)
        for (size_t p = 0; p < 3 && abis[i].patterns[p]; p++)
            if (fnmatch(abis[i].patterns[p], name, 0) == 0)
                return &abis[i];
    return NULL;
}

/* ---- the layer's file ------------------------------------------------------------------------ */

/* The directory of the library, or of the program that it is part of: of a program dladdr() tells
 * the words that it was started with, which may name something else where it stands now. */
static bool own_dir(char *dir, size_t n)
{
    struct link_map *map = NULL;
    Dl_info info;
    char path[PATH_MAX], *last;

    if (!dladdr1((const void *)abis, &info, (void **)&map, RTLD_DL_LINKMAP) || !map->l_name[0] ||
        !realpath(map->l_name, path)) {
        ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);

        if (len <= 0)
            return false;
        path[len] = '\0';
    }
    last = strrchr(path, '/');
    if (!last)
        return false;
    *last = '\0';
    return (size_t)snprintf(dir, n, "%s", path) < n;
}

/* The layer of a kind into path: beside the library, in a directory of its own there, where the
 * program's or the Python package's installer has put it. */
static bool find_file(const char *kind, char *path, size_t n)
{
    static const char *const places[] = { "/", "/shardweld/", "/../lib/shardweld/", "/../shardweld/" };
    char dir[PATH_MAX];

    if (own_dir(dir, sizeof dir))
        for (size_t i = 0; i < sizeof places / sizeof *places; i++)
            if ((size_t)snprintf(path, n, "%s%s" LAYER_FILE, dir, places[i], kind) < n &&
                access(path, R_OK) == 0)
                return true;
    return (size_t)snprintf(path, n, SW_LAYER_DIR "/" LAYER_FILE, kind) < n && access(path, R_OK) == 0;
}

void sw_layer_kinds(char *text, size_t n)
{
    char path[PATH_MAX];

    text[0] = '\0';
    for (size_t i = 0; i < ABIS; i++)
        if (find_file(abis[i].kind, path, sizeof path))
            snprintf(text + strlen(text), n - strlen(text), "%s%s", text[0] ? " " : "", abis[i].kind);
}

/* ---- a search -------------------------------------------------------------------------------- */

typedef struct search {
    const sw_launcher *launcher;
    const abi *kinds[ABIS];
    size_t nkinds;
    const char *layer;        /* the file to take; NULL = the one that is found */
    const sw_layer *taken;    /* what the search is for */
    char said[ABIS + 1][300]; /* why it was not, for each kind, and for none */
} search;

/* One more line of why there is no layer: what was looked at, and what is wrong with it. */
static void say(search *s, const abi *a, const char *what, const char *why)
{
    char *text = s->said[a ? (size_t)(a - abis) : ABIS];

    snprintf(text, sizeof s->said[0], "%.200s%s%.80s", what, why ? ": " : "", why ? why : "");
}

/* Is it a layer for this library, and may it be taken here? Of the standard's ABI one cannot tell
 * whose it is but by asking. */
static bool suits(search *s, const abi *a, const sw_layer *layer, const char *path)
{
    char name[64];

    if (layer->version != SW_LAYER_VERSION) {
        say(s, a, path, "is of another version of shardweld");
        return false;
    }
    if (!s->launcher || strcmp(layer->kind, "abi") != 0)
        return true;
    layer->name(name, sizeof name);
    if ((strncmp(name, "Open MPI", 8) == 0) == s->launcher->of_open_mpi)
        return true;
    say(s, a, "libmpi_abi.so.1 is of another MPI", NULL);
    return false;
}

typedef struct resident {
    const abi *of;
    char path[PATH_MAX];
} resident;

/* For dl_iterate_phdr(). */
static int look_at_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    resident *r = ctx;
    const abi *a = abi_of_library(info->dlpi_name);

    (void)size;
    if (!a || (r->of && a != r->of))
        return 0;
    r->of = a;
    snprintf(r->path, sizeof r->path, "%s", info->dlpi_name);
    return 1;
}

/* The first MPI library that is in the process; of one ABI, or NULL = any. */
static bool find_resident(const abi *a, resident *r)
{
    *r = (resident){ .of = a };
    return dl_iterate_phdr(look_at_object, r) != 0;
}

/* A layer beside an MPI of another ABI would call what it does not understand. */
static bool is_strange(search *s, const abi *a)
{
    resident own, other;

    if (find_resident(a, &own) || !find_resident(NULL, &other))
        return false;
    say(s, a, other.path, "another MPI is in this process already");
    return true;
}

/* Load a layer and look whether it suits. An MPI of another ABI is never loaded beside the one that
 * is there. */
static bool take(search *s, const abi *a, const char *path)
{
    const sw_layer *layer;
    void *handle;

    if (is_strange(s, a))
        return false;
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    layer = handle ? dlsym(handle, SW_LAYER_SYMBOL) : NULL;
    if (!handle)
        say(s, a, dlerror(), NULL);
    else if (!layer)
        say(s, a, path, "is no layer of shardweld");
    else if (suits(s, a, layer, path))
        s->taken = layer;
    return s->taken != NULL;
}

/* Where the layer of this ABI lies: beside this library, or where it was installed. */
static bool layer_path(search *s, const abi *a, char *path, size_t n)
{
    char dir[PATH_MAX], text[PATH_MAX + 64];

    if (s->layer)
        return (size_t)snprintf(path, n, "%s", s->layer) < n;
    if (find_file(a->kind, path, n))
        return true;
    if (!own_dir(dir, sizeof dir))
        dir[0] = '\0';
    snprintf(text, sizeof text, LAYER_FILE " is neither in %.150s nor in " SW_LAYER_DIR, a->kind, dir);
    say(s, a, text, NULL);
    return false;
}

/* An MPI library by its path, and then the layer. */
static bool take_with(search *s, const abi *a, const char *library, int flags)
{
    char path[PATH_MAX];
    void *handle;

    if (!layer_path(s, a, path, sizeof path))
        return false;
    handle = dlopen(library, RTLD_LAZY | RTLD_GLOBAL | flags);
    if (!handle) {
        say(s, a, dlerror(), NULL);
        return false;
    }
    /* Open MPI before 2 had the name that MPICH's has. */
    if (strcmp(a->kind, "mpich") == 0 && dlsym(handle, "ompi_mpi_comm_world")) {
        say(s, a, library, "is an old Open MPI");
        return false;
    }
    return take(s, a, path);
}

/* In a directory of MPI's libraries. */
static bool take_in(search *s, const abi *a, const char *dir)
{
    char path[PATH_MAX];

    for (size_t i = 0; i < 2 && a->names[i]; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, a->names[i]) < sizeof path &&
            access(path, R_OK) == 0 && take_with(s, a, path, 0))
            return true;
    return false;
}

/* The library of MPI below a prefix, where distributions and builds have it. */
static bool take_below(search *s, const abi *a, const char *prefix)
{
    static const char *const dirs[] = { "", "/lib", "/lib64", "/lib/release" };
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        if ((size_t)snprintf(path, sizeof path, "%s%s", prefix, dirs[i]) < sizeof path && take_in(s, a, path))
            return true;
    return false;
}

/* ---- where an MPI library may be ------------------------------------------------------------- */

/* The MPI that is in this process already. */
static bool in_process(search *s, const abi *a)
{
    resident r;

    return find_resident(a, &r) && take_with(s, a, r.path, RTLD_NOLOAD);
}

/* Beside the launcher: a virtual environment has one, and so has a directory of a module system. */
static bool beside_launcher(search *s, const abi *a)
{
    static const char *const roots[] = { "I_MPI_ROOT", "OPAL_PREFIX", "MPI_HOME" };
    char prefix[PATH_MAX];

    if (!s->launcher)
        return false;
    if (sw_launcher_prefix(prefix, sizeof prefix) && take_below(s, a, prefix))
        return true;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        if (getenv(roots[i]) && take_below(s, a, getenv(roots[i])))
            return true;
    return false;
}

/* As the layer says itself, or by the loader's path. Of an ABI's names the first is the one that
 * is told of. */
static bool by_loader(search *s, const abi *a)
{
    char path[PATH_MAX];
    resident r;

    if (!layer_path(s, a, path, sizeof path))
        return false;
    if (take(s, a, path))
        return !find_resident(a, &r) || dlopen(r.path, RTLD_LAZY | RTLD_GLOBAL | RTLD_NOLOAD);
    for (size_t i = 2; i-- > 0;)
        if (a->names[i] && take_with(s, a, a->names[i], 0))
            return true;
    return false;
}

/* In a virtual environment both lie below one lib, and a program in the bin beside it; in another
 * directory of packages its lib is beside the library's. No farther up: what lies there may be
 * anybody's. */
static bool above_library(search *s, const abi *a)
{
    char dir[PATH_MAX], *last;
    bool ours = false;

    if (!own_dir(dir, sizeof dir))
        return false;
    for (int i = 0; !ours && (last = strrchr(dir, '/')) != NULL; i++) {
        ours = strcmp(last, "/bin") == 0 || strcmp(last, "/lib") == 0 || strcmp(last, "/lib64") == 0;
        *last = '\0';
        if ((ours || i == 0) && take_below(s, a, dir))
            return true;
    }
    return false;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* Of SHARDWELD_MPI: a layer, an MPI library, or a directory of one. */
static void take_path(search *s, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    const abi *a;
    char kind[32];

    if (sscanf(name, "libshardweld-mpi-%31[a-z].so", kind) == 1 && (a = abi_of(kind)) != NULL) {
        s->layer = path;
        s->kinds[0] = a;
        s->nkinds = 1;
        return;
    }
    a = abi_of_library(name);
    if (a) {
        take_with(s, a, path, 0);
    } else {
        say(s, NULL, path, "is neither a layer of shardweld nor an MPI library that one is for");
        for (size_t i = 0; i < s->nkinds && !s->taken; i++)
            take_below(s, s->kinds[i], path);
    }
    s->nkinds = 0;
}

/* What SHARDWELD_MPI leaves to be looked for. */
static void obey(search *s, const char *wish)
{
    const abi *a = abi_of(wish);

    if (strchr(wish, '/')) {
        take_path(s, wish);
        return;
    }
    s->nkinds = 0;
    if (a)
        s->kinds[s->nkinds++] = a;
    else if (strcmp(wish, "none") == 0)
        say(s, NULL, "SHARDWELD_MPI is none", NULL);
    else
        say(s, NULL, "SHARDWELD_MPI", "expected openmpi, mpich, abi, none or a path");
}

/* What lies beside the launcher goes before what the loader finds, whichever kind it is. */
static void search_all(search *s)
{
    static bool (*const places[])(search *, const abi *) = { in_process, beside_launcher, by_loader,
                                                             above_library };

    for (size_t p = 0; p < sizeof places / sizeof *places && !s->taken; p++)
        for (size_t i = 0; i < s->nkinds && !s->taken; i++)
            places[p](s, s->kinds[i]);
}

/* Why there is none. */
static void tell(const search *s, sw_status *st)
{
    char text[sizeof s->said] = "";

    for (size_t i = 0; i <= ABIS; i++)
        if (s->said[i][0])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", text[0] ? "; " : "",
                     s->said[i]);
    sw_fail(st, SW_EUSAGE, NULL, NULL, "%s", text);
}

/* The layer, by what was asked for, by the launcher, or any. */
static const sw_layer *find(const char *kind, sw_status *st)
{
    const char *wish = getenv("SHARDWELD_MPI");
    search s = { .launcher = sw_launcher_here() };
    bool none = wish && strcmp(wish, "none") == 0;

    if (sw_layer_linked && !none)
        return sw_layer_linked;
    for (size_t i = 0; s.launcher && i < SW_LAUNCHER_KINDS && s.launcher->kinds[i]; i++)
        s.kinds[s.nkinds++] = abi_of(s.launcher->kinds[i]);
    for (size_t i = 0; !s.launcher && i < ABIS; i++)
        s.kinds[s.nkinds++] = &abis[i];
    if (kind) {
        s.kinds[0] = abi_of(kind);
        s.nkinds = s.kinds[0] != NULL;
    } else if (wish && wish[0]) {
        obey(&s, wish);
    }
    if (!s.taken)
        search_all(&s);
    if (!s.taken)
        tell(&s, st);
    return s.taken;
}

/* ---- what others ask ------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const sw_layer *taken;

const sw_layer *sw_layer_here(void)
{
    return taken;
}

const sw_layer *sw_layer_find(const char *kind, sw_status *st)
{
    const sw_layer *layer;

    pthread_mutex_lock(&mutex);
    if (!taken || (kind && strcmp(taken->kind, kind) != 0 && taken->state() == SW_MPI_UNBORN)) {
        layer = find(kind, st);
        if (layer)
            taken = layer;
    }
    layer = taken;
    pthread_mutex_unlock(&mutex);
    if (layer && kind && strcmp(layer->kind, kind) != 0) {
        sw_fail(st, SW_EUSAGE, NULL, NULL, "the layer for %s is in use, not one for %s", layer->kind, kind);
        return NULL;
    }
    return layer;
}

sw_layer_state sw_layer_begun(void)
{
    sw_status ignored = SW_STATUS_INIT;
    const sw_layer *layer = sw_layer_here();
    resident r;

    if (!layer && (sw_layer_linked || find_resident(NULL, &r)))
        layer = sw_layer_find(NULL, &ignored);
    return layer ? layer->state() : SW_MPI_UNBORN;
}
