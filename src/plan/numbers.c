/* Shard numbers; see numbers.h. There are as many as files, so that each question collects them
 * anew. */
#include "plan/numbers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/sort.h"

static const char hint_two[] = "files of two saves lie in one directory: remove those of the other save";
static const char hint_lost[] = "a shard file was lost in copying, or a rank was killed before it wrote; "
                                "torch also leaves a file out where a "
                                "rank has nothing to write";
static const char hint_listed[] =
    "a shard file was lost in copying, or removed: copy it again; each file of the set lists all of them";

/* What warnings say of holes, which are legal. */
#define WHY_NOT_THERE "torch leaves a file out where a rank has nothing to write"

/* ---- collecting ------------------------------------------------------------------------------ */

/* Which files: those of one model (0 = all), and those outside a span of shard numbers, if there is
 * one. */
typedef struct choice {
    uint64_t model;
    bool others; /* also shards of other models below low or above high */
    uint64_t low, high;
} choice;

/* Is it one of those files? */
static bool is_chosen(const choice *k, const sw_shard_name *n)
{
    if (k->model == 0 || n->model == k->model)
        return true;
    return k->others && (n->shard < k->low || n->shard > k->high);
}

/* The shard numbers of the chosen files, or their models'. */
static sw_code collect(const sw_catalog *c, const choice *k, bool models, sw_ranges *out, sw_status *st)
{
    uint64_t *numbers = sw_calloc(c->nfiles, sizeof *numbers, st);
    size_t n = 0;

    for (uint32_t i = 0; numbers && i < c->nfiles; i++) {
        const sw_shard_name *name = &c->files[i].number;

        if (name->shard && is_chosen(k, name))
            numbers[n++] = models ? name->model : name->shard;
    }
    sw_sort(numbers, n, sizeof *numbers, sw_by_number);
    for (size_t i = 0; i < n && !st->code; i++)
        sw_ranges_add(out, numbers[i], numbers[i], st);
    free(numbers);
    return st->code;
}

sw_code sw_numbers_there(const sw_catalog *c, uint64_t model, sw_ranges *out, sw_status *st)
{
    return collect(c, &(choice){ .model = model }, false, out, st);
}

sw_code sw_numbers_text(const sw_catalog *c, char **text, sw_status *st)
{
    sw_ranges there = SW_RANGES_INIT;
    sw_buf words = SW_BUF_INIT;

    *text = NULL;
    if (!c->in_memory && !sw_numbers_there(c, 0, &there, st) && there.n &&
        !sw_ranges_words(&there, &words, st) && !sw_buf_add(&words, "", 1, st)) {
        *text = words.data;
        words = (sw_buf)SW_BUF_INIT;
    }
    sw_buf_release(&words);
    sw_ranges_release(&there);
    return st->code;
}

/* Which numbers of 1..n are lacking: those of the shards of a model (0 = of any), or of models. */
typedef struct lack {
    sw_ranges there;
    uint64_t n;   /* how many are lacking */
    sw_buf words; /* which */
} lack;

/* n 0: up to the highest that is there. */
static sw_code find_lack(const sw_catalog *c, const choice *k, bool models, uint64_t n, lack *out,
                         sw_status *st)
{
    sw_ranges lacking = SW_RANGES_INIT;

    *out = (lack){ .n = 0 };
    if (!collect(c, k, models, &out->there, st) &&
        !sw_ranges_lacking(&out->there, n ? n : sw_ranges_last(&out->there), &lacking, st))
        sw_ranges_words(&lacking, &out->words, st);
    out->n = sw_ranges_count(&lacking);
    sw_ranges_release(&lacking);
    return st->code;
}

/* What find_lack() made, after an error too. */
static void release_lack(lack *l)
{
    sw_ranges_release(&l->there);
    sw_buf_release(&l->words);
}

/* ---- the list that a set carries ------------------------------------------------------------- */

/* By model, then shard; for qsort. */
static int by_model(const void *a, const void *b)
{
    const sw_shard_name *x = a, *y = b;

    return sw_by_all((const uint64_t[]){ x->model, x->shard }, (const uint64_t[]){ y->model, y->shard }, 2);
}

