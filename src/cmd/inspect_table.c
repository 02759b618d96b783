/* A checkpoint as tables for people. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "text.h"

#define CELLS_MAX 5
#define GAP 2        /* between columns */
#define NAME_MIN 16  /* columns that a shortened name keeps, */
#define NAME_LEAST 8 /* and where lines are short */
#define SHORT_LINE 40

/* ---- a table --------------------------------------------------------------------------------- */

typedef struct column {
    const char *title;
    bool right;   /* numbers */
    bool shrinks; /* it is the one to be shortened */
    size_t width;
} column;

typedef struct table {
    column columns[CELLS_MAX];
    size_t ncolumns;
    char **cells; /* row by row; owned */
    size_t n, cap;
    bool failed; /* memory is short */
} table;

/* Takes the text. */
static void add_cell(table *t, char *text)
{
    column *c = &t->columns[t->n % t->ncolumns];
    size_t width;

    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        char **cells = realloc(t->cells, cap * sizeof *cells);

        if (cells) {
            t->cells = cells;
            t->cap = cap;
        }
    }
    if (!text || t->n == t->cap) {
        t->failed = true;
        free(text);
        return;
    }
    t->cells[t->n++] = text;
    width = sw_text_width(text);
    c->width = width > c->width ? width : c->width;
}

static void add_copy(table *t, const char *text)
{
    add_cell(t, strdup(text));
}

/* Make the columns fit: names give way, as far as they still tell something. */
static void fit(table *t, size_t width)
{
    size_t all = 0, least = width > SHORT_LINE ? NAME_MIN : NAME_LEAST;

    for (size_t i = 0; i < t->ncolumns; i++) {
        size_t title = strlen(t->columns[i].title);

        t->columns[i].width = t->columns[i].width > title ? t->columns[i].width : title;
        all += t->columns[i].width + (i ? GAP : 0);
    }
    for (size_t i = 0; width && i < t->ncolumns && all > width; i++) {
        column *c = &t->columns[i];
        size_t room = c->width > least ? c->width - least : 0;

        if (!c->shrinks)
            continue;
        room = room < all - width ? room : all - width;
        c->width -= room;
        all -= room;
    }
}

static void print_cell(const column *c, char *text, bool last, FILE *to)
{
    size_t n;

    if (c->shrinks)
        sw_text_shorten(text, c->width);
    n = sw_text_width(text);
    for (size_t i = n; c->right && i < c->width; i++)
        fputc(' ', to);
    fputs(text, to);
    for (size_t i = n; !c->right && !last && i < c->width; i++)
        fputc(' ', to);
}

static void print_table(table *t, size_t width, FILE *to)
{
    char title[16];

    fit(t, width);
    for (size_t i = 0; i < t->ncolumns; i++) {
        snprintf(title, sizeof title, "%s", t->columns[i].title);
        fprintf(to, "%*s", i ? GAP : 0, "");
        print_cell(&t->columns[i], title, i + 1 == t->ncolumns, to);
    }
    fputc('\n', to);
    for (size_t k = 0; k < t->n; k++) {
        size_t i = k % t->ncolumns;

        fprintf(to, "%*s", i ? GAP : 0, "");
        print_cell(&t->columns[i], t->cells[k], i + 1 == t->ncolumns, to);
        if (i + 1 == t->ncolumns)
            fputc('\n', to);
    }
}

static void release_table(table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
}

/* ---- the head -------------------------------------------------------------------------------- */

static const char *kind_text(const sw_checkpoint_info *info)
{
    switch (info->kind) {
    case SW_KIND_SHARDED:
        return "sharded checkpoint";
    case SW_KIND_PLAIN:
        return "consolidated checkpoint";
    case SW_KIND_FILE:
        break;
    }
    return info->sharded ? "one shard file" : "one safetensors file";
}

/* What there is of one dtype. */
typedef struct dtype_sum {
    const char *dtype;
    uint64_t tensors, elements, bytes;
} dtype_sum;

