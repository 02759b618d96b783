/* The bytes move: every output file is written by its group, in rounds of one band a rank. */
#ifndef SW_PAR_WELD_H
#define SW_PAR_WELD_H

#include "par/bands.h"
#include "par/proof.h"

typedef struct sw_weld {
    sw_work work;
    sw_proof *proof; /* is shown all that is written; NULL = none */
    sw_transport how;
    uint64_t written; /* out: bytes that this rank wrote */
} sw_weld;

/* Collective over world. Write all files of the layout. All ranks return the same; on an error
 * files may be left in work.to.dir. */
sw_code sw_weld_files(sw_weld *w, sw_status *st);

#endif
