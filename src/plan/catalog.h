/* The catalogue: every tensor and every box of a checkpoint, the same on each rank.
 *
 * 25,000 shard files of 1,000 tensors are 25 million boxes, so names are kept once, and the boxes
 * of a tensor by rules where these take at most 16 bytes a box (rules.h). Else they are packed: a
 * box of an n-dimensional tensor takes 16 + 16n bytes. All is in one order that does not depend on
 * the number of ranks: files and tensors by name (bytes), boxes by tensor, then offsets, then
 * file. */
#ifndef SW_PLAN_CATALOG_H
#define SW_PLAN_CATALOG_H

#include "base/buf.h"
#include "base/findings.h"
#include "format/boxlist.h"
#include "format/dtype.h"
#include "format/filenames.h"
#include "format/header.h"
#include "plan/rules.h"

#define SW_FILES_MAX (UINT32_C(1) << 30) /* two bits of a number are free: plan/entries.h */

typedef struct sw_file {
    int64_t name;         /* bytes from here to it: sw_file_name() */
    uint64_t size;        /* bytes */
    uint64_t data_start;  /* 8 + header length */
    int64_t mtime_ns;     /* for noticing a change */
    int64_t ctime_ns;     /* likewise: nobody can set it back */
    uint64_t dev, ino;    /* which file it is, as the rank that listed it sees it */
    uint64_t hash;        /* of the header text */
    uint64_t entries;     /* tensors in its header, empty ones too */
    sw_shard_name number; /* from the name; zeros when it has none */
    uint32_t owner;       /* the rank that reads it when assigned by owner */
    bool sharded;         /* carries DCP_SHARDING_INFO */
    bool format_pt;       /* its __metadata__ says format: pt */
    /* its header cannot be used, as a finding tells, or has not been read; no box points here */
    bool broken;
} sw_file;

/* Local. Relative to INPUT_DIR. It goes by distance, so that ranks may share the files wherever
 * they see them: such a struct is not copied. */
static inline const char *sw_file_name(const sw_file *f)
{
    return (const char *)f + f->name;
}
static inline void sw_file_set_name(sw_file *f, const char *name)
{
    f->name = (int64_t)((uintptr_t)name - (uintptr_t)f);
}

typedef struct sw_tensor {
    const char *name; /* first, for sw_by_bytes() */
    uint8_t dtype;    /* sw_dtype, as saved */
    uint8_t ndim;
    uint8_t out_dtype; /* as it will be written */
    bool has_global;   /* global_shape was given and stands in shapes already */
    bool holes;        /* some elements are in no box */
    bool overlaps;     /* boxes overlap without being equal */
    bool strided;      /* the elements of some box do not lie packed */
    /* findings tell why (also those two): boxes are there to be shown, not to be read */
    bool broken;
    /* leading dims beyond which no box is cut: rows sharded = 1, columns = 2, whole = 0 */
    uint8_t split_dims;
    uint32_t model;     /* j of the files that hold it, 0 = none or several */
    uint32_t file;      /* the first of the files that hold a box of it, even an empty one */
    uint32_t scale;     /* 1 + the tensor that has its scales, by its name; 0 = none */
    uint32_t scaled;    /* 1 + the tensor whose scales these are; 0 = none */
    uint64_t box0;      /* where its boxes begin in catalog->boxes, or its rules in ->rules */
    size_t nrules;      /* 0 = its boxes stand there one by one */
    uint64_t nboxes;    /* boxes that are used: disjoint, none empty, sorted by offsets */
    uint64_t nreplicas; /* behind them: boxes that repeat a used one, sorted likewise */
    uint64_t dims0;     /* its full shape at catalog->shapes + dims0, ndim sizes */
    uint64_t bytes;     /* of the full tensor as saved */
    uint64_t elements;  /* of the full tensor */
    /* largest extent of a used box along dim 0: bounds a search among sorted boxes */
    uint64_t max_rows;
    /* dims of its first box in catalog->box_dims, or of its first rule in catalog->rule_dims; each
     * takes 2 * ndim: offsets, shape */
    uint64_t box_dims0;
} sw_tensor;

