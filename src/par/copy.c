/* Copying files; see copy.h. */
#include "par/copy.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"

/* One rank's way through its files; a band is read while the one before is written. */
typedef struct walk {
    sw_copy *c;
    sw_layout files; /* names and sizes alone */
    sw_schedule sched;
    sw_cursor at;
    sw_below from;
    int fd; /* of the file at hand, */
    uint32_t file;
    char *memory; /* for two bands */
    bool second;
} walk;

/* The next band that this rank copies. */
static bool next_band(void *ctx, sw_band *band)
{
    walk *w = ctx;
    const sw_layout_file *file;

    if (!sw_cursor_next(&w->sched, &w->files, (uint32_t)w->c->world->rank, &w->at))
        return false;
    file = &w->files.files[w->at.file];
    *band =
        (sw_band){ w->at.file, file->name, file->size, sw_schedule_band(&w->sched, w->at.mine, w->at.round) };
    return true;
}

/* The file that was read last. */
static void close_source(walk *w)
{
    if (w->fd >= 0 && w->c->to.drops)
        sw_passed_all(w->fd);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

/* It is of its size, since it was made by this run. */
static sw_code open_source(walk *w, const sw_band *b, sw_status *st)
{
    bool missing = false;
    struct stat s;

    if (w->fd >= 0 && w->file == b->file)
        return SW_OK;
    close_source(w);
    if (sw_below_open_own(&w->from, b->name, O_RDONLY, &w->fd, &missing, st))
        return st->code;
    if (missing || fstat(w->fd, &s) != 0 || (uint64_t)s.st_size != b->size)
        return sw_fail(st, SW_EIO, b->name, NULL,
                       "is not as it was staged: it has gone, or has another size");
    posix_fadvise(w->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    w->file = b->file;
    return SW_OK;
}

/* A band into one half of the memory, while the other one is written. */
static const char *read_band(void *ctx, const sw_band *b, sw_status *st)
{
    walk *w = ctx;
    uint64_t n = b->at.end - b->at.begin;
    char *to = w->memory + (w->second ? w->sched.band : 0);

    w->second = !w->second;
    if (open_source(w, b, st) || sw_fd_read_at(w->fd, b->name, to, n, b->at.begin, st))
        return NULL;
    if (w->c->to.drops)
        sw_passed_read(w->fd, b->at.begin, n);
    return to;
}

/* Each file to one rank, in bands of half the memory. */
static sw_code make_schedule(walk *w, sw_status *st)
{
    sw_copy *c = w->c;
    const sw_schedule_rule rule = {
        .nranks = (uint32_t)c->world->size, .band = sw_max(c->buffer / 2, 1), .block = 4096, .whole = true
    };

    w->files.files = sw_calloc(c->nfiles, sizeof *w->files.files, st);
    for (uint64_t i = 0; !st->code && i < c->nfiles; i++) {
        w->files.files[i].name = (char *)(uintptr_t)c->files[i].name;
        w->files.files[i].size = c->files[i].size;
        w->files.nfiles++;
        c->to.progress.total += c->files[i].size;
    }
    if (st->code || sw_schedule_build(&w->files, &rule, &w->sched, st))
        return st->code;
    for (uint32_t f = 0; f < w->files.nfiles; f++) {
        sw_region r = sw_schedule_region(&w->sched, &w->files, f, (uint32_t)c->world->rank);

        c->to.progress.todo += r.end - r.begin;
    }
    w->memory = sw_calloc(2, w->sched.band, st);
    return st->code;
}

sw_code sw_copy_files(sw_copy *c, sw_status *st)
{
    walk w = { .c = c, .from = SW_BELOW_INIT, .fd = -1 };
    sw_rounds r = {
        .comm = c->world, .apart = true, .behind = true, .ctx = &w, .next = next_band, .fill = read_band
    };

    if (!make_schedule(&w, st))
        sw_staged_open(c->from, &w.from, st);
    r.to = c->to;
    r.to.stream = true;
    if (!sw_agree(c->world, st))
        sw_rounds_write(&r, st);
    c->written = r.written;
    close_source(&w);
    sw_below_close(&w.from);
    sw_schedule_release(&w.sched);
    free(w.files.files);
    free(w.memory);
    return st->code;
}
