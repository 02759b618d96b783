/* Reading boxes of a checkpoint into memory, by one thread or several. */
#ifndef SW_READ_READER_H
#define SW_READ_READER_H

#include "plan/requests.h"

/* All borrowed. */
typedef struct sw_reader {
    const sw_catalog *c;
    const char *dir; /* where its files are */
    const sw_request *wants;
    size_t nwants;
    unsigned threads;           /* at least 1 */
    uint64_t buffer_size;       /* bytes for each, at least SW_BUFFER_SIZE_MIN */
    const volatile int *cancel; /* NULL = none */
    sw_read_map map;
} sw_reader;

#define SW_READER_BUFFER (UINT64_C(1) << 20) /* default of buffer_size */

/* Local. All wants. Errors: as sw_checkpoint_read() after its requests have been looked up. */
sw_code sw_reader_run(const sw_reader *r, sw_status *st);

#endif
