/* SPDX-License-Identifier: MIT
 * transfer.c: `quayctl cat`, `get` and `put`: the content of objects to and from local files, pipes and the
 * terminal. Files go by copy.h; pipes are read and written here. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "ctl/names.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <iconv.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1UL << 20)

/* ---- bytes, or text in another encoding ---- */

struct stream {
    iconv_t cd;        /* (iconv_t)-1: bytes as they are */
    char *in, *out;    /* CHUNK each; out only with cd */
    size_t kept;       /* bytes at the front of in: a character that goes on */
    const char *encoding;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    interrupted = sig;
}

static int stream_open(struct stream *s, const char *to, const char *from, const char *encoding)
{
    *s = (struct stream){.cd = (iconv_t)-1, .encoding = encoding};
    if (encoding && (s->cd = iconv_open(to, from)) == (iconv_t)-1)
        return ctl_message(CTL_USAGE, "unknown encoding '%s' (iconv -l lists them)", encoding);
    s->in = xmalloc(CHUNK);
    s->out = encoding ? xmalloc(CHUNK) : NULL;
    return CTL_OK;
}

static void stream_close(struct stream *s)
{
    if (s->cd != (iconv_t)-1)
        (void)iconv_close(s->cd);
    free(s->in);
    free(s->out);
}

static int write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t w = write(fd, data, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        data += w;
        n -= (size_t)w;
    }
    return 0;
}

/* What cannot be converted is an error: nothing is replaced. */
static int convert(struct stream *s, int to, size_t n, bool last)
{
    char *in = s->in;
    while (n) {
        char *out = s->out;
        size_t room = CHUNK;
        size_t r = iconv(s->cd, &in, &n, &out, &room);
        int code = errno;
        int w = write_all(to, s->out, CHUNK - room);
        if (w < 0)
            return w;
        if (r == (size_t)-1 && code == EILSEQ)
            return -EILSEQ;
        if (r == (size_t)-1 && code == EINVAL)
            break;
    }
    if (n && last)
        return -EILSEQ;
    memmove(s->in, in, n);
    s->kept = n;
    return 0;
}

/* 0 or -errno; *ret_reading: which side failed. */
static int stream_run(struct stream *s, int from, int to, bool *ret_reading)
{
    for (;;) {
        ssize_t n = read(from, s->in + s->kept, CHUNK - s->kept);
        *ret_reading = n < 0;
        if (interrupted)
            return -EINTR;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        int r = s->out ? convert(s, to, s->kept + (size_t)n, n == 0) : write_all(to, s->in, (size_t)n);
        if (r < 0 || n == 0)
            return r;
    }
}

static int complain(const struct stream *s, const char *what, bool reading, int r)
{
    if (r == -EILSEQ)
        return ctl_message(CTL_FAILED, "%s: not %s text: %s", what, s->encoding, strerror(EILSEQ));
    return ctl_message(CTL_FAILED, "%s: %s: %s", what, reading ? "reading" : "writing", strerror(-r));
}

/* ---- cat, get to a pipe ---- */

static int cat_one(const struct place *p, const char *encoding)
{
    struct stream s;
    bool reading = true;
    CLEANUP_FREE char *what = xasprintf("%s/%s", p->key, p->path);
    CLEANUP_FD int fd = open(p->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ctl_message(CTL_FAILED, "%s: %s", what, strerror(errno));
    int status = stream_open(&s, "UTF-8", encoding ? encoding : "UTF-8", encoding);
    if (status != CTL_OK)
        return status;
    int r = stream_run(&s, fd, STDOUT_FILENO, &reading);
    if (r < 0)
        status = complain(&s, reading ? what : "standard output", reading, r);
    stream_close(&s);
    return status;
}

static int cat_places(struct ctl *ctl, const char *command, int argc, char **argv, const char *encoding)
{
    struct places p;
    int status = places_resolve(ctl, command, argc, argv, &p);
    if (status != CTL_OK)
        return status;
    for (size_t i = 0; i < p.n && status == CTL_OK; i++)
        status = cat_one(&p.v[i], encoding);
    places_done(&p);
    return status;
}

/* -e ENC; gives false after a message. */
static bool take_encoding(const char *command, int argc, char **argv, const char **ret)
{
    static const struct option known[] = {{"encoding", required_argument, NULL, 'e'}, {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "e:", known, NULL)) != -1) {
        if (c == '?') {
            (void)ctl_usage(command, NULL);
            return false;
        }
        *ret = optarg;
    }
    return true;
}

static int run_cat(struct ctl *ctl, int argc, char **argv)
{
    const char *encoding = NULL;
    if (!take_encoding("cat", argc, argv, &encoding))
        return CTL_USAGE;
    if (optind == argc)
        return ctl_usage("cat", "a PATH, please");
    return cat_places(ctl, "cat", argc - optind, argv + optind, encoding);
}

