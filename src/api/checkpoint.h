/* What a checkpoint is made of, for calls that read its data. */
#ifndef SW_API_CHECKPOINT_H
#define SW_API_CHECKPOINT_H

#include "plan/catalog.h"

/* Local. Both belong to the checkpoint. */
const sw_catalog *sw_checkpoint_catalog(const sw_checkpoint *cp);
const char *sw_checkpoint_dir(const sw_checkpoint *cp);

#endif
