/* The report: one JSON object about one run, of a failed one too. Its keys are documented in
 * docs/report.md. */
#ifndef SW_CMD_REPORT_H
#define SW_CMD_REPORT_H

#include <jansson.h>

#include "run.h"

/* Local, for rank 0. Write the report to run->args->report. A regular file appears whole under its
 * name or not at all; a pipe or device is written to.
 *   st   how the run ended
 *   err  takes what went wrong while writing: SW_EIO, SW_ENOMEM */
sw_code sw_report_write(const sw_run *run, const sw_status *st, sw_status *err);

/* Local. Write a value as JSON, with jansson's flags. What of names would be harm on a terminal is
 * written as \uXXXX. False when memory is short. */
bool sw_report_dump(const json_t *value, size_t flags, FILE *to);

/* Local. Values for the report. Text may be no UTF-8 (a path); NULL and "" are null. NULL when
 * memory is short. */
json_t *sw_report_text(const char *s);
json_t *sw_report_integer(uint64_t n);
json_t *sw_report_assign(sw_assign assign); /* what ran: "band" or "owner" */

#endif
