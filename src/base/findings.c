/* The list of what is wrong; see findings.h. */
#include "base/findings.h"
#include "base/sort.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXTS 4 /* in a finding */

/* As they are sent, behind the texts. */
typedef struct numbers {
    uint64_t differing;
    double largest, relative;
} numbers;

/* The texts of a finding. */
static void free_item(sw_finding *item)
{
    free(item->file);
    free(item->tensor);
    free(item->reason);
    free(item->hint);
}

/* A copy that may be shown; NULL on failure. */
static char *clean_copy(const char *text, sw_status *st)
{
    char *copy = sw_strdup(text ? text : "", st);

    if (copy)
        sw_text_clean(copy, strlen(copy));
    return copy;
}

/* Append copies of file, tensor, reason and hint. */
static sw_code add_texts(sw_findings *f, const char *const texts[TEXTS], sw_status *st)
{
    sw_finding item = { .file = NULL };

    if (sw_grow(&f->items, &f->cap, f->n + UINT64_C(1), sizeof *f->items, st))
        return st->code;
    item.file = clean_copy(texts[0], st);
    item.tensor = item.file ? clean_copy(texts[1], st) : NULL;
    item.reason = item.tensor ? clean_copy(texts[2], st) : NULL;
    item.hint = item.reason ? clean_copy(texts[3], st) : NULL;
    if (!item.hint) {
        free_item(&item);
        return st->code;
    }
    f->items[f->n++] = item;
    return SW_OK;
}

sw_code sw_findings_add(sw_findings *f, const char *file, const char *tensor, const char *hint, sw_status *st,
                        const char *fmt, ...)
{
    char *reason = NULL;
    va_list args;

    va_start(args, fmt);
    if (vasprintf(&reason, fmt, args) < 0)
        sw_fail_nomem(st, strlen(fmt));
    else
        add_texts(f, (const char *const[TEXTS]){ file, tensor, reason, hint }, st);
    va_end(args);
    free(reason);
    return st->code;
}

void sw_findings_count(sw_findings *f, uint64_t differing, double largest, double relative)
{
    sw_finding *last = &f->items[f->n - 1];

    last->differing = differing;
    last->largest = largest;
    last->relative = relative;
}

sw_code sw_findings_take(sw_findings *f, const char *hint, sw_status *st)
{
    sw_status err = SW_STATUS_INIT;

    if (!f || st->code != SW_EINPUT)
        return st->code;
    add_texts(f, (const char *const[TEXTS]){ st->file, st->tensor, st->reason, hint }, &err);
    *st = err;
    return st->code;
}

sw_code sw_finding_add_line(const sw_finding *f, sw_buf *lines, sw_status *st)
{
    bool tensor = f->tensor[0] != '\0';

    return sw_buf_add_line(lines, st, "%s%s%s%s%s%s", f->file, f->file[0] ? ": " : "",
                           tensor ? "tensor '" : "", f->tensor, tensor ? "': " : "", f->reason);
}

/* By file, tensor, reason; for qsort. */
static int by_place(const void *a, const void *b)
{
    const sw_finding *x = a, *y = b;
    int cmp = strcmp(x->file, y->file);

    cmp = cmp ? cmp : strcmp(x->tensor, y->tensor);
    cmp = cmp ? cmp : strcmp(x->reason, y->reason);
    /* The one with a hint first, so that it is the one that stays. */
    return cmp ? cmp : strcmp(y->hint, x->hint);
}

/* But for the hint. */
static bool same_thing(const sw_finding *a, const sw_finding *b)
{
    return strcmp(a->file, b->file) == 0 && strcmp(a->tensor, b->tensor) == 0 &&
           strcmp(a->reason, b->reason) == 0;
}

/* So many tensors of which the same is wrong are told of one by one. */
#define EQUAL_MAX 8u

/* By file, reason, hint, tensor; for qsort, of pointers. */
static int by_reason(const void *a, const void *b)
{
    const sw_finding *x = *(const sw_finding *const *)a, *y = *(const sw_finding *const *)b;
    int cmp = strcmp(x->file, y->file);

    cmp = cmp ? cmp : strcmp(x->reason, y->reason);
    cmp = cmp ? cmp : strcmp(x->hint, y->hint);
    return cmp ? cmp : strcmp(x->tensor, y->tensor);
}

