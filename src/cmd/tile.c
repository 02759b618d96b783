/* One tensor, drawn; see tile.h. */
#include "tile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define LEFT 58.0  /* room for the offsets along the vertical axis */
#define RIGHT 12.0 /* and for half a number at the other end */
#define HEAD 62.0  /* three lines of text */
#define FOOT 26.0  /* the offsets along the horizontal axis */
#define BAR 44.0   /* height of a tensor of one dimension */
#define SLICE_GAP 16.0
#define SLICE_HEAD 16.0
#define SLICES_MAX 12u
#define COLUMNS_MAX 3u
#define RATIO_MIN 0.25
#define RATIO_MAX 1.0
#define ROW_MIN 14.0 /* a row that is cut off wants so much */
#define SIDE_MAX 360.0
#define CELLS_MAX (UINT64_C(1) << 22)
#define BOXES_MAX 20000u
#define TITLE_MAX 54u
#define NOTE_MAX 68u
#define LABEL 9.0 /* font size of numbers */

/* ---- geometry -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static bool find_cuts(sw_tile *t, unsigned dim)
{
    t->cuts[dim] = calloc(2 * t->info.nboxes + 2, sizeof *t->cuts[dim]);
    if (t->cuts[dim])
        t->ncuts[dim] = sw_checkpoint_cuts(t->look->cp, t->tensor, dim, t->cuts[dim]);
    return t->cuts[dim] != NULL;
}

static bool is_cut(const sw_tile *t, unsigned dim)
{
    return t->ncuts[dim] > 2;
}

/* The largest dimension that is neither taken nor cut. */
static unsigned largest_other(const sw_tile *t, unsigned taken)
{
    unsigned best = SW_NO_DIM;

    for (unsigned d = 0; d < t->info.ndim; d++)
        if (d != taken && !is_cut(t, d) && (best == SW_NO_DIM || t->info.shape[d] > t->info.shape[best]))
            best = d;
    return best;
}

/* The last two that are cut are drawn, those before them make slices; one that is cut is drawn with
 * the largest other. */
static void choose_dims(sw_tile *t)
{
    unsigned cut[SW_DIMS_MAX], n = 0;

    t->down = t->across = SW_NO_DIM;
    for (unsigned d = 0; d < t->info.ndim; d++)
        if (is_cut(t, d))
            cut[n++] = d;
    if (n == 0 && t->info.ndim)
        cut[n++] = largest_other(t, SW_NO_DIM);
    if (n == 0)
        return;
    t->across = cut[n - 1];
    t->down = n > 1 ? cut[n - 2] : largest_other(t, t->across);
    if (t->down != SW_NO_DIM && t->down > t->across) {
        unsigned d = t->down;

        t->down = t->across;
        t->across = d;
    }
    for (unsigned i = 0; i + 2 < n; i++)
        t->slice_dims[t->nslice_dims++] = cut[i];
}

static void measure_slice(sw_tile *t)
{
    double ratio, wanted;

    t->to_scale = true;
    if (t->down == SW_NO_DIM) {
        t->height = t->across == SW_NO_DIM ? t->width / 4 : BAR;
        t->width = t->across == SW_NO_DIM ? t->width / 4 : t->width;
        return;
    }
    ratio = (double)t->info.shape[t->down] / fmax(1, (double)t->info.shape[t->across]);
    t->height = t->width * fmin(fmax(ratio, RATIO_MIN), RATIO_MAX);
    wanted = fmin((double)(t->ncuts[t->down] - 1) * ROW_MIN, SIDE_MAX);
    t->height = fmax(t->height, wanted);
    t->to_scale = fabs(t->height - t->width * ratio) < 1;
}

static void measure(sw_tile *t)
{
    uint64_t lines;

    t->nslices = 1;
    for (unsigned i = 0; i < t->nslice_dims; i++)
        t->nslices = t->nslices > UINT32_MAX ? t->nslices : t->nslices * (t->ncuts[t->slice_dims[i]] - 1);
    t->shown = t->nslices < SLICES_MAX ? t->nslices : SLICES_MAX;
    t->columns = t->shown < COLUMNS_MAX ? (unsigned)t->shown : COLUMNS_MAX;
    t->width = (SW_TILE_WIDTH - LEFT - RIGHT - (t->columns - 1) * SLICE_GAP) / t->columns;
    measure_slice(t);
    lines = (t->shown + t->columns - 1) / t->columns;
    t->panel_height = HEAD + (double)lines * (t->height + FOOT + (t->nslices > 1 ? SLICE_HEAD : 0));
}

