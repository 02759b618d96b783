/* Loading each rank's part of a checkpoint onto a new mesh, beside the limit: reading as many
 * bytes.
 *
 *   bench_reader [-t THREADS] [-b BUFFER] [-d DTYPE] [-k ROUNDS] [-m safe|never|always] [-lr]
 *   CHECKPOINT rows|columns|grid RANKS
 *
 * One rank after the other, as DTensor places them, into memory that has been touched. With -l only
 * the limit runs: THREADS read as many bytes as the rank needs, one after the other, a MiB at a
 * time, into the same memory. With -r they read the very ranges that the rank needs, with a call
 * for each. Prints the seconds of the best round, headers included, and the bytes of all ranks. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shardweld.h"

#define PIECE ((uint64_t)1 << 20)

typedef struct setup {
    const char *path, *dtype;
    uint64_t mesh[2]; /* ranks over rows, over columns */
    unsigned threads, rounds;
    uint64_t buffer;
    bool limit, ranges;
    sw_read_map map;
} setup;

/* The part of one rank: reads, and where they go. */
typedef struct part {
    sw_read *reads;
    uint64_t (*dims)[4];
    size_t n;
    uint64_t bytes;
    char *memory;
} part;

static void die(const char *what)
{
    fprintf(stderr, "bench_reader: %s\n", what);
    exit(1);
}

static void check(const sw_status *st)
{
    char text[2048];

    if (st->code)
        die(sw_status_message(st, text, sizeof text));
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* torch.chunk: pieces of ceil(n / parts). */
static void chunk(uint64_t n, uint64_t parts, uint64_t i, uint64_t *offset, uint64_t *size)
{
    uint64_t each = (n + parts - 1) / parts, end = (i + 1) * each < n ? (i + 1) * each : n;

    *offset = i * each < n ? i * each : n;
    *size = end - *offset;
}

/* Matrices are cut as the mesh says, vectors over all ranks. */
static void place(const setup *s, const sw_tensor_info *t, uint64_t rank, uint64_t dims[4])
{
    memset(dims, 0, 4 * sizeof *dims);
    if (t->ndim == 1)
        chunk(t->shape[0], s->mesh[0] * s->mesh[1], rank, &dims[0], &dims[2]);
    if (t->ndim != 2)
        return;
    chunk(t->shape[0], s->mesh[0], rank / s->mesh[1], &dims[0], &dims[2]);
    chunk(t->shape[1], s->mesh[1], rank % s->mesh[1], &dims[1], &dims[3]);
}

static void make_part(const setup *s, const sw_checkpoint *cp, uint64_t rank, part *p)
{
    sw_checkpoint_info info;
    uint64_t at = 0;

    sw_checkpoint_info_get(cp, &info);
    p->n = info.ntensors;
    p->reads = calloc(p->n, sizeof *p->reads);
    p->dims = calloc(p->n, sizeof *p->dims);
    for (size_t i = 0; i < p->n; i++) {
        sw_status st = SW_STATUS_INIT;
        sw_read_shape shape;
        sw_tensor_info t;
        uint64_t elements;

        sw_checkpoint_tensor(cp, i, &t);
        sw_checkpoint_read_shape(cp, t.name, s->dtype, &shape, &st);
        check(&st);
        place(s, &t, rank, p->dims[i]);
        elements = t.ndim == 2 ? p->dims[i][2] * p->dims[i][3] : p->dims[i][2];
        p->reads[i] = (sw_read){
            .name = t.name, .ndim = t.ndim, .offsets = p->dims[i], .shape = p->dims[i] + 2, .dtype = s->dtype
        };
        p->reads[i].size = t.elements ? shape.bytes / t.elements * elements : 0;
        p->bytes += p->reads[i].size;
    }
    p->memory = malloc(p->bytes + 64);
    if (!p->memory)
        die("out of memory");
    memset(p->memory, 1, p->bytes);
    for (size_t i = 0; i < p->n; at += p->reads[i++].size)
        p->reads[i].data = p->memory + at;
}

static void release_part(part *p)
{
    free(p->reads);
    free(p->dims);
    free(p->memory);
    *p = (part){ 0 };
}

static double load(const setup *s, const part *p)
{
    sw_read_options opt = { .threads = s->threads, .buffer_size = s->buffer, .map = s->map };
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    sw_status st = SW_STATUS_INIT;
    double begin = now();

    if (!sw_checkpoint_open(&comm, s->path, NULL, &cp, &st))
        sw_checkpoint_read(cp, p->reads, p->n, &opt, &st);
    check(&st);
    sw_checkpoint_free(cp);
    return now() - begin;
}

/* ---- the limit ------------------------------------------------------------------------------- */

/* Bytes [begin, end) of all files, as if they were one, to memory. */
typedef struct run {
    const setup *s;
    const sw_checkpoint *cp;
    uint64_t begin, end;
    char *to;
    pthread_t thread;
} run;

static void read_run(const char *path, uint64_t from, uint64_t until, char *to)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        die(path);
    while (from < until) {
        ssize_t got = pread(fd, to, until - from < PIECE ? until - from : PIECE, (off_t)from);

        if (got <= 0)
            die(path);
        from += (uint64_t)got;
        to += got;
    }
    close(fd);
}

