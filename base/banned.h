/* SPDX-License-Identifier: MIT
 * banned.h: functions that are not used here, force-included by the build so that a call is an error.
 * Use buf.h, snprintf, strtol-based parsers of conf.h, gmtime_r, clock.h instead.
 * Function-like macros, not #pragma poison: system headers use words such as `rand` for parameters. */
#ifndef QUAY_BASE_BANNED_H
#define QUAY_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BANNED(name) this_function_is_banned_see_banned_h_##name

#undef alloca
#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf
#undef strtok
#define strcpy(...) BANNED(strcpy)
#define strcat(...) BANNED(strcat)
#define sprintf(...) BANNED(sprintf)
#define vsprintf(...) BANNED(vsprintf)
#define gets(...) BANNED(gets)
#define strtok(...) BANNED(strtok)
#define gmtime(...) BANNED(gmtime)
#define localtime(...) BANNED(localtime)
#define asctime(...) BANNED(asctime)
#define ctime(...) BANNED(ctime)
#define atoi(...) BANNED(atoi)
#define atol(...) BANNED(atol)
#define atoll(...) BANNED(atoll)
#define rand(...) BANNED(rand)
#define srand(...) BANNED(srand)
#define mktemp(...) BANNED(mktemp)
#define tmpnam(...) BANNED(tmpnam)
#define tempnam(...) BANNED(tempnam)
#define alloca(...) BANNED(alloca)
#define usleep(...) BANNED(usleep)

#endif
