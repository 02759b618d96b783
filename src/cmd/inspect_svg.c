/* A picture of a checkpoint: a panel for each tensor (tile.c), and a legend of the files. How
 * everything looks is told by the style sheet in it. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "say.h"
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

static const char style[] =
    "<style>\n"
    "text { font-family: Helvetica, Arial, sans-serif; font-size: 11px; fill: #222 }\n"
    ".page { fill: #fff } .path { font-size: 17px; font-weight: bold } .facts { font-size: 12px }\n"
    ".name { font-size: 13px; font-weight: bold } .words { font-size: 12px } .wrong { fill: #b00020 }\n"
    ".note { font-size: 10px; fill: #777 } .label { font-size: 10px; text-anchor: middle }\n"
    ".cut { font-size: 9px; fill: #555; text-anchor: middle } .down { text-anchor: end }\n"
    /* no box is seen through the seams of its neighbours */
    ".box { shape-rendering: crispEdges } .frame { fill: none; stroke: #444 }\n"
    ".hole { fill: url(#missing) } .overlap { fill: url(#twice) } .elsewhere { fill: url(#unknown) }\n"
    "</style>\n"
    "<defs>\n"
    "<pattern id=\"missing\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\">"
    "<rect width=\"8\" height=\"8\" fill=\"#ffd5d5\"/><rect width=\"4\" height=\"8\" "
    "fill=\"#e00020\"/></pattern>\n"
    "<pattern id=\"twice\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\">"
    "<path d=\"M0 0L7 7M7 0L0 7\" stroke=\"#000\" stroke-width=\"1.2\"/></pattern>\n"
    "<pattern id=\"unknown\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"8\" height=\"8\" fill=\"#f0f0f0\"/><circle cx=\"4\" cy=\"4\" r=\"1\" "
    "fill=\"#aaa\"/></pattern>\n"
    "</defs>\n"
    "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n";

typedef struct page {
    const sw_look *look;
    sw_tile *tiles;
    size_t ntiles;
    const char *choice; /* how the tensors were chosen, in words */
    uint64_t *number;   /* of each file in the legend; 0 = not in it */
    uint64_t nfiles;    /* in the legend */
    bool holes, overlaps, replicas, parts;
    double width, panels_height;
} page;

/* ---- the pencil ------------------------------------------------------------------------------ */

void sw_draw_rect(FILE *to, const char *class, const sw_rect *r)
{
    fprintf(to, "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"", class, r->x, r->y,
            r->w, r->h);
}

void sw_draw_text(FILE *to, const char *class, double x, double y)
{
    fprintf(to, "<text class=\"%s\" x=\"%.2f\" y=\"%.2f\">", class, x, y);
}

void sw_draw_name(FILE *to, const char *name, size_t width, sw_status *err)
{
    char *clean = sw_clean_copy(name);

    if (clean) {
        sw_text_shorten(clean, width);
        sw_text_put(to, clean, SW_TEXT_XML);
    } else {
        sw_refuse(err, SW_ENOMEM, NULL, "out of memory");
    }
    free(clean);
}

void sw_draw_colour(FILE *to, uint64_t number)
{
    /* The hue goes on by the golden angle, so that neighbours differ most: from blue on, and round
     * without red, which says that something is missing. Dark text stays readable on it. */
    double turn = fmod((double)number * 0.6180339887498949, 1);

    fprintf(to, " fill=\"hsl(%.1f,62%%,%u%%)\"", 25 + 310 * turn, 66 + 6 * (unsigned)(number % 3));
}

/* ---- which tensors --------------------------------------------------------------------------- */

