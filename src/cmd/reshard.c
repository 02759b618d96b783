/* shardweld reshard: one call of the library; what there is to tell of it is what consolidate
 * tells. */
#include <inttypes.h>
#include <stdio.h>

#include "run.h"

sw_code sw_cmd_reshard(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;
    sw_sharding sharding = args->sharding;
    char mesh[24];

    if (args->ranks) {
        snprintf(mesh, sizeof mesh, "%" PRIu64, args->ranks);
        sharding.mesh = mesh;
    }
    sw_reshard(&run->comm, args->input, args->output, &sharding, &args->opt, &run->result, st);
    if (run->comm.rank == 0 && (args->verbose || args->report))
        sw_transport_describe(&run->comm, &run->result);
    return st->code;
}