static void print_dtypes(const sw_look *look, FILE *to)
{
    dtype_sum sums[64] = { { NULL, 0, 0, 0 } };
    char size[SW_SIZE_TEXT], count[SW_NUMBER_TEXT], tensors[SW_NUMBER_TEXT];
    size_t n = 0;

    for (uint64_t i = 0; i < look->info.ntensors; i++) {
        sw_tensor_info t;
        size_t k = 0;

        sw_checkpoint_tensor(look->cp, i, &t);
        while (k < n && strcmp(sums[k].dtype, t.dtype) != 0)
            k++;
        if (k == sizeof sums / sizeof *sums)
            continue;
        n = k == n ? n + 1 : n;
        sums[k].dtype = t.dtype;
        sums[k].tensors++;
        sums[k].elements = sw_sum(sums[k].elements, t.elements);
        sums[k].bytes = sw_sum(sums[k].bytes, t.bytes);
    }
    for (size_t k = 0; k < n; k++)
        fprintf(to, "%-11s %s: %s tensor%s, %s element%s, %s\n", k ? "" : "dtypes", sums[k].dtype,
                sw_number_text(sums[k].tensors, tensors), sw_plural(sums[k].tensors),
                sw_count_text(sums[k].elements, count), sw_plural(sums[k].elements),
                sw_size_text(sums[k].bytes, size));
}

