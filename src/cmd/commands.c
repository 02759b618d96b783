/* shardweld consolidate, reshard, verify and diff: one call of the library each, and what there is
 * to tell of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "say.h"
#include "text.h"

/* ---- consolidate and reshard ----------------------------------------------------------------- */

sw_code sw_cmd_consolidate(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    return sw_consolidate(&run->comm, args->input, args->output, &args->opt, &run->result, st);
}

sw_code sw_cmd_reshard(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;
    sw_sharding sharding = args->sharding;
    char mesh[24];

    if (args->ranks) {
        snprintf(mesh, sizeof mesh, "%" PRIu64, args->ranks);
        sharding.mesh = mesh;
    }
    return sw_reshard(&run->comm, args->input, args->output, &sharding, &args->opt, &run->result, st);
}

/* What OUTPUT_DIR was found to be able to do. */
static void say_store(const sw_store *s)
{
    sw_say("store: %s%s, by %s (writes in the middle %s, renames %s, locks %s, reserves room %s)",
           s->type[0] ? s->type : "unknown", s->objects ? ", objects" : "",
           s->kind == SW_STORE_STREAM ? "stream" : "random writes", s->rewrites ? "yes" : "no",
           s->renames ? "yes" : "no", s->locks ? "yes" : "no", s->reserves ? "yes" : "no");
    if (s->targets)
        sw_say("stripes: over up to %" PRIu32 " target%s of Lustre", s->targets, sw_plural(s->targets));
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
    if (r->store.kind != SW_STORE_AUTO)
        say_store(&r->store);
    sw_say("ranks: %d, by %s, buffer %s, at most %" PRIu64 " round%s of %s", r->ranks,
           sw_assign_text(r->assign), sw_size_text(r->buffer_size, a), r->rounds, sw_plural(r->rounds),
           sw_size_text(r->band_size, b));
}

/* One line for each output file, and the sum. */
static void print_plan(FILE *to, const void *about)
{
    const sw_result *r = about;
    size_t width = 0;
    uint64_t size = 0;
    char text[SW_SIZE_TEXT];

    for (uint64_t i = 0; i < r->nfiles; i++)
        width = strlen(r->files[i].name) > width ? strlen(r->files[i].name) : width;
    for (uint64_t i = 0; i < r->nfiles; i++) {
        const sw_result_file *f = &r->files[i];

        sw_text_put(to, f->name, SW_TEXT_PLAIN);
        fprintf(to, "%*s  %14" PRIu64 " bytes  %8" PRIu64 " tensor%s\n", (int)(width - strlen(f->name)), "",
                f->size, f->tensors, sw_plural(f->tensors));
        size += f->size;
    }
    for (uint64_t i = 0; i < r->nassets; i++) {
        sw_text_put(to, r->assets[i], SW_TEXT_PLAIN);
        fputs("  copied\n", to);
    }
    fprintf(to,
            "total: %" PRIu64 " file%s, %" PRIu64 " bytes (%s), %" PRIu64 " tensor%s from %" PRIu64
            " shard file%s%s%s\n",
            r->nfiles, sw_plural(r->nfiles), size, sw_size_text(size, text), r->tensors,
            sw_plural(r->tensors), r->shard_files, sw_plural(r->shard_files), r->shards ? ": shards " : "",
            r->shards ? r->shards : "");
}

sw_code sw_cmd_consolidate_tell(const sw_run *run, sw_status *st)
{
    const sw_result *r = &run->result;
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT];

    if (st->code)
        return st->code;
    if (r->unneeded && !run->args->quiet)
        sw_say("shardweld: %s holds this checkpoint already: nothing was written", run->args->output);
    if (run->args->verbose) {
        sw_say("transport: %s%s%s", r->io, r->transport[0] ? "; " : "", r->transport);
        sw_say("time: plan %.2f s, write %.2f s (%s/s), copy %.2f s, verify %.2f s, publish %.2f s; peak "
               "memory of a rank %s",
               r->seconds_plan, r->seconds_write, sw_rate_text(r->bytes_written, r->seconds_write, a),
               r->seconds_copy, r->seconds_verify, r->seconds_publish, sw_size_text(r->peak_memory, b));
        if (r->recovered)
            sw_say("an interrupted publication of the same checkpoint was completed");
    }
    return run->args->opt.dry_run ? sw_stdout_print(print_plan, r, st) : SW_OK;
}

