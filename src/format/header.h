/* The header of a safetensors file, with torch DCP's sharding info beside it: parsed strictly
 * (header.c), and written (headertext.c).
 *
 * A header may hold hundreds of thousands of tensors in 100 MB of text, so parsing allocates
 * little: names point into the text, which is unescaped in place; dimensions lie in one pool. */
#ifndef SW_FORMAT_HEADER_H
#define SW_FORMAT_HEADER_H

#include "base/buf.h"
#include "format/dtype.h"

#define SW_HEADER_MAX 100000000u /* bytes of JSON, as the reference library */
#define SW_MAX_DIMS 32

#define SW_NO_DIMS UINT32_MAX

/* One tensor entry. Dimensions are counted outermost first, in elements. */
typedef struct sw_entry {
    const char *name; /* NUL-terminated, inside the text; names with NUL are refused */
    uint32_t name_len;
    uint8_t dtype; /* sw_dtype */
    uint8_t ndim;
    uint64_t begin, end;   /* of its data, bytes from the end of the header */
    uint32_t shape;        /* where in dims the ndim sizes begin */
    uint32_t offsets;      /* the same for saved_offsets; SW_NO_DIMS without sharding info */
    uint32_t global_shape; /* the same for global_shape; SW_NO_DIMS when it is not given */
    /* 1 + the same for the elements from one to the next; 0: they lie packed */
    uint32_t strides;
} sw_entry;

/* What __metadata__ says of anything but boxes and sets, for people; both inside the text. */
typedef struct sw_note {
    const char *key, *value;
} sw_note;

typedef struct sw_header {
    sw_entry *entries; /* in the order of the text */
    size_t nentries;
    uint64_t *dims;
    size_t ndims;
    bool sharded;    /* DCP_SHARDING_INFO is there: every entry has offsets */
    bool format_pt;  /* __metadata__ says format: pt */
    const char *set; /* what it says of SW_SHARDS_KEY, inside the text; NULL = nothing */
    sw_note *notes;
    size_t nnotes;
    uint64_t data_len; /* bytes of data behind the header = largest end */
} sw_header;

#define SW_HEADER_INIT SW_EMPTY

/* Local. Check the first 8 bytes of a file: the header length, against the limit and the file's
 * size.
 *   len_out  bytes of JSON that follow
 * Errors: SW_EINPUT (file shorter than 8 bytes, length over SW_HEADER_MAX or past the end of the
 * file). */
sw_code sw_header_length(const unsigned char first[8], uint64_t file_size, const char *file,
                         uint64_t *len_out, sw_status *st);

/* Local. Parse and check a header.
 *   text      len bytes of JSON; changed (unescaped in place) and borrowed: must outlive out
 *   data_len  bytes of the file behind the header; the entries must cover them exactly, without
 *             hole or overlap
 *   file      for messages
 *   out       emptied first; release with sw_header_release(); empty on error
 * Accepts and refuses as the reference library 0.8, but for: duplicate keys in any object, entries
 * written as arrays, names with NUL, more than SW_MAX_DIMS dimensions, numbers over 2^63: all
 * refused. With sharding info, every entry must have saved_offsets of its number of dimensions,
 * shape + offset must fit 2^63, a box that holds data must lie within its global_shape where there
 * is one, and DCP_VERSION must be 1, 1.x or absent.
 * Errors: SW_EINPUT with file, tensor and reason; SW_ENOMEM.
 * Cost: O(len + n log n) for n entries; allocates about 150 bytes an entry while it works and 80
 * that stay. Source: SPEC 2. */
sw_code sw_header_parse(char *text, size_t len, uint64_t data_len, const char *file, sw_header *out,
                        sw_status *st);

/* Local. Room for n entries with so many numbers in all, of a header that is made of what is known
 * otherwise. / Numbers for one of them: where they stand. Errors: SW_ENOMEM. */
sw_code sw_header_make_room(sw_header *h, uint64_t n, uint64_t ndims, sw_status *st);
uint32_t sw_header_keep(sw_header *h, const uint64_t *dims, unsigned n);

void sw_header_release(sw_header *h);

/* ---- writing --------------------------------------------------------------------------------- */

/* A header is 8 bytes of length, then JSON: a head with the metadata, an entry for each tensor by
 * dtype, then name, a tail, and spaces up to a multiple of 8. Plain files are byte for byte those
 * of the reference serializer. Of shard files the head has torch's sharding info; beside what torch
 * writes each box has its global_shape there, and the file has a list of all that belong to the
 * set; torch's reader ignores both. */
#define SW_HEADER_LENGTH 8u
#define SW_HEADER_TAIL "}"

/* A tensor, or a box of one, as a header tells of it. Numbers may be NULL where ndim is 0. */
typedef struct sw_header_box {
    const char *name;
    sw_dtype dtype;
    unsigned ndim;
    const uint64_t *offsets, *shape; /* of the box, elements */
    const uint64_t *global_shape;    /* of the tensor, so that a lost end is missed */
    uint64_t begin, end;             /* of its data, bytes from the end of the header */
} sw_header_box;

/* Local. Append the head.
 *   set    what a shard file says of all files (sw_numbers_list()); NULL = a plain file
 *   boxes  of a shard file n, in the order in which the sharding info lists them
 * Errors: SW_ENOMEM. */
sw_code sw_header_head(const char *set, const sw_header_box *boxes, size_t n, sw_buf *text, sw_status *st);

/* Local. Append an entry, a comma before it. */
sw_code sw_header_entry(const sw_header_box *box, sw_buf *text, sw_status *st);

/* Local. The length before the JSON. */
void sw_header_put_length(uint64_t length, char to[SW_HEADER_LENGTH]);

/* Local. Can the header of a shard file be so long? Errors: SW_EUSAGE. */
sw_code sw_header_check_length(uint64_t length, sw_status *st);

#endif
