/* JSON, written as it goes: there may be millions of boxes. The members of an object or a list
 * stand on lines of their own or, where it is flat, on one. All local; the caller looks at
 * ferror(). A key is NULL in a list. */
#ifndef SW_CMD_EMIT_H
#define SW_CMD_EMIT_H

#include <stdio.h>

#include "shardweld.h"

#define SW_EMIT_DEPTH 8

typedef struct sw_emit {
    FILE *to;
    unsigned depth, lines; /* what is open, and how much of it is not flat */
    char ends[SW_EMIT_DEPTH];
    bool flat[SW_EMIT_DEPTH];
    bool more; /* something stands before in the innermost */
} sw_emit;

void sw_emit_object(sw_emit *e, const char *key, bool flat);
void sw_emit_list(sw_emit *e, const char *key, bool flat);
void sw_emit_end(sw_emit *e); /* of the innermost object or list */

/* Text may be no UTF-8 (a path). What of it would be harm on a terminal is written as \uXXXX. A
 * name is text that may be empty; other text is null then, and where it is NULL. */
void sw_emit_name(sw_emit *e, const char *key, const char *text);
void sw_emit_text(sw_emit *e, const char *key, const char *text);
void sw_emit_texts(sw_emit *e, const char *key, const char *const *list, size_t n);
void sw_emit_number(sw_emit *e, const char *key, uint64_t n);
void sw_emit_optional(sw_emit *e, const char *key, uint64_t n); /* 0 = null */
void sw_emit_real(sw_emit *e, const char *key, double x);
void sw_emit_bool(sw_emit *e, const char *key, bool is);
void sw_emit_dims(sw_emit *e, const char *key, const uint64_t *dims, unsigned n);
void sw_emit_findings(sw_emit *e, const sw_finding *findings, uint64_t n);

#endif
