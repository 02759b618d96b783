/* The catalogue against config.json; see sized.h.
 *
 * A stack is a row of layers: names that are the same up to a number, as in
 * "model.layers.3.mlp.up_proj.weight". The text model's is the one beside the embedding
 * ("model.embed_tokens.weight"), or the only one. Names are sorted by bytes, so a stack's tensors
 * are neighbours. */
#include "plan/sized.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* With more stacks or embeddings than this it is not clear which are meant. */
#define FEW 1000u

#define LOST "a shard file is probably missing (sw_options.no_config_check: config.json is not asked)"

static const char hint_lost[] = "a shard file was lost in copying, a rank was killed before it wrote, or "
                                "config.json is that of another model";

typedef struct stack {
    uint32_t first, end; /* its tensors, in the catalogue */
    size_t root;         /* bytes of their names before "layers." */
    size_t len;          /* and before the number */
    uint64_t highest;    /* number */
} stack;

typedef struct text_model {
    const sw_catalog *c;
    const sw_config_sizes *sizes;
    const char *file;
    sw_findings *findings;
    stack *stacks;
    size_t nstacks, cap_stacks;
    const sw_tensor **embeddings;
    size_t nembeddings, cap_embeddings;
    const sw_tensor *head; /* lm_head.weight */
    size_t nheads;
    const stack *layers;
    const sw_tensor *embedding;
} text_model;

/* ---- names ----------------------------------------------------------------------------------- */

/* Bytes of name before `last`, which makes up its last parts; SIZE_MAX = it does not. */
static size_t root_of(const char *name, const char *last)
{
    size_t n = strlen(name), k = strlen(last);

    if (n < k || strcmp(name + n - k, last) != 0 || (n > k && name[n - k - 1] != '.'))
        return SIZE_MAX;
    return n - k;
}

/* Bytes before the name of an embedding; SIZE_MAX = it is none. */
static size_t embedding_root(const text_model *m, const char *name)
{
    static const char *const ends[] = { "embed_tokens.weight", "wte.weight", "word_embeddings.weight",
                                        "embed_in.weight", "tok_embeddings.weight" };
    size_t root = SIZE_MAX;

    /* Each of two stacks may have an embedding of its own; this one they share. */
    if (m->sizes->two_stacks)
        return root_of(name, "shared.weight");
    for (size_t i = 0; i < sizeof ends / sizeof *ends && root == SIZE_MAX; i++)
        root = root_of(name, ends[i]);
    return root;
}

/* Do these bytes name a list of layers? */
static bool is_list(const char *part, size_t len)
{
    static const char *const lists[] = { "layers", "h", "layer", "blocks", "block" };

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strlen(lists[i]) == len && memcmp(part, lists[i], len) == 0)
            return true;
    return false;
}

/* The outermost layer that the name speaks of: where "layers." and the number begin, and the
 * number. */
static bool find_layer(const char *name, size_t *root, size_t *len, uint64_t *number)
{
    for (const char *part = name, *dot; (dot = strchr(part, '.')); part = dot + 1) {
        size_t n = strcspn(dot + 1, ".");
        const char *at = dot + 1;

        if (!is_list(part, (size_t)(dot - part)) || dot[1 + n] != '.' || n > 9 ||
            !sw_take_decimal(&at, number) || at != dot + 1 + n)
            continue;
        *root = (size_t)(part - name);
        *len = (size_t)(dot + 1 - name);
        return true;
    }
    return false;
}

/* ---- which tensors --------------------------------------------------------------------------- */

/* One more tensor of a stack, or the first one of another. */
static sw_code note_layer(text_model *m, uint32_t i, sw_status *st)
{
    const char *name = m->c->tensors[i].name;
    stack *last = m->nstacks ? &m->stacks[m->nstacks - 1] : NULL;
    size_t root, len;
    uint64_t number;

    if (!find_layer(name, &root, &len, &number))
        return SW_OK;
    if (!last || last->len != len || memcmp(m->c->tensors[last->first].name, name, len) != 0) {
        if (sw_grow(&m->stacks, &m->cap_stacks, (uint64_t)m->nstacks + 1, sizeof *m->stacks, st))
            return st->code;
        last = &m->stacks[m->nstacks++];
        *last = (stack){ .first = i, .root = root, .len = len };
    }
    last->end = i + 1;
    last->highest = sw_max(last->highest, number);
    return SW_OK;
}