/* Those that are broken, sharded, or neither, as long as there is room for more. */
static bool add_tiles(page *p, bool broken, bool sharded, size_t max)
{
    for (uint64_t i = 0; i < p->look->nchosen && p->ntiles < max; i++) {
        sw_tensor_info t;

        sw_checkpoint_tensor(p->look->cp, p->look->chosen[i], &t);
        if (max != PANELS_MAX && (t.broken != broken || (!broken && (t.nboxes + t.nreplicas > 1) != sharded)))
            continue;
        if (!sw_tile_init(&p->tiles[p->ntiles++], p->look, p->look->chosen[i]))
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
    if (p->look->args->tensors)
        return add_tiles(p, true, true, PANELS_MAX);
    if (!add_tiles(p, true, true, PANELS_DEFAULT))
        return false;
    p->choice = p->ntiles ? "those that are broken, then those that are sharded; --tensor GLOB chooses others"
                          : "the first that are sharded; --tensor GLOB chooses others";
    if (!add_tiles(p, false, true, PANELS_DEFAULT))
        return false;
    if (p->ntiles)
        return true;
    p->choice = "no tensor is sharded; --tensor GLOB chooses others";
    return add_tiles(p, false, false, PANELS_DEFAULT);
}

/* Files are numbered in the order of their names, those that hold a part of what is drawn. */
static bool number_files(page *p)
{
    p->number = calloc(p->look->info.nfiles + 1, sizeof *p->number);
    for (sw_tile *t = p->tiles; p->number && t < p->tiles + p->ntiles; t++) {
        for (uint64_t k = 0; k < t->info.nboxes + t->info.nreplicas; k++) {
            sw_box_info b;

            sw_checkpoint_box(p->look->cp, t->tensor, k, &b);
            p->number[b.file] = 1;
        }
        t->number = p->number;
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

/* Each panel goes below the shortest column. */
static void lay_out(page *p)
{
    unsigned across = p->ntiles < ACROSS_MAX ? (unsigned)p->ntiles : ACROSS_MAX;
    double ends[ACROSS_MAX] = { 0 };

    p->width = fmax(MARGIN + across * (SW_TILE_WIDTH + MARGIN), WIDTH_MIN);
    for (sw_tile *t = p->tiles; t < p->tiles + p->ntiles; t++) {
        unsigned best = 0;

        for (unsigned i = 1; i < across; i++)
            best = ends[i] < ends[best] ? i : best;
        t->x = MARGIN + best * (SW_TILE_WIDTH + MARGIN);
        t->y = HEAD + ends[best];
        ends[best] += t->panel_height + MARGIN;
        p->panels_height = fmax(p->panels_height, ends[best]);
    }
}

/* ---- the legend ------------------------------------------------------------------------------ */

/* Files that fit beside each other. */
static uint64_t legend_columns(const page *p)
{
    size_t widest = 20;

    for (uint64_t f = 0; f < p->look->info.nfiles; f++) {
        sw_file_info info;

        sw_checkpoint_file(p->look->cp, f, &info);
        if (p->number[f] && sw_text_width(info.name) > widest)
            widest = sw_text_width(info.name);
    }
    return (uint64_t)fmax(1, (p->width - MARGIN) / (52 + 6.6 * (double)widest));
}

static void draw_files(const page *p, uint64_t columns, double y, FILE *to)
{
    uint64_t i = 0;

    for (uint64_t f = 0; f < p->look->info.nfiles; f++) {
        sw_rect swatch = { MARGIN + (p->width - MARGIN) / (double)columns * (double)(i % columns),
                           y + LINE * (double)(i / columns) - 10, 16, 12 };
        sw_file_info info;

        if (!p->number[f])
            continue;
        sw_checkpoint_file(p->look->cp, f, &info);
        sw_draw_rect(to, "file", &swatch);
        sw_draw_colour(to, p->number[f]);
        fputs("/>\n", to);
        sw_draw_text(to, "file", swatch.x + 22, swatch.y + 10);
        fprintf(to, "%" PRIu64 "  ", p->number[f]);
        sw_text_put(to, info.name, SW_TEXT_XML);
        fputs("</text>\n", to);
        i++;
    }
}

/* Words about patterns below the files. */
static void draw_notes(const page *p, double y, FILE *to)
{
    const struct {
        bool there;
        const char *class, *words;
    } notes[] = {
        { p->holes, "hole", "missing: no shard file holds this part" },
        { p->overlaps, "overlap", "overlap: several boxes claim this part" },
        { p->parts, "elsewhere", "not in this file" },
        { p->replicas, "frame", "3 +7: file 7 repeats what file 3 holds; 3 x4: so do four files in all" },
    };

    for (size_t i = 0; i < SW_COUNT(notes); i++) {
        const sw_rect swatch = { MARGIN, y - 10, 16, 12 };

        if (!notes[i].there)
            continue;
        sw_draw_rect(to, notes[i].class, &swatch);
        fputs("/>\n", to);
        sw_draw_text(to, "file", MARGIN + 22, y);
        fprintf(to, "%s</text>\n", notes[i].words);
        y += LINE;
    }
}

/* ---- the page -------------------------------------------------------------------------------- */

static void draw_head(const page *p, FILE *to)
{
    const sw_checkpoint_info *info = &p->look->info;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT], c[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];

    sw_draw_text(to, "path", MARGIN, 34);
    sw_draw_name(to, p->look->args->input, PATH_MAX_SHOWN, p->look->err);
    fputs("</text>\n", to);
    sw_draw_text(to, "facts", MARGIN, 54);
    fprintf(to, "%s files, %s, %s tensors, %s parameters. Shown: %zu (%s)</text>\n",
            sw_number_text(info->nfiles, a), sw_size_text(info->file_bytes, size),
            sw_number_text(info->ntensors, b), sw_count_text(info->parameters, c), p->ntiles, p->choice);
}

static void draw_page(const page *p, FILE *to)
{
    uint64_t columns = legend_columns(p);
    double legend = HEAD + p->panels_height + LINE;
    double below = legend + LINE * (double)((p->nfiles + columns - 1) / columns + 1);
    double height = below + LINE * (p->holes + p->overlaps + p->replicas + p->parts) + MARGIN;

    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
            "viewBox=\"0 0 %.0f %.0f\">\n%s",
            p->width, height, p->width, height, style);
    draw_head(p, to);
    for (size_t i = 0; i < p->ntiles; i++)
        sw_tile_draw(&p->tiles[i], to);
    sw_draw_text(to, "name", MARGIN, legend);
    fputs("files</text>\n", to);
    draw_files(p, columns, legend + LINE, to);
    draw_notes(p, below, to);
    fputs("</svg>\n", to);
}

void sw_look_svg(FILE *to, const void *about)
{
    page p = { .look = about };

    if (choose_tiles(&p) && number_files(&p)) {
        lay_out(&p);
        draw_page(&p, to);
    } else {
        sw_refuse(p.look->err, SW_ENOMEM, NULL, "out of memory");
    }
    for (size_t i = 0; p.tiles && i < p.ntiles; i++)
        sw_tile_release(&p.tiles[i]);
    free(p.tiles);
    free(p.number);
}
