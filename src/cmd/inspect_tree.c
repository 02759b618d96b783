/* A checkpoint as a tree: groups of tensors below the parts that their names have in common, each
 * branch with the sum of what stands below it. A branch that has but one twig is told with it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "say.h"
#include "text.h"

#define DEPTH_MAX 32u /* of a name; what is deeper is one word */
#define INDENT 2

/* What stands together: groups of a tree that have some words in common, or one group by itself. */
typedef struct twig {
    size_t first, n; /* which they are, in the order of the tree */
    size_t at, len;  /* bytes of their names: where its words begin, and how long they are, */
    size_t below;    /* and where the words below it begin, */
    unsigned depth;  /* which is behind so many */
    bool leaf;       /* the rest of the name of a group */
    uint64_t tensors, bytes;
} twig;

typedef struct tree {
    const sw_look *look;
    FILE *to;
    const sw_pattern **groups; /* by their words */
} tree;

/* ---- growing --------------------------------------------------------------------------------- */

/* The bytes of a name's first word. Numbers in braces are one. */
static size_t word_length(const char *name)
{
    size_t n = 0;

    for (unsigned braces = 0; name[n] && (braces || (name[n] != '.' && name[n] != '/')); n++)
        braces = name[n] == '{' ? 1 : name[n] == '}' ? 0 : braces;
    return n;
}

/* For qsort: word by word, so that what has words in common comes together. */
static int by_words(const void *a, const void *b)
{
    const char *x = (*(const sw_pattern *const *)a)->name, *y = (*(const sw_pattern *const *)b)->name;

    while (*x && *x == *y) {
        x++;
        y++;
    }
    if (*x == *y || word_length(x) == 0 || word_length(y) == 0)
        return (word_length(x) > 0) - (word_length(y) > 0);
    return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
}

/* What begins with a group and ends before another, of names that have their first bytes in common:
 * groups that have the next word in common, too. */
static twig twig_at(const tree *t, size_t first, size_t end, size_t at, unsigned depth)
{
    const char *name = t->groups[first]->name + at;
    twig w = { .first = first, .at = at, .len = word_length(name), .depth = depth + 1 };

    w.leaf = depth == DEPTH_MAX || !name[w.len];
    if (w.leaf)
        w.len = strlen(name);
    w.below = at + w.len + 1;
    for (size_t i = first; i < end && !(w.leaf && i > first); i++) {
        const sw_pattern *g = t->groups[i];
        const char *other = g->name + at;

        if (i > first && (word_length(other) != w.len || !other[w.len] || memcmp(name, other, w.len) != 0))
            break;
        w.n++;
        w.tensors += g->count;
        w.bytes = sw_sum(w.bytes, g->amount);
    }
    return w;
}

/* ---- showing --------------------------------------------------------------------------------- */

/* For qsort. */
static int by_bytes(const void *a, const void *b)
{
    const twig *x = a, *y = b;

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->first < y->first ? -1 : 1;
}

static void put_twigs(const tree *t, const twig *parent, unsigned depth);

/* A line, and those below it. What has but one twig is told with it: such words follow one another
 * in the names, too. */
static void put_twig(const tree *t, twig w, unsigned depth)
{
    char tensors[SW_NUMBER_TEXT], size[SW_SIZE_TEXT], *text;

    while (!w.leaf) {
        twig below = twig_at(t, w.first, w.first + w.n, w.below, w.depth);

        if (below.n < w.n)
            break;
        below.len += below.at - w.at;
        below.at = w.at;
        w = below;
    }
    text = strndup(t->groups[w.first]->name + w.at, w.len);
    fprintf(t->to, "%*s", (int)(INDENT * depth), "");
    if (text)
        sw_text_put(t->to, text, SW_TEXT_PLAIN);
    free(text);
    if (w.leaf)
        sw_look_put_group(t->look, t->groups[w.first], t->to);
    else
        fprintf(t->to, "\t%s tensor%s\t\t%s\t\n", sw_number_text(w.tensors, tensors), sw_plural(w.tensors),
                sw_size_text(w.bytes, size));
    if (!w.leaf)
        put_twigs(t, &w, depth + 1);
}

/* What stands below a twig, in the order of the tree or the largest first. */
static void put_twigs(const tree *t, const twig *parent, unsigned depth)
{
    size_t end = parent->first + parent->n, n = 0;
    twig *list;

    for (size_t i = parent->first; i < end; n++)
        i += twig_at(t, i, end, parent->below, parent->depth).n;
    list = sw_room(n, sizeof *list, t->look->err);
    n = 0;
    for (size_t i = parent->first; list && i < end; i += list[n++].n)
        list[n] = twig_at(t, i, end, parent->below, parent->depth);
    if (n > 1 && t->look->args->sort == SW_SORT_SIZE)
        qsort(list, n, sizeof *list, by_bytes);
    for (size_t i = 0; i < n; i++)
        put_twig(t, list[i], depth);
    free(list);
}

void sw_look_tree(FILE *to, const void *about)
{
    const sw_look *look = about;
    size_t n = look->groups.n;
    tree t = { .look = look, .to = to, .groups = sw_room(n, sizeof *t.groups, look->err) };

    for (size_t i = 0; t.groups && i < n; i++)
        t.groups[i] = &look->groups.items[i];
    if (t.groups && n > 1)
        qsort(t.groups, n, sizeof *t.groups, by_words);
    fputs("tensor\tdtype\tshape\tsize\tsharding\n", to);
    if (!look->err->code)
        put_twigs(&t, &(twig){ .n = n }, 0);
    free(t.groups);
}
