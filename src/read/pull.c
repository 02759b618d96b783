/* Reading runs; see pull.h.
 *
 *   straight  rows that lie far apart in the file: a call for each
 *   skipped   rows with small gaps or none: many in one call, what lies between them goes into
 *             scratch memory
 *   sieved    short rows: all from the first to the last goes into scratch memory, and what is
 *             wanted is copied
 *   mapped    in place of the last two, where a mapping is safe: copied from it, so that gaps cost
 *             only the mapping of their pages
 *
 * Scratch memory stays in the processor's cache. Measured (rows of R bytes, a gap of G bytes behind
 * each, seconds for 270 MB of file in the page cache; reading R of every R + G bytes at once takes
 * 0.016 s times 4 R / (R + G)):
 *
 *       R       G   straight  skipped  sieved  mapped
 *     128     384      0.47     0.048   0.055   0.020
 *     512    1536      0.10     0.041   0.043   0.019
 *    2048    6144      0.038    0.027   0.049   0.018
 *     512   15872      0.026    0.021   0.084   0.005
 *    2048   30720      0.010    0.028   0.056   0.009
 *
 * Without a mapping, scattered rows cannot come near the speed of a run: a call for a row costs as
 * much as 4 KiB of reading, and rows and gaps that are read together are so many times as many
 * bytes.
 *
 * What is only compared is sieved: in scratch memory it is looked at once, and written nowhere. */
#include "read/pull.h"

#include <string.h>

#include "base/num.h"
#include "base/passed.h"
#include "base/rows.h"

/* a call costs as much as reading about so many bytes that are not wanted */
#define CALL_BYTES 8192u
#define ROW_DIRECT 512u /* shorter rows cost more as vectors than as copies */
#define VECTORS 1024    /* IOV_MAX of Linux */
#define LINES 256u      /* that are read together */

#define WINDOW (UINT64_C(2) << 20) /* of a mapping that is made ready at once */
/* a larger one costs more than a call, unless rows are long */
#define MAP_GAP (UINT64_C(16) << 10)
#define MAP_MOST (UINT64_C(64) << 10) /* the largest, whatever the rows */
#define MAP_ROW (UINT64_C(128) << 10) /* for a longer one a call costs nothing */
#define MAP_IDLE (UINT64_C(4) << 20)  /* nobody waits for a lease while more is read */
#define FAR_BYTES (UINT64_C(1) << 20) /* no cache that is near holds them */

/* ---- copying --------------------------------------------------------------------------------- */

/* So many rows of a line. */
static sw_rows rows_of(const sw_run *s, uint64_t count)
{
    const sw_run_loop *in = sw_run_innermost(s);

    return (sw_rows){ s->row, count, (int64_t)in->from, in->to };
}

void sw_pull_copy(const sw_run *s, const char *from, char *to)
{
    sw_rows rows = rows_of(s, sw_run_innermost(s)->count);
    sw_run_walk w;
    uint64_t at;
    int64_t where;

    for (sw_run_begin(&w, s); sw_run_next(&w, s, &at, &where);)
        sw_rows_copy(to + where, from + (at - s->at), &rows);
}

/* ---- sieved and mapped ----------------------------------------------------------------------- */

/* Rows at equal distances. */
typedef struct line {
    uint64_t at; /* in the file */
    int64_t to;
    uint64_t count;
} line;

/* Lines that are taken together: bytes [begin, end) of the file. */
typedef struct sieve {
    const sw_pull *p;
    const sw_run *s;
    char *to;
    int fd;
    const char *map; /* the whole file; NULL = read it */
    bool refused;    /* pages of the mapping cannot be had */
    uint64_t room;   /* at most so many bytes together */
    uint64_t skip;   /* a larger gap is not worth it */
    uint64_t begin, end;
    unsigned nlines;
    line *lines; /* LINES of them */
} sieve;

/* For messages. */
static const char *file_name(const sw_pull *p, const sw_run *s)
{
    return sw_file_name(&p->source->c->files[s->file]);
}

/* from: byte begin of the file. */
static void take_lines(sieve *v, const char *from)
{
    bool far = v->p->far && v->s->n >= FAR_BYTES, *differs = v->p->differs;

    for (unsigned i = 0; i < v->nlines; i++) {
        const line *l = &v->lines[i];
        sw_rows rows = rows_of(v->s, l->count);

        if (differs)
            *differs = *differs || !sw_rows_equal(v->to + l->to, from + (l->at - v->begin), &rows);
        else
            (far ? sw_rows_stream : sw_rows_copy)(v->to + l->to, from + (l->at - v->begin), &rows);
    }
}

/* From the mapping, if its pages can be had. */
static void copy_mapped(sieve *v)
{
    v->refused = !sw_mapped_ready(v->p->mapped, v->begin, v->end);
    if (v->refused)
        return;
    take_lines(v, v->map + v->begin);
    sw_mapped_done(v->p->mapped, v->end);
}

