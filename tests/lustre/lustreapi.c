/* A liblustreapi of our own: the functions that the program calls, with the signatures, results and
 * errors of the manual pages, over any file system. It notes each call that changes something, and
 * refuses what the real one would. The environment says what is there:
 *   LUSTRE_LOG      a line "create DIRECTORY/NAME COUNT SIZE" for each file, appended
 *   LUSTRE_LAYOUT   what files of a directory get: "COUNT", "composite", "pool", "mdt"; 1 by
 *                   default
 *   LUSTRE_TARGETS  room of each target in MiB, with commas; "-" = it is down, "r12" = read-only
 *   LUSTRE_REFUSE   errno with which a file cannot have its layout */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYOUT_DEFAULT 0x1000000000000002ULL
#define GET_EXPECTED 1
#define STATFS_LOV 2
#define STATFS_NODELAY 4
#define STATFS_READONLY 2

struct llapi_layout {
    bool composite;
    uint64_t count, size, pattern;
    char pool[16];
};

struct obd_statfs {
    uint64_t os_type, os_blocks, os_bfree, os_bavail, os_files, os_ffree;
    uint8_t os_fsid[40];
    uint32_t os_bsize, os_namelen;
    uint64_t os_maxbytes;
    uint32_t os_state, os_fprecreated, os_granted, os_spare[7];
};

struct obd_uuid {
    char uuid[40];
};

struct llapi_layout *llapi_layout_alloc(void);
struct llapi_layout *llapi_layout_get_by_path(const char *path, unsigned flags);
void llapi_layout_free(struct llapi_layout *layout);
bool llapi_layout_is_composite(struct llapi_layout *layout);
int llapi_layout_stripe_count_get(const struct llapi_layout *layout, uint64_t *count);
int llapi_layout_stripe_count_set(struct llapi_layout *layout, uint64_t count);
int llapi_layout_stripe_size_set(struct llapi_layout *layout, uint64_t size);
int llapi_layout_pattern_get(const struct llapi_layout *layout, uint64_t *pattern);
int llapi_layout_pool_name_get(const struct llapi_layout *layout, char *name, size_t n);
int llapi_layout_file_create(const char *path, int flags, int mode, const struct llapi_layout *layout);
int llapi_obd_statfs(char *path, uint32_t type, uint32_t index, struct obd_statfs *s, struct obd_uuid *uuid);
int llapi_msg_get_level(void);
void llapi_msg_set_level(int level);

static int msg_level = 6;

/* What a test must never see. */
static void die(const char *what)
{
    fprintf(stderr, "liblustreapi: %s\n", what);
    abort();
}

int llapi_msg_get_level(void)
{
    return msg_level;
}

void llapi_msg_set_level(int level)
{
    msg_level = level;
}

struct llapi_layout *llapi_layout_alloc(void)
{
    struct llapi_layout *l = calloc(1, sizeof *l);

    if (l)
        l->count = l->size = l->pattern = LAYOUT_DEFAULT;
    return l;
}

void llapi_layout_free(struct llapi_layout *layout)
{
    free(layout);
}

struct llapi_layout *llapi_layout_get_by_path(const char *path, unsigned flags)
{
    const char *has = getenv("LUSTRE_LAYOUT");
    struct llapi_layout *l;
    struct stat s;

    if (stat(path, &s) != 0)
        return NULL;
    if (flags != GET_EXPECTED || !S_ISDIR(s.st_mode))
        die("asked for something else than what a directory's files get");
    l = llapi_layout_alloc();
    l->pattern = has && strcmp(has, "mdt") == 0 ? 2 : 0;
    l->composite = has && strcmp(has, "composite") == 0;
    l->count = has && *has >= '0' && *has <= '9' ? strtoull(has, NULL, 10) : 1;
    if (has && strcmp(has, "pool") == 0)
        strcpy(l->pool, "flash");
    return l;
}

bool llapi_layout_is_composite(struct llapi_layout *layout)
{
    return layout->composite;
}

int llapi_layout_stripe_count_get(const struct llapi_layout *layout, uint64_t *count)
{
    *count = layout->count;
    return 0;
}

int llapi_layout_pattern_get(const struct llapi_layout *layout, uint64_t *pattern)
{
    *pattern = layout->pattern;
    return 0;
}

int llapi_layout_pool_name_get(const struct llapi_layout *layout, char *name, size_t n)
{
    snprintf(name, n, "%s", layout->pool);
    return 0;
}

int llapi_layout_stripe_count_set(struct llapi_layout *layout, uint64_t count)
{
    if (count == 0 || count > 2000) {
        errno = EINVAL;
        return -1;
    }
    layout->count = count;
    return 0;
}

int llapi_layout_stripe_size_set(struct llapi_layout *layout, uint64_t size)
{
    if (size % 65536 || size >= 1ULL << 32) {
        errno = EINVAL;
        return -1;
    }
    layout->size = size;
    return 0;
}

/* "in DIRECTORY/NAME" by its real path. */
static void note(const char *path, const struct llapi_layout *layout)
{
    FILE *f = fopen(getenv("LUSTRE_LOG"), "a");
    char real[PATH_MAX];

    if (!f || !realpath(path, real))
        die("no log");
    fprintf(f, "create %s %llu %llu\n", real, (unsigned long long)layout->count,
            (unsigned long long)layout->size);
    fclose(f);
}

/* The file is there, empty, when its layout is refused. */
int llapi_layout_file_create(const char *path, int flags, int mode, const struct llapi_layout *layout)
{
    const char *refuse = getenv("LUSTRE_REFUSE");
    int fd = open(path, flags | O_CREAT | O_EXCL, mode);

    if (msg_level != 0)
        die("it would print");
    if (fd < 0)
        return -1;
    note(path, layout);
    if (!refuse)
        return fd;
    close(fd);
    errno = atoi(refuse);
    return -1;
}

/* -ENODEV behind the last; -ENODATA of one that is down. */
int llapi_obd_statfs(char *path, uint32_t type, uint32_t index, struct obd_statfs *s, struct obd_uuid *uuid)
{
    const char *at = getenv("LUSTRE_TARGETS");
    struct stat dir;

    if (stat(path, &dir) != 0 || type != (STATFS_LOV | STATFS_NODELAY))
        die("statfs of something else");
    for (uint32_t i = 0; at && i < index; i++)
        at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
    if (!at)
        return -ENODEV;
    if (*at == '-')
        return -ENODATA;
    memset(s, 0, sizeof *s);
    s->os_bsize = 4096;
    s->os_bavail = strtoull(at + (*at == 'r'), NULL, 10) * 256;
    s->os_state = *at == 'r' ? STATFS_READONLY : 0;
    snprintf(uuid->uuid, sizeof uuid->uuid, "test-OST%04x_UUID", (unsigned)index);
    return 0;
}