bool sw_tile_init(sw_tile *t, const sw_look *look, uint64_t tensor)
{
    sw_status st = SW_STATUS_INIT;

    *t = (sw_tile){ .look = look, .tensor = tensor };
    sw_checkpoint_tensor(look->cp, tensor, &t->info);
    t->part = look->info.kind == SW_KIND_FILE && look->info.sharded;
    if (sw_checkpoint_sharding_text(look->cp, tensor, t->words, &st))
        return false;
    for (unsigned d = 0; d < t->info.ndim; d++)
        if (!find_cuts(t, d))
            return false;
    choose_dims(t);
    measure(t);
    return true;
}

void sw_tile_release(sw_tile *t)
{
    for (unsigned d = 0; d < SW_DIMS_MAX; d++)
        free(t->cuts[d]);
    *t = (sw_tile){ .look = NULL };
}

/* ---- text and colour ------------------------------------------------------------------------- */

bool sw_svg_text(const char *text, size_t width, FILE *to)
{
    char *clean = sw_clean_copy(text);

    if (!clean)
        return false;
    if (width)
        sw_text_shorten(clean, width);
    for (const char *c = clean; *c; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", to);
            break;
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        default:
            fputc(*c, to);
        }
    }
    free(clean);
    return true;
}

/* One of red, green and blue, of a hue in degrees. */
static unsigned channel(double hue, double saturation, double light, double offset)
{
    double k = fmod(offset + hue / 30, 12);
    double a = saturation * fmin(light, 1 - light);
    double value = light - a * fmax(-1, fmin(fmin(k - 3, 9 - k), 1));

    return (unsigned)lround(255 * value);
}

char *sw_colour_text(uint64_t number, char text[SW_COLOUR_TEXT])
{
    /* From blue on, and round without red, which says that something is missing. */
    double turn = fmod((double)number * 0.6180339887498949, 1), hue = 25 + 310 * turn;
    double light = 0.66 + 0.06 * (double)(number % 3); /* dark text stays readable on it */

    snprintf(text, SW_COLOUR_TEXT, "#%02x%02x%02x", channel(hue, 0.62, light, 0) & 0xff,
             channel(hue, 0.62, light, 8) & 0xff, channel(hue, 0.62, light, 4) & 0xff);
    return text;
}

/* ---- a slice --------------------------------------------------------------------------------- */

/* One of the pictures beside each other. */
typedef struct slice {
    const sw_tile *t;
    const uint64_t *number;
    double x, y;               /* upper left corner */
    uint64_t low[SW_DIMS_MAX]; /* of each dimension that makes slices */
    uint64_t high[SW_DIMS_MAX];
    /* of the boxes over each cell, row by row, at most 2; NULL = there are too many cells */
    uint8_t *count;
} slice;

/* Which part of each slicing dimension the i-th slice shows. */
static void place_slice(slice *s, uint64_t i)
{
    const sw_tile *t = s->t;

    for (unsigned k = t->nslice_dims; k-- > 0;) {
        unsigned d = t->slice_dims[k];
        uint64_t parts = t->ncuts[d] - 1, at = i % parts;

        s->low[d] = t->cuts[d][at];
        s->high[d] = t->cuts[d][at + 1];
        i /= parts;
    }
}

static bool shows(const slice *s, const sw_box_info *b)
{
    for (unsigned k = 0; k < s->t->nslice_dims; k++) {
        unsigned d = s->t->slice_dims[k];

        if (b->offsets[d] > s->low[d] || b->offsets[d] + b->shape[d] < s->high[d])
            return false;
    }
    return true;
}

/* Where an offset along a drawn dimension lies, from 0 to side. */
static double place(const sw_tile *t, unsigned dim, uint64_t offset, double side)
{
    return t->info.shape[dim] ? side * ((double)offset / (double)t->info.shape[dim]) : 0;
}

typedef struct rect {
    double x, y, w, h;
} rect;

/* Between these offsets along the drawn dimensions. */
static rect rect_of(const slice *s, uint64_t top, uint64_t bottom, uint64_t left, uint64_t right)
{
    const sw_tile *t = s->t;
    rect r = { s->x, s->y, t->width, t->height };

    if (t->across != SW_NO_DIM) {
        r.x = s->x + place(t, t->across, left, t->width);
        r.w = s->x + place(t, t->across, right, t->width) - r.x;
    }
    if (t->down != SW_NO_DIM) {
        r.y = s->y + place(t, t->down, top, t->height);
        r.h = s->y + place(t, t->down, bottom, t->height) - r.y;
    }
    return r;
}