/* Take the lines that have come together. */
static sw_code empty(sieve *v, sw_status *st)
{
    struct iovec all = { v->p->scratch, (size_t)(v->end - v->begin) };

    if (v->nlines && v->map)
        copy_mapped(v);
    else if (v->nlines && !sw_source_read_vectors(v->fd, file_name(v->p, v->s), &all, 1, v->begin, st))
        take_lines(v, v->p->scratch);
    v->nlines = 0;
    return st->code;
}

/* So many rows of a line; there is room for them. */
static sw_code put(sieve *v, uint64_t at, int64_t to, uint64_t count, sw_status *st)
{
    uint64_t end = at + (count - 1) * sw_run_innermost(v->s)->from + v->s->row;

    if (v->nlines == LINES || (v->nlines && (end - v->begin > v->room || at - v->end > v->skip)))
        empty(v, st);
    if (v->nlines == 0)
        v->begin = at;
    v->end = end;
    v->lines[v->nlines++] = (line){ at, to, count };
    return st->code;
}

/* At most so many rows of a line are taken at once. */
static uint64_t rows_at_once(const sieve *v)
{
    const sw_run_loop *in = sw_run_innermost(v->s);

    if (in->count == 1)
        return 1;
    return in->from - v->s->row > v->skip ? 1 : (v->room - v->s->row) / in->from + 1;
}

/* Is the rest not wanted any more? */
static bool is_over(const sieve *v)
{
    return v->refused || (v->p->differs && *v->p->differs);
}

/* All rows of the run, as lines. */
static sw_code put_all(sieve *v, sw_status *st)
{
    const sw_run_loop *in = sw_run_innermost(v->s);
    uint64_t most = rows_at_once(v), at;
    sw_run_walk w;
    int64_t where;

    for (sw_run_begin(&w, v->s); !is_over(v) && sw_run_next(&w, v->s, &at, &where);) {
        for (uint64_t done = 0, n; done < in->count && !is_over(v); done += n) {
            n = sw_min(most, in->count - done);
            if (put(v, at + done * in->from, where + (int64_t)done * in->to, n, st))
                return st->code;
        }
    }
    return empty(v, st);
}

/* By way of scratch memory. The lines are not emptied: they are more than a short run itself. */
static sw_code pull_sieved(const sw_pull *p, const sw_run *s, char *to, int fd, sw_status *st)
{
    line lines[LINES];
    sieve v = { .p = p, .s = s, .to = to, .fd = fd, .room = p->room, .skip = CALL_BYTES, .lines = lines };

    return put_all(&v, st);
}

/* False when nothing came of it. */
static bool pull_mapped(const sw_pull *p, const sw_run *s, char *to, int fd, sw_status *st)
{
    line lines[LINES];
    sieve v = { .p = p, .s = s, .to = to, .fd = fd, .room = WINDOW, .skip = MAP_MOST, .lines = lines };

    v.map = sw_mapped_file(p->mapped, s->file, fd, p->source->c->files[s->file].size);
    if (v.map)
        put_all(&v, st);
    return v.map && !v.refused;
}

/* ---- straight and skipped -------------------------------------------------------------------- */

/* Vectors of one call. */
typedef struct call {
    const sw_pull *p;
    const sw_run *s;
    int fd, n;
    uint64_t begin, end; /* of the file */
    struct iovec *v;     /* VECTORS of them */
} call;

/* Read what has come together. */
static sw_code make_call(call *c, sw_status *st)
{
    if (c->n)
        sw_source_read_vectors(c->fd, file_name(c->p, c->s), c->v, c->n, c->begin, st);
    c->n = 0;
    return st->code;
}

/* A row, and the gap before it; one that does not lie behind the last has the largest. */
static sw_code add_row(call *c, uint64_t at, char *to, sw_status *st)
{
    uint64_t gap = c->n == 0 ? 0 : at < c->end ? UINT64_MAX : at - c->end;

    if (c->n > VECTORS - 2 || gap > sw_min(CALL_BYTES, c->p->room)) {
        if (make_call(c, st))
            return st->code;
        gap = 0;
    }
    if (c->n == 0)
        c->begin = at;
    if (gap)
        c->v[c->n++] = (struct iovec){ c->p->scratch, (size_t)gap };
    c->v[c->n++] = (struct iovec){ to, (size_t)c->s->row };
    c->end = at + c->s->row;
    return SW_OK;
}

