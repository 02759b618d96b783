/* One tensor, drawn; see tile.h. */
#include "tile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "text.h"

#define NO_DIM SW_READ_DIMS

#define LEFT 58.0  /* room for the offsets along the vertical axis */
#define RIGHT 20.0 /* and for half a number at the other end */
#define HEAD 56.0  /* three lines of text, the third of which may be missing */
#define NOTE 14.0
#define FOOT 26.0 /* the offsets along the horizontal axis */
#define SLICE_GAP 16.0
#define SLICE_HEAD 16.0 /* the title of one of several */
#define SLICES_MAX 9u
#define COLUMNS_MAX 3u
#define SIDE_MIN 44.0             /* so high is a tensor of one dimension */
#define ROW_MIN 14.0              /* a row that is cut off wants so much */
#define BOXES_MAX UINT64_C(20000) /* that are drawn, and so many overlaps */
#define TITLE_MAX 54u
#define LABEL 9.0 /* font size of numbers */

/* ---- what is drawn --------------------------------------------------------------------------- */

typedef struct tile {
    const sw_look *look;
    const sw_pattern *group;
    uint64_t tensor; /* the one of it that is drawn */
    sw_tensor_info info;
    const uint64_t *number;
    bool part; /* of a shard file by itself: the rest is unknown, not missing */
    /* where boxes begin or end along each dimension, its edges among them; owned */
    uint64_t *cuts[SW_READ_DIMS];
    uint64_t ncuts[SW_READ_DIMS];
    unsigned down, across;   /* the dimensions that are drawn; NO_DIM = none */
    uint64_t nslices, shown; /* drawings beside each other, */
    unsigned columns;        /* so many in a line, */
    double head;             /* below so much for the title, */
    double line;             /* which is so high, its title */
    double title;            /* of that height included, */
    double width, height;    /* and the size of one */
} tile;

/* Does any box begin or end within this dimension? */
static bool is_cut(const tile *t, unsigned dim)
{
    return t->ncuts[dim] > 2;
}

/* Does this dimension make slices? */
static bool is_sliced(const tile *t, unsigned dim)
{
    return is_cut(t, dim) && dim != t->down && dim != t->across;
}

/* The largest dimension that is neither taken nor cut. */
static unsigned largest_other(const tile *t, unsigned taken)
{
    unsigned best = NO_DIM;

    for (unsigned d = 0; d < t->info.ndim; d++)
        if (d != taken && !is_cut(t, d) && (best == NO_DIM || t->info.shape[d] > t->info.shape[best]))
            best = d;
    return best;
}

/* The last two that are cut are drawn, those before them make slices; one that is cut is drawn with
 * the largest other. */
static void choose_dims(tile *t)
{
    t->down = t->across = NO_DIM;
    for (unsigned d = 0; d < t->info.ndim; d++) {
        if (is_cut(t, d)) {
            t->down = t->across;
            t->across = d;
        }
    }
    if (t->across == NO_DIM)
        t->across = largest_other(t, NO_DIM);
    if (t->down == NO_DIM)
        t->down = largest_other(t, t->across);
    if (t->down != NO_DIM && t->down > t->across) {
        unsigned d = t->down;

        t->down = t->across;
        t->across = d;
    }
}

/* So many lines take the drawings. */
static double lines_of(const tile *t)
{
    return (double)((t->shown + t->columns - 1) / t->columns);
}