static rect rect_of_box(const slice *s, const sw_box_info *b)
{
    unsigned down = s->t->down, across = s->t->across;
    uint64_t top = down == SW_NO_DIM ? 0 : b->offsets[down],
             left = across == SW_NO_DIM ? 0 : b->offsets[across];

    return rect_of(s, top, down == SW_NO_DIM ? 0 : top + b->shape[down], left,
                   across == SW_NO_DIM ? 0 : left + b->shape[across]);
}

static void put_rect(const rect *r, FILE *to)
{
    fprintf(to, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"", r->x, r->y, r->w, r->h);
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* The numbers of the files that hold copies of a box, as far as there is room: "3 +7 +11", "3
 * x4". */
static void box_label(const slice *s, const sw_box_info *b, double room, char *text, size_t n)
{
    const sw_tile *t = s->t;
    uint64_t copies = 1;
    size_t at = (size_t)snprintf(text, n, "%" PRIu64, s->number[b->file]);
    size_t size = t->info.ndim * sizeof *b->offsets, fits = room > 12 ? (size_t)((room - 8) / 6) : 0;
    char shorter[32];

    /* Most boxes of a large tensor are too small for any number: their copies are not looked
     * for. */
    if (at > fits) {
        text[0] = '\0';
        return;
    }
    for (uint64_t k = t->info.nboxes; k < t->info.nboxes + t->info.nreplicas; k++) {
        sw_box_info r;

        sw_checkpoint_box(t->look->cp, t->tensor, k, &r);
        if (memcmp(r.offsets, b->offsets, size) != 0 || memcmp(r.shape, b->shape, size) != 0)
            continue;
        copies++;
        if (at <= fits && at < n)
            at += (size_t)snprintf(text + at, n - at, " +%" PRIu64, s->number[r.file]);
    }
    if (copies > 1 && (at > fits || at >= n)) {
        snprintf(shorter, sizeof shorter, "%" PRIu64 " x%" PRIu64, s->number[b->file], copies);
        snprintf(text, n, "%s", shorter);
    }
    if (strlen(text) > fits)
        text[0] = '\0';
}

static bool draw_box(const slice *s, uint64_t box, FILE *to)
{
    const sw_tile *t = s->t;
    char colour[SW_COLOUR_TEXT], label[64] = "", *offsets = NULL, *shape = NULL;
    sw_file_info f;
    sw_box_info b;
    bool good;
    rect r;

    sw_checkpoint_box(t->look->cp, t->tensor, box, &b);
    if (!shows(s, &b))
        return true;
    sw_checkpoint_file(t->look->cp, b.file, &f);
    r = rect_of_box(s, &b);
    offsets = sw_shape_text(b.offsets, t->info.ndim);
    shape = sw_shape_text(b.shape, t->info.ndim);
    put_rect(&r, to);
    fprintf(to, " class=\"box\" fill=\"%s\" stroke=\"#fff\" stroke-width=\"%s\"%s><title>",
            sw_colour_text(s->number[b.file], colour), r.w < 4 || r.h < 4 ? "0" : "1",
            t->info.overlaps ? " fill-opacity=\"0.6\"" : "");
    good = offsets && shape && sw_svg_text(f.name, 0, to);
    if (good)
        fprintf(to, ": %s at %s</title></rect>\n", shape, offsets);
    if (r.h >= LABEL + 1)
        box_label(s, &b, r.w, label, sizeof label);
    if (label[0])
        fprintf(
            to,
            "<text x=\"%.2f\" y=\"%.2f\" font-size=\"10\" text-anchor=\"middle\" fill=\"#111\">%s</text>\n",
            r.x + r.w / 2, r.y + r.h / 2 + 3.5, label);
    free(offsets);
    free(shape);
    return good;
}

/* ---- holes and overlaps ---------------------------------------------------------------------- */

static uint64_t parts(const sw_tile *t, unsigned dim)
{
    return dim == SW_NO_DIM ? 1 : t->ncuts[dim] - 1;
}

/* The index of a cut. */
static uint64_t cut_index(const sw_tile *t, unsigned dim, uint64_t offset)
{
    const uint64_t *at = bsearch(&offset, t->cuts[dim], t->ncuts[dim], sizeof *at, by_value);

    return (uint64_t)(at - t->cuts[dim]);
}

/* The cells from *first to before *end that a box covers along a drawn dimension. */
static void covered(const sw_tile *t, const sw_box_info *b, unsigned dim, uint64_t *first, uint64_t *end)
{
    *first = 0;
    *end = 1;
    if (dim == SW_NO_DIM)
        return;
    *first = cut_index(t, dim, b->offsets[dim]);
    *end = cut_index(t, dim, b->offsets[dim] + b->shape[dim]);
}

/* How many boxes lie over each cell. */
static bool count_cells(slice *s)
{
    const sw_tile *t = s->t;
    uint64_t rows = parts(t, t->down), columns = parts(t, t->across);

    if (columns == 0 || rows > CELLS_MAX / columns)
        return true;
    s->count = calloc(rows * columns + 1, sizeof *s->count);
    for (uint64_t k = 0; s->count && k < t->info.nboxes; k++) {
        uint64_t row, bottom, left, right;
        sw_box_info b;

        sw_checkpoint_box(t->look->cp, t->tensor, k, &b);
        if (!shows(s, &b))
            continue;
        covered(t, &b, t->down, &row, &bottom);
        covered(t, &b, t->across, &left, &right);
        for (; row < bottom; row++)
            for (uint64_t column = left; column < right; column++)
                if (s->count[row * columns + column] < 2)
                    s->count[row * columns + column]++;
    }
    return s->count != NULL;
}

static uint64_t cut_at(const sw_tile *t, unsigned dim, uint64_t i)
{
    return dim == SW_NO_DIM ? 0 : t->cuts[dim][i];
}

/* Cells without a box, and with more than one, in rows as long as they go on. */
static void draw_cells(const slice *s, bool holes, FILE *to)
{
    const sw_tile *t = s->t;
    uint64_t rows = parts(t, t->down), columns = parts(t, t->across);
    const char *class = !holes ? "overlap" : t->part ? "elsewhere" : "hole";

    for (uint64_t row = 0; s->count && row < rows; row++) {
        for (uint64_t column = 0, end; column < columns; column = end) {
            const uint8_t *count = s->count + row * columns;
            rect r;

            end = column + 1;
            if (holes ? count[column] != 0 : count[column] < 2)
                continue;
            while (end < columns && (holes ? count[end] == 0 : count[end] > 1))
                end++;
            r = rect_of(s, cut_at(t, t->down, row), cut_at(t, t->down, t->down == SW_NO_DIM ? 0 : row + 1),
                        cut_at(t, t->across, column), cut_at(t, t->across, t->across == SW_NO_DIM ? 0 : end));
            put_rect(&r, to);
            fprintf(to, " class=\"%s\" fill=\"url(#%s)\"><title>%s</title></rect>\n", class, class,
                    !holes    ? "several boxes overlap here"
                    : t->part ? "in other files"
                              : "no shard file holds this part");
        }
    }
}

/* ---- numbers at the cuts --------------------------------------------------------------------- */

static double number_width(uint64_t n)
{
    return (double)snprintf(NULL, 0, "%" PRIu64, n) * LABEL * 0.6;
}

static void put_number(double x, double y, const char *anchor, uint64_t n, FILE *to)
{
    fprintf(to,
            "<text x=\"%.2f\" y=\"%.2f\" font-size=\"%.0f\" text-anchor=\"%s\" fill=\"#555\">%" PRIu64
            "</text>\n",
            x, y, LABEL, anchor, n);
}

/* As many as there is room for; the ends always. */
static void draw_rulers(const slice *s, bool first_column, FILE *to)
{
    const sw_tile *t = s->t;
    double last = -1e9;

    for (uint64_t i = 0; t->across != SW_NO_DIM && i < t->ncuts[t->across]; i++) {
        uint64_t n = t->cuts[t->across][i], size = t->info.shape[t->across];
        double x = place(t, t->across, n, t->width), half = number_width(n) / 2;

        if (x - half < last || (n != size && x + half + 4 > t->width - number_width(size) / 2))
            continue;
        put_number(s->x + x, s->y + t->height + LABEL + 3, "middle", n, to);
        last = x + half + 4;
    }
    last = -1e9;
    for (uint64_t i = 0; first_column && t->down != SW_NO_DIM && i < t->ncuts[t->down]; i++) {
        uint64_t n = t->cuts[t->down][i], size = t->info.shape[t->down];
        double y = place(t, t->down, n, t->height);

        if (y < last || (n != size && y + LABEL + 1 > t->height))
            continue;
        put_number(s->x - 5, s->y + y + 3, "end", n, to);
        last = y + LABEL + 1;
    }
}

/* ---- the panel ------------------------------------------------------------------------------- */

/* "slice [0:4, :, :]" */
static void draw_slice_title(const slice *s, FILE *to)
{
    const sw_tile *t = s->t;

    fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"10\" fill=\"#333\">[", s->x, s->y - 4);
    for (unsigned d = 0; d < t->info.ndim; d++) {
        bool sliced = false;

        for (unsigned k = 0; k < t->nslice_dims; k++)
            sliced = sliced || t->slice_dims[k] == d;
        if (sliced)
            fprintf(to, "%s%" PRIu64 ":%" PRIu64, d ? ", " : "", s->low[d], s->high[d]);
        else
            fprintf(to, "%s:", d ? ", " : "");
    }
    fputs("]</text>\n", to);
}