/* Rows to where they belong, gaps to scratch memory. */
static sw_code pull_skipped(const sw_pull *p, const sw_run *s, char *to, int fd, sw_status *st)
{
    struct iovec vectors[VECTORS]; /* not emptied: they are more than a short run itself */
    call c = { .p = p, .s = s, .fd = fd, .v = vectors };
    const sw_run_loop *in = sw_run_innermost(s);
    sw_run_walk w;
    uint64_t at;
    int64_t where;

    for (sw_run_begin(&w, s); sw_run_next(&w, s, &at, &where);)
        for (uint64_t i = 0; i < in->count; i++)
            if (add_row(&c, at + i * in->from, to + where + (int64_t)i * in->to, st))
                return st->code;
    return make_call(&c, st);
}

/* ---- compared -------------------------------------------------------------------------------- */

/* Rows that no scratch memory takes as a whole, or that come in any order: each by itself. */
static sw_code match_rows(const sw_pull *p, const sw_run *s, char *to, int fd, sw_status *st)
{
    uint64_t at, n;
    int64_t where;

    for (uint64_t i = 0; i < s->n / s->row; i++) {
        sw_run_row(s, i, &at, &where);
        for (uint64_t done = 0; done < s->row && !*p->differs; done += n) {
            struct iovec v = { p->scratch, (size_t)(n = sw_min(p->room, s->row - done)) };

            if (sw_source_read_vectors(fd, file_name(p, s), &v, 1, at + done, st))
                return st->code;
            *p->differs = memcmp(to + where + (int64_t)done, p->scratch, (size_t)n) != 0;
        }
    }
    return st->code;
}

/* ---- which ----------------------------------------------------------------------------------- */

/* Do the rows lie one behind the other in the file, in their order? */
static bool is_in_order(const sw_run *s)
{
    uint64_t span = s->row;

    for (unsigned i = s->nloops; i-- > 0;) {
        if (s->loops[i].from < span)
            return false;
        span += (s->loops[i].count - 1) * s->loops[i].from;
    }
    return true;
}

/* The same rows in the order of the file, as far as loops have one. */
static sw_run in_order(const sw_run *s)
{
    sw_run out = *s;

    for (unsigned i = 1; i < out.nloops; i++)
        for (unsigned k = i; k > 0 && out.loops[k - 1].from < out.loops[k].from; k--) {
            sw_run_loop other = out.loops[k];

            out.loops[k] = out.loops[k - 1];
            out.loops[k - 1] = other;
        }
    return out;
}

/* Where the pages come from a disk, gaps are read as well as rows. */
static bool is_for_mapping(const sw_pull *p, const sw_run *s)
{
    uint64_t gap = sw_run_innermost(s)->from - s->row;

    return p->mapped && s->row <= MAP_ROW && gap <= sw_min(sw_max(MAP_GAP, 4 * s->row), MAP_MOST) &&
           (s->row < ROW_DIRECT || !sw_run_is_together(s));
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Rows in the order of the file. */
static sw_code pull_rows(const sw_pull *p, const sw_run *s, char *to, int fd, sw_status *st)
{
    if (p->differs)
        return (s->row <= p->room ? pull_sieved : match_rows)(p, s, to, fd, st);
    if (s->nloops && is_for_mapping(p, s) && pull_mapped(p, s, to, fd, st))
        return st->code;
    if (p->mapped)
        (s->n > MAP_IDLE ? sw_mapped_release : sw_mapped_yield)(p->mapped);
    return s->nloops == 0 || s->row >= ROW_DIRECT || s->row > p->room ? pull_skipped(p, s, to, fd, st)
                                                                      : pull_sieved(p, s, to, fd, st);
}

/* Where strides are the tensor's own, rows may come in any order, or overlap: those that follow no
 * other are a call each. */
static sw_code pull_file(const sw_pull *p, const sw_run *s, char *to, sw_status *st)
{
    sw_run sorted;
    int fd;

    if (sw_source_fd(p->source, s->file, &fd, st))
        return st->code;
    if (is_in_order(s)) {
        pull_rows(p, s, to, fd, st);
    } else {
        sorted = in_order(s);
        (is_in_order(&sorted) ? pull_rows : p->differs ? match_rows : pull_skipped)(p, &sorted, to, fd, st);
    }
    /* Between rows that lie apart there is what others need yet. */
    if (p->source->drops && sw_run_is_together(s))
        sw_passed_read(fd, s->at, s->n);
    return st->code;
}

const sw_source_body sw_from_files = { pull_file, sw_source_advise };

/* ---- either ---------------------------------------------------------------------------------- */

sw_pull sw_pull_of(sw_source *source)
{
    return (sw_pull){ .source = source, .scratch = source->scratch, .room = source->scratch_size };
}

sw_code sw_pull_bytes(const sw_pull *p, uint32_t file, uint64_t at, uint64_t n, char *to, sw_status *st)
{
    const sw_run all = { .file = file, .at = at, .row = n, .n = n };

    return p->source->body->run(p, &all, to, st);
}

sw_code sw_pull_run(const sw_pull *p, const sw_run *s, char *to, sw_status *st)
{
    return p->source->body->run(p, s, to, st);
}
