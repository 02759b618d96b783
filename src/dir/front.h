/* The front of a safetensors file: its header, as it stands in the file. Each is read once, whole:
 * some kilobytes mostly, a hundred megabytes at most. */
#ifndef SW_DIR_FRONT_H
#define SW_DIR_FRONT_H

#include "base/buf.h"
#include "format/header.h"

typedef struct sw_front {
    sw_buf text;   /* as it stands in the file, but for strings that were unescaped */
    uint64_t hash; /* of that as it stood */
    sw_header h;   /* points into text */
    sw_buf values; /* sw_items_read(): names of what is no tensor in the file, with their NULs */
} sw_front;

/* Local. Read and check the header of a file of size bytes; its data begins at 8 + text.len. What
 * stood in f is replaced. / The same of what begins at byte at of an open file, and ends where that
 * does. / The hash alone is read. Errors: SW_EINPUT, SW_EIO, SW_ENOMEM. */
sw_code sw_front_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_status *st);
sw_code sw_front_read_at(sw_front *f, int fd, const char *name, uint64_t at, uint64_t size, sw_status *st);
sw_code sw_front_hash(const char *dir, const char *name, uint64_t size, uint64_t *hash, sw_status *st);

void sw_front_release(sw_front *f);

#endif
