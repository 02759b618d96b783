/* Which files of a directory are the checkpoint: the one place that knows.
 *
 * Local. Whoever looks lists the directory once and reads the small texts in it; what is chosen
 * follows from those. par/scan has each rank learn the same. A kind of input is a row of a table in
 * find.c. Some thousands of files at most; records of 56 bytes and a name tell of each. */
#ifndef SW_DIR_FIND_H
#define SW_DIR_FIND_H

#include "base/path.h"
#include "format/maps.h"
#include "plan/catalog.h"

/* Texts beside the weights that decide which files there are, and what becomes of them. */
enum {
    SW_TEXT_INDEX,
    SW_TEXT_DIFFUSERS_INDEX,
    SW_TEXT_FILE_MAP,
    SW_TEXT_DTYPE_MAP,
    /* what describes a checkpoint as a whole, as a list of boxes (format/boxlist.h) */
    SW_TEXT_BOXES,
    SW_NTEXTS
};

/* One of them, as it was read: what is wrong with it counts when its turn comes. */
typedef struct sw_side {
    sw_status st;
    bool there;
    sw_buf text; /* never NULL where it is there */
} sw_side;

/* What was found. */
typedef struct sw_find {
    /* what was asked for, all of it before sw_find_list(); borrowed */
    const char *boxes; /* a file that describes the checkpoint; NULL = what lies in the directory */
    bool anywhere;     /* the files that it names need not lie below the directory */
    bool everything;   /* all tensors that a description names, not those of the model alone */

    bool by_shards; /* the files were chosen by torch's names */
    /* a text describes the checkpoint as a whole, which files and what is in them: 1 + its row in
     * find.c; 0 = none */
    unsigned by_boxes;
    bool by_index; /* the files were chosen by an index */
    /* its name, or of one that names nothing or (with findings) cannot be read; borrowed */
    const char *index_name;
    bool index_broken;      /* that one cannot: a finding tells why */
    sw_index_totals totals; /* of the index; only with findings */
    sw_map weight_map;      /* its {fqn: file} */
    bool has_file_map, has_dtype_map;
    sw_map file_map;  /* .hf_metadata/fqn_to_file_index_mapping.json */
    sw_map dtype_map; /* .hf_metadata/fqn_to_dtype_mapping.json */
    sw_buf warnings;  /* lines: of files that are left out, of ranks that see none */
    sw_dir names;     /* what lies in the directory; empty where this rank does not look */
    sw_side texts[SW_NTEXTS];
} sw_find;

/* In all of these, findings is NULL, and the first thing that is wrong is the error; or it takes
 * all that is wrong, and what is left is chosen. */

/* Local. List the directory: names, by_shards, by_boxes. Errors: SW_EINPUT (there is none),
 * SW_EIO. */
sw_code sw_find_list(sw_find *f, const char *dir, sw_status *st);

/* Local, after that. Read the texts; an error is kept with its text. That of f->boxes is there
 * already. */
void sw_find_read_texts(sw_find *f, const char *dir);

/* Local, once the texts are there. The first index that names anything, where there are no shards:
 * index_name, by_index. / The maps in .hf_metadata: what is wrong with them is wrong, whoever needs
 * them. Errors: SW_EINPUT, SW_EIO, of that text. */
sw_code sw_find_take_index(sw_find *f, sw_findings *findings, sw_status *st);
sw_code sw_find_take_maps(sw_find *f, sw_findings *findings, sw_status *st);

/* Local, after sw_find_take_index(). Choose the files; a record of each is appended to seen.
 *   some  this rank need not see all that an index names, and what it sees is compared with what
 *         others see
 * Errors: SW_EINPUT for what is named, or has the name of a shard, and is no file; SW_EIO. */
sw_code sw_find_choose(const sw_find *f, const char *dir, bool some, sw_buf *seen, sw_findings *findings,
                       sw_status *st);

/* Local. A record of one file, if it is a regular one.
 *   hash  with that of its header, which is read
 *   kind  what has the name */
sw_code sw_find_see(const char *dir, const char *name, bool hash, sw_buf *seen, sw_path_kind *kind,
                    sw_status *st);

/* Local. "a directory, not a file" */
const char *sw_find_not_a_file(sw_path_kind kind);

/* Local. c->files, sorted by name, of what n ranks have seen: the records of rank r lie in seen at
 * [starts[r], starts[r + 1]). Their owners are the lowest that see them; all are broken until their
 * headers are read.
 *   room  zeroed bytes for them, sw_find_room() of what was seen, and the caller's; NULL = the
 *         catalogue's own
 * Errors: SW_EINPUT when two ranks see different files of one name. */
sw_code sw_find_files(const sw_buf *seen, const uint64_t *starts, int n, void *room, sw_catalog *c,
                      sw_status *st);

/* Local. Bytes that such files take with their names, at most. */
uint64_t sw_find_room(const sw_buf *seen);

/* Local, once c->files are known. Are there any, all that the index names, and of one save?
 *   looked  this rank has listed the directory, and knows a word on the cause
 * Errors: SW_EINPUT. */
sw_code sw_find_check(const sw_find *f, const char *dir, bool looked, const sw_catalog *c,
                      sw_findings *findings, sw_status *st);

/* How a plain checkpoint is found: what is looked for first, where there is more than one. */
typedef struct sw_plain_rule {
    const char *index; /* an index of this name, before the usual ones; NULL = none */
    bool single;       /* a lone file of the usual name, before any index */
    bool diffusers;    /* diffusion_pytorch_model before model */
} sw_plain_rule;

/* Local. Find the checkpoint as loaders do, by its index, or by the usual names of weights: names,
 * index, records. Errors: SW_EINPUT (neither is there), SW_EIO. */
sw_code sw_find_plain(sw_find *f, const char *dir, const sw_plain_rule *rule, sw_buf *seen,
                      sw_findings *findings, sw_status *st);

/* Local. A record of a file of a plain checkpoint, or a finding. */
sw_code sw_find_see_plain(const char *dir, const char *name, sw_buf *seen, sw_findings *findings,
                          sw_status *st);

void sw_find_release(sw_find *f);

#endif
