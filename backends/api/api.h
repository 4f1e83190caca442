/* SPDX-License-Identifier: MIT
 * api.h: backend = api: the records of a REST service as files, read-only. See README.md beside this file.
 *
 * Code map: api.c options, opening, stat, read · api_list.c collections page by page · api_page.c what one
 * page holds (pure) · api_rate.c requests per time. Requests, redirects, whole downloads and pages of
 * listings are those of backends/web/. */
#ifndef QUAY_BACKENDS_API_API_H
#define QUAY_BACKENDS_API_API_H

#include "backends/store.h"

extern const struct store_class api_class;

#endif
