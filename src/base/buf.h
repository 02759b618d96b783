/* A growing run of bytes, and arrays that grow. */
#ifndef SW_BASE_BUF_H
#define SW_BASE_BUF_H

#include "base/status.h"

typedef struct sw_buf {
    char *data;
    size_t len, cap;
} sw_buf;

#define SW_BUF_INIT SW_EMPTY

/* Local. Make room for more bytes behind len. */
sw_code sw_buf_reserve(sw_buf *b, uint64_t more, sw_status *st);

/* Local. Append; data may be NULL when n is 0. */
sw_code sw_buf_add(sw_buf *b, const void *data, uint64_t n, sw_status *st);
sw_code sw_buf_addf(sw_buf *b, sw_status *st, const char *fmt, ...) SW_PRINTF(3, 4);

/* Local. Append a text of len bytes as it is sent and kept in packed records: a NUL behind it, and
 * zeros up to a multiple of 8. / Bytes that it takes so. */
sw_code sw_buf_add_text(sw_buf *b, const char *text, uint64_t len, sw_status *st);
static inline uint64_t sw_text_room(uint64_t len)
{
    return (len + 8) / 8 * 8;
}

/* Local. Append to a text with a NUL in a room of size bytes, as far as that goes. */
void sw_text_addf(char *text, size_t size, const char *fmt, ...) SW_PRINTF(3, 4);

/* Local. Append a line for people: made harmless (sw_text_clean()), a newline follows. */
sw_code sw_buf_add_line(sw_buf *b, sw_status *st, const char *fmt, ...) SW_PRINTF(3, 4);

/* Local. Hand each line to tell, without its newline, and empty b. tell may be NULL. */
void sw_buf_tell_lines(sw_buf *b, void (*tell)(void *user, const char *text), void *user);

/* Local. Give back what lies behind len. */
void sw_buf_fit(sw_buf *b);

void sw_buf_release(sw_buf *b);

/* Local. Allocate count * size bytes, zeroed; NULL on failure with st filled. count 0 gives a valid
 * pointer. */
void *sw_calloc(uint64_t count, uint64_t size, sw_status *st);

/* Local. Grow the array *items (of *cap items of size bytes) so that it can hold need items;
 * doubles. On failure *items stays valid. */
sw_code sw_grow(void *items, size_t *cap, uint64_t need, size_t size, sw_status *st);

char *sw_strdup(const char *s, sw_status *st);

#endif
