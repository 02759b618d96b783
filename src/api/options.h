/* sw_options, member by member. All that has to be known of a member stands in its row of the table
 * in options.c: where and what it is, what it changes, which calls refuse it, and in what words.
 * Everything here comes from the rows; a member without one fails the build. All local. */
#ifndef SW_API_OPTIONS_H
#define SW_API_OPTIONS_H

#include "format/dtype.h"
#include "par/comm.h"
#include "shardweld.h"

/* What a member changes, as bits. */
enum {
    SW_CHANGES_LAYOUT = 1, /* in which file a tensor stands: at most one of these is given */
    SW_CHANGES_STYLE = 2,  /* what files are called */
    SW_CHANGES_NAMES = 4,  /* which tensors come along, and what they are called */
    SW_CHANGES_VALUES = 8,
    SW_CHANGES_OTHER = 16, /* what is looked at, published, or how */
};

/* The functions that options are given to: those that have an input come first. */
typedef enum sw_call {
    SW_CALL_CONSOLIDATE,
    SW_CALL_VERIFY,
    SW_CALL_DIFF,
    SW_CALL_RESHARD,
    SW_CALL_OPEN,        /* sw_checkpoint_open(): what it does not know it does not look at */
    SW_CALL_SAVE,        /* sw_save_consolidated() */
    SW_CALL_SAVE_ORDERS, /* the same by sw_save_begin(): for ranks without MPI between them */
    SW_CALL_SAVE_SHARDS, /* also by sw_save_begin() */
    SW_CALL_CHECK,       /* what it does not know it does not look at, too */
} sw_call;

/* How many members are given that change one of these. */
size_t sw_options_given(const sw_options *o, unsigned changes);

/* Can the call take them, do they go together, with the communicator, and does each make sense by
 * itself? Errors: SW_EUSAGE. */
sw_code sw_options_check(const sw_options *o, sw_call call, const sw_comm *comm, sw_status *st);

/* A hash of all that must be equal on every rank. */
uint64_t sw_options_hash(uint64_t h, const sw_options *o);

/* Those that decide the bytes of the output, as a JSON object, by member: of paths the last part
 * alone. Errors: SW_ENOMEM. */
sw_code sw_options_text(const sw_options *o, sw_buf *out, sw_status *st);

#define SW_OPTION_PATHS 5

/* The members that are paths: where they stand in o. */
void sw_options_paths(sw_options *o, const char **paths[SW_OPTION_PATHS]);

/* What they ask of values; SW_NDTYPES = nothing. Errors: SW_EUSAGE. */
sw_code sw_value_dtypes(const sw_options *o, sw_dtype *cast, sw_dtype *dequantize, sw_status *st);

/* What block_size says; unchanged where it is NULL. Errors: SW_EUSAGE. */
sw_code sw_take_block_size(const sw_options *o, uint64_t block[2], sw_status *st);

#endif
