/* Output files written by all ranks of a group; see io.h. */
#include "par/io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/path.h"

/* How long a file that another rank made may stay invisible (lookup caches of network file systems). */
#define OPEN_TRIES 20
#define OPEN_WAIT_NS 100000000L

/* ---- opening ------------------------------------------------------------------------------------ */

bool sw_hint_is_valid(const char *hint)
{
    const char *eq = strchr(hint, '=');

    return eq && eq != hint && eq - hint < MPI_MAX_INFO_KEY && eq[1] && strlen(eq + 1) < MPI_MAX_INFO_VAL;
}

/* Hints that keep ROMIO from aggregating and from reading what it will overwrite; the user's come last. */
static sw_code make_info(const char *const *hints, MPI_Info *info, sw_status *st)
{
    static const char *const ours[] = { "romio_cb_write=disable", "romio_ds_write=disable", NULL };
    const char *const *lists[] = { ours, hints };
    int err = MPI_Info_create(info);

    for (size_t i = 0; i < 2 && err == MPI_SUCCESS; i++) {
        for (const char *const *h = lists[i]; h && *h && err == MPI_SUCCESS; h++) {
            const char *eq = strchr(*h, '=');
            char key[MPI_MAX_INFO_KEY + 1];

            assert(sw_hint_is_valid(*h));
            memcpy(key, *h, (size_t)(eq - *h));
            key[eq - *h] = '\0';
            err = MPI_Info_set(*info, key, eq + 1);
        }
    }
    if (err != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_EIO, NULL, err, "cannot set MPI-IO hints");
    return SW_OK;
}

static sw_code create_file(sw_out *o, const char *path, sw_status *st)
{
    o->fd = SW_FAULT("create") ? -1 : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o->fd < 0)
        return sw_fail_errno(st, o->show, errno, "cannot create");
    return sw_path_reserve(o->fd, o->show, o->size, st);
}

static sw_code open_file(sw_out *o, const char *path, sw_status *st)
{
    const struct timespec wait = { 0, OPEN_WAIT_NS };

    for (int i = 0; i < OPEN_TRIES; i++) {
        o->fd = SW_FAULT("open_out") ? -1 : open(path, O_RDWR | O_CLOEXEC);
        if (o->fd >= 0 || errno != ENOENT)
            break;
        nanosleep(&wait, NULL);
    }
    if (o->fd < 0)
        return sw_fail_errno(st, o->show, errno, "cannot open what another rank created");
    return SW_OK;
}

/* All ranks have opened the file by POSIX, so that this will not fail on one of them alone. */
static sw_code open_mpi(sw_out *o, MPI_Comm mpi, const char *path, const char *const *hints, sw_status *st)
{
    MPI_Info info = MPI_INFO_NULL;
    int err;

    make_info(hints, &info, st);
    if (!sw_agree(o->group, st)) {
        err = MPI_File_open(mpi, path, MPI_MODE_WRONLY, info, &o->fh);
        o->mpi = err == MPI_SUCCESS;
        if (SW_FAULT("mpi_open"))
            err = MPI_ERR_IO;
        if (err != MPI_SUCCESS)
            sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot open");
    }
    if (info != MPI_INFO_NULL)
        MPI_Info_free(&info);
    return st->code;
}

sw_code sw_out_open(sw_out *o, const sw_comm *group, const char *path, const char *show, uint64_t size,
                    bool durable, const char *const *hints, sw_status *st)
{
    MPI_Comm mpi;

    *o = (sw_out){
        .group = group, .show = show, .size = size, .durable = durable, .fd = -1, .fh = MPI_FILE_NULL
    };
    if (group->rank == 0)
        create_file(o, path, st);
    if (sw_agree(group, st))
        goto failed;
    if (group->rank != 0)
        open_file(o, path, st);
    if (sw_agree(group, st))
        goto failed;
    /* MPI-IO takes what stands before a colon for the kind of file system; such a file is written by POSIX. */
    if (sw_comm_mpi(group, &mpi) && !strchr(path, ':')) {
        open_mpi(o, mpi, path, hints, st);
        if (sw_agree(group, st))
            goto failed;
    }
    return SW_OK;
failed:
    sw_out_close(o, st);
    return st->code;
}

sw_code sw_out_create_alone(const char *path, const char *show, uint64_t size, sw_status *st)
{
    sw_out o = { .show = show, .size = size, .fd = -1 };

    create_file(&o, path, st);
    return sw_fd_close(o.fd, show, st);
}

