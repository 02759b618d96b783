/* The same call on every rank; see call.h. */
#include "api/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/grown.h"
#include "base/hash.h"

sw_code sw_call_begin(const sw_comm *comm, const sw_given *g, uint64_t more, sw_status *st)
{
    uint64_t h = sw_hash_word(0, g->call);
    int other;

    *st = g->st;
    /* OUTPUT_DIR may be spelled differently where all ranks look whether it is one directory. */
    if (g->out && g->call != SW_CALL_CONSOLIDATE && g->call != SW_CALL_VERIFY)
        h = sw_hash_text(h, g->out);
    sw_comm_compare(comm, sw_hash_word(sw_options_hash(h, &g->opt), more), &other, st);
    if (!other)
        return st->code;
    /* More than whatever else is wrong. */
    sw_status_clear(st);
    return sw_fail(st, SW_EUSAGE, NULL, NULL,
                   "ranks 0 and %d were called with different functions, output directories or options",
                   other);
}

/* ---- operands -------------------------------------------------------------------------------- */

void sw_given_take(sw_given *g, sw_call call, const sw_comm *comm, const char *in, const char *out,
                   const sw_options *opt)
{
    const char **paths[2 + SW_OPTION_PATHS] = { &g->in, &g->out };
    bool no_in = call < SW_CALL_SAVE && !in, no_out = call != SW_CALL_OPEN && !out;

    *g = (sw_given){ .call = call, .in = in, .out = out };
    sw_grown_take(&g->opt, sizeof g->opt, opt, "sw_options", &g->st);
    sw_options_paths(&g->opt, paths + 2);
    /* A file:// URL becomes a path, which is owned. */
    for (size_t i = 0; i < sizeof paths / sizeof *paths && !g->st.code; i++)
        if (*paths[i] && strstr(*paths[i], "://") && (g->owned[i] = sw_strdup(*paths[i], &g->st)) &&
            !sw_local_path(*paths[i], g->owned[i], &g->st))
            *paths[i] = g->owned[i];
    if (!g->st.code && (no_in || no_out))
        sw_fail(&g->st, SW_EUSAGE, NULL, NULL, "no %s directory is given", no_in ? "input" : "output");
    if (!g->st.code)
        sw_options_check(&g->opt, call, comm, &g->st);
}

void sw_given_release(sw_given *g)
{
    for (size_t i = 0; i < sizeof g->owned / sizeof *g->owned; i++)
        free(g->owned[i]);
    *g = (sw_given){ .in = NULL };
}
