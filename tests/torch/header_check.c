/* Our header parser as a filter, for comparing it with the reference library: file names on
 * standard input, one a line; for each "ok" or "no: message" on standard output. With --dump, each
 * "ok" follows the entries in the order of their data, one a line: name in hexadecimal, dtype,
 * begin, end, sizes, and "@" with the offsets if it is sharded. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/header.h"

typedef struct file {
    unsigned char *bytes;
    size_t len, cap;
} file;

static sw_code read_file(const char *path, file *f, sw_status *st)
{
    FILE *in = fopen(path, "rb");
    size_t n = 0;

    f->len = 0;
    if (!in)
        return sw_fail(st, SW_EIO, path, NULL, "cannot open");
    do {
        f->len += n;
        if (f->len == f->cap) {
            unsigned char *grown = realloc(f->bytes, f->cap * 2 + 4096);

            if (!grown)
                break;
            f->bytes = grown;
            f->cap = f->cap * 2 + 4096;
        }
        n = fread(f->bytes + f->len, 1, f->cap - f->len, in);
    } while (n > 0);
    if (!feof(in))
        sw_fail(st, SW_EIO, path, NULL, "cannot read");
    fclose(in);
    return st->code;
}

static void print_numbers(const char *lead, const uint64_t *n, unsigned count)
{
    printf("%s", lead);
    for (unsigned i = 0; i < count; i++)
        printf(" %" PRIu64, n[i]);
}

static int compare_entries(const void *a, const void *b)
{
    const sw_entry *x = a, *y = b;
    int c = (x->begin > y->begin) - (x->begin < y->begin);

    c = c ? c : (x->end > y->end) - (x->end < y->end);
    return c ? c : strcmp(x->name, y->name);
}

static void dump(sw_header *h)
{
    if (h->nentries)
        qsort(h->entries, h->nentries, sizeof *h->entries, compare_entries);
    for (size_t i = 0; i < h->nentries; i++) {
        const sw_entry *e = &h->entries[i];

        printf("=");
        for (size_t k = 0; k < e->name_len; k++)
            printf("%02x", (unsigned char)e->name[k]);
        printf(" %s %" PRIu64 " %" PRIu64, sw_dtype_name((sw_dtype)e->dtype), e->begin, e->end);
        print_numbers("", h->dims + e->shape, e->ndim);
        if (e->offsets != SW_NO_DIMS)
            print_numbers(" @", h->dims + e->offsets, e->ndim);
        printf("\n");
    }
}

static sw_code check(const char *path, file *f, int want_dump, sw_status *st)
{
    sw_header h = SW_HEADER_INIT;
    uint64_t len = 0;

    if (!read_file(path, f, st) && !sw_header_length(f->bytes, f->len, path, &len, st) &&
        !sw_header_parse((char *)f->bytes + 8, (size_t)len, f->len - 8 - len, path, &h, st) && want_dump)
        dump(&h);
    sw_header_release(&h);
    return st->code;
}

int main(int argc, char **argv)
{
    int want_dump = argc == 2 && strcmp(argv[1], "--dump") == 0;
    static char line[4096], message[2048];
    file f = { NULL, 0, 0 };

    while (fgets(line, sizeof line, stdin)) {
        sw_status st = SW_STATUS_INIT;

        line[strcspn(line, "\n")] = '\0';
        if (check(line, &f, want_dump, &st))
            printf("no: %s\n", sw_status_message(&st, message, sizeof message));
        else
            printf("ok\n");
    }
    free(f.bytes);
    return fflush(stdout) ? 1 : 0;
}