static bool print_head(const sw_look *look, FILE *to)
{
    const sw_checkpoint_info *info = &look->info;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];
    char *path = sw_clean_copy(look->run->args->input);

    if (!path)
        return false;
    fprintf(to, "%s: %s\n", path, kind_text(info));
    fprintf(to, "%-11s %s, %s\n", "files", sw_number_text(info->nfiles, a),
            sw_size_text(info->file_bytes, size));
    if (info->shards)
        fprintf(to, "%-11s %s\n", "shards", info->shards);
    if (info->index)
        fprintf(to, "%-11s %s\n", "index", info->index);
    fprintf(to, "%-11s %s in %s box%s\n", "tensors", sw_number_text(info->ntensors, a),
            sw_number_text(info->nboxes, b), info->nboxes == 1 ? "" : "es");
    fprintf(to, "%-11s %s", "parameters", sw_number_text(info->parameters, a));
    if (info->parameters >= 1000)
        fprintf(to, " (%s)", sw_count_text(info->parameters, b));
    fprintf(to, "\n%-11s %s bytes", "data", sw_number_text(info->bytes, a));
    if (info->bytes >= 1000)
        fprintf(to, " (%s)", sw_size_text(info->bytes, size));
    fputc('\n', to);
    print_dtypes(look, to);
    free(path);
    return true;
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool print_files(const sw_look *look, size_t width, FILE *to)
{
    table t = {
        .columns = { { "file", false, true, 0 }, { "size", true, false, 0 }, { "tensors", true, false, 0 } },
        .ncolumns = 3
    };
    char text[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];

    for (uint64_t i = 0; i < look->info.nfiles && !t.failed; i++) {
        sw_file_info f;

        sw_checkpoint_file(look->cp, i, &f);
        add_cell(&t, sw_clean_copy(f.name));
        add_copy(&t, sw_size_text(f.size, size));
        add_copy(&t, f.broken ? "broken" : sw_number_text(f.tensors, text));
    }
    if (!t.failed && look->info.nfiles) {
        fputc('\n', to);
        print_table(&t, width, to);
    }
    release_table(&t);
    return !t.failed;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static char *words_of(const sw_look *look, uint64_t tensor, const sw_tensor_info *info)
{
    char words[SW_SHARDING_TEXT + 16];
    sw_status st = SW_STATUS_INIT;

    if (sw_checkpoint_sharding_text(look->cp, tensor, words, &st))
        return NULL;
    if (info->broken && !info->holes && !info->overlaps)
        strcat(words, ", broken");
    return strdup(words);
}

static void add_tensor(table *t, const sw_look *look, uint64_t tensor)
{
    char size[SW_SIZE_TEXT];
    sw_tensor_info info;

    sw_checkpoint_tensor(look->cp, tensor, &info);
    add_cell(t, sw_clean_copy(info.name));
    add_copy(t, info.dtype);
    add_cell(t, sw_shape_text(info.shape, info.ndim));
    add_copy(t, sw_size_text(info.bytes, size));
    add_cell(t, words_of(look, tensor, &info));
}

static bool print_tensors(const sw_look *look, size_t width, FILE *to)
{
    table t = { .columns = { { "tensor", false, true, 0 },
                             { "dtype", false, false, 0 },
                             { "shape", false, false, 0 },
                             { "size", true, false, 0 },
                             { "sharding", false, true, 0 } },
                .ncolumns = 5 };
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT];

    for (uint64_t i = 0; i < look->nchosen && !t.failed; i++)
        add_tensor(&t, look, look->chosen[i]);
    if (!t.failed && look->nchosen) {
        fputc('\n', to);
        print_table(&t, width, to);
    }
    if (!t.failed && look->run->args->tensors)
        fprintf(to, "\n%s of %s tensors\n", sw_number_text(look->nchosen, a),
                sw_number_text(look->info.ntensors, b));
    release_table(&t);
    return !t.failed;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

static void add_box(table *t, const sw_look *look, uint64_t tensor, const sw_tensor_info *info, uint64_t box)
{
    char at[SW_NUMBER_TEXT];
    sw_box_info b;
    sw_file_info f;

    sw_checkpoint_box(look->cp, tensor, box, &b);
    sw_checkpoint_file(look->cp, b.file, &f);
    add_cell(t, sw_clean_copy(info->name));
    add_cell(t, sw_shape_text(b.offsets, info->ndim));
    add_cell(t, sw_shape_text(b.shape, info->ndim));
    add_cell(t, sw_clean_copy(f.name));
    snprintf(at, sizeof at, "%" PRIu64, b.at);
    add_copy(t, at);
}

/* Verbose: every box, replicas too. */
static bool print_boxes(const sw_look *look, size_t width, FILE *to)
{
    table t = { .columns = { { "tensor", false, true, 0 },
                             { "offsets", false, false, 0 },
                             { "box", false, false, 0 },
                             { "file", false, true, 0 },
                             { "byte", true, false, 0 } },
                .ncolumns = 5 };

    for (uint64_t i = 0; i < look->nchosen && !t.failed; i++) {
        sw_tensor_info info;

        sw_checkpoint_tensor(look->cp, look->chosen[i], &info);
        for (uint64_t k = 0; k < info.nboxes + info.nreplicas && !t.failed; k++)
            add_box(&t, look, look->chosen[i], &info, k);
    }
    if (!t.failed && t.n) {
        fputc('\n', to);
        print_table(&t, width, to);
    }
    release_table(&t);
    return !t.failed;
}

/* ---- findings -------------------------------------------------------------------------------- */

static bool print_finding(const sw_finding *f, size_t width, FILE *to)
{
    char *text = sw_finding_text(f);

    if (text)
        sw_text_wrap(to, text, "  ", "    ", width);
    free(text);
    return text != NULL;
}

/* Findings in a row that have the same cause share its hint. */
static bool print_findings(const sw_look *look, size_t width, FILE *to)
{
    if (look->nfindings)
        fprintf(to, "\nfindings: %" PRIu64 "\n", look->nfindings);
    for (uint64_t i = 0; i < look->nfindings; i++) {
        const sw_finding *f = &look->findings[i];
        bool last = i + 1 == look->nfindings || strcmp(f->hint, look->findings[i + 1].hint) != 0;

        if (!print_finding(f, width, to))
            return false;
        if (f->hint[0] && last)
            sw_text_wrap(to, f->hint, "    hint: ", "          ", width);
    }
    return true;
}

bool sw_look_tables(const sw_look *look, size_t width, FILE *to)
{
    bool whole = !look->run->args->summary;

    return print_head(look, to) && (!whole || look->run->args->tensors || print_files(look, width, to)) &&
           (!whole || print_tensors(look, width, to)) &&
           (!whole || !look->run->args->verbose || print_boxes(look, width, to)) &&
           print_findings(look, width, to);
}
