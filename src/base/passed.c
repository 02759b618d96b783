/* Giving pages back; see passed.h. */
#include "base/passed.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/status.h"
#include "base/step.h"

#define FOLIO (UINT64_C(2) << 20)   /* the largest of the page cache, at a multiple of its size */
#define BEHIND (UINT64_C(16) << 20) /* so much may be on its way to the disk */

static void give_back(int fd, uint64_t begin, uint64_t end)
{
    if (begin < end)
        posix_fadvise(fd, (off_t)begin, (off_t)(end - begin), POSIX_FADV_DONTNEED);
}

/* Of the folio that the bytes begin in all has gone by when they end behind it. */
void sw_passed_read(int fd, uint64_t at, uint64_t n)
{
    give_back(fd, sw_round_down(at, FOLIO), sw_round_down(at + n, FOLIO));
}

/* Wait until it is on the disk. Where the file system does not know how, it is left to itself. */
static sw_code settle(const sw_passed *p, uint64_t end, int fd, const char *show, sw_status *st)
{
    const unsigned flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    int r;

    if (p->begin >= end)
        return st->code;
    sw_step("writing", show);
    r = SW_FAULT("sync_range") ? -1 : sync_file_range(fd, (off_t)p->begin, (off_t)(end - p->begin), flags);
    if (r != 0 && errno != ENOSYS && errno != EINVAL && errno != ESPIPE)
        return sw_fail_errno(st, show, errno, "cannot write");
    give_back(fd, p->begin, end);
    return st->code;
}

sw_code sw_passed_written(sw_passed *p, int fd, const char *show, uint64_t at, uint64_t n, sw_status *st)
{
    uint64_t end;

    if (at != p->end) {
        if (sw_passed_settle(p, fd, show, st))
            return st->code;
        p->begin = at;
    }
    p->end = at + n;
    sync_file_range(fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
    if (p->end - p->begin < 2 * BEHIND)
        return st->code;
    end = sw_round_down(p->end - BEHIND, FOLIO);
    settle(p, end, fd, show, st);
    p->begin = end;
    return st->code;
}

sw_code sw_passed_settle(sw_passed *p, int fd, const char *show, sw_status *st)
{
    settle(p, p->end, fd, show, st);
    p->begin = p->end;
    return st->code;
}

void sw_passed_all(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}