static bool draw_slice(const sw_tile *t, const uint64_t *number, uint64_t i, double x, double y, FILE *to)
{
    slice s = { .t = t, .number = number, .x = x, .y = y };
    rect frame = { x, y, t->width, t->height };
    bool good = true;

    place_slice(&s, i);
    if (t->nslices > 1)
        draw_slice_title(&s, to);
    if (t->info.nboxes && !count_cells(&s))
        return false;
    draw_cells(&s, true, to);
    for (uint64_t k = 0; good && k < t->info.nboxes && k < BOXES_MAX; k++)
        good = draw_box(&s, k, to);
    if (t->info.overlaps)
        draw_cells(&s, false, to);
    put_rect(&frame, to);
    fputs(" fill=\"none\" stroke=\"#444\" stroke-width=\"1\"/>\n", to);
    draw_rulers(&s, i % t->columns == 0, to);
    free(s.count);
    return good;
}

static bool draw_title(const sw_tile *t, FILE *to)
{
    char *shape = sw_shape_text(t->info.shape, t->info.ndim), *line = NULL;
    bool good, written;

    fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"13\" font-weight=\"bold\" fill=\"#111\">", t->x,
            t->y + 14);
    good = shape && sw_svg_text(t->info.name, TITLE_MAX, to);
    fputs("<title>", to);
    good = good && sw_svg_text(t->info.name, 0, to);
    fputs("</title></text>\n", to);
    written = good && asprintf(&line, "%s %s: %s%s", t->info.dtype, shape, t->words,
                               t->info.broken && !t->info.holes && !t->info.overlaps ? ", broken" : "") >= 0;
    fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"12\" fill=\"%s\">", t->x, t->y + 31,
            t->info.broken ? "#b00020" : "#333");
    good = written && sw_svg_text(line, NOTE_MAX, to);
    fputs("</text>\n", to);
    if (written)
        free(line);
    free(shape);
    return good;
}

