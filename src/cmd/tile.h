/* A picture of one tensor: which part of it lies in which shard file. For inspect_svg.c.
 *
 * Two dimensions are drawn, down and across: those that are cut, first of all. Further cut
 * dimensions make slices beside each other; dimensions that are not cut are not drawn, for each box
 * holds all of them. */
#ifndef SW_CMD_TILE_H
#define SW_CMD_TILE_H

#include "inspect.h"

#define SW_TILE_WIDTH 400.0 /* of a panel, in the picture's units */
#define SW_DIMS_MAX 32
#define SW_NO_DIM SW_DIMS_MAX

typedef struct sw_tile {
    const sw_look *look;
    uint64_t tensor;
    sw_tensor_info info;
    char words[SW_SHARDING_TEXT];
    bool part; /* of a shard file by itself: the rest is unknown, not missing */
    /* where boxes begin or end along each dimension, with its edges; owned */
    uint64_t *cuts[SW_DIMS_MAX];
    uint64_t ncuts[SW_DIMS_MAX];
    unsigned down, across;            /* the dimensions that are drawn; SW_NO_DIM = none */
    unsigned slice_dims[SW_DIMS_MAX]; /* further dimensions that are cut */
    unsigned nslice_dims;
    uint64_t nslices, shown; /* pictures beside each other */
    unsigned columns;
    double width, height; /* of one slice */
    bool to_scale;        /* its sides */
    double panel_height;
    double x, y; /* the panel's upper left corner: the caller's */
} sw_tile;

/* Local. What to draw, and how large it will be. Release it in any case. False: memory is short. */
bool sw_tile_init(sw_tile *t, const sw_look *look, uint64_t tensor);
void sw_tile_release(sw_tile *t);

/* Local. Write the panel's SVG.
 *   number  of each file in the legend, from 1
 * False: memory is short. */
bool sw_tile_draw(const sw_tile *t, const uint64_t *number, FILE *to);

/* Local. The colour of the file with this number: the hue goes on by the golden angle, so that
 * neighbours differ most. */
#define SW_COLOUR_TEXT 8
char *sw_colour_text(uint64_t number, char text[SW_COLOUR_TEXT]);

/* Local. Text as XML content or attribute, at most width code points (0 = any). False: memory is
 * short. */
bool sw_svg_text(const char *text, size_t width, FILE *to);

#endif
