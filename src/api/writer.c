/* sw_save_consolidated(): what the ranks hold in memory takes the place of shard files; the rest is
 * sw_consolidate()'s. */
#include "api/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/job.h"

sw_code sw_writer_begin(const sw_comm *comm, const sw_given *g, const sw_item *items, size_t n,
                        sw_memboxes *out, sw_status *st)
{
    char who[SW_RANK_NAME_SIZE];

    *out = (sw_memboxes)SW_MEMBOXES_INIT;
    if (sw_call_begin(comm, g, 0, st))
        return st->code;
    snprintf(who, sizeof who, SW_RANK_NAME, (unsigned)comm->rank);
    sw_memboxes_init(items, n, who, out, st);
    if (sw_agree(comm, st))
        sw_memboxes_release(out);
    return st->code;
}

/* ---- consolidated ---------------------------------------------------------------------------- */

sw_code sw_save_consolidated(const sw_comm *comm, const char *output_dir, const sw_item *items, size_t n,
                             const sw_options *opt, sw_result *result, sw_status *st)
{
    sw_memboxes held = SW_MEMBOXES_INIT;
    sw_job r = { .comm = comm, .held = &held };
    sw_given g;

    if (result)
        *result = (sw_result){ 0 };
    sw_given_take(&g, SW_CALL_SAVE, comm, NULL, output_dir, opt);
    r.out = g.out;
    r.opt = &g.opt;
    if (!sw_writer_begin(comm, &g, items, n, &held, st))
        sw_job_run(&r, result, st);
    sw_memboxes_release(&held);
    sw_given_release(&g);
    return st->code;
}
