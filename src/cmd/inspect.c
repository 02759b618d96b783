/* shardweld inspect: open the checkpoint with all that is wrong with it, choose tensors, show. */
#include "inspect.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "say.h"
#include "text.h"

/* ---- the checkpoint -------------------------------------------------------------------------- */

static sw_code check_svg(const sw_args *args, sw_status *st)
{
    if (!args->svg)
        return SW_OK;
    if (sw_file_is_taboo(args->svg))
        return sw_refuse(st, SW_EUSAGE, args->svg, "a picture must not have the name of a checkpoint's file");
    if (args->json && strcmp(args->svg, "-") == 0)
        return sw_refuse(st, SW_EUSAGE, NULL, "only one of --json and --svg - can have standard output");
    return SW_OK;
}

static bool matches(const char *const *globs, const char *name)
{
    for (; globs && *globs; globs++)
        if (fnmatch(*globs, name, 0) == 0)
            return true;
    return false;
}

/* A glob that matches nothing is a slip of the hand, as for ls; but where a file is broken it may
 * be what was lost. */
static sw_code check_globs(const sw_run *run, sw_status *st)
{
    sw_checkpoint_info info;

    sw_checkpoint_info_get(run->checkpoint, &info);
    for (const char *const *glob = run->args->tensors; glob && *glob; glob++) {
        const char *const one[] = { *glob, NULL };
        bool found = false;

        for (uint64_t i = 0; i < info.ntensors && !found; i++) {
            sw_tensor_info t;

            sw_checkpoint_tensor(run->checkpoint, i, &t);
            found = matches(one, t.name);
        }
        if (!found)
            return sw_refuse(st, SW_EUSAGE, run->args->input, "no tensor matches '%s'", *glob);
    }
    return SW_OK;
}

/* What was found becomes the error, once for all of it. */
static sw_code judge(const sw_run *run, sw_status *st)
{
    uint64_t n;
    const sw_finding *f = sw_checkpoint_findings(run->checkpoint, &n);
    char one[sizeof(sw_status) + 64];
    sw_status first = SW_STATUS_INIT;

    if (n == 0)
        return check_globs(run, st);
    first.code = SW_EINPUT;
    snprintf(first.file, sizeof first.file, "%s", f[0].file);
    snprintf(first.tensor, sizeof first.tensor, "%s", f[0].tensor);
    snprintf(first.reason, sizeof first.reason, "%s", f[0].reason);
    sw_status_message(&first, one, sizeof one);
    return sw_refuse(st, SW_EINPUT, run->args->input, "not a valid checkpoint: %" PRIu64 " finding%s%s%s", n,
                     n == 1 ? ": " : "s", n == 1 ? "" : ", the first: ", one);
}

sw_code sw_cmd_inspect(sw_run *run, sw_status *st)
{
    sw_options opt = run->args->opt;

    opt.tolerant = true;
    if (check_svg(run->args, st) ||
        sw_checkpoint_open(&run->comm, run->args->input, &opt, &run->checkpoint, st))
        return st->code;
    return judge(run, st);
}

/* ---- showing --------------------------------------------------------------------------------- */

static bool choose(sw_look *look)
{
    const char *const *globs = look->run->args->tensors;

    look->chosen = calloc(look->info.ntensors + 1, sizeof *look->chosen);
    for (uint64_t i = 0; look->chosen && i < look->info.ntensors; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, i, &t);
        if (!globs || matches(globs, t.name))
            look->chosen[look->nchosen++] = i;
    }
    return look->chosen != NULL;
}

/* Standard output as a stream that keeps the first error. */
typedef struct sink {
    sw_status *st;
} sink;

static ssize_t sink_write(void *cookie, const char *data, size_t n)
{
    sink *s = cookie;

    if (s->st->code || sw_stdout_write(data, n, s->st))
        return 0;
    return (ssize_t)n;
}

static FILE *sink_open(sink *s)
{
    const cookie_io_functions_t functions = { .write = sink_write };
    FILE *to = fopencookie(s, "w", functions);

    /* A table of millions of boxes goes out in large pieces. */
    if (to && setvbuf(to, NULL, _IOFBF, 1 << 16))
        clearerr(to);
    return to;
}

static sw_code no_memory(sw_status *err)
{
    return sw_refuse(err, SW_ENOMEM, NULL, "out of memory");
}

/* The picture to standard output or a file. */
static sw_code put_svg(const sw_look *look, sw_status *err)
{
    const char *path = look->run->args->svg;
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    bool drawn = to && sw_look_svg(look, to) && !ferror(to);

    if (!to || fclose(to) || !drawn)
        no_memory(err);
    else if (strcmp(path, "-") == 0)
        sw_stdout_write(text, n, err);
    else
        sw_file_put(path, "the picture", text, n, err);
    free(text);
    return err->code;
}

static sw_code put_text(const sw_look *look, const sw_status *st, sw_status *err)
{
    sink s = { err };
    FILE *to = sink_open(&s);
    bool made;

    if (!to)
        return no_memory(err);
    made = look->run->args->json ? sw_look_json(look, st, to) : sw_look_tables(look, sw_text_columns(), to);
    if ((fclose(to) && !err->code) || !made)
        no_memory(err);
    return err->code;
}

sw_code sw_cmd_inspect_tell(const sw_run *run, sw_status *st)
{
    sw_look look = { .run = run, .cp = run->checkpoint };
    sw_status err = SW_STATUS_INIT;
    const char *svg = run->args->svg;

    /* Nothing is shown of a command line that was refused; programs are told of everything else. */
    if (st->code == SW_EUSAGE || (!look.cp && !run->args->json))
        return st->code;
    if (look.cp) {
        sw_checkpoint_info_get(look.cp, &look.info);
        look.findings = sw_checkpoint_findings(look.cp, &look.nfindings);
        if (!choose(&look))
            no_memory(&err);
    }
    if (!err.code && !(svg && strcmp(svg, "-") == 0))
        put_text(&look, st, &err);
    if (!err.code && svg && look.cp)
        put_svg(&look, &err);
    free(look.chosen);
    if (err.code)
        *st = err;
    return st->code;
}