/* What is drawn, where it is not plain. */
static void draw_note(const sw_tile *t, FILE *to)
{
    fprintf(to, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"10\" fill=\"#777\">", t->x, t->y + 46);
    if (t->info.nboxes == 0)
        fputs("no elements", to);
    else if (t->info.ndim > 2 && t->down != SW_NO_DIM)
        fprintf(to, "down: dimension %u, across: dimension %u%s", t->down, t->across,
                t->nslices > 1 ? ", in slices of the others" : ", the others are not cut");
    if (t->info.nboxes && t->nslices > t->shown)
        fprintf(to, "; %" PRIu64 " more slices are not shown", t->nslices - t->shown);
    if (t->info.nboxes && !t->to_scale)
        fprintf(to, "%ssides not to one scale", t->info.ndim > 2 ? "; " : "");
    if (t->info.nboxes > BOXES_MAX)
        fprintf(to, "; the first %u boxes only", BOXES_MAX);
    fputs("</text>\n", to);
}

bool sw_tile_draw(const sw_tile *t, const uint64_t *number, FILE *to)
{
    double line = t->height + FOOT + (t->nslices > 1 ? SLICE_HEAD : 0);
    bool good;

    fputs("<g class=\"tensor\">\n", to);
    good = draw_title(t, to);
    draw_note(t, to);
    for (uint64_t i = 0; good && i < t->shown; i++)
        good =
            draw_slice(t, number, i, t->x + LEFT + (double)(i % t->columns) * (t->width + SLICE_GAP),
                       t->y + HEAD + (t->nslices > 1 ? SLICE_HEAD : 0) + (double)(i / t->columns) * line, to);
    fputs("</g>\n", to);
    return good;
}
