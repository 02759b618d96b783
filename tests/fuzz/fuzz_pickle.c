/* Any bytes are a pickle, what `.metadata` or `metadata.pkl` says, a tensor's data.pkl, an archive,
 * a file of torch.save (its data.pkl, or all of it), or a list of boxes: whatever they are, a
 * status or values, every value may be asked for anything, and memory stays in proportion.
 *
 * The first byte says as what the rest is taken; what it speaks of is walked, so that a sanitizer
 * sees where it leads. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dir/torchfile.h"
#include "format/archive.h"
#include "format/boxlist.h"
#include "format/torchtensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Down to some depth: containers may hold themselves. */
static uint64_t walk(const sw_pickle *p, sw_value v, unsigned depth, uint64_t *left)
{
    uint64_t sum = (uint64_t)sw_value_kind(p, v), n;
    sw_items items;
    sw_value item;
    sw_global g;
    size_t len;
    const char *text = sw_value_text(p, v, &len);

    for (size_t i = 0; text && i < len; i++)
        sum += (unsigned char)text[i];
    if (sw_value_global(p, v, &g) && g.module_len && g.name_len)
        sum += (unsigned char)g.module[g.module_len - 1] + (unsigned char)g.name[g.name_len - 1];
    if (sw_value_size(p, v, &n))
        sum += n;
    if (depth == 0 || *left == 0)
        return sum;
    --*left;
    sum += walk(p, sw_object_class(p, v), depth - 1, left) + walk(p, sw_object_args(p, v), depth - 1, left) +
           walk(p, sw_object_state(p, v), depth - 1, left);
    for (sw_items_begin(p, v, &items); *left && sw_items_next(&items, &item);)
        sum += walk(p, item, depth - 1, left);
    return sum + sw_value_member(p, v, "a", &item);
}

static void as_pickle(const uint8_t *data, size_t size)
{
    sw_status st = SW_STATUS_INIT;
    uint64_t left = 10000;
    sw_pickle p;

    if (!sw_pickle_parse(data, size, "f", NULL, &p, &st)) {
        /* 64 bytes for each of the input, and what an allocation is rounded up to */
        if (p.cap > 4 * size + 16)
            abort();
        walk(&p, p.root, 20, &left);
    }
    sw_pickle_release(&p);
}

/* What is accepted lies within its storage. */
static void as_tensor(const uint8_t *data, size_t size)
{
    sw_status st = SW_STATUS_INIT;
    sw_torch_tensor t;
    uint64_t last = 0;

    if (sw_torch_tensor_parse(data, size, "f", "t", &t, &st))
        return;
    for (unsigned d = 0; d < t.ndim; d++) {
        if (t.shape[d] == 0)
            return;
        last += (t.shape[d] - 1) * t.strides[d];
    }
    if ((t.first + last + 1) * (sw_dtype_bits(t.dtype) / 8) > t.storage_size)
        abort();
}

static void as_archive(const uint8_t *data, size_t size)
{
    sw_archive a = { .file = "f", .tensor = "t", .size = size };
    sw_status st = SW_STATUS_INIT;
    uint64_t at = 0, bytes;
    sw_member m;

    if (sw_archive_find(&a, data, size, &st))
        return;
    while (sw_archive_next(&a, data + a.dir_at, &at, &m, &st)) {
        sw_member_is(&m, "data.pkl");
        if (size - m.at >= SW_ARCHIVE_HEAD && !sw_archive_bytes(&a, &m, data + m.at, &bytes, &st))
            sw_archive_check(&a, &m, data + bytes, &st);
        sw_status_clear(&st);
    }
}

/* Names end; a tensor that is found has its elements in the file. */
static void look_into(int fd, uint64_t size)
{
    static const char *const names[] = { "", "a", "w", "model.w", "0", "a.0" };
    sw_status st = SW_STATUS_INIT;
    sw_torch_file *f = sw_torch_file_open(fd, "f", size, &st);
    sw_buf values = SW_BUF_INIT;
    sw_torch_tensor t;
    uint64_t first;

    if (f && !sw_torch_file_values(f, "x.", 2, &values, &st) && values.len && values.data[values.len - 1])
        abort();
    for (size_t i = 0; f && i < sizeof names / sizeof *names; i++) {
        bool empty = false;

        sw_status_clear(&st);
        if (sw_torch_file_find(f, names[i], "t", &t, &first, &st))
            continue;
        for (unsigned d = 0; d < t.ndim; d++)
            empty = empty || t.shape[d] == 0;
        if (!empty && first >= size)
            abort();
    }
    sw_buf_release(&values);
    sw_torch_file_free(f);
}

static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < 8 * n; i++)
        crc = crc >> 1 ^ ((crc ^ p[i / 8] >> i % 8) & 1 ? 0xedb88320u : 0);
    return ~crc;
}

