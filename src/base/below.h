/* What lies below a directory that is held open: the only place that makes, renames and removes
 * there.
 *
 * A name is relative to that directory: parts that are neither empty, "." nor "..", by single
 * slashes. No link is followed, neither on the way nor at its end, and nothing leads out of the
 * directory; races included, because every step starts from a descriptor (openat2 with
 * RESOLVE_BENEATH, or where the kernel has none of it one part after the other). Paths are for
 * messages alone. All functions are local; errors and SW_FAULT sites are those of path.h. */
#ifndef SW_BASE_BELOW_H
#define SW_BASE_BELOW_H

#include "base/path.h"

typedef struct sw_below {
    int fd;     /* -1 = not open */
    char *path; /* owned */
} sw_below;

#define SW_BELOW_INIT                                                                                        \
    {                                                                                                        \
        -1, NULL                                                                                             \
    }

/* Local. Is it a name as above? */
bool sw_below_is_name(const char *name);

/* Open the directory that a path names, whose links are followed: it is the user's word. / a
 * directory below another one.
 *   missing  set, with SW_OK and nothing open, where there is none; NULL = that is an error
 * Close it also on an error. */
sw_code sw_below_open(const char *path, sw_below *out, bool *missing, sw_status *st);
sw_code sw_below_enter(const sw_below *in, const char *name, sw_below *out, bool *missing, sw_status *st);
void sw_below_close(sw_below *b);

/* openat(2), mode 0666 & ~umask: a descriptor, or -1 and errno. Never waits for the other end of a
 * pipe. */
int sw_below_fd(const sw_below *b, const char *name, int flags);

/* A descriptor of the directory that name is in, to be closed, and its last part; -1 and errno on
 * failure. */
int sw_below_parent(const sw_below *b, const char *name, const char **last);

/* Open a file that is ours alone: a regular one, with no second name, that belongs to whom the
 * directory b belongs to.
 *   flags    O_RDONLY or O_RDWR
 *   missing  as in sw_below_open()
 * Errors: SW_EIO, also for anything else, which is neither waited for nor written to; the message
 * says what it is. */
sw_code sw_below_open_own(const sw_below *b, const char *name, int flags, int *fd, bool *missing,
                          sw_status *st);

/* The error of what is not ours: SW_EIO, naming it and why. */
sw_code sw_below_refuse(const sw_below *b, const char *name, const char *why, sw_status *st);

/* What has the name; s (may be NULL) is filled unless it is MISSING. */
sw_code sw_below_stat(const sw_below *b, const char *name, sw_path_kind *kind, struct stat *s, sw_status *st);

/* Make a file that is not there yet, for writing; mode & ~umask. / With n bytes, mode
 * 0666 & ~umask; sync: durable. */
sw_code sw_below_create(const sw_below *b, const char *name, mode_t mode, int *fd, sw_status *st);
sw_code sw_below_write(const sw_below *b, const char *name, const void *data, uint64_t n, bool sync,
                       sw_status *st);

/* One directory: *made is false, with SW_OK, where something has its name. / The parents of a
 * name. */
sw_code sw_below_mkdir(const sw_below *b, const char *name, mode_t mode, bool *made, sw_status *st);
sw_code sw_below_mkdirs_for(const sw_below *b, const char *name, sw_status *st);

/* Remove the parents of a name as far as they are empty: there is no error. */
void sw_below_rmdirs_for(const sw_below *b, const char *name);

/* A rename that a server did, but whose answer was lost (ENOENT, and the file is at its target), is
 * a success. */
sw_code sw_below_rename(const sw_below *from, const char *from_name, const sw_below *to, const char *to_name,
                        sw_status *st);

/* Within b, of a file that matters to nobody: rename(2)'s result, and errno. */
int sw_below_try_rename(const sw_below *b, const char *from, const char *to);

/* A second name for a file: link(2)'s result, and errno. */
int sw_below_link(const sw_below *from, const sw_below *to, const char *name);

/* Remove a file; one that is not there is no error. / Whatever it is, with all below it: goes on
 * after errors, reports the first. */
sw_code sw_below_unlink(const sw_below *b, const char *name, sw_status *st);
sw_code sw_below_remove_tree(const sw_below *b, const char *name, sw_status *st);

sw_code sw_below_list(const sw_below *b, sw_dir *out, sw_status *st);

/* fsync the directory itself (name NULL), or one below it; EINVAL and ENOTSUP from that are no
 * error. */
sw_code sw_below_sync(const sw_below *b, const char *name, sw_status *st);

#endif
