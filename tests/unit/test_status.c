/* Errors as values: the first cause stays, the first who signs it stays, and a message tells
 * both. */
#include <unistd.h>

#include "base/status.h"
#include "unit.h"

TEST(messages)
{
    static const struct {
        sw_status st;
        const char *want;
    } cases[] = {
        { SW_STATUS_INIT, "success" },
        { { SW_EIO, "", "", "", 0, "" }, "input/output error" },
        { { SW_EIO, "f", "t", "why", 0, "" }, "f: tensor 't': why" },
        { { SW_EIO, "f", "", "why", 37, "node12" }, "f: why (rank 37 on node12)" },
        { { SW_EIO, "", "", "", 0, "n" }, "input/output error (rank 0 on n)" },
    };
    char text[256], cut[8];

    for (size_t i = 0; i < COUNT(cases); i++)
        assert_string_equal(sw_status_message(&cases[i].st, text, sizeof text), cases[i].want);
    assert_string_equal(sw_status_message(&cases[3].st, cut, sizeof cut), "f: why ");
}

TEST(signing)
{
    sw_status st = SW_STATUS_INIT;
    char host[64], want[128], text[128];

    sw_status_sign(&st, 3);
    assert_string_equal(st.host, "");
    sw_fail(&st, SW_EIO, "f", NULL, "why");
    sw_status_sign(&st, 3);
    sw_status_sign(&st, 4);
    sw_host_name(host, sizeof host);
    snprintf(want, sizeof want, "f: why (rank 3 on %s)", host);
    assert_string_equal(sw_status_message(&st, text, sizeof text), want);
    sw_status_clear(&st);
    assert_int_equal(st.rank, 0);
    assert_string_equal(st.host, "");
}

/* A name that is too long is cut; gethostname() may say so as an error. */
TEST(host_names)
{
    char host[64], cut[3];

    sw_host_name(host, sizeof host);
    sw_host_name(cut, sizeof cut);
    assert_true(strlen(host) > 0 && strlen(cut) < sizeof cut && strncmp(host, cut, strlen(cut)) == 0);
}
