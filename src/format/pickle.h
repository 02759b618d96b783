/* A pickle as data: parsed into values, and nothing in it is ever called.
 *
 * torch's distributed checkpoints describe themselves in pickles: `.metadata` (for 256 ranks x
 * 1,000 tensors 50 MB of it) and a small `data.pkl` for each tensor item. A pickle is a program
 * for a stack machine; what it makes are tuples, dicts and "objects", which here are no more than
 * a class (two names to compare), its arguments and its state. Who reads them asks for what it
 * knows; the rest stays as it is and matters to nobody.
 *
 * Protocols 2 to 5, the opcodes that producers of checkpoints use. No recursion; an input of n
 * bytes takes at most 64 n bytes of memory. Numbers and strings are not copied: a value says
 * where in the text they stand. Values may stand in several places, and a container may hold
 * itself: who walks them goes down a fixed way. */
#ifndef SW_FORMAT_PICKLE_H
#define SW_FORMAT_PICKLE_H

#include "base/status.h"

/* A value: what it is, and where; only good with the pickle that it is of. */
typedef uint64_t sw_value;

typedef enum sw_kind {
    SW_KIND_NONE,
    SW_KIND_BOOL,
    SW_KIND_INT,
    SW_KIND_FLOAT,
    SW_KIND_TEXT,   /* str; and what Python 2 wrote as one */
    SW_KIND_BYTES,  /* bytes, bytearray */
    SW_KIND_GLOBAL, /* a name in a module */
    SW_KIND_TUPLE,
    SW_KIND_LIST,
    SW_KIND_DICT,
    SW_KIND_SET,
    SW_KIND_OBJECT,     /* what a call would have made */
    SW_KIND_PERSISTENT, /* an object that stands outside, by what names it */
    SW_KIND_HUGE        /* an integer of more than 59 bits */
} sw_kind;

typedef struct sw_pickle {
    const unsigned char *text; /* borrowed */
    size_t len;
    uint64_t *words; /* of the containers */
    size_t nwords, cap;
    sw_value root;
} sw_pickle;

#define SW_PICKLE_INIT SW_EMPTY

/* Local. Parse n bytes, which the pickle must fill exactly; they are borrowed and must outlive out.
 *   file, tensor  for messages; tensor may be NULL
 *   out           release with sw_pickle_release(); empty on error
 * Errors: SW_EINPUT (no pickle, a protocol or opcode that is not taken, one that is cut off), with
 * the position; SW_ENOMEM. Cost: O(n). Source: Python's pickletools. */
sw_code sw_pickle_parse(const void *text, size_t n, const char *file, const char *tensor, sw_pickle *out,
                        sw_status *st);

void sw_pickle_release(sw_pickle *p);

sw_kind sw_value_kind(const sw_pickle *p, sw_value v);

/* Local. A number that is not negative and fits. A bool is none. */
bool sw_value_size(const sw_pickle *p, sw_value v, uint64_t *out);

/* Local. The bytes of a TEXT or BYTES value, inside the pickle's text; NULL = it is neither. */
const char *sw_value_text(const sw_pickle *p, sw_value v, size_t *len);
bool sw_value_is_text(const sw_pickle *p, sw_value v, const char *text);

/* Local. The two names of a GLOBAL, inside the pickle's text and not NUL-terminated; false = it is
 * none. */
typedef struct sw_global {
    const char *module, *name;
    size_t module_len, name_len;
} sw_global;
bool sw_value_global(const sw_pickle *p, sw_value v, sw_global *out);

/* Local. Is it the class of this name, or an object of it? module NULL = of any. */
bool sw_value_is_a(const sw_pickle *p, sw_value v, const char *module, const char *name);

/* Local. Of an OBJECT: its class, what it was called with, and its state (what BUILD gave it, or
 * the items that were put into it; NONE = neither). Of a PERSISTENT: args is what names it. Of what
 * is neither: NONE. */
sw_value sw_object_class(const sw_pickle *p, sw_value v);
sw_value sw_object_args(const sw_pickle *p, sw_value v);
sw_value sw_object_state(const sw_pickle *p, sw_value v);

/* Local. Walk the items of a TUPLE, LIST or SET, or the entries of a DICT; of anything else there
 * are none. A container that comes to be longer than it was counted ends there. */
typedef struct sw_items {
    const sw_pickle *p;
    uint64_t left;      /* items to come; an entry of a dict is two */
    uint64_t at, chunk; /* where the next of them stands, and how many stand together there */
    uint64_t next;      /* where those behind them begin */
} sw_items;

uint64_t sw_items_begin(const sw_pickle *p, sw_value v, sw_items *out); /* how many there are */
bool sw_items_next(sw_items *i, sw_value *item);
bool sw_items_next_pair(sw_items *i, sw_value *key, sw_value *value);

/* Local. Item i of a tuple or list; false = it has none. O(i). */
bool sw_value_item(const sw_pickle *p, sw_value v, uint64_t i, sw_value *out);

/* Local. The entry of that name, of a DICT or of the dict that is an object's state; false = none,
 * also in one of more than SW_MEMBERS_MAX entries: many objects may share it. The last one counts,
 * as in Python. */
#define SW_MEMBERS_MAX 256u
bool sw_value_member(const sw_pickle *p, sw_value v, const char *name, sw_value *out);

#endif
