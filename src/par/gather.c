/* From headers to the catalogue; see gather.h. */
#include "par/gather.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/path.h"
#include "plan/found.h"

sw_code sw_check_cancel(const volatile int *cancel, sw_status *st)
{
    if (cancel && *cancel)
        return sw_fail(st, SW_ECANCEL, NULL, NULL, "interrupted by a signal");
    return SW_OK;
}

/* ---- one header --------------------------------------------------------------------------------- */

static sw_code read_text(const char *dir, const char *name, uint64_t size, sw_buf *text, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    unsigned char first[8] = { 0 };
    uint64_t len;
    int fd = -1;

    text->len = 0;
    if (!path || sw_fd_open(path, name, &fd, st))
        goto out;
    if (size >= sizeof first && sw_fd_read_at(fd, name, first, sizeof first, 0, st))
        goto out;
    if (sw_header_length(first, size, name, &len, st) || sw_buf_reserve(text, len, st) ||
        sw_fd_read_at(fd, name, text->data, len, sizeof first, st))
        goto out;
    text->len = (size_t)len;
out:
    sw_fd_close(fd, name, st);
    free(path);
    return st->code;
}

sw_code sw_header_read(const char *dir, const char *name, uint64_t size, sw_buf *text, sw_header *out,
                       uint64_t *hash, sw_status *st)
{
    if (read_text(dir, name, size, text, st))
        return st->code;
    if (hash)
        *hash = sw_hash(0, text->data, text->len);
    return sw_header_parse(text->data, text->len, size - 8 - text->len, name, out, st);
}

sw_code sw_header_hash(const char *dir, const char *name, uint64_t size, uint64_t *hash, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    if (!read_text(dir, name, size, &text, st))
        *hash = sw_hash(0, text.data, text.len);
    sw_buf_release(&text);
    return st->code;
}

/* ---- all headers of this rank ------------------------------------------------------------------- */

/* What the others must know of a file besides its boxes. */
typedef struct file_record {
    uint64_t file, data_start, hash, sharded;
} file_record;

static sw_code parse_file(sw_catalog *c, uint32_t i, const char *dir, sw_buf *text, sw_found *found,
                          sw_buf *records, sw_status *st)
{
    sw_header h = SW_HEADER_INIT;
    sw_file *f = &c->files[i];
    file_record r = { 0 };

    if (sw_header_read(dir, f->name, f->size, text, &h, &f->hash, st))
        return st->code;
    f->data_start = 8 + text->len;
    f->sharded = h.sharded;
    r = (file_record){ i, f->data_start, f->hash, f->sharded };
    if (!sw_found_add(found, &h, c->files, i, st))
        sw_buf_add(records, &r, sizeof r, st);
    sw_header_release(&h);
    return st->code;
}

static sw_code parse_own(const sw_comm *comm, sw_catalog *c, const char *dir, const volatile int *cancel,
                         sw_found *found, sw_buf *records, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    for (uint32_t i = 0; i < c->nfiles && !sw_check_cancel(cancel, st); i++)
        if (c->files[i].owner == (uint32_t)comm->rank)
            if (parse_file(c, i, dir, &text, found, records, st))
                break;
    sw_buf_release(&text);
    return st->code;
}

/* ---- everybody's -------------------------------------------------------------------------------- */

static sw_code gather_files(const sw_comm *comm, sw_catalog *c, const sw_buf *records, uint64_t *starts,
                            sw_status *st)
{
    sw_buf all = SW_BUF_INIT;

    if (!sw_comm_gather(comm, records, &all, starts, st)) {
        for (uint64_t at = 0; at < all.len; at += sizeof(file_record)) {
            const file_record *r = (const void *)(all.data + at);
            sw_file *f = &c->files[r->file];

            f->data_start = r->data_start;
            f->hash = r->hash;
            f->sharded = r->sharded != 0;
        }
    }
    sw_buf_release(&all);
    return st->code;
}

/* Collective. The largest of the ranks' seconds. */
static sw_code slowest(const sw_comm *comm, double *seconds, sw_status *st)
{
    double *all = sw_calloc((uint64_t)comm->size, sizeof *all, st);

    if (!sw_agree(comm, st) && !sw_comm_allgather(comm, seconds, sizeof *seconds, all, st))
        for (int r = 0; r < comm->size; r++)
            *seconds = all[r] > *seconds ? all[r] : *seconds;
    free(all);
    return st->code;
}

sw_code sw_gather_catalog(const sw_comm *comm, const char *dir, const volatile int *cancel, sw_catalog *c,
                          double *seconds, sw_status *st)
{
    sw_buf records = SW_BUF_INIT, packed = SW_BUF_INIT, names = SW_BUF_INIT, boxes = SW_BUF_INIT;
    uint64_t n = (uint64_t)comm->size + 1;
    uint64_t *starts = sw_calloc(2 * n, sizeof *starts, st);
    sw_found found = SW_FOUND_INIT;
    double begin = sw_now();

    if (!st->code && !parse_own(comm, c, dir, cancel, &found, &records, st))
        sw_found_pack(&found, &packed, st);
    *seconds = sw_now() - begin;
    if (sw_agree(comm, st) || slowest(comm, seconds, st) || gather_files(comm, c, &records, starts, st) ||
        sw_comm_gather(comm, &packed, &names, starts, st) ||
        sw_comm_gather(comm, &found.boxes, &boxes, starts + n, st))
        goto out;
    /* The largest things first: what was sent is not needed any more. */
    sw_found_release(&found);
    if (!sw_catalog_merge(c, &names, starts, &boxes, starts + n, comm->size, st))
        sw_catalog_check(c, st);
    sw_agree(comm, st);
out:
    sw_found_release(&found);
    sw_buf_release(&boxes);
    sw_buf_release(&names);
    sw_buf_release(&packed);
    sw_buf_release(&records);
    free(starts);
    return st->code;
}