/* list = range *( " " range ); range = model ":" from "-" to */
sw_code sw_numbers_list(const sw_shard_name *names, size_t n, sw_buf *text, sw_status *st)
{
    sw_shard_name *sorted = sw_calloc(n, sizeof *sorted, st);

    if (!sorted)
        return st->code;
    if (n)
        memcpy(sorted, names, n * sizeof *sorted);
    sw_sort(sorted, n, sizeof *sorted, by_model);
    for (size_t i = 0, next; i < n && !st->code; i = next) {
        for (next = i + 1; next < n && sorted[next].model == sorted[i].model &&
                           sorted[next].shard - sorted[next - 1].shard <= 1;)
            next++;
        sw_buf_addf(text, st, "%s%" PRIu64 ":%" PRIu64 "-%" PRIu64, i ? " " : "", sorted[i].model,
                    sorted[i].shard, sorted[next - 1].shard);
    }
    free(sorted);
    return st->code ? st->code : sw_buf_add(text, "", 1, st);
}

/* number, from 1 on, and the character behind it. */
static bool take_number(const char **at, char end, uint64_t *number)
{
    if (!sw_take_decimal(at, number) || *number == 0 || **at != end)
        return false;
    *at += end != '\0';
    return true;
}

/* more: another one follows. */
static bool take_range(const char **at, sw_listed *r, bool *more)
{
    const char *last;

    if (!take_number(at, ':', &r->model) || !take_number(at, '-', &r->from))
        return false;
    last = *at;
    *more = take_number(at, ' ', &r->to);
    if (!*more) {
        *at = last;
        if (!take_number(at, '\0', &r->to))
            return false;
    }
    return r->from <= r->to;
}

/* By model, then where the range begins and ends. */
static int compare_listed(const sw_listed *x, const sw_listed *y)
{
    return sw_by_all((const uint64_t[]){ x->model, x->from, x->to },
                     (const uint64_t[]){ y->model, y->from, y->to }, 3);
}

/* To its place, if it is not there: the files of a set say the same, so that few are ever moved. */
static sw_code add_listed(sw_catalog *c, const sw_listed *r, sw_status *st)
{
    sw_search s = { .end = c->nlisted };

    while (sw_search_on(&s))
        sw_search_tell(&s, compare_listed(&c->listed[s.mid], r) < 0);
    if ((s.at < c->nlisted && compare_listed(&c->listed[s.at], r) == 0) ||
        sw_grow(&c->listed, &c->cap_listed, (uint64_t)c->nlisted + 1, sizeof *c->listed, st))
        return st->code;
    memmove(c->listed + s.at + 1, c->listed + s.at, (c->nlisted - s.at) * sizeof *c->listed);
    c->listed[s.at] = *r;
    c->nlisted++;
    return SW_OK;
}

sw_code sw_numbers_take(sw_catalog *c, const char *text, const char *file, sw_status *st)
{
    const char *at = text;
    bool more = true;
    sw_listed r;

    while (more) {
        if (!take_range(&at, &r, &more))
            return sw_fail(st, SW_EINPUT, file, NULL,
                           SW_SHARDS_KEY " is '%.64s', expected the numbers of shards", text);
        if (add_listed(c, &r, st))
            return st->code;
    }
    return SW_OK;
}

/* The shards of a model that are listed, and are not among those that are there. */
static sw_code listed_lacking(const sw_catalog *c, uint64_t model, sw_ranges *lacking, sw_status *st)
{
    sw_ranges there = SW_RANGES_INIT, outside = SW_RANGES_INIT;
    uint64_t done = 0;

    sw_numbers_there(c, model, &there, st);
    for (size_t i = 0; i < c->nlisted && !st->code; i++) {
        const sw_listed *k = &c->listed[i];

        if (k->model != model)
            continue;
        outside.n = 0;
        sw_ranges_lacking(&there, k->to, &outside, st);
        for (size_t m = 0; m < outside.n && !st->code; m++) {
            uint64_t from = sw_max(outside.items[m].from, sw_max(k->from, done + 1)),
                     to = outside.items[m].to;

            if (from <= to)
                sw_ranges_add(lacking, from, to, st);
            done = sw_max(done, from <= to ? to : 0);
        }
    }
    sw_ranges_release(&outside);
    sw_ranges_release(&there);
    return st->code;
}

