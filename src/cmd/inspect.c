/* shardweld inspect: open the checkpoint with all that is wrong with it, choose tensors, show. */
#include "inspect.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "say.h"
#include "text.h"

/* ---- the checkpoint -------------------------------------------------------------------------- */

/* Does the picture go to standard output? */
static bool to_stdout(const sw_args *args)
{
    return args->svg && strcmp(args->svg, "-") == 0;
}

/* A picture must cost no file of the checkpoint, and only one can have standard output. */
static sw_code check_outputs(const sw_args *args, sw_status *st)
{
    if (args->svg && sw_file_is_taboo(args->svg))
        return sw_refuse(st, SW_EUSAGE, args->svg, "a picture must not have the name of a checkpoint's file");
    if (args->json + args->boxes + args->tree + to_stdout(args) > 1)
        return sw_refuse(st, SW_EUSAGE, NULL,
                         "only one of --json, --boxes, --tree and --svg - can have standard output");
    return SW_OK;
}

/* Nothing matches a glob: the nearest name is told. */
static sw_code refuse_glob(const sw_run *run, const char *glob, uint64_t n, sw_status *st)
{
    const char **names = calloc(n + 1, sizeof *names), *near = NULL;

    for (uint64_t i = 0; names && i < n; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(run->checkpoint, i, &t);
        names[i] = t.name;
    }
    if (names)
        near = sw_text_nearest(glob, names, n);
    free(names);
    return sw_refuse(st, SW_EUSAGE, run->args->input, "no tensor matches '%s'%s%s%s", glob,
                     near ? "; the nearest name is '" : "", near ? near : "", near ? "'" : "");
}

/* A glob that matches nothing is a slip of the hand, as for ls; but where a file is broken it may
 * be what was lost. */
static sw_code check_globs(const sw_run *run, sw_status *st)
{
    sw_checkpoint_info info;

    sw_checkpoint_info_get(run->checkpoint, &info);
    for (const char *const *glob = run->args->tensors; glob && *glob; glob++) {
        bool found = false;

        for (uint64_t i = 0; i < info.ntensors && !found; i++) {
            sw_tensor_info t;

            sw_checkpoint_tensor(run->checkpoint, i, &t);
            found = fnmatch(*glob, t.name, 0) == 0;
        }
        if (!found)
            return refuse_glob(run, *glob, info.ntensors, st);
    }
    return SW_OK;
}

/* What was found becomes the error, once for all of it. */
static sw_code judge(const sw_run *run, sw_status *st)
{
    uint64_t n;
    const sw_finding *f = sw_checkpoint_findings(run->checkpoint, &n);
    char *first;

    if (n == 0)
        return check_globs(run, st);
    if (!(first = sw_print_text(sw_finding_print, f, NULL, st)))
        return st->code;
    sw_refuse(st, SW_EINPUT, run->args->input, "not a valid checkpoint: %" PRIu64 " finding%s%s%s", n,
              sw_plural(n), n == 1 ? ": " : ", the first: ", first);
    free(first);
    return st->code;
}

sw_code sw_cmd_inspect(sw_run *run, sw_status *st)
{
    sw_options opt = run->args->opt;

    opt.tolerant = opt.everything = true;
    if (check_outputs(run->args, st) ||
        sw_checkpoint_open(&run->comm, run->args->input, &opt, &run->checkpoint, st))
        return st->code;
    return judge(run, st);
}

/* ---- showing --------------------------------------------------------------------------------- */

/* One more tensor of its dtype. */
static void add_dtype(sw_look *look, const sw_tensor_info *t)
{
    sw_dtype_sum *d = look->dtypes;

    while (d < look->dtypes + look->ndtypes && strcmp(d->dtype, t->dtype) != 0)
        d++;
    if (d == look->dtypes + SW_DTYPES_MAX)
        return;
    look->ndtypes += d == look->dtypes + look->ndtypes;
    *d = (sw_dtype_sum){ t->dtype, d->tensors + 1, sw_sum(d->elements, t->elements),
                         sw_sum(d->bytes, t->bytes) };
}

/* By any of the globs; all are where none is given. */
static bool is_chosen(const char *const *globs, const char *name)
{
    if (!globs)
        return true;
    for (; *globs; globs++)
        if (fnmatch(*globs, name, 0) == 0)
            return true;
    return false;
}

