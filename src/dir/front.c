/* One header of a directory; see front.h. */
#include "dir/front.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/path.h"

/* The text, at most SW_HEADER_MAX bytes, of a file of size bytes. */
static sw_code read_text(const char *dir, const char *name, uint64_t size, sw_buf *text, sw_status *st)
{
    char *path = sw_path_join(dir, name, st);
    unsigned char first[8] = { 0 };
    uint64_t len;
    int fd = -1;

    text->len = 0;
    if (!path)
        goto out;
    if (sw_fd_open(path, name, &fd, st)) {
        sw_path_gone(path, name, st);
        goto out;
    }
    if (size >= sizeof first && sw_fd_read_at(fd, name, first, sizeof first, 0, st))
        goto out;
    if (sw_header_length(first, size, name, &len, st) || sw_buf_reserve(text, len, st) ||
        sw_fd_read_at(fd, name, text->data, len, sizeof first, st))
        goto out;
    text->len = (size_t)len;
out:
    sw_fd_close(fd, name, st);
    free(path);
    return st->code;
}

sw_code sw_front_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_status *st)
{
    sw_header_release(&f->h);
    if (read_text(dir, name, size, &f->text, st))
        return st->code;
    f->hash = sw_hash(0, f->text.data, f->text.len);
    return sw_header_parse(f->text.data, f->text.len, size - 8 - f->text.len, name, &f->h, st);
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
}
