/* A file that is mapped for reading, without the danger in it: where a mapped file has become
 * shorter, or its disk fails, looking at it ends the process (SIGBUS). */
#ifndef SW_READ_MAPPED_H
#define SW_READ_MAPPED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shardweld.h"

/* One file at a time, all of it; the pages are the system's. { .how = ... } is an empty one. Not
 * thread-safe. */
typedef struct sw_mapped {
    sw_read_map how; /* which files may be mapped */
    bool known;      /* file has been asked for */
    uint32_t file;
    char *base; /* NULL = it is to be read: then there is nothing to release */
    size_t len;
    int fd;        /* its own */
    bool cached;   /* all of it was in memory at the beginning */
    uint64_t kept; /* pages before it have been let go */
} sw_mapped;

/* Local. The file of that number, open as fd, of size bytes. NULL when it is to be read. The one
 * before is unmapped. */
const char *sw_mapped_file(sw_mapped *m, uint32_t file, int fd, uint64_t size);

/* Local. Are bytes [begin, end) there, a few MiB of what sw_mapped_file() returned? They may then
 * be looked at, at once. False: the file is being changed, or cannot be read; it has been unmapped,
 * and stays so while it is the last one. */
bool sw_mapped_ready(sw_mapped *m, uint64_t begin, uint64_t end);

/* Local. Nothing before end is looked at again: it need not count as this process's memory any
 * more. */
void sw_mapped_done(sw_mapped *m, uint64_t end);

/* Local. To be called every few MiB of reading when sw_mapped_ready() is not: unmap a file that
 * somebody waits to change. */
void sw_mapped_yield(sw_mapped *m);

/* Local. Unmap what is mapped. */
void sw_mapped_release(sw_mapped *m);

#endif
