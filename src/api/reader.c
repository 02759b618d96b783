/* sw_checkpoint_read(): boxes of tensors into the caller's memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/checkpoint.h"
#include "base/hash.h"
#include "base/num.h"
#include "par/comm.h"
#include "read/reader.h"

#define THREADS_MAX 1024u

static sw_code check_options(const sw_read_options *opt, sw_reader *r, sw_status *st)
{
    r->threads = opt->threads ? opt->threads : 1;
    r->buffer_size = opt->buffer_size ? opt->buffer_size : SW_READER_BUFFER;
    r->cancel = opt->cancel;
    r->map = opt->map;
    if ((unsigned)opt->map > SW_READ_MAP_ALWAYS)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "no way of reading has the number %d", (int)opt->map);
    if (r->threads > THREADS_MAX)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%u threads are more than %u", r->threads, THREADS_MAX);
    if (r->buffer_size < SW_BUFFER_SIZE_MIN)
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "a buffer of %" PRIu64 " bytes is too small: at least %u are needed", r->buffer_size,
                       SW_BUFFER_SIZE_MIN);
    return SW_OK;
}

sw_code sw_checkpoint_read(const sw_checkpoint *cp, const sw_read *reads, size_t n,
                           const sw_read_options *opt, sw_status *st)
{
    static const sw_read_options defaults = SW_READ_OPTIONS_INIT;
    sw_reader r = { .c = sw_checkpoint_catalog(cp), .dir = sw_checkpoint_dir(cp), .nwants = n };
    sw_request *wants = NULL;

    sw_status_clear(st);
    if (check_options(opt ? opt : &defaults, &r, st))
        return st->code;
    if (n && !reads)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "%zu reads, but no list of them", n);
    r.wants = wants = sw_calloc(n, sizeof *wants, st);
    for (size_t i = 0; wants && i < n && !st->code; i++)
        sw_request_box(r.c, &reads[i], &wants[i], st);
    if (!st->code && !sw_requests_apart(wants, n, st))
        sw_reader_run(&r, st);
    free(wants);
    return st->code;
}

sw_code sw_checkpoint_read_all(const sw_comm *comm, const sw_checkpoint *cp, const sw_read *reads, size_t n,
                               const sw_read_options *opt, sw_status *st)
{
    static const char call[] = "sw_checkpoint_read_all";
    int other;

    sw_status_clear(st);
    /* Ranks that came with different calls have nothing to do together. */
    if (sw_comm_compare(comm, sw_hash(0, call, sizeof call), &other, st))
        return st->code;
    if (other)
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "ranks 0 and %d were called with different functions",
                       other);
    sw_checkpoint_read(cp, reads, n, opt, st);
    return sw_agree(comm, st);
}

sw_code sw_checkpoint_read_shape(const sw_checkpoint *cp, const char *name, const char *dtype,
                                 sw_read_shape *out, sw_status *st)
{
    sw_request w;

    sw_status_clear(st);
    *out = (sw_read_shape){ .dtype = "" };
    if (sw_request_tensor(sw_checkpoint_catalog(cp), name, dtype, &w, st))
        return st->code;
    out->dtype = sw_dtype_name(w.to);
    out->ndim = w.ndim;
    memcpy(out->shape, w.whole, w.ndim * sizeof *w.whole);
    out->bytes = w.whole_bytes;
    return SW_OK;
}
