/* One tensor, drawn; see tile.h. */
#include "tile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
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
#define ROW_MIN 14.0 /* a row that is cut off wants so much */
#define SIDE_MAX 360.0
#define BOXES_MAX UINT64_C(20000) /* that are drawn in one slice, and so many overlaps */
#define TITLE_MAX 54u
#define WORDS_MAX 68u
#define LABEL 9.0 /* font size of numbers */

/* ---- what is drawn --------------------------------------------------------------------------- */

static bool is_cut(const sw_tile *t, unsigned dim)
{
    return t->ncuts[dim] > 2;
}

/* Does this dimension make slices? */
static bool is_sliced(const sw_tile *t, unsigned dim)
{
    return is_cut(t, dim) && dim != t->down && dim != t->across;
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
    t->down = t->across = SW_NO_DIM;
    for (unsigned d = 0; d < t->info.ndim; d++) {
        if (is_cut(t, d)) {
            t->down = t->across;
            t->across = d;
        }
    }
    if (t->across == SW_NO_DIM)
        t->across = largest_other(t, SW_NO_DIM);
    if (t->down == SW_NO_DIM)
        t->down = largest_other(t, t->across);
    if (t->down != SW_NO_DIM && t->down > t->across) {
        unsigned d = t->down;

        t->down = t->across;
        t->across = d;
    }
}

static void measure_slice(sw_tile *t)
{
    double ratio, wanted;

    t->to_scale = true;
    if (t->down == SW_NO_DIM) {
        t->width /= t->across == SW_NO_DIM ? 4 : 1;
        t->height = t->across == SW_NO_DIM ? t->width : BAR;
        return;
    }
    ratio = (double)t->info.shape[t->down] / fmax(1, (double)t->info.shape[t->across]);
    wanted = fmin((double)(t->ncuts[t->down] - 1) * ROW_MIN, SIDE_MAX);
    t->height = fmax(t->width * fmin(fmax(ratio, RATIO_MIN), 1), wanted);
    t->to_scale = fabs(t->height - t->width * ratio) < 1;
}

static double line_height(const sw_tile *t)
{
    return t->height + FOOT + (t->nslices > 1 ? SLICE_HEAD : 0);
}

static void measure(sw_tile *t)
{
    t->nslices = 1;
    for (unsigned d = 0; d < t->info.ndim; d++)
        if (is_sliced(t, d) && t->nslices <= UINT32_MAX)
            t->nslices *= t->ncuts[d] - 1;
    t->shown = t->nslices < SLICES_MAX ? t->nslices : SLICES_MAX;
    t->columns = t->shown < COLUMNS_MAX ? (unsigned)t->shown : COLUMNS_MAX;
    t->width = (SW_TILE_WIDTH - LEFT - RIGHT - (t->columns - 1) * SLICE_GAP) / t->columns;
    measure_slice(t);
    t->panel_height = HEAD + (double)((t->shown + t->columns - 1) / t->columns) * line_height(t);
}

bool sw_tile_init(sw_tile *t, const sw_look *look, uint64_t tensor)
{
    *t = (sw_tile){ .look = look, .tensor = tensor };
    sw_checkpoint_tensor(look->cp, tensor, &t->info);
    t->part = look->info.kind == SW_KIND_FILE && look->info.sharded;
    for (unsigned d = 0; d < t->info.ndim; d++) {
        t->cuts[d] = calloc(2 * t->info.nboxes + 2, sizeof *t->cuts[d]);
        if (!t->cuts[d])
            return false;
        t->ncuts[d] = sw_checkpoint_cuts(look->cp, tensor, d, t->cuts[d]);
    }
    choose_dims(t);
    measure(t);
    return true;
}

