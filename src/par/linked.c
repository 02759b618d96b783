/* The layer that is linked in. The archive that programs link with their own MPI is compiled with
 * SW_LAYER_LINKED; the shared library and the program have none, and load one (par/layer.c). */
#include "par/layer.h"

#ifdef SW_LAYER_LINKED
const sw_layer *const sw_layer_linked = &sw_layer_mpi;
#else
const sw_layer *const sw_layer_linked = NULL;
#endif