/* A member of an archive, and its entry in the directory. */
static void put_member(const char *name, const void *data, size_t n, sw_buf *file, sw_buf *dir)
{
    const uint16_t len = (uint16_t)strlen(name);
    const uint32_t size = (uint32_t)n, crc = crc_of(data, n), at = (uint32_t)file->len;
    sw_status st = SW_STATUS_INIT;
    char head[46] = "PK\1\2";

    memcpy(head + 16, &crc, 4);
    memcpy(head + 20, &size, 4);
    memcpy(head + 24, &size, 4);
    memcpy(head + 28, &len, 2);
    memcpy(head + 42, &at, 4);
    sw_buf_add(dir, head, sizeof head, &st);
    sw_buf_add(dir, name, len, &st);
    memcpy(head, "PK\3\4", 4);
    memmove(head + 14, head + 16, 14);
    memset(head + 28, 0, 2);
    sw_buf_add(file, head, 30, &st);
    sw_buf_add(file, name, len, &st);
    sw_buf_add(file, data, n, &st);
}

/* A file of torch.save with this data.pkl, and one of these bytes. */
static void as_torch_file(const uint8_t *data, size_t size)
{
    const char storage[64] = { 0 };
    sw_buf file = SW_BUF_INIT, dir = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    int fd = memfd_create("f", 0);
    char end[22] = "PK\5\6";
    uint32_t len, at;

    put_member("a/data.pkl", data, size, &file, &dir);
    put_member("a/data/0", storage, sizeof storage, &file, &dir);
    len = (uint32_t)dir.len;
    at = (uint32_t)file.len;
    end[8] = end[10] = 2;
    memcpy(end + 12, &len, 4);
    memcpy(end + 16, &at, 4);
    sw_buf_add(&file, dir.data, dir.len, &st);
    sw_buf_add(&file, end, sizeof end, &st);
    if (fd < 0 || pwrite(fd, file.data, file.len, 0) != (ssize_t)file.len)
        abort();
    look_into(fd, file.len);
    if (pwrite(fd, data, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size))
        abort();
    look_into(fd, size);
    close(fd);
    sw_buf_release(&file);
    sw_buf_release(&dir);
}

/* Each box is in a file of the list and lies within its tensor; what is read of some lines ends
 * below 2^63 (an item says itself where its elements are). Some of it may be a model's. */
static void as_list(sw_boxlist_reader *read, const uint8_t *data, size_t size)
{
    sw_boxlist_index index = { NULL, NULL };
    sw_listed_files walk = { 0, 0 };
    sw_status st = SW_STATUS_INIT;
    sw_buf list = SW_BUF_INIT;
    char *text = malloc(size + 1);
    sw_buf names = SW_BUF_INIT;
    uint64_t files = 0, values = 0;

    if (!text)
        return;
    memcpy(text, data, size);
    if (!read(text, size, "f", &list, &st) && !sw_boxlist_sort(&list, &index, &st)) {
        while (sw_boxlist_file(&list, &walk))
            files++;
        sw_boxlist_values(&list, &values, &names, &st);
        for (size_t i = 0; i < names.len; i++)
            values -= names.data[i] == '\0';
        if (values)
            abort();
        for (uint64_t i = 0; i < index.starts[files]; i++) {
            const sw_listed_ref r = index.boxes[i];
            const uint64_t *dims = sw_listed_dims(r.box), *shape = sw_listed_shape(r.tensor);

            for (unsigned d = 0; d < r.tensor->ndim; d++)
                if (dims[d] > shape[d] || dims[r.tensor->ndim + d] > shape[d] - dims[d])
                    abort();
            if (r.box->form != SW_FORM_ITEM && r.box->length > (UINT64_C(1) << 63) - r.box->at)
                abort();
        }
        sw_boxlist_choose(&list);
        sw_boxlist_index_release(&index);
        sw_boxlist_sort(&list, &index, &st);
    } else if (st.code != SW_EINPUT) {
        abort();
    }
    sw_boxlist_index_release(&index);
    sw_buf_release(&list);
    sw_buf_release(&names);
    free(text);
}

static void as_metadata(const uint8_t *data, size_t size)
{
    as_list(sw_dcp_list, data, size);
}

static void as_boxlines(const uint8_t *data, size_t size)
{
    as_list(sw_boxlines_read, data, size);
}

static void as_tcmeta(const uint8_t *data, size_t size)
{
    as_list(sw_tc_list, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const as[])(const uint8_t *, size_t) = { as_pickle,   as_metadata, as_tensor,    as_archive,
                                                           as_boxlines, as_tcmeta,   as_torch_file };

    if (size)
        as[*data % (sizeof as / sizeof *as)](data + 1, size - 1);
    return 0;
}