/* Where a box's data is. */
typedef struct sw_box {
    uint64_t at;   /* absolute position of its first element in the file, bytes */
    uint32_t file; /* index into catalog->files */
    /* 0 = its elements lie packed, row by row; else 1 + where in catalog->strides the ndim
     * distances stand, in elements, from one to the next along each dimension */
    uint32_t strides;
} sw_box;

/* Shard files that the files of a set say belong to it: numbers from..to of a model file. */
typedef struct sw_listed {
    uint64_t model, from, to;
} sw_listed;

typedef struct sw_catalog {
    sw_file *files; /* their names behind them */
    uint32_t nfiles;
    sw_tensor *tensors; /* by name */
    uint32_t ntensors;
    uint64_t *shapes;   /* pool of full shapes */
    sw_box *boxes;      /* of tensors without rules */
    uint64_t *box_dims; /* offsets then shape of each box, outermost first, elements */
    size_t nplain, cap_boxes, nbox_dims, cap_box_dims;
    sw_rule *rules;
    uint64_t *rule_dims; /* offsets of the first box then shape of all, of each rule */
    size_t nrules, cap_rules, nrule_dims, cap_rule_dims;
    uint64_t nboxes;   /* of all tensors, empty ones too */
    uint64_t *strides; /* of the boxes that are not packed: few, or none */
    size_t nstrides, cap_strides;
    uint64_t block[2];    /* rows and columns under one scale of X.weight_scale_inv */
    bool sharded;         /* some file carries DCP_SHARDING_INFO */
    bool in_memory;       /* the files are ranks, which hold their boxes */
    bool part;            /* one file by itself: what others may hold is not missed */
    sw_model_names model; /* of a list of boxes: those that were chosen */
    uint64_t nvalues;     /* what was saved and is no tensor, */
    sw_buf values;        /* and its names, a NUL behind each */
    /* where the files do not tell what is in them: boxlist.h; until they are joined */
    sw_buf list;
    sw_listed *listed; /* by model, then from; each once */
    size_t nlisted, cap_listed;
    char *names;     /* pool that the tensors' names point into */
    bool lent;       /* boxes and box_dims are somebody else's */
    bool files_lent; /* and so are the files */
} sw_catalog;

static inline const uint64_t *sw_tensor_shape(const sw_catalog *c, const sw_tensor *t)
{
    return c->shapes + t->dims0;
}

/* A box as it is asked for. Not to be copied: the numbers may stand in it. */
typedef struct sw_placed {
    sw_box box;
    const uint64_t *offsets; /* ndim, elements, outermost first */
    const uint64_t *shape;   /* likewise; right behind them */
    uint64_t room[2 * SW_MAX_DIMS];
} sw_placed;

/* Local. Box k of a rule with these dims, whose 2 * ndim numbers go to dims. Six parameters: whose
 * files, which rule and its dims, which box, where to. */
sw_box sw_box_of_rule(const sw_file *files, const sw_rule *rule, const uint64_t *from, unsigned ndim,
                      uint64_t k, uint64_t *dims);

/* Local. The same of a tensor that has rules. */
void sw_box_by_rule(const sw_catalog *c, const sw_tensor *t, uint64_t k, sw_placed *out);

/* Local. Box k of a tensor, replicas behind the used ones. O(log rules). */
static inline const sw_placed *sw_box_get(const sw_catalog *c, const sw_tensor *t, uint64_t k, sw_placed *out)
{
    if (t->nrules) {
        sw_box_by_rule(c, t, k, out);
        return out;
    }
    out->box = c->boxes[t->box0 + k];
    out->offsets = c->box_dims + t->box_dims0 + k * 2u * t->ndim;
    out->shape = out->offsets + t->ndim;
    return out;
}

