/* Mapped files; see mapped.h.
 *
 * A lease (F_SETLEASE of Linux) makes the danger go away: as long as this process holds one on a
 * file, whoever wants to open it for writing, or to truncate it, waits in that call. We look every
 * few MiB whether somebody does, and then unmap and give the lease back. A lease is to be had on
 * local file systems, for the owner of the file and root, when nobody has it open for writing. The
 * system takes it away from a process that stands still for /proc/sys/fs/lease-break-time (45 s).
 *
 * A disk that fails is found before the pages are looked at: MADV_POPULATE_READ reads them and
 * tells. It costs a third of the time of columns that are in memory, so a file that was all there
 * when it was mapped is believed to be good as long as it stays there. */
#include "read/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/path.h"

/* Pages are let go so many at once: a multiple of a huge page, which would have to be taken apart
 * otherwise. With less, several threads wait for each other's processors more often: 2 MiB cost
 * them 8 % more than this, 32 MiB 2 % less. */
#define BLOCK (UINT64_C(8) << 20)

/* A smaller file may be in memory as a whole because of one read that failed. */
#define BELIEVED (UINT64_C(16) << 20)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* ---- leases ---------------------------------------------------------------------------------- */

/* Nobody is to be told that somebody waits: we look. Until there is no owner it would be by SIGIO,
 * which kills; SIGURG does nothing. */
static bool take_lease(int fd)
{
    return sw_fd_is_local(fd) && fcntl(fd, F_SETSIG, SIGURG) == 0 && !SW_FAULT("setlease") &&
           fcntl(fd, F_SETLEASE, F_RDLCK) == 0 && fcntl(fd, F_SETOWN, 0) == 0;
}

/* Does nobody wait for it to be given back? */
static bool has_lease(int fd)
{
    return !SW_FAULT("getlease") && fcntl(fd, F_GETLEASE) == F_RDLCK;
}

/* Closing it is not enough where another thread has forked a child meanwhile, which has it too. */
static void give_back(const sw_mapped *m)
{
    if (m->how == SW_READ_MAP_SAFE)
        (void)fcntl(m->fd, F_SETLEASE, F_UNLCK);
    close(m->fd);
}

/* ---- mapping --------------------------------------------------------------------------------- */

/* Is it as long as when its header was read? */
static bool has_size(int fd, uint64_t size)
{
    struct stat s;

    return fstat(fd, &s) == 0 && (uint64_t)s.st_size == size;
}

/* Is every byte of the file from at on in the page cache, as far as this system tells? */
static bool is_cached(int fd, uint64_t at, uint64_t n)
{
    const uint64_t range[2] = { at, n };
    uint64_t pages[5] = { 0 }, page = (uint64_t)sysconf(_SC_PAGESIZE);

    return syscall(SYS_cachestat, fd, range, pages, 0) == 0 && pages[0] == (at % page + n + page - 1) / page;
}

/* All of a file; NULL = it cannot be mapped. */
static char *map(int fd, size_t len)
{
    void *base = SW_FAULT("mmap") ? MAP_FAILED : mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

    return base == MAP_FAILED ? NULL : base;
}

/* Let go of the file, if there is one. */
static void unmap(sw_mapped *m)
{
    if (m->base) {
        munmap(m->base, m->len);
        give_back(m);
    }
    m->base = NULL;
}

const char *sw_mapped_file(sw_mapped *m, uint32_t file, int fd, uint64_t size)
{
    if (m->known && m->file == file)
        return m->base;
    unmap(m);
    *m = (sw_mapped){ .how = m->how, .known = true, .file = file, .len = (size_t)size };
    if (m->how == SW_READ_MAP_NEVER || (m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
        return NULL;
    if ((m->how == SW_READ_MAP_ALWAYS || take_lease(m->fd)) && has_size(m->fd, size))
        m->base = map(m->fd, m->len);
    if (!m->base)
        give_back(m);
    else
        m->cached = size >= BELIEVED && is_cached(m->fd, 0, size);
    return m->base;
}

void sw_mapped_yield(sw_mapped *m)
{
    if (m->base && m->how == SW_READ_MAP_SAFE && !has_lease(m->fd))
        unmap(m);
}

/* Reads them now, all at once, which fails where a look at them would be the end. Linux before 5.14
 * cannot do that. */
static bool are_pages_there(const sw_mapped *m, uint64_t begin, uint64_t end)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), first = begin / page * page;

    if (SW_FAULT("populate"))
        return false;
    return (m->cached && is_cached(m->fd, begin, end - begin)) ||
           madvise(m->base + first, (size_t)(end - first), MADV_POPULATE_READ) == 0 ||
           (errno == EINVAL && m->how == SW_READ_MAP_ALWAYS);
}

bool sw_mapped_ready(sw_mapped *m, uint64_t begin, uint64_t end)
{
    if (m->base && !are_pages_there(m, begin, end))
        unmap(m);
    sw_mapped_yield(m); /* at last: nothing slow comes after it */
    return m->base != NULL;
}

/* Hints: nothing can fail. */
void sw_mapped_done(sw_mapped *m, uint64_t end)
{
    uint64_t until = end / BLOCK * BLOCK;

    if (until > m->kept)
        (void)madvise(m->base + m->kept, (size_t)(until - m->kept), MADV_DONTNEED);
    m->kept = until;
}

void sw_mapped_release(sw_mapped *m)
{
    unmap(m);
    *m = (sw_mapped){ .how = m->how };
}
