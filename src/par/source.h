/* The shard files as a place to read from: opened when needed, few at a time. */
#ifndef SW_PAR_SOURCE_H
#define SW_PAR_SOURCE_H

#include "plan/catalog.h"
#include "plan/pieces.h"

typedef struct sw_source {
    const sw_catalog *c;
    const char *dir; /* INPUT_DIR */
    int *fds;        /* one a file, -1 = not open */
    uint32_t *open;  /* a ring of the files that are open, oldest first */
    uint32_t max_open, nopen, first;
    char *scratch; /* for rows that are too short to be read one by one */
    uint64_t scratch_size;
} sw_source;

/* Local. c and dir are borrowed. scratch_size: bytes of memory for short rows, at least 1. */
sw_code sw_source_init(sw_source *s, const sw_catalog *c, const char *dir, uint64_t scratch_size,
                       sw_status *st);

/* Local. Read a piece and put its rows where they belong in the range that begins at to (as long as was asked of
 * sw_pieces_each()).
 * Errors: SW_EINPUT for a file that has become shorter, SW_EIO. */
sw_code sw_source_read(sw_source *s, const sw_piece *p, char *to, sw_status *st);

/* Local. Read a piece as it lies in the file: p->n bytes in a row. */
sw_code sw_source_read_packed(sw_source *s, const sw_piece *p, char *to, sw_status *st);

/* Local. Are the files that are open still those whose headers were read? Errors: SW_EINPUT, SW_EIO. */
sw_code sw_source_check(const sw_source *s, sw_status *st);

/* Local. Ask the system to begin reading a piece now. A hint: nothing can fail. */
void sw_source_advise(sw_source *s, const sw_piece *p);

void sw_source_release(sw_source *s);

#endif
