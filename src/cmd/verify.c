/* shardweld verify: one call of the library, and a line for all that differs. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "report.h"
#include "say.h"
#include "text.h"

sw_code sw_cmd_verify(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    return sw_verify(&run->comm, args->input, args->output, &args->opt, &run->verification, st);
}

/* ---- words ----------------------------------------------------------------------------------- */

static void tell_more(const sw_run *run)
{
    const sw_verification *r = &run->verification;
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT];
    double rate = r->seconds_compare > 0 ? (double)r->bytes / r->seconds_compare : 0;

    sw_say("compared: %" PRIu64 " tensor%s in %" PRIu64 " file%s, %s, with %" PRIu64
           " shard file%s%s%s; %" PRIu64 " replica%s",
           r->tensors, sw_plural(r->tensors), r->files, sw_plural(r->files), sw_size_text(r->bytes, a),
           r->shard_files, sw_plural(r->shard_files), r->shards ? ": shards " : "",
           r->shards ? r->shards : "", r->replicas, sw_plural(r->replicas));
    sw_say("ranks: %d, by %s, buffer %s", r->ranks, r->assign == SW_ASSIGN_OWNER ? "owner" : "band",
           sw_size_text(r->buffer_size, a));
    sw_say("time: plan %.2f s, compare %.2f s (%s/s); peak memory of a rank %s", r->seconds_plan,
           r->seconds_compare, sw_size_text((uint64_t)rate, a), sw_size_text(r->peak_memory, b));
}

static bool print_findings(FILE *to, const void *about)
{
    const sw_verification *r = about;
    bool good = true;

    for (uint64_t i = 0; good && i < r->nfindings; i++) {
        char *text = sw_finding_text(&r->findings[i]);

        good = text && fprintf(to, "%s\n", text) >= 0;
        free(text);
    }
    return good;
}

sw_code sw_cmd_verify_tell(const sw_run *run, sw_status *st)
{
    sw_status err = SW_STATUS_INIT;

    if (run->args->verbose && (st->code == SW_OK || st->code == SW_DIFF))
        tell_more(run);
    if (run->verification.nfindings && sw_stdout_print(print_findings, &run->verification, &err))
        *st = err;
    return st->code;
}

/* ---- report ---------------------------------------------------------------------------------- */

static json_t *findings_array(const sw_verification *r)
{
    json_t *array = json_array();

    for (uint64_t i = 0; i < r->nfindings; i++) {
        const sw_finding *f = &r->findings[i];
        json_t *finding = json_object();

        json_object_set_new(finding, "file", sw_report_text(f->file));
        json_object_set_new(finding, "tensor", sw_report_text(f->tensor));
        json_object_set_new(finding, "reason", sw_report_text(f->reason));
        json_object_set_new(finding, "hint", sw_report_text(f->hint));
        json_array_append_new(array, finding);
    }
    return array;
}

void sw_cmd_verify_report(const sw_run *run, struct json_t *object)
{
    const sw_verification *r = &run->verification;

    json_object_set_new(object, "assign", sw_report_assign(r->assign));
    json_object_set_new(object, "files", sw_report_integer(r->files));
    json_object_set_new(object, "tensors", sw_report_integer(r->tensors));
    json_object_set_new(object, "bytes", sw_report_integer(r->bytes));
    json_object_set_new(object, "replicas", sw_report_integer(r->replicas));
    json_object_set_new(object, "shard_files", sw_report_integer(r->shard_files));
    json_object_set_new(object, "shards", sw_report_text(r->shards));
    json_object_set_new(object, "buffer_size", sw_report_integer(r->buffer_size));
    json_object_set_new(object, "peak_memory", sw_report_integer(r->peak_memory));
    json_object_set_new(object, "findings", findings_array(r));
    json_object_set_new(object, "seconds_plan", json_real(r->seconds_plan));
    json_object_set_new(object, "seconds_compare", json_real(r->seconds_compare));
}
