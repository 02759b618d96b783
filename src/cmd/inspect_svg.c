/* A picture of a checkpoint: a legend of the files, and a panel for each tensor, or group of
 * tensors that are alike (tile.c). How everything looks is told by the style sheet in it. */
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
#define ACROSS_MIN 2u /* the legend wants that */
#define ACROSS_MAX 3u
#define PATH_MAX_SHOWN 90u
#define FILE_MAX_SHOWN 56u
#define FILES_SHOWN 24u /* in the legend: what is pointed at tells its own */

static const char style[] =
    "<style>\n"
    "text { font-family: Helvetica, Arial, sans-serif; font-size: 11px; fill: #222 }\n"
    ".page { fill: #fff } .path { font-size: 17px; font-weight: bold } .facts { font-size: 12px }\n"
    ".name { font-size: 13px; font-weight: bold } .words { font-size: 12px } .wrong { fill: #b00020 }\n"
    ".note { font-size: 10px; fill: #777 } .label { font-size: 10px; text-anchor: middle; fill: #222 }\n"
    ".cut { font-size: 9px; fill: #555; text-anchor: middle } .down { text-anchor: end }\n"
    /* no box is seen through the seams of its neighbours */
    ".box { shape-rendering: crispEdges } .frame { fill: none; stroke: #444 }\n"
    ".hole { fill: url(#missing) } .overlap { fill: url(#twice) } .elsewhere { fill: url(#unknown) }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "text { fill: #ddd } .page { fill: #16181d } .wrong { fill: #ff6b81 } .note { fill: #999 }\n"
    ".cut { fill: #aaa } .frame { stroke: #bbb }\n"
    "}\n"
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
    const sw_pattern **groups; /* that are drawn */
    size_t ngroups;
    const char *choice; /* how they were chosen, in words */
    uint64_t *number;   /* of each file in the legend; 0 = not in it */
    uint64_t nfiles;    /* in the legend */
    bool holes, overlaps, replicas, part;
    uint64_t across; /* panels beside each other */
    double *tops;    /* where each line of panels begins, and the last one ends */
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

void sw_draw_name(FILE *to, const char *name, size_t width, bool end, sw_status *err)
{
    char *clean = sw_clean_copy(name);

    if (clean) {
        sw_text_shorten(clean, width, end);
        sw_text_put(to, clean, SW_TEXT_XML);
    } else {
        sw_no_memory(err);
    }
    free(clean);
}

/* Of red, green or blue, which are 0, 8 and 4 twelfths of a turn away: how much of 255. */
static unsigned channel(double twelfths, double light)
{
    double at = fmod(twelfths, 12), way = fmin(at - 3, 9 - at);

    return (unsigned)lround(255 * (light - 0.62 * (1 - light) * fmax(-1, fmin(way, 1))));
}

void sw_draw_colour(FILE *to, uint64_t number)
{
    /* The hue goes on by the golden angle, so that neighbours differ most: from blue on, and round
     * without red, which says that something is missing. Dark text stays readable on it. */
    double turn = (25 + 310 * fmod((double)number * 0.6180339887498949, 1)) / 30;
    double light = 0.66 + 0.06 * (double)(number % 3);

    fprintf(to, " fill=\"#%02x%02x%02x\"", channel(turn, light), channel(turn + 8, light),
            channel(turn + 4, light));
}

/* ---- what is drawn --------------------------------------------------------------------------- */

/* --tensor chooses; else what is broken comes first, then what is sharded, and whole tensors only
 * where there is nothing else. */
static void choose(page *p)
{
    enum { BROKEN, SHARDED, WHOLE, NKINDS };
    const sw_look *look = p->look;
    bool all = look->args->tensors != NULL;
    size_t max = all ? PANELS_MAX : PANELS_DEFAULT;

    p->choice = all ? "those that --tensor chooses" : "no tensor is sharded; --tensor GLOB chooses others";
    for (int kind = BROKEN; kind < (all ? 1 : NKINDS) && (kind < WHOLE || !p->ngroups); kind++) {
        for (size_t i = 0; i < look->groups.n && p->ngroups < max; i++) {
            const sw_pattern *g = &look->groups.items[i];
            sw_tensor_info t;

            sw_checkpoint_tensor(look->cp, sw_look_first(look, g), &t);
            if (all || kind == (t.broken ? BROKEN : t.nboxes + t.nreplicas > 1 ? SHARDED : WHOLE))
                p->groups[p->ngroups++] = g;
        }
        if (kind == BROKEN && p->ngroups && !all)
            p->choice = "those that are broken, then those that are sharded; --tensor GLOB chooses others";
        else if (kind == SHARDED && p->ngroups && p->choice[0] == 'n')
            p->choice = "those that are sharded; --tensor GLOB chooses others";
    }
}

/* What is in the legend. Files are numbered in the order of their names, those that hold a part of
 * what is drawn. */
static void number_files(page *p)
{
    const sw_look *look = p->look;

    for (size_t i = 0; i < p->ngroups; i++) {
        uint64_t tensor = sw_look_first(look, p->groups[i]);
        sw_tensor_info t;

        sw_checkpoint_tensor(look->cp, tensor, &t);
        for (uint64_t k = 0; k < t.nboxes + t.nreplicas; k++) {
            sw_box_info b;

            sw_checkpoint_box(look->cp, tensor, k, &b);
            p->number[b.file] = 1;
        }
        p->holes = p->holes || t.holes;
        p->overlaps = p->overlaps || t.overlaps;
        p->replicas = p->replicas || t.nreplicas;
    }
    p->part = look->info.kind == SW_KIND_FILE && look->info.sharded;
    for (uint64_t f = 0; f < look->info.nfiles; f++)
        if (p->number[f])
            p->number[f] = ++p->nfiles;
}

/* The left edge of the i-th of what stands in columns. */
static double left_of(const page *p, uint64_t i)
{
    return MARGIN + (double)(i % p->across) * (SW_TILE_WIDTH + MARGIN);
}

/* ---- the legend ------------------------------------------------------------------------------ */

/* Which colour and number is which file. */
static void draw_files(const page *p, double y, FILE *to)
{
    for (uint64_t f = 0, i = 0; f < p->look->info.nfiles && i < FILES_SHOWN; f++) {
        sw_rect swatch = { left_of(p, i), y + LINE * (double)(i / p->across) - 10, 16, 12 };
        sw_file_info info;

        if (!p->number[f])
            continue;
        sw_checkpoint_file(p->look->cp, f, &info);
        sw_draw_rect(to, "file", &swatch);
        sw_draw_colour(to, p->number[f]);
        fputs("/>\n", to);
        sw_draw_text(to, "file", swatch.x + 22, swatch.y + 10);
        fprintf(to, "%" PRIu64 "  ", p->number[f]);
        sw_draw_name(to, info.name, FILE_MAX_SHOWN, false, p->look->err);
        fputs("</text>\n", to);
        i++;
    }
}

/* Words about patterns, and files that are not listed, below the others. */
static void draw_notes(const page *p, double y, FILE *to)
{
    const struct {
        bool there;
        const char *class, *words;
    } notes[] = {
        { p->holes, "hole", "missing: no shard file holds this part" },
        { p->overlaps, "overlap", "overlap: several boxes claim this part" },
        { p->part, "elsewhere", "not in this file" },
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
    if (p->nfiles > FILES_SHOWN) {
        sw_draw_text(to, "file", MARGIN + 22, y);
        fprintf(to, "and %" PRIu64 " more files: point at a box for its own</text>\n",
                p->nfiles - FILES_SHOWN);
    }
}

/* ---- the page -------------------------------------------------------------------------------- */

/* What the checkpoint is, and how what is shown of it was chosen. */
static void draw_head(const page *p, FILE *to)
{
    const sw_checkpoint_info *info = &p->look->info;
    char a[SW_NUMBER_TEXT], b[SW_NUMBER_TEXT], c[SW_NUMBER_TEXT], size[SW_SIZE_TEXT];

    sw_draw_text(to, "path", MARGIN, 34);
    sw_draw_name(to, p->look->args->input, PATH_MAX_SHOWN, true, p->look->err);
    fputs("</text>\n", to);
    sw_draw_text(to, "facts", MARGIN, 54);
    fprintf(to, "%s files, %s, %s tensors, %s parameters. %s: %zu of %zu (%s)</text>\n",
            sw_number_text(info->nfiles, a), sw_size_text(info->file_bytes, size),
            sw_number_text(info->ntensors, b), sw_count_text(info->parameters, c),
            p->look->groups.n < p->look->nchosen ? "Shown, of those that are alike the first" : "Shown",
            p->ngroups, p->look->groups.n, p->choice);
}

/* Where the lines of panels begin: each is as high as its highest panel. */
static void measure(page *p, double top)
{
    uint64_t line = 0;

    p->tops[0] = p->tops[1] = top;
    for (size_t i = 0; i < p->ngroups; i++) {
        double bottom = p->tops[line] + sw_tile_height(p->look, p->groups[i]) + MARGIN;

        p->tops[line + 1] = fmax(p->tops[line + 1], bottom);
        if ((i + 1) % p->across == 0 && i + 1 < p->ngroups) {
            line++;
            p->tops[line + 1] = p->tops[line];
        }
    }
}

/* The legend, and below it panels in lines. */
static void draw_page(page *p, FILE *to)
{
    uint64_t listed = p->nfiles < FILES_SHOWN ? p->nfiles : FILES_SHOWN;
    int notes = p->holes + p->overlaps + p->replicas + p->part + (p->nfiles > listed);
    double below = HEAD + LINE * (double)((listed + p->across - 1) / p->across + 1);
    double width = left_of(p, p->across - 1) + SW_TILE_WIDTH + MARGIN, height;

    measure(p, below + LINE * notes);
    height = p->tops[(p->ngroups + p->across - 1) / p->across];
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
            "viewBox=\"0 0 %.0f %.0f\">\n%s",
            width, height, width, height, style);
    draw_head(p, to);
    draw_files(p, HEAD + LINE, to);
    draw_notes(p, below, to);
    for (uint64_t i = 0; i < p->ngroups; i++)
        sw_tile_draw(p->look, p->groups[i], p->number, left_of(p, i), p->tops[i / p->across], to);
    fputs("</svg>\n", to);
}

void sw_look_svg(FILE *to, const void *about)
{
    const sw_look *look = about;
    page p = { .look = look };

    p.groups = sw_room(PANELS_MAX, sizeof *p.groups, look->err);
    p.tops = sw_room(PANELS_MAX, sizeof *p.tops, look->err);
    p.number = sw_room(look->info.nfiles, sizeof *p.number, look->err);
    if (p.groups && p.tops && p.number) {
        choose(&p);
        number_files(&p);
        p.across = p.ngroups < ACROSS_MAX ? ACROSS_MIN : ACROSS_MAX;
        draw_page(&p, to);
    }
    free(p.groups);
    free(p.tops);
    free(p.number);
}
