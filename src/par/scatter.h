/* From memory straight to the files: each rank writes its own boxes to their places, and the
 * headers of the files that it makes.
 *
 * The ranks' parts are disjoint, so no data go from rank to rank; short rows cost a write each.
 * What a rank needs to know for it are a few numbers for each of its boxes. */
#ifndef SW_PAR_SCATTER_H
#define SW_PAR_SCATTER_H

#include "par/weld.h"

/* A box, and where it is written. It can be sent as it lies. */
typedef struct sw_spot {
    uint64_t at;    /* where the data of its tensor begin in the file, bytes */
    uint32_t box;   /* index into the rank's boxes */
    uint32_t file;  /* index into the files */
    uint32_t dtype; /* sw_dtype, as it is written */
    uint32_t alone; /* what begins there is the box itself, in one row */
} sw_spot;

/* Local. The spots of all boxes that these ranks write, appended to spots[0..n), each file by file.
 * Outputs are copies and casts only. */
sw_code sw_spots_find(const sw_outputs *o, const sw_layout *l, const sw_holders *ranks, sw_buf *spots,
                      sw_status *st);

/* One rank's part. All but what was written is borrowed. */
typedef struct sw_scatter {
    sw_rounds rounds;       /* comm, to; make: this rank makes the files */
    const sw_layout *l;     /* where the files are there, their names and sizes are enough */
    const sw_catalog *view; /* of what l is: for headers */
    const sw_memboxes *held;
    const sw_spot *spots; /* file by file */
    size_t nspots;
    uint64_t buffer; /* bytes of memory; whole elements */
    uint64_t input;  /* the same for what is cast; 0 where nothing is */
} sw_scatter;

/* Collective. Write all of it. All ranks return the same; on an error files may be left. */
sw_code sw_scatter_write(sw_scatter *s, sw_status *st);

/* Local. Make all files of the layout in work.to.dir, with their headers. */
sw_code sw_scatter_create(sw_weld *w, sw_status *st);

/* Collective over world. Write all files of the layout from what the ranks hold. As
 * sw_weld_files(), which calls it. */
sw_code sw_scatter_files(sw_weld *w, sw_status *st);

#endif
