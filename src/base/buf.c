/* A growing run of bytes, and arrays that grow; see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

sw_code sw_grow(void *items, size_t *cap, uint64_t need, size_t size, sw_status *st)
{
    uint64_t want = sw_max(need, *cap < UINT64_MAX / 2 ? *cap + *cap / 2 + 16 : need);
    uint64_t bytes;
    void *old, *grown;

    if (need <= *cap)
        return SW_OK;
    memcpy(&old, items, sizeof old);
    if (!sw_mul(want, size, &bytes) || bytes > SIZE_MAX || !(grown = realloc(old, (size_t)bytes)))
        return sw_fail_nomem(st, want);
    memcpy(items, &grown, sizeof grown);
    *cap = (size_t)want;
    return SW_OK;
}

sw_code sw_buf_reserve(sw_buf *b, uint64_t more, sw_status *st)
{
    uint64_t need;

    if (!sw_add(b->len, more, &need))
        return sw_fail_nomem(st, more);
    return sw_grow(&b->data, &b->cap, need, 1, st);
}

sw_code sw_buf_add(sw_buf *b, const void *data, uint64_t n, sw_status *st)
{
    if (n == 0)
        return SW_OK;
    if (sw_buf_reserve(b, n, st))
        return st->code;
    memcpy(b->data + b->len, data, (size_t)n);
    b->len += (size_t)n;
    return SW_OK;
}

static sw_code add_formatted(sw_buf *b, sw_status *st, const char *fmt, va_list ap) SW_PRINTF(3, 0);

/* Twice through the format: how long it is, then the text. */
static sw_code add_formatted(sw_buf *b, sw_status *st, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0)
        return sw_fail(st, SW_EINTERNAL, NULL, NULL, "cannot format text");
    if (sw_buf_reserve(b, (uint64_t)n + 1, st))
        return st->code;
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    b->len += (size_t)n;
    return SW_OK;
}

sw_code sw_buf_add_text(sw_buf *b, const char *text, uint64_t len, sw_status *st)
{
    static const char zeros[8];

    return sw_buf_add(b, text, len, st) ? st->code : sw_buf_add(b, zeros, sw_text_room(len) - len, st);
}

void sw_text_addf(char *text, size_t size, const char *fmt, ...)
{
    size_t n = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + n, size - n, fmt, ap);
    va_end(ap);
}

sw_code sw_buf_addf(sw_buf *b, sw_status *st, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_formatted(b, st, fmt, ap);
    va_end(ap);
    return st->code;
}

sw_code sw_buf_add_line(sw_buf *b, sw_status *st, const char *fmt, ...)
{
    size_t begin = b->len;
    va_list ap;

    va_start(ap, fmt);
    add_formatted(b, st, fmt, ap);
    va_end(ap);
    if (b->len > begin)
        b->len = begin + sw_text_clean(b->data + begin, b->len - begin);
    return sw_buf_add(b, "\n", 1, st);
}

void sw_buf_tell_lines(sw_buf *b, void (*tell)(void *user, const char *text), void *user)
{
    char *line = b->data, *end;

    if (b->len && tell) {
        for (line[b->len - 1] = '\0'; line; line = end) {
            end = strchr(line, '\n');
            if (end)
                *end++ = '\0';
            tell(user, line);
        }
    }
    b->len = 0;
}

void sw_buf_fit(sw_buf *b)
{
    char *fit = b->len ? realloc(b->data, b->len) : NULL;

    if (fit)
        *b = (sw_buf){ fit, b->len, b->len };
    else if (b->len == 0)
        sw_buf_release(b);
}

void sw_buf_release(sw_buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void *sw_calloc(uint64_t count, uint64_t size, sw_status *st)
{
    uint64_t bytes = 0;
    void *p = NULL;

    if (sw_mul(count, size, &bytes) && bytes <= SIZE_MAX)
        p = calloc(1, bytes ? (size_t)bytes : 1);
    if (!p)
        sw_fail_nomem(st, bytes);
    return p;
}

char *sw_strdup(const char *s, sw_status *st)
{
    size_t n = strlen(s) + 1;
    char *copy = malloc(n);

    if (!copy)
        sw_fail_nomem(st, n);
    else
        memcpy(copy, s, n);
    return copy;
}
