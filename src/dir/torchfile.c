/* Tensors of a file; see torchfile.h. */
#include "dir/torchfile.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/path.h"
#include "base/sort.h"
#include "base/utf8.h"
#include "format/archive.h"

/* Of the directory and of data.pkl: half a million tensors. */
#define PART_MAX (UINT64_C(256) << 20)
#define DEPTH_MAX 32u
#define NAME_MAX_BYTES 4096u

/* Something that has a name. */
typedef struct named {
    uint64_t at; /* of its name, with a NUL, among the names */
    sw_value value;
} named;

struct sw_torch_file {
    int fd;
    const char *file;
    sw_archive archive;
    sw_buf dir, text;   /* the directory; data.pkl */
    sw_member *members; /* by name */
    size_t nmembers, cap_members;
    uint64_t pickle_at, pickle_end; /* where data.pkl lies */
    sw_pickle p;
    sw_buf names;
    named *values; /* by name, once they are sorted */
    size_t nvalues, cap_values;
};

/* An error about the file, or about a tensor of it. */
static sw_code odd(const sw_torch_file *f, const char *tensor, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, f->file, tensor, "%s", what);
}

/* ---- members --------------------------------------------------------------------------------- */

/* Bytes of the file, all of them, into a buffer. */
static sw_code read_part(const sw_torch_file *f, uint64_t at, uint64_t n, sw_buf *out, sw_status *st)
{
    if (n > PART_MAX)
        return odd(f, NULL, "its directory or its data.pkl is too large", st);
    if (sw_buf_reserve(out, n + 1, st) || sw_fd_read_at(f->fd, f->file, out->data, n, at, st))
        return st->code;
    out->len = (size_t)n;
    return SW_OK;
}

/* The name of a member behind the archive's own. */
static const char *own_name(const sw_member *m, size_t *len)
{
    const char *slash = memchr(m->name, '/', m->name_len);

    *len = slash ? m->name_len - (size_t)(slash + 1 - m->name) : 0;
    return slash ? slash + 1 : m->name;
}

/* Members by their names. */
static int by_member(const void *a, const void *b)
{
    size_t n, k;
    const char *x = own_name(a, &n), *y = own_name(b, &k);

    return sw_text_compare(x, n, y, k);
}

/* All members, each name once. */
static sw_code list_members(sw_torch_file *f, sw_status *st)
{
    uint64_t at = 0;
    sw_member m;

    while (sw_archive_next(&f->archive, f->dir.data, &at, &m, st))
        if (!sw_grow(&f->members, &f->cap_members, f->nmembers + 1, sizeof m, st))
            f->members[f->nmembers++] = m;
    if (st->code || f->nmembers < 2)
        return st->code;
    qsort(f->members, f->nmembers, sizeof *f->members, by_member);
    for (size_t i = 1; i < f->nmembers; i++)
        if (by_member(&f->members[i - 1], &f->members[i]) == 0)
            return odd(f, NULL, "it has two members of one name", st);
    return SW_OK;
}

/* NULL = there is none of that name. */
static const sw_member *find_member(const sw_torch_file *f, const char *name)
{
    sw_search s = { .end = f->nmembers };
    const char *its;
    size_t len;

    while (sw_search_on(&s)) {
        its = own_name(&f->members[s.mid], &len);
        sw_search_tell(&s, sw_text_compare(its, len, name, strlen(name)) < 0);
    }
    return s.at < f->nmembers && sw_member_is(&f->members[s.at], name) ? &f->members[s.at] : NULL;
}

/* Where the bytes of a member begin. */
static sw_code place_of(const sw_torch_file *f, const sw_member *m, uint64_t *at, sw_status *st)
{
    char head[SW_ARCHIVE_HEAD];

    return sw_fd_read_at(f->fd, f->file, head, sizeof head, m->at, st)
               ? st->code
               : sw_archive_bytes(&f->archive, m, head, at, st);
}