/* Sides are in proportion, as far as there is room for that and for each row. */
static void measure(tile *t)
{
    bool flat = t->down == NO_DIM;
    double ratio, rows;

    t->nslices = 1;
    for (unsigned d = 0; d < t->info.ndim; d++)
        if (is_sliced(t, d) && t->nslices <= UINT32_MAX)
            t->nslices *= t->ncuts[d] - 1;
    t->shown = t->nslices < SLICES_MAX ? t->nslices : SLICES_MAX;
    t->columns = t->shown < COLUMNS_MAX ? (unsigned)t->shown : COLUMNS_MAX;
    t->width = (SW_TILE_WIDTH - LEFT - RIGHT - (t->columns - 1) * SLICE_GAP) / t->columns;
    /* is there something to be said of what is drawn? */
    t->head = t->info.nboxes == 0 || t->info.ndim > 2 || t->nslices > t->shown || t->info.nboxes > BOXES_MAX
                  ? HEAD
                  : HEAD - NOTE;
    t->title = t->nslices > 1 ? SLICE_HEAD : 0;
    t->line = (SW_TILE_HEIGHT - t->head) / lines_of(t);
    ratio = flat ? 0 : (double)t->info.shape[t->down] / fmax(1, (double)t->info.shape[t->across]);
    rows = flat ? 1 : (double)(t->ncuts[t->down] - 1);
    t->height = fmin(fmax(fmax(t->width * ratio, rows * ROW_MIN), SIDE_MIN), t->line - t->title - FOOT);
    t->line = t->title + t->height + FOOT;
}

