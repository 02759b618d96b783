/* What the program says to people; see say.h. */
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

sw_code sw_refuse(sw_status *st, sw_code code, const char *file, const char *fmt, ...)
{
    va_list ap;

    if (st->code)
        return st->code;
    st->code = code;
    st->tensor[0] = '\0';
    snprintf(st->file, sizeof st->file, "%s", file ? file : "");
    va_start(ap, fmt);
    vsnprintf(st->reason, sizeof st->reason, fmt, ap);
    va_end(ap);
    sw_text_clean(st->file, strlen(st->file));
    sw_text_clean(st->reason, strlen(st->reason));
    return code;
}

sw_code sw_no_memory(sw_status *st)
{
    return sw_refuse(st, SW_ENOMEM, NULL, "out of memory");
}

void *sw_room(uint64_t count, size_t size, sw_status *st)
{
    void *room = calloc(count + 1, size);

    if (!room)
        sw_no_memory(st);
    return room;
}

/* Names in the text are others' choice: nothing in them may steer a terminal. */
static void put_line(const char *what, const char *text)
{
    char *harmless = sw_clean_copy(text);

    fprintf(stderr, "shardweld: %s: %s\n", what, harmless ? harmless : text);
    free(harmless);
}

void sw_say_error(const sw_status *st)
{
    char text[SW_MESSAGE_TEXT];

    put_line("error", sw_status_message(st, text, sizeof text));
}

void sw_say_warning(const char *text)
{
    put_line("warning", text);
}

void sw_say(const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sw_text_clean(text, strlen(text));
    fprintf(stderr, "%s\n", text);
}

bool sw_write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, data, n);

        if (k < 0 && errno != EINTR)
            return false;
        data += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
    return true;
}

/* Standard output as a stream that keeps the first error. */
static ssize_t to_stdout(void *cookie, const char *data, size_t n)
{
    sw_status *st = cookie;
    int copy;

    /* On network file systems only close tells of a full disk; closing a copy leaves the descriptor
     * taken. */
    if (!st->code && (!sw_write_all(STDOUT_FILENO, data, n) || (copy = dup(STDOUT_FILENO)) < 0 ||
                      (close(copy) && errno != EINTR)))
        sw_refuse(st, SW_EIO, "standard output", "cannot write: %s", strerror(errno));
    return st->code ? 0 : (ssize_t)n;
}

sw_code sw_stdout_print(sw_printer *print, const void *about, sw_status *st)
{
    const cookie_io_functions_t functions = { .write = to_stdout };
    FILE *to = fopencookie(st, "w", functions);

    if (!to || setvbuf(to, NULL, _IOFBF, 1 << 16))
        sw_no_memory(st);
    else
        print(to, about);
    if (to && fclose(to))
        sw_no_memory(st);
    return st->code;
}

char *sw_print_text(sw_printer *print, const void *about, size_t *n, sw_status *st)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    bool bad;

    if (to)
        print(to, about);
    bad = !to || ferror(to);
    if ((to && fclose(to)) || bad)
        sw_no_memory(st);
    if (n)
        *n = len;
    if (!st->code)
        return text;
    free(text);
    return NULL;
}

void sw_stdio_guard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            /* The lowest free number is fd itself; the wrong direction keeps its use an error. */
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

double sw_clock(void)
{
    struct timespec t = { 0, 0 };

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
