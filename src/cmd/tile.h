/* A panel of the picture: a tensor that stands for all of its group, and which part of it lies in
 * which shard file.
 *
 * Two dimensions are drawn, down and across: those that are cut, first of all. Further cut
 * dimensions make slices beside each other; dimensions that are not cut are not drawn, for each box
 * holds all of them. */
#ifndef SW_CMD_TILE_H
#define SW_CMD_TILE_H

#include "inspect.h"

/* Of a panel, in the picture's units: it is so wide, and at most so high. */
#define SW_TILE_WIDTH 400.0
#define SW_TILE_HEIGHT 360.0

/* Local. How high the panel of a group is; 0 where memory is short. */
double sw_tile_height(const sw_look *look, const sw_pattern *group);

/* Local. Write the panel's SVG at the place given.
 *   number  of each file in the legend, from 1 */
void sw_tile_draw(const sw_look *look, const sw_pattern *group, const uint64_t *number, double x, double y,
                  FILE *to);

/* ---- the pencil (inspect_svg.c) -------------------------------------------------------------- */

typedef struct sw_rect {
    double x, y, w, h;
} sw_rect;

/* Local. Begin a rectangle: the caller adds attributes, or content, and its end. How it looks is
 * told by its class, in one place. */
void sw_draw_rect(FILE *to, const char *class, const sw_rect *r);

/* Local. Begin a text, which the caller writes and ends with "</text>\n". */
void sw_draw_text(FILE *to, const char *class, double x, double y);

/* Local. Write a name in at most width columns; end: its end tells most. */
void sw_draw_name(FILE *to, const char *name, size_t width, bool end, sw_status *err);

/* Local. Write the fill of the file with this number. */
void sw_draw_colour(FILE *to, uint64_t number);

#endif
