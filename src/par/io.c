/* Output files written by all ranks of a group; see io.h. */
#include "par/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/step.h"

/* So many bytes at once go to a file system of this machine. Its page cache takes pages that are as
 * large as a call, and those of 2 MiB may be such that a virtual machine has given back to its
 * host: it gets them again at a third of the speed of a copy. 256 MiB from a cold disk, synced,
 * seconds of processor, the median of 6, columns and rows: by 4 MiB 0.39 and 0.53, by 1 MiB 0.36
 * and 0.15, by 256 KiB 0.13 and 0.12; the best of each 0.10. */
#define LOCAL_CALL (UINT64_C(256) << 10)

/* ---- opening --------------------------------------------------------------------------------- */

/* An empty file, with its stripes: -1 and errno on failure. */
static int make(const sw_out *o, const sw_below *dir, int flags)
{
    sw_step("making", o->show);
    return SW_FAULT("create")
               ? -1
               : sw_stripes_create(&o->stripes, dir, o->show, o->size, flags | O_CREAT | O_EXCL);
}

/* By the first rank, with its space. */
static sw_code create_file(sw_out *o, const sw_below *dir, sw_status *st)
{
    o->fd = make(o, dir, O_RDWR);
    if (o->fd < 0)
        return sw_fail_errno(st, o->show, errno, "cannot create");
    return sw_path_reserve(o->fd, o->show, o->size, st);
}

/* Nobody but a rank of ours made it: it is a file, and has no second name by which it could be
 * somebody else's. */
static sw_code open_file(sw_out *o, const sw_below *dir, sw_status *st)
{
    struct stat s;

    sw_step("opening", o->show);
    for (int i = 0; o->fd < 0 && (i == 0 || errno == ENOENT) && sw_path_wait(i, SW_PATH_SECONDS); i++)
        o->fd = SW_FAULT("open_out") ? -1 : sw_below_fd(dir, o->show, O_RDWR);
    if (o->fd < 0)
        return sw_fail_errno(st, o->show, errno, "cannot open what another rank created");
    if (fstat(o->fd, &s) != 0)
        return sw_fail_errno(st, o->show, errno, "cannot look at it");
    if (!S_ISREG(s.st_mode) || s.st_nlink > 1)
        return sw_fail(st, SW_EIO, o->show, NULL, "is not the file that another rank created");
    return SW_OK;
}

/* The same answer on all ranks of the group: does the open file show a setting that aggregates? */
static bool still_aggregates(const sw_out *o, sw_transport *how, sw_status *st)
{
    how->mpi = true;
    sw_transport_look(how, o->file);
    return !sw_comm_bcast(o->group, how->aggregates, sizeof how->aggregates, 0, st) && how->aggregates[0];
}

/* Closing takes all ranks: one that cannot reach the others leaves the file open, and ends. */
static sw_code close_mpi(sw_out *o, sw_status *st)
{
    int err;

    if (st->code == SW_ECOMM)
        return st->code;
    err = sw_layer_here()->file_close(&o->file);
    if (SW_FAULT("mpi_close"))
        err = SW_LAYER_FAULT;
    return err ? sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot close") : st->code;
}

/* Open MPI 5 forgets at the opening what it was given and takes it later. A file that aggregates
 * even then is left to POSIX. */
static sw_code keep_from_aggregating(sw_out *o, sw_transport *how, sw_status *st)
{
    const char *const *const hints[] = { sw_transport_ours, how->hints, NULL };

    if (!still_aggregates(o, how, st))
        return st->code;
    if (!sw_layer_here()->file_set_hints(o->file, hints) && !still_aggregates(o, how, st))
        return st->code;
    how->mpi = false;
    return close_mpi(o, st);
}

/* Does the path lead to the file that is open? */
static bool leads_to(const char *path, int fd)
{
    struct stat a, b;

    return lstat(path, &a) == 0 && fstat(fd, &b) == 0 && sw_path_same(&a, &b);
}

