/* A picture of a checkpoint: a panel for each tensor (tile.c), and a legend of the files. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "text.h"
#include "tile.h"

#define MARGIN 24.0
#define HEAD 66.0
#define LINE 18.0 /* of the legend */
#define PANELS_DEFAULT 24u
#define PANELS_MAX 1000u
#define ACROSS_MAX 3u
#define WIDTH_MIN 640.0
#define PATH_MAX_SHOWN 90u

typedef struct page {
    const sw_look *look;
    sw_tile *tiles;
    size_t ntiles;
    const char *choice; /* how the tensors were chosen, in words */
    uint64_t *number;   /* of each file in the legend; 0 = not in it */
    uint64_t nfiles;    /* in the legend */
    bool holes, overlaps, replicas, parts;
    unsigned across;         /* columns of panels */
    double ends[ACROSS_MAX]; /* how far each of them reaches */
    double width, panels_height;
} page;

/* ---- which tensors --------------------------------------------------------------------------- */

/* 2 = broken, 1 = sharded, 0 = whole. */
static int interest(const sw_look *look, uint64_t tensor)
{
    sw_tensor_info t;

    sw_checkpoint_tensor(look->cp, tensor, &t);
    return t.broken ? 2 : t.nboxes + t.nreplicas > 1;
}

static bool add_tile(page *p, uint64_t tensor)
{
    return sw_tile_init(&p->tiles[p->ntiles++], p->look, tensor);
}

static bool add_all(page *p, int least, int most, size_t max)
{
    for (uint64_t i = 0; i < p->look->nchosen && p->ntiles < max; i++) {
        int is = interest(p->look, p->look->chosen[i]);

        if (is >= least && is <= most && !add_tile(p, p->look->chosen[i]))
            return false;
    }
    return true;
}

/* --tensor chooses; else what is broken comes first, then what is sharded, and whole tensors only
 * where there is nothing else. */
static bool choose_tiles(page *p)
{
    p->tiles = calloc(PANELS_MAX, sizeof *p->tiles);
    if (!p->tiles)
        return false;
    p->choice = "those that --tensor chooses";
    if (p->look->run->args->tensors)
        return add_all(p, 0, 2, PANELS_MAX);
    p->choice = "the first that are sharded; --tensor GLOB chooses others";
    if (!add_all(p, 2, 2, PANELS_DEFAULT))
        return false;
    if (p->ntiles)
        p->choice = "those that are broken, then those that are sharded; --tensor GLOB chooses others";
    if (!add_all(p, 1, 1, PANELS_DEFAULT))
        return false;
    if (p->ntiles)
        return true;
    p->choice = "no tensor is sharded; --tensor GLOB chooses others";
    return add_all(p, 0, 0, PANELS_DEFAULT);
}

/* Files are numbered in the order of their names, those that hold a part of what is drawn. */
static bool number_files(page *p)
{
    p->number = calloc(p->look->info.nfiles + 1, sizeof *p->number);
    for (size_t i = 0; p->number && i < p->ntiles; i++) {
        const sw_tile *t = &p->tiles[i];

        for (uint64_t k = 0; k < t->info.nboxes + t->info.nreplicas; k++) {
            sw_box_info b;

            sw_checkpoint_box(p->look->cp, t->tensor, k, &b);
            p->number[b.file] = 1;
        }
        p->holes = p->holes || t->info.holes;
        p->overlaps = p->overlaps || t->info.overlaps;
        p->replicas = p->replicas || t->info.nreplicas;
        p->parts = p->parts || t->part;
    }
    for (uint64_t f = 0; p->number && f < p->look->info.nfiles; f++)
        if (p->number[f])
            p->number[f] = ++p->nfiles;
    return p->number != NULL;
}

/* ---- where ----------------------------------------------------------------------------------- */

/* The next panel goes below the shortest column. Returns the column; *y is where. */
static unsigned place_tile(page *p, const sw_tile *t, double *y)
{
    unsigned best = 0;

    for (unsigned i = 1; i < p->across; i++)
        if (p->ends[i] < p->ends[best])
            best = i;
    *y = p->ends[best];
    p->ends[best] += t->panel_height + MARGIN;
    if (p->ends[best] > p->panels_height)
        p->panels_height = p->ends[best];
    return best;
}

static void lay_out(page *p)
{
    p->across = p->ntiles < ACROSS_MAX ? (unsigned)p->ntiles : ACROSS_MAX;
    p->across = p->across ? p->across : 1;
    p->width = MARGIN + p->across * (SW_TILE_WIDTH + MARGIN);
    p->width = p->width > WIDTH_MIN ? p->width : WIDTH_MIN;
    for (size_t i = 0; i < p->ntiles; i++) {
        sw_tile *t = &p->tiles[i];

        t->x = MARGIN + place_tile(p, t, &t->y) * (SW_TILE_WIDTH + MARGIN);
        t->y += HEAD;
    }
}

/* ---- the legend ------------------------------------------------------------------------------ */

static size_t widest_name(const page *p)
{
    size_t widest = 20;

    for (uint64_t f = 0; f < p->look->info.nfiles; f++) {
        sw_file_info info;

        sw_checkpoint_file(p->look->cp, f, &info);
        if (p->number[f] && sw_text_width(info.name) > widest)
            widest = sw_text_width(info.name);
    }
    return widest;
}

/* Files that fit beside each other. */
static uint64_t legend_columns(const page *p)
{
    double one = 52 + 6.6 * (double)widest_name(p), columns = (p->width - MARGIN) / one;

    return columns < 1 ? 1 : (uint64_t)columns;
}

