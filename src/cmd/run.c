/* One run of a command; see run.h. What is said is said by rank 0, before any rank leaves: mpirun
 * ends a job at the first rank that exits with an error, and the message must be out by then. A
 * process that is alone calls no MPI function: MPI takes half a second to begin, and keeps a
 * directory per machine that jobs which end at the same time can take from one another. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "phrase.h"
#include "say.h"

/* ---- what the library calls, on rank 0 ------------------------------------------------------- */

/* Take the voice. The other thread may stand still with it in its hand, in the midst of writing to
 * a pipe that nobody reads: then we speak without. */
static bool take_voice(sw_run *run)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    return pthread_mutex_timedlock(&run->voice, &until) == 0;
}

/* Let go of it. */
static void give_voice(sw_run *run, bool taken)
{
    if (taken)
        pthread_mutex_unlock(&run->voice);
}

/* Kept for the report; one that finds no memory is only printed. */
static void keep_warning(sw_run *run, const char *text)
{
    char **grown = realloc(run->warnings, (run->nwarnings + 1) * sizeof *grown);

    if (!grown)
        return;
    run->warnings = grown;
    grown[run->nwarnings] = strdup(text);
    if (grown[run->nwarnings])
        run->nwarnings++;
}

/* Also from the thread of the watchdog. */
static void on_warning(void *user, const char *text)
{
    sw_run *run = user;
    char *phrase = sw_phrase_text(text);
    bool taken = take_voice(run);

    text = phrase ? phrase : text;
    keep_warning(run, text);
    if (!run->args->quiet) {
        sw_progress_pause(&run->progress);
        sw_say_warning(text);
    }
    give_voice(run, taken);
    free(phrase);
}

/* The library tells how far it is. */
static void on_progress(void *user, uint64_t done, uint64_t total)
{
    sw_run *run = user;
    bool taken = take_voice(run);

    sw_progress_update(&run->progress, done, total);
    give_voice(run, taken);
}

/* The library tells what it is at. */
static void on_phase(void *user, sw_phase phase)
{
    sw_run *run = user;
    bool taken = take_voice(run);

    sw_progress_enter(&run->progress, phase);
    give_voice(run, taken);
}

/* The library tells what it is about to do. */
static void on_plan(void *user, const sw_result *result)
{
    sw_run *run = user;

    if (run->args->verbose)
        sw_cmd_planned(result);
}

/* ---- giving up ------------------------------------------------------------------------------- */

#define REPORT_SECONDS 5
#define LAST_WORDS_SECONDS (2 * REPORT_SECONDS)

typedef struct obituary {
    sw_run run; /* without what another thread is about to fill */
    sw_status st;
} obituary;

/* A thread of its own: it may never come back. */
static void *write_obituary(void *arg)
{
    const obituary *o = arg;
    sw_status ignored = SW_STATUS_INIT;

    sw_report_write(&o->run, &o->st, &ignored);
    return NULL;
}

/* The directory of the report may be what does not answer. */
static void try_report(const sw_run *run, const sw_status *st)
{
    obituary o = { .run = { .args = run->args, .comm = run->comm }, .st = *st };
    struct timespec until;
    pthread_t thread;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += REPORT_SECONDS;
    if (pthread_create(&thread, NULL, write_obituary, &o) == 0)
        pthread_timedjoin_np(thread, NULL, &until);
}

/* From the watchdog's thread: nobody gets on. The calls that stand still can be ended in no other
 * way; the launcher ends the other ranks. text NULL: rank 0 tells why. */
