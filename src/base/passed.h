/* Bytes of a file that are behind us: their pages in the page cache go back to the system, so
 * that a large run leaves what others have there. Once for every 2 MiB that are read, and every 16
 * MiB that are written.
 *
 * The system gives back whole folios alone, of up to 2 MiB at multiples of their size: so do we,
 * when the last byte of one has gone by. */
#ifndef SW_BASE_PASSED_H
#define SW_BASE_PASSED_H

#include <stdint.h>

#include "shardweld.h"

/* Local. n bytes at at were read, from front to back like those before them, and will not be again
 * soon. Nothing can fail. */
void sw_passed_read(int fd, uint64_t at, uint64_t n);

/* What was written and has not been given back. Zero at first. */
typedef struct sw_passed {
    uint64_t begin, end;
} sw_passed;

/* Local. n bytes at at were written: the system begins to write them to the disk, and what it has
 * had for a while is waited for and given back. Errors: SW_EIO, of what had been written before. */
sw_code sw_passed_written(sw_passed *p, int fd, const char *show, uint64_t at, uint64_t n, sw_status *st);

/* Local. The same of all that was written. */
sw_code sw_passed_settle(sw_passed *p, int fd, const char *show, sw_status *st);

/* Local. All pages of a file that are on the disk go back, whoever has them there. */
void sw_passed_all(int fd);

#endif