sw_code sw_out_open_alone(sw_out *o, const char *path, const char *show, uint64_t size, bool durable,
                          sw_status *st)
{
    *o = (sw_out){ .show = show, .size = size, .durable = durable, .fd = -1, .fh = MPI_FILE_NULL };
    return open_file(o, path, st);
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* The rank's part as a 1-D subarray of the file, counted in blocks because subarray sizes are ints. A part that
 * is empty, or in a file of too many blocks, has a plain view from where it begins. */
static int set_view(sw_out *o, sw_region part, uint64_t block)
{
    uint64_t n = part.end - part.begin, blocks = o->size / block + 1;
    MPI_Datatype element = MPI_DATATYPE_NULL, view = MPI_DATATYPE_NULL;
    int sizes, subsizes, starts, err;

    if (n == 0 || blocks > INT_MAX || part.begin % block)
        return MPI_File_set_view(o->fh, (MPI_Offset)part.begin, MPI_BYTE, MPI_BYTE, "native", MPI_INFO_NULL);
    sizes = (int)blocks;
    subsizes = (int)((n + block - 1) / block);
    starts = (int)(part.begin / block);
    err = MPI_Type_contiguous((int)block, MPI_BYTE, &element);
    if (err == MPI_SUCCESS)
        err = MPI_Type_create_subarray(1, &sizes, &subsizes, &starts, MPI_ORDER_C, element, &view);
    if (err == MPI_SUCCESS)
        err = MPI_Type_commit(&view);
    /* The call is collective: a rank that has no view comes with a plain one. */
    if (err == MPI_SUCCESS)
        err = MPI_File_set_view(o->fh, 0, MPI_BYTE, view, "native", MPI_INFO_NULL);
    else
        MPI_File_set_view(o->fh, (MPI_Offset)part.begin, MPI_BYTE, MPI_BYTE, "native", MPI_INFO_NULL);
    if (view != MPI_DATATYPE_NULL)
        MPI_Type_free(&view);
    if (element != MPI_DATATYPE_NULL)
        MPI_Type_free(&element);
    return err;
}

void sw_out_view(sw_out *o, sw_region part, uint64_t block)
{
    if (!o->mpi)
        return;
    o->viewed = part.begin;
    o->view_err = set_view(o, part, block);
    if (SW_FAULT("mpi_view"))
        o->view_err = MPI_ERR_IO;
}

/* MPI-IO keeps only the class of an error, or only the count. Writing the same bytes by POSIX tells why. */
static sw_code explain(const sw_out *o, sw_region band, const char *data, int err, int count, sw_status *st)
{
    if (sw_fd_write_at(o->fd, o->show, data, band.end - band.begin, band.begin, st))
        return st->code;
    if (err != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot write");
    return sw_fail(st, SW_EIO, o->show, NULL,
                   "MPI-IO wrote %d of %" PRIu64 " bytes at %" PRIu64 " without an error", count,
                   band.end - band.begin, band.begin);
}

static sw_code write_mpi(sw_out *o, sw_region band, const char *data, sw_status *st)
{
    int n = (int)(band.end - band.begin), err;
    MPI_Count count = 0;
    MPI_Status status;

    memset(&status, 0, sizeof status);
    /* After a failed view this rank still comes, with nothing to write. */
    err = MPI_File_write_at_all(o->fh, n ? (MPI_Offset)(band.begin - o->viewed) : 0, data,
                                o->view_err == MPI_SUCCESS ? n : 0, MPI_BYTE, &status);
    if (SW_FAULT("mpi_write"))
        err = MPI_ERR_IO;
    if (o->view_err != MPI_SUCCESS)
        return sw_fail_mpi(st, SW_EIO, o->show, o->view_err, "MPI-IO cannot set a view");
    if (err == MPI_SUCCESS && n > 0) {
        err = MPI_Get_elements_x(&status, MPI_BYTE, &count);
        if (SW_FAULT("mpi_count"))
            count = 0;
    }
    if (err != MPI_SUCCESS || count != n)
        return explain(o, band, data, err, (int)count, st);
    return SW_OK;
}

sw_code sw_out_write_all(sw_out *o, sw_region band, const char *data, sw_status *st)
{
    if (st->code)
        band.end = band.begin;
    assert(band.end - band.begin <= INT_MAX);
    if (o->mpi)
        write_mpi(o, band, data, st);
    else if (band.end > band.begin)
        sw_fd_write_at(o->fd, o->show, data, band.end - band.begin, band.begin, st);
    /* What must be durable in the end goes to the disk while the next band is read. A hint: nothing can fail. */
    if (o->durable && band.end > band.begin && !st->code)
        sync_file_range(o->fd, (off_t)band.begin, (off_t)(band.end - band.begin), SYNC_FILE_RANGE_WRITE);
    return st->code;
}

sw_code sw_out_sync(sw_out *o, sw_status *st)
{
    int err;

    if (!o->mpi)
        return sw_fd_sync(o->fd, o->show, st);
    err = MPI_File_sync(o->fh);
    if (SW_FAULT("mpi_sync"))
        err = MPI_ERR_IO;
    if (err == MPI_SUCCESS)
        return SW_OK;
    /* Again by POSIX, for the reason; an error that the kernel has told already is not told twice. */
    sw_fd_sync(o->fd, o->show, st);
    return sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot sync");
}

sw_code sw_out_close(sw_out *o, sw_status *st)
{
    int err = MPI_SUCCESS;

    if (o->mpi) {
        err = MPI_File_close(&o->fh);
        if (SW_FAULT("mpi_close"))
            err = MPI_ERR_IO;
    }
    o->mpi = false;
    if (err != MPI_SUCCESS)
        sw_fail_mpi(st, SW_EIO, o->show, err, "MPI-IO cannot close");
    sw_fd_close(o->fd, o->show, st);
    o->fd = -1;
    return st->code;
}
