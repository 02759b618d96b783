/* One header of a directory; see front.h. */
#include "dir/front.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/path.h"

/* The text, at most SW_HEADER_MAX bytes, of what begins at a byte of a file of size bytes. */
static sw_code read_text_at(int fd, const char *name, uint64_t at, uint64_t size, sw_buf *text, sw_status *st)
{
    unsigned char first[8] = { 0 };
    uint64_t len, left = size > at ? size - at : 0;

    text->len = 0;
    if (left >= sizeof first && sw_fd_read_at(fd, name, first, sizeof first, at, st))
        return st->code;
    if (sw_header_length(first, left, name, &len, st) || sw_buf_reserve(text, len, st) ||
        sw_fd_read_at(fd, name, text->data, len, at + sizeof first, st))
        return st->code;
    text->len = (size_t)len;
    return SW_OK;
}

/* The text of a whole file. */
static sw_code read_text(const char *dir, const char *name, uint64_t size, sw_buf *text, sw_status *st)
{
    int fd = sw_path_open_named(dir, name, st);

    if (fd >= 0)
        read_text_at(fd, name, 0, size, text, st);
    sw_fd_close(fd, name, st);
    return st->code;
}

/* Understand the text; left: bytes of the file from the front on. */
static sw_code parse(sw_front *f, const char *name, uint64_t left, sw_status *st)
{
    f->hash = sw_hash(0, f->text.data, f->text.len);
    return sw_header_parse(f->text.data, f->text.len, left - 8 - f->text.len, name, &f->h, st);
}

sw_code sw_front_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_status *st)
{
    sw_header_release(&f->h);
    return read_text(dir, name, size, &f->text, st) ? st->code : parse(f, name, size, st);
}

sw_code sw_front_read_at(sw_front *f, int fd, const char *name, uint64_t at, uint64_t size, sw_status *st)
{
    sw_header_release(&f->h);
    return read_text_at(fd, name, at, size, &f->text, st) ? st->code : parse(f, name, size - at, st);
}

sw_code sw_front_hash(const char *dir, const char *name, uint64_t size, uint64_t *hash, sw_status *st)
{
    sw_buf text = SW_BUF_INIT;

    if (!read_text(dir, name, size, &text, st))
        *hash = sw_hash(0, text.data, text.len);
    sw_buf_release(&text);
    return st->code;
}

void sw_front_release(sw_front *f)
{
    sw_header_release(&f->h);
    sw_buf_release(&f->text);
    sw_buf_release(&f->values);
}
