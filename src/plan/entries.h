/* What one rank found in the headers of the files that it owns, packed so that it can be sent as it
 * lies: a record for each name (it says how many boxes there are), and a record for each box. Files
 * that speak of one name in different ways (another dtype, number of dimensions or global_shape)
 * make several records of it, and sw_catalog_merge() judges them: so what is found does not depend
 * on who read which file. */
#ifndef SW_PLAN_ENTRIES_H
#define SW_PLAN_ENTRIES_H

#include "base/num.h"
#include "plan/catalog.h"

/* As they lie in the packed stream; all are multiples of 8 bytes. Behind a name record: its global
 * shape (ndim numbers) if has_global, then the name with a NUL, padded to 8. Behind a box record:
 * offsets, shape, and strides where it has some; of a rule a rule record, offsets, shape. */
typedef struct sw_name_record {
    uint64_t count;
    uint32_t name_len;
    uint32_t first_file;
    uint8_t dtype, ndim, has_global;
    uint8_t plain; /* its boxes were tried, and are in no rules that pay */
    uint8_t zero[4];
} sw_name_record;

typedef struct sw_box_record {
    uint64_t at;   /* of a rule: behind data_start */
    uint32_t file; /* with SW_BOX_STRIDED: strides follow; with SW_BOX_RULE: it is a rule */
    uint32_t name; /* index into the rank's names */
} sw_box_record;

#define SW_BOX_STRIDED UINT32_C(0x80000000)
#define SW_BOX_RULE UINT32_C(0x40000000)
#define SW_BOX_FILE (~(SW_BOX_STRIDED | SW_BOX_RULE))

/* A box record, taken apart. */
typedef struct sw_taken {
    sw_rule rule; /* of one box: without loops */
    bool is_rule;
    const uint64_t *dims;    /* offsets, shape */
    const uint64_t *strides; /* NULL = packed */
    uint64_t size;           /* bytes of the record */
    const sw_box_record *record;
} sw_taken;

/* Local. The box record of a name of ndim dimensions. */
void sw_box_record_take(const sw_box_record *rec, unsigned ndim, const sw_file *files, sw_taken *out);

/* A name record, taken apart. */
typedef struct sw_taken_name {
    const sw_name_record *record;
    const uint64_t *global_shape; /* NULL = none was given */
    const char *name;
} sw_taken_name;

/* Local. The name record at byte *at, which moves behind it. */
sw_taken_name sw_name_record_take(const sw_buf *names, uint64_t *at);

typedef struct sw_entry_name {
    uint64_t name; /* where it begins in texts */
    uint32_t name_len;
    uint32_t first_file;    /* where it was met first */
    uint64_t count;         /* boxes */
    uint64_t *global_shape; /* owned; NULL = none was given */
    sw_rules *rules;        /* owned; NULL = its boxes are all in the stream */
    uint8_t dtype, ndim;
    bool plain; /* rules do not pay */
} sw_entry_name;

typedef struct sw_entries {
    sw_entry_name *names;
    size_t nnames, cap_names;
    uint32_t *table;   /* hash table of 1 + index into names; 0 = free */
    size_t table_size; /* a power of two */
    uint64_t key[2];   /* of the hash: names are chosen by others */
    sw_buf boxes;
    sw_buf texts;  /* names, a NUL behind each */
    size_t folded; /* bytes of boxes that stay there; what lies behind may become rules */
    size_t nlate;  /* boxes behind them */
    bool folds;    /* some have become rules */
    size_t batch;  /* so many are waited for before they become rules; 0 = a good number */
} sw_entries;

/* Local. Add all entries of one header. files: the list that index file points into, for
 * data_start. Files come in their order.
 * Errors: SW_EINPUT (too many names), SW_ENOMEM. */
sw_code sw_entries_add(sw_entries *f, const sw_header *h, const sw_file *files, uint32_t file, sw_status *st);

/* Local. The names' records, appended to out; the boxes' are in f->boxes then, and nothing may be
 * added any more. */
sw_code sw_entries_pack(sw_entries *f, const sw_file *files, sw_buf *out, sw_status *st);

/* Local. Add what another rank has packed: its names' records, its boxes' records. Errors: as
 * sw_entries_add(). */
sw_code sw_entries_absorb(sw_entries *f, const sw_buf *names, const sw_buf *boxes, const sw_file *files,
                          sw_status *st);

void sw_entries_release(sw_entries *f);

#endif
