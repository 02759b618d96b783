/* A checkpoint as tables for people. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "phrase.h"
#include "say.h"
#include "text.h"

#define CELLS_MAX 5
#define GAP 2        /* between columns */
#define NAME_MIN 16  /* columns that a shortened name keeps, */
#define NAME_LEAST 8 /* and where lines are short */
#define SHORT_LINE 40

/* ---- a table --------------------------------------------------------------------------------- */

/* A table as text: a line for each row, the titles first, tabs between the cells. What is clean has
 * no tabs. */
typedef struct table {
    /* a letter each: (l)eft, (r)ight, (s)hortened in the middle, or but for the (e)nd, where lines
     * are long */
    const char *columns;
    char *text;
    size_t n;
} table;

/* Separate the cells, and tell how wide each column is. */
static void measure(table *t, size_t *widths)
{
    size_t i = 0, len;

    for (char *cell = t->text; cell < t->text + t->n; cell += len + 1) {
        size_t width;

        len = strcspn(cell, "\t\n");
        cell[len] = '\0';
        width = sw_text_width(cell);
        widths[i] = width > widths[i] ? width : widths[i];
        i = t->columns[i + 1] ? i + 1 : 0;
    }
}

/* Make the columns fit: names give way, as far as they still tell something. */
static void fit(const table *t, size_t *widths, size_t width)
{
    size_t all = 0, least = width > SHORT_LINE ? NAME_MIN : NAME_LEAST;

    for (size_t i = 0; t->columns[i]; i++)
        all += widths[i] + (i ? GAP : 0);
    for (size_t i = 0; width && t->columns[i] && all > width; i++) {
        size_t room = strchr("se", t->columns[i]) && widths[i] > least ? widths[i] - least : 0;

        room = room < all - width ? room : all - width;
        widths[i] -= room;
        all -= room;
    }
}

/* Line by line, each cell on its side of the column. Nothing stands behind the last one. */
static void print_cells(table *t, const size_t *widths, FILE *to)
{
    size_t i = 0, len;
    int blank = 0;

    for (char *cell = t->text; cell < t->text + t->n; cell += len + 1) {
        char side = t->columns[i];
        int pad;

        len = strlen(cell);
        if (side == 's' || side == 'e')
            sw_text_shorten(cell, widths[i], side == 'e');
        pad = (int)(widths[i] - sw_text_width(cell));
        blank += (i ? GAP : 0) + (side == 'r' ? pad : 0);
        if (*cell) {
            fprintf(to, "%*s%s", blank, "", cell);
            blank = 0;
        }
        blank += side == 'r' ? 0 : pad;
        i = t->columns[i + 1] ? i + 1 : 0;
        if (i == 0) {
            fputc('\n', to);
            blank = 0;
        }
    }
}

/* Print the rows that print makes, if there are any. */
static void print_table(const sw_look *look, const char *columns, sw_printer *print, size_t width, FILE *to)
{
    table t = { .columns = columns };
    size_t widths[CELLS_MAX] = { 0 };

    t.text = sw_print_text(print, look, &t.n, look->err);
    if (t.text && strchr(t.text, '\n')[1]) {
        measure(&t, widths);
        fit(&t, widths, width);
        fputc('\n', to);
        print_cells(&t, widths, to);
    }
    free(t.text);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* What the path is, in words. */
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

/* The sums of the whole checkpoint: last, since what is last is seen first. */
static void print_sums(const sw_look *look, FILE *to)
{
    const sw_checkpoint_info *info = &look->info;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];

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
    if (info->nvalues)
        fprintf(to, "%-11s %s that %s not a tensor\n", "values", sw_number_text(info->nvalues, a),
                info->nvalues == 1 ? "is" : "are");
    if (look->counted)
        fprintf(to, "%-11s NaN or infinite in %s of %s tensors that the manifest counts\n", "numbers",
                look->strange ? sw_number_text(look->strange, a) : "none", sw_number_text(look->counted, b));
    for (const sw_dtype_sum *d = look->dtypes; d < look->dtypes + look->ndtypes; d++)
        fprintf(to, "%-11s %s: %s tensor%s, %s element%s, %s\n", d == look->dtypes ? "dtypes" : "", d->dtype,
                sw_number_text(d->tensors, a), sw_plural(d->tensors), sw_count_text(d->elements, b),
                sw_plural(d->elements), sw_size_text(d->bytes, size));
}

/* ---- files, tensors, boxes ------------------------------------------------------------------- */

/* So many files are shown one by one. */
#define FILES_EACH 16u

/* For sw_named. */
static const char *file_name(const void *about, uint64_t i)
{
    const sw_look *look = about;
    sw_file_info f;

    sw_checkpoint_file(look->cp, i, &f);
    return f.name;
}