void sw_look_survey(sw_look *look)
{
    sw_checkpoint_info_get(look->cp, &look->info);
    look->findings = sw_checkpoint_findings(look->cp, &look->nfindings);
    look->chosen = sw_room(look->info.ntensors, sizeof *look->chosen, look->err);
    for (uint64_t i = 0; look->chosen && i < look->info.ntensors; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, i, &t);
        add_dtype(look, &t);
        look->counted += t.counted;
        look->strange += t.nan || t.inf;
        if (is_chosen(look->args->tensors, t.name))
            look->chosen[look->nchosen++] = i;
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

#define NEAR_TEXTS 8u /* most tensors are sharded as one of those just before */

/* A text that stays, and is there once where tensors that are alike come together. */
static const char *keep_text(sw_look *look, const char *text)
{
    char **grown;

    for (size_t i = look->ntexts; i > 0 && i + NEAR_TEXTS > look->ntexts; i--)
        if (strcmp(look->texts[i - 1], text) == 0)
            return look->texts[i - 1];
    if (!(grown = realloc(look->texts, (look->ntexts + 1) * sizeof *grown))) {
        sw_no_memory(look->err);
        return "";
    }
    look->texts = grown;
    if (!(grown[look->ntexts] = strdup(text))) {
        sw_no_memory(look->err);
        return "";
    }
    return grown[look->ntexts++];
}

/* How a tensor is sharded; whether it is broken, where the words do not tell; numbers that are
 * none, where a manifest tells. */
static const char *words_of(sw_look *look, uint64_t tensor)
{
    char words[SW_SHARDING_TEXT + 16 + 2 * SW_NUMBER_TEXT + 16], n[SW_NUMBER_TEXT];
    sw_tensor_info t;

    sw_checkpoint_tensor(look->cp, tensor, &t);
    sw_checkpoint_sharding_text(look->cp, tensor, words, look->err);
    if (t.broken && !t.holes && !t.overlaps)
        strcat(words, ", broken");
    if (t.nan)
        strcat(strcat(strcat(words, ", "), sw_number_text(t.nan, n)), " NaN");
    if (t.inf)
        strcat(strcat(strcat(words, ", "), sw_number_text(t.inf, n)), " infinite");
    return keep_text(look, words);
}

/* For sw_named. */
static const char *name_of(const void *about, uint64_t i)
{
    const sw_look *look = about;
    sw_tensor_info t;

    sw_checkpoint_tensor(look->cp, look->chosen[i], &t);
    return t.name;
}

/* Those of one dtype and shape that are sharded alike are of one kind; for sw_named. */
static int by_kind(const void *about, uint64_t a, uint64_t b)
{
    const sw_look *look = about;
    sw_tensor_info s, t;
    int cmp;

    sw_checkpoint_tensor(look->cp, look->chosen[a], &s);
    sw_checkpoint_tensor(look->cp, look->chosen[b], &t);
    if (s.ndim != t.ndim)
        return s.ndim < t.ndim ? -1 : 1;
    for (unsigned d = 0; d < s.ndim; d++)
        if (s.shape[d] != t.shape[d])
            return s.shape[d] < t.shape[d] ? -1 : 1;
    cmp = strcmp(s.dtype, t.dtype);
    return cmp ? cmp : strcmp(look->words[a], look->words[b]);
}

uint64_t sw_look_first(const sw_look *look, const sw_pattern *group)
{
    return look->chosen[group->first];
}

/* Of what was surveyed: words and groups. */
static void group(sw_look *look)
{
    const sw_named names = {
        .n = look->nchosen, .name = name_of, .order = by_kind, .about = look, .each = look->args->verbose
    };

    look->words = sw_room(look->nchosen, sizeof *look->words, look->err);
    for (uint64_t i = 0; look->words && i < look->nchosen; i++)
        look->words[i] = words_of(look, look->chosen[i]);
    if (look->err->code || sw_patterns_find(&names, &look->groups, look->err))
        return;
    for (size_t i = 0; i < look->groups.n; i++) {
        sw_pattern *g = &look->groups.items[i];
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, sw_look_first(look, g), &t);
        g->amount = t.bytes > UINT64_MAX / g->count ? UINT64_MAX : t.bytes * g->count;
    }
    if (look->args->sort == SW_SORT_SIZE)
        sw_patterns_by_amount(&look->groups);
}

sw_code sw_cmd_inspect_tell(const sw_run *run, sw_status *st)
{
    const sw_args *args = run->args;
    sw_status err = SW_STATUS_INIT;
    sw_look look = { .run = run, .args = args, .st = st, .cp = run->checkpoint, .err = &err };

    /* Nothing is shown of a command line that was refused; programs are told of everything else. */
    if (st->code == SW_EUSAGE || (!look.cp && !args->json))
        return st->code;
    if (look.cp)
        sw_look_survey(&look);
    if (look.cp && !err.code && ((!args->json && !args->boxes && !args->summary) || args->svg))
        group(&look);
    /* A list of what is broken would be believed by who reads it. */
    if (!err.code && args->boxes && !st->code)
        sw_stdout_print(sw_look_boxes, &look, &err);
    else if (!err.code && !args->boxes && !to_stdout(args))
        sw_stdout_print(args->json ? sw_look_json : sw_look_tables, &look, &err);
    if (!err.code && look.cp && to_stdout(args))
        sw_stdout_print(sw_look_svg, &look, &err);
    else if (!err.code && look.cp && args->svg)
        sw_file_print(args->svg, "the picture", sw_look_svg, &look, &err);
    for (size_t i = 0; i < look.ntexts; i++)
        free(look.texts[i]);
    free(look.texts);
    free(look.words);
    free(look.chosen);
    sw_patterns_release(&look.groups);
    if (err.code)
        *st = err;
    return st->code;
}
