/* SPDX-License-Identifier: MIT
 * progress.c: a progress line on a terminal; see progress.h. */
#include "ctl/progress.h"

#include "base/buf.h"

#include <sys/ioctl.h>
#include <unistd.h>

#define BAR 24

void progress_begin(struct progress *p)
{
    struct winsize w;

    *p = (struct progress){.live = isatty(STDERR_FILENO) == 1, .width = 80};
    if (p->live && ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20)
        p->width = w.ws_col;
}

/* "running 42.1% rest" -> "[##########--------------] 42.1% rest" */
static void add_bar(struct buf *b, const char *line)
{
    const char *word = strchr(line, ' ');
    char *end;
    double pct = word ? strtod(word, &end) : 0;

    if (!word || end == word || *end != '%' || pct < 0 || pct > 100 ||
        (strncmp(line, "running", 7) != 0 && strncmp(line, "done", 4) != 0)) {
        buf_adds(b, line);
        return;
    }
    buf_addc(b, '[');
    for (int i = 0; i < BAR; i++)
        buf_addc(b, i < (int)(pct * BAR / 100) ? '#' : '-');
    buf_addc(b, ']');
    buf_adds(b, word);
}

void progress_show(struct progress *p, const char *line)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    size_t len;

    if (!p->live)
        return;
    add_bar(&b, line);
    len = b.len < p->width - 1 ? b.len : p->width - 1;
    while (len < b.len && len > 0 && ((unsigned char)b.data[len] & 0xC0) == 0x80)
        len--; /* not within a character */
    fprintf(stderr, "\r\033[K%.*s", (int)len, buf_str(&b));
    (void)fflush(stderr);
    p->shown = true;
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
