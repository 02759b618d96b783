/* The copy limit of a machine: how fast plain processes move the bytes of some files to where they
 * belong in an output of the same size, with pread and pwrite and nothing else. What a program that
 * has to do the same is measured against.
 *
 *   limit [-e] [-s] [-b BYTES] -n PROCESSES OUTPUT_DIR FILE...
 *
 * The files count as one run of bytes, cut into equal parts, one for each process. They go to
 * disjoint places of OUTPUT_DIR/limit-0, or with -e each into a file of its own; -s makes them
 * durable; -b is the size of a piece. Prints the seconds from the first process's start to the last
 * one's end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct job {
    char **files;
    size_t nfiles;
    uint64_t *sizes, total, piece;
    const char *dir;
    unsigned processes;
    bool each, sync;
} job;

static void die(const char *what)
{
    fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Bytes [begin, end) of one input file to position at of the output. */
static void copy(const job *j, size_t file, uint64_t begin, uint64_t end, int out, uint64_t at, char *buf)
{
    int in = open(j->files[file], O_RDONLY | O_CLOEXEC);
    if (in < 0)
        die(j->files[file]);
    while (begin < end) {
        uint64_t want = end - begin < j->piece ? end - begin : j->piece;
        ssize_t got = pread(in, buf, want, (off_t)begin);
        if (got <= 0)
            die(j->files[file]);
        for (ssize_t done = 0; done < got;) {
            ssize_t put = pwrite(out, buf + done, (size_t)(got - done), (off_t)at + done);
            if (put <= 0)
                die("write");
            done += put;
        }
        begin += (uint64_t)got;
        at += (uint64_t)got;
    }
    close(in);
}

/* What one process does: its part of all bytes. */
static void work(const job *j, unsigned rank)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/limit-%u", j->dir, j->each ? rank : 0);
    int out = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    char *buf = malloc(j->piece);
    if (out < 0 || !buf)
        die(name);
    uint64_t begin = j->total / j->processes * rank;
    uint64_t end = rank + 1 == j->processes ? j->total : j->total / j->processes * (rank + 1);
    uint64_t at = 0; /* of the input file among all bytes */
    for (size_t i = 0; i < j->nfiles; at += j->sizes[i++]) {
        uint64_t from = begin > at ? begin - at : 0;
        uint64_t to = end < at + j->sizes[i] ? (end > at ? end - at : 0) : j->sizes[i];
        if (from < to)
            copy(j, i, from, to, out, at + from - (j->each ? begin : 0), buf);
    }
    if ((j->sync && fsync(out)) || close(out))
        die(name);
    free(buf);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All processes; false when one of them failed. */
static bool run(const job *j)
{
    bool good = true;
    int status;
    for (unsigned r = 0; r < j->processes; r++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            work(j, r);
            _exit(0);
        }
    }
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return good;
}

static void measure(job *j)
{
    j->sizes = calloc(j->nfiles, sizeof *j->sizes);
    if (!j->sizes)
        die("memory");
    for (size_t i = 0; i < j->nfiles; i++) {
        struct stat s;
        if (stat(j->files[i], &s))
            die(j->files[i]);
        j->sizes[i] = (uint64_t)s.st_size;
        j->total += j->sizes[i];
    }
}

int main(int argc, char **argv)
{
    job j = { .piece = 1 << 20, .processes = 1 };
    int c;
    while ((c = getopt(argc, argv, "esb:n:")) != -1) {
        if (c == 'e')
            j.each = true;
        else if (c == 's')
            j.sync = true;
        else if (c == 'b')
            j.piece = strtoull(optarg, NULL, 10);
        else if (c == 'n')
            j.processes = (unsigned)strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (argc - optind < 2 || !j.piece || !j.processes) {
        fprintf(stderr, "usage: limit [-e] [-s] [-b BYTES] -n PROCESSES OUTPUT_DIR FILE...\n");
        return 2;
    }
    j.dir = argv[optind];
    j.files = argv + optind + 1;
    j.nfiles = (size_t)(argc - optind - 1);
    measure(&j);
    double begin = now();
    bool good = run(&j);
    printf("%.6f\n", now() - begin);
    free(j.sizes);
    return good ? 0 : 1;
}
