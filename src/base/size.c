/* Sizes as people write them; see shardweld.h. No doubles: "1.1TiB" has one right answer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/status.h"

static const struct {
    const char *name;
    uint64_t bytes;
} units[] = {
    { "", 1 },
    { "B", 1 },
    { "KB", UINT64_C(1000) },
    { "MB", UINT64_C(1000000) },
    { "GB", UINT64_C(1000000000) },
    { "TB", UINT64_C(1000000000000) },
    { "KiB", UINT64_C(1) << 10 },
    { "MiB", UINT64_C(1) << 20 },
    { "GiB", UINT64_C(1) << 30 },
    { "TiB", UINT64_C(1) << 40 },
    /* as coreutils, zstd and the options of Slurm have it */
    { "K", UINT64_C(1) << 10 },
    { "M", UINT64_C(1) << 20 },
    { "G", UINT64_C(1) << 30 },
    { "T", UINT64_C(1) << 40 },
};

/* 0 = no such unit. */
static uint64_t unit_bytes(const char *name)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcasecmp(name, units[i].name) == 0)
            return units[i].bytes;
    return 0;
}

/* How many digits a text begins with. */
static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* The n digits behind a point times unit, rounded down. From the last digit on: dropping the
 * remainder at each step gives the same as dropping it once. */
static uint64_t fraction_part(const char *s, size_t n, uint64_t unit)
{
    uint64_t bytes = 0;

    while (n-- > 0)
        bytes = ((uint64_t)(s[n] - '0') * unit + bytes) / 10;
    return bytes;
}

sw_code sw_size_parse(const char *text, uint64_t *bytes, sw_status *st)
{
    size_t whole = digits(text), fraction = 0;
    const char *rest = text + whole, *at = text;
    uint64_t unit, sum;

    if (*rest == '.') {
        fraction = digits(rest + 1);
        rest += 1 + fraction;
    }
    unit = unit_bytes(rest);
    if (whole == 0 || unit == 0 || (fraction == 0 && text[whole] == '.'))
        return sw_fail(st, SW_EUSAGE, NULL, NULL,
                       "'%.100s' is not a size, expected a number such as 4096, 64MiB or 1.5GB", text);
    if (!sw_take_decimal(&at, &sum) || !sw_mul(sum, unit, &sum) ||
        !sw_add(sum, fraction_part(text + whole + 1, fraction, unit), &sum))
        return sw_fail(st, SW_EUSAGE, NULL, NULL, "size '%.100s' does not fit 64 bits", text);
    *bytes = sum;
    return SW_OK;
}

char *sw_size_text(uint64_t bytes, char text[SW_SIZE_TEXT])
{
    static const char *const names[] = { "KB", "MB", "GB", "TB", "PB", "EB" };
    uint64_t unit = 1000, cents;
    size_t i = 0;

    if (bytes < 1000) {
        snprintf(text, SW_SIZE_TEXT, "%" PRIu64 " B", bytes);
        return text;
    }
    /* Go on to the next unit where rounding would give 1000.00. */
    while (i + 1 < sizeof names / sizeof names[0] && bytes >= unit * 1000 - unit / 200) {
        unit *= 1000;
        i++;
    }
    cents = bytes / unit * 100 + (bytes % unit + unit / 200) / (unit / 100);
    snprintf(text, SW_SIZE_TEXT, "%u.%02u %s", (unsigned)(cents / 100 % 1000), (unsigned)(cents % 100),
             names[i]);
    return text;
}
