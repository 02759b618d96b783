/* The floating-point mode that conversions need: to nearest, subnormals kept, no traps. A library
 * that somebody loads may find another one (torch.set_flush_denormal, -ffast-math in any shared
 * object), and bits must not depend on it. On x86 a look at the control register is all it costs
 * when nothing is amiss. */
#ifndef SW_VALUE_FPMODE_H
#define SW_VALUE_FPMODE_H

#if defined(__SSE2__)
#include <xmmintrin.h>

typedef unsigned sw_fpmode;

#define SW_FPMODE_DEFAULT 0x1f80u /* all exceptions masked, to nearest, no flush to zero */
#define SW_FPMODE_FLAGS 0x3fu     /* what has happened so far */

/* Local. Set the default mode; give what is returned to sw_fpmode_leave(). */
static inline sw_fpmode sw_fpmode_enter(void)
{
    sw_fpmode saved = _mm_getcsr();

    if ((saved & ~SW_FPMODE_FLAGS) != SW_FPMODE_DEFAULT)
        _mm_setcsr(SW_FPMODE_DEFAULT);
    return saved;
}

/* Local. The mode is what it was. */
static inline void sw_fpmode_leave(sw_fpmode saved)
{
    if ((saved & ~SW_FPMODE_FLAGS) != SW_FPMODE_DEFAULT)
        _mm_setcsr(saved);
}

#else
#include <fenv.h>

typedef fenv_t sw_fpmode;

/* Local. The same where only C's own functions are to be had. */
static inline sw_fpmode sw_fpmode_enter(void)
{
    sw_fpmode saved;

    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return saved;
}

/* Local. The mode is what it was. */
static inline void sw_fpmode_leave(sw_fpmode saved)
{
    fesetenv(&saved);
}

#endif
#endif