void sw_tile_release(sw_tile *t)
{
    for (unsigned d = 0; d < SW_READ_DIMS; d++)
        free(t->cuts[d]);
    *t = (sw_tile){ .look = NULL };
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* One of the drawings beside each other. */
typedef struct slice {
    const sw_tile *t;
    double x, y;                 /* upper left corner */
    bool first;                  /* of its line */
    uint64_t low[SW_READ_DIMS];  /* the two cuts between which it shows each dimension */
    uint64_t high[SW_READ_DIMS]; /* that makes slices */
} slice;

static bool shows(const slice *s, const sw_box_info *b)
{
    for (unsigned d = 0; d < s->t->info.ndim; d++)
        if (is_sliced(s->t, d) && (b->offsets[d] > s->low[d] || b->offsets[d] + b->shape[d] < s->high[d]))
            return false;
    return true;
}

/* Where the share from offset to end of a drawn dimension lies on its side; all of the side where
 * none is drawn. */
static void place(const sw_tile *t, unsigned dim, const uint64_t *offsets, const uint64_t *ends, double *at,
                  double *side)
{
    double unit = dim == SW_NO_DIM ? 0 : *side / fmax(1, (double)t->info.shape[dim]);

    if (dim == SW_NO_DIM)
        return;
    *at += unit * (double)offsets[dim];
    *side = unit * (double)(ends[dim] - offsets[dim]);
}

static sw_rect rect_of(const slice *s, const uint64_t *offsets, const uint64_t *ends)
{
    sw_rect r = { s->x, s->y, s->t->width, s->t->height };

    place(s->t, s->t->across, offsets, ends, &r.x, &r.w);
    place(s->t, s->t->down, offsets, ends, &r.y, &r.h);
    return r;
}

/* The part that two boxes share. False: there is none. */
static bool intersect(const sw_tile *t, const sw_box_info *a, const sw_box_info *b, uint64_t *from,
                      uint64_t *to)
{
    for (unsigned d = 0; d < t->info.ndim; d++) {
        uint64_t end = a->offsets[d] + a->shape[d], other = b->offsets[d] + b->shape[d];

        from[d] = a->offsets[d] > b->offsets[d] ? a->offsets[d] : b->offsets[d];
        to[d] = end < other ? end : other;
        if (from[d] >= to[d])
            return false;
    }
    return true;
}

/* The numbers of the files that hold copies of a box, as far as there is room: "3 +7 +11", "3
 * x4". */
static void draw_label(const slice *s, const sw_box_info *b, const sw_rect *r, FILE *to)
{
    const sw_tile *t = s->t;
    uint64_t copies = 1;
    char label[64];
    size_t at = (size_t)snprintf(label, sizeof label, "%" PRIu64, t->number[b->file]);
    size_t size = t->info.ndim * sizeof *b->offsets, fits = r->w > 12 ? (size_t)((r->w - 8) / 6) : 0;

    fits = fits < sizeof label ? fits : sizeof label - 1;
    /* Most boxes of a large tensor are too small for any number: their copies are not looked
     * for. */
    if (r->h < LABEL + 1 || at > fits)
        return;
    for (uint64_t k = t->info.nboxes; k < t->info.nboxes + t->info.nreplicas; k++) {
        sw_box_info copy;

        sw_checkpoint_box(t->look->cp, t->tensor, k, &copy);
        if (memcmp(copy.offsets, b->offsets, size) != 0 || memcmp(copy.shape, b->shape, size) != 0)
            continue;
        copies++;
        if (at <= fits)
            at += (size_t)snprintf(label + at, sizeof label - at, " +%" PRIu64, t->number[copy.file]);
    }
    if (at > fits)
        at = (size_t)snprintf(label, sizeof label, "%" PRIu64 " x%" PRIu64, t->number[b->file], copies);
    if (at > fits)
        return;
    sw_draw_text(to, "label", r->x + r->w / 2, r->y + r->h / 2 + 3.5);
    fprintf(to, "%s</text>\n", label);
}

static void draw_box(const slice *s, const sw_box_info *b, FILE *to)
{
    const sw_tile *t = s->t;
    uint64_t ends[SW_READ_DIMS];
    sw_file_info f;
    sw_rect r;

    for (unsigned d = 0; d < t->info.ndim; d++)
        ends[d] = b->offsets[d] + b->shape[d];
    r = rect_of(s, b->offsets, ends);
    sw_checkpoint_file(t->look->cp, b->file, &f);
    sw_draw_rect(to, "box", &r);
    sw_draw_colour(to, t->number[b->file]);
    fputs(r.w < 4 || r.h < 4 ? "><title>" : " stroke=\"#fff\"><title>", to);
    sw_text_put(to, f.name, SW_TEXT_XML);
    fputs(": ", to);
    sw_dims_put(to, b->shape, t->info.ndim);
    fputs(" at ", to);
    sw_dims_put(to, b->offsets, t->info.ndim);
    fputs("</title></rect>\n", to);
    draw_label(s, b, &r, to);
}

/* What two boxes hold, each pair by itself. Boxes come by their offsets. */
static void draw_overlaps(const slice *s, FILE *to)
{
    const sw_tile *t = s->t;
    uint64_t from[SW_READ_DIMS], end[SW_READ_DIMS], drawn = 0;

    for (uint64_t i = 0; i < t->info.nboxes && i < BOXES_MAX; i++) {
        sw_box_info a, b;

        sw_checkpoint_box(t->look->cp, t->tensor, i, &a);
        for (uint64_t k = i + 1; shows(s, &a) && k < t->info.nboxes && k < BOXES_MAX; k++) {
            sw_rect r;

            sw_checkpoint_box(t->look->cp, t->tensor, k, &b);
            if (b.offsets[0] >= a.offsets[0] + a.shape[0] || drawn >= BOXES_MAX)
                break;
            if (!shows(s, &b) || !intersect(t, &a, &b, from, end))
                continue;
            r = rect_of(s, from, end);
            sw_draw_rect(to, "overlap", &r);
            fputs("><title>several boxes overlap here</title></rect>\n", to);
            drawn++;
        }
    }
}

/* ---- slices ---------------------------------------------------------------------------------- */

static double half_width(uint64_t n)
{
    return snprintf(NULL, 0, "%" PRIu64, n) * LABEL * 0.3;
}

/* The cuts along a drawn dimension, as many as there is room for; the ends always. */
static void draw_ruler(const slice *s, unsigned dim, FILE *to)
{
    const sw_tile *t = s->t;
    bool across = dim == t->across;
    double side = across ? t->width : t->height, gap = across ? 4 : 1, last = -1e9;

    for (uint64_t i = 0; i < t->ncuts[dim]; i++) {
        uint64_t n = t->cuts[dim][i], size = t->info.shape[dim];
        double at = size ? side * ((double)n / (double)size) : 0;
        double half = across ? half_width(n) : LABEL / 2;

        if (at - half < last ||
            (n != size && at + half + gap > side - (across ? half_width(size) : LABEL / 2)))
            continue;
        sw_draw_text(to, across ? "cut" : "cut down", across ? s->x + at : s->x - 5,
                     across ? s->y + t->height + LABEL + 3 : s->y + at + 3);
        fprintf(to, "%" PRIu64 "</text>\n", n);
        last = at + half + gap;
    }
}

/* "[0:4, :, :]" */
static void draw_slice_title(const slice *s, FILE *to)
{
    sw_draw_text(to, "note", s->x, s->y - 4);
    for (unsigned d = 0; d < s->t->info.ndim; d++) {
        fputs(d ? ", " : "[", to);
        if (is_sliced(s->t, d))
            fprintf(to, "%" PRIu64 ":%" PRIu64, s->low[d], s->high[d]);
        else
            fputc(':', to);
    }
    fputs("]</text>\n", to);
}

/* What no box covers stays to be seen of the ground: nothing, or that it is missing. */
static void draw_ground(const slice *s, FILE *to)
{
    const sw_rect frame = { s->x, s->y, s->t->width, s->t->height };

    if (!s->t->info.nboxes || (!s->t->part && !s->t->info.holes))
        return;
    sw_draw_rect(to, s->t->part ? "elsewhere" : "hole", &frame);
    fprintf(to, "><title>%s</title></rect>\n",
            s->t->part ? "in other files" : "no shard file holds this part");
}

static void draw_slice(const slice *s, FILE *to)
{
    const sw_tile *t = s->t;
    const sw_rect frame = { s->x, s->y, t->width, t->height };

    if (t->nslices > 1)
        draw_slice_title(s, to);
    draw_ground(s, to);
    for (uint64_t k = 0; k < t->info.nboxes && k < BOXES_MAX; k++) {
        sw_box_info b;

        sw_checkpoint_box(t->look->cp, t->tensor, k, &b);
        if (shows(s, &b))
            draw_box(s, &b, to);
    }
    if (t->info.overlaps)
        draw_overlaps(s, to);
    sw_draw_rect(to, "frame", &frame);
    fputs("/>\n", to);
    if (t->across != SW_NO_DIM)
        draw_ruler(s, t->across, to);
    if (t->down != SW_NO_DIM && s->first)
        draw_ruler(s, t->down, to);
}

/* The i-th slice: the last of the sliced dimensions goes fastest. */
static slice slice_of(const sw_tile *t, uint64_t i)
{
    slice s = { .t = t, .first = i % t->columns == 0 };

    s.x = t->x + LEFT + (double)(i % t->columns) * (t->width + SLICE_GAP);
    s.y = t->y + HEAD + (t->nslices > 1 ? SLICE_HEAD : 0) + (double)(i / t->columns) * line_height(t);
    for (unsigned d = t->info.ndim; d-- > 0;) {
        uint64_t parts = is_sliced(t, d) ? t->ncuts[d] - 1 : 1;

        s.low[d] = t->cuts[d][i % parts];
        s.high[d] = t->cuts[d][i % parts + 1];
        i /= parts;
    }
    return s;
}

/* ---- the panel ------------------------------------------------------------------------------- */

static void draw_title(const sw_tile *t, FILE *to)
{
    char words[SW_SHARDING_TEXT + 16], line[1024] = ""; /* room for 32 sizes */
    FILE *text = fmemopen(line, sizeof line, "w");

    if (!text) {
        sw_refuse(t->look->err, SW_ENOMEM, NULL, "out of memory");
        return;
    }
    sw_look_words(t->look, t->tensor, words);
    fprintf(text, "%s ", t->info.dtype);
    sw_dims_put(text, t->info.shape, t->info.ndim);
    fprintf(text, ": %s", words);
    fclose(text);
    sw_draw_text(to, "name", t->x, t->y + 14);
    sw_draw_name(to, t->info.name, TITLE_MAX, t->look->err);
    fputs("<title>", to);
    sw_text_put(to, t->info.name, SW_TEXT_XML);
    fputs("</title></text>\n", to);
    sw_draw_text(to, t->info.broken ? "words wrong" : "words", t->x, t->y + 31);
    sw_draw_name(to, line, WORDS_MAX, t->look->err);
    fputs("</text>\n", to);
}

/* What is drawn, where it is not plain. */
static void draw_note(const sw_tile *t, FILE *to)
{
    sw_draw_text(to, "note", t->x, t->y + 46);
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
        fprintf(to, "; the first %" PRIu64 " boxes only", BOXES_MAX);
    fputs("</text>\n", to);
}

void sw_tile_draw(const sw_tile *t, FILE *to)
{
    fputs("<g class=\"tensor\">\n", to);
    draw_title(t, to);
    draw_note(t, to);
    for (uint64_t i = 0; i < t->shown; i++) {
        const slice s = slice_of(t, i);

        draw_slice(&s, to);
    }
    fputs("</g>\n", to);
}
