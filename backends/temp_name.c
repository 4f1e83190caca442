/* SPDX-License-Identifier: MIT
 * temp_name.c: see temp_name.h. A daemon's process is another one after its fork. */
#include "backends/temp_name.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define HOST_DIGITS 12
#define TEMP_AGE_S (24L * 3600) /* a stranger's that is older was left */
#define UPLOAD TEMP_PREFIX "u-"

struct who {
    char host[HOST_DIGITS + 1]; /* "": nobody knows */
    long pid;
    unsigned long long start; /* in ticks after the machine's */
};

static bool read_some(const char *path, char *out, size_t size)
{
    CLEANUP_FILE FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, size - 1, f) : 0;
    out[n] = '\0';
    return n > 0;
}

/* Field 22 of stat; the command's name before it may have any bytes, parentheses too. */
static bool start_of(long pid, unsigned long long *ret)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    char *at = read_some(path, text, sizeof(text)) ? strrchr(text, ')') : NULL;
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return false;
    *ret = strtoull(at, NULL, 10);
    return *ret > 0;
}

static void host_of(char ret[HOST_DIGITS + 1])
{
    char text[128], hex[65];
    struct stat ns;
    ret[0] = '\0';
    if (!read_some("/proc/sys/kernel/random/boot_id", text, 64) || stat("/proc/self/ns/pid", &ns) < 0)
        return;
    size_t n = strcspn(text, "\n");
    n += (size_t)snprintf(text + n, sizeof(text) - n, " %llx", (unsigned long long)ns.st_ino);
    sha256_hex(text, n, hex);
    memcpy(ret, hex, HOST_DIGITS);
    ret[HOST_DIGITS] = '\0';
}

static struct who myself(void)
{
    static _Thread_local struct who me;
    long pid = (long)getpid();
    if (me.pid == pid)
        return me;
    me.pid = pid;
    host_of(me.host);
    if (!start_of(me.pid, &me.start))
        me.host[0] = '\0';
    return me;
}

static void make(char ret[TEMP_NAME_MAX], const char *prefix)
{
    char random[17];
    struct who me = myself();
    random_hex(random, 16);
    if (me.host[0])
        snprintf(ret, TEMP_NAME_MAX, "%s%s-%lx-%llx-%s", prefix, me.host, (unsigned long)me.pid, me.start, random);
    else
        snprintf(ret, TEMP_NAME_MAX, "%s%s", prefix, random);
}

void temp_name_make(char ret[TEMP_NAME_MAX])
{
    make(ret, TEMP_PREFIX);
}

void temp_name_make_upload(char ret[TEMP_NAME_MAX])
{
    make(ret, UPLOAD);
}

bool temp_name_is(const char *name)
{
    return strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0;
}

bool temp_name_is_upload(const char *name)
{
    return strncmp(name, UPLOAD, strlen(UPLOAD)) == 0;
}

bool temp_name_in(const char *path)
{
    for (const char *p = path; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (temp_name_is(p))
            return true;
    }
    return false;
}

static bool parse(const char *name, struct who *ret)
{
    unsigned long pid = 0;
    int end = -1;
    const char *who = name + strlen(temp_name_is_upload(name) ? UPLOAD : TEMP_PREFIX);
    if (!temp_name_is(name) ||
        sscanf(who, "%12[0-9a-f]-%15lx-%16llx-%*16[0-9a-f]%n", ret->host, &pid, &ret->start, &end) != 3)
        return false;
    ret->pid = (long)pid;
    return end > 0 && who[end] == '\0' && pid > 0 && ret->start > 0;
}

/* kill() finds processes of other users, whom /proc may hide. */
static bool is_alive(const struct who *w)
{
    unsigned long long start = 0;
    if ((long)(pid_t)w->pid != w->pid)
        return true;
    if (kill((pid_t)w->pid, 0) < 0 && errno == ESRCH)
        return false;
    return !start_of(w->pid, &start) || start == w->start;
}

enum temp_owner temp_name_owner(const char *name)
{
    struct who w = {.pid = 0}, me;
    if (!parse(name, &w))
        return TEMP_STRANGE;
    me = myself();
    if (!me.host[0] || strcmp(me.host, w.host) != 0)
        return TEMP_STRANGE;
    if (w.pid == me.pid && w.start == me.start)
        return TEMP_OURS;
    return is_alive(&w) ? TEMP_STRANGE : TEMP_LEFT;
}

bool temp_name_is_left(const char *name, time_t mtime, bool empty)
{
    enum temp_owner owner = temp_name_owner(name);
    bool old = mtime + TEMP_AGE_S < clock_wall().tv_sec;
    if (temp_name_is_upload(name))
        return owner != TEMP_OURS && old && empty;
    return owner == TEMP_LEFT || (owner == TEMP_STRANGE && old);
}