static uint64_t legend_lines(const page *p)
{
    uint64_t columns = legend_columns(p);

    return (p->nfiles + columns - 1) / columns;
}

/* Words about patterns below the files. */
static unsigned legend_notes(const page *p)
{
    return (unsigned)(p->holes + p->overlaps + p->replicas + p->parts);
}

static void put_swatch(double x, double y, const char *fill, FILE *to)
{
    fprintf(to,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"16\" height=\"12\" fill=\"%s\" stroke=\"#888\" "
            "stroke-width=\"0.5\"/>\n",
            x, y - 10, fill);
}

static bool draw_files(const page *p, double y, FILE *to)
{
    uint64_t columns = legend_columns(p);
    double step = (p->width - MARGIN) / (double)columns;
    char colour[SW_COLOUR_TEXT];
    bool good = true;

    for (uint64_t f = 0; good && f < p->look->info.nfiles; f++) {
        uint64_t i = p->number[f] ? p->number[f] - 1 : 0;
        double x = MARGIN + step * (double)(i % columns), at = y + LINE * (double)(i / columns);
        sw_file_info info;

        if (!p->number[f])
            continue;
        sw_checkpoint_file(p->look->cp, f, &info);
        put_swatch(x, at, sw_colour_text(p->number[f], colour), to);
        fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"11\" fill=\"#222\">%" PRIu64 "  ", x + 22, at,
                p->number[f]);
        good = sw_svg_text(info.name, 0, to);
        fputs("</text>\n", to);
    }
    return good;
}

static void draw_notes(const page *p, double y, FILE *to)
{
    const struct {
        bool there;
        const char *fill, *words;
    } notes[] = {
        { p->holes, "url(#hole)", "missing: no shard file holds this part" },
        { p->overlaps, "url(#overlap)", "overlap: several boxes claim this part" },
        { p->parts, "url(#elsewhere)", "not in this file" },
        { p->replicas, "none", "3 +7: file 7 repeats what file 3 holds; 3 x4: so do four files in all" },
    };

    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        if (!notes[i].there)
            continue;
        put_swatch(MARGIN, y, notes[i].fill, to);
        fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"11\" fill=\"#222\">%s</text>\n", MARGIN + 22, y,
                notes[i].words);
        y += LINE;
    }
}

/* ---- the page -------------------------------------------------------------------------------- */

static const char patterns[] =
    "<defs>\n"
    "<pattern id=\"hole\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\">"
    "<rect width=\"8\" height=\"8\" fill=\"#ffd5d5\"/><rect width=\"4\" height=\"8\" "
    "fill=\"#e00020\"/></pattern>\n"
    "<pattern id=\"overlap\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\">"
    "<path d=\"M0 0L7 7M7 0L0 7\" stroke=\"#000\" stroke-width=\"1.2\"/></pattern>\n"
    "<pattern id=\"elsewhere\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"8\" height=\"8\" fill=\"#f0f0f0\"/><circle cx=\"4\" cy=\"4\" r=\"1\" "
    "fill=\"#aaa\"/></pattern>\n"
    "</defs>\n";

static bool draw_head(const page *p, FILE *to)
{
    const sw_checkpoint_info *info = &p->look->info;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT], c[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];
    bool good;

    fprintf(to, "<text x=\"%.2f\" y=\"34\" font-size=\"17\" font-weight=\"bold\" fill=\"#111\">", MARGIN);
    good = sw_svg_text(p->look->run->args->input, PATH_MAX_SHOWN, to);
    fprintf(to,
            "</text>\n<text x=\"%.2f\" y=\"54\" font-size=\"12\" fill=\"#444\">%s files, %s, %s tensors, ",
            MARGIN, sw_number_text(info->nfiles, a), sw_size_text(info->file_bytes, size),
            sw_number_text(info->ntensors, b));
    fprintf(to, "%s parameters. Shown: %zu (%s)</text>\n", sw_count_text(info->parameters, c), p->ntiles,
            p->choice);
    return good;
}

static bool draw_page(const page *p, FILE *to)
{
    double legend = HEAD + p->panels_height + LINE;
    double below = legend + LINE * (double)(legend_lines(p) + 1);
    double height = below + LINE * legend_notes(p) + MARGIN;

    fprintf(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"Helvetica, Arial, sans-serif\">\n",
        p->width, height, p->width, height);
    fputs(patterns, to);
    fputs("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", to);
    if (!draw_head(p, to))
        return false;
    for (size_t i = 0; i < p->ntiles; i++)
        if (!sw_tile_draw(&p->tiles[i], p->number, to))
            return false;
    fprintf(to,
            "<text x=\"%.2f\" y=\"%.2f\" font-size=\"13\" font-weight=\"bold\" fill=\"#111\">files</text>\n",
            MARGIN, legend);
    if (!draw_files(p, legend + LINE, to))
        return false;
    draw_notes(p, below, to);
    fputs("</svg>\n", to);
    return true;
}

bool sw_look_svg(const sw_look *look, FILE *to)
{
    page p = { .look = look };
    bool good = choose_tiles(&p) && number_files(&p);

    if (good) {
        lay_out(&p);
        good = draw_page(&p, to);
    }
    for (size_t i = 0; p.tiles && i < p.ntiles; i++)
        sw_tile_release(&p.tiles[i]);
    free(p.tiles);
    free(p.number);
    return good;
}
