/* What one rank found in the headers of the files that it owns, packed so that it can be sent as it
 * lies: a record for each name (it says how many boxes there are), and a record for each box. Files
 * that speak of one name in different ways (another dtype, number of dimensions or global_shape)
 * make several records of it, and sw_catalog_merge() judges them: so what is found does not depend
 * on who read which file. */
#ifndef SW_PLAN_ENTRIES_H
#define SW_PLAN_ENTRIES_H

#include "base/num.h"
#include "plan/catalog.h"

/* As they lie in the packed stream; both are multiples of 8 bytes. Behind a name record: its global
 * shape (ndim numbers) if has_global, then the name with a NUL, padded to 8. Behind a box record:
 * offsets, shape. */
typedef struct sw_name_record {
    uint64_t count;
    uint32_t name_len;
    uint32_t first_file;
    uint8_t dtype, ndim, has_global, zero[5];
} sw_name_record;

typedef struct sw_box_record {
    uint64_t at;
    uint32_t file; /* with SW_BOX_STRIDED: strides follow */
    uint32_t name; /* index into the rank's names */
} sw_box_record;

#define SW_BOX_STRIDED UINT32_C(0x80000000)

typedef struct sw_entry_name {
    uint64_t name; /* where it begins in texts */
    uint32_t name_len;
    uint32_t first_file;    /* where it was met first */
    uint64_t count;         /* boxes */
    uint64_t *global_shape; /* owned; NULL = none was given */
    uint8_t dtype, ndim;
} sw_entry_name;

typedef struct sw_entries {
    sw_entry_name *names;
    size_t nnames, cap_names;
    uint32_t *table;   /* hash table of 1 + index into names; 0 = free */
    size_t table_size; /* a power of two */
    uint64_t key[2];   /* of the hash: names are chosen by others */
    sw_buf boxes;
    sw_buf texts; /* names, a NUL behind each */
} sw_entries;

#define SW_ENTRIES_INIT                                                                                      \
    {                                                                                                        \
        NULL, 0, 0, NULL, 0, { 0, 0 }, SW_BUF_INIT, SW_BUF_INIT                                              \
    }

/* Local. Add all entries of one header. files: the list that index file points into, for
 * data_start.
 * Errors: SW_EINPUT (too many names), SW_ENOMEM. */
sw_code sw_entries_add(sw_entries *f, const sw_header *h, const sw_file *files, uint32_t file, sw_status *st);

/* Local. The names' records, appended to out. */
sw_code sw_entries_pack(const sw_entries *f, sw_buf *out, sw_status *st);

void sw_entries_release(sw_entries *f);

#endif
