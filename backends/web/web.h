/* SPDX-License-Identifier: MIT
 * web.h: backend = http: files of a web server, read-only. See README.md beside this file.
 *
 * Code map: web.c options, opening, probe · web_file.c stat and read · web_dir.c listings and manifest ·
 * web_client.* requests, credentials, redirects · web_url.* URLs and links · web_version.* validators ·
 * web_spool.* whole downloads · web_index.* index pages and manifests · web_list.* pages of listings. */
#ifndef QUAY_BACKENDS_WEB_WEB_H
#define QUAY_BACKENDS_WEB_WEB_H

#include "backends/store.h"

extern const struct store_class web_class;

#endif
