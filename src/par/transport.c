/* Which way MPI-IO takes: chosen by environment before the first file is opened, and read back for a report. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "par/comm.h"

/* What each is for: ROMIO where it is built; OMPIO without aggregators, which lose data on a full disk and
 * hang; no read-modify-write; no lock and data files beside the output; no lock of the whole file for each
 * write on NFS. */
static const char *const defaults[][2] = {
    { "OMPI_MCA_io_ompio_priority", "1" },
    { "OMPI_MCA_fcoll_individual_priority", "90" },
    { "OMPI_MCA_fbtl_posix_write_datasieving", "0" },
    { "OMPI_MCA_sharedfp", "^lockedfile,individual" },
    { "OMPI_MCA_fs_ufs_lock_algorithm", "1" },
};

static bool is_on_nfs(const char *dir)
{
    sw_status st = SW_STATUS_INIT;
    sw_fs fs = { 0 };

    return sw_path_fs_near(dir, &fs, &st) == SW_OK && fs.nfs;
}

void sw_transport_defaults(const char *output_dir)
{
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        setenv(defaults[i][0], defaults[i][1], 0);
    /* ROMIO's driver for NFS locks each write and does not go on after a short one. */
    if (output_dir && is_on_nfs(output_dir))
        setenv("ROMIO_FSTYPE_FORCE", "ufs:", 0);
}

typedef struct cvar {
    char name[64], text[4096]; /* Open MPI asks for room of 4096 for any string */
    long number;
    bool is_text;
} cvar;

/* The value of control variable i of MPI; false when it is not one of interest or cannot be read. */
static bool read_cvar(int i, cvar *v)
{
    int name_len = (int)sizeof v->name, desc_len = 0, verbosity, bind, scope, count = 0, n = 0;
    MPI_T_cvar_handle handle;
    MPI_Datatype type;
    MPI_T_enum values;
    bool ok = false;

    if (MPI_T_cvar_get_info(i, v->name, &name_len, &verbosity, &type, &values, NULL, &desc_len, &bind,
                            &scope) != MPI_SUCCESS)
        return false;
    if (strcmp(v->name, "io") && strcmp(v->name, "sharedfp") && strcmp(v->name, "io_ompio_priority") &&
        strcmp(v->name, "fcoll_individual_priority") && strcmp(v->name, "fbtl_posix_write_datasieving") &&
        strcmp(v->name, "fs_ufs_lock_algorithm") &&
        (strncmp(v->name, "io_romio", 8) || !strstr(v->name, "_priority") || strstr(v->name, "delete")))
        return false;
    if (MPI_T_cvar_handle_alloc(i, NULL, &handle, &count) != MPI_SUCCESS)
        return false;
    v->is_text = type == MPI_CHAR;
    v->text[0] = '\0';
    if (v->is_text && count <= (int)sizeof v->text) {
        ok = MPI_T_cvar_read(handle, v->text) == MPI_SUCCESS;
        v->text[sizeof v->text - 1] = '\0';
    } else if (type == MPI_INT && count == 1) {
        ok = MPI_T_cvar_read(handle, &n) == MPI_SUCCESS;
        v->number = n;
    }
    MPI_T_cvar_handle_free(&handle);
    return ok;
}

static void add_word(char *words, size_t size, const cvar *v)
{
    size_t at = strlen(words);

    if (v->is_text && !v->text[0])
        return;
    if (v->is_text)
        snprintf(words + at, size - at, "%s%s=%.200s", at ? " " : "", v->name, v->text);
    else
        snprintf(words + at, size - at, "%s%s=%ld", at ? " " : "", v->name, v->number);
}

static void describe_mpi(char *io, size_t io_size, char *words, size_t words_size)
{
    long ompio = 0, romio = -1;
    char chosen[64] = "";
    int provided, n = 0;
    cvar v;

    words[0] = '\0';
    snprintf(io, io_size, "mpi-io");
    if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS)
        return;
    if (MPI_T_cvar_get_num(&n) != MPI_SUCCESS)
        n = 0;
    for (int i = 0; i < n; i++) {
        if (!read_cvar(i, &v))
            continue;
        add_word(words, words_size, &v);
        if (strcmp(v.name, "io") == 0)
            snprintf(chosen, sizeof chosen, "%.63s", v.text);
        else if (strcmp(v.name, "io_ompio_priority") == 0)
            ompio = v.number;
        else if (strncmp(v.name, "io_romio", 8) == 0)
            romio = v.number;
    }
    MPI_T_finalize();
#ifdef OPEN_MPI
    if (chosen[0] && chosen[0] != '^')
        snprintf(io, io_size, "%s", strstr(chosen, "romio") ? "romio" : "ompio");
    else
        snprintf(io, io_size, "%s", romio > ompio && !strstr(chosen, "romio") ? "romio" : "ompio");
#elif defined(ROMIO_VERSION)
    snprintf(io, io_size, "romio");
    (void)ompio, (void)romio, (void)chosen;
#else
    (void)ompio, (void)romio, (void)chosen;
#endif
}

void sw_transport_describe(const sw_comm *comm, sw_result *result)
{
    MPI_Comm mpi;

    if (sw_comm_mpi(comm, &mpi))
        describe_mpi(result->io, sizeof result->io, result->transport, sizeof result->transport);
    else
        snprintf(result->io, sizeof result->io, "posix");
}
