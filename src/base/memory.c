/* The kernel's account of this process; see memory.h. */
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

/* The line of /proc/self/status that tells it, in KiB. */
static uint64_t high_water(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    uint64_t kib = 0;
    char line[256];

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %" SCNu64 " kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

uint64_t sw_peak_memory(void)
{
    uint64_t peak = high_water();
    struct rusage usage;

    if (peak == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
        peak = (uint64_t)usage.ru_maxrss * 1024;
    return peak;
}