/* Broken files stand by themselves; for sw_named. */
static int by_state(const void *about, uint64_t a, uint64_t b)
{
    const sw_look *look = about;
    sw_file_info f, g;

    sw_checkpoint_file(look->cp, a, &f);
    sw_checkpoint_file(look->cp, b, &g);
    return f.broken - g.broken;
}

/* How many tensors files hold a part of. */
typedef struct span {
    uint64_t least, most;
} span;

/* The lines of files, or of many that have one name but for its numbers. */
static void put_files(const sw_look *look, const sw_patterns *p, const span *spans, FILE *to)
{
    char least[SW_NUMBER_TEXT], most[SW_NUMBER_TEXT], n[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];

    for (size_t i = 0; i < p->n; i++) {
        const sw_pattern *g = &p->items[i];
        const span *s = &spans[g->first];
        sw_file_info f;

        sw_checkpoint_file(look->cp, g->first, &f);
        sw_text_put(to, g->name, SW_TEXT_PLAIN);
        fprintf(to, "\t%s%s%s\t", g->count > 1 ? sw_number_text(g->count, n) : "",
                g->count > 1 ? " files, " : "", sw_size_text(g->amount, size));
        if (f.broken)
            fputs("broken\n", to);
        else
            fprintf(to, "%s%s%s\n", sw_number_text(s->least, least), s->most > s->least ? " to " : "",
                    s->most > s->least ? sw_number_text(s->most, most) : "");
    }
}

/* How large each file is, and of how many tensors it holds a part. */
static void file_rows(FILE *to, const void *about)
{
    const sw_look *look = about;
    const sw_named names = { .n = look->info.nfiles,
                             .name = file_name,
                             .order = by_state,
                             .about = look,
                             .files = true,
                             .each = look->info.nfiles <= FILES_EACH || look->args->verbose };
    sw_patterns p = SW_PATTERNS_INIT;
    /* by the first file of each pattern */
    span *spans = sw_room(look->info.nfiles, sizeof *spans, look->err);

    fputs("file\tsize\ttensors\n", to);
    sw_patterns_find(&names, &p, look->err);
    for (uint64_t i = 0; !look->err->code && i < names.n; i++) {
        sw_pattern *g = &p.items[p.of[i]];
        span *s = &spans[g->first];
        sw_file_info f;

        sw_checkpoint_file(look->cp, i, &f);
        s->least = g->amount && s->least < f.tensors ? s->least : f.tensors;
        s->most = s->most > f.tensors ? s->most : f.tensors;
        g->amount += f.size;
    }
    if (!look->err->code && look->args->sort == SW_SORT_SIZE)
        sw_patterns_by_amount(&p);
    if (!look->err->code)
        put_files(look, &p, spans, to);
    sw_patterns_release(&p);
    free(spans);
}

void sw_look_put_group(const sw_look *look, const sw_pattern *g, FILE *to)
{
    char n[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];
    sw_tensor_info t;

    sw_checkpoint_tensor(look->cp, sw_look_first(look, g), &t);
    fprintf(to, "\t%s%s%s\t", g->count > 1 ? sw_number_text(g->count, n) : "", g->count > 1 ? " x " : "",
            t.dtype);
    sw_dims_put(to, t.shape, t.ndim);
    fprintf(to, "\t%s\t%s\n", sw_size_text(g->amount, size), look->words[g->first]);
}

/* How the tensors that were chosen are sharded, those that are alike on one line. */
static void tensor_rows(FILE *to, const void *about)
{
    const sw_look *look = about;

    fputs("tensor\tdtype\tshape\tsize\tsharding\n", to);
    for (size_t i = 0; i < look->groups.n; i++) {
        const sw_pattern *g = &look->groups.items[i];

        sw_text_put(to, g->name, SW_TEXT_PLAIN);
        sw_look_put_group(look, g, to);
    }
}

/* So many different ones are shown. */
#define NOTES_SHOWN 32u

/* What files say of themselves: each once, with the number of files that say it. */
static void note_rows(FILE *to, const void *about)
{
    const sw_look *look = about;
    sw_note_info notes[NOTES_SHOWN], note;
    uint64_t counts[NOTES_SHOWN] = { 0 }, at = 0;
    size_t n = 0;
    bool more = false;
    char count[SW_NUMBER_TEXT];

    fputs("metadata\tvalue\tfiles\n", to);
    while (sw_checkpoint_note(look->cp, &at, &note)) {
        size_t i = 0;

        while (i < n && (strcmp(notes[i].key, note.key) != 0 || strcmp(notes[i].value, note.value) != 0))
            i++;
        if (i == NOTES_SHOWN) {
            more = true;
            continue;
        }
        if (i == n)
            notes[n++] = note;
        counts[i]++;
    }
    for (size_t i = 0; i < n; i++) {
        sw_text_put(to, notes[i].key, SW_TEXT_PLAIN);
        fputc('\t', to);
        sw_text_put(to, notes[i].value, SW_TEXT_PLAIN);
        fprintf(to, "\t%s\n", sw_number_text(counts[i], count));
    }
    if (more)
        fputs("...\t\t\n", to);
}

