/* One run of a command: its ranks begin, agree on what they were asked, do it, tell of it once, and
 * end. */
#ifndef SW_CMD_RUN_H
#define SW_CMD_RUN_H

#include <pthread.h>

#include "launch.h"
#include "opts.h"
#include "progress.h"
#include "shardweld.h"

typedef struct sw_run {
    const sw_args *args;
    sw_comm comm;
    sw_progress progress;
    pthread_mutex_t voice; /* who speaks, or notes what was said: this thread or the watchdog's */
    sw_watchdog *watchdog;
    char *staging;                /* where files are staged; NULL = nothing is */
    sw_result result;             /* consolidate, reshard */
    sw_verification verification; /* verify, diff */
    sw_checkpoint *checkpoint;    /* inspect */
    char *sums;                   /* check: a list to be printed; NULL = none */
    char **warnings;              /* all that the library had to say, in order */
    size_t nwarnings;
    double seconds_start; /* until the ranks stood ready */
    double seconds;       /* in the library */
} sw_run;

/* The commands; see sw_command.run, tell and report. */
sw_code sw_cmd_consolidate(sw_run *run, sw_status *st);
sw_code sw_cmd_consolidate_tell(const sw_run *run, sw_status *st);
/* of consolidate and reshard, verbose: before the work */
void sw_cmd_planned(const sw_result *result);
sw_code sw_cmd_reshard(sw_run *run, sw_status *st);
sw_code sw_cmd_verify(sw_run *run, sw_status *st);
sw_code sw_cmd_verify_tell(const sw_run *run, sw_status *st);
sw_code sw_cmd_diff(sw_run *run, sw_status *st);
sw_code sw_cmd_check(sw_run *run, sw_status *st);
sw_code sw_cmd_inspect(sw_run *run, sw_status *st);
sw_code sw_cmd_inspect_tell(const sw_run *run, sw_status *st);

/* The report: one JSON object about one run, of a failed one too. Its keys are documented in
 * docs/report.md. Local, for rank 0. Write it to run->args->report: a regular file appears whole
 * under its name or not at all; a pipe or device is written to.
 *   st   how the run ended
 *   err  takes what went wrong while writing: SW_EIO, SW_ENOMEM */
sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err);

/* What consolidate and reshard, verify and diff add to it. */
void sw_report_result(const sw_run *run, struct sw_emit *j);
void sw_report_verification(const sw_run *run, struct sw_emit *j);

/* Run the command that args names. Collective over the ranks that the launcher has started, where
 * MPI begins and ends; local, and without MPI, for a process that is alone. st may hold an error of
 * this rank's command line already: then nothing is done but to tell it once. On return st is the
 * same on every rank, and it has been printed. Returns the exit status. */
int sw_run_command(const sw_args *args, const sw_launch *launch, double begun, sw_status *st);

#endif
