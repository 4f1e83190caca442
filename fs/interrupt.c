/* SPDX-License-Identifier: MIT
 * interrupt.c: see interrupt.h. The masks of /proc/TID/status (proc(5)): bit N - 1 is signal N. */
#include "fs/interrupt.h"

#include "base/cleanup.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define IO_WORKER "Name:\tiou-wrk-"
#define BIT(signal) (1ULL << ((signal) - 1))

static const unsigned long long meant = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGHUP) | BIT(SIGQUIT) | BIT(SIGKILL);
static const unsigned long long stops = BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU);

bool interrupt_is_meant(pid_t tid)
{
    char path[64];
    char line[256];
    unsigned long long v;
    unsigned long long pending = 0;
    unsigned long long blocked = 0;
    unsigned long long caught = 0;
    bool worker = false;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    CLEANUP_FILE FILE *f = tid > 0 ? fopen(path, "re") : NULL;
    if (!f)
        return true;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "SigPnd: %llx", &v) == 1 || sscanf(line, "ShdPnd: %llx", &v) == 1)
            pending |= v;
        else if (sscanf(line, "SigBlk: %llx", &v) == 1)
            blocked = v;
        else if (sscanf(line, "SigCgt: %llx", &v) == 1)
            caught = v;
        else if (strncmp(line, IO_WORKER, sizeof(IO_WORKER) - 1) == 0)
            worker = true;
    }
    pending &= ~blocked;
    return pending ? (pending & (meant | ~(caught | stops))) != 0 : worker;
}
