/* Where the members of a stored zip archive lie; see archive.h. Source: PKWARE's APPNOTE 6.3. */
#include "format/archive.h"

#include <inttypes.h>
#include <string.h>

#include "base/num.h"

#define END_LEN 22u       /* end of central directory */
#define LOCATOR_LEN 20u   /* of the one for large archives */
#define LARGE_LEN 56u     /* that one */
#define ENTRY_LEN 46u     /* of the directory, without name, extra field and comment */
#define EXTRA_LARGE 0x01u /* the extra field that holds what has no room in 32 bits */

#define FLAG_ENCRYPTED 0x41u /* by either way */

static bool is_signed(const unsigned char *p, unsigned kind)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == (kind & 0xff) && p[3] == kind >> 8;
}

static sw_code bad(const sw_archive *a, const char *what, sw_status *st)
{
    return sw_fail(st, SW_EINPUT, a->file, a->tensor, "not an archive as torch.save makes them: %s", what);
}

/* The fields of the end, or of the large one before it, once they are known to be there. */
sw_code sw_archive_find(sw_archive *a, const void *tail, size_t n, sw_status *st)
{
    const unsigned char *end = (const unsigned char *)tail + (n < END_LEN ? 0 : n - END_LEN), *large;
    uint64_t limit, here, all;

    if (n < END_LEN || !is_signed(end, 0x0605) || sw_little(end + 20, 2) != 0)
        return bad(a, "its end is not that of a zip archive", st);
    if (sw_little(end + 4, 2) != 0 || sw_little(end + 6, 2) != 0)
        return bad(a, "it has several parts", st);
    a->dir_len = sw_little(end + 12, 4);
    a->dir_at = sw_little(end + 16, 4);
    limit = a->size - END_LEN;
    here = sw_little(end + 8, 2);
    all = sw_little(end + 10, 2);
    if (n >= SW_ARCHIVE_TAIL && is_signed(end - LOCATOR_LEN, 0x0706)) {
        large = end - LOCATOR_LEN - LARGE_LEN;
        limit -= LOCATOR_LEN + LARGE_LEN;
        if (!is_signed(large, 0x0606) || sw_little(end - LOCATOR_LEN + 8, 8) != limit)
            return bad(a, "its large end is not where it should be", st);
        here = sw_little(large + 24, 8);
        all = sw_little(large + 32, 8);
        a->dir_len = sw_little(large + 40, 8);
        a->dir_at = sw_little(large + 48, 8);
    }
    if (here != all)
        return bad(a, "it has several parts", st);
    if (a->dir_len > limit || a->dir_at != limit - a->dir_len)
        return bad(a, "its directory is not where it should be", st);
    return SW_OK;
}

/* What the fields of 32 bits have no room for stands in an extra field, in this order. */
static bool take_large(const unsigned char *extra, uint64_t n, uint64_t *full, uint64_t *stored, uint64_t *at)
{
    uint64_t *const fields[] = { full, stored, at };

    while (n >= 4) {
        uint64_t len = sw_little(extra + 2, 2), from = 0;

        if (len > n - 4)
            return false;
        for (unsigned i = 0; sw_little(extra, 2) == EXTRA_LARGE && i < 3; i++) {
            if (*fields[i] != UINT32_MAX)
                continue;
            if (len - from < 8)
                return false;
            *fields[i] = sw_little(extra + 4 + from, 8);
            from += 8;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return n == 0;
}

bool sw_archive_next(const sw_archive *a, const void *dir, uint64_t *at, sw_member *m, sw_status *st)
{
    const unsigned char *e = (const unsigned char *)dir + *at;
    uint64_t left = a->dir_len - *at, name, extra, stored, end;

    if (left == 0)
        return false;
    if (left < ENTRY_LEN || !is_signed(e, 0x0201)) {
        bad(a, "its directory is malformed", st);
        return false;
    }
    name = sw_little(e + 28, 2);
    extra = sw_little(e + 30, 2);
    if (name + extra + sw_little(e + 32, 2) > left - ENTRY_LEN) {
        bad(a, "its directory is cut off", st);
        return false;
    }
    *m = (sw_member){ (const char *)e + ENTRY_LEN, (size_t)name, sw_little(e + 42, 4), sw_little(e + 24, 4),
                      (uint32_t)sw_little(e + 16, 4) };
    stored = sw_little(e + 20, 4);
    if (!take_large(e + ENTRY_LEN + name, extra, &m->size, &stored, &m->at))
        bad(a, "an extra field in its directory is malformed", st);
    else if (sw_little(e + 8, 2) & FLAG_ENCRYPTED)
        bad(a, "a member is encrypted", st);
    else if (sw_little(e + 10, 2) != 0 || stored != m->size)
        bad(a, "a member is compressed", st);
    else if (!sw_add(m->at, m->size, &end) || !sw_add(end, SW_ARCHIVE_HEAD + name, &end) || end > a->dir_at)
        bad(a, "a member lies outside", st);
    *at += ENTRY_LEN + name + extra + sw_little(e + 32, 2);
    return !st->code;
}

sw_code sw_archive_bytes(const sw_archive *a, const sw_member *m, const void *head, uint64_t *at,
                         sw_status *st)
{
    const unsigned char *h = head;
    uint64_t name = sw_little(h + 26, 2);

    if (!is_signed(h, 0x0403) || name != m->name_len)
        return bad(a, "a member's header is not where it should be", st);
    if ((sw_little(h + 6, 2) & FLAG_ENCRYPTED) || sw_little(h + 8, 2) != 0)
        return bad(a, "a member is compressed or encrypted", st);
    *at = m->at + SW_ARCHIVE_HEAD + name + sw_little(h + 28, 2);
    return *at > a->dir_at || m->size > a->dir_at - *at ? bad(a, "a member lies outside", st) : SW_OK;
}

/* A bit at a time: what is checked has some hundred bytes. */
static uint32_t crc32_of(const unsigned char *p, uint64_t n)
{
    uint32_t crc = UINT32_MAX;

    for (uint64_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

sw_code sw_archive_check(const sw_archive *a, const sw_member *m, const void *bytes, sw_status *st)
{
    return crc32_of(bytes, m->size) == m->crc
               ? SW_OK
               : sw_fail(st, SW_EINPUT, a->file, a->tensor, "the checksum of member '%.*s' is another",
                         (int)sw_min(m->name_len, 64), m->name);
}

bool sw_member_is(const sw_member *m, const char *name)
{
    const char *slash = memchr(m->name, '/', m->name_len);
    size_t n = strlen(name), len = slash ? m->name_len - (size_t)(slash + 1 - m->name) : 0;

    return slash && len == n && memcmp(slash + 1, name, n) == 0;
}
