/* Chosen by environment before the first file is opened, and read back; see transport.h. */
#include "par/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"

/* None of those that aggregate, whatever a file of parameters says. */
static const char fcoll_name[] = "OMPI_MCA_fcoll";
static const char fcoll_ours[] = "^dynamic,dynamic_gen2,static,two_phase,vulcan";

/* What each is for: ROMIO where it is built; OMPIO without aggregators, which lose data on a full
 * disk and hang; no read-modify-write; no lock and data files beside the output; no lock of the
 * whole file for each write on NFS. */
static const char *const defaults[][2] = {
    { "OMPI_MCA_io_ompio_priority", "1" },
    { "OMPI_MCA_fcoll_individual_priority", "90" },
    { fcoll_name, fcoll_ours },
    { "OMPI_MCA_fbtl_posix_write_datasieving", "0" },
    { "OMPI_MCA_sharedfp", "^lockedfile,individual" },
    { "OMPI_MCA_fs_ufs_lock_algorithm", "1" },
};

/* False where that cannot be told. */
static bool is_on_nfs(const char *output_dir)
{
    sw_status st = SW_STATUS_INIT;
    sw_fs fs = { 0 };
    char *dir = sw_strdup(output_dir, &st);

    if (dir && !sw_local_path(dir, dir, &st))
        sw_path_fs_near(dir, &fs, &st);
    free(dir);
    return fs.nfs;
}

/* Whether that list was in the environment when MPI began: then no file of parameters brings
 * aggregation back, and MPI need not be asked. What was asked stands below. Both are of the
 * process, as MPI's settings are. */
static bool is_settled;

void sw_transport_defaults(const char *output_dir)
{
    const char *fcoll;

    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        setenv(defaults[i][0], defaults[i][1], 0);
    fcoll = getenv(fcoll_name);
    if (sw_layer_begun() == SW_MPI_UNBORN)
        is_settled = fcoll && strcmp(fcoll, fcoll_ours) == 0;
    /* ROMIO's driver for NFS locks each write and does not go on after a short one. */
    if (output_dir && is_on_nfs(output_dir))
        setenv("ROMIO_FSTYPE_FORCE", "ufs:", 0);
}

/* ---- hints ----------------------------------------------------------------------------------- */

/* Who writes without MPI looks at no hint: then they may be as long as the longest that any
 * takes. */
#define HINT_KEY_MAX 256
#define HINT_VALUE_MAX 1024

bool sw_hint_is_valid(const char *hint)
{
    const sw_layer *layer = sw_layer_here();
    const char *eq = strchr(hint, '=');

    return eq && eq != hint && (size_t)(eq - hint) < (layer ? layer->hint_key_max : HINT_KEY_MAX) && eq[1] &&
           strlen(eq + 1) < (layer ? layer->hint_value_max : HINT_VALUE_MAX);
}

const char *const sw_transport_ours[] = { "romio_cb_write=disable", "romio_no_indep_rw=false",
                                          "romio_ds_write=disable", NULL };

/* Is it a hint with which ROMIO aggregates? */
static bool hint_aggregates(const char *key, const char *value)
{
    if (strcmp(key, "romio_cb_write") == 0)
        return strcmp(value, "disable") != 0;
    return strcmp(key, "romio_no_indep_rw") == 0 && strcmp(value, "false") != 0;
}

/* Does the user ask for aggregation? */
static void look_at_hints(sw_transport *t)
{
    for (const char *const *h = t->hints; *h; h++) {
        const char *eq = strchr(*h, '=');
        char key[64]; /* of those that matter */

        snprintf(key, sizeof key, "%.*s", (int)(eq - *h), *h);
        if (hint_aggregates(key, eq + 1))
            snprintf(t->aggregates, sizeof t->aggregates, "the hint %.100s", *h);
    }
}

/* ---- "name=value" words ---------------------------------------------------------------------- */

/* A word that has no room is left out. */
static void add_word(char *words, size_t size, const char *name, const char *value)
{
    size_t at = strlen(words), n = strlen(name) + strlen(value) + 2;

    if (!value[0] || at + n >= size)
        return;
    if (at)
        words[at++] = ' ';
    stpcpy(stpcpy(stpcpy(words + at, name), "="), value);
}

/* One hint of an open file. Who reads is ROMIO: Open MPI only repeats what it was given. */
static void look_at_hint(void *ctx, const char *key, const char *told)
{
    sw_transport *t = ctx;
    char value[128];

    snprintf(value, sizeof value, "%.*s", (int)strcspn(told, " "), told);
    if (strcmp(key, "romio_cb_read") == 0)
        snprintf(t->io, sizeof t->io, "romio");
    if (strcmp(key, "romio_cb_write") == 0 || strcmp(key, "romio_ds_write") == 0 ||
        strcmp(key, "romio_no_indep_rw") == 0 || strcmp(key, "romio_filesystem_type") == 0)
        add_word(t->words, sizeof t->words, key, value);
    if (hint_aggregates(key, value))
        snprintf(t->aggregates, sizeof t->aggregates, "%.60s=%.60s", key, value);
}

void sw_transport_look(sw_transport *t, sw_handle file)
{
    t->words[0] = t->aggregates[0] = t->io[0] = '\0';
    sw_layer_here()->file_hints(file, look_at_hint, t);
    if (!t->io[0])
        t->words[0] = t->aggregates[0] = '\0';
}