/* The bytes of a member, checked. */
static sw_code read_member(const sw_torch_file *f, const sw_member *m, uint64_t *at, sw_buf *out,
                           sw_status *st)
{
    return place_of(f, m, at, st) || read_part(f, *at, m->size, out, st)
               ? st->code
               : sw_archive_check(&f->archive, m, out->data, st);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* A dict or a list on the way down. */
typedef struct step {
    sw_items items;
    bool dict;
    bool counts;          /* what is in it is told of one by one: a dict, or there is a tensor */
    uint64_t number;      /* of the next item of a list */
    size_t len;           /* of the name before it */
    size_t nvalues, name; /* what was there before it */
} step;

typedef struct walk {
    sw_torch_file *f;
    step steps[DEPTH_MAX];
    unsigned depth;
    sw_buf name;
    uint64_t left; /* what may still be named: parts may be so many times */
} walk;

/* So many bytes of names its values may have, told or kept. */
static uint64_t most_named(const sw_torch_file *f)
{
    return 64 * (uint64_t)f->text.len;
}

static sw_code odd_names(const sw_torch_file *f, sw_status *st)
{
    return odd(f, NULL, "its data.pkl names its parts too often", st);
}

/* What holds others: a dict or list, or an object that is filled as one (an OrderedDict). */
static sw_value holder_of(const sw_pickle *p, sw_value v)
{
    sw_kind kind = sw_value_kind(p, v);

    if (kind == SW_KIND_OBJECT && sw_value_is_a(p, v, "collections", "OrderedDict"))
        v = sw_object_state(p, v);
    kind = sw_value_kind(p, v);
    return kind == SW_KIND_DICT || kind == SW_KIND_LIST || kind == SW_KIND_TUPLE ? v : 0;
}

/* Is it what makes a tensor, of whatever kind? */
static bool is_tensor(const sw_pickle *p, sw_value v)
{
    sw_global g;

    return sw_value_kind(p, v) == SW_KIND_OBJECT && sw_value_global(p, sw_object_class(p, v), &g) &&
           g.name_len > 8 && memcmp(g.name, "_rebuild", 8) == 0;
}

/* The name that the walk has come to is that of a value. */
static sw_code keep(walk *w, sw_value v, sw_status *st)
{
    sw_torch_file *f = w->f;
    named it = { f->names.len, v };

    if (sw_buf_add(&f->names, w->name.data, w->name.len, st) || sw_buf_add(&f->names, "", 1, st) ||
        sw_grow(&f->values, &f->cap_values, f->nvalues + 1, sizeof it, st))
        return st->code;
    f->values[f->nvalues++] = it;
    return SW_OK;
}

/* Something stands under the name that the walk has come to: it is gone into, or kept. */
static sw_code meet(walk *w, sw_value v, sw_status *st)
{
    sw_torch_file *f = w->f;
    sw_value in = holder_of(&f->p, v);
    step *s = &w->steps[w->depth];

    if (w->left < w->name.len + sizeof(named))
        return odd_names(f, st);
    w->left -= w->name.len + sizeof(named);
    if (!in) {
        if (w->depth && is_tensor(&f->p, v))
            s[-1].counts = true;
        return keep(w, v, st);
    }
    if (w->depth == DEPTH_MAX)
        return odd(f, NULL, "its data.pkl goes too deep", st);
    *s = (step){ .len = w->name.len, .nvalues = f->nvalues, .name = f->names.len };
    s->dict = s->counts = sw_value_kind(&f->p, in) == SW_KIND_DICT;
    sw_items_begin(&f->p, in, &s->items);
    w->depth++;
    return SW_OK;
}

/* All of a dict or list has been met. A list without tensors is one value, as torch counts them. */
static sw_code leave(walk *w, sw_status *st)
{
    const step *s = &w->steps[--w->depth];

    if (s->counts) {
        if (w->depth)
            w->steps[w->depth - 1].counts = true;
        return st->code;
    }
    w->f->nvalues = s->nvalues;
    w->f->names.len = s->name;
    w->name.len = s->len;
    return keep(w, 0, st);
}

/* The name of what stands below a step: the key of a dict, or a number. False = it has none. */
static bool name_next(walk *w, const step *s, sw_value key, sw_status *st)
{
    uint64_t number = s->number;
    const char *text = NULL;
    size_t len = 0;

    w->name.len = s->len;
    if (s->dict && !(text = sw_value_text(&w->f->p, key, &len)) && !sw_value_size(&w->f->p, key, &number))
        return false;
    if (text && (len > NAME_MAX_BYTES || memchr(text, '\0', len) || sw_utf8_invalid(text, len)))
        return false;
    if (s->len > NAME_MAX_BYTES || (s->len && sw_buf_add(&w->name, ".", 1, st)))
        return false;
    return text ? !sw_buf_add(&w->name, text, len, st)
                : !sw_buf_addf(&w->name, st, "%llu", (unsigned long long)number);
}

/* Names by their bytes. */
static int by_name(const void *a, const void *b, void *names)
{
    const char *text = names;

    return strcmp(text + ((const named *)a)->at, text + ((const named *)b)->at);
}

/* All that has a name, by it, without recursion. */
static sw_code list_values(sw_torch_file *f, sw_status *st)
{
    walk w = { .f = f, .left = most_named(f) };

    meet(&w, f->p.root, st);
    while (!st->code && w.depth > 0) {
        step *s = &w.steps[w.depth - 1];
        sw_value key = 0, v;

        if (!(s->dict ? sw_items_next_pair(&s->items, &key, &v) : sw_items_next(&s->items, &v))) {
            leave(&w, st);
            continue;
        }
        if (name_next(&w, s, key, st))
            meet(&w, v, st);
        s->number++;
    }
    sw_buf_release(&w.name);
    if (!st->code && f->nvalues > 1)
        qsort_r(f->values, f->nvalues, sizeof *f->values, by_name, f->names.data);
    return st->code;
}

/* ---- the file -------------------------------------------------------------------------------- */

/* Little-endian, as far as it says. */
static sw_code check_order(const sw_torch_file *f, sw_status *st)
{
    const sw_member *m = find_member(f, "byteorder");
    sw_buf order = SW_BUF_INIT;
    uint64_t at;

    if (m && !read_member(f, m, &at, &order, st) && (order.len != 6 || memcmp(order.data, "little", 6) != 0))
        odd(f, NULL, "it was saved on a big-endian machine", st);
    sw_buf_release(&order);
    return st->code;
}

/* All but the elements. */
static sw_code read_all(sw_torch_file *f, sw_status *st)
{
    char tail[SW_ARCHIVE_TAIL];
    uint64_t n = sw_min(f->archive.size, sizeof tail);
    const sw_member *m;

    if (sw_fd_read_at(f->fd, f->file, tail, n, f->archive.size - n, st) ||
        sw_archive_find(&f->archive, tail, n, st) ||
        read_part(f, f->archive.dir_at, f->archive.dir_len, &f->dir, st) || list_members(f, st))
        return st->code;
    m = find_member(f, "data.pkl");
    if (!m)
        return odd(f, NULL, "it has no data.pkl", st);
    if (read_member(f, m, &f->pickle_at, &f->text, st) || check_order(f, st))
        return st->code;
    f->pickle_end = f->pickle_at + m->size;
    return sw_pickle_parse(f->text.data, f->text.len, f->file, NULL, &f->p, st) ? st->code
                                                                                : list_values(f, st);
}

bool sw_torch_file_is(int fd, const char *file, uint64_t size, sw_status *st)
{
    char first[4] = { 0 };

    return size >= sizeof first && !sw_fd_read_at(fd, file, first, sizeof first, 0, st) &&
           memcmp(first, "PK\3\4", sizeof first) == 0;
}

sw_torch_file *sw_torch_file_open(int fd, const char *file, uint64_t size, sw_status *st)
{
    sw_torch_file *f = sw_calloc(1, sizeof *f, st);

    if (!f)
        return NULL;
    f->fd = fd;
    f->file = file;
    f->archive = (sw_archive){ file, NULL, size, 0, 0 };
    if (!read_all(f, st))
        return f;
    sw_torch_file_free(f);
    return NULL;
}

void sw_torch_file_free(sw_torch_file *f)
{
    if (!f)
        return;
    sw_pickle_release(&f->p);
    sw_buf_release(&f->dir);
    sw_buf_release(&f->text);
    sw_buf_release(&f->names);
    free(f->members);
    free(f->values);
    free(f);
}

sw_code sw_torch_file_values(const sw_torch_file *f, const char *before, size_t len, sw_buf *out,
                             sw_status *st)
{
    uint64_t left = most_named(f);

    for (size_t i = 0; i < f->nvalues && !st->code; i++) {
        const char *name = f->names.data + f->values[i].at;
        size_t n = strlen(name) + 1;

        if (is_tensor(&f->p, f->values[i].value))
            continue;
        if (left < len + n)
            return odd_names(f, st);
        left -= len + n;
        if (!sw_buf_add(out, before, len, st))
            sw_buf_add(out, name, n, st);
    }
    return st->code;
}

static bool is_called(const sw_torch_file *f, uint64_t value, const char *name)
{
    return value < f->nvalues && strcmp(f->names.data + f->values[value].at, name) == 0;
}

sw_code sw_torch_file_find(sw_torch_file *f, const char *name, const char *tensor, sw_torch_tensor *out,
                           uint64_t *first, sw_status *st)
{
    sw_search s = { .end = f->nvalues };
    const sw_member *m;
    uint64_t at;

    while (sw_search_on(&s))
        sw_search_tell(&s, strcmp(f->names.data + f->values[s.mid].at, name) < 0);
    while (is_called(f, s.at, name) && sw_value_kind(&f->p, f->values[s.at].value) != SW_KIND_OBJECT)
        s.at++; /* a number of the same name is no tensor */
    if (!is_called(f, s.at, name))
        return odd(f, tensor, "a box of it is not in this file", st);
    f->archive.tensor = tensor;
    if (sw_torch_tensor_take(&f->p, f->values[s.at].value, f->file, tensor, out, st))
        return st->code;
    m = find_member(f, out->member);
    if (!m || m->size != out->storage_size)
        return odd(f, tensor,
                   m ? "its storage has another length than data.pkl says" : "its storage is missing", st);
    if (place_of(f, m, &at, st))
        return st->code;
    if (at < f->pickle_end && m->at < f->pickle_end && f->pickle_at < at + m->size)
        return odd(f, tensor, "two members of its file overlap", st);
    *first = at + out->first * (sw_dtype_bits(out->dtype) / 8);
    return SW_OK;
}