/* ---- verify and diff ------------------------------------------------------------------------- */

sw_code sw_cmd_verify(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    return sw_verify(&run->comm, args->input, args->output, &args->opt, &run->verification, st);
}

sw_code sw_cmd_diff(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    return sw_diff(&run->comm, args->input, args->output, &args->opt, &args->allowed, &run->verification, st);
}

/* Verbose: what was compared, by whom, how fast. */
static void say_verification(const sw_verification *r)
{
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT];

    sw_say("compared: %" PRIu64 " tensor%s in %" PRIu64 " file%s, %s, with %" PRIu64
           " shard file%s%s%s; %" PRIu64 " replica%s",
           r->tensors, sw_plural(r->tensors), r->files, sw_plural(r->files), sw_size_text(r->bytes, a),
           r->shard_files, sw_plural(r->shard_files), r->shards ? ": shards " : "",
           r->shards ? r->shards : "", r->replicas, sw_plural(r->replicas));
    if (r->unread)
        sw_say("not read: %" PRIu64 " tensor%s of which both manifests tell the same", r->unread,
               sw_plural(r->unread));
    sw_say("ranks: %d, by %s, buffer %s", r->ranks, sw_assign_text(r->assign),
           sw_size_text(r->buffer_size, a));
    sw_say("time: plan %.2f s, compare %.2f s (%s/s); peak memory of a rank %s", r->seconds_plan,
           r->seconds_compare, sw_rate_text(r->bytes, r->seconds_compare, a),
           sw_size_text(r->peak_memory, b));
}

/* The same of check: what was read. */
static void say_check(const sw_verification *r)
{
    char a[SW_SIZE_TEXT], b[SW_SIZE_TEXT], c[SW_SIZE_TEXT];

    sw_say("read: %" PRIu64 " tensor%s in %" PRIu64 " file%s, %s, in %.2f s (%s/s) by %d rank%s; peak memory "
           "of a rank %s",
           r->tensors, sw_plural(r->tensors), r->files, sw_plural(r->files), sw_size_text(r->bytes, a),
           r->seconds_compare, sw_rate_text(r->bytes, r->seconds_compare, b), r->ranks,
           sw_plural((uint64_t)r->ranks), sw_size_text(r->peak_memory, c));
}

/* All that differs: a line each. */
static void print_findings(FILE *to, const void *about)
{
    const sw_verification *r = about;

    for (uint64_t i = 0; i < r->nfindings; i++) {
        sw_finding_print(to, &r->findings[i]);
        fputc('\n', to);
    }
}

/* ---- check ----------------------------------------------------------------------------------- */

/* A list of sums is rank 0's alone. */
sw_code sw_cmd_check(sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;

    if (!args->sums)
        return sw_check(&run->comm, args->input, &args->opt, &run->verification, st);
    if (run->comm.rank == 0)
        sw_manifest_sums(args->input, &run->sums, st);
    return sw_agree(&run->comm, st);
}

/* Text as it is. */
static void print_text(FILE *to, const void *about)
{
    fputs(about, to);
}

/* ---- of all that compare --------------------------------------------------------------------- */

sw_code sw_cmd_verify_tell(const sw_run *run, sw_status *st)
{
    const sw_verification *r = &run->verification;
    sw_status err = SW_STATUS_INIT;

    if (run->args->verbose && !run->args->sums && (st->code == SW_OK || st->code == SW_DIFF))
        (run->args->command->run == sw_cmd_check ? say_check : say_verification)(r);
    if ((run->sums && sw_stdout_print(print_text, run->sums, &err)) ||
        (r->nfindings && sw_stdout_print(print_findings, r, &err)))
        *st = err;
    return st->code;
}