/* A path by which MPI-IO opens exactly this file: the name in its directory, which is held open, so
 * that nobody can put anything in the way. (Not the descriptor of the file itself: Open MPI makes
 * names of its own of the last part, and all ranks' must be the same.) Where there is no /proc it
 * is the path. */
static char *path_for_mpi(const sw_out *o, const sw_below *dir, int parent, const char *last, sw_status *st)
{
    char *path = NULL;

    if (asprintf(&path, "/proc/self/fd/%d/%s", parent, last) < 0) {
        sw_fail_nomem(st, strlen(last));
        return NULL;
    }
    if (leads_to(path, o->fd))
        return path;
    free(path);
    return sw_path_join(dir->path, o->show, st);
}

/* The directory of the file, held open, and the path that MPI-IO gets. */
typedef struct way {
    int parent;
    char *path;
} way;

/* It must lead to the file that is open. */
static sw_code find_way(const sw_out *o, const sw_below *dir, way *w, sw_status *st)
{
    const char *last;

    w->parent = sw_below_parent(dir, o->show, &last);
    if (w->parent < 0)
        return sw_fail_errno(st, o->show, errno, "cannot open its directory");
    w->path = path_for_mpi(o, dir, w->parent, last, st);
    if (w->path && !leads_to(w->path, o->fd))
        sw_fail(st, SW_EIO, w->path, NULL, "somebody has put something else in its place");
    return st->code;
}

/* All ranks have opened the file by POSIX, so that this will not fail on one of them alone. */
static sw_code open_mpi(sw_out *o, const way *w, sw_transport *how, sw_status *st)
{
    const char *const *const hints[] = { sw_transport_ours, how->hints, NULL };
    int err;

    sw_step_joint("opening", o->show);
    err = sw_layer_here()->file_open(sw_comm_handle(o->group), w->path, hints, &o->file);
    if (SW_FAULT("mpi_open"))
        err = SW_LAYER_FAULT;
    if (err)
        sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot open");
    else if (!leads_to(w->path, o->fd))
        sw_fail(st, SW_EIO, w->path, NULL, "somebody has put something else in its place");
    if (!sw_agree(o->group, st))
        keep_from_aggregating(o, how, st);
    return sw_agree(o->group, st);
}

sw_code sw_out_open(sw_out *o, const sw_below *dir, sw_transport *how, sw_status *st)
{
    /* MPI-IO takes what stands before a colon for the kind of file system; such a file is written
     * by POSIX. */
    bool mpi = sw_comm_layer(o->group) && !how->aggregates[0] && !strchr(o->show, ':');
    way w = { -1, NULL };

    o->fd = -1;
    o->file = 0;
    if (o->group->rank == 0 && !st->code)
        create_file(o, dir, st);
    if (!sw_agree(o->group, st)) {
        if (o->group->rank != 0)
            open_file(o, dir, st);
        if (mpi && !st->code)
            find_way(o, dir, &w, st);
        if (!sw_agree(o->group, st) && mpi)
            open_mpi(o, &w, how, st);
    }
    free(w.path);
    if (w.parent >= 0)
        close(w.parent);
    o->local = !st->code && !o->file && sw_fd_is_local(o->fd);
    return st->code ? sw_out_close(o, st) : SW_OK;
}

sw_code sw_out_create_alone(const sw_out *o, const sw_below *dir, sw_status *st)
{
    sw_out made = *o;

    create_file(&made, dir, st);
    return sw_fd_close(made.fd, made.show, st);
}

sw_code sw_out_open_alone(sw_out *o, const sw_below *dir, sw_status *st)
{
    o->fd = -1;
    o->file = 0;
    o->local = !open_file(o, dir, st) && sw_fd_is_local(o->fd);
    return st->code;
}

/* Nobody but us makes it: what was there under its name has been removed. Its bytes go out as they
 * come; there is nothing to be hurried. */