/* "shards 3, 5 of model 1 are" */
static sw_code say_shards(const sw_ranges *r, uint64_t model, sw_buf *words, sw_status *st)
{
    bool one = sw_ranges_count(r) == 1;

    sw_buf_addf(words, st, "shard%s ", one ? "" : "s");
    sw_ranges_words(r, words, st);
    if (model)
        sw_buf_addf(words, st, " of model %" PRIu64, model);
    return sw_buf_addf(words, st, one ? " is" : " are");
}

sw_code sw_numbers_check_listed(const sw_catalog *c, sw_findings *findings, sw_status *st)
{
    sw_ranges lacking = SW_RANGES_INIT;
    sw_buf words = SW_BUF_INIT;

    for (size_t i = 0; i < c->nlisted && !c->part && !st->code; i++) {
        if (i > 0 && c->listed[i - 1].model == c->listed[i].model)
            continue;
        lacking.n = words.len = 0;
        if (listed_lacking(c, c->listed[i].model, &lacking, st) || lacking.n == 0 ||
            say_shards(&lacking, c->listed[i].model, &words, st))
            continue;
        sw_fail(st, SW_EINPUT, NULL, NULL, "%.*s missing, which the other files of the set list",
                (int)words.len, words.data);
        sw_findings_take(findings, hint_listed, st);
    }
    sw_buf_release(&words);
    sw_ranges_release(&lacking);
    return st->code;
}

/* ---- gaps ------------------------------------------------------------------------------------ */

/* Numbers that a gap of a model may be due to: those that are listed; else those between its lowest
 * and its highest, and those that occur in no model. Stages of a pipeline share a model file, which
 * lacks the numbers of the others. */
static sw_code suspects(const sw_catalog *c, uint64_t model, const sw_ranges *own, sw_ranges *out,
                        sw_status *st)
{
    choice k = { .model = model, .others = true, .low = own->items[0].from, .high = sw_ranges_last(own) };
    sw_ranges others = SW_RANGES_INIT;

    if ((model == 0 || !listed_lacking(c, model, out, st)) && out->n == 0 &&
        !collect(c, &k, false, &others, st))
        sw_ranges_lacking(&others, sw_ranges_last(&others), out, st);
    sw_ranges_release(&others);
    return st->code;
}

sw_code sw_numbers_missing(const sw_catalog *c, uint64_t model, sw_buf *words, sw_status *st)
{
    sw_ranges own = SW_RANGES_INIT, lacking = SW_RANGES_INIT;

    if (c->in_memory || sw_numbers_there(c, model, &own, st) || own.n == 0 ||
        suspects(c, model, &own, &lacking, st))
        goto out;
    if (lacking.n && !say_shards(&lacking, model, words, st))
        sw_buf_addf(words, st, " missing");
    else if (!say_shards(&own, model, words, st))
        sw_buf_addf(words, st, " there, another one is missing or was not written to its end");
out:
    sw_ranges_release(&lacking);
    sw_ranges_release(&own);
    return st->code;
}

/* ---- warnings -------------------------------------------------------------------------------- */

sw_code sw_numbers_warn_holes(const sw_catalog *c, sw_buf *warnings, sw_status *st)
{
    sw_buf have = SW_BUF_INIT;
    lack l;

    /* A set that lists its files has lost none. */
    if (c->nlisted)
        return SW_OK;
    if (!find_lack(c, &(choice){ 0 }, false, 0, &l, st) && l.n && !sw_ranges_words(&l.there, &have, st))
        sw_buf_add_line(warnings, st,
                        "no file has shard number%s %.*s, those that are there have %.*s (" WHY_NOT_THERE
                        "): if one was lost, whole tensors are missing",
                        l.n == 1 ? "" : "s", (int)l.words.len, l.words.data, (int)have.len, have.data);
    release_lack(&l);
    sw_buf_release(&have);
    return st->code;
}