/* The value of a word; "" = there is none. */
static const char *value_of(const char *words, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);

    value[0] = '\0';
    for (const char *w = words; *w; w += strcspn(w, " "), w += *w == ' ')
        if (strncmp(w, name, n) == 0 && w[n] == '=')
            snprintf(value, size, "%.*s", (int)strcspn(w + n + 1, " "), w + n + 1);
    return value;
}

/* Open MPI's way to choose components: "a,b" only these, "^a,b" all but these, "" any. */
static bool is_allowed(const char *list, const char *name)
{
    bool not = *list == '^', listed = false;
    size_t n = strlen(name);

    for (const char *w = list + not ; *w; w += strcspn(w, ","), w += *w == ',')
        listed = listed || (strncmp(w, name, n) == 0 && (w[n] == ',' || w[n] == '\0'));
    return *list == '\0' || listed != not ;
}

/* A component of a framework that may be chosen, and its priority. */
typedef struct component {
    char name[64];
    long priority; /* below 0 = there is none */
} component;

/* The best of the components whose names begin so, but for one. */
static component best_of(const char *words, const char *framework, const char *begins, const char *but)
{
    component best = { .priority = -1 };
    char list[512], prefix[64];
    size_t n;

    value_of(words, framework, list, sizeof list);
    snprintf(prefix, sizeof prefix, "%s_", framework);
    n = strlen(prefix);
    for (const char *w = words; *w; w += strcspn(w, " "), w += *w == ' ') {
        const char *end = strstr(w, "_priority=");
        component c;

        if (strncmp(w, prefix, n) != 0 || !end || end > w + strcspn(w, " ") || end < w + n)
            continue;
        snprintf(c.name, sizeof c.name, "%.*s", (int)(end - w - (ptrdiff_t)n), w + n);
        c.priority = strtol(end + strlen("_priority="), NULL, 10);
        if (strncmp(c.name, begins, strlen(begins)) == 0 && strcmp(c.name, but) != 0 &&
            is_allowed(list, c.name) && c.priority > best.priority)
            best = c;
    }
    return best;
}

/* Would Open MPI take ROMIO rather than OMPIO? */
static bool uses_romio(const char *words)
{
    return best_of(words, "io", "romio", "").priority > best_of(words, "io", "ompio", "").priority;
}

/* Those that aggregate put themselves at this where it suits them. */
#define FCOLL_CLAIM 50

bool sw_transport_aggregates(const char *words, char *why, size_t n)
{
    component plain = best_of(words, "fcoll", "individual", ""),
              other = best_of(words, "fcoll", "", "individual");
    char list[512];

    if (uses_romio(words) || other.priority < 0 ||
        (plain.priority > FCOLL_CLAIM && plain.priority > other.priority))
        return false;
    value_of(words, "fcoll", list, sizeof list);
    if (list[0])
        snprintf(why, n, "fcoll=%.100s", list);
    else if (other.priority > FCOLL_CLAIM)
        snprintf(why, n, "fcoll_%s_priority=%ld", other.name, other.priority);
    else
        snprintf(why, n, "fcoll_individual_priority=%ld", plain.priority);
    return true;
}

/* ---- Open MPI's settings --------------------------------------------------------------------- */

/* Is it the priority of a component of that framework? */
static bool is_priority(const char *name, const char *framework)
{
    return strncmp(name, framework, strlen(framework)) == 0 && strstr(name, "_priority") &&
           !strstr(name, "delete");
}

/* Of Open MPI's thousand settings, those that decide who writes how. */
static bool is_of_interest(const char *name)
{
    static const char *const names[] = { "io", "fcoll", "sharedfp", "fbtl_posix_write_datasieving",
                                         "fs_ufs_lock_algorithm" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return is_priority(name, "io_") || is_priority(name, "fcoll_");
}

#define SETTINGS_SIZE 2048

/* For the layer: one more word. */
static void add_setting(void *words, const char *name, const char *value)
{
    add_word(words, SETTINGS_SIZE, name, value);
}

/* What Open MPI is set to, as words; of another MPI nothing. Asking takes 0.2 s, so once: MPI does
 * not look at its settings again either. */
static const char *settings(void)
{
    static char words[SETTINGS_SIZE];
    static bool asked;

    if (!asked)
        sw_layer_here()->settings(is_of_interest, add_setting, words);
    asked = true;
    return words;
}

sw_code sw_transport_choose(const sw_comm *comm, const char *const *hints, sw_transport *out, sw_status *st)
{
    static const char *const none[] = { NULL };

    *out = (sw_transport){ .hints = hints ? hints : none };
    if (!sw_comm_layer(comm))
        return sw_agree(comm, st);
    if (comm->rank == 0) {
        look_at_hints(out);
        if (!out->aggregates[0] && !is_settled)
            sw_transport_aggregates(settings(), out->aggregates, sizeof out->aggregates);
    }
    return sw_agree_share(comm, out->aggregates, sizeof out->aggregates, st);
}

void sw_transport_describe(const sw_comm *comm, sw_result *result)
{
    const char *words;

    if (!sw_comm_layer(comm) || comm->size == 1)
        snprintf(result->io, sizeof result->io, "posix");
    if (result->io[0])
        return;
    words = settings();
    snprintf(result->transport, sizeof result->transport, "%.*s", (int)sizeof result->transport - 1, words);
    snprintf(result->io, sizeof result->io, "%s",
             best_of(words, "io", "", "").priority < 0 ? "mpi-io"
             : uses_romio(words)                       ? "romio"
                                                       : "ompio");
}
