/* The report: one JSON object about one run, of a failed one too. Its keys are documented in
 * docs/report.md. */
#ifndef SW_CMD_REPORT_H
#define SW_CMD_REPORT_H

#include "run.h"

/* Local, for rank 0. Write the report to run->args->report. A regular file appears whole under its
 * name or not at all; a pipe or device is written to.
 *   st   how the run ended
 *   err  takes what went wrong while writing: SW_EIO, SW_ENOMEM */
sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err);

#endif
