/* A panel of the picture: one tensor, and which part of it lies in which shard file.
 *
 * Two dimensions are drawn, down and across: those that are cut, first of all. Further cut
 * dimensions make slices beside each other; dimensions that are not cut are not drawn, for each box
 * holds all of them. */
#ifndef SW_CMD_TILE_H
#define SW_CMD_TILE_H

#include "inspect.h"

/* Of a panel, in the picture's units: what would go beyond is cut off. */
#define SW_TILE_WIDTH 400.0
#define SW_TILE_HEIGHT 360.0

/* Local. Write the panel's SVG at the place given.
 *   number  of each file in the legend, from 1 */
void sw_tile_draw(const sw_look *look, uint64_t tensor, const uint64_t *number, double x, double y, FILE *to);

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