/* For sw_named. */
static const char *value_name(const void *about, uint64_t i)
{
    return sw_checkpoint_value(((const sw_look *)about)->cp, i);
}

/* What was saved beside tensors. */
static void value_rows(FILE *to, const void *about)
{
    const sw_look *look = about;
    const sw_named names = {
        .n = look->info.nvalues, .name = value_name, .about = look, .each = look->args->verbose
    };
    sw_patterns p = SW_PATTERNS_INIT;

    fputs("not a tensor\n", to);
    sw_patterns_find(&names, &p, look->err);
    for (size_t i = 0; i < p.n; i++) {
        sw_text_put(to, p.items[i].name, SW_TEXT_PLAIN);
        fputc('\n', to);
    }
    sw_patterns_release(&p);
}

/* Every box, replicas too. */
static void box_rows(FILE *to, const void *about)
{
    const sw_look *look = about;

    fputs("tensor\toffsets\tbox\tfile\tbyte\n", to);
    for (uint64_t i = 0; i < look->nchosen; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, look->chosen[i], &t);
        for (uint64_t k = 0; k < t.nboxes + t.nreplicas; k++) {
            sw_box_info b;
            sw_file_info f;

            sw_checkpoint_box(look->cp, look->chosen[i], k, &b);
            sw_checkpoint_file(look->cp, b.file, &f);
            sw_text_put(to, t.name, SW_TEXT_PLAIN);
            fputc('\t', to);
            sw_dims_put(to, b.offsets, t.ndim);
            fputc('\t', to);
            sw_dims_put(to, b.shape, t.ndim);
            fputc('\t', to);
            sw_text_put(to, f.name, SW_TEXT_PLAIN);
            fprintf(to, "\t%" PRIu64 "\n", b.at);
        }
    }
}

/* ---- findings -------------------------------------------------------------------------------- */

/* So many are shown where only a summary is asked for. */
#define FINDINGS_SHORT 5u

/* Findings in a row that have the same cause share its hint. */
static void print_findings(const sw_look *look, size_t width, FILE *to)
{
    uint64_t shown = look->nfindings;

    if (shown)
        fprintf(to, "\nfindings: %" PRIu64 "\n", shown);
    if (look->args->summary && shown > FINDINGS_SHORT)
        shown = FINDINGS_SHORT;
    for (uint64_t i = 0; i < shown; i++) {
        const sw_finding *f = &look->findings[i];
        bool last = i + 1 == shown || strcmp(f->hint, f[1].hint) != 0;
        char *text = sw_print_text(sw_finding_print, f, NULL, look->err);

        if (text)
            sw_text_wrap(to, text, "  ", "    ", width);
        free(text);
        text = f->hint[0] && last ? sw_phrase_text(f->hint) : NULL;
        if (text)
            sw_text_wrap(to, text, "    hint: ", "          ", width);
        free(text);
    }
    if (shown < look->nfindings)
        fprintf(to, "  and %" PRIu64 " more; all of them without --summary\n", look->nfindings - shown);
}

void sw_look_tables(FILE *to, const void *about)
{
    const sw_look *look = about;
    const sw_args *args = look->args;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT];
    size_t width = sw_text_columns();

    sw_text_put(to, args->input, SW_TEXT_PLAIN);
    fprintf(to, ": %s\n", kind_text(&look->info));
    if (!args->summary && !args->tensors)
        print_table(look, "srr", file_rows, width, to);
    if (!args->summary && !args->tensors)
        print_table(look, "ssr", note_rows, width, to);
    if (!args->summary)
        print_table(look, "erlrs", args->tree ? sw_look_tree : tensor_rows, width, to);
    if (!args->summary && args->tensors)
        fprintf(to, "\n%s of %s tensors\n", sw_number_text(look->nchosen, a),
                sw_number_text(look->info.ntensors, b));
    if (!args->summary && args->verbose)
        print_table(look, "ellsr", box_rows, width, to);
    if (!args->summary && !args->tensors)
        print_table(look, "s", value_rows, width, to);
    print_findings(look, width, to);
    fputc('\n', to);
    print_sums(look, to);
}
