/* Where the bytes of boxes are: in the shard files, opened when needed, few at a time; or, in their
 * place, in the boxes that this rank holds in memory. Runs are read by pull.h, which does not know
 * which of the two it is. */
#ifndef SW_READ_SOURCE_H
#define SW_READ_SOURCE_H

#include <sys/uio.h>

#include "plan/catalog.h"
#include "plan/memboxes.h"
#include "plan/runs.h"

struct sw_pull;
typedef struct sw_source sw_source;

/* What differs between the two: local functions. */
typedef struct sw_source_body {
    /* Read a run: its first byte goes to to + run->to. */
    sw_code (*run)(const struct sw_pull *p, const sw_run *run, char *to, sw_status *st);
    /* Ask the system to begin reading n bytes of a file now; nothing can fail. NULL = no need. */
    void (*advise)(sw_source *s, uint32_t file, uint64_t at, uint64_t n);
} sw_source_body;

extern const sw_source_body sw_from_files;  /* pull.c */
extern const sw_source_body sw_from_memory; /* memsource.c */

struct sw_source {
    const sw_source_body *body;
    const sw_catalog *c;
    const sw_memboxes *held; /* of memory; what follows, but for the scratch memory, is of files */
    const char *dir;         /* INPUT_DIR */
    int *fds;                /* one a file, -1 = not open */
    bool *changed;           /* one a file: it was another when it was closed again */
    uint32_t *open;          /* a ring of the files that are open, oldest first */
    uint32_t max_open, nopen, first;
    bool asked, local; /* the first is on this machine: its reading ahead is deep enough */
    bool drops;        /* what was read goes from the page cache (base/passed) */
    char *scratch;     /* for rows that are too short to be read one by one */
    uint64_t scratch_size;
};

/* Local. c and dir are borrowed. scratch_size: bytes of memory for short rows, at least 1. */
sw_code sw_source_init(sw_source *s, const sw_catalog *c, const char *dir, uint64_t scratch_size,
                       sw_status *st);

/* Local. The same of memory: then runs must be this rank's own, and reading them cannot fail. */
sw_code sw_source_init_memory(sw_source *s, const sw_catalog *c, const sw_memboxes *held,
                              uint64_t scratch_size, sw_status *st);

/* Local. The descriptor of a file, which is opened, and checked, when it is not open. It is good
 * until the next call. Errors: SW_EINPUT for a file that was changed since its header was read,
 * SW_EIO. */
sw_code sw_source_fd(sw_source *s, uint32_t file, int *fd, sw_status *st);

/* Local. Read all that at most 1024 vectors ask for, one after the other from position at on; they
 * are changed. name: for messages.
 * Errors: SW_EINPUT for a file that has become shorter, SW_EIO. */
sw_code sw_source_read_vectors(int fd, const char *name, struct iovec *v, int nv, uint64_t at, sw_status *st);

/* Local. Are the files that were opened still those whose headers were read? What was read of
 * others is worth nothing.
 *   changed  one a file: those that are others now are marked, and no error; NULL = they are one
 * Errors: SW_EINPUT, SW_EIO. */
sw_code sw_source_check(const sw_source *s, bool *changed, sw_status *st);

/* Local. sw_from_files.advise. */
void sw_source_advise(sw_source *s, uint32_t file, uint64_t at, uint64_t n);

void sw_source_release(sw_source *s);

#endif
