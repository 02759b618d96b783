/* From memory straight to the files: each rank writes the rows of its own boxes to their places.
 *
 * The ranks' parts are disjoint, so no data go from rank to rank; short rows cost a write each.
 * What a rank needs to know for it are a few numbers for each of its boxes. */
#ifndef SW_PAR_SCATTER_H
#define SW_PAR_SCATTER_H

#include "dir/place.h"
#include "par/weld.h"

/* A box, and where its tensor is written. It can be sent as it lies. */
typedef struct sw_place {
    uint64_t at;    /* where the data of the tensor begin in the file, bytes */
    uint32_t box;   /* index into the rank's boxes */
    uint32_t file;  /* index into the files */
    uint32_t dtype; /* sw_dtype, as it is written */
    uint32_t zero;
} sw_place;

/* Local. The places of all boxes that these ranks write, appended to places[0..n), each file by
 * file. Outputs are copies and casts only. */
sw_code sw_places_find(const sw_outputs *o, const sw_layout *l, const sw_holders *ranks, sw_buf *places,
                       sw_status *st);

/* Local. Make all files of the layout in staged_dir, with their headers. */
sw_code sw_scatter_create(sw_weld *w, sw_status *st);

/* One rank's part, once the files are there. All but written is borrowed. */
typedef struct sw_scatter {
    const char *dir;             /* where the files are (sw_staged_open()) */
    const sw_publication *files; /* their names there, and sizes */
    const sw_memboxes *held;
    const sw_place *places;
    size_t nplaces;
    uint64_t buffer; /* bytes of memory; whole elements */
    uint64_t input;  /* the same for what is cast; 0 where nothing is */
    bool sync;       /* make what is written durable */
    const volatile int *cancel;
    sw_progress progress; /* todo is filled in */
    uint64_t written;     /* out: bytes */
} sw_scatter;

/* Collective. Write all of it. All ranks return the same. */
sw_code sw_scatter_write(const sw_comm *comm, sw_scatter *s, sw_status *st);

/* Collective over world. Write all files of the layout from what the ranks hold. As
 * sw_weld_files(), which calls it. */
sw_code sw_scatter_files(sw_weld *w, sw_status *st);

#endif
