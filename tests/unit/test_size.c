/* Sizes as people write and read them. */
#include "base/status.h"
#include "unit.h"

TEST(parse)
{
    static const struct {
        const char *text;
        uint64_t want;
        const char *says; /* NULL = taken; else nothing is written */
    } cases[] = {
        { "0", 0, NULL },
        { "4096", 4096, NULL },
        { "007", 7, NULL },
        { "1B", 1, NULL },
        { "1b", 1, NULL },
        { "1KB", 1000, NULL },
        { "1kb", 1000, NULL },
        { "1KiB", 1024, NULL },
        { "1kib", 1024, NULL },
        { "1KIB", 1024, NULL },
        { "64MiB", UINT64_C(64) << 20, NULL },
        { "5GB", UINT64_C(5000000000), NULL },
        { "1.5GB", UINT64_C(1500000000), NULL },
        { "1.5GiB", UINT64_C(1610612736), NULL },
        { "2TB", UINT64_C(2000000000000), NULL },
        { "1TiB", UINT64_C(1) << 40, NULL },
        { "1K", 1024, NULL },
        { "1m", UINT64_C(1) << 20, NULL },
        { "5G", UINT64_C(5368709120), NULL },
        { "5GiB", UINT64_C(5368709120), NULL },
        { "1.5T", UINT64_C(1649267441664), NULL },
        { "0.001KB", 1, NULL },
        { "0.0009KB", 0, NULL },
        { "1.9", 1, NULL },
        { "1.9B", 1, NULL },
        { "0.1KiB", 102, NULL },
        { "1.1TiB", UINT64_C(1209462790553), NULL },
        { "0.999999999999999999999999999999TiB", (UINT64_C(1) << 40) - 1, NULL },
        { "0.000000000000909494701772928237915039062499TiB", 0, NULL },
        { "0.0000000000009094947017729282379150390625TiB", 1, NULL },
        { "18446744073709551615", UINT64_MAX, NULL },
        { "18014398509481983.999KiB", UINT64_C(18446744073709551614), NULL },
        { "16777215.99999999999TiB", UINT64_C(18446744073709551605), NULL },
        { "", 77, "not a size" },
        { "GB", 77, "not a size" },
        { "-1", 77, "not a size" },
        { "+1", 77, "not a size" },
        { " 1", 77, "not a size" },
        { "1 GB", 77, "not a size" },
        { "1GB ", 77, "not a size" },
        { "1P", 77, "not a size" },
        { "1Gi", 77, "not a size" },
        { "1PB", 77, "not a size" },
        { "1.", 77, "not a size" },
        { "1.GB", 77, "not a size" },
        { ".5GB", 77, "not a size" },
        { "1,5GB", 77, "not a size" },
        { "1.5.5GB", 77, "not a size" },
        { "1e3", 77, "not a size" },
        { "0x10", 77, "not a size" },
        { "nan", 77, "not a size" },
        { "18446744073709551616", 77, "64 bits" },
        { "99999999999999999999999999", 77, "64 bits" },
        { "16777216TiB", 77, "64 bits" },
        { "18446744073709551615KB", 77, "64 bits" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        uint64_t n = 77;

        if (sw_size_parse(cases[i].text, &n, &st) != (cases[i].says ? SW_EUSAGE : SW_OK) ||
            n != cases[i].want || (cases[i].says && !strstr(st.reason, cases[i].says)))
            fail_msg("%s: %s %llu", cases[i].text, st.reason, (unsigned long long)n);
    }
}

TEST(text)
{
    static const struct {
        uint64_t bytes;
        const char *want;
    } cases[] = {
        { 0, "0 B" },
        { 999, "999 B" },
        { 1000, "1.00 KB" },
        { 1004, "1.00 KB" },
        { 1005, "1.01 KB" },
        { 1500, "1.50 KB" },
        { 999994, "999.99 KB" },
        { 999995, "1.00 MB" },
        { 1000000, "1.00 MB" },
        { UINT64_C(5000000000), "5.00 GB" },
        { UINT64_C(999994999999999), "999.99 TB" },
        { UINT64_C(999995000000000), "1.00 PB" },
        { UINT64_MAX, "18.45 EB" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char t[SW_SIZE_TEXT];

        assert_string_equal(sw_size_text(cases[i].bytes, t), cases[i].want);
    }
}
