/* Progress on standard error; see progress.h. */
#include "progress.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "say.h"
#include "text.h"

#define BAR_SECONDS 0.1
#define HOLD_SECONDS 0.3 /* what we said gets to the terminal by way of the launcher */
#define LINE_SECONDS 30.0
#define WIDTH_MAX 200
/* A narrower bar says nothing. */
#define BAR_MIN 10

/* The time left, "0:12" or "1:02:03"; '-' where nothing is known. */
static void time_text(double rest, double rate, char *text, size_t n)
{
    unsigned s = rest > 0 && rate > 0 && rest / rate <= 360000 ? (unsigned)(rest / rate + 0.5) : 0;

    if (rest > 0 && (rate <= 0 || rest / rate > 360000))
        snprintf(text, n, "-");
    else if (s < 3600)
        snprintf(text, n, "%u:%02u", s / 60, s % 60);
    else
        snprintf(text, n, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
}

/* [#####-----] in front of what is in text, if there is room for it in width columns. */
static void put_bar(char *text, size_t n, size_t width, uint64_t done, uint64_t total)
{
    size_t len = strlen(text);
    size_t cells, full;

    if (width > WIDTH_MAX)
        width = WIDTH_MAX;
    if (width < len + 3 + BAR_MIN || width >= n) {
        if (width < len)
            text[width] = '\0';
        return;
    }
    cells = width - len - 3;
    full = total == 0 || done >= total ? cells : (size_t)((double)cells * (double)done / (double)total);
    memmove(text + cells + 3, text, len + 1);
    text[0] = '[';
    memset(text + 1, '#', full);
    memset(text + 1 + full, '-', cells - full);
    text[cells + 1] = ']';
    text[cells + 2] = ' ';
}

/* What a phase is called. */
static const char *phase_name(sw_phase phase)
{
    static const char *const names[] = { "planning",  "writing", "copying",
                                         "verifying", "syncing", "publishing" };

    return (unsigned)phase < SW_COUNT(names) ? names[phase] : "working";
}

void sw_progress_text(char *text, size_t n, size_t width, const sw_progress *p, double seconds)
{
    char have[SW_SIZE_TEXT], all[SW_SIZE_TEXT], rate[SW_SIZE_TEXT], left[32];
    uint64_t done = p->done, total = p->total;
    double percent = total > done ? 100 * (double)done / (double)total : 100;
    const char *phase = phase_name(p->phase);

    if (total > done && percent > 99)
        percent = 99; /* 100 only when it is all there */
    sw_size_text(done, have);
    sw_size_text(total, all);
    sw_rate_text(done, seconds, rate);
    time_text(total > done ? (double)(total - done) : 0, seconds > 0 ? (double)done / seconds : 0, left,
              sizeof left);
    if (total == 0) {
        snprintf(text, n, "%s%s, %.0f s", width ? "" : "shardweld: ", phase, seconds);
        if (width && width < strlen(text))
            text[width] = '\0';
    } else if (width == 0) {
        snprintf(text, n, "shardweld: %s: %u %%, %s of %s, %s/s, %s left", phase, (unsigned)percent, have,
                 all, rate, left);
    } else {
        /* Fixed places, so that the numbers do not dance. */
        snprintf(text, n, "%-9s %3u %%  %9s of %9s  %9s/s  %4s left", phase, (unsigned)percent, have, all,
                 rate, left);
        put_bar(text, n, width, done, total);
    }
}

/* Is the launcher that started us in the foreground of this terminal? */
static bool has_launcher(int tty)
{
    pid_t front = tcgetpgrp(tty);

    return front > 0 && front == getpgid(getppid());
}

/* Does that process write its messages to this terminal? Not if they go to a file. */
static bool writes_to(pid_t pid, int tty)
{
    char path[64];
    struct stat s;
    unsigned dev; /* as the kernel packs it */

    snprintf(path, sizeof path, "/proc/%ld/fd/%d", (long)pid, STDERR_FILENO);
    return stat(path, &s) == 0 && S_ISCHR(s.st_mode) && ioctl(tty, TIOCGDEV, &dev) == 0 &&
           s.st_rdev == makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
}

/* The terminal of the user who started the launcher on this machine; -1: there is none, or others
 * use it. */
static int open_terminal(void)
{
    int tty = open("/dev/tty", O_WRONLY | O_NOCTTY | O_CLOEXEC);

    if (tty >= 0 && (!has_launcher(tty) || !writes_to(getppid(), tty))) {
        close(tty);
        tty = -1;
    }
    /* We are in its background, and would be stopped under `stty tostop`. */
    if (tty >= 0)
        signal(SIGTTOU, SIG_IGN);
    return tty;
}

void sw_progress_begin(sw_progress *p, sw_when when, bool quiet, bool launched)
{
    bool shown = when == SW_WHEN_ALWAYS || (when == SW_WHEN_AUTO && !quiet);

    memset(p, 0, sizeof *p);
    p->to = STDERR_FILENO;
    p->bar = shown && isatty(STDERR_FILENO);
    if (shown && !p->bar && launched && (p->to = open_terminal()) >= 0)
        p->bar = p->beyond = true;
    p->lines = shown && !p->bar;
    p->closing = when == SW_WHEN_ALWAYS;
    p->begun = p->shown = p->entered = sw_clock();
}

/* The bar, over the one before. A launcher that has left the foreground gets none. */
static void draw(sw_progress *p, double now)
{
    char text[WIDTH_MAX + 64];
    size_t len;

    if (p->beyond && !has_launcher(p->to))
        return;
    /* The last column stays free: some terminals begin a new line when it is written. */
    sw_progress_text(text, sizeof text, sw_terminal_columns(p->to) - 1, p, now - p->entered);
    len = strlen(text);
    dprintf(p->to, "\r%s%*s", text, p->drawn > len ? (int)(p->drawn - len) : 0, "");
    p->drawn = len;
}

/* Show where we are, if that is due. */
static void show(sw_progress *p, double now, double seconds)
{
    char text[256];

    if ((!p->bar && !p->lines) || now - p->shown < seconds)
        return;
    p->shown = now;
    if (p->bar) {
        draw(p, now);
        return;
    }
    /* The same for a log. */
    sw_progress_text(text, sizeof text, 0, p, now - p->entered);
    fprintf(stderr, "%s\n", text);
}

void sw_progress_enter(sw_progress *p, sw_phase phase)
{
    p->phase = phase;
    p->writes = p->writes || phase == SW_PHASE_WRITING;
    p->entered = sw_clock();
    p->done = p->total = 0;
    /* It may be long before there is more to tell, if ever there is. */
    show(p, p->entered, p->bar ? 0 : LINE_SECONDS);
}

void sw_progress_update(sw_progress *p, uint64_t done, uint64_t total)
{
    p->done = done;
    p->total = total;
    if (p->phase == SW_PHASE_WRITING || !p->writes)
        p->written = done;
    show(p, sw_clock(), p->bar ? BAR_SECONDS : LINE_SECONDS);
}

void sw_progress_pause(sw_progress *p)
{
    if (p->drawn)
        dprintf(p->to, "\r%*s\r", (int)p->drawn, "");
    if (p->beyond)
        p->shown = sw_clock() + HOLD_SECONDS;
    p->drawn = 0;
}

void sw_progress_end(sw_progress *p, bool success, const char *shards)
{
    double now = sw_clock();
    double seconds = now - p->begun;
    char bytes[SW_SIZE_TEXT], rate[SW_SIZE_TEXT];
    bool told = p->closing || (p->bar && p->drawn && success && seconds >= BAR_SECONDS);

    sw_progress_pause(p);
    if (told)
        fprintf(stderr, "shardweld: %s %s in %.1f s, %s/s%s%s\n", success ? "done," : "stopped after",
                sw_size_text(p->written, bytes), seconds, sw_rate_text(p->written, seconds, rate),
                shards ? ", from shards " : "", shards ? shards : "");
    if (p->beyond)
        close(p->to);
    p->bar = p->beyond = p->lines = p->closing = false;
}
