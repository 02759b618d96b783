/* From memory straight to the files, without MPI: each rank writes the rows of its own boxes to their places.
 *
 * The ranks' parts are disjoint, so no data go from rank to rank; short rows cost a write each. */
#ifndef SW_PAR_SCATTER_H
#define SW_PAR_SCATTER_H

#include "par/weld.h"

/* Collective over w->world. Write all files of the layout from w->held; outputs are copies and casts only. As
 * sw_weld_files(), which calls it. */
sw_code sw_scatter_files(sw_weld *w, sw_status *st);

#endif
