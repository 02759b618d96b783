/* Files written together, by MPI_File_*, and what MPI is set to; see par/layer.h. */
#include <stdio.h>
#include <string.h>

#include "mpi/calls.h"

/* ---- hints ----------------------------------------------------------------------------------- */

/* Hints of the form "key=value", as MPI takes them. */
static int make_info(const char *const *const *hints, MPI_Info *info)
{
    int err = MPI_Info_create(info);

    for (; *hints && err == MPI_SUCCESS; hints++) {
        for (const char *const *h = *hints; *h && err == MPI_SUCCESS; h++) {
            size_t n = strcspn(*h, "=");
            char key[MPI_MAX_INFO_KEY + 1];

            if (n > MPI_MAX_INFO_KEY || (*h)[n] != '=')
                return MPI_ERR_INFO_KEY;
            memcpy(key, *h, n);
            key[n] = '\0';
            err = MPI_Info_set(*info, key, *h + n + 1);
        }
    }
    return err;
}

/* A rank that can make no hints comes without: the others would wait for it. */
int sw_mpi_file_open(sw_handle comm, const char *path, const char *const *const *hints, sw_handle *out)
{
    MPI_Info info = MPI_INFO_NULL;
    MPI_File file = MPI_FILE_NULL;
    int made = make_info(hints, &info);
    int err = MPI_File_open((MPI_Comm)comm, path, MPI_MODE_WRONLY, info, &file);

    *out = err == MPI_SUCCESS ? (sw_handle)file : 0;
    if (info != MPI_INFO_NULL)
        MPI_Info_free(&info);
    return err == MPI_SUCCESS ? made : err;
}

int sw_mpi_file_set_hints(sw_handle file, const char *const *const *hints)
{
    MPI_Info info = MPI_INFO_NULL;
    int made = make_info(hints, &info), err = MPI_File_set_info((MPI_File)file, info);

    if (info != MPI_INFO_NULL)
        MPI_Info_free(&info);
    return err == MPI_SUCCESS ? made : err;
}

void sw_mpi_file_hints(sw_handle file, sw_layer_pair_fn each, void *ctx)
{
    char key[MPI_MAX_INFO_KEY + 1], value[MPI_MAX_INFO_VAL + 1];
    MPI_Info info = MPI_INFO_NULL;
    int n = 0, found = 0;

    if (MPI_File_get_info((MPI_File)file, &info) != MPI_SUCCESS || info == MPI_INFO_NULL)
        return;
    if (MPI_Info_get_nkeys(info, &n) != MPI_SUCCESS)
        n = 0;
    for (int i = 0; i < n; i++)
        if (MPI_Info_get_nthkey(info, i, key) == MPI_SUCCESS &&
            MPI_Info_get(info, key, MPI_MAX_INFO_VAL, value, &found) == MPI_SUCCESS && found)
            each(ctx, key, value);
    MPI_Info_free(&info);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* No view is set: positions are the file's, each rank's bytes are contiguous, and some ROMIOs abort
 * at datatypes that they do not know. */
int sw_mpi_file_write(sw_handle file, int64_t at, const void *data, int n, int64_t *written)
{
    MPI_Count count = 0;
    MPI_Status status;
    int err;

    memset(&status, 0, sizeof status);
    err = MPI_File_write_at_all((MPI_File)file, (MPI_Offset)at, data, n, MPI_BYTE, &status);
    if (err == MPI_SUCCESS && n > 0)
        err = MPI_Get_elements_x(&status, MPI_BYTE, &count);
    *written = (int64_t)count;
    return err;
}

int sw_mpi_file_sync(sw_handle file)
{
    return MPI_File_sync((MPI_File)file);
}

int sw_mpi_file_close(sw_handle *file)
{
    MPI_File mpi = (MPI_File)*file;

    *file = 0;
    return MPI_File_close(&mpi);
}

/* ---- Open MPI's settings --------------------------------------------------------------------- */

typedef struct cvar {
    char name[64], text[4096]; /* Open MPI asks for room of 4096 for any string */
} cvar;

/* The value of control variable i of MPI; false when it is not wanted or cannot be read. */
static bool read_cvar(int i, bool (*wanted)(const char *name), cvar *v)
{
    int name_len = (int)sizeof v->name, desc_len = 0, verbosity, bind, scope, count = 0, n = 0;
    MPI_T_cvar_handle handle;
    MPI_Datatype type;
    MPI_T_enum values;
    bool ok = false;

    if (MPI_T_cvar_get_info(i, v->name, &name_len, &verbosity, &type, &values, NULL, &desc_len, &bind,
                            &scope) != MPI_SUCCESS ||
        !wanted(v->name) || MPI_T_cvar_handle_alloc(i, NULL, &handle, &count) != MPI_SUCCESS)
        return false;
    v->text[0] = '\0';
    if (type == MPI_CHAR && count <= (int)sizeof v->text) {
        ok = MPI_T_cvar_read(handle, v->text) == MPI_SUCCESS;
        v->text[200] = '\0';
    } else if (type == MPI_INT && count == 1) {
        ok = MPI_T_cvar_read(handle, &n) == MPI_SUCCESS;
        snprintf(v->text, sizeof v->text, "%d", n);
    }
    MPI_T_cvar_handle_free(&handle);
    return ok;
}

void sw_mpi_settings(bool (*wanted)(const char *name), sw_layer_pair_fn each, void *ctx)
{
    int provided, n = 0;
    cvar v;

    if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS)
        return;
    if (MPI_T_cvar_get_num(&n) != MPI_SUCCESS)
        n = 0;
    for (int i = 0; i < n; i++)
        if (read_cvar(i, wanted, &v))
            each(ctx, v.name, v.text);
    MPI_T_finalize();
}
