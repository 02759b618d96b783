/* A panel of the picture: one tensor, and which part of it lies in which shard file.
 *
 * Two dimensions are drawn, down and across: those that are cut, first of all. Further cut
 * dimensions make slices beside each other; dimensions that are not cut are not drawn, for each box
 * holds all of them. */
#ifndef SW_CMD_TILE_H
#define SW_CMD_TILE_H

#include "inspect.h"

#define SW_TILE_WIDTH 400.0 /* of a panel, in the picture's units */
#define SW_NO_DIM SW_READ_DIMS

typedef struct sw_tile {
    const sw_look *look;
    uint64_t tensor;
    sw_tensor_info info;
    bool part; /* of a shard file by itself: the rest is unknown, not missing */
    /* where boxes begin or end along each dimension, its edges among them; owned */
    uint64_t *cuts[SW_READ_DIMS];
    uint64_t ncuts[SW_READ_DIMS];
    unsigned down, across;   /* the dimensions that are drawn; SW_NO_DIM = none */
    uint64_t nslices, shown; /* drawings beside each other */
    unsigned columns;        /* of them */
    double width, height;    /* of one */
    bool to_scale;           /* its sides */
    double panel_height;
    double x, y;            /* the panel's upper left corner: the caller's */
    const uint64_t *number; /* of each file in the legend, from 1: the caller's */
} sw_tile;

/* Local. What to draw, and how large it will be. Release it in any case. False: memory is short. */
bool sw_tile_init(sw_tile *t, const sw_look *look, uint64_t tensor);
void sw_tile_release(sw_tile *t);

/* Local. Write the panel's SVG. */
void sw_tile_draw(const sw_tile *t, FILE *to);

/* ---- the pencil (inspect_svg.c) -------------------------------------------------------------- */

typedef struct sw_rect {
    double x, y, w, h;
} sw_rect;

/* Local. Begin a rectangle: the caller adds attributes, or content, and its end. How it looks is
 * told by its class, in one place. */
void sw_draw_rect(FILE *to, const char *class, const sw_rect *r);

/* Local. Begin a text, which the caller writes and ends with "</text>\n". */
void sw_draw_text(FILE *to, const char *class, double x, double y);

/* Local. Write a name in at most width columns. */
void sw_draw_name(FILE *to, const char *name, size_t width, sw_status *err);

/* Local. Write the fill of the file with this number. */
void sw_draw_colour(FILE *to, uint64_t number);

#endif
