/* The small JSON files beside a checkpoint: maps from FQN to a number or a text, and index files.
 * Parsed with jansson from bytes in memory (duplicate keys refused); sorted by name, bytewise.
 * Written as Python's json.dumps(..., indent=2) does. */
#ifndef SW_FORMAT_MAPS_H
#define SW_FORMAT_MAPS_H

#include "base/buf.h"

typedef struct sw_map_item {
    char *key;  /* owned; no NUL inside */
    char *text; /* owned; NULL in a map of numbers */
    uint64_t number;
} sw_map_item;

typedef struct sw_map {
    sw_map_item *items;
    size_t n;
} sw_map;

#define SW_MAP_INIT SW_EMPTY

/* What an index says of all tensors together. */
typedef struct sw_index_totals {
    bool there; /* metadata is, whatever it says */
    bool has_size, has_parameters;
    bool odd_size, odd_parameters; /* it is there, but no number */
    double size, parameters;       /* some programs write fractions, or more than 64 bits */
} sw_index_totals;

/* Local. {fqn: output file index}; whole numbers from 1 to 99999999. file is for messages.
 * Errors: SW_EINPUT (not JSON, not such an object), SW_ENOMEM. out is empty on error. */
sw_code sw_map_parse_numbers(const char *json, size_t len, const char *file, sw_map *out, sw_status *st);

/* Local. {fqn: text}, e.g. fqn_to_dtype_mapping.json. */
sw_code sw_map_parse_texts(const char *json, size_t len, const char *file, sw_map *out, sw_status *st);

/* Local. The weight_map of an index file, {fqn: file name}; empty when there is none or it is {}.
 * Names are tidied ("./a" is "a") and checked with sw_name_is_below().
 *   totals  empty on error, too; NULL = not wanted */
sw_code sw_index_parse(const char *json, size_t len, const char *file, sw_map *out, sw_index_totals *totals,
                       sw_status *st);

/* Local. The same, but names are not checked: for looking at an index that may name anything. */
sw_code sw_index_parse_any(const char *json, size_t len, const char *file, sw_map *out,
                           sw_index_totals *totals, sw_status *st);

/* Local. NULL when there is none. O(log n). */
const sw_map_item *sw_map_find(const sw_map *map, const char *key);

/* Local. By key. */
void sw_map_sort(sw_map *map);

/* Local. The texts of a map, sorted by bytes, each once: of an index, its files. *names: newly
 * allocated, the texts are the map's. */
sw_code sw_map_files(const sw_map *map, const char ***names, size_t *n, sw_status *st);

/* Local. The largest of its numbers; 0 where there is none. */
uint64_t sw_map_largest(const sw_map *map);

void sw_map_release(sw_map *map);

/* A map on its way into out: zero but for that. */
typedef struct sw_map_text {
    sw_buf *out;
    unsigned depth; /* of objects around it */
    bool any;
} sw_map_text;

/* Local. Append a member; text NULL: the number. / The end of the map. Errors: SW_ENOMEM. */
sw_code sw_map_text_add(sw_map_text *w, const char *key, const char *text, uint64_t number, sw_status *st);
sw_code sw_map_text_end(sw_map_text *w, sw_status *st);

/* Local. A relative path that stays below its directory (sw_below_is_name()), without control
 * characters. */
bool sw_name_is_below(const char *name);

#endif