/* Is it a head, an embedding, part of a layer? */
static sw_code note_tensor(text_model *m, uint32_t i, sw_status *st)
{
    const sw_tensor *t = &m->c->tensors[i];

    if (root_of(t->name, "lm_head.weight") != SIZE_MAX) {
        m->head = t;
        m->nheads++;
    }
    if (embedding_root(m, t->name) != SIZE_MAX) {
        if (sw_grow(&m->embeddings, &m->cap_embeddings, (uint64_t)m->nembeddings + 1, sizeof *m->embeddings,
                    st))
            return st->code;
        m->embeddings[m->nembeddings++] = t;
    }
    return note_layer(m, i, st);
}

/* Do both have the same root? */
static bool is_beside(const text_model *m, const stack *s, const sw_tensor *embedding)
{
    return embedding_root(m, embedding->name) == s->root &&
           memcmp(embedding->name, m->c->tensors[s->first].name, s->root) == 0;
}

/* The stack beside an embedding; of several (an added head for several tokens has one) the
 * highest. */
static void choose(text_model *m)
{
    if (m->nstacks > FEW || m->nembeddings > FEW)
        return;
    for (size_t i = 0; i < m->nstacks; i++)
        for (size_t k = 0; k < m->nembeddings; k++)
            if (is_beside(m, &m->stacks[i], m->embeddings[k]) &&
                (!m->layers || m->stacks[i].highest > m->layers->highest)) {
                m->layers = &m->stacks[i];
                m->embedding = m->embeddings[k];
            }
    if (m->layers)
        return;
    m->embedding = m->nembeddings == 1 ? m->embeddings[0] : NULL;
    /* With a text model inside another one, the only stack may be a tower's; what has no vocabulary
     * counts its layers as it likes. */
    if (m->nstacks == 1 && *m->sizes->scope == '\0' && m->sizes->said[SW_CONFIG_VOCAB] &&
        !m->sizes->two_stacks)
        m->layers = &m->stacks[0];
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Is the shape that of the numbers, which packed ones have not? */
static bool has_shape(const sw_tensor *t, unsigned ndim)
{
    return !t->broken && t->ndim == ndim && sw_dtype_bits((sw_dtype)t->dtype) >= 8 &&
           (sw_dtype_is_floating((sw_dtype)t->dtype) ||
            strncmp(sw_dtype_name((sw_dtype)t->dtype), "F8", 2) == 0);
}

/* A dimension that the configuration tells of. */
typedef struct expected {
    unsigned ndim, dim; /* of tensors of so many dimensions this one */
    sw_config_size size;
    const char *what;
} expected;

static const expected vocabulary = { 2, 0, SW_CONFIG_VOCAB, "row" };
static const expected width = { 2, 1, SW_CONFIG_WIDTH, "column" };
static const expected norm = { 1, 0, SW_CONFIG_WIDTH, "element" };

/* Has a tensor (NULL = there is none) too few of these? */
static sw_code check_size(const text_model *m, const sw_tensor *t, const expected *e, sw_status *st)
{
    uint64_t said = m->sizes->said[e->size], is;

    if (!t || !has_shape(t, e->ndim))
        return SW_OK;
    is = sw_tensor_shape(m->c, t)[e->dim];
    if (is >= said || sw_config_has_size(m->sizes, e->size, is))
        return SW_OK;
    sw_fail(st, SW_EINPUT, m->file, t->name,
            "%s%s is %" PRIu64 ", but the tensor has only %" PRIu64 " %s%s: " LOST, m->sizes->scope,
            sw_config_size_name(e->size), said, is, e->what, is == 1 ? "" : "s");
    return sw_findings_take(m->findings, hint_lost, st);
}

/* The norm behind the last layer, then those of the layers: the first that is too short. */
static sw_code check_norms(const text_model *m, sw_status *st)
{
    const stack *s = m->layers;
    const char *name = m->c->tensors[s->first].name;
    sw_buf last = SW_BUF_INIT;
    size_t n = m->findings ? m->findings->n : 0;

    if (!sw_buf_addf(&last, st, "%.*snorm.weight", (int)s->root, name))
        check_size(m, sw_catalog_find_tensor(m->c, last.data), &norm, st);
    sw_buf_release(&last);
    for (uint32_t i = s->first; i < s->end && !st->code && (!m->findings || m->findings->n == n); i++) {
        const sw_tensor *t = &m->c->tensors[i];

        if (root_of(t->name, "input_layernorm.weight") != SIZE_MAX ||
            root_of(t->name, "post_attention_layernorm.weight") != SIZE_MAX)
            check_size(m, t, &norm, st);
    }
    return st->code;
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* Adapters stand beside the layers of a model that is not there. */
static bool has_adapters(const text_model *m)
{
    for (uint32_t i = m->layers->first; i < m->layers->end; i++)
        if (strstr(m->c->tensors[i].name, "lora_"))
            return true;
    return false;
}

/* The lowest number below `said` that no tensor of the stack has; said = none. It is at most the
 * number of tensors. */
static sw_code first_missing(const text_model *m, uint64_t said, uint64_t *first, sw_status *st)
{
    const stack *s = m->layers;
    uint64_t n = sw_min(said, (uint64_t)(s->end - s->first) + 1), number;
    bool *there = sw_calloc(n, sizeof *there, st);
    size_t root, len;

    for (uint32_t i = s->first; there && i < s->end; i++)
        if (find_layer(m->c->tensors[i].name, &root, &len, &number) && number < n)
            there[number] = true;
    for (*first = 0; there && *first < n && there[*first];)
        ++*first;
    free(there);
    return st->code;
}

/* Are there as many layers as the configuration says? */
static sw_code check_layers(const text_model *m, sw_status *st)
{
    const stack *s = m->layers;
    uint64_t said = m->sizes->said[SW_CONFIG_LAYERS], first = 0;
    const char *name = m->c->tensors[s->first].name;

    if (said == 0 || m->sizes->uneven || has_adapters(m) || first_missing(m, said, &first, st))
        return st->code;
    if (first == said || (first > s->highest && sw_config_has_size(m->sizes, SW_CONFIG_LAYERS, first)))
        return SW_OK;
    sw_fail(st, SW_EINPUT, m->file, NULL,
            "%s%s is %" PRIu64 ", but no tensor of '%.*s%" PRIu64 "' is there (the last layer is %" PRIu64
            "): " LOST,
            m->sizes->scope, sw_config_size_name(SW_CONFIG_LAYERS), said, (int)sw_min(s->len, 256), name,
            first, s->highest);
    return sw_findings_take(m->findings, hint_lost, st);
}

/* ---- the whole ------------------------------------------------------------------------------- */

sw_code sw_check_sizes(const sw_catalog *c, const sw_config_sizes *sizes, const char *file,
                       sw_findings *findings, sw_status *st)
{
    text_model m = { .c = c, .sizes = sizes, .file = file, .findings = findings };

    /* What is in a file that cannot be read is not lost in silence. */
    if (sw_catalog_is_broken(c))
        return SW_OK;
    for (uint32_t i = 0; i < c->ntensors && !st->code; i++)
        note_tensor(&m, i, st);
    if (st->code)
        goto out;
    choose(&m);
    if (check_size(&m, m.embedding, &vocabulary, st) || check_size(&m, m.embedding, &width, st) ||
        check_size(&m, m.nheads == 1 ? m.head : NULL, &vocabulary, st) || !m.layers || check_norms(&m, st))
        goto out;
    check_layers(&m, st);
out:
    free(m.stacks);
    free(m.embeddings);
    return st->code;
}