/* Release with release(), after an error too. False: memory is short. */
static bool prepare(tile *t, const sw_look *look, const sw_pattern *group)
{
    *t = (tile){ .look = look, .group = group, .tensor = sw_look_first(look, group) };
    sw_checkpoint_tensor(look->cp, t->tensor, &t->info);
    t->part = look->info.kind == SW_KIND_FILE && look->info.sharded;
    for (unsigned d = 0; d < t->info.ndim; d++) {
        t->cuts[d] = sw_room(2 * t->info.nboxes + 1, sizeof *t->cuts[d], look->err);
        if (!t->cuts[d])
            return false;
        t->ncuts[d] = sw_checkpoint_cuts(t->look->cp, t->tensor, d, t->cuts[d]);
    }
    choose_dims(t);
    measure(t);
    return true;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

/* A part of the tensor: from here to there along each dimension. */
typedef struct span {
    uint64_t from[SW_READ_DIMS], to[SW_READ_DIMS];
} span;

/* One of the drawings beside each other: a part of the tensor, and where it lies. */
typedef struct slice {
    const tile *t;
    span span;
    sw_rect frame;
    bool first; /* of its line */
} slice;

/* What two parts share. False: nothing. */
static bool intersect(const tile *t, const span *a, const span *b, span *out)
{
    for (unsigned d = 0; d < t->info.ndim; d++) {
        out->from[d] = a->from[d] > b->from[d] ? a->from[d] : b->from[d];
        out->to[d] = a->to[d] < b->to[d] ? a->to[d] : b->to[d];
        if (out->from[d] >= out->to[d])
            return false;
    }
    return true;
}

/* A box, and what a slice shows of it. False: nothing. */
static bool see(const slice *s, uint64_t box, sw_box_info *b, span *out)
{
    span all;

    sw_checkpoint_box(s->t->look->cp, s->t->tensor, box, b);
    for (unsigned d = 0; d < s->t->info.ndim; d++) {
        all.from[d] = b->offsets[d];
        all.to[d] = b->offsets[d] + b->shape[d];
    }
    return intersect(s->t, &all, &s->span, out);
}

/* Where a part lies on one side of the frame. */
static void place(const tile *t, unsigned dim, const span *p, double *at, double *side)
{
    double unit;

    if (dim == NO_DIM)
        return;
    unit = *side / (double)t->info.shape[dim];
    *at += unit * (double)p->from[dim];
    *side = unit * (double)(p->to[dim] - p->from[dim]);
}

/* Where a part lies in its slice. */
static sw_rect rect_of(const slice *s, const span *p)
{
    sw_rect r = s->frame;

    place(s->t, s->t->across, p, &r.x, &r.w);
    place(s->t, s->t->down, p, &r.y, &r.h);
    return r;
}

/* The numbers of the files that hold copies of a box, as far as there is room: "3 +7 +11", "3
 * x4". */
static void draw_label(const tile *t, const sw_box_info *b, const sw_rect *r, FILE *to)
{
    uint64_t copies = 1;
    char label[64];
    size_t at = (size_t)snprintf(label, sizeof label, "%" PRIu64, t->number[b->file]);
    size_t size = t->info.ndim * sizeof *b->offsets;
    size_t fits = (size_t)fmin(fmax(0, (r->w - 8) / 6), sizeof label - 1);

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

/* One box in the colour of its file; pointing at it tells which file, and where. */
static void draw_box(const slice *s, uint64_t box, FILE *to)
{
    const tile *t = s->t;
    sw_file_info f;
    sw_box_info b;
    sw_rect r;
    span seen;

    if (!see(s, box, &b, &seen))
        return;
    r = rect_of(s, &seen);
    sw_checkpoint_file(t->look->cp, b.file, &f);
    sw_draw_rect(to, "box", &r);
    sw_draw_colour(to, t->number[b.file]);
    fputs(r.w < 4 || r.h < 4 ? "><title>" : " stroke=\"#fff\"><title>", to);
    sw_text_put(to, f.name, SW_TEXT_XML);
    fputs(": ", to);
    sw_dims_put(to, b.shape, t->info.ndim);
    fputs(" at ", to);
    sw_dims_put(to, b.offsets, t->info.ndim);
    fputs("</title></rect>\n", to);
    draw_label(t, &b, &r, to);
}

/* What two boxes hold, each pair by itself. Boxes come by their offsets. */
static void draw_overlaps(const slice *s, uint64_t nboxes, FILE *to)
{
    for (uint64_t i = 0, drawn = 0; i < nboxes; i++) {
        sw_box_info a, b;
        span one, other, both;

        if (!see(s, i, &a, &one))
            continue;
        for (uint64_t k = i + 1; k < nboxes && drawn < BOXES_MAX; k++) {
            sw_rect r;

            if (!see(s, k, &b, &other) || !intersect(s->t, &one, &other, &both)) {
                if (b.offsets[0] >= a.offsets[0] + a.shape[0])
                    break;
                continue;
            }
            r = rect_of(s, &both);
            sw_draw_rect(to, "overlap", &r);
            fputs("><title>several boxes overlap here</title></rect>\n", to);
            drawn++;
        }
    }
}

/* ---- slices ---------------------------------------------------------------------------------- */

/* The cuts along a drawn dimension, as many as there is room for; the ends always. */
static void draw_ruler(const slice *s, unsigned dim, FILE *to)
{
    bool across = dim == s->t->across;
    const sw_rect *f = &s->frame;
    uint64_t size = s->t->info.shape[dim];
    double side = across ? f->w : f->h, last = -1e9;
    double room = across ? snprintf(NULL, 0, "%" PRIu64, size) * LABEL * 0.6 + 4 : LABEL + 1;

    for (uint64_t i = 0; i < s->t->ncuts[dim]; i++) {
        uint64_t n = s->t->cuts[dim][i];
        double at = side * ((double)n / fmax(1, (double)size));

        if (n != size && (at < last + room || at > side - room))
            continue;
        sw_draw_text(to, across ? "cut" : "cut down", across ? f->x + at : f->x - 5,
                     across ? f->y + f->h + LABEL + 3 : f->y + at + 3);
        fprintf(to, "%" PRIu64 "</text>\n", n);
        last = at;
    }
}

/* "[0:4, :, :]" */
static void draw_slice_title(const slice *s, FILE *to)
{
    sw_draw_text(to, "note", s->frame.x, s->frame.y - 4);
    for (unsigned d = 0; d < s->t->info.ndim; d++) {
        fputs(d ? ", " : "[", to);
        if (is_sliced(s->t, d))
            fprintf(to, "%" PRIu64 ":%" PRIu64, s->span.from[d], s->span.to[d]);
        else
            fputc(':', to);
    }
    fputs("]</text>\n", to);
}

/* From the ground up: what is missing, the boxes, what several hold, numbers at the cuts. */
static void draw_slice(const slice *s, FILE *to)
{
    const tile *t = s->t;
    uint64_t nboxes = t->info.nboxes < BOXES_MAX ? t->info.nboxes : BOXES_MAX;

    if (t->nslices > 1)
        draw_slice_title(s, to);
    /* What no box covers stays to be seen of the ground. */
    if (nboxes && (t->part || t->info.holes)) {
        sw_draw_rect(to, t->part ? "elsewhere" : "hole", &s->frame);
        fprintf(to, "><title>%s</title></rect>\n",
                t->part ? "in other files" : "no shard file holds this part");
    }
    for (uint64_t k = 0; k < nboxes; k++)
        draw_box(s, k, to);
    if (t->info.overlaps)
        draw_overlaps(s, nboxes, to);
    sw_draw_rect(to, "frame", &s->frame);
    fputs("/>\n", to);
    if (t->across != NO_DIM)
        draw_ruler(s, t->across, to);
    if (t->down != NO_DIM && s->first)
        draw_ruler(s, t->down, to);
}

/* The i-th slice: the last of the sliced dimensions goes fastest. */
static slice slice_of(const tile *t, uint64_t i)
{
    slice s = { .t = t, .first = i % t->columns == 0 };

    s.frame = (sw_rect){ LEFT + (double)(i % t->columns) * (t->width + SLICE_GAP),
                         t->head + t->title + (double)(i / t->columns) * t->line, t->width, t->height };
    for (unsigned d = t->info.ndim; d-- > 0;) {
        uint64_t parts = is_sliced(t, d) ? t->ncuts[d] - 1 : 1, at = i % parts;

        s.span.from[d] = parts > 1 ? t->cuts[d][at] : 0;
        s.span.to[d] = parts > 1 ? t->cuts[d][at + 1] : t->info.shape[d];
        i /= parts;
    }
    return s;
}

/* ---- the panel ------------------------------------------------------------------------------- */

static void release(tile *t)
{
    for (unsigned d = 0; d < t->info.ndim; d++)
        free(t->cuts[d]);
}

/* The name, and how it is sharded. */
static void draw_title(const tile *t, FILE *to)
{
    char n[SW_NUMBER_TEXT];

    sw_draw_text(to, "name", 0, 14);
    sw_draw_name(to, t->group->name, TITLE_MAX, true, t->look->err);
    fputs("<title>", to);
    sw_text_put(to, t->group->name, SW_TEXT_XML);
    fputs("</title></text>\n", to);
    sw_draw_text(to, t->info.broken ? "words wrong" : "words", 0, 31);
    fprintf(to, "%s%s%s ", t->group->count > 1 ? sw_number_text(t->group->count, n) : "",
            t->group->count > 1 ? " x " : "", t->info.dtype);
    sw_dims_put(to, t->info.shape, t->info.ndim);
    fprintf(to, ": %s</text>\n", t->look->words[t->group->first]);
}

/* What is drawn, where it is not plain. */
static void draw_note(const tile *t, FILE *to)
{
    sw_draw_text(to, "note", 0, 46);
    if (t->info.nboxes == 0)
        fputs("no elements", to);
    else if (t->info.ndim > 2)
        fprintf(to, "dimension %u down, %u across; %s", t->down, t->across,
                t->nslices > 1 ? "slices of the others" : "the others are not cut");
    if (t->nslices > t->shown)
        fprintf(to, ", %" PRIu64 " not shown", t->nslices - t->shown);
    if (t->info.nboxes > BOXES_MAX)
        fprintf(to, "; the first %" PRIu64 " boxes only", BOXES_MAX);
    fputs("</text>\n", to);
}

/* Of a panel whose measures are known. */
static double height_of(const tile *t)
{
    return t->head + lines_of(t) * t->line;
}

double sw_tile_height(const sw_look *look, const sw_pattern *group)
{
    tile t;
    double height = prepare(&t, look, group) ? height_of(&t) : 0;

    release(&t);
    return height;
}

void sw_tile_draw(const sw_look *look, const sw_pattern *group, const uint64_t *number, double x, double y,
                  FILE *to)
{
    tile t;

    if (prepare(&t, look, group)) {
        t.number = number;
        fprintf(to, "<svg class=\"tensor\" x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\">\n", x, y,
                SW_TILE_WIDTH, height_of(&t));
        draw_title(&t, to);
        draw_note(&t, to);
        for (uint64_t i = 0; i < t.shown; i++) {
            const slice s = slice_of(&t, i);

            draw_slice(&s, to);
        }
        fputs("</svg>\n", to);
    }
    release(&t);
}
