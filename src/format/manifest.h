/* shardweld.manifest.json: what a checkpoint is, in hashes, for who has no shards any more
 * (docs/manifest.md). Bytes <-> structs, both ways here.
 *
 * One line a file and one a tensor, in the order of their names; rank 0 writes it once, and who
 * checks reads it once. The last line is the hash of all before it, which the caller makes. */
#ifndef SW_FORMAT_MANIFEST_H
#define SW_FORMAT_MANIFEST_H

#include "base/buf.h"
#include "format/dtype.h"

#define SW_MANIFEST_NAME "shardweld.manifest.json"
#define SW_MANIFEST_SCHEMA 1
#define SW_MANIFEST_MAX (UINT64_C(1) << 30)
#define SW_MANIFEST_HASH 33 /* an XXH3-128 in hexadecimal digits, with its NUL */

typedef struct sw_manifest_file {
    const char *name; /* relative to the directory */
    uint64_t size;
    uint64_t head; /* so many of its first bytes are no tensor's: all, where it holds none */
    char head_xxh3[SW_MANIFEST_HASH];
    char sha256[65];
} sw_manifest_file;

typedef struct sw_manifest_tensor {
    const char *name;
    const char *file; /* that holds its first element */
    sw_dtype dtype;
    unsigned ndim;
    const uint64_t *shape;
    char xxh3[SW_MANIFEST_HASH];
    bool counted; /* floating-point: nan and inf are there */
    uint64_t nan, inf;
    bool ranged; /* some are finite */
    double least, most;
} sw_manifest_tensor;

/* What was read. Texts and shapes are its own. */
typedef struct sw_manifest {
    const char *origin; /* the object as text, as it was written; NULL = there is none */
    sw_manifest_file *files;
    size_t nfiles;
    sw_manifest_tensor *tensors; /* by name */
    size_t ntensors;
    void *root;       /* of jansson */
    uint64_t *shapes; /* of all tensors */
    char *text;       /* origin */
} sw_manifest;

#define SW_MANIFEST_INIT                                                                                     \
    {                                                                                                        \
        NULL, NULL, 0, NULL, 0, NULL, NULL, NULL                                                             \
    }

/* Local. All but the last line, appended: of m without its root. Errors: SW_ENOMEM. */
sw_code sw_manifest_write(const sw_manifest *m, sw_buf *out, sw_status *st);

/* Local. The last line, of the hash of all that stands in out. */
sw_code sw_manifest_seal(sw_buf *out, const char hash[SW_MANIFEST_HASH], sw_status *st);

/* Local. How many bytes of a text stand before its last line, and its hash in that; 0 = it has
 * none. */
size_t sw_manifest_unseal(const char *text, size_t len, char hash[SW_MANIFEST_HASH]);

/* Local. What a text says. Keys that are not known are passed over. Errors: SW_EINPUT (it is no
 * manifest, or of another schema; names file), SW_ENOMEM. Release out in any case. */
sw_code sw_manifest_read(const char *text, size_t len, const char *file, sw_manifest *out, sw_status *st);

/* Local. Do two origins, as text, speak of the same but for the version? False where one is
 * none. */
bool sw_manifest_same_origin(const char *a, const char *b);

/* Local. Does it speak of shard files, and not of whole tensors'? */
bool sw_manifest_is_of_shards(const sw_manifest *m);

void sw_manifest_release(sw_manifest *m);

/* Local. By name; NULL = it has none. O(log n). */
const sw_manifest_file *sw_manifest_file_of(const sw_manifest *m, const char *name);
const sw_manifest_tensor *sw_manifest_tensor_of(const sw_manifest *m, const char *name);

#endif
