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

/* Room for the longest message that an sw_status can make. */
#define LINE_MAX_BYTES (sizeof(sw_status) + 64)

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

/* Names in the text are others' choice: nothing in them may steer a terminal. */
static void put_line(const char *what, const char *text)
{
    char *harmless = sw_clean_copy(text);

    fprintf(stderr, "shardweld: %s: %s\n", what, harmless ? harmless : text);
    free(harmless);
}

void sw_say_error(const sw_status *st)
{
    char text[LINE_MAX_BYTES];

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

sw_code sw_stdout_write(const char *text, size_t n, sw_status *st)
{
    int copy;

    while (n > 0) {
        ssize_t k = write(STDOUT_FILENO, text, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return sw_refuse(st, SW_EIO, "standard output", "cannot write: %s", strerror(errno));
        text += k;
        n -= (size_t)k;
    }
    /* On network file systems only close tells of a full disk; closing a copy leaves the descriptor
     * taken. */
    copy = dup(STDOUT_FILENO);
    if (copy < 0 || (close(copy) && errno != EINTR))
        return sw_refuse(st, SW_EIO, "standard output", "cannot write: %s", strerror(errno));
    return SW_OK;
}

sw_code sw_stdout_print(bool (*print)(FILE *to, const void *about), const void *about, sw_status *st)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    bool made = to && print(to, about);

    if (!to || fclose(to) || !made)
        sw_refuse(st, SW_ENOMEM, NULL, "out of memory");
    else
        sw_stdout_write(text, n, st);
    free(text);
    return st->code;
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