static void *limit_thread(void *arg)
{
    const run *r = arg;
    sw_checkpoint_info info;
    uint64_t at = 0;
    char path[4096];

    sw_checkpoint_info_get(r->cp, &info);
    for (uint64_t f = 0; f < info.nfiles; f++) {
        sw_file_info file;
        uint64_t from, until;

        sw_checkpoint_file(r->cp, f, &file);
        from = r->begin > at ? r->begin - at : 0;
        until = r->end < at + file.size ? (r->end > at ? r->end - at : 0) : file.size;
        snprintf(path, sizeof path, "%s/%s", r->s->path, file.name);
        if (from < until)
            read_run(path, from, until, r->to + (at + from - r->begin));
        at += file.size;
    }
    return NULL;
}

/* The bytes that a rank needs of the files, as they are saved. */
static double limit(const setup *s, const sw_checkpoint *cp, const part *p, uint64_t rank)
{
    run *runs = calloc(s->threads, sizeof *runs);
    uint64_t begin, each = p->bytes / s->threads;
    sw_checkpoint_info info;
    double start = now();

    sw_checkpoint_info_get(cp, &info);
    begin = rank * p->bytes;
    if (begin + p->bytes > info.file_bytes)
        begin = info.file_bytes - p->bytes;
    for (unsigned i = 0; i < s->threads; i++) {
        runs[i] = (run){ .s = s, .cp = cp, .begin = begin + i * each, .to = p->memory + i * each };
        runs[i].end = i + 1 == s->threads ? begin + p->bytes : runs[i].begin + each;
        if (i > 0 && pthread_create(&runs[i].thread, NULL, limit_thread, &runs[i]))
            die("no thread");
    }
    limit_thread(&runs[0]);
    for (unsigned i = 1; i < s->threads; i++)
        pthread_join(runs[i].thread, NULL);
    free(runs);
    return now() - start;
}

/* ---- the limit of calls ---------------------------------------------------------------------- */

static void read_range(int fd, char *to, uint64_t n, uint64_t at)
{
    while (n) {
        ssize_t got = pread(fd, to, n < PIECE ? n : PIECE, (off_t)at);

        if (got <= 0)
            die("cannot read");
        to += got;
        at += (uint64_t)got;
        n -= (uint64_t)got;
    }
}

/* What a read shares with a source box, of two dimensions at most: its rows, one call each; all at
 * once where they lie together. */
static void read_shared(const sw_read *q, const sw_tensor_info *t, const sw_box_info *b, int fd)
{
    uint64_t lo[2] = { 0, 0 }, n[2] = { 1, 1 }, wide = 1, mine = 1, width = t->bytes / t->elements, at, to;

    for (unsigned d = 0; d < t->ndim; d++) {
        uint64_t first = b->offsets[d] > q->offsets[d] ? b->offsets[d] : q->offsets[d];
        uint64_t end = b->offsets[d] + b->shape[d], mine_end = q->offsets[d] + q->shape[d];

        end = end < mine_end ? end : mine_end;
        if (first >= end)
            return;
        lo[d] = first;
        n[d] = end - first;
    }
    if (t->ndim == 2) {
        wide = b->shape[1];
        mine = q->shape[1];
    }
    at = (lo[0] - b->offsets[0]) * wide + (t->ndim == 2 ? lo[1] - b->offsets[1] : 0);
    to = (lo[0] - q->offsets[0]) * mine + (t->ndim == 2 ? lo[1] - q->offsets[1] : 0);
    if (n[1] == wide && n[1] == mine) {
        n[1] *= n[0];
        n[0] = 1;
    }
    for (uint64_t r = 0; r < n[0]; r++)
        read_range(fd, (char *)q->data + (to + r * mine) * width, n[1] * width,
                   b->at + (at + r * wide) * width);
}

typedef struct ranges_run {
    const setup *s;
    const sw_checkpoint *cp;
    const part *p;
    unsigned number; /* of the thread: takes every so manieth tensor */
    pthread_t thread;
} ranges_run;

