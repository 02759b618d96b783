/* How much memory this process has had. */
#ifndef SW_BASE_MEMORY_H
#define SW_BASE_MEMORY_H

#include <stdint.h>

/* Local. The largest resident set so far, bytes; 0 = not known. getrusage() would count what was
 * there before exec, too. */
uint64_t sw_peak_memory(void);

#endif
