/* Usual causes of broken files; see hints.h. */
#include "dir/guess.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "format/filenames.h"
#include "format/header.h"

static const char hint_empty[] =
    "nothing was ever written: the job was killed, or the disk was full: save or copy it again";
static const char hint_zeros[] =
    "it begins with zeros: the file was made, but the job was killed, or the disk "
    "was full, before it was written: save or copy it again";
static const char hint_lfs[] =
    "a git-lfs pointer stands where the weights should be: run 'git lfs pull' in the repository, or download "
    "the file itself";
static const char hint_zip[] = "a zip archive, as PyTorch's .bin and .pt files are: it was renamed, not "
                               "converted: save it with safetensors";
static const char hint_pickle[] = "a Python pickle, as old PyTorch .bin files are: it was renamed, not "
                                  "converted: save it with safetensors";
static const char hint_distcp[] =
    "a file of a distributed checkpoint: alone it cannot be read, name the directory with its .metadata; "
    "there it was cut short, or is of another save";
static const char hint_gguf[] = "a GGUF file (llama.cpp), not safetensors";
static const char hint_html[] =
    "a web page, not weights: the download failed or asks for a login: download it again";
static const char hint_index[] = "this is an index, not weights: give the directory that it is in";
static const char hint_json[] = "a JSON file, not weights: give the directory of the checkpoint";
static const char hint_cut[] =
    "the file is shorter than its header says: an interrupted download or copy, a full disk, or a job killed "
    "while writing: get it again";

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct magic {
    const char *bytes;
    size_t n;
    const char *hint;
} magic;

static const magic magics[] = {
    { "version https://git-lfs", 23, hint_lfs },
    { "PK\003\004", 4, hint_zip },
    { "\x80\x02", 2, hint_pickle },
    { "GGUF", 4, hint_gguf },
    { "<!DOCTYPE", 9, hint_html },
    { "<!doctype", 9, hint_html },
    { "<html", 5, hint_html },
    { "\0\0\0\0\0\0\0\0", 8, hint_zeros },
};

/* What a file is that begins so; NULL = no idea. */
static const char *hint_of_bytes(const char *bytes, uint64_t n)
{
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if (n >= magics[i].n && memcmp(bytes, magics[i].bytes, magics[i].n) == 0)
            return magics[i].hint;
    return NULL;
}

/* entry = "{" ... "data_offsets": "[" begin "," end "]" ... "}": the end, if it is larger than
 * *end. */
static bool entry_end(sw_json *j, uint64_t *end)
{
    bool first = true, first_item = true;
    uint64_t n = 0;
    size_t len;
    char *key;

    if (sw_json_peek(j) != '{')
        return sw_json_skip(j);
    if (!sw_json_open(j, '{'))
        return false;
    while (sw_json_member(j, &first, &key, &len)) {
        if (strcmp(key, "data_offsets") != 0 || sw_json_peek(j) != '[') {
            if (!sw_json_skip(j))
                return false;
            continue;
        }
        if (!sw_json_open(j, '['))
            return false;
        while (sw_json_next(j, ']', &first_item))
            if (!sw_json_uint(j, &n))
                return false;
        *end = n > *end ? n : *end;
    }
    return !j->error;
}

/* Where the data of a header's tensors ends, 0 if it is no header. */
static uint64_t data_end(char *text, size_t len)
{
    uint64_t end = 0;
    bool first = true;
    size_t key_len;
    sw_json j;
    char *key;

    sw_json_init(&j, text, len);
    if (!sw_json_open(&j, '{'))
        return 0;
    while (sw_json_member(&j, &first, &key, &key_len))
        if (!entry_end(&j, &end))
            return 0;
    return j.error ? 0 : end;
}

/* Was the file longer once? */
static bool was_cut(int fd, const char *name, uint64_t size, uint64_t header)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf text = SW_BUF_INIT;
    bool cut = false;

    if (header > SW_HEADER_MAX)
        return false;
    if (header > size - 8)
        return true;
    if (!sw_buf_reserve(&text, header, &st) && !sw_fd_read_at(fd, name, text.data, header, 8, &st))
        cut = data_end(text.data, (size_t)header) > size - 8 - header;
    sw_buf_release(&text);
    return cut;
}

/* The length and "{", in a file of at least 8 bytes; without "{" it never was a header. The magic
 * of other kinds of files may be a length, too: 80 02 is 640. */
static const char *hint_of_start(int fd, const char *name, uint64_t size, const char *bytes, uint64_t n)
{
    bool brace = n > 8 && bytes[8] == '{';
    uint64_t header;
    const char *hint;

    memcpy(&header, bytes, sizeof header);
    header = le64toh(header);
    hint = brace && header <= SW_HEADER_MAX ? NULL : hint_of_bytes(bytes, n);
    if (!hint && (brace || n == 8) && was_cut(fd, name, size, header))
        hint = hint_cut;
    return hint;
}

/* Files that stand beside the weights, given in their place. */
static const char *hint_of_name(const char *name)
{
    if (sw_name_is_index(name))
        return hint_index;
    if (sw_name_ends_with(name, ".distcp"))
        return hint_distcp;
    return sw_name_ends_with(name, ".json") ? hint_json : NULL;
}

const char *sw_guess_of_file(const char *dir, const char *name, uint64_t size)
{
    sw_status st = SW_STATUS_INIT;
    char bytes[32] = "";
    uint64_t n = size < sizeof bytes ? size : sizeof bytes;
    const char *hint = size ? hint_of_name(name) : hint_empty;
    int fd = size && !hint ? sw_path_open_named(dir, name, &st) : -1;

    if (fd >= 0 && !sw_fd_read_at(fd, name, bytes, n, 0, &st)) {
        hint = n >= 8 ? hint_of_start(fd, name, size, bytes, n) : hint_of_bytes(bytes, n);
        if (!hint && n < 8)
            hint = hint_cut;
    }
    sw_fd_close(fd, name, &st);
    return hint;
}

/* ---- directories ----------------------------------------------------------------------------- */

typedef struct ending {
    const char *end, *hint;
} ending;

static const ending endings[] = {
    { ".metadata.tmp",
      "a distributed checkpoint whose save never ended: .metadata is still called .metadata.tmp" },
    { ".distcp",
      "these are .distcp files of a distributed checkpoint, without the .metadata that says what is in "
      "them: the save never ended, or it was not copied" },
    { ".bin", "these are PyTorch .bin files (pickles): convert them with safetensors first" },
    { "_rank_0.pt",
      "these look like verl's own shards of FSDP (model_world_size_N_rank_R.pt), which its merger alone "
      "reads: python -m verl.model_merger" },
    { ".pt", "these are PyTorch .pt files (pickles): convert them with safetensors first" },
    { ".pth", "these are PyTorch .pth files (pickles): convert them with safetensors first" },
    { ".ckpt", "these are .ckpt files (pickles): convert them with safetensors first" },
    { ".gguf", "these are GGUF files (llama.cpp), not safetensors" },
    { ".h5", "these are HDF5 files, not safetensors" },
    { ".safetensors.index.json", "the index is there, but not the files that it names: copy or download them "
                                 "too" },
    { ".incomplete", "downloads that were not finished: download again" },
    { ".part", "downloads that were not finished: download again" },
};

const char *sw_guess_of_names(const sw_dir *names)
{
    for (size_t k = 0; k < sizeof endings / sizeof endings[0]; k++)
        for (size_t i = 0; i < names->n; i++)
            if (sw_name_ends_with(names->names[i], endings[k].end))
                return endings[k].hint;
    return "the checkpoint may lie in a directory below, or nothing has been saved yet";
}