/* Model files of which no shard is there: whole tensors are lost, or there were none. */
sw_code sw_numbers_warn_models(const sw_catalog *c, sw_buf *warnings, sw_status *st)
{
    uint64_t of = c->nfiles && c->nlisted == 0 ? c->files[0].number.of : 0;
    lack l;

    if (of == 0)
        return SW_OK;
    if (!find_lack(c, &(choice){ 0 }, true, of, &l, st) && l.there.n && l.n)
        sw_buf_add_line(warnings, st,
                        "of %" PRIu64
                        " model files, number%s %.*s %s no shard at all: %s tensors are missing, "
                        "unless %s never had any",
                        of, l.n == 1 ? "" : "s", (int)l.words.len, l.words.data, l.n == 1 ? "has" : "have",
                        l.n == 1 ? "its" : "their", l.n == 1 ? "it" : "they");
    release_lack(&l);
    return st->code;
}

/* ---- --expect-shards ------------------------------------------------------------------------- */

/* Numbers over n, and those of 1..n that occur nowhere. */
static sw_code check_numbers(const sw_catalog *c, uint64_t n, sw_findings *findings, sw_status *st)
{
    lack l;

    find_lack(c, &(choice){ 0 }, false, n, &l, st);
    for (size_t i = 0; i < l.there.n && !st->code; i++) {
        if (l.there.items[i].to <= n)
            continue;
        sw_fail(st, SW_EINPUT, NULL, NULL,
                "shard number %" PRIu64 " occurs, but %" PRIu64 " shards were expected",
                sw_max(l.there.items[i].from, n + 1), n);
        sw_findings_take(findings, hint_two, st);
        break;
    }
    if (!st->code && l.n) {
        bool one = l.n == 1;

        sw_fail(st, SW_EINPUT, NULL, NULL, "shard%s %.*s %s missing: %" PRIu64 " were expected",
                one ? "" : "s", (int)l.words.len, l.words.data, one ? "is" : "are", n);
        sw_findings_take(findings, hint_lost, st);
    }
    release_lack(&l);
    return st->code;
}

/* Numbers of 1..n that a model file lacks. */
static sw_code warn_model(const sw_catalog *c, uint64_t model, uint64_t n, sw_buf *warnings, sw_status *st)
{
    lack l;

    if (!find_lack(c, &(choice){ .model = model }, false, n, &l, st) && l.n)
        sw_buf_add_line(warnings, st, "model file %" PRIu64 " has no shard %.*s (" WHY_NOT_THERE ")", model,
                        (int)l.words.len, l.words.data);
    release_lack(&l);
    return st->code;
}

/* Numbers of all files, then of each model. */
static sw_code expect_numbers(const sw_catalog *c, uint64_t n, sw_buf *warnings, sw_findings *findings,
                              sw_status *st)
{
    sw_ranges models = SW_RANGES_INIT;

    if (!check_numbers(c, n, findings, st))
        collect(c, &(choice){ 0 }, true, &models, st);
    for (size_t i = 0; i < models.n; i++)
        for (uint64_t j = models.items[i].from; j <= models.items[i].to && !st->code; j++)
            warn_model(c, j, n, warnings, st);
    sw_ranges_release(&models);
    return st->code;
}

sw_code sw_numbers_expect(const sw_catalog *c, uint64_t n, sw_buf *warnings, sw_findings *findings,
                          sw_status *st)
{
    bool named = c->nfiles == 0;

    for (uint32_t i = 0; n && i < c->nfiles && !st->code; i++) {
        const sw_file *f = &c->files[i];

        named = named || f->number.shard;
        if (f->number.shard == 0)
            sw_fail(st, SW_EINPUT, sw_file_name(f), NULL,
                    "has no shard number in its name, but %" PRIu64 " shards were expected", n);
        sw_findings_take(findings, NULL, st);
    }
    return n && named && !st->code ? expect_numbers(c, n, warnings, findings, st) : st->code;
}
