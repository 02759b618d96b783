/* shardweld consolidate: one call of the library, and what there is to tell of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "say.h"
#include "text.h"

sw_code sw_cmd_consolidate(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    sw_consolidate(&run->comm, args->input, args->output, &args->opt, &run->result, st);
    if (run->comm.rank == 0 && (args->verbose || args->report))
        sw_transport_describe(&run->comm, &run->result);
    return st->code;
}

static size_t widest_name(const sw_result *r)
{
    size_t widest = 0;

    for (uint64_t i = 0; i < r->nfiles; i++) {
        size_t n = strlen(r->files[i].name);

        widest = n > widest ? n : widest;
    }
    return widest;
}

/* A name that somebody else chose, filled up with blanks. */
static bool print_name(FILE *to, const char *name, size_t width)
{
    char *clean = sw_clean_copy(name);

    if (clean)
        fprintf(to, "%-*s", (int)width, clean);
    free(clean);
    return clean != NULL;
}

/* One line for each output file, and the sum. */
static bool print_plan(FILE *to, const void *about)
{
    const sw_result *r = about;
    size_t width = widest_name(r);
    uint64_t size = 0;
    char text[SW_SIZE_TEXT];

    for (uint64_t i = 0; i < r->nfiles; i++) {
        const sw_result_file *f = &r->files[i];

        if (!print_name(to, f->name, width))
            return false;
        fprintf(to, "  %14" PRIu64 " bytes  %8" PRIu64 " tensor%s\n", f->size, f->tensors,
                sw_plural(f->tensors));
        size += f->size;
    }
    for (uint64_t i = 0; i < r->nassets; i++) {
        if (!print_name(to, r->assets[i], 0))
            return false;
        fputs("  copied\n", to);
    }
    fprintf(to,
            "total: %" PRIu64 " file%s, %" PRIu64 " bytes (%s), %" PRIu64 " tensor%s from %" PRIu64
            " shard file%s%s%s\n",
            r->nfiles, sw_plural(r->nfiles), size, sw_size_text(size, text), r->tensors,
            sw_plural(r->tensors), r->shard_files, sw_plural(r->shard_files), r->shards ? ": shards " : "",
            r->shards ? r->shards : "");
    return !ferror(to);
}

void sw_cmd_planned(const sw_result *r)
{
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT];

    sw_say("input: %" PRIu64 " shard file%s%s%s%s, %" PRIu64 " tensor%s in %" PRIu64 " boxes, %" PRIu64
           " parameters, %s",
           r->shard_files, sw_plural(r->shard_files), r->shards ? " (shards " : "",
           r->shards ? r->shards : "", r->shards ? ")" : "", r->tensors, sw_plural(r->tensors), r->boxes,
           r->parameters, sw_size_text(r->bytes, a));
    sw_say("output: %" PRIu64 " file%s, index %s", r->nfiles, sw_plural(r->nfiles),
           r->index ? r->index : "none");
    sw_say("ranks: %d, by %s, buffer %s, at most %" PRIu64 " round%s of %s", r->ranks,
           r->assign == SW_ASSIGN_OWNER ? "owner" : "band", sw_size_text(r->buffer_size, a), r->rounds,
           sw_plural(r->rounds), sw_size_text(r->band_size, b));
}

static void tell_more(const sw_run *run)
{
    const sw_result *r = &run->result;
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT];
    double rate = r->seconds_write > 0 ? (double)r->bytes_written / r->seconds_write : 0;

    sw_say("transport: %s%s%s", r->io, r->transport[0] ? "; " : "", r->transport);
    sw_say("time: plan %.2f s, write %.2f s (%s/s), verify %.2f s, publish %.2f s; peak memory of a rank %s",
           r->seconds_plan, r->seconds_write, sw_size_text((uint64_t)rate, a), r->seconds_verify,
           r->seconds_publish, sw_size_text(r->peak_memory, b));
    if (r->recovered)
        sw_say("an interrupted publication of the same checkpoint was completed");
}

sw_code sw_cmd_consolidate_tell(const sw_run *run, sw_status *st)
{
    if (st->code)
        return st->code;
    if (run->args->verbose)
        tell_more(run);
    if (run->args->opt.dry_run)
        return sw_stdout_print(print_plan, &run->result, st);
    return SW_OK;
}
