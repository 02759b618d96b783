/* What verify leaves behind when it is stopped. Run from the top directory. */
#include <sys/mman.h>

#include "group_help.h"
#include "top_help.h"

#define CASE "tests/golden/fqn_map/"

/* Headers and index have been looked at, and a warning comes of them; the values have not. user:
 * the flag of all ranks. */
static void stop(void *user, const char *text)
{
    volatile int *raised = user;

    (void)text;
    *raised = 1;
}

typedef struct job {
    const char *out;
    int *raised; /* shared by the ranks */
} job;

static void run_rank(const sw_comm *comm, const void *arg, outcome *o)
{
    const job *j = arg;
    sw_options opt = SW_OPTIONS_INIT;
    sw_status st = SW_STATUS_INIT;
    sw_verification result = SW_VERIFICATION_INIT;

    opt.fqn_map = CASE "map.json";
    opt.warn = stop;
    opt.user = j->raised;
    opt.cancel = j->raised;
    o->code = sw_verify(comm, CASE "in", j->out, &opt, &result, &st);
    o->written = result.nfindings;
    if (result.nfindings)
        snprintf(o->message, sizeof o->message, "%s", result.findings[0].file);
    sw_verification_release(&result);
}

/* Every rank has what was found until then. */
TEST_IN_TOP(findings_of_what_was_stopped)
{
    static const char stray[] = "model.safetensors";
    char command[512];
    job j = { top, mmap(NULL, sizeof *j.raised, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
    outcome o[RANKS_MAX];

    assert_ptr_not_equal(j.raised, MAP_FAILED);
    snprintf(command, sizeof command,
             "cp " CASE "out/* '%s' && cp " CASE "out/model-00002-*.safetensors '%s/%s'", top, top, stray);
    assert_int_equal(system(command), 0);
    for (int size = 1; size <= RANKS_MAX; size++) {
        *j.raised = 0;
        group_run(size, run_rank, &j, o);
        for (int r = 0; r < size; r++) {
            assert_int_equal(o[r].code, SW_ECANCEL);
            assert_int_equal(o[r].written, 1);
            assert_string_equal(o[r].message, stray);
        }
    }
    munmap(j.raised, sizeof *j.raised);
    snprintf(command, sizeof command, "rm -r '%s'", top);
    assert_int_equal(system(command), 0);
}