/* Local. The file that it is in. */
static inline uint32_t sw_box_file(const sw_catalog *c, const sw_tensor *t, uint64_t k)
{
    sw_placed b;

    return t->nrules ? sw_box_get(c, t, k, &b)->box.file : c->boxes[t->box0 + k].file;
}

/* Local. Is a file among them that cannot be read? */
static inline bool sw_catalog_is_broken(const sw_catalog *c)
{
    bool broken = false;

    for (uint32_t i = 0; i < c->nfiles && !broken; i++)
        broken = c->files[i].broken;
    return broken;
}

/* Local. The name of the file that holds its first box; an empty one has no box that tells. */
static inline const char *sw_tensor_file(const sw_catalog *c, const sw_tensor *t)
{
    return sw_file_name(&c->files[t->nboxes ? sw_box_file(c, t, 0) : t->file]);
}

/* Local. A tensor's boxes are these rules from now on, or these boxes, one by one: n of them, of
 * which the dimensions are given likewise. What it had is forgotten. Errors: SW_ENOMEM. */
sw_code sw_catalog_take_rules(sw_catalog *c, sw_tensor *t, const sw_rules *rules, sw_status *st);
sw_code sw_catalog_take_boxes(sw_catalog *c, sw_tensor *t, const sw_box *boxes, const uint64_t *dims,
                              uint64_t n, sw_status *st);

/* Local. The used box of a tensor that begins at offsets, or else the last one before them: 0 when
 * there is none. O(log boxes). */
uint64_t sw_box_find(const sw_catalog *c, const sw_tensor *t, const uint64_t *offsets);

/* Local. By name; NULL = there is none. O(log n). */
const sw_tensor *sw_catalog_find_tensor(const sw_catalog *c, const char *name);
const sw_file *sw_catalog_find_file(const sw_catalog *c, const char *name);

#define SW_KIND_TEXT 200 /* room for what is said of one */

/* Local. "F32 of shape [3, 1]", as it was saved. Into text; returns it. */
char *sw_tensor_text(const sw_catalog *c, const sw_tensor *t, char text[SW_KIND_TEXT]);

#define SW_NEAREST_TEXT 300 /* room for what is said of it */

/* Local. "; the nearest name is 'x'", of the tensors, to a name or glob that none has; "" where one
 * has it, none is near, or memory is short. Into said; returns it. */
const char *sw_catalog_nearest(const sw_catalog *c, const char *name, char said[SW_NEAREST_TEXT]);

void sw_catalog_release(sw_catalog *c);

/* Local. The tensors, as bytes that can be sent, appended to out; with their boxes or without; and
 * back, into a catalogue that has files and nothing else. Errors: SW_ENOMEM. */
sw_code sw_catalog_pack(const sw_catalog *c, bool boxes, sw_buf *out, sw_status *st);
sw_code sw_catalog_unpack(sw_catalog *c, const char *from, sw_status *st);

/* Local. Bytes that the boxes take which stand one by one. / They are there from now on; copy: put
 * them there first. What was there before is freed. */
uint64_t sw_catalog_box_bytes(const sw_catalog *c);
void sw_catalog_lend(sw_catalog *c, void *to, bool copy);

/* Local, the same on every rank. Prove that the boxes of each tensor cover it, once, and complete
 * the tensors: full shape, used boxes first and sorted, replicas behind them, empty boxes gone,
 * split_dims, scales; blocks are of 128 x 128.
 *   findings  NULL: the first thing that is wrong is the error; or it takes all that is wrong, and
 *             what it speaks of is marked as broken
 * Errors: SW_EINPUT for a gap (first missing offsets), a partial overlap (with the usual cause),
 * one FQN in two plain files, files with and without sharding info, F4/F6 cut within a byte. O(b
 * log b) for grids of boxes. */
sw_code sw_catalog_check(sw_catalog *c, sw_findings *findings, sw_status *st);

#endif
