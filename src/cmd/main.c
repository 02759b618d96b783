/* shardweld: the program. Reads the command line, looks at what started it, and runs one
 * command. */
#include <stdlib.h>

#include "file.h"
#include "launch.h"
#include "opts.h"
#include "run.h"
#include "say.h"
#include "version.h"

/* What --version and --help say. */
static void print_answer(FILE *to, const void *about)
{
    const sw_args *args = about;

    if (args->answer == SW_ANSWER_VERSION)
        sw_version_print(to);
    else
        sw_help(to, sw_commands, args->command);
}

/* --help and --version: always answered, by one rank. */
static int answer(const sw_args *args, const sw_launch *launch, sw_status *st)
{
    if (launch->rank > 0)
        return sw_code_exit_status(SW_OK);
    if (sw_stdout_print(print_answer, args, st))
        sw_say_error(st);
    return sw_code_exit_status(st->code);
}

int main(int argc, char **argv)
{
    double begun = sw_clock();
    sw_args args = SW_ARGS_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_status lone = SW_STATUS_INIT; /* a launcher that is none for MPI */
    sw_launch launch;
    int status;

    sw_stdio_guard();
    sw_signals_catch();
    sw_args_parse(argc, argv, sw_commands, &args, &st);
    sw_launch_look(&launch, &lone);
    /* If this run dies, nobody shall read what an earlier one had to say. */
    if (args.report && args.answer == SW_ANSWER_RUN && launch.rank == 0)
        sw_file_discard(args.report, "the report", &st);
    if (args.answer != SW_ANSWER_RUN && st.code == SW_OK) {
        status = answer(&args, &launch, &st);
    } else {
        st = st.code ? st : lone;
        status = sw_run_command(&args, &launch, begun, &st);
    }
    sw_args_release(&args);
    /* Under a launcher the launcher decides what a signal means. */
    if (launch.alone && st.code == SW_ECANCEL)
        sw_signals_die();
    return status;
}
