/* JSON as it goes; see emit.h. */
#include "emit.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "phrase.h"
#include "say.h"
#include "text.h"

/* A text between quotes. */
static void put_quoted(sw_emit *e, const char *text)
{
    fputc('"', e->to);
    sw_text_put(e->to, text, SW_TEXT_JSON);
    fputc('"', e->to);
}

/* A new line, as far in as what is open. */
static void put_line(sw_emit *e)
{
    fputc('\n', e->to);
    for (unsigned i = 0; i < e->lines; i++)
        fputs("  ", e->to);
}

/* All that stands before a value: the comma, the line, the key. */
static void begin(sw_emit *e, const char *key)
{
    bool flat = e->depth == 0 || e->flat[e->depth - 1];

    if (e->more)
        fputs(flat ? ", " : ",", e->to);
    if (!flat)
        put_line(e);
    if (key) {
        put_quoted(e, key);
        fputs(": ", e->to);
    }
    e->more = true;
}

/* The members of what is opened stand on lines of their own, or all on one. */
static void open_one(sw_emit *e, const char *key, const char *brackets, bool flat)
{
    assert(e->depth < SW_EMIT_DEPTH);
    begin(e, key);
    fputc(brackets[0], e->to);
    e->ends[e->depth] = brackets[1];
    e->flat[e->depth++] = flat;
    e->lines += !flat;
    e->more = false;
}

void sw_emit_object(sw_emit *e, const char *key, bool flat)
{
    open_one(e, key, "{}", flat);
}

void sw_emit_list(sw_emit *e, const char *key, bool flat)
{
    open_one(e, key, "[]", flat);
}

void sw_emit_end(sw_emit *e)
{
    bool flat = e->flat[--e->depth];

    e->lines -= !flat;
    if (!flat && e->more)
        put_line(e);
    fputc(e->ends[e->depth], e->to);
    e->more = true;
}

void sw_emit_name(sw_emit *e, const char *key, const char *text)
{
    begin(e, key);
    put_quoted(e, text);
}

/* A value that is not there. */
static void put_null(sw_emit *e, const char *key)
{
    begin(e, key);
    fputs("null", e->to);
}

void sw_emit_text(sw_emit *e, const char *key, const char *text)
{
    if (text && text[0])
        sw_emit_name(e, key, text);
    else
        put_null(e, key);
}

void sw_emit_texts(sw_emit *e, const char *key, const char *const *list, size_t n)
{
    sw_emit_list(e, key, true);
    for (size_t i = 0; i < n; i++)
        sw_emit_text(e, NULL, list[i]);
    sw_emit_end(e);
}

void sw_emit_number(sw_emit *e, const char *key, uint64_t n)
{
    begin(e, key);
    fprintf(e->to, "%" PRIu64, n);
}

void sw_emit_optional(sw_emit *e, const char *key, uint64_t n)
{
    if (n)
        sw_emit_number(e, key, n);
    else
        put_null(e, key);
}

void sw_emit_real(sw_emit *e, const char *key, double x)
{
    char text[32];

    /* JSON has no infinite numbers. */
    if (!isfinite(x)) {
        sw_emit_text(e, key, NULL);
        return;
    }
    snprintf(text, sizeof text, "%.6g", x);
    begin(e, key);
    /* What is a fraction by nature stays one for whoever reads it. */
    fprintf(e->to, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

void sw_emit_bool(sw_emit *e, const char *key, bool is)
{
    begin(e, key);
    fputs(is ? "true" : "false", e->to);
}

void sw_emit_dims(sw_emit *e, const char *key, const uint64_t *dims, unsigned n)
{
    begin(e, key);
    sw_dims_put(e->to, dims, n);
}

/* A message of the library. */
static void put_phrase(sw_emit *e, const char *key, const char *text)
{
    char *phrase = sw_phrase_text(text);

    sw_emit_text(e, key, phrase ? phrase : text);
    free(phrase);
}

void sw_emit_findings(sw_emit *e, const sw_finding *findings, uint64_t n)
{
    sw_emit_list(e, "findings", false);
    for (uint64_t i = 0; i < n; i++) {
        sw_emit_object(e, NULL, true);
        sw_emit_text(e, "file", findings[i].file);
        sw_emit_text(e, "tensor", findings[i].tensor);
        put_phrase(e, "reason", findings[i].reason);
        put_phrase(e, "hint", findings[i].hint);
        if (findings[i].differing) {
            sw_emit_number(e, "differing", findings[i].differing);
            sw_emit_real(e, "largest", findings[i].largest);
            sw_emit_real(e, "relative", findings[i].relative);
        }
        sw_emit_end(e);
    }
    sw_emit_end(e);
}
