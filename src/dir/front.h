/* The front of a safetensors file: its header, as it stands in the file. Each is read once, whole:
 * some kilobytes mostly, a hundred megabytes at most. */
#ifndef SW_DIR_FRONT_H
#define SW_DIR_FRONT_H

#include "base/buf.h"
#include "format/header.h"

/* Local. Read and check the header of a file of size bytes.
 *   text  replaced; out points into it
 *   hash  of the header's text as it stands in the file; may be NULL
 * data_start of the file is 8 + text->len. */
sw_code sw_header_read(const char *dir, const char *name, uint64_t size, sw_buf *text, sw_header *out,
                       uint64_t *hash, sw_status *st);

/* Local. The hash alone. */
sw_code sw_header_hash(const char *dir, const char *name, uint64_t size, uint64_t *hash, sw_status *st);

#endif