static void *ranges_thread(void *arg)
{
    const ranges_run *r = arg;
    sw_checkpoint_info info;
    char path[4096];

    sw_checkpoint_info_get(r->cp, &info);
    for (uint64_t f = 0; f < info.nfiles; f++) {
        sw_file_info file;
        int fd;

        sw_checkpoint_file(r->cp, f, &file);
        snprintf(path, sizeof path, "%s/%s", r->s->path, file.name);
        if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            die(path);
        for (size_t i = r->number; i < r->p->n; i += r->s->threads) {
            sw_tensor_info t;
            sw_box_info b;

            sw_checkpoint_tensor(r->cp, i, &t);
            for (uint64_t k = 0; k < t.nboxes; k++) {
                sw_checkpoint_box(r->cp, i, k, &b);
                if (b.file == f)
                    read_shared(&r->p->reads[i], &t, &b, fd);
            }
        }
        close(fd);
    }
    return NULL;
}

static double limit_of_calls(const setup *s, const sw_checkpoint *cp, const part *p)
{
    ranges_run *runs = calloc(s->threads, sizeof *runs);
    double start = now();

    for (unsigned i = 0; i < s->threads; i++) {
        runs[i] = (ranges_run){ .s = s, .cp = cp, .p = p, .number = i };
        if (i > 0 && pthread_create(&runs[i].thread, NULL, ranges_thread, &runs[i]))
            die("no thread");
    }
    ranges_thread(&runs[0]);
    for (unsigned i = 1; i < s->threads; i++)
        pthread_join(runs[i].thread, NULL);
    free(runs);
    return now() - start;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* Best of the rounds of each rank; the sum of all. */
static void measure(const setup *s, const sw_checkpoint *cp)
{
    double seconds = 0;
    uint64_t bytes = 0;

    for (uint64_t rank = 0; rank < s->mesh[0] * s->mesh[1]; rank++) {
        double best = 0;
        part p = { 0 };

        make_part(s, cp, rank, &p);
        for (unsigned i = 0; i < s->rounds; i++) {
            double t = s->limit    ? limit(s, cp, &p, rank)
                       : s->ranges ? limit_of_calls(s, cp, &p)
                                   : load(s, &p);

            best = i == 0 || t < best ? t : best;
        }
        seconds += best;
        bytes += p.bytes;
        release_part(&p);
    }
    printf("%.6f %" PRIu64 "\n", seconds, bytes);
}

static void take_mesh(setup *s, const char *layout, uint64_t ranks)
{
    s->mesh[0] = ranks;
    s->mesh[1] = 1;
    if (strcmp(layout, "columns") == 0) {
        s->mesh[0] = 1;
        s->mesh[1] = ranks;
    } else if (strcmp(layout, "grid") == 0) {
        for (s->mesh[1] = 1; s->mesh[1] * s->mesh[1] < ranks || ranks % s->mesh[1]; s->mesh[1]++)
            continue;
        s->mesh[0] = ranks / s->mesh[1];
    } else if (strcmp(layout, "rows") != 0) {
        die("a layout is rows, columns or grid");
    }
}

static sw_read_map take_map(const char *word)
{
    static const char *const words[] = { "safe", "never", "always" };

    for (int i = 0; i < 3; i++)
        if (strcmp(word, words[i]) == 0)
            return (sw_read_map)i;
    die("-m takes safe, never or always");
    return SW_READ_MAP_SAFE;
}

int main(int argc, char **argv)
{
    setup s = { .threads = 1, .rounds = 3 };
    sw_comm comm = sw_comm_self();
    sw_checkpoint *cp = NULL;
    sw_status st = SW_STATUS_INIT;
    int c;

    while ((c = getopt(argc, argv, "t:b:d:k:m:lr")) != -1) {
        if (c == 't')
            s.threads = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'b')
            s.buffer = strtoull(optarg, NULL, 10);
        else if (c == 'd')
            s.dtype = optarg;
        else if (c == 'k')
            s.rounds = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'l')
            s.limit = true;
        else if (c == 'r')
            s.ranges = true;
        else if (c == 'm')
            s.map = take_map(optarg);
        else
            return 2;
    }
    if (argc - optind != 3 || !s.threads || !s.rounds || !strtoull(argv[optind + 2], NULL, 10))
        die("usage: bench_reader [-t THREADS] [-b BUFFER] [-d DTYPE] [-k ROUNDS] [-m safe|never|always] "
            "[-lr] CHECKPOINT LAYOUT RANKS");
    s.path = argv[optind];
    take_mesh(&s, argv[optind + 1], strtoull(argv[optind + 2], NULL, 10));
    sw_checkpoint_open(&comm, s.path, NULL, &cp, &st);
    check(&st);
    measure(&s, cp);
    sw_checkpoint_free(cp);
    return 0;
}