sw_code sw_out_open_stream(sw_out *o, const sw_below *dir, sw_status *st)
{
    o->file = 0;
    o->stream = true;
    o->fd = make(o, dir, O_WRONLY | O_TRUNC);
    return o->fd < 0 ? sw_fail_errno(st, o->show, errno, "cannot create") : SW_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* MPI-IO keeps only the class of an error, or only the count. Writing the same bytes by POSIX tells
 * why. */
static sw_code explain(const sw_out *o, sw_region band, const char *data, int err, int64_t count,
                       sw_status *st)
{
    if (sw_fd_write_at(o->fd, o->show, data, band.end - band.begin, band.begin, st))
        return st->code;
    if (err)
        return sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot write");
    return sw_fail(st, SW_EIO, o->show, NULL,
                   "MPI-IO wrote %" PRId64 " of %" PRIu64 " bytes at %" PRIu64 " without an error", count,
                   band.end - band.begin, band.begin);
}

/* Collective, as all of MPI-IO here. */
static sw_code write_mpi(sw_out *o, sw_region band, const char *data, sw_status *st)
{
    int n = (int)(band.end - band.begin), err;
    int64_t count = 0;

    sw_step("writing", o->show);
    err = sw_layer_here()->file_write(o->file, (int64_t)band.begin, data, n, &count);
    if (SW_FAULT("mpi_write"))
        err = SW_LAYER_FAULT;
    if (!err && n > 0 && SW_FAULT("mpi_count"))
        count = 0;
    return err || count != n ? explain(o, band, data, err, count, st) : SW_OK;
}

/* What must be durable in the end, or is to leave the page cache, goes to the disk while the next
 * band is read. A stream goes by itself. */
static sw_code send_on(sw_out *o, sw_region band, sw_status *st)
{
    uint64_t n = band.end - band.begin;

    if (o->drops && !o->stream)
        return sw_passed_written(&o->passed, o->fd, o->show, band.begin, n, st);
    if (o->drops)
        sw_passed_read(o->fd, band.begin, n);
    /* a hint: nothing can fail */
    else if (o->durable && !o->stream)
        sync_file_range(o->fd, (off_t)band.begin, (off_t)n, SYNC_FILE_RANGE_WRITE);
    return SW_OK;
}

sw_code sw_out_write_all(sw_out *o, sw_region band, const char *data, sw_status *st)
{
    uint64_t most = o->local ? LOCAL_CALL : UINT64_MAX, n;

    if (st->code)
        band.end = band.begin;
    assert(band.end - band.begin <= INT_MAX);
    if (o->file)
        write_mpi(o, band, data, st);
    /* else by this rank alone */
    for (uint64_t at = band.begin; !o->file && at < band.end && !st->code; at += n) {
        n = sw_min(band.end - at, most);
        sw_fd_write_at(o->fd, o->show, data + (at - band.begin), n, at, st);
    }
    return st->code || band.end == band.begin ? st->code : send_on(o, band, st);
}

sw_code sw_out_sync(sw_out *o, sw_status *st)
{
    int err;

    if (!o->file)
        return sw_fd_sync(o->fd, o->show, st);
    sw_step_joint("syncing", o->show);
    err = sw_layer_here()->file_sync(o->file);
    if (SW_FAULT("mpi_sync"))
        err = SW_LAYER_FAULT;
    if (!err)
        return SW_OK;
    /* Again by POSIX, for the reason; an error that the kernel has told already is not told
     * twice. */
    sw_fd_sync(o->fd, o->show, st);
    return sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot sync");
}

sw_code sw_out_close(sw_out *o, sw_status *st)
{
    if (o->file) {
        sw_step_joint("closing", o->show);
        close_mpi(o, st);
    }
    if (o->drops && o->fd >= 0 && !st->code) {
        if (!o->stream)
            sw_passed_settle(&o->passed, o->fd, o->show, st);
        sw_passed_all(o->fd);
    }
    sw_fd_close(o->fd, o->show, st);
    o->fd = -1;
    return st->code;
}