/* As `quayctl cp FROM TO`. */
static int copy(struct ctl *ctl, char *from, char *to)
{
    char name[] = "cp", end[] = "--";
    char *args[] = {name, end, from, to, NULL};
    optind = 0;
    return ctl_cp.run(ctl, 4, args);
}

static int run_get(struct ctl *ctl, int argc, char **argv)
{
    const char *encoding = NULL;
    char here[] = "./";
    if (!take_encoding("get", argc, argv, &encoding))
        return CTL_USAGE;
    int n = argc - optind;
    if (n < 1 || n > 2)
        return ctl_usage("get", "a PATH and, if not ./NAME, a FILE");
    bool piped = n == 2 && strcmp(argv[optind + 1], "-") == 0;
    if (encoding && !piped)
        return ctl_usage("get", "--encoding is for FILE -");
    if (piped)
        return cat_places(ctl, "get", 1, argv + optind, encoding);
    return copy(ctl, argv[optind], n == 2 ? argv[optind + 1] : here);
}

/* ---- put from a pipe ---- */

/* Whole or not at all: under another name until the pipe has ended. */
static int put_pipe(const struct place *p, const char *encoding)
{
    struct stream s;
    bool reading = false;
    CLEANUP_FREE char *what = xasprintf("%s/%s", p->key, p->path), *dir = xstrdup(p->file);
    *strrchr(dir, '/') = '\0';
    int r = sys_mkdirs(dir, 0777);
    if (r < 0)
        return ctl_message(CTL_FAILED, "%s: making its directory: %s", what, strerror(-r));
    CLEANUP_FREE char *temp = xasprintf("%s/.quaypart-put-%ld", dir, (long)getpid());
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return ctl_message(CTL_FAILED, "%s: %s", what, strerror(errno));
    int status = stream_open(&s, encoding ? encoding : "UTF-8", "UTF-8", encoding);
    r = status == CTL_OK ? stream_run(&s, STDIN_FILENO, fd, &reading) : 0;
    if (close(fd) != 0 && r == 0)
        r = -errno;
    if (r == 0 && status == CTL_OK && rename(temp, p->file) != 0)
        r = -errno;
    if (r < 0)
        status = complain(&s, reading ? "standard input" : what, reading, r);
    if (status != CTL_OK)
        (void)unlink(temp);
    stream_close(&s);
    return status;
}

static int run_put(struct ctl *ctl, int argc, char **argv)
{
    const char *encoding = NULL;
    struct sigaction act = {.sa_handler = on_signal};
    struct places p;
    if (!take_encoding("put", argc, argv, &encoding))
        return CTL_USAGE;
    if (argc - optind != 2)
        return ctl_usage("put", "a FILE (- is standard input) and a PATH");
    bool piped = strcmp(argv[optind], "-") == 0;
    if (encoding && !piped)
        return ctl_usage("put", "--encoding is for FILE -");
    if (!piped)
        return copy(ctl, argv[optind], argv[optind + 1]);
    int status = places_resolve(ctl, "put", 1, argv + optind + 1, &p);
    if (status != CTL_OK)
        return status;
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    status = p.v[0].dir || !*p.v[0].path ? ctl_usage("put", "%s: a name for the object, please", argv[optind + 1])
                                         : put_pipe(&p.v[0], encoding);
    places_done(&p);
    return status;
}

#define ENCODING_USAGE                                                                             \
    "  -e, --encoding ENC   text in this encoding, UTF-8 outside; what cannot be converted is an\n" \
    "                       error\n"

const struct ctl_command ctl_cat = {
    .name = "cat",
    .summary = "Print objects",
    .usage = "Usage: quayctl cat [options] PATH...\n"
             "\n"
             "Prints the content of objects, one after the other.\n"
             "\n" ENCODING_USAGE
             "Exit status: 0 done, 1 failure, 2 no quayfs runs, 64 bad usage\n",
    .run = run_cat,
};

const struct ctl_command ctl_get = {
    .name = "get",
    .summary = "Copy an object to a local file or a pipe",
    .usage = "Usage: quayctl get [options] PATH [FILE]\n"
             "\n"
             "Copies the object to FILE, to its own name in the working directory, or with - to\n"
             "standard output. See cp for more than one.\n"
             "\n" ENCODING_USAGE
             "                       (with FILE - only)\n"
             "Exit status: 0 done, 1 failure, 2 no quayfs runs, 64 bad usage\n",
    .run = run_get,
};

const struct ctl_command ctl_put = {
    .name = "put",
    .summary = "Store a local file, or what comes through a pipe",
    .usage = "Usage: quayctl put [options] FILE PATH\n"
             "\n"
             "Copies FILE, or with - standard input, to the object PATH; directories that are missing\n"
             "are made. The object appears whole, or not at all when the pipe fails or is\n"
             "interrupted (the end of a pipe whose writer failed looks as any other: pipefail).\n"
             "\n" ENCODING_USAGE
             "                       (with FILE - only)\n"
             "Exit status: 0 stored, 1 failure, 2 no quayfs runs, 64 bad usage\n",
    .run = run_put,
};
