/* Names that repeat; see pattern.h. */
#include "pattern.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

#define NUMBERS_MAX 8u /* of a name; what is behind them is text */
#define DIGITS_MAX 18u
#define RANGES_SHOWN 6u

/* ---- words of a name ------------------------------------------------------------------------- */

/* One step through a name: a number, or a character. */
typedef struct token {
    bool number;
    size_t width; /* of a number that is filled up with zeros; 0 = it is not */
    uint64_t value;
    char c; /* '\0' = the end */
} token;

/* A walk over a name. */
typedef struct walk {
    const char *at, *begin;
    bool files;
    unsigned numbers; /* that were met */
} walk;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Between such characters stands a word of a tensor's name. */
static bool is_end(char c)
{
    return c == '\0' || c == '.' || c == '/';
}

/* So many digits of a number stand here; 0 = none does. */
static size_t number_length(const walk *w)
{
    char before = w->at == w->begin ? '\0' : w->at[-1];
    size_t n = strspn(w->at, "0123456789");

    if (n == 0 || n > DIGITS_MAX || w->numbers == NUMBERS_MAX ||
        (w->files ? is_digit(before) : !is_end(before)))
        return 0;
    return w->files || is_end(w->at[n]) ? n : 0;
}

/* What the walk stands at, a whole number or one character; it goes on behind it. */
static token next(walk *w)
{
    token t = { .c = *w->at };
    size_t n = number_length(w);

    if (n == 0) {
        w->at += t.c != '\0';
        return t;
    }
    t.number = true;
    t.value = strtoull(w->at, NULL, 10);
    t.width = w->files || (n > 1 && *w->at == '0') ? n : 0;
    w->at += n;
    w->numbers++;
    return t;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* All that is at work. */
typedef struct grouping {
    const sw_named *names;
    const char **texts; /* all of them: they are compared often */
    uint64_t *sorted;   /* names by pattern, kind, numbers */
    uint64_t *numbers;  /* of the names lo... of one pattern, k for each */
    unsigned k;
    size_t lo;
    /* which numbers the pattern at hand has at each place; NULL = its own */
    char *sets[NUMBERS_MAX];
    uint64_t times[NUMBERS_MAX];
    sw_patterns *out;
    sw_status *st;
} grouping;

static walk walk_of(const grouping *g, uint64_t i)
{
    return (walk){ g->texts[i], g->texts[i], g->names->files, 0 };
}

/* Which of two numbers is less. */
static int by_value(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Names by what they have beside numbers, then by kind; *numbers: then by these. */
static int compare(const grouping *g, uint64_t a, uint64_t b, int *numbers)
{
    walk x = walk_of(g, a), y = walk_of(g, b);

    *numbers = 0;
    for (;;) {
        token s, t;

        for (; *x.at && *x.at == *y.at && !is_digit(*x.at); y.at++)
            x.at++;
        s = next(&x);
        t = next(&y);
        if (s.number != t.number)
            return s.number ? -1 : 1;
        if (s.number && s.width != t.width)
            return by_value(s.width, t.width);
        if (!s.number && s.c != t.c)
            return (unsigned char)s.c < (unsigned char)t.c ? -1 : 1;
        if (!s.number && s.c == '\0')
            break;
        if (s.number && *numbers == 0)
            *numbers = by_value(s.value, t.value);
    }
    return g->names->order ? g->names->order(g->names->about, a, b) : 0;
}

/* For qsort_r. */
static int by_pattern(const void *a, const void *b, void *about)
{
    const uint64_t *x = a, *y = b;
    int numbers, cmp = compare(about, *x, *y, &numbers);

    return cmp ? cmp : numbers ? numbers : by_value(*x, *y);
}

/* ---- sets of numbers ------------------------------------------------------------------------- */

/* The names that have one number at a place: so many, from there on in the list of the pattern. */
typedef struct bucket {
    size_t at, n;
    uint64_t hash; /* of the numbers behind that place */
} bucket;

static const uint64_t *numbers_of(const grouping *g, size_t i)
{
    return g->numbers + (i - g->lo) * g->k;
}

/* Do two buckets have the same numbers behind the place? */
static bool same_rest(const grouping *g, unsigned place, const bucket *a, const bucket *b)
{
    size_t rest = (g->k - place - 1) * sizeof *g->numbers;

    if (a->n != b->n || a->hash != b->hash)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (memcmp(numbers_of(g, a->at + i) + place + 1, numbers_of(g, b->at + i) + place + 1, rest) != 0)
            return false;
    return true;
}

/* For qsort: those that may be equal side by side, in their order. */
static int by_hash(const void *a, const void *b)
{
    const bucket *x = a, *y = b;
    int cmp = by_value(x->hash, y->hash);

    cmp = cmp ? cmp : by_value(x->n, y->n);
    return cmp ? cmp : by_value(x->at, y->at);
}

/* The numbers of n buckets at a place, and how wide they are written. */
typedef struct set {
    const grouping *g;
    const bucket *b;
    size_t n, width;
    unsigned place;
} set;

/* "{0-59}", "{1-3,7,...,90}". */
static void put_set(FILE *to, const void *about)
{
    const set *s = about;
    size_t shown = 0;

    for (size_t i = 0, end; i < s->n; i = end) {
        uint64_t from = numbers_of(s->g, s->b[i].at)[s->place], last = from;

        for (end = i + 1; end < s->n && numbers_of(s->g, s->b[end].at)[s->place] == last + 1; end++)
            last++;
        if (end < s->n && ++shown > RANGES_SHOWN) {
            fputs(shown == RANGES_SHOWN + 1 ? ",..." : "", to);
            continue;
        }
        fprintf(to, "%s%0*" PRIu64, i ? "," : "{", (int)s->width, from);
        if (last > from)
            fprintf(to, "-%0*" PRIu64, (int)s->width, last);
    }
    fputc('}', to);
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* The name of a pattern, written as that of its first name is. */
static void put_name(FILE *to, const void *about)
{
    const grouping *g = about;
    walk w = walk_of(g, g->out->items[g->out->n].first);
    unsigned place = 0;
    token t;

    while ((t = next(&w)).number || t.c) {
        if (!t.number)
            fputc(t.c, to);
        else if (g->sets[place])
            fputs(g->sets[place], to);
        else
            fprintf(to, "%0*" PRIu64, (int)t.width, t.value);
        place += t.number;
    }
}

/* One more pattern, which begins with this name. */
static void add(grouping *g, uint64_t first, uint64_t count)
{
    sw_patterns *out = g->out;
    sw_pattern *p = &out->items[out->n];

    assert(out->n < out->cap);
    *p = (sw_pattern){ .first = first, .count = count };
    p->name = sw_print_text(put_name, g, NULL, g->st);
    out->n += p->name != NULL;
}

static void split(grouping *g, size_t lo, size_t n, unsigned place);

/* Buckets that are followed by the same numbers become patterns together: those of the first, and
 * the others' names are in the same ones. */
static void merge(grouping *g, const bucket *b, size_t n, unsigned place)
{
    set s = { g, b, n, 0, place };
    walk w = walk_of(g, g->sorted[b->at]);

    while (w.numbers <= place)
        s.width = next(&w).width;
    g->times[place] = n;
    g->sets[place] = n > 1 ? sw_print_text(put_set, &s, NULL, g->st) : NULL;
    split(g, b->at, b->n, place + 1);
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < b->n; k++)
            g->out->of[g->sorted[b[i].at + k]] = g->out->of[g->sorted[b->at + k]];
    free(g->sets[place]);
    g->sets[place] = NULL;
}

/* The names lo... of a pattern, n of them, whose numbers before the place are told: by the numbers
 * at the place. */
static void split(grouping *g, size_t lo, size_t n, unsigned place)
{
    bucket *b;
    size_t nb = 0;

    if (g->st->code)
        return;
    if (place == g->k) {
        uint64_t count = n;

        for (unsigned i = 0; i < place; i++)
            count *= g->times[i];
        for (size_t i = 0; i < n; i++)
            g->out->of[g->sorted[lo + i]] = g->out->n;
        add(g, g->sorted[lo], count);
        return;
    }
    if (!(b = sw_room(n, sizeof *b, g->st)))
        return;
    for (size_t i = 0; i < n; i++) {
        const uint64_t *numbers = numbers_of(g, lo + i);

        if (i == 0 || numbers[place] != numbers_of(g, lo + i - 1)[place])
            b[nb++] = (bucket){ .at = lo + i };
        b[nb - 1].n++;
        for (unsigned k = place + 1; k < g->k; k++)
            b[nb - 1].hash = (b[nb - 1].hash ^ numbers[k]) * UINT64_C(0x100000001b3) + k;
    }
    qsort(b, nb, sizeof *b, by_hash);
    for (size_t i = 0, end; i < nb; i = end) {
        for (end = i + 1; end < nb && same_rest(g, place, &b[i], &b[end]);)
            end++;
        merge(g, b + i, end - i, place);
    }
    free(b);
}

/* The names lo... that are alike but for numbers, n of them. */
static void group(grouping *g, size_t lo, size_t n)
{
    walk w = walk_of(g, g->sorted[lo]);
    token t;

    while ((t = next(&w)).number || t.c)
        continue;
    g->k = w.numbers;
    g->lo = lo;
    g->numbers = sw_room(n * g->k, sizeof *g->numbers, g->st);
    for (size_t i = 0; g->numbers && i < n; i++) {
        uint64_t *to = g->numbers + i * g->k;

        w = walk_of(g, g->sorted[lo + i]);
        while ((t = next(&w)).number || t.c)
            if (t.number)
                *to++ = t.value;
    }
    split(g, lo, n, 0);
    free(g->numbers);
}

/* For qsort. */
static int by_first(const void *a, const void *b)
{
    return by_value(((const sw_pattern *)a)->first, ((const sw_pattern *)b)->first);
}

/* Patterns by their first names, and what is said of names follows them. */
static void sort(const grouping *g)
{
    sw_patterns *p = g->out;
    size_t *rank = sw_room(p->n, sizeof *rank, g->st);

    if (!rank)
        return;
    for (size_t i = 0; i < p->n; i++)
        p->items[i].amount = i;
    qsort(p->items, p->n, sizeof *p->items, by_first);
    for (size_t i = 0; i < p->n; i++) {
        rank[p->items[i].amount] = i;
        p->items[i].amount = 0;
    }
    for (size_t i = 0; i < g->names->n; i++)
        p->of[i] = rank[p->of[i]];
    free(rank);
}

/* Room for as many patterns as there are names. */
static bool begin(grouping *g)
{
    size_t n = g->names->n;

    g->sorted = sw_room(n, sizeof *g->sorted, g->st);
    g->texts = sw_room(n, sizeof *g->texts, g->st);
    g->out->items = sw_room(n, sizeof *g->out->items, g->st);
    g->out->of = sw_room(n, sizeof *g->out->of, g->st);
    g->out->cap = n + 1;
    for (size_t i = 0; !g->st->code && i < n; i++) {
        g->sorted[i] = i;
        g->texts[i] = g->names->name(g->names->about, i);
    }
    return !g->st->code;
}

/* The names that are alike but for numbers, pattern by pattern. */
static void find(grouping *g)
{
    size_t n = g->names->n;
    int numbers;

    qsort_r(g->sorted, n, sizeof *g->sorted, by_pattern, g);
    for (size_t lo = 0, end; lo < n && !g->st->code; lo = end) {
        for (end = lo + 1; end < n && !compare(g, g->sorted[lo], g->sorted[end], &numbers);)
            end++;
        group(g, lo, end - lo);
    }
    if (!g->st->code)
        sort(g);
}

sw_code sw_patterns_find(const sw_named *names, sw_patterns *out, sw_status *st)
{
    grouping g = { .names = names, .out = out, .st = st };

    if (begin(&g) && !names->each)
        find(&g);
    for (size_t i = 0; names->each && !st->code && i < names->n; i++) {
        out->of[i] = i;
        add(&g, i, 1);
    }
    free(g.sorted);
    free(g.texts);
    return st->code;
}

/* For qsort. */
static int by_amount(const void *a, const void *b)
{
    const sw_pattern *x = a, *y = b;
    int cmp = by_value(y->amount, x->amount);

    return cmp ? cmp : by_value(x->first, y->first);
}

void sw_patterns_by_amount(sw_patterns *p)
{
    if (p->n > 1)
        qsort(p->items, p->n, sizeof *p->items, by_amount);
}

void sw_patterns_release(sw_patterns *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].name);
    free(p->items);
    free(p->of);
    *p = (sw_patterns)SW_PATTERNS_INIT;
}