/* Is the same wrong with two tensors? Not where numbers tell how much it is. */
static bool same_reason(const sw_finding *a, const sw_finding *b)
{
    return !a->differing && !b->differing && a->tensor[0] && b->tensor[0] && strcmp(a->file, b->file) == 0 &&
           strcmp(a->reason, b->reason) == 0 && strcmp(a->hint, b->hint) == 0;
}

/* n findings become the first of them, with the number of the others. */
static sw_code join_equal(sw_finding *const *equal, size_t n, sw_status *st)
{
    char *reason = NULL;

    if (asprintf(&reason, "%s; so it is with %zu more tensors", equal[0]->reason, n - 1) < 0)
        return sw_fail_nomem(st, strlen(equal[0]->reason));
    free(equal[0]->reason);
    equal[0]->reason = reason;
    for (size_t i = 1; i < n; i++) {
        free_item(equal[i]);
        *equal[i] = (sw_finding){ .file = NULL };
    }
    return SW_OK;
}

sw_code sw_findings_join(sw_findings *f, sw_status *st)
{
    sw_finding **sorted = sw_calloc(f->n, sizeof *sorted, st);
    size_t kept = 0;

    for (size_t i = 0; sorted && i < f->n; i++)
        sorted[i] = &f->items[i];
    sw_sort(sorted, f->n, sizeof *sorted, by_reason);
    for (size_t i = 0, end; sorted && i < f->n && !st->code; i = end) {
        for (end = i + 1; end < f->n && same_reason(sorted[i], sorted[end]);)
            end++;
        if (end - i > EQUAL_MAX)
            join_equal(sorted + i, end - i, st);
    }
    for (size_t i = 0; sorted && i < f->n; i++)
        if (f->items[i].file)
            f->items[kept++] = f->items[i];
    if (sorted)
        f->n = kept;
    free(sorted);
    return st->code;
}

void sw_findings_sort(sw_findings *f)
{
    size_t kept = 0;

    sw_sort(f->items, f->n, sizeof *f->items, by_place);
    for (size_t i = 0; i < f->n; i++) {
        if (kept > 0 && same_thing(&f->items[kept - 1], &f->items[i]))
            free_item(&f->items[i]);
        else
            f->items[kept++] = f->items[i];
    }
    f->n = kept;
}

sw_code sw_findings_pack(const sw_findings *f, sw_buf *out, sw_status *st)
{
    for (size_t i = 0; i < f->n; i++) {
        const char *texts[TEXTS] = { f->items[i].file, f->items[i].tensor, f->items[i].reason,
                                     f->items[i].hint };
        const numbers n = { f->items[i].differing, f->items[i].largest, f->items[i].relative };

        for (size_t k = 0; k < TEXTS; k++)
            if (sw_buf_add(out, texts[k], strlen(texts[k]) + 1, st))
                return st->code;
        if (sw_buf_add(out, &n, sizeof n, st))
            return st->code;
    }
    return SW_OK;
}

/* What was sent is not what came. */
static sw_code fail_short(sw_status *st)
{
    return sw_fail(st, SW_EINTERNAL, NULL, NULL, "a list of findings arrived cut short");
}

sw_code sw_findings_unpack(sw_findings *f, const char *data, size_t n, sw_status *st)
{
    for (size_t at = 0; at < n;) {
        const char *texts[TEXTS];
        numbers more;

        for (size_t k = 0; k < TEXTS; k++) {
            const char *nul = at < n ? memchr(data + at, '\0', n - at) : NULL;

            if (!nul)
                return fail_short(st);
            texts[k] = data + at;
            at = (size_t)(nul + 1 - data);
        }
        if (n - at < sizeof more)
            return fail_short(st);
        memcpy(&more, data + at, sizeof more);
        at += sizeof more;
        if (add_texts(f, texts, st))
            return st->code;
        sw_findings_count(f, more.differing, more.largest, more.relative);
    }
    return SW_OK;
}

sw_finding *sw_findings_hand_over(sw_findings *f, uint64_t *n)
{
    sw_finding *items = f->items;

    *n = f->n;
    *f = (sw_findings)SW_FINDINGS_INIT;
    return items;
}

void sw_findings_free(sw_finding *items, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        free_item(&items[i]);
    free(items);
}

void sw_findings_release(sw_findings *f)
{
    sw_findings_free(f->items, f->n);
    *f = (sw_findings)SW_FINDINGS_INIT;
}
