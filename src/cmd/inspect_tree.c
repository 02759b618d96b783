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

/* Number 0 is the root, which is nobody's child and stands for "none". */
typedef struct node {
    const char *text; /* len bytes of the name of a group */
    size_t len;
    const sw_pattern *group; /* of a leaf; NULL = others stand below it */
    uint64_t tensors, bytes;
    size_t child, last, next;
} node;

typedef struct tree {
    const sw_look *look;
    FILE *to;
    node *nodes;
    size_t n, cap;
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

/* One more child of a node; 0 = memory is short. */
static size_t add_child(tree *t, size_t parent, const char *text, size_t len, const sw_pattern *group)
{
    node *p;

    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        node *grown = realloc(t->nodes, cap * sizeof *grown);

        if (!grown) {
            sw_no_memory(t->look->err);
            return 0;
        }
        t->nodes = grown;
        t->cap = cap;
    }
    t->nodes[t->n] = (node){ .text = text, .len = len, .group = group };
    p = &t->nodes[parent];
    *(p->child ? &t->nodes[p->last].next : &p->child) = t->n;
    p->last = t->n;
    return t->n++;
}

/* What stands below a node. */
static void count(node *n, const sw_pattern *g)
{
    n->tensors += g->count;
    n->bytes = n->bytes > UINT64_MAX - g->amount ? UINT64_MAX : n->bytes + g->amount;
}

/* A group at its place: groups come by their words. */
static void add_group(tree *t, const sw_pattern *g)
{
    const char *at = g->name;
    size_t here = 0, len;

    count(&t->nodes[0], g);
    for (unsigned depth = 0; depth < DEPTH_MAX && at[len = word_length(at)]; depth++, at += len + 1) {
        const node *last = &t->nodes[t->nodes[here].last];

        if (!t->nodes[here].child || last->group || last->len != len || memcmp(last->text, at, len) != 0)
            here = add_child(t, here, at, len, NULL);
        else
            here = t->nodes[here].last;
        if (here == 0)
            return;
        count(&t->nodes[here], g);
    }
    if ((here = add_child(t, here, at, strlen(at), g)) != 0)
        count(&t->nodes[here], g);
}

static void grow(tree *t)
{
    const sw_patterns *groups = &t->look->groups;
    const sw_pattern **sorted = calloc(groups->n + 1, sizeof *sorted);

    t->nodes = calloc(t->cap = 64, sizeof *t->nodes);
    t->n = 1;
    if (!sorted || !t->nodes)
        sw_no_memory(t->look->err);
    for (size_t i = 0; sorted && i < groups->n; i++)
        sorted[i] = &groups->items[i];
    if (sorted && groups->n > 1)
        qsort(sorted, groups->n, sizeof *sorted, by_words);
    for (size_t i = 0; i < groups->n && !t->look->err->code; i++)
        add_group(t, sorted[i]);
    free(sorted);
}

/* ---- showing --------------------------------------------------------------------------------- */

/* For qsort_r. */
static int by_bytes(const void *a, const void *b, void *about)
{
    const node *nodes = about, *x = &nodes[*(const size_t *)a], *y = &nodes[*(const size_t *)b];

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return *(const size_t *)a < *(const size_t *)b ? -1 : 1;
}

static void put_children(const tree *t, size_t parent, unsigned depth);

/* A line, and those below it. */
static void put_node(const tree *t, size_t at, unsigned depth)
{
    const node *n = &t->nodes[at];
    char tensors[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];
    size_t len = n->len;
    char *text;

    for (; n->child && n->child == n->last; n = &t->nodes[at])
        len += 1 + t->nodes[at = n->child].len;
    /* Words that follow one another stand so in the name of the group below them. */
    text = strndup(n->text + n->len - len, len);
    fprintf(t->to, "%*s", (int)(INDENT * depth), "");
    if (text)
        sw_text_put(t->to, text, SW_TEXT_PLAIN);
    free(text);
    if (n->group)
        sw_look_put_group(t->look, n->group, t->to);
    else
        fprintf(t->to, "\t%s tensor%s\t\t%s\t\n", sw_number_text(n->tensors, tensors), sw_plural(n->tensors),
                sw_size_text(n->bytes, size));
    put_children(t, at, depth + 1);
}

/* In their order, or the largest first. */
static void put_children(const tree *t, size_t parent, unsigned depth)
{
    size_t n = 0, *list;

    for (size_t i = t->nodes[parent].child; i; i = t->nodes[i].next)
        n++;
    if (!(list = calloc(n + 1, sizeof *list))) {
        sw_no_memory(t->look->err);
        return;
    }
    n = 0;
    for (size_t i = t->nodes[parent].child; i; i = t->nodes[i].next)
        list[n++] = i;
    if (n > 1 && t->look->args->sort == SW_SORT_SIZE)
        qsort_r(list, n, sizeof *list, by_bytes, t->nodes);
    for (size_t i = 0; i < n; i++)
        put_node(t, list[i], depth);
    free(list);
}

void sw_look_tree(FILE *to, const void *about)
{
    tree t = { .look = about, .to = to };

    grow(&t);
    fputs("tensor\tdtype\tshape\tsize\tsharding\n", to);
    if (!t.look->err->code)
        put_children(&t, 0, 0);
    free(t.nodes);
}