static void on_expired(void *user, const char *text)
{
    sw_run *run = user;
    sw_status st = SW_STATUS_INIT;

    sw_refuse(&st, SW_EIO, NULL, "%s; given up%s%s%s", text ? text : "", run->staging ? ", " : "",
              run->staging ? run->staging : "", run->staging ? " stays until the next run removes it" : "");
    if (run->comm.size > 1)
        sw_status_sign(&st, run->comm.rank);
    if (!text) {
        /* Who leaves first has the launcher end rank 0 in the midst of its words. */
        sleep(LAST_WORDS_SECONDS);
    } else {
        take_voice(run);
        sw_progress_pause(&run->progress);
        sw_say_error(&st);
        if (run->args->report && run->comm.rank == 0)
            try_report(run, &st);
    }
    _exit(sw_code_exit_status(st.code));
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Local, for rank 0. All that the run leaves behind for people. The first error is the one that
 * counts. */
static void tell(sw_run *run, sw_status *st)
{
    sw_status err = SW_STATUS_INIT;
    char text[SW_MESSAGE_TEXT];

    sw_progress_end(&run->progress, st->code == SW_OK, run->result.shards);
    /* Who calls the program alone wants to know what it is; a script that forgot its words fails
     * all the same. */
    if (run->args->answer == SW_ANSWER_HELP && !run->args->command)
        sw_help(stderr, sw_commands, NULL);
    if (run->args->command)
        run->args->command->tell(run, st);
    if (run->args->report && sw_report_write(run, st, &err)) {
        if (st->code == SW_OK)
            sw_refuse(st, err.code, err.file, "%s; all else was done", err.reason);
        else if (!run->args->quiet)
            sw_say_warning(sw_status_message(&err, text, sizeof text));
    }
    if (run->comm.size > 1)
        sw_status_sign(st, run->comm.rank);
    if (st->code)
        sw_say_error(st);
    else if (*sw_signals_flag() && sw_comm_launched())
        sw_say("shardweld: done all the same: the signal came too late");
}

/* All that the library made for this run. */
static void release(sw_run *run)
{
    sw_result_release(&run->result);
    sw_verification_release(&run->verification);
    sw_checkpoint_free(run->checkpoint);
    free(run->sums);
    for (size_t i = 0; i < run->nwarnings; i++)
        free(run->warnings[i]);
    free(run->warnings);
    free(run->staging);
}

/* Consolidate and reshard. */
static bool has_result(const sw_args *args)
{
    return args->command->run == sw_cmd_consolidate || args->command->run == sw_cmd_reshard;
}

/* Only what writes stages. For messages: NULL when memory is short. */
static void name_staging(sw_run *run)
{
    const sw_args *args = run->args;

    if (!args->opt.dry_run && has_result(args))
        run->staging = sw_staging_path(args->output, args->command->run == sw_cmd_reshard);
}

/* What only those who ask get to know: it may take 0.2 s, which are none of the work's. */
static void describe_transport(sw_run *run)
{
    if (run->comm.rank == 0 && has_result(run->args) && (run->args->verbose || run->args->report))
        sw_transport_describe(&run->comm, &run->result);
}

/* Once: this rank may be waited for no more. */
static void end_watch(sw_run *run)
{
    sw_watchdog_stop(run->watchdog);
    run->watchdog = NULL;
}

/* Collective. The library's part. */
static void work(sw_run *run, double begun, sw_status *st)
{
    const sw_watchdog_options watch = {
        .timeout = (double)run->args->timeout, .user = run, .stalled = on_warning, .expired = on_expired
    };
    double ready = sw_clock();

    /* What is wrong with a rank's command line is agreed upon with it. */
    if (sw_watchdog_start(&run->comm, &watch, &run->watchdog, st))
        return;
    run->seconds_start = ready - begun;
    if (run->comm.rank == 0)
        sw_progress_begin(&run->progress, run->args->progress, run->args->quiet, sw_comm_launched());
    name_staging(run);
    if (run->comm.rank == 0 && sw_comm_launched())
        sw_signals_announce(run->staging);
    run->args->command->run(run, st);
    sw_phrase_status(st);
    /* What is left is for rank 0 to do. */
    if (run->comm.rank != 0)
        end_watch(run);
    run->seconds = sw_clock() - ready;
    describe_transport(run);
}

/* What the library has to say comes to this run. */
static void listen(sw_run *run, sw_args *args)
{
    args->opt.user = run;
    args->opt.warn = on_warning;
    args->opt.progress = on_progress;
    args->opt.phase = on_phase;
    args->opt.planned = on_plan;
    args->opt.cancel = sw_signals_flag();
}

/* The others cannot be told: say why, and end them all. */
static void give_up(const sw_comm *comm, sw_status *st)
{
    if (comm->size > 1)
        sw_status_sign(st, comm->rank);
    sw_say_error(st);
    fflush(stderr);
    sw_comm_abort(sw_code_exit_status(st->code));
}

/* Processes that could not become ranks have met the same, and cannot agree on who says it: one on
 * each machine does, and rank 0 first. The launcher ends all others when the first one leaves, so
 * those wait, with or without a word of their own. */
#define SINGLETON_SECONDS 2

/* Is it for this process to tell? */
static bool speaks(const sw_launch *launch, const sw_status *start)
{
    if (start->code != SW_EUSAGE || launch->rank == 0)
        return true;
    sleep(SINGLETON_SECONDS);
    return launch->place == 0;
}

int sw_run_command(const sw_args *args, const sw_launch *launch, double begun, sw_status *st)
{
    sw_args mine = *args;
    sw_run run = { .args = &mine, .comm = sw_comm_self(), .voice = PTHREAD_MUTEX_INITIALIZER };
    sw_status start = SW_STATUS_INIT;
    bool ranks;
    int status;

    if (!launch->alone)
        sw_transport_defaults(args->output);
    ranks = !launch->alone && sw_comm_world(&run.comm, &start) == SW_OK;
    if (start.code)
        *st = start;
    listen(&run, &mine);
    work(&run, begun, st);
    if (ranks && st->code == SW_ECOMM)
        give_up(&run.comm, st);
    if (run.comm.rank == 0 && speaks(launch, &start))
        tell(&run, st);
    end_watch(&run);
    /* Only rank 0 knows how the telling went. */
    if (ranks && sw_agree(&run.comm, st) == SW_ECOMM)
        give_up(&run.comm, st);
    status = sw_code_exit_status(st->code);
    release(&run);
    if (start.code)
        sw_comm_abort(status);
    sw_comm_mpi_release(&run.comm);
    return status;
}
