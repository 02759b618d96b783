/* Errors as values; see status.h. */
#include "base/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    int exit_status;
    const char *text;
} codes[] = {
#define SW_CODE_ROW(name, exit_status, text) { exit_status, text },
    SW_CODES(SW_CODE_ROW)
#undef SW_CODE_ROW
};

const char *sw_version(void)
{
    return SW_VERSION;
}

int sw_code_exit_status(sw_code code)
{
    return codes[code].exit_status;
}

const char *sw_code_text(sw_code code)
{
    return codes[code].text;
}

/* As much of a text as fits, made harmless; NULL is "". */
static void copy_clean(char *to, size_t n, const char *from)
{
    size_t len = from ? strnlen(from, n - 1) : 0;

    if (len)
        memcpy(to, from, len);
    to[len] = '\0';
    sw_text_clean(to, len);
}

sw_code sw_fail(sw_status *st, sw_code code, const char *file, const char *tensor, const char *fmt, ...)
{
    char reason[sizeof st->reason];
    va_list ap;

    if (st->code)
        return st->code;
    st->code = code;
    copy_clean(st->file, sizeof st->file, file);
    copy_clean(st->tensor, sizeof st->tensor, tensor);
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    copy_clean(st->reason, sizeof st->reason, reason);
    return code;
}

sw_code sw_fail_errno(sw_status *st, const char *file, int err, const char *what)
{
    return sw_fail(st, err == ENOMEM ? SW_ENOMEM : SW_EIO, file, NULL, "%s: %s", what, strerror(err));
}

sw_code sw_fail_nomem(sw_status *st, uint64_t n)
{
    return sw_fail(st, SW_ENOMEM, NULL, NULL, "out of memory, %" PRIu64 " bytes were asked for", n);
}

void sw_status_clear(sw_status *st)
{
    st->code = SW_OK;
    st->file[0] = st->tensor[0] = st->reason[0] = st->host[0] = '\0';
    st->rank = 0;
}

void sw_host_name(char *host, size_t n)
{
    if (gethostname(host, n) != 0)
        snprintf(host, n, "unknown");
    host[n - 1] = '\0';
    sw_text_clean(host, strlen(host));
}

void sw_status_sign(sw_status *st, int rank)
{
    if (!st->code || st->host[0])
        return;
    st->rank = rank;
    sw_host_name(st->host, sizeof st->host);
}

char *sw_status_message(const sw_status *st, char *text, size_t n)
{
    char who[sizeof st->host + 32] = "";

    if (st->host[0])
        snprintf(who, sizeof who, " (rank %d on %s)", st->rank, st->host);
    snprintf(text, n, "%s%s%s%s%s%s%s", st->file, st->file[0] ? ": " : "", st->tensor[0] ? "tensor '" : "",
             st->tensor, st->tensor[0] ? "': " : "", st->reason[0] ? st->reason : sw_code_text(st->code),
             who);
    return text;
}

sw_code sw_check_cancel(const volatile int *cancel, sw_status *st)
{
    if (cancel && *cancel)
        return sw_fail(st, SW_ECANCEL, NULL, NULL, "interrupted by a signal");
    return SW_OK;
}
