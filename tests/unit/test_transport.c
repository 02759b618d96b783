/* Which settings of Open MPI bring aggregation back. */
#include "par/transport.h"
#include "unit.h"

/* As MPI_T tells them; ROMIO is there or not. */
#define OMPIO "io_ompio_priority=1 "
#define ROMIO OMPIO "io_romio321_priority=10 "
#define FCOLL "fcoll_dynamic_priority=10 fcoll_vulcan_priority=10 fcoll_individual_priority="

TEST(aggregates)
{
    static const struct {
        const char *words, *why; /* NULL = it does not */
    } cases[] = {
        { "", NULL },
        { "MPIR_CVAR_X=1", NULL },
        { OMPIO FCOLL "90", NULL },
        { OMPIO FCOLL "10", "fcoll_individual_priority=10" },
        { OMPIO FCOLL "50", "fcoll_individual_priority=50" },
        { OMPIO FCOLL "90 fcoll=vulcan", "fcoll=vulcan" },
        { OMPIO "fcoll=two_phase,dynamic " FCOLL "90", "fcoll=two_phase,dynamic" },
        { OMPIO FCOLL "90 fcoll=^individual", "fcoll=^individual" },
        { OMPIO FCOLL "90 fcoll=individual,vulcan", NULL },
        { OMPIO FCOLL "10 fcoll=individual", NULL },
        { OMPIO FCOLL "10 fcoll=^dynamic,dynamic_gen2,static,two_phase,vulcan", NULL },
        { OMPIO FCOLL "10 fcoll=^vulcan", "fcoll=^vulcan" },
        { OMPIO "fcoll_two_phase_priority=95 " FCOLL "90", "fcoll_two_phase_priority=95" },
        /* After a file was opened only what was chosen is there. */
        { OMPIO "fcoll_vulcan_priority=10", "fcoll_individual_priority=-1" },
        { OMPIO "fcoll_individual_priority=10", NULL },
        /* ROMIO has no such components, unless it is not the one that is used. */
        { ROMIO FCOLL "90 fcoll=vulcan", NULL },
        { ROMIO FCOLL "10", NULL },
        { ROMIO "io=ompio " FCOLL "90 fcoll=vulcan", "fcoll=vulcan" },
        { ROMIO "io=^romio321 " FCOLL "90 fcoll=vulcan", "fcoll=vulcan" },
        { ROMIO "io=romio321 " FCOLL "90 fcoll=vulcan", NULL },
        { "io_ompio_priority=30 io_romio321_priority=10 " FCOLL "90 fcoll=vulcan", "fcoll=vulcan" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char why[128] = "";
        bool is = sw_transport_aggregates(cases[i].words, why, sizeof why);

        if (is != (cases[i].why != NULL) || (is && strcmp(why, cases[i].why) != 0))
            fail_msg("%s: %d '%s'", cases[i].words, is, why);
    }
}
